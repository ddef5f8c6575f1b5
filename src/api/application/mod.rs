//! `ProtectedApplication`: the objectives of one application, and how they are kept.
//!
//! The same object stands in every region's cluster; what differs is the status each region's operator writes.

mod backup;
mod claim;
mod copies;
mod dumps;
mod failover;
mod health;
mod hooks;
mod objects;
mod status;
mod traffic;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    backup::*, claim::*, copies::*, dumps::*, failover::*, health::*, hooks::*, objects::*, status::*, traffic::*,
};
use super::{
    mappings::Mappings,
    span::{Span, in_days},
};

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
    validation = Rule::new("self.spec.backup.?verification.?rehearse.?region.orValue(self.spec.regions[0].name) in self.spec.regions.map(it, it.name)").message("backup.verification.rehearse.region must be the name of one of spec.regions"),
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

    /// Namespaces of this cluster into which its points may be restored (`Restore`'s `spec.sourceNamespace`): whoever may make
    /// a `Restore` there can read all that is in them, Secrets included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub shared_with: Vec<String>,
}

impl ProtectedApplication {
    /// The vaults that hold its points: the first one, then those that they are copied into.
    pub fn vaults(&self) -> impl Iterator<Item = &str> {
        let backup = &self.spec.backup;
        backup.vaults.iter().take(1).map(String::as_str).chain(backup.copies.iter().map(|it| it.vault.as_str()))
    }

    /// What is changed when it is restored into a region.
    #[must_use]
    pub fn mappings(&self, region: &str) -> Mappings {
        self.spec.regions.iter().find(|it| it.name == region).and_then(|it| it.mappings.clone()).unwrap_or_default()
    }

    /// What a region does beforehand, when it is one of the application's.
    #[must_use]
    pub fn standby(&self, region: &str) -> Option<Standby> {
        self.spec.regions.iter().find(|it| it.name == region).map(|it| it.standby)
    }
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

    /// What is changed in its objects and volumes when it is restored into this region: what differs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mappings: Option<Mappings>,

    /// What is done here beforehand, while another region serves. Default `Cold`.
    #[serde(default)]
    pub standby: Standby,
}

/// What a region that does not serve does beforehand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standby {
    /// Nothing: a failover restores the volumes in whole, or what differs from what is left of an earlier copy here.
    #[default]
    Cold,
    /// Each new recovery point is restored into volumes that wait in the operator's namespace, and only what changed is
    /// transferred. A failover hands them over. What this region's own volumes hold is first saved as a branch, and then
    /// written over.
    Warm,
}

const fn seconds<const N: u64>() -> Span {
    Span::from_secs(N)
}

const fn thirty_days() -> Span {
    Span::from_secs(30 * 86_400)
}
