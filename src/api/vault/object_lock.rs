//! Locks of what lies in a bucket, as a `Vault` asks for them.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::span::{Span, in_days, in_days_if_given};

/// Locks of object versions: packs, indexes and snapshots of volumes, manifests, points and wrapped keys. Claims and heads
/// are never locked.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.daily) ? self.daily : '99999d', has(self.weekly) ? self.weekly : '99999d', has(self.monthly) ? self.monthly : '99999d', has(self.yearly) ? self.yearly : '99999d'].all(it, int(it.replace('d', '')) > int(self.period.replace('d', '')))").message("daily, weekly, monthly and yearly must be longer than period, which holds for all points: leave out what is not"))]
pub struct ObjectLock {
    /// `Governance`: whoever has the right to (S3: `s3:BypassGovernanceRetention`) may lift a lock. `Compliance`: nobody may, until it ends.
    pub mode: LockMode,
    /// For how long all that is kept is locked at least, at any time, in days: `14d`.
    #[serde(serialize_with = "in_days")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}d$')").message("period must be whole days, 1d to 9999d"))]
    pub period: Span,
    /// For how long the first good point of each day is locked, in days. Default: like all. Days, weeks (from Monday),
    /// months and years are those of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "in_days_if_given")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}d$')").message("daily must be whole days, 1d to 9999d"))]
    pub daily: Option<Span>,
    /// For how long the first good point of each week is locked, in days. Default: like all.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "in_days_if_given")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}d$')").message("weekly must be whole days, 1d to 9999d"))]
    pub weekly: Option<Span>,
    /// For how long the first good point of each month is locked, in days. Default: like all.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "in_days_if_given")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}d$')").message("monthly must be whole days, 1d to 9999d"))]
    pub monthly: Option<Span>,
    /// For how long the first good point of each year is locked, in days. Default: like all.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "in_days_if_given")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}d$')").message("yearly must be whole days, 1d to 9999d"))]
    pub yearly: Option<Span>,
}

/// What a point is the first good one of: the classes that may be locked longer than others.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockClass {
    /// Of its day.
    Daily,
    /// Of its week.
    Weekly,
    /// Of its month.
    Monthly,
    /// Of its year.
    Yearly,
}

/// Who may lift a lock.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right to.
    Governance,
    /// Nobody.
    Compliance,
}
