//! An S3 server that ignores conditional writes: two regions could both win the claim on it.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use reprise::api::{
    application::Role,
    failover::StepName,
    vault::{Vault, VaultStatus},
};

use super::stage::{AUTOMATIC, SOON, Scene, WEST, document, failover};
use crate::harness::{
    app::App,
    command::run,
    file,
    wait::{Look, until},
};

/// Ends the server, and removes the vault.
struct Server<'a>(&'a Scene);

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.0.west.kubectl(&["delete", "vault", "without-cas", "--ignore-not-found"], None);
        let _ = lab(&["s3-without-cas", "down"]);
    }
}

fn lab(words: &[&str]) -> Result<String> {
    let script = file("tests/lab/lab");
    let mut command = vec![script.to_str().context("the path is no text")?];
    command.extend(words);
    run(Duration::from_mins(3), &command, None)
}

#[test]
fn a_vault_without_compare_and_swap_is_not_trusted() -> Result<()> {
    let scene = Scene::begin()?;
    let server = Server(&scene);
    lab(&["s3-without-cas", "up"])?;
    let shared = fs::read_to_string(file("tests/lab/scenarios/without-cas.yaml"))?;
    scene.west.apply(&crate::harness::lab::filled(&shared, &scene.lab.env)?)?;
    let status: VaultStatus = until("a vault that was tested", SOON, || {
        let vault: Option<Vault> = scene.west.get("", "without-cas")?;
        let status = vault.and_then(|it| it.status).unwrap_or_default();
        let tested = status.conditions.iter().any(|it| it.type_ == "CompareAndSwap" && it.status != "Unknown");
        let shown = format!("{status:?}");
        Ok(if tested { Look::Seen(status) } else { Look::NotYet(shown) })
    })
    .with_context(|| scene.west.story("reprise-system"))?;
    let swap = status.conditions.iter().find(|it| it.type_ == "CompareAndSwap").context("no CompareAndSwap")?;
    ensure!(swap.status == "False", "it is trusted: {swap:?}");
    ensure!(
        swap.message.contains("cannot be trusted with claims") && swap.message.contains("If-None-Match"),
        "{swap:?}"
    );
    nobody_takes_a_claim_in_it(&scene)?;
    drop(server);
    Ok(())
}

/// An application that is kept in it is told so, and a failover of it does not begin.
fn nobody_takes_a_claim_in_it(scene: &Scene) -> Result<()> {
    let app = App { name: "untrusted", port: 30_112 };
    scene.namespace(app.name)?;
    let promised = document("protection.yaml", app, AUTOMATIC)?;
    ensure!(promised.contains("vaults: [main]"), "the application's document has changed");
    scene.west.apply(&promised.replace("vaults: [main]", "vaults: [without-cas]"))?;
    app.await_status(scene.west, "a claim that is not sound", SOON, |it| {
        it.conditions
            .iter()
            .any(|it| it.type_ == "ClaimSound" && it.status == "False" && it.reason == "VaultNotTrusted")
    })?;
    scene.west.apply(&failover(&app, WEST))?;
    let refused = || {
        let failovers = app.failovers(scene.west)?;
        let status = failovers.into_iter().find_map(|it| it.status).unwrap_or_default();
        let step = status.steps.last().map(|it| (it.name, it.message.clone()));
        let told = step.as_ref().is_some_and(|(name, message)| {
            *name == StepName::WaitOutClaim && message.contains("cannot be trusted with claims")
        });
        Ok(if told { Look::Seen(()) } else { Look::NotYet(format!("{step:?}")) })
    };
    until("a failover that waits for a vault to be trusted", SOON, refused)?;
    let status = app.status(scene.west)?;
    ensure!(status.role != Some(Role::Active) && status.epoch.is_none_or(|it| it == 0), "it was taken: {status:?}");
    Ok(())
}
