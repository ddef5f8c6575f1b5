//! What differs between two places that an application runs in: names of namespaces, storage classes, registries and
//! hosts, and single fields. Data only: `capture::map` applies it to objects.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What is changed in objects when they are restored into another place than they were captured in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Mappings {
    /// Other namespaces that objects name, such as the one of a subject or of a reference: `tools` here, `tools-eu` there.
    /// Where the application itself goes is not said here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["from".into()]))]
    #[schemars(length(max = 32))]
    pub namespaces: Vec<Rename>,

    /// Storage classes. One that is neither named here nor known in the region is replaced by the region's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["from".into()]))]
    #[schemars(length(max = 32))]
    pub storage_classes: Vec<Rename>,

    /// Registries of images, or a part of one: `registry.eu.example.com/shop` means every image below it. The longest
    /// that fits is taken. Images without a registry are of `docker.io`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["from".into()]))]
    #[schemars(length(max = 32))]
    pub images: Vec<Rename>,

    /// Names of hosts, each with every name below it, in Ingresses, routes, gateways, certificates and the annotations of
    /// external-dns: `eu.example.com`. The longest that fits is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["from".into()]))]
    #[schemars(length(max = 32))]
    pub hostnames: Vec<Rename>,

    /// Single fields, after everything else. An object that its patch does not fit is not restored, and named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub patches: Vec<ObjectPatch>,
}

impl Mappings {
    /// The storage class that stands for another one.
    #[must_use]
    pub fn storage_class<'a>(&'a self, class: &'a str) -> &'a str {
        self.storage_classes.iter().find(|it| it.from == class).map_or(class, |it| it.to.as_str())
    }
}

/// One name, and what stands for it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// As it was captured.
    #[schemars(length(min = 1, max = 253))]
    pub from: String,
    /// As it is restored.
    #[schemars(length(min = 1, max = 253))]
    pub to: String,
}

/// A JSON patch for some objects.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ObjectPatch {
    /// For which objects.
    pub select: ObjectSelector,
    /// What is changed, in order: RFC 6902.
    #[schemars(length(min = 1, max = 32))]
    pub patch: Vec<PatchStep>,
}

/// Some objects: those that fit all that is said.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.kind) || has(self.name) || has(self.labels)").message("select must name a kind, a name or labels"))]
pub struct ObjectSelector {
    /// The API group, such as `apps`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    /// The kind, such as `Deployment`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: Option<String>,
    /// The name, with `*` for any letters and `?` for one. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-a-zA-Z0-9._:*?]+$"))]
    pub name: Option<String>,
    /// Labels that it must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One step of a JSON patch.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("(self.op in ['move', 'copy']) == has(self.from)").message("from belongs to op move and copy, and to no other"))]
pub struct PatchStep {
    /// What is done.
    pub op: PatchVerb,
    /// The field, such as `/spec/replicas`. A `/` in a name is written `~1`.
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/"))]
    pub path: String,
    /// Of `move` and `copy`: the field that is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/"))]
    pub from: Option<String>,
    /// Of `add`, `replace` and `test`: the value.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schemars(schema_with = "anything")]
    pub value: serde_json::Value,
}

/// What a step of a JSON patch does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PatchVerb {
    /// Adds a field, or an item of a list (`/-` is its end).
    Add,
    /// Takes one away.
    Remove,
    /// Gives one that is there another value.
    Replace,
    /// Moves one.
    Move,
    /// Copies one.
    Copy,
    /// Requires that one has this value: otherwise the patch does not fit.
    Test,
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}
