//! What each kind looks at, gathered from stores, from memory, and where it must be exact from the API server.

mod application;
mod dumps;
pub(super) mod failover;
pub(super) mod groups;
pub(super) mod listed;
mod progress;
mod recovery_point;
mod restore;
mod sources;
mod warm;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{Node, PersistentVolumeClaim, Pod, PodSpec, Service},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta},
};

use self::listed::{all, all_if_served, each};
use super::{
    context::Context,
    shell::{Error, Reconciled},
};
use crate::{
    api::{dns_zone::DnsZone, vault::Vault},
    core::{
        self,
        application::LocalCopy,
        child::{CLAIM, MANAGED_BY, RUN},
        effect::Decision,
        mover_task::{CORRUPT, Report},
        recovery_point::JobSeen,
    },
};

impl Reconciled for Vault {
    type Observed = core::vault::Observed;

    async fn observe(&self, context: &Context) -> Result<Self::Observed, Error> {
        // What is wrong with it is told by its test.
        let key = context.secrets.locked(self).await.ok().map(|it| it.key().id());
        Ok(core::vault::Observed { works: context.works.of(self), key })
    }

    fn decide(&self, observed: &Self::Observed, now: Timestamp) -> Decision<Self::Status> {
        core::vault::decide(self, observed, now)
    }

    fn written(&self, context: &Context) {
        let name = self.name_any();
        context.wake_applications(|it| it.spec.backup.vaults.contains(&name));
    }
}

impl Reconciled for DnsZone {
    type Observed = core::dns_zone::Observed;

    async fn observe(&self, context: &Context) -> Result<Self::Observed, Error> {
        Ok(core::dns_zone::Observed { works: context.works.of(self) })
    }

    fn decide(&self, observed: &Self::Observed, now: Timestamp) -> Decision<Self::Status> {
        core::dns_zone::decide(self, observed, now)
    }

    fn written(&self, context: &Context) {
        let name = self.name_any();
        context.wake_applications(|it| it.spec.traffic.as_ref().is_some_and(|it| it.zone == name));
    }
}

/// What runs of the application in its namespace: from the stores, and the pods from the API server.
async fn copy(namespace: &str, context: &Context) -> Result<LocalCopy, Error> {
    let client = || context.client.clone();
    let not_ours = ListParams::default().labels(&format!("{}!={}", MANAGED_BY.0, MANAGED_BY.1));
    let (mut running, mut bound, mut timed, mut jobs) = (0, 0, 0, 0);
    let pods = Api::<Pod>::namespaced(client(), namespace);
    each(&pods, not_ours, "pods", |it| running += usize::from(alive(&it))).await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(client(), namespace);
    each(&claims, ListParams::default(), "claims", |it| bound += usize::from(phase(&it) == BOUND)).await?;
    let unsuspended = |it: &CronJob| it.spec.as_ref().is_some_and(|it| it.suspend != Some(true));
    let schedules = Api::<CronJob>::namespaced(client(), namespace);
    each(&schedules, ListParams::default(), "cron jobs", |it| timed += usize::from(unsuspended(&it))).await?;
    let all_jobs = Api::<Job>::namespaced(client(), namespace);
    each(&all_jobs, ListParams::default(), "jobs", |it| jobs += usize::from(unfinished(&it))).await?;
    Ok(LocalCopy {
        wanted: wanted(namespace, context) + count(timed + jobs),
        pods: count(running),
        volumes: count(bound),
    })
}

/// The phase of a claim that has a volume.
const BOUND: &str = "Bound";

/// The phase of a claim.
fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or("Pending")
}

/// Whether a pod may still run, also when it is being deleted.
fn alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a Job may still make pods, although it may have none at this moment. One that is being deleted makes none.
fn unfinished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|it| it.conditions.as_ref());
    let ended = conditions.into_iter().flatten().any(|it| {
        ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"].contains(&it.type_.as_str())
            && it.status == "True"
    });
    !ended && job.metadata.deletion_timestamp.is_none() && job.spec.as_ref().is_some_and(|it| it.suspend != Some(true))
}

/// Whether a workload's controller has yet to see its newest version: it may still make pods that are not wanted.
fn unsettled(meta: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) < meta.generation.unwrap_or(0)
}

/// Workloads that want to run, or of which that is not sure yet, as the watches tell.
fn wanted(namespace: &str, context: &Context) -> u32 {
    let here = |it: Option<String>| it.as_deref() == Some(namespace);
    let deployments = context.stores.deployments.state();
    let deployments = deployments.iter().filter(|it| {
        let observed = it.status.as_ref().and_then(|it| it.observed_generation);
        let replicas = it.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
        here(it.namespace()) && (replicas > 0 || unsettled(&it.metadata, observed))
    });
    let stateful_sets = context.stores.stateful_sets.state();
    let stateful_sets = stateful_sets.iter().filter(|it| {
        let observed = it.status.as_ref().and_then(|it| it.observed_generation);
        let replicas = it.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
        here(it.namespace()) && (replicas > 0 || unsettled(&it.metadata, observed))
    });
    let daemon_sets = context.stores.daemon_sets.state();
    let daemon_sets = daemon_sets.iter().filter(|it| {
        let status = it.status.as_ref();
        let scheduled = status.is_some_and(|it| it.desired_number_scheduled > 0);
        here(it.namespace()) && (scheduled || unsettled(&it.metadata, status.and_then(|it| it.observed_generation)))
    });
    count(deployments.count() + stateful_sets.count() + daemon_sets.count())
}

/// The workload whose pods may take longest to stop, and how many seconds that is.
fn slowest(namespace: &str, context: &Context) -> Option<(String, u64)> {
    fn graces<K: ResourceExt>(
        namespace: &str,
        kind: &str,
        all: &[Arc<K>],
        pod: impl Fn(&K) -> Option<&PodSpec>,
    ) -> Vec<(u64, String)> {
        let here = all.iter().filter(|it| it.namespace().as_deref() == Some(namespace));
        here.map(|it| {
            let seconds = pod(it).and_then(|it| it.termination_grace_period_seconds);
            (seconds.and_then(|it| u64::try_from(it).ok()).unwrap_or(30), format!("{kind} {}", it.name_any()))
        })
        .collect()
    }
    let stores = &context.stores;
    let mut all = graces(namespace, "Deployment", &stores.deployments.state(), |it: &Deployment| {
        it.spec.as_ref()?.template.spec.as_ref()
    });
    all.extend(graces(namespace, "StatefulSet", &stores.stateful_sets.state(), |it: &StatefulSet| {
        it.spec.as_ref()?.template.spec.as_ref()
    }));
    all.extend(graces(namespace, "DaemonSet", &stores.daemon_sets.state(), |it: &DaemonSet| {
        it.spec.as_ref()?.template.spec.as_ref()
    }));
    all.into_iter().max().map(|(seconds, name)| (name, seconds))
}

/// Whether a run goes on, or ended so lately that something of it may still be there.
fn recent(finished_at: Option<&Time>) -> bool {
    finished_at.is_none_or(|it| it.0 + SignedDuration::from_mins(10) > Timestamp::now())
}

/// What of the workloads that want to run is not ready, read from the API server.
async fn not_ready(namespace: &str, context: &Context) -> Result<Vec<String>, Error> {
    use crate::probe::workload::{WorkloadView, ready};
    let mut missing = Vec::new();
    let mut look = |kind: &str, name: String, wanted: bool, view: WorkloadView| {
        if let (true, Err(why)) = (wanted, ready(&view)) {
            missing.push(format!("{kind} {name}: {why}"));
        }
    };
    let (every, client) = (ListParams::default, || context.client.clone());
    each(&Api::<Deployment>::namespaced(client(), namespace), every(), "deployments", |it| {
        let wanted = it.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1) > 0;
        look("Deployment", it.name_any(), wanted, WorkloadView::Deployment(it.into()));
    })
    .await?;
    each(&Api::<StatefulSet>::namespaced(client(), namespace), every(), "statefulsets", |it| {
        let wanted = it.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1) > 0;
        look("StatefulSet", it.name_any(), wanted, WorkloadView::StatefulSet(it.into()));
    })
    .await?;
    each(&Api::<DaemonSet>::namespaced(client(), namespace), every(), "daemonsets", |it| {
        let wanted = it.status.as_ref().is_some_and(|it| it.desired_number_scheduled > 0);
        look("DaemonSet", it.name_any(), wanted, WorkloadView::DaemonSet(it.into()));
    })
    .await?;
    Ok(missing)
}

/// The address that the public name shall lead to, or why there is none.
async fn address(namespace: &str, service: &str, context: &Context) -> Result<Result<String, String>, Error> {
    let services = Api::<Service>::namespaced(context.client.clone(), namespace);
    let found = services.get_opt(service).await.map_err(Error::observe(format!("Service {service}")))?;
    let Some(found) = found else {
        return Ok(Err(format!(
            "spec.traffic.target.service: there is no Service '{service}' in namespace {namespace}"
        )));
    };
    let kind = found.spec.as_ref().and_then(|it| it.type_.as_deref()).unwrap_or("ClusterIP");
    match kind {
        "LoadBalancer" => {
            let ingress = found.status.and_then(|it| it.load_balancer).and_then(|it| it.ingress).unwrap_or_default();
            let first = ingress.into_iter().find_map(|it| it.ip.or(it.hostname));
            Ok(first.ok_or_else(|| format!("Service {service} has no load balancer address yet")))
        }
        "NodePort" => node_address(context).await,
        other => Ok(Err(format!(
            "spec.traffic.target.service: Service {service} is of type {other}, which nobody outside can reach: make it LoadBalancer or NodePort"
        ))),
    }
}

/// The address of a ready node: the external one if there is one.
async fn node_address(context: &Context) -> Result<Result<String, String>, Error> {
    let nodes = Api::<Node>::all(context.client.clone());
    let nodes = all(&nodes, ListParams::default(), "nodes").await?;
    let ready = |it: &&Node| {
        let conditions = it.status.as_ref().and_then(|it| it.conditions.as_ref());
        conditions.is_some_and(|it| it.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
    };
    let mut addresses: Vec<String> = Vec::new();
    for node in nodes.iter().filter(ready) {
        let all = node.status.as_ref().and_then(|it| it.addresses.clone()).unwrap_or_default();
        let of = |type_: &str| all.iter().find(|it| it.type_ == type_).map(|it| it.address.clone());
        addresses.extend(of("ExternalIP").or_else(|| of("InternalIP")));
    }
    addresses.sort();
    Ok(addresses.into_iter().next().ok_or_else(|| "no node is ready".to_owned()))
}

/// The movers of a run, by claim.
async fn movers(uid: &str, context: &Context) -> Result<BTreeMap<String, JobSeen>, Error> {
    let home = &context.movers.namespace;
    let of_run = || ListParams::default().labels(&format!("{RUN}={uid}"));
    let jobs = all(&Api::<Job>::namespaced(context.client.clone(), home), of_run(), "mover jobs").await?;
    let pods = all(&Api::<Pod>::namespaced(context.client.clone(), home), of_run(), "mover pods").await?;
    Ok(movers_seen(&jobs, &pods))
}

/// A deleted job may leave a pod behind that still writes: until that has ended, the mover goes on.
fn movers_seen(jobs: &[Job], pods: &[Pod]) -> BTreeMap<String, JobSeen> {
    let claim = |it: &BTreeMap<String, String>| it.get(CLAIM).cloned().unwrap_or_default();
    let seen = |job: &Job| (claim(job.annotations()), job_seen(job, &pods_of(job, pods)));
    let mut seen: BTreeMap<_, _> = jobs.iter().map(seen).collect();
    for pod in pods.iter().filter(|it| alive(it) && !jobs.iter().any(|job| owns(job, it))) {
        let message = format!("pod {} of a deleted mover still runs", pod.name_any());
        seen.insert(claim(pod.annotations()), JobSeen::Running(Some(message)));
    }
    seen
}

/// A job's own pods, oldest first. Not by its name: a pod outlives its deleted job for some seconds, and what it said
/// is not what the new job of that name says.
fn pods_of<'a>(job: &Job, pods: &'a [Pod]) -> Vec<&'a Pod> {
    let mut own: Vec<&Pod> = pods.iter().filter(|it| owns(job, it)).collect();
    own.sort_by_key(|it| it.creation_timestamp().map(|it| it.0));
    own
}

fn owns(job: &Job, pod: &Pod) -> bool {
    pod.owner_references().iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

fn job_seen(job: &Job, pods: &[&Pod]) -> JobSeen {
    // Whatever it did: it is there until its pods are gone, and its report goes with it.
    if job.metadata.deletion_timestamp.is_some() {
        return JobSeen::Running(Some("the mover is being deleted".to_owned()));
    }
    let conditions = job.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let is = |type_: &str| conditions.iter().any(|it| it.type_ == type_ && it.status == "True");
    // The same each time it is looked at: it tells this failure from the next job's.
    let ended = conditions.iter().find(|it| it.status == "True").and_then(|it| it.last_transition_time.as_ref());
    let at = ended.or(job.metadata.creation_timestamp.as_ref()).map_or(Timestamp::UNIX_EPOCH, |it| it.0);
    let ends: Vec<_> = pods.iter().filter_map(|it| termination(it)).collect();
    if is("Complete") || is("SuccessCriteriaMet") {
        let good = ends.iter().rev().find(|(code, _)| *code == 0);
        if let Some(report) = good.and_then(|(_, message)| Report::from_message(message)) {
            return JobSeen::Succeeded(Box::new(report));
        }
        let message = "the mover ended well, but its report is gone".into();
        return JobSeen::Failed { message, at, corrupt: false, command: None };
    }
    let last = ends.last();
    let report = last.and_then(|(_, message)| Report::from_message(message)).unwrap_or_default();
    let (told, command) =
        (report.error.or_else(|| pods.last().and_then(|it| wordless(it))), report.command.map(Box::new));
    if last.is_some_and(|(code, _)| *code == i32::from(CORRUPT)) {
        return JobSeen::Failed {
            message: told.unwrap_or_else(|| "its data in the repository is damaged".into()),
            at,
            corrupt: true,
            command,
        };
    }
    if is("Failed") {
        let why = conditions.iter().find(|it| it.type_ == "Failed").and_then(|it| it.message.clone());
        let message = told.or(why).unwrap_or_else(|| "the mover failed".into());
        return JobSeen::Failed { message, at, corrupt: false, command };
    }
    let pending = || pods.last().map_or_else(|| Some("its Job has no pod yet".to_owned()), |it| waiting(it));
    JobSeen::Running(told.or_else(pending))
}

/// The exit code and the message of a pod's container that has ended.
fn termination(pod: &Pod) -> Option<(i32, String)> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    Some((ended.exit_code, ended.message.clone().unwrap_or_default()))
}

/// How a mover ended that could not say so itself.
fn wordless(pod: &Pod) -> Option<String> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    if ended.reason.as_deref() == Some("OOMKilled") {
        return Some("the mover ran out of memory: raise movers.resources.limits.memory of the chart".to_owned());
    }
    (ended.exit_code != 0).then(|| format!("the mover was ended with exit code {} and told nothing", ended.exit_code))
}

/// What a pod waits for.
fn waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|it| it.type_ == "PodScheduled" && it.status == "False");
    if let Some(condition) = unscheduled {
        return condition.message.clone();
    }
    let container = status.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    (reason != "ContainerCreating").then(|| format!("{reason}: {}", waiting.message.clone().unwrap_or_default()))
}

/// A kind that k8s-openapi does not have. An empty list where the cluster does not know it.
pub(super) async fn snapshots_of(
    kind: &str,
    namespace: Option<&str>,
    labels: Option<&str>,
    context: &Context,
) -> Result<Vec<DynamicObject>, Error> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    };
    let mut params = ListParams::default();
    if let Some(labels) = labels {
        params = params.labels(labels);
    }
    all_if_served(&api, params, kind).await
}

/// The requested size of a claim.
fn requested(spec: Option<&k8s_openapi::api::core::v1::PersistentVolumeClaimSpec>) -> String {
    let requests = spec.and_then(|it| it.resources.as_ref()).and_then(|it| it.requests.as_ref());
    requests.and_then(|it| it.get("storage")).map_or_else(|| "1Gi".to_owned(), |Quantity(it)| it.clone())
}

fn count(it: usize) -> u32 {
    u32::try_from(it).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(uid: &str, deleted_at: Option<&str>) -> Job {
        let metadata =
            json!({"name": "mover", "uid": uid, "annotations": {CLAIM: "data"}, "deletionTimestamp": deleted_at});
        serde_json::from_value(json!({ "metadata": metadata })).expect("a job")
    }

    /// The pod of a mover.
    fn pod_of(uid: &str, phase: &str, state: &serde_json::Value) -> Pod {
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "mover", "uid": uid, "controller": true});
        serde_json::from_value(json!({
            "metadata": {"name": "mover-1", "annotations": {CLAIM: "data"}, "ownerReferences": [owner]},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "mover", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }))
        .expect("a pod")
    }

    /// One that found its data damaged.
    fn corrupt_of(uid: &str) -> Pod {
        pod_of(uid, "Failed", &json!({"terminated": {"exitCode": CORRUPT, "message": "{}"}}))
    }

    fn told_by(jobs: &[Job], pods: &[Pod]) -> Option<JobSeen> {
        movers_seen(jobs, pods).remove("data")
    }

    #[test]
    fn what_the_pod_of_a_deleted_job_said_is_not_taken_for_the_new_jobs_word() {
        let left_behind = [corrupt_of("old")];
        assert!(matches!(told_by(&[job("old", None)], &left_behind), Some(JobSeen::Failed { corrupt: true, .. })));
        let waits = JobSeen::Running(Some("its Job has no pod yet".to_owned()));
        assert_eq!(told_by(&[job("new", None)], &left_behind), Some(waits));
        assert_eq!(told_by(&[], &left_behind), None, "a pod that has ended writes nothing more");
    }

    #[test]
    fn a_job_that_is_being_deleted_is_still_there_whatever_it_said() {
        let jobs = [job("old", Some("2027-01-15T08:00:00Z"))];
        for pods in [vec![], vec![corrupt_of("old")]] {
            assert!(matches!(told_by(&jobs, &pods), Some(JobSeen::Running(Some(_)))));
        }
    }

    #[test]
    fn a_deleted_job_still_counts_while_its_pod_runs() {
        let running = [pod_of("old", "Running", &json!({"running": {}}))];
        for jobs in [vec![], vec![job("new", None)]] {
            let Some(JobSeen::Running(Some(why))) = told_by(&jobs, &running) else { panic!("{jobs:?}") };
            assert!(why.contains("mover-1"), "{why}");
        }
    }

    #[test]
    fn a_mover_that_was_killed_is_told_of_with_the_remedy_while_it_is_tried_again_and_at_the_end() {
        let killed = |reason| pod_of("u", "Failed", &json!({"terminated": {"exitCode": 137, "reason": reason}}));
        let mut job = job("u", None);
        let Some(JobSeen::Running(Some(why))) = told_by(&[job.clone()], &[killed("OOMKilled")]) else { panic!() };
        assert!(why.contains("movers.resources.limits.memory"), "{why}");
        let failed = json!({"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit"}]});
        job.status = serde_json::from_value(failed).unwrap();
        let Some(JobSeen::Failed { message, .. }) = told_by(&[job.clone()], &[killed("Error")]) else { panic!() };
        assert!(message.contains("137"), "{message}");
        let Some(JobSeen::Failed { message, .. }) = told_by(&[job], &[]) else { panic!() };
        assert_eq!(message, "backoff limit", "where the pod is gone, the Job's word is all there is");
    }

    #[test]
    fn a_workload_is_not_stopped_before_its_controller_has_seen_that() {
        let meta = ObjectMeta { generation: Some(4), ..ObjectMeta::default() };
        assert!(unsettled(&meta, None) && unsettled(&meta, Some(3)));
        assert!(!unsettled(&meta, Some(4)));
    }

    #[test]
    fn a_job_between_two_of_its_pods_still_wants_to_run() {
        let wants = |spec, conditions| {
            let job = json!({"spec": {"template": {}, "suspend": spec}, "status": {"conditions": conditions}});
            unfinished(&serde_json::from_value(job).unwrap())
        };
        assert!(wants(json!(null), json!([])));
        assert!(!wants(json!(true), json!([])));
        assert!(!wants(json!(false), json!([{"type": "Complete", "status": "True"}])));
        assert!(wants(json!(false), json!([{"type": "Complete", "status": "False"}])));
        let held = json!({"metadata": {"deletionTimestamp": "2027-01-15T08:00:00Z"}, "spec": {"template": {}}});
        assert!(!unfinished(&serde_json::from_value(held).unwrap()), "a finalizer must not hold a stop up");
    }
}
