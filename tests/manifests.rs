//! What lies in the tree as YAML is what the code says: the CRDs are those of the types, and every object of our kinds
//! that people copy is read by them without losing a field.

use std::{fs, path::Path};

use k8s_openapi::serde::de::DeserializeOwned;
use reprise::{
    api::{
        application::ProtectedApplication, dns_zone::DnsZone, failover::Failover, recovery_point::RecoveryPoint,
        vault::Vault,
    },
    cli::crds::definitions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(directory: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(root(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let mut files: Vec<_> = entries.map(|it| it.expect("a readable entry").path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    files
}

#[test]
fn the_definitions_in_the_tree_are_those_of_the_types() {
    let definitions = definitions().expect("definitions");
    for directory in ["crds", "charts/reprise/files/crds"] {
        let names: Vec<_> = files(directory).iter().map(|it| it.file_name().expect("a name").to_owned()).collect();
        assert_eq!(names, definitions.iter().map(|it| it.file.as_str()).collect::<Vec<_>>(), "in {directory}");
        for it in &definitions {
            let text = fs::read_to_string(root(directory).join(&it.file)).expect("a readable file");
            assert!(text == it.yaml, "{directory}/{} is not what the types say: run `make crds`", it.file);
        }
    }
}

/// The documents of our kinds in a file.
fn ours(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a readable file");
    let documents = serde_yaml::Deserializer::from_str(&text).map(|it| Value::deserialize(it).expect("YAML"));
    documents.filter(|it| it["apiVersion"] == "reprise.dev/v1alpha1").collect()
}

fn again<K: DeserializeOwned + Serialize>(document: &Value) -> Value {
    let object: K = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document}"));
    serde_json::to_value(object).expect("JSON")
}

/// Every field of `given` that `read` lacks or has otherwise.
fn lost(given: &Value, read: &Value, at: &str) -> Vec<String> {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => given
            .iter()
            .flat_map(|(name, value)| lost(value, read.get(name).unwrap_or(&Value::Null), &format!("{at}.{name}")))
            .collect(),
        (Value::Array(given), Value::Array(read)) if given.len() == read.len() => {
            given.iter().zip(read).enumerate().flat_map(|(i, (a, b))| lost(a, b, &format!("{at}[{i}]"))).collect()
        }
        (given, read) if given == read => vec![],
        (given, read) => vec![format!("{at}: {given} became {read}")],
    }
}

#[test]
fn samples_and_demo_are_read_without_losing_a_field() {
    let mut kinds = Vec::new();
    for path in files("config/samples").into_iter().chain(files("tests/lab/demo")) {
        for document in ours(&path) {
            let kind = document["kind"].as_str().expect("a kind").to_owned();
            let read = match kind.as_str() {
                "ProtectedApplication" => again::<ProtectedApplication>(&document),
                "RecoveryPoint" => again::<RecoveryPoint>(&document),
                "Failover" => again::<Failover>(&document),
                "Vault" => again::<Vault>(&document),
                "DnsZone" => again::<DnsZone>(&document),
                other => panic!("{}: no such kind: {other}", path.display()),
            };
            let lost = lost(&document, &read, &kind);
            assert!(lost.is_empty(), "{}: {}", path.display(), lost.join("; "));
            kinds.push(kind);
        }
    }
    for kind in ["ProtectedApplication", "Vault", "DnsZone"] {
        assert!(kinds.iter().filter(|it| *it == kind).count() >= 2, "{kind}: only {kinds:?}");
    }
}

#[test]
fn a_misspelt_field_is_noticed() {
    let given = serde_json::json!({"spec": {"zone": "a", "tll": 1}});
    assert_eq!(
        lost(&given, &serde_json::json!({"spec": {"zone": "a"}}), "DnsZone"),
        ["DnsZone.spec.tll: 1 became null"]
    );
}

/// A setting that nothing reads would be a lie.
#[test]
fn every_setting_that_the_chart_hands_over_is_read_by_the_program() {
    let deployment = fs::read_to_string(root("charts/reprise/templates/deployment.yaml")).expect("a readable file");
    let names = deployment.lines().filter_map(|it| it.trim().strip_prefix("- name: "));
    let names: Vec<&str> = names.filter(|it| it.chars().all(|it| it.is_ascii_uppercase() || it == '_')).collect();
    assert!(names.len() >= 8, "{names:?}");
    // RUST_LOG is read by the filter of tracing-subscriber.
    for name in names.into_iter().filter(|it| *it != "RUST_LOG") {
        assert!(mentioned(&root("src"), &format!("\"{name}\"")), "nothing in src/ reads {name}");
    }
}

/// Every call of the operator to the API server by kind. A verb that is missing in the chart breaks it, one too many is a
/// right that nobody needs.
#[test]
fn the_operator_has_the_rights_that_it_uses_and_no_others() {
    let in_cluster = [
        "reprise.dev/protectedapplications: list watch",
        "reprise.dev/vaults: list watch",
        "reprise.dev/dnszones: list watch",
        "reprise.dev/restores: list watch create patch delete",
        "reprise.dev/recoverypoints: list watch create patch delete",
        "reprise.dev/failovers: list watch create patch",
        "reprise.dev/protectedapplications/status: patch",
        "reprise.dev/recoverypoints/status: patch",
        "reprise.dev/failovers/status: patch",
        "reprise.dev/restores/status: patch",
        "reprise.dev/vaults/status: patch",
        "reprise.dev/dnszones/status: patch",
        "snapshot.storage.k8s.io/volumesnapshots: list create patch delete",
        "snapshot.storage.k8s.io/volumesnapshotcontents: get list create patch delete",
        "snapshot.storage.k8s.io/volumesnapshotclasses: list",
        "groupsnapshot.storage.k8s.io/volumegroupsnapshots: get list create patch delete",
        "groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents: get list patch delete",
        "groupsnapshot.storage.k8s.io/volumegroupsnapshotclasses: list",
        "/persistentvolumes: get list patch",
        "storage.k8s.io/storageclasses: list",
        "/nodes: list",
        "/namespaces: get",
        "apiextensions.k8s.io/customresourcedefinitions: get",
        "rbac.authorization.k8s.io/clusterroles: get list",
        "rbac.authorization.k8s.io/clusterrolebindings: list",
        "scheduling.k8s.io/priorityclasses: get",
        "admissionregistration.k8s.io/validatingwebhookconfigurations: list",
        "admissionregistration.k8s.io/mutatingwebhookconfigurations: list",
        "apiregistration.k8s.io/apiservices: list",
        "apps/deployments: list watch",
        "apps/statefulsets: list watch",
        "apps/daemonsets: list watch",
        "admissionregistration.k8s.io/validatingwebhookconfigurations: list",
        "admissionregistration.k8s.io/mutatingwebhookconfigurations: list",
        "discovery.k8s.io/endpointslices: list",
        "events.k8s.io/events: create patch",
    ];
    assert_eq!(rights("ClusterRole", "reprise"), in_cluster);
    let mut at_home =
        vec!["coordination.k8s.io/leases: get create update".to_owned(), "/configmaps: create".to_owned()];
    let maps = std::iter::once("reprise-journal".to_owned()).chain(reprise::operator::run::minutes_names());
    at_home.extend(maps.map(|it| format!("/configmaps {it}: get patch")));
    let others = [
        "batch/jobs: list create patch delete",
        "/persistentvolumeclaims: get list create patch delete",
        "/pods: list",
        "/pods/log: get",
        "/secrets: get",
    ];
    at_home.extend(others.map(ToOwned::to_owned));
    assert_eq!(rights("Role", "reprise"), at_home);
    // A dump's mover has nothing else, and other movers have no token at all.
    let protected = rights("ClusterRole", "reprise-protected");
    assert!(protected.contains(&"/pods/exec: get create".to_owned()), "hooks are run by the operator: {protected:?}");
    assert_eq!(rights("ClusterRole", "reprise-dump-mover"), ["/pods: list", "/pods/exec: get create"]);
}

/// The rules of a role of the rendered chart: one line for each resource, or for each name where rights go by name.
fn rights(kind: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(root("config/base/reprise.yaml")).expect("a readable file");
    let mut documents = serde_yaml::Deserializer::from_str(&text).map(|it| Value::deserialize(it).expect("YAML"));
    let role = documents.find(|it| it["kind"] == kind && it["metadata"]["name"] == name).expect("the role");
    let words = |it: &Value| -> Vec<String> { serde_json::from_value(it.clone()).unwrap_or_default() };
    let mut lines = Vec::new();
    for rule in role["rules"].as_array().expect("rules") {
        let (group, verbs) = (words(&rule["apiGroups"]).join(","), words(&rule["verbs"]).join(" "));
        for resource in words(&rule["resources"]) {
            let names = words(&rule["resourceNames"]);
            lines.extend(names.iter().map(|it| format!("{group}/{resource} {it}: {verbs}")));
            if names.is_empty() {
                lines.push(format!("{group}/{resource}: {verbs}"));
            }
        }
    }
    lines
}

#[test]
fn the_pod_is_given_longer_to_end_than_the_operator_takes() {
    let deployment = fs::read_to_string(root("charts/reprise/templates/deployment.yaml")).expect("a readable file");
    let grace = deployment.lines().find_map(|it| it.trim().strip_prefix("terminationGracePeriodSeconds: "));
    let grace: u64 = grace.expect("a grace period").parse().expect("seconds");
    assert!(grace > reprise::operator::run::LONGEST_END.as_secs(), "{grace} s");
}

fn mentioned(directory: &Path, what: &str) -> bool {
    fs::read_dir(directory).expect("a readable directory").any(|entry| {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            mentioned(&path, what)
        } else {
            fs::read_to_string(&path).is_ok_and(|text| text.contains(what))
        }
    })
}
