//! How far pieces of work are: what stands in the operator's memory, and what a decision sees of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Outcome, Work};

/// Why a piece of work failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One word in `CamelCase`.
    pub reason: &'static str,
    /// A sentence that says what was tried and what to do.
    pub message: String,
    /// Whether trying again is useless.
    pub lasting: bool,
}

/// How far a piece of work is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It goes on.
    Running,
    /// It ended well.
    Done {
        /// When.
        at: Timestamp,
        /// The work, as it was begun.
        work: Box<Work>,
        /// What came of it.
        outcome: Outcome,
    },
    /// It failed.
    Failed {
        /// When.
        at: Timestamp,
        /// How many times in a row.
        times: u32,
        /// Why.
        failure: Failure,
    },
}

/// Progress of an object's work, by name.
pub type Works = BTreeMap<&'static str, Progress>;

/// How long to wait after the `times`th failure in a row: 1, 2, 4, ... 60 seconds.
#[must_use]
pub fn retry_after(times: u32) -> SignedDuration {
    doubled(1, times, 60)
}

/// How long to wait after the `times`th failure in a row, in seconds: `first`, doubled each time, at most `most`.
#[must_use]
pub fn doubled(first: i64, times: u32, most: i64) -> SignedDuration {
    SignedDuration::from_secs(first.saturating_mul(1 << times.saturating_sub(1).min(30)).min(most))
}

/// What a decision sees of one piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<'a> {
    /// Not begun, or due for another try: begin it. The failure before, if there was one.
    Due(Option<&'a Failure>),
    /// Goes on, or waits for its next try.
    Waiting(Option<&'a Failure>),
    /// Ended well.
    Done(&'a Outcome, Timestamp),
}

/// Looks a piece of work up.
#[must_use]
pub fn see<'a>(works: &'a Works, name: &str, now: Timestamp) -> Seen<'a> {
    match works.get(name) {
        None => Seen::Due(None),
        Some(Progress::Running) => Seen::Waiting(None),
        Some(Progress::Done { at, outcome, .. }) => Seen::Done(outcome, *at),
        Some(Progress::Failed { at, times, failure }) if *at + retry_after(*times) <= now => Seen::Due(Some(failure)),
        Some(Progress::Failed { failure, .. }) => Seen::Waiting(Some(failure)),
    }
}
