//! A vault on a real S3 server behind a proxy that does harm: nothing is lost, and nothing untrue is said.
//!
//! `SEED=n` replays one run and tells it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod faults;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;
use reprise::core::mover_task::{CORRUPT, DONE, FAILED, MISCONFIGURED, Report, Task};
use reprise::core::point::{FORMAT, Objects, Point, Volume as Stored};
use reprise::vault::catalogue::CatalogueError;
use reprise::vault::manifest::Content;
use reprise::vault::{Location, Locked, S3Credentials, S3Location, SecretText, Settings, Vault};

use faults::minio::{Minio, PASSWORD, USER};
use faults::proxy::{Fault, Plan, Proxy};
use faults::volume::{KEY, Volume};

/// How many volumes are moved, unless `RUNS` says otherwise: each by four movers and more.
const VOLUMES: u64 = 100;
/// How many points are copied and exported, unless `RUNS` says otherwise: each by four movers and more.
const COPIES: u64 = 24;
/// How many catalogues are kept, unless `RUNS` says otherwise.
const CATALOGUES: u64 = 200;
/// The SHA-256 digest of "objects".
const DIGEST: &str = "e4cd302972b0cf4e227de8277f328e7631b1cd98655ebf610b401514d47338f7";
/// How many at a time: they mostly wait.
const AT_ONCE: usize = 12;

/// The seeds to run, and whether one was asked for by name.
fn seeds(usual: u64) -> (Vec<u64>, bool) {
    let number = |name: &str| std::env::var(name).ok().map(|it| it.parse::<u64>().expect("it is a number"));
    match number("SEED") {
        Some(seed) => (vec![seed], true),
        None => ((0..number("RUNS").unwrap_or(usual)).collect(), false),
    }
}

/// Whether contents were changed on the way: only then may anything be called damaged.
fn falsified(done: &BTreeMap<Fault, u32>) -> bool {
    done.keys().any(|it| matches!(it, Fault::Rubbish | Fault::Flip))
}

/// One run. The error is a broken promise.
async fn move_a_volume(server: SocketAddr, seed: u64) -> Result<String, String> {
    let (volume, plan) = (Volume::draw(seed), Plan::draw(seed));
    let prefix = format!("volumes/{seed}");
    let proxy = Proxy::start(server, plan.clone()).await;
    let mut story = vec![format!("{} of 1000 with {:?}", plan.permille, plan.faults)];
    let mut stored = Vec::new();
    for task in [volume.backup("db"), volume.backup("db")] {
        let end = volume.run(proxy.address, &prefix, &task).await;
        story.push(format!("  backup: {:?} in {:.1} s, {:?}", end.code, end.seconds, end.report.error));
        judge(&end, &proxy)?;
        stored.extend(end.report.snapshot);
    }
    for snapshot in &stored {
        volume.clear();
        let end = volume.run(proxy.address, &prefix, &volume.restore("db", snapshot)).await;
        story.push(format!("  restore: {:?} in {:.1} s, {:?}", end.code, end.seconds, end.report.error));
        judge(&end, &proxy)?;
        if end.code == Some(DONE.into()) && !volume.is_restored() {
            return Err(format!("a restore that says success is not what was stored\n{}", story.join("\n")));
        }
    }
    story.push(format!("  done: {:?}", proxy.done()));
    let told = story.join("\n");
    // Without faults, all that was ever reported as stored is there; and the repository takes more.
    let more = volume.run(server, &prefix, &volume.backup("db")).await;
    if more.code != Some(DONE.into()) {
        return Err(format!("the repository takes no more: {:?}\n{told}", more.report));
    }
    for snapshot in stored.iter().chain(&more.report.snapshot) {
        volume.clear();
        let end = volume.run(server, &prefix, &volume.restore("db", snapshot)).await;
        if end.code != Some(DONE.into()) || !volume.is_restored() {
            return Err(format!("{snapshot}, reported as stored, is lost: {:?}\n{told}", end.report));
        }
    }
    Ok(told)
}

/// A point is copied into another vault, and exported. The error is a broken promise.
async fn copy_and_export(server: SocketAddr, seed: u64) -> Result<String, String> {
    let volume = Volume::draw(seed);
    let (from, to) = (format!("copies/{seed}/from"), format!("copies/{seed}/to"));
    let backup = volume.run(server, &from, &volume.backup("db")).await.report;
    let point = enter(&vault(server, &from).await?, backup).await.map_err(|error| error.to_string())?;
    let proxy = Proxy::start(server, Plan::draw(seed)).await;
    let (id, snapshot) = (point.id.as_str(), point.volumes[0].snapshot.as_str());
    let copy = Task::Copy { namespace: "shop".to_owned(), application: "db".to_owned(), point: id.to_owned() };
    let mut story = Vec::new();
    for (what, task) in [("copy", &copy), ("export", &Volume::export("db", id, snapshot))] {
        let harmed = volume.run_between(proxy.address, (&from, &to), task).await;
        story.push(format!("  {what}: {:?} in {:.1} s, {:?}", harmed.code, harmed.seconds, harmed.report.error));
        judge(&harmed, &proxy)?;
        // Where rubbish seems to lie, nothing is written, and that is said.
        if harmed.report.occupied && !falsified(&proxy.done()) {
            return Err(format!("an empty place is called occupied\n{}", story.join("\n")));
        }
        if harmed.code == Some(DONE.into()) && !harmed.report.occupied {
            is_there(server, &volume, what, (&to, id)).await.map_err(|told| format!("{told}\n{}", story.join("\n")))?;
        }
        // Without faults it goes on where that one ended.
        let sound = volume.run_between(server, (&from, &to), task).await;
        if sound.code != Some(DONE.into()) {
            return Err(format!("the {what} can not be ended: {:?}\n{}", sound.report, story.join("\n")));
        }
        is_there(server, &volume, what, (&to, id)).await?;
    }
    story.push(format!("  done: {:?}", proxy.done()));
    Ok(story.join("\n"))
}

/// Whether a copy or an export is there to the last byte.
async fn is_there(server: SocketAddr, volume: &Volume, what: &str, (prefix, id): (&str, &str)) -> Result<(), String> {
    let vault = vault(server, prefix).await?;
    let same = if what == "copy" {
        let copy = vault.read_point("shop", "db", id).await.map_err(|error| error.to_string())?;
        volume.clear();
        let end = volume.run(server, prefix, &volume.restore("db", &copy.volumes[0].snapshot)).await;
        end.code == Some(DONE.into()) && volume.is_restored()
    } else {
        let folder = "exports/shop/q1/volumes/data/";
        let mut files = BTreeMap::new();
        for entry in vault.store().list(folder).await.map_err(|error| error.to_string())? {
            let object = vault.store().get(&entry.key).await.map_err(|error| error.to_string())?;
            files.insert(entry.key[folder.len()..].to_owned(), object.expect("it was listed").bytes.to_vec());
        }
        files == volume.files()
    };
    if same { Ok(()) } else { Err(format!("the {what} says success, and is not what was stored")) }
}

/// Makes a point of a backup.
async fn enter(vault: &Vault, backup: Report) -> Result<Point, CatalogueError> {
    let content = Content { digest: DIGEST.to_owned(), bytes: 7, count: 1 };
    let objects = vault.write_manifest("shop", "db", content, &b"objects"[..]).await?;
    let volume = Stored {
        claim: "data".to_owned(),
        snapshot: backup.snapshot.expect("a backup names its snapshot"),
        size: "1Gi".to_owned(),
        ..Stored::default()
    };
    let point = Point { objects, volumes: vec![volume], ..point(1) };
    vault.write_point(&point).await?;
    Ok(point)
}

/// A success has no error, a failure has one that says why, and only what was falsified is called damaged.
fn judge(end: &faults::volume::End, proxy: &Proxy) -> Result<(), String> {
    let error = end.report.error.as_deref().unwrap_or_default();
    let ended = end.code.and_then(|it| u8::try_from(it).ok());
    match ended {
        Some(DONE) if error.is_empty() => Ok(()),
        Some(FAILED) if error.len() > 10 && !error.contains("broke off") => Ok(()),
        Some(CORRUPT | MISCONFIGURED) if error.len() > 10 && falsified(&proxy.done()) => Ok(()),
        _ => Err(format!("a mover ended with {end:?} after {:?}", proxy.done())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --test vault_faults -- --ignored"]
async fn whatever_happens_on_the_way_a_volume_that_is_reported_as_stored_comes_back() {
    let minio = Minio::start();
    run_all(VOLUMES, |seed| move_a_volume(minio.address, seed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --test vault_faults -- --ignored"]
async fn whatever_happens_on_the_way_a_point_that_is_reported_as_written_is_there() {
    let minio = Minio::start();
    run_all(CATALOGUES, |seed| keep_a_catalogue(minio.address, seed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --test vault_faults -- --ignored"]
async fn whatever_happens_on_the_way_a_copy_and_an_export_that_are_reported_as_done_are_whole() {
    let minio = Minio::start();
    run_all(COPIES, |seed| copy_and_export(minio.address, seed)).await;
}

async fn run_all<F: Future<Output = Result<String, String>>>(usual: u64, run: impl Fn(u64) -> F) {
    let (begin, (seeds, one)) = (Instant::now(), seeds(usual));
    let runs = seeds.len();
    let outcomes = futures::stream::iter(seeds.into_iter().map(|seed| {
        let run = run(seed);
        async move { (seed, run.await) }
    }));
    let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
    let mut broken = Vec::new();
    for (seed, outcome) in outcomes {
        match outcome {
            Ok(told) if one => println!("SEED={seed}: {told}"),
            Ok(_) => {}
            Err(told) => broken.push(format!("SEED={seed}: {told}")),
        }
    }
    println!("{runs} runs in {:.0} s, {} broke a promise", begin.elapsed().as_secs_f64(), broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

async fn vault(server: SocketAddr, prefix: &str) -> Result<Vault, String> {
    let location = Location::S3(S3Location {
        bucket: "bucket".to_owned(),
        prefix: prefix.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(format!("http://{server}")),
        path_style: true,
        ca_bundle: None,
        credentials: Some(S3Credentials {
            access_key_id: USER.to_owned(),
            secret_access_key: SecretText::new(PASSWORD),
            session_token: None,
        }),
        server_side_encryption: None,
        object_lock: None,
        proxy: None,
    });
    let locked = Locked::new(Settings { location, key: SecretText::new(KEY), limits: None }).unwrap();
    let mut told = String::new();
    for _ in 0..5 {
        match locked.unlock().await {
            Ok(vault) => return Ok(vault),
            Err(error) => told = error.to_string(),
        }
    }
    Err(told)
}

fn point(number: u64) -> Point {
    Point {
        format: FORMAT,
        id: format!("{:010}-{number:026}", 1),
        namespace: "shop".to_owned(),
        application: "db".to_owned(),
        epoch: 1,
        region: "east".to_owned(),
        branch: false,
        consistent_at: Timestamp::UNIX_EPOCH,
        created_at: Timestamp::UNIX_EPOCH,
        objects: Objects { manifest: "00".to_owned(), count: 1, bytes: 2 },
        volumes: vec![],
        dumps: vec![],
        missing: vec![],
        skipped: vec![],
        suspicious: vec![],
        lock_until: None,
        previous: None,
    }
}

/// Points are written and entered; what was said to be, is. The error is a broken promise.
async fn keep_a_catalogue(server: SocketAddr, seed: u64) -> Result<String, String> {
    let proxy = Proxy::start(server, Plan::draw(seed)).await;
    let prefix = format!("catalogues/{seed}");
    let sound = vault(server, &prefix).await?;
    let harmed = match vault(proxy.address, &prefix).await {
        Ok(harmed) => harmed,
        Err(told) => return Ok(format!("the vault was not opened: {told}, {:?}", proxy.done())),
    };
    let wrong = |what: &str| Err(format!("{what} after {:?}", proxy.done()));
    sound.seal_head("shop", "db", 1, "east").await.map_err(|error| error.to_string())?;
    let (mut newest, mut failed) = (None, 0);
    for number in 0..8 {
        let point = point(number);
        if harmed.write_point(&point).await.is_err() {
            failed += 1;
            continue;
        }
        if sound.read_point("shop", "db", &point.id).await != Ok(point.clone()) {
            return wrong("a point that was reported as written is not there");
        }
        if harmed.enter_head(&point, 1, "east").await.is_ok() {
            newest = Some(point.id.clone());
        }
        if let Ok(read) = harmed.read_point("shop", "db", &point.id).await
            && read != point
        {
            return wrong("a point was read that no one wrote");
        }
    }
    let head = sound.read_head("shop", "db").await.map_err(|error| error.to_string())?;
    let latest = head.and_then(|(head, _)| head.latest);
    // The head is not signed: a bit that flips on the way, where there is no TLS, is read as it came, and written back.
    let flipped = proxy.done().contains_key(&Fault::Flip);
    if latest < newest && !flipped {
        return wrong("the head has forgotten a point that was reported as entered");
    }
    Ok(format!("{failed} of 8 points were not written, {:?}", proxy.done()))
}
