//! What was found out about points since they were made: when it is asked for, and what it changes for the application.
//!
//! A point that is damaged does not count. What is shown of one point is `core::recovery_point::noted`.

use std::time::Duration;

use jiff::SignedDuration;

use super::Pass;
use crate::{
    api::recovery_point::{Purpose, RecoveryPoint, RecoveryPointStatus},
    core::{
        condition,
        effect::Effect,
        work::{Seen, Work, see},
    },
};

/// How often it is asked for.
const EVERY: SignedDuration = SignedDuration::from_mins(5);

impl Pass<'_> {
    /// Asks for what was found out about the points that this cluster shows, and takes the newest of them that counts.
    pub(super) fn follow_notes(&mut self) {
        self.take_over_newest();
        if self.seen.points.iter().all(|it| it.status.as_ref().is_none_or(|it| it.verification.is_none())) {
            return;
        }
        match see(&self.seen.works, "ReadNotes", self.now) {
            Seen::Due(_) => self.read_notes(),
            Seen::Done(_, at) if at + EVERY <= self.now => self.read_notes(),
            Seen::Done(_, at) => self.look_at(at + EVERY),
            Seen::Waiting(_) => self.recheck = self.recheck.min(Duration::from_mins(1)),
        }
    }

    pub(super) fn read_notes(&mut self) {
        if self.vault_ready().is_ok() {
            let work = Work::ReadNotes { vault: self.vault_name(), application: self.key.clone() };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    /// The newest point that counts, of all that this cluster shows. One that was taken before stays, unless it is damaged:
    /// its object may be gone.
    pub(super) fn take_over_newest(&mut self) {
        let taken = self.status.last_point.as_ref();
        let damaged = taken.is_some_and(|it| self.damaged(&it.id));
        if damaged {
            self.status.last_point = None;
        }
        // What another region made is not this one's to count, but where its own is worth nothing.
        let holds = self.seen.claim.as_ref().is_some_and(|it| it.mine);
        let foreign = |it: &RecoveryPoint| it.spec.purpose == Purpose::Imported && holds && !damaged;
        let counts = |it: &&RecoveryPointStatus| {
            let succeeded = condition::find(&it.conditions, condition::SUCCEEDED);
            succeeded.is_some_and(|it| it.status == "True" && it.reason != "ImportedBranch") && !it.damaged()
        };
        let shown = self.seen.points.iter().filter(|it| it.spec.purpose != Purpose::Branch && !foreign(it));
        let shown = shown.filter_map(|it| it.status.as_ref()).filter(counts);
        let newest = shown.filter_map(|it| Some((it.id.clone()?, it.consistent_at.as_ref()?.0))).max();
        if let Some((id, at)) = newest {
            self.take_over(&id, at);
        }
    }

    /// Whether a point that this cluster shows is known to be damaged.
    pub(super) fn damaged(&self, id: &str) -> bool {
        let statuses = self.seen.points.iter().filter_map(|it| it.status.as_ref());
        statuses.filter(|it| it.id.as_deref() == Some(id)).any(RecoveryPointStatus::damaged)
    }

    /// What is to be said of points that would be newer than the newest one that counts.
    pub(super) fn newer_damaged(&self) -> Option<String> {
        let last = self.status.last_point.as_ref().map(|it| it.id.as_str());
        let damaged = self.seen.points.iter().filter_map(|it| it.status.as_ref()).filter(|it| it.damaged());
        let newer = damaged.filter_map(|it| it.id.as_deref()).filter(|it| last < Some(*it));
        newer.max().map(|it| format!("{it} is newer, and damaged"))
    }
}
