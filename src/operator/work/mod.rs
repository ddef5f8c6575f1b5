//! Work that outlasts one pass: it is begun by an effect, goes on beside the loop, and wakes its object when it ends.
//!
//! It lives in memory only. After a restart it is begun again: each work is idempotent.

mod point;
mod restore;
mod retention;
mod traffic;
mod vault;

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::FutureExt;
use kube::{Resource, ResourceExt};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

pub use self::retention::PointCache;
use super::context::Context;
use crate::{
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
    /// How many times in a row it failed.
    failed: BTreeMap<&'static str, u32>,
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
        match objects.get(&uid) {
            Some(it) if it.generation == generation => it.works.clone(),
            Some(_) => {
                objects.remove(&uid);
                Works::new()
            }
            None => Works::new(),
        }
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
    let tasks = Arc::clone(&registry);
    let task = tokio::spawn(async move {
        let permit = tasks.permits.acquire().await;
        let result = ended(work.name(), deadline(&work), Box::pin(carry_out(&work, &context))).await;
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
        // A full queue only delays: every object is looked at again by itself.
        let _ = tasks.wake.try_send(wake);
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
        | Work::ReadPoint { .. }
        | Work::SealCatalogue { .. }
        | Work::Publish { .. }
        | Work::CommitPoint { .. }
        | Work::SetHold { .. }
        | Work::Ask { .. } => Duration::from_mins(1),
        Work::TestVault { .. } => Duration::from_mins(2),
        Work::SurveyPoints { .. } | Work::FindPoint { .. } => Duration::from_mins(5),
        Work::StartWorkloads { .. } => Duration::from_mins(6),
        Work::DropPoints { .. } => Duration::from_mins(10),
        Work::ReviewPoints { .. } => Duration::from_mins(30),
        Work::Capture { .. } | Work::RestoreObjects { .. } | Work::PlanObjects { .. } => Duration::from_hours(2),
    }
}

async fn carry_out(work: &Work, context: &Context) -> Result<Outcome, Failure> {
    match work {
        Work::TestVault { vault } => vault::test(vault, context).await,
        Work::ListRegions { vault } => vault::list_regions(vault, context).await,
        Work::TestZone { zone } => traffic::test(zone, context).await,
        Work::Capture { vault, application, objects } => point::capture(vault, application, objects, context).await,
        Work::CommitPoint { vault, point } => point::commit(vault, point, context).await,
        Work::ReadHead { vault, application } => point::read_head(vault, application, context).await,
        Work::ReadLatest { vault, application, known } => {
            point::read_latest(vault, application, known.as_deref(), context).await
        }
        Work::ReadPoint { vault, application, id } => point::read(vault, application, id, context).await,
        Work::SealCatalogue { vault, application, epoch } => point::seal(vault, application, *epoch, context).await,
        Work::SurveyPoints { vault, application, older_than, minimum } => {
            restore::survey(vault, application, older_than.as_deref(), *minimum, context).await
        }
        Work::FindPoint { vault, application, choice } => restore::find(vault, application, choice, context).await,
        Work::RestoreObjects { vault, application, manifest, mappings, only, on_conflict, epoch } => {
            let options = Options {
                mappings: mappings.as_ref().clone(),
                policy: context.policy,
                only: only.clone(),
                on_conflict: *on_conflict,
                ..Options::default()
            };
            Box::pin(restore::objects(vault, application, manifest, options, *epoch, context)).await
        }
        Work::ReviewPoints { vault, application, policy, in_use, epoch: _ } => {
            retention::review(vault, application, policy, in_use, context).await
        }
        Work::DropPoints { vault, application, ids, epoch } => {
            retention::drop_points(vault, application, ids, *epoch, context).await
        }
        Work::SetHold { vault, application, point, held } => {
            retention::set_hold(vault, application, point, *held, context).await
        }
        Work::PlanObjects { vault, application, manifest, mappings, only, on_conflict } => {
            let options = Options {
                mappings: mappings.as_ref().clone(),
                policy: context.policy,
                only: only.clone(),
                on_conflict: *on_conflict,
                dry_run: true,
                ..Options::default()
            };
            Box::pin(restore::plan(vault, application, manifest, &options, context)).await
        }
        Work::StartWorkloads { application, epoch } => {
            restore::start(application, *epoch, context).await.map(|_| Outcome::Done)
        }
        Work::Ask { probes, at } => traffic::ask(probes, at.as_ref(), context).await,
        Work::Publish { publication, application, vault } => {
            traffic::publish(publication, application, vault, context).await
        }
    }
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

    #[tokio::test]
    async fn work_that_hangs_has_failed_after_its_deadline() {
        let failed = ended("Capture", Duration::from_millis(20), std::future::pending()).await.unwrap_err();
        assert_eq!(failed.reason, "Deadline");
    }
}
