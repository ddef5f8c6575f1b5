//! Stores what lies under a directory as one snapshot, and checks that the repository has all of it.

use std::path::{Path, PathBuf};

use rustic_core::repofile::{SnapshotFile, SnapshotId};
use rustic_core::{BackupOptions, IndexedIds, ParentOptions, Repository, SnapshotOptions};

use super::check;
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::log::Witness;
use super::source::{Losses, Source};
use crate::core::mover_task::Report;

/// What is to be stored.
pub(super) struct Backup<'a> {
    pub(super) source: &'a Path,
    pub(super) host: &'a str,
    pub(super) label: &'a str,
    pub(super) tags: [String; 3],
}

/// Makes the snapshot.
pub(super) fn back_up(engine: &Engine, backup: &Backup<'_>, witness: &Witness) -> Result<Report, MoverError> {
    if !backup.source.is_dir() {
        return Err(MoverError::Task(format!("`source`: `{}` is not a directory", backup.source.display())));
    }
    engine.steadily(|| attempt(engine, backup, witness))
}

fn attempt(engine: &Engine, backup: &Backup<'_>, witness: &Witness) -> Result<Report, MoverError> {
    engine.meter.phase("reading the index");
    let repository = engine.open_or_make()?.to_indexed_ids().map_err(|error| engine.error(&error))?;
    let losses = Losses::default();
    let snapshot = archive(engine, &repository, backup, &losses)?;
    drop(repository);
    engine.meter.phase("checking");
    check::new_snapshot(engine, &snapshot)?;
    Ok(report(&snapshot, &losses, witness))
}

fn archive(
    engine: &Engine,
    repository: &Repository<impl IndexedIds>,
    backup: &Backup<'_>,
    losses: &Losses,
) -> Result<SnapshotFile, MoverError> {
    let error = |error: Box<rustic_core::RusticError>| engine.error(&error);
    let mut options = SnapshotOptions::default().host(backup.host.to_owned()).label(backup.label.to_owned());
    for tag in &backup.tags {
        options = options.add_tags(tag).map_err(error)?;
    }
    let snapshot = options.command("reprise mover".to_owned()).to_snapshot().map_err(error)?;
    let source = Source::new(backup.source, losses.clone()).map_err(error)?;
    let options =
        BackupOptions::default().as_path(PathBuf::from("/").join(ROOT)).no_scan(true).parent_opts(parent_options());
    repository.archive(&options, &source, snapshot, &[backup.source.to_owned()]).map_err(error)
}

/// The region does not matter for what is compared with: after a failover the snapshots of the other region are the
/// newest ones of the label.
///
/// A file is taken for unchanged when its size, mtime and ctime are: a snapshot of a volume keeps the ctime, a restored
/// volume has new ones and is read in whole once. Inodes are not compared: the engine does that only when it is told to
/// ignore them.
fn parent_options() -> ParentOptions {
    ParentOptions::default().group_by(Some("label,paths".parse().expect("it is a list of known criteria")))
}

fn report(snapshot: &SnapshotFile, losses: &Losses, witness: &Witness) -> Report {
    let summary = snapshot.summary.clone().unwrap_or_default();
    let (mut unreadable, mut unreadable_files) = losses.seen();
    // The engine also says what it leaves out; should it leave out more than was seen here, its word counts.
    let seen = witness.seen();
    if seen.skipped > unreadable {
        unreadable = seen.skipped;
        unreadable_files.extend(seen.first_skipped);
        unreadable_files.truncate(20);
    }
    Report {
        snapshot: Some(id_text(snapshot.id)),
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        added_bytes: summary.data_added_packed,
        unreadable,
        unreadable_files,
        warnings: seen.others,
        first_warnings: seen.first_others,
        ..Report::default()
    }
}

pub(super) fn id_text(id: SnapshotId) -> String {
    id.to_hex().as_str().to_owned()
}
