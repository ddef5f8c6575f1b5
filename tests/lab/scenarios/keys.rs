//! The keys of a vault, as a person works with them: given out, rotated in both regions, retired, and recovered with an
//! offline identity when all of them are lost. Applications go on all the while.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use reprise::api::vault::{Vault, VaultStatus};
use serde_json::{Value, json};

use super::stage::{NORTH, SOON, Scene, TERMS, ask, point, reprise, stays};
use crate::harness::{
    app::App,
    command::run,
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

/// The vault of the lab, and the Secret with its key.
const VAULT: &str = "main";
const SECRET: &str = "vault-main-key";

/// `kubectl reprise key VERB main …`, answered as a document; `input` goes to standard input.
fn key(region: &Region, verb: &str, words: &[&str], input: Option<&str>) -> Result<Value> {
    let kubeconfig = region.kubeconfig.to_str().context("the path is no text")?;
    let program = env!("CARGO_BIN_EXE_kubectl-reprise");
    let mut command = vec![program, "--kubeconfig", kubeconfig, "-o", "json", "key", verb, VAULT];
    command.extend(words);
    let answer = run(Duration::from_mins(1), &command, input).with_context(|| format!("in {}", region.name))?;
    serde_json::from_str(&answer).with_context(|| format!("read {answer}"))
}

fn refused(region: &Region, verb: &str, words: &[&str], input: Option<&str>, why: &str) -> Result<()> {
    let told = key(region, verb, words, input).err().context("it was not refused")?;
    let told = format!("{told:?}");
    ensure!(told.contains("ended with 3") && told.contains(why), "{told}");
    Ok(())
}

fn set_key(region: &Region, entry: &str, key: &str) -> Result<()> {
    let patch = json!({"stringData": {entry: key}}).to_string();
    region.kubectl(&["patch", "secret", SECRET, "-n", NAMESPACE, "--type=merge", "-p", &patch], None).map(|_| ())
}

fn await_vault(region: &Region, what: &str, fits: impl Fn(&VaultStatus) -> bool) -> Result<()> {
    // A Secret is read again after a minute, and the vault is looked at every minute.
    until(&format!("{what} in {}", region.name), Duration::from_mins(4), || {
        let vault: Vault = region.get("", VAULT)?.context("there is no vault")?;
        let status = vault.status.unwrap_or_default();
        Ok(if fits(&status) { Look::Seen(()) } else { Look::NotYet(format!("{status:?}")) })
    })
}

fn condition(status: &VaultStatus, type_: &str) -> Option<String> {
    status.conditions.iter().find(|it| it.type_ == type_).map(|it| format!("{}/{}", it.status, it.reason))
}

#[test]
fn a_key_is_given_out_rotated_and_retired_and_a_lost_one_recovered_while_both_regions_go_on() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("keys", 30_108, TERMS)?;
    ask("POST", &app, scene.west, "/records/1")?;
    point(&app, scene.west)?;
    // Not confirmed; or, on a lab that was kept, confirmed for the key of an earlier run.
    await_vault(scene.west, "a warning", |it| condition(it, "KeyEscrowed").is_some_and(|it| it.starts_with("False/")))?;

    let old = key(scene.west, "export", &[], None)?;
    let (old_id, old_key) = (text(&old, "id")?, text(&old, "key")?);
    let one = key(scene.west, "export", &["--application", "keys/keys"], None)?;
    ensure!(text(&one, "repository")?.ends_with("/repos/keys.keys"), "{one}");
    opens_its_repository(&scene, &one)?;

    // A copy that is another key's is found out; a good one is noted, with who said so.
    refused(
        scene.west,
        "confirm",
        &[],
        Some("some other text that is as long as a key is\n"),
        "none of this vault's keys",
    )?;
    key(scene.west, "confirm", &[], Some(&format!("{old_key}\n")))?;
    await_vault(scene.west, "a confirmed copy", |it| {
        condition(it, "KeyEscrowed").as_deref() == Some("True/Confirmed")
    })?;

    let new_id = text(&key(scene.west, "rotate", &[], None)?, "id")?;
    refused(scene.west, "retire", &[&old_id], None, "confirmed")?;
    let secret: Secret = scene.west.get(NAMESPACE, SECRET)?.context("no Secret")?;
    let new_key = String::from_utf8(secret.data.unwrap_or_default()["nextKey"].0.clone())?;
    for region in [scene.west, scene.north] {
        set_key(region, "key", &new_key)?;
    }
    key(scene.west, "confirm", &[], Some(&format!("{new_key}\n")))?;
    refused(scene.west, "retire", &[&old_id], None, "was seen with it")?;
    for region in [scene.west, scene.north] {
        await_vault(region, "the new key", |it| it.key.as_deref() == Some(new_id.as_str()))?;
    }
    key(scene.west, "retire", &[&old_id], None)?;
    let keys = key(scene.north, "list", &[], None)?;
    let regions = &keys["keys"][0]["regions"];
    ensure!(
        keys["keys"].as_array().is_some_and(|it| it.len() == 1) && regions.as_array().is_some_and(|it| it.len() == 2),
        "{keys}"
    );
    refused(scene.north, "confirm", &[], Some(&format!("{old_key}\n")), "none of this vault's keys")?;

    point(&app, scene.west)?;
    recovered(&scene, &app, &new_id, (&old_id, &old_key))?;
    reprise(&app, scene.north, &["failover", app.name, "--to", NORTH, "--wait", "--timeout", "3m"])?;
    ensure!(app.records(scene.north)? == [1], "the record of before the rotation is there");
    stays(&app, &scene, scene.north)
}

fn text(answer: &Value, field: &str) -> Result<String> {
    answer[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {answer}"))
}

/// With the real restic, over the lab's object storage.
fn opens_its_repository(scene: &Scene, one: &Value) -> Result<()> {
    let script = "RESTIC_REPOSITORY=$1 RESTIC_PASSWORD=$2 AWS_ACCESS_KEY_ID=$3 AWS_SECRET_ACCESS_KEY=$4 NO_PROXY='*' \
                  restic --no-lock --no-cache snapshots --json";
    let (id, secret) = (scene.lab.value("LAB_S3_ACCESS_KEY")?, scene.lab.value("LAB_S3_SECRET_KEY")?);
    let (repository, password) = (text(one, "repository")?, text(one, "repositoryPassword")?);
    let mut command = crate::harness::lab::inside("hub");
    command.extend(["bash", "-c", script, "restic", &repository, &password, id, secret].map(str::to_owned));
    let listed = run(SOON, &command, None)?;
    let snapshots: Value = serde_json::from_str(&listed).with_context(|| listed.clone())?;
    ensure!(snapshots.as_array().is_some_and(|it| !it.is_empty()), "{listed}");
    Ok(())
}

/// The north loses its key, and is given a fresh one: an offline identity makes that one open the vault. So it does for
/// the `first`, by id and text, with which the other scenarios go on.
fn recovered(scene: &Scene, app: &App, lost: &str, first: (&str, &str)) -> Result<()> {
    let identity = run(SOON, &["age-keygen"], None)?;
    let recipient = identity.lines().find_map(|it| it.split("public key: ").nth(1)).context("no public key")?;
    let patch = json!({"spec": {"encryption": {"recipients": [recipient]}}}).to_string();
    scene.west.kubectl(&["patch", "vault", VAULT, "--type=merge", "-p", &patch], None)?;
    await_vault(scene.west, "a recipient", |it| condition(it, "KeyEscrowed").as_deref() == Some("True/Recipients"))?;
    set_key(scene.north, "key", "a fresh key that opens nothing, as a person would make it")?;
    let file = crate::harness::file("target/lab-tests").join(format!("{}-identity", app.name));
    fs::create_dir_all(file.parent().context("a folder")?)?;
    fs::write(&file, &identity)?;
    let file_name = file.to_str().context("the path is no text")?;
    let fresh = key(scene.north, "recover", &["--identity", file_name], None)?;
    ensure!(text(&fresh, "id")? != lost, "{fresh}");
    let opened = key(scene.north, "export", &[], None)?;
    ensure!(opened["id"] == fresh["id"], "{opened}");

    for region in [scene.west, scene.north] {
        set_key(region, "key", first.1)?;
    }
    key(scene.north, "recover", &["--identity", file_name], None)?;
    fs::remove_file(&file)?;
    for region in [scene.west, scene.north] {
        await_vault(region, "the first key", |it| it.key.as_deref() == Some(first.0))?;
    }
    Ok(())
}
