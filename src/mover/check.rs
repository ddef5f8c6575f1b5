//! Whether a repository has all that a snapshot needs.
//!
//! After each backup the snapshot is read back from the vault, and every pack that the index names must be listed
//! with its full size. Trees are compared with the parent's, and only where they differ is every blob looked up; so
//! the price follows what has changed. `verify` looks up every blob of every tree.

use std::collections::{HashMap, HashSet};

use rustic_core::repofile::{IndexFile, SnapshotFile, Tree};
use rustic_core::{
    BlobId, CheckOptions, FileType, Id, IndexedTree, OpenStatus, ReadBackend, ReadSubsetOption, Repository, TreeId,
};

use super::engine::Engine;
use super::error::MoverError;
use crate::core::mover_task::Report;

/// How many trees may wait to be walked.
const WAITING: usize = 10_000_000;

/// So many packs that are not in the list are asked for one by one.
const ASKED: usize = 100;

/// What the index promises, as far as packs are there to keep it.
struct Inventory {
    blobs: HashSet<BlobId>,
    /// What is only in packs that a prune has marked: readers do not look there.
    marked: HashSet<BlobId>,
    missing_packs: Vec<String>,
}

/// Checks a snapshot that was just made.
pub(super) fn new_snapshot(engine: &Engine, made: &SnapshotFile) -> Result<(), MoverError> {
    let repository = engine.open()?;
    let id = super::backup::id_text(made.id);
    let snapshot = snapshot(engine, &repository, &id)?;
    if snapshot.tree != made.tree {
        return Err(MoverError::Corrupt(format!("snapshot {id} is not what was written")));
    }
    let inventory = inventory(engine, &repository)?;
    let parent = match snapshot.parent.filter(|_| inventory.missing_packs.is_empty()) {
        Some(parent) => Some(self::snapshot(engine, &repository, &super::backup::id_text(parent))?.tree),
        None => None,
    };
    let repository = repository.to_indexed_ids().map_err(|error| engine.error(&error))?;
    Walk::new(engine, &repository, &inventory).run(snapshot.tree, parent)
}

/// Checks snapshots in full, and reads a part of their data.
pub(super) fn verify(engine: &Engine, snapshots: &[String], read_percent: u8) -> Result<Report, MoverError> {
    engine.steadily(|| attempt(engine, snapshots, read_percent))
}

fn attempt(engine: &Engine, snapshots: &[String], read_percent: u8) -> Result<Report, MoverError> {
    let repository = engine.open()?;
    let inventory = inventory(engine, &repository)?;
    let mut report = Report::default();
    let mut trees = Vec::new();
    for id in snapshots {
        let snapshot = snapshot(engine, &repository, id)?;
        let summary = snapshot.summary.clone().unwrap_or_default();
        report.files += summary.total_files_processed;
        report.bytes += summary.total_bytes_processed;
        trees.push(snapshot.tree);
    }
    let repository = repository.to_indexed_ids().map_err(|error| engine.error(&error))?;
    let mut walk = Walk::new(engine, &repository, &inventory);
    for tree in &trees {
        walk.run(*tree, None)?;
    }
    if read_percent > 0 {
        read(engine, &repository.drop_index(), trees, read_percent)?;
    }
    Ok(report)
}

/// Reads packs, decrypts all that is in them and compares it with its checksums.
fn read(
    engine: &Engine,
    repository: &Repository<OpenStatus>,
    trees: Vec<TreeId>,
    percent: u8,
) -> Result<(), MoverError> {
    let subset = if percent >= 100 { ReadSubsetOption::All } else { ReadSubsetOption::Percentage(f64::from(percent)) };
    let options = CheckOptions::default().read_data(true).read_data_subset(subset);
    let findings = repository.check_with_trees(options, trees).map_err(|error| engine.error(&error))?;
    // Packs that are missing have been found before, and matter only where a snapshot needs them.
    let finding = findings.0.iter().map(|(_, finding)| finding.to_string()).find(|text| {
        ["error reading pack", "error checking pack", "error checking trees"].iter().any(|what| text.starts_with(what))
    });
    match (engine.health().corrupt(), engine.health().failure(), finding) {
        (Some(what), _, _) => Err(MoverError::Corrupt(what)),
        (None, Some(error), _) => Err(MoverError::Vault(error.into())),
        (None, None, Some(text)) => {
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            Err(MoverError::Corrupt(line.chars().take(300).collect()))
        }
        (None, None, None) => Ok(()),
    }
}

/// Reads a snapshot by its full id.
pub(super) fn snapshot(
    engine: &Engine,
    repository: &Repository<OpenStatus>,
    id: &str,
) -> Result<SnapshotFile, MoverError> {
    let full: Id = id.parse().map_err(|_| MoverError::Task(format!("`{id}` is not a snapshot's id")))?;
    repository.get_file(&full.into()).map_err(|error| engine.error(&error))
}

fn inventory(engine: &Engine, repository: &Repository<OpenStatus>) -> Result<Inventory, MoverError> {
    let listed: HashMap<Id, u32> =
        engine.backend.list_with_size(FileType::Pack).map_err(|error| engine.error(&error))?.into_iter().collect();
    let mut inventory = Inventory { blobs: HashSet::new(), marked: HashSet::new(), missing_packs: Vec::new() };
    for index in repository.stream_files::<IndexFile>().map_err(|error| engine.error(&error))? {
        let (_, index) = index.map_err(|error| engine.error(&error))?;
        for pack in index.packs {
            let mut size = listed.get(&*pack.id).map(|size| u64::from(*size));
            if size.is_none() && inventory.missing_packs.len() < ASKED {
                // It may be younger than the list: a prune packs anew.
                size = engine.backend.size(FileType::Pack, &pack.id).map_err(|error| engine.error(&error))?;
            }
            if size.is_some_and(|size| size >= u64::from(pack.pack_size())) {
                inventory.blobs.extend(pack.blobs.iter().map(|blob| blob.id));
            } else {
                inventory.missing_packs.push(pack.id.to_hex().as_str().to_owned());
            }
        }
        inventory.marked.extend(index.packs_to_delete.iter().flat_map(|pack| pack.blobs.iter().map(|blob| blob.id)));
    }
    Ok(inventory)
}

/// A walk over trees, each once.
struct Walk<'a, S> {
    engine: &'a Engine,
    repository: &'a Repository<S>,
    inventory: &'a Inventory,
    done: HashSet<TreeId>,
}

impl<'a, S: IndexedTree> Walk<'a, S> {
    fn new(engine: &'a Engine, repository: &'a Repository<S>, inventory: &'a Inventory) -> Self {
        Self { engine, repository, inventory, done: HashSet::new() }
    }

    fn run(&mut self, tree: TreeId, parent: Option<TreeId>) -> Result<(), MoverError> {
        let mut waiting = vec![(tree, parent)];
        while let Some((tree, parent)) = waiting.pop() {
            if parent == Some(tree) || !self.done.insert(tree) {
                continue;
            }
            self.engine.meter.step();
            self.has(BlobId::from(*tree), "a directory")?;
            let nodes = self.tree(tree)?;
            let before = match parent {
                Some(parent) => self.tree(parent)?.nodes,
                None => Vec::new(),
            };
            let before: HashMap<&str, Option<TreeId>> =
                before.iter().map(|node| (node.name.as_str(), node.subtree)).collect();
            for node in &nodes.nodes {
                for blob in node.content.iter().flatten() {
                    self.has(BlobId::from(**blob), &node.name)?;
                }
                if let Some(subtree) = node.subtree {
                    waiting.push((subtree, before.get(node.name.as_str()).copied().flatten()));
                }
            }
            if waiting.len() > WAITING {
                return Err(MoverError::Engine(format!("more than {WAITING} directories at once")));
            }
        }
        Ok(())
    }

    fn tree(&self, id: TreeId) -> Result<Tree, MoverError> {
        self.repository.get_tree(&id).map_err(|error| self.engine.error(&error))
    }

    fn has(&self, blob: BlobId, of: &str) -> Result<(), MoverError> {
        if self.inventory.blobs.contains(&blob) {
            return Ok(());
        }
        if self.inventory.marked.contains(&blob) {
            return Err(MoverError::Marked);
        }
        let packs = match self.inventory.missing_packs.first() {
            Some(pack) => {
                format!("{} packs are missing, as `data/{}/{pack}`", self.inventory.missing_packs.len(), &pack[..2])
            }
            None => "no index names it".to_owned(),
        };
        Err(MoverError::Corrupt(format!("data of `{of}` is missing: {packs}")))
    }
}
