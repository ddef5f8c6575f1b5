//! The life of one operator process: settings, leadership, loops, and the way out.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::events::{Recorder, Reporter},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{broadcast, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    http,
    journal::Journal,
    keeper::Keeper,
    lease::{self, Election},
    metrics::{Application, Metrics},
    readiness::Readiness,
    secrets::Secrets,
    shell::{self, FIELD_MANAGER},
    stores::{self, Stores},
    sweep,
    watch::Watch,
    work::{Notes, PointCache, Registry, Wake},
};
use crate::{
    api::{
        application::{ProtectedApplication, WorkloadKind},
        dns_zone::DnsZone,
        failover::Failover,
        recovery_point::RecoveryPoint,
        restore::Restore,
        vault::Vault,
    },
    capture::policy::Policy,
    core::{app_key::AppKey, mover_job::MoverSettings},
    probe::{
        Vantage,
        workload::{WorkloadReader, WorkloadView},
    },
    traffic::resolve::Resolve,
};

/// The leader Lease.
const LEASE: &str = "reprise";
/// The `ConfigMap` that keeps the minutes of service levels.
const MINUTES: &str = "reprise-minutes";
/// How many `ConfigMap`s of minutes there may be: the chart gives rights to so many, by name.
const MINUTES_MAPS: usize = 8;
/// How long passes that go on may take to end when the process is asked to.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the minutes may take to be kept at the end.
const LAST_MINUTES: Duration = Duration::from_secs(10);
/// The most that the end takes: passes, minutes, and giving up the lease. The chart's grace period is longer.
pub const LONGEST_END: Duration = DRAIN.saturating_add(LAST_MINUTES).saturating_add(lease::REQUEST);
/// How often it is said that a kind could not be listed.
const UNFILLED: Duration = Duration::from_secs(20);
/// Room for wakes: more only means that the loop looks by itself.
const WAKES: usize = 4_096;
/// Probes that may be asked at once: those of 10,000 applications that all hang until their timeout.
const PROBES: usize = 4_096;

/// What the operator is started with.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The region's name, unique among the regions.
    pub region: String,
    /// The pod's name.
    pub pod: String,
    /// What movers have in common, and the operator's namespace.
    pub movers: MoverSettings,
    /// What restores may bring back of objects that grant rights or reach beyond a namespace.
    pub policy: Policy,
    /// Whether namespaces may be made for rehearsals.
    pub rehearsals: bool,
    /// Where metrics and health are served.
    pub http: SocketAddr,
}

/// Runs until it is asked to stop, or loses the lease.
///
/// # Errors
/// When it cannot begin, or lost the lease: the process ends then, and Kubernetes starts it anew.
pub async fn run(configuration: Configuration) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let client = Client::try_default().await?;
    let home = configuration.movers.namespace.clone();
    let leases = Api::<Lease>::namespaced(client.clone(), &home);
    let mut election = Election::new(leases, LEASE, &configuration.pod);
    let readiness = Readiness::new(election.answered());
    let serving = tokio::spawn(http::serve(configuration.http, Arc::clone(&metrics), Arc::clone(&readiness)));
    let stopped = stop_signal()?;
    tracing::info!(region = configuration.region, pod = configuration.pod, "waiting for the leader lease");
    tokio::select! {
        () = election.acquire() => {}
        () = stopped.cancelled() => return Ok(()),
        ended = serving => anyhow::bail!("/metrics and /healthz are not served: {ended:?}"),
    }
    tracing::info!(region = configuration.region, "leading");
    let operator = lead(client, configuration, metrics, readiness, stopped.clone());
    let outcome = tokio::select! {
        outcome = operator => outcome,
        () = election.hold() => anyhow::bail!("the leader lease was lost"),
    };
    election.release().await;
    outcome
}

/// Everything that only the leader does.
async fn lead(
    client: Client,
    configuration: Configuration,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stopped: CancellationToken,
) -> anyhow::Result<()> {
    let home = configuration.movers.namespace.clone();
    let (wake, wakes) = mpsc::channel::<AppKey>(WAKES);
    let (ended, endings) = mpsc::channel::<Wake>(WAKES);
    let applications = shell::prepare::<ProtectedApplication>(&client);
    let points = shell::prepare::<RecoveryPoint>(&client);
    let failovers = shell::prepare::<Failover>(&client);
    let restores = shell::prepare::<Restore>(&client);
    let vaults = shell::prepare::<Vault>(&client);
    let zones = shell::prepare::<DnsZone>(&client);
    let stores = Stores {
        deployments: stores::workloads(&client, wake.clone(), applications.store.clone()),
        stateful_sets: stores::workloads(&client, wake.clone(), applications.store.clone()),
        daemon_sets: stores::workloads(&client, wake.clone(), applications.store.clone()),
        applications: applications.store.clone(),
        points: points.store.clone(),
        failovers: failovers.store.clone(),
        restores: restores.store.clone(),
        vaults: vaults.store.clone(),
        zones: zones.store.clone(),
    };
    let resolve = Resolve::system()?;
    let vantage = Vantage::new(resolve.clone(), workload_reader(&stores))?;
    let watch = watching(&vantage, &client, &home).await?;
    let journal = Journal::open(client.clone(), &home).await?;
    let context = Arc::new(Context {
        region: configuration.region,
        movers: configuration.movers,
        policy: configuration.policy,
        rehearsals: configuration.rehearsals,
        recorder: recorder(&client, configuration.pod),
        secrets: Secrets::new(client.clone(), &home),
        works: Arc::new(Registry::new(ended)),
        keeper: Keeper::new(journal, wake.clone())?,
        points: PointCache::default(),
        notes: Notes::default(),
        itself: OnceLock::new(),
        claims: std::sync::Mutex::default(),
        client,
        stores,
        watch,
        vantage,
        resolve,
        metrics,
        wake,
    });
    leads(&context, &readiness);

    let (told, _) = broadcast::channel::<Wake>(WAKES);
    let beside = beside(endings, &told, &context, &home);
    let to_applications = to_applications(wakes, &context.watch, &told);
    let stop = || stopped.clone().cancelled_owned();
    let loops = async {
        futures::join!(
            shell::run(applications, Arc::clone(&context), to_applications, stop()),
            shell::run(points, Arc::clone(&context), of_kind("RecoveryPoint", &told), stop()),
            shell::run(failovers, Arc::clone(&context), of_kind("Failover", &told), stop()),
            shell::run(restores, Arc::clone(&context), of_kind("Restore", &told), stop()),
            shell::run(vaults, Arc::clone(&context), of_kind("Vault", &told), stop()),
            shell::run(zones, Arc::clone(&context), of_kind("DnsZone", &told), stop()),
        )
    };
    tokio::select! {
        _ = loops => {}
        () = async { stopped.cancelled().await; sleep(DRAIN).await } => tracing::warn!("passes that went on were cut short"),
    }
    write_last_minutes(&context, &home).await;
    beside.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Whoever asks this process from outside is told from here on what the leader has.
fn leads(context: &Arc<Context>, readiness: &Readiness) {
    let _ = context.itself.set(Arc::downgrade(context));
    readiness.leads(context);
    context.metrics.leads(context);
}

/// Writes events.
fn recorder(client: &Client, pod: String) -> Recorder {
    Recorder::new(client.clone(), Reporter { controller: "reprise".to_owned(), instance: Some(pod) })
}

/// The probes' schedule, with the minutes that were kept.
async fn watching(vantage: &Vantage, client: &Client, home: &str) -> anyhow::Result<Watch> {
    let watch = Watch::new(vantage.clone(), Arc::new(Timestamp::now), PROBES);
    restore_minutes(client, home, &watch).await?;
    Ok(watch)
}

/// What goes on beside the loops.
fn beside(
    endings: mpsc::Receiver<Wake>,
    told: &broadcast::Sender<Wake>,
    context: &Arc<Context>,
    home: &str,
) -> [tokio::task::JoinHandle<()>; 5] {
    [
        tokio::spawn(tell(endings, told.clone())),
        tokio::spawn(keep_minutes(Arc::clone(context), home.to_owned())),
        tokio::spawn(forget_the_gone(Arc::clone(context))),
        tokio::spawn(sweep::run(Arc::clone(context))),
        tokio::spawn(tell_unfilled(Arc::clone(context))),
    ]
}

/// What wakes the decisions about applications: a claim or a workload, a verdict of the probes, work that ended.
fn to_applications(
    wakes: mpsc::Receiver<AppKey>,
    watch: &Watch,
    told: &broadcast::Sender<Wake>,
) -> impl Stream<Item = (Option<String>, String)> + Send + 'static {
    let keys = futures::stream::select(received(wakes), watch.changes().boxed());
    let ended = of_kind("ProtectedApplication", told);
    futures::stream::select(keys.map(|it| (Some(it.namespace), it.name)), ended)
}

/// Cancelled at SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = CancellationToken::new();
    let tell = stopped.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop: finishing what goes on");
        tell.cancel();
    });
    Ok(stopped)
}

fn received<T: Send + 'static>(from: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures::stream::unfold(from, async |mut from| from.recv().await.map(|it| (it, from)))
}

/// Hands the endings of work to the loops of all kinds.
async fn tell(mut endings: mpsc::Receiver<Wake>, told: broadcast::Sender<Wake>) {
    while let Some(wake) = endings.recv().await {
        // Without a loop there is nobody to tell.
        let _ = told.send(wake);
    }
}

/// The endings of work for objects of one kind.
fn of_kind(
    kind: &'static str,
    told: &broadcast::Sender<Wake>,
) -> impl Stream<Item = (Option<String>, String)> + Send + 'static {
    futures::stream::unfold(told.subscribe(), move |mut told| async move {
        loop {
            match told.recv().await {
                Ok((of, namespace, name)) if of == kind => return Some(((namespace, name), told)),
                // What was missed is looked at again by itself.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// Reads workloads from what the watches tell.
fn workload_reader(stores: &Stores) -> WorkloadReader {
    let (deployments, stateful_sets, daemon_sets) =
        (stores.deployments.clone(), stores.stateful_sets.clone(), stores.daemon_sets.clone());
    Arc::new(move |namespace, kind, name| {
        let view = match kind {
            WorkloadKind::Deployment => deployments
                .get(&kube::runtime::reflector::ObjectRef::new(name).within(namespace))
                .map(WorkloadView::Deployment),
            WorkloadKind::StatefulSet => stateful_sets
                .get(&kube::runtime::reflector::ObjectRef::new(name).within(namespace))
                .map(WorkloadView::StatefulSet),
            WorkloadKind::DaemonSet => daemon_sets
                .get(&kube::runtime::reflector::ObjectRef::new(name).within(namespace))
                .map(WorkloadView::DaemonSet),
        };
        Box::pin(std::future::ready(view.unwrap_or(WorkloadView::Absent)))
    })
}

/// Forgets, in memory, applications and runs that are no longer there. One that cannot be read is: its claim is kept as
/// was last wanted of it.
async fn forget_the_gone(context: Arc<Context>) {
    let mut known: HashSet<AppKey> = HashSet::new();
    loop {
        sleep(Duration::from_secs(30)).await;
        let uids = context.stores.uids().await;
        let now: HashSet<AppKey> = stores::standing(&context.stores.applications)
            .into_iter()
            .map(|it| AppKey { namespace: it.namespace.unwrap_or_default(), name: it.name.unwrap_or_default() })
            .collect();
        for gone in known.difference(&now) {
            context.watch.remove(gone);
            if let Err(error) = context.keeper.forget(gone).await {
                tracing::warn!(%error, application = %gone, "its claim stays in the journal");
            }
            context.metrics.forget(&Application { namespace: gone.namespace.clone(), application: gone.name.clone() });
        }
        known = now;
        context.works.retain(|uid| uids.contains(uid));
    }
}

/// Says what keeps every decision waiting.
async fn tell_unfilled(context: Arc<Context>) {
    while timeout(UNFILLED, context.stores.ready()).await.is_err() {
        let kinds = context.stores.unfilled().join(", ");
        tracing::warn!(
            kinds,
            "not ready: these kinds could not be listed yet. Are the CRDs installed, and the rights as the chart gives them?"
        );
    }
}

/// Keeps the minutes of service levels across restarts.
async fn keep_minutes(context: Arc<Context>, home: String) {
    loop {
        let maps = context.watch.minutes_to_persist().await;
        write_minutes(&context, &home, maps).await;
    }
}

/// The `ConfigMap`s that minutes are kept in, in the order in which they are filled.
pub fn minutes_names() -> impl Iterator<Item = String> {
    (0..MINUTES_MAPS).map(|it| if it == 0 { MINUTES.to_owned() } else { format!("{MINUTES}-{it}") })
}

async fn write_minutes(context: &Context, home: &str, maps: Vec<BTreeMap<String, String>>) {
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), home);
    if maps.len() > MINUTES_MAPS {
        tracing::warn!(
            maps = maps.len(),
            "more minutes of service levels than {MINUTES_MAPS} maps hold: the last are not kept"
        );
    }
    for (name, data) in minutes_names().zip(maps) {
        let patch =
            serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match timeout(Duration::from_secs(10), api.patch(&name, &params, &Patch::Apply(&patch))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the minutes of service levels could not be kept"),
            Err(_) => tracing::warn!("the minutes of service levels could not be kept in time"),
        }
    }
}

async fn write_last_minutes(context: &Context, home: &str) {
    if timeout(LAST_MINUTES, write_minutes(context, home, context.watch.minutes())).await.is_err() {
        tracing::warn!("the minutes of service levels could not all be kept before the end");
    }
}

async fn restore_minutes(client: &Client, home: &str, watch: &Watch) -> anyhow::Result<()> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), home);
    let mut maps = Vec::new();
    for name in minutes_names() {
        match api.get_opt(&name).await? {
            Some(found) => maps.push(found.data.unwrap_or_default()),
            None => break,
        }
    }
    for key in watch.restore(maps) {
        tracing::warn!(key, "its minutes could not be read, or are too old: they are left out");
    }
    Ok(())
}
