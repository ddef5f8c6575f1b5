//! A database that is written to all the time: its dumps and its snapshots are brought back, and the engine's own check
//! finds nothing wrong with them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use reprise::{
    api::{
        application::{ProtectedApplication, Role},
        recovery_point::{RecoveryPoint, RecoveryPointStatus},
        vault::Vault,
    },
    core::{app_key::AppKey, child::Run, dump, mover_job::MoverSettings},
};
use serde_json::json;

use super::stage::{NORTH, SOON, Scene, TERMS, document, point, reprise};
use crate::harness::{
    app::App,
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

const ORDERS: App = App { name: "orders", port: 30_110 };
/// Where its dump is loaded.
const COPY: App = App { name: "orders-copy", port: 30_111 };

/// Ask the database of an application.
fn sql(app: App, region: &Region, query: &str) -> Result<String> {
    in_postgres(app, region, &["psql", "-U", "postgres", "-d", "orders", "-Atc", query])
}

fn in_postgres(app: App, region: &Region, command: &[&str]) -> Result<String> {
    let exec = ["exec", "-n", app.name, "postgres-0", "-c", "postgres", "--"];
    Ok(region.kubectl(&[&exec, command].concat(), None)?.trim().to_owned())
}

fn newest(app: App, region: &Region) -> Result<u64> {
    sql(app, region, "select max(number) from sums")?.parse().context("the newest number")
}

/// Wait until the database answers, with some rows in it if it is to have any.
fn answers(app: App, region: &Region, rows: &str) -> Result<()> {
    until(&format!("the database of {} in {}", app.name, region.name), SOON, || {
        let there = if rows.is_empty() { sql(app, region, "select 1")? } else { sql(app, region, rows)? };
        Ok(if there == "1" || there == "t" { Look::Seen(()) } else { Look::NotYet(there) })
    })
}

/// Every row from the first to the newest is there with the sum that it must have, and the engine's own check finds nothing.
/// The newest number.
fn is_whole(app: App, region: &Region) -> Result<u64> {
    let rows = "select count(*) = max(number) and bool_and(sum = number::numeric * (number + 1) / 2
        and filler = repeat(md5(number::text), 8)), max(number) from sums";
    let told = sql(app, region, rows)?;
    let (whole, newest) = told.split_once('|').with_context(|| told.clone())?;
    ensure!(whole == "t", "rows are missing, or not what was written: {told}");
    let check = ["/usr/lib/postgresql/15/bin/pg_amcheck", "-U", "postgres", "--install-missing", "--heapallindexed"];
    in_postgres(app, region, &[&check[..], &["-d", "orders"]].concat()).context("pg_amcheck")?;
    newest.parse().context("the newest number")
}

/// Load the dump of a point into the database of another namespace, by a mover as the operator would make it.
fn load(scene: &Scene, status: &RecoveryPointStatus) -> Result<()> {
    let region = scene.west;
    let application: ProtectedApplication = region.get(ORDERS.name, ORDERS.name)?.context("the application")?;
    let vault: Vault = region.get("", "main")?.context("the vault")?;
    let settings = MoverSettings {
        namespace: NAMESPACE.to_owned(),
        image: "localhost/reprise:dev".to_owned(),
        pull_policy: "Never".to_owned(),
        service_account: "reprise-mover".to_owned(),
        dump_service_account: "reprise-dump-mover".to_owned(),
        direct: false,
        kubelet_root: region.kubelet_root.clone(),
        resources: json!({"limits": {"memory": "1Gi"}}),
    };
    let of = AppKey { namespace: ORDERS.name.to_owned(), name: ORDERS.name.to_owned() };
    let snapshot = status.dumps[0].snapshot.as_ref().context("a snapshot")?;
    let point = status.id.as_ref().context("the point's id")?;
    let task = dump::load_task(&application.spec.backup.dumps[0], &of, (point, snapshot), COPY.name);
    let uid = ulid::Ulid::generate().to_string().to_lowercase();
    let run = Run { namespace: COPY.name.to_owned(), name: "load".to_owned(), uid };
    let job = dump::job(&settings, &run, &vault.spec, "orders", &task, 120);
    region.apply(&serde_json::to_string(&job)?)?;
    let name = job.metadata.name.clone().unwrap_or_default();
    let loaded = until("the dump to be loaded", SOON, || {
        let seen: Job = region.get(NAMESPACE, &name)?.context("the mover")?;
        let ended = seen.status.unwrap_or_default().conditions.unwrap_or_default();
        if ended.iter().any(|it| it.type_ == "Complete" && it.status == "True") {
            return Ok(Look::Seen(()));
        }
        let pods: Vec<Pod> = region.list(NAMESPACE)?;
        let told = pods.iter().flat_map(|it| it.status.iter().flat_map(|it| it.container_statuses.iter().flatten()));
        let told: Vec<_> = told.filter_map(|it| it.state.as_ref()?.terminated.as_ref()?.message.clone()).collect();
        Ok(Look::NotYet(format!("{told:?}")))
    });
    region.kubectl(&["delete", "job", "-n", NAMESPACE, &name, "--wait=false"], None)?;
    loaded
}

#[test]
fn a_database_under_load_comes_back_whole_from_its_dump_and_from_its_snapshot() -> Result<()> {
    let scene = Scene::begin()?;
    for app in [ORDERS, COPY] {
        scene.namespace(app.name)?;
    }
    let promised = document("database-protection.yaml", ORDERS, TERMS)?;
    scene.west.apply(&promised)?;
    scene.west.apply(&document("database.yaml", ORDERS, TERMS)?)?;
    scene.north.apply(&promised)?;
    ORDERS.await_role(scene.west, Role::Active, SOON)?;
    ORDERS.await_role(scene.north, Role::Standby, SOON)?;
    answers(ORDERS, scene.west, "select count(*) > 1000 from sums")?;

    // A dump whose command fails is no dump, and its words are told.
    let partial = until("a point that tells of the failed dump", SOON, || {
        let points: Vec<RecoveryPoint> = scene.west.list(ORDERS.name)?;
        let failed = points.iter().filter_map(|it| it.status.clone()).find(|it| it.finished_at.is_some());
        Ok(failed.map_or_else(|| Look::NotYet(format!("{points:?}")), Look::Seen))
    })?;
    let broken = partial.dumps.iter().find(|it| it.name == "broken").context("the failed dump")?;
    let told = broken.failure.as_deref().unwrap_or_default();
    ensure!(told.contains("no-such-database") && broken.exit_code == Some(1), "{broken:?}");
    ensure!(partial.dumps.iter().any(|it| it.name == "orders" && it.failure.is_none()), "{:?}", partial.dumps);
    let without = promised.split_once("      - name: broken").context("the broken dump")?;
    let rest = without.1.split_once("  failover:").context("what follows it")?;
    for region in [scene.west, scene.north] {
        region.apply(&format!("{}  failover:{}", without.0, rest.1))?;
    }

    let before = newest(ORDERS, scene.west)?;
    let status = point(&ORDERS, scene.west)?;
    let after = newest(ORDERS, scene.west)?;
    println!("{:?}", status.dumps);
    ensure!(status.dumps.len() == 1 && status.dumps[0].exit_code == Some(0), "{:?}", status.dumps);

    scene.west.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": COPY.name}}).to_string())?;
    let quiet = document("database.yaml", COPY, TERMS)?.replace("[sh, /writer/write.sh]", "[sleep, '600']");
    scene.west.apply(&quiet)?;
    answers(COPY, scene.west, "")?;
    load(&scene, &status)?;
    let loaded = is_whole(COPY, scene.west)?;
    println!("rows: {before} before the point, {loaded} in its dump, {after} after it");
    ensure!((before..=after).contains(&loaded), "the dump is of the point's instant");

    let before = newest(ORDERS, scene.west)?;
    reprise(&ORDERS, scene.north, &["failover", ORDERS.name, "--to", NORTH, "--wait", "--timeout", "3m"])?;
    answers(ORDERS, scene.north, "select count(*) > 1000 from sums")?;
    let there = is_whole(ORDERS, scene.north)?;
    println!("rows: {before} before the move, {there} after it");
    ensure!(there >= before, "a planned move loses nothing");
    std::thread::sleep(Duration::from_secs(1));
    ensure!(newest(ORDERS, scene.north)? >= there, "it is written to there");

    // The move's point was made of a stopped database. This one's snapshot was not.
    let id = status.id.as_deref().context("the point's id")?;
    let words = ["restore", ORDERS.name, "--point", id, "--skip-safety-point", "--wait", "--timeout", "2m"];
    reprise(&ORDERS, scene.north, &words)?;
    answers(ORDERS, scene.north, "select count(*) > 1000 from sums")?;
    let back = is_whole(ORDERS, scene.north)?;
    println!("rows: at least {loaded} in the point, {back} a little after its restore");
    ensure!(back >= loaded, "rows that the point has are missing");
    Ok(())
}
