//! Copies a point into another vault: what its snapshots need, its objects, the point itself, the head.
//!
//! Vaults have roots of their own, so everything is opened and sealed anew; what was stored in pieces that are named by
//! what is in them is stored once. In this order, so that a copy that is killed is begun again and finds most of it
//! there: data, directories, a check that nothing is missing, snapshots, objects, the point, the head. The point has the
//! same id in both vaults; its snapshots have others.
//!
//! Nothing is deleted, and nothing says which point is to be copied: that is `core::copies`.

mod blobs;
mod objects;

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustic_core::OpenStatus;
use rustic_core::repofile::{IndexFile, SnapshotFile};
use rustic_core::{FileType, ReadBackend, Repository};

use self::blobs::Wanted;
use super::archive::Store;
use super::backup::parent;
use super::check;
use super::engine::Engine;
use super::error::MoverError;
use super::index::Index;
use crate::core::mover_task::Report;
use crate::core::point::{Dump, Point, Volume};
use crate::vault::catalogue::CatalogueError;
use crate::vault::{Vault, VaultError, immutability};

/// What is to be copied, and where to.
pub(super) struct Copy<'a> {
    pub(super) from: &'a Vault,
    pub(super) to: &'a Vault,
    pub(super) namespace: &'a str,
    pub(super) application: &'a str,
    /// The point's id.
    pub(super) point: &'a str,
}

/// The snapshots of a point, by their ids in the first vault; and what they are like in the other.
#[derive(Default)]
struct Copied {
    ids: BTreeMap<String, String>,
    report: Report,
}

impl Copy<'_> {
    /// Copies it. One that is there is only entered in the head.
    pub(super) fn run(&self, source: &Engine) -> Result<Report, MoverError> {
        if self.from.id() == self.to.id() {
            return Err(MoverError::Task("both vaults are one: a copy needs another one".to_owned()));
        }
        let runtime = source.runtime();
        source.meter.phase("reading the point");
        let (namespace, application) = (self.namespace, self.application);
        let mut report = Report::default();
        let there = match runtime.block_on(self.to.read_point(namespace, application, self.point)) {
            Ok(point) => point,
            Err(CatalogueError::Absent { .. }) => {
                let point = runtime.block_on(self.from.read_point(namespace, application, self.point))?;
                let copied = self.snapshots(source, &point)?;
                source.meter.phase("copying the objects");
                let objects = runtime.block_on(objects::copy(self, &point.objects))?;
                // Only the first vault's data is locked longer.
                // The chain is one of the other vault's own: it does not have all points.
                let copy = Point { objects, lock_until: None, previous: None, ..renamed(point, &copied.ids)? };
                report = copied.report;
                match runtime.block_on(self.to.write_linked(&copy)) {
                    // Another region copied it meanwhile: it is as good.
                    Err(CatalogueError::Exists { .. }) => {
                        runtime.block_on(self.to.read_point(namespace, application, self.point))?
                    }
                    written => written?,
                }
            }
            Err(error) => return Err(error.into()),
        };
        runtime.block_on(self.lock(source, &there))?;
        source.meter.phase("entering it");
        runtime.block_on(self.to.enter_copy(&there))?;
        Ok(report)
    }

    /// Copies what the point's snapshots need, and them. What the other vault has is believed at first; when the check
    /// finds that something is missing nevertheless, everything is compared.
    fn snapshots(&self, source: &Engine, point: &Point) -> Result<Copied, MoverError> {
        if point.snapshots().next().is_none() {
            return Ok(Copied::default());
        }
        let mut target = Engine::new(self.to, self.namespace, self.application, source.runtime().clone());
        target.meter = source.meter.clone();
        let attempt = |whole| target.steadily(|| source.steadily(|| attempt(source, &target, point, whole)));
        match attempt(false) {
            Err(MoverError::Copy(why)) => {
                tracing::warn!(why, "everything is compared");
                attempt(true)
            }
            ended => ended,
        }
    }

    /// Where the other vault locks what it keeps, this point is locked, and what it shares with those before it.
    async fn lock(&self, source: &Engine, point: &Point) -> Result<(), MoverError> {
        source.meter.phase("locking");
        self.to.lock_point(point).await.map_err(VaultError::Store)?;
        let (began, mut after) = (Timestamp::now(), None);
        loop {
            let whose = (self.namespace, self.application);
            let step = immutability::go_on(self.to.store(), whose, began, after.as_deref()).await;
            after = step.map_err(VaultError::Store)?.after;
            if after.is_none() {
                return Ok(());
            }
            source.meter.step();
        }
    }
}

fn attempt(source: &Engine, target: &Engine, point: &Point, whole: bool) -> Result<Copied, MoverError> {
    source.meter.phase("reading the indexes");
    let (from, to) = (source.open()?, target.open_or_make().map_err(of_copy)?);
    let there = check::index(target, &to).map_err(of_copy)?;
    if let Some(pack) = there.missing_packs.first() {
        let (lost, more) = (format!("data/{}/{pack}", &pack[..2]), there.missing_packs.len());
        let (namespace, application) = (&point.namespace, &point.application);
        // What names it would go before what is copied once more: nothing of this repository could be trusted.
        return Err(MoverError::Copy(format!(
            "it lost {more} packs, as `{lost}`: remove `apps/{namespace}/{application}` and \
             `{}` there, and the next copy makes both anew",
            ReadBackend::location(&target.backend)
        )));
    }
    let wanted = snapshots(source, &from, point)?;
    let before: Vec<_> = wanted
        .values()
        .map(|it| if whole { Ok(None) } else { parent(target, &to, it).map_err(of_copy) })
        .collect::<Result<_, _>>()?;
    let config = to.config();
    let level = config.zstd().map_err(|error| target.error(&error))?.unwrap_or(0);
    let store = Store::new(target, &there, level, config.extra_verify());
    let roots = wanted.values().map(|it| it.tree).collect();
    let (known, believed) = (trees(source, &from)?, (!whole).then_some(&there));
    let blobs = Wanted::find(source, &known, believed, roots)?;
    blobs.copy(source, &from, &known, &store)?;
    source.meter.phase("checking");
    let landed = check::index(target, &to).map_err(of_copy)?;
    let sound = before.iter().map(|it| it.as_ref().filter(|_| landed.missing_packs.is_empty()).map(|it| it.tree));
    check::trees(target, &landed, wanted.values().map(|it| it.tree).zip(sound).collect()).map_err(of_copy)?;
    let mut copied = Copied::default();
    for ((id, snapshot), before) in wanted.into_iter().zip(before) {
        let summary = snapshot.summary.clone().unwrap_or_default();
        copied.report.files += summary.total_files_processed;
        copied.report.bytes += summary.total_bytes_processed;
        let (original, parent) = (id.parse().ok(), before.map(|it| it.id));
        let made = SnapshotFile { original, parent, parents: parent.into_iter().collect(), ..snapshot };
        copied.ids.insert(id, store.save(FileType::Snapshot, &made)?.to_hex().as_str().to_owned());
    }
    copied.report.added_bytes = store.packed();
    Ok(copied)
}

/// What is damaged in the vault that is copied to says nothing against the point.
fn of_copy(error: MoverError) -> MoverError {
    match error {
        MoverError::Corrupt(what) => MoverError::Copy(what),
        other => other,
    }
}

/// The snapshots of a point, each with its id, once.
fn snapshots(
    source: &Engine,
    from: &Repository<OpenStatus>,
    point: &Point,
) -> Result<BTreeMap<String, SnapshotFile>, MoverError> {
    let mut snapshots = BTreeMap::new();
    for (_, id) in point.snapshots() {
        snapshots.insert(id.to_owned(), check::snapshot(source, from, id)?);
    }
    Ok(snapshots)
}

/// The directories that a repository has.
fn trees(engine: &Engine, repository: &Repository<OpenStatus>) -> Result<Index, MoverError> {
    let mut index = Index::empty();
    for file in repository.stream_files::<IndexFile>().map_err(|error| engine.error(&error))? {
        index.add_trees(file.map_err(|error| engine.error(&error))?.1);
    }
    Ok(index)
}

/// The point, with the ids that its snapshots have in the other vault.
fn renamed(point: Point, ids: &BTreeMap<String, String>) -> Result<Point, MoverError> {
    let other = |id: &String| {
        ids.get(id).cloned().ok_or_else(|| MoverError::Engine(format!("the snapshot {id} was not copied")))
    };
    let volume = |it: Volume| Ok::<_, MoverError>(Volume { snapshot: other(&it.snapshot)?, ..it });
    let dump = |it: Dump| Ok::<_, MoverError>(Dump { snapshot: other(&it.snapshot)?, ..it });
    let volumes = point.volumes.into_iter().map(volume).collect::<Result<_, _>>()?;
    let dumps = point.dumps.into_iter().map(dump).collect::<Result<_, _>>()?;
    Ok(Point { volumes, dumps, ..point })
}
