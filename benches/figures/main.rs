//! `make bench`: figures of this project, each against a peer or a limit in the same run.
//!
//! Volumes against restic, a warm standby against a cold one, objects against bare requests, the operator at rest against
//! its limits, the demo against what it promises. What it starts listens on loopback or in the lab only, and ends with it;
//! what it writes lies below `target/bench`, and but for `report.json` is gone when it ends. It says what is; it does not
//! judge it. `REPRISE_BENCH_FOLDER` names another place for what is read and written: on a tmpfs the disk is no part of the
//! figures.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::report::Figure;

mod ahead;
mod cluster;
mod demo;
mod idle;
mod objects;
mod process;
mod report;
mod storage;
mod volumes;

/// The parts, in the order in which they are run.
const PARTS: [&str; 5] = ["volumes", "ahead", "objects", "idle", "demo"];
/// What is run only when it is named: two million files, an hour or more, and 24 GiB of room.
const MANY: &str = "many-files";

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo bench` adds a word of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let interrupted = async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        anyhow::Ok(())
    };
    let outcome = tokio::select! {
        outcome = run(&arguments) => outcome,
        _ = interrupted => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<()> {
    if objects::task(arguments).await? {
        return Ok(());
    }
    if let Some(other) = arguments.iter().find(|it| !PARTS.contains(&it.as_str()) && *it != MANY) {
        bail!("no such part: {other} (there are: {}, {MANY})", PARTS.join(", "));
    }
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&place).context("make target/bench")?;
    let lock = File::create(place.join("lock")).context("make target/bench/lock")?;
    lock.try_lock().context("another run is under way in target/bench")?;
    let elsewhere = std::env::var_os("REPRISE_BENCH_FOLDER").map(PathBuf::from);
    let folder = Run::begin(elsewhere.as_deref().unwrap_or(&place))?;
    let (begin, before) = (Instant::now(), load());
    let mut figures = Vec::new();
    let path = place.join("report.json");
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|it| it == part);
    if wanted("volumes") {
        tell(&mut figures, volumes::measure_all(&folder.0).await?, &path)?;
    }
    if arguments.iter().any(|it| it == MANY) {
        tell(&mut figures, volumes::measure_many(&folder.0).await?, &path)?;
    }
    if wanted("ahead") {
        tell(&mut figures, ahead::measure_all(&folder.0).await?, &path)?;
    }
    if wanted("objects") {
        tell(&mut figures, objects::measure_all(&folder.0).await?, &path)?;
    }
    if wanted("idle") {
        tell(&mut figures, idle::measure_all(&folder.0).await?, &path)?;
    }
    if wanted("demo") {
        tell(&mut figures, demo::measure_all().await?, &path)?;
    }
    println!("\n{} figures in {:.0} s", figures.len(), begin.elapsed().as_secs_f64());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("load of this machine, {processors} processors: {before} at the start, {} at the end", load());
    println!("as JSON: {}", path.display());
    Ok(())
}

/// What else goes on here: other work makes all figures worse, and ratios less certain.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Prints the figures of one part, and writes all there are: a run that is interrupted keeps what it has.
fn tell(all: &mut Vec<Figure>, new: Vec<Figure>, path: &Path) -> Result<()> {
    report::print(&new);
    all.extend(new);
    report::write(all, path)
}

/// The directory of one run, removed with this value. What a run left that was killed is removed by the next one.
struct Run(PathBuf);

impl Run {
    fn begin(place: &Path) -> Result<Self> {
        let folder = place.join("reprise-bench");
        if folder.exists() {
            fs::remove_dir_all(&folder).context("remove what the last run left")?;
        }
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The servers of an interrupted run may still be writing for a moment.
        for _ in 0..20 {
            if fs::remove_dir_all(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("bench: {} could not be removed; the next run will", self.0.display());
    }
}
