//! The operator at rest: its memory, and what it asks the API server, with one application and with many.
//!
//! The operator is the real process, with its vault on `MinIO`. Applications have one `ConfigMap`, one region and an
//! RPO of a day, so that no point is made while they are looked at.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    core::{ApiResource, DynamicObject},
};
use reprise::api::{application::ProtectedApplication, vault::Vault};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, OPERATOR, client},
    process::{Server, Variables, free_address},
    report::{Figure, Runs},
    storage::{KEY, PASSWORD, Storage, USER},
};

/// The operator's namespace.
const HOME: &str = "reprise-system";
/// The operator's region.
const REGION: &str = "bench";
/// How long it is looked at.
const WINDOW: Duration = Duration::from_mins(2);
/// The pause after the last point, for what follows it.
const PAUSE: Duration = Duration::from_secs(10);
/// How long applications may take to have their first point.
const SETTLE: Duration = Duration::from_mins(3);
/// Applications of the operator that has many.
const MANY: usize = 200;

/// The kinds of CSI snapshots, which most clusters have: what they may say is not needed here.
const SNAPSHOTS: [(&str, &str, &str); 3] = [
    ("VolumeSnapshot", "volumesnapshots", "Namespaced"),
    ("VolumeSnapshotContent", "volumesnapshotcontents", "Cluster"),
    ("VolumeSnapshotClass", "volumesnapshotclasses", "Cluster"),
];

/// What one look gave.
struct Look {
    memory: f64,
    peak: f64,
    /// Requests per minute.
    requests: f64,
    /// Those of them for the leader lease.
    lease: f64,
}

/// Measures the operator at rest.
///
/// # Errors
/// When it cannot be run, or its applications do not settle.
pub async fn measure_all(folder: &Path) -> Result<Vec<Figure>> {
    let (few, lots) = (folder.join("one"), folder.join("many"));
    // Nothing is timed here, so that both may go on at once: each has an API server and a MinIO of its own.
    let (one, many) = tokio::try_join!(rest(&few, 1), rest(&lots, MANY))?;
    let limit = memory_limit()?;
    let memory = |name: &str, it: &Look| {
        let ours = Runs::one(it.memory, Some(it.peak));
        Figure::new(name, "MiB", &ours, "the chart's memory limit", &Runs::one(limit, None))
    };
    let requests = |name: &str, it: &Look, peer: &str, than: f64| {
        Figure::new(name, "requests/min", &Runs::one(it.requests, None), peer, &Runs::one(than, None))
    };
    Ok(vec![
        memory("idle: memory of the operator with 1 application", &one),
        memory("idle: memory of the operator with 200 applications", &many),
        requests("idle: API requests with 1 application", &one, "those for the leader lease alone", one.lease),
        requests("idle: API requests with 200 applications", &many, "those with 1 application", one.requests),
    ])
}

/// Runs an operator with so many applications until it rests, and looks at it.
async fn rest(folder: &Path, count: usize) -> Result<Look> {
    fs::create_dir(folder).context("make a directory")?;
    let cluster = Cluster::start(folder).await?;
    let client = client(&cluster.of_bench()).await?;
    define(&client).await?;
    let storage = Storage::start(folder).await?;
    prepare(&client, &storage).await?;
    let operator = start(folder, &cluster)?;
    protect(&client, count).await?;
    let look = look(&cluster, &operator, &client, count).await?;
    operator.stop().await;
    storage.stop().await;
    cluster.stop().await;
    Ok(look)
}

/// Applies our kinds, as the project ships them, and those of CSI snapshots.
async fn define(client: &Client) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for entry in fs::read_dir("crds").context("read crds/")? {
        let text = fs::read_to_string(entry.context("read crds/")?.path()).context("read a definition")?;
        let definition = serde_yaml::from_str(&text).context("a definition")?;
        api.create(&PostParams::default(), &definition).await.context("make a definition")?;
    }
    for (kind, plural, scope) in SNAPSHOTS {
        let group = "snapshot.storage.k8s.io";
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "metadata": {
                "name": format!("{plural}.{group}"),
                "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/814"},
            },
            "spec": {
                "group": group, "scope": scope, "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}],
            },
        });
        make(&api, definition).await?;
    }
    let served = async || {
        let vaults = Api::<Vault>::all(client.clone()).list(&ListParams::default()).await;
        vaults.is_ok() && Api::<ProtectedApplication>::all(client.clone()).list(&ListParams::default()).await.is_ok()
    };
    let end = Instant::now() + SETTLE;
    while !served().await {
        ensure!(Instant::now() < end, "our kinds are not served in time");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Makes the vault, its Secrets, and the operator's namespace.
async fn prepare(client: &Client, storage: &Storage) -> Result<()> {
    make(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": HOME}})).await?;
    let secrets = Api::<Secret>::namespaced(client.clone(), HOME);
    let credentials = json!({"accessKeyId": USER, "secretAccessKey": PASSWORD});
    make(&secrets, json!({"metadata": {"name": "vault"}, "stringData": credentials})).await?;
    make(&secrets, json!({"metadata": {"name": "vault-key"}, "stringData": {"key": KEY}})).await?;
    let vaults = Api::<Vault>::all(client.clone());
    vaults
        .create(&PostParams::default(), &Vault::new("main", storage.vault("idle")))
        .await
        .context("make the vault")?;
    Ok(())
}

fn start(folder: &Path, cluster: &Cluster) -> Result<Server> {
    let http = free_address()?;
    let variables: Variables = vec![("KUBECONFIG", cluster.of_operator().into()), ("RUST_LOG", "info".into())];
    let arguments =
        ["--region", REGION, "--pod", "bench", "--namespace", HOME, "--mover-image", "none", "--http", &http];
    let mut command = vec![env!("CARGO_BIN_EXE_reprise"), "operator"];
    command.extend(arguments);
    Server::start(folder, "operator", &command, variables)
}

/// Makes so many applications.
async fn protect(client: &Client, count: usize) -> Result<()> {
    stream::iter(0..count)
        .map(|at| async move {
            let name = format!("app-{at:03}");
            make(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": name}})).await?;
            let configs = Api::<ConfigMap>::namespaced(client.clone(), &name);
            make(&configs, json!({"metadata": {"name": "settings"}, "data": {"number": at.to_string()}})).await?;
            let application = json!({
                "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
                "metadata": {"name": "app"},
                "spec": {"objectives": {"rto": "15m", "rpo": "24h"}, "regions": [{"name": REGION}], "backup": {"vaults": ["main"]}},
            });
            // As a person writes it: what is not given is left to the defaults of the schema.
            let kind = ApiResource::erase::<ProtectedApplication>(&());
            make(&Api::<DynamicObject>::namespaced_with(client.clone(), &name, &kind), application).await
        })
        .buffer_unordered(16)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
}

async fn make<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let shown = object["metadata"]["name"].to_string();
    let object = serde_json::from_value(object).with_context(|| format!("write {shown}"))?;
    api.create(&PostParams::default(), &object).await.map(|_| ()).with_context(|| format!("make {shown}"))
}

/// Waits until all applications have a point and nothing is left to do, and looks.
async fn look(cluster: &Cluster, operator: &Server, client: &Client, count: usize) -> Result<Look> {
    let begin = Instant::now();
    let applications = Api::<ProtectedApplication>::all(client.clone());
    loop {
        let found = applications.list(&ListParams::default()).await.context("list applications")?.items;
        let with_point = found.iter().filter(|it| it.status.as_ref().is_some_and(|it| it.last_point.is_some())).count();
        if with_point == count {
            break;
        }
        if begin.elapsed() > SETTLE {
            let one = found.iter().find(|it| it.status.as_ref().is_none_or(|it| it.last_point.is_none()));
            bail!(
                "only {with_point} of {count} applications have a point: {:?}",
                one.and_then(|it| it.status.as_ref())
            );
        }
        operator.memory()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    eprintln!(
        "idle: {count} applications have a point after {:.0} s; looking for 2 minutes",
        begin.elapsed().as_secs_f64()
    );
    tokio::time::sleep(PAUSE).await;
    let start = Timestamp::now();
    tokio::time::sleep(WINDOW).await;
    let counted = requests(&cluster.requests(), start, Timestamp::now())?;
    let (memory, peak) = operator.memory()?;
    let minutes = WINDOW.as_secs_f64() / 60.0;
    let per_minute = |count: u32| f64::from(count) / minutes;
    for (what, times) in &counted {
        eprintln!("idle: {count} applications: {what}: {:.1}/min", per_minute(*times));
    }
    let lease = counted.iter().filter(|(what, _)| what.ends_with(" leases")).map(|(_, count)| count).sum();
    Ok(Look { memory, peak, requests: per_minute(counted.values().sum()), lease: per_minute(lease) })
}

/// The operator's requests in that time, by verb and resource.
fn requests(path: &Path, from: Timestamp, to: Timestamp) -> Result<BTreeMap<String, u32>> {
    let mut counted = BTreeMap::new();
    for line in BufReader::new(fs::File::open(path).context("read the audit log")?).lines() {
        let line: Value =
            serde_json::from_str(&line.context("read the audit log")?).context("a line of the audit log")?;
        let at: Timestamp =
            line["requestReceivedTimestamp"].as_str().context("an instant")?.parse().context("an instant")?;
        if line["user"]["username"] == OPERATOR && from <= at && at < to {
            let text = |it: &Value| it.as_str().unwrap_or("-").to_owned();
            let mut what = format!("{} {}", text(&line["verb"]), text(&line["objectRef"]["resource"]));
            if let Some(part) = line["objectRef"]["subresource"].as_str() {
                what = format!("{what}/{part}");
            }
            *counted.entry(what).or_insert(0) += 1;
        }
    }
    Ok(counted)
}

/// The operator's memory limit in the chart, in MiB.
fn memory_limit() -> Result<f64> {
    let text = fs::read_to_string("charts/reprise/values.yaml").context("read the chart's values")?;
    let values: Value = serde_yaml::from_str(&text).context("the chart's values")?;
    let limit = values["resources"]["limits"]["memory"].as_str().context("resources.limits.memory of the chart")?;
    limit.strip_suffix("Mi").and_then(|it| it.parse().ok()).with_context(|| format!("{limit} is not in Mi"))
}
