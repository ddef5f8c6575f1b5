//! The points of a vault's applications, read for a person: which there are, and what the newest one records.

use std::pin::pin;

use futures::{StreamExt, stream};

use super::{InspectError, claim, look::Which, recorded::Beginning};
use crate::{
    capture::bundle::{Bundle, Index},
    core::{
        app_key::AppKey,
        point::Point,
        vault_answer::{Applications, InVault, Newest, Recorded},
    },
    vault::{
        Vault,
        catalogue::{CatalogueError, a_day_before},
    },
};

/// How many applications, and how many points of one, are read at a time.
const AT_ONCE: usize = 8;

/// All applications of the vault, each with its newest point that counts.
pub(super) async fn applications(vault: &Vault, region: &str) -> Result<Applications, InspectError> {
    let all = vault.list_applications().await?;
    let found = stream::iter(all).map(|(namespace, name)| application(vault, AppKey { namespace, name }));
    let applications = found.buffered(AT_ONCE).collect().await;
    Ok(Applications { vault_id: vault.id().to_owned(), region: region.to_owned(), applications })
}

async fn application(vault: &Vault, key: AppKey) -> InVault {
    let mut doubts = Vec::new();
    let newest = match newest(vault, &key, &mut doubts, async |point| Ok(Some(point))).await {
        Ok(newest) => newest,
        Err(error) => {
            doubts.push(error.to_string());
            None
        }
    };
    let claim = claim::read(vault.store(), &key).await.unwrap_or_else(|why| {
        doubts.push(why.to_string());
        None
    });
    InVault {
        newest: newest.as_ref().map(Newest::of),
        claim: claim.as_ref().map(claim::seen),
        namespace: key.namespace,
        name: key.name,
        doubts,
    }
}

/// The first of the points, newest first, that is complete, no branch, and of which `wanted` makes something. Why
/// others were passed over is added to `doubts`.
async fn newest<T>(
    vault: &Vault,
    key: &AppKey,
    doubts: &mut Vec<String>,
    wanted: impl AsyncFn(Point) -> Result<Option<T>, CatalogueError>,
) -> Result<Option<T>, CatalogueError> {
    // The head only shortens the way: it names where the newest day of the list begins.
    let latest = vault.read_head(&key.namespace, &key.name).await.ok().flatten().and_then(|(head, _)| head.latest);
    let day = latest.as_deref().and_then(a_day_before);
    let mut end: Option<String> = None;
    for begin in day.map(Some).into_iter().chain([None]) {
        let ids = vault.list_points(&key.namespace, &key.name, begin.as_deref(), end.as_deref()).await?;
        end = ids.last().cloned().or(end);
        let read = stream::iter(ids).map(async |id| {
            let read = vault.read_point(&key.namespace, &key.name, &id).await;
            (id, read)
        });
        let mut read = pin!(read.buffered(AT_ONCE));
        while let Some((id, read)) = read.next().await {
            let judged = match read {
                Ok(point) if point.branch || !point.complete() => Ok(None),
                Ok(point) => wanted(point).await,
                Err(error) => Err(error),
            };
            match judged {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error @ CatalogueError::Store(_)) => return Err(error),
                Err(error) => doubts.push(format!("{id}: {error}")),
            }
        }
    }
    Ok(None)
}

/// A point by its id, of an application of the namespace.
pub(super) async fn find(vault: &Vault, which: &Which, id: &str) -> Result<Point, InspectError> {
    let namespace = &which.namespace;
    let names = match &which.application {
        Some(name) => vec![name.clone()],
        None => vault.store().names(&format!("apps/{namespace}/")).await?,
    };
    for name in &names {
        match vault.read_point(namespace, name, id).await {
            Ok(point) => return Ok(point),
            Err(CatalogueError::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(InspectError::Input(format!("the vault has no point '{id}' of an application in namespace {namespace}")))
}

/// What the newest point that can be read records of the application's own objects.
pub(super) async fn recorded(vault: &Vault, key: &AppKey, region: &str) -> Result<Recorded, InspectError> {
    let mut doubts = Vec::new();
    let found = newest(vault, key, &mut doubts, async |point: Point| {
        let index = index(vault, &point).await?;
        Ok(Some((point, index)))
    });
    let Some((point, index)) = found.await? else {
        let why = if doubts.is_empty() { "it has no complete point".to_owned() } else { doubts.join("; ") };
        return Err(InspectError::Input(format!("nothing of {key} can be brought back: {why}")));
    };
    let claim = claim::legible(vault.store(), key).await?;
    Ok(Recorded {
        region: region.to_owned(),
        point: Newest::of(&point),
        namespace_labels: index.namespace.labels,
        namespace_annotations: index.namespace.annotations,
        protection: index.protection,
        claim: claim.as_ref().map(claim::seen),
    })
}

/// What a point's bundle says about itself. All of it is read, since only the whole tells that it is what was written.
async fn index(vault: &Vault, point: &Point) -> Result<Index, CatalogueError> {
    let (namespace, name, manifest) = (&point.namespace, &point.application, &point.objects.manifest);
    let beginning = vault.read_manifest(namespace, name, manifest, Beginning::default()).await?;
    Bundle::from_bytes(beginning.into_bytes()).index().map_err(|error| CatalogueError::Corrupt {
        key: format!("apps/{namespace}/{name}/manifests/{manifest}"),
        reason: error.to_string(),
    })
}
