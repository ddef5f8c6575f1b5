//! The claim: who may serve an application, decided as a pure step function.
//!
//! One object per application lies in a vault and is changed by compare-and-swap only. Each region keeps a `State`
//! of it and feeds `step::step` with what it observes (replies of the vault, the passing of time, wishes of the rest
//! of the operator); out come requests to send. Nothing here reads a clock, draws a random number or waits, so that
//! a simulation or an exhaustive search can drive exactly the code that runs.
//!
//! Reading order: `record` (what is stored), `time` (whose clock counts how), `state` (what a region remembers, and
//! what follows from it), `step` (what it learns from an observation), `draft` (what it writes), `due` (when), `view`
//! (what the rest of the operator may know), and `mark` (what a holder's changes elsewhere bear). `rules` is for tests.
//!
//! The rules that hold here:
//! - Expiry is judged on one's own clocks: the holder takes the larger of boot and wall time, a standby the smaller.
//! - A holder's validity runs from when its renewal was sent, and counts once the renewal is known to have landed.
//! - A write whose outcome is not known is read back, and recognised by its nonce, before anything else is written.
//! - After a restart the own claim is expired unless the journal proves when it was last renewed; the other's is fresh.
//! - An epoch or sequence number that fell is a conflict, and so is an absent claim that somebody remembers.
//! - Between two requests of one claim there is never a third: at most one is in flight.

pub mod draft;
pub mod due;
pub mod mark;
pub mod record;
mod rules;
pub mod state;
pub mod step;
pub mod time;
pub mod view;

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
#[path = "../../../tests/claim_search/mod.rs"]
mod search;
#[cfg(test)]
mod tests;
