//! Both regions lose their power, and come back one after the other: in either order.

use anyhow::{Result, ensure};
use reprise::api::application::Role;

use super::stage::{AUTOMATIC, NORTH, SOON, Scene, WEST, ask, point, serving, stays, throughout};
use crate::harness::{
    app::App,
    wait::{Look, until},
};

/// An application with five records and a point of them, in two regions without power.
fn dark(scene: &Scene, name: &'static str, port: u16) -> Result<App> {
    let app = scene.notes(name, port, AUTOMATIC)?;
    for number in 1..=5 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    point(&app, scene.west)?;
    for region in [WEST, NORTH] {
        scene.fault(&["power-loss", region])?;
    }
    Ok(app)
}

fn holds_five(app: &App, region: &crate::harness::lab::Region) -> Result<()> {
    until(&format!("the five records in {}", region.name), SOON, || {
        let records = app.records(region)?;
        Ok(if records == [1, 2, 3, 4, 5] { Look::Seen(()) } else { Look::NotYet(format!("{records:?}")) })
    })
}

#[test]
fn after_both_regions_were_lost_the_active_one_serves_on_when_it_returns_first() -> Result<()> {
    let scene = Scene::begin()?;
    let app = dark(&scene, "westfirst", 30_110)?;
    scene.lab.fault(&["power-on", WEST])?;
    serving(&app, scene.west)?;
    holds_five(&app, scene.west)?;
    scene.lab.fault(&["power-on", NORTH])?;
    app.await_role(scene.north, Role::Standby, SOON)?;
    throughout(SOON / 4, || {
        let moved = app.failovers(scene.north)?.len() + app.failovers(scene.west)?.len();
        Ok((moved > 0).then(|| format!("{moved} failovers")))
    })?;
    stays(&app, &scene, scene.west)
}

#[test]
fn after_both_regions_were_lost_the_standby_takes_over_when_it_returns_first() -> Result<()> {
    let scene = Scene::begin()?;
    let app = dark(&scene, "northfirst", 30_111)?;
    scene.lab.fault(&["power-on", NORTH])?;
    app.await_status(scene.north, "to serve", SOON * 2, |it| it.role == Some(Role::Active))?;
    holds_five(&app, scene.north)?;
    scene.lab.fault(&["power-on", WEST])?;
    stays(&app, &scene, scene.north)?;
    let status = app.await_status(scene.west, "its branch saved", SOON, |it| {
        it.fence.as_ref().is_some_and(|it| it.stopped_at.is_some() && it.branch.is_some())
    })?;
    ensure!(status.active_region.as_deref() == Some(NORTH), "{WEST} takes {:?} for active", status.active_region);
    ensure!(app.failovers(scene.north)?.len() == 1, "{:?}", app.failovers(scene.north)?);
    Ok(())
}
