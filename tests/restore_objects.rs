//! What a restore of objects does with conflicts, owners, definitions of kinds, mappings and rights, against a real API
//! server.
//!
//! `scripts/lab-tests` runs it on a region of the lab; `tests/capture.rs` says how to run it by itself. Bundles are written
//! here, object by object, so that they hold what a capture of this cluster would not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    io::Write,
    panic::{AssertUnwindSafe, resume_unwind},
};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use reprise::{
    api::{
        mappings::{Mappings, ObjectPatch, ObjectSelector, PatchStep, PatchVerb, Rename},
        restoring::OnConflict,
    },
    capture::{
        apply::{self, Options, RestoreError, Restored},
        blocks::Span,
        bundle::{self, Bundle, Count, Entry, FORMAT, Id, Index, canonical},
        policy::{Allow, Policy, Roles},
    },
};
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";

async fn in_namespace(test: &str, run: impl AsyncFnOnce(Client, String)) {
    let path = std::env::var("KUBECONFIG_A").expect("KUBECONFIG_A names the configuration of a cluster for tests");
    let file = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let namespace = format!("restore-{test}-{}", ulid::Ulid::generate().to_string().to_lowercase());
    let result = AssertUnwindSafe(run(client.clone(), namespace.clone())).catch_unwind().await;
    let _ = Api::<Namespace>::all(client).delete(&namespace, &DeleteParams::default()).await;
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// A bundle of these objects; those without a namespace are the cluster's.
fn bundle(namespace: &str, objects: Vec<Value>) -> Bundle {
    let (mut rows, mut kinds) = (Vec::new(), Vec::<Count>::new());
    let count = objects.len() as u64;
    for object in objects {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = text("/apiVersion");
        let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
        let place = object.pointer("/metadata/namespace").and_then(Value::as_str).map(ToOwned::to_owned);
        let id = Id { group: group.into(), kind: text("/kind"), namespace: place, name: text("/metadata/name") };
        match kinds.iter_mut().find(|it| it.group == id.group && it.kind == id.kind) {
            Some(it) => it.count += 1,
            None => kinds.push(Count {
                group: group.into(),
                kind: id.kind.clone(),
                version: version.into(),
                scope: id.scope(),
                count: 1,
            }),
        }
        let json = canonical(&object).unwrap();
        rows.push((id, json));
    }
    kinds.sort();
    let index = Index {
        format: FORMAT,
        namespace: bundle::Namespace { name: namespace.into(), ..bundle::Namespace::default() },
        kinds,
        count,
        ..Index::default()
    };
    let sorted: BTreeMap<_, _> = rows.into_iter().collect();
    let entries = sorted.keys().map(|id| Entry { id: id.clone(), at: Span::new(0, 0) });
    bundle::write(&index, entries, |entry, to| to.write_all(&sorted[&entry.id])).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "so that a caller can hand over what it wrote")]
fn object(version: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

#[expect(clippy::needless_pass_by_value, reason = "so that a caller can hand over what it wrote")]
fn config(namespace: &str, name: &str, data: Value) -> Value {
    object("v1", "ConfigMap", namespace, name, json!({"data": data}))
}

fn api(client: &Client, namespace: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

async fn restore(client: &Client, namespace: &str, bundle: &Bundle, options: &Options) -> Restored {
    apply::restore(client, namespace, bundle, options).await.unwrap()
}

fn on(on_conflict: OnConflict) -> Options {
    Options { on_conflict, ..Options::default() }
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn what_is_there_in_another_form_is_never_counted_as_restored_unless_it_was_changed() {
    in_namespace("conflict", async |client, namespace| {
        let there = bundle(
            &namespace,
            vec![config(&namespace, "a", json!({"k": "old", "extra": "x"})), config(&namespace, "same", json!({}))],
        );
        restore(&client, &namespace, &there, &Options::default()).await;
        let point = bundle(
            &namespace,
            vec![
                config(&namespace, "a", json!({"k": "new"})),
                config(&namespace, "same", json!({})),
                config(&namespace, "b", json!({})),
            ],
        );
        let data = async || api(&client, &namespace, "v1", "ConfigMap").get("a").await.unwrap().data["data"].clone();

        let failed = apply::restore(&client, &namespace, &point, &on(OnConflict::Fail)).await;
        let Err(RestoreError::Conflicts { count: 1, first }) = failed else { panic!("{failed:?}") };
        assert_eq!(first, ["ConfigMap a"]);
        assert!(
            api(&client, &namespace, "v1", "ConfigMap").get_opt("b").await.unwrap().is_none(),
            "nothing was written"
        );

        let planned = restore(&client, &namespace, &point, &Options { dry_run: true, ..Options::default() }).await;
        assert_eq!((planned.created, planned.updated, planned.unchanged), (1, 1, 1), "{planned:?}");
        assert_eq!(planned.changes, ["ConfigMap a: would be changed: data.k", "ConfigMap b: would be made"]);
        assert_eq!(data().await, json!({"k": "old", "extra": "x"}), "a dry run writes nothing");

        let skipped = restore(&client, &namespace, &point, &on(OnConflict::Skip)).await;
        assert_eq!((skipped.created, skipped.unchanged, skipped.not_restored_count), (1, 1, 1), "{skipped:?}");
        assert_eq!(skipped.not_restored, ["ConfigMap a: it is there and says something else, and onConflict is Skip"]);

        let updated = restore(&client, &namespace, &point, &on(OnConflict::Update)).await;
        assert_eq!((updated.updated, updated.unchanged), (1, 2), "{updated:?}");
        assert_eq!(data().await["k"], "new");

        let mut stray = api(&client, &namespace, "v1", "ConfigMap").get("a").await.unwrap();
        stray.data["data"]["stray"] = "x".into();
        api(&client, &namespace, "v1", "ConfigMap").replace("a", &PostParams::default(), &stray).await.unwrap();
        let replaced = restore(&client, &namespace, &point, &on(OnConflict::Replace)).await;
        assert_eq!((replaced.updated, replaced.unchanged), (1, 2), "{replaced:?}");
        assert_eq!(data().await, json!({"k": "new"}), "what the point does not have is gone");
        let again = restore(&client, &namespace, &point, &on(OnConflict::Fail)).await;
        assert_eq!(again.unchanged, 3, "what is the same is no conflict: {again:?}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn what_cannot_be_changed_is_made_anew_when_it_is_to_be_replaced() {
    in_namespace("replace", async |client, namespace| {
        let secret = |value: &str| {
            let rest = json!({"data": {"k": value}, "immutable": true, "type": "Opaque"});
            bundle(&namespace, vec![object("v1", "Secret", &namespace, "fixed", rest)])
        };
        let service = |selector: &str| {
            let spec = json!({"clusterIP": "10.96.9.9", "selector": {"app": selector}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP"});
            bundle(&namespace, vec![object("v1", "Service", &namespace, "web", json!({"spec": spec}))])
        };
        restore(&client, &namespace, &secret("b25l"), &Options::default()).await;
        let refused = restore(&client, &namespace, &secret("dHdv"), &Options::default()).await;
        assert!(refused.not_restored[0].contains("onConflict Replace"), "{refused:?}");
        let replaced = restore(&client, &namespace, &secret("dHdv"), &on(OnConflict::Replace)).await;
        assert_eq!((replaced.updated, replaced.not_restored_count), (1, 0), "{replaced:?}");
        let live = api(&client, &namespace, "v1", "Secret").get("fixed").await.unwrap();
        assert_eq!(live.data["data"], json!({"k": "dHdv"}));

        restore(&client, &namespace, &service("old"), &Options::default()).await;
        let before = api(&client, &namespace, "v1", "Service").get("web").await.unwrap();
        let replaced = restore(&client, &namespace, &service("new"), &on(OnConflict::Replace)).await;
        assert_eq!((replaced.updated, replaced.not_restored_count), (1, 0), "{replaced:?}");
        let after = api(&client, &namespace, "v1", "Service").get("web").await.unwrap();
        assert_eq!(after.data["spec"]["clusterIP"], before.data["spec"]["clusterIP"], "it keeps its address");
        assert_eq!((after.metadata.uid, &after.data["spec"]["selector"]["app"]), (before.metadata.uid, &json!("new")));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn owners_get_the_identity_that_they_have_here_and_lost_ones_are_told() {
    in_namespace("owners", async |client, namespace| {
        let owned = |name: &str, kind: &str, version: &str, owner: &str| {
            let mut it = config(&namespace, name, json!({}));
            it["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind, "name": owner}]);
            it
        };
        let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "localhost/pause:lab", "envFrom": [{"configMapRef": {"name": "a-late"}}]}]}}});
        let point = bundle(
            &namespace,
            vec![
                owned("a-child", "ConfigMap", "v1", "z-parent"),
                config(&namespace, "z-parent", json!({})),
                owned("a-late", "Deployment", "apps/v1", "web"),
                owned("orphan", "Widget", "acme.dev/v1", "gone"),
                object("apps/v1", "Deployment", &namespace, "web", json!({"spec": spec})),
            ],
        );
        for phase in [apply::Phase::AllButWorkloads, apply::Phase::Workloads] {
            let done = restore(&client, &namespace, &point, &Options { phase, ..Options::default() }).await;
            assert_eq!(done.not_restored, [] as [&str; 0]);
            if phase == apply::Phase::AllButWorkloads {
                let lost: Vec<_> = done.notes.iter().collect();
                assert!(matches!(lost.as_slice(), [(note, 1)] if note.contains("owner references")), "{done:?}");
            }
        }
        let configs = api(&client, &namespace, "v1", "ConfigMap");
        let owners_of = async |name: &str| configs.get(name).await.unwrap().metadata.owner_references.unwrap_or_default();
        let parent = configs.get("z-parent").await.unwrap().metadata.uid.unwrap();
        let web = api(&client, &namespace, "apps/v1", "Deployment").get("web").await.unwrap().metadata.uid.unwrap();
        assert_eq!((owners_of("a-child").await[0].uid.clone(), owners_of("a-late").await[0].uid.clone()), (parent, web));
        assert!(owners_of("orphan").await.is_empty());
        let again = restore(&client, &namespace, &point, &on(OnConflict::Fail)).await;
        assert_eq!(again.unchanged, 5, "{again:?}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn a_claim_that_stands_gets_labels_annotations_and_owners_and_one_that_does_not_is_not_made() {
    in_namespace("claims", async |client, namespace| {
        let claim = |name: &str, labels: Value, annotations: Value, size: &str| {
            let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": size}}});
            let mut claim = object("v1", "PersistentVolumeClaim", &namespace, name, json!({"spec": spec}));
            claim["metadata"]["labels"] = labels;
            claim["metadata"]["annotations"] = annotations;
            claim
        };
        let mut wanted = claim("db-1", json!({"cluster": "db", "team": "shop"}), json!({"serial": "1"}), "2Mi");
        wanted["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}]);
        let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "localhost/pause:lab"}]}}});
        let web = object("apps/v1", "Deployment", &namespace, "web", json!({"spec": spec}));
        let point = bundle(&namespace, vec![wanted, claim("gone", json!({"a": "b"}), json!({}), "1Mi"), web]);
        restore(&client, &namespace, &bundle(&namespace, vec![]), &Options::default()).await;
        // As the data plane makes it: with nothing on it. Its operator was quicker with one label.
        let claims = api(&client, &namespace, "v1", "PersistentVolumeClaim");
        let stands = claim("db-1", json!({"team": "other", "role": "primary"}), json!({"bound": "yes"}), "1Mi");
        claims.create(&PostParams::default(), &serde_json::from_value(stands).unwrap()).await.unwrap();

        let skipped = restore(&client, &namespace, &point, &on(OnConflict::Skip)).await;
        assert_eq!((skipped.left_to_data, skipped.not_restored_count), (1, 1), "{skipped:?}");
        assert!(skipped.not_restored[0].contains("labels[team]"), "{skipped:?}");
        let labels = async || claims.get("db-1").await.unwrap().metadata.labels.unwrap();
        assert_eq!((labels().await["cluster"].as_str(), labels().await["team"].as_str()), ("db", "other"));

        let updated = restore(&client, &namespace, &point, &Options::default()).await;
        assert_eq!((updated.updated, updated.left_to_data, updated.not_restored_count), (1, 1, 0), "{updated:?}");
        let live = claims.get("db-1").await.unwrap();
        let expected = [("cluster", "db"), ("role", "primary"), ("team", "shop")];
        assert_eq!(labels().await, expected.map(|(key, value)| (key.into(), value.into())).into());
        let annotations = live.metadata.annotations.unwrap();
        assert_eq!((annotations["serial"].as_str(), annotations["bound"].as_str()), ("1", "yes"));
        assert_eq!(live.data["spec"]["resources"]["requests"]["storage"], "1Mi", "what it asks for stays");
        let owner = api(&client, &namespace, "apps/v1", "Deployment").get("web").await.unwrap().metadata.uid.unwrap();
        assert_eq!(live.metadata.owner_references.unwrap()[0].uid, owner);
        assert!(claims.get_opt("gone").await.unwrap().is_none());

        let again = restore(&client, &namespace, &point, &on(OnConflict::Fail)).await;
        assert_eq!((again.unchanged, again.left_to_data), (2, 1), "{again:?}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn definitions_come_first_when_they_are_allowed_and_one_that_is_there_is_left_alone() {
    in_namespace("custom", async |client, namespace| {
        let group = format!("r{}.restore-test.example", ulid::Ulid::generate().to_string().to_lowercase());
        let name = format!("gadgets.{group}");
        let definition = |description: &str| {
            let schema = json!({"type": "object", "description": description, "x-kubernetes-preserve-unknown-fields": true});
            let spec = json!({"group": group, "scope": "Namespaced", "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]});
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", &name, json!({"spec": spec}))
        };
        let gadget = |name: &str, after: &str| {
            object(&format!("{group}/v1"), "Gadget", &namespace, name, json!({"spec": {"gadgetRef": {"name": after}}}))
        };
        let point = |description: &str| bundle(&namespace, vec![definition(description), gadget("a", "b"), gadget("b", "c")]);
        let held = restore(&client, &namespace, &point("one"), &Options::default()).await;
        let told = held.not_restored.join("\n");
        assert!(held.not_restored_count == 3 && told.contains("restore.allow.customResourceDefinitions=Create"), "{told}");

        let allowed = |custom_resource_definitions| Options {
            policy: Policy { custom_resource_definitions, ..Policy::default() },
            ..Options::default()
        };
        let done = restore(&client, &namespace, &point("one"), &allowed(Allow::Create)).await;
        assert_eq!((done.created, done.not_restored_count), (3, 0), "{done:?}");
        let gadgets = api(&client, &namespace, &format!("{group}/v1"), "Gadget");
        let made = |it: DynamicObject| it.metadata.resource_version.unwrap().parse::<u64>().unwrap();
        let (a, b) = (gadgets.get("a").await.unwrap(), gadgets.get("b").await.unwrap());
        assert!(made(a) > made(b), "a names b");

        let description = async || {
            let live = api(&client, "", "apiextensions.k8s.io/v1", "CustomResourceDefinition").get(&name).await.unwrap();
            live.data["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"].clone()
        };
        for allow in [Allow::Never, Allow::Create] {
            let kept = restore(&client, &namespace, &point("two"), &allowed(allow)).await;
            assert_eq!((kept.unchanged, kept.not_restored_count), (3, 0), "it serves what is needed: {kept:?}");
            assert!(kept.notes.keys().any(|it| it.contains("were left as they are")), "{kept:?}");
        }
        assert_eq!(description().await, "one");
        let changed = restore(&client, &namespace, &point("two"), &allowed(Allow::Update)).await;
        assert_eq!((changed.updated, description().await), (1, json!("two")), "{changed:?}");
        let definitions = api(&client, "", "apiextensions.k8s.io/v1", "CustomResourceDefinition");
        definitions.delete(&name, &DeleteParams::default()).await.unwrap();
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn rights_come_back_only_as_far_as_the_policy_goes() {
    in_namespace("rights", async |client, namespace| {
        let cluster_role = format!("{namespace}-reader");
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let version = format!("{RBAC}/v1");
        let binding = |name: &str, subject: Value| {
            let role = json!({"apiGroup": RBAC, "kind": "Role", "name": "reader"});
            object(&version, "RoleBinding", &namespace, name, json!({"roleRef": role, "subjects": [subject]}))
        };
        let point = bundle(
            &namespace,
            vec![
                object(&version, "ClusterRole", "", &cluster_role, json!({"rules": rules})),
                object(&version, "Role", &namespace, "reader", json!({"rules": rules})),
                binding("account", json!({"kind": "ServiceAccount", "name": "robot", "namespace": namespace})),
                binding("person", json!({"kind": "User", "name": "ann", "apiGroup": RBAC})),
            ],
        );
        let done = restore(&client, &namespace, &point, &Options::default()).await;
        assert_eq!((done.created, done.not_restored_count), (2, 2), "{done:?}");
        let told = done.not_restored.join("\n");
        assert!(
            told.contains("restore.allow.clusterRoles=Create") && told.contains("restore.allow.roles=Any"),
            "{told}"
        );

        let elsewhere = format!("{namespace}-b");
        let moved = restore(&client, &elsewhere, &point, &Options::default()).await;
        assert_eq!((moved.created, moved.not_restored_count), (0, 4), "{moved:?}");

        let policy = Policy { roles: Roles::Any, cluster_roles: Allow::Create, ..Policy::default() };
        let all = restore(&client, &elsewhere, &point, &Options { policy, ..Options::default() }).await;
        assert_eq!((all.created, all.not_restored_count), (4, 0), "{all:?}");
        let same = restore(&client, &elsewhere, &point, &Options::default()).await;
        assert_eq!((same.unchanged, same.not_restored_count), (4, 0), "what is there and the same is fine: {same:?}");
        api(&client, "", &version, "ClusterRole").delete(&cluster_role, &DeleteParams::default()).await.unwrap();
        let _ = Api::<Namespace>::all(client.clone()).delete(&elsewhere, &DeleteParams::default()).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn objects_say_what_fits_the_region_that_they_are_restored_into() {
    in_namespace("map", async |client, namespace| {
        let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "eu.example.com/shop/web:1"}, {"name": "d", "image": "nginx"}]}}});
        let rules = json!([{"host": "shop.eu.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]);
        let point = bundle(
            &namespace,
            vec![
                object("apps/v1", "Deployment", &namespace, "web", json!({"spec": spec})),
                object("networking.k8s.io/v1", "Ingress", &namespace, "web", json!({"spec": {"rules": rules}})),
                config(&namespace, "settings", json!({"host": "shop.eu.example.com"})),
                config(&namespace, "other", json!({})),
            ],
        );
        let rename = |from: &str, to: &str| vec![Rename { from: from.into(), to: to.into() }];
        let step = |op, path: &str, value| PatchStep { op, path: path.into(), from: None, value };
        let patch = |name: &str, step| ObjectPatch {
            select: ObjectSelector { kind: Some("ConfigMap".into()), name: Some(name.into()), ..ObjectSelector::default() },
            patch: vec![step],
        };
        let mappings = Mappings {
            images: rename("eu.example.com", "us.example.com/mirror"),
            hostnames: rename("eu.example.com", "us.example.com"),
            patches: vec![
                patch("sett*", step(PatchVerb::Replace, "/data/host", "patched".into())),
                patch("other", step(PatchVerb::Replace, "/data/none", "x".into())),
            ],
            ..Mappings::default()
        };
        let done = restore(&client, &namespace, &point, &Options { mappings, ..Options::default() }).await;
        assert_eq!((done.created, done.not_restored_count), (3, 1), "{done:?}");
        assert!(done.not_restored[0].starts_with("ConfigMap other: mappings.patches[1] does not fit"), "{done:?}");
        let web = api(&client, &namespace, "apps/v1", "Deployment").get("web").await.unwrap();
        let images = ["0", "1"].map(|it| web.data.pointer(&format!("/spec/template/spec/containers/{it}/image")).unwrap());
        assert_eq!(images, ["us.example.com/mirror/shop/web:1", "nginx"]);
        let ingress = api(&client, &namespace, "networking.k8s.io/v1", "Ingress").get("web").await.unwrap();
        assert_eq!(ingress.data["spec"]["rules"][0]["host"], "shop.us.example.com");
        let settings = api(&client, &namespace, "v1", "ConfigMap").get("settings").await.unwrap();
        assert_eq!(settings.data["data"]["host"], "patched");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn a_webhook_that_nothing_answers_is_told_before_and_comes_back_last() {
    in_namespace("webhook", async |client, namespace| {
        // It is asked about nothing but this test's own namespace.
        let only = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        let hook = json!({"name": "gate.restore-test.example", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": namespace, "name": "gate"}}, "namespaceSelector": only,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]});
        let version = "admissionregistration.k8s.io/v1";
        let webhook = object(version, "ValidatingWebhookConfiguration", "", &namespace, json!({"webhooks": [hook]}));
        let point = bundle(&namespace, vec![webhook, config(&namespace, "a", json!({}))]);
        let policy = Policy { webhooks: Allow::Create, ..Policy::default() };
        let options = Options { policy, ..Options::default() };
        let done = restore(&client, &namespace, &point, &options).await;
        assert_eq!((done.created, done.not_restored_count), (2, 0), "it came after what it would refuse: {done:?}");
        let next = restore(&client, &namespace, &bundle(&namespace, vec![config(&namespace, "b", json!({}))]), &options).await;
        assert_eq!(next.not_restored_count, 1, "{next:?}");
        assert!(next.warnings.iter().any(|it| it.contains(&format!("{namespace}/gate"))), "{next:?}");
        let hooks = api(&client, "", version, "ValidatingWebhookConfiguration");
        hooks.delete(&namespace, &DeleteParams::default()).await.unwrap();
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn only_what_is_asked_for_comes_back() {
    in_namespace("only", async |client, namespace| {
        let point = bundle(
            &namespace,
            vec![
                config(&namespace, "a-1", json!({})),
                config(&namespace, "a-2", json!({})),
                config(&namespace, "b", json!({})),
            ],
        );
        let only = vec![ObjectSelector { name: Some("a-*".into()), ..ObjectSelector::default() }];
        let done = restore(&client, &namespace, &point, &Options { only, ..Options::default() }).await;
        assert_eq!((done.created, done.not_restored_count), (2, 0), "{done:?}");
        assert!(api(&client, &namespace, "v1", "ConfigMap").get_opt("b").await.unwrap().is_none());
    })
    .await;
}
