//! Locks of what lies in a bucket, as a `Vault` asks for them.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::span::{Span, in_days};

/// Locks of object versions: packs, indexes and snapshots of volumes, manifests, points and wrapped keys. Claims and heads
/// are never locked.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLock {
    /// `Governance`: whoever has `s3:BypassGovernanceRetention` may lift a lock. `Compliance`: nobody may, until it ends.
    pub mode: LockMode,
    /// For how long all that is kept is locked at least, at any time, in days: `14d`.
    #[serde(serialize_with = "in_days")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}d$')").message("period must be whole days, 1d to 9999d"))]
    pub period: Span,
}

/// Who may lift a lock.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right to.
    Governance,
    /// Nobody.
    Compliance,
}
