//! A volume that is a block device, and one that is skipped: the first is the same in the other region, byte for byte,
//! and the second is there and empty.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::stage::{NORTH, SOON, Scene, TERMS, document, point, reprise, stays};
use crate::harness::{
    app::App,
    lab::Region,
    wait::{Look, until},
};

/// Runs a command in the pod that has the device.
fn within(app: &App, region: &Region, script: &str) -> Result<String> {
    let words = ["exec", "-n", app.name, "deployment/disk", "--", "sh", "-c", script];
    region.kubectl(&words, None).map(|it| it.trim().to_owned())
}

fn ready(app: &App, region: &Region) -> Result<()> {
    until("the pod with the device", SOON, || {
        let found: Option<Deployment> = region.get(app.name, "disk")?;
        let ready = found.and_then(|it| it.status?.ready_replicas).unwrap_or(0);
        Ok(if ready == 1 { Look::Seen(()) } else { Look::NotYet(format!("{ready} pods are ready")) })
    })
}

#[test]
fn a_block_device_is_the_same_in_the_other_region_and_a_skipped_volume_is_there_and_empty() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("block", 30_104, TERMS)?;
    let volumes = json!({"overrides": [{"selector": {"matchLabels": {"tier": "cache"}}, "method": "Skip"}]});
    for region in [scene.west, scene.north] {
        let patch = json!({"spec": {"backup": {"volumes": volumes}}}).to_string();
        region.kubectl(&["patch", "papp", app.name, "-n", app.name, "--type=merge", "-p", &patch], None)?;
    }
    scene.west.apply(&document("block.yaml", app, TERMS)?)?;
    ready(&app, scene.west)?;
    let write = "dd if=/dev/urandom of=/dev/disk bs=1M count=3 seek=17 conv=fsync && echo warm > /cache/file && \
                 md5sum < /dev/disk";
    let written = within(&app, scene.west, write)?;
    let made = point(&app, scene.west)?;
    let disk = made.volumes.iter().find(|it| it.claim == "disk").context("the device is in the point")?;
    println!("{made:?}");
    ensure!(disk.method.starts_with("Snapshot (class ") && disk.bytes == 64 << 20, "{disk:?}");
    ensure!(disk.added_bytes < 4 << 20, "zeros cost nothing: {disk:?}");
    let cache = made.volumes.iter().find(|it| it.claim == "cache").context("the point tells of the cache")?;
    ensure!(cache.left_out.as_deref() == Some("backup.volumes.overrides[0].method is Skip"), "{cache:?}");

    reprise(&app, scene.north, &["failover", app.name, "--to", NORTH, "--wait", "--timeout", "3m"])?;
    ready(&app, scene.north)?;
    let there = within(&app, scene.north, "md5sum < /dev/disk")?;
    ensure!(there.ends_with(written.lines().last().unwrap_or("nothing")), "{written} became {there}");
    let cache = within(&app, scene.north, "ls /cache")?;
    ensure!(cache.is_empty(), "{cache}");
    stays(&app, &scene, scene.north)
}
