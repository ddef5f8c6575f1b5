//! Where recovery points go, and how they are made.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Dump, ObjectSettings};

/// Where recovery points go, and how volumes are read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct BackupSettings {
    /// Names of the `Vault`s that hold its points. Exactly one for now.
    #[schemars(length(min = 1, max = 1))]
    pub vaults: Vec<String>,
    /// How its volumes are read.
    #[serde(default)]
    pub volumes: VolumeSettings,
    /// Which Kubernetes objects are kept.
    #[serde(default)]
    pub objects: ObjectSettings,
    /// What databases write of themselves, beside their volumes or instead of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub dumps: Vec<Dump>,
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
