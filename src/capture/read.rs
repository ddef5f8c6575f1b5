//! Reads a bundle.
//!
//! A bundle comes from outside when it is read: every name, size and number in it is checked before it is believed.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read},
    ops::ControlFlow,
};

use serde::Deserialize;
use serde_json::Value;
use tar::{Archive, EntryType};

use super::{
    bundle::{Bundle, BundleError, FORMAT, INDEX, Id, Index, LARGEST_OBJECT, LARGEST_TOTAL, LONGEST_PATH, Object},
    spool::Reader,
};

/// The largest index.
const LARGEST_INDEX: u64 = 16 << 20;

impl Bundle {
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
            let id = Id::parse(path, &index.namespace.name)?;
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
    let told = told.ok_or_else(|| wrong("kind than the index tells of"))?;
    if told.scope != id.scope() {
        return Err(wrong("place than the index tells of"));
    }
    let version = told.version.clone();
    let api_version = if id.group.is_empty() { version.clone() } else { format!("{}/{version}", id.group) };
    if json["kind"] != id.kind || json["apiVersion"] != api_version {
        return Err(wrong("kind or version"));
    }
    if json["metadata"]["name"] != id.name || json["metadata"]["namespace"].as_str() != id.namespace.as_deref() {
        return Err(wrong("name or namespace"));
    }
    Ok(Object { id, version, json })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{
        blocks::Span,
        bundle::{Count, Entry, Namespace, Scope, canonical, write},
    };
    use bytes::Bytes;
    use serde_json::json;
    use std::io::Write;
    use tar::{Builder, Header};

    fn config(name: &str, data: &str) -> (Id, Value) {
        let id =
            Id { group: String::new(), kind: "ConfigMap".into(), namespace: Some("shop".into()), name: name.into() };
        let json = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "shop"}, "data": {"key": data}});
        (id, json)
    }

    fn index(count: u64) -> Index {
        let kinds = vec![Count {
            group: String::new(),
            kind: "ConfigMap".into(),
            version: "v1".into(),
            scope: Scope::Namespaced,
            count,
        }];
        let namespace = Namespace { name: "shop".into(), ..Namespace::default() };
        Index { format: FORMAT, namespace, kinds, count, ..Index::default() }
    }

    fn bundle(objects: &[(Id, Value)]) -> Bundle {
        let sorted: BTreeMap<_, _> = objects.iter().cloned().collect();
        let entries = sorted.keys().map(|id| Entry { id: id.clone(), at: Span::new(0, 0) });
        let text = |entry: &Entry, to: &mut Vec<u8>| to.write_all(&canonical(&sorted[&entry.id])?);
        write(&index(objects.len() as u64), entries, text).expect("a bundle")
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
            "objects/core/ConfigMap/namespaces/shop/../../../x.json",
            "../objects/core/ConfigMap/namespaces/shop/a.json",
            "/objects/core/ConfigMap/namespaces/shop/a.json",
            "objects/core/ConfigMap/namespaces/other/a.json",
            "objects/core/ConfigMap/namespaces/shop/a",
            "objects/core/ConfigMap/namespaces/shop/...json",
            "objects//ConfigMap/namespaces/shop/a.json",
            "objects/core/ConfigMap/shop/a.json",
            "objects/core/ConfigMap/cluster/shop/a.json",
            "etc/passwd",
        ] {
            let error = forged_with(EntryType::Regular, path, b"{}");
            assert!(matches!(&error, BundleError::Path(it) if it == path), "{path}: {error}");
        }
    }

    #[test]
    fn only_plain_files_are_in_a_bundle() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Char, EntryType::XHeader] {
            let error = forged_with(kind, "objects/core/ConfigMap/namespaces/shop/a.json", b"");
            assert!(matches!(error, BundleError::Path(_)), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_refused() {
        let path = "objects/core/ConfigMap/namespaces/shop/a.json";
        let (_, other) = config("b", "1");
        let error = forged_with(EntryType::Regular, path, other.to_string().as_bytes());
        assert!(matches!(error, BundleError::Contradiction(_)), "{error}");
        let error = forged_with(EntryType::Regular, "objects/core/Secret/namespaces/shop/a.json", b"{}");
        assert!(matches!(error, BundleError::Contradiction(_)), "{error}");
        assert!(matches!(forged_with(EntryType::Regular, path, b"nonsense"), BundleError::Json { .. }));
    }

    #[test]
    fn an_object_of_the_cluster_is_read_as_one_and_cannot_pass_for_one_of_the_namespace() {
        let path = "objects/scheduling.k8s.io/PriorityClass/cluster/gold.json";
        let class =
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "gold"}});
        let index = |scope| {
            let (group, kind) = ("scheduling.k8s.io".to_owned(), "PriorityClass".to_owned());
            let index = Index { kinds: vec![Count { group, kind, version: "v1".into(), scope, count: 1 }], ..index(1) };
            (EntryType::Regular, INDEX, canonical(&index).expect("JSON"))
        };
        let file = |json: &Value| (EntryType::Regular, path, json.to_string().into_bytes());
        let read = objects(&forged(&[index(Scope::Cluster), file(&class)])).expect("a bundle");
        assert_eq!((read[0].id.namespace.as_deref(), read[0].id.scope()), (None, Scope::Cluster));
        assert!(objects(&forged(&[index(Scope::Namespaced), file(&class)])).is_err(), "the index tells otherwise");
        let mut within = class.clone();
        within["metadata"]["namespace"] = "shop".into();
        assert!(objects(&forged(&[index(Scope::Cluster), file(&within)])).is_err(), "it says so itself");
    }

    #[test]
    fn sizes_are_believed_only_up_to_their_limits() {
        let large = vec![b' '; usize::try_from(LARGEST_OBJECT).expect("it fits") + 1];
        let error = forged_with(EntryType::Regular, "objects/core/ConfigMap/namespaces/shop/a.json", &large);
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
            "the bundle has format 9, and this version of Reprise reads format 2: use the version that wrote it"
        );
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        assert!(matches!(Bundle::from_bytes(Bytes::from_static(b"hello")).index(), Err(BundleError::Read(_))));
        assert!(matches!(forged(&[]).index(), Err(BundleError::NoIndex)));
        let object = [(EntryType::Regular, "objects/core/ConfigMap/namespaces/shop/a.json", b"{}".to_vec())];
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
        let path = "objects/core/ConfigMap/namespaces/shop/a.json";
        let (_, json) = config("a", "1");
        let file = (EntryType::Regular, path, json.to_string().into_bytes());
        let index = (EntryType::Regular, "index.json", canonical(&index(2)).expect("JSON"));
        let error = objects(&forged(&[index, file.clone(), file])).expect_err("twice the same");
        assert!(matches!(error, BundleError::Contradiction(_)), "{error}");
    }
}
