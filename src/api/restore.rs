//! `Restore`: brings an application back, in place, to what it was in a recovery point; and the record of it.
//!
//! It is made in the cluster of the region that serves. What a failover restores is `Failover`'s.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    application::PodSelector,
    mappings::{Mappings, ObjectSelector},
    restoring::{DumpLoad, OnConflict},
    span::Span,
};

/// A request to bring an application back.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "reprise.dev",
    version = "v1alpha1",
    kind = "Restore",
    namespaced,
    category = "reprise",
    status = "RestoreStatus",
    derive = "PartialEq",
    doc = "Brings an application back, in place, to what it was in a recovery point. Make it in the cluster of the region that serves. End it by spec.cancel, which gives the volumes back to the application and says in the status what is left. Deleting it ends it where it is: before the step Stop nothing is changed; from then on the workloads stay stopped, and the volumes as they are, until another Restore succeeds.",
    selectable = ".spec.application",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].status"#),
    printcolumn(name = "Point", type_ = "string", json_path = ".status.point"),
    printcolumn(name = "Data of", type_ = "date", json_path = ".status.consistentAt"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 55").message("metadata.name may have at most 55 characters: the name of the safety point is derived from it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.application == oldSelf.application && has(self.sourceNamespace) == has(oldSelf.sourceNamespace) && (!has(self.sourceNamespace) || self.sourceNamespace == oldSelf.sourceNamespace) && has(self.vault) == has(oldSelf.vault) && (!has(self.vault) || self.vault == oldSelf.vault) && has(self.mappings) == has(oldSelf.mappings) && (!has(self.mappings) || self.mappings == oldSelf.mappings) && self.point == oldSelf.point && has(self.only) == has(oldSelf.only) && (!has(self.only) || self.only == oldSelf.only) && self.onConflict == oldSelf.onConflict && self.safetyPoint == oldSelf.safetyPoint && self.?dryRun == oldSelf.?dryRun && self.?rehearse == oldSelf.?rehearse && has(self.export) == has(oldSelf.export) && (!has(self.export) || self.export == oldSelf.export)").message("spec is immutable but for cancel: make another Restore instead"),
    validation = Rule::new("!has(self.export) || (!has(self.mappings) && !has(self.dryRun) && self.onConflict == 'Update' && self.safetyPoint == 'Required')").message("export changes nothing that is there: leave mappings, dryRun, onConflict and safetyPoint away"),
    validation = Rule::new("!has(self.only) || !has(self.only.dumps) || !self.only.dumps.exists(it, has(it.into)) || (!has(self.mappings) && !has(self.export) && self.onConflict == 'Update' && self.safetyPoint == 'Required')").message("only.dumps.into changes nothing but the database that the dump is loaded into: leave mappings, export, onConflict and safetyPoint away"),
    validation = Rule::new("!self.?rehearse.orValue(false) || (!has(self.sourceNamespace) && !has(self.export) && !has(self.only) && !has(self.dryRun) && self.onConflict == 'Update' && self.safetyPoint == 'Required')").message("rehearse restores a whole point into a namespace made for it: leave sourceNamespace, export, only, dryRun, onConflict and safetyPoint away"),
    validation = Rule::new("!oldSelf.?cancel.orValue(false) || self.?cancel.orValue(false)").message("cancel cannot be taken back: make another Restore instead"),
)]
pub struct RestoreSpec {
    /// Name of the `ProtectedApplication` in this namespace, or in `sourceNamespace`.
    #[schemars(length(min = 1, max = 40))]
    pub application: String,
    /// Restore into this namespace what is protected in another one, whose `ProtectedApplication` must name this one in
    /// `spec.sharedWith`. Nothing there is touched, neither its claim nor its public name; here no volume is written over. It may
    /// be done in any region. Default: this namespace, in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub source_namespace: Option<String>,
    /// Which point. Default: the newest good one.
    #[serde(default)]
    pub point: PointChoice,
    /// The vault that the point is taken from: the one in the application's `backup.vaults`, or one of its `backup.copies`.
    /// Default: the first; where that one does not answer or does not have such a point, the copies, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub vault: Option<String>,
    /// Only a part of the point. Default: everything that is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Part>,
    /// What is changed in the objects, and in the storage classes of volumes. Default: what the application says of this
    /// region (`spec.regions[].mappings`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mappings: Option<Mappings>,
    /// What becomes of objects that are there and say something else. Default `Update`.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Whether what is there is saved before anything is changed. Default `Required`.
    #[serde(default)]
    pub safety_point: SafetyPoint,
    /// Change nothing that is there: write the files of volumes, dumps, and the objects as YAML, as plain files into a new
    /// volume or into a vault. It may be done in any region. `only` says what; default: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// Change nothing that is there: restore the point into a namespace that is made for it, with no way out but DNS; wait
    /// until its workloads are ready, ask its probes, note that it reached level `L3`, and remove the namespace. It may be
    /// done in any region. Custom resources, what grants rights, and what leads into the namespace from outside are left
    /// out. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearse: bool,
    /// Change nothing, and tell in `status.plan` what would be changed. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Set it to `true` to end a run that goes on. Before the step `RestoreVolumes` nothing is changed, and what was stopped
    /// is started. From then on the volumes are given back to the application as they are, and the workloads stay stopped
    /// until another `Restore` succeeds; the condition says which volumes are as in the point. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// Where to are files and objects exported.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.claim) != has(self.vault)").message("export: give claim or vault, and not both"))]
#[x_kube(validation = Rule::new("has(self.claim) || (!has(self.size) && !has(self.storageClass))").message("export.size and export.storageClass are those of export.claim: leave them away with export.vault"))]
pub struct Export {
    /// The `PersistentVolumeClaim` that is made for it in this namespace, with `volumes/CLAIM/…`, `dumps/NAME` and
    /// `objects/GROUP/KIND/NAME.yaml` in it. Secrets are readable there. One that is there already is not written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim: Option<String>,
    /// A vault in which everything is stored as plain, unencrypted objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultExport>,
    /// Its size, such as `20Gi`. Default: a quarter more than the files have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9]+(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"))]
    pub size: Option<String>,
    /// Its storage class. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class: Option<String>,
}

/// A place in a vault: `exports/NAMESPACE/PREFIX/`, with the namespace of this `Restore`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VaultExport {
    /// The `Vault`, whose `spec.allowExports` must be `true`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The prefix, below which nothing may lie. Nothing of it is ever removed by Reprise. Secrets are left out, unless
    /// `only.objects` names the kind `Secret`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    pub prefix: String,
}

/// Which point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!(has(self.name) && has(self.before))").message("point: give name or before, and not both"))]
pub struct PointChoice {
    /// Its name in the vault. Only in this way are points taken that are partial, or the branch of a region that had lost
    /// the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[0-9]{10}-[0-9A-Z]{26}$"))]
    pub name: Option<String>,
    /// The newest good one whose data is not younger than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Time>,
}

/// A part of a point.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("(has(self.volumes) && self.volumes.size() > 0) || (has(self.objects) && self.objects.size() > 0) || (has(self.dumps) && self.dumps.size() > 0)").message("only: name volumes, objects or dumps; leave only away to restore everything"))]
#[x_kube(validation = Rule::new("!has(self.dumps) || !self.dumps.exists(it, has(it.into)) || (self.dumps.all(it, has(it.into)) && !has(self.volumes) && !has(self.objects))").message("only.dumps: what goes into another database (into) stands alone: make another Restore for the rest"))]
pub struct Part {
    /// Volumes. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    #[schemars(length(max = 100))]
    pub volumes: Vec<VolumePart>,
    /// Objects: those that fit one of these. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub objects: Vec<ObjectSelector>,
    /// Dumps: they are loaded, whatever volumes there are. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub dumps: Vec<DumpPart>,
}

/// A dump.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpPart {
    /// Its name in `backup.dumps`.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Load it into this database, and do nothing else: nothing is stopped, saved or started, and the application is not
    /// touched. It may be done in any region. Default: the database that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<LoadInto>,
}

/// Another database than the one that a dump was made of.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadInto {
    /// Its pods, in the namespace of this `Restore` and in no other: the first one by name that is running and ready is taken.
    pub pods: PodSelector,
    /// The container. Default: the one that kubectl would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The command that reads the dump from its standard input. Default: `load` of that dump in `backup.dumps`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub load: Vec<String>,
    /// How long it may take. Default: `timeout` of that dump in `backup.dumps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("only.dumps.into.timeout must be 1s to 24h, written in h, m and s"))]
    pub timeout: Option<Span>,
}

/// A volume, or some of its files.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumePart {
    /// Its `PersistentVolumeClaim`.
    #[schemars(length(min = 1, max = 253))]
    pub claim: String,
    /// Only what lies under these paths of the volume: `conf/app.ini`, `conf/*.ini`, `uploads/2027-*/**`. `*` and `?` stand
    /// for letters of one name, `**` for any names, `[ab]` and `{a,b}` for one of these. A directory that fits is restored
    /// with all that is in it. What the point has there is made as it was; nothing is deleted, and nothing else is touched.
    /// Absent: the whole volume is made equal to the point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024), regex(pattern = "^[^/]")))]
    pub paths: Vec<String>,
}

/// Whether what is there is saved first.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SafetyPoint {
    /// A complete `RecoveryPoint` is made first; when that fails, nothing is changed.
    #[default]
    Required,
    /// None is made: for what is there and worth nothing, or cannot be read.
    Skip,
}

/// How far it is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The step it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RestoreStepName>,
    /// Every step that was begun, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<RestoreStep>,
    /// The epoch of the claim that it is done under: with another one it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The vault that the point is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// Why it is not the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_reason: Option<String>,
    /// The point that is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// The instant that the restored data is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// Newer points that were not taken, each with the reason, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
    /// The `RecoveryPoint` that holds what was there before. Written before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_point: Option<String>,
    /// Its name in the vault: restore it to undo this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_point_id: Option<String>,
    /// How far the data and the objects are. Written every 10 seconds at most, when it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RestoreProgress>,
    /// Objects that are as in the point now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_objects: Option<u64>,
    /// Whether it ended with volumes that may be half restored: what it stopped stays stopped, whoever holds the claim anew, and
    /// no points are made on schedule, until another `Restore` of volumes succeeds here, or a failover to here. Who deletes
    /// this object takes them for whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_stopped: bool,
    /// Of a dry run: what would be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Of a rehearsal: where it takes place, and how it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// Objects that were not restored as they were (of a dry run: would not be), each with the reason. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_restored: Vec<String>,
    /// The point's dumps, and whether they were loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dumps: Vec<DumpLoad>,
    /// When it ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// `Succeeded` is `Unknown` while the run goes on. One entry per type.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A rehearsal.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// The namespace that is made for it. Written before it is made.
    pub namespace: String,
    /// From the first volume until every workload was ready, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_seconds: Option<u64>,
    /// The probes that were answered well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answered: Vec<String>,
    /// The probes that nobody could ask there, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// Why it failed: the namespace is removed before the condition says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// How far a restore is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreProgress {
    /// When it was so.
    pub at: Time,
    /// Volumes that are done.
    pub volumes_done: u64,
    /// Volumes in all.
    pub volumes_total: u64,
    /// Bytes of files that are as in the point, whether they were transferred or there already.
    pub bytes_done: u64,
    /// Bytes of the volumes that are restored as a whole.
    pub bytes_total: u64,
    /// Files that are as in the point.
    pub files_done: u64,
    /// Files of the volumes that are restored as a whole.
    pub files_total: u64,
    /// Objects that were dealt with.
    pub objects_done: u64,
    /// Objects in all. Absent when only some are restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_total: Option<u64>,
    /// When the volumes, or after them the objects, are done if it goes on at the pace of this step so far. Absent while
    /// that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<Time>,
}

/// What a restore would change.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Objects that would be made.
    pub created: u64,
    /// Objects that are there, say something else, and would be changed.
    pub updated: u64,
    /// Objects that are as in the point already.
    pub unchanged: u64,
    /// The objects that would be made or changed, with the first fields that differ. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The volumes that would be made equal to the point. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    pub volumes: Vec<PlannedVolume>,
    /// The dumps that are named, and where they would be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dumps: Vec<PlannedDump>,
}

/// A dump, and where it would be loaded.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDump {
    /// Its name in `backup.dumps`.
    pub name: String,
    /// The snapshot in the vault.
    pub snapshot: String,
    /// Its bytes.
    pub bytes: u64,
    /// The namespace of the pods.
    pub namespace: String,
    /// The labels of the pods.
    pub labels: String,
    /// The pod that it would be loaded in now. Absent: none is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The command that would be given the dump.
    pub load: Vec<String>,
}

/// A volume, as it would be.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedVolume {
    /// Its `PersistentVolumeClaim`.
    pub claim: String,
    /// The snapshot in the vault.
    pub snapshot: String,
    /// Files in the snapshot.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Only what lies under these paths of it. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// The steps of a restore, in order.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoreStepName {
    /// Whether this region serves, and nothing else is being done to the application.
    Check,
    /// Choose the point.
    ChoosePoint,
    /// Of a dry run, and its last: tell what would be changed.
    Plan,
    /// Save what is there.
    SafetyPoint,
    /// Stop the workloads, when volumes are to be restored.
    Stop,
    /// Of a rehearsal: make the namespace that it takes place in.
    Isolate,
    /// Make the volumes equal to the point.
    RestoreVolumes,
    /// Bring the objects back.
    RestoreObjects,
    /// Start what was stopped.
    Start,
    /// Load the dumps whose data is in no volume of the point.
    LoadDumps,
    /// Wait until the workloads are ready.
    AwaitReady,
    /// Of one that exports into a vault, and its last: store everything there.
    Export,
    /// Of a rehearsal: ask the application's probes, and note at the point how far it was checked.
    Probe,
    /// Of a rehearsal, and its last: remove all that was made for it.
    CleanUp,
    /// Of one that is cancelled, and its last: give back what it has in its hands.
    Cancel,
}

/// One step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStep {
    /// Its name.
    pub name: RestoreStepName,
    /// When it began.
    pub started_at: Time,
    /// When it ended. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What it did, or waits for.
    #[serde(default)]
    pub message: String,
}

impl Restore {
    /// Whether it restores that application of that namespace, wherever to.
    #[must_use]
    pub fn is_of(&self, namespace: &str, application: &str) -> bool {
        let source = self.spec.source_namespace.as_ref().or(self.metadata.namespace.as_ref());
        self.spec.application == application && source.is_some_and(|it| it == namespace)
    }

    /// Whether the volume of this claim is asked for.
    #[must_use]
    pub fn wants_volume(&self, claim: &str) -> bool {
        self.spec.only.as_ref().is_none_or(|it| it.volumes.iter().any(|it| it.claim == claim))
    }

    /// Whether all that it does is to load dumps into other databases than those that they were made of.
    #[must_use]
    pub fn loads_elsewhere(&self) -> bool {
        self.spec.only.as_ref().is_some_and(|it| it.dumps.iter().any(|it| it.into.is_some()))
    }

    /// The place in a vault that it exports into.
    #[must_use]
    pub fn exports_to(&self) -> Option<&VaultExport> {
        self.spec.export.as_ref()?.vault.as_ref()
    }

    /// Whether it changes the application where it is.
    #[must_use]
    pub fn in_place(&self) -> bool {
        let here = |it: &String| Some(it) == self.metadata.namespace.as_ref();
        let beside = self.spec.export.is_some() || self.spec.rehearse || self.loads_elsewhere();
        !beside && self.spec.source_namespace.as_ref().is_none_or(here)
    }
}

impl RestoreStatus {
    /// Whether it had volumes in its hands.
    #[must_use]
    pub fn touched_volumes(&self) -> bool {
        let begun = self.steps.iter().any(|it| it.name == RestoreStepName::RestoreVolumes);
        begun && self.progress.as_ref().is_some_and(|it| it.volumes_total > 0)
    }

    /// Whether it has begun to change what a recovery point would read, and has not ended.
    #[must_use]
    pub fn changing(&self) -> bool {
        let ended = self.conditions.iter().any(|it| it.type_ == "Succeeded" && it.status != "Unknown");
        self.step >= Some(RestoreStepName::Stop) && !ended
    }
}
