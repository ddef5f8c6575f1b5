//! Bringing one volume back: from a snapshot in the repository into the tenant's `PersistentVolumeClaim`.
//!
//! The data is written into a volume that is bound to a claim in the operator's namespace, where the mover runs; then
//! the volume is handed to the tenant's claim. A volume that the tenant's claim has already is taken over first, so
//! that only what differs is transferred. A volume is made safe (`Retain`) before the claim on it is deleted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::{
    app_key::AppKey,
    child::{CLAIM, MANAGED_BY, RUN, Run, claim_key, job_key, volume_mode},
    claim_kept::{KEPT, Kept},
    effect::Effect,
    mover_job::{Mount, Mover, MoverSettings},
    mover_task::Task,
    point::Volume,
    recovery_point::JobSeen,
    volume_ahead::{AHEAD, Ahead, Contents, TRANSFERRED},
    work::doubled,
};
use crate::api::{mappings::Mappings, vault::VaultSpec};

/// On a `PersistentVolume`: the snapshot that it was made equal to, or those that it consists of ([`Contents`]), or the one
/// that some of its paths are of.
pub const RESTORED_FROM: &str = "reprise.dev/restored-from";
/// Before the snapshot in `RESTORED_FROM`: only some paths are as in it.
const PARTS_OF: &str = "parts of ";
/// The same: it has nothing under these paths.
const NOTHING_OF: &str = "nothing of ";
/// On a `PersistentVolume`: the reclaim policy it had before.
pub const RECLAIM_POLICY: &str = "reprise.dev/reclaim-policy";
/// On a `PersistentVolume`: how many of its movers failed in a row, and when the last of them did.
pub const FAILURES: &str = "reprise.dev/mover-failures";
/// After a mover failed: the first pause and the longest one, in seconds.
const PAUSES: (i64, i64) = (10, 300);

/// What was found of one volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The tenant's claim.
    pub tenant: Option<ClaimSeen>,
    /// The operator's claim.
    pub own: Option<ClaimSeen>,
    /// The volume: the one marked with this run, or else the one that a claim is bound to.
    pub volume: Option<VolumeSeen>,
    /// The mover.
    pub job: Option<JobSeen>,
    /// Whether the storage class of the point is here.
    pub class_present: bool,
    /// What was restored ahead of a failover.
    pub ahead: Option<Ahead>,
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimSeen {
    /// Its uid.
    pub uid: String,
    /// The volume it is bound to, or asks for.
    pub volume: Option<String>,
    /// Whether it is bound.
    pub bound: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// The size that it asks for.
    pub size: Option<String>,
    /// What it says of itself.
    pub kept: Kept,
}

/// A `PersistentVolume`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeSeen {
    /// Its name.
    pub name: String,
    /// Its reclaim policy.
    pub reclaim: String,
    /// The claim it is for: namespace, name, and the uid if one stands with it.
    pub claim: Option<(String, String, Option<String>)>,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// Its volume attributes class.
    pub attributes_class: Option<String>,
    /// The run that works on it, or did last.
    pub run: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// A volume of a point, as it shall be where storage classes have other names.
#[must_use]
pub fn mapped(volume: &Volume, mappings: &Mappings) -> Volume {
    let storage_class = volume.storage_class.as_deref().map(|it| mappings.storage_class(it).to_owned());
    Volume { storage_class, ..volume.clone() }
}

/// One volume to be brought back.
pub struct Restore<'a> {
    /// The run.
    pub run: &'a Run,
    /// What movers have in common.
    pub movers: &'a MoverSettings,
    /// The application whose data it is: another namespace's, where it is not restored in place.
    pub application: &'a AppKey,
    /// The vault.
    pub vault: &'a VaultSpec,
    /// The point's id.
    pub point: &'a str,
    /// The volume, as it stands in the point.
    pub volume: &'a Volume,
    /// What is written into it.
    pub data: Data<'a>,
    /// What was found.
    pub seen: &'a Seen,
    /// Seconds after which Kubernetes ends the mover.
    pub deadline: u64,
    /// Whether it is restored ahead: the volume stays with the operator's claim then.
    pub ahead: bool,
    /// The time.
    pub now: Timestamp,
}

/// What a mover writes into a volume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Data<'a> {
    /// The snapshot: what lies under these paths of it. None: all of it.
    Snapshot(&'a [String]),
    /// What this task writes, whose report names the volume's snapshot.
    Task(&'a Task),
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on; what is being done.
    Going(String),
    /// The tenant's claim has the data.
    Done,
    /// The repository's data is bad: the point must be passed over.
    Corrupt(String),
    /// The mover failed; it is run again after a pause.
    Failed(String),
}

/// Whether a mark says that only some paths were restored.
pub(super) fn is_of_paths(mark: &str) -> bool {
    mark.starts_with(PARTS_OF) || mark.starts_with(NOTHING_OF)
}

/// How the application has a volume of a run that is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// As before the run.
    Untouched,
    /// A mover may have changed some of it.
    Partly,
    /// As in the point.
    Whole,
}

impl Restore<'_> {
    /// The next step of giving the volume back, as it is, to the tenant's claim: its run is cancelled.
    #[must_use]
    pub fn give_back(&self) -> (Step, Vec<Effect>) {
        let (name, home) = (self.run.derived(&self.volume.claim), &self.movers.namespace);
        match self.marked() {
            Some(volume) => self.hand_over(volume),
            None if self.seen.job.is_some() || self.seen.own.is_some() => {
                let effects = vec![Effect::Delete(job_key(home, &name)), Effect::Delete(claim_key(home, &name))];
                (Step::Going("the mover is tidied away".into()), effects)
            }
            None => (Step::Done, Vec::new()),
        }
    }

    /// How the application has the volume, once it is given back.
    #[must_use]
    pub fn held(&self) -> Held {
        match self.marked() {
            None => Held::Untouched,
            Some(it) if self.is_marked(it) => Held::Whole,
            Some(_) => Held::Partly,
        }
    }

    /// What the volume is marked with when its mover is through, which restored so many files. With only some paths it
    /// equals no snapshot.
    fn mark(&self, files: u64) -> String {
        let snapshot = &self.volume.snapshot;
        match (self.data, files) {
            (Data::Snapshot([]) | Data::Task(_), _) => snapshot.clone(),
            (Data::Snapshot(_), 0) => format!("{NOTHING_OF}{snapshot}"),
            (Data::Snapshot(_), _) => format!("{PARTS_OF}{snapshot}"),
        }
    }

    /// Whether the volume is as it shall be.
    fn is_marked(&self, volume: &VolumeSeen) -> bool {
        match self.data {
            Data::Snapshot([]) | Data::Task(_) => Contents::of(volume).equals(&self.volume.snapshot),
            Data::Snapshot(_) => {
                volume.annotations.get(RESTORED_FROM).is_some_and(|it| *it == self.mark(0) || *it == self.mark(1))
            }
        }
    }

    /// Whether no file of the snapshot lies under the paths.
    #[must_use]
    pub fn found_nothing(&self) -> bool {
        let mark = self.marked().and_then(|it| it.annotations.get(RESTORED_FROM));
        matches!(self.data, Data::Snapshot([_, ..])) && mark == Some(&self.mark(0))
    }

    /// The volume, when this run has taken it into its hands.
    pub(super) fn marked(&self) -> Option<&VolumeSeen> {
        self.seen.volume.as_ref().filter(|it| it.run.as_ref() == Some(&self.run.uid))
    }

    /// The next step, and what it takes.
    #[must_use]
    pub fn next(&self) -> (Step, Vec<Effect>) {
        if let Some(adopting) = self.adopt() {
            return adopting;
        }
        let seen = self.seen;
        match (self.marked(), &seen.tenant) {
            (Some(volume), Some(tenant))
                if self.ahead && tenant.volume.as_ref().is_some_and(|it| *it != volume.name) =>
            {
                let other = tenant.volume.as_deref().unwrap_or_default();
                let message = format!(
                    "the claim {} was made anew with volume {other}, which a failover would take instead: leave \
                     PersistentVolumeClaims out of GitOps in a standby, and delete it",
                    self.volume.claim
                );
                (Step::Failed(message), Vec::new())
            }
            (Some(_), _) if self.ahead && seen.own.as_ref().is_some_and(|it| !self.fits(it)) => self.drop_smaller(),
            (Some(volume), _) if self.is_marked(volume) => {
                if self.ahead {
                    self.keep(volume)
                } else {
                    self.hand_over(volume)
                }
            }
            (Some(volume), _) => self.fill(volume),
            // A claim that is only just being bound has its data already: its volume names it.
            (None, Some(tenant)) if tenant.bound || self.names_tenant() => self.take_over(),
            // A claim that never got a volume holds nothing.
            (None, Some(_)) if !self.ahead => {
                (Step::Going("the unbound claim is deleted".into()), vec![Effect::Delete(self.tenant_key())])
            }
            (None, _) => self.make(),
        }
    }

    /// Marks the volume that the tenant's claim is bound to: from here on it is kept whatever happens to the claim.
    fn take_over(&self) -> (Step, Vec<Effect>) {
        let Some(volume) = &self.seen.volume else {
            return (Step::Going("the volume is looked up".into()), Vec::new());
        };
        let mut annotations = Self::taken(volume);
        annotations[KEPT] = json!(self.seen.tenant.as_ref().and_then(|it| it.kept.text()));
        let patch = json!({
            "metadata": {"annotations": annotations},
            "spec": {"persistentVolumeReclaimPolicy": "Retain"},
        });
        (Step::Going("the existing volume is taken over".into()), vec![self.patch(volume, patch)])
    }

    fn taken(volume: &VolumeSeen) -> serde_json::Value {
        // A run before this one may have left its own `Retain` behind: the policy of old is the one it wrote down.
        let reclaim = volume.annotations.get(RECLAIM_POLICY).unwrap_or(&volume.reclaim);
        json!({RECLAIM_POLICY: reclaim, RESTORED_FROM: null, FAILURES: null, AHEAD: null, TRANSFERRED: null, KEPT: null})
    }

    /// No volume yet: the operator's claim makes one, and the mover's pod has it bound.
    fn make(&self) -> (Step, Vec<Effect>) {
        let name = self.run.derived(&self.volume.claim);
        if let Some(own) = self.seen.own.as_ref().filter(|it| it.bound) {
            let Some(volume) = self.seen.volume.as_ref().filter(|it| Some(&it.name) == own.volume.as_ref()) else {
                return (Step::Going("the new volume is looked up".into()), Vec::new());
            };
            let patch = if self.ahead {
                // Nothing but what the vault has will ever be on it: it may go with its claim.
                let contents = Contents::of(&VolumeSeen::default()).announcing(&self.volume.snapshot);
                json!({"metadata": {"annotations": {RESTORED_FROM: contents.text(), FAILURES: null}}})
            } else {
                json!({"metadata": {"annotations": Self::taken(volume)}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}})
            };
            return (Step::Going("the new volume is bound".into()), vec![self.patch(volume, patch)]);
        }
        let mut spec = json!({
            "accessModes": self.volume.access_modes,
            "volumeMode": volume_mode(self.volume.block),
            "resources": {"requests": {"storage": self.volume.size}},
        });
        // A class that this region does not have is replaced by the region's default.
        if self.seen.class_present {
            spec["storageClassName"] = json!(self.volume.storage_class);
        }
        let key = claim_key(&self.movers.namespace, &name);
        let claim = self.run.object(&key, &self.volume.claim, json!({"spec": spec}));
        if let Some(JobSeen::Failed { message, .. }) = &self.seen.job {
            // It waited for the volume until its deadline.
            return (Step::Failed(message.clone()), vec![Effect::Delete(job_key(&self.movers.namespace, &name))]);
        }
        // The mover is made at once: with WaitForFirstConsumer it is what has the volume made.
        (Step::Going("a new volume is made".into()), vec![Effect::Apply(Box::new(claim)), self.mover(Vec::new())])
    }

    /// The volume is this run's: the operator's claim gets it, and the mover fills it.
    fn fill(&self, volume: &VolumeSeen) -> (Step, Vec<Effect>) {
        let name = self.run.derived(&self.volume.claim);
        let home = &self.movers.namespace;
        if self.seen.tenant.as_ref().is_some_and(|it| it.volume.as_ref() == Some(&volume.name)) {
            if volume.reclaim != "Retain" || volume.annotations.contains_key(RESTORED_FROM) {
                return self.take_over();
            }
            return (Step::Going("the claim is taken off the volume".into()), vec![Effect::Delete(self.tenant_key())]);
        }
        if !self.given_to(volume, home, &name) {
            return (Step::Going("the volume is given to the mover".into()), vec![self.give(volume, home, &name)]);
        }
        // A mover without its claim never starts. One with another volume began before the tenant's claim was seen:
        // what it wrote there is not in this volume.
        let elsewhere = |it: &ClaimSeen| it.deleting || it.volume.as_ref() != Some(&volume.name);
        if self.seen.own.as_ref().map_or(self.seen.job.is_some(), elsewhere) {
            let effects = vec![Effect::Delete(job_key(home, &name)), Effect::Delete(claim_key(home, &name))];
            return (Step::Going("the mover of another volume is tidied away".into()), effects);
        }
        match &self.seen.job {
            // One that worked for a point that was passed over since.
            Some(JobSeen::Succeeded(report)) if report.snapshot.as_ref() != Some(&self.volume.snapshot) => (
                Step::Going("the mover of another point is tidied away".into()),
                vec![Effect::Delete(job_key(home, &name))],
            ),
            Some(JobSeen::Succeeded(report)) => {
                let note = format!("{} files restored", report.files);
                let transferred = report.added_bytes.to_string();
                let mark = json!({RESTORED_FROM: self.mark(report.files), FAILURES: null, TRANSFERRED: transferred});
                let patch = json!({"metadata": {"annotations": mark}});
                (Step::Going(note), vec![self.patch(volume, patch)])
            }
            Some(JobSeen::Failed { message, corrupt: true, .. }) => (Step::Corrupt(message.clone()), Vec::new()),
            Some(JobSeen::Failed { message, at, corrupt: false, .. }) => self.run_again(volume, message, *at),
            Some(JobSeen::Running(why)) => {
                (Step::Going(why.clone().unwrap_or_else(|| "the data is being restored".into())), Vec::new())
            }
            None => self.start(volume, home, &name),
        }
    }

    /// Starts the mover. Of a volume that is known, what is about to be written into it is written down first.
    fn start(&self, volume: &VolumeSeen, home: &str, name: &str) -> (Step, Vec<Effect>) {
        let (contents, wanted) = (Contents::of(volume), &self.volume.snapshot);
        if (self.ahead || volume.annotations.contains_key(RESTORED_FROM)) && !contents.announces(wanted) {
            let announced = contents.announcing(wanted).text();
            let patch = json!({"metadata": {"annotations": {RESTORED_FROM: announced}}});
            return (Step::Going("what the volume will hold is written down".into()), vec![self.patch(volume, patch)]);
        }
        let claim = self.bound_claim(home, name, volume);
        (Step::Going("the mover is started".into()), vec![claim, self.mover(contents.base(wanted))])
    }

    /// A failure is counted on the volume before the mover is deleted. It is left to be looked at until the pause ends.
    fn run_again(&self, volume: &VolumeSeen, message: &str, at: Timestamp) -> (Step, Vec<Effect>) {
        let counted = volume.annotations.get(FAILURES).and_then(|it| it.split_once(' '));
        let (times, last) =
            counted.map_or((0, None), |(times, last)| (times.parse().unwrap_or(0_u32), last.parse().ok()));
        if last != Some(at) {
            let patch = json!({"metadata": {"annotations": {FAILURES: format!("{} {at}", times.saturating_add(1))}}});
            return (Step::Failed(message.to_owned()), vec![self.patch(volume, patch)]);
        }
        let due = at + doubled(PAUSES.0, times, PAUSES.1);
        let name = self.run.derived(&self.volume.claim);
        // One that failed in the future failed before the clock was set back.
        let again = (due <= self.now || at > self.now).then(|| Effect::Delete(job_key(&self.movers.namespace, &name)));
        let told = format!("the mover failed, {times} times in a row, and is run again at {due}: {message}");
        (Step::Failed(told), again.into_iter().collect())
    }

    /// The data is there: the tenant's claim gets the volume.
    fn hand_over(&self, volume: &VolumeSeen) -> (Step, Vec<Effect>) {
        let (name, home) = (self.run.derived(&self.volume.claim), &self.movers.namespace);
        let (space, claim) = (&self.run.namespace, &self.volume.claim);
        if self.seen.job.is_some() || self.seen.own.is_some() {
            let effects = vec![Effect::Delete(job_key(home, &name)), Effect::Delete(claim_key(home, &name))];
            return (Step::Going("the mover is tidied away".into()), effects);
        }
        if !self.given_to(volume, space, claim) {
            return (
                Step::Going("the volume is given to the application".into()),
                vec![self.give(volume, space, claim)],
            );
        }
        let tenant = self.seen.tenant.as_ref();
        if let Some(other) = tenant.and_then(|it| it.volume.as_ref()).filter(|it| **it != volume.name) {
            // It may hold data that nobody has saved: it is not ours to delete.
            let message = format!(
                "the claim {claim} was made anew with volume {other} meanwhile: delete it, and {} takes its place",
                volume.name
            );
            return (Step::Going(message), Vec::new());
        }
        if tenant.is_some_and(|it| it.deleting) {
            // With its policy of old, the volume would go with it.
            return (Step::Going("the claim of before is being deleted".into()), Vec::new());
        }
        if !tenant.is_some_and(|it| it.bound) {
            return (Step::Going("the claim is bound".into()), vec![self.bound_claim(space, claim, volume)]);
        }
        if let Some(policy) = volume.annotations.get(RECLAIM_POLICY) {
            // What is written down goes with it: the next run must not put back what somebody has changed since.
            let annotations = json!({RECLAIM_POLICY: null, KEPT: null});
            let patch =
                json!({"metadata": {"annotations": annotations}, "spec": {"persistentVolumeReclaimPolicy": policy}});
            return (Step::Going("the reclaim policy is put back".into()), vec![self.patch(volume, patch)]);
        }
        (Step::Done, Vec::new())
    }

    /// Whether the volume is for this claim, and can be bound to it: the uid of a claim that is gone keeps a volume
    /// `Released` for ever, also when another claim of the same name is there.
    fn given_to(&self, volume: &VolumeSeen, namespace: &str, name: &str) -> bool {
        let there = if namespace == self.movers.namespace { &self.seen.own } else { &self.seen.tenant };
        volume.claim.as_ref().is_some_and(|(space, claim, uid)| {
            let current = uid.as_ref().is_none_or(|uid| there.as_ref().is_some_and(|it| it.uid == *uid));
            space == namespace && claim == name && current
        })
    }

    /// Whether the volume that was found is the tenant's claim's own.
    fn names_tenant(&self) -> bool {
        let tenant = self.seen.tenant.as_ref().map(|it| it.uid.as_str());
        let named = self.seen.volume.as_ref().and_then(|it| it.claim.as_ref()).and_then(|(_, _, uid)| uid.as_deref());
        tenant.is_some() && tenant == named
    }

    /// Makes the volume available to one claim only.
    fn give(&self, volume: &VolumeSeen, namespace: &str, name: &str) -> Effect {
        let claim = json!({
            "namespace": namespace, "name": name, "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "uid": null, "resourceVersion": null,
        });
        self.patch(volume, json!({"spec": {"claimRef": claim}}))
    }

    fn bound_claim(&self, namespace: &str, name: &str, volume: &VolumeSeen) -> Effect {
        let mut spec = json!({
            "volumeName": volume.name,
            "storageClassName": volume.storage_class.clone().unwrap_or_default(),
            "accessModes": self.volume.access_modes,
            "volumeMode": volume_mode(self.volume.block),
            "resources": {"requests": {"storage": self.volume.size}},
        });
        // A selector is not brought back: it chooses among volumes that are there, and this one is chosen.
        if let Some(class) = &volume.attributes_class {
            spec["volumeAttributesClassName"] = json!(class);
        }
        let key = claim_key(namespace, name);
        let mut object = self.run.object(&key, &self.volume.claim, json!({"spec": spec}));
        if namespace == self.run.namespace {
            // It is the tenant's from now on: what tidies up after runs must not find it.
            let Kept { labels, annotations } = Kept::read(&volume.annotations);
            object.metadata.labels = Some(labels).filter(|it| !it.is_empty());
            object.metadata.annotations = Some(annotations).filter(|it| !it.is_empty());
        }
        Effect::Apply(Box::new(object))
    }

    fn mover(&self, base: Vec<String>) -> Effect {
        let mount = Mount::claim(self.run.derived(&self.volume.claim), self.volume.block, false);
        let restore = |paths: &[String]| Task::Restore {
            namespace: self.application.namespace.clone(),
            application: self.application.name.clone(),
            snapshot: self.volume.snapshot.clone(),
            target: mount.path().to_owned(),
            // On a volume that is restored ahead there is nothing but what restores wrote.
            exclude: if self.ahead { Vec::new() } else { self.volume.exclude.clone() },
            base: if paths.is_empty() { base } else { Vec::new() },
            paths: paths.to_vec(),
            point: Some(self.point.to_owned()),
        };
        let task = match self.data {
            Data::Snapshot(paths) => restore(paths),
            Data::Task(task) => task.clone(),
        };
        let mover = Mover {
            settings: self.movers,
            run: self.run,
            claim: &self.volume.claim,
            task: &task,
            mount: Some(mount),
            vault: self.vault,
            deadline: self.deadline,
        };
        Effect::Apply(Box::new(mover.job()))
    }

    /// Changes the volume, which is marked with the run from then on.
    pub(super) fn patch(&self, volume: &VolumeSeen, mut patch: serde_json::Value) -> Effect {
        patch["metadata"]["labels"] = json!({MANAGED_BY.0: MANAGED_BY.1, RUN: self.run.uid});
        patch["metadata"]["annotations"][CLAIM] = json!(self.volume.claim);
        Effect::PatchVolume { name: volume.name.clone(), patch, resource_version: volume.resource_version.clone() }
    }

    fn tenant_key(&self) -> super::effect::ObjectKey {
        claim_key(&self.run.namespace, &self.volume.claim)
    }
}

/// What is done about a volume that a run, which is over, made `Retain` and did not hand over: the patch.
///
/// Is it bound to a claim that stays, its policy is put back, and the mark removed. Else it is kept: what is on it may be
/// the only copy of what the region had written, and with its policy of old it would be deleted at once.
#[must_use]
pub fn let_go(volume: &VolumeSeen, claim: Option<&ClaimSeen>) -> Option<serde_json::Value> {
    let policy = volume.annotations.get(RECLAIM_POLICY)?;
    let claim = claim.filter(|it| it.bound && !it.deleting && it.volume.as_ref() == Some(&volume.name))?;
    let named = volume.claim.as_ref().and_then(|(_, _, uid)| uid.as_ref());
    (named == Some(&claim.uid)).then(|| {
        json!({
            "metadata": {
                "labels": {RUN: null},
                "annotations": {RECLAIM_POLICY: null, RESTORED_FROM: null, FAILURES: null, AHEAD: null, KEPT: null},
            },
            "spec": {"persistentVolumeReclaimPolicy": policy},
        })
    })
}

#[cfg(test)]
#[path = "volume_restore_tests.rs"]
mod tests;
