//! What need not be looked at: what is the same in the snapshot and in all those that the directory consists of.
//!
//! This relies on what the task says: that everything in the directory is of these snapshots, and was written by
//! restores. A snapshot that is gone from the repository tells nothing, and everything is compared then.

use std::collections::HashMap;
use std::ffi::OsString;

use rustic_core::repofile::Node;
use rustic_core::{IndexedTree, Repository, TreeId};

/// A directory as these snapshots have it. Empty when that is not known.
#[derive(Clone, Default)]
pub(super) struct Base(Vec<TreeId>);

/// What they have in it.
#[derive(Default)]
pub(super) struct Listed(Vec<HashMap<OsString, Node>>);

impl Base {
    pub(super) fn new(trees: Vec<TreeId>) -> Self {
        Self(trees)
    }

    pub(super) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether all have this directory.
    pub(super) fn is(&self, tree: TreeId) -> bool {
        self.is_known() && self.0.iter().all(|it| *it == tree)
    }

    /// Reads it. Nothing is known of it when one of them cannot be read.
    pub(super) fn list<S: IndexedTree>(&self, repository: &Repository<S>) -> Listed {
        let read = |tree: &TreeId| {
            let nodes = repository.get_tree(tree).ok()?.nodes;
            Some(nodes.into_iter().map(|node| (node.name().into_owned(), node)).collect())
        };
        Listed(self.0.iter().map(read).collect::<Option<_>>().unwrap_or_default())
    }
}

impl Listed {
    /// Whether this is the same in all of them.
    pub(super) fn has(&self, node: &Node) -> bool {
        let name = node.name();
        !self.0.is_empty() && self.0.iter().all(|it| it.get(&*name).is_some_and(|old| same(old, node)))
    }

    /// A directory in it.
    pub(super) fn below(&self, name: &OsString) -> Base {
        let trees = self.0.iter().map(|it| it.get(name)?.subtree);
        Base(trees.collect::<Option<_>>().unwrap_or_default())
    }
}

/// Of a file with more than one name, the device is recorded; it is another one each time a snapshot is mounted.
fn same(old: &Node, new: &Node) -> bool {
    if old == new {
        return true;
    }
    let mut old = old.clone();
    old.meta.device_id = new.meta.device_id;
    old == *new
}
