//! How far a restore is, for people: what movers told in their logs, and how many objects were dealt with.
//!
//! Nothing is decided on it. It is written when it has changed, and no oftener than every ten seconds.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Pass;
use crate::{
    api::restore::{RestoreProgress, RestoreStatus},
    core::{condition, point::Volume},
};

/// The least time between two writings: with the window, ten seconds.
const SPACING: SignedDuration = SignedDuration::from_secs(9);
/// So long must a step have gone on before its pace says something.
const WARMED_UP: SignedDuration = SignedDuration::from_secs(5);
/// What would take longer is not foretold.
const FORESEEN: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Whether movers are to be asked how far they are: in two of ten seconds, also while nothing changes that would be
/// written.
#[must_use]
pub fn due(status: Option<&RestoreStatus>, now: Timestamp) -> bool {
    now.as_second() % 10 < 2 && aged(status.and_then(|it| it.progress.as_ref()), now)
}

fn aged(progress: Option<&RestoreProgress>, now: Timestamp) -> bool {
    progress.is_none_or(|it| it.at.0 + SPACING <= now)
}

/// When all is done, if it goes on as since `begun`.
fn estimated_end(begun: Timestamp, now: Timestamp, done: u64, total: u64) -> Option<Time> {
    let elapsed = now.duration_since(begun);
    if elapsed < WARMED_UP || done == 0 || done >= total {
        return None;
    }
    let left = i128::from(total - done) * elapsed.as_millis() / i128::from(done);
    let left = SignedDuration::from_millis(i64::try_from(left).ok()?);
    (left <= FORESEEN).then(|| condition::whole_second(now + left))
}

impl Pass<'_> {
    /// Of volumes that are being restored, `done` being through.
    pub(super) fn tell_volumes(&mut self, volumes: &[Volume], done: &BTreeSet<&str>) {
        let before = self.status.progress.clone();
        let (mut bytes, mut files) = (0, 0);
        // How much lies under paths is known when it was restored.
        let (whole, parts): (Vec<_>, Vec<_>) = volumes.iter().partition(|it| self.paths_of(&it.claim).is_empty());
        for told in parts.iter().filter_map(|it| self.seen.told.get(&it.claim)) {
            bytes += told.done;
            files += told.files;
        }
        for volume in &whole {
            if done.contains(volume.claim.as_str()) {
                bytes += volume.bytes;
                files += volume.files;
            } else if let Some(told) = self.seen.told.get(&volume.claim) {
                bytes += told.done.min(volume.bytes);
                files += told.files.min(volume.files);
            }
        }
        // A log that could not be read this time takes nothing back.
        let at_least =
            |count: u64, of: fn(&RestoreProgress) -> u64| before.as_ref().map_or(count, |it| count.max(of(it)));
        let (bytes_done, bytes_total) =
            (at_least(bytes, |it| it.bytes_done), whole.iter().map(|it| it.bytes).sum::<u64>());
        self.tell(RestoreProgress {
            volumes_done: done.len() as u64,
            volumes_total: volumes.len() as u64,
            bytes_done,
            bytes_total,
            files_done: at_least(files, |it| it.files_done),
            files_total: whole.iter().map(|it| it.files).sum(),
            estimated_end: estimated_end(self.step_began(), self.now, bytes_done, bytes_total),
            ..self.blank()
        });
    }

    /// Of objects that are being restored.
    pub(super) fn tell_objects(&mut self, done: u64, total: Option<u64>) {
        let before = self.status.progress.clone().unwrap_or_else(|| self.blank());
        let estimated_end = total.and_then(|it| estimated_end(self.step_began(), self.now, done, it));
        self.tell(RestoreProgress {
            at: Time(self.now),
            objects_done: done,
            objects_total: total,
            estimated_end,
            ..before
        });
    }

    /// Of an export into a vault.
    pub(super) fn tell_estimated(&mut self, progress: RestoreProgress) {
        let RestoreProgress { bytes_done, bytes_total, .. } = progress;
        let estimated_end = estimated_end(self.step_began(), self.now, bytes_done, bytes_total);
        self.tell(RestoreProgress { estimated_end, ..progress });
    }

    pub(super) fn blank(&self) -> RestoreProgress {
        RestoreProgress {
            at: Time(self.now),
            volumes_done: 0,
            volumes_total: 0,
            bytes_done: 0,
            bytes_total: 0,
            files_done: 0,
            files_total: 0,
            objects_done: 0,
            objects_total: None,
            estimated_end: None,
        }
    }

    fn step_began(&self) -> Timestamp {
        self.status.steps.last().map_or(self.now, |it| it.started_at.0)
    }

    /// A new estimate of the same amount is no news. A volume that is through is told at once: it happens once.
    fn tell(&mut self, progress: RestoreProgress) {
        let before = self.status.progress.as_ref();
        let amounts = |it: &RestoreProgress| {
            (it.volumes_done, it.volumes_total, it.bytes_done, it.files_done, it.objects_done, it.objects_total)
        };
        let ended = before.is_some_and(|it| it.volumes_done != progress.volumes_done);
        if before.is_none_or(|it| amounts(it) != amounts(&progress)) && (ended || aged(before, self.now)) {
            self.status.progress = Some(progress);
        }
    }
}
