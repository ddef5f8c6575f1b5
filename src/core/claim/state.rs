//! What a region remembers about one claim, and what follows from it at a given moment.
//!
//! It learns nothing by itself (`step` does) and writes nothing (`draft` does).

use std::{collections::BTreeSet, time::Duration};

use super::{
    record::{Claim, Deadlines, Entry, Health, Intent, Purpose},
    rules::rule,
    time::{Now, Since, elapsed_for_holder, elapsed_for_standby},
};
use crate::api::application::Fencing;

/// Outcomes that may be open at once. Each is a request that timed out; all but one can never land.
pub const MAX_OUTSTANDING: usize = 16;

/// What the rest of the operator declares about a claim: from the specification, and from what it found elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This region.
    pub region: String,
    /// `<namespace>.<application>`.
    pub group: String,
    /// The regions that the application may run in, in order of preference.
    pub candidates: Vec<String>,
    /// Whether a holder that cannot prove its claim goes on.
    pub fencing: Fencing,
    /// The numbers to go by.
    pub deadlines: Deadlines,
    /// What is known of the claim from elsewhere. Absent while that was not looked up: no claim is made then.
    pub evidence: Option<Evidence>,
}

impl Settings {
    /// Whether this region is the one that makes a claim where there never was one.
    #[must_use]
    pub fn first(&self) -> bool {
        self.candidates.first() == Some(&self.region)
    }
}

/// What is known of a claim from elsewhere than the claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// The epoch in the application's status.
    pub status: Option<u64>,
    /// The epoch that the catalogue's head is sealed with.
    pub head: Option<u64>,
    /// The epoch in which this region fenced itself, from the application's status: it is not renewed any more.
    pub fenced: Option<u64>,
    /// The epoch that this region held, from the application's status: all there is when neither the journal nor the
    /// vault can be read.
    pub held: Option<u64>,
}

/// What the rest of the operator wants of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Nothing was declared since the operator started: look at it, and leave everything as it is.
    Undecided,
    /// Look at it. If it is this region's, let it run out. If this region had asked for it, take that back; if it was
    /// released to this region, give it back.
    Watch,
    /// Keep it if it is this region's; make it if there never was one and this is the first region.
    Hold,
    /// Take it with this epoch as soon as that is allowed, then keep it.
    Seize {
        /// The epoch to take it with: one more than the present one.
        epoch: u64,
        /// Why, for the record.
        reason: String,
    },
    /// Give it up. Only once the application is stopped.
    Release {
        /// For whom. Anybody when absent.
        to: Option<String>,
        /// The last recovery point, if one was made for this.
        point: Option<String>,
        /// Why, for the record.
        reason: String,
    },
    /// Ask the holder for it.
    RequestHandover {
        /// The region that wants it.
        to: String,
        /// The `Failover` that wants it.
        run: String,
    },
}

/// What the vault last answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, once per claim")]
pub enum Seen {
    /// There is no claim.
    Absent,
    /// There is this one.
    Present {
        /// The claim.
        claim: Claim,
        /// What a write must find unchanged.
        tag: String,
    },
}

/// For how long one version was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The version's nonce. Absent when it is the absence of a claim.
    pub version: Option<String>,
    /// When it was last seen.
    pub last: Now,
    /// The time between good reads of it, as `State::see` counts it.
    pub silent: Duration,
}

/// The newest version that is known to have existed. Nothing older may be seen after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// Its epoch.
    pub epoch: u64,
    /// Its sequence number.
    pub seq: u64,
    /// Its nonce, when it was seen and not deduced.
    pub nonce: Option<String>,
}

/// The epoch that this region holds, as far as it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Own {
    /// The epoch.
    pub epoch: u64,
    /// When the newest renewal that is known to stand was sent.
    pub since: Since,
    /// The deadlines in that renewal: what the other regions go by.
    pub deadlines: Deadlines,
    /// Whether this instance itself had a renewal of it confirmed.
    pub confirmed_here: bool,
    /// An earlier process asked for this epoch, and may have got it and served: it says when to fence, no more.
    pub supposed: bool,
}

/// A version that was sent, or was about to be, and whose outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    /// Its nonce.
    pub nonce: String,
    /// Its epoch.
    pub epoch: u64,
    /// What it was sent for.
    pub purpose: Purpose,
    /// When.
    pub since: Since,
    /// The deadlines in it.
    pub deadlines: Deadlines,
}

/// The request that is in flight. There is at most one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flight {
    /// None.
    Idle,
    /// A read. It must not answer with anything older than what was known when it was sent.
    Reading {
        /// What was known then.
        floor: Known,
        /// From where, for people.
        source: &'static str,
    },
    /// A write of this claim.
    Writing(Box<Claim>),
}

/// All that a region remembers about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Unique to this state among all that this region ever has: nonces begin with it.
    pub instance: String,
    /// The boot that the times are of.
    pub boot_id: String,
    /// Versions made so far.
    pub count: u64,
    /// When the first thing was observed: since then nothing was renewed but what this state knows.
    pub begun: Option<Now>,
    /// What is wanted.
    pub wish: Wish,
    /// How the application looks here.
    pub health: Option<Health>,
    /// What the vault last answered.
    pub seen: Option<Seen>,
    /// For how long.
    pub sight: Option<Sight>,
    /// The newest version known.
    pub known: Known,
    /// What is held.
    pub own: Option<Own>,
    /// Versions with an open outcome, oldest first.
    pub outstanding: Vec<Sent>,
    /// A write has an open outcome that no read has looked at yet.
    pub unresolved: bool,
    /// The request in flight.
    pub flight: Flight,
    /// The epoch in which this region fenced itself.
    pub fenced: Option<u64>,
    /// Why a person must decide.
    pub conflict: Option<String>,
    /// Why the last request failed.
    pub last_error: Option<String>,
    /// When the vault last answered.
    pub contact: Option<Now>,
    /// When a read was last sent, by the boot clock.
    pub read_at: Option<Duration>,
    /// When a write was last sent, by the boot clock.
    pub wrote_at: Option<Duration>,
}

impl State {
    /// The state after a start of the operator, or of the application's protection: what the journal proves and
    /// nothing else. `instance` must be unique among all states of this region (a ULID, say).
    #[must_use]
    pub fn restarted(instance: String, boot_id: String, journal: Option<Entry>) -> Self {
        let mut state = Self {
            instance,
            boot_id,
            count: 0,
            begun: None,
            wish: Wish::Undecided,
            health: None,
            seen: None,
            sight: None,
            known: Known::default(),
            own: None,
            outstanding: Vec::new(),
            unresolved: false,
            flight: Flight::Idle,
            fenced: None,
            conflict: None,
            last_error: None,
            contact: None,
            read_at: None,
            wrote_at: None,
        };
        if let Some(entry) = journal {
            state.recall(entry);
        }
        state
    }

    /// Takes over what was written down before it was sent. Whether it landed, the first read will tell.
    fn recall(&mut self, entry: Entry) {
        let same_boot = rule!(OtherBootsProveNothing, entry.boot_id == self.boot_id, off: true);
        let since = |at: Now| if same_boot { Since::Proven(at) } else { Since::Wall(at.wall) };
        let Entry { boot_id: _, purpose, epoch, seq, nonce, deadlines, sent, confirmed } = entry;
        // The version before it did exist, or it would not have been sent.
        let before = if purpose == Purpose::Seize { epoch.saturating_sub(1) } else { epoch };
        self.known = Known { epoch: before, seq: seq.saturating_sub(1), nonce: None };
        let proven = match purpose {
            Purpose::Renew => {
                Some(rule!(JournalProvesWhatLanded, confirmed.map_or(Since::Unknown, since), off: since(sent)))
            }
            Purpose::Seize => Some(since(confirmed.unwrap_or(sent))),
            // It may have landed at any time since: nothing is valid until a renewal has come after it.
            Purpose::Release => Some(rule!(ReleaseOutlastsARestart, Since::Unknown, off: since(sent))),
            Purpose::Request | Purpose::Decline => None,
        };
        let supposed = rule!(SeizureInTheJournalProvesNothing, purpose == Purpose::Seize, off: false);
        self.own = proven.map(|since| Own { epoch, since, deadlines, confirmed_here: false, supposed });
        self.outstanding.push(Sent { nonce, epoch, purpose, since: since(sent), deadlines });
    }

    /// The claim as last read or written.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        match &self.seen {
            Some(Seen::Present { claim, .. }) => Some(claim),
            Some(Seen::Absent) | None => None,
        }
    }

    /// Whether the last answer names this region as the holder.
    #[must_use]
    pub fn named(&self, settings: &Settings) -> bool {
        self.claim().is_some_and(|it| it.holder.as_ref() == Some(&settings.region))
    }

    /// The epoch that must have existed, from all that is known, and from where.
    #[must_use]
    pub fn floor(&self, settings: &Settings) -> (Known, &'static str) {
        let mut floor = self.known.clone();
        let mut source = "this region saw it before";
        let evidence = settings.evidence.unwrap_or_default();
        for (epoch, from) in
            [(evidence.status, "the application's status says so"), (evidence.head, "the catalogue is sealed with it")]
        {
            let epoch = rule!(EvidenceCounts, epoch.unwrap_or(0), off: 0);
            if epoch > floor.epoch {
                // What was seen of its versions stays: `seq` rises through all epochs.
                floor.epoch = epoch;
                source = from;
            }
        }
        (floor, source)
    }

    /// How long a renewal is valid: by the deadlines that the others may go by, which are those of the newest
    /// renewal that is known to stand, or of any sent since that may have landed.
    #[must_use]
    pub fn hold(&self, own: &Own) -> Duration {
        let open = self.outstanding.iter().map(|it| it.deadlines.hold());
        rule!(ShortestHoldCounts, open.fold(own.deadlines.hold(), Duration::min), off: own.deadlines.hold())
    }

    /// When, after the newest renewal was sent, a `Strict` holder fences.
    ///
    /// At `hold`. A restarted operator has until the last moment that is still safe, so that an operator that was
    /// away for a little longer than `hold` may renew instead of stopping an application that nobody else took.
    pub(super) fn fence_after(&self, own: &Own) -> Duration {
        if own.confirmed_here {
            return self.hold(own);
        }
        let safe = |it: &Deadlines| it.last_safe_fencing();
        self.outstanding.iter().map(|it| safe(&it.deadlines)).fold(safe(&own.deadlines), Duration::min)
    }

    /// `Strict`: whether the application must be stopped now.
    #[must_use]
    pub fn must_fence(&self, settings: &Settings, now: Now) -> bool {
        rule!(StrictHolderFences, self.fences(settings, now), off: false)
    }

    fn fences(&self, settings: &Settings, now: Now) -> bool {
        match (settings.fencing, &self.own) {
            (Fencing::Strict, Some(own)) => {
                let since = rule!(OnlyWhatLandedCounts, own.since, off: self.outstanding.last().map_or(own.since, |it| it.since));
                self.is_fenced(settings) || since.elapsed(now) >= self.fence_after(own)
            }
            (Fencing::Strict, None) => {
                let begun = rule!(UnprovenFences, self.unproven_since(settings), off: None);
                begun.is_some_and(|it| elapsed_for_holder(it, now) >= settings.deadlines.hold())
            }
            (Fencing::Advisory, _) => false,
        }
    }

    /// Since when nothing at all tells about a claim that this region held by its own status: the journal is lost, and
    /// the vault has not answered since the start, or with a conflict. Whatever was renewed before is over a `hold` later.
    pub(super) fn unproven_since(&self, settings: &Settings) -> Option<Now> {
        self.supposed_epoch(settings)?;
        self.begun.filter(|_| self.own.is_none())
    }

    /// The epoch that this region may hold, for all that it can prove.
    pub(super) fn supposed_epoch(&self, settings: &Settings) -> Option<u64> {
        match &self.own {
            Some(own) => Some(own.epoch),
            None if self.seen.is_none() || self.conflict.is_some() => settings.evidence.and_then(|it| it.held),
            None => None,
        }
    }

    /// Whether this region fenced itself in the epoch that it holds. It renews that one never again.
    #[must_use]
    pub fn is_fenced(&self, settings: &Settings) -> bool {
        let fenced = self.fenced.max(settings.evidence.and_then(|it| it.fenced));
        self.own.as_ref().is_some_and(|own| fenced >= Some(own.epoch))
    }

    /// Whether this region may act as the holder now.
    #[must_use]
    pub fn valid(&self, settings: &Settings, now: Now) -> bool {
        let Some(own) = &self.own else { return false };
        let since =
            rule!(OnlyWhatLandedCounts, own.since, off: self.outstanding.last().map_or(own.since, |it| it.since));
        let stands = match since {
            Since::Proven(sent) => rule!(ValidityEnds, elapsed_for_holder(sent, now) < self.hold(own), off: true),
            Since::Wall(_) | Since::Unknown => false,
        };
        let sound = rule!(ConflictIsNotActedOn, self.conflict.is_none(), off: true);
        stands && !own.supposed && sound && !self.is_fenced(settings)
    }

    /// How long the vault may be silent before it counts as away: one read may fail.
    #[must_use]
    pub fn gap(settings: &Settings) -> Duration {
        settings.deadlines.renew() * 5 / 2
    }

    /// Whether the vault answered recently.
    #[must_use]
    pub fn readable(&self, settings: &Settings, now: Now) -> bool {
        self.contact.is_some_and(|it| elapsed_for_holder(it, now) < Self::gap(settings))
    }

    /// How long a standby waits: the longer of what it and the holder were told.
    #[must_use]
    pub fn wait(&self, settings: &Settings) -> Duration {
        let told = self.claim().map_or(Duration::ZERO, |it| it.deadlines.wait());
        rule!(LongerWaitCounts, told.max(settings.deadlines.wait()), off: settings.deadlines.wait())
    }

    /// Notes that a version was seen now, and counts the silence.
    ///
    /// The compare-and-swap alone makes taking the claim safe: if the version first seen `wait` ago is still the one
    /// that is replaced, then no renewal came after it, however seldom it was looked at, since no two versions
    /// share a nonce. But while nobody could reach the vault the holder could not renew either, and taking the claim
    /// from a healthy holder as soon as the vault is back is a failover for nothing. So an interval counts as the
    /// holder's silence only when the vault answered at both its ends and they are no farther apart than one failed
    /// read explains; after a longer one the silence begins anew.
    pub(super) fn see(&mut self, settings: &Settings, version: Option<String>, now: Now) {
        let same = |it: &Sight| rule!(NewVersionEndsTheSilence, it.version == version, off: true);
        let near = |it: &Sight| {
            let apart = elapsed_for_holder(it.last, now);
            rule!(OutageIsNoSilence, apart < Self::gap(settings), off: true)
        };
        let silent = match &self.sight {
            Some(sight) if same(sight) && near(sight) => sight.silent + elapsed_for_standby(sight.last, now),
            Some(_) | None => Duration::ZERO,
        };
        self.sight = Some(Sight { version, last: now, silent });
    }

    fn waited_out(&self, settings: &Settings) -> bool {
        let waited = self.sight.as_ref().is_some_and(|it| it.silent >= self.wait(settings));
        rule!(StandbyWaits, waited, off: true)
    }

    /// Whether this region may take the next epoch now.
    #[must_use]
    pub fn seizable(&self, settings: &Settings, now: Now) -> bool {
        let candidates: BTreeSet<&str> = settings.candidates.iter().map(String::as_str).collect();
        let candidate = rule!(OnlyCandidatesTake, candidates.contains(settings.region.as_str()), off: true);
        if self.conflict.is_some() || !self.readable(settings, now) || !candidate {
            return false;
        }
        let released = |to: &Option<String>| rule!(ReleasedForOneIsForNobodyElse, to.as_ref().is_none_or(|it| *it == settings.region), off: true);
        match &self.seen {
            None => false,
            Some(Seen::Absent) => {
                let first = rule!(FirstRegionBegins, settings.first(), off: true);
                self.never_was(settings) && (first || self.waited_out(settings))
            }
            Some(Seen::Present { claim, .. }) => match (&claim.holder, &claim.intent) {
                (None, Intent::Released { to, .. }) if released(to) => true,
                // Nobody else can hold it, and the application is stopped: the next epoch is free to take.
                (Some(holder), _) if *holder == settings.region => {
                    rule!(OnlyTheFencedTakeAnew, self.is_fenced(settings), off: true)
                }
                (Some(_) | None, _) => self.waited_out(settings),
            },
        }
    }

    /// Whether all evidence was looked up, and none says that there ever was a claim.
    pub(super) fn never_was(&self, settings: &Settings) -> bool {
        rule!(EvidenceFirst, settings.evidence.is_some(), off: true) && self.floor(settings).0.epoch == 0
    }
}
