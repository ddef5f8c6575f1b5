//! `Failover`: the move of an application to a region, and the record of it.
//!
//! It is made in the cluster of the region that shall take over: by that region's operator, or by a person.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::restoring::DumpLoad;

/// A request to bring the application into service in a region.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "reprise.dev",
    version = "v1alpha1",
    kind = "Failover",
    namespaced,
    shortname = "fo",
    category = "reprise",
    status = "FailoverStatus",
    derive = "PartialEq",
    doc = "The move of an application to a region, and the record of it. Make it in the cluster of the region that shall take over.",
    selectable = ".spec.application",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].status"#),
    printcolumn(name = "RTO (s)", type_ = "integer", json_path = ".status.rtoSeconds"),
    printcolumn(name = "RPO (s)", type_ = "integer", json_path = ".status.rpoSeconds"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name may have at most 63 characters: names of mover jobs are derived from it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("spec is immutable: make another Failover instead"))]
pub struct FailoverSpec {
    /// Name of the `ProtectedApplication` in this namespace.
    #[schemars(length(min = 1, max = 40))]
    pub application: String,
    /// The region that shall take over: the one whose cluster this object is made in.
    #[schemars(length(min = 1, max = 63))]
    pub to: String,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who started it. Default `Person`.
    #[serde(default)]
    pub initiator: Initiator,
}

/// Who started a failover.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initiator {
    /// A person, or another program.
    #[default]
    Person,
    /// The operator of the region that takes over. It counts against `failover.maxAutomatic`.
    Operator,
}

/// How far it is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The step it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// Every step that was begun, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<Step>,
    /// The region that held the claim before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The epoch that this failover takes the claim with. Written before it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// When the disruption began, as seen from here: the RTO counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disrupted_at: Option<Time>,
    /// The vault that the point is taken from, where it is not the first one but a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// Why it is not the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_reason: Option<String>,
    /// The recovery point that is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// The instant that the restored data is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// Points that were not taken, each with the reason, newest first. The last 20: only older ones are chosen from then on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
    /// Objects that were not restored as they were, each with the reason. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_restored: Vec<String>,
    /// The point's dumps, and whether they were loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dumps: Vec<DumpLoad>,
    /// The address that the public name was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// From the disruption to serving again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<u64>,
    /// The objective at the time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_objective_seconds: Option<u64>,
    /// The age of the restored data at the disruption, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<u64>,
    /// The objective at the time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_objective_seconds: Option<u64>,
    /// When it ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// `Succeeded` is `Unknown` while the run goes on. One entry per type.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The steps of a failover, in order.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepName {
    /// Wait until the claim has been silent for `claim.wait`, or was released.
    WaitOutClaim,
    /// Take the claim: epoch + 1 by compare-and-swap.
    SeizeClaim,
    /// Seal the catalogue, so that no point of an older epoch enters it any more.
    SealCatalogue,
    /// Choose the newest good point.
    ChoosePoint,
    /// Stop what may run here, and bring the volumes back.
    RestoreVolumes,
    /// Bring the objects back, workloads last.
    RestoreObjects,
    /// Load the dumps whose data is in no volume of the point.
    LoadDumps,
    /// Wait until the workloads are ready.
    AwaitReady,
    /// Probe the application at its new address, past DNS.
    ProbeAddress,
    /// Give the public name the new address.
    SwitchTraffic,
    /// Probe the application through its public name.
    ProbeName,
}

/// One step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name.
    pub name: StepName,
    /// When it began.
    pub started_at: Time,
    /// When it ended. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What it did, or waits for.
    #[serde(default)]
    pub message: String,
}
