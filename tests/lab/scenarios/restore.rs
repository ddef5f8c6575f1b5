//! A `Restore` in place: what was damaged is as it was, also when the operator goes away meanwhile, and it can be undone.

use std::thread;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim},
};
use kube::ResourceExt;
use reprise::api::restore::{Restore, RestoreStatus, RestoreStepName};
use serde_json::json;

use super::{
    leader::leader,
    stage::{SOON, Scene, TERMS, ask, point, reprise, serving, stays},
};
use crate::harness::{
    app::App,
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

/// The claim of the application's volume.
const VOLUME: &str = "data-notes-0";

/// Restores, and returns what the operator wrote of it.
pub fn restore(app: &App, region: &Region, words: &[&str]) -> Result<RestoreStatus> {
    let command = [&["restore", app.name, "--wait", "--timeout", "2m", "-o", "json"], words].concat();
    let ended = reprise(app, region, &command)?;
    let ended: Restore = serde_json::from_str(&ended).with_context(|| format!("read the restore: {ended}"))?;
    let status = ended.status.context("a restore that ended has a status")?;
    for step in &status.steps {
        let took = step.finished_at.as_ref().map(|it| it.0.duration_since(step.started_at.0).as_secs());
        println!("{:?}: {took:?} s  {}", step.name, step.message);
    }
    Ok(status)
}

/// A setting of the application, outside its volume.
fn set(app: &App, region: &Region, colour: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": app.name},
        "data": {"colour": colour},
    });
    region.apply(&object.to_string())
}

fn setting(app: &App, region: &Region) -> Result<String> {
    let object: Option<ConfigMap> = region.get(app.name, "settings")?;
    object.and_then(|it| it.data?.remove("colour")).context("the ConfigMap settings with a colour")
}

/// The file with the records is replaced by one with another record, and a directory comes to be beside it.
fn damage(app: &App, region: &Region) -> Result<()> {
    let script = "rm /data/records && echo 999 > /data/records && mkdir /data/strange && sync";
    region.kubectl(&["exec", "-n", app.name, "notes-0", "--", "sh", "-c", script], None).map(|_| ())
}

/// Deletes the operator's pod that leads, once the volumes are being restored.
fn lose_operator(app: &App, region: &Region) -> Result<()> {
    until("the volumes being restored", SOON, || {
        let all: Vec<Restore> = region.list(app.name)?;
        let step = all.iter().filter(|it| !it.spec.dry_run).find_map(|it| it.status.as_ref()?.step);
        let there = step >= Some(RestoreStepName::RestoreVolumes);
        Ok(if there { Look::Seen(()) } else { Look::NotYet(format!("{step:?}")) })
    })?;
    let pod = leader(region)?;
    region.kubectl(&["delete", "pod", "-n", NAMESPACE, &pod, "--wait=false"], None).map(|_| ())
}

/// A restore is cancelled while it has the volume in its hands: the claim has it back, and nothing runs on it.
fn cancelled(app: &App, region: &Region, point: &str) -> Result<()> {
    let made = reprise(app, region, &["restore", app.name, "--point", point, "--skip-safety-point", "-o", "json"])?;
    let name = serde_json::from_str::<Restore>(&made)?.metadata.name.context("a name")?;
    until("a mover of its volume", SOON, || {
        let it: Restore = region.get(app.name, &name)?.context("the restore")?;
        let step = it.status.and_then(|it| it.step);
        Ok(if movers(app, region, &name)?.is_empty() { Look::NotYet(format!("{step:?}")) } else { Look::Seen(()) })
    })?;
    let told = reprise(app, region, &["restore", "--cancel", &name, "--wait", "--timeout", "2m", "-o", "json"])?;
    let status = serde_json::from_str::<Restore>(&told)?.status.context("a status")?;
    let ended = status.conditions.iter().find(|it| it.type_ == "Succeeded").context("a condition")?;
    println!("{}: {}", ended.reason, ended.message);
    ensure!(ended.reason == "Cancelled" && ended.message.contains(&format!("volume {VOLUME}")), "{ended:?}");
    let claim: PersistentVolumeClaim = region.get(app.name, VOLUME)?.context("the claim is there")?;
    ensure!(claim.status.and_then(|it| it.phase).as_deref() == Some("Bound"), "the volume was given back");
    let left = movers(app, region, &name)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// The Jobs of a run, which have volumes in their hands. Those of the run before may not be gone yet.
fn movers(app: &App, region: &Region, restore: &str) -> Result<Vec<Job>> {
    let (mut all, run): (Vec<Job>, _) = (region.list(NAMESPACE)?, format!("{}/{restore}", app.name));
    all.retain(|it| it.annotations().get("reprise.dev/for") == Some(&run));
    Ok(all)
}

#[test]
fn what_was_damaged_comes_back_in_place_and_the_restore_can_be_undone() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("restored", 30_103, TERMS)?;
    for number in 1..=20 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    set(&app, scene.west, "green")?;
    let good = point(&app, scene.west)?.id.context("a point that succeeded has an id")?;
    damage(&app, scene.west)?;
    set(&app, scene.west, "red")?;
    ensure!(app.records(scene.west)? == [999], "the records are damaged");

    let planned = restore(&app, scene.west, &["--point", &good, "--dry-run"])?;
    let plan = planned.plan.context("a dry run has a plan")?;
    println!("{plan:?}");
    ensure!(plan.changes.iter().any(|it| it.starts_with("ConfigMap settings: would be changed: data.")), "{plan:?}");
    ensure!(plan.volumes.len() == 1 && plan.volumes[0].claim == VOLUME && plan.volumes[0].files == 1, "{plan:?}");
    ensure!(app.records(scene.west)? == [999] && setting(&app, scene.west)? == "red", "a dry run changes nothing");

    let status = thread::scope(|scope| {
        let losing = scope.spawn(|| lose_operator(&app, scene.west));
        let status = restore(&app, scene.west, &["--point", &good]);
        losing.join().expect("it does not panic")?;
        status
    })?;
    let records = app.records(scene.west)?;
    ensure!(records == (1..=20).collect::<Vec<u64>>(), "{records:?}");
    ensure!(setting(&app, scene.west)? == "green", "the objects are as they were");
    ensure!(status.point.as_deref() == Some(good.as_str()), "{status:?}");
    ensure!(status.steps.iter().all(|it| it.finished_at.is_some()), "{status:?}");
    let listing = ["exec", "-n", app.name, "notes-0", "--", "ls", "/data"];
    let files = scene.west.kubectl(&listing, None)?;
    ensure!(!files.contains("strange"), "what the point does not have is gone: {files}");

    let before = status.safety_point_id.context("what was there was saved first")?;
    cancelled(&app, scene.west, &good)?;
    let status = restore(&app, scene.west, &["--point", &before, "--volume", VOLUME])?;
    let records = app.records(scene.west)?;
    ensure!(records == [999], "what was there before is back: {records:?}");
    ensure!(setting(&app, scene.west)? == "green", "only the volume was named");
    ensure!(status.restored_objects == Some(1), "its claim: {status:?}");
    ask("POST", &app, scene.west, "/records/21")?;
    serving(&app, scene.west)?;
    stays(&app, &scene, scene.west)
}
