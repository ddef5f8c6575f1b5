//! For how long a point is locked: the longer lock of the first good one of a day, week, month or year, which a mover
//! makes once all is read; and until when all that a point needs is locked, as far as that was read back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{JobSeen, Pass};
use crate::{
    api::recovery_point::{PointLock, Purpose, RecoveryPointStatus},
    core::{
        condition,
        effect::Effect,
        locks::{self, longer},
        mover_job::Mover,
        mover_task::Task,
        work::Outcome,
    },
};

/// What the mover is found by. No claim has such a name: it has a slash.
const LOCKS: &str = "point/locks";
/// How long the mover may take, in seconds: what it does not reach the next point's does.
const DEADLINE: u64 = 10 * 60;

impl Pass<'_> {
    /// The longer lock that the point is to have, if any. What is saved of a region that lost the claim has none.
    pub(super) fn longer_lock(&self) -> Option<PointLock> {
        if self.point.spec.purpose == Purpose::Branch {
            return None;
        }
        let asked = locks::asked(&self.seen.vault.as_ref()?.spec)?;
        let (class, until) = longer(asked, self.now, self.seen.previous.as_ref())?;
        Some(PointLock { class, until: condition::whole_second(until), settled: false, failure: None })
    }

    /// Has what the point needs locked for longer, where it is to be. Whether nothing is left to be done about that: a
    /// point that could not be locked is better than none.
    pub(super) fn lock(&self, status: &mut RecoveryPointStatus, patience: u64, effects: &mut Vec<Effect>) -> bool {
        let snapshots = status.volumes.iter().map(|it| &it.snapshot).chain(status.dumps.iter().map(|it| &it.snapshot));
        let snapshots: Vec<String> = snapshots.filter_map(Clone::clone).collect();
        let begun = status.started_at.as_ref().map_or(self.now, |it| it.0);
        let Some(lock) = status.lock.as_mut().filter(|it| !it.settled) else { return true };
        let age = u64::try_from(self.now.as_second() - begun.as_second()).unwrap_or(0);
        let late = age + DEADLINE + 60 > patience;
        match self.seen.jobs.get(LOCKS) {
            _ if snapshots.is_empty() => lock.settled = true,
            Some(JobSeen::Succeeded(_)) => lock.settled = true,
            Some(JobSeen::Failed { message, .. }) => {
                lock.settled = true;
                lock.failure = Some(message.clone());
            }
            None if late => {
                lock.settled = true;
                lock.failure = Some("no time was left for it before the deadline of the point".to_owned());
            }
            None => effects.push(self.lock_mover(snapshots, lock)),
            Some(JobSeen::Running(_)) => {}
        }
        lock.settled
    }

    fn lock_mover(&self, snapshots: Vec<String>, lock: &PointLock) -> Effect {
        let app = self.app();
        let task = Task::Lock { namespace: app.namespace, application: app.name, snapshots, until: lock.until.0 };
        let vault = &self.seen.vault.as_ref().expect("a run begins only with a vault").spec;
        let (settings, run) = (self.movers, self.run);
        let mover = Mover { settings, run, claim: LOCKS, task: &task, mount: None, vault, deadline: DEADLINE };
        Effect::Apply(Box::new(mover.job()))
    }

    /// The shortest lock of all that the point needs. What it shares with earlier points is locked for as long as the last
    /// complete round has found, unless it was all locked for longer; what is new in it is locked for longer than that.
    pub(super) fn locked_until(&self, status: &RecoveryPointStatus, outcome: &Outcome) -> Option<Time> {
        let Outcome::Committed { locked_until: Some(own) } = outcome else { return None };
        let own = condition::whole_second(*own);
        let data = status.volumes.iter().map(|it| &it.snapshot).chain(status.dumps.iter().map(|it| &it.snapshot));
        let shares = data.into_iter().any(Option::is_some);
        if !shares || status.lock.as_ref().is_some_and(|it| it.settled && it.failure.is_none()) {
            return Some(own);
        }
        let all = self.application.status.as_ref()?.locks.as_ref()?.locked_until.as_ref()?;
        Some(Time(own.0.min(all.0)))
    }
}
