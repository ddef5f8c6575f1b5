//! The vault, or the way to it, is away while the application is well: nothing is stopped and nothing is moved, unless
//! `Strict` asks for it.

use std::{env, thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use reprise::api::application::Role;

use super::stage::{AUTOMATIC, NORTH, SOON, Scene, TERMS, Terms, WEST, ask, throughout};
use crate::{
    client,
    harness::{
        app::App,
        wait::{Look, until},
    },
};

/// While those faults last, and after them: the same pods of the west acknowledge what is written, and nobody makes a
/// failover.
fn nothing_happens(scene: &Scene, app: App, faults: &[&[&str]], long: Duration) -> Result<()> {
    let running = app.pods(scene.west)?;
    let writer = scene.writer(app)?;
    sleep(Duration::from_secs(3));
    for fault in faults {
        scene.fault(fault)?;
    }
    // A region that is cut off is asked afterwards: its objects stay.
    sleep(long);
    scene.mend()?;
    app.await_status(scene.west, "an active application with its claim proven", SOON, |it| {
        it.role == Some(Role::Active) && it.conditions.iter().any(|it| it.type_ == "ClaimSound" && it.status == "True")
    })?;
    throughout(Duration::from_secs(8), || {
        let moved = [scene.west, scene.north].map(|region| app.failovers(region).map(|it| it.len()));
        let [west, north] = moved;
        let (west, north) = (west?, north?);
        Ok((west + north > 0).then(|| format!("{west} failovers in {WEST}, {north} in {NORTH}")))
    })?;
    let attempts = writer.finish()?;
    let still = app.pods(scene.west)?;
    ensure!(running == still, "other pods run than before: {still:?}, not {running:?}");
    // A machine that is busy is slow now and then.
    let acknowledged: Vec<_> = attempts.iter().filter(|it| it.acknowledged()).map(|it| it.ended_at).collect();
    let gap = acknowledged.windows(2).map(|it| it[1].duration_since(it[0]).as_secs()).max();
    ensure!(gap.is_some_and(|it| it < 10), "no record was acknowledged for {gap:?} s: {attempts:?}");
    let account = client::judge(&attempts, &app.records(scene.west)?, None, Duration::ZERO);
    ensure!(account.lost == 0 && account.duplicated == 0, "{account:?}");
    let status = app.status(scene.west)?;
    ensure!(status.epoch == Some(1), "the claim changed hands: {status:?}");
    Ok(())
}

#[test]
fn an_outage_of_the_vault_stops_and_moves_nothing() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("vaultaway", 30_103, AUTOMATIC)?;
    let long = if env::var("LAB_LONG").is_ok_and(|it| it == "1") { 300 } else { 60 };
    nothing_happens(&scene, app, &[&["stop", "s3"]], Duration::from_secs(long))
}

#[test]
fn a_standby_that_is_cut_off_moves_nothing() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("standbyoff", 30_104, AUTOMATIC)?;
    nothing_happens(&scene, app, &[&["cut-off", NORTH]], Duration::from_secs(40))
}

#[test]
fn an_active_region_that_is_cut_off_from_the_vault_alone_serves_on_under_advisory() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("holderoff", 30_105, AUTOMATIC)?;
    nothing_happens(&scene, app, &[&["cut", WEST, "s3"]], Duration::from_secs(45))
}

#[test]
fn under_strict_a_holder_that_is_cut_off_stops_itself_and_resumes_when_it_is_mended() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("strict", 30_106, Terms { fencing: "Strict", ..TERMS })?;
    for number in 1..=5 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    scene.fault(&["cut", WEST, "s3"])?;
    // hold + fence, and what it takes to look.
    until("nothing to run in the west", Duration::from_secs(6 + 6 + 4), || {
        let (replicas, pods) = app.running(scene.west)?;
        Ok(if (replicas, pods) == (0, 0) {
            Look::Seen(())
        } else {
            Look::NotYet(format!("{replicas} replicas, {pods} pods"))
        })
    })
    .with_context(|| scene.west.story(app.name))?;
    sleep(Duration::from_secs(15));
    ensure!(app.running(scene.west)? == (0, 0), "it was started again without a claim");
    scene.mend()?;
    super::stage::serving(&app, scene.west)?;
    until("the records that were there", SOON, || {
        let records = app.records(scene.west)?;
        Ok(if records == [1, 2, 3, 4, 5] { Look::Seen(()) } else { Look::NotYet(format!("{records:?}")) })
    })?;
    ensure!(app.failovers(scene.north)?.is_empty() && app.failovers(scene.west)?.is_empty(), "it was moved");
    Ok(())
}
