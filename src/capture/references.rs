//! What objects refer to: one table.
//!
//! A capture asks it twice: which objects of the cluster an application needs besides its own, and, when only some of a
//! namespace's objects are selected by their labels, what of the rest these cannot do without.

use std::fmt;

use serde_json::Value;

use super::object;

/// An object that another one refers to. One of the namespace is in the namespace of what refers to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name.
    pub name: String,
}

impl Reference {
    /// A reference to an object, if anything can refer to its kind.
    #[must_use]
    pub fn to(group: &str, kind: &str, name: &str) -> Option<Self> {
        let to = targets().find(|it| (it.group, it.kind) == (group, kind))?;
        Some(Self { group: to.group, kind: to.kind, name: name.to_owned() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What becomes of an object that is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It stands in the namespace, and is captured with the rest, or with what was selected of it.
    WithNamespace,
    /// It stands in the cluster, and is captured with the application.
    Whole,
    /// It stands in the cluster, and only its name is recorded: each cluster has its own.
    ByName,
}

/// A kind that is referred to.
struct Target {
    group: &'static str,
    kind: &'static str,
    carried: Carried,
}

const fn target(group: &'static str, kind: &'static str, carried: Carried) -> Target {
    Target { group, kind, carried }
}

const CONFIG_MAP: Target = target("", "ConfigMap", Carried::WithNamespace);
const SECRET: Target = target("", "Secret", Carried::WithNamespace);
const ACCOUNT: Target = target("", "ServiceAccount", Carried::WithNamespace);
const CLAIM: Target = target("", "PersistentVolumeClaim", Carried::WithNamespace);
const SERVICE: Target = target("", "Service", Carried::WithNamespace);
const ROLE: Target = target(RBAC, "Role", Carried::WithNamespace);
const CLUSTER_ROLE: Target = target(RBAC, "ClusterRole", Carried::Whole);
const PRIORITY: Target = target("scheduling.k8s.io", "PriorityClass", Carried::Whole);
const STORAGE: Target = target("storage.k8s.io", "StorageClass", Carried::ByName);
const INGRESS: Target = target("networking.k8s.io", "IngressClass", Carried::ByName);
const GATEWAY: Target = target("gateway.networking.k8s.io", "GatewayClass", Carried::ByName);
const RUNTIME: Target = target("node.k8s.io", "RuntimeClass", Carried::ByName);
const DEVICES: Target = target("resource.k8s.io", "ResourceClaim", Carried::WithNamespace);
const DEVICES_TEMPLATE: Target = target("resource.k8s.io", "ResourceClaimTemplate", Carried::WithNamespace);

const RBAC: &str = "rbac.authorization.k8s.io";

/// Where the pod of a kind is described.
const PODS: [(&str, &str, &str); 8] = [
    ("", "Pod", "spec"),
    ("", "ReplicationController", "spec.template.spec"),
    ("apps", "Deployment", "spec.template.spec"),
    ("apps", "StatefulSet", "spec.template.spec"),
    ("apps", "DaemonSet", "spec.template.spec"),
    ("apps", "ReplicaSet", "spec.template.spec"),
    ("batch", "Job", "spec.template.spec"),
    ("batch", "CronJob", "spec.jobTemplate.spec.template.spec"),
];

/// What a pod's description refers to: the place of a name below it (`*` is each item of a list), and of what.
const OF_PODS: [(&str, &Target); 21] = [
    ("serviceAccountName", &ACCOUNT),
    ("priorityClassName", &PRIORITY),
    ("runtimeClassName", &RUNTIME),
    ("imagePullSecrets.*.name", &SECRET),
    ("resourceClaims.*.resourceClaimName", &DEVICES),
    ("resourceClaims.*.resourceClaimTemplateName", &DEVICES_TEMPLATE),
    ("volumes.*.persistentVolumeClaim.claimName", &CLAIM),
    ("volumes.*.ephemeral.volumeClaimTemplate.spec.storageClassName", &STORAGE),
    ("volumes.*.configMap.name", &CONFIG_MAP),
    ("volumes.*.secret.secretName", &SECRET),
    ("volumes.*.csi.nodePublishSecretRef.name", &SECRET),
    ("volumes.*.projected.sources.*.configMap.name", &CONFIG_MAP),
    ("volumes.*.projected.sources.*.secret.name", &SECRET),
    ("containers.*.envFrom.*.configMapRef.name", &CONFIG_MAP),
    ("containers.*.envFrom.*.secretRef.name", &SECRET),
    ("containers.*.env.*.valueFrom.configMapKeyRef.name", &CONFIG_MAP),
    ("containers.*.env.*.valueFrom.secretKeyRef.name", &SECRET),
    ("initContainers.*.envFrom.*.configMapRef.name", &CONFIG_MAP),
    ("initContainers.*.envFrom.*.secretRef.name", &SECRET),
    ("initContainers.*.env.*.valueFrom.configMapKeyRef.name", &CONFIG_MAP),
    ("initContainers.*.env.*.valueFrom.secretKeyRef.name", &SECRET),
];

/// What other kinds refer to: group, kind, the place of a name, and of what.
const OF_KINDS: [(&str, &str, &str, &Target); 11] = [
    ("", "ServiceAccount", "secrets.*.name", &SECRET),
    ("", "ServiceAccount", "imagePullSecrets.*.name", &SECRET),
    ("", "PersistentVolumeClaim", "spec.storageClassName", &STORAGE),
    ("apps", "StatefulSet", "spec.serviceName", &SERVICE),
    ("apps", "StatefulSet", "spec.volumeClaimTemplates.*.spec.storageClassName", &STORAGE),
    ("networking.k8s.io", "Ingress", "spec.ingressClassName", &INGRESS),
    ("networking.k8s.io", "Ingress", "spec.tls.*.secretName", &SECRET),
    ("networking.k8s.io", "Ingress", "spec.defaultBackend.service.name", &SERVICE),
    ("networking.k8s.io", "Ingress", "spec.rules.*.http.paths.*.backend.service.name", &SERVICE),
    ("gateway.networking.k8s.io", "Gateway", "spec.gatewayClassName", &GATEWAY),
    ("gateway.networking.k8s.io", "Gateway", "spec.listeners.*.tls.certificateRefs.*.name", &SECRET),
];

/// Where an object of the cluster names the namespace that it belongs to: group, kind, the place of the namespace.
const OF_CLUSTER: [(&str, &str, &str); 4] = [
    (RBAC, "ClusterRoleBinding", "subjects.*.namespace"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "webhooks.*.clientConfig.service.namespace"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "webhooks.*.clientConfig.service.namespace"),
    ("apiregistration.k8s.io", "APIService", "spec.service.namespace"),
];

/// The kinds of the cluster whose objects are searched for those that belong to a namespace, as group and kind.
pub fn searched() -> impl Iterator<Item = (&'static str, &'static str)> {
    OF_CLUSTER.iter().map(|row| (row.0, row.1))
}

/// What becomes of an object that is referred to.
#[must_use]
pub fn carried(to: &Reference) -> Carried {
    let target = targets().find(|it| (it.group, it.kind) == (to.group, to.kind));
    target.map_or(Carried::ByName, |it| it.carried)
}

/// Whether objects of this kind stand in the namespace, and others of it may need them.
#[must_use]
pub fn may_be_needed(group: &str, kind: &str) -> bool {
    let binding = (group, kind) == (RBAC, "RoleBinding");
    binding || targets().any(|it| it.carried == Carried::WithNamespace && (it.group, it.kind) == (group, kind))
}

/// Every kind that is referred to.
fn targets() -> impl Iterator<Item = &'static Target> {
    OF_PODS.iter().map(|row| row.1).chain(OF_KINDS.iter().map(|row| row.3)).chain([&ROLE, &CLUSTER_ROLE])
}

/// What an object refers to. Each once, in no particular order.
#[must_use]
pub fn of(group: &str, kind: &str, object: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    if let Some((_, _, pod)) = PODS.iter().find(|row| (row.0, row.1) == (group, kind)) {
        let mut pods = Vec::new();
        each(object, pod, &mut |it| pods.push(it));
        for (place, to) in OF_PODS {
            for pod in &pods {
                add(pod, place, to, &mut found);
            }
        }
        // A pod that names no account is given this one.
        if pods.iter().any(|it| it["serviceAccountName"].as_str().is_none_or(str::is_empty)) {
            found.extend(Reference::to("", "ServiceAccount", "default"));
        }
    }
    for (_, _, place, to) in OF_KINDS.iter().filter(|row| (row.0, row.1) == (group, kind)) {
        add(object, place, to, &mut found);
    }
    if group == RBAC && matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
        let to = if object["roleRef"]["kind"] == "ClusterRole" { &CLUSTER_ROLE } else { &ROLE };
        add(object, "roleRef.name", to, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

/// The accounts of this namespace that a binding gives rights to; every account of it when a group of them is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// These, by name.
    Accounts(Vec<String>),
    /// All.
    All,
}

/// To whom of a namespace a `RoleBinding` or `ClusterRoleBinding` gives rights. `None`: to nobody of it.
#[must_use]
pub fn subjects(binding: &Value, namespace: &str) -> Option<Subjects> {
    let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    if subjects.iter().any(|it| all_of(it, namespace)) {
        return Some(Subjects::All);
    }
    let accounts = subjects.iter().filter(|it| account_of(it, namespace)).filter_map(|it| it["name"].as_str());
    let accounts: Vec<String> = accounts.map(str::to_owned).collect();
    if accounts.is_empty() { None } else { Some(Subjects::Accounts(accounts)) }
}

/// Whether an object of the cluster belongs to a namespace. What a `ClusterRoleBinding` says of others is taken out: it is
/// no part of this application.
pub fn belongs(group: &str, kind: &str, object: &mut Value, namespace: &str) -> bool {
    if (group, kind) == (RBAC, "ClusterRoleBinding") {
        if let Some(Value::Array(subjects)) = object.get_mut("subjects") {
            subjects.retain(|it| account_of(it, namespace) || all_of(it, namespace));
        }
        return subjects(object, namespace).is_some();
    }
    let Some((_, _, place)) = OF_CLUSTER.iter().find(|row| (row.0, row.1) == (group, kind)) else { return false };
    let mut names = Vec::new();
    each(object, place, &mut |it| names.push(it));
    names.into_iter().any(|it| it == namespace)
}

/// Whether each cluster makes this object by itself: then its name is enough.
#[must_use]
pub fn made_by_the_cluster(kind: &str, object: &Value) -> bool {
    object::label(object, "kubernetes.io/bootstrapping").is_some()
        || object::label(object, "kube-aggregator.kubernetes.io/automanaged").is_some()
        || (kind == "PriorityClass" && object::name(object).starts_with("system-"))
}

fn account_of(subject: &Value, namespace: &str) -> bool {
    subject["kind"] == "ServiceAccount" && subject["namespace"] == namespace
}

fn all_of(subject: &Value, namespace: &str) -> bool {
    let group = subject["name"].as_str().and_then(|it| it.strip_prefix("system:serviceaccounts:"));
    subject["kind"] == "Group" && group == Some(namespace)
}

fn add(within: &Value, place: &str, to: &Target, found: &mut Vec<Reference>) {
    each(within, place, &mut |it| {
        if let Some(name) = it.as_str().filter(|it| !it.is_empty()) {
            found.push(Reference { group: to.group, kind: to.kind, name: name.to_owned() });
        }
    });
}

/// Hands over what stands at a place.
fn each<'a>(within: &'a Value, place: &str, visit: &mut impl FnMut(&'a Value)) {
    let (step, rest) = place.split_once('.').map_or((place, None), |(step, rest)| (step, Some(rest)));
    let go = |value: &'a Value| match rest {
        Some(rest) => each(value, rest, &mut *visit),
        None => visit(value),
    };
    match (step, within) {
        ("*", Value::Array(items)) => items.iter().for_each(go),
        (step, Value::Object(map)) => map.get(step).into_iter().for_each(go),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(group: &str, kind: &str, object: &Value) -> Vec<String> {
        of(group, kind, object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_workload_refers_to_all_that_its_pods_are_given() {
        let container = json!({"envFrom": [{"configMapRef": {"name": "env"}}, {"secretRef": {"name": "keys"}}],
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}, {"name": "B", "value": "b"}]});
        let spec = json!({"serviceAccountName": "web", "priorityClassName": "gold", "imagePullSecrets": [{"name": "registry"}],
            "containers": [container], "initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "init"}}}]}],
            "volumes": [{"persistentVolumeClaim": {"claimName": "data"}}, {"emptyDir": {}},
                {"projected": {"sources": [{"secret": {"name": "part"}}]}}]});
        let expected = [
            "ConfigMap env",
            "ConfigMap init",
            "PersistentVolumeClaim data",
            "PriorityClass gold",
            "Secret keys",
            "Secret part",
            "Secret registry",
            "ServiceAccount web",
        ];
        let sorted = |mut it: Vec<String>| {
            it.sort();
            it
        };
        let template = json!({"spec": {"template": {"spec": spec}}});
        assert_eq!(sorted(told("", "Pod", &json!({"spec": spec}))), expected);
        assert_eq!(sorted(told("apps", "Deployment", &template)), expected);
        assert_eq!(sorted(told("batch", "CronJob", &json!({"spec": {"jobTemplate": template}}))), expected);
        assert_eq!(told("", "ConfigMap", &template), [] as [&str; 0]);
        assert_eq!(told("", "Pod", &json!({"spec": {"containers": []}})), ["ServiceAccount default"]);
    }

    #[test]
    fn classes_that_each_cluster_has_of_its_own_are_only_named() {
        let set =
            json!({"spec": {"serviceName": "db", "volumeClaimTemplates": [{"spec": {"storageClassName": "fast"}}]}});
        let carried: Vec<_> = of("apps", "StatefulSet", &set).iter().map(|it| (it.kind, carried(it))).collect();
        assert_eq!(carried, [("Service", Carried::WithNamespace), ("StorageClass", Carried::ByName)]);
        let ingress = json!({"spec": {"ingressClassName": "nginx"}});
        assert_eq!(
            of("networking.k8s.io", "Ingress", &ingress).iter().map(self::carried).collect::<Vec<_>>(),
            [Carried::ByName]
        );
    }

    #[test]
    fn a_binding_refers_to_its_role_and_gives_rights_to_accounts() {
        let role = |kind: &str| {
            json!({"roleRef": {"kind": kind, "name": "reader"}, "subjects": [
            {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
            {"kind": "ServiceAccount", "name": "web", "namespace": "other"}, {"kind": "User", "name": "jane"}]})
        };
        assert_eq!(told(RBAC, "RoleBinding", &role("Role")), ["Role reader"]);
        let [bound] = of(RBAC, "RoleBinding", &role("ClusterRole")).try_into().expect("one");
        assert_eq!((bound.kind, carried(&bound)), ("ClusterRole", Carried::Whole));
        assert_eq!(subjects(&role("Role"), "shop"), Some(Subjects::Accounts(vec!["web".into()])));
        assert_eq!(subjects(&role("Role"), "elsewhere"), None);
        let all = json!({"subjects": [{"kind": "Group", "name": "system:serviceaccounts:shop"}]});
        assert_eq!((subjects(&all, "shop"), subjects(&all, "sho")), (Some(Subjects::All), None));
    }

    #[test]
    fn of_a_binding_of_the_cluster_only_what_is_this_namespaces_is_taken() {
        let mut binding = json!({"roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [
            {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}, {"kind": "User", "name": "jane"},
            {"kind": "ServiceAccount", "name": "spy", "namespace": "other"}]});
        assert!(!belongs(RBAC, "ClusterRoleBinding", &mut binding.clone(), "elsewhere"));
        assert!(belongs(RBAC, "ClusterRoleBinding", &mut binding, "shop"));
        assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}]));
    }

    #[test]
    fn a_webhook_belongs_to_the_namespace_that_answers_it() {
        let mut webhook = json!({"webhooks": [{"clientConfig": {"url": "https://a"}},
            {"clientConfig": {"service": {"namespace": "shop", "name": "hook"}}}]});
        let group = "admissionregistration.k8s.io";
        assert!(belongs(group, "ValidatingWebhookConfiguration", &mut webhook, "shop"));
        assert!(!belongs(group, "ValidatingWebhookConfiguration", &mut webhook, "other"));
        assert!(!belongs("", "Node", &mut webhook, "shop"));
    }

    #[test]
    fn what_the_cluster_makes_by_itself_is_told_from_what_people_made() {
        let role = json!({"metadata": {"name": "view", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}});
        assert!(made_by_the_cluster("ClusterRole", &role));
        let named = json!({"metadata": {"name": "system-node-critical"}});
        assert!(made_by_the_cluster("PriorityClass", &named) && !made_by_the_cluster("ClusterRole", &named));
    }
}
