//! What `reprise vault …`, inside the operator's pod, answers to `kubectl reprise`, outside of it, about points.
//!
//! Data only: it travels as JSON on the program's output. What is wrong with a vault is `vault_check`, keys are
//! `key_answer`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::point::{Point, Protection};

/// The applications that a vault has something of.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Applications {
    /// The vault's own identity.
    pub vault_id: String,
    /// The region whose operator answers.
    pub region: String,
    /// The applications, by namespace and name.
    pub applications: Vec<InVault>,
}

/// An application, as a vault knows it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InVault {
    /// Its namespace.
    pub namespace: String,
    /// The name of its `ProtectedApplication`.
    pub name: String,
    /// Its newest point that is complete and no branch. What a failover would choose, if its objects can be read.
    pub newest: Option<Newest>,
    /// Its claim, if there is one.
    pub claim: Option<ClaimSeen>,
    /// What could not be read, and why.
    pub doubts: Vec<String>,
}

/// A point in short.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Newest {
    /// Its id.
    pub id: String,
    /// The region that made it.
    pub region: String,
    /// The instant that its data is of.
    pub consistent_at: Timestamp,
    /// How many objects of the namespace.
    pub objects: u64,
    /// How many volumes.
    pub volumes: usize,
    /// Bytes that a restore brings back: what was read of the volumes, and the objects as they lie in the vault.
    pub bytes: u64,
}

impl Newest {
    /// Of a point.
    #[must_use]
    pub fn of(point: &Point) -> Self {
        Self {
            id: point.id.clone(),
            region: point.region.clone(),
            consistent_at: point.consistent_at,
            objects: point.objects.count,
            volumes: point.volumes.len(),
            bytes: point.volumes.iter().fold(point.objects.bytes, |sum, it| sum.saturating_add(it.bytes)),
        }
    }
}

/// A claim in short.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSeen {
    /// Its epoch.
    pub epoch: u64,
    /// The region that holds it; nobody when it was released.
    pub holder: Option<String>,
    /// For how many seconds it must be silent before it may be taken.
    pub wait: u32,
}

/// What is needed to make an application's own objects again.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The region whose operator answers.
    pub region: String,
    /// The point that it is taken from.
    pub point: Newest,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Annotations of the namespace.
    pub namespace_annotations: BTreeMap<String, String>,
    /// The `ProtectedApplication`. Absent in a point that does not record it.
    pub protection: Option<Protection>,
    /// Its claim, if there is one.
    pub claim: Option<ClaimSeen>,
}

/// A claim that named this region was given up, or need not be.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// Whether it was given up now.
    pub released: bool,
    /// Its epoch.
    pub epoch: u64,
}
