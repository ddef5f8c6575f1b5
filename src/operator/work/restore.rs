//! Work on bringing an application back: which point is good, and its objects.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use super::{failure, open, point::catalogue_failure};
use crate::{
    capture::{
        apply::{Phase, restore},
        bundle::Bundle,
        fence,
    },
    core::{
        app_key::AppKey,
        point::Point,
        work::{Failure, Outcome},
    },
    operator::context::Context,
    vault::{Vault, catalogue::CatalogueError},
};

/// How many points are looked at, newest first, before there is said to be none that is good.
const LOOKED_AT: usize = 200;
/// How long starting may take.
const STARTING: Duration = Duration::from_mins(5);

/// The newest point that is whole: complete, no branch, its objects readable.
pub(super) async fn survey(
    name: &str,
    application: &AppKey,
    excluded: &BTreeMap<String, String>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let (namespace, app) = (&application.namespace, &application.name);
    let ids = vault.list_points(namespace, app).await.map_err(|error| catalogue_failure(&error))?;
    let mut passed_over = Vec::new();
    for id in ids.iter().take(LOOKED_AT) {
        if let Some(why) = excluded.get(id) {
            passed_over.push(format!("{id}: {why}"));
            continue;
        }
        match look(&vault, application, id).await? {
            Ok(point) => return Ok(Outcome::Surveyed { chosen: Some(Box::new(point)), passed_over }),
            Err(Some(why)) => passed_over.push(format!("{id}: {why}")),
            Err(None) => {}
        }
    }
    if ids.is_empty() {
        passed_over.push("the vault holds no point of it".to_owned());
    }
    Ok(Outcome::Surveyed { chosen: None, passed_over })
}

/// A point if it is good; why not if that is worth telling. Only what the store cannot answer is a failure.
async fn look(vault: &Vault, application: &AppKey, id: &str) -> Result<Result<Point, Option<String>>, Failure> {
    let (namespace, app) = (&application.namespace, &application.name);
    let point = match vault.read_point(namespace, app, id).await {
        Ok(point) => point,
        Err(error @ CatalogueError::Store(_)) => return Err(catalogue_failure(&error)),
        Err(error) => return Ok(Err(Some(error.to_string()))),
    };
    if point.branch {
        return Ok(Err(None));
    }
    if !point.complete() {
        return Ok(Err(Some(format!("it is partial: {}", point.missing.join("; ")))));
    }
    match vault.read_manifest(namespace, app, &point.objects.manifest).await {
        Ok(_) => Ok(Ok(point)),
        Err(error @ CatalogueError::Store(_)) => Err(catalogue_failure(&error)),
        Err(error) => Ok(Err(Some(error.to_string()))),
    }
}

/// Objects, workloads last; then what was stopped here is started.
pub(super) async fn objects(
    name: &str,
    application: &AppKey,
    manifest: &str,
    epoch: u64,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let plain = vault
        .read_manifest(&application.namespace, &application.name, manifest)
        .await
        .map_err(|error| catalogue_failure(&error))?;
    let bundle = Bundle::from_bytes(plain.into());
    let namespace = &application.namespace;
    let put = |phase| restore(&context.client, namespace, &bundle, phase);
    let first = put(Phase::AllButWorkloads).await.map_err(|error| failure("RestoreFailed", error))?;
    // From here on pods run: the claim is asked once more.
    if !context.keeper.valid_now(application, epoch) {
        return Err(failure("NoClaim", "this region can no longer prove that it holds the claim: nothing is started"));
    }
    let second = put(Phase::Workloads).await.map_err(|error| failure("RestoreFailed", error))?;
    let unreadable = start(application, epoch, context).await?;
    let restored = [&first, &second].iter().map(|it| it.created + it.updated + it.unchanged).sum();
    let not_restored = first.not_restored.into_iter().chain(second.not_restored).chain(unreadable).collect();
    Ok(Outcome::ObjectsRestored { restored, not_restored })
}

/// Starts what was stopped, as it was. Marks that could not be read, with the workload.
pub(super) async fn start(application: &AppKey, epoch: u64, context: &Context) -> Result<Vec<String>, Failure> {
    let starting = async {
        loop {
            if !context.keeper.valid_now(application, epoch) {
                return Err(failure(
                    "NoClaim",
                    "this region can no longer prove that it holds the claim: nothing is started",
                ));
            }
            match fence::start(&context.client, &application.namespace).await {
                Ok(started) if started.complete() => return Ok(started.unreadable),
                Ok(_) => sleep(Duration::from_millis(500)).await,
                Err(error) => return Err(failure("StartFailed", error)),
            }
        }
    };
    tokio::time::timeout(STARTING, starting)
        .await
        .map_err(|_| failure("StartFailed", "the workloads could not all be started in time"))?
}
