//! How the regions agree on who serves.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, seconds};

/// What a holder does that can no longer prove its claim.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fencing {
    /// It keeps serving: an outage of the vault stops nothing. Two regions may overlap, for a bounded time, when
    /// only the holder is cut off; DNS and recovery points are fenced all the same.
    #[default]
    Advisory,
    /// It stops the application at `hold`. Never two at once, as long as its operator and API server run.
    Strict,
}

/// Timing of the claim. The law `wait >= (hold * 1.01 + fence) * 1.01 + 1s` keeps a holder that is cut off from
/// overlapping with its successor.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("duration(self.wait).getSeconds() * 10000 >= (duration(self.hold).getSeconds() * 101 + duration(self.fence).getSeconds() * 100) * 101 + 10000")
    .message("claim.wait is too short: wait >= (hold * 1.01 + fence) * 1.01 + 1s must hold; raise claim.wait, or lower claim.hold or claim.fence"))]
#[x_kube(validation = Rule::new("duration(self.hold).getSeconds() >= 2 * duration(self.renew).getSeconds() && duration(self.renew) >= duration('1s')")
    .message("claim.hold must be at least twice claim.renew, and claim.renew at least 1s: one lost renewal must not lose the claim"))]
pub struct ClaimSettings {
    /// Whether a holder that cannot prove its claim goes on. Default `Advisory`.
    #[serde(default)]
    pub fencing: Fencing,
    /// How often the holder renews. Default `10s`.
    #[serde(default = "seconds::<10>")]
    pub renew: Span,
    /// How long a renewal is valid for the holder, from the moment it was sent. Default `30s`.
    #[serde(default = "seconds::<30>")]
    pub hold: Span,
    /// How long stopping the application may take. Default `30s`.
    #[serde(default = "seconds::<30>")]
    pub fence: Span,
    /// How long a standby must have seen no renewal before it may take the claim. Default `75s`.
    #[serde(default = "seconds::<75>")]
    pub wait: Span,
}

impl Default for ClaimSettings {
    fn default() -> Self {
        Self {
            fencing: Fencing::Advisory,
            renew: Span::from_secs(10),
            hold: Span::from_secs(30),
            fence: Span::from_secs(30),
            wait: Span::from_secs(75),
        }
    }
}
