//! The mover's log: JSON lines on stdout, and a memory of warnings.
//!
//! What could not be set when a file was restored, or `rustic_core` only warns about, is kept by the `Witness`, so that
//! it can be reported.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How many warnings are kept as texts.
const KEPT: usize = 20;

/// What was warned about. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness(Arc<Mutex<Seen>>);

/// Warnings, counted, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl Witness {
    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of a warning.
    pub(super) fn note(&self, message: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.count += 1;
        if seen.first.len() < KEPT {
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            seen.first.push(line.chars().take(300).collect());
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
    fn many_warnings_are_counted_and_few_are_kept() {
        let witness = Witness::default();
        (0..1000).for_each(|number| witness.note(&format!("warning {number}")));
        assert_eq!((witness.seen().count, witness.seen().first.len()), (1000, KEPT));
    }
}
