//! `kubectl reprise status`: every application against its objectives, as this region's operator last wrote them.
//!
//! It computes nothing that the operator has not measured, but for ages, which run on.

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use crate::{
    api::{
        application::{ProtectedApplication, Role, Verdict},
        failover::{Failover, StepName},
    },
    cli::{
        CliError,
        connection::Cluster,
        copies::{self, Copy, copies},
        failover::active,
        output::{Cell, Printer, Tone, short, table},
        request,
    },
    core::condition::{FAILOVER_ADVISED, SUCCEEDED, find, is_true},
};

/// What to show.
#[derive(Args, Debug)]
pub struct StatusArguments {
    /// One application. Default: all of the namespace.
    pub application: Option<String>,
    /// The applications of every namespace.
    #[arg(short = 'A', long, conflicts_with_all = ["application", "namespace"])]
    pub all_namespaces: bool,
}

/// One application: what `-o json` and `-o yaml` print, as a list of these.
#[derive(Serialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub application: String,
    /// The region whose operator wrote this. Absent before it has.
    pub region: Option<String>,
    /// What that region is to the application.
    pub role: Option<Role>,
    /// The region that holds the claim.
    pub active_region: Option<String>,
    /// The verdict of the probes.
    pub health: Option<Verdict>,
    /// The age of the newest good point, and what was promised.
    pub rpo: Figure,
    /// What the last failover took, and what was promised.
    pub rto: Figure,
    /// The availability that was measured.
    pub slo: Option<String>,
    /// The availability that was promised.
    pub slo_objective: Option<String>,
    /// The newest good point.
    pub last_point: Option<String>,
    /// The failover that is running in this cluster.
    pub failover: Option<Running>,
    /// Why a failover to this region is advised, and what keeps it from being started. Absent when it is not advised.
    pub failover_advised: Option<String>,
    /// What other vaults have of it, where it serves.
    pub copies: Vec<Copy>,
}

/// A figure against its objective, in seconds.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// What was measured. Absent when nothing was.
    pub measured_seconds: Option<u64>,
    /// What was promised.
    pub objective_seconds: u64,
}

/// A failover that has not ended.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Where it goes.
    pub to: String,
    /// The step it is at.
    pub step: Option<StepName>,
}

/// Print the applications.
///
/// # Errors
/// When the API server cannot be asked, or the answer not be printed.
pub async fn run(cluster: &Cluster, wanted: &StatusArguments, printer: &mut Printer) -> Result<(), CliError> {
    let client = cluster.client.clone();
    let (applications, failovers): (Api<ProtectedApplication>, Api<Failover>) = if wanted.all_namespaces {
        (Api::all(client.clone()), Api::all(client))
    } else {
        (Api::namespaced(client.clone(), &cluster.namespace), Api::namespaced(client, &cluster.namespace))
    };
    let everything = ListParams::default();
    let listed = match &wanted.application {
        Some(name) => vec![applications.get(name).await.map_err(request(format!("read the application {name}")))?],
        None => applications.list(&everything).await.map_err(request("list applications"))?.items,
    };
    let failovers = failovers.list(&everything).await.map_err(request("list failovers"))?.items;
    let now = Timestamp::now();
    let rows: Vec<Row> = listed.iter().map(|it| row(it, &failovers, now)).collect();
    printer.answer(&rows, |colour| {
        let copies: Vec<Copy> = rows.iter().flat_map(|it| it.copies.clone()).collect();
        text(&rows, wanted.all_namespaces, &cluster.namespace, colour) + &copies::text(&copies, now, colour)
    })?;
    Ok(())
}

/// What is known of one application at `now`.
#[must_use]
pub fn row(application: &ProtectedApplication, failovers: &[Failover], now: Timestamp) -> Row {
    let (name, namespace) = (application.name_any(), application.namespace().unwrap_or_default());
    let (spec, status) = (&application.spec, application.status.clone().unwrap_or_default());
    let age = |at: Timestamp| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
    let mine = |it: &&Failover| {
        it.spec.application == name && it.namespace().is_none_or(|there| there == namespace) && active(it)
    };
    let running = failovers.iter().find(mine).map(|it| Running {
        name: it.name_any(),
        to: it.spec.to.clone(),
        step: it.status.as_ref().and_then(|status| status.step),
    });
    let measured = reached(&name, &namespace, failovers);
    Row {
        region: status.region,
        role: status.role,
        active_region: status.active_region,
        health: status.health.map(|it| it.verdict),
        rpo: Figure {
            measured_seconds: status.last_point.as_ref().map(|it| age(it.consistent_at.0)),
            objective_seconds: spec.objectives.rpo.as_secs(),
        },
        rto: Figure {
            measured_seconds: status.last_failover.map(|it| it.rto_seconds).or(measured),
            objective_seconds: spec.objectives.rto.as_secs(),
        },
        slo: status.slo.map(|it| it.availability),
        slo_objective: spec.objectives.slo.as_ref().map(|it| it.availability.clone()),
        last_point: status.last_point.map(|it| it.id),
        failover: running,
        failover_advised: find(&status.conditions, FAILOVER_ADVISED)
            .filter(|it| it.status == "True")
            .map(|it| it.message.clone()),
        copies: copies(application, now),
        application: name,
        namespace,
    }
}

/// The recovery time of the newest failover that succeeded here: for an operator that has not written it up yet.
fn reached(application: &str, namespace: &str, failovers: &[Failover]) -> Option<u64> {
    let succeeded = failovers
        .iter()
        .filter(|it| it.spec.application == application && it.namespace().is_none_or(|there| there == namespace));
    succeeded
        .filter_map(|it| it.status.as_ref())
        .filter(|it| is_true(&it.conditions, SUCCEEDED))
        .max_by_key(|it| it.finished_at.as_ref().map(|at| at.0))
        .and_then(|it| it.rto_seconds)
}

fn text(rows: &[Row], with_namespace: bool, namespace: &str, colour: bool) -> String {
    if rows.is_empty() {
        return if with_namespace {
            "No protected application in this cluster.\n".to_owned()
        } else {
            format!("No protected application in namespace {namespace}.\n")
        };
    }
    let mut headings = vec!["APPLICATION", "ROLE", "ACTIVE", "HEALTH", "RPO", "RTO", "SLO", "LAST POINT"];
    if with_namespace {
        headings.insert(0, "NAMESPACE");
    }
    let lines: Vec<Vec<Cell>> = rows.iter().map(|row| cells(row, with_namespace)).collect();
    let mut out = table(&headings, &lines, colour);
    for row in rows {
        if let Some(it) = &row.failover {
            let step = it.step.map_or_else(|| "has not begun".to_owned(), |step| format!("is at {step:?}"));
            let _ = writeln!(out, "\n{}: failover {} to {} {step}.", row.application, it.name, it.to);
        } else if let Some(why) = &row.failover_advised {
            let _ = writeln!(out, "\n{}: failover advised: {why}", row.application);
        }
    }
    out
}

fn cells(row: &Row, with_namespace: bool) -> Vec<Cell> {
    let unknown = || Cell::toned("unknown", Tone::Doubtful);
    let role = row.role.map_or_else(unknown, |role| match role {
        Role::Active => Cell::toned("Active", Tone::Good),
        Role::Standby => Cell::plain("Standby"),
        Role::Activating => Cell::toned("Activating", Tone::Doubtful),
        Role::Fencing => Cell::toned("Fencing", Tone::Doubtful),
        Role::Unknown => Cell::toned("Unknown", Tone::Bad),
    });
    let health = row.health.map_or_else(unknown, |verdict| match verdict {
        Verdict::Healthy => Cell::toned("Healthy", Tone::Good),
        Verdict::Unhealthy => Cell::toned("Unhealthy", Tone::Bad),
        Verdict::Unknown => Cell::toned("Unknown", Tone::Doubtful),
    });
    let slo = match (&row.slo, &row.slo_objective) {
        (Some(measured), Some(objective)) => Cell::plain(format!("{measured} / {objective}")),
        (Some(measured), None) => Cell::plain(measured),
        (None, Some(objective)) => Cell::toned(format!("unmeasured / {objective}"), Tone::Doubtful),
        (None, None) => Cell::plain("-"),
    };
    let mut rpo = figure(row.rpo, "no point");
    if row.role != Some(Role::Active) && rpo.tone == Tone::Bad {
        // Other regions ask the vault for the newest point now and then: there may be a younger one.
        rpo.tone = Tone::Doubtful;
    }
    let mut cells = vec![
        Cell::plain(&row.application),
        role,
        Cell::plain(row.active_region.as_deref().unwrap_or("-")),
        health,
        rpo,
        figure(row.rto, "unproven"),
        slo,
        Cell::plain(row.last_point.as_deref().unwrap_or("-")),
    ];
    if with_namespace {
        cells.insert(0, Cell::plain(&row.namespace));
    }
    cells
}

/// What was never measured is never shown as good.
fn figure(it: Figure, unmeasured: &str) -> Cell {
    let objective = short(it.objective_seconds);
    match it.measured_seconds {
        None => Cell::toned(format!("{unmeasured} / {objective}"), Tone::Doubtful),
        Some(seconds) => {
            let tone = if seconds <= it.objective_seconds { Tone::Good } else { Tone::Bad };
            Cell::toned(format!("{} / {objective}", short(seconds)), tone)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn application(status: &serde_json::Value) -> ProtectedApplication {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
            "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {
                "objectives": {"rto": "5m", "rpo": "1m", "slo": {"availability": "99.9%"}},
                "regions": [{"name": "eu-west"}, {"name": "eu-north"}],
                "backup": {"vaults": ["main"]},
            },
            "status": status,
        }))
        .expect("a ProtectedApplication")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn what_was_never_measured_is_unproven_and_not_good() {
        let row = row(&application(&json!(null)), &[], at("2026-11-22T12:00:00Z"));
        let shown = cells(&row, false);
        assert_eq!(shown[5], Cell::toned("unproven / 5m", Tone::Doubtful));
        assert_eq!(shown[4], Cell::toned("no point / 1m", Tone::Doubtful));
        assert_eq!(shown[6], Cell::toned("unmeasured / 99.9%", Tone::Doubtful));
        assert_eq!(shown[3], Cell::toned("unknown", Tone::Doubtful));
    }

    #[test]
    fn a_point_older_than_the_objective_is_bad() {
        let shown = |role, now| {
            let it = application(&json!({
                "region": "eu-west", "role": role, "activeRegion": "eu-west",
                "lastPoint": {"id": "0000000001-X", "consistentAt": "2026-11-22T11:58:50Z"},
                "conditions": [],
            }));
            cells(&row(&it, &[], at(now)), false)[4].clone()
        };
        assert_eq!(shown("Active", "2026-11-22T11:59:50Z"), Cell::toned("1m / 1m", Tone::Good));
        assert_eq!(shown("Active", "2026-11-22T12:00:00Z"), Cell::toned("1m10s / 1m", Tone::Bad));
        let elsewhere = shown("Standby", "2026-11-22T12:00:00Z");
        assert_eq!(elsewhere, Cell::toned("1m10s / 1m", Tone::Doubtful), "there may be a younger one");
    }

    #[test]
    fn a_failover_that_is_advised_is_told_under_the_table_with_its_command() {
        let shown = |advised| {
            let how = "web: refused; to fail over: kubectl reprise failover shop -n shop --to eu-north";
            let condition = json!([{"type": "FailoverAdvised", "status": advised, "reason": "ActivationIsManual",
                "message": how, "lastTransitionTime": "2026-11-22T11:00:00Z"}]);
            let it = application(&json!({"role": "Standby", "conditions": condition}));
            text(&[row(&it, &[], at("2026-11-22T12:00:00Z"))], false, "shop", false)
        };
        let line = "\nshop: failover advised: web: refused; to fail over: kubectl reprise failover shop -n shop --to eu-north\n";
        assert!(shown("True").ends_with(line), "{}", shown("True"));
        assert!(!shown("False").contains("advised"), "{}", shown("False"));
    }

    #[test]
    fn a_running_failover_is_told_under_the_table_and_an_ended_one_gives_the_rto() {
        let failover = |name: &str, status: serde_json::Value| -> Failover {
            serde_json::from_value(json!({
                "apiVersion": "reprise.dev/v1alpha1", "kind": "Failover",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"application": "shop", "to": "eu-north"}, "status": status,
            }))
            .expect("a Failover")
        };
        let condition = |status: &str| {
            json!([{"type": "Succeeded", "status": status, "reason": "X", "message": "",
                    "lastTransitionTime": "2026-11-22T11:00:00Z"}])
        };
        let ended = failover("old", json!({"rtoSeconds": 130, "conditions": condition("True")}));
        let going = failover("new", json!({"step": "RestoreVolumes", "conditions": condition("Unknown")}));
        let rows = [row(&application(&json!(null)), &[ended, going], at("2026-11-22T12:00:00Z"))];
        let shown = text(&rows, true, "shop", false);
        assert!(shown.starts_with("NAMESPACE  APPLICATION"), "{shown}");
        assert!(shown.contains("2m10s / 5m"), "{shown}");
        assert!(shown.ends_with("\nshop: failover new to eu-north is at RestoreVolumes.\n"), "{shown}");
    }
}
