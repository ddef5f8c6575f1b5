//! An export into a directory: `volumes/CLAIM/…` with all attributes, `dumps/NAME`, `objects/GROUP/KIND/NAME.yaml`.

use std::fs::{self, File};
use std::path::Path;

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::log::Witness;
use super::super::restore;
use super::{Export, dumped};
use crate::core::mover_task::Report;
use crate::core::paths::Paths;
use crate::vault::Vault;

/// Writes everything below `target`.
pub(super) fn write(
    export: &Export<'_>,
    engine: &Engine,
    vault: &Vault,
    target: &Path,
    witness: &Witness,
) -> Result<Report, MoverError> {
    // A directory that is not there is a volume that is not mounted: nothing must be written beside it.
    if !target.is_dir() {
        return Err(MoverError::Task(format!("`target`: `{}` is not a directory", target.display())));
    }
    let mut all = Report { snapshot: Some(export.point.to_owned()), ..Report::default() };
    for volume in export.volumes {
        let folder = target.join("volumes").join(&volume.claim);
        fs::create_dir_all(&folder).map_err(|error| restore::volume(&error, &folder))?;
        let paths = Paths::some(&volume.paths).map_err(|error| MoverError::Task(format!("`paths`: {error}")))?;
        let one = restore::restore(engine, (&volume.snapshot, &[]), (&folder, &[]), paths.as_ref(), witness)?;
        all.files += one.files;
        all.bytes += one.bytes;
        all.added_bytes += one.added_bytes;
        (all.warnings, all.first_warnings) = (one.warnings, one.first_warnings);
    }
    dumps(export, engine, target, &mut all)?;
    if let Some(manifest) = export.manifest {
        engine.meter.phase("objects");
        export.objects(engine, vault, manifest, |[scope, group, kind, name], text| {
            let folder = target.join(scope).join(group).join(kind);
            let path = folder.join(format!("{name}.yaml"));
            let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
            all.files += 1;
            written.map_err(|error| restore::volume(&error, &path))
        })?;
    }
    restore::flush(target).map_err(|error| restore::volume(&error, target))?;
    Ok(all)
}

fn dumps(export: &Export<'_>, engine: &Engine, target: &Path, all: &mut Report) -> Result<(), MoverError> {
    if export.dumps.is_empty() {
        return Ok(());
    }
    engine.meter.phase("dumps");
    let folder = target.join("dumps");
    fs::create_dir_all(&folder).map_err(|error| restore::volume(&error, &folder))?;
    let repository = engine.steadily(|| engine.open()?.to_indexed().map_err(|error| engine.error(&error)))?;
    for dump in export.dumps {
        let (node, path) = (dumped(engine, &repository, dump)?, folder.join(&dump.name));
        let mut file = File::create(&path).map_err(|error| restore::volume(&error, &path))?;
        repository.dump(&node, &mut file).map_err(|error| engine.error(&error))?;
        let bytes = file.metadata().map_err(|error| restore::volume(&error, &path))?.len();
        all.files += 1;
        all.bytes += bytes;
        all.added_bytes += bytes;
    }
    Ok(())
}
