//! When the next recovery point is due, and which of their objects are kept in the cluster.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{Pass, fencing::point_object};
use crate::{
    api::{
        application::{BackupStatus, LastPoint},
        recovery_point::{Purpose, RecoveryPoint, RecoveryPointStatus},
    },
    core::{
        child,
        claim::view::View,
        condition,
        effect::Effect,
        schedule::{Rhythm, rhythm},
        work::doubled,
    },
};

/// So many ended `RecoveryPoint` objects made on schedule are kept. Their points stay in the vault.
pub(super) const KEPT: usize = 20;
/// How long after a failed point the next one is tried, in seconds. It is doubled each time, up to the interval.
const AFTER_FAILURE: i64 = 15;

impl Pass<'_> {
    /// Starts a point when one is due, and takes over what the last ones measured.
    pub(super) fn schedule_points(&mut self, view: &View) {
        let rhythm = self.rhythm();
        self.status.backup = Some(BackupStatus {
            interval_seconds: rhythm.interval,
            duration_seconds: rhythm.duration,
            basis: rhythm.basis,
        });
        self.forget_old();
        let running = self.statuses().any(|it| !condition::ended(&it.conditions))
            || self.own_points().any(|it| it.status.is_none());
        if running
            || self.restoring()
            || self.left_half().is_some()
            || !view.valid
            || self.vault_takes_points().is_err()
        {
            return;
        }
        let due = self.due(&rhythm, view.epoch);
        if due > self.now {
            return self.look_at(due);
        }
        let number = self.seen.points.iter().filter_map(|it| self.number(it)).max().unwrap_or(0) + 1;
        let name = format!("{}-{number:06}", self.key.name);
        let object = point_object(&self.key, &name, Purpose::Scheduled, self.object.uid());
        self.effects.push(Effect::Apply(Box::new(object)));
    }

    /// The rhythm, from what the last points took.
    pub(super) fn rhythm(&self) -> Rhythm {
        let durations: Vec<u64> = self
            .statuses()
            .filter(|it| condition::is_true(&it.conditions, condition::SUCCEEDED))
            .filter_map(|it| it.duration_seconds)
            .collect();
        rhythm(&self.object.spec.objectives, &durations)
    }

    fn due(&self, rhythm: &Rhythm, epoch: u64) -> Timestamp {
        // A point of the future was begun before the clock was set back: it says nothing of when the next one is due.
        let past = |it: &&RecoveryPointStatus| it.started_at.as_ref().is_none_or(|at| at.0 <= self.now);
        let mut of_epoch: Vec<_> = self.statuses().filter(|it| it.epoch == Some(epoch)).filter(past).collect();
        of_epoch.sort_by_key(|it| it.started_at.as_ref().map(|at| at.0));
        let Some(last) = of_epoch.last() else {
            // Points that could not even begin have no epoch: they must not be tried without a pause.
            let failed = self.statuses().filter_map(|it| it.finished_at.as_ref().map(|at| at.0));
            let failed = failed.filter(|it| *it <= self.now).max();
            return failed.map_or(self.now, |at| at + SignedDuration::from_secs(AFTER_FAILURE));
        };
        let started = last.started_at.as_ref().map_or(self.now, |it| it.0);
        let interval = i64::try_from(rhythm.interval).unwrap_or(i64::MAX / 4);
        if condition::is_true(&last.conditions, condition::SUCCEEDED) {
            return started + SignedDuration::from_secs(interval);
        }
        // What does not pass, such as a claim that is lost, must not fill the vault with points that do not count.
        let counts = |it: &&&RecoveryPointStatus| condition::is_true(&it.conditions, condition::SUCCEEDED);
        let in_a_row = of_epoch.iter().rev().take_while(|it| !counts(it)).count();
        let ended = last.finished_at.as_ref().map_or(started, |it| it.0);
        ended + doubled(AFTER_FAILURE, u32::try_from(in_a_row).unwrap_or(u32::MAX), interval)
    }

    pub(super) fn take_over(&mut self, id: &str, at: Timestamp) {
        // By its name, as the head orders them: an instant may be of a clock that was ahead.
        if self.status.last_point.as_ref().is_none_or(|it| it.id.as_str() < id) && !self.damaged(id) {
            self.status.last_point = Some(LastPoint { id: id.to_owned(), consistent_at: condition::whole_second(at) });
        }
    }

    /// Objects beyond the newest `KEPT` are deleted from the cluster; the points stay in the vault. The newest that
    /// counts is kept: later ones are compared with it. So are those that are held: a hold is lifted by its object.
    fn forget_old(&mut self) {
        let mut ended: Vec<_> = self
            .seen
            .points
            .iter()
            .filter(|it| it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions)) && !it.spec.hold)
            .filter_map(|it| Some((self.number(it)?, it.name_any())))
            .collect();
        self.forget_imported(KEPT.saturating_sub(ended.len()));
        ended.sort_unstable();
        let excess = ended.len().saturating_sub(KEPT);
        let counts = |it: &RecoveryPoint| {
            let id = it.status.as_ref().and_then(|it| it.id.as_ref());
            id.is_some() && id == self.status.last_point.as_ref().map(|it| &it.id)
        };
        let newest = self.seen.points.iter().find(|it| counts(it)).map(|it| it.name_any());
        for (_, name) in ended.into_iter().take(excess).filter(|(_, name)| Some(name) != newest.as_ref()) {
            let key = child::key("reprise.dev/v1alpha1", "RecoveryPoint", Some(&self.key.namespace), &name);
            self.effects.push(Effect::Delete(key));
        }
    }

    /// The number of a point that was made on schedule.
    fn number(&self, point: &RecoveryPoint) -> Option<u64> {
        let name = point.name_any();
        let digits = name.strip_prefix(&self.key.name)?.strip_prefix('-')?;
        (point.spec.purpose == Purpose::Scheduled && digits.len() == 6).then(|| digits.parse().ok())?
    }

    /// Statuses of the points of this region that are not branches.
    pub(super) fn statuses(&self) -> impl Iterator<Item = &RecoveryPointStatus> {
        self.own_points().filter(|it| it.spec.purpose != Purpose::Branch).filter_map(|it| it.status.as_ref())
    }

    /// What this region makes and made: not what it only shows of another's.
    pub(super) fn own_points(&self) -> impl Iterator<Item = &RecoveryPoint> {
        let made_here = |it: &Purpose| match it {
            Purpose::Manual | Purpose::Scheduled | Purpose::Branch => true,
            Purpose::Imported => false,
        };
        self.seen.points.iter().map(AsRef::as_ref).filter(move |it| made_here(&it.spec.purpose))
    }
}
