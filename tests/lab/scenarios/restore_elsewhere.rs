//! What a point holds is brought elsewhere: a dump into the empty database of another namespace, and files, a dump and objects
//! as plain objects into the vault.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reprise::api::{
    application::Role,
    restore::{Restore, RestoreStatus},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::stage::{SOON, Scene, TERMS, bucket, document, point, reprise};
use crate::harness::{
    app::App,
    lab::Region,
    wait::{Look, until},
};

const SALES: App = App { name: "sales", port: 30_141 };
/// Whose database gets the dump.
const ANALYSIS: App = App { name: "analysis", port: 30_142 };
/// The claim of the database.
const VOLUME: &str = "data-postgres-0";

fn sql(app: App, region: &Region, query: &str) -> Result<String> {
    let exec = ["exec", "-n", app.name, "postgres-0", "-c", "postgres", "--"];
    let ask = ["psql", "-U", "postgres", "-d", "orders", "-Atc", query];
    Ok(region.kubectl(&[exec.as_slice(), ask.as_slice()].concat(), None)?.trim().to_owned())
}

fn answers(app: App, region: &Region, rows: &str) -> Result<()> {
    until(&format!("the database of {}", app.name), SOON, || {
        let told = sql(app, region, rows)?;
        Ok(if told == "t" { Look::Seen(()) } else { Look::NotYet(told) })
    })
}

/// What was promised, without the dump that fails.
fn promised() -> Result<String> {
    let all = document("database-protection.yaml", SALES, TERMS)?;
    let (begin, rest) = all.split_once("      - name: broken").context("the broken dump")?;
    let (_, end) = rest.split_once("  failover:").context("what follows it")?;
    Ok(format!("{begin}  failover:{end}"))
}

fn restored(app: App, region: &Region, words: &[&str]) -> Result<RestoreStatus> {
    let command = [&["restore", SALES.name, "--timeout", "3m", "-o", "json", "--wait"], words].concat();
    let ended = reprise(&app, region, &command)?;
    let ended: Restore = serde_json::from_str(&ended).with_context(|| format!("read the restore: {ended}"))?;
    let status = ended.status.context("a restore that ended has a status")?;
    for step in &status.steps {
        println!("{:?}  {}", step.name, step.message);
    }
    Ok(status)
}

/// A restore that must not succeed; what was said.
fn refused(app: App, region: &Region, words: &[&str]) -> Result<String> {
    match restored(app, region, words) {
        Err(error) => Ok(format!("{error:?}")),
        Ok(status) => Err(anyhow::anyhow!("it succeeded: {status:?}")),
    }
}

/// The vault allows exports as long as this lives.
struct Allowed<'a>(&'a Region);

impl<'a> Allowed<'a> {
    fn begin(region: &'a Region) -> Result<Self> {
        patch(region, &json!({"spec": {"allowExports": true}}))?;
        // The operator is told of it by a watch.
        std::thread::sleep(Duration::from_secs(2));
        Ok(Self(region))
    }
}

impl Drop for Allowed<'_> {
    fn drop(&mut self) {
        let _ = patch(self.0, &json!({"spec": {"allowExports": null}}));
    }
}

fn patch(region: &Region, patch: &Value) -> Result<()> {
    region.kubectl(&["patch", "vault", "main", "--type=merge", "-p", &patch.to_string()], None).map(|_| ())
}

#[test]
fn a_dump_goes_into_the_database_of_another_namespace_and_nothing_else_is_changed() -> Result<()> {
    let scene = Scene::begin()?;
    let west = scene.west;
    for app in [SALES, ANALYSIS] {
        scene.namespace(app.name)?;
    }
    west.apply(&promised()?)?;
    west.apply(&document("database.yaml", SALES, TERMS)?)?;
    SALES.await_role(west, Role::Active, SOON)?;
    west.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ANALYSIS.name}}).to_string())?;
    let quiet = document("database.yaml", ANALYSIS, TERMS)?.replace("[sh, /writer/write.sh]", "[sleep, '600']");
    west.apply(&quiet)?;
    answers(SALES, west, "select count(*) > 500 from sums")?;
    answers(ANALYSIS, west, "select to_regclass('sums') is null")?;
    let before: u64 = sql(SALES, west, "select max(number) from sums")?.parse()?;
    let id = point(&SALES, west)?.id.context("a point that succeeded has an id")?;

    let from = ["--source-namespace", SALES.name, "--point", &id, "--dump", "orders", "--into", "app=postgres"];
    let without = refused(ANALYSIS, west, &from)?;
    ensure!(without.contains("NotShared") || without.contains("spec.sharedWith"), "{without}");
    let shared = json!({"spec": {"sharedWith": [ANALYSIS.name]}}).to_string();
    west.kubectl(&["patch", "papp", SALES.name, "-n", SALES.name, "--type=merge", "-p", &shared], None)?;

    let plan = restored(ANALYSIS, west, &[&from[..], &["--dry-run"]].concat())?.plan.context("a plan")?;
    ensure!(plan.dumps.len() == 1 && plan.dumps[0].pod.as_deref() == Some("postgres-0"), "{plan:?}");
    ensure!(sql(ANALYSIS, west, "select to_regclass('sums') is null")? == "t", "a dry run loads nothing");

    let load =
        ["--container", "postgres", "--", "pg_restore", "-U", "postgres", "--clean", "--if-exists", "--no-owner"];
    let load = [&load[..], &["--exit-on-error", "-d", "orders"]].concat();
    let status = restored(ANALYSIS, west, &[&from[..], &load].concat())?;
    ensure!(status.dumps.len() == 1 && status.dumps[0].exit_code == Some(0), "{:?}", status.dumps);
    let whole =
        "select count(*) = max(number) and bool_and(sum = number::numeric * (number + 1) / 2), max(number) from sums";
    let told = sql(ANALYSIS, west, whole)?;
    let (whole, newest) = told.split_once('|').with_context(|| told.clone())?;
    println!("{before} rows before the point, {newest} in the other database");
    ensure!(whole == "t" && newest.parse::<u64>()? >= before, "{told}");
    ensure!(sql(SALES, west, "select max(number) from sums")?.parse::<u64>()? >= before, "it serves on");

    let wrong = refused(
        ANALYSIS,
        west,
        &[&from[..], &["--", "sh", "-c", "cat > /dev/null; echo no such role >&2; exit 3"]].concat(),
    )?;
    ensure!(wrong.contains("ended with 3") && wrong.contains("may be loaded"), "{wrong}");

    exported(&scene, &id)
}

/// Files, a dump and objects of the point, as whoever has the bucket reads them.
fn exported(scene: &Scene, id: &str) -> Result<()> {
    let west = scene.west;
    let prefix = format!("q1-{}", ulid::Ulid::generate());
    let (files, place) = (format!("{VOLUME}:pgdata/PG_*"), format!("main/{prefix}"));
    let to = ["--export-to", &place, "--point", id];
    let what = [&to[..], &["--volume", &files, "--dump", "orders", "--kind", "ConfigMap"]].concat();
    let not_allowed = refused(SALES, west, &what)?;
    ensure!(not_allowed.contains("allowExports"), "{not_allowed}");
    let _allowed = Allowed::begin(west)?;
    let status = restored(SALES, west, &what)?;
    println!("{:?}", status.progress);
    let bucket = bucket(scene)?;
    let base = format!("exports/{}/{prefix}/", SALES.name);
    let read = |key: &str| -> Result<Vec<u8>> {
        let found = Runtime::new()?.block_on(bucket.store().get(&format!("{base}{key}")))?;
        Ok(found.with_context(|| format!("{key} is there"))?.bytes.to_vec())
    };
    ensure!(read(&format!("volumes/{VOLUME}/pgdata/PG_VERSION"))? == b"15\n", "a file is there as it was");
    ensure!(read("dumps/orders")?.starts_with(b"PGDMP"), "a dump is there as its command wrote it");
    let writer = String::from_utf8(read("objects/core/ConfigMap/writer.yaml")?)?;
    ensure!(writer.contains("write.sh"), "{writer}");
    let list = String::from_utf8(read(&format!("lists/{VOLUME}.jsonl"))?)?;
    let of_version: Value =
        list.lines().filter(|it| it.contains("PG_VERSION")).map(serde_json::from_str).next().context("a line")??;
    ensure!(of_version["uid"] == 100 && of_version["kind"] == "file", "{of_version}");
    let note: Value = serde_json::from_slice(&read("export.json")?)?;
    ensure!(note["point"] == id && note["finishedAt"].is_string(), "{note}");
    let again = refused(SALES, west, &what)?;
    ensure!(again.contains("spec.export.vault.prefix"), "{again}");
    Ok(())
}
