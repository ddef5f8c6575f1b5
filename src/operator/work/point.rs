//! Work on points: capturing objects, entering the catalogue, sealing it.

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{failure, notes::noted, open};
use crate::{
    api::application::ObjectSettings,
    capture::{collect, select::Selection},
    core::{
        app_key::AppKey,
        point::{Point, is_id},
        work::{Catalogue, Failure, IMPORTED, Outcome},
    },
    operator::{context::Context, stores},
    vault::{Vault, catalogue::CatalogueError, manifest::Content},
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
    let point = &vault.write_linked(point).await.map_err(|error| catalogue_failure(&error))?;
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

/// One small read, as long as the head is the same. When it is another, a list, and the point if that is another too.
pub(super) async fn read_latest(
    name: &str,
    application: &AppKey,
    known: Option<&Catalogue>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    look(&vault, application, known).await.map(Outcome::Latest).map_err(|error| catalogue_failure(&error))
}

async fn look(
    vault: &Vault,
    application: &AppKey,
    known: Option<&Catalogue>,
) -> Result<Option<Box<Catalogue>>, CatalogueError> {
    let (namespace, app) = (&application.namespace, &application.name);
    let Some((head, _)) = vault.read_head(namespace, app).await? else { return Ok(None) };
    if let Some(known) = known.filter(|it| it.version == head.nonce) {
        return Ok(Some(Box::new(known.clone())));
    }
    let before = known.and_then(|it| it.latest.clone());
    let latest = match head.latest {
        None => None,
        Some(id) if before.as_ref().is_some_and(|it| it.0 == id) => before,
        Some(id) => vault.read_point(namespace, app, &id).await.map(|it| Some((it.id, it.consistent_at)))?,
    };
    // No further back than the oldest that is known; its name less a letter sorts right before it.
    let oldest = known.and_then(|it| it.newest.last().filter(|_| it.newest.len() == IMPORTED));
    let begin = oldest.and_then(|it| it.get(..it.len().saturating_sub(1)));
    let mut newest = vault.list_points(namespace, app, begin, None).await?;
    if begin.is_some() && newest.len() < IMPORTED {
        newest = vault.list_points(namespace, app, None, None).await?;
    }
    newest.retain(|it| is_id(it));
    newest.truncate(IMPORTED);
    Ok(Some(Box::new(Catalogue { version: head.nonce, latest, newest })))
}

pub(super) async fn read(name: &str, application: &AppKey, id: &str, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let (namespace, app) = (&application.namespace, &application.name);
    let point = vault.read_point(namespace, app, id).await.map_err(|error| catalogue_failure(&error))?;
    let verified = noted(&vault, application, id).await?;
    Ok(Outcome::PointRead(Box::new(point), verified.map(Box::new)))
}

/// The newest point of each vault. One that cannot be read is told by the copy that is made into it.
pub(super) async fn read_copies(names: &[String], application: &AppKey, context: &Context) -> Outcome {
    let newest = join_all(names.iter().map(|name| async move {
        let latest = newest(name, application, context).await.unwrap_or_else(|failure| {
            tracing::warn!(vault = name, application = %application, "{}", failure.message);
            None
        });
        Some((name.clone(), latest?))
    }));
    Outcome::CopiesRead(newest.await.into_iter().flatten().collect())
}

/// The point that the head names, and the instant of its data.
async fn newest(name: &str, application: &AppKey, context: &Context) -> Result<Option<(String, Timestamp)>, Failure> {
    let (vault, namespace, app) = (open(name, context).await?, &application.namespace, &application.name);
    let head = vault.read_head(namespace, app).await.map_err(|error| catalogue_failure(&error))?;
    let Some(id) = head.and_then(|(head, _)| head.latest) else { return Ok(None) };
    let point = vault.read_point(namespace, app, &id).await.map_err(|error| catalogue_failure(&error))?;
    Ok(Some((point.id, point.consistent_at)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::point::example,
        vault::{
            Store,
            fake::{Fake, Manner},
        },
    };

    fn db() -> AppKey {
        AppKey { namespace: "shop".to_owned(), name: "db".to_owned() }
    }

    fn id(number: u64) -> String {
        format!("0000000001-{number:026}")
    }

    async fn enter(vault: &Vault, number: u64) {
        let point = Point { id: id(number), ..example("shop", "db") };
        vault.write_point(&point).await.unwrap();
        vault.enter_head(&point, 1, "east").await.unwrap();
    }

    #[tokio::test]
    async fn a_standby_sends_one_request_while_nothing_changed_and_never_lists_the_past() {
        let fake = Fake::new(Manner::Sound);
        let vault = Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault");
        assert_eq!(look(&vault, &db(), None).await.unwrap(), None, "there is no catalogue yet");
        vault.seal_head("shop", "db", 1, "east").await.unwrap();
        for number in 0..1_100 {
            fake.put(&format!("apps/shop/db/points/{}.json", id(number)), "{}".into()).unwrap();
        }
        enter(&vault, 1_100).await;
        let first = look(&vault, &db(), None).await.unwrap().unwrap();
        assert_eq!((first.newest.len(), first.newest[0].clone()), (IMPORTED, id(1_100)));
        let spent = async |known: &Catalogue| {
            let before = fake.requests();
            let found = look(&vault, &db(), Some(known)).await.unwrap().unwrap();
            (found, fake.requests() - before)
        };
        assert_eq!(spent(&first).await, (first.clone(), 1));
        enter(&vault, 1_101).await;
        let (second, requests) = spent(&first).await;
        assert_eq!(requests, 3, "the head, one page of names, the point");
        assert_eq!((second.newest[0].clone(), second.newest[19].clone()), (id(1_101), id(1_082)));
        assert_eq!(second.latest.as_ref().map(|it| it.0.clone()), Some(id(1_101)));
    }

    #[tokio::test]
    async fn what_is_no_points_name_is_not_shown_and_the_gone_is_noticed_when_the_head_moves() {
        let fake = Fake::new(Manner::Sound);
        let vault = Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault");
        vault.seal_head("shop", "db", 1, "east").await.unwrap();
        fake.put("apps/shop/db/points/../../evil.json", "{}".into()).unwrap();
        fake.put("apps/shop/db/points/0000000009-x.json", "{}".into()).unwrap();
        for number in 1..=21 {
            enter(&vault, number).await;
        }
        let first = look(&vault, &db(), None).await.unwrap().unwrap();
        assert_eq!((first.newest[0].clone(), first.newest[19].clone()), (id(21), id(2)));
        fake.delete(&format!("apps/shop/db/points/{}.json", id(2))).unwrap();
        vault.seal_head("shop", "db", 2, "west").await.unwrap();
        let second = look(&vault, &db(), Some(&first)).await.unwrap().unwrap();
        assert_eq!((second.newest.len(), second.newest[19].clone()), (20, id(1)), "an older one takes its place");
    }
}
