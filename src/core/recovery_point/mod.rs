//! What to do about a `RecoveryPoint`: snapshots and objects, movers, the point, the catalogue, and the tidying up.
//!
//! Which moment is due is decided by `core::application`; what a mover does is `mover`.

mod dumps;
mod entering;
pub mod groups;
mod hooks;
pub mod imported;
mod locks;
mod method;
pub mod noted;
mod suspicion;
mod volumes;
mod waiting;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use self::{groups::Groups, hooks::Turn};
use super::{
    app_key::AppKey,
    child::Run,
    claim::view::View,
    condition::{self, Finding, READY, SUCCEEDED, Truth},
    dump::Earlier,
    effect::{Decision, Effect, ObjectKey},
    locks::Previous,
    mover_job::MoverSettings,
    mover_task::{Ran, Report},
    vault,
    verified::Found,
    work::{Outcome, Progress, Seen, Work, Works, see},
};
use crate::api::{
    application::ProtectedApplication,
    recovery_point::{HooksInPoint, ObjectsInPoint, Purpose, RecoveryPoint, RecoveryPointStatus},
    vault::Vault,
};

/// How often a run in progress is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest deadline of a run, in seconds.
const PATIENCE: u64 = 30 * 60;
/// How much longer it may take to enter what was read, in seconds.
const ENTERING: u64 = 10 * 60;

/// Volumes of a point: what is told of each stands in the status of one object, which holds 1.5 MB.
const VOLUMES: usize = 1_000;

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
    /// The newest good point before this one, wherever it was made.
    pub previous: Option<Previous>,
    /// The good dumps of the points before this one, as far as this cluster has their records, by name.
    pub dumps: BTreeMap<String, Vec<Earlier>>,
    /// The `VolumeSnapshotClass` for each CSI driver.
    pub snapshot_classes: BTreeMap<String, String>,
    /// The tenant's snapshots of this run, by claim.
    pub snapshots: BTreeMap<String, SnapshotSeen>,
    /// What there is of group snapshots.
    pub groups: Groups,
    /// The movers of this run, by claim.
    pub jobs: BTreeMap<String, JobSeen>,
    /// What was found out about it since it was made.
    pub noted: Found,
    /// Everything that stands in the cluster for this run.
    pub made: Vec<ObjectKey>,
    /// A restore of the application that has begun to change it.
    pub restoring: Option<String>,
    /// Why something that this run wanted last was not done, such as a quota that is used up.
    pub hindrance: Option<String>,
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
    /// Its resource version.
    pub resource_version: Option<String>,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// Whether it is a block device, and not a file system.
    pub block: bool,
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
    /// Whether it is marked with [`EXCLUDE`](super::child::EXCLUDE).
    pub excluded: bool,
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
    /// Whether it asks for a block device, and not a file system.
    pub block: bool,
    /// `Pending` or `Lost`.
    pub phase: String,
    /// A pod that is not finished and waits for it.
    pub wanted_by: Option<String>,
    /// Whether it is marked with [`EXCLUDE`](super::child::EXCLUDE).
    pub excluded: bool,
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
    /// The instant of its data, to the second.
    pub taken_at: Option<Timestamp>,
    /// The same as the driver told it, to the nanosecond.
    pub instant: Option<Timestamp>,
    /// What the driver says is wrong.
    pub error: Option<String>,
    /// The `VolumeSnapshotContent` behind it, when that would outlive it, as its class says.
    pub retained: Option<String>,
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
        noted::take_over(point, &mut status, seen, now);
        return hold(point, status, seen, now);
    }
    let run = Run {
        namespace: point.namespace().unwrap_or_default(),
        name: point.name_any(),
        uid: point.uid().unwrap_or_default(),
    };
    // Before all else: nothing that is missing may keep the application held.
    match hooks::turn(&mut status, &run.namespace, seen, now) {
        Turn::Go => {}
        Turn::Wait(work, message) => {
            let mut decision = waiting(point, status, ("Hooks", message.to_owned()), now);
            decision.effects.extend(work.map(|it| Effect::Begin(Box::new(it))));
            return decision;
        }
        Turn::Failed(message) => return end(point, status, seen, Ending::Failed("HookFailed", message), now),
    }
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
        let claims = self.seen.sources.len() + self.seen.unbound.len();
        if claims > VOLUMES {
            let message = format!(
                "the namespace has {claims} claims, and a point holds {VOLUMES} at most: divide the application among \
                 namespaces. Nothing was read"
            );
            return end(self.point, status, self.seen, Ending::Failed("TooManyVolumes", message), self.now);
        }
        let epoch = view.epoch;
        let last = self.application.status.as_ref().and_then(|it| it.last_point.as_ref());
        status.id = Some(identify(epoch, &self.run.uid, self.now, last.map(|it| it.id.as_str())));
        status.epoch = Some(epoch);
        status.region = Some(self.seen.region.clone());
        status.started_at = Some(Time(self.now));
        status.lock = self.longer_lock();
        let unbound = self.seen.unbound.iter().map(|it| self.without_volume(it, branch));
        status.volumes = self.seen.sources.iter().map(|it| self.planned(it)).chain(unbound).collect();
        status.groups = self.grouped(&mut status.volumes);
        status.dumps = self.application.spec.backup.dumps.iter().map(|it| self.planned_dump(it)).collect();
        let hooks = self.application.spec.backup.hooks.clone().filter(|_| !self.stopped());
        status.hooks = hooks.map(HooksInPoint::planned);
        self.wait(status, "Preparing", "the volumes and objects of this moment are about to be read")
    }

    fn go_on(&self, mut status: RecoveryPointStatus) -> Decision<RecoveryPointStatus> {
        let mut effects = Vec::new();
        let age = status.started_at.as_ref().map_or(0, |it| self.now.as_second() - it.0.as_second());
        let patience = patience(self.application.spec.objectives.rpo.as_secs());
        let over = |seconds: u64| age > i64::try_from(seconds).unwrap_or(i64::MAX);
        if over(patience + ENTERING) || over(patience) && self.seen.vault.is_none() {
            return self.late(status, patience);
        }
        if self.seen.vault.is_none() {
            // Somebody deleted it meanwhile: movers cannot be told where to write.
            return self.wait(status, "VaultNotReady", self.vault_hindrance().unwrap_or_default());
        }
        let captured = self.capture(&mut status, &mut effects);
        if over(patience) {
            if captured.is_none() {
                return self.late(status, patience);
            }
            // What was read in time is kept.
            self.give_up(&mut status, patience);
        }
        self.read(&mut status, patience, &mut effects);
        status.bytes = Some(read_in_all(&status));
        let read = captured.is_some()
            && hooks::released(&status)
            && status.volumes.iter().all(volumes::settled)
            && status.dumps.iter().all(dumps::settled);
        let read = read && self.lock(&mut status, patience, &mut effects);
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
        // What is written in the vault stands here before: an operator that is ended in between writes the same again.
        if self.point.status.as_ref().is_none_or(|it| it.consistent_at.is_none()) {
            return self.wait(status, "Entering", "all is read, and is about to be entered in the catalogue");
        }
        self.commit(status)
    }

    /// The next step of all that is still to be read.
    fn read(&self, status: &mut RecoveryPointStatus, patience: u64, effects: &mut Vec<Effect>) {
        let mut steps = self.advance_groups(status);
        for volume in status.volumes.iter_mut().filter(|it| !volumes::settled(it)) {
            let mut step = Vec::new();
            self.advance(volume, patience, &mut step);
            steps.push(step);
        }
        status.skew_millis = self.skew(status).or(status.skew_millis);
        // No command answers in an application that is held.
        let free = hooks::released(status);
        for dump in status.dumps.iter_mut().filter(|it| free && !dumps::settled(it)) {
            let mut step = Vec::new();
            self.advance_dump(dump, patience, &mut step);
            steps.push(step);
        }
        // What cannot be done ends the effects of its pass: each pass then begins with another, so that one that is
        // refused does not hold up the rest.
        if self.seen.hindrance.is_some() && !steps.is_empty() {
            let turn = usize::try_from(self.now.as_second()).unwrap_or(0) % steps.len();
            steps.rotate_left(turn);
        }
        effects.extend(steps.into_iter().flatten());
    }

    fn late(&self, status: RecoveryPointStatus, patience: u64) -> Decision<RecoveryPointStatus> {
        let message = format!("not finished after {patience} s: {}", self.waiting_for(&status));
        end(self.point, status, self.seen, Ending::Failed("DeadlineExceeded", message), self.now)
    }

    /// The objects of the moment. Their instant, once they are stored. When all was read, they are not read again.
    fn capture(&self, status: &mut RecoveryPointStatus, effects: &mut Vec<Effect>) -> Option<Timestamp> {
        if let Some(read) = &status.consistent_at {
            return Some(read.0);
        }
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
        status: RecoveryPointStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Decision<RecoveryPointStatus> {
        waiting(self.point, status, (reason, message.into()), self.now)
    }
}

fn waiting(
    point: &RecoveryPoint,
    mut status: RecoveryPointStatus,
    (reason, message): (&'static str, String),
    now: Timestamp,
) -> Decision<RecoveryPointStatus> {
    let finding = Finding::new(SUCCEEDED, Truth::Unknown, reason, message);
    status.conditions = condition::conditions(&status.conditions, vec![finding], point.metadata.generation, now);
    Decision { status, effects: Vec::new(), recheck: Some(LOOK) }
}

/// What was read for a point, in bytes: not what an earlier one has read.
fn read_in_all(status: &RecoveryPointStatus) -> u64 {
    let volumes = status.volumes.iter().map(|it| it.bytes);
    let dumps = status.dumps.iter().filter(|it| it.made_for.is_none()).map(|it| it.bytes);
    volumes.chain(dumps).sum::<u64>() + status.objects.as_ref().map_or(0, |it| it.bytes)
}

/// `<epoch, 10 digits>-<ULID>`: the time and a digest of the run, so that a repeated pass finds the same. Newer than the
/// last point of the epoch also when that is of a clock that was ahead: the newest point is the one with the highest name.
fn identify(epoch: u64, uid: &str, now: Timestamp, last: Option<&str>) -> String {
    let digest = Sha256::digest(uid);
    let random = digest.iter().take(10).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let epoch = format!("{epoch:010}");
    let last =
        last.and_then(|it| it.strip_prefix(&epoch)?.strip_prefix('-')).and_then(|it| it.parse::<ulid::Ulid>().ok());
    let millis = last.map_or(millis, |last| millis.max(last.timestamp_ms() + 1));
    format!("{epoch}-{}", ulid::Ulid::from_parts(millis, random))
}

fn end(
    point: &RecoveryPoint,
    mut status: RecoveryPointStatus,
    seen: &Observed,
    ending: Ending,
    now: Timestamp,
) -> Decision<RecoveryPointStatus> {
    if let (Some(hooks), Ending::Failed(reason, message)) =
        (status.hooks.as_mut().filter(|it| hooks::holds(it)), &ending)
    {
        // The hooks after come first.
        hooks.failure.get_or_insert_with(|| format!("{reason}: {message}"));
        hooks.holding = crate::api::recovery_point::Holding::Releasing;
        return waiting(point, status, ("Hooks", "the hooks after run".to_owned()), now);
    }
    let id = status.id.clone().unwrap_or_default();
    if matches!(ending, Ending::Stored | Ending::Suspicious(_)) {
        status.verification = Some(noted::made(Time(now)));
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
    let findings = std::iter::once(finding).chain(status.verification.as_ref().map(noted::finding)).collect();
    status.conditions = condition::conditions(&status.conditions, findings, point.metadata.generation, now);
    let mut decision = tidy(point, status, seen);
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
        return tidy(point, status, seen);
    };
    let application = AppKey { namespace: point.namespace().unwrap_or_default(), name: point.spec.application.clone() };
    let work = Work::SetHold { vault, application, point: id, held };
    let done = |it: &&Progress| matches!(it, Progress::Done { work: done, .. } if **done == work);
    if seen.works.get("SetHold").as_ref().is_some_and(done) {
        status.held = Some(held);
        return tidy(point, status, seen);
    }
    let mut decision = tidy(point, status, seen);
    if !matches!(see(&seen.works, "SetHold", now), Seen::Waiting(_)) {
        decision.effects.push(Effect::Begin(Box::new(work)));
    }
    decision.recheck = Some(LOOK * 2);
    decision
}

/// Deletes what stands in the cluster for a run that has ended, until nothing does.
fn tidy(point: &RecoveryPoint, status: RecoveryPointStatus, seen: &Observed) -> Decision<RecoveryPointStatus> {
    let marked = groups::unmark(&point.namespace().unwrap_or_default(), &point.spec.application, &seen.groups);
    let effects: Vec<_> = seen.made.iter().cloned().map(Effect::Delete).chain(marked).collect();
    let recheck = (!effects.is_empty()).then_some(LOOK * 2);
    Decision { status, effects, recheck }
}

#[cfg(test)]
mod tests;
