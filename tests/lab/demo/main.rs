//! The demo: an application writes in one region, the region loses its power, and Reprise brings the application back
//! in the other one. It measures from outside, with a client that knows nothing of Reprise, and ends with 0 only when
//! every promise was kept.
//!
//! `demo` runs it; `demo client …` is the client, which it starts in the network of the lab's hub.

#[path = "../client.rs"]
mod client;
mod follow;
#[path = "../harness/mod.rs"]
mod harness;
mod report;

use std::{
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use reprise::api::application::{Role, Verdict};

use client::{Disruption, Writing};
use follow::Timeline;
use harness::{
    app::Writer,
    lab::{Lab, Region},
    product,
    shop::{self, SHOP},
    wait::{Look, until},
};
use report::{Promises, Report};

/// The region that serves first, and loses its power.
const FIRST: &str = "eu-west";
/// The region that takes over.
const SECOND: &str = "eu-north";
/// So long is written before the power loss, at least.
const BEFORE: Duration = Duration::from_secs(90);
/// So long is written after the recovery.
const AFTER: Duration = Duration::from_secs(30);

/// Reprise's demo.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What else this program does.
#[derive(Subcommand)]
enum Verb {
    /// Write numbered records through a public name (started by the demo itself).
    Client(Writing),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Some(Verb::Client(wanted)) => client::write(&wanted).map(|()| true),
        None => demo(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// The whole story. Whether every promise was kept.
fn demo() -> Result<bool> {
    say("two Kubernetes regions and a hub on this machine; the first time, their parts are built");
    let lab = Lab::fresh()?;
    let (west, north) = (lab.region(FIRST)?, lab.region(SECOND)?);
    let told = play(&lab, &west, &north);
    if told.is_err() {
        eprintln!("{}{}", north.story(SHOP.name), west.story(SHOP.name));
    }
    say("the lab is still up: look around with  eval \"$(tests/lab/lab env)\"  and end it with  make lab-down");
    told
}

fn play(lab: &Lab, west: &Region, north: &Region) -> Result<bool> {
    install(lab, [west, north])?;
    start(west, north)?;
    let directory = harness::file("target/demo");
    fs::create_dir_all(&directory)?;
    let file = directory.join("report.json");
    // That of an earlier run must not be taken for this one's.
    if file.exists() {
        fs::remove_file(&file)?;
    }
    let program = std::env::current_exe()?;
    say(&format!("a client writes twice a second to http://{}:{}", SHOP.hostname(), SHOP.port));
    let writer = Writer::start(lab, SHOP, &program, &directory, Duration::from_mins(45))?;
    let promises = Promises::read(west)?;
    protected(west, north, &writer, &promises)?;

    let began = Timestamp::now();
    println!("\n{}", lab.fault(&["power-loss", FIRST])?.trim());
    let disruption = Disruption { began, done: Timestamp::now() };
    let mut timeline = Timeline::new(disruption);
    let (failover, first_write) = timeline.follow(north, &writer, promises.rto + Duration::from_mins(5))?;
    thread::sleep(AFTER);
    let attempts = writer.finish()?;
    let account = client::judge(&attempts, &SHOP.records(north)?, Some(disruption), promises.rpo);
    let mut report = Report::new(disruption, &failover, &first_write, account)?;
    println!("{}", report.table(&promises));

    println!("{}", lab.fault(&["power-on", FIRST])?.trim());
    report.fenced = fenced(west)?;
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{}\nreport: {}", report.verdict(&promises), file.display());
    Ok(report.held(&promises))
}

/// The chart in both regions, and what they share.
fn install(lab: &Lab, regions: [&Region; 2]) -> Result<()> {
    let image = product::image()?;
    say("the image goes to both regions, and the chart is installed");
    lab.load(&image)?;
    let shared = product::shared(lab)?;
    thread::scope(|scope| {
        let installing = regions.map(|region| {
            let shared = shared.as_str();
            scope.spawn(move || {
                product::install(region, &[])?;
                region.apply(shared)?;
                product::await_shared(region, Duration::from_secs(90))
            })
        });
        installing.into_iter().try_for_each(|it| it.join().expect("installing does not panic"))
    })
}

/// The same objects in both regions; only the first one serves.
fn start(west: &Region, north: &Region) -> Result<()> {
    say("the application starts in eu-west, and loads its database");
    shop::protect(west, |it| it)?;
    shop::deploy(west)?;
    SHOP.await_status(west, "a serving, healthy application", Duration::from_mins(4), |it| {
        it.role == Some(Role::Active) && it.health.as_ref().is_some_and(|it| it.verdict == Verdict::Healthy)
    })?;
    say("the same objects are applied in eu-north, where they stay at zero replicas");
    shop::protect(north, |it| it)?;
    SHOP.await_role(north, Role::Standby, Duration::from_secs(90))?;
    shop::deploy(north)?;
    stopped(north, Duration::from_mins(2))
}

fn stopped(region: &Region, within: Duration) -> Result<()> {
    until(&format!("no replicas and no pods in {}", region.name), within, || {
        let (replicas, pods) = SHOP.running(region)?;
        let instead = format!("{replicas} replicas, {pods} pods");
        Ok(if replicas == 0 && pods == 0 { Look::Seen(()) } else { Look::NotYet(instead) })
    })
}

/// Wait until there is something to lose, and nothing wrong: a good point of what the client wrote, known to both
/// regions, and a minute and a half of records.
fn protected(west: &Region, north: &Region, writer: &Writer, promises: &Promises) -> Result<()> {
    let (begin, since) = (Instant::now(), Timestamp::now());
    until("a good recovery point of what is written", Duration::from_mins(5), || {
        let [here, there] = [SHOP.status(west)?, SHOP.status(north)?];
        let healthy = here.health.as_ref().is_some_and(|it| it.verdict == Verdict::Healthy);
        let point = here.last_point.as_ref().map(|it| it.consistent_at.0);
        let fresh = point.is_some_and(|at| at > since && at > Timestamp::now() - promises.rpo);
        let standby = there.role == Some(Role::Standby);
        let written = writer.attempts()?.iter().filter(|it| it.acknowledged()).count();
        let instead = format!("healthy {healthy}, last point {point:?}, standby {standby}, {written} records");
        let enough = begin.elapsed() >= BEFORE && written >= 100;
        Ok(if healthy && fresh && standby && enough { Look::Seen(()) } else { Look::NotYet(instead) })
    })?;
    say("protected: healthy, a good recovery point, a standby");
    Ok(())
}

/// The first region is back: it must not serve, and must have saved what it had written.
fn fenced(west: &Region) -> Result<bool> {
    let back = SHOP.await_status(west, "a fenced standby with its branch saved", Duration::from_mins(5), |it| {
        let fence = it.fence.as_ref();
        it.role == Some(Role::Standby) && fence.is_some_and(|it| it.stopped_at.is_some() && it.branch.is_some())
    })?;
    stopped(west, Duration::from_mins(1))?;
    let branch = back.fence.and_then(|it| it.branch).context("the branch is gone again")?;
    ensure!(back.active_region.as_deref() == Some(SECOND), "{FIRST} takes {:?} for active", back.active_region);
    println!("{FIRST} is back as a standby: 0 replicas, 0 pods; what it had written is saved as {branch}");
    Ok(true)
}

/// A line for whoever watches.
fn say(what: &str) {
    println!("[{}] {what}", Timestamp::now().strftime("%H:%M:%S"));
}
