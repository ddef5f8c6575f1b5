//! What was measured, as text for people and as JSON for programs. It measures nothing.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One figure: ours against a peer's, or against a limit, both of the same run.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// What is measured.
    pub name: String,
    /// Ours: the median.
    pub ours: f64,
    /// The peer's: the median.
    pub peer: f64,
    /// What it is compared with.
    pub peer_name: String,
    /// Ours divided by the peer's: less is better.
    pub ratio: f64,
    /// What both are counted in.
    pub unit: String,
    /// The most memory that ours took in any run, in MiB.
    pub peak_mi_b: Option<f64>,
    /// The most memory that the peer took in any run, in MiB.
    pub peer_peak_mi_b: Option<f64>,
    /// The least and the most of ours.
    pub range: [f64; 2],
    /// The least and the most of the peer's.
    pub peer_range: [f64; 2],
    /// When.
    pub measured_at: Timestamp,
}

impl Figure {
    /// Of several runs each.
    pub fn new(name: impl Into<String>, unit: &str, ours: &Runs, peer_name: &str, peer: &Runs) -> Self {
        Self {
            name: name.into(),
            ours: rounded(ours.median()),
            peer: rounded(peer.median()),
            peer_name: peer_name.to_owned(),
            ratio: rounded(ours.median() / peer.median()),
            unit: unit.to_owned(),
            peak_mi_b: ours.peak().map(rounded),
            peer_peak_mi_b: peer.peak().map(rounded),
            range: ours.range().map(rounded),
            peer_range: peer.range().map(rounded),
            measured_at: Timestamp::now(),
        }
    }

    fn line(&self) -> String {
        let side = |value: f64, [least, most]: [f64; 2], peak: Option<f64>| {
            let range = if least < most { format!(" ({least}-{most})") } else { String::new() };
            let peak = peak.map_or(String::new(), |it| format!(", peak {it:.0} MiB"));
            format!("{value} {}{range}{peak}", self.unit)
        };
        format!(
            "{}\n    {:.2} x {}\n    ours: {}\n    peer: {}",
            self.name,
            self.ratio,
            self.peer_name,
            side(self.ours, self.range, self.peak_mi_b),
            side(self.peer, self.peer_range, self.peer_peak_mi_b)
        )
    }
}

/// What several runs of one thing gave.
#[derive(Default, Clone, Debug)]
pub struct Runs {
    values: Vec<f64>,
    peaks: Vec<f64>,
}

impl Runs {
    /// One run.
    pub fn one(value: f64, peak_mib: Option<f64>) -> Self {
        let mut runs = Self::default();
        runs.add(value, peak_mib);
        runs
    }

    /// Adds a run, and the most memory that it took.
    pub fn add(&mut self, value: f64, peak_mib: Option<f64>) {
        self.values.push(value);
        self.peaks.extend(peak_mib);
        self.values.sort_by(f64::total_cmp);
    }

    fn median(&self) -> f64 {
        self.values[self.values.len() / 2]
    }

    fn range(&self) -> [f64; 2] {
        [self.values[0], self.values[self.values.len() - 1]]
    }

    fn peak(&self) -> Option<f64> {
        self.peaks.iter().copied().reduce(f64::max)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Prints the figures.
pub fn print(figures: &[Figure]) {
    for figure in figures {
        println!("{}", figure.line());
    }
}

/// Writes all figures as JSON. Those of earlier runs stay that were not measured anew.
///
/// # Errors
/// When the file cannot be written.
pub fn write(figures: &[Figure], path: &Path) -> Result<()> {
    let same = |a: &Figure, b: &Figure| (&a.name, &a.peer_name) == (&b.name, &b.peer_name);
    // What cannot be read is of another version of this program.
    let mut all: Vec<Figure> = fs::read(path).ok().and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
    all.retain(|old| !figures.iter().any(|new| same(old, new)));
    all.extend_from_slice(figures);
    let mut text = serde_json::to_string_pretty(&all).context("write the figures as JSON")?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
