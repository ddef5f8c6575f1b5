//! Objects that Reprise makes in a cluster: their labels, their derived names, and how they are written down.

use std::collections::BTreeMap;

use kube::core::{DynamicObject, ObjectMeta, TypeMeta};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::effect::ObjectKey;
use crate::api::recovery_point::GroupVersion;

/// Stands on everything that this operator made.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "reprise");
/// The uid of the run (`RecoveryPoint`, `Failover`) that an object was made for.
pub const RUN: &str = "reprise.dev/run";
/// The `PersistentVolumeClaim` that an object was made for. Of an object that was made for none, what it was made for:
/// a text that no claim can have as its name, with a `/` or a space.
pub const CLAIM: &str = "reprise.dev/claim";

/// The first part of the label, up to the name of the application, that stands on its claims while a group snapshot of
/// them is asked for: such a snapshot finds its volumes by labels only. Its value is the name of the snapshot.
pub const GROUP_MARK: &str = "group.reprise.dev/";

/// Label or annotation of people with the value `"true"`: the object is not captured, nor is what is on a claim.
pub const EXCLUDE: &str = "reprise.dev/exclude";

/// The run that objects are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Run {
    /// The name of what this run makes for one claim: the same each time, and short enough for every kind.
    #[must_use]
    pub fn derived(&self, claim: &str) -> String {
        let digest = Sha256::digest(format!("{}/{claim}", self.uid));
        digest.iter().take(8).fold("reprise-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// An object of this run.
    #[must_use]
    pub fn object(&self, key: &ObjectKey, claim: &str, body: Value) -> DynamicObject {
        let labels =
            BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()), (RUN.to_owned(), self.uid.clone())]);
        let annotations = BTreeMap::from([
            (CLAIM.to_owned(), claim.to_owned()),
            ("reprise.dev/for".to_owned(), format!("{}/{}", self.namespace, self.name)),
        ]);
        DynamicObject {
            types: Some(TypeMeta { api_version: key.api_version.to_owned(), kind: key.kind.to_owned() }),
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: key.namespace.clone(),
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            data: body,
        }
    }
}

/// Whether what stands in [`CLAIM`] is the name of a claim.
#[must_use]
pub fn names_claim(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, '-' | '.'))
}

/// A key of a core kind.
#[must_use]
pub fn key(api_version: &'static str, kind: &'static str, namespace: Option<&str>, name: &str) -> ObjectKey {
    ObjectKey { api_version, kind, namespace: namespace.map(ToOwned::to_owned), name: name.to_owned() }
}

/// `v1` `PersistentVolumeClaim`.
#[must_use]
pub fn claim_key(namespace: &str, name: &str) -> ObjectKey {
    key("v1", "PersistentVolumeClaim", Some(namespace), name)
}

/// The `volumeMode` of a claim.
#[must_use]
pub fn volume_mode(block: bool) -> &'static str {
    if block { "Block" } else { "Filesystem" }
}

/// `batch/v1` `Job`.
#[must_use]
pub fn job_key(namespace: &str, name: &str) -> ObjectKey {
    key("batch/v1", "Job", Some(namespace), name)
}

/// `VolumeSnapshot`.
#[must_use]
pub fn snapshot_key(namespace: &str, name: &str) -> ObjectKey {
    key("snapshot.storage.k8s.io/v1", "VolumeSnapshot", Some(namespace), name)
}

/// `VolumeSnapshotContent`.
#[must_use]
pub fn content_key(name: &str) -> ObjectKey {
    key("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", None, name)
}

/// `VolumeGroupSnapshot`.
#[must_use]
pub fn group_key(version: GroupVersion, namespace: &str, name: &str) -> ObjectKey {
    key(group_api(version), "VolumeGroupSnapshot", Some(namespace), name)
}

/// `VolumeGroupSnapshotContent`.
#[must_use]
pub fn group_content_key(version: GroupVersion, name: &str) -> ObjectKey {
    key(group_api(version), "VolumeGroupSnapshotContent", None, name)
}

fn group_api(version: GroupVersion) -> &'static str {
    match version {
        GroupVersion::V1beta1 => "groupsnapshot.storage.k8s.io/v1beta1",
        GroupVersion::V1beta2 => "groupsnapshot.storage.k8s.io/v1beta2",
        GroupVersion::V1 => "groupsnapshot.storage.k8s.io/v1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_name_is_the_same_each_time_and_another_for_each_claim() {
        let run = Run { namespace: "shop".into(), name: "shop-000001".into(), uid: "u-1".into() };
        assert_eq!(run.derived("data"), run.derived("data"));
        assert_ne!(run.derived("data"), run.derived("log"));
        assert_eq!(run.derived("data").len(), "reprise-".len() + 16);
    }
}
