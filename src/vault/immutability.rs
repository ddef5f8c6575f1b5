//! Locks that hold for as long as they are needed: tried out, extended, and read back.
//!
//! What was written once and is kept for longer than it was locked is extended in rounds over all of an application's
//! objects. A round goes in steps of limited length, and may be continued by any process: nothing is known but the last
//! key. When rounds are due is `core::locks`' and the application's to say.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio::time::Instant;

use super::catalogue::{folder, point_key};
use super::manifest::manifest_key;
use super::object_lock::is_locked;
use super::repository;
use super::{PAGE_LIMIT, Store, StoreError, Vault};
use crate::core::locks::{Asked, of_point, of_round, of_vault};
use crate::core::point::Point;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// For how long the object of the test is locked.
const TEST: Duration = Duration::from_mins(1);
/// A step begins no further page after this time.
const STEP: Duration = Duration::from_mins(1);

/// Tries out whether locks hold, and extends those of what belongs to no application. `None`: none are asked for.
/// Otherwise what is wrong, or nothing.
///
/// # Errors
/// Any `StoreError` but `Lost`.
pub async fn test(store: &Store, region: &str, now: Timestamp) -> Result<Option<Vec<String>>, StoreError> {
    let Some(lock) = store.object_lock() else { return Ok(None) };
    if !store.can_lock().await? {
        return Ok(Some(vec!["the bucket was made without Object Lock: make one with it".to_owned()]));
    }
    let mut wrong = Vec::new();
    let key = format!("conformance/{region}/lock");
    store.put(&key, Bytes::from_static(b"locked for a minute")).await?;
    let until = now + TEST;
    store.lock(&key, until).await?;
    if store.locked_until(&key).await?.is_none_or(|found| found.as_second() < until.as_second()) {
        wrong.push("the server takes a lock, and does not show it when it is read back".to_owned());
    }
    let asked = of_vault(lock.period, now);
    let keys = store.list("keys/").await?.into_iter().map(|entry| entry.key).filter(|key| is_locked(key));
    for key in keys.chain(["reprise.json".to_owned()]) {
        hold(store, &key, asked).await?;
    }
    Ok(Some(wrong))
}

/// Locks an object as asked, and reads it back: until when it is locked. `None`: it is not there.
///
/// # Errors
/// `Other` when the server does not show the lock; any other `StoreError` but `Lost`.
pub async fn hold(store: &Store, key: &str, asked: Asked) -> Result<Option<Timestamp>, StoreError> {
    let enough = |found: &Timestamp| found.as_second() >= asked.enough.as_second();
    if let Some(found) = store.locked_until(key).await?.filter(enough) {
        return Ok(Some(found));
    }
    if !store.lock(key, asked.until).await? {
        return Ok(None);
    }
    match store.locked_until(key).await?.filter(enough) {
        Some(found) => Ok(Some(found)),
        // It may have been deleted since.
        None if store.find(key).await?.is_none() => Ok(None),
        None => Err(StoreError::Other(format!("the server does not show the lock of `{key}` that it took"))),
    }
}

async fn hold_all(store: &Store, keys: Vec<String>, asked: Asked) -> Result<Vec<Option<Timestamp>>, StoreError> {
    let held = stream::iter(keys).map(async |key| hold(store, &key, asked).await);
    held.buffer_unordered(AT_ONCE).try_collect().await
}

impl Vault {
    /// Locks a point that was written, and what it names by itself: its objects, and the lists of its files. Reads all of
    /// it back: until when the shortest of these locks holds. `None`: no locks are asked for, or something is not there.
    /// The packs are not looked at: they were locked when they were written, and are looked at in rounds.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost`.
    pub async fn lock_point(&self, point: &Point) -> Result<Option<Timestamp>, StoreError> {
        let Some(lock) = self.store().object_lock() else { return Ok(None) };
        let asked = of_point(lock.period, point.created_at);
        let (namespace, application) = (point.namespace.as_str(), point.application.as_str());
        let repository = repository::prefix(namespace, application);
        let mut keys: BTreeSet<_> =
            point.snapshots().map(|(_, snapshot)| format!("{repository}/snapshots/{snapshot}")).collect();
        keys.insert(point_key(namespace, application, &point.id));
        keys.insert(manifest_key(namespace, application, &point.objects.manifest));
        let found = hold_all(self.store(), keys.into_iter().collect(), asked).await?;
        Ok(found.into_iter().collect::<Option<Vec<_>>>().and_then(|it| it.into_iter().min()))
    }
}

/// How far a round is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The last key that was looked at. `None`: there are no more.
    pub after: Option<String>,
    /// How many objects were looked at in this step.
    pub objects: u64,
}

/// Goes on with a round over an application's objects that began then, for about a minute. What is named `after` was
/// looked at by earlier steps. Without locks there is nothing to do.
///
/// # Errors
/// Any `StoreError` but `Lost`.
pub async fn go_on(
    store: &Store,
    (namespace, application): (&str, &str),
    began: Timestamp,
    after: Option<&str>,
) -> Result<Step, StoreError> {
    let mut step = Step::default();
    let Some(lock) = store.object_lock() else { return Ok(step) };
    let (asked, end) = (of_round(lock.period, began), Instant::now() + STEP);
    let folder = folder(namespace, application);
    let repository = repository::prefix(namespace, application);
    // In the order of their names, so that one key tells how far it is.
    for prefix in [format!("{folder}/manifests/"), format!("{folder}/points/"), format!("{repository}/")] {
        let last = after.filter(|after| *after > prefix.as_str());
        if last.is_some_and(|last| !last.starts_with(&prefix)) {
            continue;
        }
        let mut last = last.map(ToOwned::to_owned);
        loop {
            let page = store.page(&prefix, last.as_deref(), PAGE_LIMIT).await?;
            let keys: Vec<_> = page.iter().filter(|it| is_locked(&it.key)).map(|it| it.key.clone()).collect();
            step.objects += keys.len() as u64;
            hold_all(store, keys, asked).await?;
            last = page.last().map(|entry| entry.key.clone());
            if page.len() < PAGE_LIMIT {
                break;
            }
            if Instant::now() >= end {
                return Ok(Step { after: last, ..step });
            }
        }
    }
    Ok(step)
}
