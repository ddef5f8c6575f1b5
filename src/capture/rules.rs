//! What a capture leaves out, and what never enters a bundle.
//!
//! Three tables, a reason in each row: kinds that are left out whole (and are not even listed), objects that are left
//! out, and fields that change by themselves. What has to go before an object can be made again elsewhere is another
//! matter: see `clean`.

use serde_json::Value;

use self::Kinds::{Any, AnyBut, Only};
use super::{
    discover::Resource,
    marks,
    object::{annotation, deleting, drop_annotations, empty, label, maps, name, retain},
};
use crate::{
    api,
    core::child::{EXCLUDE, GROUP_MARK},
};

/// Groups that are left out whole, and why.
const GROUPS: [(&str, &str); 13] = [
    (api::GROUP, "Reprise's own: each region has its own; the bundle's index records the ProtectedApplication"),
    ("coordination.k8s.io", "leases: who leads here says nothing elsewhere"),
    ("events.k8s.io", "history, and the same as the core group's events"),
    ("extensions", "the same objects as in apps and networking.k8s.io"),
    ("authorization.openshift.io", "the same objects as in rbac.authorization.k8s.io"),
    ("metrics.k8s.io", "measurements"),
    ("custom.metrics.k8s.io", "measurements"),
    ("external.metrics.k8s.io", "measurements"),
    ("snapshot.storage.k8s.io", "snapshots live in one region's storage: data is restored from the vault"),
    ("groupsnapshot.storage.k8s.io", "snapshots live in one region's storage: data is restored from the vault"),
    ("wgpolicyk8s.io", "reports, written again by their scanners"),
    ("openreports.io", "reports, written again by their scanners"),
    ("reports.kyverno.io", "reports, written again by their scanners"),
];

/// Kinds that are left out whole, and why.
const KINDS: [(&str, &str, &str); 10] = [
    ("", "Event", "history"),
    ("apps", "ControllerRevision", "its controller makes it again"),
    ("storage.k8s.io", "CSIStorageCapacity", "measurements"),
    ("cilium.io", "CiliumEndpoint", "the node's agent makes it again for each pod"),
    ("crd.projectcalico.org", "NetworkSet", "Calico keeps its own store: see its projectcalico.org/v3 kinds"),
    ("packages.operators.coreos.com", "PackageManifest", "a catalogue, computed anew in each cluster"),
    ("velero.io", "Backup", "records of another tool, read again from its own storage"),
    ("velero.io", "BackupRepository", "records of another tool, read again from its own storage"),
    ("velero.io", "Restore", "an order that would be carried out once more"),
    ("velero.io", "DeleteBackupRequest", "an order that would be carried out once more"),
];

/// Objects that are left out.
const OBJECTS: [Row; 12] = [
    Row { of: Any, when: deleting, why: "is being deleted", lasting: false },
    Row { of: Any, when: excluded, why: "excluded by reprise.dev/exclude", lasting: true },
    Row { of: Only("", "Pod"), when: mirrored, why: "the kubelet makes it from a file on its node", lasting: false },
    Row { of: Only("", "Pod"), when: marks::finished_pod, why: "finished", lasting: false },
    Row {
        of: Only("batch", "Job"),
        when: marks::finished_job,
        why: "finished: restoring it would run it again",
        lasting: false,
    },
    Row {
        of: Only("", "ConfigMap"),
        when: cluster_certificate,
        why: "every cluster writes its own into each namespace",
        lasting: true,
    },
    Row {
        of: Only("", "ServiceAccount"),
        when: plain_default,
        why: "every namespace has one, and this one has nothing of its own",
        lasting: true,
    },
    Row {
        of: Only("", "Secret"),
        when: automatic_token,
        why: "a token that this cluster made by itself",
        lasting: true,
    },
    Row { of: Only("", "Endpoints"), when: computed_endpoints, why: "computed from pods", lasting: false },
    Row {
        of: Only("discovery.k8s.io", "EndpointSlice"),
        when: computed_slice,
        why: "computed from pods",
        lasting: false,
    },
    Row { of: Any, when: leader_lock, why: "a lock: who leads here says nothing elsewhere", lasting: true },
    // What an owner generated may be what nobody can generate again: the password that the data was made with.
    Row {
        of: AnyBut(&[("", "Secret"), ("", "PersistentVolumeClaim")]),
        when: owned,
        why: "its owner makes it again",
        lasting: false,
    },
];

/// Which objects are left out, why, and whether the reason holds as long as the object does.
struct Row {
    of: Kinds,
    when: fn(&Value) -> bool,
    why: &'static str,
    lasting: bool,
}

/// The kinds that a row is about, by group and kind.
enum Kinds {
    Any,
    Only(&'static str, &'static str),
    AnyBut(&'static [(&'static str, &'static str)]),
}

impl Kinds {
    fn have(&self, of: &Resource) -> bool {
        let it = (of.group.as_str(), of.kind.as_str());
        match self {
            Any => true,
            Only(group, kind) => it == (*group, *kind),
            AnyBut(others) => !others.contains(&it),
        }
    }
}

/// Annotations that controllers write as they go: they would make each bundle differ from the last.
const VOLATILE_ANNOTATIONS: [&str; 3] = [
    // Counted by the Deployment's controller, from its own ReplicaSets.
    "deployment.kubernetes.io/revision",
    // Counted by the API server, from the template's changes: fencing is one.
    "deprecated.daemonset.template.generation",
    // The time of the last change of a pod.
    "endpoints.kubernetes.io/last-change-trigger-time",
];

/// Metadata that belongs to one object in one cluster, and not to what the object is.
const VOLATILE_METADATA: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
    "deletionGracePeriodSeconds",
    "generateName",
];

/// Why a group is left out whole.
#[must_use]
pub fn group_left_out(group: &str) -> Option<&'static str> {
    GROUPS.iter().find(|(name, _)| *name == group).map(|(_, why)| *why)
}

/// Why a kind is left out whole.
#[must_use]
pub fn kind_left_out(group: &str, kind: &str) -> Option<&'static str> {
    group_left_out(group).or_else(|| KINDS.iter().find(|row| (row.0, row.1) == (group, kind)).map(|(_, _, why)| *why))
}

/// Why an object is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The reason, for people.
    pub why: &'static str,
    /// Whether it holds as long as the object does. Reasons that come and go would make an unchanged namespace's
    /// bundles differ.
    pub lasting: bool,
}

/// Whether an object is left out, and why.
#[must_use]
pub fn left_out(of: &Resource, object: &Value) -> Option<LeftOut> {
    OBJECTS
        .iter()
        .find(|row| row.of.have(of) && (row.when)(object))
        .map(|row| LeftOut { why: row.why, lasting: row.lasting })
}

/// Makes of a live object what a bundle records: without what changes by itself, and as it was before the application
/// was stopped. What it says is otherwise untouched; references to owners lose their identity in this cluster.
pub fn record(of: &Resource, object: &mut Value) {
    marks::unfence(&of.group, &of.kind, object);
    match (of.group.as_str(), of.kind.as_str()) {
        ("", "Secret") => blank_token(object),
        ("", "Pod") => pod(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("rbac.authorization.k8s.io", "ClusterRole") => aggregated(object),
        ("apiextensions.k8s.io" | "admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => injected(object),
        _ => {}
    }
    let Some(map) = object.as_object_mut() else { return };
    map.remove("status");
    map.insert("apiVersion".into(), of.api_version().into());
    map.insert("kind".into(), of.kind.clone().into());
    let Some(Value::Object(metadata)) = map.get_mut("metadata") else { return };
    for field in VOLATILE_METADATA {
        metadata.remove(field);
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.retain(|key, _| !VOLATILE_ANNOTATIONS.contains(&key.as_str()));
    }
    if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
        owners.iter_mut().filter_map(Value::as_object_mut).for_each(|it| drop(it.remove("uid")));
    }
    for field in ["annotations", "labels", "ownerReferences", "finalizers"] {
        if metadata.get(field).is_some_and(|it| empty(it) || it.is_null()) {
            metadata.remove(field);
        }
    }
}

/// Takes out of a pod what its cluster put in: its place on a node, its network's notes, its account's token. All of
/// it is put in anew, and differently, whenever the pod is made.
fn pod(object: &mut Value) {
    drop_annotations(object, &["cni.projectcalico.org/", "k8s.v1.cni.cncf.io/network-status", "k8s.ovn.org/"]);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["nodeName", "priority", "preemptionPolicy", "ephemeralContainers"] {
        spec.remove(field);
    }
    if spec.contains_key("runtimeClassName") {
        spec.remove("overhead");
    }
    // The account's token, as admission mounts it into every pod: it does so again.
    let injected = |name: &Value| name.as_str().is_some_and(|it| it.starts_with("kube-api-access-"));
    retain(spec, "volumes", |it| !injected(&it["name"]));
    for containers in ["containers", "initContainers"] {
        for container in maps(spec.get_mut(containers)) {
            retain(container, "volumeMounts", |it| !injected(&it["name"]));
        }
    }
}

/// Takes off what stands on a claim for the moment of a group snapshot: captures are made at that moment.
fn claim(object: &mut Value) {
    if let Some(Value::Object(labels)) = object.pointer_mut("/metadata/labels") {
        labels.retain(|key, _| !key.starts_with(GROUP_MARK));
    }
}

/// Rules of a role that is made of others are written by a controller, in each cluster from the roles there.
fn aggregated(role: &mut Value) {
    if role.get("aggregationRule").is_some_and(|it| !it.is_null())
        && let Some(map) = role.as_object_mut()
    {
        map.remove("rules");
    }
}

/// Certificates that a controller writes into what calls a server: it writes its own in each cluster, and new ones now
/// and then.
fn injected(object: &mut Value) {
    const BY: [&str; 4] = [
        "cert-manager.io/inject-ca-from",
        "cert-manager.io/inject-ca-from-secret",
        "cert-manager.io/inject-apiserver-ca",
        "service.beta.openshift.io/inject-cabundle",
    ];
    if !BY.iter().any(|it| annotation(object, it).is_some()) {
        return;
    }
    // Not wherever the word stands: the schema of a definition may have a field of that name.
    for place in ["/spec/conversion/webhook/clientConfig", "/spec"] {
        if let Some(Value::Object(calls)) = object.pointer_mut(place) {
            calls.remove("caBundle");
        }
    }
    for webhook in maps(object.get_mut("webhooks")) {
        if let Some(Value::Object(calls)) = webhook.get_mut("clientConfig") {
            calls.remove("caBundle");
        }
    }
}

fn excluded(object: &Value) -> bool {
    label(object, EXCLUDE) == Some("true") || annotation(object, EXCLUDE) == Some("true")
}

fn mirrored(pod: &Value) -> bool {
    annotation(pod, "kubernetes.io/config.mirror").is_some()
}

fn cluster_certificate(map: &Value) -> bool {
    matches!(name(map), "kube-root-ca.crt" | "openshift-service-ca.crt" | "istio-ca-root-cert")
}

/// The account that every namespace gets, as it was made. References to its own tokens do not count.
fn plain_default(account: &Value) -> bool {
    let bare = |field: &str| account.pointer(field).is_none_or(|it| it.is_null() || empty(it));
    name(account) == "default"
        && bare("/metadata/labels")
        && bare("/metadata/annotations")
        && bare("/imagePullSecrets")
        && bare("/automountServiceAccountToken")
}

const TOKEN: &str = "kubernetes.io/service-account-token";

/// Tokens made by the controller are called `<account>-token-<five characters>`. Those that people made, to have one
/// that does not expire, are kept, and filled anew where they are restored.
fn automatic_token(secret: &Value) -> bool {
    let account = annotation(secret, "kubernetes.io/service-account.name").unwrap_or_default();
    let suffix = name(secret).strip_prefix(account).and_then(|it| it.strip_prefix("-token-"));
    secret["type"] == TOKEN && suffix.is_some_and(|it| it.len() == 5)
}

/// A token is good in the cluster that signed it, and nowhere else.
fn blank_token(secret: &mut Value) {
    if secret["type"] != TOKEN {
        return;
    }
    if let Some(map) = secret.as_object_mut() {
        map.remove("data");
    }
    if let Some(Value::Object(annotations)) = secret.pointer_mut("/metadata/annotations") {
        annotations.remove("kubernetes.io/service-account.uid");
    }
}

/// Endpoints that people wrote, for a Service without selector, carry none of the controllers' marks.
fn computed_endpoints(endpoints: &Value) -> bool {
    label(endpoints, "endpoints.kubernetes.io/managed-by").is_some()
        || label(endpoints, "service.kubernetes.io/headless").is_some()
        || annotation(endpoints, "endpoints.kubernetes.io/last-change-trigger-time").is_some()
        || endpoints.get("subsets").is_none_or(|it| it.is_null() || empty(it))
}

fn computed_slice(slice: &Value) -> bool {
    label(slice, "endpointslice.kubernetes.io/managed-by").is_some_and(|it| it.ends_with(".k8s.io"))
}

fn leader_lock(object: &Value) -> bool {
    annotation(object, "control-plane.alpha.kubernetes.io/leader").is_some()
}

/// Owned by what controls it, or by something that is itself not captured.
fn owned(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner["controller"] == true
            || matches!(owner["kind"].as_str(), Some("Pod" | "ReplicaSet" | "Job" | "Node" | "Endpoints"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(group: &str, kind: &str) -> Resource {
        Resource::new(group, "v1", kind, "things")
    }

    fn why(group: &str, kind: &str, object: &Value) -> Option<&'static str> {
        left_out(&resource(group, kind), object).map(|it| it.why)
    }

    #[test]
    fn every_row_says_why() {
        assert!(GROUPS.iter().all(|(_, why)| !why.is_empty()));
        assert!(KINDS.iter().all(|(_, _, why)| !why.is_empty()));
        assert!(OBJECTS.iter().all(|row| !row.why.is_empty()));
    }

    #[test]
    fn our_own_kinds_and_what_controllers_write_are_not_even_listed() {
        for (group, kind) in [("reprise.dev", "ProtectedApplication"), ("", "Event"), ("events.k8s.io", "Event")] {
            assert!(kind_left_out(group, kind).is_some(), "{kind}");
        }
        for (group, kind) in [("", "Secret"), ("", "PersistentVolumeClaim"), ("cert-manager.io", "Event")] {
            assert_eq!(kind_left_out(group, kind), None, "{kind}");
        }
    }

    #[test]
    fn what_an_owner_makes_again_is_left_out() {
        let owned = json!({"metadata": {"name": "a", "ownerReferences": [{"kind": "Widget", "controller": true}]}});
        assert_eq!(why("", "Pod", &owned), Some("its owner makes it again"));
        assert_eq!(why("apps", "Deployment", &owned), Some("its owner makes it again"));
        let follows = json!({"metadata": {"ownerReferences": [{"kind": "Widget"}]}});
        assert_eq!(why("apps", "Deployment", &follows), None, "an owner that does not control it");
    }

    #[test]
    fn a_password_that_an_owner_generated_is_kept() {
        let owned = json!({"metadata": {"name": "a", "ownerReferences": [{"kind": "Database", "controller": true}]}});
        assert_eq!(why("", "Secret", &owned), None);
        assert_eq!(why("", "PersistentVolumeClaim", &owned), None);
    }

    #[test]
    fn what_is_finished_is_not_done_again() {
        let complete = json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}});
        assert_eq!(why("batch", "Job", &complete), Some("finished: restoring it would run it again"));
        assert_eq!(why("batch", "Job", &json!({"status": {"active": 1}})), None);
        assert_eq!(why("", "Pod", &json!({"status": {"phase": "Failed"}})), Some("finished"));
        assert_eq!(why("", "Pod", &json!({"status": {"phase": "Running"}})), None);
    }

    #[test]
    fn what_people_exclude_is_left_out_by_label_or_annotation() {
        for place in ["labels", "annotations"] {
            let object = json!({"metadata": {place: {"reprise.dev/exclude": "true"}}});
            let reason = left_out(&resource("", "ConfigMap"), &object);
            assert_eq!(reason, Some(LeftOut { why: "excluded by reprise.dev/exclude", lasting: true }));
            let object = json!({"metadata": {place: {"reprise.dev/exclude": "false"}}});
            assert_eq!(why("", "ConfigMap", &object), None);
        }
    }

    #[test]
    fn the_default_account_is_kept_once_it_has_something_of_its_own() {
        let plain = json!({"metadata": {"name": "default"}, "secrets": [{"name": "default-token-abcde"}]});
        assert!(why("", "ServiceAccount", &plain).is_some());
        let adorned = json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "registry"}]});
        assert_eq!(why("", "ServiceAccount", &adorned), None);
        assert_eq!(why("", "ServiceAccount", &json!({"metadata": {"name": "web"}})), None);
    }

    #[test]
    fn a_token_that_people_made_is_kept_without_the_token() {
        let mut token = json!({
            "metadata": {"name": "ci-token", "annotations": {
                "kubernetes.io/service-account.name": "ci", "kubernetes.io/service-account.uid": "1"}},
            "type": "kubernetes.io/service-account-token", "data": {"token": "c2VjcmV0"}});
        assert_eq!(why("", "Secret", &token), None);
        record(&resource("", "Secret"), &mut token);
        assert_eq!(token.get("data"), None);
        assert_eq!(token["metadata"]["annotations"], json!({"kubernetes.io/service-account.name": "ci"}));

        token["metadata"]["name"] = "ci-token-x7k2p".into();
        assert!(why("", "Secret", &token).is_some());
    }

    #[test]
    fn endpoints_that_people_wrote_are_kept() {
        let written = json!({"metadata": {"name": "db"}, "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]});
        assert_eq!(why("", "Endpoints", &written), None);
        assert!(why("", "Endpoints", &json!({"metadata": {"name": "web"}})).is_some(), "no pod is ready");
        let computed = json!({"metadata": {"labels": {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}});
        assert!(why("discovery.k8s.io", "EndpointSlice", &computed).is_some());
        assert_eq!(why("discovery.k8s.io", "EndpointSlice", &json!({"metadata": {"name": "db"}})), None);
    }

    #[test]
    fn what_changes_by_itself_never_enters_a_bundle() {
        let live = |version: &str, revision: &str| {
            let mut object = json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": version, "resourceVersion": version,
                    "generation": 4, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {},
                    "annotations": {"deployment.kubernetes.io/revision": revision, "team": "shop"},
                    "ownerReferences": [{"kind": "App", "name": "shop", "uid": version}]},
                "spec": {"replicas": 2}, "status": {"readyReplicas": version}});
            record(&resource("apps", "Deployment"), &mut object);
            object
        };
        assert_eq!(live("1", "1"), live("2", "7"));
        assert_eq!(
            live("1", "1"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "namespace": "shop", "annotations": {"team": "shop"},
                    "ownerReferences": [{"kind": "App", "name": "shop"}]},
                "spec": {"replicas": 2}})
        );
    }

    #[test]
    fn what_controllers_write_into_objects_of_the_cluster_is_not_recorded() {
        let mut role = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": []},
            "rules": [{"verbs": ["get"]}]});
        record(&resource("rbac.authorization.k8s.io", "ClusterRole"), &mut role);
        assert_eq!(role.get("rules"), None);

        let webhook = |annotations: Value| {
            let mut webhook = json!({"metadata": {"name": "w", "annotations": annotations},
                "webhooks": [{"clientConfig": {"caBundle": "x", "service": {"name": "w"}}}]});
            record(&resource("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"), &mut webhook);
            webhook["webhooks"][0]["clientConfig"].clone()
        };
        assert_eq!(webhook(json!({"cert-manager.io/inject-ca-from": "shop/w"})), json!({"service": {"name": "w"}}));
        assert_eq!(webhook(json!({}))["caBundle"], "x", "one that people wrote is kept");

        let schema = json!({"properties": {"caBundle": {"type": "string"}}});
        let mut definition = json!({"metadata": {"name": "d", "annotations": {"cert-manager.io/inject-ca-from": "shop/w"}},
            "spec": {"versions": [{"schema": schema}]}});
        record(&resource("apiextensions.k8s.io", "CustomResourceDefinition"), &mut definition);
        assert_eq!(definition["spec"]["versions"][0]["schema"], schema);
    }

    #[test]
    fn where_a_pod_ran_and_the_token_it_was_given_are_not_recorded() {
        let mut pod = json!({"metadata": {"annotations": {"cni.projectcalico.org/podIP": "10.1.1.1", "team": "shop"}},
            "spec": {"nodeName": "n1", "priority": 0, "volumes": [{"name": "kube-api-access-x7k2p"}, {"name": "data"}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "kube-api-access-x7k2p"}]}]}});
        record(&resource("", "Pod"), &mut pod);
        assert_eq!(pod["spec"], json!({"volumes": [{"name": "data"}], "containers": [{"name": "c"}]}));
        assert_eq!(pod["metadata"]["annotations"], json!({"team": "shop"}));
    }

    #[test]
    fn a_claim_is_recorded_the_same_while_a_group_snapshot_of_it_is_asked_for() {
        let mark = format!("{GROUP_MARK}shop");
        let mut claim = json!({"metadata": {"name": "data", "labels": {mark: "run-1"}}});
        record(&resource("", "PersistentVolumeClaim"), &mut claim);
        assert_eq!(claim["metadata"], json!({"name": "data"}));
    }

    #[test]
    fn a_stopped_workload_is_recorded_as_it_was() {
        let mut stopped = json!({"metadata": {"name": "web", "annotations": {"reprise.dev/fenced-replicas": "3"}},
            "spec": {"replicas": 0}});
        record(&resource("apps", "Deployment"), &mut stopped);
        assert_eq!(stopped["spec"]["replicas"], 3);
        assert_eq!(stopped["metadata"], json!({"name": "web"}));
    }
}
