//! Reads everything that a namespace's application consists of, and makes a bundle of it.
//!
//! Lists are read page by page, several kinds at once; each object is cleaned and written away before the next page is
//! there, so that memory does not grow with the namespace. What cannot be read is named in the result: it is for the
//! caller to decide what a bundle is worth that lacks something.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace as LiveNamespace;
use kube::{Client, core::Request};

use super::{
    assemble::assemble,
    blocks::Blocks,
    bundle::{Bundle, BundleError, LARGEST_OBJECT, LARGEST_TOTAL, Namespace, Scope},
    call::{self, CallError},
    cluster,
    discover::{self, Resource},
    listed::{Listed, NOT_SELECTED, Page, Work},
    marks,
    page::{self, PageError, Place},
    references::Reference,
    rules,
    select::{self, Candidate, Selection},
};
use crate::core::child::EXCLUDE;

/// How many kinds are listed at once.
const LISTS: usize = 8;

/// How often a list is begun again that the server could not finish.
const RESTARTS: u32 = 3;

/// How much a capture may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest object, as JSON. Bytes. A larger one is named in `failed`.
    pub object_bytes: u64,
    /// All objects together, as JSON. Bytes. More is an error.
    pub total_bytes: u64,
    /// How much of them, compressed, is held in memory before a file in the temporary directory takes over. Bytes.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { object_bytes: LARGEST_OBJECT, total_bytes: LARGEST_TOTAL / 2, memory_bytes: 8 << 20 }
    }
}

/// What was captured.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The objects.
    pub bundle: Bundle,
    /// How many of the namespace.
    pub count: u64,
    /// How many of the cluster.
    pub of_cluster: u64,
    /// How many objects were left out on purpose, by kind and reason.
    pub left_out: BTreeMap<String, u64>,
    /// What should be in it and is not: kinds that could not be listed, objects that are too large. Sorted. A point
    /// that it belongs to is not complete unless this is empty.
    pub failed: Vec<String>,
}

/// Why nothing was captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no such namespace.
    #[error("namespace {0} does not exist")]
    NoNamespace(String),
    /// The namespace is being deleted: what is left of the application is no recovery point.
    #[error("namespace {0} is being deleted")]
    Terminating(String),
    /// The API server does not tell about the namespace.
    #[error("read namespace {namespace}: {source}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The API server does not tell which kinds it serves.
    #[error("discover the kinds that the API server serves: {0}")]
    Discover(#[source] CallError),
    /// Not one kind could be listed.
    #[error("nothing could be read of namespace {namespace}: {reason}")]
    Nothing {
        /// The namespace.
        namespace: String,
        /// The first kind's reason.
        reason: String,
    },
    /// There is more than a bundle may hold.
    #[error(
        "the objects of namespace {namespace} have more than {limit} bytes: exclude what another system can make again \
         with the label {}: \"true\"",
        EXCLUDE
    )]
    TooLarge {
        /// The namespace.
        namespace: String,
        /// Bytes.
        limit: u64,
    },
    /// The temporary directory refused.
    #[error("keep the objects in the temporary directory: {0}")]
    Spool(#[source] io::Error),
    /// The bundle could not be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Captures what is selected of a namespace, and the objects of the cluster that it needs.
///
/// # Errors
/// When nothing, or nothing usable, can be captured. Kinds that are forbidden or not available are no error: they are
/// in `failed`.
pub async fn capture(
    client: &Client,
    namespace: &str,
    selection: &Selection,
    limits: Limits,
) -> Result<Captured, CaptureError> {
    let mut failed = Vec::new();
    let about = match describe(client, namespace).await {
        Err(CaptureError::Namespace { source, .. }) if source.code() == Some(403) => {
            failed.push(format!("labels and annotations of the namespace: {}", source.reason()));
            Namespace { name: namespace.to_owned(), ..Namespace::default() }
        }
        other => other?,
    };
    let discovered = discover::discover(client).await.map_err(CaptureError::Discover)?;
    failed.extend(discovered.failed.iter().cloned());
    let served = discovered.preferred();
    let within: Vec<&Resource> = served.iter().copied().filter(|it| it.scope == Scope::Namespaced).collect();
    failed.extend(selection.unknown(&within));
    let kinds: Vec<Resource> = within
        .into_iter()
        .filter(|it| rules::kind_left_out(&it.group, &it.kind).is_none() && selection.has_kind(it))
        .cloned()
        .collect();
    let total = kinds.len();
    let work = Arc::new(Work {
        namespace: about.name.clone(),
        limits,
        selection: selection.clone(),
        blocks: Mutex::new(Blocks::new(limits.memory_bytes)),
    });
    let lists: Vec<_> = kinds.into_iter().map(|kind| list(client, kind, Arc::clone(&work))).collect();
    let mut lists: Vec<Listed> = stream::iter(lists).buffer_unordered(LISTS).try_collect().await?;
    let unlisted = lists.iter().filter(|it| it.unlisted).count();
    if unlisted == total && total > 0 {
        let reason = lists.into_iter().flat_map(|it| it.failed).min().unwrap_or_default();
        return Err(CaptureError::Nothing { namespace: namespace.to_owned(), reason });
    }
    let references = choose(&mut lists);
    let of_cluster = cluster::collect(client, &served, &lists, references, &work).await?;
    blocking(move || assemble(about, lists, of_cluster, failed, &work)).await
}

/// Takes in what the selected objects need of the others, and returns all that is referred to.
fn choose(lists: &mut [Listed]) -> BTreeSet<Reference> {
    let mut references: BTreeSet<Reference> = BTreeSet::new();
    let mut candidates = Vec::new();
    for (at, listed) in lists.iter_mut().enumerate() {
        references.append(&mut listed.references);
        let own = std::mem::take(&mut listed.candidates);
        candidates.extend(own.into_iter().map(|it| it.map(|row| (at, row))));
    }
    let (needed, rest) = select::needed(candidates, &mut references);
    for Candidate { with: (at, row), .. } in needed {
        lists[at].rows.push(row);
    }
    for Candidate { with: (at, _), kind, .. } in rest {
        lists[at].leave_out(&kind, NOT_SELECTED);
    }
    references
}

async fn describe(client: &Client, namespace: &str) -> Result<Namespace, CaptureError> {
    let failed = |source| CaptureError::Namespace { namespace: namespace.to_owned(), source };
    let answer =
        call::object(client, || Request::new("/api/v1/namespaces").get(namespace, &kube::api::GetParams::default()));
    let live: LiveNamespace = match answer.await {
        Ok(body) => serde_json::from_slice(&body).map_err(|it| failed(kube::Error::SerdeError(it).into()))?,
        Err(error) if error.code() == Some(404) => return Err(CaptureError::NoNamespace(namespace.to_owned())),
        Err(error) => return Err(failed(error)),
    };
    if live.metadata.deletion_timestamp.is_some() {
        return Err(CaptureError::Terminating(namespace.to_owned()));
    }
    let mut labels = live.metadata.labels.unwrap_or_default();
    labels.remove("kubernetes.io/metadata.name");
    let annotations = live.metadata.annotations.unwrap_or_default();
    Ok(Namespace { name: namespace.to_owned(), labels, annotations })
}

/// Reads one kind. What cannot be read is in `failed`; an error ends the whole capture.
async fn list(client: &Client, of: Resource, work: Arc<Work>) -> Result<Listed, CaptureError> {
    let of = Arc::new(of);
    let mut restarts = 0;
    loop {
        let mut listed = Listed { unlisted: true, ..Listed::nothing(Arc::clone(&of)) };
        match pages(client, &of, &work, &mut listed).await? {
            Ok(()) => return Ok(listed),
            Err(error) if error.expired() && restarts < RESTARTS => restarts += 1,
            Err(error) => {
                tracing::warn!(kind = of.name(), namespace = work.namespace, %error, "not captured");
                listed.failed.push(format!("{}: {}", of.name(), error.reason()));
                return Ok(listed);
            }
        }
    }
}

/// Reads the pages: while one is digested, the next one is on its way. The outer error ends the whole capture, the
/// inner one this kind's.
async fn pages(
    client: &Client,
    of: &Arc<Resource>,
    work: &Arc<Work>,
    listed: &mut Listed,
) -> Result<Result<(), PageError>, CaptureError> {
    let path = of.path(&work.namespace);
    let (mut at, mut before) = (Some(Place::default()), None);
    while let Some(place) = at {
        let fetched = page::fetch(client, &path, None, place).await;
        if let Some(digested) = before.take() {
            match joined(digested).await? {
                Ok(page) => listed.add(page),
                Err(error) => return Ok(Err(error)),
            }
        }
        let (body, next) = match fetched {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        listed.unlisted = false;
        let (of, work) = (Arc::clone(of), Arc::clone(work));
        before = Some(tokio::task::spawn_blocking(move || digest(&body, &of, &work)));
        at = next;
    }
    if let Some(digested) = before {
        match joined(digested).await? {
            Ok(page) => listed.add(page),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Cleans the objects of a page and writes them away. Errors as in `pages`.
fn digest(body: &[u8], of: &Arc<Resource>, work: &Work) -> Result<Result<Listed, PageError>, CaptureError> {
    let mut page = Page::new(of, work);
    let read = page::each(body, |mut object| {
        if let Some(reason) = rules::left_out(of, &object) {
            page.listed.leave_out(&of.kind, reason);
        } else if let Some(pod) = marks::remembered(&object).filter(|_| of.kind == "Secret") {
            page.remembered(&pod);
        } else {
            rules::record(of, &mut object);
            page.add(&object);
        }
    });
    match read {
        Ok(()) => page.done().map(Ok),
        Err(error) => Ok(Err(PageError::Content(error))),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    task.await.expect("the work does not panic, and nobody cancels it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::application::{ProtectedApplication, ProtectedApplicationSpec},
        capture::cluster::OfCluster,
    };
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde_json::{Value, json};

    fn work(limits: Limits) -> Work {
        let selection = Selection::default();
        Work { namespace: "shop".into(), limits, selection, blocks: Mutex::new(Blocks::new(1 << 20)) }
    }

    fn config_maps() -> Resource {
        Resource::new("", "v1", "ConfigMap", "configmaps")
    }

    fn config(name: &str, version: u32) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string(),
            "managedFields": [{"time": version}]}, "data": {"key": "value"}})
    }

    fn captured(pages: &[(Resource, Value)]) -> Captured {
        let work = work(Limits::default());
        let lists = pages
            .iter()
            .map(|(of, items)| {
                let body = json!({"items": items}).to_string();
                digest(body.as_bytes(), &Arc::new(of.clone()), &work).expect("room").expect("a list")
            })
            .collect();
        let namespace = Namespace { name: "shop".into(), ..Namespace::default() };
        assemble(namespace, lists, OfCluster::default(), vec![], &work).expect("a bundle")
    }

    #[test]
    fn an_unchanged_namespace_makes_an_identical_bundle() {
        let events = |count: usize| {
            let pod =
                json!({"metadata": {"name": "p", "namespace": "shop", "ownerReferences": [{"controller": true}]}});
            (Resource::new("", "v1", "Pod", "pods"), Value::from(vec![pod; count]))
        };
        let first = captured(&[(config_maps(), json!([config("a", 1), config("b", 1)])), events(1)]);
        let later = captured(&[events(4), (config_maps(), json!([config("b", 9), config("a", 7)]))]);
        assert_eq!(first.bundle.digest(), later.bundle.digest(), "other versions, order and pods of controllers");
        assert_eq!(first.count, 2);
        assert_eq!(later.left_out, [("Pod: its owner makes it again".to_owned(), 4)].into());

        let changed = captured(&[(config_maps(), json!([config("a", 1), config("c", 1)]))]);
        assert_ne!(first.bundle.digest(), changed.bundle.digest());
    }

    #[test]
    fn the_application_is_recorded_beside_its_objects_and_counts_as_none_of_them() {
        let application = |rpo: &str| -> ProtectedApplication {
            serde_json::from_value(json!({"apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
                "metadata": {"name": "db", "namespace": "shop", "uid": "u", "resourceVersion": rpo, "labels": {"a": "b"},
                    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": rpo}},
                "spec": {"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "west"}],
                    "backup": {"vaults": ["main"]}},
                "status": {"role": "Active", "conditions": []}}))
            .expect("a ProtectedApplication")
        };
        let captured = |version: &str| {
            let selection = Selection::default().of(&application(version));
            let work = Work { selection, ..work(Limits::default()) };
            let namespace = Namespace { name: "shop".into(), ..Namespace::default() };
            assemble(namespace, vec![], OfCluster::default(), vec![], &work).expect("a bundle")
        };
        let first = captured("1");
        assert_eq!((first.count, first.bundle.digest()), (0, captured("2").bundle.digest()));
        let recorded = first.bundle.index().expect("an index").protection.expect("recorded");
        assert_eq!((recorded.name.as_str(), recorded.labels["a"].as_str()), ("db", "b"));
        let again: ProtectedApplicationSpec = serde_json::from_value(recorded.spec).expect("a spec");
        assert_eq!(again, application("3").spec);
    }

    #[test]
    fn an_object_that_is_too_large_is_named_and_the_others_are_captured() {
        let work = work(Limits { object_bytes: 200, ..Limits::default() });
        let mut large = config("large", 1);
        large["data"]["key"] = "x".repeat(200).into();
        let body = json!({"items": [config("a", 1), large, config("b", 1)]}).to_string();
        let page = digest(body.as_bytes(), &Arc::new(config_maps()), &work).expect("room").expect("a list");
        assert_eq!(page.failed, ["configmaps large: larger than 200 bytes"]);
        let names: Vec<_> = page.rows.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_namespace_that_is_too_large_is_refused_with_the_remedy() {
        let work = work(Limits { total_bytes: 50, ..Limits::default() });
        let body = json!({"items": [config("a", 1)]}).to_string();
        let error = digest(body.as_bytes(), &Arc::new(config_maps()), &work).expect_err("too large");
        assert!(error.to_string().contains("more than 50 bytes: exclude what"), "{error}");
    }

    #[test]
    fn an_object_that_claims_to_be_elsewhere_is_not_captured() {
        let work = work(Limits::default());
        let mut foreign = config("a", 1);
        foreign["metadata"]["namespace"] = "other".into();
        let body = json!({"items": [foreign, config("..", 1)]}).to_string();
        let page = digest(body.as_bytes(), &Arc::new(config_maps()), &work).expect("room").expect("a list");
        assert_eq!((page.rows.len(), page.failed.len()), (0, 2));
    }

    #[test]
    fn a_bare_pod_is_captured_alike_whether_it_runs_or_is_remembered() {
        let pods = || Resource::new("", "v1", "Pod", "pods");
        let secrets = || Resource::new("", "v1", "Secret", "secrets");
        let pod = json!({"metadata": {"name": "tool", "namespace": "shop", "uid": "u"}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running"}});
        let plan = marks::plan_stop(&marks::Workloads { pods: vec![pod.clone()], ..marks::Workloads::default() });
        let [marks::Change::Remember { secret, .. }] = plan.as_slice() else { panic!("one pod: {plan:?}") };
        let mut stored = secret.clone();
        let text = secret["stringData"]["pod"].as_str().expect("text");
        stored["data"] = json!({"pod": BASE64_STANDARD.encode(text)});

        let running = captured(&[(pods(), json!([pod.clone()]))]);
        let stopped = captured(&[(secrets(), json!([stored.clone()]))]);
        let both = captured(&[(pods(), json!([pod])), (secrets(), json!([stored]))]);
        assert_eq!(running.bundle.digest(), stopped.bundle.digest());
        assert_eq!(running.bundle.digest(), both.bundle.digest());
    }
}
