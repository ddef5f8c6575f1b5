//! Reprise: a Kubernetes operator for high availability and disaster recovery across regions.
//!
//! Where what stands, in the order to read it:
//!
//! - `api`: the kinds: what users write, and what they are told.
//! - `core`: the decisions, as functions of plain values. `core::effect` lists everything Reprise can do to the world,
//!   `core::claim` is the protocol by which regions agree on who serves.
//! - `operator`: the shell: one loop for all kinds that observes, decides, performs, and writes the status.
//! - `vault`, `capture`, `mover`, `exec`, `traffic`, `probe`: the world: object storage, Kubernetes objects, volume data,
//!   commands in pods, DNS, health.
//! - `cli`: `kubectl reprise`.
//! - `inspect`: `reprise vault …`, which `cli` runs inside the operator's pod: what is asked of a vault.
//!
//! Invariants: `core` sees no client and no clock; the world is changed in `operator::perform` and by the work it
//! begins, and nowhere else; what cannot be undone happens only after its intent stands in an observed status.
//! `tests/architecture.rs` holds the direction of dependencies.

// The files of tests/ that are a part of the library's own tests name it as its users do.
#[cfg(test)]
extern crate self as reprise;

pub mod api;
pub mod capture;
pub mod cli;
pub mod core;
pub mod exec;
pub mod inspect;
pub mod mover;
pub mod operator;
pub mod probe;
pub mod traffic;
pub mod vault;
