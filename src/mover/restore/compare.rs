//! Looks once more, by kind, size and time, whether all is as in the snapshot: what somebody else does meanwhile shows.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustic_core::repofile::{Node, NodeType};
use rustic_core::{IndexedTree, Repository, TreeId};

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::exclude::{self, Exclusions};
use super::super::parallel;
use super::base::{Base, Listed};
use super::{LOST_AND_FOUND, volume};
use crate::core::paths::Paths;

/// Compares a directory and what lies in it with the snapshot, but for what was not to be touched.
pub(super) fn compare<S: IndexedTree + Sync>(
    engine: &Engine,
    repository: &Repository<S>,
    (tree, base): (TreeId, Base),
    target: &Path,
    exclusions: &Exclusions,
) -> Result<(), MoverError> {
    let different = AtomicU64::new(0);
    parallel::descend(
        parallel::processors(),
        vec![(target.to_owned(), tree, base)],
        || (),
        |(), queue, (path, tree, base)| {
            engine.meter.step();
            if base.is(tree) {
                return Ok(());
            }
            let nodes = repository.get_tree(&tree).map_err(|error| engine.error(&error))?.nodes;
            let (count, below) = differences(&path, nodes, &base.list(repository), path == target, exclusions)?;
            different.fetch_add(count, Ordering::Relaxed);
            queue.push(below);
            Ok(())
        },
    )?;
    none(different)
}

/// Compares what lies under some paths of a directory with the snapshot. What else is there does not count.
pub(super) fn compare_paths<S: IndexedTree + Sync>(
    engine: &Engine,
    repository: &Repository<S>,
    tree: TreeId,
    target: &Path,
    paths: &Paths,
) -> Result<(), MoverError> {
    let different = AtomicU64::new(0);
    parallel::descend(
        parallel::processors(),
        vec![(PathBuf::new(), tree, false)],
        || (),
        |(), queue, (folder, tree, whole)| {
            engine.meter.step();
            let nodes = repository.get_tree(&tree).map_err(|error| engine.error(&error))?.nodes;
            let mut below = Vec::new();
            for node in nodes {
                let path = folder.join(node.name());
                let whole = whole || paths.fit(&path);
                let meta = fs::symlink_metadata(target.join(&path));
                // What could not be made was told before.
                let same = !whole || meta.is_ok_and(|meta| is_same(&node, &meta)) || node.is_special();
                different.fetch_add(u64::from(!same), Ordering::Relaxed);
                if let (Some(subtree), true) = (node.subtree, whole || paths.may_hold(&path)) {
                    below.push((path, subtree, whole));
                }
            }
            queue.push(below);
            Ok(())
        },
    )?;
    none(different)
}

fn none(different: AtomicU64) -> Result<(), MoverError> {
    match different.into_inner() {
        0 => Ok(()),
        different => Err(MoverError::Different(different)),
    }
}

type Below = Vec<(PathBuf, TreeId, Base)>;

/// How many entries of one directory differ, and the directories in it.
fn differences(
    path: &Path,
    nodes: Vec<Node>,
    base: &Listed,
    is_root: bool,
    exclusions: &Exclusions,
) -> Result<(u64, Below), MoverError> {
    let mut nodes: HashMap<OsString, Node> = nodes.into_iter().map(|node| (node.name().into_owned(), node)).collect();
    let (mut different, mut below) = (0, Vec::new());
    let marked = exclude::is_marked(nodes.keys().map(OsString::as_os_str));
    for entry in fs::read_dir(path).map_err(|error| volume(&error, path))? {
        let entry = entry.map_err(|error| volume(&error, path))?;
        let Some(node) = nodes.remove(&entry.file_name()) else {
            let is_dir = entry.file_type().is_ok_and(|it| it.is_dir());
            let alone = marked || (is_root && entry.file_name() == LOST_AND_FOUND);
            different += u64::from(!alone && !exclusions.fit(&entry.path(), is_dir));
            continue;
        };
        // What is gone between these two differs.
        let same = entry.metadata().is_ok_and(|meta| is_same(&node, &meta));
        different += u64::from(!same);
        if let (Some(subtree), true) = (node.subtree, same) {
            below.push((entry.path(), subtree, base.below(&entry.file_name())));
        }
    }
    // What could not be made was told before.
    let missing = nodes.values().filter(|node| !node.is_special()).count() as u64;
    Ok((different + missing, below))
}

fn is_same(node: &Node, meta: &fs::Metadata) -> bool {
    match node.node_type {
        NodeType::File => {
            let time = meta.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
            meta.is_file() && meta.len() == node.meta.size && (node.meta.mtime.is_none() || time == node.meta.mtime)
        }
        NodeType::Dir => meta.is_dir(),
        NodeType::Symlink { .. } => meta.is_symlink(),
        NodeType::Dev { .. } | NodeType::Chardev { .. } | NodeType::Fifo | NodeType::Socket => {
            !meta.is_file() && !meta.is_dir()
        }
    }
}
