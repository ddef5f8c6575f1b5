//! A `Restore` that exports: what a mover writes as plain files. Into a claim that is the same as bringing one new volume
//! back; into a vault, a step of its own (`vault_export`).

use super::Pass;
use crate::{
    api::{
        mappings::Mappings,
        restore::{Export, Restore, VaultExport},
    },
    core::{
        mover_job::DATA,
        mover_task::{ExportPlace, ExportTarget, ExportedDump, ExportedVolume, Task},
        point::{Dump, Point, Volume},
        volume_restore::mapped,
    },
};

const GIB: u64 = 1 << 30;
/// What a file costs besides its bytes.
const PER_FILE: u64 = 4096;

/// The volumes that a restore of this point makes: those that are wanted, or the one that is exported into.
#[must_use]
pub fn volumes(restore: &Restore, point: &Point, mappings: &Mappings) -> Vec<Volume> {
    match &restore.spec.export {
        Some(export) => export.claim.iter().map(|it| exported_into(it, export, restore, point)).collect(),
        None => wanted(restore, point).map(|it| mapped(it, mappings)).collect(),
    }
}

fn wanted<'a>(restore: &'a Restore, point: &'a Point) -> impl Iterator<Item = &'a Volume> {
    point.volumes.iter().filter(|it| restore.wants_volume(&it.claim))
}

pub(super) fn wanted_dumps<'a>(restore: &'a Restore, point: &'a Point) -> impl Iterator<Item = &'a Dump> {
    let named = restore.spec.only.as_ref().map(|it| &it.dumps);
    point.dumps.iter().filter(move |it| named.is_none_or(|all| all.iter().any(|named| named.name == it.name)))
}

fn exported_into(claim: &str, export: &Export, restore: &Restore, point: &Point) -> Volume {
    let (files, bytes) = wanted(restore, point).fold((0, 0), |(files, bytes), it| (files + it.files, bytes + it.bytes));
    let bytes = bytes + wanted_dumps(restore, point).map(|it| it.bytes).sum::<u64>();
    let files = files + point.objects.count;
    // Objects are kept compressed: YAML is many times as large.
    let room = (bytes + files * PER_FILE + point.objects.bytes * 16) / 4 * 5;
    Volume {
        claim: claim.to_owned(),
        // Its mark, once it is written.
        snapshot: point.id.clone(),
        size: export.size.clone().unwrap_or_else(|| format!("{}Gi", room.div_ceil(GIB).max(1))),
        storage_class: export.storage_class.clone(),
        access_modes: vec!["ReadWriteOnce".to_owned()],
        files,
        bytes,
        ..Volume::default()
    }
}

impl Pass<'_> {
    /// What the mover writes, when this is an export.
    pub(super) fn export_task(&self, point: &Point) -> Option<Task> {
        let export = self.object.spec.export.as_ref()?;
        let target = match &export.vault {
            None => ExportTarget::Folder(DATA.to_owned()),
            Some(VaultExport { prefix, .. }) => ExportTarget::Vault(ExportPlace {
                namespace: self.run.namespace.clone(),
                prefix: prefix.clone(),
                run: self.run.uid.clone(),
            }),
        };
        let dump = |it: &Dump| ExportedDump { name: it.name.clone(), snapshot: it.snapshot.clone() };
        let exported = |it: &Volume| ExportedVolume {
            claim: it.claim.clone(),
            snapshot: it.snapshot.clone(),
            paths: self.paths_of(&it.claim).to_vec(),
        };
        let objects = self.wanted_objects();
        Some(Task::Export {
            namespace: self.key.namespace.clone(),
            application: self.key.name.clone(),
            point: point.id.clone(),
            volumes: wanted(self.object, point).map(exported).collect(),
            dumps: wanted_dumps(self.object, point).map(dump).collect(),
            manifest: objects.is_some().then(|| point.objects.manifest.clone()),
            objects: objects.unwrap_or_default(),
            target,
        })
    }
}
