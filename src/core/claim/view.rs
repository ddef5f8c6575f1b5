//! What the rest of the operator may know about a claim.
//!
//! Derived from a `State` and a moment; nothing is remembered here.

use std::time::Duration;

use super::{
    record::{Claim, Handover, Health, Intent},
    state::{Seen, Settings, State},
    time::{Now, Since, elapsed_for_holder},
};

/// One claim, seen from this region at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub struct View {
    /// The claim as last read or written. Absent while it was never read, and when there is none.
    pub claim: Option<Claim>,
    /// Whether the last answer of the vault was that there is no claim.
    pub absent: bool,
    /// Whether the vault answered recently: within two and a half `renew`.
    pub readable: bool,
    /// The region that holds it, as last known.
    pub holder: Option<String>,
    /// Its epoch, as last known. 0 while nothing is known.
    pub epoch: u64,
    /// Whether this region holds it, as far as it knows. It may have expired.
    pub mine: bool,
    /// The epoch that this region holds, or may hold for all that it can prove.
    pub own_epoch: Option<u64>,
    /// Whether this region may act as the holder now.
    pub valid: bool,
    /// What the validity rests on, while there is any; it may have run out.
    pub lease: Option<Lease>,
    /// `Strict` only: the application must be stopped now. It stays until the claim is another one.
    pub must_fence: bool,
    /// Whether this region fenced itself in this epoch, and so will not renew it. It may take the next epoch.
    pub fenced: bool,
    /// For how many whole seconds this version of the claim was seen unchanged, by a vault that answered.
    pub silent_for: u64,
    /// Whether this region may take the next epoch now.
    pub seizable: bool,
    /// Why nothing is done until a person has decided.
    pub conflict: Option<String>,
    /// Why the last request failed. Absent once one has succeeded.
    pub last_error: Option<String>,
    /// What another region asks of this one, the holder.
    pub requested_handover: Option<Handover>,
    /// How the application looks to the holder.
    pub holder_health: Option<Health>,
}

/// The renewal that a holder's validity rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The epoch it is of.
    pub epoch: u64,
    /// When it was sent.
    pub sent: Now,
    /// How long it is valid.
    pub hold: Duration,
}

impl Lease {
    /// Whether it is still valid.
    #[must_use]
    pub fn stands(self, now: Now) -> bool {
        elapsed_for_holder(self.sent, now) < self.hold
    }

    /// Until when it is valid, by the boot clock. A wall clock that is set forward ends it earlier.
    #[must_use]
    pub fn until(self) -> Duration {
        self.sent.boot.saturating_add(self.hold)
    }
}

impl View {
    /// Whether another region is the holder, and was not seen to renew for its `hold` by a vault that answered.
    #[must_use]
    pub fn holder_silent(&self) -> bool {
        let hold = self.claim.as_ref().map_or(u64::MAX, |it| it.deadlines.hold.into());
        !self.mine && self.readable && self.silent_for >= hold
    }

    /// Whether this region gave it up for another one that has not taken it: nobody serves, and its copy is the newest.
    #[must_use]
    pub fn given_up_by(&self, region: &str) -> bool {
        self.released().is_some_and(|(_, from)| from == Some(region))
    }

    /// Whether this region gave it up and may take it back: it was given back, or nobody took it for twice `wait`.
    #[must_use]
    pub fn returned_to(&self, region: &str) -> bool {
        let patience = self.claim.as_ref().map_or(u64::MAX, |it| 2 * u64::from(it.deadlines.wait));
        let back = |to: Option<&str>| to.is_none_or(|it| it == region) || self.silent_for >= patience;
        self.seizable && self.released().is_some_and(|(to, from)| from == Some(region) && back(to))
    }

    /// For whom it was released, and by whom.
    fn released(&self) -> Option<(Option<&str>, Option<&str>)> {
        match &self.claim.as_ref()?.intent {
            Intent::Released { to, from, .. } => Some((to.as_deref(), from.as_deref())),
            Intent::None | Intent::Handover(_) => None,
        }
    }

    /// Whether the other one tells the rest of the operator something new. A mere renewal does not.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let Self {
            claim: _,
            absent,
            readable,
            holder,
            epoch,
            mine,
            own_epoch,
            valid,
            lease: _,
            must_fence,
            fenced,
            silent_for: _,
            seizable,
            conflict,
            last_error: _,
            requested_handover,
            holder_health,
        } = self;
        (*absent, *readable, *epoch, *mine, *own_epoch, *valid, *must_fence, *fenced, *seizable)
            != (
                other.absent,
                other.readable,
                other.epoch,
                other.mine,
                other.own_epoch,
                other.valid,
                other.must_fence,
                other.fenced,
                other.seizable,
            )
            || holder != &other.holder
            || conflict != &other.conflict
            || requested_handover != &other.requested_handover
            || holder_health.map(|it| it.healthy) != other.holder_health.map(|it| it.healthy)
    }
}

impl State {
    /// What may be known of it at this moment.
    #[must_use]
    pub fn view(&self, settings: &Settings, now: Now) -> View {
        let claim = self.claim();
        let own = self.own.as_ref().filter(|own| !own.supposed);
        let lease = own.and_then(|own| match own.since {
            Since::Proven(sent) => Some(Lease { epoch: own.epoch, sent, hold: self.hold(own) }),
            Since::Wall(_) | Since::Unknown => None,
        });
        let mine = own.is_some();
        let holder = match claim {
            Some(claim) => claim.holder.clone(),
            None if mine => Some(settings.region.clone()),
            None => None,
        };
        View {
            claim: claim.cloned(),
            absent: matches!(self.seen, Some(Seen::Absent)),
            readable: self.readable(settings, now),
            holder,
            epoch: claim.map_or(self.known.epoch, |it| it.epoch),
            mine,
            own_epoch: self.supposed_epoch(settings),
            valid: self.valid(settings, now),
            lease,
            must_fence: self.must_fence(settings, now),
            fenced: self.is_fenced(settings),
            silent_for: self.sight.as_ref().map_or(0, |it| it.silent.as_secs()),
            seizable: self.seizable(settings, now),
            conflict: self.conflict.clone(),
            last_error: self.last_error.clone(),
            requested_handover: claim.filter(|_| mine).and_then(|it| match &it.intent {
                Intent::Handover(wanted) => Some(wanted.clone()),
                Intent::None | Intent::Released { .. } => None,
            }),
            holder_health: claim.and_then(|it| it.health),
        }
    }
}
