//! What is kept in the vault and what is dropped, and when what nothing needs any more is pruned.
//!
//! Which points go is `core::retention`; here it is said when that is asked, and that what shall go stands in the
//! status before it does. Only the region that serves drops anything.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Pass;
use crate::{
    api::{
        application::{PruneStatus, RetentionStatus},
        vault::VaultSpec,
    },
    core::{
        child::{self, job_key},
        claim::view::View,
        condition::{self, Truth},
        effect::Effect,
        mover_job::Mover,
        mover_task::{Pruned, Task},
        recovery_point::JobSeen,
        retention::{REVIEWED, keep_data},
        work::{Outcome, Progress, Review, Seen, Work, see},
    },
};

/// How often the points are gone through.
const REVIEW: SignedDuration = SignedDuration::from_hours(1);
/// So many points are dropped after one review: their names stand in the status.
const AT_ONCE: usize = 500;
/// How often a repository is pruned at most.
const PRUNE: SignedDuration = SignedDuration::from_hours(24);
/// The longest a prune may take, in seconds.
const PRUNE_DEADLINE: u64 = 6 * 3_600;
/// What the prune's Job is named after, and found by.
pub const PRUNE_JOB: &str = "vault/prune";

impl Pass<'_> {
    /// Where the application serves: the points are gone through, and dropped.
    pub(super) fn retain(&mut self, view: &View) {
        if self.object.spec.backup.retention.is_none() {
            let prune = self.status.retention.as_ref().and_then(|it| it.prune.as_ref());
            if prune.is_none_or(|it| it.finished_at.is_some()) {
                self.status.retention = None;
            }
            return;
        }
        if !view.valid || self.vault_ready().is_err() {
            return;
        }
        let mut status = self.status.retention.take().unwrap_or_default();
        if self.intent_is_old() {
            status.dropping.clear();
        }
        if status.dropping.is_empty() {
            self.review(&mut status, view.epoch);
        } else {
            self.drop_points(&mut status, view.epoch);
        }
        self.start_prune(&mut status);
        self.status.retention = Some(status);
    }

    /// Whether what was to go has to be found anew: the policy may be another, or something looks emptied since.
    fn intent_is_old(&self) -> bool {
        let seen = self.object.status.as_ref().and_then(|it| it.observed_generation);
        let sound = self.sources_sound().is_none_or(|it| it.truth != Truth::False);
        seen != self.object.metadata.generation || !sound
    }

    fn review(&mut self, status: &mut RetentionStatus, epoch: u64) {
        let due = match see(&self.seen.works, "ReviewPoints", self.now) {
            Seen::Done(Outcome::Reviewed(review), at) => {
                // What was found before the last drop names points that are gone.
                if self.dropped_at().is_none_or(|dropped| dropped < at) {
                    self.take_over_review(status, review);
                }
                self.look_at(at + REVIEW);
                at + REVIEW <= self.now
            }
            Seen::Done(..) | Seen::Waiting(None) => false,
            Seen::Waiting(Some(failure)) => {
                status.suspended = Some(failure.message.clone());
                false
            }
            Seen::Due(_) => true,
        };
        if due && status.dropping.is_empty() {
            let failovers = self.seen.failovers.iter().filter_map(|it| it.status.as_ref());
            let failovers = failovers.filter(|it| !condition::ended(&it.conditions)).map(|it| &it.point);
            let restores = self.seen.restores.iter().filter_map(|it| it.status.as_ref());
            let restores = restores.filter(|it| !condition::ended(&it.conditions)).map(|it| &it.point);
            let work = Work::ReviewPoints {
                vault: self.vault_name(),
                application: self.key.clone(),
                policy: Box::new(self.object.spec.backup.retention.clone().unwrap_or_default()),
                in_use: failovers.chain(restores).flatten().cloned().collect(),
                epoch,
            };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    fn take_over_review(&mut self, status: &mut RetentionStatus, review: &Review) {
        let found = (review.kept, &review.points, &review.suspended);
        if found != (status.kept, &status.points, &status.suspended) {
            status.kept = review.kept;
            status.points = review.points.iter().take(REVIEWED).cloned().collect();
            status.suspended.clone_from(&review.suspended);
            status.changed_at = Some(condition::whole_second(self.now));
        }
        status.dropping = review.drop.iter().take(AT_ONCE).cloned().collect();
    }

    /// When points were last dropped by this process.
    fn dropped_at(&self) -> Option<Timestamp> {
        match self.seen.works.get("DropPoints")? {
            Progress::Done { at, .. } | Progress::Failed { at, .. } => Some(*at),
            Progress::Running => None,
        }
    }

    /// Drops what the status names since an earlier pass.
    fn drop_points(&mut self, status: &mut RetentionStatus, epoch: u64) {
        let written = self.object.status.as_ref().and_then(|it| it.retention.as_ref());
        if written.is_none_or(|it| it.dropping != status.dropping) {
            return;
        }
        match self.seen.works.get("DropPoints") {
            Some(Progress::Done { work, outcome: Outcome::Dropped { dropped, refused }, .. }) if matches!(work.as_ref(), Work::DropPoints { ids, .. } if *ids == status.dropping) =>
            {
                status.dropped += dropped.len() as u64;
                status.refused = refused.len() as u64;
                status.dropping.clear();
                self.forget_dropped(dropped);
                if !refused.is_empty() {
                    let note = format!("the vault refused to delete {} points: they are tried again", refused.len());
                    self.effects.push(Effect::warn("RetentionRefused", note));
                }
                return;
            }
            // It does not pass: what shall go is found anew.
            Some(Progress::Failed { failure, .. }) if failure.lasting => return status.dropping.clear(),
            Some(Progress::Done { .. } | Progress::Failed { .. } | Progress::Running) | None => {}
        }
        let done = matches!(self.seen.works.get("DropPoints"), Some(Progress::Done { .. }));
        if done || matches!(see(&self.seen.works, "DropPoints", self.now), Seen::Due(_)) {
            let (vault, application) = (self.vault_name(), self.key.clone());
            let work = Work::DropPoints { vault, application, ids: status.dropping.clone(), epoch };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    /// The objects of points that are gone from the vault go from the cluster.
    fn forget_dropped(&mut self, dropped: &[String]) {
        let gone = |id: Option<&String>| id.is_some_and(|id| dropped.contains(id));
        let names = self.seen.points.iter().filter(|it| gone(it.status.as_ref().and_then(|it| it.id.as_ref())));
        let space = Some(self.key.namespace.as_str());
        let keys = names.map(|it| child::key("reprise.dev/v1alpha1", "RecoveryPoint", space, &it.name_any()));
        self.effects.extend(keys.map(Effect::Delete));
    }

    /// A prune is due a day after the last one, when points were dropped since, or something is still marked.
    fn start_prune(&mut self, status: &mut RetentionStatus) {
        let last = status.prune.clone().unwrap_or_default();
        let idle = last.started_at.is_none() || last.finished_at.is_some();
        let useful = status.dropped > last.dropped || last.pending_bytes > 0 || last.failure.is_some();
        let due = last.started_at.as_ref().is_none_or(|it| it.0 + PRUNE <= self.now);
        if idle && useful && due {
            status.prune = Some(PruneStatus {
                started_at: Some(condition::whole_second(self.now)),
                finished_at: None,
                dropped: status.dropped,
                failure: None,
                ..last
            });
        }
    }

    /// The prune's Job, in whatever role: it is made where the application serves, told of and deleted everywhere.
    pub(super) fn follow_prune(&mut self, serving: bool) {
        let written = self.object.status.as_ref().and_then(|it| it.retention.as_ref()).and_then(|it| it.prune.as_ref());
        let begun = written.and_then(|it| it.started_at.clone());
        if let Some(status) = self.status.retention.as_mut().filter(|_| !serving) {
            // Who serves decides what goes: this would be an old decision when it does so again.
            status.dropping.clear();
        }
        let Some(movers) = &self.seen.movers else { return };
        let key = job_key(&movers.namespace, &self.run().derived(PRUNE_JOB));
        let Some(prune) = self.status.retention.as_mut().and_then(|it| it.prune.as_mut()) else { return };
        let going = prune.finished_at.is_none() && prune.started_at == begun;
        match &self.seen.prune {
            Some(JobSeen::Succeeded(report)) if going => {
                let pruned = report.pruned.clone().unwrap_or_default();
                record(prune, &pruned, condition::whole_second(self.now));
                if pruned.refused > 0 {
                    let note = format!("the vault refused to delete {} files", pruned.refused);
                    self.effects.push(Effect::warn("PruneRefused", note));
                }
            }
            Some(JobSeen::Failed { message, .. }) if going => {
                prune.finished_at = Some(condition::whole_second(self.now));
                prune.failure = Some(message.clone());
                self.effects.push(Effect::warn("PruneFailed", message.clone()));
            }
            None if going && serving => self.make_prune(),
            None if going => {
                prune.finished_at = Some(condition::whole_second(self.now));
                prune.failure = Some("it was not begun before this region stopped serving".to_owned());
            }
            Some(_) if prune.finished_at.is_some() => self.effects.push(Effect::Delete(key)),
            Some(_) | None => {}
        }
    }

    fn make_prune(&mut self) {
        let Some(vault) = self.seen.vault.as_ref().filter(|_| self.vault_ready().is_ok()) else { return };
        self.effects.extend(self.pruner(&vault.spec, PRUNE_JOB));
    }

    /// The Job that removes from a vault the data that none of the application's points needs.
    pub(super) fn pruner(&self, vault: &VaultSpec, name: &str) -> Option<Effect> {
        let task = Task::Prune {
            namespace: self.key.namespace.clone(),
            application: self.key.name.clone(),
            region: self.seen.region.clone(),
            keep_seconds: keep_data(self.object.spec.objectives.rpo.as_secs()),
        };
        let run = self.run();
        let mover = Mover {
            settings: self.seen.movers.as_ref()?,
            run: &run,
            claim: name,
            task: &task,
            mount: None,
            vault,
            deadline: PRUNE_DEADLINE,
        };
        Some(Effect::Apply(Box::new(mover.job())))
    }
}

pub(super) fn record(
    prune: &mut PruneStatus,
    pruned: &Pruned,
    now: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
) {
    prune.finished_at = Some(now);
    prune.snapshots = pruned.snapshots;
    prune.manifests = pruned.manifests;
    prune.reclaimed_bytes = pruned.reclaimed_bytes;
    prune.pending_bytes = pruned.pending_bytes;
    prune.refused = pruned.refused;
    prune.failure = None;
}
