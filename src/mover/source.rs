//! The directory that is backed up: its entries as the repository describes them, and what of them can't be read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::log::Witness;

/// How many losses are kept as texts, and how many paths are remembered so that none counts twice.
const KEPT: usize = 100;
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
    let meta = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    let device = rustix::fs::makedev(meta.stx_rdev_major, meta.stx_rdev_minor);
    let node_type = match FileType::from_raw_mode(meta.stx_mode.into()) {
        FileType::Directory => NodeType::Dir,
        FileType::RegularFile => NodeType::File,
        FileType::Symlink => NodeType::from_link(&fs::read_link(path)?),
        FileType::BlockDevice => NodeType::Dev { device },
        FileType::CharacterDevice => NodeType::Chardev { device },
        FileType::Fifo => NodeType::Fifo,
        FileType::Socket | FileType::Unknown => NodeType::Socket,
    };
    for (flag, name) in [(StatxAttributes::IMMUTABLE, "immutable"), (StatxAttributes::APPEND, "append-only")] {
        if meta.stx_attributes.contains(flag) {
            witness.note(&format!("{}: that it is {name} is not kept", path.display()));
        }
    }
    Ok(Node::new_node(path.file_name().unwrap_or_default(), node_type, metadata(path, &meta, witness)))
}

fn metadata(path: &Path, meta: &Statx, witness: &Witness) -> Metadata {
    let time = |it: StatxTimestamp| Timestamp::new(it.tv_sec, i32::try_from(it.tv_nsec).unwrap_or(0)).ok();
    let is_dir = FileType::from_raw_mode(meta.stx_mode.into()) == FileType::Directory;
    let (links, mtime) = (u64::from(meta.stx_nlink), time(meta.stx_mtime));
    let mut found = Metadata {
        mode: Some(go_mode(meta.stx_mode.into())),
        mtime,
        atime: mtime,
        ctime: time(meta.stx_ctime),
        uid: Some(meta.stx_uid),
        gid: Some(meta.stx_gid),
        inode: meta.stx_ino,
        device_id: if !is_dir && links > 1 { rustix::fs::makedev(meta.stx_dev_major, meta.stx_dev_minor) } else { 0 },
        size: if is_dir { 0 } else { meta.stx_size },
        links: if is_dir { 0 } else { links },
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
