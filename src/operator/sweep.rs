//! What runs left behind when they ended early: found by label. What was made for a run that is gone, or has ended, is
//! deleted; a volume gets its reclaim policy back where that is safe, and no volume is deleted.
//!
//! Owner references cannot point across namespaces, and a finalizer would hold up people's deletions.

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, PersistentVolumeClaim},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::DynamicObject};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{
    context::Context,
    observe::{
        self,
        failover::{claim, marked_volumes},
        listed::all,
    },
    perform,
    shell::Error,
    stores,
};
use crate::{
    api::{application::ProtectedApplication, recovery_point::GroupVersion},
    core::{
        child::{CLAIM, MANAGED_BY, RUN, claim_key, content_key, group_content_key, group_key, job_key, snapshot_key},
        condition,
        effect::ObjectKey,
        restore::rehearsal::{self, REHEARSAL},
        volume_restore::{self, RECLAIM_POLICY, VolumeSeen},
    },
};

/// Longer than any pass.
const EVERY: Duration = Duration::from_mins(10);

/// A volume's name, and its resource version.
type Version = (String, Option<String>);

/// Sweeps again and again.
pub async fn run(context: Arc<Context>) {
    let mut left = HashSet::new();
    loop {
        sleep(EVERY).await;
        if let Err(error) = children(&context).await {
            tracing::warn!(%error, "could not look for what runs left behind");
        }
        match volumes(&left, &context).await {
            Ok(found) => left = found,
            Err(error) => tracing::warn!(%error, "could not look for volumes that runs left behind"),
        }
    }
}

/// The volumes that runs which are over left as they were in their hands, each with its version. Those that were so
/// `before` are let go: in between, a pass that was under way when its run ended has come to its end.
async fn volumes(before: &HashSet<Version>, context: &Context) -> Result<HashSet<Version>, Error> {
    let ours = format!("{}={},{RUN}", MANAGED_BY.0, MANAGED_BY.1);
    let mut marked = marked_volumes(&ours, &context.client).await?;
    marked.retain(|it| it.annotations.contains_key(RECLAIM_POLICY));
    // Looked up after the volumes: a run that has marked one is known by now.
    let mut going = going(context).await;
    let cold = |it: &ProtectedApplication| it.status.as_ref().is_none_or(|it| it.warm.is_none());
    for application in stores::all(&context.stores.applications, cold) {
        going.remove(&application.uid().unwrap_or_default());
    }
    marked.retain(|it| it.run.as_ref().is_some_and(|run| !going.contains(run)));
    let mut left = HashSet::new();
    for volume in marked {
        let version = (volume.name.clone(), volume.resource_version.clone());
        if before.contains(&version)
            && let Err(error) = let_go(&volume, context).await
        {
            tracing::warn!(%error, volume = volume.name, "could not let go of a volume that a run left behind");
        }
        left.insert(version);
    }
    Ok(left)
}

/// The uids of all that may still make or change something. What cannot be read may go on.
async fn going(context: &Context) -> HashSet<String> {
    let mut going = context.stores.uids().await;
    let ended = |conditions: Option<&[Condition]>| conditions.is_some_and(condition::ended);
    let points = stores::all(&context.stores.points, |it| ended(it.status.as_ref().map(|it| &it.conditions[..])));
    let failovers = stores::all(&context.stores.failovers, |it| ended(it.status.as_ref().map(|it| &it.conditions[..])));
    let restores = stores::all(&context.stores.restores, |it| ended(it.status.as_ref().map(|it| &it.conditions[..])));
    let uids = points.iter().map(|it| it.uid()).chain(failovers.iter().map(|it| it.uid()));
    for uid in uids.chain(restores.iter().map(|it| it.uid())).flatten() {
        going.remove(&uid);
    }
    going
}

async fn let_go(volume: &VolumeSeen, context: &Context) -> Result<(), Error> {
    let tenant = match &volume.claim {
        // The operator's own claim goes with its run.
        Some((space, name, _)) if *space != context.movers.namespace => claim(space, name, context).await?,
        Some(_) | None => None,
    };
    let Some(patch) = volume_restore::let_go(volume, tenant.as_ref()) else {
        let told = "kept: a restore that ended early left it without its claim. Bind it again, or delete it";
        tracing::warn!(volume = volume.name, claim = volume.annotations.get(CLAIM), "{told}");
        return Ok(());
    };
    tracing::info!(volume = volume.name, "the reclaim policy is put back");
    perform::patch_volume(volume.name.clone(), patch, volume.resource_version.clone(), &context.client).await?;
    Ok(())
}

/// What stands for runs that are gone, or ended: those tidy up themselves, unless no operator ran for a while after.
async fn children(context: &Context) -> Result<(), Error> {
    let home = context.movers.namespace.as_str();
    let labels = format!("{}={},{RUN}", MANAGED_BY.0, MANAGED_BY.1);
    let jobs = list(&Api::<Job>::namespaced(context.client.clone(), home), &labels, "jobs").await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), home);
    let claims = list(&claims, &labels, "claims").await?;
    let snapshots = observe::snapshots_of("VolumeSnapshot", None, Some(&labels), context).await?;
    let contents = observe::snapshots_of("VolumeSnapshotContent", None, Some(&labels), context).await?;
    let groups = groups(&labels, &context.client).await?;
    let rehearsed = if context.rehearsals { rehearsed(&context.client).await? } else { Vec::new() };
    // Looked up after the lists: whoever made what is in them stood in the store before.
    let going = going(context).await;
    sweep(&jobs, |it| job_key(home, &it.name_any()), &going, context).await?;
    sweep(&claims, |it| claim_key(home, &it.name_any()), &going, context).await?;
    let of_snapshot = |it: &DynamicObject| snapshot_key(&it.namespace().unwrap_or_default(), &it.name_any());
    sweep(&snapshots, of_snapshot, &going, context).await?;
    sweep(&contents, |it| content_key(&it.name_any()), &going, context).await?;
    if let Some((version, snapshots, contents)) = &groups {
        let of_group = |it: &DynamicObject| group_key(*version, &it.namespace().unwrap_or_default(), &it.name_any());
        sweep(snapshots, of_group, &going, context).await?;
        sweep(contents, |it| group_content_key(*version, &it.name_any()), &going, context).await?;
    }
    sweep_rehearsals(&rehearsed, &going, context).await
}

/// The namespaces that were made for rehearsals.
async fn rehearsed(client: &Client) -> Result<Vec<Namespace>, Error> {
    let labels = format!("{}={},{}={},{RUN}", MANAGED_BY.0, MANAGED_BY.1, REHEARSAL.0, REHEARSAL.1);
    list(&Api::<Namespace>::all(client.clone()), &labels, "namespaces").await
}

/// Namespaces of rehearsals that are over: with all that is in them, and the volumes that were made for them.
async fn sweep_rehearsals(all: &[Namespace], going: &HashSet<String>, context: &Context) -> Result<(), Error> {
    for space in all {
        let (name, run) = (space.name_any(), space.labels().get(RUN).cloned().unwrap_or_default());
        // The name tells once more that it was made for nothing else.
        if going.contains(&run) || name != rehearsal::namespace(&run) {
            continue;
        }
        tracing::info!(name, "deleting the namespace of a rehearsal that is over");
        for volume in marked_volumes(&format!("{RUN}={run}"), &context.client).await? {
            let patch = serde_json::json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
            perform::patch_volume(volume.name, patch, volume.resource_version, &context.client).await?;
        }
        perform::delete(&rehearsal::space_key(&name), &context.client).await?;
    }
    Ok(())
}

/// What was made of group snapshots, and the version of their API, where it is served.
async fn groups(
    labels: &str,
    client: &Client,
) -> Result<Option<(GroupVersion, Vec<DynamicObject>, Vec<DynamicObject>)>, Error> {
    let Some(version) = observe::groups::served(client).await? else { return Ok(None) };
    let snapshots = observe::groups::snapshots(version, labels, client).await?;
    Ok(Some((version, snapshots, observe::groups::contents(version, labels, client).await?)))
}

async fn list<K>(api: &Api<K>, labels: &str, what: &str) -> Result<Vec<K>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    all(api, ListParams::default().labels(labels), what).await
}

async fn sweep<K: Resource>(
    found: &[K],
    key: impl Fn(&K) -> ObjectKey,
    going: &HashSet<String>,
    context: &Context,
) -> Result<(), Error> {
    for object in found.iter().filter(|it| it.labels().get(RUN).is_some_and(|run| !going.contains(run))) {
        tracing::info!(name = object.name_any(), "deleting what a run left behind");
        perform::delete(&key(object), &context.client).await?;
    }
    Ok(())
}
