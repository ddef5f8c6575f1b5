//! Makes a directory equal to a snapshot.
//!
//! The engine transfers only what differs, but it stumbles over what is already there: it can't replace links, it
//! writes through hard links into files that they should not be linked with, and it deletes what it should keep. So
//! the directory is prepared first. Afterwards it is compared with the snapshot, and flushed to the disk.
//!
//! Kept: content, modes, owners (numeric), times, extended attributes, symbolic and hard links, fifos, sockets and
//! devices (these with the rights to make them). Holes of sparse files come back where a whole chunk is empty, and
//! only into an empty directory. What can't be set is reported as a warning.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{IndexedFull, IndexedTree, LocalDestination, LsOptions, Repository, RestoreOptions, TreeId};

use super::check;
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::log::Witness;
use super::source::unix_mode;
use crate::core::mover_task::Report;

const LOST_AND_FOUND: &str = "lost+found";

/// Restores a snapshot into a directory that is there.
pub(super) fn restore(engine: &Engine, id: &str, target: &Path, witness: &Witness) -> Result<Report, MoverError> {
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
    engine.meter.phase("preparing the directory");
    let fresh = is_fresh(target).map_err(|error| volume(&error, target))?;
    prepare(engine, &repository, tree, target)?;
    let transferred = transfer(engine, &repository, &root, target, fresh)?;
    set_root(&root, target, witness);
    flush(target).map_err(|error| volume(&error, target))?;
    engine.meter.phase("comparing");
    compare(engine, &repository, &root, target)?;
    Ok(report(&snapshot, id, transferred, witness))
}

fn report(snapshot: &SnapshotFile, id: &str, transferred: u64, witness: &Witness) -> Report {
    let summary = snapshot.summary.clone().unwrap_or_default();
    let seen = witness.seen();
    Report {
        snapshot: Some(id.to_owned()),
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        added_bytes: transferred,
        warnings: seen.skipped + seen.others,
        first_warnings: seen.first_others.into_iter().chain(seen.first_skipped).take(20).collect(),
        ..Report::default()
    }
}

fn volume(error: &io::Error, path: &Path) -> MoverError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MoverError::VolumeFull,
        kind => MoverError::Volume(format!("{}: {kind}", path.display())),
    }
}

/// Whether nothing is in the directory but what the file system put there.
fn is_fresh(target: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(target)? {
        if entry?.file_name() != LOST_AND_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what the snapshot does not have, and what the engine can't bring into the snapshot's state.
fn prepare<S: IndexedTree>(
    engine: &Engine,
    repository: &Repository<S>,
    tree: TreeId,
    target: &Path,
) -> Result<(), MoverError> {
    let mut waiting: Vec<(TreeId, PathBuf)> = vec![(tree, target.to_owned())];
    while let Some((tree, folder)) = waiting.pop() {
        let entries: Vec<fs::DirEntry> =
            fs::read_dir(&folder).and_then(Iterator::collect).map_err(|error| volume(&error, &folder))?;
        if entries.is_empty() {
            continue;
        }
        engine.meter.step();
        let tree = repository.get_tree(&tree).map_err(|error| engine.error(&error))?;
        let nodes: HashMap<OsString, &Node> = tree.nodes.iter().map(|node| (node.name().into_owned(), node)).collect();
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name();
            let meta = fs::symlink_metadata(&path).map_err(|error| volume(&error, &path))?;
            let node = nodes.get(&name);
            match node.and_then(|node| node.subtree) {
                Some(subtree) if meta.is_dir() => waiting.push((subtree, path)),
                _ if node.is_some_and(|node| may_stay(node, &meta)) => {}
                _ if folder == target && name == LOST_AND_FOUND && meta.is_dir() => {}
                _ => remove(&path, &meta).map_err(|error| volume(&error, &path))?,
            }
        }
    }
    Ok(())
}

/// Whether the engine can make a file that is there into what the snapshot has under this name. Links are made
/// anew: the engine refuses to make them where something is, and would write through hard links into other files.
fn may_stay(node: &Node, meta: &fs::Metadata) -> bool {
    node.is_file() && meta.is_file() && meta.nlink() == 1 && node.meta.links <= 1
}

fn remove(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Transfers what differs; returns how many bytes that were.
fn transfer<S: IndexedFull>(
    engine: &Engine,
    repository: &Repository<S>,
    root: &Node,
    target: &Path,
    fresh: bool,
) -> Result<u64, MoverError> {
    let error = |error: Box<rustic_core::RusticError>| engine.error(&error);
    let destination = destination(engine, target)?;
    // Files that are there are compared by content: what an application did to them need not show in their times.
    let mut options = RestoreOptions::default().numeric_id(true).verify_existing(true);
    if fresh {
        // The engine skips empty chunks without looking at what is there, and hides the option's type.
        options.sparse = serde_json::from_str("\"ByContent\"").expect("it is a variant of the option");
    }
    let listing = repository.ls(root, &LsOptions::default()).map_err(error)?;
    let plan = repository.prepare_restore(&options, listing.clone(), &destination, false).map_err(error)?;
    let bytes = plan.restore_size;
    repository.restore(plan, &options, listing, &destination).map_err(error)?;
    Ok(bytes)
}

fn destination(engine: &Engine, target: &Path) -> Result<LocalDestination, MoverError> {
    let path = target.to_str().ok_or_else(|| MoverError::Task("`target` is not UTF-8".to_owned()))?;
    LocalDestination::new(path, false, false).map_err(|error| engine.error(&error))
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
fn flush(target: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(target)?).map_err(io::Error::from)
}

/// Looks once more, by size and time, whether all is as in the snapshot.
fn compare<S: IndexedFull>(
    engine: &Engine,
    repository: &Repository<S>,
    root: &Node,
    target: &Path,
) -> Result<(), MoverError> {
    let error = |error: Box<rustic_core::RusticError>| engine.error(&error);
    let destination = destination(engine, target)?;
    // The engine counts links, fifos and the like as surplus, since it would make them anew.
    let mut surplus = u64::from(target.join(LOST_AND_FOUND).is_dir());
    let listing = repository.ls(root, &LsOptions::default()).map_err(error)?.inspect(|entry| {
        surplus += u64::from(entry.as_ref().is_ok_and(|(_, node)| node.is_special()));
    });
    let plan = repository.prepare_restore(&RestoreOptions::default(), listing, &destination, true).map_err(error)?;
    let additional = (plan.stats.files.additional + plan.stats.dirs.additional).saturating_sub(surplus);
    match plan.stats.files.restore + plan.stats.files.modify + plan.stats.dirs.restore + additional {
        0 => Ok(()),
        different => Err(MoverError::Different(different)),
    }
}
