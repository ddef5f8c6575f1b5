//! Hooks hold an application for its snapshots only, and a pod that nobody comes back to releases itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reprise::api::recovery_point::{Holding, RecoveryPoint};
use serde_json::json;

use super::stage::{SOON, Scene, TERMS, point, reprise};
use crate::harness::{
    app::App,
    lab::Region,
    wait::{Look, until},
};

/// What its hooks have written down, on the volume that is snapshotted.
fn log(app: &App, region: &Region) -> Result<Vec<String>> {
    let read = ["exec", "-n", app.name, "notes-0", "--", "sh", "-c", "cat /data/hooks 2>/dev/null || true"];
    Ok(region.kubectl(&read, None)?.lines().map(ToOwned::to_owned).collect())
}

/// Hooks that take `seconds` to freeze.
fn declare(app: &App, region: &Region, seconds: u64) -> Result<()> {
    let before = format!("echo freeze >> /data/hooks; sleep {seconds}");
    let hook = json!({
        "name": "notes", "pods": {"matchLabels": {"app": "notes"}}, "timeout": "10s",
        "before": ["sh", "-c", before], "after": ["sh", "-c", "echo thaw >> /data/hooks"],
    });
    let patch = json!({"spec": {"backup": {"hooks": {"holdAtMost": "8s", "commands": [hook]}}}}).to_string();
    region.kubectl(&["patch", "papp", "-n", app.name, app.name, "--type=merge", "-p", &patch], None).map(|_| ())
}

fn await_log(app: &App, region: &Region, wanted: &[&str]) -> Result<()> {
    until(&format!("the hooks to have done {wanted:?}"), Duration::from_secs(30), || {
        let log = log(app, region)?;
        Ok(if log == wanted { Look::Seen(()) } else { Look::NotYet(format!("{log:?}")) })
    })
    .with_context(|| region.story(app.name))
}

#[test]
fn an_application_is_held_for_its_snapshots_and_releases_itself_when_the_operator_is_away() -> Result<()> {
    let scene = Scene::begin()?;
    let (app, west) = (scene.notes("held", 30_115, TERMS)?, scene.west);
    declare(&app, west, 0)?;
    let status = point(&app, west)?;
    let hooks = status.hooks.as_ref().context("the hooks stand in the point")?;
    println!("held for {:?} s", hooks.held_seconds);
    ensure!(hooks.holding == Holding::Released && hooks.notes.is_empty(), "{hooks:?}");
    ensure!(log(&app, west)? == ["freeze", "thaw"], "{:?}", log(&app, west)?);
    let id = status.id.context("a point that succeeded has an id")?;
    let listed = reprise(&app, west, &["ls", &format!("{id}:data-notes-0"), "-o", "json"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let entries = listed["entries"].as_array().context("entries")?;
    let file = entries.iter().find(|it| it["name"] == "hooks");
    ensure!(file.is_some_and(|it| it["bytes"] == "freeze\n".len()), "it was held in the snapshot: {listed}");

    // Nobody is there to release it.
    declare(&app, west, 3)?;
    reprise(&app, west, &["backup", app.name])?;
    await_log(&app, west, &["freeze", "thaw", "freeze"])?;
    scene.fault(&["pause", &format!("operator:{}", west.name)])?;
    await_log(&app, west, &["freeze", "thaw", "freeze", "thaw"])?;
    scene.mend()?;
    let failed = until("the point that was interrupted to end", SOON, || {
        let points: Vec<RecoveryPoint> = west.list(app.name)?;
        let mut told = points.iter().filter_map(|it| it.status.as_ref());
        let failed =
            told.find(|it| it.finished_at.is_some() && it.hooks.as_ref().is_some_and(|hooks| hooks.failure.is_some()));
        Ok(failed.map_or_else(|| Look::NotYet(format!("{points:?}")), |it| Look::Seen(it.clone())))
    })?;
    println!("{:?}", failed.hooks);
    ensure!(failed.hooks.is_some_and(|it| it.holding == Holding::Released), "it is released");

    declare(&app, west, 0)?;
    let again = point(&app, west)?;
    ensure!(again.hooks.is_some_and(|it| it.failure.is_none()), "the next point is quiet again");
    Ok(())
}
