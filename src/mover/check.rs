//! Whether a repository has all that a snapshot needs.
//!
//! After each backup the snapshot is read back from the vault, and every pack that the index names must be listed
//! with its full size. Trees are compared with the parent's, and only where they differ is every blob looked up; so
//! the price follows what has changed. `verify` looks up every blob of every tree.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use rustic_core::repofile::{PackId, SnapshotFile};
use rustic_core::{
    BlobId, CheckOptions, FileType, Id, Open, OpenStatus, ReadBackend, ReadSubsetOption, Repository, TreeId,
};

use super::engine::Engine;
use super::error::MoverError;
use super::index::Index;
use super::parallel;
use crate::core::mover_task::Report;

/// Checks a snapshot that was just made.
pub(super) fn new_snapshot(engine: &Engine, made: &SnapshotFile) -> Result<(), MoverError> {
    let repository = engine.open()?;
    let id = super::backup::id_text(made.id);
    let snapshot = snapshot(engine, &repository, &id)?;
    if snapshot.tree != made.tree {
        return Err(MoverError::Corrupt(format!("snapshot {id} is not what was written")));
    }
    let index = index(engine, &repository)?;
    let parent = match snapshot.parent.filter(|_| index.missing_packs.is_empty()) {
        Some(parent) => Some(self::snapshot(engine, &repository, &super::backup::id_text(parent))?.tree),
        None => None,
    };
    self::trees(engine, &index, vec![(snapshot.tree, parent)])
}

/// Checks snapshots in full, and reads a part of their data.
pub(super) fn verify(engine: &Engine, snapshots: &[String], read_percent: u8) -> Result<Report, MoverError> {
    engine.steadily(|| attempt(engine, snapshots, read_percent))
}

fn attempt(engine: &Engine, snapshots: &[String], read_percent: u8) -> Result<Report, MoverError> {
    let repository = engine.open()?;
    let index = index(engine, &repository)?;
    let mut report = Report::default();
    let mut trees = Vec::new();
    for id in snapshots {
        let snapshot = snapshot(engine, &repository, id)?;
        let summary = snapshot.summary.clone().unwrap_or_default();
        report.files += summary.total_files_processed;
        report.bytes += summary.total_bytes_processed;
        trees.push(snapshot.tree);
    }
    self::trees(engine, &index, trees.iter().map(|tree| (*tree, None)).collect())?;
    if read_percent > 0 {
        read(engine, &repository, trees, read_percent)?;
    }
    Ok(report)
}

/// The packs that hold what the snapshots need.
pub(super) fn packs(engine: &Engine, snapshots: &[String]) -> Result<HashSet<Id>, MoverError> {
    let repository = engine.open()?;
    let index = index(engine, &repository)?;
    let trees = snapshots.iter().map(|id| Ok((snapshot(engine, &repository, id)?.tree, None)));
    let walk = Walk { packs: Some(Mutex::default()), ..Walk::new(engine, &index) };
    walk.run(trees.collect::<Result<_, MoverError>>()?)?;
    let packs = walk.packs.unwrap_or_default().into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(packs.into_iter().map(|pack| *pack).collect())
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
pub(super) fn snapshot<S: Open>(
    engine: &Engine,
    repository: &Repository<S>,
    id: &str,
) -> Result<SnapshotFile, MoverError> {
    let full: Id = id.parse().map_err(|_| MoverError::Task(format!("`{id}` is not a snapshot's id")))?;
    let snapshot: SnapshotFile = repository.get_file(&full.into()).map_err(|error| engine.error(&error))?;
    // The file does not have its own name in it.
    Ok(SnapshotFile { id: full.into(), ..snapshot })
}

/// What the index promises, as far as packs are there to keep it.
pub(super) fn index(engine: &Engine, repository: &Repository<OpenStatus>) -> Result<Index, MoverError> {
    let listed = engine.backend.list_with_size(FileType::Pack).map_err(|error| engine.error(&error))?;
    Index::read(engine, repository, Some(&listed.into_iter().collect()))
}

/// Looks up what trees need, each but for what it has in common with the one it is compared with.
pub(super) fn trees(engine: &Engine, index: &Index, trees: Vec<(TreeId, Option<TreeId>)>) -> Result<(), MoverError> {
    Walk::new(engine, index).run(trees)
}

/// A walk over trees, each once.
struct Walk<'a> {
    engine: &'a Engine,
    index: &'a Index,
    done: Mutex<HashSet<TreeId>>,
    /// The packs that were come by, when they are wanted.
    packs: Option<Mutex<HashSet<PackId>>>,
}

impl<'a> Walk<'a> {
    fn new(engine: &'a Engine, index: &'a Index) -> Self {
        Self { engine, index, done: Mutex::default(), packs: None }
    }

    /// Walks from some trees, each with what it is compared with.
    fn run(&self, trees: Vec<(TreeId, Option<TreeId>)>) -> Result<(), MoverError> {
        parallel::descend(
            parallel::processors(),
            trees,
            || (),
            |(), queue, (tree, parent)| {
                let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
                if parent == Some(tree) || !done.insert(tree) {
                    return Ok(());
                }
                drop(done);
                self.engine.meter.step();
                queue.push(self.look(tree, parent)?);
                Ok(())
            },
        )
    }

    /// Looks everything up that a tree names; returns the trees in it.
    fn look(&self, tree: TreeId, parent: Option<TreeId>) -> Result<Vec<(TreeId, Option<TreeId>)>, MoverError> {
        if !self.index.has_tree(BlobId::from(tree)) {
            return Err(self.missing(BlobId::from(tree), "a directory"));
        }
        let nodes = self.index.tree(self.engine, tree)?.nodes;
        let before = match parent {
            Some(parent) => self.index.tree(self.engine, parent)?.nodes,
            None => Vec::new(),
        };
        let before: HashMap<&str, Option<TreeId>> =
            before.iter().map(|node| (node.name.as_str(), node.subtree)).collect();
        if let Some(packs) = &self.packs {
            let content = nodes.iter().flat_map(|node| node.content.iter().flatten()).map(|blob| BlobId::from(*blob));
            let found = content.filter_map(|blob| self.index.pack_of_data(blob));
            let found: HashSet<PackId> = found.chain(self.index.pack_of_tree(BlobId::from(tree))).collect();
            packs.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
        let mut below = Vec::new();
        for node in &nodes {
            let mut content = node.content.iter().flatten().map(|blob| BlobId::from(*blob));
            if let Some(blob) = content.find(|blob| !self.index.has_data(*blob)) {
                return Err(self.missing(blob, &node.name));
            }
            if let Some(subtree) = node.subtree {
                below.push((subtree, before.get(node.name.as_str()).copied().flatten()));
            }
        }
        Ok(below)
    }

    fn missing(&self, blob: BlobId, of: &str) -> MoverError {
        if self.index.marked.contains(&blob) {
            return MoverError::Marked;
        }
        let packs = match self.index.missing_packs.first() {
            Some(pack) => {
                format!("{} packs are missing, as `data/{}/{pack}`", self.index.missing_packs.len(), &pack[..2])
            }
            None => "no index names it".to_owned(),
        };
        MoverError::Corrupt(format!("data of `{of}` is missing: {packs}"))
    }
}
