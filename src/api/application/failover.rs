//! What may happen when an objective is in danger.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, seconds};
use crate::api::recovery_point::Level;

/// What may happen when an objective is in danger.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSettings {
    /// Who starts a failover. Default `Manual`.
    #[serde(default)]
    pub activation: Activation,
    /// How long after a failover no other one is started automatically. Default `30m`.
    #[serde(default = "seconds::<1800>")]
    pub cooldown: Span,
    /// At most this many automatic failovers in 24 hours. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 24))]
    pub max_automatic: u32,
    /// The least that a point must have been checked to be chosen by a failover: `L1`, every chunk is in the vault;
    /// `L2`, besides, a sample was read back; `L3`, it was rehearsed. Only the points that the scrubs of
    /// `backup.verification` have read reach `L2`, and only rehearsed ones `L3`: with these, a failover goes back to the
    /// last of them. Default `L1`.
    #[serde(default)]
    pub minimum_level: Level,
}

impl Default for FailoverSettings {
    fn default() -> Self {
        Self {
            activation: Activation::default(),
            cooldown: Span::from_secs(1_800),
            max_automatic: 1,
            minimum_level: Level::L1,
        }
    }
}

/// Who starts a failover.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// A person; the operator only says that it would.
    #[default]
    Manual,
    /// The operator, when the objectives are in danger.
    Automatic,
}

const fn one() -> u32 {
    1
}
