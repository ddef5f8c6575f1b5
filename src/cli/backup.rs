//! `kubectl reprise backup`: asks this cluster's operator for a recovery point now.
//!
//! It makes a `RecoveryPoint` and, if told so, waits for its end. The data is read by the operator's movers.

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::PostParams};

use crate::{
    api::{
        application::{ProtectedApplication, Role},
        recovery_point::{Purpose, RecoveryPoint, RecoveryPointSpec, RecoveryPointStatus},
    },
    cli::{
        CliError, Waiting, application,
        connection::Cluster,
        follow,
        output::{Printer, Tone, short},
        request, succeeded,
    },
    core::condition::{self, SUCCEEDED},
};

/// What to back up.
#[derive(Args, Debug)]
pub struct BackupArguments {
    /// The `ProtectedApplication`.
    pub application: String,
    /// Have retention leave the point alone, until its `spec.hold` is set to false.
    #[arg(long)]
    pub hold: bool,
    /// What the point is for.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Make the `RecoveryPoint`, and follow it.
///
/// # Errors
/// When it is refused, cannot be made, ends without success, or takes longer than was allowed.
pub async fn run(cluster: &Cluster, wanted: &BackupArguments, printer: &mut Printer) -> Result<(), CliError> {
    let points: Api<RecoveryPoint> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let application = application(cluster, &wanted.application).await?;
    if let Some(why) = refusal(&application) {
        return Err(CliError::Refused(why));
    }
    let name = format!("{}-{}", wanted.application, Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let spec = RecoveryPointSpec {
        application: wanted.application.clone(),
        purpose: Purpose::Manual,
        hold: wanted.hold,
        description: wanted.description.clone(),
        id: None,
    };
    let made = points
        .create(&PostParams::default(), &RecoveryPoint::new(&name, spec))
        .await
        .map_err(request("make the recovery point"))?;
    if !wanted.waiting.wait {
        printer.answer(&made, |_| format!("recoverypoint.reprise.dev/{name} created\n"))?;
        return Ok(());
    }
    printer.progress(&format!("recoverypoint.reprise.dev/{name} created"), Tone::Plain);
    let ended = follow(&points, &name, wanted.waiting.timeout, ended).await?.ok_or_else(|| CliError::TimedOut {
        what: format!("recovery point {name}"),
        after: wanted.waiting.timeout,
        follow: format!("kubectl get recoverypoint -n {} {name} -w", cluster.namespace),
    })?;
    let status = ended.status.clone().unwrap_or_default();
    printer.answer(&ended, |_| outcome(&name, &status))?;
    succeeded(format!("recovery point {name}"), &status.conditions)
}

/// Why this cluster cannot be asked for a point, if it cannot: only the region that serves has data worth keeping.
fn refusal(application: &ProtectedApplication) -> Option<String> {
    let status = application.status.as_ref()?;
    let elsewhere = match status.role? {
        Role::Active | Role::Activating => return None,
        Role::Fencing | Role::Standby | Role::Unknown => status.active_region.as_deref().unwrap_or("another region"),
    };
    Some(format!(
        "{} is not served from this region but from {elsewhere}: choose that cluster with --context or --kubeconfig",
        application.name_any()
    ))
}

fn ended(point: &RecoveryPoint) -> bool {
    point.status.as_ref().is_some_and(|it| condition::ended(&it.conditions))
}

fn outcome(name: &str, status: &RecoveryPointStatus) -> String {
    let ended = condition::find(&status.conditions, SUCCEEDED);
    let mut out = format!("recovery point {name}: {}\n", ended.map_or("unknown", |it| it.reason.as_str()));
    if let Some(id) = &status.id {
        let _ = writeln!(out, "  in the vault: {id}");
    }
    if let Some(at) = &status.consistent_at {
        let _ = writeln!(out, "  its data is of {}", at.0);
    }
    if let (Some(bytes), Some(seconds)) = (status.bytes, status.duration_seconds) {
        let _ = writeln!(out, "  {} read in {}", bytesize::ByteSize::b(bytes).display().iec(), short(seconds));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_region_that_does_not_serve_is_not_asked_for_a_point() {
        let application = |role: &str| -> ProtectedApplication {
            serde_json::from_value(json!({
                "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication", "metadata": {"name": "shop"},
                "spec": {"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "eu-west"}],
                         "backup": {"vaults": ["main"]}},
                "status": {"role": role, "activeRegion": "eu-west", "conditions": []},
            }))
            .expect("a ProtectedApplication")
        };
        let why = refusal(&application("Standby")).expect("refused");
        assert!(why.contains("but from eu-west"), "{why}");
        assert_eq!(refusal(&application("Active")), None);
    }

    #[test]
    fn a_run_has_ended_only_when_its_condition_says_so() {
        let point = |status: &str| -> RecoveryPoint {
            serde_json::from_value(json!({
                "apiVersion": "reprise.dev/v1alpha1", "kind": "RecoveryPoint", "metadata": {"name": "p"},
                "spec": {"application": "shop"},
                "status": {"conditions": [{"type": "Succeeded", "status": status, "reason": "X", "message": "",
                                           "lastTransitionTime": "2026-11-22T11:00:00Z"}]},
            }))
            .expect("a RecoveryPoint")
        };
        assert!(!ended(&point("Unknown")));
        assert!(ended(&point("True")) && ended(&point("False")));
    }
}
