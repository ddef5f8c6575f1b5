//! Puts the objects of a bundle back: definitions of kinds, then place by place of the plan, many at once within a place.
//!
//! What is not there is made. What is there and says the same is not written; what says something else is a conflict, and
//! `OnConflict` says what becomes of it. Running it again after a kill therefore ends at the same place. An object that
//! cannot be put back is named with the reason, and does not stop the others. `put` has what is done with one object.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::{
    Client,
    api::GetParams,
    core::{Request, Status},
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    bundle::{Bundle, BundleError, Id, Index},
    call::{self, CallError},
    definitions,
    discover::{self, Discovered},
    graph::{Place, Plan, Planner},
    map::{MapError, Mapper, Selector},
    order::{self, Rank, Way},
    policy::Policy,
    prepare::{Prepared, Setup},
    put::{Attempt, Outcome, Step, Target, by_us, exists},
    webhooks,
};
use crate::api::{
    mappings::{Mappings, ObjectSelector},
    restoring::OnConflict,
};

/// How many objects are on their way at once.
const IN_FLIGHT: usize = 32;

/// How many objects wait in memory for their turn.
const WAITING: usize = 64;

/// How many reasons, and how many changes, are told.
const TOLD: usize = 100;

/// After this many objects in a row without an answer, the API server is taken to be away.
const SILENCE: u32 = 32;

/// What is put back, and how. The default is what a failover wants, but for the mappings of its region.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which part of the bundle.
    pub phase: Phase,
    /// What becomes of objects that are there and say something else.
    pub on_conflict: OnConflict,
    /// What is changed in them.
    pub mappings: Mappings,
    /// What the administrator lets come back.
    pub policy: Policy,
    /// Only these objects. None: all of them.
    pub only: Vec<ObjectSelector>,
    /// Nothing is written: `created`, `updated` and `changes` tell what would be. Objects of kinds whose definitions
    /// would be made first count as not restored.
    pub dry_run: bool,
    /// Nothing of it may reach out of the namespace, nor into it.
    pub isolated: bool,
    /// Counts the objects that were dealt with, for whoever wants to know how far it is.
    pub done: Arc<AtomicU64>,
}

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
    /// Claims that are not there: they are for the data plane to put back.
    pub left_to_data: u64,
    /// Objects that are not there now as the bundle has them.
    pub not_restored_count: u64,
    /// The first hundred of them, each with its reason. Sorted.
    pub not_restored: Vec<String>,
    /// Of a dry run: the first hundred changes. Sorted.
    pub changes: Vec<String>,
    /// What in the cluster may hinder the application although its objects are back. Sorted.
    pub warnings: Vec<String>,
    /// What else people may want to know, and of how many objects it is true.
    pub notes: BTreeMap<String, u64>,
}

/// Why a restore was given up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The bundle is not readable. Nothing was written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The mappings are not usable. Nothing was written.
    #[error(transparent)]
    Mappings(#[from] MapError),
    /// Objects are there that say something else, and nothing is to be restored then. Nothing was written.
    #[error("{count} objects are there that say something else, and onConflict is Fail: {}", .first.join("; "))]
    Conflicts {
        /// How many.
        count: u64,
        /// The first of them.
        first: Vec<String>,
    },
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
    options: &Options,
) -> Result<Restored, RestoreError> {
    let mapper = Mapper::new(&options.mappings)?;
    let only = options.only.iter().map(Selector::new).collect::<Result<Vec<_>, _>>()?;
    let (index, plan) = read(bundle, only.clone()).await?;
    let served = discover::discover(client).await.map_err(RestoreError::Discover)?;
    let warnings = webhooks::without_endpoints(client, &index).await;
    let setup = Setup {
        from: index.namespace.name.clone(),
        to: namespace.to_owned(),
        index: Arc::new(index),
        plan: Arc::new(plan),
        served: Arc::new(served),
        mapper,
        only,
        options: options.clone(),
        left_out: Arc::default(),
    };
    let left_out = Arc::clone(&setup.left_out);
    let mut run = Run { client, bundle, tally: Tally::default() };
    run.tally.restored.warnings = warnings;
    if options.dry_run {
        run.all(&setup, Step::Look).await?;
    } else {
        run.everything(setup.clone()).await?;
    }
    for (why, count) in left_out.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        run.tally.restored.notes.insert((*why).to_owned(), *count);
    }
    run.tally.restored.not_restored.sort();
    run.tally.restored.changes.sort();
    Ok(run.tally.restored)
}

/// Reads the bundle to its end before the first write, since half a restore from a damaged one is worse than none, and
/// plans when each object goes back.
async fn read(bundle: &Bundle, only: Vec<Selector>) -> Result<(Index, Plan), RestoreError> {
    let bundle = bundle.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut planner = Planner::default();
        bundle.visit(
            |_| true,
            |object| {
                if only.is_empty() || only.iter().any(|it| it.fits(&object.id, &object.json)) {
                    planner.add(&object.id, &object.json);
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok((bundle.index()?, planner.finish()))
    });
    reading.await.expect("reading does not panic, and nobody cancels it")
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

/// One restore.
struct Run<'a> {
    client: &'a Client,
    bundle: &'a Bundle,
    tally: Tally,
}

impl Run<'_> {
    async fn everything(&mut self, mut setup: Setup) -> Result<(), RestoreError> {
        if setup.options.on_conflict == OnConflict::Fail {
            self.all(&setup, Step::Compare).await?;
            let first = std::mem::take(&mut self.tally.conflicts);
            if self.tally.conflict_count > 0 {
                return Err(RestoreError::Conflicts { count: self.tally.conflict_count, first });
            }
        }
        make_namespace(self.client, &setup.to, &setup.index).await?;
        let phase = setup.options.phase;
        for place in setup.plan.places.iter().filter(|it| phase.has(it.rank)).copied().collect::<Vec<_>>() {
            let plan = Arc::clone(&setup.plan);
            self.pass(&setup, move |id| plan.place(id) == Some(place), Step::Make).await?;
            if place.rank == Rank::Definitions {
                let served = self.defined(&setup).await?;
                setup.served = Arc::new(served);
            }
        }
        // In the second half, when the owners of objects of the first are there as well.
        if phase.has(Rank::Workloads) && setup.plan.has_orphans() {
            let plan = Arc::clone(&setup.plan);
            self.pass(&setup, move |id| plan.orphan(id), Step::Adopt).await?;
        }
        Ok(())
    }

    /// Waits until the kinds whose definitions were just made are served.
    async fn defined(&mut self, setup: &Setup) -> Result<Discovered, RestoreError> {
        let (served, late) =
            definitions::wait(self.client, &setup.index, &self.tally.defined).await.map_err(RestoreError::Discover)?;
        for why in late {
            self.tally.not_restored(why);
        }
        Ok(served)
    }

    /// Does one thing with every object of the phase.
    async fn all(&mut self, setup: &Setup, step: Step) -> Result<(), RestoreError> {
        let (plan, phase) = (Arc::clone(&setup.plan), setup.options.phase);
        let mine = move |id: &Id| plan.place(id).is_some_and(|Place { rank, .. }| phase.has(rank));
        self.pass(setup, mine, step).await
    }

    /// Does one thing with some objects, many at once.
    async fn pass(
        &mut self,
        setup: &Setup,
        mine: impl Fn(&Id) -> bool + Send + 'static,
        step: Step,
    ) -> Result<(), RestoreError> {
        let (send, mut receive) = mpsc::channel::<Prepared>(WAITING);
        let (bundle, reader) = (self.bundle.clone(), setup.clone());
        let reading = tokio::task::spawn_blocking(move || {
            bundle.visit(mine, |object| match reader.prepare(object) {
                None => ControlFlow::Continue(()),
                Some(prepared) => match send.blocking_send(prepared) {
                    Ok(()) => ControlFlow::Continue(()),
                    // Nobody listens any more: the restore was given up.
                    Err(_) => ControlFlow::Break(()),
                },
            })
        });
        let target = Target::new(self.client, setup);
        let (mut flying, mut more) = (FuturesUnordered::new(), true);
        while more || !flying.is_empty() {
            tokio::select! {
                Some(attempt) = flying.next(), if !flying.is_empty() => {
                    self.tally.count(attempt, &setup.to)?;
                    setup.options.done.fetch_add(u64::from(step == Step::Make), Ordering::Relaxed);
                }
                prepared = receive.recv(), if more && flying.len() < IN_FLIGHT => match prepared {
                    Some(prepared) => flying.push(target.one(prepared, step)),
                    None => more = false,
                },
            }
        }
        reading.await.expect("reading does not panic, and nobody cancels it")?;
        Ok(())
    }
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    restored: Restored,
    silence: u32,
    conflict_count: u64,
    conflicts: Vec<String>,
    /// Definitions of kinds that were made or changed.
    defined: Vec<String>,
}

impl Tally {
    fn count(&mut self, attempt: Attempt, namespace: &str) -> Result<(), RestoreError> {
        let Attempt { id, notes, outcome } = attempt;
        let silent = matches!(outcome, Outcome::Not(_, true));
        self.silence = if silent { self.silence + 1 } else { 0 };
        match outcome {
            Outcome::Created | Outcome::Updated => {
                let created = matches!(outcome, Outcome::Created);
                *(if created { &mut self.restored.created } else { &mut self.restored.updated }) += 1;
                if order::way(&id.group, &id.kind) == Way::Make(Rank::Definitions) {
                    self.defined.push(id.name.clone());
                }
            }
            Outcome::Unchanged => self.restored.unchanged += 1,
            Outcome::LeftToData => self.restored.left_to_data += 1,
            Outcome::WouldMake => {
                self.restored.created += 1;
                tell(&mut self.restored.changes, format!("{} {}: would be made", id.kind, id.name));
            }
            Outcome::WouldChange(fields) => {
                self.restored.updated += 1;
                tell(&mut self.restored.changes, format!("{} {}: would be changed: {fields}", id.kind, id.name));
            }
            Outcome::Conflict => {
                self.conflict_count += 1;
                tell(&mut self.conflicts, format!("{} {}", id.kind, id.name));
            }
            Outcome::Nothing => {}
            Outcome::Terminating => return Err(RestoreError::Terminating(namespace.to_owned())),
            Outcome::Not(why, _) if self.silence >= SILENCE => return Err(RestoreError::Silent(why)),
            Outcome::Not(why, _) => self.not_restored(format!("{} {}: {why}", id.kind, id.name)),
        }
        for note in notes {
            *self.restored.notes.entry(note.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn not_restored(&mut self, why: String) {
        tracing::warn!(why, "not restored");
        self.restored.not_restored_count += 1;
        tell(&mut self.restored.not_restored, why);
    }
}

fn tell(list: &mut Vec<String>, what: String) {
    if list.len() < TOLD {
        list.push(what);
    }
}

/// The whole namespace takes nothing new.
pub(super) fn terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|it| &it.causes);
    status.code == 403 && causes.into_iter().any(|it| it.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_phases_are_the_whole_and_share_nothing() {
        for rank in Rank::ALL {
            assert!(Phase::Everything.has(rank));
            assert_ne!(Phase::AllButWorkloads.has(rank), Phase::Workloads.has(rank), "{rank:?}");
        }
        assert!(Phase::Workloads.has(Rank::Workloads));
    }

    fn attempt(outcome: Outcome) -> Attempt {
        let id = Id { group: String::new(), kind: "Secret".into(), namespace: Some("shop".into()), name: "a".into() };
        Attempt { id, notes: Vec::new(), outcome }
    }

    fn not(silent: bool) -> Outcome {
        Outcome::Not("no".into(), silent)
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
        assert_eq!(tally.restored.not_restored[0], "Secret a: no");
    }
}
