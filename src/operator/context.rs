//! What every pass has at hand. Built once in `run`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, Weak},
};

use kube::{Client, ResourceExt, runtime::events::Recorder};
use tokio::sync::mpsc;

use super::{
    claims::Claims,
    keeper::Keeper,
    metrics::Metrics,
    secrets::Secrets,
    stores::{self, Stores},
    watch::Watch,
    work::Registry,
};
use crate::{
    api::application::ProtectedApplication,
    capture::policy::Policy,
    core::{app_key::AppKey, mover_job::MoverSettings},
    operator::work::{Notes, PointCache},
    probe::Vantage,
    traffic::resolve::Resolve,
};

/// What every pass has at hand.
pub struct Context {
    /// The API server of this region.
    pub client: Client,
    /// This operator's region.
    pub region: String,
    /// What movers have in common.
    pub movers: MoverSettings,
    /// What restores may bring back of objects that grant rights.
    pub policy: Policy,
    /// Whether namespaces may be made for rehearsals.
    pub rehearsals: bool,
    /// Kubernetes events.
    pub recorder: Recorder,
    /// Objects as the API server's watches tell them.
    pub stores: Stores,
    /// Secrets and opened vaults.
    pub secrets: Secrets,
    /// Work that outlasts one pass.
    pub works: Arc<Registry>,
    /// Claims.
    pub keeper: Keeper<Claims>,
    /// Probes.
    pub watch: Watch,
    /// How this region asks probes.
    pub vantage: Vantage,
    /// How this region resolves names.
    pub resolve: Resolve,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Wakes the loop of applications.
    pub wake: mpsc::Sender<AppKey>,
    /// The claims of each vault: one for all applications of it.
    pub claims: Mutex<HashMap<String, Arc<Claims>>>,
    /// Points that were read for retention: they never change.
    pub points: PointCache,
    /// What was found out about points since they were made.
    pub notes: Notes,
    /// Itself, for what outlives a borrow of it.
    pub itself: OnceLock<Weak<Context>>,
}

impl Context {
    /// Has the loop look at an application. A full queue already holds enough to wake for.
    pub fn wake_application(&self, application: &AppKey) {
        let _ = self.wake.try_send(application.clone());
    }

    /// Has the loop look at the applications that fit.
    pub fn wake_applications(&self, fits: impl Fn(&ProtectedApplication) -> bool) {
        for it in stores::all(&self.stores.applications, fits) {
            self.wake_application(&AppKey { namespace: it.namespace().unwrap_or_default(), name: it.name_any() });
        }
    }

    /// The claims that lie in a vault.
    pub fn claims_of(&self, vault: &str) -> Arc<Claims> {
        let mut all = self.claims.lock().expect("no holder of this lock panics");
        let itself = self.itself.get().cloned().unwrap_or_default();
        Arc::clone(all.entry(vault.to_owned()).or_insert_with(|| Arc::new(Claims::new(itself, vault))))
    }
}
