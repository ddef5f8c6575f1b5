//! What the operator of a region last saw and decided.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CopyStatus;
use crate::api::span::Span;

/// What the operator of this region last saw and decided.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedApplicationStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The region of the operator that wrote this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What this region is to the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The region that holds the claim, as last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_region: Option<String>,
    /// The epoch of the claim, as last read: it rises by one with each change of holder, and never falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What was done to keep this region's copy from serving. Absent while the region is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceStatus>,
    /// How the application looks from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// The service level reached so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloStatus>,
    /// The newest recovery point that counts for the RPO. Where none are made: as the vault named it when it was last
    /// asked, once a minute or once in `objectives.rpo`, whichever is longer; once a minute where it is restored ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_point: Option<LastPoint>,
    /// What is restored ahead here. Absent unless `spec.regions[].standby` is `Warm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<WarmStatus>,
    /// How often points are made, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// What retention keeps and drops. Absent without `spec.backup.retention`, and where this region never did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// What is in the other vaults, in the order of `spec.backup.copies`. Told while this region serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vault".into()]))]
    pub copies: Vec<CopyStatus>,
    /// How far locks reach. Absent where the vault is not asked for any, and where this region never extended them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locks: Option<LocksStatus>,
    /// The last failover that ended in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,
    /// The last time that a share of the repository was read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub: Option<ScrubStatus>,
    /// The address that the public name leads to, as last published by this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// `Ready` sums up. One entry per type.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What a region is to an application.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the claim and serves.
    Active,
    /// It holds the claim and is being brought into service by a `Failover`.
    Activating,
    /// Another region holds the claim; this region's copy is being stopped, and what it had written is being saved.
    Fencing,
    /// Another region holds the claim; this region's copy is stopped.
    Standby,
    /// Not known: the claim could not be read, or is in conflict.
    Unknown,
}

/// What was done to keep this region's copy from serving.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FenceStatus {
    /// The epoch that this region gave way to.
    pub epoch: u64,
    /// When it began.
    pub since: Option<Time>,
    /// When every pod of the application was gone. Absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// Whether nothing is left to be saved: only then may a failover write over this region's volumes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Whether this region stopped by itself, since it could not prove its claim under `Strict`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// The epoch with which this region takes the claim anew, after it had stopped and nobody else took it. Written before it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retake: Option<u64>,
    /// The recovery point that holds what this region had written. Absent while there is nothing to save, or it
    /// is not saved yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// How the application looks from this region.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when it stands.
    pub since: Option<Time>,
    /// Why, one entry for each failing probe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Whether the application is well.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No probe is failing, and each has answered.
    Healthy,
    /// A probe is failing.
    Unhealthy,
    /// No probe, or not enough answers yet.
    Unknown,
}

/// The service level reached so far.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SloStatus {
    /// Good minutes of those that were judged, in per cent.
    pub availability: String,
    /// What is left of the error budget, in minutes. Negative when it is overspent.
    pub budget_left_minutes: i64,
    /// Judged minutes of those since measuring began within the window, in per cent.
    pub coverage: String,
}

/// The newest recovery point that counts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastPoint {
    /// Its name in the vault.
    pub id: String,
    /// The instant that its data is of.
    pub consistent_at: Time,
}

/// What is restored ahead in a standby.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WarmStatus {
    /// The point that all volumes were made equal to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// The instant that its data is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// When that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How many bytes were transferred for it.
    #[serde(default)]
    pub bytes: u64,
    /// How long the first round took, in seconds, where it brought all of the data: two volumes at a time, with what held it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_seconds: Option<u64>,
    /// The point that they are being made equal to. It is written down before anything is done for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<WarmRound>,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A point that is being restored ahead.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WarmRound {
    /// The point.
    pub point: String,
    /// The instant that its data is of.
    pub consistent_at: Time,
    /// When it was begun.
    pub started_at: Time,
}

/// How often points are made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// From the start of one point to the start of the next, in seconds: rpo - p95(duration) - margin.
    pub interval_seconds: u64,
    /// The 95th percentile of the last points' durations, in seconds.
    pub duration_seconds: u64,
    /// `Measured`, or `Estimated` while there are fewer than three points.
    pub basis: Basis,
}

/// Where a figure comes from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Basis {
    Estimated,
    Measured,
}

/// The last time that a share of the repository was read back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScrubStatus {
    /// Which share, from 0.
    pub part: u32,
    /// Of how many.
    pub parts: u32,
    /// When it began. Written before anything is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How many packs were read, the last time that this succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs_read: Option<u64>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// How many packs are damaged or missing.
    #[serde(default)]
    pub damaged_packs: u64,
    /// The first of them, as they are named in the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// How many points need them.
    #[serde(default)]
    pub damaged_points: u64,
    /// The newest of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_damaged: Option<String>,
    /// Why it failed, if it did: the same share is read the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether it failed because of what lies in the vault.
    #[serde(default)]
    pub unreadable: bool,
}

/// The last failover that ended in this region.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastFailover {
    /// Its `Failover`.
    pub name: String,
    /// When it ended.
    pub finished_at: Time,
    /// From the disruption to serving again, in seconds.
    pub rto_seconds: u64,
    /// The age of the data that was recovered at the moment of the disruption, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<u64>,
}

/// The record that this region published.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The name.
    pub hostname: String,
    /// An IPv4 or IPv6 address, or a host name (published as CNAME).
    pub address: String,
    /// The epoch it was published under.
    pub epoch: u64,
}

/// What retention keeps and drops, as this region last found while it served.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// When the points of the vault were last gone through with another result than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// How many points are kept.
    #[serde(default)]
    pub kept: u64,
    /// The newest 100 of them, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<RetainedPoint>,
    /// Points that are about to be deleted from the vault. Written before the first of them is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropping: Vec<String>,
    /// How many points were deleted so far.
    #[serde(default)]
    pub dropped: u64,
    /// Points that the vault refused to delete at the last attempt, as under an object lock.
    #[serde(default)]
    pub refused: u64,
    /// Why nothing is dropped at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
    /// What removes from the vault the data that no point needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneStatus>,
}

/// The rounds in which locks of all that is kept are read back, and extended where they are short.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocksStatus {
    /// Until when all that is kept is locked at least, as read back. Absent before a first round is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// When the last round began. Written before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Time>,
    /// The period that it is for.
    pub period: Span,
    /// When it was complete. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The last object that was looked at, while there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many objects were looked at in it.
    #[serde(default)]
    pub objects: u64,
    /// Why it does not go on at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A point that is kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct RetainedPoint {
    /// Its name in the vault.
    pub id: String,
    /// The rules that keep it.
    pub why: String,
}

/// The removal of data that no point needs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PruneStatus {
    /// When the last run began. Written before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Points that were dropped before it began, in all.
    #[serde(default)]
    pub dropped: u64,
    /// Snapshots of volumes that were removed.
    #[serde(default)]
    pub snapshots: u64,
    /// Bundles of objects that were removed.
    #[serde(default)]
    pub manifests: u64,
    /// Bytes that were removed.
    #[serde(default)]
    pub reclaimed_bytes: u64,
    /// Bytes that are marked, and will be removed when nothing that runs can need them any more.
    #[serde(default)]
    pub pending_bytes: u64,
    /// Deletions that the vault refused, as under an object lock.
    #[serde(default)]
    pub refused: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
