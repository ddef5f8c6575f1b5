//! `Vault`: object storage in which recovery points and claims lie.

mod azure;
mod limits;
mod object_lock;
mod proxy;
mod s3;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use self::{
    azure::Azure,
    limits::{Limits, Rate, RateError, Window},
    object_lock::{LockClass, LockMode, ObjectLock},
    proxy::Proxy,
    s3::{S3, ServerSideEncryption, SseAlgorithm},
};

/// Object storage in which recovery points and claims lie.
#[expect(clippy::duplicated_attributes, reason = "columns of one type, each with its own")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "reprise.dev",
    version = "v1alpha1",
    kind = "Vault",
    shortname = "vlt",
    category = "reprise",
    status = "VaultStatus",
    derive = "PartialEq",
    doc = "Object storage in which recovery points and claims lie. The same vault, with the same key, is declared in every region.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Compare-and-swap",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="CompareAndSwap")].status"#
    ),
    printcolumn(name = "Location", type_ = "string", json_path = ".status.location"),
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
#[x_kube(validation = Rule::new("[has(self.s3), has(self.azure), has(self.directory)].filter(it, it).size() == 1").message("a vault has exactly one of s3, azure and directory"))]
#[x_kube(validation = Rule::new("!has(self.proxy) || !has(self.directory)").message("a directory is reached without a proxy: remove spec.proxy"))]
pub struct VaultSpec {
    /// A bucket of an S3-compatible server that honours `If-None-Match` and `If-Match` on writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A container of Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A directory that every region mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<Directory>,
    /// The proxy through which the store is reached, credentials of the environment's identity included. Default: none;
    /// `HTTPS_PROXY` and its like in the environment do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// How fast movers may move data. Default: as fast as it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Whether a `Restore` may write what is in points into it as plain objects (`export.vault`), below `exports/` and the namespace
    /// of the `Restore`: whoever reads the bucket then reads them without a key. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_exports: bool,
    /// The key that everything in it is encrypted with.
    pub encryption: Encryption,
}

impl VaultSpec {
    /// As one of so many movers is told that work at once: they share its limits.
    #[must_use]
    pub fn shared_by(&self, movers: usize) -> Self {
        Self { limits: self.limits.as_ref().map(|it| it.shared_by(movers)), ..self.clone() }
    }
}

/// A directory.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// The `PersistentVolumeClaim` in the operator's namespace that holds it (`ReadWriteMany`; one file system for
    /// every region, with working `flock`). It must be listed in `directoryVaults` of the chart.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// The key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// The Secret with the entry `key` in the operator's namespace: at least 32 characters. Every region needs a key
    /// that opens the vault: the same, or while it is rotated, the old or the new one. Whoever loses all of them loses
    /// the backups: keep a copy outside the regions.
    pub secret: SecretName,
    /// age recipients (`age1…`) whose identities are kept offline. Each of them alone recovers the vault when its keys
    /// are lost: `kubectl reprise key recover`. One that is taken out here keeps what was stored for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(regex(pattern = "^age1[02-9ac-hj-np-z]{58}$")))]
    pub recipients: Vec<String>,
    /// Whether points wait until `KeyEscrowed` is `True`: without a recipient, and before `kubectl reprise key confirm`,
    /// a region makes none but branches. Failovers do not wait for it. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_escrow: bool,
}

impl Encryption {
    /// With the key in the Secret of that name, and no recipients.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let secret = SecretName { name: secret.to_owned() };
        Self { secret, recipients: Vec::new(), require_escrow: false }
    }
}

/// A Secret in the operator's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the operator of this region found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VaultStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The vault's own identity: the same in every region, or they are not looking at one vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it lies, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// When it was last tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_at: Option<Time>,
    /// The id of the key that this region opens it with: `kubectl reprise key list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The regions whose operators have opened it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// `Ready`: points can be written and read. `CompareAndSwap`: it can be trusted with claims. `KeyEscrowed`: what
    /// opens it is kept outside the regions as well, as far as this region was told. `Immutable`: what recovery is made of is
    /// locked, as the server says.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
