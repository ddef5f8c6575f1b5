//! The one loop of all kinds: observe, decide, perform, write the status.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, object::HasStatus},
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::ObjectRef,
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::{clock, context::Context, perform, stores::Guarded};
use crate::core::effect::Decision;

/// The field manager of everything that is written.
pub const FIELD_MANAGER: &str = "reprise";
/// How many objects of one kind are worked on at a time.
const CONCURRENCY: u16 = 32;
/// How long one pass may take.
const PASS: Duration = Duration::from_mins(1);

/// What any kind of ours is.
pub trait Kind:
    Resource<DynamicType = ()>
    + HasStatus<Status: Serialize + PartialEq + Send + Sync>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()>
        + HasStatus<Status: Serialize + PartialEq + Send + Sync>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// What a kind brings to the loop.
pub trait Reconciled: Kind {
    /// Everything that `decide` may look at.
    type Observed: Send + Sync;

    /// Reads. The only place where this kind meets the world.
    fn observe(&self, context: &Context) -> impl Future<Output = Result<Self::Observed, Error>> + Send;

    /// Decides. Pure.
    fn decide(&self, observed: &Self::Observed, now: Timestamp) -> Decision<Self::Status>;

    /// Has the metrics show what was decided: on every pass, whether it has to be written or not.
    fn measure(&self, _status: &Self::Status, _context: &Context) {}

    /// What follows from a written status for others: who is to look again.
    fn written(&self, _context: &Context) {}
}

/// Why a pass was given up. Each is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read.
    #[error("read {what}: {source}")]
    Observe {
        /// What.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// There is more of something than is looked at: no part of it stands for the whole.
    #[error(
        "there are more than {} {what}, and so many are looked at: nothing is done on a part of them",
        super::observe::listed::MOST
    )]
    TooMany {
        /// What.
        what: String,
    },
    /// Something could not be done.
    #[error(transparent)]
    Perform(#[from] perform::Error),
    /// The status could not be written.
    #[error("write the status: {0}")]
    Status(Box<kube::Error>),
    /// It took too long.
    #[error("the pass was not finished within {} s", PASS.as_secs())]
    Deadline,
}

impl Error {
    /// That something could not be read.
    pub fn observe(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Observe { what, source: Box::new(source) }
    }
}

/// A loop that is about to run, and its store.
pub struct Loop<K: Kind> {
    controller: Controller<DeserializeGuard<K>>,
    /// The objects of the kind.
    pub store: Guarded<K>,
}

/// Prepares the loop of one kind.
#[must_use]
pub fn prepare<K: Reconciled>(client: &Client) -> Loop<K> {
    let api = Api::<DeserializeGuard<K>>::all(client.clone());
    let controller = Controller::new(api, watcher::Config::default())
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(Duration::from_millis(200)));
    let store = controller.store();
    Loop { controller, store }
}

/// Runs the loop of one kind until `stop` ends; passes that go on are finished first.
pub async fn run<K: Reconciled>(
    it: Loop<K>,
    context: Arc<Context>,
    wakes: impl Stream<Item = (Option<String>, String)> + Send + 'static,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let wakes = wakes.map(|(namespace, name)| {
        let mut key = ObjectRef::<DeserializeGuard<K>>::new(&name);
        key.namespace = namespace;
        key
    });
    it.controller
        .reconcile_on(wakes)
        .graceful_shutdown_on(stop)
        .run(pass::<K>, error_policy::<K>, context)
        .for_each(|result| {
            match result {
                // Done; or woken for what is not there (any more), and nothing to do.
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "not reconciled"),
            }
            std::future::ready(())
        })
        .await;
}

/// The pause after a failed pass, spread so that objects do not come back all at once.
#[expect(clippy::needless_pass_by_value, reason = "the controller's signature")]
fn error_policy<K: Kind>(object: Arc<DeserializeGuard<K>>, _: &Error, context: Arc<Context>) -> Action {
    context.metrics.failed_passes.inc();
    let spread = object.name_any().bytes().fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 5_000);
    Action::requeue(Duration::from_secs(10) + Duration::from_millis(spread))
}

async fn pass<K: Reconciled>(object: Arc<DeserializeGuard<K>>, context: Arc<Context>) -> Result<Action, Error> {
    let object = match &object.0 {
        Ok(object) => object,
        // Only an edit can mend it, and an edit wakes us.
        Err(invalid) => {
            tracing::warn!(error = %invalid.error, kind = %K::kind(&()), "cannot be read: correct the object");
            return Ok(Action::await_change());
        }
    };
    // Children go by owner references; what is not theirs ends with the process.
    if object.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    tokio::time::timeout(PASS, settle(object, &context)).await.map_err(|_| Error::Deadline)?
}

async fn settle<K: Reconciled>(object: &K, context: &Context) -> Result<Action, Error> {
    context.stores.ready().await;
    context.metrics.passes.inc();
    let observed = object.observe(context).await?;
    let decision = object.decide(&observed, clock::second());
    let mut failed = None;
    for effect in decision.effects {
        if let Err(error) = perform::perform(effect, object, context).await {
            failed = Some(error);
            break;
        }
    }
    context.works.performed(object, failed.as_ref().map(ToString::to_string));
    object.measure(&decision.status, context);
    // What could not be done does not keep what was found from being said.
    if object.status() != Some(&decision.status) {
        write(object, &decision.status, context).await?;
        object.written(context);
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(decision.recheck.map_or(Action::await_change(), Action::requeue)),
    }
}

/// Server-side apply of the whole status, which this operator alone owns.
async fn write<K: Reconciled>(object: &K, status: &K::Status, context: &Context) -> Result<(), Error> {
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "namespace": object.namespace(), "uid": object.uid()},
        "status": status,
    });
    let resource = kube::core::ApiResource::erase::<K>(&());
    let api: Api<kube::core::DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(context.client.clone(), &namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&object.name_any(), &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::Status(Box::new(error))),
    }
}
