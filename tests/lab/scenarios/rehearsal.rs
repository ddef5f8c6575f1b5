//! Rehearsals: a point is restored into a namespace of its own, asked, noted as `L3`, and nothing of it is left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    core::v1::{Namespace, PersistentVolume, Service},
    networking::v1::NetworkPolicy,
};
use kube::ResourceExt;
use reprise::{
    api::{
        recovery_point::{Level, RecoveryPoint},
        restore::{Restore, RestoreStatus, RestoreStepName},
    },
    core::child::RUN,
};

use super::{
    leader::leader,
    stage::{SOON, Scene, TERMS, ask, point, reprise, serving},
};
use crate::harness::{
    app::App,
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

/// How long a whole one may take.
const WHOLE: Duration = Duration::from_mins(4);

fn begun(app: &App, region: &Region) -> Result<String> {
    let made = reprise(app, region, &["restore", app.name, "--rehearse", "-o", "json"])?;
    serde_json::from_str::<Restore>(&made)?.metadata.name.context("a name")
}

fn at(app: &App, region: &Region, name: &str, step: RestoreStepName) -> Result<RestoreStatus> {
    until(&format!("{step:?} of {name}"), SOON, || {
        let it: Restore = region.get(app.name, name)?.context("the rehearsal")?;
        let status = it.status.unwrap_or_default();
        let told = format!("{:?}", status.steps.last());
        Ok(if status.step >= Some(step) { Look::Seen(status) } else { Look::NotYet(told) })
    })
}

fn ended(app: &App, region: &Region, name: &str) -> Result<(String, RestoreStatus)> {
    let ended = until(&format!("the end of {name}"), WHOLE, || {
        let it: Restore = region.get(app.name, name)?.context("the rehearsal")?;
        let status = it.status.unwrap_or_default();
        let told = status.conditions.iter().find(|it| it.type_ == "Succeeded").cloned();
        let over = told.as_ref().filter(|it| it.status != "Unknown").map(|it| it.reason.clone());
        Ok(over.map_or_else(|| Look::NotYet(format!("{told:?}")), |reason| Look::Seen((reason, status.clone()))))
    })?;
    for step in &ended.1.steps {
        println!("{:?}: {}", step.name, step.message);
    }
    Ok(ended)
}

/// Nothing is left of it: no namespace, no volume.
fn nothing_left(app: &App, region: &Region, name: &str) -> Result<()> {
    let it: Restore = region.get(app.name, name)?.context("the rehearsal")?;
    let (uid, status) = (it.uid().unwrap_or_default(), it.status.unwrap_or_default());
    let space = status.rehearsal.context("where it took place")?.namespace;
    until("all of it to go", SOON, || {
        let there: Option<Namespace> = region.get("", &space)?;
        let volumes: Vec<PersistentVolume> = region.list("")?;
        let of_it = |it: &&PersistentVolume| it.labels().get(RUN) == Some(&uid);
        let left: Vec<String> = volumes.iter().filter(of_it).map(ResourceExt::name_any).collect();
        let gone = there.is_none() && left.is_empty();
        Ok(if gone { Look::Seen(()) } else { Look::NotYet(format!("{} {left:?}", there.is_some())) })
    })
}

#[test]
fn a_point_is_rehearsed_on_a_standby_noted_and_nothing_is_left() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("rehearsed", 30_134, TERMS)?;
    ask("POST", &app, scene.west, "/records/1")?;
    let id = point(&app, scene.west)?.id.context("a point has an id")?;
    let name = begun(&app, scene.north)?;
    let space = at(&app, scene.north, &name, RestoreStepName::RestoreVolumes)?.rehearsal.context("where")?.namespace;
    let policies: Vec<NetworkPolicy> = scene.north.list(&space)?;
    ensure!(policies.len() == 1, "{policies:?}");
    at(&app, scene.north, &name, RestoreStepName::AwaitReady)?;
    let service: Option<Service> = scene.north.get(&space, "notes")?;
    let kind = service.and_then(|it| it.spec?.type_);
    ensure!(kind.as_deref() == Some("ClusterIP"), "the Service is of type {kind:?}");
    let (reason, status) = ended(&app, scene.north, &name)?;
    ensure!((reason.as_str(), status.point.as_ref()) == ("Rehearsed", Some(&id)), "{status:?}");
    let rehearsal = status.rehearsal.context("how it went")?;
    ensure!(rehearsal.answered == ["front"] && rehearsal.restore_seconds.is_some(), "{rehearsal:?}");
    nothing_left(&app, scene.north, &name)?;
    until("L3 of the point", SOON, || {
        let all: Vec<RecoveryPoint> = scene.north.list(app.name)?;
        let status = all.into_iter().filter_map(|it| it.status).find(|it| it.id.as_ref() == Some(&id));
        let told = status.and_then(|it| it.verification);
        let there = told.as_ref().is_some_and(|it| it.level == Level::L3 && it.restore_seconds.is_some());
        Ok(if there { Look::Seen(()) } else { Look::NotYet(format!("{told:?}")) })
    })?;
    ensure!(reprise(&app, scene.north, &["points", app.name])?.contains("L3, "), "points tells the level");
    serving(&app, scene.west)?;
    ensure!(app.records(scene.west)? == [1], "the application was not touched");
    Ok(())
}

#[test]
fn a_rehearsal_beside_the_application_survives_its_operator_and_one_that_is_cancelled_is_removed() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("rehearsed-here", 30_135, TERMS)?;
    point(&app, scene.west)?;
    let name = begun(&app, scene.west)?;
    at(&app, scene.west, &name, RestoreStepName::RestoreVolumes)?;
    let pod = leader(scene.west)?;
    scene.west.kubectl(&["delete", "pod", "-n", NAMESPACE, &pod, "--wait=false"], None)?;
    let (reason, status) = ended(&app, scene.west, &name)?;
    ensure!(reason == "Rehearsed", "{status:?}");
    nothing_left(&app, scene.west, &name)?;
    let name = begun(&app, scene.west)?;
    at(&app, scene.west, &name, RestoreStepName::RestoreVolumes)?;
    reprise(&app, scene.west, &["restore", "--cancel", &name])?;
    let (reason, status) = ended(&app, scene.west, &name)?;
    ensure!(reason == "RehearsalFailed" && status.rehearsal.is_some(), "{status:?}");
    nothing_left(&app, scene.west, &name)?;
    serving(&app, scene.west).map(|_| ())
}
