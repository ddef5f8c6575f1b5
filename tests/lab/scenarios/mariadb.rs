//! Two databases of MariaDB that are written to all the time. One comes back from its snapshot; the other has no volume,
//! and the product loads its dump. The engine's own check finds nothing wrong with either. A Redis comes back from its dump.

use anyhow::{Context, Result, ensure};
use reprise::api::{application::Role, restore::Restore, restoring::DumpLoad};

use super::stage::{NORTH, SOON, Scene, TERMS, document, point, reprise};
use crate::harness::{
    app::App,
    lab::Region,
    wait::{Look, until},
};

const LEDGER: App = App { name: "ledger", port: 30_116 };

/// Runs a program beside a database.
fn beside(region: &Region, database: &str, command: &[&str]) -> Result<String> {
    let pod = format!("{database}-0");
    let exec = ["exec", "-n", LEDGER.name, &pod, "-c", "mariadb", "--"];
    Ok(region.kubectl(&[&exec, command].concat(), None)?.trim().to_owned())
}

fn sql(region: &Region, database: &str, query: &str) -> Result<String> {
    beside(region, database, &["mariadb", "-uroot", "-N", "-e", query])
}

/// The newest number that was written before some moment.
fn newest(region: &Region, database: &str, before: &str) -> Result<u64> {
    let query = format!("select coalesce(max(number), 0) from orders.sums where written < {before}");
    sql(region, database, &query)?.parse().context("the newest number")
}

fn await_rows(region: &Region, database: &str, more_than: u64) -> Result<()> {
    until(&format!("rows in {database} of {}", region.name), SOON, || {
        let rows = newest(region, database, "now(6) + interval 1 day")?;
        Ok(if rows > more_than { Look::Seen(()) } else { Look::NotYet(format!("{rows} rows")) })
    })
    .with_context(|| region.story(LEDGER.name))
}

/// Every row from the first to the newest is there with the sum that it must have, and the engine's own check finds nothing.
fn is_whole(region: &Region, database: &str) -> Result<()> {
    let rows = "select count(*) = max(number) and min(sum = number * (number + 1) div 2
        and filler = repeat(md5(number), 7)) from orders.sums";
    let told = sql(region, database, rows)?;
    ensure!(told == "1", "rows are missing in {database}, or not what was written: {told}");
    let check = beside(region, database, &["mariadb-check", "-uroot", "--extended", "--databases", "orders"])?;
    let good = |line: &str| line.ends_with("OK");
    ensure!(check.lines().count() == 2 && check.lines().all(good), "mariadb-check of {database}: {check}");
    Ok(())
}

/// Runs a command beside the cache.
fn in_cache(region: &Region, script: &str) -> Result<String> {
    let told = region.kubectl(&["exec", "-n", LEDGER.name, "cache-0", "--", "sh", "-ec", script], None)?;
    Ok(told.trim().to_owned())
}

fn load<'a>(loads: &'a [DumpLoad], database: &str) -> Result<&'a DumpLoad> {
    println!("{loads:?}");
    loads.iter().find(|it| it.name == database).with_context(|| format!("the dump of {database}: {loads:?}"))
}

#[test]
fn a_mariadb_comes_back_from_its_snapshot_and_one_without_a_volume_from_its_dump() -> Result<()> {
    let scene = Scene::begin()?;
    let (west, north) = (scene.west, scene.north);
    scene.namespace(LEDGER.name)?;
    let promised = document("mariadb-protection.yaml", LEDGER, TERMS)?;
    west.apply(&promised)?;
    west.apply(&document("mariadb.yaml", LEDGER, TERMS)?)?;
    for database in ["disk", "memory"] {
        until(&format!("the database {database}"), SOON, || {
            let made = beside(west, database, &["sh", "-c", "mariadb -uroot < /scripts/open.sql"]);
            Ok(made.map_or_else(|why| Look::NotYet(format!("{why:#}")), |_| Look::Seen(())))
        })?;
    }
    north.apply(&promised)?;
    LEDGER.await_role(west, Role::Active, SOON)?;
    LEDGER.await_role(north, Role::Standby, SOON)?;
    for database in ["disk", "memory"] {
        await_rows(west, database, 1_000)?;
    }
    let keys =
        "for n in $(seq 1 2000); do echo \"set key:$n $n\"; done | redis-cli --pipe; redis-cli -n 1 set other yes";
    println!("{}", in_cache(west, keys)?);
    // Operators make a first point by themselves: this one is later.
    let always = "now(6) + interval 1 day";
    let before = [newest(west, "disk", always)?, newest(west, "memory", always)?];
    let status = point(&LEDGER, west)?;
    ensure!(status.dumps.len() == 3 && status.dumps.iter().all(|it| it.exit_code == Some(0)), "{:?}", status.dumps);
    let id = status.id.context("a point that succeeded has an id")?;
    let moment = format!("'{}'", sql(west, "disk", "select utc_timestamp(6)")?);
    // What was begun by then is written by now.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let after = [newest(west, "disk", &moment)?, newest(west, "memory", &moment)?];

    let last = newest(west, "disk", always)?;
    reprise(&LEDGER, north, &["failover", LEDGER.name, "--to", NORTH, "--wait", "--timeout", "3m"])?;
    let failovers = LEDGER.failovers(north)?;
    let loads = failovers.last().and_then(|it| it.status.as_ref()).context("the failover")?.dumps.clone();
    let told = load(&loads, "disk")?.left_out.as_deref().unwrap_or_default();
    ensure!(told.contains("data-disk-0"), "what comes back with a volume is not loaded: {told}");
    let loaded = load(&loads, "memory")?;
    ensure!(loaded.loaded_at.is_some() && loaded.exit_code == Some(0) && loaded.bytes > 0, "{loaded:?}");
    for database in ["disk", "memory"] {
        is_whole(north, database)?;
    }
    let keys = in_cache(north, "redis-cli dbsize; redis-cli get key:1234; redis-cli -n 1 get other; redis-cli role")?;
    let mut keys = keys.lines();
    ensure!(
        [keys.next(), keys.next(), keys.next(), keys.next()] == ["2000", "1234", "yes", "master"].map(Some),
        "{keys:?}"
    );
    let there = newest(north, "disk", always)?;
    ensure!(there >= last, "a planned move loses nothing of a volume: {there} of {last} rows");
    let there = newest(north, "memory", &moment)?;
    println!("rows: {} before the point, {there} loaded, {} after it", before[1], after[1]);
    ensure!((before[1]..=after[1]).contains(&there), "the dump is of the point's instant");
    await_rows(north, "memory", there)?;

    // A dump that is asked for is loaded beside a volume, too: nobody writes until it is there.
    sql(north, "disk", "drop table orders.zz_open")?;
    let words = ["restore", LEDGER.name, "--point", &id, "--dump", "disk", "--skip-safety-point"];
    let ended = reprise(&LEDGER, north, &[&words[..], &["--wait", "--timeout", "2m", "-o", "json"]].concat())?;
    let ended: Restore = serde_json::from_str(&ended).with_context(|| format!("read the restore: {ended}"))?;
    let loads = ended.status.context("a restore that ended has a status")?.dumps;
    ensure!(loads.len() == 1 && load(&loads, "disk")?.loaded_at.is_some(), "{loads:?}");
    let there = newest(north, "disk", &moment)?;
    println!("rows: {} before the point, {there} loaded, {} after it", before[0], after[0]);
    ensure!((before[0]..=after[0]).contains(&there), "the dump is of the point's instant");
    is_whole(north, "disk")?;

    // So is the snapshot, which was made while the database wrote.
    let words = ["restore", LEDGER.name, "--point", &id, "--volume", "data-disk-0", "--skip-safety-point"];
    reprise(&LEDGER, north, &[&words[..], &["--wait", "--timeout", "2m"]].concat())?;
    let there = newest(north, "disk", &moment)?;
    println!("rows: {} before the point, {there} in its snapshot, {} after it", before[0], after[0]);
    ensure!((before[0]..=after[0]).contains(&there), "the snapshot is of the point's instant");
    is_whole(north, "disk")
}
