//! Locks all that some snapshots need until a moment: their packs, and what is needed to find these.
//!
//! For how long what is written is locked anyway, and how that is extended, is `vault`'s.

use jiff::Timestamp;
use rustic_core::{FileType, Id};

use super::check;
use super::engine::Engine;
use super::error::MoverError;
use crate::core::mover_task::Report;

/// Locks them, and reads the locks back. May be begun again: what is locked for long enough is only looked at.
pub(super) fn lock(engine: &Engine, snapshots: &[String], until: Timestamp) -> Result<Report, MoverError> {
    engine.steadily(|| attempt(engine, snapshots, until))
}

fn attempt(engine: &Engine, snapshots: &[String], until: Timestamp) -> Result<Report, MoverError> {
    engine.meter.phase("looking for what is needed");
    let packs = check::packs(engine, snapshots)?;
    engine.meter.phase("locking");
    let mut files = vec![(FileType::Config, Id::default())];
    for kind in [FileType::Key, FileType::Index] {
        let all = engine.backend.files(kind).map_err(|error| engine.error(&error))?;
        files.extend(all.into_iter().map(|(id, ..)| (kind, id)));
    }
    let ids = snapshots.iter().filter_map(|id| id.parse::<Id>().ok());
    files.extend(ids.map(|id| (FileType::Snapshot, id)));
    files.extend(packs.into_iter().map(|id| (FileType::Pack, id)));
    engine.backend.lock(&files, until).map_err(|error| engine.error(&error))?;
    tracing::info!(files = files.len(), %until, "locked");
    Ok(Report::default())
}
