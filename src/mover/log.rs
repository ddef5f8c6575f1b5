//! The mover's log: JSON lines on stdout, and a memory of what the engine only warns about.
//!
//! `rustic_core` logs a warning where it skips a file or fails to restore an owner, and goes on. The `Witness` keeps
//! these warnings, so that they can be reported.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How many warnings are kept as texts.
const KEPT: usize = 20;

/// What the engine warned about since the last look. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness(Arc<Mutex<Seen>>);

/// Warnings, counted, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Warnings about entries of the source that were left out.
    pub(super) skipped: u64,
    /// The first of them.
    pub(super) first_skipped: Vec<String>,
    /// Other warnings.
    pub(super) others: u64,
    /// The first of them.
    pub(super) first_others: Vec<String>,
}

impl Witness {
    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of one of the engine's warnings.
    pub(super) fn note(&self, message: &str) {
        // A file system without extended attributes has none to lose; and what is surplus in a directory that is
        // restored is known better in `restore`.
        let unsupported = message.contains("os error 95") || message.contains("Unsupported");
        if (message.contains("xargs") && unsupported) || message.starts_with("Note: additional entries") {
            return;
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { skipped, first_skipped, others, first_others } = &mut *seen;
        let (count, first) =
            if message.starts_with("ignoring error") { (skipped, first_skipped) } else { (others, first_others) };
        *count += 1;
        if first.len() < KEPT {
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            first.push(line.chars().take(300).collect());
        }
    }
}

/// Sets up the log of this process. `RUST_LOG` widens or narrows it; warnings are witnessed whatever it says.
///
/// When another log is set up already, the engine's warnings are not seen: call it first.
pub(super) fn set_up() -> Witness {
    let witness = Witness::default();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rustic_core=warn"));
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_filter(filter);
    let set_up = tracing_subscriber::registry().with(WitnessLayer(witness.clone())).with(lines).try_init();
    if set_up.is_err() {
        tracing::warn!("a log was set up before the mover's own: the engine's warnings are not reported");
    }
    witness
}

struct WitnessLayer(Witness);

impl<S: Subscriber> Layer<S> for WitnessLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        if words.target.starts_with("rustic_core") {
            self.0.note(&words.message);
        }
    }
}

/// The message of an event of the `log` crate, and where it comes from.
#[derive(Default)]
struct Words {
    message: String,
    target: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "log.target" => value.clone_into(&mut self.target),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_left_out_is_told_from_other_warnings() {
        let witness = Witness::default();
        witness.note("ignoring error: Failed to open file");
        witness.note("restore a/b: setting UID/GID failed.");
        witness.note("ignoring error obtaining xargs: Error: Os { code: 95, kind: Unsupported }");
        let seen = witness.seen();
        assert_eq!((seen.skipped, seen.others), (1, 1));
        assert_eq!(seen.first_others, ["restore a/b: setting UID/GID failed."]);
    }

    #[test]
    fn many_warnings_are_counted_and_few_are_kept() {
        let witness = Witness::default();
        (0..1000).for_each(|number| witness.note(&format!("warning {number}")));
        assert_eq!((witness.seen().others, witness.seen().first_others.len()), (1000, KEPT));
    }
}
