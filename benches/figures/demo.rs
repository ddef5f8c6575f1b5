//! The demo, several times: what a client outside saw of a power loss, against what the application was promised. Each
//! run has a lab of its own; the last one goes down at the end.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::report::{Figure, Runs};

const RUNS: usize = 5;
/// One run, with all that it builds.
const LONGEST: Duration = Duration::from_hours(2);
/// The objectives of `tests/lab/demo/protection.yaml`, in seconds.
const PROMISED: [(&str, &str, f64); 2] = [("rtoSeconds", "RTO", 300.0), ("rpoSeconds", "RPO", 60.0)];
/// Parts of the time to recovery: they are compared with the whole of it.
const PARTS: [(&str, &str); 3] = [
    ("detectSeconds", "detection"),
    ("restoreSeconds", "restore of a database of 300 MiB"),
    ("dnsSeconds", "switch of the name, until the first write"),
];

/// Runs the demo, and reads its reports.
///
/// # Errors
/// When a run does not keep its promises.
pub async fn measure_all() -> Result<Vec<Figure>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut reports = Vec::new();
    for run in 1..=RUNS {
        let begin = Instant::now();
        eprintln!("demo {run} of {RUNS}");
        let log = fs::File::create(root.join("target/bench/demo.log")).context("make target/bench/demo.log")?;
        let mut program = Command::new(root.join("scripts/demo"));
        program.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let ended = timeout(LONGEST, program.status()).await.context("the demo took too long")??;
        ensure!(ended.success(), "the demo broke a promise: see target/bench/demo.log");
        let report = fs::read_to_string(root.join("target/demo/report.json")).context("read the demo's report")?;
        eprintln!("{report}in {} s", begin.elapsed().as_secs());
        reports.push(serde_json::from_str::<Value>(&report)?);
    }
    let down = Command::new(root.join("tests/lab/lab")).arg("down").stdout(Stdio::null()).status().await?;
    ensure!(down.success(), "the lab did not go down");
    let runs = |field: &str| {
        let mut runs = Runs::default();
        for report in &reports {
            runs.add(report[field].as_f64().with_context(|| format!("the report has no {field}"))?, None);
        }
        anyhow::Ok(runs)
    };
    let mut figures = Vec::new();
    for (field, name, limit) in PROMISED {
        let promised = Runs::one(limit, None);
        figures.push(Figure::new(format!("demo: {name}"), "s", &runs(field)?, "the objective", &promised));
    }
    for (field, name) in PARTS {
        let whole = runs("rtoSeconds")?;
        figures.push(Figure::new(format!("demo: {name}"), "s", &runs(field)?, "the whole time to recovery", &whole));
    }
    Ok(figures)
}
