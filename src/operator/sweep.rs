//! What runs left behind in the operator's namespace when their object was deleted meanwhile: found by label, deleted.
//!
//! Owner references cannot point across namespaces, and a finalizer would hold up people's deletions.

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::api::{batch::v1::Job, core::v1::PersistentVolumeClaim};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{context::Context, observe, perform, shell::Error, stores};
use crate::core::{
    child::{MANAGED_BY, RUN, claim_key, content_key, job_key, snapshot_key},
    effect::ObjectKey,
};

const EVERY: Duration = Duration::from_mins(10);

/// Sweeps again and again.
pub async fn run(context: Arc<Context>) {
    loop {
        sleep(EVERY).await;
        if let Err(error) = once(&context).await {
            tracing::warn!(%error, "could not look for what runs left behind");
        }
    }
}

async fn once(context: &Context) -> Result<(), Error> {
    // A store that was never filled knows no run, and every child would be an orphan.
    context.stores.ready().await;
    let points = stores::all(&context.stores.points, |_| true);
    let failovers = stores::all(&context.stores.failovers, |_| true);
    let uids: HashSet<String> =
        points.iter().filter_map(|it| it.uid()).chain(failovers.iter().filter_map(|it| it.uid())).collect();
    let home = context.movers.namespace.as_str();
    let labels = format!("{}={},{RUN}", MANAGED_BY.0, MANAGED_BY.1);
    let jobs = list(&Api::<Job>::namespaced(context.client.clone(), home), &labels, "jobs").await?;
    sweep(&jobs, |name| job_key(home, name), &uids, context).await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), home);
    sweep(&list(&claims, &labels, "claims").await?, |name| claim_key(home, name), &uids, context).await?;
    let snapshots = observe::snapshots_of("VolumeSnapshot", Some(home), Some(&labels), context).await?;
    sweep(&snapshots, |name| snapshot_key(home, name), &uids, context).await?;
    let contents = observe::snapshots_of("VolumeSnapshotContent", None, Some(&labels), context).await?;
    sweep(&contents, content_key, &uids, context).await
}

async fn list<K>(api: &Api<K>, labels: &str, what: &str) -> Result<Vec<K>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let ours = ListParams::default().labels(labels).limit(500);
    Ok(api.list(&ours).await.map_err(Error::observe(what))?.items)
}

async fn sweep<K: Resource>(
    found: &[K],
    key: impl Fn(&str) -> ObjectKey,
    uids: &HashSet<String>,
    context: &Context,
) -> Result<(), Error> {
    for object in found.iter().filter(|it| it.labels().get(RUN).is_some_and(|run| !uids.contains(run))) {
        tracing::info!(name = object.name_any(), "deleting what a run left behind");
        perform::delete(&key(&object.name_any()), &context.client).await?;
    }
    Ok(())
}
