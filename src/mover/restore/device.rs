//! Makes a block device equal to the one that a snapshot was made of. What it has beyond that stays as it is.

use std::path::Path;

use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{IndexedFull, ProgressBars, ProgressType, Repository, TreeId};
use rustix::fs::OFlags;

use super::super::device;
use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::log::Witness;
use super::files::{Target, open};
use super::window::{Window, Workshop};
use super::{report, volume};
use crate::core::{mover_progress::RESTORING, mover_task::Report};

/// So many pieces of a device are worked on as if they were one file, and so many of these at a time.
const PIECES: usize = 64;
const PARTS: usize = 16;

/// Restores into a device that is there.
pub(super) fn restore<S: IndexedFull + Sync>(
    engine: &Engine,
    (repository, snapshot, tree): (&Repository<S>, &SnapshotFile, TreeId),
    target: &Path,
    witness: &Witness,
) -> Result<Report, MoverError> {
    let mut nodes = repository.get_tree(&tree).map_err(|error| engine.error(&error))?.nodes;
    let file = nodes.pop().filter(|it| nodes.is_empty() && it.is_file() && it.name == device::NAME);
    let file = file.ok_or_else(|| MoverError::Task("the snapshot is not one of a block device".to_owned()))?;
    let device = open(target, OFlags::RDWR).map_err(|error| volume(&error, target))?;
    let there = device::size(&device).map_err(|error| volume(&error, target))?;
    if there < file.meta.size {
        let what = format!("{} has {there} bytes, and the snapshot {}", target.display(), file.meta.size);
        return Err(MoverError::Volume(what));
    }
    let progress = engine.meter.progress(ProgressType::Bytes, RESTORING);
    progress.set_length(file.meta.size);
    let workshop = Workshop { engine, repository, witness, progress: &progress };
    let mut parts = parts(engine, repository, file, target)?.into_iter();
    let mut transferred = 0;
    loop {
        let files: Vec<Target> = parts.by_ref().take(PARTS).collect();
        if files.is_empty() {
            break;
        }
        transferred += workshop.carry_out(&Window { files, ..Window::default() })?;
    }
    engine.meter.files(1);
    engine.meter.phase("flushing");
    device.sync_all().map_err(|error| volume(&error, target))?;
    Ok(report(snapshot, transferred, witness))
}

/// The device in parts, each with its place on it.
fn parts<S: IndexedFull>(
    engine: &Engine,
    repository: &Repository<S>,
    mut file: Node,
    target: &Path,
) -> Result<Vec<Target>, MoverError> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    for ids in file.content.take().unwrap_or_default().chunks(PIECES) {
        let mut size = 0;
        for id in ids {
            let entry = repository.get_index_entry(id).map_err(|error| engine.error(&error))?;
            size += u64::from(entry.data_length());
        }
        let mut node = file.clone();
        node.content = Some(ids.to_vec());
        node.meta.size = size;
        parts.push(Target::part(target.to_owned(), node, begin));
        begin += size;
    }
    if begin == file.meta.size {
        Ok(parts)
    } else {
        Err(MoverError::Corrupt(format!("the snapshot's device has {} bytes, and its pieces {begin}", file.meta.size)))
    }
}
