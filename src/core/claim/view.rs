//! What the rest of the operator may know of a claim.

use super::{
    Now, Settings,
    record::{HolderHealth, Intent},
    step::State,
};
use crate::api::application::Fencing;

/// A claim as seen from here, now.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they do combine")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The region that may serve.
    pub holder: Option<String>,
    /// The epoch.
    pub epoch: Option<u64>,
    /// Whether the claim could be read or written lately.
    pub readable: bool,
    /// Whether it was read at least once, and found absent.
    pub absent: bool,
    /// Whether this region is the holder.
    pub mine: bool,
    /// Whether this region is the holder and can prove it: only then may it act.
    pub valid: bool,
    /// Whether this region is the holder, cannot prove it, and `Strict` demands that it stops.
    pub must_fence: bool,
    /// Whether another region is the holder, and has not renewed for its `hold` while the vault was readable.
    pub holder_silent: bool,
    /// For how long the holder has been silent for certain, in seconds.
    pub silent_for: Option<u64>,
    /// Whether this region may take the claim.
    pub seizable: bool,
    /// How the application looks to the holder.
    pub holder_health: Option<HolderHealth>,
    /// The region that asks this holder to hand over.
    pub requested_handover: Option<String>,
    /// What a person has to decide.
    pub conflict: Option<String>,
    /// Why the vault did not answer.
    pub last_error: Option<String>,
}

/// A claim as seen from here, now.
#[must_use]
pub fn view(settings: &Settings, state: &State, now: Now) -> View {
    let claim = state.known.as_ref().map(|it| &it.claim);
    let mine = claim.is_some_and(|it| it.holder == settings.region);
    let renew = std::time::Duration::from_secs(settings.deadlines.renew);
    // Longer than a failing request takes on top of two periods, and shorter than the wait.
    let recent = renew * 3 + std::time::Duration::from_secs(2);
    let readable = state.answered.is_some_and(|it| now.boot.saturating_sub(it.boot) <= recent);
    let silent = state.silent_for().filter(|_| !mine).map(|it| it.as_secs());
    let hold = claim.map_or(settings.deadlines.hold, |it| it.deadlines.hold);
    let requested_handover = match claim.map(|it| &it.intent) {
        Some(Intent::Handover { to, .. }) if mine => Some(to.clone()),
        Some(Intent::Handover { .. } | Intent::None | Intent::Released { .. }) | None => None,
    };
    View {
        holder: claim.map(|it| it.holder.clone()),
        epoch: claim.map(|it| it.epoch),
        readable,
        absent: state.absent,
        mine,
        valid: state.valid(settings, now),
        must_fence: mine && settings.fencing == Fencing::Strict && state.expired(settings, now),
        holder_silent: readable && silent.is_some_and(|it| it >= hold),
        silent_for: silent,
        seizable: state.seizable(settings, now),
        holder_health: claim.filter(|_| !mine).and_then(|it| it.health),
        requested_handover,
        conflict: state.conflict.clone(),
        last_error: state.last_error.clone(),
    }
}

impl View {
    /// What the loop must be woken for when it changes: not what changes with each renewal or second.
    #[must_use]
    pub fn gist(&self) -> Self {
        Self { silent_for: None, last_error: self.last_error.clone().filter(|_| !self.readable), ..self.clone() }
    }
}
