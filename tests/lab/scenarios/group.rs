//! Volumes that are snapshotted at once: what is on them after a restore is of one instant, as far as the point says it is,
//! and nothing of the group snapshot is left behind.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use reprise::{api::recovery_point::RecoveryPointStatus, core::child::GROUP_MARK};

use super::{
    restore::restore,
    stage::{SOON, Scene, TERMS, document, point},
};
use crate::harness::{
    app::App,
    lab::Region,
    residue::Residue,
    wait::{Look, until},
};

/// It writes no more numbers in a second.
const PER_SECOND: u64 = 100;
/// A driver tells when a snapshot was taken. It was begun so long before, at most.
const TAKING: u64 = 1000;

/// The lines of a file in the pod with the two volumes.
fn lines(app: &App, region: &Region, file: &str) -> Result<Vec<String>> {
    let words = ["exec", "-n", app.name, "deployment/pair", "--", "cat", file];
    Ok(region.kubectl(&words, None)?.lines().map(str::to_owned).collect())
}

/// The number that it has come to, once it counts.
fn number(app: &App, region: &Region) -> Result<u64> {
    until("the pod to count", SOON, || match lines(app, region, "/second/number") {
        Ok(lines) => Ok(lines.first().and_then(|it| it.parse().ok()).map_or(Look::NotYet("empty".into()), Look::Seen)),
        Err(error) => Ok(Look::NotYet(error.to_string())),
    })
}

/// What it found on the two volumes when it was started for the second time.
fn found(app: &App, region: &Region) -> Result<(u64, u64)> {
    let line = until("the pod to start with what was restored", SOON, || match lines(app, region, "/first/found") {
        Ok(lines) if lines.len() > 1 => Ok(Look::Seen(lines[1].clone())),
        Ok(lines) => Ok(Look::NotYet(format!("{lines:?}"))),
        Err(error) => Ok(Look::NotYet(error.to_string())),
    })?;
    let (first, second) = line.split_once(' ').with_context(|| format!("read {line}"))?;
    Ok((first.parse()?, second.parse()?))
}

/// How its volumes were snapshotted is told; where the cluster can, it was at once.
fn told(region: &Region, made: &RecoveryPointStatus) -> Result<()> {
    let classes = region.kubectl(&["get", "volumegroupsnapshotclasses", "-o", "name"], None);
    let groups = classes.is_ok_and(|it| !it.trim().is_empty());
    println!("{:?}, {:?} ms apart", made.groups, made.skew_millis);
    let begin = if groups { "Group (of 3, by VolumeGroupSnapshotClass " } else { "Alone (there is no " };
    for volume in &made.volumes {
        ensure!(volume.grouping.as_ref().is_some_and(|it| it.starts_with(begin)), "{volume:?}");
    }
    let taken = made.groups.iter().filter(|it| it.taken_at.is_some() && it.failure.is_none());
    ensure!(taken.count() == usize::from(groups), "{:?}", made.groups);
    Ok(())
}

/// No claim has the label that the group snapshot found it by.
fn unmarked(app: &App, region: &Region) -> Result<()> {
    let claims: Vec<PersistentVolumeClaim> = region.list(app.name)?;
    let labels = claims.iter().flat_map(|it| it.metadata.labels.iter().flatten());
    let marks: Vec<_> = labels.filter(|(key, _)| key.starts_with(GROUP_MARK)).collect();
    ensure!(marks.is_empty(), "{marks:?}");
    Ok(())
}

#[test]
fn volumes_that_are_snapshotted_at_once_come_back_as_they_were_together_and_nothing_is_left_of_it() -> Result<()> {
    let scene = Scene::begin()?;
    let west = scene.west;
    let app = scene.notes("grouped", 30_141, TERMS)?;
    west.apply(&document("group.yaml", app, TERMS)?)?;
    number(&app, west)?;
    // A point may be under way that does not have these volumes.
    let residue = Residue::before(west, app.name)?;
    thread::sleep(Duration::from_secs(2));
    let before = number(&app, west)?;
    let made = point(&app, west)?;
    let after = number(&app, west)?;
    told(west, &made)?;
    residue.none(SOON)?;
    unmarked(&app, west)?;

    let id = made.id.clone().context("a point that succeeded has an id")?;
    restore(&app, west, &["--point", &id])?;
    let (first, second) = found(&app, west)?;
    println!("between {before} and {after}: {first} and {second}");
    ensure!((before..=after).contains(&first) && (before..=after).contains(&second), "of the point's time");
    let apart = made.skew_millis.context("there are several snapshots")? + TAKING;
    ensure!(first.abs_diff(second) <= apart * PER_SECOND / 1000 + 1, "{first} and {second}, {apart} ms apart at most");
    residue.none(SOON)?;
    unmarked(&app, west)
}
