//! Puts the objects of a bundle back: rank by rank, many at once within a rank.
//!
//! What is not there is made; what is there, since a `GitOps` tool or an earlier attempt put it there, is made to say
//! what the bundle says; what says so already is not written. Running it again after a kill therefore ends at the same
//! place. Nothing is deleted. An object that cannot be put back is named with the reason, and does not stop the others.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::{
    Client,
    api::{GetParams, Patch, PatchParams, PostParams},
    core::{Request, Status},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    FIELD_MANAGER,
    bundle::{Bundle, BundleError, Index, Object},
    call::{self, CallError},
    clean::{self, Move},
    discover::{self, Discovered, Resource},
    marks, object,
    order::{self, Rank, Way},
};

/// How many objects are on their way at once.
const IN_FLIGHT: usize = 32;

/// How many objects wait in memory for their turn.
const WAITING: usize = 8;

/// How many reasons are told.
const TOLD: usize = 100;

/// How often an object is looked at that is there and is not: since it is being deleted, or changes all the time.
const LOOKS: u32 = 10;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// After this many objects in a row without an answer, the API server is taken to be away.
const SILENCE: u32 = 32;

/// Which part of a bundle is put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// All of it.
    #[default]
    Everything,
    /// What may stand before the data is there.
    AllButWorkloads,
    /// The rest: custom resources, workloads, and what scales and counts them.
    Workloads,
}

impl Phase {
    fn has(self, rank: Rank) -> bool {
        match self {
            Self::Everything => true,
            Self::AllButWorkloads => !rank.needs_data(),
            Self::Workloads => rank.needs_data(),
        }
    }
}

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Objects that were made.
    pub created: u64,
    /// Objects that were there and said something else.
    pub updated: u64,
    /// Objects that were there and said the same.
    pub unchanged: u64,
    /// Claims: they are for the data plane to put back.
    pub left_to_data: u64,
    /// Objects that are not there now as the bundle has them.
    pub not_restored_count: u64,
    /// The first hundred of them, each with its reason. Sorted.
    pub not_restored: Vec<String>,
    /// What else people may want to know, and of how many objects it is true.
    pub notes: BTreeMap<String, u64>,
}

/// Why a restore was given up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The bundle is not readable. Nothing was written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The API server does not tell which kinds it serves.
    #[error("discover the kinds that the API server serves: {0}")]
    Discover(#[source] CallError),
    /// The namespace could not be read or made.
    #[error("make namespace {namespace}: {source}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The namespace is being deleted, and takes nothing new.
    #[error("namespace {0} is being deleted: wait until it is gone, or remove the finalizers that keep it")]
    Terminating(String),
    /// The API server went away. What was put back until then stays.
    #[error("the API server does not answer: {0}")]
    Silent(String),
}

/// Puts a bundle back into a namespace, which is made if it is not there.
///
/// Workloads come back with the replicas that they were captured with.
///
/// # Errors
/// When it cannot go on at all. Objects that could not be put back are no error: see `not_restored`.
pub async fn restore(
    client: &Client,
    namespace: &str,
    bundle: &Bundle,
    phase: Phase,
) -> Result<Restored, RestoreError> {
    // Read to its end before the first write: half a restore from a damaged bundle is worse than none.
    let whole = bundle.clone();
    let index =
        blocking(move || whole.visit(|_| true, |_| ControlFlow::Continue(())).and_then(|()| whole.index())).await?;
    let served = discover::discover(client).await.map_err(RestoreError::Discover)?;
    make_namespace(client, namespace, &index).await?;
    let target = Target { client, namespace, from: &index.namespace.name, served: &served };
    let mut tally = Tally::default();
    for rank in Rank::ALL.into_iter().filter(|it| phase.has(*it)) {
        let here = |group: &str, kind: &str| order::way(group, kind) == Way::Make(rank);
        if index.kinds.iter().any(|it| here(&it.group, &it.kind)) {
            target.put_back(bundle, rank, &mut tally).await?;
        }
    }
    let with_data = index.kinds.iter().filter(|it| order::way(&it.group, &it.kind) == Way::WithData);
    tally.restored.left_to_data = with_data.map(|it| it.count).sum();
    tally.restored.not_restored.sort();
    Ok(tally.restored)
}

async fn make_namespace(client: &Client, namespace: &str, index: &Index) -> Result<(), RestoreError> {
    #[derive(Deserialize)]
    struct Live {
        metadata: kube::core::ObjectMeta,
    }
    let failed = |source| RestoreError::Namespace { namespace: namespace.to_owned(), source };
    let namespaces = Request::new("/api/v1/namespaces");
    let post = json!({"apiVersion": "v1", "kind": "Namespace", "metadata":
        {"name": namespace, "labels": index.namespace.labels, "annotations": index.namespace.annotations}});
    match call::object(client, || namespaces.get(namespace, &GetParams::default())).await {
        Ok(body) => {
            let live: Live = serde_json::from_slice(&body).map_err(|it| failed(kube::Error::SerdeError(it).into()))?;
            let going = live.metadata.deletion_timestamp.is_some();
            if going { Err(RestoreError::Terminating(namespace.to_owned())) } else { Ok(()) }
        }
        Err(error) if error.code() == Some(404) => {
            match call::object(client, || namespaces.create(&by_us(), post.to_string().into_bytes())).await {
                Err(error) if !exists(&error) => Err(failed(error)),
                Ok(_) | Err(_) => Ok(()),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// Where objects go.
struct Target<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// The namespace that they come from.
    from: &'a str,
    served: &'a Discovered,
}

/// An object that was tried.
struct Attempt {
    /// Its kind and name.
    name: String,
    /// What people may want to know about it.
    note: Option<&'static str>,
    outcome: Outcome,
}

/// What became of an object.
enum Outcome {
    Created,
    Updated,
    Unchanged,
    /// Not restored, with the reason; whether the API server gave no answer.
    Not(String, bool),
    /// No object can be made in this namespace.
    Terminating,
}

impl Target<'_> {
    /// Puts back the objects of one rank.
    async fn put_back(&self, bundle: &Bundle, rank: Rank, tally: &mut Tally) -> Result<(), RestoreError> {
        let (send, mut receive) = mpsc::channel(WAITING);
        let bundle = bundle.clone();
        let reading = tokio::task::spawn_blocking(move || {
            bundle.visit(
                |id| order::way(&id.group, &id.kind) == Way::Make(rank),
                |object| match send.blocking_send(object) {
                    Ok(()) => ControlFlow::Continue(()),
                    // Nobody listens any more: the restore was given up.
                    Err(_) => ControlFlow::Break(()),
                },
            )
        });
        let (mut flying, mut more) = (FuturesUnordered::new(), true);
        while more || !flying.is_empty() {
            tokio::select! {
                Some(attempt) = flying.next(), if !flying.is_empty() => tally.count(attempt, self.namespace)?,
                object = receive.recv(), if more && flying.len() < IN_FLIGHT => match object {
                    Some(object) => flying.push(self.one(object)),
                    None => more = false,
                },
            }
        }
        reading.await.expect("reading does not panic, and nobody cancels it")?;
        Ok(())
    }

    /// Puts back one object.
    async fn one(&self, mut object: Object) -> Attempt {
        let id = &object.id;
        let name = format!("{} {}", id.kind, id.name);
        if id.namespace.is_none() {
            let why = format!("{name}: objects of the cluster are not put back");
            return Attempt { name, note: None, outcome: Outcome::Not(why, false) };
        }
        let Some(resource) = self.served.find(&id.group, &object.version, &id.kind) else {
            let served = Resource::new(&id.group, &object.version, &id.kind, "");
            let why = format!("{name}: {} is not served here: install its definition first", served.api_version());
            return Attempt { name, note: None, outcome: Outcome::Not(why, false) };
        };
        let between = Move { from: self.from, to: self.namespace };
        let note = clean::clean(&id.group, &id.kind, &mut object.json, between);
        let path = Request::new(resource.path(self.namespace));
        let outcome = match self.make(&path, &object).await {
            Ok(outcome) => outcome,
            Err(CallError::Refused(status)) if terminating(&status) => Outcome::Terminating,
            Err(error) => Outcome::Not(format!("{name}: {error}{}", remedy(&object, &error)), error.temporary()),
        };
        Attempt { name, note, outcome }
    }

    /// Makes the object, or makes the one that is there say the same.
    async fn make(&self, path: &Request, object: &Object) -> Result<Outcome, CallError> {
        let body = serde_json::to_vec(&object.json).map_err(|it| CallError::from(kube::Error::SerdeError(it)))?;
        let mut last = None;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let made = call::object(self.client, || path.create(&by_us(), body.clone()).map(call::briefly)).await;
            let error = match made {
                Ok(_) => return Ok(Outcome::Created),
                Err(error) if error.code() == Some(409) => error,
                // What is unique in the cluster (a node port) is refused before the name is: by the object itself, maybe.
                Err(error) if error.code() == Some(422) => {
                    return self.converge(path, object).await?.ok_or(error);
                }
                Err(error) => return Err(error),
            };
            if exists(&error)
                && let Some(outcome) = self.converge(path, object).await?
            {
                return Ok(outcome);
            }
            last = Some(error);
        }
        Err(last.expect("it was looked at"))
    }

    /// Makes the object that is there say what the bundle says. `None` when it should be looked at again: it is gone,
    /// is going, or has just been changed.
    async fn converge(&self, path: &Request, object: &Object) -> Result<Option<Outcome>, CallError> {
        let name = object::segment(&object.id.name);
        let live = match call::object(self.client, || path.get(&name, &GetParams::default())).await {
            Ok(body) => serde_json::from_slice::<Value>(&body).map_err(kube::Error::SerdeError)?,
            Err(error) if error.code() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(None);
        }
        let kind = marks::kind_of(&object.id.group, &object.id.kind);
        let unmark = kind.and_then(|it| marks::unmark(it, &live));
        if unmark.is_none() && covers(&object.json, &live) {
            return Ok(Some(Outcome::Unchanged));
        }
        let force = PatchParams::apply(FIELD_MANAGER).force();
        let apply = Patch::Apply(&object.json);
        let applied = call::object(self.client, || path.patch(&name, &force, &apply).map(call::briefly)).await;
        let applied: Value = match applied {
            Ok(body) => serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?,
            Err(error) if matches!(error.code(), Some(404 | 409)) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The mark goes last: until now the workload was stopped, and now it starts as the bundle has it.
        if let Some(mut change) = unmark {
            change.pointer_mut("/metadata").and_then(Value::as_object_mut).map(|it| it.remove("resourceVersion"));
            let us = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let merge = Patch::Merge(&change);
            call::object(self.client, || path.patch(&name, &us, &merge).map(call::briefly)).await?;
            return Ok(Some(Outcome::Updated));
        }
        let version = |it: &Value| it.pointer("/metadata/resourceVersion").cloned();
        Ok(Some(if version(&applied) == version(&live) { Outcome::Unchanged } else { Outcome::Updated }))
    }
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    restored: Restored,
    silence: u32,
}

impl Tally {
    fn count(&mut self, attempt: Attempt, namespace: &str) -> Result<(), RestoreError> {
        let Attempt { name, note, outcome } = attempt;
        let silent = matches!(outcome, Outcome::Not(_, true));
        self.silence = if silent { self.silence + 1 } else { 0 };
        match outcome {
            Outcome::Created => self.restored.created += 1,
            Outcome::Updated => self.restored.updated += 1,
            Outcome::Unchanged => self.restored.unchanged += 1,
            Outcome::Terminating => return Err(RestoreError::Terminating(namespace.to_owned())),
            Outcome::Not(why, _) if self.silence >= SILENCE => return Err(RestoreError::Silent(why)),
            Outcome::Not(why, _) => {
                tracing::warn!(namespace, object = name, why, "not restored");
                self.restored.not_restored_count += 1;
                if self.restored.not_restored.len() < TOLD {
                    self.restored.not_restored.push(why);
                }
            }
        }
        if let Some(note) = note {
            *self.restored.notes.entry(note.to_owned()).or_default() += 1;
        }
        Ok(())
    }
}

/// What may help against a refusal.
fn remedy(object: &Object, error: &CallError) -> &'static str {
    let roles = object.id.group == "rbac.authorization.k8s.io";
    match error.code() {
        Some(403) if roles => {
            "; Reprise may give only rights that it has itself: set restore.roles=true in the chart, or let GitOps put \
             roles there"
        }
        Some(409) => "; it is being deleted and does not go, or changes all the time: look at its finalizers",
        Some(422) => "; what is there cannot be changed into what was captured: delete it and restore again",
        Some(_) | None => "",
    }
}

/// Whether everything that is wanted is there. The server adds defaults, and others add labels: what is there besides
/// does not matter, except in lists, whose order and length mean something.
fn covers(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| match live.get(key) {
            Some(there) => covers(value, there),
            None => value.is_null() || object::empty(value),
        }),
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| covers(wanted, live))
        }
        (wanted, live) => wanted == live,
    }
}

fn by_us() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

/// There is an object of that name, as opposed to a change that came in between.
fn exists(error: &CallError) -> bool {
    matches!(error, CallError::Refused(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// The whole namespace takes nothing new.
fn terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|it| &it.causes);
    status.code == 403 && causes.into_iter().any(|it| it.reason == "NamespaceTerminating")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic, and nobody cancels it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::bundle::Id;

    #[test]
    fn what_is_there_covers_what_is_wanted_when_nothing_wanted_is_missing() {
        let wanted = json!({"spec": {"ports": [{"port": 80}], "selector": {}}, "metadata": {"labels": {"a": "b"}}});
        let live = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"},
            "metadata": {"labels": {"a": "b", "x": "y"}, "uid": "1"}});
        assert!(covers(&wanted, &live));
        for other in
            [json!({"spec": {"ports": [{"port": 81}]}}), json!({"spec": {"ports": []}}), json!({"data": {"k": "v"}})]
        {
            assert!(!covers(&other, &live), "{other}");
        }
    }

    #[test]
    fn the_two_phases_are_the_whole_and_share_nothing() {
        for rank in Rank::ALL {
            assert!(Phase::Everything.has(rank));
            assert_ne!(Phase::AllButWorkloads.has(rank), Phase::Workloads.has(rank), "{rank:?}");
        }
        assert!(Phase::Workloads.has(Rank::Workloads));
    }

    fn attempt(outcome: Outcome) -> Attempt {
        Attempt { name: "Secret a".into(), note: None, outcome }
    }

    fn not(silent: bool) -> Outcome {
        Outcome::Not("Secret a: no".into(), silent)
    }

    #[test]
    fn an_api_server_that_is_away_ends_the_restore_and_single_failures_do_not() {
        let mut tally = Tally::default();
        for _ in 0..SILENCE - 1 {
            tally.count(attempt(not(true)), "shop").expect("it may come back");
        }
        tally.count(attempt(Outcome::Created), "shop").expect("it did");
        for _ in 0..SILENCE - 1 {
            tally.count(attempt(not(true)), "shop").expect("it may come back");
        }
        assert!(matches!(tally.count(attempt(not(true)), "shop"), Err(RestoreError::Silent(_))));
    }

    #[test]
    fn a_hundred_reasons_are_told_and_all_are_counted() {
        let mut tally = Tally::default();
        for _ in 0..250 {
            tally.count(attempt(not(false)), "shop").expect("refusals end nothing");
        }
        assert_eq!((tally.restored.not_restored_count, tally.restored.not_restored.len()), (250, 100));
    }

    #[test]
    fn a_role_that_is_refused_is_told_with_the_remedy() {
        let id = Id {
            group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            namespace: Some("shop".into()),
            name: "r".into(),
        };
        let object = Object { id, version: "v1".into(), json: Value::Null };
        let refused = |code: u16| CallError::Refused(Status { code, ..Status::failure("no", "Forbidden") }.boxed());
        assert!(remedy(&object, &refused(403)).contains("restore.roles=true"));
        assert_eq!(remedy(&object, &refused(400)), "");
    }
}
