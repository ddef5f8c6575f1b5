//! What is kept in the other vaults, and what is dropped and pruned there, while this region serves.
//!
//! The points of a vault are gone through after each copy into it, by the rules that hold for the first one or by its own.
//! What shall go stands in the status before it does. Nothing is copied while a vault is pruned.

use jiff::{SignedDuration, Timestamp};

use super::{Pass, retention::record};
use crate::{
    api::application::{CopyRetention, CopyStatus, PruneStatus, Retention},
    core::{
        child::job_key,
        condition,
        effect::Effect,
        recovery_point::JobSeen,
        work::{Outcome, Progress, Review, Seen, Work, see},
    },
};

/// So many points are dropped after one review: their names stand in the status.
const AT_ONCE: usize = 500;
/// How often a repository is pruned at most.
const PRUNE: SignedDuration = SignedDuration::from_hours(24);

/// What the Job that prunes a vault is named after, and found by.
#[must_use]
pub fn prune_job(vault: &str) -> String {
    format!("prune of {vault}")
}

impl Pass<'_> {
    /// Does what is due in one of the other vaults. Whether one is being pruned.
    pub(super) fn retain_copies(&mut self) -> bool {
        let mut pruning = false;
        for at in 0..self.object.spec.backup.copies.len() {
            let Some(policy) = self.copy_policy(at) else {
                self.status.copies[at].retention = None;
                continue;
            };
            pruning |= self.follow_copy_prune(at);
            if !pruning && self.status.copies[at].point.is_some() && self.retain_copy(at, &policy) {
                break;
            }
        }
        pruning
    }

    fn copy_policy(&self, at: usize) -> Option<Retention> {
        let backup = &self.object.spec.backup;
        backup.copies.get(at)?.retention.clone().or_else(|| backup.retention.clone())
    }

    /// Whether something is to be done in this vault: one after another, since work has one name in all of them.
    fn retain_copy(&mut self, at: usize, policy: &Retention) -> bool {
        let mut status = self.status.copies[at].retention.take().unwrap_or_default();
        let seen = self.object.status.as_ref().and_then(|it| it.observed_generation);
        if seen != self.object.metadata.generation {
            // The rules may be others.
            (status.dropping, status.reviewed) = (Vec::new(), None);
        }
        let newest = self.status.copies[at].point.clone().unwrap_or_default();
        let busy = if !status.dropping.is_empty() {
            self.drop_copied(at, &mut status);
            true
        } else if status.reviewed.as_ref() != Some(&newest) {
            self.review_copy(at, &mut status, policy, newest);
            true
        } else {
            start_prune(&mut status, self.now)
        };
        self.status.copies[at].retention = Some(status);
        busy
    }

    fn review_copy(&mut self, at: usize, status: &mut CopyRetention, policy: &Retention, newest: String) {
        let name = self.status.copies[at].vault.clone();
        if let Some(Progress::Done { work, outcome: Outcome::Reviewed(review), .. }) = self.seen.works.get("ReviewCopy")
            && matches!(work.as_ref(), Work::ReviewCopy { vault, newest: of, .. } if *vault == name && *of == newest)
        {
            let Review { kept, drop, suspended, .. } = review.as_ref();
            (status.kept, status.suspended) = (*kept, suspended.clone());
            status.dropping = drop.iter().take(AT_ONCE).cloned().collect();
            // What is more goes after the next copy.
            status.reviewed = Some(newest);
            return;
        }
        let waiting = matches!(see(&self.seen.works, "ReviewCopy", self.now), Seen::Waiting(_));
        if let Seen::Waiting(Some(failure)) | Seen::Due(Some(failure)) = see(&self.seen.works, "ReviewCopy", self.now) {
            status.suspended = Some(failure.message.clone());
        }
        if !waiting {
            let work = Work::ReviewCopy {
                vault: name,
                first: self.vault_name(),
                application: self.key.clone(),
                policy: Box::new(policy.clone()),
                newest,
                epoch: self.status.epoch.unwrap_or(0),
            };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    /// Drops what the status names since an earlier pass.
    fn drop_copied(&mut self, at: usize, status: &mut CopyRetention) {
        let name = self.status.copies[at].vault.clone();
        let written = self.object.status.as_ref().and_then(|it| it.copies.iter().find(|it| it.vault == name));
        if written.and_then(|it| it.retention.as_ref()).is_none_or(|it| it.dropping != status.dropping) {
            return;
        }
        match self.seen.works.get("DropCopies") {
            Some(Progress::Done { work, outcome: Outcome::Dropped { dropped, refused }, .. }) if matches!(work.as_ref(), Work::DropCopies { vault, ids, .. } if *vault == name && *ids == status.dropping) =>
            {
                status.dropped += dropped.len() as u64;
                status.refused = refused.len() as u64;
                return status.dropping.clear();
            }
            // It does not pass: what shall go is found anew.
            Some(Progress::Failed { failure, .. }) if failure.lasting => {
                status.reviewed = None;
                return status.dropping.clear();
            }
            Some(Progress::Done { .. } | Progress::Failed { .. } | Progress::Running) | None => {}
        }
        if !matches!(see(&self.seen.works, "DropCopies", self.now), Seen::Waiting(_)) {
            let work = Work::DropCopies {
                vault: name,
                first: self.vault_name(),
                application: self.key.clone(),
                ids: status.dropping.clone(),
                epoch: self.status.epoch.unwrap_or(0),
            };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    /// The Job that prunes this vault: whether it is there, or shall be.
    fn follow_copy_prune(&mut self, at: usize) -> bool {
        let Some(movers) = &self.seen.movers else { return false };
        let copy = &self.status.copies[at];
        let Some(prune) = copy.retention.as_ref().and_then(|it| it.prune.as_ref()) else { return false };
        let name = prune_job(&copy.vault);
        let key = job_key(&movers.namespace, &self.run().derived(&name));
        let written = self.object.status.as_ref().is_some_and(|it| it.copies.contains(copy));
        let mut prune = prune.clone();
        let now = condition::whole_second(self.now);
        match self.seen.copy_jobs.get(&name) {
            Some(_) if prune.finished_at.is_some() => self.effects.push(Effect::Delete(key)),
            None if prune.finished_at.is_some() => return false,
            Some(JobSeen::Succeeded(report)) => record(&mut prune, &report.pruned.clone().unwrap_or_default(), now),
            Some(JobSeen::Failed { message, .. }) => {
                (prune.finished_at, prune.failure) = (Some(now), Some(message.clone()));
            }
            None if written => self.make_copy_prune(at, &name),
            Some(JobSeen::Running(_)) | None => {}
        }
        if let Some(retention) = &mut self.status.copies[at].retention {
            retention.prune = Some(prune);
        }
        true
    }

    fn make_copy_prune(&mut self, at: usize, name: &str) {
        let Ok(vault) = self.copy_vault(&self.status.copies[at].vault).map(|it| it.spec.clone()) else { return };
        self.effects.extend(self.pruner(&vault, name));
    }

    /// Ends the prune of a vault that this region no longer copies into: it may be killed at any time.
    pub(super) fn end_prune(&mut self, copy: &mut CopyStatus) {
        if let (Some(movers), Some(_)) = (&self.seen.movers, self.prune_job_of(copy)) {
            let key = job_key(&movers.namespace, &self.run().derived(&prune_job(&copy.vault)));
            self.effects.push(Effect::Delete(key));
        }
        if let Some(prune) = copy.retention.as_mut().and_then(|it| it.prune.as_mut())
            && prune.finished_at.is_none()
        {
            prune.finished_at = Some(condition::whole_second(self.now));
            prune.failure =
                Some("it was ended: this region no longer serves, or the copy is no longer asked for".into());
        }
    }

    /// The Job that prunes the vault of a copy, if it is there.
    pub(super) fn prune_job_of(&self, copy: &CopyStatus) -> Option<&JobSeen> {
        self.seen.copy_jobs.get(&prune_job(&copy.vault))
    }
}

/// Writes down a prune that is due: a day after the last one, when points were dropped since, or something is still marked.
fn start_prune(status: &mut CopyRetention, now: Timestamp) -> bool {
    let last = status.prune.clone().unwrap_or_default();
    let idle = last.started_at.is_none() || last.finished_at.is_some();
    let useful = status.dropped > last.dropped || last.pending_bytes > 0 || last.failure.is_some();
    let due = last.started_at.as_ref().is_none_or(|it| it.0 + PRUNE <= now);
    let begins = idle && useful && due;
    if begins {
        let started_at = Some(condition::whole_second(now));
        let dropped = status.dropped;
        status.prune = Some(PruneStatus { started_at, finished_at: None, dropped, failure: None, ..last });
    }
    begins
}
