//! What runs left behind in the operator's namespace when their object was deleted meanwhile: found by label, deleted.
//!
//! Owner references cannot point across namespaces, and a finalizer would hold up people's deletions.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{batch::v1::Job, core::v1::PersistentVolumeClaim};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::context::Context;
use crate::core::child::{MANAGED_BY, RUN};

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

async fn once(context: &Context) -> Result<(), kube::Error> {
    let home = &context.movers.namespace;
    sweep(&Api::<Job>::namespaced(context.client.clone(), home), context).await?;
    sweep(&Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), home), context).await?;
    for (kind, namespaced) in [("VolumeSnapshot", true), ("VolumeSnapshotContent", false)] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", kind));
        let api: Api<DynamicObject> = if namespaced {
            Api::namespaced_with(context.client.clone(), home, &resource)
        } else {
            Api::all_with(context.client.clone(), &resource)
        };
        match sweep(&api, context).await {
            // A cluster without snapshots.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => other?,
        }
    }
    Ok(())
}

async fn sweep<K>(api: &Api<K>, context: &Context) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let ours = ListParams::default().labels(&format!("{}={},{RUN}", MANAGED_BY.0, MANAGED_BY.1)).limit(500);
    let found = api.list(&ours).await?.items;
    // Looked up after the list: whoever made what is in it stood in the store before.
    let uids = context.stores.uids().await;
    for object in found {
        let orphan = object.labels().get(RUN).is_some_and(|it| !uids.contains(it));
        if orphan {
            tracing::info!(name = object.name_any(), "deleting what a run left behind");
            match api.delete(&object.name_any(), &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                other => {
                    other?;
                }
            }
        }
    }
    Ok(())
}
