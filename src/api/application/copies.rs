//! Copies of recovery points in other vaults: when they are made, and what became of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{PruneStatus, Retention, ScrubStatus};
use crate::api::span::Span;

/// Another vault that recovery points are copied into: the newest good one, each time that it is due. A vault that has
/// none yet gets one at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.schedule) != has(self.every)").message("backup.copies: give either schedule or every"))]
#[x_kube(validation = Rule::new("has(self.schedule) || !has(self.timeZone)").message("backup.copies: timeZone is for schedule: remove it, or give a schedule"))]
pub struct CopySettings {
    /// Name of the `Vault`: another bucket, or another provider. It has keys of its own.
    #[schemars(length(min = 1, max = 63))]
    pub vault: String,
    /// When, as in a crontab: minute, hour, day of the month, month, day of the week. `0 3 2-31/2 * *` is at three on
    /// even days. A time that was missed is made up for once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9*/,-]+ [0-9*/,-]+ [0-9*/,-]+ ([0-9*/,-]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)+ ([0-9*/,-]|MON|TUE|WED|THU|FRI|SAT|SUN)+$')").message("backup.copies: schedule must have five fields as in a crontab, such as 0 3 * * *"))]
    pub schedule: Option<String>,
    /// The time zone of `schedule`, such as `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,
    /// The time from the beginning of one copy to that of the next. At least `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && (self.matches('d') || duration(self) >= duration('1m'))").message("backup.copies: every must be a length of time of at least 1m, such as 6h or 1d"))]
    pub every: Option<Span>,
    /// Which points are kept in this vault. Default: as `backup.retention` says; without both, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// What is in one other vault.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CopyStatus {
    /// Name of the `Vault`.
    pub vault: String,
    /// The newest point in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// The instant that its data is of: what is younger would be lost with the first vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// When the last run began that ended well: the next one is due by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_at: Option<Time>,
    /// How many runs failed since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// The last run. Written before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<CopyRun>,
    /// What is kept and dropped. Absent while every point is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<CopyRetention>,
    /// The last time that a share of what lies in it was read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub: Option<ScrubStatus>,
}

/// What retention keeps and drops in one other vault.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CopyRetention {
    /// The newest point when they were last gone through: done after each copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<String>,
    /// How many points are kept.
    #[serde(default)]
    pub kept: u64,
    /// Points that are about to be deleted. Written before the first of them is.
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

/// One copying of one point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CopyRun {
    /// The point.
    pub point: String,
    /// The instant that its data is of.
    pub consistent_at: Time,
    /// When it began.
    pub started_at: Time,
    /// When it ended. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Bytes that the vault did not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_bytes: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
