//! An S3 server that ignores conditional writes: two regions could both win the claim on it.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use reprise::api::vault::{Vault, VaultStatus};

use super::stage::{SOON, Scene};
use crate::harness::{
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
    drop(server);
    Ok(())
}
