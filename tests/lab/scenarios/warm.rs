//! A warm standby: its volumes are restored before the power goes, and the failover only hands them over.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use reprise::api::{
    application::{ProtectedApplicationStatus, Role, WarmStatus},
    failover::StepName,
};

use super::stage::{AUTOMATIC, SOON, Scene, Terms, WEST, ask, point};
use crate::harness::{app::App, lab::Region};

/// Wait until the region's volumes are as in that point.
fn kept_warm(app: &App, region: &Region, point: &str) -> Result<WarmStatus> {
    let equal = |it: &ProtectedApplicationStatus| {
        it.warm.as_ref().is_some_and(|it| it.round.is_none() && it.point.as_deref() == Some(point))
    };
    let status = app.await_status(region, &format!("{point} restored ahead"), SOON * 2, equal)?;
    let truth = status.conditions.iter().find(|it| it.type_ == "Warm").map(|it| it.status.as_str());
    ensure!(truth == Some("True"), "{:?}", status.conditions);
    status.warm.context("it was there")
}

#[test]
fn what_was_restored_ahead_is_only_handed_over() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("warm", 30_140, Terms { standby: "Warm", ..AUTOMATIC })?;
    let first = app.status(scene.west)?.last_point.context("a point")?.id;
    kept_warm(&app, scene.north, &first)?;
    for number in 1..=20 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    let second = point(&app, scene.west)?.id.context("a point has a name")?;
    let warm = kept_warm(&app, scene.north, &second)?;
    println!("restored ahead: {} bytes for {second}", warm.bytes);
    let claims: Vec<PersistentVolumeClaim> = scene.north.list(app.name)?;
    ensure!(claims.is_empty() && app.running(scene.north)? == (0, 0), "a standby has nothing in its namespace");

    scene.fault(&["power-loss", WEST])?;
    app.await_status(scene.north, "to serve", SOON * 2, |it| it.role == Some(Role::Active))?;
    let records = app.records(scene.north)?;
    ensure!(records == (1..=20).collect::<Vec<u64>>(), "{records:?}");
    let failovers = app.failovers(scene.north)?;
    let status = failovers.first().and_then(|it| it.status.as_ref()).context("a failover was made")?;
    let step = status.steps.iter().find(|it| it.name == StepName::RestoreVolumes).context("its step")?;
    let seconds = step.finished_at.as_ref().map(|it| it.0.as_second() - step.started_at.0.as_second());
    println!("RestoreVolumes: {seconds:?} s: {}", step.message);
    ensure!(step.message.contains("1 of them were restored ahead, and 0 bytes"), "{}", step.message);
    ensure!(seconds.is_some_and(|it| it <= 15), "{seconds:?} s are no last small step");
    app.await_status(scene.north, "nothing of it left over", SOON, |it| it.warm.is_none())?;

    // The region that lost its power comes back, saves what it has, and is kept warm in its turn.
    scene.mend()?;
    let back = app.await_status(scene.west, "its branch, and a point restored ahead", SOON * 3, |it| {
        it.role == Some(Role::Standby) && it.warm.as_ref().is_some_and(|it| it.point.is_some())
    })?;
    ensure!(back.fence.as_ref().is_some_and(|it| it.branch.is_some()), "{back:?}");
    Ok(())
}
