//! Rounds over all that is kept of an application: when one is due, and how far it is.
//!
//! For how long is `core::locks`. Only the region that serves goes on with them; a region that takes over begins anew.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{LOOK_CLOSELY, Pass};
use crate::{
    api::{application::LocksStatus, span::Span, vault::ObjectLock},
    core::{
        claim::view::View,
        condition::{self, Finding, IMMUTABLE, Truth},
        effect::Effect,
        locks::{self, next_round, of_round},
        work::{Outcome, Progress, Seen, Work, see},
    },
};

impl Pass<'_> {
    /// Where the application serves: locks are extended.
    pub(super) fn keep_locks(&mut self, view: &View) {
        let Some(lock) = self.seen.vault.as_ref().and_then(|it| locks::asked(&it.spec)) else {
            self.status.locks = None;
            return;
        };
        if !view.valid || self.vault_ready().is_err() {
            return;
        }
        let written = self.object.status.as_ref().and_then(|it| it.locks.as_ref());
        let mut status = written.cloned().unwrap_or_default();
        self.follow_round(&mut status);
        let due = due(&status, lock.period, self.now);
        if due {
            status = LocksStatus {
                began_at: Some(condition::whole_second(self.now)),
                period: lock.period,
                finished_at: None,
                after: None,
                objects: 0,
                ..status
            };
        }
        if status.finished_at.is_none() {
            self.recheck = self.recheck.min(LOOK_CLOSELY);
            // A step begins once it is written down from where.
            if written == Some(&status) {
                self.begin_step(&status);
            }
        }
        self.status.locks = Some(status);
    }

    /// Takes over what a step has done.
    fn follow_round(&self, status: &mut LocksStatus) {
        match self.seen.works.get("ExtendLocks") {
            Some(Progress::Done { at, work, outcome: Outcome::LocksExtended { after, objects } }) => {
                let Some(began) = status.began_at.clone().filter(|_| self.is_step(work, status)) else { return };
                status.failure = None;
                status.objects += objects;
                status.after.clone_from(after);
                if after.is_none() {
                    status.finished_at = Some(Time(*at));
                    status.locked_until = Some(condition::whole_second(of_round(status.period, began.0).enough));
                }
            }
            Some(Progress::Failed { failure, .. }) if status.finished_at.is_none() => {
                status.failure = Some(failure.message.clone());
            }
            Some(Progress::Failed { .. } | Progress::Done { .. } | Progress::Running) | None => {}
        }
    }

    /// Whether it is the step that was to be done next.
    fn is_step(&self, work: &Work, status: &LocksStatus) -> bool {
        status.finished_at.is_none() && self.step(status).is_some_and(|it| it == *work)
    }

    fn step(&self, status: &LocksStatus) -> Option<Work> {
        Some(Work::ExtendLocks {
            vault: self.vault_name(),
            application: self.key.clone(),
            began: status.began_at.as_ref()?.0,
            after: status.after.clone(),
        })
    }

    fn begin_step(&mut self, status: &LocksStatus) {
        let done = matches!(self.seen.works.get("ExtendLocks"), Some(Progress::Done { .. }));
        if let Some(step) = self.step(status)
            && (done || matches!(see(&self.seen.works, "ExtendLocks", self.now), Seen::Due(_)))
        {
            self.effects.push(Effect::Begin(Box::new(step)));
        }
    }
}

impl Pass<'_> {
    /// Whether all that is kept is locked for as long as the vault asks, as the last complete round found; and where
    /// retention and the vault speak of different points.
    pub(super) fn immutable(&self) -> Option<Finding> {
        let lock = self.seen.vault.as_ref().and_then(|it| locks::asked(&it.spec))?;
        let status = self.status.locks.as_ref();
        let why = status.and_then(|it| it.failure.as_ref()).map_or(String::new(), |it| format!(": {it}"));
        let Some(until) = status.and_then(|it| it.locked_until.as_ref()) else {
            let message = format!("locks are being read back and extended for the first time{why}");
            return Some(Finding::new(IMMUTABLE, Truth::Unknown, "Locking", message));
        };
        if locks::is_short(lock.period, until.0, self.now) {
            let message = format!(
                "all that is kept is locked until {} only, which is less than the vault asks for{why}",
                until.0
            );
            return Some(Finding::new(IMMUTABLE, false, "LocksShort", message));
        }
        let message = format!("all that is kept is locked until {} at least{}", until.0, self.disagreement(lock));
        Some(Finding::new(IMMUTABLE, true, "Locked", message))
    }

    /// Points that are kept long and locked like all, and the other way round.
    fn disagreement(&self, lock: &ObjectLock) -> String {
        let Some(kept) = &self.object.spec.backup.retention else { return String::new() };
        let classes = [
            ("daily", kept.daily.is_some(), lock.daily.is_some()),
            ("weekly", kept.weekly.is_some(), lock.weekly.is_some()),
            ("monthly", kept.monthly.is_some(), lock.monthly.is_some()),
            ("yearly", kept.yearly.is_some(), lock.yearly.is_some()),
        ];
        let of = |kept: bool| {
            let names = classes.iter().filter(|it| it.1 == kept && it.2 != kept).map(|it| it.0);
            names.collect::<Vec<_>>().join(", ")
        };
        let (only_kept, only_locked) = (of(true), of(false));
        let mut told = String::new();
        if !only_kept.is_empty() {
            let _ = write!(
                told,
                "; retention keeps {only_kept} points, which the vault locks no longer than others: their locks hold for as long as they are extended"
            );
        }
        if !only_locked.is_empty() {
            let _ = write!(
                told,
                "; the vault locks {only_locked} points longer, which retention has no rule for: they are kept until their locks end"
            );
        }
        told
    }
}

/// Whether a round is to begin. One that goes on is begun anew only for another period.
fn due(status: &LocksStatus, period: Span, now: Timestamp) -> bool {
    let complete = status.locked_until.as_ref().filter(|_| status.finished_at.is_some());
    let going_on = status.began_at.is_some() && status.finished_at.is_none();
    status.period != period || (!going_on && complete.is_none_or(|it| next_round(period, it.0) <= now))
}
