//! Work on points: capturing objects, entering the catalogue, sealing it.

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{failure, open};
use crate::{
    api::application::ObjectSettings,
    capture::{collect, select::Selection},
    core::{
        app_key::AppKey,
        point::Point,
        work::{Failure, Outcome},
    },
    operator::{context::Context, stores},
    vault::{catalogue::CatalogueError, manifest::Content},
};

/// How many captures and their uploads go on at once. Each takes a few tens of megabytes of memory, and as much of the
/// temporary directory as its objects have once they are compressed, twice.
static CAPTURES: Semaphore = Semaphore::const_new(4);

pub(super) async fn capture(
    name: &str,
    application: &AppKey,
    objects: &ObjectSettings,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let _turn = CAPTURES.acquire().await.expect("it is never closed");
    let at = Timestamp::now();
    let selection = Selection::new(objects);
    let own = stores::get(&context.stores.applications, Some(&application.namespace), &application.name);
    let selection = match own {
        Some(own) => selection.of(&own),
        None => selection,
    };
    let captured = collect::capture(&context.client, &application.namespace, &selection, collect::Limits::default())
        .await
        .map_err(|error| failure("CaptureFailed", error))?;
    let bundle = &captured.bundle;
    let plain = Content { digest: bundle.digest().to_owned(), bytes: bundle.len(), count: captured.count };
    let objects = vault
        .write_manifest(&application.namespace, &application.name, plain, bundle.reader())
        .await
        .map_err(|error| catalogue_failure(&error))?;
    let left_out = captured.left_out.iter().map(|(what, count)| format!("{what}: {count}")).take(50).collect();
    Ok(Outcome::Captured { objects, at, failed: captured.failed, left_out })
}

pub(super) async fn commit(name: &str, point: &Point, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let (namespace, app, manifest) = (&point.namespace, &point.application, &point.objects.manifest);
    if !vault.has_manifest(namespace, app, manifest).await.map_err(|error| catalogue_failure(&error))? {
        let message = format!("the objects of {} are gone from the vault: the next point reads them again", point.id);
        return Err(Failure { reason: "Absent", message, lasting: true });
    }
    vault.write_point(point).await.map_err(|error| catalogue_failure(&error))?;
    let locked_until = vault.lock_point(point).await.map_err(|error| catalogue_failure(&error.into()))?;
    // A partial or suspicious point is kept for people; the head names only what counts.
    if point.good() || point.branch {
        let entered = if holds(point, context) {
            vault.enter_as_holder(point).await
        } else {
            vault.enter_head(point, point.epoch, &point.region).await
        };
        entered.map_err(|error| catalogue_failure(&error))?;
    }
    Ok(Outcome::Committed { locked_until })
}

/// Whether this region can prove at this moment that it holds the claim under which the point was made.
fn holds(point: &Point, context: &Context) -> bool {
    let key = AppKey { namespace: point.namespace.clone(), name: point.application.clone() };
    let view = context.keeper.view(&key);
    !point.branch && view.is_some_and(|it| it.mine && it.valid && it.epoch == point.epoch)
}

pub(super) async fn read_head(name: &str, application: &AppKey, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let head =
        vault.read_head(&application.namespace, &application.name).await.map_err(|error| catalogue_failure(&error))?;
    Ok(Outcome::HeadRead(head.map(|(head, _)| head.epoch)))
}

/// One small read, and another when there is a point that is not known yet.
pub(super) async fn read_latest(
    name: &str,
    application: &AppKey,
    known: Option<&str>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (vault, namespace, app) = (open(name, context).await?, &application.namespace, &application.name);
    let head = vault.read_head(namespace, app).await.map_err(|error| catalogue_failure(&error))?;
    let Some(id) = head.and_then(|(head, _)| head.latest).filter(|id| Some(id.as_str()) != known) else {
        return Ok(Outcome::Latest(None));
    };
    let point = vault.read_point(namespace, app, &id).await.map_err(|error| catalogue_failure(&error))?;
    Ok(Outcome::Latest(Some((point.id, point.consistent_at))))
}

pub(super) async fn read(name: &str, application: &AppKey, id: &str, context: &Context) -> Result<Outcome, Failure> {
    let (vault, namespace, app) = (open(name, context).await?, &application.namespace, &application.name);
    let point = vault.read_point(namespace, app, id).await.map_err(|error| catalogue_failure(&error))?;
    Ok(Outcome::PointRead(Box::new(point)))
}

pub(super) async fn seal(name: &str, application: &AppKey, epoch: u64, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let head = vault
        .seal_head(&application.namespace, &application.name, epoch, &context.region)
        .await
        .map_err(|error| catalogue_failure(&error))?;
    Ok(Outcome::Sealed(head))
}

/// How the catalogue's error is told. That it is sealed by another does not pass.
pub(super) fn catalogue_failure(error: &CatalogueError) -> Failure {
    let (reason, lasting) = match error {
        CatalogueError::Store(_) => ("StoreFailed", false),
        CatalogueError::Sealed { .. } => ("Sealed", true),
        CatalogueError::Unsealed => ("Unsealed", false),
        CatalogueError::Absent { .. } => ("Absent", false),
        CatalogueError::Corrupt { .. } => ("Corrupt", true),
        CatalogueError::Format { .. } => ("FormatUnknown", true),
        CatalogueError::Exists { .. } => ("Exists", true),
        CatalogueError::Contended => ("Contended", false),
        CatalogueError::TooLarge { .. } => ("TooLarge", true),
        CatalogueError::Local { .. } => ("TemporaryDirectory", false),
    };
    Failure { reason, message: error.to_string(), lasting }
}
