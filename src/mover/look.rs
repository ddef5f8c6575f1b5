//! Looks into an application's repository without restoring: what lies in a directory of a snapshot, and in what two
//! snapshots differ.
//!
//! It holds the places of all directories that the index names and one directory at a time, and gives up beyond its
//! limits. No thread of the engine's is involved: a request that fails is an error here, and no panic.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rustic_core::repofile::{IndexFile, Node, NodeType, SnapshotFile};
use rustic_core::{BlobId, FileType, Id, OpenStatus, ReadBackend, Repository, TreeId};
use tokio::runtime::Handle;

use super::check;
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::index::Index;
use super::touched;
use crate::core::vault_answer::{Entry, EntryKind, FileChange};
use crate::vault::Vault;

/// The most directories that an index may name: about 100 bytes of memory each.
const DIRECTORIES: usize = 1_000_000;
/// The largest directory that is read, in bytes of its list.
const LARGEST_DIRECTORY: u32 = 64 << 20;

/// An application's repository, to be looked into. Its methods block.
pub struct Look {
    engine: Engine,
    repository: Repository<OpenStatus>,
    index: Index,
}

/// What a path in a snapshot leads to.
pub struct Found {
    /// A directory's content, or the one entry that is none. Sorted by name.
    pub entries: Vec<Entry>,
    /// What of the volume could not be read, with the reason: the first hundred, where the path is its top.
    pub unreadable: Vec<String>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

impl Look {
    /// Opens the repository and reads its index. Blocks; requests run on `runtime`.
    ///
    /// # Errors
    /// When the vault does not answer, or the repository is not there, damaged, or too large to be looked into.
    pub fn open(vault: &Vault, namespace: &str, application: &str, runtime: Handle) -> Result<Self, MoverError> {
        let engine = Engine::new(vault, namespace, application, runtime);
        let repository = engine.open()?;
        let mut index = Index::empty();
        for (id, _) in engine.backend.list_with_size(FileType::Index).map_err(|error| engine.error(&error))? {
            let file: IndexFile = repository.get_file(&id.into()).map_err(|error| engine.error(&error))?;
            index.add_trees(file);
            if index.directories() > DIRECTORIES {
                let what = format!("the repository has more than {DIRECTORIES} directories: look into it with restic");
                return Err(MoverError::Engine(what));
            }
        }
        Ok(Self { engine, repository, index })
    }

    /// What lies at a path of a snapshot: at most `limit` entries. `None` when nothing does.
    ///
    /// # Errors
    /// When the snapshot or a directory is missing, damaged, or too large.
    pub fn list(&self, snapshot: &str, path: &str, limit: usize) -> Result<Option<Found>, MoverError> {
        let snapshot = check::snapshot(&self.engine, &self.repository, snapshot)?;
        let mut tree = self.root(&snapshot)?;
        let mut names = path.split('/').filter(|it| !it.is_empty()).peekable();
        let told = snapshot.description.as_deref().filter(|_| names.peek().is_none()).unwrap_or_default();
        let unreadable: Vec<String> = told.lines().skip(1).map(ToOwned::to_owned).collect();
        while let Some(name) = names.next() {
            let nodes = self.nodes(tree)?;
            let Some(node) = nodes.into_iter().find(|it| it.name().to_string_lossy() == name) else { return Ok(None) };
            match (node.subtree, names.peek()) {
                (Some(subtree), _) => tree = subtree,
                (None, None) => return Ok(Some(Found { entries: vec![entry(&node)], unreadable, more: false })),
                (None, Some(_)) => return Ok(None),
            }
        }
        let nodes = self.nodes(tree)?;
        let entries = nodes.iter().take(limit).map(entry).collect();
        Ok(Some(Found { entries, unreadable, more: nodes.len() > limit }))
    }

    /// In what two snapshots differ, by path: at most `limit` changes, and whether there are more. Times of files do not
    /// count.
    ///
    /// # Errors
    /// As in `list`.
    pub fn compare(&self, before: &str, after: &str, limit: usize) -> Result<(Vec<FileChange>, bool), MoverError> {
        let mut changes = Vec::new();
        let root = |id| self.root(&check::snapshot(&self.engine, &self.repository, id)?);
        let mut open = vec![(String::new(), Some(root(before)?), Some(root(after)?))];
        while let Some((path, before, after)) = open.pop() {
            if before == after {
                continue;
            }
            let mut both: BTreeMap<String, (Option<Node>, Option<Node>)> = BTreeMap::new();
            for node in before.map_or(Ok(Vec::new()), |it| self.nodes(it))? {
                let name = node.name.clone();
                both.entry(name).or_default().0 = Some(node);
            }
            for node in after.map_or(Ok(Vec::new()), |it| self.nodes(it))? {
                let name = node.name.clone();
                both.entry(name).or_default().1 = Some(node);
            }
            let mut below = Vec::new();
            for (_, (old, new)) in both {
                let Some(any) = new.as_ref().or(old.as_ref()) else { continue };
                let path = format!("{path}{}", any.name().to_string_lossy());
                if differ(old.as_ref(), new.as_ref()) {
                    if changes.len() == limit {
                        return Ok((changes, true));
                    }
                    let (before, after) = (old.as_ref().map(entry), new.as_ref().map(entry));
                    changes.push(FileChange { path: path.clone(), before, after });
                }
                let subtree = |it: Option<Node>| it.and_then(|it| it.subtree);
                below.push((format!("{path}/"), subtree(old), subtree(new)));
            }
            // The first is looked at first.
            open.extend(below.into_iter().rev());
        }
        Ok((changes, false))
    }

    fn root(&self, snapshot: &SnapshotFile) -> Result<TreeId, MoverError> {
        let nodes = self.nodes(snapshot.tree)?;
        let root = nodes.iter().find(|it| it.name == ROOT).and_then(|it| it.subtree);
        root.ok_or_else(|| MoverError::Corrupt("the snapshot has no directory".to_owned()))
    }

    fn nodes(&self, tree: TreeId) -> Result<Vec<Node>, MoverError> {
        if self.index.directory_bytes(BlobId::from(tree)) > LARGEST_DIRECTORY {
            let what = "a directory has more entries than can be looked at here: look into it with restic";
            return Err(MoverError::Engine(what.to_owned()));
        }
        Ok(self.index.tree(&self.engine, tree)?.nodes)
    }
}

/// What a repository lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The packs that its index names, and that are not there with all they should have.
    pub packs: Vec<String>,
    /// The snapshots that need one of them.
    pub snapshots: HashSet<String>,
}

/// What an application's repository lacks. Holds the names of all packs, and one file of the index at a time; when
/// something is missing, the index as a mover does. Blocks; requests run on `runtime`.
///
/// # Errors
/// When the vault does not answer, or the repository is not there or damaged.
pub fn missing_packs(
    vault: &Vault,
    namespace: &str,
    application: &str,
    runtime: Handle,
) -> Result<Missing, MoverError> {
    let engine = Engine::new(vault, namespace, application, runtime);
    let repository = engine.open()?;
    let list = |kind| engine.backend.list_with_size(kind).map_err(|error| engine.error(&error));
    // In this order: what an index names that is listed first was stored before.
    let index = list(FileType::Index)?;
    let packs: HashMap<Id, u32> = list(FileType::Pack)?.into_iter().collect();
    let mut missing = HashSet::new();
    for (id, _) in index {
        let file: IndexFile = repository.get_file(&id.into()).map_err(|error| engine.error(&error))?;
        let gone = file.packs.iter().filter(|it| packs.get(&*it.id).is_none_or(|bytes| *bytes < it.pack_size()));
        missing.extend(gone.map(|it| it.id));
    }
    if missing.is_empty() {
        return Ok(Missing::default());
    }
    let held = touched::held(&engine, &missing)?;
    let snapshots = touched::touched(&engine, &held)?;
    let packs: BTreeSet<String> = missing.iter().map(|it| it.to_hex().as_str().to_owned()).collect();
    Ok(Missing { packs: packs.into_iter().collect(), snapshots })
}

fn entry(node: &Node) -> Entry {
    let kind = match &node.node_type {
        NodeType::File => EntryKind::File,
        NodeType::Dir => EntryKind::Directory,
        NodeType::Symlink { .. } => EntryKind::Link { to: node.node_type.to_link().to_string_lossy().into_owned() },
        NodeType::Dev { .. } | NodeType::Chardev { .. } => EntryKind::Device,
        NodeType::Fifo | NodeType::Socket => EntryKind::Pipe,
    };
    Entry {
        name: node.name().to_string_lossy().into_owned(),
        kind,
        bytes: node.meta.size,
        mode: node.meta.mode.unwrap_or(0) & 0o7777,
        user: node.meta.uid.unwrap_or(0),
        group: node.meta.gid.unwrap_or(0),
        modified: node.meta.mtime.map(|it| it.to_string()),
    }
}

/// Whether one of two nodes of the same name is not what the other is, whatever lies in it.
fn differ(old: Option<&Node>, new: Option<&Node>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let attributes = |it: &Node| (it.meta.mode, it.meta.uid, it.meta.gid);
    old.node_type != new.node_type
        || old.content != new.content
        || attributes(old) != attributes(new)
        || old.meta.extended_attributes != new.meta.extended_attributes
}
