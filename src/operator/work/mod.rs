//! Work that outlasts one pass: it is begun by an effect, goes on beside the loop, and wakes its object when it ends.
//!
//! It lives in memory only. After a restart it is begun again: each work is idempotent.

mod hold;
mod hooks;
mod locks;
mod notes;
mod point;
mod restore;
mod retention;
mod traffic;
mod vault;

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

pub use self::{
    notes::Notes,
    retention::{PointCache, Surveyed, survey},
};
use super::context::Context;
use crate::{
    api::{
        mappings::{Mappings, ObjectSelector},
        restoring::OnConflict,
    },
    capture::apply::Options,
    core::work::{Failure, Outcome, Progress, Work, Works},
};

/// How much of it may go on at once.
const CONCURRENT: usize = 64;

/// An object's kind, namespace and name.
pub type Wake = (&'static str, Option<String>, String);

/// All work of this operator, by the uid of the object it was begun for.
pub struct Registry {
    objects: Mutex<HashMap<String, Owned>>,
    permits: Semaphore,
    wake: mpsc::Sender<Wake>,
}

#[derive(Default)]
struct Owned {
    generation: Option<i64>,
    works: Works,
    tasks: BTreeMap<&'static str, JoinHandle<()>>,
    /// How much of it is done, for work that counts.
    counts: BTreeMap<&'static str, Arc<AtomicU64>>,
    /// How many times in a row it failed.
    failed: BTreeMap<&'static str, u32>,
    /// Why an effect of the last pass was not done.
    hindrance: Option<String>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

impl Registry {
    /// Nothing yet. `wake` is told whose work has ended.
    #[must_use]
    pub fn new(wake: mpsc::Sender<Wake>) -> Self {
        Self { objects: Mutex::default(), permits: Semaphore::new(CONCURRENT), wake }
    }

    /// What is known of an object's work. An object that was edited starts with nothing.
    #[must_use]
    pub fn of<K: Resource<DynamicType = ()>>(&self, object: &K) -> Works {
        let uid = object.uid().unwrap_or_default();
        let generation = object.meta().generation;
        let mut objects = self.objects();
        match objects.get_mut(&uid) {
            Some(it) if it.generation == generation => {
                not_of_the_future(&mut it.works, super::clock::second());
                it.works.clone()
            }
            Some(_) => {
                objects.remove(&uid);
                Works::new()
            }
            None => Works::new(),
        }
    }

    /// Why an effect of the object's last pass was not done, such as a quota that is used up.
    #[must_use]
    pub fn hindrance<K: Resource<DynamicType = ()>>(&self, object: &K) -> Option<String> {
        self.objects().get(&object.uid().unwrap_or_default()).and_then(|it| it.hindrance.clone())
    }

    /// Keeps in mind how the effects of the object's last pass went.
    pub fn performed<K: Resource<DynamicType = ()>>(&self, object: &K, failed: Option<String>) {
        let (uid, mut objects) = (object.uid().unwrap_or_default(), self.objects());
        match objects.get_mut(&uid) {
            Some(owned) => owned.hindrance = failed,
            None if failed.is_some() => {
                let owned = objects.entry(uid).or_default();
                (owned.generation, owned.hindrance) = (object.meta().generation, failed);
            }
            None => {}
        }
    }

    /// How much of an object's work is done that goes on and counts: of `RestoreObjects`, how many objects.
    #[must_use]
    pub fn count<K: Resource<DynamicType = ()>>(&self, object: &K, name: &str) -> Option<u64> {
        let objects = self.objects();
        let owned = objects.get(&object.uid().unwrap_or_default())?;
        owned.counts.get(name).map(|it| it.load(Ordering::Relaxed))
    }

    /// Has an object looked at again. A full queue only delays that: every object is looked at again by itself.
    pub fn wake(&self, wake: Wake) {
        let _ = self.wake.try_send(wake);
    }

    /// Forgets the work of objects that are no longer there.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.objects().retain(|uid, _| keep(uid));
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<String, Owned>> {
        self.objects.lock().expect("no holder of this lock panics")
    }

    fn end(&self, uid: &str, work: Work, result: Result<Outcome, Failure>) {
        let mut objects = self.objects();
        let Some(owned) = objects.get_mut(uid) else { return };
        // It ends up in a status: a finer time would never equal what is read back.
        let at = super::clock::second();
        let name = work.name();
        let progress = match result {
            Ok(outcome) => Progress::Done { at, work: Box::new(work), outcome },
            Err(failure) => {
                let times = owned.failed.entry(name).or_default();
                *times = times.saturating_add(1);
                Progress::Failed { at, times: *times, failure }
            }
        };
        if matches!(progress, Progress::Done { .. }) {
            owned.failed.remove(name);
        }
        owned.works.insert(name, progress);
        owned.tasks.remove(name);
        owned.counts.remove(name);
    }
}

/// What ended in the future ended before the clock was set back: from now on it ended now, or what is due some time after
/// it would wait for that future.
fn not_of_the_future(works: &mut Works, now: Timestamp) {
    for progress in works.values_mut() {
        match progress {
            Progress::Done { at, .. } | Progress::Failed { at, .. } => *at = (*at).min(now),
            Progress::Running => {}
        }
    }
}

/// Begins a piece of work for an object, unless one of its name goes on.
pub fn begin<K: Resource<DynamicType = ()>>(work: Work, object: &K, context: &Context) {
    let (uid, name) = (object.uid().unwrap_or_default(), work.name());
    let wake: Wake = (kind_of(object), object.namespace(), object.name_any());
    let registry = Arc::clone(&context.works);
    let Some(context) = context.itself.get().and_then(std::sync::Weak::upgrade) else { return };
    let mut objects = registry.objects();
    let owned = objects.entry(uid.clone()).or_default();
    owned.generation = object.meta().generation;
    if owned.tasks.contains_key(name) {
        return;
    }
    owned.works.insert(name, Progress::Running);
    let count = Arc::<AtomicU64>::default();
    owned.counts.insert(name, Arc::clone(&count));
    let tasks = Arc::clone(&registry);
    let task = tokio::spawn(async move {
        let permit = tasks.permits.acquire().await;
        let result = ended(work.name(), deadline(&work), Box::pin(carry_out(&work, &count, &context))).await;
        drop(permit);
        if let Err(failure) = &result {
            tracing::warn!(
                work = work.name(),
                namespace = wake.1,
                name = wake.2,
                reason = failure.reason,
                "{}",
                failure.message
            );
        }
        tasks.end(&uid, work, result);
        tasks.wake(wake);
    });
    owned.tasks.insert(name, task);
}

/// How a piece of work ends: also by its deadline, and by a panic, which would leave it running for ever.
async fn ended(
    name: &str,
    deadline: Duration,
    carried_out: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    match tokio::time::timeout(deadline, AssertUnwindSafe(carried_out).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let why = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(failure("Panicked", format!("{name} ended by a mistake in this program, please report it: {why}")))
        }
        Err(_) => Err(failure("Deadline", format!("{name} was not done within {} s", deadline.as_secs()))),
    }
}

fn kind_of<K: Resource<DynamicType = ()>>(_: &K) -> &'static str {
    match K::kind(&()).as_ref() {
        "Vault" => "Vault",
        "DnsZone" => "DnsZone",
        "RecoveryPoint" => "RecoveryPoint",
        "Failover" => "Failover",
        "Restore" => "Restore",
        _ => "ProtectedApplication",
    }
}

fn deadline(work: &Work) -> Duration {
    match work {
        Work::ListRegions { .. }
        | Work::TestZone { .. }
        | Work::ReadHead { .. }
        | Work::ReadLatest { .. }
        | Work::ReadCopies { .. }
        | Work::ReadPoint { .. }
        | Work::ReadNotes { .. }
        | Work::NoteRehearsal { .. }
        | Work::SealCatalogue { .. }
        | Work::Publish { .. }
        | Work::CommitPoint { .. }
        | Work::SetHold { .. }
        | Work::Ask { .. } => Duration::from_mins(1),
        Work::RunHooks { side, hooks, .. } => hooks::deadline(*side, hooks),
        Work::TestVault { .. } => Duration::from_mins(2),
        Work::SurveyPoints { .. } | Work::FindPoint { .. } | Work::ExtendLocks { .. } => Duration::from_mins(5),
        Work::StartWorkloads { .. } => Duration::from_mins(6),
        Work::DropPoints { .. } | Work::DropCopies { .. } => Duration::from_mins(10),
        Work::ReviewPoints { .. } | Work::ReviewCopy { .. } => Duration::from_mins(30),
        Work::Capture { .. } | Work::RestoreObjects { .. } | Work::PlanObjects { .. } => Duration::from_hours(2),
    }
}

async fn carry_out(work: &Work, count: &Arc<AtomicU64>, context: &Context) -> Result<Outcome, Failure> {
    match work {
        Work::TestVault { vault } => vault::test(vault, context).await,
        Work::ListRegions { vault } => vault::list_regions(vault, context).await,
        Work::TestZone { zone } => traffic::test(zone, context).await,
        Work::Capture { vault, application, objects } => point::capture(vault, application, objects, context).await,
        Work::RunHooks { namespace, side, hooks, hold, seconds } => {
            hooks::run(&hooks::Hooks { namespace, side: *side, run: hooks, hold, seconds: *seconds }, context).await
        }
        Work::CommitPoint { vault, point } => point::commit(vault, point, context).await,
        Work::ReadHead { vault, application } => point::read_head(vault, application, context).await,
        Work::ReadLatest { vault, application, known } => {
            point::read_latest(vault, application, known.as_deref(), context).await
        }
        Work::ReadCopies { vaults, application } => Ok(point::read_copies(vaults, application, context).await),
        Work::ReadPoint { vault, application, id } => point::read(vault, application, id, context).await,
        Work::ReadNotes { vault, application } => notes::read(vault, application, context).await,
        Work::NoteRehearsal { vault, application, point, detail, seconds } => {
            notes::rehearsed(vault, application, point, (detail, *seconds), context).await
        }
        Work::SealCatalogue { vault, application, epoch } => point::seal(vault, application, *epoch, context).await,
        Work::SurveyPoints { vault, application, older_than, minimum } => {
            restore::survey(vault, application, older_than.as_deref(), *minimum, context).await
        }
        Work::FindPoint { vault, application, choice, older_than } => {
            restore::find(vault, application, choice, older_than.as_deref(), context).await
        }
        Work::RestoreObjects { vault, application, into, manifest, mappings, only, on_conflict, epoch, isolated } => {
            let asked = asked(mappings, only, *on_conflict, context);
            let options = Options { done: Arc::clone(count), isolated: *isolated, ..asked };
            Box::pin(restore::objects((vault, application, manifest), into, options, *epoch, context)).await
        }
        Work::ReviewPoints { vault, application, policy, in_use, epoch: _ } => {
            retention::review(vault, application, policy, in_use, context).await
        }
        Work::DropPoints { vault, application, ids, epoch } => {
            retention::drop_points(vault, application, ids, *epoch, context).await
        }
        Work::ExtendLocks { vault, application, began, after } => {
            locks::extend(vault, application, *began, after.as_deref(), context).await
        }
        Work::ReviewCopy { vault, first, application, policy, newest, epoch: _ } => {
            retention::review_copy((vault, first), application, policy, newest, context).await
        }
        Work::DropCopies { vault, first, application, ids, epoch } => {
            retention::drop_copies((vault, first), application, ids, *epoch, context).await
        }
        Work::SetHold { vault, application, point, held } => {
            retention::set_hold(vault, application, point, *held, context).await
        }
        Work::PlanObjects { vault, application, into, manifest, mappings, only, on_conflict } => {
            let options = Options { dry_run: true, ..asked(mappings, only, *on_conflict, context) };
            Box::pin(restore::plan((vault, application, manifest), into, &options, context)).await
        }
        Work::StartWorkloads { application, epoch } => {
            restore::start(application, &application.namespace, Some(*epoch), context).await.map(|_| Outcome::Done)
        }
        Work::Ask { probes, at } => traffic::ask(probes, at.as_ref(), context).await,
        Work::Publish { publication, application, vault } => {
            traffic::publish(publication, application, vault, context).await
        }
    }
}

/// What is asked of a restore of objects.
fn asked(mappings: &Mappings, only: &[ObjectSelector], on_conflict: OnConflict, context: &Context) -> Options {
    let (mappings, only) = (mappings.clone(), only.to_vec());
    Options { mappings, policy: context.policy, only, on_conflict, ..Options::default() }
}

/// A failure that may pass.
#[expect(clippy::needless_pass_by_value, reason = "so that a caller can hand over the error or text it made")]
fn failure(reason: &'static str, message: impl ToString) -> Failure {
    Failure { reason, message: message.to_string(), lasting: false }
}

/// The opened vault of that name.
fn object(name: &str, context: &Context) -> Result<Arc<crate::api::vault::Vault>, Failure> {
    super::stores::get(&context.stores.vaults, None, name)
        .ok_or_else(|| failure("NoVault", format!("there is no Vault '{name}' in this cluster")))
}

async fn open(name: &str, context: &Context) -> Result<crate::vault::Vault, Failure> {
    context.secrets.vault(&*object(name, context)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_has_failed_and_says_why() {
        let panics = async { panic!("index {} is out of bounds", 7) };
        let failed = ended("Capture", Duration::from_secs(1), panics).await.unwrap_err();
        assert_eq!((failed.reason, failed.lasting), ("Panicked", false), "it is tried again like any other");
        assert!(failed.message.ends_with("index 7 is out of bounds"), "{}", failed.message);
    }

    #[test]
    fn work_that_ended_before_the_clock_was_set_back_ended_now() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let failed = |second| Progress::Failed { at: at(second), times: 1, failure: failure("Away", "away") };
        let mut works = Works::from([("Publish", failed(9_000)), ("Ask", failed(50)), ("Capture", Progress::Running)]);
        not_of_the_future(&mut works, at(100));
        assert_eq!(works, Works::from([("Publish", failed(100)), ("Ask", failed(50)), ("Capture", Progress::Running)]));
    }

    #[tokio::test]
    async fn work_that_hangs_has_failed_after_its_deadline() {
        let failed = ended("Capture", Duration::from_millis(20), std::future::pending()).await.unwrap_err();
        assert_eq!(failed.reason, "Deadline");
    }
}
