//! What every pass has at hand. Built once in `run`.

use std::sync::Arc;

use kube::{Client, runtime::events::Recorder};
use tokio::sync::mpsc;

use super::{
    keeper::Keeper, metrics::Metrics, secrets::Secrets, stores::Stores, watch::Watch, work::Registry,
};
use crate::{core::{mover_job::MoverSettings, work::AppKey}, probe::Vantage, traffic::resolve::Resolve};

/// What every pass has at hand.
pub struct Context {
    /// The API server of this region.
    pub client: Client,
    /// This operator's region.
    pub region: String,
    /// What movers have in common.
    pub movers: MoverSettings,
    /// Kubernetes events.
    pub recorder: Recorder,
    /// Objects as the API server's watches tell them.
    pub stores: Stores,
    /// Secrets and opened vaults.
    pub secrets: Secrets,
    /// Work that outlasts one pass.
    pub works: Arc<Registry>,
    /// Claims.
    pub keeper: Arc<Keeper>,
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
}
