//! `ProtectedApplication`: the objectives of one application, and how they are kept.
//!
//! The same object stands in every region's cluster; what differs is the status each region's operator writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::span::{Span, in_days};

/// The application that stands in this namespace, and what it was promised.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "reprise.dev",
    version = "v1alpha1",
    kind = "ProtectedApplication",
    namespaced,
    shortname = "papp",
    category = "reprise",
    status = "ProtectedApplicationStatus",
    derive = "PartialEq",
    doc = "The application that stands in this namespace: its objectives (RTO, RPO, SLO), and how they are kept. Apply the same object in every region.",
    printcolumn(name = "Role", type_ = "string", json_path = ".status.role", description = "What this region is to the application."),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.activeRegion", description = "The region that holds the claim."),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health.verdict"),
    printcolumn(name = "Last point", type_ = "date", json_path = ".status.lastPoint.consistentAt", description = "The age of the newest good recovery point: what would be lost now."),
    printcolumn(name = "RPO", type_ = "string", json_path = ".spec.objectives.rpo"),
    printcolumn(name = "RPO met", type_ = "string", json_path = r#".status.conditions[?(@.type=="RecoveryPointObjectiveMet")].status"#),
    printcolumn(name = "SLO", type_ = "string", json_path = ".status.slo.availability"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Ready")].message"#),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name may have at most 40 characters: names of recovery points are derived from it"),
)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedApplicationSpec {
    /// What the application was promised.
    pub objectives: Objectives,

    /// The regions it may run in, in order of preference: the first one claims it when nobody has yet. Names are
    /// those that the operators were installed with (`region` of the chart).
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(min = 1, max = 8))]
    pub regions: Vec<Region>,

    /// How the regions agree on who serves. The defaults suit an RTO of five minutes and more.
    #[serde(default)]
    pub claim: ClaimSettings,

    /// How its data and objects are kept.
    pub backup: BackupSettings,

    /// How its health is judged. Without probes it is never failed over automatically.
    #[serde(default)]
    pub health: HealthSettings,

    /// The public name that follows the application. Without it, nothing is changed in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSettings>,

    /// What may happen when an objective is in danger.
    #[serde(default)]
    pub failover: FailoverSettings,
}

/// Recovery time, recovery point and service level.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Objectives {
    /// Recovery time objective: from the disruption to serving again. At least `30s`.
    #[x_kube(validation = Rule::new("duration(self) >= duration('30s')").message("objectives.rto must be at least 30s, and written in h, m and s: shorter ones need an application that runs in both regions"))]
    pub rto: Span,

    /// Recovery point objective: the greatest age that recovered data may have. At least `10s`.
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("objectives.rpo must be at least 10s, and written in h, m and s: a point cannot be made faster than that"))]
    pub rpo: Span,

    /// Service level objective, measured by the probes. Without it, no error budget is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<ServiceLevel>,
}

/// How available the application shall be.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ServiceLevel {
    /// The share of minutes that are good, in per cent: `99.9%`.
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,2}([.][0-9]{1,4})?%$')").message("objectives.slo.availability must be a percentage below 100, such as 99.9%"))]
    #[schemars(length(max = 9))]
    pub availability: String,

    /// The rolling window it is counted over, in days. Default `30d`.
    #[serde(default = "thirty_days", serialize_with = "in_days")]
    #[x_kube(validation = Rule::new("self.matches('^([1-9]|[1-8][0-9]|90)d$')").message("objectives.slo.window must be 1d to 90d"))]
    pub window: Span,
}

/// A region that the application may run in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Region {
    /// The name that the region's operator was installed with.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

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

/// Where recovery points go, and how volumes are read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct BackupSettings {
    /// Names of the `Vault`s that hold its points. Exactly one for now.
    #[schemars(length(min = 1, max = 1))]
    pub vaults: Vec<String>,
    /// How its volumes are read.
    #[serde(default)]
    pub volumes: VolumeSettings,
}

/// How volumes are read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct VolumeSettings {
    /// `Auto` takes a CSI snapshot where the volume's driver has a `VolumeSnapshotClass`, and reads the volume
    /// directly where it has none. Default `Auto`.
    #[serde(default)]
    pub method: VolumeMethod,
}

/// How one volume is read.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeMethod {
    /// `Snapshot` where it can be had, `Direct` otherwise.
    #[default]
    Auto,
    /// From a CSI snapshot: the data of one instant.
    Snapshot,
    /// From the running volume, on the node that mounts it: not the data of one instant.
    Direct,
}

/// How health is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct HealthSettings {
    /// What is asked, from where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 20))]
    pub probes: Vec<Probe>,
    /// When a bad verdict is believed.
    #[serde(default)]
    pub confirm: Confirm,
}

/// When a bad verdict is believed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Confirm {
    /// From how many vantage points it must look bad before an automatic failover: the standby that would take over
    /// is one, the holder the other; a holder that has gone silent counts as one that looks bad. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 2))]
    pub vantages: u32,
}

impl Default for Confirm {
    fn default() -> Self {
        Self { vantages: two() }
    }
}

/// One question that is asked again and again. Exactly one of `http`, `tcp` and `workload`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.tcp), has(self.workload)].filter(it, it).size() == 1")
    .message("a probe has exactly one of http, tcp and workload"))]
#[x_kube(validation = Rule::new("self.failures <= self.of").message("probe.failures cannot be greater than probe.of"))]
#[x_kube(validation = Rule::new("duration(self.timeout) <= duration(self.interval) && duration(self.timeout) >= duration('1s')")
    .message("probe.timeout must be at least 1s and at most probe.interval: probes of one kind never overlap"))]
pub struct Probe {
    /// Its name in status and events.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How often it is asked. Default `10s`.
    #[serde(default = "seconds::<10>")]
    pub interval: Span,
    /// How long an answer may take. Default `3s`.
    #[serde(default = "seconds::<3>")]
    pub timeout: Span,
    /// It is failing when this many of the last `of` answers were bad. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 60))]
    pub failures: u32,
    /// How many answers are looked at. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 60))]
    pub of: u32,
    /// Ask by HTTP, from every region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Open a TCP connection, from every region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// Ask the API server whether a workload is ready, in the region that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadProbe>,
}

/// A GET request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The address, through the public name: `https://shop.example.com/healthz`.
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^/ ]+"))]
    pub url: String,
    /// The status codes that are good. Default 200.
    #[serde(default = "ok_only")]
    #[schemars(length(min = 1, max = 20))]
    pub status: Vec<u16>,
    /// A text that the first 64 KiB of the body must hold. Default: any body is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub contains: Option<String>,
}

/// A connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TcpProbe {
    /// A name or an address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// A workload of the application's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct WorkloadProbe {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of workload that know whether they are ready.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// The public name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TrafficSettings {
    /// The `DnsZone` that the name lies in.
    #[schemars(length(min = 1, max = 63))]
    pub zone: String,
    /// The name, without a final dot: `shop.example.com`. It must lie inside the zone.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([a-z0-9_]([-a-z0-9_]*[a-z0-9])?\.)+[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub hostname: String,
    /// How long resolvers may keep the answer: part of the recovery time. Default `30s`.
    #[serde(default = "seconds::<30>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("traffic.ttl must be 1s to 24h"))]
    pub ttl: Span,
    /// What the name leads to.
    pub target: TrafficTarget,
}

/// What the name leads to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TrafficTarget {
    /// A Service of the application's namespace, of type `LoadBalancer` (its address or name is published) or
    /// `NodePort` (the address of a ready node is published).
    #[schemars(length(min = 1, max = 63))]
    pub service: String,
}

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
}

impl Default for FailoverSettings {
    fn default() -> Self {
        Self { activation: Activation::default(), cooldown: Span::from_secs(1_800), max_automatic: 1 }
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
    /// asked, once a minute or once in `objectives.rpo`, whichever is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_point: Option<LastPoint>,
    /// How often points are made, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// The last failover that ended in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,
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

const fn seconds<const N: u64>() -> Span {
    Span::from_secs(N)
}

const fn thirty_days() -> Span {
    Span::from_secs(30 * 86_400)
}

const fn one() -> u32 {
    1
}

const fn two() -> u32 {
    2
}

const fn three() -> u32 {
    3
}

fn ok_only() -> Vec<u16> {
    vec![200]
}
