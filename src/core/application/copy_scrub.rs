//! When a share of what lies in the other vaults is read back, and what is told of it and of their locks.
//!
//! As in the first vault (`scrub`): the same share as often, while this region serves, in one vault after the other. What is
//! found stands in the status, and in that vault beside its points: a restore from there passes over what is damaged.

use jiff::{SignedDuration, Timestamp};

use super::{
    Pass,
    scrub::{Next, after, follow, found_damage},
};
use crate::{
    api::application::{CopySettings, CopyStatus, ScrubStatus},
    core::{
        child::job_key,
        condition::{COPIES_SOUND, Finding},
        copies::due,
        effect::Effect,
        locks,
        mover_task::Newest,
        recovery_point::JobSeen,
    },
};

/// So many of the next copies are looked at for the longest time between two.
const LOOKED_AT: usize = 62;

/// What the Job that reads a share of a vault back is named after, and found by.
#[must_use]
pub fn scrub_job(vault: &str) -> String {
    format!("scrub of {vault}")
}

impl Pass<'_> {
    /// Takes over what came of rounds, makes their Jobs, and begins one that is due.
    pub(super) fn scrub_copies(&mut self, serving: bool) {
        let mut busy = false;
        for at in 0..self.status.copies.len() {
            busy |= self.follow_copy_scrub(at, serving);
        }
        if serving && !busy {
            self.begin_copy_scrub();
        }
    }

    /// Whether a round goes on there, or its Job is left.
    fn follow_copy_scrub(&mut self, at: usize, serving: bool) -> bool {
        let Some(movers) = &self.seen.movers else { return false };
        let name = self.status.copies[at].vault.clone();
        // Those that are no longer asked for come last.
        let wanted = serving && at < self.object.spec.backup.copies.len();
        let written = self.object.status.as_ref().and_then(|it| it.copies.iter().find(|it| it.vault == name));
        // Its Job is made once it is written down.
        let Some(mut status) = written.and_then(|it| it.scrub.clone()) else { return false };
        let job_name = scrub_job(&name);
        let next = follow(&mut status, self.seen.copy_jobs.get(&job_name), wanted, self.now);
        let mut busy = !matches!(next, Next::Over);
        match next {
            Next::Make => {
                if let (Ok(vault), Some(point)) = (self.copy_vault(&name), self.status.copies[at].point.clone()) {
                    // Its snapshots have other names there.
                    let newest = Newest { point, snapshots: Vec::new() };
                    let effect = self.scrubber(movers, &vault.spec, &job_name, &status, Some(newest));
                    self.effects.push(effect);
                } else {
                    // The others do not wait for a vault that is away.
                    busy = false;
                }
            }
            Next::Tidy => {
                self.effects.push(Effect::Delete(job_key(&movers.namespace, &self.run().derived(&job_name))));
            }
            Next::Wait | Next::Ended | Next::Over => {}
        }
        self.status.copies[at].scrub = Some(status);
        busy
    }

    /// Writes down the round that is due for longest, if one is.
    fn begin_copy_scrub(&mut self) {
        let Some(parts) = self.object.spec.backup.verification.parts() else { return };
        // Without volumes and dumps there is no repository to read.
        if self.newest_stored().is_none() {
            return;
        }
        let mut first: Option<(Timestamp, usize)> = None;
        for (at, copy) in self.status.copies.iter().enumerate().take(self.object.spec.backup.copies.len()) {
            if copy.point.is_none() || self.copy_vault(&copy.vault).is_err() {
                continue;
            }
            let last = copy.scrub.clone().unwrap_or_default();
            let due = self.scrub_due(&last, found_damage(&last));
            if first.is_none_or(|it| due < it.0) {
                first = Some((due, at));
            }
        }
        match first {
            Some((due, _)) if due > self.now => self.look_at(due),
            Some((_, at)) => {
                let last = self.status.copies[at].scrub.take().unwrap_or_default();
                self.status.copies[at].scrub = Some(after(last, parts, self.now));
            }
            None => {}
        }
    }

    /// The Job that reads a share of the vault of a copy, if it is there.
    pub(super) fn scrub_job_of(&self, copy: &CopyStatus) -> Option<&JobSeen> {
        self.seen.copy_jobs.get(&scrub_job(&copy.vault))
    }

    /// Whether what was read back of the other vaults is what was written, and whether it stays locked there.
    pub(super) fn copies_sound(&self) -> Option<Finding> {
        let damaged = self.status.copies.iter().find_map(|it| Some((it, damage(it)?)));
        if let Some((copy, what)) = damaged {
            let (namespace, name) = (&self.key.namespace, &self.key.name);
            let message = format!(
                "vault {}: {what}. Put the objects back as they were written, from older versions of them: they are read \
                 again within the hour. Or remove `apps/{namespace}/{name}` and `repos/{namespace}.{name}` there: the next copy \
                 makes them anew. Until then no restore from there chooses the points that need them",
                copy.vault
            );
            return Some(Finding::new(COPIES_SOUND, false, "Damaged", message));
        }
        if let Some(why) = self.object.spec.backup.copies.iter().find_map(|it| self.lapsing(it)) {
            return Some(Finding::new(COPIES_SOUND, false, "LocksLapse", why));
        }
        let read = |it: &CopyStatus| it.scrub.as_ref().is_some_and(|it| it.packs_read.is_some());
        let all = self.status.copies.iter().all(read) && !self.status.copies.is_empty();
        all.then(|| {
            Finding::new(COPIES_SOUND, true, "ReadBack", "what was read back of every copy is what was written")
        })
    }

    /// Why what lies in a vault does not stay locked: only a copy extends locks there.
    fn lapsing(&self, settings: &CopySettings) -> Option<String> {
        let vault = self.seen.copy_vaults.iter().find(|it| it.metadata.name.as_ref() == Some(&settings.vault))?;
        let period = locks::asked(&vault.spec)?.period;
        let longest = longest_pause(settings, self.now)?;
        (longest.as_secs() > i64::try_from(period.as_secs()).unwrap_or(i64::MAX)).then(|| {
            format!(
                "vault {}: up to {} h pass between two copies, and locks, which only copies extend there, hold for {} h: what \
                 is in it can be deleted in between. Copy more often, or lock for longer",
                settings.vault,
                longest.as_hours(),
                period.as_secs() / 3_600
            )
        })
    }
}

/// The longest time between two of the next copies.
fn longest_pause(settings: &CopySettings, now: Timestamp) -> Option<SignedDuration> {
    let (mut at, mut longest) = (due(settings, now).ok()?, SignedDuration::ZERO);
    for _ in 0..LOOKED_AT {
        let next = due(settings, at).ok()?;
        longest = longest.max(next.duration_since(at));
        at = next;
    }
    Some(longest)
}

/// What the last round found wrong.
fn damage(copy: &CopyStatus) -> Option<String> {
    let ScrubStatus { damaged_packs, damaged, damaged_points, newest_damaged, failure, unreadable, .. } =
        copy.scrub.as_ref().filter(|it| found_damage(it))?;
    if *unreadable {
        return Some(format!("it could not be read back: {}", failure.as_deref().unwrap_or_default()));
    }
    Some(format!(
        "{damaged_packs} packs are damaged or missing{}; {damaged_points} points lack what they need, the newest {}",
        damaged.first().map(|it| format!(", as {it}")).unwrap_or_default(),
        newest_damaged.as_deref().unwrap_or_default()
    ))
}
