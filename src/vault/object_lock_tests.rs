//! Tests of locks and versions against a real server.

use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use crate::api::span::Span;
use crate::core::rewound::Change;
use crate::vault::immutability;
use crate::vault::minio::Minio;
use crate::vault::{Condition, Location, Locked, S3Location, SecretText, Settings};

const LOCKED: [&str; 7] = [
    "apps/shop/db/points/1.json",
    "apps/shop/db/manifests/abc",
    "repos/shop.db/config",
    "repos/shop.db/data/ab/abcd",
    "repos/shop.db/index/abcd",
    "reprise.json",
    "keys/escrow-1.age",
];
const FREE: [&str; 6] = [
    "apps/shop/db/head.json",
    "claims/shop.db.json",
    "regions/eu.json",
    "keys/1.json",
    "apps/shop/db/locks.json",
    "conformance/eu/points/x",
];

#[test]
fn what_is_written_once_is_locked_and_what_changes_is_not() {
    for key in LOCKED {
        assert!(is_locked(key), "{key}");
    }
    for key in FREE {
        assert!(!is_locked(key), "{key}");
    }
}

pub(crate) fn locking(minio: &Minio) -> S3Location {
    let period = Span::from_secs(14 * 86_400);
    S3Location { object_lock: Some(ObjectLock { mode: LockMode::Compliance, period }), ..minio.location() }
}

fn store(location: &S3Location) -> Store {
    let location = Location::S3(location.clone());
    let key = SecretText::new("a key that is long enough for a vault");
    Locked::new(Settings { location, key, limits: None }).unwrap().store().clone()
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn a_bucket_locks_what_recovery_is_made_of_and_nothing_else() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let store = store(&locking(&minio));
    assert!(store.can_lock().await.unwrap());
    for key in LOCKED {
        store.put(key, "content".into()).await.unwrap();
        let left = store.locked_until(key).await.unwrap().expect(key).duration_since(Timestamp::now());
        assert!(
            left > SignedDuration::from_hours(24 * 17) && left < SignedDuration::from_hours(24 * 18),
            "{key}: {left}"
        );
    }
    store.put_if("repos/shop.db/snapshots/1", "x".into(), Condition::Absent).await.unwrap();
    assert!(store.locked_until("repos/shop.db/snapshots/1").await.unwrap().is_some());
    let refused = store.put_if("repos/shop.db/snapshots/1", "y".into(), Condition::Absent).await;
    assert_eq!(refused, Err(StoreError::Lost));
    for key in FREE {
        store.put(key, "content".into()).await.unwrap();
        assert_eq!(store.locked_until(key).await.unwrap(), None, "{key}");
    }
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 40);
    store.lock(LOCKED[0], later).await.unwrap();
    assert_eq!(store.locked_until(LOCKED[0]).await.unwrap().unwrap().as_second(), later.as_second());
    let shorter = store.lock(LOCKED[0], later - SignedDuration::from_hours(24)).await;
    assert!(shorter.is_err(), "a lock is never shortened");
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn an_object_that_a_bucket_was_sent_in_parts_is_locked() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let store = store(&locking(&minio));
    let (sender, mut parts) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..3 {
            sender.send(Ok(Bytes::from(vec![7; 8 << 20]))).await.unwrap();
        }
    });
    store.put_parts("apps/shop/db/manifests/big", 24 << 20, &mut parts).await.unwrap();
    assert!(store.locked_until("apps/shop/db/manifests/big").await.unwrap().is_some());
    assert_eq!(store.find("apps/shop/db/manifests/big").await.unwrap().map(|it| it.bytes), Some(24 << 20));
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn what_a_thief_did_to_a_bucket_is_undone() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let store = store(&locking(&minio));
    for key in LOCKED.iter().chain(&FREE) {
        store.put(key, Bytes::from(format!("content of {key}"))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    store.put(LOCKED[1], "rubbish".into()).await.unwrap();
    let (refused, removed) = minio.remove_all_versions().await;
    // Each locked version, the rubbish among them, whose lock the thief asked for himself.
    assert_eq!((refused, removed), (LOCKED.len() + 1, FREE.len()));
    for key in LOCKED {
        store.delete(key).await.unwrap();
    }
    assert_eq!(store.list("").await.unwrap(), []);
    let told = store.rewind(before, false, false).await.unwrap();
    assert_eq!((told.objects, told.deleted, told.restored), (7, 7, 0));
    assert!(told.first.iter().all(|it| it.change == Change::Deleted));
    assert_eq!(store.list("").await.unwrap(), [], "nothing is done unless it is asked for");
    assert_eq!(store.rewind(before, false, true).await.unwrap().restored, 7);
    for key in LOCKED {
        assert_eq!(store.get(key).await.unwrap().unwrap().bytes, format!("content of {key}"));
        assert!(store.locked_until(key).await.unwrap().is_some(), "{key}");
    }
    let again = store.rewind(before, false, true).await.unwrap();
    assert_eq!((again.objects, again.deleted, again.overwritten, again.restored), (7, 0, 0, 0));
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn locks_in_a_bucket_are_extended_when_a_newer_point_needs_them_and_only_then() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let store = store(&locking(&minio));
    store.put("reprise.json", "{}".into()).await.unwrap();
    let pack = "repos/shop.db/data/ab/abcd";
    store.put(pack, "x".into()).await.unwrap();
    let (now, day) = (Timestamp::now(), SignedDuration::from_hours(24));
    let ledger = "apps/shop/db/locks.json";
    let extend = async |at| immutability::extend(&store, "repos/shop.db", ledger, at).await.unwrap().unwrap();
    let first = extend(now).await;
    assert_eq!(first, store.locked_until(pack).await.unwrap().unwrap());
    assert_eq!(extend(now + day).await, first, "enough is left");
    let second = extend(now + day * 10).await;
    assert_eq!(second, store.locked_until(pack).await.unwrap().unwrap());
    assert!(second >= now + day * 24 && second > first);
    let forged = format!("{{\"{pack}\":{}}}", (now + day * 900).as_second());
    store.put(ledger, forged.into()).await.unwrap();
    assert!(extend(now + day * 40).await >= now + day * 54, "a ledger that lies is found out");
    assert_eq!(immutability::test(&store, "eu", now).await.unwrap(), Some(Vec::new()));
}
