//! `kubectl reprise recover`: what a vault has of applications, and bringing them back where nothing is left of them.
//!
//! What the vault holds is asked inside the operator's pod. Namespace, `ProtectedApplication` and `Failover` are made
//! with the rights of whoever calls; from there on it is a failover like any other, which takes the claim and restores.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, PostParams},
    core::ObjectMeta,
};
use serde::Serialize;

use super::{
    CliError, Waiting,
    connection::Cluster,
    failover::{Told, active},
    follow,
    inside::{GRACE, Inside},
    output::{Cell, Printer, Tone, short, table},
    request,
    rewind::{self, RewindArguments},
    vault,
};
use crate::{
    api::{
        application::{ProtectedApplication, ProtectedApplicationSpec, Role},
        dns_zone::DnsZone,
        failover::{Failover, FailoverSpec, Initiator},
        vault::Vault,
    },
    core::{
        condition::{SUCCEEDED, find},
        vault_answer::{Applications, InVault, Recorded, Released},
    },
};

/// How many applications are brought back at a time, unless told otherwise.
const AT_ONCE: usize = 4;
/// How long an operator goes on with a vault that it opened before another one was brought back in its place.
const NOTICED: Duration = Duration::from_secs(65);

/// What to bring back.
#[derive(Args, Debug)]
pub struct RecoverArguments {
    /// The applications, as NAMESPACE/NAME. Without any, those of the vault are listed.
    #[arg(value_name = "NAMESPACE/NAME", conflicts_with = "all")]
    pub applications: Vec<String>,
    /// All applications of the vault.
    #[arg(long)]
    pub all: bool,
    /// The `Vault`. Default: the only one of the cluster.
    #[arg(long)]
    pub vault: Option<String>,
    /// First see what was deleted or overwritten in the vault since this time, as 2027-01-15T08:00:00Z: before the damage.
    /// Without --apply nothing else is done.
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// Bring back what was deleted or overwritten since, and mend the catalogues. Nothing is removed.
    #[arg(long, requires = "at")]
    pub apply: bool,
    /// With --at: the wraps of all keys of the vault, and not only that of the key of this region.
    #[arg(long, requires = "at")]
    pub keys: bool,
    /// How many at a time.
    #[arg(long, default_value_t = AT_ONCE, value_name = "NUMBER")]
    pub at_once: usize,
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// List, or bring back.
///
/// # Errors
/// When the operator's pod or the API server does not do it; `Unsuccessful` when an application is not brought back.
pub async fn run(cluster: &Cluster, wanted: &RecoverArguments, printer: &mut Printer) -> Result<(), CliError> {
    let vault = vault::named(cluster, wanted.vault.as_deref()).await?;
    if let Some(at) = wanted.at {
        let to = RewindArguments { vault: vault.clone(), at, keys: wanted.keys, apply: wanted.apply };
        if !wanted.apply {
            return rewind::run(cluster, &wanted.inside, &to, printer).await;
        }
        if rewind::first(cluster, &wanted.inside, &to, printer).await? > 0 {
            let told = "the operator looks within a minute which vault is there: that is waited for";
            printer.progress(told, Tone::Plain);
            tokio::time::sleep(NOTICED).await;
        }
        vault::repair(cluster, &wanted.inside, &vault, &wanted.applications, printer).await?;
    }
    let listing = wanted.applications.is_empty();
    if listing {
        let found: Applications = wanted.inside.ask(cluster, &["vault", "applications", &vault], "").await?;
        if !wanted.all {
            let here = here(cluster).await?;
            printer.answer(&found, |colour| listed(&found, &here, Timestamp::now(), colour))?;
            return Ok(());
        }
        let names = found.applications.iter().filter(|it| it.newest.is_some());
        let names: Vec<String> = names.map(|it| format!("{}/{}", it.namespace, it.name)).collect();
        return bring_back(cluster, wanted, &vault, &names, printer).await;
    }
    bring_back(cluster, wanted, &vault, &wanted.applications, printer).await
}

/// The applications that this cluster has, with their role.
async fn here(cluster: &Cluster) -> Result<Vec<ProtectedApplication>, CliError> {
    let all = Api::<ProtectedApplication>::all(cluster.client.clone()).list(&ListParams::default()).await;
    Ok(all.map_err(request("list the applications of this cluster"))?.items)
}

fn listed(found: &Applications, here: &[ProtectedApplication], now: Timestamp, colour: bool) -> String {
    let row = |it: &InVault| {
        let role = here
            .iter()
            .find(|own| own.name_any() == it.name && own.namespace().as_ref() == Some(&it.namespace))
            .map(|own| own.status.as_ref().and_then(|it| it.role).map_or("known".to_owned(), |it| format!("{it:?}")));
        let (age, size, region) = match &it.newest {
            Some(point) => {
                let age = u64::try_from(now.as_second() - point.consistent_at.as_second()).unwrap_or(0);
                let size = bytesize::ByteSize::b(point.bytes).display().iec().to_string();
                (Cell::plain(format!("{} ago", short(age))), size, point.region.clone())
            }
            None => (Cell::toned("none that counts", Tone::Bad), "-".to_owned(), "-".to_owned()),
        };
        let holder = it.claim.as_ref().and_then(|it| it.holder.clone()).unwrap_or_else(|| "-".to_owned());
        vec![
            Cell::plain(&it.namespace),
            Cell::plain(&it.name),
            age,
            Cell::plain(size),
            Cell::plain(region),
            Cell::plain(holder),
            Cell::plain(role.unwrap_or_else(|| "-".to_owned())),
        ]
    };
    let rows: Vec<Vec<Cell>> = found.applications.iter().map(row).collect();
    let headings = ["NAMESPACE", "NAME", "LAST POINT", "SIZE", "MADE IN", "CLAIM", "HERE"];
    let mut out = table(&headings, &rows, colour);
    for it in &found.applications {
        for doubt in &it.doubts {
            let _ = writeln!(out, "{}/{}: {doubt}", it.namespace, it.name);
        }
    }
    out
}

/// What came of one application.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    application: String,
    /// The newest point, at the time.
    point: Option<String>,
    /// The `Failover` that was made.
    failover: Option<String>,
    /// Whether it succeeded; absent while it goes on, or was not waited for.
    succeeded: Option<bool>,
    message: String,
}

async fn bring_back(
    cluster: &Cluster,
    wanted: &RecoverArguments,
    vault: &str,
    names: &[String],
    printer: &mut Printer,
) -> Result<(), CliError> {
    let told = &*printer;
    let one = async |name: &String| {
        recover(cluster, wanted, vault, name, told).await.unwrap_or_else(|error| Recovery {
            application: name.clone(),
            point: None,
            failover: None,
            succeeded: Some(false),
            message: error.to_string(),
        })
    };
    let all: Vec<Recovery> = stream::iter(names).map(one).buffered(wanted.at_once.max(1)).collect().await;
    printer.answer(&all, |colour| {
        let row = |it: &Recovery| {
            let verdict = match it.succeeded {
                Some(true) => Cell::toned("back", Tone::Good),
                Some(false) => Cell::toned("not back", Tone::Bad),
                None => Cell::plain("begun"),
            };
            let plain = |text: &Option<String>| Cell::plain(text.as_deref().unwrap_or("-"));
            vec![Cell::plain(&it.application), verdict, plain(&it.point), plain(&it.failover), Cell::plain(&it.message)]
        };
        let rows: Vec<Vec<Cell>> = all.iter().map(row).collect();
        table(&["APPLICATION", "", "POINT", "FAILOVER", "MESSAGE"], &rows, colour)
    })?;
    let failed: Vec<&str> =
        all.iter().filter(|it| it.succeeded == Some(false)).map(|it| it.application.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(CliError::Unsuccessful { what: "the recovery".to_owned(), message: format!("not back: {}", failed.join(", ")) })
}

async fn recover(
    cluster: &Cluster,
    wanted: &RecoverArguments,
    vault: &str,
    name: &str,
    printer: &Printer,
) -> Result<Recovery, CliError> {
    let (namespace, application) =
        name.split_once('/').ok_or_else(|| CliError::Refused(format!("'{name}' is not written NAMESPACE/NAME")))?;
    let recorded: Recorded = wanted.inside.ask(cluster, &["vault", "recorded", vault, name], "").await?;
    let applications = Api::<ProtectedApplication>::namespaced(cluster.client.clone(), namespace);
    let standing = applications.get_opt(application).await.map_err(request(format!("look for {name}")))?;
    let spec = wanted_spec(&recorded, standing.as_ref(), name).map_err(CliError::Refused)?;
    let failovers = Api::<Failover>::namespaced(cluster.client.clone(), namespace);
    let mut running = None;
    if let Some(standing) = &standing {
        let all = failovers.list(&ListParams::default()).await.map_err(request("list failovers"))?.items;
        running = all.into_iter().find(|it| it.spec.application == application && active(it));
        if let Some(why) = refusal(&recorded, standing, running.as_ref(), name) {
            return Err(CliError::Refused(why));
        }
    }
    let lacking = lacking(&spec, &known::<Vault>(cluster).await?, &known::<DnsZone>(cluster).await?);
    if let Some(why) = lacking {
        return Err(CliError::Refused(format!("{name}: {why}")));
    }
    if standing.is_none() {
        release(cluster, wanted, (vault, name), &recorded, spec.claim.wait.as_secs(), printer).await?;
        make(cluster, namespace, application, &recorded, spec).await?;
    }
    let failover = if let Some(running) = running {
        printer.progress(&format!("{name}: failover.reprise.dev/{} goes on", running.name_any()), Tone::Plain);
        running.name_any()
    } else {
        let made = failovers.create(&PostParams::default(), &failover(application, &recorded, Timestamp::now())).await;
        let made = made.map_err(request(format!("make the failover of {name}")))?.name_any();
        printer.progress(&format!("{name}: failover.reprise.dev/{made} created"), Tone::Plain);
        made
    };
    let mut recovery = Recovery {
        application: name.to_owned(),
        point: Some(recorded.point.id.clone()),
        failover: Some(failover.clone()),
        succeeded: None,
        message: format!("follow it with: kubectl get failover -n {namespace} {failover} -w"),
    };
    if !wanted.waiting.wait {
        return Ok(recovery);
    }
    let mut said = Told::default();
    let ended = follow(&failovers, &failover, wanted.waiting.timeout, |it: &Failover| {
        for line in said.news(it.status.as_ref()) {
            printer.progress(&format!("{name}: {line}"), Tone::Plain);
        }
        !active(it)
    });
    let Some(ended) = ended.await? else { return Ok(recovery) };
    let status = ended.status.unwrap_or_default();
    let end = find(&status.conditions, SUCCEEDED);
    recovery.point.clone_from(&status.point);
    recovery.succeeded = end.map(|it| it.status == "True");
    recovery.message = end.map(|it| it.message.clone()).unwrap_or_default();
    Ok(recovery)
}

/// What the application was promised: as it stands in this cluster, or as the point records it.
fn wanted_spec(
    recorded: &Recorded,
    standing: Option<&ProtectedApplication>,
    name: &str,
) -> Result<ProtectedApplicationSpec, String> {
    let spec = match (standing, &recorded.protection) {
        (Some(standing), _) => standing.spec.clone(),
        (None, Some(protection)) => serde_json::from_value(protection.spec.clone())
            .map_err(|error| format!("the ProtectedApplication that the point records cannot be read: {error}"))?,
        (None, None) => {
            return Err(format!(
                "the point {} does not record the ProtectedApplication of {name}: apply it by hand, and recover again",
                recorded.point.id
            ));
        }
    };
    let regions: Vec<&str> = spec.regions.iter().map(|it| it.name.as_str()).collect();
    if !regions.contains(&recorded.region.as_str()) {
        return Err(format!(
            "this cluster is of region {}, which is not among spec.regions of {name} ({}): install the operator with one of those as `region`, or apply its ProtectedApplication by hand with this one added",
            recorded.region,
            regions.join(", ")
        ));
    }
    Ok(spec)
}

/// Why an application that this cluster has is not brought back. Where the claim names this region, its operator takes
/// what is here for the newest there is.
fn refusal(
    recorded: &Recorded,
    standing: &ProtectedApplication,
    running: Option<&Failover>,
    name: &str,
) -> Option<String> {
    let serves = standing.status.as_ref().and_then(|it| it.role) == Some(Role::Active);
    let named = recorded.claim.as_ref().and_then(|it| it.holder.as_ref()) == Some(&recorded.region);
    (serves || (named && running.is_none())).then(|| {
        format!(
            "{name} stands in this cluster, whose region holds its claim: what is here would be set back to the last              point. If that is meant, delete its ProtectedApplication, and recover again"
        )
    })
}

/// What the application names and this cluster does not have.
fn lacking(spec: &ProtectedApplicationSpec, vaults: &BTreeSet<String>, zones: &BTreeSet<String>) -> Option<String> {
    let vault = spec
        .backup
        .vaults
        .iter()
        .filter(|it| !vaults.contains(*it))
        .map(|it| format!("Vault {it} (spec.backup.vaults)"));
    let zone = spec.traffic.iter().map(|it| &it.zone).filter(|it| !zones.contains(*it));
    let zone = zone.map(|it| format!("DnsZone {it} (spec.traffic.zone)"));
    let all: Vec<String> = vault.chain(zone).collect();
    (!all.is_empty()).then(|| format!("this cluster lacks {}: apply it first", all.join(" and ")))
}

async fn known<K>(cluster: &Cluster) -> Result<BTreeSet<String>, CliError>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let all = Api::<K>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let all = all.map_err(request(format!("list {}", K::plural(&()))))?;
    Ok(all.items.iter().map(ResourceExt::name_any).collect())
}

/// A claim that names this region would have it serve at once, with nothing restored. One that is gone is made anew:
/// no region takes one that it knows there was.
async fn release(
    cluster: &Cluster,
    wanted: &RecoverArguments,
    (vault, name): (&str, &str),
    recorded: &Recorded,
    wait: u64,
    printer: &Printer,
) -> Result<(), CliError> {
    let (wait, told) = match &recorded.claim {
        Some(claim) if claim.holder.as_ref() == Some(&recorded.region) => {
            (u64::from(claim.wait), format!("the claim still names this region, {}", recorded.region))
        }
        Some(_) => return Ok(()),
        None => (wait, "the claim is gone, or cannot be read: it is made anew".to_owned()),
    };
    let told = format!("{name}: {told}: it is watched for {wait} s, that nobody renews it");
    printer.progress(&told, Tone::Plain);
    let _: Released = wanted.inside.within(wait + GRACE).ask(cluster, &["vault", "release", vault, name], "").await?;
    Ok(())
}

/// The namespace and the `ProtectedApplication`, as they were.
async fn make(
    cluster: &Cluster,
    namespace: &str,
    application: &str,
    recorded: &Recorded,
    spec: ProtectedApplicationSpec,
) -> Result<(), CliError> {
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let metadata = ObjectMeta {
        name: Some(namespace.to_owned()),
        labels: Some(recorded.namespace_labels.clone()),
        annotations: Some(recorded.namespace_annotations.clone()),
        ..ObjectMeta::default()
    };
    created(&namespaces, Namespace { metadata, ..Namespace::default() }, namespace).await?;
    let mut object = ProtectedApplication::new(application, spec);
    if let Some(protection) = &recorded.protection {
        object.metadata.labels = Some(protection.labels.clone());
        object.metadata.annotations = Some(protection.annotations.clone());
    }
    let applications = Api::<ProtectedApplication>::namespaced(cluster.client.clone(), namespace);
    created(&applications, object, application).await
}

/// Makes an object unless it is there.
async fn created<K>(api: &Api<K>, object: K, name: &str) -> Result<(), CliError>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + Serialize + std::fmt::Debug,
{
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(request(format!("make {} {name}", K::kind(&())))(error)),
    }
}

fn failover(application: &str, recorded: &Recorded, now: Timestamp) -> Failover {
    let name = format!("{application}-{}", now.strftime("%Y%m%d-%H%M%S"));
    let spec = FailoverSpec {
        application: application.to_owned(),
        to: recorded.region.clone(),
        reason: Some("recovered from the vault".to_owned()),
        initiator: Initiator::Person,
    };
    Failover::new(&name, spec)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec() -> Value {
        json!({"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "eu-west"}, {"name": "eu-north"}],
               "backup": {"vaults": ["main"]},
               "traffic": {"zone": "example", "hostname": "shop.example.com", "target": {"service": "web"}}})
    }

    fn recorded(region: &str, holder: Option<&str>, protection: bool) -> Recorded {
        let protection = protection.then(|| json!({"name": "db", "labels": {}, "annotations": {}, "spec": spec()}));
        serde_json::from_value(json!({
            "region": region, "namespaceLabels": {}, "namespaceAnnotations": {}, "protection": protection,
            "point": {"id": "0000000001-X", "region": "eu-west", "consistentAt": "2026-11-22T11:00:00Z",
                      "objects": 3, "volumes": 1, "bytes": 2048},
            "claim": {"epoch": 1, "holder": holder, "wait": 75},
        }))
        .expect("an answer")
    }

    fn standing(role: Option<&str>) -> ProtectedApplication {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
            "metadata": {"name": "db", "namespace": "shop"}, "spec": spec(), "status": {"role": role, "conditions": []},
        }))
        .expect("a ProtectedApplication")
    }

    #[test]
    fn a_region_that_the_application_does_not_name_is_refused_with_the_remedy() {
        assert!(wanted_spec(&recorded("eu-west", None, true), None, "shop/db").is_ok());
        let why = wanted_spec(&recorded("us-east", None, true), None, "shop/db").expect_err("refused");
        assert!(why.contains("us-east") && why.contains("eu-west, eu-north") && why.contains("`region`"), "{why}");
    }

    #[test]
    fn a_point_that_records_no_application_needs_one_that_stands_here() {
        let without = recorded("eu-west", None, false);
        let why = wanted_spec(&without, None, "shop/db").expect_err("refused");
        assert!(why.contains("apply it by hand"), "{why}");
        assert!(wanted_spec(&without, Some(&standing(Some("Standby"))), "shop/db").is_ok());
    }

    #[test]
    fn what_serves_here_or_is_about_to_is_not_set_back() {
        let (west, north) = (recorded("eu-west", Some("eu-west"), true), recorded("eu-west", Some("eu-north"), true));
        let running = Failover::new(
            "db-1",
            FailoverSpec { application: "db".into(), to: "eu-west".into(), reason: None, initiator: Initiator::Person },
        );
        assert!(refusal(&west, &standing(Some("Active")), None, "shop/db").is_some());
        assert!(refusal(&west, &standing(None), None, "shop/db").is_some(), "it will serve in a moment");
        assert_eq!(refusal(&west, &standing(Some("Activating")), Some(&running), "shop/db"), None);
        assert_eq!(refusal(&north, &standing(Some("Standby")), None, "shop/db"), None);
    }

    #[test]
    fn what_the_cluster_lacks_is_named_by_field() {
        let spec = wanted_spec(&recorded("eu-west", None, true), None, "shop/db").expect("a spec");
        let names = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(lacking(&spec, &names(&["main"]), &names(&["example"])), None);
        let why = lacking(&spec, &names(&["other"]), &names(&[])).expect("lacking");
        assert_eq!(
            why,
            "this cluster lacks Vault main (spec.backup.vaults) and DnsZone example (spec.traffic.zone): apply it first"
        );
    }

    #[test]
    fn the_list_says_what_there_is_and_what_stands_here() {
        let found: Applications = serde_json::from_value(json!({"vaultId": "v", "region": "eu-west", "applications": [
            {"namespace": "shop", "name": "db", "newest": recorded("eu-west", None, true).point,
             "claim": {"epoch": 1, "holder": "eu-west", "wait": 75}, "doubts": []},
            {"namespace": "shop", "name": "web", "newest": null, "claim": null, "doubts": ["x: damaged"]}]}))
        .expect("an answer");
        let now = "2026-11-22T11:05:00Z".parse().expect("a time");
        assert_eq!(
            listed(&found, &[standing(Some("Standby"))], now, false),
            "NAMESPACE  NAME  LAST POINT        SIZE     MADE IN  CLAIM    HERE\n\
             shop       db    5m ago            2.0 KiB  eu-west  eu-west  Standby\n\
             shop       web   none that counts  -        -        -        -\n\
             shop/web: x: damaged\n"
        );
    }
}
