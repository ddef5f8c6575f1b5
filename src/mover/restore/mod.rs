//! Makes a directory equal to a snapshot, and transfers only what differs.
//!
//! `walk` removes what does not belong there and makes the directories, `window` fetches what files lack, `files` writes
//! it, `attributes` sets what else is kept. All goes by windows of some thousand files, so that memory does not grow
//! with the volume. Afterwards everything is flushed to the disk, and looked at once more (`compare`).
//!
//! Kept: content, modes, owners (numeric), times, extended attributes, symbolic and hard links, fifos, sockets and
//! devices (these with the rights to make them). Files that the restore makes have holes where they are empty. What
//! can't be set is reported as a warning.

mod attributes;
mod compare;
mod files;
mod walk;
mod window;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{IndexedFull, ProgressBars, ProgressType, TreeId};

use self::walk::{Counted, Walk};
use self::window::Workshop;
use super::check;
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::log::Witness;
use super::source::unix_mode;
use crate::core::mover_progress::RESTORING;
use crate::core::mover_task::Report;
use crate::core::paths::Paths;

const LOST_AND_FOUND: &str = "lost+found";

/// Restores a snapshot, or some paths of it, into a directory that is there. With paths nothing else is touched.
pub(super) fn restore(
    engine: &Engine,
    id: &str,
    target: &Path,
    paths: Option<&Paths>,
    witness: &Witness,
) -> Result<Report, MoverError> {
    // A directory that is not there is a volume that is not mounted: nothing must be written beside it.
    if !target.is_dir() {
        return Err(MoverError::Task(format!("`target`: `{}` is not a directory", target.display())));
    }
    engine.meter.phase("reading the index");
    let (repository, snapshot) = engine.steadily(|| {
        let repository = engine.open()?;
        let snapshot = check::snapshot(engine, &repository, id)?;
        Ok((repository.to_indexed().map_err(|error| engine.error(&error))?, snapshot))
    })?;
    let root = repository.node_from_snapshot_and_path(&snapshot, ROOT).map_err(|error| engine.error(&error))?;
    let tree = root.subtree.ok_or_else(|| MoverError::Corrupt(format!("snapshot {id} has no directory")))?;
    let size = snapshot.summary.as_ref().map_or(0, |summary| summary.total_bytes_processed);
    let progress = engine.meter.progress(ProgressType::Bytes, RESTORING);
    progress.set_length(if paths.is_none() { size } else { 0 });
    let workshop = Workshop { engine, repository: &repository, witness, progress: &progress };
    let (counted, transferred) = transfer(&workshop, tree, target, paths)?;
    if paths.is_none() {
        set_root(&root, target, witness);
    }
    engine.meter.phase("flushing");
    flush(target).map_err(|error| volume(&error, target))?;
    engine.meter.phase("comparing");
    match paths {
        None => compare::compare(engine, &repository, tree, target)?,
        Some(paths) => compare::compare_paths(engine, &repository, tree, target, paths)?,
    }
    let report = report(&snapshot, id, transferred, witness);
    Ok(if paths.is_none() { report } else { Report { files: counted.files, bytes: counted.bytes, ..report } })
}

/// Makes what lies in the directory equal to the snapshot; returns what that was, and how many bytes were transferred. The
/// walk is one window ahead.
fn transfer<S: IndexedFull + Sync>(
    workshop: &Workshop<'_, S>,
    tree: TreeId,
    target: &Path,
    paths: Option<&Paths>,
) -> Result<(Counted, u64), MoverError> {
    std::thread::scope(|scope| {
        let (sender, windows) = sync_channel(0);
        let only = paths.map(|paths| (paths, target));
        let walk = Walk::new(workshop.engine, workshop.repository, workshop.witness, only, sender);
        let thread = scope.spawn(move || walk.run(tree, target));
        let transferred = windows.into_iter().map(|window| workshop.carry_out(&window)).sum::<Result<u64, _>>();
        let walked = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((walked?, transferred?))
    })
}

fn report(snapshot: &SnapshotFile, id: &str, transferred: u64, witness: &Witness) -> Report {
    let summary = snapshot.summary.clone().unwrap_or_default();
    let seen = witness.seen();
    Report {
        snapshot: Some(id.to_owned()),
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        added_bytes: transferred,
        warnings: seen.count,
        first_warnings: seen.first,
        ..Report::default()
    }
}

pub(super) fn volume(error: &io::Error, path: &Path) -> MoverError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MoverError::VolumeFull,
        kind => MoverError::Volume(format!("{}: {kind}", path.display())),
    }
}

/// Gives the directory itself the owner, mode and time that it had, as far as this process may.
fn set_root(root: &Node, target: &Path, witness: &Witness) {
    let meta = &root.meta;
    let say = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            witness.note(&format!("restore of the directory itself: setting its {what} failed: {}", error.kind()));
        }
    };
    say("UID/GID", std::os::unix::fs::chown(target, meta.uid, meta.gid));
    if let Some(mode) = meta.mode {
        say("mode", fs::set_permissions(target, Permissions::from_mode(unix_mode(mode))));
    }
    if let Some(time) = meta.mtime {
        let times = fs::FileTimes::new().set_modified(time.into()).set_accessed(time.into());
        say("time", File::open(target).and_then(|folder| folder.set_times(times)));
    }
}

/// Brings everything to the disk: an error that the file system kept back comes out here.
pub(super) fn flush(target: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(target)?).map_err(io::Error::from)
}
