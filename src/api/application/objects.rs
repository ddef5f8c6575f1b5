//! Which Kubernetes objects a recovery point holds.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which Kubernetes objects a recovery point holds. Default: all of the namespace, and those of the cluster that it
/// needs. An object with the label or annotation `reprise.dev/exclude: "true"` is never in it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectSettings {
    /// Only objects with these labels, and what they refer to: their `ConfigMap`s, Secrets, `ServiceAccount`s with the
    /// roles bound to them, Services and claims, whatever labels those have. Volumes are not selected by it. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<ObjectSelector>,
    /// Only objects of these kinds, as `ConfigMap` or `Deployment.apps`: the kind, and its API group unless it is the core
    /// group. One that is not served makes points `Partial`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(length(max = 317), regex(pattern = "^[A-Z][A-Za-z0-9]*([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))
    )]
    pub include_kinds: Vec<String>,
    /// No objects of these kinds, also if others refer to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(length(max = 317), regex(pattern = "^[A-Z][A-Za-z0-9]*([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))
    )]
    pub exclude_kinds: Vec<String>,
    /// Whether objects of the cluster that the namespace's need are in it: definitions of its custom resources, cluster
    /// roles of its accounts, priority classes, and webhooks and API services that it serves. Default: true.
    #[serde(default = "yes")]
    pub cluster_scoped: bool,
}

impl Default for ObjectSettings {
    fn default() -> Self {
        Self { selector: None, include_kinds: vec![], exclude_kinds: vec![], cluster_scoped: yes() }
    }
}

/// Labels that objects must have: all that are named here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.matchLabels) || has(self.matchExpressions)").message("a selector that names no label selects nothing in particular: remove it, or name a label"))]
pub struct ObjectSelector {
    /// Labels with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub match_labels: BTreeMap<String, String>,
    /// What else must hold of the labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// What must hold of one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)").message("In and NotIn need values, Exists and DoesNotExist take none"))]
pub struct LabelRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What must hold of it.
    pub operator: LabelOperator,
    /// The values of `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// What must hold of a label.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

fn yes() -> bool {
    true
}
