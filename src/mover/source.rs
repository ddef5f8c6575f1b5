//! The directory that is backed up: its entries as the repository describes them, and what of them can't be read.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::log::Witness;

/// How many losses are kept as texts, and how many paths are remembered so that none counts twice.
const KEPT: usize = 20;
const REMEMBERED: usize = 100_000;
/// The most bytes of the names of a file's extended attributes, and of the value of one: what Linux allows.
const ATTRIBUTES: usize = 64 * 1024;

/// The repository's notation of a mode: Go's.
const GO_KINDS: [(u32, u32); 5] =
    [(0o140_000, 1 << 24), (0o120_000, 1 << 27), (0o060_000, 1 << 26), (0o040_000, 1 << 31), (0o010_000, 1 << 25)];
const GO_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// What could not be read. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(Arc<Mutex<Lost>>);

#[derive(Debug, Default)]
struct Lost {
    count: u64,
    first: Vec<String>,
    paths: BTreeSet<PathBuf>,
}

impl Losses {
    /// Takes note of something that can't be read.
    pub(super) fn note(&self, path: &Path, error: &io::Error) {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.paths.contains(path) {
            return;
        }
        if lost.paths.len() < REMEMBERED {
            lost.paths.insert(path.to_owned());
        }
        lost.count += 1;
        if lost.first.len() < KEPT {
            lost.first.push(format!("{}: {error}", path.display()).chars().take(300).collect());
        }
    }

    /// How many, and the first of them with the reason.
    pub(super) fn seen(&self) -> (u64, Vec<String>) {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (lost.count, lost.first.clone())
    }
}

/// The names in a directory, in the order of a repository.
pub(super) fn names(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Opens a file to read it. Should something else be there by now, this does not wait for it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
}

/// What lies under a path, with all that is kept of it but its content.
pub(super) fn node(path: &Path, witness: &Witness) -> io::Result<Node> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let node_type = if kind.is_dir() {
        NodeType::Dir
    } else if kind.is_file() {
        NodeType::File
    } else if kind.is_symlink() {
        NodeType::from_link(&fs::read_link(path)?)
    } else if kind.is_block_device() {
        NodeType::Dev { device: meta.rdev() }
    } else if kind.is_char_device() {
        NodeType::Chardev { device: meta.rdev() }
    } else if kind.is_fifo() {
        NodeType::Fifo
    } else {
        NodeType::Socket
    };
    Ok(Node::new_node(path.file_name().unwrap_or_default(), node_type, metadata(path, &meta, witness)))
}

fn metadata(path: &Path, meta: &FileMetadata, witness: &Witness) -> Metadata {
    let time = |seconds, nanoseconds: i64| Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0)).ok();
    let mtime = time(meta.mtime(), meta.mtime_nsec());
    let mut found = Metadata {
        mode: Some(go_mode(meta.mode())),
        mtime,
        atime: mtime,
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
        inode: meta.ino(),
        device_id: if !meta.is_dir() && meta.nlink() > 1 { meta.dev() } else { 0 },
        size: if meta.is_dir() { 0 } else { meta.len() },
        links: if meta.is_dir() { 0 } else { meta.nlink() },
        ..Metadata::default()
    };
    match extended(path) {
        Ok(None) => {}
        // The type of an attribute has no name outside the engine.
        Ok(Some(list)) => {
            found.extended_attributes = serde_json::from_value(list).expect("names and values are what it is made of");
        }
        Err(error) => witness.note(&format!("{}: its extended attributes can't be read: {error}", path.display())),
    }
    found
}

/// Extended attributes as the repository writes them.
fn extended(path: &Path) -> io::Result<Option<serde_json::Value>> {
    let mut names = [0; 1024];
    let mut long = Vec::new();
    let names = match rustix::fs::llistxattr(path, &mut names) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(None),
        Ok(length) => &names[..length],
        Err(Errno::RANGE) => {
            long.resize(ATTRIBUTES, 0);
            let length = rustix::fs::llistxattr(path, &mut long[..])?;
            &long[..length]
        }
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; ATTRIBUTES];
    let mut list = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        list.push(serde_json::json!({
            "name": String::from_utf8_lossy(name),
            "value": BASE64_STANDARD.encode(&value[..length]),
        }));
    }
    Ok(Some(list.into()))
}

fn go_mode(unix: u32) -> u32 {
    let kind = GO_KINDS.iter().find(|(it, _)| unix & 0o170_000 == *it).map_or(0, |(_, go)| *go);
    let special = GO_BITS.iter().filter(|(it, _)| unix & it != 0).map(|(_, go)| go).sum::<u32>();
    kind | special | (unix & 0o777)
}

/// The Unix mode of a node, without its kind.
pub(super) fn unix_mode(go: u32) -> u32 {
    let special = GO_BITS.iter().filter(|(_, bit)| go & bit != 0).map(|(unix, _)| unix).sum::<u32>();
    special | (go & 0o777)
}

/// Whether the entry is what the file system itself put into its root.
pub(super) fn is_lost_and_found(name: &std::ffi::OsStr) -> bool {
    name.as_bytes() == b"lost+found"
}
