//! Where recovery points go, and how they are made.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ObjectSettings, Span, seconds};

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
    /// How much of what is stored is read back, and how often.
    #[serde(default)]
    pub verification: VerificationSettings,
}

/// How much of what is stored is read back, and how often: a share each time, another one each time, until all of it
/// was read, and then from the beginning.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSettings {
    /// How often a share is read. Default `24h`.
    #[serde(default = "seconds::<86_400>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("backup.verification.every must be at least 1h"))]
    pub every: Span,
    /// How large a share is, in per cent of the packs: with 5, all of them were read after 20 times. `0` switches it
    /// off. Default 5.
    #[serde(default = "five")]
    #[schemars(range(max = 100))]
    pub share_percent: u8,
}

impl Default for VerificationSettings {
    fn default() -> Self {
        Self { every: Span::from_secs(86_400), share_percent: five() }
    }
}

impl VerificationSettings {
    /// In how many rounds everything is read; `None` when nothing is.
    #[must_use]
    pub fn parts(&self) -> Option<u32> {
        (self.share_percent > 0).then(|| 100_u32.div_ceil(u32::from(self.share_percent)))
    }
}

const fn five() -> u8 {
    5
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
