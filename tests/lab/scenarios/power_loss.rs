//! A region loses its power: the path that the product is made for, with a real database.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use reprise::{
    api::application::{ProtectedApplication, Role, Verdict},
    cli::failover::active,
};

use super::stage::{NORTH, SOON, Scene, WEST, throughout};
use crate::{
    client::{self, Attempt, Disruption},
    harness::{
        lab::Region,
        shop::{self, SHOP},
        wait::{Look, until},
    },
};

/// The demo's promise with a quicker claim and a shorter RPO.
fn protect(region: &Region) -> Result<()> {
    shop::protect(region, |it| {
        let quick = it
            .replace("renew: 5s, hold: 15s, fence: 15s, wait: 45s", "renew: 2s, hold: 6s, fence: 6s, wait: 20s")
            .replace("rpo: 1m", "rpo: 45s")
            .replace("interval: 5s, timeout: 2s", "interval: 2s, timeout: 2s")
            .replace("ttl: 5s", "ttl: 1s");
        assert!(quick.contains("wait: 20s") && quick.contains("rpo: 45s"), "the demo's document has changed: {quick}");
        quick
    })
}

#[test]
fn an_application_survives_the_power_loss_of_its_region_and_the_region_returns_as_a_standby() -> Result<()> {
    let scene = Scene::begin()?;
    let (west, north) = (scene.west, scene.north);
    scene.namespace(SHOP.name)?;
    SHOP.forget_name(scene.lab)?;
    protect(west)?;
    shop::deploy(west)?;
    protect(north)?;
    SHOP.await_role(north, Role::Standby, SOON)?;
    shop::deploy(north)?;
    let writer = scene.writer(SHOP)?;
    protected(&scene)?;
    stopped(north)?;

    let began = Timestamp::now();
    scene.fault(&["power-loss", WEST])?;
    let disruption = Disruption { began, done: Timestamp::now() };
    let failover = until("a failover that succeeds by itself", Duration::from_mins(4), || {
        let all = SHOP.failovers(north)?;
        ensure!(all.len() <= 1, "more than one failover: {all:?}");
        let shown = format!("{:?}", all.first().map(|it| &it.status));
        Ok(all.into_iter().find(|it| !active(it)).map_or(Look::NotYet(shown), Look::Seen))
    })
    .with_context(|| north.story(SHOP.name))?;
    let status = failover.status.context("an ended failover has a status")?;
    let rto = writer_returns(&writer, disruption)?;
    println!(
        "serving again after {rto} s; the failover says RTO {:?}, RPO {:?}",
        status.rto_seconds, status.rpo_seconds
    );
    ensure!(status.conditions.iter().any(|it| it.type_ == "Succeeded" && it.status == "True"), "{status:?}");
    ensure!(status.rpo_seconds.is_some_and(|it| it <= 45), "the recovered data was too old: {status:?}");

    scene.mend()?;
    fenced(west)?;
    // The client goes on while the old region is back: nobody is led there.
    sleep(Duration::from_secs(5));
    let attempts = writer.finish()?;
    let account = client::judge(&attempts, &SHOP.records(north)?, Some(disruption), Duration::from_secs(45));
    println!("{account:?}");
    ensure!(account.acknowledged > 40, "hardly anything was written: {account:?}");
    ensure!(
        [account.lost_older_than_rpo, account.lost_afterwards, account.duplicated, account.foreign] == [0; 4],
        "records: {account:?}"
    );
    one_after_the_other(&attempts, west, north)
}

/// A healthy application with a point that is younger than what the client began with.
fn protected(scene: &Scene) -> Result<()> {
    let since = Timestamp::now();
    SHOP.await_status(scene.west, "a good point of what is written", Duration::from_mins(4), |it| {
        let healthy = it.health.as_ref().is_some_and(|it| it.verdict == Verdict::Healthy);
        let at = it.last_point.as_ref().map(|it| it.consistent_at.0);
        healthy
            && at.is_some_and(|at| {
                at > since + Duration::from_secs(30) && at > Timestamp::now() - Duration::from_secs(40)
            })
    })
    .map(|_| ())
}

fn stopped(region: &Region) -> Result<()> {
    until(&format!("no replicas and no pods in {}", region.name), SOON, || {
        let (replicas, pods) = SHOP.running(region)?;
        let instead = format!("{replicas} replicas, {pods} pods");
        Ok(if replicas == 0 && pods == 0 { Look::Seen(()) } else { Look::NotYet(instead) })
    })
    .with_context(|| region.story(SHOP.name))
}

/// The seconds from the disruption to the first record that is acknowledged again.
fn writer_returns(writer: &crate::harness::app::Writer, disruption: Disruption) -> Result<i64> {
    let begin = Instant::now();
    until("an acknowledged record after the disruption", Duration::from_secs(30), || {
        let attempts = writer.attempts()?;
        let first = attempts.iter().find(|it| it.acknowledged() && it.sent_at > disruption.done);
        let instead = format!("none for {} s", begin.elapsed().as_secs());
        Ok(first.map_or(Look::NotYet(instead), |it| Look::Seen(it.ended_at.as_second() - disruption.began.as_second())))
    })
}

/// The region that was gone does not serve, knows who does, and has saved what it had written; and so it stays.
fn fenced(west: &Region) -> Result<()> {
    let status = SHOP.await_status(west, "a standby with its branch saved", Duration::from_mins(3), |it| {
        let saved = it.fence.as_ref().is_some_and(|it| it.stopped_at.is_some() && it.branch.is_some());
        it.role == Some(Role::Standby) && saved
    })?;
    ensure!(status.active_region.as_deref() == Some(NORTH), "{WEST} takes {:?} for active", status.active_region);
    throughout(Duration::from_secs(10), || {
        let (replicas, pods) = SHOP.running(west)?;
        Ok((replicas > 0 || pods > 0)
            .then(|| format!("{replicas} replicas and {pods} pods in {WEST} after it was fenced")))
    })?;
    let application: Option<ProtectedApplication> = west.get(SHOP.name, SHOP.name)?;
    ensure!(application.is_some(), "the application's object is gone");
    Ok(())
}

/// Acknowledged first by one region, then by the other one, and never by the first again.
fn one_after_the_other(attempts: &[Attempt], west: &Region, north: &Region) -> Result<()> {
    let addresses: Vec<IpAddr> = attempts.iter().filter(|it| it.acknowledged()).filter_map(|it| it.address).collect();
    let (first, second): (IpAddr, IpAddr) = (west.address.parse()?, north.address.parse()?);
    let switch =
        addresses.iter().position(|it| *it == second).context("nothing was acknowledged by the second region")?;
    let after: BTreeSet<_> = addresses[switch..].iter().collect();
    let before: BTreeSet<_> = addresses[..switch].iter().collect();
    ensure!(
        before == BTreeSet::from([&first]) && after == BTreeSet::from([&second]),
        "before: {before:?}, after: {after:?}"
    );
    Ok(())
}
