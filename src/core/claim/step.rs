//! One step: what a region learns from one observation, and what it sends next.
//!
//! Total and pure. It never decides by the time that somebody else wrote down.

use super::{
    record::{Claim, Entry, Health, Purpose},
    rules::rule,
    state::{Flight, Known, Own, Seen, Sent, Settings, State, Wish},
    time::{Now, Since},
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
pub enum Observation {
    /// Time passed.
    Tick,
    /// The rest of the operator wants something.
    Wished(Wish),
    /// The application looks well (or not) from here; no verdict when absent.
    Judged(Option<bool>),
    /// The vault answered a read.
    ReadDone(Option<Stored>),
    /// The vault did not answer a read, or with something that is no claim: why.
    ReadFailed(String),
    /// The vault took the version with this nonce.
    WriteDone {
        /// The version.
        nonce: String,
        /// What the next write must find unchanged.
        tag: String,
    },
    /// The vault said that the precondition did not hold. The version may have landed all the same, when the
    /// request was repeated on its way.
    WriteLost {
        /// The version.
        nonce: String,
    },
    /// It is not known whether the version landed, or ever will: why.
    WriteUnknown {
        /// The version.
        nonce: String,
        /// Why.
        why: String,
    },
    /// The version was never sent, and never will be: why.
    WriteUnsent {
        /// The version.
        nonce: String,
        /// Why.
        why: String,
    },
}

/// A claim as it lies in the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The claim.
    pub claim: Claim,
    /// What a write must find unchanged.
    pub tag: String,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
pub enum Act {
    /// Read the claim; answer with `ReadDone` or `ReadFailed`.
    Read,
    /// Write a version of the claim; answer with one of the four `Write…`. Send it once: a repetition could land
    /// behind our back.
    Write {
        /// What must be there for it to land.
        expected: Expected,
        /// The version.
        claim: Claim,
        /// What must be written down, lastingly, before it is sent. `None` for what a holder does not send.
        entry: Option<Entry>,
    },
}

/// What must be in the vault for a write to land.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// The version with this tag.
    Unchanged(String),
}

/// One step. Any observation may come at any time, in any state.
#[must_use]
pub fn step(settings: &Settings, state: State, observation: Observation, now: Now) -> (State, Vec<Act>) {
    let mut state = state;
    state.begun = state.begun.or(Some(now));
    // First, so that an answer that comes after the deadline cannot undo that it passed.
    state.latch(settings, now);
    state.learn(settings, observation, now);
    state.latch(settings, now);
    let acts = state.next(settings, now).into_iter().collect();
    (state, acts)
}

impl State {
    /// A `Strict` holder that is past its deadline fences, and that is not taken back.
    fn latch(&mut self, settings: &Settings, now: Now) {
        if rule!(FencingIsFinal, self.must_fence(settings, now), off: false) {
            self.fenced = self.fenced.max(self.own.as_ref().map(|own| own.epoch));
        }
    }

    fn learn(&mut self, settings: &Settings, observation: Observation, now: Now) {
        match observation {
            Observation::Tick => {}
            Observation::Wished(wish) => self.wish = wish,
            Observation::Judged(None) => self.health = None,
            Observation::Judged(Some(healthy)) => {
                if self.health.is_none_or(|it| it.healthy != healthy) {
                    self.health = Some(Health { healthy, since: now.wall });
                }
            }
            Observation::ReadDone(stored) => self.read_done(settings, stored, now),
            Observation::ReadFailed(why) => {
                if matches!(self.flight, Flight::Reading { .. }) {
                    self.flight = Flight::Idle;
                }
                self.last_error = Some(why);
            }
            Observation::WriteDone { nonce, tag } => self.write_done(settings, &nonce, tag, now),
            Observation::WriteLost { nonce } => {
                self.write_open(&nonce, "another version of the claim came first".to_owned());
            }
            Observation::WriteUnknown { nonce, why } => self.write_open(&nonce, why),
            Observation::WriteUnsent { nonce, why } => {
                if self.landing(&nonce).is_some() {
                    self.outstanding.retain(|it| it.nonce != nonce);
                    self.last_error = Some(why);
                }
            }
        }
    }

    /// The claim in flight, if it is this version; nothing is in flight then any more.
    fn landing(&mut self, nonce: &str) -> Option<Claim> {
        match std::mem::replace(&mut self.flight, Flight::Idle) {
            Flight::Writing(claim) if claim.nonce == nonce => Some(*claim),
            other => {
                self.flight = other;
                None
            }
        }
    }

    fn write_open(&mut self, nonce: &str, why: String) {
        if self.landing(nonce).is_some() {
            self.unresolved = rule!(OpenOutcomeIsReadBack, true, off: false);
            self.last_error = Some(why);
        }
    }

    fn write_done(&mut self, settings: &Settings, nonce: &str, tag: String, now: Now) {
        let Some(claim) = self.landing(nonce) else { return };
        self.contact = Some(now);
        self.last_error = None;
        self.accept(settings, claim, tag, now);
    }

    fn read_done(&mut self, settings: &Settings, stored: Option<Stored>, now: Now) {
        // The answer to a read that was given up may be old.
        let Flight::Reading { floor, source } = self.flight.clone() else { return };
        self.flight = Flight::Idle;
        self.contact = Some(now);
        self.last_error = None;
        self.conflict = self.contradiction(settings, stored.as_ref(), &floor, source);
        if self.conflict.is_some() {
            self.sight = None;
            self.seen = Some(stored.map_or(Seen::Absent, |it| Seen::Present { claim: it.claim, tag: it.tag }));
            return;
        }
        self.unresolved = false;
        if let Some(Stored { claim, tag }) = stored {
            self.accept(settings, claim, tag, now);
        } else {
            self.see(settings, None, now);
            self.own = None;
            self.seen = Some(Seen::Absent);
        }
    }

    /// What a person must decide about, if what was read cannot follow from what was known before it was asked for.
    fn contradiction(
        &self,
        settings: &Settings,
        stored: Option<&Stored>,
        floor: &Known,
        source: &str,
    ) -> Option<String> {
        const REMEDY: &str = "was the vault rolled back or exchanged? Nothing is done until a person has decided: see \
                              the runbook on claims in conflict";
        let Some(Stored { claim, .. }) = stored else {
            return rule!(AbsentClaimIsRemembered, floor.epoch > 0, off: false).then(|| {
                format!("the vault holds no claim, but there was one with epoch {}: {source}; {REMEDY}", floor.epoch)
            });
        };
        if claim.group != settings.group {
            return Some(format!("the claim is of {}, not of {}; {REMEDY}", claim.group, settings.group));
        }
        if rule!(EpochNeverFalls, claim.epoch < floor.epoch, off: false) {
            let (seen, known) = (claim.epoch, floor.epoch);
            return Some(format!("the claim has epoch {seen}, but it had epoch {known}: {source}; {REMEDY}"));
        }
        let other = claim.seq == floor.seq && floor.nonce.as_ref().is_some_and(|it| *it != claim.nonce);
        let fell = rule!(SeqNeverFalls, claim.seq < floor.seq, off: false);
        let other = rule!(OneVersionForEachSeq, other, off: false);
        if fell || other {
            let (seen, known) = (claim.seq, floor.seq);
            return Some(format!(
                "the claim is at version {seen} (epoch {}), but this region knows another version {known}; {REMEDY}",
                claim.epoch
            ));
        }
        let mine = format!("{}.{}.", settings.region, self.instance);
        let namesake = claim.nonce.starts_with(&format!("{}.", settings.region)) && !claim.nonce.starts_with(&mine);
        let held_here = self.own.as_ref().is_some_and(|own| own.confirmed_here && own.epoch == claim.epoch);
        (namesake && held_here).then(|| {
            format!(
                "another operator renews the claim as region {}: give each region a name of its own (`region` of the \
                 chart), or stop the other operator and restart this one",
                settings.region
            )
        })
    }

    /// Takes over a version that is known to stand.
    fn accept(&mut self, settings: &Settings, claim: Claim, tag: String, now: Now) {
        self.see(settings, Some(claim.nonce.clone()), now);
        self.unresolved = false;
        self.known = Known { epoch: claim.epoch, seq: claim.seq, nonce: Some(claim.nonce.clone()) };
        let own = |it: &Sent| rule!(OwnVersionByItsNonce, it.nonce == claim.nonce, off: it.epoch == claim.epoch);
        let landed = self.outstanding.iter().position(own);
        let changed = match &self.seen {
            Some(Seen::Present { tag: before, .. }) => *before != tag,
            Some(Seen::Absent) => true,
            None => false,
        };
        let landed = landed.map(|at| self.outstanding.swap_remove(at));
        if landed.is_some() || changed {
            // All of them waited for the version that is gone: none can land any more.
            self.outstanding.clear();
        }
        if claim.holder.as_ref() == Some(&settings.region) {
            self.own = Some(self.owned(&claim, landed));
        } else {
            self.own = None;
        }
        self.seen = Some(Seen::Present { claim, tag });
    }

    /// What this region holds, by a claim that names it, and by the write of its own that the claim is, if it is one.
    fn owned(&self, claim: &Claim, landed: Option<Sent>) -> Own {
        let before = self.own.as_ref().filter(|own| own.epoch == claim.epoch);
        match landed {
            Some(Sent { purpose: Purpose::Renew | Purpose::Seize, since, deadlines, epoch, nonce }) => {
                // (`contact` is now.)
                let since = rule!(ValidFromSending, since, off: self.contact.map_or(since, Since::Proven));
                let here = nonce.contains(&format!(".{}.", self.instance));
                let confirmed_here = here || before.is_some_and(|own| own.confirmed_here);
                Own { epoch, since, deadlines, confirmed_here, supposed: false }
            }
            // Another version than the newest one sent from here: it proves that the claim is mine, not since when.
            Some(Sent { purpose: Purpose::Release | Purpose::Request | Purpose::Decline, .. }) | None => match before {
                Some(own) => Own { supposed: false, ..own.clone() },
                None => Own {
                    epoch: claim.epoch,
                    since: rule!(UnprovenIsExpired, Since::Unknown, off: self.contact.map_or(Since::Unknown, Since::Proven)),
                    deadlines: claim.deadlines,
                    confirmed_here: false,
                    supposed: false,
                },
            },
        }
    }

    /// The next request, when none is in flight and one is due.
    fn next(&mut self, settings: &Settings, now: Now) -> Option<Act> {
        if rule!(OneRequestAtATime, self.flight != Flight::Idle, off: false) {
            return None;
        }
        let read_due = now.boot >= self.read_due(settings);
        // After a failure a look comes first: a holder whose writes all fail before they reach the vault must still
        // see that the claim went elsewhere.
        if let Some(purpose) = self.wanted(settings, now)
            && now.boot >= self.write_due(settings, purpose)
            && !(read_due && self.last_error.is_some())
        {
            return Some(self.write(settings, purpose, now));
        }
        if !read_due {
            return None;
        }
        let (floor, source) = self.floor(settings);
        self.read_at = Some(now.boot);
        self.flight = Flight::Reading { floor, source };
        Some(Act::Read)
    }
}
