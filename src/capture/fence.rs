//! Stops the application in a namespace, and starts it again.
//!
//! Both read what there is, let `marks` plan, and carry the plan out. Both are meant to be called again and again until
//! nothing is left to do: a namespace that is stopped costs eight lists and no write. Whatever fails, the rest is
//! stopped first and the failure told afterwards.
//!
//! What they do not stop: workloads that are scaled by an operator of their own scale up again, and pods that a custom
//! resource controls directly are made again. Such pods are counted, and named, as long as they run.

use futures::{StreamExt, stream};
use kube::{
    Client,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions},
    core::Request,
};
use serde_json::Value;

use super::{
    FIELD_MANAGER,
    call::{self, CallError},
    clean::{self, Move},
    discover::Resource,
    marks::{self, Change, Kind, Workloads},
    object,
    page::{self, PageError},
};

/// How many changes are on their way at once.
const IN_FLIGHT: usize = 16;

/// How often a change is decided anew since the workload had changed meanwhile.
const REDECIDED: u32 = 5;

/// How many names are told.
const TOLD: usize = 10;

/// How far the application is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Workloads and bare pods that were stopped by this call.
    pub workloads: u32,
    /// Pods that still run something; those being deleted count until they are gone.
    pub pods_left: u32,
    /// Workloads whose controllers have not seen yet that they are stopped: they may still make pods.
    pub unsettled: u32,
    /// The names of some of these pods and workloads. Sorted.
    pub left: Vec<String>,
}

impl Stopped {
    /// Whether nothing runs, and nothing will: the only state in which the application counts as stopped.
    #[must_use]
    pub fn complete(&self) -> bool {
        let Self { workloads, pods_left, unsettled, left: _ } = self;
        (*workloads, *pods_left, *unsettled) == (0, 0, 0)
    }
}

/// How far the application is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Workloads and bare pods that were started by this call.
    pub workloads: u32,
    /// Bare pods that cannot come back yet, since their former selves are still being deleted: call again.
    pub waiting: u32,
    /// Marks that could not be read, with the workload: they are left as they are, for a person.
    pub unreadable: Vec<String>,
}

impl Started {
    /// Whether everything that can be started is.
    #[must_use]
    pub fn complete(&self) -> bool {
        let Self { workloads, waiting, unreadable: _ } = self;
        (*workloads, *waiting) == (0, 0)
    }
}

/// Why an application was not stopped or started, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Its workloads could not be listed. The kinds that could be were dealt with.
    #[error("list {kind} of namespace {namespace}: {source}")]
    List {
        /// The first kind that could not be listed.
        kind: String,
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: PageError,
    },
    /// A workload could not be changed. The others were.
    #[error("{what} in namespace {namespace}: {source} ({others} more failed)")]
    Change {
        /// What was to be done, to which workload.
        what: String,
        /// The namespace.
        namespace: String,
        /// How many other changes failed.
        others: usize,
        /// Why.
        #[source]
        source: CallError,
    },
}

/// Stops what runs in a namespace. Call it until the answer is `complete`, and now and then afterwards.
///
/// # Errors
/// When something could not be stopped; everything else was.
pub async fn stop(client: &Client, namespace: &str) -> Result<Stopped, FenceError> {
    let (all, unlisted) = read(client, namespace, false).await;
    let hands = Hands { client, namespace, decide: |kind, object| marks::stop(kind, object) };
    let (workloads, _) = hands.carry_out(marks::plan_stop(&all)).await?;
    if let Some(error) = unlisted {
        return Err(error);
    }
    let pods = all.pods.iter().filter(|it| marks::running(it)).map(|it| format!("Pod {}", object::name(it)));
    let mut left: Vec<_> = pods.collect();
    let pods_left = count(left.len());
    let unsettled = all.workloads.iter().filter(|(kind, it)| marks::unsettled(*kind, it));
    left.extend(unsettled.map(|(kind, it)| format!("{} {}", kind.kind, object::name(it))));
    let unsettled = count(left.len()) - pods_left;
    left.sort();
    left.truncate(TOLD);
    Ok(Stopped { workloads, pods_left, unsettled, left })
}

/// Starts what `stop` stopped, as it was, and nothing else. Call it until the answer is `complete`.
///
/// # Errors
/// When something could not be started; everything else was.
pub async fn start(client: &Client, namespace: &str) -> Result<Started, FenceError> {
    let (all, unlisted) = read(client, namespace, true).await;
    let (plan, unreadable) = marks::plan_start(&all);
    // A mark that cannot be read was reported above; deciding anew on a fresher version says the same.
    let hands = Hands { client, namespace, decide: |kind, object| marks::start(kind, object).ok().flatten() };
    let (workloads, waiting) = hands.carry_out(plan).await?;
    unlisted.map_or(Ok(Started { workloads, waiting, unreadable }), Err)
}

/// Reads what there is to stop, or to start. What was read is returned also when something was not.
async fn read(client: &Client, namespace: &str, starting: bool) -> (Workloads, Option<FenceError>) {
    let listed = |resource: Resource, filter: Option<String>| async move {
        let objects = page::all(client, &resource.path(namespace), filter.as_deref()).await;
        objects.map_err(|source| FenceError::List { kind: resource.name(), namespace: namespace.to_owned(), source })
    };
    let workloads = futures::future::join_all(marks::KINDS.map(|kind| listed(kind.resource(), None)));
    let others = async {
        // Pods matter to those who stop, remembered pods to those who start.
        if starting {
            listed(Resource::new("", "v1", "Secret", "secrets"), Some(format!("type={}", marks::POD))).await
        } else {
            listed(Resource::new("", "v1", "Pod", "pods"), None).await
        }
    };
    let (workloads, others) = futures::future::join(workloads, others).await;
    let (mut all, mut failed) = (Workloads::default(), None);
    for (kind, objects) in marks::KINDS.into_iter().zip(workloads) {
        match objects {
            Ok(objects) => all.workloads.extend(objects.into_iter().map(|it| (kind, it))),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match others {
        Ok(objects) if starting => all.remembered = objects,
        Ok(objects) => all.pods = objects,
        Err(error) => failed = failed.or(Some(error)),
    }
    (all, failed)
}

/// Carries out changes.
struct Hands<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// Decides again, when a workload has changed since it was listed.
    decide: fn(Kind, &Value) -> Option<Value>,
}

/// What became of a change.
enum Done {
    Changed,
    /// It was not needed any more.
    Needless,
    /// It has to wait.
    Waiting,
}

impl Hands<'_> {
    /// Carries out all changes; how many were made, and how many have to wait.
    async fn carry_out(&self, changes: Vec<Change>) -> Result<(u32, u32), FenceError> {
        let (mut done, mut waiting, mut failed) = (0, 0, Vec::new());
        let work: Vec<_> = changes.into_iter().map(|it| self.carry(it)).collect();
        let mut results = stream::iter(work).buffer_unordered(IN_FLIGHT);
        while let Some((what, result)) = results.next().await {
            match result {
                Ok(Done::Changed) => done += 1,
                Ok(Done::Waiting) => waiting += 1,
                Ok(Done::Needless) => {}
                Err(source) => failed.push((what, source)),
            }
        }
        let others = failed.len().saturating_sub(1);
        match failed.into_iter().next() {
            None => Ok((done, waiting)),
            Some((what, source)) => {
                Err(FenceError::Change { what, namespace: self.namespace.to_owned(), others, source })
            }
        }
    }

    async fn carry(&self, change: Change) -> (String, Result<Done, CallError>) {
        match change {
            Change::Patch { kind, name, body } => {
                (format!("change {} {name}", kind.kind), self.patch(kind, &name, body).await)
            }
            Change::Remember { pod, uid, secret } => {
                let result = self.remember(&pod, uid, &secret).await;
                (format!("remember and delete Pod {pod}"), result)
            }
            Change::Return { pod, secret } => {
                (format!("make Pod {} again", object::name(&pod)), self.bring_back(pod, &secret).await)
            }
        }
    }

    async fn patch(&self, kind: Kind, name: &str, mut body: Value) -> Result<Done, CallError> {
        let path = Request::new(kind.resource().path(self.namespace));
        let us = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let mut redecided = 0;
        loop {
            let merge = Patch::Merge(&body);
            match call::object(self.client, || path.patch(name, &us, &merge).map(call::briefly)).await {
                Ok(_) => return Ok(Done::Changed),
                Err(error) if error.code() == Some(404) => return Ok(Done::Needless),
                Err(error) if error.code() == Some(409) && redecided < REDECIDED => redecided += 1,
                Err(error) => return Err(error),
            }
            let live = match call::object(self.client, || path.get(name, &GetParams::default())).await {
                Ok(body) => serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?,
                Err(error) if error.code() == Some(404) => return Ok(Done::Needless),
                Err(error) => return Err(error),
            };
            match (self.decide)(kind, &live) {
                Some(newer) => body = newer,
                None => return Ok(Done::Needless),
            }
        }
    }

    async fn remember(&self, pod: &str, uid: String, secret: &Value) -> Result<Done, CallError> {
        let force = PatchParams::apply(FIELD_MANAGER).force();
        let apply = Patch::Apply(secret);
        let secrets = self.secrets();
        call::object(self.client, || secrets.patch(object::name(secret), &force, &apply).map(call::briefly)).await?;
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let this_one = DeleteParams { preconditions, ..DeleteParams::default() };
        match call::object(self.client, || self.pods().delete(pod, &this_one)).await {
            Ok(_) => Ok(Done::Changed),
            // Gone, or another pod by now, which the next call deals with.
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(Done::Needless),
            Err(error) => Err(error),
        }
    }

    async fn bring_back(&self, mut pod: Value, secret: &str) -> Result<Done, CallError> {
        clean::clean("", "Pod", &mut pod, Move { from: self.namespace, to: self.namespace });
        let body = serde_json::to_vec(&pod).map_err(kube::Error::SerdeError)?;
        let us = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.into()) };
        let made = call::object(self.client, || self.pods().create(&us, body.clone()).map(call::briefly)).await;
        match made {
            Ok(_) => {}
            Err(error) if error.code() == Some(409) => {
                let name = object::name(&pod);
                let live = call::object(self.client, || self.pods().get(name, &GetParams::default())).await;
                match live {
                    Ok(body) => {
                        let live: Value = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
                        if live.pointer("/metadata/deletionTimestamp").is_some() {
                            return Ok(Done::Waiting);
                        }
                    }
                    Err(error) if error.code() == Some(404) => return Ok(Done::Waiting),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
        match call::object(self.client, || self.secrets().delete(secret, &DeleteParams::default())).await {
            Err(error) if error.code() != Some(404) => Err(error),
            Ok(_) | Err(_) => Ok(Done::Changed),
        }
    }

    fn pods(&self) -> Request {
        Request::new(format!("/api/v1/namespaces/{}/pods", self.namespace))
    }

    fn secrets(&self) -> Request {
        Request::new(format!("/api/v1/namespaces/{}/secrets", self.namespace))
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_stopped_only_when_nothing_runs_and_nothing_will() {
        assert!(Stopped::default().complete());
        for left in [
            Stopped { workloads: 1, ..Stopped::default() },
            Stopped { pods_left: 1, ..Stopped::default() },
            Stopped { unsettled: 1, ..Stopped::default() },
        ] {
            assert!(!left.complete(), "{left:?}");
        }
    }
}
