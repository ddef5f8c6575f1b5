//! When the next request is due, and when to look again.
//!
//! By the boot clock alone: a wall clock that is set may end a validity, but makes nothing due.

use std::time::Duration;

use super::{
    record::Purpose,
    state::{Flight, Settings, State},
    time::{Now, Since},
};

impl State {
    /// When the next read is due, by the boot clock.
    #[must_use]
    pub fn read_due(&self, settings: &Settings) -> Duration {
        let Some(read_at) = self.read_at else { return Duration::ZERO };
        let renew = settings.deadlines.renew();
        if self.unresolved && self.wrote_at > Some(read_at) {
            return Duration::ZERO;
        }
        if self.unresolved || self.last_error.is_some() {
            return read_at + renew / 2;
        }
        let regular = self.contact.map_or(read_at, |it| it.boot.max(read_at)) + renew;
        match &self.sight {
            // The read that completes the wait comes when it completes it, and not up to `renew` later.
            Some(sight) if self.own.is_none() && sight.silent < self.wait(settings) => {
                let complete = sight.last.boot + self.wait(settings).saturating_sub(sight.silent);
                regular.min(complete.max(read_at + renew / 4))
            }
            Some(_) | None => regular,
        }
    }

    /// When the next write may be sent, by the boot clock: a renewal that follows a good one at the next multiple of
    /// `renew`, so that all claims of a region are renewed together and the journal is written once for all;
    /// anything else at once, but not oftener than twice per `renew`.
    #[must_use]
    pub fn write_due(&self, settings: &Settings, purpose: Purpose) -> Duration {
        let Some(wrote_at) = self.wrote_at else { return Duration::ZERO };
        let renew = settings.deadlines.renew();
        let good = self.own.as_ref().is_some_and(|own| match own.since {
            Since::Proven(sent) => sent.boot >= wrote_at,
            Since::Wall(_) | Since::Unknown => false,
        });
        if purpose == Purpose::Renew && good {
            let slot = wrote_at.as_secs() / renew.as_secs() + 1;
            return Duration::from_secs(slot * renew.as_secs());
        }
        wrote_at + renew / 2
    }

    /// The next moment, by the boot clock, at which time alone changes something.
    #[must_use]
    pub fn due(&self, settings: &Settings, now: Now) -> Duration {
        let mut next = now.boot + settings.deadlines.renew();
        if self.flight == Flight::Idle {
            next = next.min(self.read_due(settings));
            if let Some(purpose) = self.wanted(settings, now) {
                next = next.min(self.write_due(settings, purpose));
            }
        }
        if let Some(own) = &self.own
            && let Since::Proven(sent) = own.since
        {
            for end in [sent.boot + self.hold(own), sent.boot + self.fence_after(own)] {
                if end > now.boot {
                    next = next.min(end);
                }
            }
        }
        if let Some(begun) = self.unproven_since(settings) {
            let end = begun.boot + settings.deadlines.hold();
            if end > now.boot {
                next = next.min(end);
            }
        }
        let lapse = self.contact.map(|it| it.boot + Self::gap(settings)).filter(|it| *it > now.boot);
        lapse.map_or(next, |it| next.min(it))
    }
}
