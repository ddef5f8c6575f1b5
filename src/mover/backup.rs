//! Stores what lies under a directory, or on a block device (`device`), as one snapshot, and checks that the repository has all of it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustic_core::jiff::Zoned;
use rustic_core::repofile::{Node, SnapshotFile, SnapshotId, SnapshotSummary};
use rustic_core::{FileType, OpenStatus, ProgressBars, ProgressType, Repository, SnapshotOptions};

use super::archive::{self, Archive, Change, Counts, Store};
use super::check;
use super::device::{self, is_device};
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::exclude::Exclusions;
use super::index::Index;
use super::log::Witness;
use super::source::{self, Losses};
use crate::core::mover_task::Report;

/// What is to be stored.
pub(super) struct Backup<'a> {
    pub(super) source: &'a Path,
    pub(super) host: &'a str,
    pub(super) label: &'a str,
    pub(super) tags: [String; 3],
    /// Patterns of what is left out.
    pub(super) exclude: &'a [String],
}

/// Makes the snapshot.
pub(super) fn back_up(engine: &Engine, backup: &Backup<'_>, witness: &Witness) -> Result<Report, MoverError> {
    if !backup.source.is_dir() && !is_device(backup.source) {
        let what = format!("`source`: `{}` is neither a directory nor a block device", backup.source.display());
        return Err(MoverError::Task(what));
    }
    // Patterns that are none end it before a repository is made.
    Exclusions::new(backup.source, backup.exclude)?;
    engine.steadily(|| attempt(engine, backup, witness))
}

fn attempt(engine: &Engine, backup: &Backup<'_>, witness: &Witness) -> Result<Report, MoverError> {
    engine.meter.phase("reading the index");
    let repository = engine.open_or_make()?;
    let losses = Losses::default();
    let exclusions = Exclusions::new(backup.source, backup.exclude)?;
    let snapshot = archive(engine, &repository, backup, (&losses, &exclusions), witness)?;
    drop(repository);
    engine.meter.phase("checking");
    check::new_snapshot(engine, &snapshot)?;
    Ok(report(&snapshot, (&losses, &exclusions), witness))
}

fn archive(
    engine: &Engine,
    repository: &Repository<OpenStatus>,
    backup: &Backup<'_>,
    (losses, exclusions): (&Losses, &Exclusions),
    witness: &Witness,
) -> Result<SnapshotFile, MoverError> {
    let error = |error: Box<rustic_core::RusticError>| engine.error(&error);
    let mut snapshot = describe(backup).map_err(error)?;
    let index = Index::read(engine, repository, None)?;
    let parent = parent(engine, repository, &snapshot)?;
    let before = match &parent {
        Some(parent) => {
            let nodes = index.tree(engine, parent.tree)?.nodes;
            nodes.iter().find(|node| node.name == ROOT).and_then(|node| node.subtree)
        }
        None => None,
    };
    let config = repository.config();
    let level = config.zstd().map_err(error)?.unwrap_or(0);
    let store = Store::new(engine, &index, level, config.extra_verify());
    let progress = engine.meter.progress(ProgressType::Bytes, "backing up");
    let started = Zoned::now();
    let (tree, counts) = if is_device(backup.source) {
        device::store(engine, &store, backup.source, &progress)?
    } else {
        let chunker = archive::chunker(engine, config)?;
        let archive = Archive::new((engine, &index, &store), chunker, (losses, exclusions, witness), &progress);
        let tree = archive.run(backup.source.to_owned(), root(backup.source, witness)?, before)?;
        (tree, archive.counts)
    };
    store.finish()?;
    snapshot.tree = tree;
    // A termination message has no room for many names: they are found here again.
    let (unreadable, first) = losses.seen();
    snapshot.description = (unreadable > 0).then(|| {
        let names = first.iter().map(|it| it.replace('\n', "\\n"));
        std::iter::once(format!("{unreadable} could not be read")).chain(names).collect::<Vec<_>>().join("\n")
    });
    snapshot.parent = parent.as_ref().map(|parent| parent.id);
    snapshot.parents = snapshot.parent.into_iter().collect();
    snapshot.summary = Some(summary(&counts, &store, &started, &snapshot.time));
    snapshot.id = SnapshotId::from(store.save(FileType::Snapshot, &snapshot)?);
    Ok(snapshot)
}

/// A snapshot with all but its content.
fn describe(backup: &Backup<'_>) -> rustic_core::RusticResult<SnapshotFile> {
    let mut options = SnapshotOptions::default().host(backup.host.to_owned()).label(backup.label.to_owned());
    for tag in &backup.tags {
        options = options.add_tags(tag)?;
    }
    let mut snapshot = options.command("reprise mover".to_owned()).to_snapshot()?;
    snapshot.paths.add(format!("/{ROOT}"));
    Ok(snapshot)
}

/// The snapshot that this one is compared with: the newest of its label. The region does not matter: after a failover
/// the snapshots of the other region are the newest ones.
///
/// A file is taken for unchanged when its size, mtime and ctime are: a snapshot of a volume keeps the ctime, a restored
/// volume has new ones and is read in whole once.
pub(super) fn parent(
    engine: &Engine,
    repository: &Repository<OpenStatus>,
    of: &SnapshotFile,
) -> Result<Option<SnapshotFile>, MoverError> {
    let like = |it: &SnapshotFile| it.label == of.label && it.paths == of.paths;
    let found = repository.get_matching_snapshots(like).map_err(|error| engine.error(&error))?;
    Ok(found.into_iter().filter(|it| it.time <= of.time).max_by(|a, b| a.time.cmp(&b.time)))
}

fn root(source: &Path, witness: &Witness) -> Result<Node, MoverError> {
    let node = source::node(source, witness);
    let mut node = node.map_err(|error| MoverError::Volume(format!("{}: {}", source.display(), error.kind())))?;
    ROOT.clone_into(&mut node.name);
    Ok(node)
}

fn summary(counts: &Counts, store: &Store<'_>, started: &Zoned, time: &Zoned) -> SnapshotSummary {
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let of = |counts: &[AtomicU64; 3], change: Change| load(&counts[change as usize]);
    let since = |begin: &Zoned| begin.duration_until(&Zoned::now()).as_secs_f64();
    let (data, trees) = (&store.data_written, &store.trees_written);
    let mut summary = SnapshotSummary::default();
    summary.files_new = of(&counts.files, Change::New);
    summary.files_changed = of(&counts.files, Change::Changed);
    summary.files_unmodified = of(&counts.files, Change::Unchanged);
    summary.total_files_processed = counts.files.iter().map(load).sum();
    summary.total_bytes_processed = load(&counts.bytes);
    summary.dirs_new = of(&counts.folders, Change::New);
    summary.dirs_changed = of(&counts.folders, Change::Changed);
    summary.dirs_unmodified = of(&counts.folders, Change::Unchanged);
    summary.total_dirs_processed = counts.folders.iter().map(load).sum();
    summary.total_dirsize_processed = load(&counts.folder_bytes);
    summary.data_blobs = load(&data.blobs);
    summary.tree_blobs = load(&trees.blobs);
    summary.data_added_files = load(&data.bytes);
    summary.data_added_files_packed = load(&data.packed);
    summary.data_added_trees = load(&trees.bytes);
    summary.data_added_trees_packed = load(&trees.packed);
    summary.data_added = summary.data_added_files + summary.data_added_trees;
    summary.data_added_packed = summary.data_added_files_packed + summary.data_added_trees_packed;
    "reprise mover".clone_into(&mut summary.command);
    summary.backup_start = started.clone();
    summary.backup_end = Zoned::now();
    summary.backup_duration = since(started);
    summary.total_duration = since(time);
    summary
}

fn report(snapshot: &SnapshotFile, (losses, exclusions): (&Losses, &Exclusions), witness: &Witness) -> Report {
    let summary = snapshot.summary.clone().unwrap_or_default();
    let (unreadable, unreadable_files) = losses.seen();
    let (excluded, no_backup) = exclusions.seen();
    let seen = witness.seen();
    Report {
        snapshot: Some(id_text(snapshot.id)),
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        added_bytes: summary.data_added_packed,
        unreadable,
        unreadable_files,
        excluded,
        no_backup,
        warnings: seen.count,
        first_warnings: seen.first,
        ..Report::default()
    }
}

pub(super) fn id_text(id: SnapshotId) -> String {
    id.to_hex().as_str().to_owned()
}
