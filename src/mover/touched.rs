//! Which snapshots need packs that are damaged or missing: their directories are walked, each once.
//!
//! One after the other, since this is done only when something is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use rustic_core::repofile::{IndexFile, IndexPack, PackId, SnapshotFile};
use rustic_core::{BlobId, TreeId};

use super::engine::Engine;
use super::error::MoverError;
use super::index::Index;

/// What the index says is in these packs.
pub(super) fn held(engine: &Engine, wanted: &HashSet<PackId>) -> Result<BTreeMap<String, Vec<BlobId>>, MoverError> {
    let mut held = BTreeMap::new();
    for file in engine.open()?.stream_files::<IndexFile>().map_err(|error| engine.error(&error))? {
        let (_, file) = file.map_err(|error| engine.error(&error))?;
        let packs = file.packs.iter().filter(|pack| wanted.contains(&pack.id));
        held.extend(packs.map(|pack| (pack.id.to_hex().as_str().to_owned(), blobs(pack))));
    }
    Ok(held)
}

/// What the index says is in a pack.
pub(super) fn blobs(pack: &IndexPack) -> Vec<BlobId> {
    pack.blobs.iter().map(|blob| blob.id).collect()
}

/// The snapshots that need one of these packs.
pub(super) fn touched(engine: &Engine, damaged: &BTreeMap<String, Vec<BlobId>>) -> Result<HashSet<String>, MoverError> {
    let blobs: HashSet<BlobId> = damaged.values().flatten().copied().collect();
    let repository = engine.open()?;
    let index = Index::read(engine, &repository, None)?;
    let mut judged = HashMap::new();
    let mut touched = HashSet::new();
    for file in repository.stream_files::<SnapshotFile>().map_err(|error| engine.error(&error))? {
        let (id, snapshot) = file.map_err(|error| engine.error(&error))?;
        if needs(engine, &index, snapshot.tree, &blobs, &mut judged)? {
            touched.insert(id.to_hex().as_str().to_owned());
        }
    }
    Ok(touched)
}

/// Whether a directory, or one in it, needs one of these blobs.
fn needs(
    engine: &Engine,
    index: &Index,
    root: TreeId,
    damaged: &HashSet<BlobId>,
    judged: &mut HashMap<TreeId, bool>,
) -> Result<bool, MoverError> {
    // Directories on the way down, each with those in it that were not looked at yet.
    let mut way: Vec<(TreeId, Vec<TreeId>, bool)> = Vec::new();
    let mut next = Some(root);
    loop {
        if let Some(tree) = next.take() {
            if let Some(bad) = judged.get(&tree) {
                if let Some(above) = way.last_mut() {
                    above.2 |= *bad;
                } else {
                    return Ok(*bad);
                }
            } else if damaged.contains(&BlobId::from(tree)) || !index.has_tree(BlobId::from(tree)) {
                judged.insert(tree, true);
                next = Some(tree);
                continue;
            } else {
                engine.meter.step();
                let nodes = match index.tree(engine, tree) {
                    Ok(tree) => tree.nodes,
                    // Another round's pack: it is as bad for who needs it.
                    Err(MoverError::Corrupt(_)) => {
                        judged.insert(tree, true);
                        next = Some(tree);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let mut content = nodes.iter().flat_map(|node| node.content.iter().flatten());
                let bad = content.any(|blob| damaged.contains(&BlobId::from(*blob)));
                // What is bad by itself needs no look below.
                let below = if bad { Vec::new() } else { nodes.iter().filter_map(|node| node.subtree).collect() };
                way.push((tree, below, bad));
            }
        }
        match way.last_mut() {
            None => return Ok(judged.get(&root).copied().unwrap_or(true)),
            Some((_, below, bad)) => {
                next = if *bad { None } else { below.pop() };
                if next.is_none() {
                    let Some((tree, _, bad)) = way.pop() else { continue };
                    judged.insert(tree, bad);
                    if let Some(above) = way.last_mut() {
                        above.2 |= bad;
                    }
                }
            }
        }
    }
}
