//! Walks the directories of a snapshot, makes them, and removes what the snapshot does not have.
//!
//! Directories are made open for this process, and get their attributes when they have all that they will have.
//!
//! Where only some paths are restored, nothing is removed but what stands in the very place of a file; directories on the
//! way are made when they are missing, and otherwise left as they are.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use rustic_core::repofile::{Node, NodeType};
use rustic_core::{IndexedTree, Repository, TreeId};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::exclude::{self, Exclusions};
use super::super::log::Witness;
use super::base::{Base, Listed};
use super::files::Target;
use super::window::Window;
use super::{LOST_AND_FOUND, attributes, volume};
use crate::core::paths::Paths;

/// A directory on the way.
struct Folder {
    path: PathBuf,
    node: Option<Node>,
    nodes: std::vec::IntoIter<Node>,
    existing: HashMap<OsString, fs::Metadata>,
    base: Listed,
    /// Whether all that is in it is restored. Otherwise it only lies on the way.
    whole: bool,
    /// Whether it is known to be there.
    there: bool,
    /// Whether it was made, lying on the way.
    made: bool,
}

/// What was restored, without directories.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// How far a walk came.
pub(super) enum Walked {
    /// To the end.
    Whole(Counted),
    /// To a file with more names than one, of which others may lie where nothing was looked at: everything must be.
    Links,
}

impl Walked {
    /// What was restored, as far as it came.
    pub(super) fn counted(self) -> Counted {
        match self {
            Self::Whole(counted) => counted,
            Self::Links => Counted::default(),
        }
    }
}

/// A walk.
pub(super) struct Walk<'a, S> {
    engine: &'a Engine,
    repository: &'a Repository<S>,
    exclusions: &'a Exclusions,
    witness: &'a Witness,
    /// Which paths are restored, below which directory. `None`: all.
    only: Option<(&'a Paths, &'a Path)>,
    windows: SyncSender<Window>,
    window: Window,
    counted: Counted,
    /// The first path of each file that has more than one.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<'a, S: IndexedTree> Walk<'a, S> {
    pub(super) fn new(
        (engine, repository): (&'a Engine, &'a Repository<S>),
        exclusions: &'a Exclusions,
        witness: &'a Witness,
        only: Option<(&'a Paths, &'a Path)>,
        windows: SyncSender<Window>,
    ) -> Self {
        let (window, counted, linked) = (Window::default(), Counted::default(), HashMap::new());
        Self { engine, repository, exclusions, witness, only, windows, window, counted, linked }
    }

    /// Walks to the end, and hands over what is to be done.
    pub(super) fn run(mut self, tree: TreeId, base: &Base, target: &Path) -> Result<Walked, MoverError> {
        let whole = self.only.is_none();
        let mut stack = vec![self.enter(target.to_owned(), None, tree, whole, whole.then_some(base))?];
        while let Some(folder) = stack.last_mut() {
            let Some(node) = folder.nodes.next() else {
                // One that only lay on the way keeps its attributes, unless it was made for what is in it.
                if let Some(Folder { path, node: Some(node), whole, made, .. }) = stack.pop()
                    && (whole || made)
                {
                    self.window.complete.push((path, node));
                }
                if !self.hand_over_when_full() {
                    return Ok(Walked::Whole(self.counted));
                }
                continue;
            };
            let name = node.name().into_owned();
            let path = folder.path.join(&name);
            let whole = folder.whole || self.fits(&path);
            if !whole {
                if let Some(subtree) = node.subtree.filter(|_| self.may_hold(&path)) {
                    stack.push(self.enter(path, Some(node), subtree, false, None)?);
                }
                continue;
            }
            if base.is_known() && node.is_file() && node.meta.links > 1 {
                return Ok(Walked::Links);
            }
            let existing = folder.existing.remove(&name).is_some();
            let below = (existing && node.subtree.is_some()).then(|| folder.base.below(&name));
            let existing = if self.only.is_none() {
                existing
            } else {
                reach(&mut stack)?;
                make_room(&path, &node)?
            };
            if let Some(subtree) = node.subtree {
                if !existing {
                    make_directory(&path)?;
                }
                stack.push(self.enter(path, Some(node), subtree, true, below.as_ref())?);
            } else {
                self.add(path, node, existing);
            }
            if !self.hand_over_when_full() {
                return Ok(Walked::Whole(self.counted));
            }
        }
        // Nobody takes it when the work has failed: then that error counts.
        let _ = self.windows.send(self.window);
        Ok(Walked::Whole(self.counted))
    }

    /// Whether a path is one of those that are restored.
    fn fits(&self, path: &Path) -> bool {
        self.only.is_some_and(|(paths, root)| path.strip_prefix(root).is_ok_and(|it| paths.fit(it)))
    }

    fn may_hold(&self, path: &Path) -> bool {
        self.only.is_some_and(|(paths, root)| path.strip_prefix(root).is_ok_and(|it| paths.may_hold(it)))
    }

    /// Whether somebody still works.
    fn hand_over_when_full(&mut self) -> bool {
        !self.window.is_full() || self.windows.send(std::mem::take(&mut self.window)).is_ok()
    }

    /// Reads a directory of the snapshot, and removes what does not fit from the one that is there: `existing` is what is
    /// known of that. Where only some paths are restored, nothing is removed.
    fn enter(
        &self,
        path: PathBuf,
        node: Option<Node>,
        tree: TreeId,
        whole: bool,
        existing: Option<&Base>,
    ) -> Result<Folder, MoverError> {
        self.engine.meter.step();
        if existing.is_some_and(|it| it.is(tree)) {
            let (nodes, existing) = (Vec::new().into_iter(), HashMap::new());
            let base = Listed::default();
            return Ok(Folder { path, node, nodes, existing, base, whole, there: true, made: false });
        }
        let mut nodes = self.repository.get_tree(&tree).map_err(|error| self.engine.error(&error))?.nodes;
        for node in &nodes {
            let name = node.name();
            if matches!(name.as_encoded_bytes(), b"" | b"." | b"..")
                || name.as_encoded_bytes().iter().any(|it| matches!(it, b'/' | 0))
            {
                return Err(MoverError::Corrupt(format!("`{}` in `{}` is not a name", name.display(), path.display())));
            }
        }
        let is_root = node.is_none();
        let base = existing.map(|it| it.list(self.repository)).unwrap_or_default();
        let existing =
            if existing.is_some() { sift(&path, &nodes, &base, is_root, self.exclusions)? } else { HashMap::new() };
        nodes.retain(|node| !base.has(node));
        Ok(Folder { path, node, nodes: nodes.into_iter(), existing, base, whole, there: whole || is_root, made: false })
    }

    fn add(&mut self, path: PathBuf, node: Node, existing: bool) {
        self.counted.files += 1;
        if !node.is_file() {
            make_special(&path, &node, self.witness);
            self.engine.meter.files(1);
            return;
        }
        let meta = &node.meta;
        if meta.links > 1 && meta.inode != 0 && meta.device_id != 0 {
            if let Some(first) = self.linked.get(&(meta.device_id, meta.inode)) {
                self.window.links.push((path, first.clone()));
                return;
            }
            self.linked.insert((meta.device_id, meta.inode), path.clone());
        }
        self.counted.bytes += node.meta.size;
        self.window.bytes += node.meta.size;
        self.window.files.push(Target::new(path, node, existing));
    }
}

fn make_directory(path: &Path) -> Result<(), MoverError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| volume(&error, path))
}

/// Makes the directories on the way that are missing. Through a link it never goes.
fn reach(stack: &mut [Folder]) -> Result<(), MoverError> {
    for folder in stack.iter_mut().filter(|it| !it.there) {
        match fs::symlink_metadata(&folder.path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                let what = "is no directory in the volume, and one in the snapshot: move it out of the way";
                return Err(MoverError::Volume(format!("{} {what}", folder.path.display())));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_directory(&folder.path)?;
                // What is made is made as it was: its attributes, and nothing of what else was in it.
                folder.made = true;
            }
            Err(error) => return Err(volume(&error, &folder.path)),
        }
        folder.there = true;
    }
    Ok(())
}

/// Where only some paths are restored: whether what is in the place of one can stay. A file or a link goes; a directory in
/// the place of a file does not, since what is in it was not named.
fn make_room(path: &Path, node: &Node) -> Result<bool, MoverError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if may_stay(node, &meta) => Ok(true),
        Ok(meta) if meta.is_dir() => {
            let what = "is a directory in the volume, and none in the snapshot: move it out of the way";
            Err(MoverError::Volume(format!("{} {what}", path.display())))
        }
        Ok(_) => fs::remove_file(path).map(|()| false).map_err(|error| volume(&error, path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(volume(&error, path)),
    }
}

/// Removes what the snapshot does not have, and what can't become what it has; returns what stays for it. What the backup
/// left out stays too.
fn sift(
    path: &Path,
    nodes: &[Node],
    base: &Listed,
    is_root: bool,
    exclusions: &Exclusions,
) -> Result<HashMap<OsString, fs::Metadata>, MoverError> {
    let mut stays = HashMap::new();
    let entries: Vec<fs::DirEntry> =
        fs::read_dir(path).and_then(Iterator::collect).map_err(|error| volume(&error, path))?;
    if entries.is_empty() {
        return Ok(stays);
    }
    let nodes: HashMap<OsString, &Node> = nodes.iter().map(|node| (node.name().into_owned(), node)).collect();
    let marked = exclude::is_marked(nodes.keys().map(OsString::as_os_str));
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        if nodes.get(&name).is_some_and(|node| base.has(node)) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).map_err(|error| volume(&error, &path))?;
        match nodes.get(&name) {
            Some(node) if may_stay(node, &meta) => {
                stays.insert(name, meta);
            }
            _ if is_root && name == LOST_AND_FOUND && meta.is_dir() => {}
            None if marked || exclusions.fit(&path, meta.is_dir()) => {}
            _ => remove(&path, &meta).map_err(|error| volume(&error, &path))?,
        }
    }
    Ok(stays)
}

/// Whether what is there can become what the snapshot has under this name. Links are made anew: to write through a
/// hard link would change other files.
fn may_stay(node: &Node, meta: &fs::Metadata) -> bool {
    let file = node.is_file() && meta.is_file() && meta.nlink() == 1 && node.meta.links <= 1;
    file || (node.subtree.is_some() && meta.is_dir())
}

fn remove(path: &Path, meta: &fs::Metadata) -> std::io::Result<()> {
    if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn make_special(path: &Path, node: &Node, witness: &Witness) {
    let special = |kind, device| mknodat(CWD, path, kind, Mode::empty(), device).map_err(Into::into);
    let made = match &node.node_type {
        NodeType::Symlink { .. } => symlink(node.node_type.to_link(), path),
        NodeType::Dev { device } => special(FileType::BlockDevice, *device),
        NodeType::Chardev { device } => special(FileType::CharacterDevice, *device),
        NodeType::Fifo => special(FileType::Fifo, 0),
        NodeType::Socket => special(FileType::Socket, 0),
        NodeType::File | NodeType::Dir => return,
    };
    match made {
        Ok(()) => attributes::set_special(path, node, witness),
        Err(error) => {
            witness.note(&format!("restore {}: creating special file failed: {}", path.display(), error.kind()));
        }
    }
}
