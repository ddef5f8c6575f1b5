//! The claim as it is stored, and what a region writes down before it sends a version of it.
//!
//! Data, its reading and its bounds. What to write when is `draft`; where the journal lies is `operator::journal`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{rules::rule, time::Now};
use crate::api::application::ClaimSettings;

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// No claim is larger than this, in bytes: a larger object is not one.
pub const MAX_BYTES: usize = 64 * 1024;

/// Who may serve an application: `claims/<namespace>.<application>.json`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The format it is written in.
    pub format: u32,
    /// `<namespace>.<application>`.
    pub group: String,
    /// Rises by one with each change of holder, and never falls. The first one is 1.
    pub epoch: u64,
    /// The region that may serve. Nobody when it was released.
    pub holder: Option<String>,
    /// The regions that the holder knows it may run in, in order of preference.
    pub candidates: Vec<String>,
    /// Rises by one with each version, and never falls.
    pub seq: u64,
    /// Fresh in each version: `<writer's region>.<writer's instance>.<count>`. Some servers' tags follow the content,
    /// and a writer recognises its own version by it.
    pub nonce: String,
    /// What shall become of it.
    pub intent: Intent,
    /// The numbers that the holder goes by.
    pub deadlines: Deadlines,
    /// Why it changed hands last.
    pub reason: String,
    /// How the application looks to the holder. Absent while it has no verdict.
    pub health: Option<Health>,
    /// When the holder renewed it, for people only: no decision looks at it.
    pub renewed_at: Timestamp,
}

/// What shall become of a claim.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Intent {
    /// It is kept.
    None,
    /// A region asked the holder to stop the application and release the claim to it.
    Handover(Handover),
    /// The holder stopped the application and gave the claim up.
    Released {
        /// The region it was given up for; the others wait. Anybody when absent.
        to: Option<String>,
        /// The region that gave it up, and takes it back when nobody wants it. Older versions do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The last recovery point that the holder made, if it made one for this.
        point: Option<String>,
        /// Why.
        reason: String,
    },
}

/// A request to hand an application over.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handover {
    /// The region that wants it.
    pub to: String,
    /// The `Failover` that it wants it for.
    pub run: String,
}

/// How the application looks to the holder.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Health {
    /// The verdict.
    pub healthy: bool,
    /// Since when it stands, by the holder's wall clock.
    pub since: Timestamp,
}

/// The numbers that a holder and its standbys go by, in whole seconds.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadlines {
    /// From one renewal to the next.
    pub renew: u32,
    /// How long a renewal is valid, from the moment it was sent.
    pub hold: u32,
    /// How long stopping the application may take.
    pub fence: u32,
    /// How long a standby must have seen no renewal.
    pub wait: u32,
}

impl Deadlines {
    /// `renew`, at least a second.
    #[must_use]
    pub fn renew(self) -> Duration {
        Duration::from_secs(self.renew.max(1).into())
    }

    /// `hold`.
    #[must_use]
    pub fn hold(self) -> Duration {
        Duration::from_secs(self.hold.into())
    }

    /// `wait`.
    #[must_use]
    pub fn wait(self) -> Duration {
        Duration::from_secs(self.wait.into())
    }

    /// The last moment after a renewal was sent at which fencing may begin so that it ends before anybody else may
    /// serve, with clocks that differ by 1 % each and a second for scheduling: the timing law solved for `hold`.
    #[must_use]
    pub fn last_safe_fencing(self) -> Duration {
        let wait_millis = u64::from(self.wait) * 1000;
        let begins = (wait_millis.saturating_sub(1000) * 100 / 101).saturating_sub(u64::from(self.fence) * 1000);
        let begins = rule!(RestartedFencesInTime, begins, off: wait_millis);
        Duration::from_millis(begins * 100 / 101).max(self.hold())
    }

    /// Whether `wait >= (hold * 1.01 + fence) * 1.01 + 1s`. Admission checks it; the simulation breaks it on purpose.
    #[must_use]
    pub fn lawful(self) -> bool {
        let needed = (u64::from(self.hold) * 101 + u64::from(self.fence) * 100) * 101 + 10_000;
        u64::from(self.wait) * 10_000 >= needed
    }
}

impl From<&ClaimSettings> for Deadlines {
    fn from(settings: &ClaimSettings) -> Self {
        let seconds = |span: crate::api::span::Span| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        Self {
            renew: seconds(settings.renew),
            hold: seconds(settings.hold),
            fence: seconds(settings.fence),
            wait: seconds(settings.wait),
        }
    }
}

/// Why an object in the vault is not a claim that this version understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It is too large to be one.
    #[error("the claim has {0} bytes, more than {MAX_BYTES}: it was not written by this operator")]
    Size(usize),
    /// It is not JSON, or lacks a field.
    #[error("the claim cannot be read: {0}")]
    Syntax(String),
    /// A newer version wrote it.
    #[error("the claim is in format {0}, this version reads {FORMAT}: upgrade the operator of this region")]
    Format(u32),
    /// A number that no writer writes.
    #[error("the claim has epoch {epoch} and seq {seq}: both begin at 1")]
    Number {
        /// Its epoch.
        epoch: u64,
        /// Its sequence number.
        seq: u64,
    },
}

#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Claim {
    /// Reads a claim as it lies in a vault.
    ///
    /// # Errors
    /// When it is too large, no claim, or in a newer format.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimError> {
        if bytes.len() > MAX_BYTES {
            return Err(ClaimError::Size(bytes.len()));
        }
        let syntax = |error: serde_json::Error| ClaimError::Syntax(error.to_string());
        // The format first: a newer one may lack fields that this version wants.
        let Versioned { format } = serde_json::from_slice(bytes).map_err(syntax)?;
        if format != FORMAT {
            return Err(ClaimError::Format(format));
        }
        let claim: Self = serde_json::from_slice(bytes).map_err(syntax)?;
        match (claim.epoch, claim.seq) {
            (0, _) | (_, 0) => Err(ClaimError::Number { epoch: claim.epoch, seq: claim.seq }),
            (1.., 1..) => Ok(claim),
        }
    }

    /// The claim as it is put into a vault.
    ///
    /// # Panics
    /// Never: all of it has a form in JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a claim has string keys and no failing serializer")
    }
}

/// What a version of the claim is sent for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// To keep it: the epoch stays.
    Renew,
    /// To take it: a new epoch.
    Seize,
    /// To give it up: the epoch stays, the holder goes.
    Release,
    /// To ask the holder for it: epoch and holder stay.
    Request,
    /// To take such a request back, or to give back what was released to this region: epoch and holder stay.
    Decline,
}

/// What a region writes down about a version of its claim before it sends it, so that a restart resets no timer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The boot that the times are of.
    pub boot_id: String,
    /// What it is sent for. Never `Request` or `Decline`.
    pub purpose: Purpose,
    /// The epoch of the version.
    pub epoch: u64,
    /// The sequence number of the version.
    pub seq: u64,
    /// The nonce of the version.
    pub nonce: String,
    /// The deadlines in the version.
    pub deadlines: Deadlines,
    /// When it was about to be sent.
    pub sent: Now,
    /// `Renew`: when the newest renewal of the epoch was sent that was then known to have landed. `Seize`: when the
    /// first attempt at the epoch was sent, if there was one before whose outcome was not known. In the same boot.
    pub confirmed: Option<Now>,
}
