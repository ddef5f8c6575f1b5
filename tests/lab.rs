//! The lab tests: the product in two real Kubernetes clusters on this machine, with real faults. One test per promise,
//! one lab for all of them, one after the other: `scripts/lab-tests`.
//!
//! Each test has an application and a namespace of its own, and mends what it broke, also when it fails, so that their
//! order does not matter. The script brings the lab up; started without it, they use the one that is up.

#[expect(dead_code, reason = "the client is a program of its own here: the demo's; the judge is used")]
#[path = "lab/client.rs"]
mod client;
#[path = "lab/harness/mod.rs"]
mod harness;
#[path = "lab/scenarios/mod.rs"]
mod scenarios;
