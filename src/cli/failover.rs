//! `kubectl reprise failover`: asks this cluster's operator to bring an application into service here.
//!
//! It makes a `Failover` and, if told so, follows its steps. It decides nothing about claim, points or traffic.

use std::{collections::BTreeMap, fmt::Write};

use clap::Args;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};

use crate::{
    api::{
        application::{ProtectedApplication, Role},
        failover::{Failover, FailoverSpec, FailoverStatus, Initiator, Step, StepName},
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

/// What to move, and where.
#[derive(Args, Debug)]
pub struct FailoverArguments {
    /// The `ProtectedApplication`.
    pub application: String,
    /// The region that shall take over: the one of the cluster that is asked.
    #[arg(long, value_name = "REGION")]
    pub to: String,
    /// Why, for the record.
    #[arg(long)]
    pub reason: Option<String>,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Whether a failover has not ended.
#[must_use]
pub fn active(failover: &Failover) -> bool {
    !failover.status.as_ref().is_some_and(|it| condition::ended(&it.conditions))
}

/// Make the `Failover`, and follow it.
///
/// # Errors
/// When it is refused, cannot be made, ends without success, or takes longer than was allowed.
pub async fn run(cluster: &Cluster, wanted: &FailoverArguments, printer: &mut Printer) -> Result<(), CliError> {
    let failovers: Api<Failover> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let application = application(cluster, &wanted.application).await?;
    let listed = failovers.list(&ListParams::default()).await.map_err(request("list failovers"))?.items;
    if let Some(why) = refusal(&application, &listed, &wanted.to) {
        return Err(CliError::Refused(why));
    }
    let (told, tone) = window(&application, Timestamp::now());
    printer.progress(&told, tone);
    let made = failovers
        .create(&PostParams::default(), &asked_for(wanted, Timestamp::now()))
        .await
        .map_err(request("make the failover"))?;
    let name = made.name_any();
    if !wanted.waiting.wait {
        printer.answer(&made, |_| format!("failover.reprise.dev/{name} created\n"))?;
        return Ok(());
    }
    printer.progress(&format!("failover.reprise.dev/{name} created"), Tone::Plain);
    let ended = followed(&failovers, &name, &wanted.waiting, &cluster.namespace, printer).await?;
    let status = ended.status.clone().unwrap_or_default();
    printer.answer(&ended, |_| outcome(&name, &status))?;
    succeeded(format!("failover {name}"), &status.conditions)
}

/// Why this cluster cannot be asked for that, if it cannot.
#[must_use]
pub fn refusal(application: &ProtectedApplication, failovers: &[Failover], to: &str) -> Option<String> {
    let name = application.name_any();
    let regions: Vec<&str> = application.spec.regions.iter().map(|it| it.name.as_str()).collect();
    if !regions.contains(&to) {
        return Some(format!("{to} is not among spec.regions of {name} ({})", regions.join(", ")));
    }
    let status = application.status.as_ref();
    let Some(here) = status.and_then(|it| it.region.as_deref()) else {
        return Some(format!(
            "no operator of this cluster has looked at {name} yet: status.region is empty. Is the operator running here?"
        ));
    };
    if here != to {
        return Some(format!(
            "the operator of this cluster is of region {here}, and only the operator of {to} can bring {name} into service there: choose that cluster with --context or --kubeconfig"
        ));
    }
    if status.and_then(|it| it.role) == Some(Role::Active) {
        return Some(format!("{to} already holds the claim of {name} and serves"));
    }
    let running = failovers.iter().find(|it| it.spec.application == name && active(it))?;
    Some(format!(
        "a failover of {name} is already running: {0}. Follow it with: kubectl get failover -n {1} {0} -w",
        running.name_any(),
        application.namespace().unwrap_or_default(),
    ))
}

/// What would be lost: the newest point that is known here, and its age. No question is asked, as by no other verb.
fn window(application: &ProtectedApplication, now: Timestamp) -> (String, Tone) {
    let last = application.status.as_ref().and_then(|it| it.last_point.as_ref());
    let Some(last) = last else {
        return ("no good point is known here: without one nothing is brought into service".to_owned(), Tone::Bad);
    };
    let age = u64::try_from(now.duration_since(last.consistent_at.0).as_secs()).unwrap_or(0);
    let objective = application.spec.objectives.rpo.as_secs();
    let told = format!(
        "newest good point known here: {}, its data is {} old (objective {}). What was written since is lost, unless the \
         region that serves hands over or a newer point is found",
        last.id,
        short(age),
        short(objective)
    );
    (told, if age > objective { Tone::Bad } else { Tone::Plain })
}

/// The object: its name is the application's and the moment, so that a list sorts by time.
fn asked_for(wanted: &FailoverArguments, now: Timestamp) -> Failover {
    let name = format!("{}-{}", wanted.application, now.strftime("%Y%m%d-%H%M%S"));
    Failover::new(
        &name,
        FailoverSpec {
            application: wanted.application.clone(),
            to: wanted.to.clone(),
            reason: wanted.reason.clone(),
            initiator: Initiator::Person,
        },
    )
}

async fn followed(
    failovers: &Api<Failover>,
    name: &str,
    waiting: &Waiting,
    namespace: &str,
    printer: &mut Printer,
) -> Result<Failover, CliError> {
    let mut told = Told::default();
    let ended = follow(failovers, name, waiting.timeout, |it: &Failover| {
        for line in told.news(it.status.as_ref()) {
            printer.progress(&line, Tone::Plain);
        }
        !active(it)
    });
    ended.await?.ok_or_else(|| CliError::TimedOut {
        what: format!("failover {name}"),
        after: waiting.timeout,
        follow: format!("kubectl get failover -n {namespace} {name} -w"),
    })
}

/// What was already said about a failover, so that each thing is said once.
#[derive(Debug, Default)]
pub struct Told {
    steps: BTreeMap<StepName, Step>,
}

impl Told {
    /// A line for each step that began, changed its message, or ended since the last call.
    pub fn news(&mut self, status: Option<&FailoverStatus>) -> Vec<String> {
        let mut lines = Vec::new();
        for step in status.map(|it| it.steps.as_slice()).unwrap_or_default() {
            if self.steps.get(&step.name) != Some(step) {
                lines.push(line(step));
                self.steps.insert(step.name, step.clone());
            }
        }
        lines
    }
}

fn line(step: &Step) -> String {
    let at = |it: Timestamp| it.strftime("%H:%M:%SZ").to_string();
    let started = step.started_at.0;
    let head = match &step.finished_at {
        Some(end) => {
            let took = u64::try_from(end.0.duration_since(started).as_secs()).unwrap_or(0);
            format!("{}  {:<14}  done in {}", at(end.0), format!("{:?}", step.name), short(took))
        }
        None => format!("{}  {:<14}", at(started), format!("{:?}", step.name)),
    };
    match step.message.as_str() {
        "" => head.trim_end().to_owned(),
        message => format!("{head}  {message}"),
    }
}

fn outcome(name: &str, status: &FailoverStatus) -> String {
    let ended = condition::find(&status.conditions, SUCCEEDED);
    let mut out = format!("failover {name}: {}\n", ended.map_or("unknown", |it| it.reason.as_str()));
    let figures = [
        ("RTO", status.rto_seconds, status.rto_objective_seconds),
        ("RPO", status.rpo_seconds, status.rpo_objective_seconds),
    ];
    for (what, reached, objective) in figures {
        if let (Some(reached), Some(objective)) = (reached, objective) {
            let verdict = if reached <= objective { "met" } else { "missed" };
            let _ = writeln!(out, "  {what} {} of {}: {verdict}", short(reached), short(objective));
        }
    }
    for (what, lines) in [("passed over", &status.passed_over), ("not restored", &status.not_restored)] {
        for line in lines {
            let _ = writeln!(out, "  {what}: {line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn application(region: Option<&str>, role: &str) -> ProtectedApplication {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
            "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {
                "objectives": {"rto": "5m", "rpo": "1m"},
                "regions": [{"name": "eu-west"}, {"name": "eu-north"}],
                "backup": {"vaults": ["main"]},
            },
            "status": {"region": region, "role": role, "conditions": []},
        }))
        .expect("a ProtectedApplication")
    }

    fn failover(succeeded: Option<&str>) -> Failover {
        let mut it = Failover::new(
            "shop-1",
            FailoverSpec {
                application: "shop".to_owned(),
                to: "eu-north".to_owned(),
                reason: None,
                initiator: Initiator::Person,
            },
        );
        it.status = succeeded.map(|status| {
            serde_json::from_value(json!({"conditions": [{"type": "Succeeded", "status": status, "reason": "X",
                "message": "", "lastTransitionTime": "2026-11-22T11:00:00Z"}]}))
            .expect("a status")
        });
        it
    }

    #[test]
    fn the_operator_of_another_region_is_not_asked() {
        let why = refusal(&application(Some("eu-west"), "Standby"), &[], "eu-north").expect("refused");
        assert!(why.contains("is of region eu-west") && why.contains("--context"), "{why}");
    }

    #[test]
    fn a_region_that_is_not_listed_or_not_known_is_refused() {
        let why = refusal(&application(Some("eu-north"), "Standby"), &[], "us-east").expect("refused");
        assert_eq!(why, "us-east is not among spec.regions of shop (eu-west, eu-north)");
        let why = refusal(&application(None, "Unknown"), &[], "eu-north").expect("refused");
        assert!(why.contains("status.region is empty"), "{why}");
    }

    #[test]
    fn the_region_that_serves_needs_no_failover() {
        let why = refusal(&application(Some("eu-north"), "Active"), &[], "eu-north").expect("refused");
        assert!(why.contains("already holds the claim"), "{why}");
    }

    #[test]
    fn one_failover_at_a_time() {
        let here = application(Some("eu-north"), "Standby");
        for running in [None, Some("Unknown")] {
            assert!(refusal(&here, &[failover(running)], "eu-north").expect("refused").contains("shop-1"));
        }
        for ended in ["True", "False"] {
            assert_eq!(refusal(&here, &[failover(Some(ended))], "eu-north"), None);
        }
    }

    #[test]
    fn what_would_be_lost_is_told_before_anything_is_made() {
        let mut it = application(Some("eu-north"), "Standby");
        let now = "2026-11-22T12:00:00Z".parse().expect("a timestamp");
        assert!(window(&it, now).0.starts_with("no good point is known here"));
        let last = json!({"id": "1-A", "consistentAt": "2026-11-22T11:58:50Z"});
        it.status.as_mut().expect("a status").last_point = serde_json::from_value(last).expect("a point");
        let (told, tone) = window(&it, now);
        let begins = "newest good point known here: 1-A, its data is 1m10s old (objective 1m).";
        assert!(told.starts_with(begins) && tone == Tone::Bad, "{told}");
    }

    #[test]
    fn each_thing_is_said_once() {
        let status = |end: Option<&str>| -> FailoverStatus {
            serde_json::from_value(json!({"conditions": [], "steps": [
                {"name": "WaitOutClaim", "startedAt": "2026-11-22T11:00:00Z", "finishedAt": end, "message": ""}]}))
            .expect("a status")
        };
        let mut told = Told::default();
        assert_eq!(told.news(Some(&status(None))), ["11:00:00Z  WaitOutClaim"]);
        assert_eq!(told.news(Some(&status(None))), Vec::<String>::new());
        let end = Some("2026-11-22T11:00:45Z");
        assert_eq!(told.news(Some(&status(end))), ["11:00:45Z  WaitOutClaim    done in 45s"]);
    }

    #[test]
    fn the_name_says_what_and_when_and_fits() {
        let wanted = FailoverArguments {
            application: "a".repeat(40),
            to: "eu-north".to_owned(),
            reason: None,
            waiting: Waiting { wait: false, timeout: crate::api::span::Span::from_secs(1) },
        };
        let name = asked_for(&wanted, "2026-11-22T11:00:45Z".parse().expect("a timestamp")).name_any();
        assert!(name.ends_with("-20261122-110045") && name.len() <= 63, "{name}");
    }
}
