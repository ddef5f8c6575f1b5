//! Tests of the mover as it runs in its pod: a process with a task in its environment, over a vault in a directory.

mod ahead;
mod application_key;
mod bucket;
mod copy;
mod damage;
mod device;
mod dump;
mod exclude;
mod export;
mod export_bucket;
mod fidelity;
mod hostile;
pub(super) mod lab;
mod locks;
mod look;
mod memory;
mod paths;
mod prune;
mod scrub;
mod seeds;
mod tasks;

/// The body of the processes that the tests start.
#[test]
#[ignore = "it is what the other tests start"]
fn as_a_process() {
    let vaults = std::env::var(lab::VAULTS).unwrap();
    std::process::exit(super::run_to_code(&vaults).into());
}
