//! How a stopped application is marked, and what stopping and starting it takes.
//!
//! Plans only, made of plain JSON: `fence` reads the lists and carries the plans out. A mark stands on the workload
//! itself and is written in one patch with what it remembers, so that no crash can separate the two.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    discover::Resource,
    object::{annotation, deleting, name},
    rules,
};
use crate::core::hex::hex;

/// Annotation of a workload at zero: how many replicas it had.
pub const REPLICAS: &str = "reprise.dev/fenced-replicas";
/// Annotation of a suspended `Job` or `CronJob`: whether it was suspended before.
pub const SUSPEND: &str = "reprise.dev/fenced-suspend";
/// Node label that a stopped `DaemonSet` asks for, and that no node has.
pub const NODE: &str = "reprise.dev/fenced";
/// Type of the Secret that a bare pod is remembered in while its application is stopped. A Secret, since whoever may
/// not read Secrets must not read a pod's environment by way of us.
pub const POD: &str = "reprise.dev/fenced-pod";

/// How a kind of workload is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Scaled to zero.
    Replicas,
    /// Sent to nodes that do not exist.
    Nodes,
    /// Suspended.
    Suspend,
}

/// A kind of workload that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// Its name in addresses.
    pub plural: &'static str,
    /// How it is stopped.
    pub means: Means,
}

impl Kind {
    /// As the API server serves it; every group here has a `v1`.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource::new(self.group, "v1", self.kind, self.plural)
    }
}

/// Every kind of workload that can be stopped. Those that start others come first: what a `CronJob` starts while the
/// plan is carried out is met by the next one.
pub const KINDS: [Kind; 7] = [
    Kind { group: "batch", kind: "CronJob", plural: "cronjobs", means: Means::Suspend },
    Kind { group: "batch", kind: "Job", plural: "jobs", means: Means::Suspend },
    Kind { group: "apps", kind: "Deployment", plural: "deployments", means: Means::Replicas },
    Kind { group: "apps", kind: "StatefulSet", plural: "statefulsets", means: Means::Replicas },
    Kind { group: "apps", kind: "ReplicaSet", plural: "replicasets", means: Means::Replicas },
    Kind { group: "", kind: "ReplicationController", plural: "replicationcontrollers", means: Means::Replicas },
    Kind { group: "apps", kind: "DaemonSet", plural: "daemonsets", means: Means::Nodes },
];

/// What runs, or may run, in a namespace.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    /// Workloads with their kinds.
    pub workloads: Vec<(Kind, Value)>,
    /// Pods.
    pub pods: Vec<Value>,
    /// Secrets of the type `reprise.dev/fenced-pod`. Not needed to stop.
    pub remembered: Vec<Value>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Merge into a workload. The body names the version that it was decided on.
    Patch {
        /// The workload's kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// What to merge.
        body: Value,
    },
    /// Write the Secret that remembers a bare pod, then delete the pod.
    Remember {
        /// The pod's name.
        pod: String,
        /// Its identity: another pod of that name stays.
        uid: String,
        /// The Secret.
        secret: Value,
    },
    /// Make a remembered pod again, then delete its Secret.
    Return {
        /// The pod.
        pod: Value,
        /// The Secret's name.
        secret: String,
    },
}

/// What it takes to stop everything: nothing, when everything is stopped.
#[must_use]
pub fn plan_stop(all: &Workloads) -> Vec<Change> {
    let workloads = all.workloads.iter().filter_map(|(kind, object)| {
        stop(*kind, object).map(|body| Change::Patch { kind: *kind, name: name(object).to_owned(), body })
    });
    let pods = all.pods.iter().filter(|it| bare(it) && running(it) && !deleting(it)).map(|pod| Change::Remember {
        pod: name(pod).to_owned(),
        uid: pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        secret: remember(pod),
    });
    workloads.chain(pods).collect()
}

/// What it takes to start what was stopped, and marks that could not be read.
#[must_use]
pub fn plan_start(all: &Workloads) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut unreadable) = (Vec::new(), Vec::new());
    for (kind, object) in &all.workloads {
        match start(*kind, object) {
            Ok(None) => {}
            Ok(Some(body)) => changes.push(Change::Patch { kind: *kind, name: name(object).to_owned(), body }),
            Err(mark) => unreadable.push(format!("{} {}: {mark}", kind.kind, name(object))),
        }
    }
    for secret in &all.remembered {
        match remembered(secret) {
            Some(pod) => changes.push(Change::Return { pod, secret: name(secret).to_owned() }),
            None => unreadable.push(format!("Secret {}: its entry 'pod' is not a pod", name(secret))),
        }
    }
    (changes, unreadable)
}

/// What stops one workload; `None` when it is stopped, or stops by itself.
#[must_use]
pub fn stop(kind: Kind, object: &Value) -> Option<Value> {
    if deleting(object) || (kind.kind == "ReplicaSet" && controlled(object)) {
        return None;
    }
    match kind.means {
        Means::Replicas => {
            let replicas = replicas(object);
            let change =
                json!({"metadata": {"annotations": {REPLICAS: replicas.to_string()}}, "spec": {"replicas": 0}});
            (replicas != 0).then(|| decided_on(object, change))
        }
        Means::Nodes => {
            let change = json!({"spec": {"template": {"spec": {"nodeSelector": {NODE: "true"}}}}});
            (!nowhere(object)).then(|| decided_on(object, change))
        }
        Means::Suspend => {
            let runs = object.pointer("/spec/suspend") != Some(&Value::Bool(true)) && !finished_job(object);
            let change = json!({"metadata": {"annotations": {SUSPEND: "false"}}, "spec": {"suspend": true}});
            runs.then(|| decided_on(object, change))
        }
    }
}

/// What starts one workload again; `None` when it bears no mark.
///
/// # Errors
/// The mark, when it does not say how many replicas there were: the workload is left as it is.
pub fn start(kind: Kind, object: &Value) -> Result<Option<Value>, String> {
    let mut change = match unmark(kind, object) {
        Some(change) if !deleting(object) => change,
        Some(_) | None => return Ok(None),
    };
    match kind.means {
        Means::Replicas => {
            let former = former_replicas(object).ok_or_else(|| format!("annotation {REPLICAS} is not a number"))?;
            // Scaled by somebody since: theirs is the newer word.
            if replicas(object) == 0 {
                change["spec"]["replicas"] = former.into();
            }
        }
        Means::Nodes => {}
        Means::Suspend => change["spec"]["suspend"] = false.into(),
    }
    Ok(Some(change))
}

/// What takes the mark off a workload and changes nothing else; `None` when it bears none.
#[must_use]
pub fn unmark(kind: Kind, object: &Value) -> Option<Value> {
    let change = match kind.means {
        Means::Replicas => annotation(object, REPLICAS).map(|_| json!({"metadata": {"annotations": {REPLICAS: null}}})),
        Means::Suspend => annotation(object, SUSPEND).map(|_| json!({"metadata": {"annotations": {SUSPEND: null}}})),
        Means::Nodes => {
            nowhere(object).then(|| json!({"spec": {"template": {"spec": {"nodeSelector": {NODE: null}}}}}))
        }
    };
    change.map(|it| decided_on(object, it))
}

/// Makes of a stopped workload what it was before. Other objects stay as they are.
pub fn unfence(group: &str, kind: &str, object: &mut Value) {
    let Some(kind) = kind_of(group, kind) else { return };
    match kind.means {
        Means::Replicas => {
            if replicas(object) == 0
                && let Some(former) = former_replicas(object)
            {
                object["spec"]["replicas"] = former.into();
            }
            forget(object, REPLICAS);
        }
        Means::Nodes => {
            if let Some(Value::Object(nodes)) = object.pointer_mut(NODES) {
                nodes.remove(NODE);
                if nodes.is_empty()
                    && let Some(Value::Object(pod)) = object.pointer_mut("/spec/template/spec")
                {
                    pod.remove("nodeSelector");
                }
            }
        }
        Means::Suspend => {
            if annotation(object, SUSPEND).is_some() {
                object["spec"]["suspend"] = false.into();
                forget(object, SUSPEND);
            }
        }
    }
}

/// The kind of workload by that name.
#[must_use]
pub fn kind_of(group: &str, kind: &str) -> Option<Kind> {
    KINDS.into_iter().find(|it| (it.group, it.kind) == (group, kind))
}

/// Whether a workload's controller has yet to act on its newest version: pods may still appear.
#[must_use]
pub fn unsettled(kind: Kind, object: &Value) -> bool {
    let generation = |at: &str| object.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    kind.means != Means::Suspend && generation("/status/observedGeneration") < generation("/metadata/generation")
}

/// Whether a pod may still run something. One that is being deleted does, until it is gone.
#[must_use]
pub fn running(pod: &Value) -> bool {
    !finished_pod(pod)
}

/// Whether a pod has run to its end.
#[must_use]
pub fn finished_pod(pod: &Value) -> bool {
    matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// Whether a Job has run to its end.
#[must_use]
pub fn finished_job(job: &Value) -> bool {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|it| {
        matches!(it["type"].as_str(), Some("Complete" | "Failed" | "SuccessCriteriaMet" | "FailureTarget"))
            && it["status"] == "True"
    })
}

/// A pod that nothing makes again: neither a controller nor a kubelet.
fn bare(pod: &Value) -> bool {
    !controlled(pod) && annotation(pod, "kubernetes.io/config.mirror").is_none()
}

/// The Secret that remembers a bare pod, as it would have been captured.
fn remember(pod: &Value) -> Value {
    let mut pod = pod.clone();
    rules::record(&Resource::new("", "v1", "Pod", "pods"), &mut pod);
    let digest = Sha256::digest(name(&pod));
    let short = hex(&digest[..8]);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("reprise-fenced-{short}"), "annotations": {POD: name(&pod)}},
        "type": POD,
        "stringData": {"pod": pod.to_string()},
    })
}

/// The pod that a Secret remembers, as it would have been captured; `None` when it is no such Secret.
#[must_use]
pub fn remembered(secret: &Value) -> Option<Value> {
    let text = BASE64_STANDARD.decode(secret.pointer("/data/pod")?.as_str()?).ok()?;
    let pod: Value = serde_json::from_slice(&text).ok()?;
    (secret["type"] == POD && pod["kind"] == "Pod" && !name(&pod).is_empty()).then_some(pod)
}

const NODES: &str = "/spec/template/spec/nodeSelector";

fn nowhere(object: &Value) -> bool {
    object.pointer(NODES).and_then(|it| it.get(NODE)).is_some()
}

fn replicas(object: &Value) -> u64 {
    object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
}

fn former_replicas(object: &Value) -> Option<u32> {
    annotation(object, REPLICAS)?.parse().ok()
}

fn forget(object: &mut Value, mark: &str) {
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations.remove(mark);
    }
}

/// Makes a change conditional: on the version that it was decided on.
fn decided_on(object: &Value, mut change: Value) -> Value {
    if let Some(version) = object.pointer("/metadata/resourceVersion") {
        change["metadata"]["resourceVersion"] = version.clone();
    }
    change
}

fn controlled(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|it| it["controller"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Kind {
        KINDS.into_iter().find(|it| it.kind == name).expect("a kind of workload")
    }

    fn one(name: &str, object: Value) -> Workloads {
        Workloads { workloads: vec![(kind(name), object)], ..Workloads::default() }
    }

    /// What the API server does with a merge patch.
    fn merge(object: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *object = patch.clone();
            return;
        };
        if !object.is_object() {
            *object = json!({});
        }
        for (key, change) in changes {
            if change.is_null() {
                object.as_object_mut().expect("an object").remove(key);
            } else {
                merge(&mut object[key], change);
            }
        }
    }

    fn patched(name: &str, mut object: Value, changes: &[Change]) -> Value {
        for change in changes {
            let Change::Patch { body, .. } = change else { panic!("only patches are planned for a {name}") };
            merge(&mut object, body);
        }
        object
    }

    fn workload(name: &str) -> Value {
        let mut object = json!({"metadata": {"name": "it", "resourceVersion": "7", "annotations": {"team": "shop"}}});
        object["spec"] = match kind(name).means {
            Means::Replicas => json!({"replicas": 3}),
            Means::Nodes => json!({"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}),
            Means::Suspend => json!({"suspend": false}),
        };
        object
    }

    #[test]
    fn stop_and_start_bring_every_kind_back_to_where_it_was_and_each_needs_one_pass() {
        for Kind { kind: name, .. } in KINDS {
            let before = workload(name);
            let stopped = patched(name, before.clone(), &plan_stop(&one(name, before.clone())));
            assert_ne!(stopped, before, "{name}");
            assert_eq!(plan_stop(&one(name, stopped.clone())), [], "a stopped {name} costs no write");

            let (changes, unreadable) = plan_start(&one(name, stopped.clone()));
            let started = patched(name, stopped, &changes);
            assert_eq!((&started, unreadable.len()), (&before, 0), "{name}");
            assert_eq!(plan_start(&one(name, started)), (vec![], vec![]), "a started {name} costs no write");
        }
    }

    #[test]
    fn what_was_stopped_before_us_stays_stopped_after_us() {
        let zero = json!({"metadata": {"name": "web"}, "spec": {"replicas": 0}});
        let suspended = json!({"metadata": {"name": "nightly"}, "spec": {"suspend": true}});
        for (name, object) in [("Deployment", zero), ("CronJob", suspended)] {
            assert_eq!(plan_stop(&one(name, object.clone())), []);
            assert_eq!(plan_start(&one(name, object)), (vec![], vec![]));
        }
    }

    #[test]
    fn a_change_holds_only_for_the_version_it_was_decided_on() {
        let changes = plan_stop(&one("Deployment", workload("Deployment")));
        let body =
            json!({"metadata": {"resourceVersion": "7", "annotations": {REPLICAS: "3"}}, "spec": {"replicas": 0}});
        assert_eq!(changes, [Change::Patch { kind: kind("Deployment"), name: "it".into(), body }]);
    }

    #[test]
    fn a_workload_without_a_number_has_one_replica() {
        let object = json!({"metadata": {"name": "web"}, "spec": {}});
        let stopped = patched("StatefulSet", object.clone(), &plan_stop(&one("StatefulSet", object)));
        assert_eq!(annotation(&stopped, REPLICAS), Some("1"));
    }

    #[test]
    fn scaled_up_while_stopped_it_is_stopped_again_and_the_newer_number_is_remembered() {
        let object = json!({"metadata": {"name": "web", "annotations": {REPLICAS: "3"}}, "spec": {"replicas": 5}});
        let stopped = patched("Deployment", object.clone(), &plan_stop(&one("Deployment", object.clone())));
        assert_eq!((annotation(&stopped, REPLICAS), &stopped["spec"]["replicas"]), (Some("5"), &json!(0)));
        let (changes, _) = plan_start(&one("Deployment", object.clone()));
        assert_eq!(patched("Deployment", object, &changes)["spec"]["replicas"], 5);
    }

    #[test]
    fn a_mark_that_is_no_number_is_reported_and_nothing_is_guessed() {
        let object = json!({"metadata": {"name": "web", "annotations": {REPLICAS: "many"}}, "spec": {"replicas": 0}});
        let (changes, unreadable) = plan_start(&one("Deployment", object));
        assert_eq!(changes, []);
        assert_eq!(unreadable, ["Deployment web: annotation reprise.dev/fenced-replicas is not a number"]);
    }

    #[test]
    fn the_replica_sets_of_deployments_and_finished_jobs_are_let_be() {
        let owned =
            json!({"metadata": {"name": "web-1", "ownerReferences": [{"controller": true}]}, "spec": {"replicas": 3}});
        assert_eq!(plan_stop(&one("ReplicaSet", owned.clone())), []);
        assert_eq!(plan_stop(&one("Job", owned)).len(), 1, "a Job that a CronJob started runs, and is suspended");
        let done =
            json!({"metadata": {"name": "once"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}});
        assert_eq!(plan_stop(&one("Job", done)), []);
    }

    #[test]
    fn a_bare_pod_is_remembered_before_it_is_deleted_and_comes_back_as_it_was() {
        let pod = json!({"metadata": {"name": "tool", "namespace": "shop", "uid": "u1", "resourceVersion": "9"},
            "spec": {"containers": [{"name": "c", "env": [{"name": "PASSWORD", "value": "x"}]}]},
            "status": {"phase": "Running"}});
        let changes = plan_stop(&Workloads { pods: vec![pod.clone()], ..Workloads::default() });
        let [Change::Remember { pod: name, uid, secret }] = changes.as_slice() else { panic!("one pod: {changes:?}") };
        assert_eq!((name.as_str(), uid.as_str()), ("tool", "u1"));

        let mut stored = secret.clone();
        let text = secret["stringData"]["pod"].as_str().expect("text");
        stored["data"] = json!({"pod": BASE64_STANDARD.encode(text)});
        let (changes, unreadable) = plan_start(&Workloads { remembered: vec![stored], ..Workloads::default() });
        let [Change::Return { pod: back, .. }] = changes.as_slice() else { panic!("one pod: {changes:?}") };
        let mut recorded = pod;
        rules::record(&Resource::new("", "v1", "Pod", "pods"), &mut recorded);
        assert_eq!((back, unreadable.len()), (&recorded, 0));
    }

    #[test]
    fn pods_that_something_makes_again_or_that_end_by_themselves_are_not_deleted() {
        let pods = [
            json!({"metadata": {"name": "web-1", "ownerReferences": [{"controller": true}]}}),
            json!({"metadata": {"name": "static", "annotations": {"kubernetes.io/config.mirror": "x"}}}),
            json!({"metadata": {"name": "done"}, "status": {"phase": "Succeeded"}}),
            json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ];
        assert_eq!(plan_stop(&Workloads { pods: pods.to_vec(), ..Workloads::default() }), []);
    }

    #[test]
    fn a_pod_that_is_being_deleted_still_runs() {
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
        assert!(running(&going));
        assert!(!running(&json!({"status": {"phase": "Failed"}})));
    }

    #[test]
    fn a_workload_is_unsettled_until_its_controller_has_seen_it() {
        let seen = |observed: u64| json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed}});
        assert!(unsettled(kind("Deployment"), &seen(1)));
        assert!(!unsettled(kind("Deployment"), &seen(2)));
    }

    #[test]
    fn the_names_of_remembering_secrets_fit_whatever_the_pod_is_called() {
        let secret = remember(&json!({"metadata": {"name": "p".repeat(253)}}));
        assert!(name(&secret).len() <= 63, "{}", name(&secret));
    }
}
