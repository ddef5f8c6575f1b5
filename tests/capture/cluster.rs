//! What a capture takes besides the namespace's own objects, and what of those it takes when not all are wanted.

use reprise::{
    api::application::{ObjectSelector, ObjectSettings},
    capture::bundle::{Named, Scope},
};

use super::*;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Applies objects of the cluster or of a namespace, whatever their order.
async fn apply_all(client: &Client, objects: &[Value]) {
    for object in objects {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", object["apiVersion"].as_str().unwrap()),
        };
        let of = kind(group, version, object["kind"].as_str().unwrap());
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &of),
            None => Api::all_with(client.clone(), &of),
        };
        let (name, force) = (object["metadata"]["name"].as_str().unwrap(), PatchParams::apply("test").force());
        if let Err(error) = api.patch(name, &force, &Patch::Apply(object)).await {
            panic!("{} {name}: {error}", of.kind);
        }
    }
}

/// Runs with objects of the cluster, and deletes them whatever becomes of it.
async fn with_cluster_objects(client: &Client, objects: &[Value], run: impl AsyncFnOnce()) {
    let result = AssertUnwindSafe(async {
        apply_all(client, objects).await;
        run().await;
    })
    .catch_unwind()
    .await;
    for object in objects {
        let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
        let of = kind(group, version, object["kind"].as_str().unwrap());
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &of);
        let _ = api.delete(object["metadata"]["name"].as_str().unwrap(), &DeleteParams::default()).await;
    }
    result.unwrap_or_else(|panic| resume_unwind(panic));
}

/// What the application in `namespace` needs of the cluster, by names that begin with `id`.
fn of_cluster(namespace: &str, id: &str) -> Vec<Value> {
    let group = format!("{id}.capture-test.example");
    let account = |namespace: &str| json!({"kind": "ServiceAccount", "name": "web", "namespace": namespace});
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    let role = |name: &str, labels: Value| {
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": {"name": format!("{id}-{name}"), "labels": labels}, "rules": rules})
    };
    let binding = |name: &str, role: &str, subjects: Value| {
        json!({"apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding", "metadata": {"name": format!("{id}-{name}")}, "subjects": subjects,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": format!("{id}-{role}")}})
    };
    let mut sum = role("sum", json!({}));
    sum["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"part-of": id}}]});
    sum.as_object_mut().unwrap().remove("rules");
    vec![
        role("reader", json!({})),
        sum,
        role("part", json!({"part-of": id})),
        role("foreign", json!({})),
        binding("reader", "reader", json!([account(namespace), account("elsewhere")])),
        binding("sum", "sum", json!([account(namespace)])),
        binding("foreign", "foreign", json!([account("elsewhere")])),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": format!("{id}-gold")}, "value": 7}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": format!("{id}-hook")}, "webhooks": [{"name": format!("hook.{group}"),
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
                "clientConfig": {"service": {"namespace": namespace, "name": "hook"}},
                "rules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["*"]}]}]}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("gadgets.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Gadget", "plural": "gadgets"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}),
    ]
}

/// The application's own objects that refer to those.
fn of_namespace(namespace: &str, id: &str) -> Vec<Value> {
    let meta = |name: &str| json!({"name": name, "namespace": namespace});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("web")}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"), "spec": {"replicas": 0,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"priorityClassName": format!("{id}-gold"), "serviceAccountName": "web",
                    "containers": [{"name": "main", "image": "localhost/pause:lab"}]}}}}),
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": meta("viewer"),
            "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": namespace}],
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("web"), "spec": {"ingressClassName": "some-class",
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
    ]
}

/// The objects of the cluster in a bundle, as kind and name.
fn cluster_names(captured: &Captured) -> Vec<String> {
    let mut names = Vec::new();
    let visit = |Object { id, .. }: Object| {
        names.push(format!("{} {}", id.kind, id.name));
        ControlFlow::Continue(())
    };
    captured.bundle.visit(|id| id.scope() == Scope::Cluster, visit).unwrap();
    names
}

async fn capture_with(client: &Client, namespace: &str, settings: ObjectSettings) -> Captured {
    let captured = collect::capture(client, namespace, &Selection::new(&settings), Limits::default()).await.unwrap();
    let failed: Vec<_> = captured.failed.iter().filter(|it| !it.contains("capture-test.example")).collect();
    assert_eq!(failed, [] as [&str; 0]);
    captured
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn objects_of_the_cluster_that_the_application_needs_are_captured_with_it() {
    in_namespaces("cluster", async |client, [namespace]| {
        let id = format!("t{}", ulid::Ulid::generate().to_string().to_lowercase());
        make(&client, &namespace, json!({})).await;
        with_cluster_objects(&client, &of_cluster(&namespace, &id), async || {
            apply_all(&client, &of_namespace(&namespace, &id)).await;
            let group = format!("{id}.capture-test.example");
            let gadgets = api(&client, &namespace, (&group, "v1", "Gadget"));
            until("gadgets are served", async || gadgets.list(&ListParams::default()).await.is_ok()).await;
            let gadget = json!({"apiVersion": format!("{group}/v1"), "kind": "Gadget", "metadata": {"name": "one"}});
            gadgets.create(&PostParams::default(), &serde_json::from_value(gadget).unwrap()).await.unwrap();
            let mut point = captured(&client, &namespace).await;
            until("discovery tells of gadgets", async || {
                point = captured(&client, &namespace).await;
                recorded(&point.bundle).contains_key(&format!("{group}/Gadget/one"))
            })
            .await;
            let expected = [
                format!("ValidatingWebhookConfiguration {id}-hook"),
                format!("CustomResourceDefinition gadgets.{group}"),
                format!("ClusterRole {id}-part"),
                format!("ClusterRole {id}-reader"),
                format!("ClusterRole {id}-sum"),
                format!("ClusterRoleBinding {id}-reader"),
                format!("ClusterRoleBinding {id}-sum"),
                format!("PriorityClass {id}-gold"),
            ];
            assert_eq!(cluster_names(&point), expected);
            assert_eq!(point.of_cluster, 8);
            let all = recorded(&point.bundle);
            let subjects = all[&format!("{RBAC}/ClusterRoleBinding/{id}-reader")]["subjects"].as_array().unwrap();
            assert_eq!((subjects.len(), subjects[0]["namespace"].as_str()), (1, Some(namespace.as_str())));
            assert_eq!(all[&format!("{RBAC}/ClusterRole/{id}-sum")].get("rules"), None, "a controller fills it");
            let definition = &all[&format!("apiextensions.k8s.io/CustomResourceDefinition/gadgets.{group}")];
            assert!(definition.get("status").is_none() && definition["spec"]["versions"][0]["served"] == true);
            let named = |group: &str, kind: &str, name: &str| Named {
                group: group.into(),
                kind: kind.into(),
                name: name.into(),
            };
            let (class, view) =
                (named("networking.k8s.io", "IngressClass", "some-class"), named(RBAC, "ClusterRole", "view"));
            assert_eq!(point.bundle.index().unwrap().named, [class, view.clone()]);
            assert_same(&point, &captured(&client, &namespace).await);

            let settings = ObjectSettings { cluster_scoped: false, ..ObjectSettings::default() };
            let without = capture_with(&client, &namespace, settings).await;
            assert_eq!((cluster_names(&without), without.count), (vec![], point.count));
            let named = without.bundle.index().unwrap().named;
            assert!(named.contains(&view) && named.iter().any(|it| it.name == format!("{id}-gold")), "{named:?}");
        })
        .await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster for tests"]
async fn labels_select_objects_and_what_these_cannot_do_without() {
    in_namespaces("labels", async |client, [namespace]| {
        make(&client, &namespace, json!({})).await;
        let meta = |name: &str| json!({"name": name, "namespace": namespace});
        let chosen = |name: &str| json!({"name": name, "namespace": namespace, "labels": {"part": "web"}});
        let plain = |kind: &str, meta: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": meta});
        let role = |name: &str| json!({"apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": meta(name), "rules": []});
        let binding = |name: &str, account: &str| json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
            "metadata": meta(name), "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}});
        let mut account = plain("ServiceAccount", meta("web"));
        account["imagePullSecrets"] = json!([{"name": "registry"}]);
        let objects = [
            plain("ConfigMap", chosen("chosen")), plain("ConfigMap", meta("settings")), plain("ConfigMap", meta("other")),
            plain("Secret", meta("registry")), plain("Secret", meta("other")), account,
            plain("ServiceAccount", meta("other")), role("reader"), role("other"), binding("reader", "web"), binding("other", "other"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": chosen("web"), "spec": {"replicas": 0,
                "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"serviceAccountName": "web", "containers": [{"name": "main", "image": "localhost/pause:lab",
                        "envFrom": [{"configMapRef": {"name": "settings"}}]}]}}}}),
        ];
        apply_all(&client, &objects).await;
        let selector = ObjectSelector { match_labels: [("part".into(), "web".into())].into(), ..ObjectSelector::default() };
        let settings = ObjectSettings { selector: Some(selector), ..ObjectSettings::default() };
        let names = |it: &Captured| recorded(&it.bundle).into_keys().collect::<Vec<_>>();
        let selected = capture_with(&client, &namespace, settings.clone()).await;
        let roles = [format!("{RBAC}/Role/reader"), format!("{RBAC}/RoleBinding/reader")];
        let [role, binding] = roles.each_ref().map(String::as_str);
        let expected =
            ["/ConfigMap/chosen", "/ConfigMap/settings", "/Secret/registry", "/ServiceAccount/web", "apps/Deployment/web", role, binding];
        assert_eq!(names(&selected), expected);
        assert_eq!(selected.left_out["Secret: not selected by its labels"], 1);

        let exclude_kinds = vec!["Secret".to_owned(), format!("Role.{RBAC}")];
        let fewer = capture_with(&client, &namespace, ObjectSettings { exclude_kinds, ..settings }).await;
        assert_eq!(names(&fewer).len(), expected.len() - 2, "{:?}", names(&fewer));

        let include_kinds = vec!["ConfigMap".to_owned(), "Deploiment.apps".to_owned()];
        let only = ObjectSettings { include_kinds, ..ObjectSettings::default() };
        let only = collect::capture(&client, &namespace, &Selection::new(&only), Limits::default()).await.unwrap();
        assert_eq!(names(&only), ["/ConfigMap/chosen", "/ConfigMap/other", "/ConfigMap/settings"]);
        let misspelt = only.failed.iter().filter(|it| it.starts_with("Deploiment.apps: ")).count();
        assert_eq!(misspelt, 1, "{:?}", only.failed);
    })
    .await;
}
