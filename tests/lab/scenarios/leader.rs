//! The operator's replicas: one leads, and another takes over from a leader that hangs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;

use super::stage::{Scene, WEST, throughout};
use crate::harness::{
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

/// The pod that leads.
pub(super) fn leader(region: &Region) -> Result<String> {
    let lease: Lease = region.get(NAMESPACE, "reprise")?.context("there is no lease of the operator")?;
    lease.spec.and_then(|it| it.holder_identity).context("nobody holds the lease")
}

#[test]
fn a_leader_that_hangs_is_replaced_within_20_seconds_and_does_not_lead_again_when_it_wakes() -> Result<()> {
    let scene = Scene::begin()?;
    let first = leader(scene.west)?;
    let begin = Instant::now();
    scene.fault(&["pause", &format!("operator:{WEST}"), &first])?;
    let second = until("another leader", Duration::from_secs(20), || {
        let now = leader(scene.west)?;
        Ok(if now == first { Look::NotYet(now) } else { Look::Seen(now) })
    })
    .with_context(|| scene.west.story(NAMESPACE))?;
    println!("{first} was replaced by {second} after {:.1} s", begin.elapsed().as_secs_f64());
    scene.mend()?;
    throughout(Duration::from_secs(10), || {
        let now = leader(scene.west)?;
        Ok((now != second).then(|| format!("{now} leads, after {second} had taken over")))
    })?;
    let pod: k8s_openapi::api::core::v1::Pod = scene.west.get(NAMESPACE, &first)?.context("the first leader's pod")?;
    let restarts: i32 =
        pod.status.and_then(|it| it.container_statuses).iter().flatten().map(|it| it.restart_count).sum();
    ensure!(restarts >= 1, "{first} had lost the lease, and its process did not end");
    Ok(())
}
