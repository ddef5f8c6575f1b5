//! The file that a namespace's objects lie in: a tar archive of JSON files, compressed with zstd.
//!
//! The same objects always make the same bytes: files are sorted, keys are sorted, and nothing tells the time. An
//! unchanged application therefore has an unchanged digest, and costs a vault nothing. Encryption is the vault's, and
//! reading is in `read`.
//!
//! ```text
//! index.json                                              what is in it, what is missing, and what it is of
//! objects/<group>/<kind>/namespaces/<namespace>/<name>.json   an object of the namespace
//! objects/<group>/<kind>/cluster/<name>.json                  an object of the cluster that the namespace's refer to
//! ```
//!
//! The core group is called `core`.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{
    blocks::Span,
    spool::{Frozen, Reader, Spool},
};
use crate::core::{hex::hex, point::Protection};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 2;

/// The largest object, as JSON. Servers take 1.5 MiB unless they are told otherwise.
pub const LARGEST_OBJECT: u64 = 4 << 20;

/// The largest bundle before compression.
pub const LARGEST_TOTAL: u64 = 16 << 30;

/// The longest path of a file.
pub(super) const LONGEST_PATH: u64 = 1024;

/// Bytes of a bundle that stay in memory; the rest is in a file.
const IN_MEMORY: usize = 8 << 20;

/// The name of the first file.
pub(super) const INDEX: &str = "index.json";

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
    /// Objects of the cluster that those in it name, and that are not in it: each cluster has its own. Sorted.
    pub named: Vec<Named>,
    /// The `ProtectedApplication` that the point is of.
    pub protection: Option<Protection>,
}

/// An object of the cluster that is named, and no more.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
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
    /// Where they stand.
    pub scope: Scope,
    /// How many.
    pub count: u64,
}

/// Where objects of a kind stand.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In no namespace.
    Cluster,
    /// In a namespace.
    Namespaced,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; none for an object of the cluster.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Id {
    /// Where it stands.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.namespace.is_some() { Scope::Namespaced } else { Scope::Cluster }
    }

    /// Whether it can be the name of a file: Kubernetes allows no others, aggregated servers might.
    #[must_use]
    pub fn valid(&self) -> bool {
        (self.group.is_empty() || part(&self.group))
            && self.group != "core"
            && part(&self.kind)
            && self.namespace.as_deref().is_none_or(part)
            && part(&self.name)
    }

    /// The object that a file is about. It stands in `namespace`, or in none.
    pub(super) fn parse(path: &str, namespace: &str) -> Result<Self, BundleError> {
        let wrong = || BundleError::Path(path.to_owned());
        let parts: Vec<&str> = path.strip_suffix(".json").ok_or_else(wrong)?.split('/').collect();
        let (group, kind, place, name) = match parts.as_slice() {
            ["objects", group, kind, "cluster", name] => (*group, *kind, None, *name),
            ["objects", group, kind, "namespaces", place, name] if *place == namespace => {
                (*group, *kind, Some(namespace.to_owned()), *name)
            }
            _ => return Err(wrong()),
        };
        let core = group == "core";
        let group = if core { "" } else { group };
        let id = Self { group: group.into(), kind: kind.into(), namespace: place, name: name.into() };
        if id.valid() && (core || !id.group.is_empty()) { Ok(id) } else { Err(wrong()) }
    }

    fn path(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        match &self.namespace {
            Some(namespace) => format!("objects/{group}/{}/namespaces/{namespace}/{}.json", self.kind, self.name),
            None => format!("objects/{group}/{}/cluster/{}.json", self.kind, self.name),
        }
    }
}

/// An object that is to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which object.
    pub id: Id,
    /// Where it lies.
    pub at: Span,
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

/// Writes objects as a bundle. The entries come in the order of their ids, each once; `content` writes one of them.
///
/// # Errors
/// `Write` when the temporary directory refuses, `Path` when an object has an impossible name.
pub fn write(
    index: &Index,
    entries: impl Iterator<Item = Entry>,
    mut content: impl FnMut(&Entry, &mut Vec<u8>) -> io::Result<()>,
) -> Result<Bundle, BundleError> {
    let mut archive = Builder::new(compress(Incoming::new()).map_err(BundleError::Write)?);
    let text = canonical(index).map_err(|source| BundleError::Json { path: INDEX.into(), source })?;
    file(&mut archive, INDEX, &text).map_err(BundleError::Write)?;
    let mut object = Vec::new();
    for entry in entries {
        let path = entry.id.path();
        if !entry.id.valid() || path.len() as u64 > LONGEST_PATH {
            return Err(BundleError::Path(path));
        }
        object.clear();
        content(&entry, &mut object).and_then(|()| file(&mut archive, &path, &object)).map_err(BundleError::Write)?;
    }
    let written = archive.into_inner().and_then(zstd::Encoder::finish).map_err(BundleError::Write)?;
    Ok(written.finish())
}

/// JSON with sorted keys and nothing between them.
///
/// # Errors
/// When a value is not JSON.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    // `Value` keeps its keys sorted.
    serde_json::to_vec(&serde_json::to_value(value)?)
}

fn compress(sink: Incoming) -> io::Result<zstd::Encoder<'static, Incoming>> {
    let mut encoder = zstd::Encoder::new(sink, 3)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn file(archive: &mut Builder<impl Write>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
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
        let mut incoming = Incoming::new();
        io::copy(&mut from, &mut incoming).map_err(BundleError::Read)?;
        Ok(incoming.finish())
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
}

/// Whether it can be one part of a path.
fn part(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 253
        && !name.contains(|it: char| matches!(it, '/' | '\\') || it.is_control())
}

/// A bundle that is being written, or comes from a vault: its bytes, part by part.
#[derive(Debug)]
pub struct Incoming {
    to: Spool,
    digest: Sha256,
}

impl Incoming {
    /// Nothing yet. It moves to a file in the temporary directory when it gets large.
    #[must_use]
    pub fn new() -> Self {
        Self { to: Spool::new(IN_MEMORY), digest: Sha256::new() }
    }

    /// The bundle that was written.
    #[must_use]
    pub fn finish(self) -> Bundle {
        Bundle { content: self.to.freeze(), digest: hex(&self.digest.finalize()) }
    }
}

impl Default for Incoming {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
