//! What `reprise vault …`, inside the operator's pod, answers to `kubectl reprise`, outside of it, about points.
//!
//! Data only: it travels as JSON on the program's output. What is wrong with a vault is `vault_check`, keys are
//! `key_answer`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::point::{Point, Protection};
use crate::api::recovery_point::Level;

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

/// A claim in conflict was written anew.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Adopted {
    /// Its epoch, above all others.
    pub epoch: u64,
    /// Its sequence number.
    pub seq: u64,
    /// The region that holds it; nobody when it was released.
    pub holder: Option<String>,
    /// What lay there before, if that could be read.
    pub before: Option<ClaimSeen>,
}

/// The points of an application in a vault, or a page of them.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PointsInVault {
    /// The points, newest first.
    pub points: Vec<PointInVault>,
    /// How many there are in all.
    pub total: usize,
    /// Whether there are older ones than are told.
    pub more: bool,
    /// The names of points that cannot be read. They stay.
    pub unreadable: Vec<String>,
    /// Why retention drops nothing, if so.
    pub suspended: Option<String>,
}

/// A point in a vault.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PointInVault {
    /// Its id.
    pub id: String,
    /// The instant that its data is of.
    pub consistent_at: Timestamp,
    /// What it is good for.
    pub state: PointState,
    /// The region that made it. Absent where it went while it was looked at, as is `bytes`.
    pub region: Option<String>,
    /// Bytes that a restore brings back.
    pub bytes: Option<u64>,
    /// How far it was checked in this vault, of one that is whole.
    pub level: Option<Level>,
    /// When, if it was since it was made.
    pub verified_at: Option<Timestamp>,
    /// What of it is damaged.
    pub damage: Option<String>,
    /// Whether a person holds it.
    pub held: bool,
    /// Whether retention keeps it, where there is a policy for this vault.
    pub kept: Option<bool>,
    /// Why, or why not.
    pub why: Option<String>,
}

/// What a point is good for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointState {
    /// It is complete, and may be chosen by itself.
    Good,
    /// Something is missing in it.
    Partial,
    /// Its sources look emptied.
    Suspicious,
    /// What a region had written that lost the claim.
    Branch,
}

/// What is in a point.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PointContent {
    /// The point.
    pub point: Point,
    /// Its objects by kind, as `Deployment.apps`, with how many there are.
    pub kinds: BTreeMap<String, u64>,
    /// The objects by kind and name, where they were asked for.
    pub objects: Vec<String>,
    /// Whether there are more objects than are listed.
    pub more: bool,
}

/// What lies at a path of a volume.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The point.
    pub point: String,
    /// The `PersistentVolumeClaim`.
    pub volume: String,
    /// The path in it.
    pub path: String,
    /// What lies there, by name.
    pub entries: Vec<Entry>,
    /// What of the volume could not be read when the point was made, with the reason: the first hundred, where the path
    /// is its top.
    pub unreadable: Vec<String>,
    /// Whether there is more.
    pub more: bool,
}

/// A file or directory of a volume.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its name. What is not UTF-8 in it is replaced.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// Its size.
    pub bytes: u64,
    /// Its permissions.
    pub mode: u32,
    /// The user that owns it.
    pub user: u32,
    /// The group that owns it.
    pub group: u32,
    /// When it was last changed.
    pub modified: Option<String>,
}

/// What lies in a volume.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// Where it leads.
        to: String,
    },
    /// A device node.
    Device,
    /// A fifo or socket.
    Pipe,
}

/// A file or directory that two points have differently.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Its path in the volume.
    pub path: String,
    /// As it is in the first point.
    pub before: Option<Entry>,
    /// As it is in the second one.
    pub after: Option<Entry>,
}

/// In what two points differ.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The first point.
    pub before: String,
    /// The second one.
    pub after: String,
    /// The objects that differ.
    pub objects: Vec<ObjectChange>,
    /// Whether more objects differ than are told.
    pub more_objects: bool,
    /// The volumes that differ.
    pub volumes: Vec<VolumeChange>,
}

/// An object that two points have differently.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// The kind with its group, as `Deployment.apps`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// What differs, as a unified diff of YAML. Values of Secrets are not in it.
    pub diff: String,
}

/// What became of something from one point to another.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Only the second point has it.
    Added,
    /// Only the first point has it.
    Removed,
    /// Both have it, not alike.
    Changed,
}

/// A volume that two points have differently.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeChange {
    /// The `PersistentVolumeClaim`.
    pub volume: String,
    /// What became of it.
    pub change: Change,
    /// The files that differ, by path.
    pub files: Vec<FileChange>,
    /// Whether there are more.
    pub more: bool,
}
