//! Points beyond the region that made them: shown on the standby, read back, noted for every region.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use reprise::{
    api::recovery_point::{Level, Purpose, RecoveryPoint},
    core::{application::scrub::SCRUB_JOB, child::CLAIM},
};
use serde_json::json;

use super::stage::{SOON, Scene, TERMS, ask, point};
use crate::harness::{
    app::App,
    lab::Region,
    product,
    wait::{Look, until},
};

/// A standby asks once a minute.
const A_MINUTE: Duration = Duration::from_secs(75);

/// Wait until a region shows a point that another one made.
fn shown(app: &App, region: &Region, id: &str) -> Result<RecoveryPoint> {
    until(&format!("{id} in {}", region.name), A_MINUTE, || {
        let all: Vec<RecoveryPoint> = region.list(app.name)?;
        let of_this = |it: &&RecoveryPoint| it.status.as_ref().is_some_and(|it| it.id.as_deref() == Some(id));
        let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        Ok(all.iter().find(of_this).cloned().map_or_else(|| Look::NotYet(format!("{names:?}")), Look::Seen))
    })
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

    // A round is due in a day: what the operator writes down when one begins is written for it.
    let begun = json!({"status": {"scrub": {
        "part": 0, "parts": 1, "startedAt": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "damagedPacks": 0, "damagedPoints": 0, "unreadable": false,
    }}});
    let patch = begun.to_string();
    let words = ["patch", "papp", app.name, "-n", app.name, "--subresource=status", "--type=merge", "-p", &patch];
    scene.west.kubectl(&words, None)?;
    let read = app.await_status(scene.west, "a share of the repository read back", SOON, |it| {
        it.scrub.as_ref().is_some_and(|it| it.finished_at.is_some())
    })?;
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
