//! The claim: who may serve an application. One object per application in a vault, changed only by compare-and-swap.
//!
//! `record` is what lies in the vault, `step` is the protocol as a pure function of time and observations, `view` is
//! what the rest of the operator may know of it. Reading, writing and the clock are `operator::keeper`.

pub mod record;
pub mod step;
pub mod view;

use std::time::Duration;

use crate::api::application::{ClaimSettings, Fencing};

/// A moment on two clocks of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the machine was started, suspend included.
    pub boot: Duration,
    /// Milliseconds since 1970: it may be set to anything at any time.
    pub wall_millis: i64,
}

impl Now {
    /// What a holder takes as elapsed since `from`: the larger of both clocks.
    #[must_use]
    pub fn at_most_since(self, from: Self) -> Duration {
        self.boot.saturating_sub(from.boot).max(self.wall_since(from))
    }

    /// What a standby takes as elapsed since `from`: the smaller of both clocks.
    #[must_use]
    pub fn at_least_since(self, from: Self) -> Duration {
        self.boot.saturating_sub(from.boot).min(self.wall_since(from))
    }

    fn wall_since(self, from: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.wall_millis - from.wall_millis).unwrap_or(0))
    }
}

/// What a region is told about one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This region.
    pub region: String,
    /// The claim's name: `<namespace>.<application>`.
    pub group: String,
    /// The regions that may hold it, in order of preference.
    pub candidates: Vec<String>,
    /// What a holder does that cannot prove its claim.
    pub fencing: Fencing,
    /// The timing.
    pub deadlines: record::Deadlines,
    /// The highest epoch that this cluster has evidence of, besides the claim itself. 0 when there is none.
    pub evidence: u64,
}

impl Settings {
    /// From what an application says.
    #[must_use]
    pub fn new(region: &str, group: String, candidates: Vec<String>, claim: &ClaimSettings, evidence: u64) -> Self {
        let deadlines = record::Deadlines {
            renew: claim.renew.as_secs(),
            hold: claim.hold.as_secs(),
            fence: claim.fence.as_secs(),
            wait: claim.wait.as_secs(),
        };
        Self { region: region.to_owned(), group, candidates, fencing: claim.fencing, deadlines, evidence }
    }
}

/// What the operator wants of the claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Only to know who holds it.
    #[default]
    Watch,
    /// To keep it when it is mine, and to take it when nobody ever had it.
    Hold,
    /// To take it from a holder that has fallen silent or has released it, with this epoch.
    Seize {
        /// The epoch, one above the holder's.
        epoch: u64,
    },
    /// To give it up: nothing of the application runs here any more.
    Release {
        /// The last recovery point, if there is one.
        point: Option<String>,
        /// Why, for people.
        reason: String,
    },
    /// To ask the living holder to stop the application and to release it.
    RequestHandover {
        /// The region that asks.
        to: String,
        /// The run that asks.
        run: String,
    },
}
