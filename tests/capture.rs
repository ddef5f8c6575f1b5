//! Capture, restore, stop and start against a real API server.
//!
//! `scripts/lab-tests` runs it on a region of the lab. By itself: `cargo test --test capture -- --ignored`, and
//! `KUBECONFIG_A` set to the configuration of a cluster that is there for tests, with an image `localhost/pause:lab`. Each test makes namespaces of its own and
//! deletes them; `custom_resources_...` makes the definition of a kind, too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, resume_unwind},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use reprise::capture::{
    apply::{self, Options, Phase, Restored},
    bundle::{Bundle, Object},
    clean::{self, Move},
    collect::{self, Captured, Limits},
    fence,
    policy::{Policy, Roles},
    select::Selection,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[path = "capture/cluster.rs"]
mod cluster;

/// An application with one object of everything that matters.
const SHOP: &str = include_str!("capture/shop.yaml");

async fn config() -> Config {
    let path = std::env::var("KUBECONFIG_A").expect("KUBECONFIG_A names the configuration of a cluster for tests");
    let file = Kubeconfig::read_from(path).unwrap();
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap()
}

/// Runs a test in fresh namespaces, and deletes them whatever becomes of it.
async fn in_namespaces<const N: usize>(test: &str, run: impl AsyncFnOnce(Client, [String; N])) {
    let client = Client::try_from(config().await).unwrap();
    let id = ulid::Ulid::generate().to_string().to_lowercase();
    let names: [String; N] = std::array::from_fn(|it| format!("capture-{test}-{it}-{id}"));
    let result = AssertUnwindSafe(run(client.clone(), names.clone())).catch_unwind().await;
    let namespaces = Api::<Namespace>::all(client.clone());
    for name in &names {
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let _ = api(&client, name, INGRESS).patch("web", &PatchParams::default(), &release).await;
        let _ = namespaces.delete(name, &DeleteParams::default()).await;
    }
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Makes a namespace and waits for what controllers put into each.
async fn make(client: &Client, namespace: &str, labels: Value) {
    let object = json!({"metadata": {"name": namespace, "labels": labels}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let config = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    until("kube-root-ca.crt is there", async || config.get_opt("kube-root-ca.crt").await.unwrap().is_some()).await;
    let accounts = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind("", "v1", "ServiceAccount"));
    until("the default account is there", async || accounts.get_opt("default").await.unwrap().is_some()).await;
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(90);
    while !done().await {
        assert!(Instant::now() < end, "not within 90 s: {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn kind(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn api(client: &Client, namespace: &str, of: (&str, &str, &str)) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind(of.0, of.1, of.2))
}

const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
const POD: (&str, &str, &str) = ("", "v1", "Pod");
const INGRESS: (&str, &str, &str) = ("networking.k8s.io", "v1", "Ingress");
const CONFIG: (&str, &str, &str) = ("", "v1", "ConfigMap");

/// Applies YAML documents as a `GitOps` tool would.
async fn gitops(client: &Client, namespace: &str, yaml: &str) {
    let documents: Vec<_> =
        serde_yaml::Deserializer::from_str(yaml).map(|it| DynamicObject::deserialize(it).unwrap()).collect();
    for object in documents {
        let of = object.types.clone().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(of).unwrap());
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        let name = object.metadata.name.clone().unwrap();
        let force = PatchParams::apply("gitops").force();
        if let Err(error) = api.patch(&name, &force, &Patch::Apply(&object)).await {
            panic!("{} {name}: {error}", resource.kind);
        }
    }
}

async fn captured(client: &Client, namespace: &str) -> Captured {
    let captured = collect::capture(client, namespace, &Selection::default(), Limits::default()).await.unwrap();
    // The test with a kind of its own takes it away again, perhaps between our question for kinds and that for lists.
    let failed: Vec<_> = captured.failed.iter().filter(|it| !it.contains("capture-test.example")).collect();
    assert_eq!(failed, [] as [&str; 0]);
    captured
}

async fn restored(client: &Client, namespace: &str, bundle: &Bundle, phase: Phase) -> Restored {
    let restored = apply::restore(client, namespace, bundle, &self::phase(phase)).await.unwrap();
    assert_eq!(restored.not_restored, [] as [&str; 0]);
    restored
}

fn phase(phase: Phase) -> Options {
    // Into other namespaces than their own, with the right to do so.
    let policy = Policy { roles: Roles::Any, ..Policy::default() };
    Options { phase, policy, ..Options::default() }
}

/// The objects of a bundle as they were captured.
fn recorded(bundle: &Bundle) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let visit = |Object { id, json, .. }: Object| {
        all.insert(format!("{}/{}/{}", id.group, id.kind, id.name), json);
        ControlFlow::Continue(())
    };
    bundle.visit(|_| true, visit).unwrap();
    all
}

/// Two captures tell the same. The first difference is printed.
fn assert_same(one: &Captured, other: &Captured) {
    assert_eq!(one.bundle.index().unwrap(), other.bundle.index().unwrap());
    let (before, after) = (recorded(&one.bundle), recorded(&other.bundle));
    for (name, object) in &before {
        assert_eq!(Some(object), after.get(name), "{name}");
    }
    assert_eq!(one.bundle.digest(), other.bundle.digest());
    assert_eq!(one.bundle.bytes().unwrap(), other.bundle.bytes().unwrap());
}

/// The objects of a bundle as they would be put into the namespace `here`.
fn objects(bundle: &Bundle) -> BTreeMap<String, Value> {
    let from = bundle.index().unwrap().namespace.name;
    let mut all = BTreeMap::new();
    let visit = |Object { id, mut json, .. }: Object| {
        clean::clean(&id.group, &id.kind, &mut json, Move { from: &from, to: "here" });
        all.insert(format!("{}/{}/{}", id.group, id.kind, id.name), json);
        ControlFlow::Continue(())
    };
    bundle.visit(|_| true, visit).unwrap();
    all
}

async fn stopped(client: &Client, namespace: &str) {
    until("everything is stopped", async || fence::stop(client, namespace).await.unwrap().complete()).await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn an_application_comes_back_in_another_namespace_as_it_was() {
    in_namespaces("back", async |client, [from, to]| {
        make(&client, &from, json!({"team": "shop"})).await;
        gitops(&client, &from, SHOP).await;
        let first = captured(&client, &from).await;
        let restored_first = restored(&client, &to, &first.bundle, Phase::Everything).await;
        assert_eq!(restored_first.created + restored_first.updated + restored_first.left_to_data, first.count);
        assert_eq!(restored_first.left_to_data, 1, "the claim is for the data plane");

        let mut wanted = objects(&first.bundle);
        wanted.remove("/PersistentVolumeClaim/data").unwrap();
        let second = captured(&client, &to).await;
        let there = objects(&second.bundle);
        for (name, object) in &wanted {
            assert_eq!(there.get(name), Some(object), "{name}");
        }
        assert_eq!(there.len(), wanted.len());
        assert_eq!(second.bundle.index().unwrap().namespace.labels, [("team".into(), "shop".into())].into());

        let again = restored(&client, &to, &first.bundle, Phase::Everything).await;
        assert_eq!((again.created, again.updated, again.unchanged), (0, 0, first.count - 1), "{again:?}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn an_unchanged_namespace_makes_the_same_bundle_while_its_pods_come_and_go() {
    in_namespaces("same", async |client, [namespace]| {
        make(&client, &namespace, json!({})).await;
        gitops(&client, &namespace, SHOP).await;
        let first = captured(&client, &namespace).await;
        let pods = api(&client, &namespace, POD);
        let web = ListParams::default().labels("app=web");
        until("the pods are there", async || pods.list(&web).await.unwrap().items.len() == 2).await;
        pods.delete_collection(&DeleteParams::default(), &web).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let second = captured(&client, &namespace).await;
        assert_same(&first, &second);

        gitops(
            &client,
            &namespace,
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {colour: red}}",
        )
        .await;
        assert_ne!(first.bundle.digest(), captured(&client, &namespace).await.bundle.digest());
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn what_is_stopped_starts_again_as_it_was_and_is_captured_alike_meanwhile() {
    in_namespaces("stop", async |client, [namespace]| {
        make(&client, &namespace, json!({})).await;
        gitops(&client, &namespace, SHOP).await;
        let running = captured(&client, &namespace).await;
        let first = fence::stop(&client, &namespace).await.unwrap();
        assert_eq!(first.workloads, 6, "Deployment, StatefulSet, DaemonSet, CronJob, Job and the bare pod: {first:?}");
        stopped(&client, &namespace).await;
        let pods = api(&client, &namespace, POD).list(&ListParams::default()).await.unwrap();
        let live = pods.items.iter().filter(|it| it.data["status"]["phase"] != "Succeeded").count();
        assert_eq!(live, 0, "complete means that no pod is left");

        let version = async || {
            let live = api(&client, &namespace, DEPLOYMENT).get("web").await.unwrap();
            (live.metadata.resource_version, live.data["spec"]["replicas"].clone())
        };
        let before = version().await;
        assert_eq!(before.1, 0);
        assert!(fence::stop(&client, &namespace).await.unwrap().complete());
        assert_eq!(version().await, before, "a stopped application is not written to");

        let meanwhile = captured(&client, &namespace).await;
        assert_same(&meanwhile, &running);

        until("everything is started", async || fence::start(&client, &namespace).await.unwrap().complete()).await;
        assert_same(&captured(&client, &namespace).await, &running);
        assert_eq!(version().await.1, 2);
        assert!(api(&client, &namespace, POD).get_opt("tool").await.unwrap().is_some());
        let secrets = api(&client, &namespace, ("", "v1", "Secret"));
        let remembered = secrets.list(&ListParams::default().fields("type=reprise.dev/fenced-pod")).await.unwrap();
        assert_eq!(remembered.items.len(), 0);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn what_gitops_put_there_converges_to_the_point() {
    in_namespaces("gitops", async |client, [from, to]| {
        make(&client, &from, json!({})).await;
        gitops(&client, &from, SHOP).await;
        let point = captured(&client, &from).await;

        make(&client, &to, json!({})).await;
        let other = SHOP.replace("colour: blue", "colour: green").replace("replicas: 2", "replicas: 1");
        assert_ne!(other, SHOP);
        gitops(&client, &to, &other).await;
        stopped(&client, &to).await;
        let result = restored(&client, &to, &point.bundle, Phase::Everything).await;
        assert!(result.updated >= 2, "{result:?}");

        let settings = api(&client, &to, CONFIG).get("settings").await.unwrap();
        assert_eq!(settings.data["data"]["colour"], "blue");
        let web = api(&client, &to, DEPLOYMENT).get("web").await.unwrap();
        assert_eq!(web.data["spec"]["replicas"], 2);
        assert_eq!(web.metadata.annotations.unwrap_or_default().get("reprise.dev/fenced-replicas"), None);
        let agents = api(&client, &to, ("apps", "v1", "DaemonSet")).get("agent").await.unwrap();
        assert_eq!(agents.data["spec"]["template"]["spec"].get("nodeSelector"), None);
        assert!(objects(&captured(&client, &to).await.bundle).contains_key("/Pod/tool"));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn a_restore_in_two_phases_starts_nothing_in_the_first() {
    in_namespaces("phases", async |client, [from, to]| {
        make(&client, &from, json!({})).await;
        gitops(&client, &from, SHOP).await;
        let point = captured(&client, &from).await;
        let first = restored(&client, &to, &point.bundle, Phase::AllButWorkloads).await;
        for (group, version, name) in [DEPLOYMENT, POD, ("batch", "v1", "CronJob"), ("batch", "v1", "Job")] {
            let there = api(&client, &to, (group, version, name)).list(&ListParams::default()).await.unwrap();
            assert_eq!(there.items.len(), 0, "{name}");
        }
        let second = restored(&client, &to, &point.bundle, Phase::Workloads).await;
        let total = [&first, &second].map(|it| it.created + it.updated + it.unchanged).iter().sum::<u64>();
        assert_eq!(total + 1, point.count, "both phases together are everything but the claim");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn a_restore_that_was_cut_off_ends_at_the_same_place_when_it_is_run_again() {
    in_namespaces("cut", async |client, [from, to]| {
        make(&client, &from, json!({})).await;
        fill(&client, &from, 600).await;
        let point = captured(&client, &from).await;
        let all = phase(Phase::Everything);
        let cut = apply::restore(&client, &to, &point.bundle, &all);
        assert!(tokio::time::timeout(Duration::from_millis(250), cut).await.is_err(), "it was done before the cut");
        let again = restored(&client, &to, &point.bundle, Phase::Everything).await;
        assert_eq!(again.created + again.unchanged, point.count, "{again:?}");
        assert_eq!(objects(&captured(&client, &to).await.bundle), objects(&point.bundle));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn what_may_not_be_read_is_named_and_the_rest_is_captured() {
    in_namespaces("denied", async |client, [namespace]| {
        make(&client, &namespace, json!({})).await;
        gitops(&client, &namespace, SHOP).await;
        let rights = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: half}
rules: [{apiGroups: [""], resources: [configmaps, services], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: half}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: half}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: half}]
"#;
        gitops(&client, &namespace, rights).await;
        let mut config = config().await;
        config.auth_info.impersonate = Some("half".into());
        let half = Client::try_from(config).unwrap();
        let captured = collect::capture(&half, &namespace, &Selection::default(), Limits::default()).await.unwrap();
        let told = captured.failed.join("\n");
        for missing in ["secrets: Forbidden", "deployments.apps: Forbidden", "annotations of the namespace: Forbidden"]
        {
            assert!(told.contains(missing), "{told}");
        }
        assert!(!told.contains("configmaps"));
        assert!(objects(&captured.bundle).contains_key("/ConfigMap/settings"));
        assert_eq!(captured.bundle.index().unwrap().failed, captured.failed, "the bundle says so itself");

        let denied = apply::restore(&half, &namespace, &captured.bundle, &phase(Phase::Everything)).await;
        assert!(matches!(denied, Err(apply::RestoreError::Namespace { .. })), "{denied:?}");
        assert!(fence::stop(&half, &namespace).await.is_err(), "what cannot be seen is not stopped");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn an_object_that_cannot_be_changed_back_is_named_and_the_rest_is_restored() {
    in_namespaces("immutable", async |client, [from, to]| {
        make(&client, &from, json!({})).await;
        let secret = |value| {
            format!("{{apiVersion: v1, kind: Secret, metadata: {{name: fixed}}, immutable: true, stringData: {{key: {value}}}}}")
        };
        gitops(&client, &from, &secret("one")).await;
        fill(&client, &from, 3).await;
        make(&client, &to, json!({})).await;
        gitops(&client, &to, &secret("two")).await;
        let point = captured(&client, &from).await;
        let result = apply::restore(&client, &to, &point.bundle, &phase(Phase::Everything)).await.unwrap();
        assert_eq!((result.created, result.not_restored_count), (3, 1), "{result:?}");
        let [why] = result.not_restored.as_slice() else { panic!("one reason: {result:?}") };
        assert!(why.starts_with("Secret fixed:") && why.contains("immutable"), "{why}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn a_namespace_that_is_not_there_or_is_going_is_no_recovery_point() {
    in_namespaces("going", async |client, [namespace]| {
        let absent = collect::capture(&client, &namespace, &Selection::default(), Limits::default()).await;
        assert!(matches!(absent, Err(collect::CaptureError::NoNamespace(_))), "{absent:?}");
        make(&client, &namespace, json!({})).await;
        let kept = "{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, finalizers: [reprise.example/kept]}}";
        gitops(&client, &namespace, kept).await;
        let point = captured(&client, &namespace).await;
        Api::<Namespace>::all(client.clone()).delete(&namespace, &DeleteParams::default()).await.unwrap();
        let going = collect::capture(&client, &namespace, &Selection::default(), Limits::default()).await;
        assert!(matches!(going, Err(collect::CaptureError::Terminating(_))), "{going:?}");
        let refused = apply::restore(&client, &namespace, &point.bundle, &phase(Phase::Everything)).await;
        assert!(matches!(refused, Err(apply::RestoreError::Terminating(_))), "{refused:?}");
        let release = json!({"metadata": {"finalizers": null}});
        let config = api(&client, &namespace, CONFIG);
        config.patch("kept", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn custom_resources_come_back_and_kinds_that_are_not_served_are_named() {
    in_namespaces("custom", async |client, [from, to]| {
        let id = ulid::Ulid::generate().to_string().to_lowercase();
        let group = format!("g{id}.capture-test.example");
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("gadgets.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Gadget", "plural": "gadgets"},
                "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
        let definitions: Api<DynamicObject> =
            Api::all_with(client.clone(), &kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
        definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
        make(&client, &from, json!({})).await;
        let gadgets = |namespace: &str| api(&client, namespace, (&group, "v1", "Gadget"));
        until("gadgets are served", async || gadgets(&from).list(&ListParams::default()).await.is_ok()).await;
        let gadget = json!({"apiVersion": format!("{group}/v1"), "kind": "Gadget", "metadata": {"name": "one"}, "spec": {"size": 3}});
        gadgets(&from).create(&PostParams::default(), &serde_json::from_value(gadget).unwrap()).await.unwrap();

        let mut point = captured(&client, &from).await;
        until("discovery tells of gadgets", async || {
            point = captured(&client, &from).await;
            objects(&point.bundle).contains_key(&format!("{group}/Gadget/one"))
        })
        .await;
        let early = restored(&client, &to, &point.bundle, Phase::AllButWorkloads).await;
        assert_eq!(early.created, 0, "an operator must not act before the data is there: {early:?}");
        restored(&client, &to, &point.bundle, Phase::Workloads).await;
        assert_eq!(gadgets(&to).get("one").await.unwrap().data["spec"], json!({"size": 3}));

        definitions.delete(&format!("gadgets.{group}"), &DeleteParams::default()).await.unwrap();
        // It goes after its last object has gone; the kind is not served from a little earlier on.
        let named = format!("gadgets.{group}");
        until("the definition is gone", async || definitions.get_opt(&named).await.unwrap().is_none()).await;
        let mut result = Restored::default();
        until("gadgets are served no more", async || {
            result = apply::restore(&client, &to, &point.bundle, &phase(Phase::Everything)).await.unwrap();
            result.not_restored.iter().any(|it| it.contains("install its definition first"))
        })
        .await;
        assert_eq!(result.not_restored_count, 2, "it, and its definition, which the policy holds back: {result:?}");
    })
    .await;
}

/// Makes `count` `ConfigMap`s of 1 KiB.
async fn fill(client: &Client, namespace: &str, count: usize) {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let data = "x".repeat(1024);
    stream::iter(0..count)
        .for_each_concurrent(32, |it| {
            let object = json!({"metadata": {"name": format!("config-{it:06}")}, "data": {"key": data}});
            let api = api.clone();
            async move {
                api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
            }
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn large_objects_come_in_small_pages_and_lie_in_a_file() {
    in_namespaces("large", async |client, [namespace]| {
        make(&client, &namespace, json!({})).await;
        let configs = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
        for it in 0..40 {
            let data = format!("{it}").repeat(450_000);
            let object = json!({"metadata": {"name": format!("large-{it}")}, "data": {"key": data}});
            configs.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        }
        let in_memory = captured(&client, &namespace).await;
        let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        let in_file = collect::capture(&client, &namespace, &Selection::default(), limits).await.unwrap();
        assert_eq!((in_memory.count, in_file.count), (40, 40));
        assert_same(&in_memory, &in_file);

        let limits = Limits { total_bytes: 10 << 20, ..Limits::default() };
        let refused = collect::capture(&client, &namespace, &Selection::default(), limits).await;
        assert!(matches!(refused, Err(collect::CaptureError::TooLarge { .. })), "{refused:?}");
    })
    .await;
}
