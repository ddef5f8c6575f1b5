//! Points beyond the region that made them: shown on the standby, read back, noted for every region.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use reprise::{
    api::{
        application::ProtectedApplicationStatus,
        recovery_point::{Level, Purpose, RecoveryPoint},
    },
    core::{application::scrub::SCRUB_JOB, child::CLAIM},
};
use serde_json::json;

use super::stage::{SOON, Scene, TERMS, ask, point, reprise};
use crate::harness::{
    app::App,
    command::run,
    file,
    lab::{Region, inside},
    product,
    wait::{Look, until},
};

/// A standby asks once a minute.
const A_MINUTE: Duration = Duration::from_secs(75);
/// What was found out is asked for every five minutes.
const ASKED: Duration = Duration::from_secs(330);

/// Wait until a region shows a point that another one made.
fn shown(app: &App, region: &Region, id: &str) -> Result<RecoveryPoint> {
    until(&format!("{id} in {}", region.name), A_MINUTE, || {
        let all: Vec<RecoveryPoint> = region.list(app.name)?;
        let of_this = |it: &&RecoveryPoint| it.status.as_ref().is_some_and(|it| it.id.as_deref() == Some(id));
        let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        Ok(all.iter().find(of_this).cloned().map_or_else(|| Look::NotYet(format!("{names:?}")), Look::Seen))
    })
}

/// Has all packs read back. A round is due in a day: what the operator writes down when one begins is written for it.
fn round(app: &App, region: &Region) -> Result<ProtectedApplicationStatus> {
    let begun = json!({"status": {"scrub": {
        "part": 0, "parts": 1, "startedAt": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "finishedAt": null, "damagedPacks": 0, "damagedPoints": 0, "unreadable": false,
    }}});
    let patch = begun.to_string();
    let words = ["patch", "papp", app.name, "-n", app.name, "--subresource=status", "--type=merge", "-p", &patch];
    region.kubectl(&words, None)?;
    app.await_status(region, "a share of the repository read back", SOON, |it| {
        it.scrub.as_ref().is_some_and(|it| it.finished_at.is_some())
    })
}

/// Removes the application's objects from the bucket, as somebody with its credentials could.
fn lose_objects(scene: &Scene, app: &App) -> Result<()> {
    let env = &scene.lab.env;
    let prefix = scene.shared.lines().find_map(|it| it.trim().strip_prefix("prefix: ")).context("no prefix")?;
    let mut command = inside("hub");
    command.extend(["python3".to_owned(), file("tests/lab/lib/thief.py").to_string_lossy().into_owned()]);
    for name in ["LAB_S3_ENDPOINT", "LAB_S3_ACCESS_KEY", "LAB_S3_SECRET_KEY", "LAB_S3_BUCKET"] {
        command.push(env[name].clone());
    }
    command.push(format!("{prefix}/apps/{0}/{0}/manifests/", app.name));
    let said = run(Duration::from_mins(1), &command, None)?;
    ensure!(!said.starts_with("0 "), "nothing was removed: {said}");
    Ok(())
}

/// Wait until the point says so of itself.
fn verified(app: &App, region: &Region, id: &str, truth: &str, within: Duration) -> Result<()> {
    until(&format!("Verified {truth} of {id} in {}", region.name), within, || {
        let all: Vec<RecoveryPoint> = region.list(app.name)?;
        let status = all.into_iter().filter_map(|it| it.status).find(|it| it.id.as_deref() == Some(id));
        let told = status.and_then(|it| it.conditions.into_iter().find(|it| it.type_ == "Verified"));
        let there = told.as_ref().is_some_and(|it| it.status == truth);
        Ok(if there { Look::Seen(()) } else { Look::NotYet(format!("{told:?}")) })
    })
}

#[test]
fn a_point_that_lost_its_objects_is_told_in_both_regions_does_not_count_and_counts_again_once_it_is_whole() -> Result<()>
{
    let scene = Scene::begin()?;
    let app = scene.notes("spoiled", 30_136, TERMS)?;
    let made = point(&app, scene.west)?;
    let id = made.id.context("a point has an id")?;
    shown(&app, scene.north, &id)?;
    lose_objects(&scene, &app)?;
    let application = format!("{0}/{0}", app.name);
    let check = ["vault", "check", "main", "--application", &application, "--read"];
    ensure!(reprise(&app, scene.west, &check).is_err(), "the check finds nothing");
    round(&app, scene.west)?;
    verified(&app, scene.west, &id, "False", SOON)?;
    // An operator that starts asks at once.
    if !env::var("LAB_LONG").is_ok_and(|it| it == "1") {
        product::kill_operators(scene.north)?;
    }
    verified(&app, scene.north, &id, "False", ASKED)?;
    let last = app.await_status(scene.west, "no damaged point to count", SOON, |it| {
        it.last_point.as_ref().is_none_or(|it| it.id != id)
    })?;
    println!("the newest that counts is {:?}", last.last_point.map(|it| it.id));
    // The next point has the same objects, and stores them again.
    point(&app, scene.west)?;
    round(&app, scene.west)?;
    verified(&app, scene.west, &id, "True", SOON)?;
    reprise(&app, scene.west, &check).map(|_| ())
}

#[test]
fn a_standby_shows_a_point_within_a_minute_and_a_share_is_read_back_by_a_job() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("points", 30_119, TERMS)?;
    ask("POST", &app, scene.west, "/records/1")?;
    let made = point(&app, scene.west)?;
    let id = made.id.clone().context("a point has an id")?;
    let entered = Instant::now();
    let there = shown(&app, scene.north, &id)?;
    println!("shown after {} s", entered.elapsed().as_secs());
    let status = there.status.context("it was read")?;
    ensure!(there.spec.purpose == Purpose::Imported, "{:?}", there.spec);
    ensure!(status.region.as_deref() == Some(scene.west.name.as_str()), "{:?}", status.region);
    ensure!(status.consistent_at == made.consistent_at, "{:?} and {:?}", status.consistent_at, made.consistent_at);
    ensure!(status.verification.as_ref().is_some_and(|it| it.level == Level::L1), "{:?}", status.verification);

    let read = round(&app, scene.west)?;
    let scrub = read.scrub.context("it was waited for")?;
    ensure!((scrub.failure.as_deref(), scrub.damaged_packs) == (None, 0), "{scrub:?}");
    ensure!(scrub.packs_read.is_some_and(|it| it > 0), "{scrub:?}");
    let sound = read.conditions.iter().find(|it| it.type_ == "RepositorySound");
    ensure!(sound.is_none_or(|it| it.status == "True"), "{sound:?}");
    until("the Job to go", SOON, || {
        let jobs: Vec<Job> = scene.west.list(product::NAMESPACE)?;
        let of_this = |it: &&Job| it.annotations().get(CLAIM).is_some_and(|it| it == SCRUB_JOB);
        Ok(jobs.iter().find(of_this).map_or(Look::Seen(()), |it| Look::NotYet(it.name_any())))
    })
}
