//! Two clocks, and how much time a holder and a standby may believe has passed.
//!
//! It reads no clock: `operator::clock` does.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rules::rule;

/// One moment on this machine's two clocks.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Now {
    /// Time since the machine started, suspended time included. Comparable within one boot only.
    pub boot: Duration,
    /// The date and time of day. It may be stepped at any moment.
    pub wall: Timestamp,
}

/// How long ago `since` is for a holder: the larger of the two clocks' answers, since believing too little would
/// let it act on a claim that is gone. A moment that lies ahead of the boot clock is of no use: infinitely long ago.
#[must_use]
pub fn elapsed_for_holder(since: Now, now: Now) -> Duration {
    let Some(boot) = now.boot.checked_sub(since.boot) else { return Duration::MAX };
    let wall = wall_elapsed(since.wall, now.wall).unwrap_or_default();
    rule!(HolderTakesTheLargerClock, boot.max(wall), off: boot)
}

/// How long ago `since` is for a standby: the smaller of the two clocks' answers, since believing too much would let
/// it take a claim that still stands. A wall clock that was set back counts as no time at all.
#[must_use]
pub fn elapsed_for_standby(since: Now, now: Now) -> Duration {
    let boot = now.boot.saturating_sub(since.boot);
    let wall = wall_elapsed(since.wall, now.wall).unwrap_or_default();
    rule!(StandbyTakesTheSmallerClock, boot.min(wall), off: boot.max(wall))
}

/// How long ago `since` is by the wall clock; `None` when it lies ahead.
#[must_use]
pub fn wall_elapsed(since: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(since)).ok()
}

/// When the newest renewal that is known to stand was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Since {
    /// At this moment, in this boot.
    Proven(Now),
    /// At this time by the wall clock, in another boot: it says when to fence, and gives no validity.
    Wall(Timestamp),
    /// Not known: as good as expired.
    Unknown,
}

impl Since {
    /// How much time has passed, for the question whether the holder must fence.
    #[must_use]
    pub fn elapsed(self, now: Now) -> Duration {
        match self {
            Self::Proven(at) => elapsed_for_holder(at, now),
            Self::Wall(at) => wall_elapsed(at, now.wall).unwrap_or(Duration::MAX),
            Self::Unknown => Duration::MAX,
        }
    }
}
