//! A vault that was rolled back: nobody takes it for the truth, nothing is stopped, and a person decides.

use anyhow::{Context, Result, ensure};
use reprise::core::claim::record::Claim;
use tokio::runtime::Runtime;

use super::stage::{NORTH, SOON, Scene, TERMS, WEST, ask, bucket, reprise};
use crate::harness::{app::App, lab::Region};

/// Overwrites the claim with an older version of it, as whoever restores a bucket does.
fn roll_back(scene: &Scene, app: &App) -> Result<u64> {
    let (vault, key) = (bucket(scene)?, format!("claims/{0}.{0}.json", app.name));
    Runtime::new()?.block_on(async {
        let object = vault.store().get(&key).await?.context("the application has a claim")?;
        let claim = Claim::parse(&object.bytes)?;
        let older = Claim { seq: 1, nonce: format!("{WEST}.older.1"), ..claim };
        vault.store().put(&key, older.to_bytes().into()).await?;
        Ok(older.epoch)
    })
}

fn sound(app: &App, region: &Region, status: &str, reason: &str) -> Result<()> {
    app.await_status(region, &format!("ClaimSound {status} {reason}"), SOON, |it| {
        let found = it.conditions.iter().find(|it| it.type_ == "ClaimSound");
        found.is_some_and(|it| it.status == status && (reason.is_empty() || it.reason == reason))
    })
    .map(|_| ())
}

#[test]
fn a_claim_that_was_rolled_back_is_a_conflict_that_a_person_ends_with_one_command() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("conflict", 30_133, TERMS)?;
    ask("POST", &app, scene.west, "/records/1")?;
    let adopt = ["claim", "adopt", app.name, "--for", WEST];
    let refused = reprise(&app, scene.west, &adopt).unwrap_or_else(|error| format!("{error:?}"));
    ensure!(refused.contains("no conflict that a person must decide"), "{refused}");

    let epoch = roll_back(&scene, &app)?;
    for region in [scene.west, scene.north] {
        sound(&app, region, "False", "Conflict")?;
    }
    ask("POST", &app, scene.west, "/records/2").context("what serves, serves on")?;
    let told = reprise(&app, scene.north, &["claim", "adopt", app.name, "--for", WEST, "--reason", "bucket restored"])?;
    println!("{told}");
    for region in [scene.west, scene.north] {
        sound(&app, region, "True", "")?;
    }
    app.await_status(scene.west, "the claim with the next epoch", SOON, |it| it.epoch == Some(epoch + 1))?;
    let shown = reprise(&app, scene.north, &["claim", "show", app.name])?;
    println!("{shown}");
    ensure!(shown.contains(WEST) && shown.contains(&format!("epoch       {}", epoch + 1)), "{shown}");

    // A move goes on from there.
    reprise(&app, scene.north, &["failover", app.name, "--to", NORTH, "--wait", "--timeout", "3m"])?;
    let records = app.records(scene.north)?;
    ensure!(records == [1, 2], "{records:?}");
    Ok(())
}
