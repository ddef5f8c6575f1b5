//! What of a recorded object must be different where nothing may reach out of its namespace, nor into it: in a rehearsal.
//!
//! What stands outside of the namespace and acts for it is not held by its network policy: controllers of custom
//! resources, load balancers, the node, and storage that the kubelet mounts. So what asks them for something is left
//! out, closed, or, where the application would not be itself without it, refused.

use serde_json::{Value, json};

use super::bundle::Id;

/// Where a Service that is closed keeps which ports of nodes led to which of its own: `30080:80,30443:443`.
pub const NODE_PORTS: &str = "reprise.dev/node-ports";

/// The API groups of Kubernetes itself. Kinds of others are acted upon by controllers that stand outside.
const OWN: [&str; 10] = [
    "",
    "apps",
    "batch",
    "autoscaling",
    "policy",
    "networking.k8s.io",
    "discovery.k8s.io",
    "coordination.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
];

/// The kinds of volumes in a pod that hold nothing of anybody else's.
const VOLUMES: [&str; 7] =
    ["configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "ephemeral"];

/// What leads into a Service from outside.
const OUTSIDE: [&str; 7] = [
    "externalIPs",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "loadBalancerIP",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
];

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes back, closed.
    Closed,
    /// It is left out. Why.
    LeftOut(&'static str),
    /// It cannot go back as it is, and the application would be another one without it. Why.
    Refused(String),
}

/// Closes an object, if that can be done.
#[must_use]
pub fn isolate(id: &Id, json: &mut Value) -> Verdict {
    if id.namespace.is_none() {
        return Verdict::LeftOut("what stands in the whole cluster is left out of a rehearsal");
    }
    if !OWN.contains(&id.group.as_str()) {
        return Verdict::LeftOut("custom resources are left out of a rehearsal: their controllers stand outside");
    }
    match (id.group.as_str(), id.kind.as_str()) {
        ("rbac.authorization.k8s.io", _) => Verdict::LeftOut("what grants rights is left out of a rehearsal"),
        ("networking.k8s.io", _) => {
            Verdict::LeftOut("Ingresses and network policies are left out of a rehearsal, which has its own")
        }
        ("", "Service") => {
            close(json);
            Verdict::Closed
        }
        ("batch", "CronJob") => {
            json["spec"]["suspend"] = json!(true);
            Verdict::Closed
        }
        ("", "Pod") => json.get_mut("spec").map_or(Verdict::Closed, pod),
        _ => json.pointer_mut("/spec/template/spec").map_or(Verdict::Closed, pod),
    }
}

/// Whether a pod keeps to its namespace. None takes the place of a pod that serves.
fn pod(spec: &mut Value) -> Verdict {
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| !["priorityClassName", "priority", "preemptionPolicy"].contains(&name.as_str()));
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[field] == true {
            return Verdict::Refused(format!("{field} reaches out of the namespace: it cannot be rehearsed"));
        }
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten().filter_map(Value::as_object);
    for (kind, _) in volumes.flat_map(|it| it.iter().filter(|(key, _)| *key != "name")) {
        if !VOLUMES.contains(&kind.as_str()) {
            return Verdict::Refused(format!(
                "a volume of kind {kind} may be what the application itself writes to: it cannot be rehearsed"
            ));
        }
    }
    let containers = ["containers", "initContainers"].iter().filter_map(|it| spec[*it].as_array()).flatten();
    let mut ports = containers.filter_map(|it| it["ports"].as_array()).flatten();
    if ports.any(|it| it["hostPort"].as_u64().is_some_and(|it| it > 0)) {
        return Verdict::Refused("hostPort reaches out of the namespace: it cannot be rehearsed".to_owned());
    }
    Verdict::Closed
}

/// Has a Service answer inside the cluster only.
fn close(json: &mut Value) {
    let Some(spec) = json["spec"].as_object_mut() else { return };
    let mut ports = Vec::new();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let own = port["port"].as_u64();
        let of_node = port.as_object_mut().and_then(|it| it.remove("nodePort")).and_then(|it| it.as_u64());
        ports.extend(of_node.zip(own).map(|(of_node, own)| format!("{of_node}:{own}")));
    }
    if spec.get("type").is_some_and(|it| it == "LoadBalancer" || it == "NodePort") {
        spec.insert("type".to_owned(), json!("ClusterIP"));
    }
    spec.retain(|field, _| !OUTSIDE.contains(&field.as_str()));
    // What reads these stands outside: names in DNS, certificates, load balancers.
    json["metadata"]["annotations"] = json!({NODE_PORTS: ports.join(",")});
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(group: &str, kind: &str, mut json: Value) -> (Verdict, Value) {
        let namespace = Some("shop".to_owned());
        let id = Id { group: group.to_owned(), kind: kind.to_owned(), namespace, name: "a".to_owned() };
        (isolate(&id, &mut json), json)
    }

    #[test]
    fn a_service_answers_inside_only_and_keeps_which_port_of_the_nodes_was_which() {
        let open = json!({"metadata": {"annotations": {"external-dns.alpha.kubernetes.io/hostname": "shop.example.com"}},
            "spec": {"type": "LoadBalancer", "externalIPs": ["192.0.2.1"], "loadBalancerClass": "x",
                     "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}]}});
        let (verdict, closed) = judged("", "Service", open);
        assert_eq!(verdict, Verdict::Closed);
        let expected = json!({"metadata": {"annotations": {NODE_PORTS: "30080:80"}},
            "spec": {"type": "ClusterIP", "ports": [{"port": 80}, {"port": 443}]}});
        assert_eq!(closed, expected);
    }

    #[test]
    fn what_others_would_act_upon_is_left_out() {
        for (group, kind) in [
            ("networking.k8s.io", "Ingress"),
            ("networking.k8s.io", "NetworkPolicy"),
            ("gateway.networking.k8s.io", "HTTPRoute"),
            ("cilium.io", "CiliumNetworkPolicy"),
            ("externaldns.k8s.io", "DNSEndpoint"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
        ] {
            assert!(matches!(judged(group, kind, json!({})).0, Verdict::LeftOut(_)), "{kind}");
        }
        let id = Id { group: String::new(), kind: "Namespace".into(), namespace: None, name: "a".into() };
        assert!(matches!(isolate(&id, &mut json!({})), Verdict::LeftOut(_)));
    }

    #[test]
    fn a_pod_that_reaches_the_node_or_storage_of_others_is_refused() {
        let deployment = |spec: Value| judged("apps", "Deployment", json!({"spec": {"template": {"spec": spec}}})).0;
        for spec in [
            json!({"hostNetwork": true}),
            json!({"volumes": [{"name": "a", "hostPath": {"path": "/srv"}}]}),
            json!({"volumes": [{"name": "a", "nfs": {"server": "nas", "path": "/"}}]}),
            json!({"volumes": [{"name": "a", "csi": {"driver": "x"}}]}),
            json!({"containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]}),
        ] {
            assert!(matches!(deployment(spec.clone()), Verdict::Refused(_)), "{spec}");
        }
        let plain = json!({"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}, {"name": "b", "emptyDir": {}}],
            "containers": [{"ports": [{"containerPort": 80}]}]});
        assert_eq!(deployment(plain), Verdict::Closed);
    }

    #[test]
    fn no_pod_of_a_rehearsal_takes_the_place_of_one_that_serves() {
        let urgent = json!({"spec": {"template": {"spec": {"priorityClassName": "high", "containers": []}}}});
        let (verdict, closed) = judged("apps", "StatefulSet", urgent);
        assert_eq!((verdict, closed), (Verdict::Closed, json!({"spec": {"template": {"spec": {"containers": []}}}})));
        let (verdict, same) = judged("", "ConfigMap", json!({"data": {"a": "b"}}));
        assert_eq!((verdict, same), (Verdict::Closed, json!({"data": {"a": "b"}})));
    }

    #[test]
    fn no_cron_job_begins_anything() {
        let (verdict, closed) = judged("batch", "CronJob", json!({"spec": {"schedule": "* * * * *"}}));
        assert_eq!((verdict, &closed["spec"]["suspend"]), (Verdict::Closed, &json!(true)));
    }
}
