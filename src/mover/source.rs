//! The directory that is backed up, as the engine reads it, with an eye on what it can't read.
//!
//! The engine drops an unreadable file without a word to its caller. Every entry, every opening and every reading
//! goes through here, and what fails is written down as a `Loss`. The directory itself, whose owner and mode the
//! engine would forget, is added as the first entry.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{
    Excludes, LocalSource, LocalSourceFilterOptions, LocalSourceSaveOptions, ReadSource, ReadSourceEntry,
    ReadSourceOpen, RusticError, RusticResult,
};

use super::engine::ROOT;

/// How many losses are kept as texts, and how many paths are remembered so that none counts twice.
const KEPT: usize = 20;
const REMEMBERED: usize = 100_000;

/// The engine's notation of a mode: Go's.
const GO_DIRECTORY: u32 = 1 << 31;
const GO_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

type Inner = <LocalSource as ReadSource>::Open;

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
    fn note(&self, path: Option<&Path>, reason: &str) {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = path {
            if lost.paths.contains(path) {
                return;
            }
            if lost.paths.len() < REMEMBERED {
                lost.paths.insert(path.to_owned());
            }
        }
        lost.count += 1;
        if lost.first.len() < KEPT {
            let text = path.map_or_else(|| reason.to_owned(), |path| format!("{}: {reason}", path.display()));
            lost.first.push(text.chars().take(300).collect());
        }
    }

    /// How many, and the first of them with the reason.
    pub(super) fn seen(&self) -> (u64, Vec<String>) {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (lost.count, lost.first.clone())
    }
}

/// A directory to back up.
pub(super) struct Source {
    inner: LocalSource,
    root: PathBuf,
    lost_and_found: PathBuf,
    losses: Losses,
}

impl Source {
    pub(super) fn new(root: &Path, losses: Losses) -> RusticResult<Self> {
        let inner = LocalSource::new(
            LocalSourceSaveOptions::default(),
            &Excludes::default(),
            &LocalSourceFilterOptions::default(),
            &[root],
        )?;
        Ok(Self { inner, root: root.to_owned(), lost_and_found: root.join("lost+found"), losses })
    }
}

impl ReadSource for Source {
    type Open = Watched;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        Entries {
            root: Some(self.root.clone()),
            inner: self.inner.entries(),
            lost_and_found: self.lost_and_found.clone(),
            losses: self.losses.clone(),
        }
    }
}

/// The entries of a directory, in the order of their paths.
pub(super) struct Entries {
    root: Option<PathBuf>,
    inner: <LocalSource as ReadSource>::Iter,
    lost_and_found: PathBuf,
    losses: Losses,
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Watched>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.root.take() {
            match root_node(&root) {
                Ok(node) => return Some(Ok(ReadSourceEntry { path: root, node, open: None })),
                Err(error) => self.losses.note(Some(&root), &error.kind().to_string()),
            }
        }
        loop {
            match self.inner.next()? {
                Ok(entry) if entry.path.starts_with(&self.lost_and_found) => {}
                Ok(ReadSourceEntry { path, node, open }) => {
                    let open = open.map(|inner| Watched { inner, path: path.clone(), losses: self.losses.clone() });
                    return Some(Ok(ReadSourceEntry { path, node, open }));
                }
                Err(error) => {
                    let reason = innermost(&error);
                    if !reason.contains(&self.lost_and_found.display().to_string()) {
                        self.losses.note(None, &reason);
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// The node of the directory itself.
fn root_node(root: &Path) -> io::Result<Node> {
    let meta = fs::metadata(root)?;
    let time = |seconds, nanoseconds: i64| Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0)).ok();
    let special = GO_BITS.iter().filter(|(unix, _)| meta.mode() & unix != 0).map(|(_, go)| go).sum::<u32>();
    let mtime = time(meta.mtime(), meta.mtime_nsec());
    let metadata = Metadata {
        mode: Some(GO_DIRECTORY | special | (meta.mode() & 0o777)),
        mtime,
        atime: mtime,
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
        inode: meta.ino(),
        ..Metadata::default()
    };
    Ok(Node::new_node(ROOT.as_ref(), NodeType::Dir, metadata))
}

/// The Unix mode of a directory's node.
pub(super) fn unix_mode(go: u32) -> u32 {
    let special = GO_BITS.iter().filter(|(_, bit)| go & bit != 0).map(|(unix, _)| unix).sum::<u32>();
    special | (go & 0o777)
}

/// A file that is about to be opened.
pub(super) struct Watched {
    inner: Inner,
    path: PathBuf,
    losses: Losses,
}

impl ReadSourceOpen for Watched {
    type Reader = WatchedReader<<Inner as ReadSourceOpen>::Reader>;

    fn open(self) -> RusticResult<Self::Reader> {
        let Self { inner, path, losses } = self;
        match inner.open() {
            Ok(inner) => Ok(WatchedReader { inner, path, losses }),
            Err(error) => {
                losses.note(Some(&path), &innermost(&error));
                Err(error)
            }
        }
    }
}

/// An open file.
pub(super) struct WatchedReader<R> {
    inner: R,
    path: PathBuf,
    losses: Losses,
}

impl<R: Read> Read for WatchedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.losses.note(Some(&self.path), &error.to_string());
        }
        result
    }
}

/// The text of the cause behind all others.
fn innermost(error: &RusticError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
