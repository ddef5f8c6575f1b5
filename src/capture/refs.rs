//! Which other objects an object names, as far as it should not go back before them.
//!
//! Kubernetes' own kinds and custom ones follow the same few conventions, so one walk reads them all: the name of a field
//! tells the kind, or stands beside it. The API group is not looked at: a reference too many only delays an object.

use serde_json::{Map, Value};

use super::object::annotation;

/// Fields that hold the name of an object, and its kind.
const NAMES: [(&str, &str); 8] = [
    ("secretName", "Secret"),
    ("configMapName", "ConfigMap"),
    ("claimName", "PersistentVolumeClaim"),
    ("serviceAccountName", "ServiceAccount"),
    ("priorityClassName", "PriorityClass"),
    ("ingressClassName", "IngressClass"),
    ("gatewayClassName", "GatewayClass"),
    ("serviceName", "Service"),
];

/// Fields that hold an object with a `name`, or a list of such, and the kind that is meant unless `kind` says another one.
const HOLDERS: [(&str, &str); 9] = [
    ("service", "Service"),
    ("configMap", "ConfigMap"),
    ("secret", "Secret"),
    ("serviceAccount", "ServiceAccount"),
    ("imagePullSecrets", "Secret"),
    ("secrets", "Secret"),
    ("subjects", "ServiceAccount"),
    ("backendRefs", "Service"),
    ("parentRefs", "Gateway"),
];

/// Ends of such fields' names: `superuserSecret`, `secretKeyRef`, `scaleTargetRef`.
const ENDS: [(&str, &str); 6] = [
    ("SecretKeyRef", "Secret"),
    ("secretKeyRef", "Secret"),
    ("configMapKeyRef", "ConfigMap"),
    ("SecretRef", "Secret"),
    ("Secret", "Secret"),
    ("ConfigMap", "ConfigMap"),
];

/// How deep an object is looked into. Nothing that people write is deeper.
const DEEPEST: usize = 64;

/// Hands over the kind and name of each object that is named, more than once if it is.
pub fn each(kind: &str, object: &Value, visit: &mut dyn FnMut(&str, &str)) {
    match kind {
        // What is in them is the application's own, and no reference. Definitions come before everything.
        "ConfigMap" | "CustomResourceDefinition" => return,
        "Secret" => {
            if let Some(account) = annotation(object, "kubernetes.io/service-account.name") {
                visit("ServiceAccount", account);
            }
            return;
        }
        _ => {}
    }
    for (field, value) in object.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "metadata" | "status" | "apiVersion" | "kind") {
            field_of(field, value, visit, DEEPEST);
        }
    }
}

/// The owners of an object: kind and name.
pub fn owners<'a>(object: &'a Value, mut visit: impl FnMut(&'a str, &'a str)) {
    for owner in object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(kind), Some(name)) = (owner["kind"].as_str(), owner["name"].as_str()) {
            visit(kind, name);
        }
    }
}

fn field_of(field: &str, value: &Value, visit: &mut dyn FnMut(&str, &str), deep: usize) {
    match value {
        Value::String(name) => {
            if let Some((_, kind)) = NAMES.iter().find(|(it, _)| *it == field) {
                visit(kind, name);
            } else if field.ends_with("SecretName") {
                visit("Secret", name);
            }
        }
        Value::Object(map) => {
            named(field, map, visit);
            if deep > 0 {
                map.iter().for_each(|(field, value)| field_of(field, value, visit, deep - 1));
            }
        }
        Value::Array(items) if deep > 0 => items.iter().for_each(|it| field_of(field, it, visit, deep - 1)),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What an object below a field names, if it is a reference.
fn named(field: &str, map: &Map<String, Value>, visit: &mut dyn FnMut(&str, &str)) {
    let Some(name) = map.get("name").and_then(Value::as_str) else { return };
    let told = map.get("kind").and_then(Value::as_str);
    let holder = HOLDERS.iter().find(|(it, _)| *it == field).map(|(_, kind)| *kind);
    let meant = holder.or_else(|| ENDS.iter().find(|(end, _)| field.ends_with(end)).map(|(_, kind)| *kind));
    if let Some(kind) = told.or(meant) {
        visit(kind, name);
        return;
    }
    // `issuerRef`: an Issuer.
    if let Some(stem) = field.strip_suffix("Ref").or_else(|| field.strip_suffix("Refs"))
        && let Some(first) = stem.chars().next()
    {
        visit(&format!("{}{}", first.to_ascii_uppercase(), &stem[first.len_utf8()..]), name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named_by(kind: &str, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        each(kind, object, &mut |kind, name| found.push(format!("{kind} {name}")));
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn a_pod_template_names_what_its_pods_cannot_start_without() {
        let spec = json!({"serviceAccountName": "robot", "priorityClassName": "gold", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "more", "key": "k"}}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "tls"}}, {"name": "w", "configMap": {"name": "files"}},
                {"name": "x", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "y", "projected": {"sources": [{"secret": {"name": "deep"}}]}}]});
        let deployment = json!({"metadata": {"name": "web"}, "spec": {"template": {"spec": spec}}});
        assert_eq!(
            named_by("Deployment", &deployment),
            [
                "ConfigMap files",
                "ConfigMap more",
                "ConfigMap settings",
                "PersistentVolumeClaim data",
                "PriorityClass gold",
                "Secret db",
                "Secret deep",
                "Secret keys",
                "Secret pull",
                "Secret tls",
                "ServiceAccount robot",
            ]
        );
    }

    #[test]
    fn other_kinds_of_kubernetes_name_what_they_point_to() {
        let ingress = json!({"spec": {"tls": [{"secretName": "tls"}], "rules": [{"http": {"paths": [
            {"backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}});
        assert_eq!(named_by("Ingress", &ingress), ["Secret tls", "Service web"]);
        let scaler =
            json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
        assert_eq!(named_by("HorizontalPodAutoscaler", &scaler), ["Deployment web"]);
        let binding = json!({"roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot"}, {"kind": "User", "name": "ann"}]});
        assert_eq!(named_by("RoleBinding", &binding), ["Role reader", "ServiceAccount robot", "User ann"]);
        let token = json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "robot"}}});
        assert_eq!(named_by("Secret", &token), ["ServiceAccount robot"]);
    }

    #[test]
    fn custom_resources_name_others_by_the_usual_conventions() {
        let certificate = json!({"spec": {"secretName": "tls", "issuerRef": {"name": "ca"}}});
        assert_eq!(named_by("Certificate", &certificate), ["Issuer ca", "Secret tls"]);
        let cluster = json!({"spec": {"superuserSecret": {"name": "root"}, "bootstrap": {"initdb": {"secret": {"name": "app"}}}}});
        assert_eq!(named_by("Cluster", &cluster), ["Secret app", "Secret root"]);
        let route = json!({"spec": {"parentRefs": [{"name": "gate"}], "rules": [{"backendRefs": [{"name": "web"}]}]}});
        assert_eq!(named_by("HTTPRoute", &route), ["Gateway gate", "Service web"]);
    }

    #[test]
    fn what_an_application_keeps_in_its_settings_is_no_reference() {
        let data = json!({"metadata": {"name": "a"}, "data": {"secretName": "b"}});
        assert_eq!(named_by("ConfigMap", &data), [] as [&str; 0]);
        assert_eq!(named_by("Secret", &data), [] as [&str; 0]);
    }
}
