//! `DnsZone`: a DNS zone that public names of applications lie in, and how it is changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vault::SecretName;

/// A DNS zone, and how it is changed.
#[expect(clippy::duplicated_attributes, reason = "columns of one type, each with its own")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "reprise.dev",
    version = "v1alpha1",
    kind = "DnsZone",
    shortname = "dz",
    category = "reprise",
    status = "DnsZoneStatus",
    derive = "PartialEq",
    doc = "A DNS zone that public names of applications lie in, and how it is changed. The same in every region.",
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Tested", type_ = "date", json_path = ".status.testedAt"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DnsZoneSpec {
    /// The zone, without a final dot: `example.com`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([a-z0-9_]([-a-z0-9_]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub zone: String,
    /// Changed by DNS UPDATE (RFC 2136), signed with TSIG (RFC 8945).
    pub rfc2136: Rfc2136,
}

/// A server that takes signed updates.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Rfc2136 {
    /// The zone's primary server: an address or a name, and the port when it is not 53: `192.0.2.53`, `ns1.example.com:5353`.
    #[schemars(length(min = 1, max = 260))]
    pub server: String,
    /// The key.
    pub tsig: Tsig,
}

/// The key that updates are signed with.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Tsig {
    /// The key's name, as the server knows it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its algorithm. Default `hmac-sha256`.
    #[serde(default)]
    pub algorithm: TsigAlgorithm,
    /// The Secret with the entry `secret` (Base64, as in the server's key file) in the operator's namespace.
    pub secret: SecretName,
}

/// The algorithms of TSIG that are safe to use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TsigAlgorithm {
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// What the operator of this region found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DnsZoneStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it was last tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_at: Option<Time>,
    /// `Ready`: the server answers for the zone, and takes updates signed with the key.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
