//! The claim as it lies in the vault: `claims/<namespace>.<application>.json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// Who may serve.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The format it is written in.
    pub format: u32,
    /// `<namespace>.<application>`.
    pub group: String,
    /// Rises by one with each change of holder, and never falls.
    pub epoch: u64,
    /// The region that may serve.
    pub holder: String,
    /// The regions that may hold it, in order of preference, as the holder knows them.
    pub candidates: Vec<String>,
    /// Rises by one with each version.
    pub seq: u64,
    /// Rises by one with each renewal of the holder: a standby judges silence by it.
    pub beat: u64,
    /// Fresh in each version: tags of some servers follow the content, and a lost reply is told from a lost race by it.
    pub nonce: String,
    /// Whether it is about to change hands.
    pub intent: Intent,
    /// The holder's timing.
    pub deadlines: Deadlines,
    /// Why the holder has it, for people.
    pub reason: String,
    /// How the application looks to the holder. Absent while it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HolderHealth>,
    /// When this version was written, for people: no decision looks at it.
    pub renewed_at: Timestamp,
}

/// Whether a claim is about to change hands.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Intent {
    /// It is not.
    #[default]
    None,
    /// The holder is asked to stop the application and to release the claim.
    Handover {
        /// The region that asks.
        to: String,
        /// The run that asks.
        run: String,
    },
    /// The holder has stopped the application: any candidate may take the claim at once.
    Released {
        /// The last recovery point, if there is one.
        point: Option<String>,
        /// Why, for people.
        reason: String,
    },
}

/// Timing, in seconds.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// How often the holder renews.
    pub renew: u64,
    /// How long a renewal is valid for the holder, from when it was sent.
    pub hold: u64,
    /// How long stopping the application may take.
    pub fence: u64,
    /// How long a standby must have seen no renewal before it may take the claim.
    pub wait: u64,
}

/// How the application looks to the holder.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderHealth {
    /// Whether it looks well.
    pub healthy: bool,
    /// Since when.
    pub since: Timestamp,
}
