//! The file that a namespace's objects lie in: a tar archive of JSON files, compressed with zstd.
//!
//! The same objects always make the same bytes: files are sorted, keys are sorted, and nothing tells the time. An
//! unchanged application therefore has an unchanged digest, and costs a vault nothing. Encryption is the vault's.
//!
//! ```text
//! index.json                                  what is in it, and what is missing
//! objects/<group>/<kind>/<namespace>/<name>.json   one object; the core group is called `core`
//! ```
//!
//! A bundle comes from outside when it is read: every name and size is checked before it is believed.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    ops::ControlFlow,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use super::spool::{Frozen, Reader, Spool};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// The largest object, as JSON. Servers take 1.5 MiB unless they are told otherwise.
pub const LARGEST_OBJECT: u64 = 4 << 20;

/// The largest index.
const LARGEST_INDEX: u64 = 16 << 20;

/// The largest bundle before compression.
pub const LARGEST_TOTAL: u64 = 4 << 30;

/// The longest path of a file.
const LONGEST_PATH: u64 = 1024;

/// Bytes of a bundle that stay in memory; the rest is in a file.
const IN_MEMORY: usize = 32 << 20;

const INDEX: &str = "index.json";

/// Why a bundle could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The temporary directory is full, or not writable.
    #[error("write the bundle in the temporary directory: {0}")]
    Write(#[source] io::Error),
    /// It is damaged, or no bundle at all.
    #[error("read the bundle: {0}")]
    Read(#[source] io::Error),
    /// Its first file is not `index.json`.
    #[error("the bundle does not begin with index.json")]
    NoIndex,
    /// It was written by another version.
    #[error(
        "the bundle has format {0}, and this version of Reprise reads format {FORMAT}: use the version that wrote it"
    )]
    UnknownFormat(u32),
    /// A file in it has a name that no object has.
    #[error("the bundle has a file with a name that it may not have: {0:?}")]
    Path(String),
    /// A file in it is too large. Bytes.
    #[error("the bundle's file {path:?} has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file in it is not the JSON that it should be.
    #[error("read {path} of the bundle: {source}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// What it says about itself is not what is in it.
    #[error("the bundle contradicts itself: {0}")]
    Contradiction(String),
}

/// What a bundle says about itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// The format.
    pub format: u32,
    /// The namespace that it was taken from.
    pub namespace: Namespace,
    /// The kinds in it, sorted.
    pub kinds: Vec<Count>,
    /// How many objects.
    pub count: u64,
    /// Kinds and objects that should be in it and are not, with the reason. Empty when it is complete.
    pub failed: Vec<String>,
    /// How many objects were left out, by kind and reason. Reasons that come and go are not told here.
    pub left_out: BTreeMap<String, u64>,
}

/// The namespace itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels: pod security and injection depend on them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How many objects of a kind.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The version that they are written in.
    pub version: String,
    /// How many.
    pub count: u64,
}

/// Which object, within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl Id {
    /// Whether it can be the name of a file: Kubernetes allows no others, aggregated servers might.
    #[must_use]
    pub fn valid(&self) -> bool {
        (self.group.is_empty() || part(&self.group)) && self.group != "core" && part(&self.kind) && part(&self.name)
    }

    fn path(&self, namespace: &str) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        format!("objects/{group}/{}/{namespace}/{}.json", self.kind, self.name)
    }
}

/// Where an object lies that is to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which object.
    pub id: Id,
    /// Where it begins. Bytes.
    pub offset: u64,
    /// How long it is. Bytes.
    pub length: u64,
}

/// An object that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which object.
    pub id: Id,
    /// The version that it is written in.
    pub version: String,
    /// What it says.
    pub json: Value,
}

/// A bundle: in memory, or in an unnamed file when it is large. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bundle {
    content: Frozen,
    digest: String,
}

/// Writes objects that lie in `spool` as a bundle. The entries are sorted here, and must differ.
///
/// # Errors
/// `Write` when the temporary directory refuses, `Path` when an object has an impossible name.
pub fn write(index: &Index, spool: &Frozen, mut entries: Vec<Entry>) -> Result<Bundle, BundleError> {
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    let sink = Digesting { to: Spool::new(IN_MEMORY), digest: Sha256::new() };
    let mut archive = Builder::new(compress(sink).map_err(BundleError::Write)?);
    let text = canonical(index).map_err(|source| BundleError::Json { path: INDEX.into(), source })?;
    file(&mut archive, INDEX, text.len() as u64, text.as_slice()).map_err(BundleError::Write)?;
    for Entry { id, offset, length } in entries {
        let path = id.path(&index.namespace.name);
        if !id.valid() || path.len() as u64 > LONGEST_PATH {
            return Err(BundleError::Path(path));
        }
        file(&mut archive, &path, length, spool.part(offset, length)).map_err(BundleError::Write)?;
    }
    let Digesting { to, digest } = archive.into_inner().and_then(zstd::Encoder::finish).map_err(BundleError::Write)?;
    Ok(Bundle { content: to.freeze(), digest: hex(&digest.finalize()) })
}

/// JSON with sorted keys and nothing between them.
///
/// # Errors
/// When a value is not JSON.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    // `Value` keeps its keys sorted.
    serde_json::to_vec(&serde_json::to_value(value)?)
}

fn compress(sink: Digesting) -> io::Result<zstd::Encoder<'static, Digesting>> {
    let mut encoder = zstd::Encoder::new(sink, 3)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn file(archive: &mut Builder<impl Write>, path: &str, length: u64, content: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, content)
}

impl Bundle {
    /// A bundle that comes from a vault.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        let digest = hex(&Sha256::digest(&bytes));
        Self { content: Frozen::Memory(bytes), digest }
    }

    /// A bundle that comes from somewhere in parts; it moves to a file when it is large.
    ///
    /// # Errors
    /// When it cannot be read, or not be kept.
    pub fn from_reader(mut from: impl Read) -> Result<Self, BundleError> {
        let mut sink = Digesting { to: Spool::new(IN_MEMORY), digest: Sha256::new() };
        io::copy(&mut from, &mut sink).map_err(BundleError::Read)?;
        Ok(Self { content: sink.to.freeze(), digest: hex(&sink.digest.finalize()) })
    }

    /// SHA-256 of its bytes, in hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.content.len()
    }

    /// Whether it has no bytes. A written bundle always has some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Its bytes, from the start. Reading may block on a file.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.content.reader()
    }

    /// Its bytes, in memory.
    ///
    /// # Errors
    /// When the file that it lies in cannot be read.
    pub fn bytes(&self) -> Result<Bytes, BundleError> {
        match &self.content {
            Frozen::Memory(bytes) => Ok(bytes.clone()),
            Frozen::File { .. } => {
                let mut bytes = Vec::new();
                self.reader().read_to_end(&mut bytes).map_err(BundleError::Read)?;
                Ok(bytes.into())
            }
        }
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// When it is no bundle, or one of a format that is not known here.
    pub fn index(&self) -> Result<Index, BundleError> {
        let mut index = None;
        let _stopped = walk(self.reader(), |path, size, content| {
            index = Some(read_index(path, size, content)?);
            Ok(ControlFlow::Break(()))
        })?;
        index.ok_or(BundleError::NoIndex)
    }

    /// Reads its objects in the order of their names, those that are wanted. Blocks: not for the runtime's own threads.
    ///
    /// # Errors
    /// When it is damaged, or tries to be what it is not. Objects before that place were handed over.
    pub fn visit(
        &self,
        wanted: impl Fn(&Id) -> bool,
        mut visit: impl FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), BundleError> {
        let (mut index, mut last): (Option<Index>, Option<Id>) = (None, None);
        let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
        let stopped = walk(self.reader(), |path, size, content| {
            let Some(index) = &index else {
                index = Some(read_index(path, size, content)?);
                return Ok(ControlFlow::Continue(()));
            };
            let id = parse(path, &index.namespace.name)?;
            if last.as_ref().is_some_and(|it| *it >= id) {
                return Err(BundleError::Contradiction(format!("{path} stands twice, or out of order")));
            }
            last = Some(id.clone());
            *seen.entry((id.group.clone(), id.kind.clone())).or_default() += 1;
            if !wanted(&id) {
                return Ok(ControlFlow::Continue(()));
            }
            Ok(visit(read_object(path, size, content, id, index)?))
        })?;
        match (index, stopped) {
            (None, _) => Err(BundleError::NoIndex),
            (Some(_), ControlFlow::Break(())) => Ok(()),
            (Some(index), ControlFlow::Continue(())) => complete(&index, &seen),
        }
    }
}

/// Whether everything that the index tells of was there.
fn complete(index: &Index, seen: &BTreeMap<(String, String), u64>) -> Result<(), BundleError> {
    let told: BTreeMap<_, _> = index.kinds.iter().map(|it| ((it.group.clone(), it.kind.clone()), it.count)).collect();
    if told == *seen {
        return Ok(());
    }
    let (found, count) = (seen.values().sum::<u64>(), index.count);
    Err(BundleError::Contradiction(format!(
        "its index tells of {count} objects, and {found} were found, or of other kinds"
    )))
}

/// Goes through the files of an archive. A file's path and size are checked, its content is for the visitor.
fn walk(
    from: Reader,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<ControlFlow<()>, BundleError>,
) -> Result<ControlFlow<()>, BundleError> {
    let mut decoder = zstd::Decoder::new(from).map_err(BundleError::Read)?;
    decoder.window_log_max(27).map_err(BundleError::Read)?;
    let mut archive = Archive::new(BufReader::new(decoder).take(LARGEST_TOTAL));
    let mut long_name: Option<String> = None;
    // Raw: the reader would take long names of any length into memory by itself.
    for entry in archive.entries().map_err(BundleError::Read)?.raw(true) {
        let mut entry = entry.map_err(BundleError::Read)?;
        let size = entry.size();
        match entry.header().entry_type() {
            EntryType::GNULongName if long_name.is_none() => long_name = Some(name(size, &mut entry)?),
            EntryType::Regular => {
                let path = match long_name.take() {
                    Some(name) => name,
                    None => text(entry.path_bytes().into_owned())?,
                };
                if visit(&path, size, &mut entry)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            _ => return Err(BundleError::Path(String::from_utf8_lossy(&entry.path_bytes()).into_owned())),
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn name(size: u64, content: &mut dyn Read) -> Result<String, BundleError> {
    let mut bytes = content_of("a long name", size, LONGEST_PATH + 1, content)?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    text(bytes)
}

fn text(bytes: Vec<u8>) -> Result<String, BundleError> {
    String::from_utf8(bytes).map_err(|it| BundleError::Path(String::from_utf8_lossy(it.as_bytes()).into_owned()))
}

fn content_of(path: &str, bytes: u64, limit: u64, content: &mut dyn Read) -> Result<Vec<u8>, BundleError> {
    if bytes > limit {
        return Err(BundleError::TooLarge { path: path.into(), bytes, limit });
    }
    let mut all = Vec::new();
    content.read_to_end(&mut all).map_err(BundleError::Read)?;
    Ok(all)
}

fn read_index(path: &str, size: u64, content: &mut dyn Read) -> Result<Index, BundleError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    if path != INDEX {
        return Err(BundleError::NoIndex);
    }
    let text = content_of(path, size, LARGEST_INDEX, content)?;
    let wrong = |source| BundleError::Json { path: INDEX.into(), source };
    // The format first: the rest of another one need not be readable here.
    let Format { format } = serde_json::from_slice(&text).map_err(wrong)?;
    if format != FORMAT {
        return Err(BundleError::UnknownFormat(format));
    }
    serde_json::from_slice(&text).map_err(wrong)
}

fn read_object(path: &str, size: u64, content: &mut dyn Read, id: Id, index: &Index) -> Result<Object, BundleError> {
    let text = content_of(path, size, LARGEST_OBJECT, content)?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|source| BundleError::Json { path: path.into(), source })?;
    let wrong = |what: &str| BundleError::Contradiction(format!("{path} holds an object with another {what}"));
    let told = index.kinds.iter().find(|it| it.group == id.group && it.kind == id.kind);
    let version = told.ok_or_else(|| wrong("kind than the index tells of"))?.version.clone();
    let api_version = if id.group.is_empty() { version.clone() } else { format!("{}/{version}", id.group) };
    if json["kind"] != id.kind || json["apiVersion"] != api_version {
        return Err(wrong("kind or version"));
    }
    if json["metadata"]["name"] != id.name || json["metadata"]["namespace"] != index.namespace.name {
        return Err(wrong("name or namespace"));
    }
    Ok(Object { id, version, json })
}

/// The object that a file is about.
fn parse(path: &str, namespace: &str) -> Result<Id, BundleError> {
    let wrong = || BundleError::Path(path.to_owned());
    let mut parts = path.strip_suffix(".json").ok_or_else(wrong)?.split('/');
    let mut next = || parts.next().filter(|it| part(it)).ok_or_else(wrong);
    let (root, group, kind, place, name) = (next()?, next()?, next()?, next()?, next()?);
    if root != "objects" || place != namespace || parts.next().is_some() {
        return Err(wrong());
    }
    let group = if group == "core" { "" } else { group };
    Ok(Id { group: group.into(), kind: kind.into(), name: name.into() })
}

/// Whether it can be one part of a path.
fn part(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 253
        && !name.contains(|it: char| matches!(it, '/' | '\\') || it.is_control())
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|it| format!("{it:02x}")).collect()
}

/// Passes bytes on and takes their digest.
struct Digesting {
    to: Spool,
    digest: Sha256,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(name: &str, data: &str) -> (Id, Value) {
        let id = Id { group: String::new(), kind: "ConfigMap".into(), name: name.into() };
        let json = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "shop"}, "data": {"key": data}});
        (id, json)
    }

    fn index(count: u64) -> Index {
        let kinds = vec![Count { group: String::new(), kind: "ConfigMap".into(), version: "v1".into(), count }];
        let namespace = Namespace { name: "shop".into(), ..Namespace::default() };
        Index { format: FORMAT, namespace, kinds, count, ..Index::default() }
    }

    fn bundle(objects: &[(Id, Value)]) -> Bundle {
        let (mut spool, mut entries) = (Spool::new(1024), Vec::new());
        for (id, json) in objects {
            let text = canonical(json).expect("JSON");
            entries.push(Entry { id: id.clone(), offset: spool.len(), length: text.len() as u64 });
            spool.write_all(&text).expect("room");
        }
        write(&index(objects.len() as u64), &spool.freeze(), entries).expect("a bundle")
    }

    /// An archive that our own writer would not write.
    fn forged(files: &[(EntryType, &str, Vec<u8>)]) -> Bundle {
        let mut archive = Builder::new(zstd::Encoder::new(Vec::new(), 3).expect("an encoder"));
        for (kind, path, content) in files {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            // Past every check of the library that writes.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            archive.append(&header, content.as_slice()).expect("written");
        }
        let bytes = archive.into_inner().and_then(zstd::Encoder::finish).expect("written");
        Bundle::from_bytes(bytes.into())
    }

    fn forged_with(kind: EntryType, path: &str, content: &[u8]) -> BundleError {
        let index = canonical(&index(1)).expect("JSON");
        let files = [(EntryType::Regular, "index.json", index), (kind, path, content.to_vec())];
        objects(&forged(&files)).expect_err("a forged bundle")
    }

    fn objects(bundle: &Bundle) -> Result<Vec<Object>, BundleError> {
        let mut found = Vec::new();
        bundle.visit(
            |_| true,
            |it| {
                found.push(it);
                ControlFlow::Continue(())
            },
        )?;
        Ok(found)
    }

    #[test]
    fn what_was_written_is_read() {
        let long = "n".repeat(250);
        let written = [config("b", "2"), config("a", "1"), config(&long, "3")];
        let bundle = bundle(&written);
        let read: Vec<_> = objects(&bundle).expect("a bundle").into_iter().map(|it| (it.id, it.json)).collect();
        assert_eq!(read, [written[1].clone(), written[0].clone(), written[2].clone()]);
        assert_eq!(bundle.index().expect("an index"), index(3));
    }

    #[test]
    fn the_same_objects_make_the_same_bytes_in_whatever_order_they_come() {
        let (first, second) =
            (bundle(&[config("a", "1"), config("b", "2")]), bundle(&[config("b", "2"), config("a", "1")]));
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.bytes().expect("bytes"), second.bytes().expect("bytes"));
        assert_ne!(first.digest(), bundle(&[config("a", "1"), config("b", "3")]).digest());
    }

    #[test]
    fn the_digest_is_that_of_the_bytes_wherever_they_come_from() {
        let bundle = bundle(&[config("a", "1")]);
        let bytes = bundle.bytes().expect("bytes");
        assert_eq!(Bundle::from_bytes(bytes).digest(), bundle.digest());
        assert_eq!(Bundle::from_reader(bundle.reader()).expect("a bundle").digest(), bundle.digest());
    }

    #[test]
    fn keys_are_sorted() {
        let json: Value = serde_json::from_str(r#"{"b":1,"a":{"d":1,"c":2}}"#).expect("JSON");
        assert_eq!(canonical(&json).expect("JSON"), br#"{"a":{"c":2,"d":1},"b":1}"#);
    }

    #[test]
    fn a_name_that_leads_out_of_the_bundle_is_refused() {
        for path in [
            "objects/core/ConfigMap/shop/../../../x.json",
            "../objects/core/ConfigMap/shop/a.json",
            "/objects/core/ConfigMap/shop/a.json",
            "objects/core/ConfigMap/other/a.json",
            "objects/core/ConfigMap/shop/a",
            "objects/core/ConfigMap/shop/...json",
            "objects//ConfigMap/shop/a.json",
            "etc/passwd",
        ] {
            let error = forged_with(EntryType::Regular, path, b"{}");
            assert!(matches!(&error, BundleError::Path(it) if it == path), "{path}: {error}");
        }
    }

    #[test]
    fn only_plain_files_are_in_a_bundle() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Char, EntryType::XHeader] {
            let error = forged_with(kind, "objects/core/ConfigMap/shop/a.json", b"");
            assert!(matches!(error, BundleError::Path(_)), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_refused() {
        let path = "objects/core/ConfigMap/shop/a.json";
        let (_, other) = config("b", "1");
        let error = forged_with(EntryType::Regular, path, other.to_string().as_bytes());
        assert!(matches!(error, BundleError::Contradiction(_)), "{error}");
        let error = forged_with(EntryType::Regular, "objects/core/Secret/shop/a.json", b"{}");
        assert!(matches!(error, BundleError::Contradiction(_)), "{error}");
        assert!(matches!(forged_with(EntryType::Regular, path, b"nonsense"), BundleError::Json { .. }));
    }

    #[test]
    fn sizes_are_believed_only_up_to_their_limits() {
        let large = vec![b' '; usize::try_from(LARGEST_OBJECT).expect("it fits") + 1];
        let error = forged_with(EntryType::Regular, "objects/core/ConfigMap/shop/a.json", &large);
        assert!(matches!(error, BundleError::TooLarge { limit: LARGEST_OBJECT, .. }), "{error}");
        let error = forged_with(EntryType::GNULongName, "././@LongLink", &large);
        assert!(matches!(error, BundleError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn an_unknown_format_is_named_with_the_remedy() {
        let index = br#"{"format":9,"novelty":true}"#.to_vec();
        let error = forged(&[(EntryType::Regular, "index.json", index)]).index().expect_err("another format");
        assert_eq!(
            error.to_string(),
            "the bundle has format 9, and this version of Reprise reads format 1: use the version that wrote it"
        );
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        assert!(matches!(Bundle::from_bytes(Bytes::from_static(b"hello")).index(), Err(BundleError::Read(_))));
        assert!(matches!(forged(&[]).index(), Err(BundleError::NoIndex)));
        let object = [(EntryType::Regular, "objects/core/ConfigMap/shop/a.json", b"{}".to_vec())];
        assert!(matches!(objects(&forged(&object)), Err(BundleError::NoIndex)));
    }

    #[test]
    fn a_bundle_that_was_cut_off_is_not_taken_for_a_small_one() {
        let files = [(EntryType::Regular, "index.json", canonical(&index(2)).expect("JSON"))];
        assert!(matches!(objects(&forged(&files)), Err(BundleError::Contradiction(_))));
        let bytes = bundle(&[config("a", "1")]).bytes().expect("bytes");
        let cut = Bundle::from_bytes(bytes.slice(..bytes.len() - 20));
        assert!(objects(&cut).is_err());
    }

    #[test]
    fn an_object_that_stands_twice_is_refused() {
        let path = "objects/core/ConfigMap/shop/a.json";
        let (_, json) = config("a", "1");
        let file = (EntryType::Regular, path, json.to_string().into_bytes());
        let index = (EntryType::Regular, "index.json", canonical(&index(2)).expect("JSON"));
        let error = objects(&forged(&[index, file.clone(), file])).expect_err("twice the same");
        assert!(matches!(error, BundleError::Contradiction(_)), "{error}");
    }
}
