//! The protocol of the claim, as a step function: what a region remembers, what it observes, what it does next.
//!
//! Rule by rule (`docs/claim.md` gives the reasons): a holder's validity runs from when it *sent* a renewal (2); a
//! write whose reply was lost is unknown until it was read back, told by its nonce (4); a restart starts no timer
//! anew: what was sent is in the journal, and what is not known counts as expired for a holder and as fresh for a
//! standby (5); a claim that is absent or has fallen is a conflict once anybody has evidence of an epoch (9).

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Now, Settings, Wish,
    record::{Claim, FORMAT, HolderHealth, Intent},
};

/// How long a restarted holder that has no journal tries to renew before it counts as expired.
const FIRST_TRY: Duration = Duration::from_secs(5);

/// All that a region remembers about one claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What is wanted.
    pub wish: Wish,
    /// How the application looks from here: a holder's renewals carry it.
    pub health: Option<HolderHealth>,
    /// The version that was read or written last.
    pub known: Option<Known>,
    /// Whether the last read found no claim.
    pub absent: bool,
    /// The newest write whose fate is not known, or was just learnt.
    pub sent: Option<Sent>,
    /// When the newest renewal that is known to have landed was sent.
    pub proven: Option<Now>,
    /// The highest epoch and sequence number ever seen.
    pub highest: (u64, u64),
    /// What a person has to decide.
    pub conflict: Option<String>,
    /// When a read or a write was last answered.
    pub answered: Option<Now>,
    /// Why the last one was not.
    pub last_error: Option<String>,
    /// When this process began to look.
    pub started: Option<Now>,
    /// Whether an answer is waited for.
    pub busy: bool,
    /// Whether the claim must be read before anything is written.
    pub stale: bool,
}

/// A version of the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The claim.
    pub claim: Claim,
    /// The store's tag of this version.
    pub tag: String,
    /// When this epoch and beat were first seen here.
    pub first_seen: Now,
    /// When they were last read.
    pub last_seen: Now,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The nonce that tells it.
    pub nonce: String,
    /// When it was sent.
    pub at: Now,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Time went by.
    Tick,
    /// A read was answered: the claim and its tag, or that there is none.
    Read(Option<(Box<Claim>, String)>),
    /// A read was not answered.
    ReadFailed(String),
    /// A write landed; the new tag.
    Written(Box<Claim>, String),
    /// A write was refused, or nobody knows: both are read back.
    WriteUnclear(Option<String>),
    /// A write was never sent: the journal could not be written.
    NotSent(String),
}

/// What is to be done. At most one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Read the claim.
    Read,
    /// Write down that it is sent, then write it if the store still has this version (none: if there is no claim).
    Write {
        /// The new version.
        claim: Box<Claim>,
        /// The tag of the version it replaces.
        expected: Option<String>,
    },
}

impl State {
    /// A region that begins to look. `sent` is what the journal says it sent last, on this boot of this machine.
    #[must_use]
    pub fn new(now: Now, sent: Option<Sent>) -> Self {
        Self { started: Some(now), sent, stale: true, ..Self::default() }
    }

    /// Takes in what happened, and says what is to be done. `nonce` must be fresh at each call.
    pub fn step(&mut self, settings: &Settings, seen: Observation, nonce: &str, now: Now) -> Option<Act> {
        match seen {
            Observation::Tick => {}
            Observation::Read(found) => self.take_in(settings, found, now),
            Observation::ReadFailed(error) | Observation::NotSent(error) => {
                self.busy = false;
                self.last_error = Some(error);
                return None;
            }
            Observation::Written(claim, tag) => self.written(settings, *claim, tag, now),
            Observation::WriteUnclear(error) => {
                (self.busy, self.stale) = (false, true);
                self.last_error = error.or(self.last_error.take());
            }
        }
        if self.busy {
            return None;
        }
        let act = self.next(settings, nonce, now)?;
        self.busy = true;
        if let Act::Write { claim, .. } = &act {
            self.sent = Some(Sent { nonce: claim.nonce.clone(), at: now });
        }
        Some(act)
    }

    fn take_in(&mut self, settings: &Settings, found: Option<(Box<Claim>, String)>, now: Now) {
        (self.busy, self.stale) = (false, false);
        (self.answered, self.last_error) = (Some(now), None);
        let Some((claim, tag)) = found else {
            let evidence = settings.evidence.max(self.highest.0);
            self.absent = true;
            (self.known, self.proven) = (None, None);
            if evidence > 0 {
                self.conflict = Some(format!(
                    "the claim {} is gone from the vault, but epoch {evidence} is known here: the vault was emptied or is another one",
                    settings.group
                ));
            }
            return;
        };
        self.absent = false;
        let version = (claim.epoch, claim.seq);
        if version < self.highest || claim.epoch < settings.evidence {
            let known = self.highest.0.max(settings.evidence);
            self.conflict = Some(format!(
                "the claim {} fell to epoch {} (version {}), but epoch {known} (version {}) is known here: the vault was rolled back",
                settings.group, claim.epoch, claim.seq, self.highest.1
            ));
            return;
        }
        self.conflict = None;
        self.highest = version;
        self.settle(settings, *claim, tag, now);
    }

    fn written(&mut self, settings: &Settings, claim: Claim, tag: String, now: Now) {
        (self.busy, self.stale, self.absent) = (false, false, false);
        (self.answered, self.last_error) = (Some(now), None);
        self.highest = (claim.epoch, claim.seq);
        self.settle(settings, claim, tag, now);
    }

    /// This version stands in the vault.
    fn settle(&mut self, settings: &Settings, claim: Claim, tag: String, now: Now) {
        if claim.holder != settings.region {
            self.proven = None;
        } else if let Some(sent) = self.sent.as_ref().filter(|it| it.nonce == claim.nonce) {
            // Rule 2: from when it was sent, not from the reply.
            self.proven = Some(sent.at);
        }
        let same = |it: &&Known| (it.claim.epoch, it.claim.beat) == (claim.epoch, claim.beat);
        let first_seen = self.known.as_ref().filter(same).map_or(now, |it| it.first_seen);
        self.known = Some(Known { claim, tag, first_seen, last_seen: now });
    }

    fn next(&self, settings: &Settings, nonce: &str, now: Now) -> Option<Act> {
        let renew = Duration::from_secs(settings.deadlines.renew);
        if self.stale {
            // After a failure it is not hammered: once per tick is enough.
            return Some(Act::Read);
        }
        if self.conflict.is_none()
            && let Some(claim) = self.wanted(settings, nonce, now)
        {
            let expected = self.known.as_ref().map(|it| it.tag.clone());
            return Some(Act::Write { claim: Box::new(claim), expected });
        }
        let due = self.answered.is_none_or(|it| aligned(it, now, renew));
        due.then_some(Act::Read)
    }

    /// The version that should stand in the vault instead of the one that does.
    fn wanted(&self, settings: &Settings, nonce: &str, now: Now) -> Option<Claim> {
        let fresh = |epoch, seq, beat, intent, reason: &str| Claim {
            format: FORMAT,
            group: settings.group.clone(),
            epoch,
            holder: settings.region.clone(),
            candidates: settings.candidates.clone(),
            seq,
            beat,
            nonce: nonce.to_owned(),
            intent,
            deadlines: settings.deadlines,
            reason: reason.to_owned(),
            health: self.health,
            renewed_at: Timestamp::from_millisecond(now.wall_millis).unwrap_or_default(),
        };
        let Some(Known { claim, .. }) = &self.known else {
            let first = self.absent && self.wish == Wish::Hold && settings.evidence == 0;
            return first.then(|| fresh(1, 1, 1, Intent::None, "nobody had it"));
        };
        let mine = claim.holder == settings.region;
        let released = matches!(claim.intent, Intent::Released { .. });
        match &self.wish {
            Wish::Watch => None,
            Wish::Hold if !mine || released => None,
            Wish::Hold => {
                let renew = Duration::from_secs(settings.deadlines.renew);
                let due = self.sent.as_ref().is_none_or(|it| aligned(it.at, now, renew)) || self.proven.is_none();
                // A request to hand over stays in it until it is honoured.
                due.then(|| fresh(claim.epoch, claim.seq + 1, claim.beat + 1, claim.intent.clone(), &claim.reason))
            }
            Wish::Release { point, reason } if mine && !released => {
                let intent = Intent::Released { point: point.clone(), reason: reason.clone() };
                Some(fresh(claim.epoch, claim.seq + 1, claim.beat, intent, &claim.reason))
            }
            Wish::Seize { epoch } if self.seizable(settings, now) && *epoch == claim.epoch + 1 => {
                let reason = format!("taken from {} by {}", claim.holder, settings.region);
                Some(fresh(*epoch, claim.seq + 1, 1, Intent::None, &reason))
            }
            Wish::RequestHandover { to, run } if !mine && claim.intent == Intent::None => {
                let intent = Intent::Handover { to: to.clone(), run: run.clone() };
                let asked = Claim { seq: claim.seq + 1, nonce: nonce.to_owned(), intent, ..claim.clone() };
                Some(asked)
            }
            Wish::Release { .. } | Wish::Seize { .. } | Wish::RequestHandover { .. } => None,
        }
    }

    /// Whether this region holds the claim, and can prove it now.
    #[must_use]
    pub fn valid(&self, settings: &Settings, now: Now) -> bool {
        let Some(known) = &self.known else { return false };
        let hold = Duration::from_secs(settings.deadlines.hold);
        known.claim.holder == settings.region
            && self.conflict.is_none()
            && !matches!(known.claim.intent, Intent::Released { .. })
            && self.proven.is_some_and(|it| now.at_most_since(it) < hold)
    }

    /// Whether `Strict` demands that the application is stopped here.
    #[must_use]
    pub fn expired(&self, settings: &Settings, now: Now) -> bool {
        let hold = Duration::from_secs(settings.deadlines.hold);
        match (self.proven, self.started) {
            (Some(proven), _) => now.at_most_since(proven) >= hold,
            // Nothing is proven since the restart: what the journal says counts, or else a first try.
            (None, Some(started)) => match &self.sent {
                Some(sent) => now.at_most_since(sent.at) >= hold,
                None => now.at_most_since(started) >= FIRST_TRY,
            },
            (None, None) => true,
        }
    }

    /// How long the holder has been silent for certain: from when its last renewal was first seen until it was last
    /// read unchanged.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.known.as_ref().map(|it| it.last_seen.at_least_since(it.first_seen))
    }

    /// Whether this region may take the claim of another one.
    ///
    /// The silence runs until now, not until the last read: the write replaces exactly the version that was read, so
    /// a renewal that landed in between makes it fail.
    #[must_use]
    pub fn seizable(&self, settings: &Settings, now: Now) -> bool {
        let Some(known) = self.known.as_ref().filter(|it| it.claim.holder != settings.region) else { return false };
        if self.conflict.is_some() || !settings.candidates.contains(&settings.region) {
            return false;
        }
        // The holder's numbers may be larger than mine, when they were just changed.
        let wait = Duration::from_secs(settings.deadlines.wait.max(known.claim.deadlines.wait));
        matches!(known.claim.intent, Intent::Released { .. }) || now.at_least_since(known.first_seen) >= wait
    }
}

/// Whether a common tick of the period lies between two moments: renewals of all claims fall on the same ticks, so
/// that they are journalled by one write.
fn aligned(from: Now, now: Now, period: Duration) -> bool {
    let tick = |it: Duration| it.as_millis() / period.as_millis().max(1);
    tick(now.boot) > tick(from.boot)
}
