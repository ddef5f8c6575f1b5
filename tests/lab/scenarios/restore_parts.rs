//! Restores of less than everything, and to elsewhere: single files in place, and the application into another namespace.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::ResourceExt;
use reprise::api::restore::Restore;
use serde_json::json;

use super::{
    restore::restore,
    stage::{SOON, Scene, TERMS, ask, point, reprise, serving},
};
use crate::harness::{
    app::App,
    lab::Region,
    wait::{Look, until},
};

/// What lies in the application's volume, seen from its pod.
fn sh(namespace: &str, region: &Region, script: &str) -> Result<String> {
    region.kubectl(&["exec", "-n", namespace, "notes-0", "--", "sh", "-c", script], None)
}

#[test]
fn single_files_come_back_and_the_application_appears_in_a_namespace_that_it_is_shared_with() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("parted", 30_104, TERMS)?;
    let elsewhere = App { name: "parted-drill", port: 30_104 };
    scene.namespace(elsewhere.name)?;
    for number in 1..=5 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    // As an operator marks the claims that are its own.
    let claim = "data-notes-0";
    scene.west.kubectl(&["label", "pvc", claim, "-n", app.name, "example.com/cluster=notes"], None)?;
    scene.west.kubectl(&["annotate", "pvc", claim, "-n", app.name, "example.com/serial=7"], None)?;
    sh(
        app.name,
        scene.west,
        "mkdir /data/conf && echo good > /data/conf/a.ini && echo good > /data/conf/b.txt && sync",
    )?;
    let good = point(&app, scene.west)?.id.context("a point that succeeded has an id")?;
    let damage = "echo 999 > /data/records; echo bad > /data/conf/a.ini; echo bad > /data/conf/b.txt; echo new > /data/conf/c.ini; sync";
    sh(app.name, scene.west, damage)?;

    let status =
        restore(&app, scene.west, &["--point", &good, "--volume", "data-notes-0:conf/*.ini", "--skip-safety-point"])?;
    ensure!(status.not_restored.is_empty() && status.restored_objects == Some(1), "its claim alone: {status:?}");
    marked(app.name, scene.west)?;
    serving(&app, scene.west)?;
    let files = sh(app.name, scene.west, "cat /data/conf/a.ini /data/conf/b.txt /data/conf/c.ini /data/records")?;
    ensure!(files == "good\nbad\nnew\n999\n", "only the named file is as in the point: {files}");

    scene.west.kubectl(&["create", "namespace", elsewhere.name], None)?;
    let words = ["restore", app.name, "--source-namespace", app.name, "--point", &good, "--wait", "--timeout", "2m"];
    let refused = reprise(&elsewhere, scene.west, &words)
        .map_or_else(|error| format!("{error:?}"), |it| format!("not refused: {it}"));
    ensure!(refused.contains("spec.sharedWith"), "{refused}");
    let shares = json!({"spec": {"sharedWith": [elsewhere.name]}}).to_string();
    let patch = ["patch", "papp", app.name, "-n", app.name, "--type=merge", "-p", &shares];
    scene.west.kubectl(&patch, None)?;
    let told = reprise(&elsewhere, scene.west, &[&words[..], &["-o", "json"]].concat())?;
    let status = serde_json::from_str::<Restore>(&told)?.status.context("a status")?;
    println!("{:?}", status.progress);
    let records = sh(elsewhere.name, scene.west, "cat /data/records")?;
    ensure!(records == "1\n2\n3\n4\n5\n", "{records}");
    marked(elsewhere.name, scene.west)?;
    let service: Service = scene.west.get(elsewhere.name, "notes")?.context("the Service came back")?;
    let ports = service.spec.and_then(|it| it.ports).unwrap_or_default();
    ensure!(ports.iter().all(|it| it.node_port != Some(30_104)), "the application keeps its port: {ports:?}");
    ensure!(app.records(scene.west)? == [999], "where it comes from nothing was touched");
    exported(&app, scene.west, &good)?;
    serving(&app, scene.west).map(|_| ())
}

/// The claim says of itself what it said.
fn marked(namespace: &str, region: &Region) -> Result<()> {
    let claim: PersistentVolumeClaim = region.get(namespace, "data-notes-0")?.context("the claim")?;
    let has = |all: &std::collections::BTreeMap<String, String>, key, value| all.get(key).is_some_and(|it| it == value);
    let whole =
        has(claim.labels(), "example.com/cluster", "notes") && has(claim.annotations(), "example.com/serial", "7");
    ensure!(whole, "the claim in {namespace} lost what it said: {:?}", claim.metadata);
    Ok(())
}

/// Files and objects of the point, in a volume of their own, beside the application that runs on.
fn exported(app: &App, region: &Region, point: &str) -> Result<()> {
    let words = ["restore", app.name, "--export", "look", "--point", point, "--wait", "--timeout", "2m"];
    reprise(app, region, &words)?;
    let script = "cat /look/volumes/data-notes-0/conf/b.txt && grep -q 'kind: StatefulSet' /look/objects/apps/StatefulSet/notes.yaml";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "look", "namespace": app.name},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "look", "image": "localhost/postgres:15", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script], "volumeMounts": [{"name": "look", "mountPath": "/look"}],
            }],
            "volumes": [{"name": "look", "persistentVolumeClaim": {"claimName": "look"}}],
        },
    });
    region.apply(&pod.to_string())?;
    until("the exported files being read", SOON, || {
        let pod: Pod = region.get(app.name, "look")?.context("the pod")?;
        let phase = pod.status.and_then(|it| it.phase).unwrap_or_default();
        ensure!(phase != "Failed", "{}", region.kubectl(&["logs", "-n", app.name, "look"], None)?);
        Ok(if phase == "Succeeded" { Look::Seen(()) } else { Look::NotYet(phase) })
    })?;
    let read = region.kubectl(&["logs", "-n", app.name, "look"], None)?;
    ensure!(read == "good\n", "{read}");
    region.kubectl(&["delete", "pod", "-n", app.name, "look", "--wait=false"], None).map(|_| ())
}
