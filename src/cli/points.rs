//! `kubectl reprise points`: the recovery points that this cluster has objects of, and why the vault keeps which.
//!
//! It reads objects only. What retention decided stands in the application's status: the operator goes through the
//! points of the vault, most of which no cluster has an object of. Those are listed by `vault_points`.

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use crate::{
    api::{
        application::{ProtectedApplication, RetentionStatus},
        recovery_point::{Level, RecoveryPoint},
    },
    cli::{
        CliError, application,
        connection::Cluster,
        copies::{self, Copy},
        inside::Inside,
        output::{Cell, Printer, Tone, short, table},
        request, vault_points,
    },
    core::condition::{SUCCEEDED, find},
};

/// Which points.
#[derive(Args, Debug)]
pub struct PointsArguments {
    /// The `ProtectedApplication`. Default: all of the namespace.
    pub application: Option<String>,
    /// Say why each point of the vault stays or goes.
    #[arg(long, requires = "application")]
    pub explain_retention: bool,
    /// List all points that the `Vault` has of the application, and what retention makes of each, instead of the objects of this
    /// cluster. Default: the one that its points are made in.
    #[arg(long, value_name = "VAULT", requires = "application", conflicts_with = "explain_retention")]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    pub vault: Option<String>,
    /// The most points of the vault that are listed.
    #[arg(long, default_value_t = 1000, value_name = "NUMBER", requires = "vault")]
    pub limit: usize,
    /// List what comes after this point of the vault.
    #[arg(long, value_name = "POINT", requires = "vault")]
    pub before: Option<String>,
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
}

/// What is known of one point.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Its name in the vault.
    id: Option<String>,
    /// Its `RecoveryPoint`, where this cluster has one.
    name: Option<String>,
    application: String,
    purpose: String,
    state: String,
    consistent_at: Option<Timestamp>,
    bytes: Option<u64>,
    /// How far it was checked, of a point that is whole.
    level: Option<Level>,
    /// When.
    verified_at: Option<Timestamp>,
    /// What of it was found damaged since, and when.
    damage: Option<String>,
    /// Until when it is locked at least, as the vault said when it was stored.
    locked_until: Option<Timestamp>,
    hold: bool,
    description: Option<String>,
}

/// Why a point stays or goes.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
struct Fate {
    id: String,
    /// Its `RecoveryPoint`, where this cluster has one.
    name: Option<String>,
    kept: bool,
    why: String,
}

/// Print the points, newest first.
///
/// # Errors
/// When they cannot be read, or there is no such application.
pub async fn run(cluster: &Cluster, wanted: &PointsArguments, printer: &mut Printer) -> Result<(), CliError> {
    if let (Some(application), true) = (&wanted.application, wanted.vault.is_some()) {
        return vault_points::run(cluster, application, wanted, printer).await;
    }
    let points: Api<RecoveryPoint> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut params = ListParams::default();
    if let Some(application) = &wanted.application {
        params = params.fields(&format!("spec.application={application}"));
    }
    let points = points.list(&params).await.map_err(request("list the recovery points"))?.items;
    let rows = rows(&points);
    let Some(name) = wanted.application.as_ref().filter(|_| wanted.explain_retention) else {
        let now = Timestamp::now();
        let copies = copied(cluster, wanted.application.as_deref(), now).await?;
        printer.answer(&rows, |colour| text(&rows, now, colour) + &copies::text(&copies, now, colour))?;
        return Ok(());
    };
    let application = application(cluster, name).await?;
    let fates = fates(&application, &rows);
    printer.answer(&fates, |colour| explanation(&application, &fates, colour))?;
    Ok(())
}

/// What other vaults have of the application, or of all of the namespace.
async fn copied(cluster: &Cluster, application: Option<&str>, now: Timestamp) -> Result<Vec<Copy>, CliError> {
    let applications: Api<ProtectedApplication> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let listed = applications.list(&ListParams::default()).await.map_err(request("list applications"))?.items;
    let wanted = listed.iter().filter(|it| application.is_none_or(|name| it.name_any() == name));
    Ok(wanted.flat_map(|it| copies::copies(it, now)).collect())
}

fn rows(points: &[RecoveryPoint]) -> Vec<Row> {
    let one = |it: &RecoveryPoint| {
        let status = it.status.clone().unwrap_or_default();
        let verified = status.verification.as_ref();
        Row {
            level: verified.map(|it| it.level),
            verified_at: verified.map(|it| it.at.0),
            damage: verified.and_then(|it| it.damage.clone()),
            id: status.id,
            name: Some(it.name_any()),
            application: it.spec.application.clone(),
            purpose: format!("{:?}", it.spec.purpose),
            state: find(&status.conditions, SUCCEEDED).map_or_else(String::new, |it| it.reason.clone()),
            consistent_at: status.consistent_at.map(|it| it.0),
            bytes: status.bytes,
            locked_until: status.locked_until.map(|it| it.0),
            hold: it.spec.hold,
            description: it.spec.description.clone(),
        }
    };
    let mut rows: Vec<Row> = points.iter().map(one).collect();
    rows.sort_by(|one, other| (&one.application, &other.id).cmp(&(&other.application, &one.id)));
    rows
}

fn text(rows: &[Row], now: Timestamp, colour: bool) -> String {
    if rows.is_empty() {
        return "this cluster has no recovery points here\n".to_owned();
    }
    let lines: Vec<Vec<Cell>> = rows.iter().map(|it| cells(it, now)).collect();
    let columns =
        ["NAME", "APPLICATION", "PURPOSE", "STATE", "DATA OF", "READ", "LEVEL", "LOCKED UNTIL", "HELD", "DESCRIPTION"];
    let mut out = table(&columns, &lines, colour);
    for (row, damage) in rows.iter().filter_map(|it| Some((it, it.damage.as_ref()?))) {
        let _ = writeln!(out, "{}: {damage}", row.name.as_deref().unwrap_or_default());
    }
    out
}

/// How long ago that was.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", short(u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0)))
}

/// How far a point was checked, and when.
fn level(row: &Row, now: Timestamp) -> Cell {
    match (&row.damage, row.level, row.verified_at) {
        (Some(_), _, _) => Cell::toned("damaged", Tone::Bad),
        (None, Some(level), Some(at)) => Cell::plain(format!("{level:?}, {}", ago(at, now))),
        (None, _, _) => Cell::plain("-"),
    }
}

fn cells(row: &Row, now: Timestamp) -> Vec<Cell> {
    let tone = match row.state.as_str() {
        "Stored" | "Imported" => Tone::Good,
        "Partial" | "Suspicious" => Tone::Bad,
        _ => Tone::Doubtful,
    };
    let bytes = row.bytes.map_or_else(|| "-".to_owned(), |it| bytesize::ByteSize::b(it).display().iec().to_string());
    vec![
        Cell::plain(row.name.clone().unwrap_or_default()),
        Cell::plain(&row.application),
        Cell::plain(&row.purpose),
        Cell::toned(&row.state, tone),
        Cell::plain(row.consistent_at.map_or_else(|| "-".to_owned(), |it| ago(it, now))),
        Cell::plain(bytes),
        level(row, now),
        Cell::plain(row.locked_until.map_or_else(|| "-".to_owned(), |it| it.strftime("%Y-%m-%d").to_string())),
        Cell::plain(if row.hold { "yes" } else { "" }),
        Cell::plain(row.description.clone().unwrap_or_default()),
    ]
}

fn fates(application: &ProtectedApplication, rows: &[Row]) -> Vec<Fate> {
    let Some(retention) = retention(application) else { return Vec::new() };
    let name = |id: &str| rows.iter().find(|it| it.id.as_deref() == Some(id)).and_then(|it| it.name.clone());
    let kept = retention.points.iter().map(|it| (it.id.clone(), true, it.why.clone()));
    let dropped = retention.dropping.iter().map(|it| (it.clone(), false, "no rule keeps it".to_owned()));
    let mut all: Vec<Fate> =
        kept.chain(dropped).map(|(id, kept, why)| Fate { name: name(&id), id, kept, why }).collect();
    all.sort_by(|one, other| other.id.cmp(&one.id));
    all
}

fn retention(application: &ProtectedApplication) -> Option<&RetentionStatus> {
    application.status.as_ref()?.retention.as_ref()
}

fn explanation(application: &ProtectedApplication, fates: &[Fate], colour: bool) -> String {
    if application.spec.backup.retention.is_none() {
        return "spec.backup.retention is not set: every point is kept\n".to_owned();
    }
    let Some(retention) = retention(application) else {
        return "retention was not done from this cluster yet: ask where the application serves\n".to_owned();
    };
    let line = |it: &Fate| {
        let fate = if it.kept { Cell::plain("stays") } else { Cell::toned("goes", Tone::Doubtful) };
        vec![Cell::plain(&it.id), Cell::plain(it.name.clone().unwrap_or_default()), fate, Cell::plain(&it.why)]
    };
    let lines: Vec<Vec<Cell>> = fates.iter().map(line).collect();
    let mut out = table(&["POINT", "OBJECT", "", "WHY"], &lines, colour);
    let _ = writeln!(out, "{} kept, {} dropped so far", retention.kept, retention.dropped);
    let told = retention.points.len() as u64;
    if retention.kept > told {
        let _ = writeln!(out, "of those that are kept, the newest {told} are listed");
    }
    if retention.refused > 0 {
        let _ = writeln!(out, "{} could not be deleted: the vault refuses", retention.refused);
    }
    if let Some(why) = &retention.suspended {
        let _ = writeln!(out, "nothing is dropped: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn application(retention: &Value, status: &Value) -> ProtectedApplication {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication", "metadata": {"name": "shop"},
            "spec": {"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "west"}],
                     "backup": {"vaults": ["main"], "retention": retention}},
            "status": {"conditions": [], "retention": status},
        }))
        .expect("a ProtectedApplication")
    }

    fn point(name: &str, id: &str, reason: &str) -> RecoveryPoint {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "RecoveryPoint", "metadata": {"name": name},
            "spec": {"application": "shop", "hold": reason == "Stored"},
            "status": {"id": id, "consistentAt": "2026-11-22T11:00:00Z", "conditions": [{
                "type": "Succeeded", "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": "2026-11-22T11:00:00Z"}]},
        }))
        .expect("a RecoveryPoint")
    }

    #[test]
    fn points_are_listed_newest_first_with_what_became_of_them() {
        let rows = rows(&[point("a", "1-a", "Stored"), point("b", "1-b", "Suspicious")]);
        let told = text(&rows, "2026-11-22T12:30:00Z".parse().unwrap(), false);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[1].starts_with("b     shop         Manual   Suspicious  1h30m ago"), "{told}");
        assert!(lines[2].contains("Stored") && lines[2].contains("yes"), "{told}");
    }

    #[test]
    fn a_point_is_told_with_how_far_it_was_checked_and_when_or_what_is_damaged() {
        let with = |name: &str, damage: Option<&str>| {
            let mut it = point(name, name, "Imported");
            let verification = json!({"level": "L2", "at": "2026-11-22T09:30:00Z", "detail": "", "damage": damage});
            it.status.as_mut().unwrap().verification = serde_json::from_value(verification).unwrap();
            it
        };
        let rows = rows(&[with("a", None), with("b", Some("found damaged: 2 packs")), point("c", "c", "Partial")]);
        let told = text(&rows, "2026-11-22T12:30:00Z".parse().unwrap(), false);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[3].contains("L2, 3h ago") && lines[2].contains("damaged"), "{told}");
        assert_eq!(lines[4], "b: found damaged: 2 packs", "{told}");
        let json = serde_json::to_value(&rows[2]).unwrap();
        assert_eq!((json["level"].as_str(), json["verifiedAt"].as_str()), (Some("L2"), Some("2026-11-22T09:30:00Z")));
    }

    #[test]
    fn each_point_of_the_vault_is_told_why_it_stays_or_goes() {
        let status = json!({"kept": 120, "dropped": 7, "dropping": ["1-a"], "points": [{"id": "1-b", "why": "daily"}]});
        let application = application(&json!({"daily": 3}), &status);
        let fates = fates(&application, &rows(&[point("b", "1-b", "Stored")]));
        assert_eq!(
            fates.iter().map(|it| (it.id.as_str(), it.kept)).collect::<Vec<_>>(),
            [("1-b", true), ("1-a", false)]
        );
        assert_eq!(fates[0].name.as_deref(), Some("b"));
        let told = explanation(&application, &fates, false);
        assert!(told.contains("120 kept, 7 dropped so far") && told.contains("the newest 1 are listed"), "{told}");
    }

    #[test]
    fn without_retention_it_is_said_that_every_point_is_kept() {
        let told = explanation(&application(&Value::Null, &Value::Null), &[], false);
        assert!(told.contains("every point is kept"), "{told}");
    }
}
