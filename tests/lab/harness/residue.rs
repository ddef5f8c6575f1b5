//! What a run leaves behind in a cluster: everything of the kinds that Reprise makes, before and after. Tidying takes a
//! moment, so what is there afterwards is looked at until it is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

/// What is looked at in the application's namespace and in the operator's.
const IN_NAMESPACES: &str =
    "jobs.batch,pods,persistentvolumeclaims,secrets,configmaps,volumesnapshots.snapshot.storage.k8s.io";
/// What is looked at of the cluster: that of these two namespaces.
const IN_CLUSTER: &str = "persistentvolumes,volumesnapshotcontents.snapshot.storage.k8s.io";
/// The same of group snapshots, which not every cluster has.
const GROUPS: [&str; 2] =
    ["volumegroupsnapshots.groupsnapshot.storage.k8s.io", "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io"];

/// Whether an object may stay, with the application's namespace.
type May = fn(&Value, &str) -> bool;

/// What may stay, with the reason.
const MAY_STAY: [(May, &str); 3] = [
    (is_the_operators_pod, "the operator's Deployment replaces a pod that was deleted"),
    (is_the_applications_pod, "the application's workloads replace their pods"),
    (is_in_use, "the application's claim has a volume, and a restore may have made another"),
];

fn is_the_operators_pod(object: &Value, _: &str) -> bool {
    object["kind"] == "Pod" && object["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
}

fn is_the_applications_pod(object: &Value, namespace: &str) -> bool {
    let owned = object["metadata"]["ownerReferences"][0]["apiVersion"] == "apps/v1";
    object["kind"] == "Pod" && object["metadata"]["namespace"] == namespace && owned
}

fn is_in_use(object: &Value, namespace: &str) -> bool {
    let (claim, policy) = (&object["spec"]["claimRef"], &object["spec"]["persistentVolumeReclaimPolicy"]);
    let bound = object["kind"] == "PersistentVolume" && object["status"]["phase"] == "Bound" && *policy == "Delete";
    bound && claim["namespace"] == namespace && !claim["name"].as_str().unwrap_or_default().starts_with("reprise-")
}

/// What stood in a region, for an application's namespace and the operator's, when it was looked at.
#[derive(Debug)]
pub struct Residue<'a> {
    region: &'a Region,
    namespace: &'a str,
    before: BTreeSet<String>,
}

impl<'a> Residue<'a> {
    /// Looks at what there is before something is done.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn before(region: &'a Region, namespace: &'a str) -> Result<Self> {
        Ok(Self { region, namespace, before: standing(region, namespace)?.into_keys().collect() })
    }

    /// Waits until nothing more is there than before, but for what may stay.
    ///
    /// # Errors
    /// When something is after `within`: its name, and what it was made for.
    pub fn none(&self, within: Duration) -> Result<()> {
        until("nothing to be left behind", within, || {
            let mut now = standing(self.region, self.namespace)?;
            now.retain(|name, object| {
                !self.before.contains(name) && !MAY_STAY.iter().any(|(may, _)| may(object, self.namespace))
            });
            let of = |object: &Value| {
                object["metadata"]["annotations"]["reprise.dev/for"].as_str().unwrap_or("?").to_owned()
            };
            let told: Vec<String> = now.iter().map(|(name, it)| format!("{name} for {}", of(it))).collect();
            Ok(if told.is_empty() { Look::Seen(()) } else { Look::NotYet(told.join(", ")) })
        })
        .with_context(|| self.region.story(self.namespace))
    }
}

/// All that is looked at, by kind, namespace and name.
fn standing(region: &Region, namespace: &str) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    let groups = region.kubectl(&["get", "--raw", "/apis/groupsnapshot.storage.k8s.io"], None).is_ok();
    let kinds = |those: &str, group: &str| if groups { format!("{those},{group}") } else { those.to_owned() };
    for space in [namespace, NAMESPACE] {
        for object in list(region, &["get", &kinds(IN_NAMESPACES, GROUPS[0]), "-n", space, "-o", "json"])? {
            all.insert(name_of(&object), object);
        }
    }
    for object in list(region, &["get", &kinds(IN_CLUSTER, GROUPS[1]), "-o", "json"])? {
        let of = ["claimRef", "volumeSnapshotRef", "volumeGroupSnapshotRef"]
            .map(|it| object["spec"][it]["namespace"].as_str());
        if of.into_iter().flatten().any(|it| it == namespace || it == NAMESPACE) {
            all.insert(name_of(&object), object);
        }
    }
    Ok(all)
}

fn name_of(object: &Value) -> String {
    let text = |it: &Value| it.as_str().unwrap_or("-").to_owned();
    let metadata = &object["metadata"];
    format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

fn list(region: &Region, words: &[&str]) -> Result<Vec<Value>> {
    let mut answer: Value = serde_json::from_str(&region.kubectl(words, None)?)?;
    ensure!(answer["items"].is_array(), "kubectl {} gave no list", words.join(" "));
    Ok(serde_json::from_value(answer["items"].take())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_has_a_reason_may_stay() {
        let may = |object: Value| MAY_STAY.iter().any(|(may, _)| may(&object, "shop"));
        let volume = |namespace: &str, phase: &str, policy: &str| {
            json!({
                "kind": "PersistentVolume", "status": {"phase": phase},
                "spec": {"claimRef": {"namespace": namespace, "name": "data"}, "persistentVolumeReclaimPolicy": policy},
            })
        };
        assert!(may(volume("shop", "Bound", "Delete")));
        assert!(!may(volume("shop", "Released", "Delete")) && !may(volume("shop", "Bound", "Retain")));
        assert!(!may(volume(NAMESPACE, "Bound", "Delete")));
        let pod = |namespace: &str, owner: &str| json!({"kind": "Pod", "metadata": {"namespace": namespace, "ownerReferences": [{"apiVersion": owner}]}});
        assert!(may(pod("shop", "apps/v1")) && !may(pod("shop", "batch/v1")));
        assert!(!may(pod(NAMESPACE, "batch/v1")), "a mover's");
    }
}
