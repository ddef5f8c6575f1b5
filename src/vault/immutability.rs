//! Locks that hold for as long as they are needed: tried out, extended, and read back.
//!
//! What a newer point shares with older ones was locked when it was first written. After each backup all of a repository
//! is locked for the whole period again, as far as less than that is left. What was found is kept in a ledger,
//! `apps/<namespace>/<application>/locks.json`: a note that saves requests, trusted only as far as samples of it hold.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use rand::seq::IndexedRandom;

use super::object_lock::{is_locked, slack};
use super::{PAGE_LIMIT, Store, StoreError};

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// How many entries of a ledger are compared with what the server says.
const SAMPLES: usize = 16;
/// The largest ledger that is read: about five million packs would take more, and are all asked for then.
const LEDGER_LIMIT: u64 = 64 * 1024 * 1024;
/// For how long the object of the test is locked.
const TEST: Duration = Duration::from_mins(1);

/// Until when each object was locked, in seconds since 1970, by its key.
type Ledger = BTreeMap<String, i64>;

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
    let needed = now + lock.period.duration();
    let keys = store.list("keys/").await?.into_iter().map(|entry| entry.key).filter(|key| is_locked(key));
    for key in keys.chain(["reprise.json".to_owned()]) {
        hold(store, &key, needed).await?;
    }
    Ok(Some(wrong))
}

/// Locks an object until `needed` at least, and reads it back.
///
/// # Errors
/// `Other` when the server does not show the lock; any other `StoreError` but `Lost`.
pub async fn hold(store: &Store, key: &str, needed: Timestamp) -> Result<Timestamp, StoreError> {
    let Some(lock) = store.object_lock() else { return Ok(Timestamp::MIN) };
    let enough = |found: &Timestamp| found.as_second() >= needed.as_second();
    if let Some(found) = store.locked_until(key).await?.filter(enough) {
        return Ok(found);
    }
    store.lock(key, needed + slack(lock)).await?;
    let found = store.locked_until(key).await?.filter(enough);
    found.ok_or_else(|| StoreError::Other(format!("the server does not show the lock of `{key}` that it took")))
}

/// Locks all of a repository for the whole period, as far as it is not; `ledger` is the key of the note. Returns until
/// when all of it is locked. `None`: no locks are asked for.
///
/// # Errors
/// Any `StoreError` but `Lost`.
///
/// # Panics
/// Never: the note is plain data.
pub async fn extend(
    store: &Store,
    repository: &str,
    ledger: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let Some(lock) = store.object_lock() else { return Ok(None) };
    let needed = now + lock.period.duration();
    let known = read(store, ledger).await?;
    let (mut held, mut due) = (Ledger::new(), Vec::new());
    let mut after: Option<String> = None;
    let prefix = format!("{repository}/");
    loop {
        let page = store.page(&prefix, after.as_deref(), PAGE_LIMIT).await?;
        for entry in page.iter().filter(|entry| is_locked(&entry.key)) {
            match known.get(&entry.key).filter(|until| **until >= needed.as_second()) {
                Some(until) => drop(held.insert(entry.key.clone(), *until)),
                None => due.push(entry.key.clone()),
            }
        }
        after = page.last().map(|entry| entry.key.clone());
        if page.len() < PAGE_LIMIT {
            break;
        }
    }
    let requests = stream::iter(due).map(async |key| Ok((hold(store, &key, needed).await?.as_second(), key)));
    let found: Vec<(i64, String)> = requests.buffer_unordered(AT_ONCE).try_collect().await?;
    held.extend(found.into_iter().map(|(until, key)| (key, until)));
    if held != known {
        store.put(ledger, Bytes::from(serde_json::to_vec(&held).expect("a ledger is plain data"))).await?;
    }
    let shortest = held.values().min().and_then(|it| Timestamp::from_second(*it).ok());
    Ok(shortest)
}

/// The ledger, as far as it is to be trusted. What cannot be read is as good as none.
async fn read(store: &Store, key: &str) -> Result<Ledger, StoreError> {
    let found = match store.get_up_to(key, LEDGER_LIMIT).await {
        Err(StoreError::TooLarge { .. }) => None,
        found => found?,
    };
    let ledger: Ledger = found.and_then(|it| serde_json::from_slice(&it.bytes).ok()).unwrap_or_default();
    let all: Vec<_> = ledger.iter().map(|(key, until)| (key.clone(), *until)).collect();
    let samples: Vec<_> = all.sample(&mut rand::rng(), SAMPLES).cloned().collect();
    for (key, until) in samples {
        // What was pruned since has no lock to be compared.
        let shown = store.locked_until(&key).await?;
        if shown.is_none_or(|shown| shown.as_second() < until) && store.find(&key).await?.is_some() {
            tracing::warn!(key, "a lock is shorter than was noted: all are asked for");
            return Ok(Ledger::new());
        }
    }
    Ok(ledger)
}
