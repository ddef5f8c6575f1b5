//! What to do about a `RecoveryPoint`: snapshots and objects, movers, the point, the catalogue, and the tidying up.
//!
//! Which moment is due is decided by `core::application`; what a mover does is `mover`.

mod dumps;
pub mod imported;
mod method;
mod suspicion;
mod volumes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{
    app_key::AppKey,
    child::Run,
    claim::view::View,
    condition::{self, Finding, READY, SUCCEEDED, Truth},
    dump::Earlier,
    effect::{Decision, Effect, ObjectKey},
    mover_job::MoverSettings,
    mover_task::{Ran, Report},
    point::{Dump, FORMAT, Objects, Point, Volume},
    vault,
    work::{Outcome, Progress, Seen, Work, Works, see},
};
use crate::api::{
    application::ProtectedApplication,
    recovery_point::{
        DumpInPoint, Level, ObjectsInPoint, Purpose, RecoveryPoint, RecoveryPointStatus, Verification, VolumeInPoint,
    },
    vault::Vault,
};

/// How often a run in progress is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest deadline of a run, in seconds.
const PATIENCE: u64 = 30 * 60;

/// How long a run may take for this objective, both in seconds.
#[must_use]
pub fn patience(rpo: u64) -> u64 {
    PATIENCE.max(rpo.saturating_mul(4))
}

/// What is checked of each point before it is entered: by its movers (`mover::check`) and by the commit.
pub const CHECKED: &str = "each volume's snapshot was read back; every chunk that is new since the one before is named by the \
                           index, in a pack that is listed with its full size; the objects are there. No data was read back";

/// Everything that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The operator's region.
    pub region: String,
    /// What movers have in common.
    pub movers: Option<MoverSettings>,
    /// The application.
    pub application: Option<Arc<ProtectedApplication>>,
    /// Its vault.
    pub vault: Option<Arc<Vault>>,
    /// Its claim.
    pub claim: Option<View>,
    /// The namespace's claims that are bound.
    pub sources: Vec<Source>,
    /// Its claims that are not.
    pub unbound: Vec<Unbound>,
    /// The newest points before this one that count, as far as this cluster has their records, newest first: down to
    /// the last that was made by hand.
    pub before: Vec<Before>,
    /// The good dumps of the points before this one, as far as this cluster has their records, by name.
    pub dumps: BTreeMap<String, Vec<Earlier>>,
    /// The `VolumeSnapshotClass` for each CSI driver.
    pub snapshot_classes: BTreeMap<String, String>,
    /// The tenant's snapshots of this run, by claim.
    pub snapshots: BTreeMap<String, SnapshotSeen>,
    /// The movers of this run, by claim.
    pub jobs: BTreeMap<String, JobSeen>,
    /// Everything that stands in the cluster for this run.
    pub made: Vec<ObjectKey>,
    /// A restore of the application that has begun to change it.
    pub restoring: Option<String>,
    /// Work in progress.
    pub works: Works,
}

/// A bound `PersistentVolumeClaim` of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub claim: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Requested size, as a Kubernetes quantity.
    pub size: String,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// Whether it is a file system (and not a block device).
    pub filesystem: bool,
    /// The `PersistentVolume`.
    pub volume: String,
    /// The CSI driver, if it is one's.
    pub driver: Option<String>,
    /// A path on the node for volumes that are one: `hostPath`, `local`.
    pub node_path: Option<String>,
    /// A running pod that mounts it.
    pub mounted_by: Option<Mounting>,
    /// Whether it goes as soon as no pod uses it any more.
    pub deleting: bool,
}

/// What was in an earlier point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Its name in the vault.
    pub id: String,
    /// How many objects.
    pub objects: u64,
    /// The volumes, each with the files and bytes that were read.
    pub volumes: BTreeMap<String, (u64, u64)>,
}

/// A `PersistentVolumeClaim` of the application without a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbound {
    /// Its name.
    pub claim: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Requested size, as a Kubernetes quantity.
    pub size: String,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// `Pending` or `Lost`.
    pub phase: String,
    /// A pod that is not finished and waits for it.
    pub wanted_by: Option<String>,
}

/// A running pod that mounts a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounting {
    /// Its uid.
    pub pod_uid: String,
    /// Its node.
    pub node: String,
}

/// A `VolumeSnapshot` of this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSeen {
    /// The driver's handle, once it is ready to be used.
    pub handle: Option<String>,
    /// The instant of its data.
    pub taken_at: Option<Timestamp>,
    /// What the driver says is wrong.
    pub error: Option<String>,
}

/// A mover's Job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobSeen {
    /// It goes on, or was deleted and its pod still runs; what it waits for, if it waits.
    Running(Option<String>),
    /// It ended well.
    Succeeded(Box<Report>),
    /// It ended badly.
    Failed {
        /// Why.
        message: String,
        /// When.
        at: Timestamp,
        /// Whether the repository's data is bad: another try would find the same.
        corrupt: bool,
        /// What the command did that it ran in a pod.
        command: Option<Box<Ran>>,
    },
}

/// Decides what to do about `point`.
#[must_use]
pub fn decide(point: &RecoveryPoint, seen: &Observed, now: Timestamp) -> Decision<RecoveryPointStatus> {
    let mut status = point.status.clone().unwrap_or_default();
    status.observed_generation = point.metadata.generation;
    if condition::ended(&status.conditions) {
        return hold(point, status, seen, now);
    }
    let run = Run {
        namespace: point.namespace().unwrap_or_default(),
        name: point.name_any(),
        uid: point.uid().unwrap_or_default(),
    };
    let (Some(application), Some(movers)) = (seen.application.as_deref(), seen.movers.as_ref()) else {
        let message = format!(
            "spec.application: there is no ProtectedApplication '{}' in namespace {}",
            point.spec.application, run.namespace
        );
        return end(point, status, seen, Ending::Failed("NoApplication", message), now);
    };
    let pass = Pass { point, run: &run, application, movers, seen, now };
    match point.spec.purpose {
        Purpose::Imported => pass.import(status),
        Purpose::Manual | Purpose::Scheduled | Purpose::Branch if status.id.is_none() => pass.begin(status),
        Purpose::Manual | Purpose::Scheduled | Purpose::Branch => pass.go_on(status),
    }
}

/// How a run ends.
enum Ending {
    Stored,
    Partial(String),
    Suspicious(String),
    Failed(&'static str, String),
}

/// What one pass has at hand.
struct Pass<'a> {
    point: &'a RecoveryPoint,
    run: &'a Run,
    application: &'a ProtectedApplication,
    movers: &'a MoverSettings,
    seen: &'a Observed,
    now: Timestamp,
}

impl Pass<'_> {
    /// Writes down the name and what will be read, and touches nothing yet.
    fn begin(&self, mut status: RecoveryPointStatus) -> Decision<RecoveryPointStatus> {
        let branch = self.point.spec.purpose == Purpose::Branch;
        let Some(view) = self.seen.claim.as_ref().filter(|it| it.claim.is_some()) else {
            return self.wait(status, "ClaimUnknown", "the claim was not read yet");
        };
        if let Some(restore) = &self.seen.restoring {
            return self.wait(status, "Restoring", format!("Restore {restore} is changing the application"));
        }
        if let Some(reason) = self.vault_hindrance() {
            return self.wait(status, "VaultNotReady", reason);
        }
        if let Some(reason) = self.seen.vault.as_deref().and_then(vault::unescrowed).filter(|_| !branch) {
            return self.wait(status, "KeyNotEscrowed", reason);
        }
        if !branch && !view.mine {
            let holder = view.holder.as_deref().unwrap_or("no region");
            let message =
                format!("{holder} holds the claim: make the RecoveryPoint in the cluster of the active region");
            return end(self.point, status, self.seen, Ending::Failed("NotActive", message), self.now);
        }
        if !branch && !view.valid {
            return self.wait(status, "ClaimNotProven", "this region cannot prove its claim at the moment");
        }
        let epoch = view.epoch;
        status.id = Some(identify(epoch, &self.run.uid, self.now));
        status.epoch = Some(epoch);
        status.region = Some(self.seen.region.clone());
        status.started_at = Some(Time(self.now));
        let unbound = self.seen.unbound.iter().map(|it| self.without_volume(it, branch));
        status.volumes = self.seen.sources.iter().map(|it| self.planned(it)).chain(unbound).collect();
        status.dumps = self.application.spec.backup.dumps.iter().map(|it| self.planned_dump(it)).collect();
        self.wait(status, "Preparing", "the volumes and objects of this moment are about to be read")
    }

    fn go_on(&self, mut status: RecoveryPointStatus) -> Decision<RecoveryPointStatus> {
        let mut effects = Vec::new();
        let age = status.started_at.as_ref().map_or(0, |it| self.now.as_second() - it.0.as_second());
        let patience = patience(self.application.spec.objectives.rpo.as_secs());
        if age > i64::try_from(patience).unwrap_or(i64::MAX) {
            let message = format!("not finished after {patience} s: {}", self.waiting_for(&status));
            return end(self.point, status, self.seen, Ending::Failed("DeadlineExceeded", message), self.now);
        }
        if self.seen.vault.is_none() {
            // Somebody deleted it meanwhile: movers cannot be told where to write.
            return self.wait(status, "VaultNotReady", self.vault_hindrance().unwrap_or_default());
        }
        let captured = self.capture(&mut status, &mut effects);
        let mut volumes = std::mem::take(&mut status.volumes);
        for volume in volumes.iter_mut().filter(|it| !volumes::settled(it)) {
            self.advance(volume, patience, &mut effects);
        }
        status.volumes = volumes;
        let mut dumps = std::mem::take(&mut status.dumps);
        for dump in dumps.iter_mut().filter(|it| !dumps::settled(it)) {
            self.advance_dump(dump, patience, &mut effects);
        }
        status.dumps = dumps;
        status.bytes = Some(read_in_all(&status));
        let read = captured.is_some()
            && status.volumes.iter().all(volumes::settled)
            && status.dumps.iter().all(dumps::settled);
        let Some(captured_at) = captured.filter(|_| read) else {
            let message = self.waiting_for(&status);
            let mut decision = self.wait(status, "Reading", message);
            decision.effects = effects;
            return decision;
        };
        // Judged once: what it is compared with may be gone when it is looked at again.
        if status.consistent_at.is_none() && self.point.spec.purpose == Purpose::Scheduled {
            status.suspicious = self.suspicions(&status);
        }
        let volumes = status.volumes.iter().filter_map(|it| it.consistent_at.as_ref());
        let instants =
            volumes.chain(dumps::counting(&status).filter_map(|it| it.consistent_at.as_ref())).map(|at| at.0);
        status.consistent_at = Some(Time(instants.fold(captured_at, Timestamp::min)));
        self.commit(status)
    }

    /// The objects of the moment. Their instant, once they are stored.
    fn capture(&self, status: &mut RecoveryPointStatus, effects: &mut Vec<Effect>) -> Option<Timestamp> {
        match see(&self.seen.works, "Capture", self.now) {
            Seen::Done(Outcome::Captured { objects, at, failed, left_out }, _) => {
                status.objects = Some(ObjectsInPoint {
                    manifest: objects.manifest.clone(),
                    count: objects.count,
                    bytes: objects.bytes,
                    failed: failed.iter().take(100).cloned().collect(),
                    left_out: left_out.clone(),
                });
                Some(*at)
            }
            Seen::Due(_) => {
                let objects = self.application.spec.backup.objects.clone();
                let work = Work::Capture { vault: self.vault_name(), application: self.app(), objects };
                effects.push(Effect::Begin(Box::new(work)));
                None
            }
            Seen::Waiting(_) | Seen::Done(..) => None,
        }
    }

    /// Everything is read: the point is written, and entered.
    fn commit(&self, status: RecoveryPointStatus) -> Decision<RecoveryPointStatus> {
        match see(&self.seen.works, "CommitPoint", self.now) {
            Seen::Done(..) => {
                let missing = missing(&status);
                let ending = match (missing.is_empty(), status.suspicious.is_empty()) {
                    (true, true) => Ending::Stored,
                    (true, false) => Ending::Suspicious(status.suspicious.join("; ")),
                    (false, _) => Ending::Partial(missing.join("; ")),
                };
                end(self.point, status, self.seen, ending, self.now)
            }
            Seen::Due(Some(failure)) | Seen::Waiting(Some(failure)) if failure.lasting => {
                let ending = Ending::Failed(failure.reason, failure.message.clone());
                end(self.point, status, self.seen, ending, self.now)
            }
            Seen::Waiting(failure) => {
                let message =
                    failure.map_or("the point is being entered in the catalogue".to_owned(), |it| it.message.clone());
                self.wait(status, "Entering", message)
            }
            Seen::Due(_) => {
                let point = Box::new(self.stored(&status));
                let vault = self.vault_name();
                let mut decision = self.wait(status, "Entering", "the point is being entered in the catalogue");
                decision.effects.push(Effect::Begin(Box::new(Work::CommitPoint { vault, point })));
                decision
            }
        }
    }

    /// The point as it is written in the vault.
    fn stored(&self, status: &RecoveryPointStatus) -> Point {
        let objects = status.objects.clone().unwrap_or_default();
        let volume = |it: &VolumeInPoint| {
            let source = self.seen.sources.iter().find(|source| source.claim == it.claim)?;
            Some(Volume {
                claim: it.claim.clone(),
                snapshot: it.snapshot.clone()?,
                size: source.size.clone(),
                storage_class: source.storage_class.clone(),
                access_modes: source.access_modes.clone(),
                files: it.files,
                bytes: it.bytes,
            })
        };
        let dump = |it: &DumpInPoint| {
            let (snapshot, consistent_at) = (it.snapshot.clone()?, it.consistent_at.as_ref()?.0);
            Some(Dump { name: it.name.clone(), snapshot, consistent_at, bytes: it.bytes })
        };
        Point {
            format: FORMAT,
            id: status.id.clone().unwrap_or_default(),
            namespace: self.run.namespace.clone(),
            application: self.application.name_any(),
            epoch: status.epoch.unwrap_or(0),
            region: self.seen.region.clone(),
            branch: self.point.spec.purpose == Purpose::Branch,
            consistent_at: status.consistent_at.as_ref().map_or(self.now, |it| it.0),
            // Not `now`: a repeated commit must write the same bytes under the same name.
            created_at: status.started_at.as_ref().map_or(self.now, |it| it.0),
            objects: Objects { manifest: objects.manifest, count: objects.count, bytes: objects.bytes },
            volumes: status.volumes.iter().filter_map(volume).collect(),
            skipped: status.volumes.iter().filter_map(|it| self.skipped(it)).collect(),
            dumps: status.dumps.iter().filter_map(dump).collect(),
            missing: missing(status),
            suspicious: status.suspicious.clone(),
        }
    }

    fn waiting_for(&self, status: &RecoveryPointStatus) -> String {
        let mut all: Vec<String> = Vec::new();
        if status.objects.is_none() {
            all.push(match see(&self.seen.works, "Capture", self.now) {
                Seen::Due(Some(failure)) | Seen::Waiting(Some(failure)) => format!("objects: {}", failure.message),
                _ => "objects are being read".to_owned(),
            });
        }
        for volume in status.volumes.iter().filter(|it| !volumes::settled(it)) {
            let snapshot = self.seen.snapshots.get(&volume.claim);
            let why = match self.seen.jobs.get(&volume.claim) {
                Some(JobSeen::Running(Some(why))) => why.clone(),
                Some(_) => "is being copied".to_owned(),
                None => {
                    snapshot.and_then(|it| it.error.clone()).unwrap_or("is being snapshotted or mounted".to_owned())
                }
            };
            all.push(format!("volume {}: {why}", volume.claim));
        }
        for dump in status.dumps.iter().filter(|it| !dumps::settled(it)) {
            let why = match self.seen.jobs.get(&super::dump::label(&dump.name)) {
                Some(JobSeen::Running(Some(why))) => why.as_str(),
                Some(_) | None => "is being made",
            };
            all.push(format!("dump {}: {why}", dump.name));
        }
        all.join("; ")
    }

    fn vault_hindrance(&self) -> Option<String> {
        let name = self.vault_name();
        let Some(vault) = &self.seen.vault else {
            return Some(format!("spec.backup.vaults: there is no Vault '{name}'"));
        };
        let conditions = vault.status.as_ref().map_or(&[][..], |it| &it.conditions);
        match condition::find(conditions, READY) {
            Some(ready) if ready.status == "True" => None,
            Some(ready) => Some(format!("vault {name}: {}", ready.message)),
            None => Some(format!("vault {name} was not tested yet")),
        }
    }

    fn vault_name(&self) -> String {
        self.application.spec.backup.vaults.first().cloned().unwrap_or_default()
    }

    fn app(&self) -> AppKey {
        AppKey { namespace: self.run.namespace.clone(), name: self.application.name_any() }
    }

    fn wait(
        &self,
        mut status: RecoveryPointStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Decision<RecoveryPointStatus> {
        let finding = Finding::new(SUCCEEDED, Truth::Unknown, reason, message);
        let generation = self.point.metadata.generation;
        status.conditions = condition::conditions(&status.conditions, vec![finding], generation, self.now);
        Decision { status, effects: Vec::new(), recheck: Some(LOOK) }
    }
}

/// What is not in the point, for people.
fn missing(status: &RecoveryPointStatus) -> Vec<String> {
    let volumes = status.volumes.iter().filter_map(|it| match &it.failure {
        Some(failure) => Some(format!("volume {}: {failure}", it.claim)),
        None if it.unreadable > 0 => Some(format!("volume {}: {} files could not be read", it.claim, it.unreadable)),
        None => None,
    });
    let kinds = status.objects.iter().flat_map(|it| &it.failed).map(|it| format!("objects: {it}"));
    let dumps = status.dumps.iter().filter_map(|it| Some(format!("dump {}: {}", it.name, it.failure.as_ref()?)));
    volumes.chain(dumps).chain(kinds).collect()
}

/// What was read for a point, in bytes: not what an earlier one has read.
fn read_in_all(status: &RecoveryPointStatus) -> u64 {
    let volumes = status.volumes.iter().map(|it| it.bytes);
    let dumps = status.dumps.iter().filter(|it| it.made_for.is_none()).map(|it| it.bytes);
    volumes.chain(dumps).sum::<u64>() + status.objects.as_ref().map_or(0, |it| it.bytes)
}

/// `<epoch, 10 digits>-<ULID>`: the time and a digest of the run, so that a repeated pass finds the same.
fn identify(epoch: u64, uid: &str, now: Timestamp) -> String {
    let digest = Sha256::digest(uid);
    let random = digest.iter().take(10).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    format!("{epoch:010}-{}", ulid::Ulid::from_parts(millis, random))
}

fn end(
    point: &RecoveryPoint,
    mut status: RecoveryPointStatus,
    seen: &Observed,
    ending: Ending,
    now: Timestamp,
) -> Decision<RecoveryPointStatus> {
    let id = status.id.clone().unwrap_or_default();
    if matches!(ending, Ending::Stored | Ending::Suspicious(_)) {
        status.verification =
            Some(Verification { level: Level::L1, at: Time(now), detail: CHECKED.into(), damage: None });
    }
    let (finding, event) = match ending {
        Ending::Stored => (Finding::new(SUCCEEDED, true, "Stored", format!("{id} is in the vault")), None),
        Ending::Partial(missing) => {
            let note = format!("{id} is in the vault, but does not count for the RPO: {missing}");
            (Finding::new(SUCCEEDED, false, "Partial", note.clone()), Some(Effect::warn("RecoveryPointPartial", note)))
        }
        Ending::Suspicious(why) => {
            let note = format!(
                "{id} is in the vault, but does not count: {why}. If that is meant, make a RecoveryPoint by hand \
                 (kubectl reprise backup {})",
                point.spec.application
            );
            let event = Effect::warn("RecoveryPointSuspicious", note.clone());
            (Finding::new(SUCCEEDED, false, "Suspicious", note), Some(event))
        }
        Ending::Failed(reason, message) => (
            Finding::new(SUCCEEDED, false, reason, message.clone()),
            Some(Effect::warn("RecoveryPointFailed", message)),
        ),
    };
    status.finished_at = Some(Time(now));
    status.duration_seconds =
        status.started_at.as_ref().map(|it| u64::try_from(now.as_second() - it.0.as_second()).unwrap_or(0));
    status.conditions = condition::conditions(&status.conditions, vec![finding], point.metadata.generation, now);
    let mut decision = tidy(status, seen);
    decision.effects.extend(event);
    decision
}

/// After the end: the vault is told whether retention may drop the point, and what stands in the cluster is deleted.
fn hold(
    point: &RecoveryPoint,
    mut status: RecoveryPointStatus,
    seen: &Observed,
    now: Timestamp,
) -> Decision<RecoveryPointStatus> {
    let (id, held) = (status.id.clone(), point.spec.hold);
    let vault = seen.application.as_ref().and_then(|it| it.spec.backup.vaults.first().cloned());
    let (Some(id), Some(vault)) = (id, vault.filter(|_| held != status.held.unwrap_or(false))) else {
        return tidy(status, seen);
    };
    let application = AppKey { namespace: point.namespace().unwrap_or_default(), name: point.spec.application.clone() };
    let work = Work::SetHold { vault, application, point: id, held };
    let done = |it: &&Progress| matches!(it, Progress::Done { work: done, .. } if **done == work);
    if seen.works.get("SetHold").as_ref().is_some_and(done) {
        status.held = Some(held);
        return tidy(status, seen);
    }
    let mut decision = tidy(status, seen);
    if !matches!(see(&seen.works, "SetHold", now), Seen::Waiting(_)) {
        decision.effects.push(Effect::Begin(Box::new(work)));
    }
    decision.recheck = Some(LOOK * 2);
    decision
}

/// Deletes what stands in the cluster for a run that has ended, until nothing does.
fn tidy(status: RecoveryPointStatus, seen: &Observed) -> Decision<RecoveryPointStatus> {
    let effects: Vec<_> = seen.made.iter().cloned().map(Effect::Delete).collect();
    let recheck = (!effects.is_empty()).then_some(LOOK * 2);
    Decision { status, effects, recheck }
}

#[cfg(test)]
mod tests;
