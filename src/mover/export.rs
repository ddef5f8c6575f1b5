//! Writes volumes and objects of a point as plain files, for whoever wants to look into them without Reprise.
//!
//! It may be killed and run again: what is there already is compared and not transferred twice.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::engine::Engine;
use super::error::MoverError;
use super::is_id;
use super::log::Witness;
use super::restore;
use crate::api::mappings::ObjectSelector;
use crate::capture::bundle::{Bundle, Id, Incoming, Object};
use crate::capture::map::Selector;
use crate::core::mover_task::{ExportedVolume, Report};
use crate::core::paths::Paths;
use crate::vault::Vault;
use crate::vault::catalogue::CatalogueError;

/// What is exported, and where to.
pub(super) struct Export<'a> {
    pub(super) namespace: &'a str,
    pub(super) application: &'a str,
    pub(super) point: &'a str,
    pub(super) volumes: &'a [ExportedVolume],
    pub(super) manifest: Option<&'a str>,
    pub(super) objects: &'a [ObjectSelector],
    pub(super) target: &'a Path,
}

impl Export<'_> {
    pub(super) fn run(&self, engine: &Engine, vault: &Vault, witness: &Witness) -> Result<Report, MoverError> {
        // A directory that is not there is a volume that is not mounted: nothing must be written beside it.
        if !self.target.is_dir() {
            return Err(MoverError::Task(format!("`target`: `{}` is not a directory", self.target.display())));
        }
        let mut all = Report { snapshot: Some(self.point.to_owned()), ..Report::default() };
        for volume in self.volumes {
            let folder = self.target.join("volumes").join(&volume.claim);
            fs::create_dir_all(&folder).map_err(|error| restore::volume(&error, &folder))?;
            let paths = Paths::some(&volume.paths).map_err(|error| MoverError::Task(format!("`paths`: {error}")))?;
            let one = restore::restore(engine, (&volume.snapshot, &[]), (&folder, &[]), paths.as_ref(), witness)?;
            all.files += one.files;
            all.bytes += one.bytes;
            all.added_bytes += one.added_bytes;
            (all.warnings, all.first_warnings) = (one.warnings, one.first_warnings);
        }
        if let Some(manifest) = self.manifest {
            engine.meter.phase("objects");
            all.files += self.objects(engine, vault, manifest)?;
        }
        restore::flush(self.target).map_err(|error| restore::volume(&error, self.target))?;
        Ok(all)
    }

    /// Each object as a file. How many there are.
    fn objects(&self, engine: &Engine, vault: &Vault, manifest: &str) -> Result<u64, MoverError> {
        let only = self.objects.iter().map(Selector::new).collect::<Result<Vec<_>, _>>();
        let only = only.map_err(|error| MoverError::Task(format!("`objects`: {error}")))?;
        let reading = vault.read_manifest(self.namespace, self.application, manifest, Incoming::new());
        let bundle: Bundle = engine.runtime().block_on(reading).map_err(unread)?.finish();
        let (mut written, mut failed) = (0, None);
        let wanted = |it: &Object| only.is_empty() || only.iter().any(|one| one.fits(&it.id, &it.json));
        let visited = bundle.visit(
            |_| true,
            |object| {
                if !wanted(&object) {
                    return ControlFlow::Continue(());
                }
                engine.meter.step();
                match self.write(&object) {
                    Ok(()) => written += 1,
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            },
        );
        visited.map_err(|error| MoverError::Corrupt(error.to_string()))?;
        failed.map_or(Ok(written), Err)
    }

    fn write(&self, object: &Object) -> Result<(), MoverError> {
        let Id { group, kind, namespace, name } = &object.id;
        let group = if group.is_empty() { "core" } else { group };
        let parts = [group, kind, name];
        // The bundle allows no others. A name that leads elsewhere must not be written whatever it allows.
        if !parts.iter().all(|it| is_name(it)) {
            return Err(MoverError::Corrupt(format!("`{group}/{kind}/{name}` names no object")));
        }
        let scope = if namespace.is_some() { "objects" } else { "cluster" };
        let folder = self.target.join(scope).join(group).join(kind);
        let path = folder.join(format!("{name}.yaml"));
        let text = serde_yaml::to_string(&object.json).map_err(|error| MoverError::Corrupt(error.to_string()))?;
        let write = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            fs::write(&path, text)
        };
        write().map_err(|error| restore::volume(&error, &path))
    }
}

/// Refuses what can't be written anywhere, or comes from nowhere.
pub(super) fn check(volumes: &[ExportedVolume], target: &str) -> Result<(), MoverError> {
    if !Path::new(target).is_absolute() {
        return Err(MoverError::Task("`target` must be an absolute path".to_owned()));
    }
    if !volumes.iter().all(|it| is_id(&it.snapshot) && is_name(&it.claim)) {
        return Err(MoverError::Task("`volumes` must name claims, and snapshots by their full ids".to_owned()));
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
