//! `kubectl reprise restore`: asks this cluster's operator to bring an application back, in place.
//!
//! It makes a `Restore` and, if told so, follows its steps. The data is moved by the operator's movers.

use std::{collections::BTreeMap, fmt::Write};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt, api::PostParams};

use crate::{
    api::{
        application::{ProtectedApplication, Role},
        mappings::ObjectSelector,
        restore::{
            Part, Plan, PlannedVolume, PointChoice, Restore, RestoreSpec, RestoreStatus, RestoreStep, RestoreStepName,
            SafetyPoint,
        },
        restoring::OnConflict,
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

/// What to bring back, and from when.
#[derive(Args, Debug)]
pub struct RestoreArguments {
    /// The `ProtectedApplication`.
    pub application: String,
    /// The point, by its name in the vault. Default: the newest good one.
    #[arg(long, conflicts_with = "before")]
    pub point: Option<String>,
    /// The newest good point whose data is not younger than this: 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub before: Option<Timestamp>,
    /// Only this volume, by its `PersistentVolumeClaim`; may be given more than once.
    #[arg(long = "volume", value_name = "CLAIM")]
    pub volumes: Vec<String>,
    /// Only this dump, by its name in `backup.dumps`, which is loaded; may be given more than once.
    #[arg(long = "dump", value_name = "NAME")]
    pub dumps: Vec<String>,
    /// Only objects of this kind.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only objects of this name; `*` stands for any letters.
    #[arg(long)]
    pub name: Option<String>,
    /// What becomes of objects that are there and say something else.
    #[arg(long, value_parser = on_conflict, default_value = "Update")]
    pub on_conflict: OnConflict,
    /// Save nothing of what is there first: it is lost.
    #[arg(long)]
    pub skip_safety_point: bool,
    /// Change nothing, and tell what would be changed. Stays until that is known.
    #[arg(long)]
    pub dry_run: bool,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

fn on_conflict(given: &str) -> Result<OnConflict, String> {
    serde_json::from_value(given.into()).map_err(|_| "one of Skip, Update, Replace and Fail is meant".to_owned())
}

/// Make the `Restore`, and follow it.
///
/// # Errors
/// When it is refused, cannot be made, ends without success, or takes longer than was allowed.
pub async fn run(cluster: &Cluster, wanted: &RestoreArguments, printer: &mut Printer) -> Result<(), CliError> {
    let restores: Api<Restore> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let application = application(cluster, &wanted.application).await?;
    if let Some(why) = refusal(&application) {
        return Err(CliError::Refused(why));
    }
    let asked = asked_for(wanted, Timestamp::now());
    let made = restores.create(&PostParams::default(), &asked).await.map_err(request("make the restore"))?;
    let name = made.name_any();
    if !wanted.waiting.wait && !wanted.dry_run {
        printer.answer(&made, |_| format!("restore.reprise.dev/{name} created\n"))?;
        return Ok(());
    }
    printer.progress(&format!("restore.reprise.dev/{name} created"), Tone::Plain);
    let mut told = BTreeMap::new();
    let ended = follow(&restores, &name, wanted.waiting.timeout, |it: &Restore| {
        for line in news(&mut told, it.status.as_ref()) {
            printer.progress(&line, Tone::Plain);
        }
        ended(it)
    });
    let ended = ended.await?.ok_or_else(|| CliError::TimedOut {
        what: format!("restore {name}"),
        after: wanted.waiting.timeout,
        follow: format!("kubectl get restores.reprise.dev -n {} {name} -w", cluster.namespace),
    })?;
    let status = ended.status.clone().unwrap_or_default();
    printer.answer(&ended, |_| outcome(&name, &status))?;
    succeeded(format!("restore {name}"), &status.conditions)
}

/// Why this cluster cannot be asked for that, if it cannot: only the region that serves is restored in place.
fn refusal(application: &ProtectedApplication) -> Option<String> {
    let status = application.status.as_ref()?;
    if status.role? != Role::Standby {
        return None;
    }
    Some(format!(
        "{} is not served from this region but from {}: choose that cluster with --context or --kubeconfig",
        application.name_any(),
        status.active_region.as_deref().unwrap_or("another region")
    ))
}

/// The object: its name is the application's and the moment, so that a list sorts by time.
fn asked_for(wanted: &RestoreArguments, now: Timestamp) -> Restore {
    let name = format!("{}-{}", wanted.application.chars().take(39).collect::<String>(), now.strftime("%Y%m%d-%H%M%S"));
    let selected = wanted.kind.is_some() || wanted.name.is_some();
    let object = ObjectSelector { kind: wanted.kind.clone(), name: wanted.name.clone(), ..ObjectSelector::default() };
    let objects = if selected { vec![object] } else { Vec::new() };
    let part = selected || !wanted.volumes.is_empty() || !wanted.dumps.is_empty();
    Restore::new(
        &name,
        RestoreSpec {
            application: wanted.application.clone(),
            point: PointChoice { name: wanted.point.clone(), before: wanted.before.map(Time) },
            only: part.then(|| Part { volumes: wanted.volumes.clone(), objects, dumps: wanted.dumps.clone() }),
            on_conflict: wanted.on_conflict,
            safety_point: if wanted.skip_safety_point { SafetyPoint::Skip } else { SafetyPoint::Required },
            dry_run: wanted.dry_run,
        },
    )
}

fn ended(restore: &Restore) -> bool {
    restore.status.as_ref().is_some_and(|it| condition::ended(&it.conditions))
}

/// A line for each step that began, changed its message, or ended since the last call.
fn news(told: &mut BTreeMap<RestoreStepName, RestoreStep>, status: Option<&RestoreStatus>) -> Vec<String> {
    let mut lines = Vec::new();
    for step in status.map(|it| it.steps.as_slice()).unwrap_or_default() {
        if told.get(&step.name) != Some(step) {
            lines.push(line(step));
            told.insert(step.name, step.clone());
        }
    }
    lines
}

fn line(step: &RestoreStep) -> String {
    let started = step.started_at.0;
    let at = step.finished_at.as_ref().map_or(started, |it| it.0).strftime("%H:%M:%SZ");
    let head = format!("{at}  {:<14}", format!("{:?}", step.name));
    let took = step.finished_at.as_ref().map(|it| u64::try_from(it.0.duration_since(started).as_secs()).unwrap_or(0));
    let done = took.map_or_else(String::new, |it| format!("  done in {}", short(it)));
    let message = if step.message.is_empty() { String::new() } else { format!("  {}", step.message) };
    format!("{head}{done}{message}").trim_end().to_owned()
}

fn outcome(name: &str, status: &RestoreStatus) -> String {
    let ended = condition::find(&status.conditions, SUCCEEDED);
    let mut out = format!("restore {name}: {}\n", ended.map_or("unknown", |it| it.reason.as_str()));
    if let (Some(point), Some(at)) = (&status.point, &status.consistent_at) {
        let _ = writeln!(out, "  from {point}, whose data is of {}", at.0);
    }
    if let Some(id) = &status.safety_point_id {
        let _ = writeln!(out, "  what was there before: {id}");
    }
    if let Some(plan) = &status.plan {
        out.push_str(&planned(plan));
    }
    let not = if status.plan.is_some() { "would not be restored" } else { "not restored" };
    for it in &status.not_restored {
        let _ = writeln!(out, "  {not}: {it}");
    }
    out
}

fn planned(plan: &Plan) -> String {
    let Plan { created, updated, unchanged, changes, volumes } = plan;
    let mut out = format!("  objects: {created} would be made, {updated} changed, {unchanged} are as in the point\n");
    for it in changes {
        let _ = writeln!(out, "    {it}");
    }
    for it in volumes {
        let PlannedVolume { claim, snapshot, files, bytes } = it;
        let _ = writeln!(out, "  volume {claim}: would be as in snapshot {snapshot:.8}: {files} files, {bytes} bytes");
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Arguments, Verb};

    fn asked(given: &[&str]) -> serde_json::Value {
        let given = ["kubectl-reprise", "restore", "shop"].iter().chain(given);
        let Verb::Restore(wanted) = Arguments::try_parse_from(given).expect("good usage").verb else {
            panic!("another verb")
        };
        let made = asked_for(&wanted, "2027-01-31T12:00:00Z".parse().expect("a time"));
        assert_eq!(made.name_any(), "shop-20270131-120000");
        serde_json::to_value(made.spec).expect("JSON")
    }

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        assert_eq!(
            asked(&[]),
            json!({"application": "shop", "point": {}, "onConflict": "Update", "safetyPoint": "Required"})
        );
        let part = asked(&["--volume", "data", "--kind", "Secret", "--before", "2027-01-31T11:00:00Z"]);
        assert_eq!(part["only"], json!({"volumes": ["data"], "objects": [{"kind": "Secret"}]}));
        assert_eq!(part["point"], json!({"before": "2027-01-31T11:00:00Z"}));
        assert_eq!(asked(&["--dry-run"])["dryRun"], json!(true));
        let other = asked(&["--on-conflict", "Skip", "--skip-safety-point", "--point", "p"]);
        assert_eq!((&other["onConflict"], &other["safetyPoint"]), (&json!("Skip"), &json!("Skip")));
    }

    #[test]
    fn a_point_and_a_time_together_are_wrong_usage() {
        let given = ["kubectl-reprise", "restore", "shop", "--point", "p", "--before", "2027-01-31T11:00:00Z"];
        assert!(Arguments::try_parse_from(given).is_err());
        let given = ["kubectl-reprise", "restore", "shop", "--on-conflict", "overwrite"];
        assert!(Arguments::try_parse_from(given).is_err());
    }
}
