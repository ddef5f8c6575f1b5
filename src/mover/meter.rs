//! How far the work is: progress lines on stdout, and whether anything moves at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::{Progress, ProgressBars, ProgressType, RusticProgress};

use crate::core::mover_progress::{MoverProgress, PROGRESS};

/// Counts what the engine reports. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    phase: Mutex<String>,
    done: AtomicU64,
    total: AtomicU64,
    files: AtomicU64,
    steps: AtomicU64,
}

impl Meter {
    /// Begins a phase of the work.
    pub(super) fn phase(&self, name: &str) {
        let mut phase = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        name.trim_end_matches('.').clone_into(&mut phase);
        drop(phase);
        self.0.done.store(0, Ordering::Relaxed);
        self.0.total.store(0, Ordering::Relaxed);
        self.0.files.store(0, Ordering::Relaxed);
        self.step();
    }

    /// Says that so many files more are as they shall be.
    pub(super) fn files(&self, count: u64) {
        self.0.files.fetch_add(count, Ordering::Relaxed);
        self.step();
    }

    /// Says that something moved that is not counted.
    pub(super) fn step(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes whenever something moves.
    pub(super) fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// Writes one line with the state of the work: the operator reads it (`core::mover_progress`).
    pub(super) fn log(&self, seconds: u64) {
        let MoverProgress { phase, done, total, files } = self.now();
        tracing::info!(phase, done, total, files, seconds, "{}", PROGRESS);
    }

    /// The state of the work.
    pub(super) fn now(&self) -> MoverProgress {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        MoverProgress {
            phase: self.0.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            done: load(&self.0.done),
            total: load(&self.0.total),
            files: load(&self.0.files),
        }
    }
}

impl ProgressBars for Meter {
    fn progress(&self, kind: ProgressType, prefix: &str) -> Progress {
        match kind {
            ProgressType::Bytes => {
                self.phase(prefix);
                Progress::new(Bar { meter: self.clone(), counts: true })
            }
            ProgressType::Spinner | ProgressType::Counter => Progress::new(Bar { meter: self.clone(), counts: false }),
        }
    }
}

/// One of the engine's progress bars; only those of bytes count.
#[derive(Debug)]
struct Bar {
    meter: Meter,
    counts: bool,
}

impl RusticProgress for Bar {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, length: u64) {
        if self.counts {
            self.meter.0.total.store(length, Ordering::Relaxed);
        }
    }

    fn set_title(&self, _title: &str) {}

    fn inc(&self, count: u64) {
        self.meter.step();
        if self.counts {
            self.meter.0.done.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn finish(&self) {
        self.meter.step();
    }
}
