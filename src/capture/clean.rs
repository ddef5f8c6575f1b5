//! What has to go before a recorded object can be made again, here or in another cluster.
//!
//! One table, a reason in each row. It works on what `rules` recorded, and knows nothing of the cluster that the
//! object goes to.

use serde_json::{Map, Value};

use super::object::{annotation, drop_annotations, maps, name, retain};
use crate::core::claim_kept::BINDING;

/// Annotation of a Service with the value `"true"`: its node ports are part of what it promises, and are asked for
/// again.
pub const KEEP_NODE_PORTS: &str = "reprise.dev/keep-node-ports";

/// The namespaces that an object comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// Where it was captured.
    pub from: &'a str,
    /// Where it goes.
    pub to: &'a str,
}

/// Cleans one kind.
type Clean = fn(&mut Value, Move);

/// Which kinds need it, by group and kind.
const KINDS: [(&str, &str, Clean); 7] = [
    // Addresses and ports are given out by the cluster.
    ("", "Service", service),
    // Tokens are of one cluster.
    ("", "ServiceAccount", account),
    // It is bound to a volume of one cluster.
    ("", "PersistentVolumeClaim", claim),
    // Its selector carries the identity that it had.
    ("batch", "Job", job),
    // It names the accounts' namespace.
    ("rbac.authorization.k8s.io", "RoleBinding", binding),
    // They name nodes, and pods by their identity.
    ("discovery.k8s.io", "EndpointSlice", slice),
    ("", "Endpoints", endpoints),
];

/// Makes a recorded object ready to be made in a namespace, or in the cluster if it was captured from there.
pub fn clean(group: &str, kind: &str, object: &mut Value, between: Move) {
    if let Some((_, _, clean)) = KINDS.iter().find(|row| (row.0, row.1) == (group, kind)) {
        clean(object, between);
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if metadata.contains_key("namespace") {
        metadata.insert("namespace".into(), between.to.into());
    }
    // Whoever put a finalizer there puts it there again on taking charge. Where nobody does, the object could never
    // be deleted.
    metadata.remove("finalizers");
    // An owner's identity is new where it is made again; one that does not exist would have the object collected.
    // `owners` writes those anew whose owner is there.
    metadata.remove("ownerReferences");
}

fn service(object: &mut Value, between: Move) {
    // In another namespace they may still be in use where they come from.
    let keep = between.from == between.to && annotation(object, KEEP_NODE_PORTS) == Some("true");
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("clusterIP").is_none_or(|it| it != "None") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    if !keep {
        spec.remove("healthCheckNodePort");
        for port in maps(spec.get_mut("ports")) {
            port.remove("nodePort");
        }
    }
}

fn account(object: &mut Value, _: Move) {
    let tokens = format!("{}-token-", name(object));
    if let Some(account) = object.as_object_mut() {
        retain(account, "secrets", |it| !it["name"].as_str().is_some_and(|name| name.starts_with(&tokens)));
    }
}

fn claim(object: &mut Value, _: Move) {
    drop_annotations(object, &BINDING);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["volumeName", "dataSource", "dataSourceRef"] {
            spec.remove(field);
        }
    }
}

fn job(object: &mut Value, _: Move) {
    if object.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("selector");
    }
    for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(Value::Object(labels)) = object.pointer_mut(labels) {
            labels.remove("controller-uid");
            labels.remove("batch.kubernetes.io/controller-uid");
        }
    }
}

fn binding(object: &mut Value, between: Move) {
    for subject in maps(object.get_mut("subjects")) {
        if subject.get("namespace").is_some_and(|it| it == between.from) {
            subject.insert("namespace".into(), between.to.into());
        }
    }
}

fn slice(object: &mut Value, between: Move) {
    for endpoint in maps(object.get_mut("endpoints")) {
        address(endpoint, between);
    }
}

fn endpoints(object: &mut Value, between: Move) {
    for subset in maps(object.get_mut("subsets")) {
        for addresses in ["addresses", "notReadyAddresses"] {
            for each in maps(subset.get_mut(addresses)) {
                address(each, between);
            }
        }
    }
}

fn address(endpoint: &mut Map<String, Value>, between: Move) {
    endpoint.remove("nodeName");
    if let Some(Value::Object(target)) = endpoint.get_mut("targetRef") {
        target.remove("uid");
        target.remove("resourceVersion");
        if target.get("namespace").is_some_and(|it| it == between.from) {
            target.insert("namespace".into(), between.to.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STAY: Move = Move { from: "shop", to: "shop" };

    fn cleaned(group: &str, kind: &str, mut object: Value) -> Value {
        clean(group, kind, &mut object, STAY);
        object
    }

    #[test]
    fn a_service_gets_new_addresses_and_ports() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "healthCheckNodePort": 31000, "ports": [{"port": 80, "nodePort": 30080}]}});
        assert_eq!(cleaned("", "Service", service)["spec"], json!({"ports": [{"port": 80}]}));
    }

    #[test]
    fn a_headless_service_stays_headless() {
        let spec = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        assert_eq!(cleaned("", "Service", json!({"metadata": {}, "spec": spec}))["spec"], spec);
    }

    #[test]
    fn node_ports_that_people_promised_are_kept() {
        let service = json!({"metadata": {"annotations": {"reprise.dev/keep-node-ports": "true"}},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]}});
        assert_eq!(
            cleaned("", "Service", service.clone())["spec"],
            json!({"ports": [{"port": 80, "nodePort": 30080}]})
        );
        let mut elsewhere = service;
        clean("", "Service", &mut elsewhere, Move { from: "shop", to: "drill" });
        assert_eq!(elsewhere["spec"], json!({"ports": [{"port": 80}]}), "a cluster has each of them once");
    }

    #[test]
    fn a_job_loses_the_identity_it_had_unless_its_selector_is_its_own() {
        let job = json!({"metadata": {}, "spec": {"selector": {"matchLabels": {"controller-uid": "1"}}, "template":
            {"metadata": {"labels": {"controller-uid": "1", "batch.kubernetes.io/controller-uid": "1", "app": "a"}}}}});
        assert_eq!(cleaned("batch", "Job", job)["spec"], json!({"template": {"metadata": {"labels": {"app": "a"}}}}));
        let own = json!({"manualSelector": true, "selector": {"matchLabels": {"app": "a"}}});
        assert_eq!(cleaned("batch", "Job", json!({"metadata": {}, "spec": own}))["spec"], own);
    }

    #[test]
    fn a_claim_loses_its_volume() {
        let claim = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "pvc-1", "storageClassName": "fast"}});
        let cleaned = cleaned("", "PersistentVolumeClaim", claim);
        assert_eq!(cleaned["spec"], json!({"storageClassName": "fast"}));
    }

    #[test]
    fn finalizers_and_owners_of_old_stay_behind() {
        let metadata =
            json!({"name": "a", "namespace": "x", "finalizers": ["x/y"], "ownerReferences": [{"kind": "App"}]});
        let object = cleaned("", "ConfigMap", json!({"metadata": metadata}));
        assert_eq!(object["metadata"], json!({"name": "a", "namespace": "shop"}));
    }

    #[test]
    fn what_stands_in_no_namespace_is_put_into_none() {
        let object = cleaned("rbac.authorization.k8s.io", "ClusterRole", json!({"metadata": {"name": "a"}}));
        assert_eq!(object["metadata"], json!({"name": "a"}));
    }

    #[test]
    fn in_another_namespace_bindings_name_the_accounts_there() {
        let mut object = json!({"metadata": {"namespace": "shop"}, "subjects": [
            {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
            {"kind": "ServiceAccount", "name": "ci", "namespace": "tools"}, {"kind": "User", "name": "ann"}]});
        clean("rbac.authorization.k8s.io", "RoleBinding", &mut object, Move { from: "shop", to: "drill" });
        assert_eq!(object["metadata"]["namespace"], "drill");
        assert_eq!(object["subjects"][0]["namespace"], "drill");
        assert_eq!(object["subjects"][1]["namespace"], "tools");
        assert_eq!(object["subjects"][2].get("namespace"), None);
    }
}
