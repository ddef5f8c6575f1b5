//! Writes volumes, dumps and objects of a point as plain files, for whoever wants to look into them without Reprise.
//!
//! `folder` writes them into a volume, `bucket` as objects of a vault. Either may be killed and run again: what is there
//! already is not transferred twice.

mod blobs;
mod bucket;
mod files;
mod folder;
mod name;
mod upload;

use std::ops::ControlFlow;
use std::path::Path;

use rustic_core::repofile::Node;
use rustic_core::{IndexedFull, Repository};

use super::dump;
use super::engine::Engine;
use super::error::MoverError;
use super::is_id;
use super::log::Witness;
use crate::api::mappings::ObjectSelector;
use crate::capture::bundle::{Bundle, Id, Incoming, Object};
use crate::capture::map::Selector;
use crate::core::mover_task::{ExportTarget, ExportedDump, ExportedVolume, Report};
use crate::vault::Vault;
use crate::vault::catalogue::CatalogueError;

/// What is exported, and where to.
pub(super) struct Export<'a> {
    pub(super) namespace: &'a str,
    pub(super) application: &'a str,
    pub(super) point: &'a str,
    pub(super) volumes: &'a [ExportedVolume],
    pub(super) dumps: &'a [ExportedDump],
    pub(super) manifest: Option<&'a str>,
    pub(super) objects: &'a [ObjectSelector],
}

impl Export<'_> {
    /// `to` is the vault that it goes to, if it goes to one.
    pub(super) fn run(
        &self,
        engine: &Engine,
        (vault, to): (&Vault, Option<&Vault>),
        target: &ExportTarget,
        witness: &Witness,
    ) -> Result<Report, MoverError> {
        match target {
            ExportTarget::Folder(target) => folder::write(self, engine, vault, Path::new(target), witness),
            ExportTarget::Vault(place) => {
                let to =
                    to.ok_or_else(|| MoverError::Task("the environment names no vault to export to".to_owned()))?;
                bucket::write(self, engine, (vault, to), place)
            }
        }
    }

    /// Reads the objects that are wanted, and has each written: its scope, group, kind and name, and its text.
    fn objects(
        &self,
        engine: &Engine,
        vault: &Vault,
        manifest: &str,
        mut write: impl FnMut([&str; 4], String) -> Result<(), MoverError>,
    ) -> Result<(), MoverError> {
        let only = self.objects.iter().map(Selector::new).collect::<Result<Vec<_>, _>>();
        let only = only.map_err(|error| MoverError::Task(format!("`objects`: {error}")))?;
        let reading = vault.read_manifest(self.namespace, self.application, manifest, Incoming::new());
        let bundle: Bundle = engine.runtime().block_on(reading).map_err(unread)?.finish();
        let wanted = |it: &Object| only.is_empty() || only.iter().any(|one| one.fits(&it.id, &it.json));
        let mut failed = None;
        let visited = bundle.visit(
            |_| true,
            |object| {
                if !wanted(&object) {
                    return ControlFlow::Continue(());
                }
                engine.meter.step();
                match text(&object).and_then(|(place, text)| write(place, text)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            },
        );
        visited.map_err(|error| MoverError::Corrupt(error.to_string()))?;
        failed.map_or(Ok(()), Err)
    }
}

/// Where an object is written, and what.
fn text(object: &Object) -> Result<([&str; 4], String), MoverError> {
    let Id { group, kind, namespace, name } = &object.id;
    let group = if group.is_empty() { "core" } else { group };
    // The bundle allows no others. A name that leads elsewhere must not be written whatever it allows.
    if ![group, kind, name].iter().all(|it| is_name(it)) {
        return Err(MoverError::Corrupt(format!("`{group}/{kind}/{name}` names no object")));
    }
    let scope = if namespace.is_some() { "objects" } else { "cluster" };
    let text = serde_yaml::to_string(&object.json).map_err(|error| MoverError::Corrupt(error.to_string()))?;
    Ok(([scope, group, kind, name], text))
}

/// The file that a dump is in its snapshot.
fn dumped<S: IndexedFull>(
    engine: &Engine,
    repository: &Repository<S>,
    wanted: &ExportedDump,
) -> Result<Node, MoverError> {
    let snapshot = super::check::snapshot(engine, repository, &wanted.snapshot)?;
    repository.node_from_snapshot_and_path(&snapshot, dump::FILE).map_err(|error| engine.error(&error))
}

/// Refuses what can't be written anywhere, or comes from nowhere.
pub(super) fn check(
    volumes: &[ExportedVolume],
    dumps: &[ExportedDump],
    target: &ExportTarget,
) -> Result<(), MoverError> {
    let wrong = |what: &str| Err(MoverError::Task(what.to_owned()));
    match target {
        ExportTarget::Folder(path) if !Path::new(path).is_absolute() => {
            return wrong("`target` must be an absolute path");
        }
        ExportTarget::Vault(place) if ![&place.namespace, &place.prefix].into_iter().all(|it| is_name(it)) => {
            return wrong("`target` must name a namespace and a prefix");
        }
        ExportTarget::Folder(_) | ExportTarget::Vault(_) => {}
    }
    if !volumes.iter().all(|it| is_id(&it.snapshot) && is_name(&it.claim)) {
        return wrong("`volumes` must name claims, and snapshots by their full ids");
    }
    if !dumps.iter().all(|it| is_id(&it.snapshot) && is_name(&it.name)) {
        return wrong("`dumps` must have names, and name snapshots by their full ids");
    }
    Ok(())
}

/// Whether it names a file or a directory here, and nothing elsewhere.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn unread(error: CatalogueError) -> MoverError {
    match error {
        CatalogueError::Store(error) => MoverError::Vault(error.into()),
        error @ CatalogueError::Local { .. } => MoverError::Engine(error.to_string()),
        error => MoverError::Corrupt(error.to_string()),
    }
}
