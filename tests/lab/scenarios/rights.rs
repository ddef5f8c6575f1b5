//! Whoever writes a `ProtectedApplication` or a `Restore` needs the rights that they would use through it.

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};

use super::stage::{Scene, TERMS, document};
use crate::harness::{app::App, lab::Region};

const USER: &str = "tenant";

/// What the API server answers when that user applies it: nothing is written.
fn applied(region: &Region, object: &Value) -> Result<String> {
    let words = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--as", USER, "-f", "-"];
    region.kubectl(&words, Some(&object.to_string()))
}

/// The object, with something in its spec.
fn with(object: &Value, spec: &Value) -> Value {
    let mut object = object.clone();
    merge(&mut object["spec"], spec);
    object
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn allow(region: &Region, namespace: &str, rules: &Value) -> Result<()> {
    let of = json!({"name": USER, "namespace": namespace});
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": of, "rules": rules});
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": of,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": USER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    });
    region.apply(&role.to_string())?;
    region.apply(&binding.to_string())
}

#[test]
fn what_the_operator_would_do_for_somebody_they_must_be_allowed_to_do_themselves() -> Result<()> {
    let scene = Scene::begin()?;
    let (app, region) = (App { name: "tenant", port: 30_091 }, scene.west);
    scene.namespace(app.name)?;
    region.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app.name}}).to_string())?;
    let ours = json!({
        "apiGroups": ["reprise.dev"], "resources": ["protectedapplications", "restores"], "verbs": ["*"],
    });
    allow(region, app.name, &json!([ours]))?;
    let documents = document("protection.yaml", app, TERMS)?;
    let (_, text) = documents.split_once("---").ok_or_else(|| anyhow!("the second document is the application"))?;
    let application: Value = serde_yaml::from_str(text)?;
    let restore = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Restore", "spec": {"application": "tenant"},
        "metadata": {"name": "once", "namespace": app.name},
    });
    applied(region, &application)?;
    applied(region, &restore)?;
    applied(region, &with(&restore, &json!({"mappings": {"hostnames": [{"from": "a.test", "to": "b.test"}]}})))?;

    let pods = json!({"matchLabels": {"app": "notes"}});
    let dump = json!({"name": "all", "pods": pods, "dump": ["cat", "/data/records"], "load": ["cat"]});
    let hook = json!({"name": "still", "pods": pods, "before": ["true"], "after": ["true"]});
    let patch = json!([{
        "select": {"kind": "StatefulSet"},
        "patch": [{"op": "add", "path": "/spec/template/spec/hostPID", "value": true}],
    }]);
    let into = json!({"pods": pods, "load": ["sh"]});
    let exec = "the verb create on pods/exec";
    let refused = [
        (&application, json!({"backup": {"dumps": [dump]}}), exec),
        (&application, json!({"backup": {"hooks": {"commands": [hook]}}}), exec),
        (&application, json!({"sharedWith": ["elsewhere"]}), "the verb get on secrets"),
        (&restore, json!({"only": {"dumps": [{"name": "all", "into": into}]}}), exec),
        (&restore, json!({"mappings": {"patches": patch}}), "the verb create on pods"),
        (&restore, json!({"mappings": {"images": [{"from": "a", "to": "b"}]}}), "the verb create on pods"),
        (&restore, json!({"export": {"claim": "all"}}), "the verb get on secrets"),
    ];
    let mut wrong = Vec::new();
    for (object, spec, words) in &refused {
        match applied(region, &with(object, spec)) {
            Ok(_) => wrong.push(format!("{spec} is accepted")),
            Err(error) if format!("{error:#}").contains(words) => {}
            Err(error) => wrong.push(format!("{spec}: {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What somebody else was allowed to set does not keep them from changing the rest.
    let dumped = with(&application, &json!({"backup": {"dumps": [dump]}}));
    region.apply(&dumped.to_string())?;
    applied(region, &with(&dumped, &json!({"objectives": {"rto": "10m"}})))?;

    let more = [
        json!({"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["create"]}),
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
    ];
    allow(region, app.name, &json!([ours, more[0], more[1]]))?;
    for (object, spec, _) in &refused {
        applied(region, &with(object, spec))?;
    }
    Ok(())
}
