//! What a restore in place asks of the application's own pass: half of one is no recovery point, is not handed over, and is
//! not started by anything but a restore.

use super::Pass;
use crate::{
    api::restore::{Restore, RestoreStatus, RestoreStepName},
    core::condition,
};
use kube::ResourceExt;

impl Pass<'_> {
    /// Restores in place that are changing what a point would read.
    fn changing(&self) -> impl Iterator<Item = &RestoreStatus> {
        self.in_place().filter_map(|it| it.status.as_ref()).filter(|it| it.changing())
    }

    fn in_place(&self) -> impl Iterator<Item = &Restore> {
        self.seen.restores.iter().map(AsRef::as_ref).filter(|it| it.in_place())
    }

    /// Whether a restore is changing what a point would read.
    pub(super) fn restoring(&self) -> bool {
        self.changing().next().is_some()
    }

    /// Whether a restore has yet to see that this region took its claim anew.
    pub(super) fn restore_behind(&self, epoch: u64) -> bool {
        self.changing().any(|it| it.epoch != Some(epoch))
    }

    /// Whether what was stopped is for a restore to start: for one that goes on and has not come to that, or for the one that
    /// follows on one that ended half-way.
    pub(super) fn restore_starts(&self) -> bool {
        let before = |it: &RestoreStatus| it.step.is_none_or(|it| it <= RestoreStepName::Start);
        let cancelled = |it: &RestoreStatus| it.step == Some(RestoreStepName::Cancel);
        self.changing().any(|it| before(it) || cancelled(it)) || self.left_half().is_some()
    }

    /// The restore that ended with volumes in its hands, when neither another one nor a failover has restored them since.
    pub(super) fn left_half(&self) -> Option<String> {
        let begun = |it: &RestoreStatus| {
            let step = it.steps.iter().find(|it| it.name == RestoreStepName::RestoreVolumes)?;
            Some(step.started_at.0)
        };
        let touched = self.in_place().filter_map(|it| {
            let status = it.status.as_ref().filter(|it| it.touched_volumes())?;
            Some((begun(status)?, it.name_any(), status))
        });
        let (_, name, status) = touched.max_by_key(|it| it.0)?;
        let ended = status.finished_at.as_ref()?.0;
        let moved = self.seen.failovers.iter().filter_map(|it| it.status.as_ref()).any(|it| {
            let later = it.finished_at.as_ref().is_some_and(|at| at.0 > ended);
            later && condition::is_true(&it.conditions, condition::SUCCEEDED)
        });
        (status.left_stopped && !moved).then_some(name)
    }

    /// What is said of that.
    pub(super) fn half_restored(&self) -> Option<String> {
        let name = self.left_half()?;
        Some(format!(
            "Restore {name} ended with volumes that may be half restored: what it stopped stays stopped, and no points are made \
             on schedule, until another Restore of them succeeds"
        ))
    }
}
