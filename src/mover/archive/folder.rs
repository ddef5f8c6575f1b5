//! A directory on its way into the repository: its entries, what the parent snapshot has of them, and what it waits for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustic_core::TreeId;
use rustic_core::repofile::Node;

use super::super::error::MoverError;
use super::super::source;
use super::{Archive, Change, add};

/// What the parent snapshot has in the place of a directory: `None` when there is nothing.
pub(in crate::mover) type Before = Option<TreeId>;

/// A directory.
pub(super) struct Folder {
    path: PathBuf,
    parent: Option<(Arc<Folder>, usize)>,
    before: Before,
    /// In the order of their names. What can't be read is left out.
    nodes: Mutex<Vec<Option<Node>>>,
    /// Directories, files and large files that are worked on, and one for the reading of the directory itself.
    pending: AtomicUsize,
}

/// What is to be worked on in a directory.
#[derive(Default)]
pub(super) struct Found {
    pub(super) folders: Vec<(usize, Before)>,
    pub(super) files: Vec<(usize, Change)>,
}

impl Folder {
    /// What holds the directory that is backed up. Nobody waits for it, and its path is never used.
    pub(super) fn top(path: PathBuf, node: Node) -> Self {
        Self { path, parent: None, before: None, nodes: Mutex::new(vec![Some(node)]), pending: AtomicUsize::new(1) }
    }

    /// A directory in another one.
    pub(super) fn below(parent: &Arc<Self>, at: usize, before: &Before) -> Self {
        let path = if parent.parent.is_none() { parent.path.clone() } else { parent.path_of(at) };
        let (nodes, pending) = (Mutex::default(), AtomicUsize::new(1));
        Self { path, parent: Some((parent.clone(), at)), before: *before, nodes, pending }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is in it, and takes over what has not changed.
    pub(super) fn read(&self, archive: &Archive<'_>, before: &Before) -> Result<Found, MoverError> {
        let is_root = self.parent.as_ref().is_some_and(|(parent, _)| parent.parent.is_none());
        let names = source::names(&self.path).unwrap_or_else(|error| {
            archive.losses.note(&self.path, &error);
            Vec::new()
        });
        let before = match before {
            Some(tree) => archive.index.tree(archive.engine, *tree)?.nodes,
            None => Vec::new(),
        };
        let before: HashMap<String, Node> = before.into_iter().map(|node| (node.name.clone(), node)).collect();
        let (mut nodes, mut found) = (Vec::with_capacity(names.len()), Found::default());
        for name in archive.exclusions.stored(names) {
            if is_root && source::is_lost_and_found(&name) {
                continue;
            }
            let path = self.path.join(&name);
            let found_there = source::node(&path, archive.witness);
            if archive.exclusions.leave_out(&path, found_there.as_ref().is_ok_and(Node::is_dir)) {
                continue;
            }
            match found_there {
                Ok(node) => nodes.push(Some(sort(archive, node, &before, nodes.len(), &mut found))),
                Err(error) => archive.losses.note(&path, &error),
            }
        }
        self.wait(found.folders.len() + found.files.len());
        *self.nodes() = nodes;
        Ok(found)
    }

    /// Waits for so much more.
    pub(super) fn wait(&self, count: usize) {
        self.pending.fetch_add(count, Ordering::AcqRel);
    }

    /// Waits for so much less; returns whether that was all.
    pub(super) fn release(&self, count: usize) -> bool {
        count > 0 && self.pending.fetch_sub(count, Ordering::AcqRel) == count
    }

    /// The directory that it is in, and its place there; `None` at the top.
    pub(super) fn parent(&self) -> Option<(Arc<Self>, usize)> {
        self.parent.clone()
    }

    pub(super) fn path_of(&self, at: usize) -> PathBuf {
        let nodes = self.nodes();
        let name = nodes.get(at).and_then(Option::as_ref).map(|node| node.name().into_owned());
        self.path.join(Path::new(&name.unwrap_or_default()))
    }

    /// Changes an entry, unless it was left out.
    pub(super) fn set(&self, at: usize, change: impl FnOnce(&mut Node)) {
        if let Some(Some(node)) = self.nodes().get_mut(at) {
            change(node);
        }
    }

    pub(super) fn leave_out(&self, at: usize) {
        if let Some(node) = self.nodes().get_mut(at) {
            *node = None;
        }
    }

    /// Its entries, when all is known.
    pub(super) fn take(&self) -> Vec<Node> {
        std::mem::take(&mut *self.nodes()).into_iter().flatten().collect()
    }

    /// What became of it, as `now` is its name.
    pub(super) fn change(&self, now: TreeId) -> Change {
        match self.before {
            None => Change::New,
            Some(before) if before == now => Change::Unchanged,
            Some(_) => Change::Changed,
        }
    }
}

/// Says what is to be done with an entry, which gets the content that the parent snapshot has when it is unchanged.
fn sort(archive: &Archive<'_>, mut node: Node, before: &HashMap<String, Node>, at: usize, found: &mut Found) -> Node {
    let old = before.get(&node.name);
    if node.is_dir() {
        found.folders.push((at, old.and_then(|old| old.subtree)));
        return node;
    }
    let same = old.is_some_and(|old| is_same(old, &node));
    if !node.is_file() {
        let change = if same { Change::Unchanged } else { Change::New };
        add(&archive.counts.files[change as usize], 1);
        return node;
    }
    let known = |old: &Node| old.content.iter().flatten().all(|blob| archive.index.has_data((*blob).into()));
    match old {
        Some(old) if same && known(old) => {
            node.content.clone_from(&old.content);
            add(&archive.counts.files[Change::Unchanged as usize], 1);
            add(&archive.counts.bytes, node.meta.size);
            archive.progress.inc(node.meta.size);
        }
        Some(_) => found.files.push((at, Change::Changed)),
        None => found.files.push((at, Change::New)),
    }
    node
}

/// Whether an entry is unchanged. Inodes don't count: a volume that is made from a snapshot need not keep them.
fn is_same(old: &Node, new: &Node) -> bool {
    let (was, is) = (&old.meta, &new.meta);
    let same_ctime = was.ctime.zip(is.ctime).is_none_or(|(was, is)| was == is);
    old.node_type == new.node_type && was.size == is.size && was.mtime == is.mtime && same_ctime
}
