//! Tests of locks and versions against a real server.

use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;

use super::*;
use crate::api::span::Span;
use crate::api::vault::LockMode;
use crate::core::rewound::Change;
use crate::vault::immutability::{self, Step};
use crate::vault::manifest::Content;
use crate::vault::minio::Minio;
use crate::vault::versions::Rewind;
use crate::vault::{Condition, Location, Locked, S3Location, SecretText, Settings};

const LOCKED: [&str; 8] = [
    "apps/shop/db/points/1.json",
    "apps/shop/db/manifests/abc",
    "repos/shop.db/config",
    "repos/shop.db/data/ab/abcd",
    "repos/shop.db/index/abcd",
    "reprise.json",
    "keys/escrow-1.age",
    "keys/1.json",
];
const FREE: [&str; 5] = [
    "apps/shop/db/head.json",
    "claims/shop.db.json",
    "regions/eu.json",
    "apps/shop/db/prune.json",
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
    let lock =
        ObjectLock { mode: LockMode::Compliance, period, daily: None, weekly: None, monthly: None, yearly: None };
    S3Location { object_lock: Some(lock), ..minio.location() }
}

fn open(location: &S3Location) -> Locked {
    let location = Location::S3(location.clone());
    let key = SecretText::new("a key that is long enough for a vault");
    Locked::new(Settings { location, key, limits: None }).unwrap()
}

fn store(location: &S3Location) -> Store {
    open(location).store().clone()
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
            left > SignedDuration::from_hours(24 * 20) && left <= SignedDuration::from_hours(24 * 21),
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
    let wanted = Rewind { at: before, key: "2".into(), all_keys: false, apply: false };
    let told = store.rewind(&wanted).await.unwrap();
    assert_eq!((told.objects, told.deleted, told.restored), (7, 7, 0));
    assert!(told.first.iter().all(|it| it.change == Change::Deleted));
    assert_eq!(store.list("").await.unwrap(), [], "nothing is done unless it is asked for");
    let wanted = Rewind { apply: true, ..wanted };
    assert_eq!(store.rewind(&wanted).await.unwrap().restored, 7);
    for key in &LOCKED[..7] {
        assert_eq!(store.get(key).await.unwrap().unwrap().bytes, format!("content of {key}"));
        assert!(store.locked_until(key).await.unwrap().is_some(), "{key}");
    }
    let again = store.rewind(&wanted).await.unwrap();
    assert_eq!((again.objects, again.deleted, again.overwritten, again.restored), (7, 0, 0, 0));
    assert_eq!(store.get("keys/1.json").await.unwrap(), None, "a key that may have been retired stays away");
    for (key, all_keys, restored) in [("1", false, 1), ("2", true, 0)] {
        let wanted = Rewind { key: key.into(), all_keys, ..wanted.clone() };
        assert_eq!(store.rewind(&wanted).await.unwrap().restored, restored);
    }
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn locks_in_a_bucket_are_extended_in_rounds_as_far_as_they_are_short() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let store = store(&locking(&minio));
    for key in LOCKED {
        store.put(key, "content".into()).await.unwrap();
    }
    let of_app = &LOCKED[..5];
    let (now, day) = (Timestamp::now(), SignedDuration::from_hours(24));
    let until = async |key: &str| store.locked_until(key).await.unwrap().unwrap();
    let before = until(of_app[0]).await;
    let round = async |began, after| immutability::go_on(&store, ("shop", "db"), began, after).await.unwrap();
    assert_eq!(round(now, None).await, Step { after: None, objects: 5 });
    assert_eq!(until(of_app[0]).await, before, "enough is left");
    // Continued behind the points, the round looks at the repository alone.
    assert_eq!(round(now + day * 10, Some("apps/shop/db/points/1.json")).await.objects, 3);
    assert_eq!(until(of_app[0]).await, before);
    for key in &of_app[2..] {
        assert!(until(key).await >= now + day * 25, "{key}");
    }
    round(now + day * 10, None).await;
    assert!(until(of_app[0]).await >= now + day * 25);
    assert_eq!(immutability::test(&store, "eu", now + day * 10).await.unwrap(), Some(Vec::new()));
    for key in &LOCKED[5..] {
        assert!(until(key).await >= now + day * 25, "{key}");
    }
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn a_bucket_reads_back_until_when_a_point_is_locked_and_says_so_only_of_what_is_there() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let vault = open(&locking(&minio)).unlock().await.unwrap();
    let manifest = vault.write_manifest("shop", "db", Content::of(b"objects", 1), &b"objects"[..]).await.unwrap();
    let mut point = crate::core::point::example("shop", "db");
    point.objects.manifest = manifest.manifest;
    point.created_at = Timestamp::now();
    vault.write_point(&point).await.unwrap();
    let until = vault.lock_point(&point).await.unwrap().unwrap();
    assert!(until >= point.created_at + SignedDuration::from_hours(24 * 21) - SignedDuration::from_secs(1));
    point.objects.manifest = "00".into();
    assert_eq!(vault.lock_point(&point).await.unwrap(), None);
}
