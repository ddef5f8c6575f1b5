//! `Manual` activation: the operator advises, and a person moves the application, also away from a holder that is well.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use reprise::api::application::Role;

use super::stage::{NORTH, SOON, Scene, TERMS, Terms, ask, reprise, stays, throughout};
use crate::client;

#[test]
fn manual_activation_advises_and_a_person_moves_a_living_application_without_a_loss() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("manual", 30_101, TERMS)?;
    let writer = scene.writer(app)?;
    sleep(Duration::from_secs(5));
    ask("POST", &app, scene.west, "/sick")?;
    let command = format!("kubectl reprise failover manual -n manual --to {NORTH}");
    app.await_status(scene.north, "advice to fail over, with the command", SOON, |it| {
        let advice = it.conditions.iter().find(|it| it.type_ == "FailoverAdvised");
        advice
            .is_some_and(|it| it.status == "True" && it.reason == "ActivationIsManual" && it.message.contains(&command))
    })?;
    throughout(Duration::from_secs(10), || {
        let all = app.failovers(scene.north)?;
        Ok((!all.is_empty()).then(|| format!("a failover was made, but activation is Manual: {all:?}")))
    })?;

    let told = reprise(
        &app,
        scene.north,
        &["failover", app.name, "--to", NORTH, "--reason", "sick", "--wait", "--timeout", "3m"],
    )?;
    println!("{told}");
    app.await_status(scene.west, "a standby", SOON, |it| it.role == Some(Role::Standby))?;
    sleep(Duration::from_secs(3));
    let attempts = writer.finish()?;
    let account = client::judge(&attempts, &app.records(scene.north)?, None, Duration::ZERO);
    println!("{account:?}");
    ensure!((account.lost, account.duplicated, account.foreign) == (0, 0, 0), "a hand-over loses nothing: {account:?}");
    let last = attempts.iter().rfind(|it| it.acknowledged()).context("nothing was acknowledged")?;
    let there = last.address.map(|it| it.to_string());
    ensure!(there.as_deref() == Some(scene.north.address.as_str()), "the last record went to {there:?}");
    Ok(())
}

#[test]
fn a_volume_without_snapshots_is_read_directly_and_brought_back() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("direct", 30_102, Terms { storage: "local", ..TERMS })?;
    for number in 1..=20 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    let point = super::stage::point(&app, scene.west)?;
    let methods: Vec<_> = point.volumes.iter().map(|it| it.method.as_str()).collect();
    ensure!(methods.len() == 1 && methods[0].starts_with("Direct"), "{methods:?}");
    reprise(&app, scene.north, &["failover", app.name, "--to", NORTH, "--wait", "--timeout", "3m"])?;
    let records = app.records(scene.north)?;
    ensure!(records == (1..=20).collect::<Vec<u64>>(), "{records:?}");
    stays(&app, &scene, scene.north)
}
