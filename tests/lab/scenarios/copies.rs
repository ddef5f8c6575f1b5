//! Points are copied into another vault, with a key of its own. When the first vault has lost its points, an application
//! is restored from the copy in place, and brought into service from it in the other region. With the first vault shut, it is
//! brought into another namespace.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reprise::{
    api::restore::Restore,
    core::vault_answer::{PointState, PointsInVault},
};
use serde_json::json;
use tokio::runtime::Runtime;

use super::stage::{NORTH, SOON, Scene, TERMS, WEST, ask, bucket, failover, point, reprise, serving};
use crate::harness::{app::App, file, lab::filled, product};

/// Where it is looked at beside itself.
const LOOK: &str = "copied-look";

/// The other vault, in a bucket of its own.
fn second(scene: &Scene) -> Result<String> {
    let fresh = ulid::Ulid::generate().to_string().to_lowercase();
    let mut values: BTreeMap<String, String> = scene.lab.env.clone();
    values.insert("VAULT_PREFIX".to_owned(), format!("copies-{fresh}"));
    values.insert("VAULT_KEY".to_owned(), format!("{fresh}{}", ulid::Ulid::generate()));
    filled(&std::fs::read_to_string(file("tests/lab/scenarios/second-vault.yaml"))?, &values)
}

/// It goes with the scene: with two vaults the command line asks which one is meant.
struct Gone<'a>(&'a Scene);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        for region in [self.0.west, self.0.north] {
            let _ = region.kubectl(&["delete", "vault", "second", "--ignore-not-found"], None);
        }
    }
}

/// Removes all that the first vault has of the application, but for its claim.
fn lose(scene: &Scene, app: &App) -> Result<()> {
    let vault = bucket(scene)?;
    Runtime::new()?.block_on(async {
        let mut lost = 0;
        for folder in [format!("apps/{0}/{0}/", app.name), format!("repos/{0}.{0}/", app.name)] {
            for entry in vault.store().list(&folder).await? {
                vault.store().delete(&entry.key).await?;
                lost += 1;
            }
        }
        ensure!(lost > 5, "{lost} objects were removed");
        Ok(())
    })
}

/// The good points that a vault is said to have.
fn listed(app: &App, scene: &Scene, vault: &str) -> Result<Vec<String>> {
    let told = reprise(app, scene.west, &["points", app.name, "--vault", vault, "-o", "json"])?;
    let told: PointsInVault = serde_json::from_str(&told).with_context(|| format!("read the points: {told}"))?;
    ensure!(told.unreadable.is_empty() && !told.more, "{told:?}");
    Ok(told.points.into_iter().filter(|it| it.state == PointState::Good).map(|it| it.id).collect())
}

#[test]
fn what_the_first_vault_lost_is_restored_from_a_copy_in_place_and_in_the_other_region() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("copied", 30_127, TERMS)?;
    scene.namespace(LOOK)?;
    for number in 1..=5 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    let copied = point(&app, scene.west)?.id.context("a point that succeeded has an id")?;
    let _gone = Gone(&scene);
    let (second, patch) =
        (second(&scene)?, json!({"spec": {"backup": {"copies": [{"vault": "second", "every": "1h"}]}}}));
    for region in [scene.west, scene.north] {
        region.apply(&second)?;
        product::await_shared(region, SOON)?;
        region.kubectl(&["patch", "papp", app.name, "-n", app.name, "--type=merge", "-p", &patch.to_string()], None)?;
    }
    let status = app.await_status(scene.west, "a copy in the second vault", SOON, |it| {
        it.copies.first().is_some_and(|it| it.point.as_ref() == Some(&copied))
            && it.conditions.iter().any(|it| it.type_ == "CopiesUpToDate" && it.status == "True")
    })?;
    println!("{:?}", status.copies);
    ask("POST", &app, scene.west, "/records/6")?;
    let newest = point(&app, scene.west)?.id.context("a point that succeeded has an id")?;
    ensure!(listed(&app, &scene, "second")? == [copied.clone()], "the copy has one point");
    let first = listed(&app, &scene, "main")?;
    ensure!(first.contains(&newest) && first.contains(&copied), "{first:?}");
    let shown = reprise(&app, scene.west, &["status"])?;
    ensure!(shown.contains("second") && shown.contains("every 1h"), "{shown}");

    lose(&scene, &app)?;
    let ended = reprise(
        &app,
        scene.west,
        &["restore", app.name, "--skip-safety-point", "--wait", "--timeout", "2m", "-o", "json"],
    )?;
    let ended: Restore = serde_json::from_str(&ended).with_context(|| format!("read the restore: {ended}"))?;
    let status = ended.status.context("a restore that ended has a status")?;
    println!("{:?}", status.vault_reason);
    ensure!(status.vault.as_deref() == Some("second") && status.point.as_ref() == Some(&copied), "{status:?}");
    serving(&app, scene.west)?;
    let records = app.records(scene.west)?;
    ensure!(records == [1, 2, 3, 4, 5], "as the copy has them: {records:?}");

    scene.fault(&["power-loss", WEST])?;
    scene.north.apply(&failover(&app, NORTH))?;
    serving(&app, scene.north)?;
    let moved = app.failovers(scene.north)?.pop().and_then(|it| it.status).context("the failover has a status")?;
    println!("{:?}", moved.vault_reason);
    ensure!(moved.vault.as_deref() == Some("second") && moved.point.as_ref() == Some(&copied), "{moved:?}");
    let records = app.records(scene.north)?;
    ensure!(records == [1, 2, 3, 4, 5], "as the copy has them: {records:?}");
    beside(&scene, &app)?;
    scene.mend()
}

/// With the first vault shut, the copy is still good for a restore into another namespace, which needs no claim.
fn beside(scene: &Scene, app: &App) -> Result<()> {
    let (north, look) = (scene.north, App { name: LOOK, port: app.port });
    north.kubectl(&["create", "namespace", look.name], None)?;
    let shares = json!({"spec": {"sharedWith": [look.name]}}).to_string();
    north.kubectl(&["patch", "papp", app.name, "-n", app.name, "--type=merge", "-p", &shares], None)?;
    product::set_vault_secret(north, "no longer")?;
    let words = ["restore", app.name, "--source-namespace", app.name, "--wait", "--timeout", "4m", "-o", "json"];
    let ended = reprise(&look, north, &words);
    product::set_vault_secret(north, scene.lab.value("LAB_S3_SECRET_KEY")?)?;
    let status = serde_json::from_str::<Restore>(&ended?)?.status.context("a status")?;
    println!("{:?}", status.vault_reason);
    ensure!(status.vault.as_deref() == Some("second"), "{status:?}");
    let records = north.kubectl(&["exec", "-n", look.name, "notes-0", "--", "cat", "/data/records"], None)?;
    ensure!(records == "1\n2\n3\n4\n5\n", "{records}");
    Ok(())
}
