//! `kubectl reprise points APPLICATION --vault`: all points that a vault has of an application, also those that no cluster has
//! an object of. Asked inside the operator's pod; the application's settings say which policy is to judge them.

use std::{collections::BTreeMap, fmt::Write};

use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    CliError,
    connection::Cluster,
    output::{Cell, Printer, Tone, size, table},
    points::{PointsArguments, ago},
    request, vault,
};
use crate::{
    api::{
        application::{ProtectedApplication, Retention},
        failover::Failover,
        recovery_point::RecoveryPoint,
        restore::Restore,
    },
    core::{
        condition,
        vault_answer::{PointInVault, PointState, PointsInVault},
    },
};

/// What the application says of a vault.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    /// It makes its points in it.
    First(Option<&'a Retention>),
    /// Points are copied into it from the one that is named.
    Copy(Option<&'a Retention>, &'a str),
    /// Nothing.
    None,
}

/// Print the points, newest first.
///
/// # Errors
/// When the operator's pod does not tell.
pub(super) async fn run(
    cluster: &Cluster,
    application: &str,
    wanted: &PointsArguments,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let applications: Api<ProtectedApplication> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let object = applications.get_opt(application).await;
    let object = object.map_err(request(format!("read the application {application}")))?;
    // Without a name: where its points are made. Of one that is not here, the only vault there is.
    let named = wanted.vault.as_deref().filter(|it| !it.is_empty());
    let first = object.as_ref().and_then(|it| it.spec.backup.vaults.first()).map(String::as_str);
    let name = vault::named(cluster, named.or(first)).await?;
    let part = object.as_ref().map_or(Part::None, |it| part(it, &name));
    let in_use = in_use(cluster, application).await?;
    let words = words(&name, &format!("{}/{application}", cluster.namespace), wanted, &part, in_use);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer: PointsInVault = wanted.inside.ask(cluster, &words, "").await?;
    let objects = objects(cluster, application).await?;
    printer.answer(&answer, |colour| text(&answer, &name, &part, &objects, Timestamp::now(), colour))?;
    Ok(())
}

fn part<'a>(application: &'a ProtectedApplication, vault: &str) -> Part<'a> {
    let backup = &application.spec.backup;
    let first = backup.vaults.first().map_or("", String::as_str);
    if first == vault {
        return Part::First(backup.retention.as_ref());
    }
    let copy = backup.copies.iter().find(|it| it.vault == vault);
    copy.map_or(Part::None, |it| Part::Copy(it.retention.as_ref().or(backup.retention.as_ref()), first))
}

fn words(
    vault: &str,
    application: &str,
    wanted: &PointsArguments,
    part: &Part<'_>,
    in_use: Vec<String>,
) -> Vec<String> {
    let mut words: Vec<String> = ["vault", "points", vault, application].map(ToOwned::to_owned).into();
    words.push(format!("--limit={}", wanted.limit));
    words.extend(wanted.before.iter().map(|it| format!("--before={it}")));
    let (Part::First(policy) | Part::Copy(policy, _)) = part else { return words };
    let Some(policy) = policy else { return words };
    let policy = serde_json::to_string(policy).expect("a policy is plain data");
    words.push(format!("--retention={policy}"));
    match part {
        Part::Copy(_, first) => words.push(format!("--held-in={first}")),
        // What runs restore from is kept in the first vault.
        Part::First(_) | Part::None => words.extend(in_use.into_iter().map(|it| format!("--in-use={it}"))),
    }
    words
}

/// The points that runs restore from.
async fn in_use(cluster: &Cluster, application: &str) -> Result<Vec<String>, CliError> {
    let (client, namespace) = (cluster.client.clone(), &cluster.namespace);
    let all = ListParams::default();
    let failovers = Api::<Failover>::namespaced(client.clone(), namespace).list(&all).await;
    let failovers = failovers.map_err(request("list failovers"))?.items.into_iter();
    let failovers = failovers.filter(|it| it.spec.application == application).filter_map(|it| it.status);
    let failovers = failovers.filter(|it| !condition::ended(&it.conditions)).filter_map(|it| it.point);
    let restores = Api::<Restore>::namespaced(client, namespace).list(&all).await;
    let restores = restores.map_err(request("list restores"))?.items.into_iter();
    let restores = restores.filter(|it| it.spec.application == application).filter_map(|it| it.status);
    let restores = restores.filter(|it| !condition::ended(&it.conditions)).filter_map(|it| it.point);
    Ok(failovers.chain(restores).collect())
}

/// The objects that this cluster has of points, by their ids.
async fn objects(cluster: &Cluster, application: &str) -> Result<BTreeMap<String, String>, CliError> {
    let points: Api<RecoveryPoint> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let of = ListParams::default().fields(&format!("spec.application={application}"));
    let points = points.list(&of).await.map_err(request("list the recovery points"))?.items;
    Ok(points.iter().filter_map(|it| Some((it.status.as_ref()?.id.clone()?, it.name_any()))).collect())
}

fn text(
    answer: &PointsInVault,
    vault: &str,
    part: &Part<'_>,
    objects: &BTreeMap<String, String>,
    now: Timestamp,
    colour: bool,
) -> String {
    let columns = ["POINT", "OBJECT", "STATE", "DATA OF", "REGION", "SIZE", "LEVEL", "HELD", "RETENTION"];
    let rows: Vec<Vec<Cell>> = answer.points.iter().map(|it| cells(it, objects.get(&it.id), now)).collect();
    let mut out = table(&columns, &rows, colour);
    for (it, damage) in answer.points.iter().filter_map(|it| Some((it, it.damage.as_ref()?))) {
        let _ = writeln!(out, "{}: {damage}", it.id);
    }
    for id in &answer.unreadable {
        let _ = writeln!(out, "{id}: it cannot be read, and stays: kubectl reprise vault check");
    }
    let _ = writeln!(out, "{} points in vault {vault}", answer.total + answer.unreadable.len());
    match part {
        Part::First(Some(_)) | Part::Copy(Some(_), _) => {}
        Part::First(None) | Part::Copy(None, _) => {
            out.push_str("spec.backup.retention is not set: every point is kept\n");
        }
        Part::None => {
            out.push_str("no application here makes or copies points into it: nothing is known of its retention\n");
        }
    }
    if let Some(why) = &answer.suspended {
        let _ = writeln!(out, "nothing is dropped: {why}");
    }
    if let Some(last) = answer.points.last().filter(|_| answer.more) {
        let _ = writeln!(out, "… there are older ones: --before {}", last.id);
    }
    out
}

fn cells(it: &PointInVault, object: Option<&String>, now: Timestamp) -> Vec<Cell> {
    let state = match it.state {
        PointState::Good => Cell::toned("Good", Tone::Good),
        PointState::Partial => Cell::toned("Partial", Tone::Bad),
        PointState::Suspicious => Cell::toned("Suspicious", Tone::Bad),
        PointState::Branch => Cell::toned("Branch", Tone::Doubtful),
    };
    let level = match (&it.damage, it.level, it.verified_at) {
        (Some(_), _, _) => Cell::toned("damaged", Tone::Bad),
        (None, Some(level), Some(at)) => Cell::plain(format!("{level:?}, {}", ago(at, now))),
        (None, Some(level), None) => Cell::plain(format!("{level:?}")),
        (None, None, _) => Cell::plain("-"),
    };
    let why = it.why.as_deref().unwrap_or_default();
    let fate = match it.kept {
        Some(true) => Cell::plain(format!("stays: {why}")),
        Some(false) => Cell::toned(format!("goes: {why}"), Tone::Doubtful),
        None => Cell::plain("-"),
    };
    vec![
        Cell::plain(&it.id),
        Cell::plain(object.map_or("-", String::as_str)),
        state,
        Cell::plain(ago(it.consistent_at, now)),
        Cell::plain(it.region.as_deref().unwrap_or("-")),
        Cell::plain(it.bytes.map_or_else(|| "-".to_owned(), size)),
        level,
        Cell::plain(if it.held { "yes" } else { "" }),
        fate,
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::{
        api::recovery_point::Level,
        cli::{Arguments, Verb},
    };

    fn application() -> ProtectedApplication {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication", "metadata": {"name": "shop"},
            "spec": {"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "west"}],
                     "backup": {"vaults": ["main"], "retention": {"daily": 3},
                                "copies": [{"vault": "second", "every": "6h"},
                                           {"vault": "third", "every": "6h", "retention": {"last": 2}}]}},
        }))
        .expect("a ProtectedApplication")
    }

    fn asked(words: &[&str]) -> PointsArguments {
        let all = ["kubectl-reprise", "points"].iter().chain(words);
        match Arguments::try_parse_from(all).expect("arguments").verb {
            Verb::Points(it) => it,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_vault_is_judged_by_the_policy_that_holds_for_it() {
        let it = application();
        let told = |vault| words(vault, "shop/shop", &asked(&["shop", "--vault"]), &part(&it, vault), vec!["p".into()]);
        let first = ["vault", "points", "main", "shop/shop", "--limit=1000", "--retention={\"daily\":3}", "--in-use=p"];
        assert_eq!(told("main"), first);
        assert_eq!(told("second")[5..], ["--retention={\"daily\":3}", "--held-in=main"]);
        assert_eq!(told("third")[5..], ["--retention={\"last\":2}", "--held-in=main"]);
        assert_eq!(told("other").len(), 5, "nothing is known of it");
    }

    #[test]
    fn the_vault_needs_no_name_and_a_page_needs_a_vault() {
        assert_eq!(asked(&["shop", "--vault"]).vault.as_deref(), Some(""));
        assert_eq!(asked(&["shop", "--vault", "second", "--before", "p"]).vault.as_deref(), Some("second"));
        assert!(Arguments::try_parse_from(["kubectl-reprise", "points", "--vault"]).is_err(), "of which application?");
        assert!(Arguments::try_parse_from(["kubectl-reprise", "points", "shop", "--before", "p"]).is_err());
    }

    #[test]
    fn each_point_is_told_with_what_becomes_of_it_and_how_the_next_page_is_asked_for() {
        let point = |id: &str, kept, why: &str| PointInVault {
            id: id.to_owned(),
            consistent_at: "2026-11-22T11:00:00Z".parse().unwrap(),
            state: PointState::Good,
            region: Some("west".to_owned()),
            bytes: Some(2048),
            level: Some(Level::L1),
            verified_at: None,
            damage: None,
            held: kept,
            kept: Some(kept),
            why: Some(why.to_owned()),
        };
        let points = vec![point("1-B", true, "held, daily"), point("1-A", false, "no rule")];
        let unreadable = vec!["1-0".to_owned()];
        let answer = PointsInVault { points, total: 9, more: true, unreadable, suspended: None };
        let objects = BTreeMap::from([("1-B".to_owned(), "shop-7".to_owned())]);
        let (it, now) = (application(), "2026-11-22T12:00:00Z".parse().unwrap());
        let told = text(&answer, "main", &part(&it, "main"), &objects, now, false);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines[1], "1-B    shop-7  Good   1h ago   west    2.0 KiB  L1     yes   stays: held, daily",
            "{told}"
        );
        assert!(lines[2].ends_with("goes: no rule") && lines[3].starts_with("1-0: it cannot be read"), "{told}");
        assert!(told.ends_with("10 points in vault main\n… there are older ones: --before 1-A\n"), "{told}");
    }
}
