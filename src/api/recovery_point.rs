//! `RecoveryPoint`: one recoverable moment of one application.
//!
//! The object is the run that makes the point, and its record in this cluster. The point itself lies in the vault,
//! and outlives the object: deleting a `RecoveryPoint` deletes no data, and lifts no hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{application::Hooks, vault::LockClass};

/// A request for one recovery point.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "reprise.dev",
    version = "v1alpha1",
    kind = "RecoveryPoint",
    namespaced,
    shortname = "rp",
    category = "reprise",
    status = "RecoveryPointStatus",
    derive = "PartialEq",
    doc = "One recoverable moment of one application. Made on schedule by the operator, or by hand. Deleting it deletes no data in the vault.",
    selectable = ".spec.application",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#),
    printcolumn(name = "Level", type_ = "string", json_path = ".status.verification.level"),
    printcolumn(name = "Consistent at", type_ = "date", json_path = ".status.consistentAt"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes"),
    printcolumn(name = "Seconds", type_ = "integer", json_path = ".status.durationSeconds"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name may have at most 63 characters: names of mover jobs are derived from it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.application == oldSelf.application && self.purpose == oldSelf.purpose && has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)").message("spec is immutable but for hold and description: make another RecoveryPoint instead"))]
#[x_kube(validation = Rule::new("has(self.id) == (self.purpose == 'Imported')").message("id names a point that is in the vault already: give it with purpose Imported, and only then").field_path(".id"))]
pub struct RecoveryPointSpec {
    /// Name of the `ProtectedApplication` in this namespace.
    #[schemars(length(min = 1, max = 40))]
    pub application: String,
    /// Why it is made. Default `Manual`.
    #[serde(default)]
    pub purpose: Purpose,
    /// Whether retention leaves the point alone, in every region, until this is set to false again. May be changed at
    /// any time. Deleting the object does not lift it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// What it is for, for people. May be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Its name in the vault: of an imported one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 37), regex(pattern = "^[0-9]{10}-[0-9A-Z]{26}$"))]
    pub id: Option<String>,
}

/// Why a point is made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// By a person, or by another program.
    #[default]
    Manual,
    /// By the operator, for the RPO.
    Scheduled,
    /// What a region had written that lost the claim: kept, and never chosen by itself.
    Branch,
    /// Nothing is made: it shows a point of the vault that another region made. The operator keeps one for each of the
    /// newest points in the regions that are not active.
    Imported,
}

/// How far it is, and what is in it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPointStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its name in the vault: the epoch, and a ULID. Written before anything is stored under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The epoch of the claim it is made under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The region that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// The instant that its data is of: the RPO counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// How far apart the instants of its snapshots are, in milliseconds. Absent with fewer than two of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_millis: Option<u64>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// From the start of the run until the point was entered in the catalogue, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// What was read in all, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The Kubernetes objects in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsInPoint>,
    /// The volumes in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    pub volumes: Vec<VolumeInPoint>,
    /// The group snapshots that volumes of it are taken with. Written before one is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["driver".into()]))]
    pub groups: Vec<GroupInPoint>,
    /// The dumps in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dumps: Vec<DumpInPoint>,
    /// Why its sources look as if something had emptied them: it does not count then, and is not chosen by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspicious: Vec<String>,
    /// Whether the vault holds it back from retention, as last written there by this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
    /// The longer lock that the vault asks for the first good point of a day, week, month or year. Absent in others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<PointLock>,
    /// The hooks around its snapshots. Written before the first one is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksInPoint>,
    /// Until when all that the point needs is locked at least, as the vault said when the point was stored. It is locked
    /// for longer as long as it is kept (`status.locks` of the application). Absent where no locks are asked for, or some
    /// were missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// How far it was checked, of a point that is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// `Succeeded` is `Unknown` while the run goes on. `Verified`, of a point that is whole, is `False` while something of
    /// it is known to be damaged. One entry per type.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl RecoveryPointStatus {
    /// Whether something of it was found damaged since it was made.
    #[must_use]
    pub fn damaged(&self) -> bool {
        self.verification.as_ref().is_some_and(|it| it.damage.is_some())
    }
}

/// How far a point was checked. Each level has what the one before it has.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every chunk is in the vault: named by the index, in a pack that is listed with its full size. No point is made
    /// with less.
    #[default]
    L1,
    /// Besides, a sample of the data was read back, decrypted, and compared with its checksums.
    L2,
    /// It was restored into a namespace of its own, its workloads became ready there, and its probes were answered.
    L3,
}

/// How far a point was checked, and when.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// The level it reached.
    pub level: Level,
    /// When.
    pub at: Time,
    /// What was checked.
    pub detail: String,
    /// How long it took in a rehearsal, in seconds: from the first volume until every workload was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_seconds: Option<u64>,
    /// What was found damaged since, and when: the point does not count then, and is not chosen by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// The longer lock of a point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PointLock {
    /// What it is the first of.
    pub class: LockClass,
    /// Until when all that it needs is to be locked. Retention keeps it until then.
    pub until: Time,
    /// Whether that is done, as read back, or has failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Why some of it is not locked for so long: the next good point is locked in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The Kubernetes objects in a point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsInPoint {
    /// The SHA-256 of the bundle before encryption, in hex: its name in the vault.
    pub manifest: String,
    /// How many objects are in it.
    pub count: u64,
    /// The size of the bundle in the vault, in bytes.
    pub bytes: u64,
    /// Kinds that could not be read, and why: the point is `Partial` then. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// How many objects were left out, by rule: `Event: 12`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// One volume in a point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeInPoint {
    /// The `PersistentVolumeClaim`.
    pub claim: String,
    /// How it is read, and why when that was chosen by the operator: `Snapshot`, `Direct (no VolumeSnapshotClass of driver x)`.
    pub method: String,
    /// Whether its snapshot is taken together with those of other volumes, and why not: `Group (of 3, by
    /// VolumeGroupSnapshotClass fast)`, `Alone (there is no VolumeGroupSnapshotClass for x)`. Absent where its driver
    /// snapshots no other volume of the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouping: Option<String>,
    /// What the claim asked for when the run began, as a Kubernetes quantity. It may be gone when the point is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The claim's storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The claim's access modes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// Whether it is a block device, and not a file system.
    #[serde(default)]
    pub block: bool,
    /// The instant that its data is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// The snapshot in the repository, once it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Files read.
    #[serde(default)]
    pub files: u64,
    /// Bytes read.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that were new, as stored.
    #[serde(default)]
    pub added_bytes: u64,
    /// How long the copy took, in seconds.
    #[serde(default)]
    pub duration_seconds: u64,
    /// What was left out on request, by these patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// How many files and directories they left out, each directory with what is in it.
    #[serde(default)]
    pub excluded: u64,
    /// How many directories were left out but for their `.nobackup`.
    #[serde(default)]
    pub no_backup: u64,
    /// How many files could not be read: the point is `Partial` when there are any.
    #[serde(default)]
    pub unreadable: u64,
    /// The first of them, with the reason. `kubectl reprise ls POINT:CLAIM` tells up to a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_files: Vec<String>,
    /// What of files the repository can't keep, such as that they are immutable: how many.
    #[serde(default)]
    pub warnings: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_warnings: Vec<String>,
    /// Why it is not in the point, though it should be: the point is `Partial` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why there is nothing of it to read. The point is complete without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// The dump that stands for it: one of `status.dumps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<String>,
}

/// A `VolumeGroupSnapshot`: the volumes of one driver, at one instant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GroupInPoint {
    /// The CSI driver.
    pub driver: String,
    /// The `VolumeGroupSnapshotClass`.
    pub class: String,
    /// The version of the API that it is asked for in.
    pub version: GroupVersion,
    /// The `PersistentVolumeClaim`s in it.
    pub claims: Vec<String>,
    /// When it was first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Time>,
    /// The instant of the first of its snapshots, once all of them are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Time>,
    /// Why it was not taken: its volumes are snapshotted one by one then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The versions of `groupsnapshot.storage.k8s.io` that are known, the oldest first.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum GroupVersion {
    /// `v1beta1`.
    V1beta1,
    /// `v1beta2`.
    V1beta2,
    /// `v1`.
    V1,
}

impl GroupVersion {
    /// As it stands in an `apiVersion`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1beta1 => "v1beta1",
            Self::V1beta2 => "v1beta2",
            Self::V1 => "v1",
        }
    }
}

/// How long the application was held for a point, and by what.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HooksInPoint {
    /// What is run, as it was declared when the run began: what quiesced the application is released by what belongs to it.
    pub run: Hooks,
    /// How far they are.
    pub holding: Holding,
    /// When the first hook was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_from: Option<Time>,
    /// From then until the last hook had ended, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_seconds: Option<u64>,
    /// Why the point fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Failures of hooks with `onError: Continue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Whether an application is held for a point.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// No hook was run yet.
    Planned,
    /// The hooks before are run.
    Quiescing,
    /// They have been run: the snapshots are taken.
    Held,
    /// The hooks after are run.
    Releasing,
    /// They have been run.
    Released,
}

/// One dump in a point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DumpInPoint {
    /// Its name in `backup.dumps`.
    pub name: String,
    /// When its command was started: nothing in it is older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// The snapshot in the repository, once it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The point that it was made for, when that is an earlier one: it is younger than `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<String>,
    /// The pod that its command ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Bytes that the command wrote.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that were new, as stored.
    #[serde(default)]
    pub added_bytes: u64,
    /// How long it took, in seconds.
    #[serde(default)]
    pub duration_seconds: u64,
    /// The command's exit code, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of the command's standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Why there is no good one in the point: the point is `Partial` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why none is needed. The point is complete without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}
