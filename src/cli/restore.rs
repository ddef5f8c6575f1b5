//! `kubectl reprise restore`: asks this cluster's operator to bring an application back, in place.
//!
//! It makes a `Restore` and, if told so, follows its steps; or follows or cancels one that exists. The data is moved by
//! the operator's movers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};

use crate::{
    api::{
        application::{PodSelector, ProtectedApplication, Role},
        mappings::ObjectSelector,
        restore::{
            DumpPart, Export, LoadInto, Part, Plan, PlannedDump, PlannedVolume, PointChoice, Rehearsal, Restore,
            RestoreProgress, RestoreSpec, RestoreStatus, RestoreStep, RestoreStepName, SafetyPoint, VaultExport,
            VolumePart,
        },
        restoring::OnConflict,
        span::Span,
    },
    cli::{
        CliError, Waiting, application,
        connection::Cluster,
        follow,
        output::{Printer, Tone, short, size},
        request, succeeded,
    },
    core::condition::{self, SUCCEEDED},
};

/// What to bring back, and from when.
#[derive(Args, Debug)]
pub struct RestoreArguments {
    /// The `ProtectedApplication`.
    #[arg(required_unless_present_any = ["follow", "cancel"])]
    pub application: Option<String>,
    /// Make none: stay until this Restore, which exists, has ended, and tell how it goes.
    #[arg(long, value_name = "RESTORE", group = "staying", conflicts_with_all = WANTED)]
    pub follow: Option<String>,
    /// Make none: end this Restore, which exists, and see it give back what it has in its hands. Once volumes are being
    /// restored, the application stays stopped afterwards.
    #[arg(long, value_name = "RESTORE", conflicts_with_all = WANTED, conflicts_with = "follow")]
    pub cancel: Option<String>,
    /// Restore into the namespace of -n what is protected in this one, which must share it with that one.
    #[arg(long, value_name = "NAMESPACE")]
    pub source_namespace: Option<String>,
    /// The point, by its name in the vault. Default: the newest good one.
    #[arg(long, conflicts_with = "before")]
    pub point: Option<String>,
    /// The newest good point whose data is not younger than this: 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub before: Option<Timestamp>,
    /// The vault to take it from: one that points are copied into. Default: the first one that has the point.
    #[arg(long)]
    pub vault: Option<String>,
    /// Only this volume, by its `PersistentVolumeClaim`, or only what lies under a path of it: `data:conf/*.ini`. May be
    /// given more than once. Of a path nothing is deleted.
    #[arg(long = "volume", value_name = "CLAIM[:PATH]")]
    pub volumes: Vec<String>,
    /// Only this dump, by its name in `backup.dumps`, which is loaded; may be given more than once.
    #[arg(long = "dump", value_name = "NAME")]
    pub dumps: Vec<String>,
    /// Load the dumps into pods of the namespace of -n that have these labels (`app=analyst,tier=db`), and change nothing
    /// else. What follows `--` is the command that is given each; default: that of the application.
    #[arg(long, value_name = "LABELS", requires = "dumps", value_parser = labels, conflicts_with_all = BESIDE)]
    pub into: Option<PodSelector>,
    /// The container of these pods. Default: the one that kubectl would take.
    #[arg(long, value_name = "NAME", requires = "into")]
    pub container: Option<String>,
    /// The command that reads the dump from its standard input.
    #[arg(last = true, value_name = "COMMAND", requires = "into")]
    pub load: Vec<String>,
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
    /// Change nothing that is there: write files and objects as plain files into a new volume, under this
    /// `PersistentVolumeClaim`.
    #[arg(long, value_name = "CLAIM", conflicts_with_all = ["dry_run", "on_conflict", "skip_safety_point"])]
    pub export: Option<String>,
    /// Change nothing: store files, dumps and objects as plain objects in this vault, below `exports/NAMESPACE/PREFIX`. The vault
    /// must allow it; Secrets are left out unless --kind Secret asks for them.
    #[arg(long, value_name = "VAULT/PREFIX", value_parser = vault_place,
        conflicts_with_all = ["export", "dry_run", "on_conflict", "skip_safety_point"])]
    pub export_to: Option<VaultExport>,
    /// Change nothing that is there: restore the point into a namespace that is made for it, see whether the application
    /// works there, note that at the point, and remove it.
    #[arg(long, conflicts_with_all = REHEARSED)]
    pub rehearse: bool,
    /// Change nothing, and tell what would be changed. Stays until that is known.
    #[arg(long)]
    pub dry_run: bool,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// What is not said of dumps that go into another database.
const BESIDE: [&str; 7] = ["export", "export_to", "volumes", "kind", "name", "on_conflict", "skip_safety_point"];

/// What is not said of a rehearsal.
const REHEARSED: [&str; 10] = [
    "source_namespace",
    "volumes",
    "dumps",
    "kind",
    "name",
    "on_conflict",
    "skip_safety_point",
    "export",
    "export_to",
    "dry_run",
];

/// What is said of one that is made.
const WANTED: [&str; 17] = [
    "rehearse",
    "export",
    "export_to",
    "dumps",
    "into",
    "container",
    "load",
    "source_namespace",
    "application",
    "point",
    "before",
    "volumes",
    "kind",
    "name",
    "on_conflict",
    "skip_safety_point",
    "dry_run",
];

fn labels(given: &str) -> Result<PodSelector, String> {
    let pair = |it: &str| it.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let match_labels = given.split(',').map(pair).collect::<Option<_>>();
    let match_labels = match_labels.ok_or_else(|| "labels are written app=analyst,tier=db".to_owned())?;
    Ok(PodSelector { match_labels })
}

fn vault_place(given: &str) -> Result<VaultExport, String> {
    let (name, prefix) =
        given.split_once('/').ok_or_else(|| "a vault and a prefix are written main/2027-q1".to_owned())?;
    Ok(VaultExport { name: name.to_owned(), prefix: prefix.to_owned() })
}

fn on_conflict(given: &str) -> Result<OnConflict, String> {
    serde_json::from_value(given.into()).map_err(|_| "one of Skip, Update, Replace and Fail is meant".to_owned())
}

/// Make the `Restore`, and follow it; or follow or cancel one.
///
/// # Errors
/// When it is refused, cannot be made, ends without success, or takes longer than was allowed.
pub async fn run(cluster: &Cluster, wanted: &RestoreArguments, printer: &mut Printer) -> Result<(), CliError> {
    let restores: Api<Restore> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    if let Some(name) = &wanted.follow {
        let there = restores.get_opt(name).await.map_err(request(format!("read the restore {name}")))?;
        return match there {
            Some(_) => to_its_end(cluster, &restores, name, wanted.waiting.timeout, printer).await,
            None => Err(CliError::Refused(format!("there is no Restore {name} in namespace {}", cluster.namespace))),
        };
    }
    if let Some(name) = &wanted.cancel {
        let patch = Patch::Merge(serde_json::json!({"spec": {"cancel": true}}));
        let patched = restores.patch(name, &PatchParams::default(), &patch).await;
        let cancelled = patched.map_err(request(format!("cancel the restore {name}")))?;
        if !wanted.waiting.wait {
            printer.answer(&cancelled, |_| format!("restore.reprise.dev/{name} is being cancelled\n"))?;
            return Ok(());
        }
        // That it ends without success is what was asked for.
        return match to_its_end(cluster, &restores, name, wanted.waiting.timeout, printer).await {
            Err(CliError::Unsuccessful { .. }) => Ok(()),
            other => other,
        };
    }
    let name = wanted.application.as_deref().unwrap_or_default();
    // Whoever restores what another namespace shares need not be able to read there.
    if wanted.source_namespace.is_none()
        && wanted.export.is_none()
        && wanted.export_to.is_none()
        && wanted.into.is_none()
        && !wanted.rehearse
        && let Some(why) = refusal(&application(cluster, name).await?)
    {
        return Err(CliError::Refused(why));
    }
    let asked = asked_for(name, wanted, Timestamp::now());
    let made = restores.create(&PostParams::default(), &asked).await.map_err(request("make the restore"))?;
    let name = made.name_any();
    if !wanted.waiting.wait && !wanted.dry_run {
        printer.answer(&made, |_| format!("restore.reprise.dev/{name} created\n"))?;
        return Ok(());
    }
    printer.progress(&format!("restore.reprise.dev/{name} created"), Tone::Plain);
    to_its_end(cluster, &restores, &name, wanted.waiting.timeout, printer).await
}

/// Follow a `Restore`, and tell what came of it.
async fn to_its_end(
    cluster: &Cluster,
    restores: &Api<Restore>,
    name: &str,
    timeout: Span,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let mut told = Told::default();
    let ended = follow(restores, name, timeout, |it: &Restore| {
        for line in told.news(it.status.as_ref(), Timestamp::now()) {
            printer.progress(&line, Tone::Plain);
        }
        ended(it)
    });
    let ended = ended.await?.ok_or_else(|| CliError::TimedOut {
        what: format!("restore {name}"),
        after: timeout,
        follow: format!("kubectl reprise restore -n {} --follow {name}", cluster.namespace),
    })?;
    let status = ended.status.clone().unwrap_or_default();
    printer.answer(&ended, |_| outcome(name, &status))?;
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
fn asked_for(application: &str, wanted: &RestoreArguments, now: Timestamp) -> Restore {
    let name = format!("{}-{}", application.chars().take(39).collect::<String>(), now.strftime("%Y%m%d-%H%M%S"));
    let selected = wanted.kind.is_some() || wanted.name.is_some();
    let object = ObjectSelector { kind: wanted.kind.clone(), name: wanted.name.clone(), ..ObjectSelector::default() };
    let objects = if selected { vec![object] } else { Vec::new() };
    let part = selected || !wanted.volumes.is_empty() || !wanted.dumps.is_empty();
    Restore::new(
        &name,
        RestoreSpec {
            application: application.to_owned(),
            source_namespace: wanted.source_namespace.clone(),
            mappings: None,
            export: export(wanted),
            point: PointChoice { name: wanted.point.clone(), before: wanted.before.map(Time) },
            vault: wanted.vault.clone(),
            only: part.then(|| Part { volumes: parts(&wanted.volumes), objects, dumps: dumps(wanted) }),
            on_conflict: wanted.on_conflict,
            safety_point: if wanted.skip_safety_point { SafetyPoint::Skip } else { SafetyPoint::Required },
            rehearse: wanted.rehearse,
            dry_run: wanted.dry_run,
            cancel: false,
        },
    )
}

/// Where files and objects are written, if they are.
fn export(wanted: &RestoreArguments) -> Option<Export> {
    let (claim, vault) = (wanted.export.clone(), wanted.export_to.clone());
    (claim.is_some() || vault.is_some()).then(|| Export { claim, vault, ..Export::default() })
}

/// The dumps, each once, and where they go.
fn dumps(wanted: &RestoreArguments) -> Vec<DumpPart> {
    let into = |pods: &PodSelector| LoadInto {
        pods: pods.clone(),
        container: wanted.container.clone(),
        load: wanted.load.clone(),
        timeout: None,
    };
    let into = wanted.into.as_ref().map(into);
    let names: BTreeSet<_> = wanted.dumps.iter().collect();
    names.into_iter().map(|name| DumpPart { name: name.clone(), into: into.clone() }).collect()
}

/// The volumes, each once. One that is named without a path is meant as a whole.
fn parts(given: &[String]) -> Vec<VolumePart> {
    let mut parts: Vec<VolumePart> = Vec::new();
    for it in given {
        let (claim, path) = it.split_once(':').map_or((it.as_str(), None), |(claim, path)| (claim, Some(path)));
        let whole = given.iter().any(|it| it == claim);
        let paths = path.filter(|_| !whole).map(ToOwned::to_owned);
        match parts.iter_mut().find(|it| it.claim == claim) {
            Some(part) => part.paths.extend(paths),
            None => parts.push(VolumePart { claim: claim.to_owned(), paths: paths.into_iter().collect() }),
        }
    }
    parts
}

fn ended(restore: &Restore) -> bool {
    restore.status.as_ref().is_some_and(|it| condition::ended(&it.conditions))
}

/// What was told already.
#[derive(Default)]
struct Told {
    steps: BTreeMap<RestoreStepName, RestoreStep>,
    progress: Option<RestoreProgress>,
}

impl Told {
    /// A line for each step that began, changed its message, or ended since the last call; and one when data has moved.
    fn news(&mut self, status: Option<&RestoreStatus>, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for step in status.map(|it| it.steps.as_slice()).unwrap_or_default() {
            if self.steps.get(&step.name) != Some(step) {
                lines.push(line(step));
                self.steps.insert(step.name, step.clone());
            }
        }
        let progress = status.and_then(|it| it.progress.as_ref());
        if let Some(progress) = progress.filter(|it| Some(*it) != self.progress.as_ref()) {
            lines.push(moved(progress, now));
            self.progress = Some(progress.clone());
        }
        lines
    }
}

/// How much there is, and when it will be all.
fn moved(progress: &RestoreProgress, now: Timestamp) -> String {
    let RestoreProgress { bytes_done, bytes_total, files_done, files_total, .. } = progress;
    let mut parts = Vec::new();
    if progress.volumes_total > 0 {
        let of = |all: String| if *files_total > 0 { format!(" of {all}") } else { String::new() };
        let (bytes, files) = (of(size(*bytes_total)), of(files_total.to_string()));
        let (done, all) = (progress.volumes_done, progress.volumes_total);
        parts.push(format!("{}{bytes}, {files_done}{files} files, {done} of {all} volumes", size(*bytes_done)));
    }
    if progress.objects_done > 0 {
        let all = progress.objects_total.map_or_else(String::new, |it| format!(" of {it}"));
        parts.push(format!("{}{all} objects", progress.objects_done));
    }
    if let Some(end) = &progress.estimated_end {
        let left = u64::try_from(end.0.duration_since(now).as_secs()).unwrap_or(0);
        parts.push(format!("about {} left", short(left)));
    }
    format!("{}  {:<14}  {}", progress.at.0.strftime("%H:%M:%SZ"), "", parts.join(", "))
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
    for it in &status.passed_over {
        let _ = writeln!(out, "  passed over: {it}");
    }
    if let Some(id) = &status.safety_point_id {
        let _ = writeln!(out, "  what was there before: {id}");
    }
    if let Some(plan) = &status.plan {
        out.push_str(&planned(plan));
    }
    if let Some(it) = &status.rehearsal {
        out.push_str(&rehearsed(it));
    }
    let not = if status.plan.is_some() { "would not be restored" } else { "not restored" };
    for it in &status.not_restored {
        let _ = writeln!(out, "  {not}: {it}");
    }
    out
}

fn rehearsed(it: &Rehearsal) -> String {
    let mut out = String::new();
    if let Some(seconds) = it.restore_seconds {
        let _ = writeln!(out, "  every workload was ready after {}", short(seconds));
    }
    for name in &it.answered {
        let _ = writeln!(out, "  probe {name}: answered");
    }
    for why in &it.not_asked {
        let _ = writeln!(out, "  not asked: {why}");
    }
    out
}

fn planned(plan: &Plan) -> String {
    let Plan { created, updated, unchanged, changes, volumes, dumps } = plan;
    let mut out = String::new();
    if dumps.is_empty() || created + updated + unchanged > 0 {
        let _ = writeln!(out, "  objects: {created} would be made, {updated} changed, {unchanged} are as in the point");
    }
    for it in changes {
        let _ = writeln!(out, "    {it}");
    }
    for it in volumes {
        let PlannedVolume { claim, snapshot, files, bytes, paths } = it;
        let only = if paths.is_empty() { String::new() } else { format!("; only {}", paths.join(", ")) };
        let _ = writeln!(
            out,
            "  volume {claim}: would be as in snapshot {snapshot:.8}: {files} files, {bytes} bytes{only}"
        );
    }
    for it in dumps {
        let PlannedDump { name, bytes, namespace, labels, pod, load, .. } = it;
        let into =
            pod.as_ref().map_or_else(|| format!("a pod with {labels}, when one is ready"), |it| format!("pod {it}"));
        let load = load.join(" ");
        let _ = writeln!(out, "  dump {name}: {bytes} bytes would be given to {load} in {into}, namespace {namespace}");
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
        let made = asked_for("shop", &wanted, "2027-01-31T12:00:00Z".parse().expect("a time"));
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
        assert_eq!(part["only"], json!({"volumes": [{"claim": "data"}], "objects": [{"kind": "Secret"}]}));
        assert_eq!(part["point"], json!({"before": "2027-01-31T11:00:00Z"}));
        let paths = asked(&["--volume", "data:conf/*", "--volume", "log", "--volume", "log:a", "--volume", "data:b"]);
        assert_eq!(
            paths["only"]["volumes"],
            json!([{"claim": "data", "paths": ["conf/*", "b"]}, {"claim": "log"}]),
            "one that is named without a path is meant as a whole"
        );
        assert_eq!(asked(&["--source-namespace", "shop"])["sourceNamespace"], json!("shop"));
        assert_eq!(asked(&["--export", "look"])["export"], json!({"claim": "look"}));
        let place = json!({"vault": {"name": "main", "prefix": "2027-q1"}});
        assert_eq!(asked(&["--export-to", "main/2027-q1"])["export"], place);
        assert_eq!(asked(&["--dry-run"])["dryRun"], json!(true));
        let other = asked(&["--on-conflict", "Skip", "--skip-safety-point", "--point", "p"]);
        assert_eq!((&other["onConflict"], &other["safetyPoint"]), (&json!("Skip"), &json!("Skip")));
    }

    #[test]
    fn a_dump_goes_into_the_pods_and_the_command_that_are_given() {
        let plain = asked(&["--dump", "orders"]);
        assert_eq!(plain["only"], json!({"dumps": [{"name": "orders"}]}));
        let given = ["--dump", "orders", "--source-namespace", "shop", "--into", "app=x,tier=db", "--container", "pg"];
        let other = asked(&[&given[..], &["--", "pg_restore", "-d", "looks"]].concat());
        let into = json!({"pods": {"matchLabels": {"app": "x", "tier": "db"}}, "container": "pg",
            "load": ["pg_restore", "-d", "looks"]});
        assert_eq!(other["only"], json!({"dumps": [{"name": "orders", "into": into}]}));
        for wrong in [&["--into", "app=x"][..], &["--dump", "a", "--into", "x"], &["--dump", "a", "--", "psql"]] {
            let given = ["kubectl-reprise", "restore", "shop"].iter().chain(wrong);
            assert!(Arguments::try_parse_from(given).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn one_that_exists_is_followed_or_cancelled_and_nothing_else_is_said_of_it() {
        let given = |words: &[&str]| {
            Arguments::try_parse_from(["kubectl-reprise", "restore"].iter().chain(words)).map(|it| it.verb)
        };
        let Ok(Verb::Restore(it)) = given(&["--follow", "back", "--timeout", "2h"]) else { panic!("good usage") };
        assert_eq!((it.follow.as_deref(), it.application), (Some("back"), None));
        let Ok(Verb::Restore(it)) = given(&["--cancel", "back", "--wait"]) else { panic!("good usage") };
        assert_eq!((it.cancel.as_deref(), it.waiting.wait), (Some("back"), true));
        for wrong in
            [&["--follow", "back", "shop"][..], &["--cancel", "back", "--dry-run"], &[], &["--timeout", "2h", "shop"]]
        {
            assert!(given(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_has_moved_is_told_once_with_what_is_left() {
        let status: RestoreStatus = serde_json::from_value(json!({"progress": {
            "at": "2027-01-31T12:00:00Z", "volumesDone": 1, "volumesTotal": 2, "bytesDone": 1_073_741_824,
            "bytesTotal": 4_294_967_296_u64, "filesDone": 10, "filesTotal": 40, "objectsDone": 0,
            "estimatedEnd": "2027-01-31T12:03:00Z",
        }}))
        .expect("a status");
        let mut told = Told::default();
        let now = "2027-01-31T12:00:10Z".parse().expect("a time");
        let line = told.news(Some(&status), now).pop().expect("a line");
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "12:00:00Z 1.0 GiB of 4.0 GiB, 10 of 40 files, 1 of 2 volumes, about 2m50s left"
        );
        assert!(told.news(Some(&status), now).is_empty());
    }

    #[test]
    fn a_point_and_a_time_together_are_wrong_usage() {
        let given = ["kubectl-reprise", "restore", "shop", "--point", "p", "--before", "2027-01-31T11:00:00Z"];
        assert!(Arguments::try_parse_from(given).is_err());
        let given = ["kubectl-reprise", "restore", "shop", "--on-conflict", "overwrite"];
        assert!(Arguments::try_parse_from(given).is_err());
    }
}
