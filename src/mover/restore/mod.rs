//! Makes a directory, or a block device (`device`), equal to a snapshot, and transfers only what differs.
//!
//! `walk` removes what does not belong there and makes the directories, `window` fetches what files lack, `files` writes
//! it, `attributes` sets what else is kept. What is known to be there (`base`) is passed over. All goes by windows of some
//! thousand files, so that memory does not grow with the volume. Afterwards everything is flushed to the disk, and looked at once more (`compare`).
//!
//! Kept: content, modes, owners (numeric), times, extended attributes, symbolic and hard links, fifos, sockets and
//! devices (these with the rights to make them). Files that the restore makes have holes where they are empty. What
//! can't be set is reported as a warning.

mod attributes;
mod base;
mod compare;
mod device;
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

use self::base::Base;
use self::walk::{Walk, Walked};
use self::window::Workshop;
use super::backup::id_text;
use super::check;
use super::device::is_device;
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::exclude::Exclusions;
use super::log::Witness;
use super::source::unix_mode;
use crate::core::mover_progress::RESTORING;
use crate::core::mover_task::Report;
use crate::core::paths::Paths;

const LOST_AND_FOUND: &str = "lost+found";

/// Restores a snapshot into a directory that is there. With `base`, everything in it is of these snapshots, or of this one.
///
/// `exclude` are the patterns that the snapshot was made with: what they fit is left alone. With `paths` nothing but what
/// lies under these is touched.
pub(super) fn restore(
    engine: &Engine,
    (id, base): (&str, &[String]),
    (target, exclude): (&Path, &[String]),
    paths: Option<&Paths>,
    witness: &Witness,
) -> Result<Report, MoverError> {
    // A directory that is not there is a volume that is not mounted: nothing must be written beside it.
    if !target.is_dir() && !is_device(target) {
        let what = format!("`target`: `{}` is neither a directory nor a block device", target.display());
        return Err(MoverError::Task(what));
    }
    let exclusions = Exclusions::new(target, exclude)?;
    engine.meter.phase("reading the index");
    let (repository, snapshot, bases) = engine.steadily(|| {
        let repository = engine.open()?;
        let snapshot = check::snapshot(engine, &repository, id)?;
        let bases = base.iter().map(|id| check::snapshot(engine, &repository, id).ok()).collect::<Option<Vec<_>>>();
        Ok((repository.to_indexed().map_err(|error| engine.error(&error))?, snapshot, bases))
    })?;
    let root = repository.node_from_snapshot_and_path(&snapshot, ROOT).map_err(|error| engine.error(&error))?;
    let tree = root.subtree.ok_or_else(|| MoverError::Corrupt(format!("snapshot {id} has no directory")))?;
    if is_device(target) {
        return match paths {
            None => device::restore(engine, (&repository, &snapshot, tree), target, witness),
            Some(_) => Err(MoverError::Task("`paths`: a block device has no files".to_owned())),
        };
    }
    let known = |it: &SnapshotFile| repository.node_from_snapshot_and_path(it, ROOT).ok()?.subtree;
    let bases = Base::new(bases.and_then(|it| it.iter().map(known).collect()).unwrap_or_default());
    let size = snapshot.summary.as_ref().map_or(0, |summary| summary.total_bytes_processed);
    let progress = engine.meter.progress(ProgressType::Bytes, RESTORING);
    progress.set_length(if paths.is_none() { size } else { 0 });
    let workshop = Workshop { engine, repository: &repository, witness, progress: &progress };
    let (counted, transferred) = match transfer(&workshop, (tree, &bases), (target, &exclusions), paths)? {
        (Walked::Whole(counted), transferred) => (counted, transferred),
        (Walked::Links, transferred) => {
            let again = transfer(&workshop, (tree, &Base::default()), (target, &exclusions), paths)?;
            (again.0.counted(), transferred + again.1)
        }
    };
    if paths.is_none() {
        set_root(&root, target, witness);
    }
    engine.meter.phase("flushing");
    flush(target).map_err(|error| volume(&error, target))?;
    engine.meter.phase("comparing");
    match paths {
        None => compare::compare(engine, &repository, (tree, bases), target, &exclusions)?,
        Some(paths) => compare::compare_paths(engine, &repository, tree, target, paths)?,
    }
    let report = report(&snapshot, transferred, witness);
    Ok(if paths.is_none() { report } else { Report { files: counted.files, bytes: counted.bytes, ..report } })
}

/// Makes what lies in the directory equal to the snapshot; returns what that was, and how many bytes were transferred. The
/// walk is one window ahead.
fn transfer<S: IndexedFull + Sync>(
    workshop: &Workshop<'_, S>,
    (tree, base): (TreeId, &Base),
    (target, exclusions): (&Path, &Exclusions),
    paths: Option<&Paths>,
) -> Result<(Walked, u64), MoverError> {
    std::thread::scope(|scope| {
        let (sender, windows) = sync_channel(0);
        let only = paths.map(|paths| (paths, target));
        let Workshop { engine, repository, witness, .. } = *workshop;
        let walk = Walk::new((engine, repository), exclusions, witness, only, sender);
        let thread = scope.spawn(move || walk.run(tree, base, target));
        let transferred = windows.into_iter().map(|window| workshop.carry_out(&window)).sum::<Result<u64, _>>();
        let walked = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((walked?, transferred?))
    })
}

fn report(snapshot: &SnapshotFile, transferred: u64, witness: &Witness) -> Report {
    let summary = snapshot.summary.clone().unwrap_or_default();
    let seen = witness.seen();
    Report {
        snapshot: Some(id_text(snapshot.id)),
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
