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
        CliError, Waiting,
        connection::Cluster,
        failover::{SUCCEEDED, absent},
        follow,
        output::{Printer, Tone, short},
        request,
    },
};

/// What to back up.
#[derive(Args, Debug)]
pub struct BackupArguments {
    /// The `ProtectedApplication`.
    pub application: String,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Make the `RecoveryPoint`, and follow it.
///
/// # Errors
/// When it is refused, cannot be made, ends without success, or takes longer than was allowed.
pub async fn run(cluster: &Cluster, wanted: &BackupArguments, printer: &mut Printer) -> Result<(), CliError> {
    let applications: Api<ProtectedApplication> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let points: Api<RecoveryPoint> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let application = applications
        .get_opt(&wanted.application)
        .await
        .map_err(request(format!("read the application {}", wanted.application)))?
        .ok_or_else(|| CliError::Refused(absent(&wanted.application, &cluster.namespace)))?;
    if let Some(why) = refusal(&application) {
        return Err(CliError::Refused(why));
    }
    let name = format!("{}-{}", wanted.application, Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let spec = RecoveryPointSpec { application: wanted.application.clone(), purpose: Purpose::Manual, id: None };
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
    match status.conditions.iter().find(|it| it.type_ == SUCCEEDED) {
        Some(it) if it.status == "True" => Ok(()),
        other => Err(CliError::Unsuccessful {
            what: format!("recovery point {name}"),
            message: other.map_or_else(String::new, |it| it.message.clone()),
        }),
    }
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
    let conditions = point.status.as_ref().map(|it| it.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == SUCCEEDED && it.status != "Unknown")
}

fn outcome(name: &str, status: &RecoveryPointStatus) -> String {
    let ended = status.conditions.iter().find(|it| it.type_ == SUCCEEDED);
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
