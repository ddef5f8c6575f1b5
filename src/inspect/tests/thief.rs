//! A thief with the operator's credentials, and a real server: what he can destroy, and what comes back.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::vault::{
    Condition, Location, Locked, SecretText, Settings, minio::Minio, object_lock::tests::locking, versions::Rewind,
};

const KEY: &str = "a key that is long enough for a vault";

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
async fn of_a_bucket_that_a_thief_emptied_every_point_comes_back_and_the_application_with_it() {
    let minio = Minio::start("http", |_| ()).await;
    minio.make_locked_bucket().await;
    let location = Location::S3(locking(&minio));
    let open =
        || Locked::new(Settings { location: location.clone(), key: SecretText::new(KEY), limits: None }).unwrap();
    let vault = open().unlock().await.unwrap();
    vault.seal_head("shop", "db", 4, "west").await.unwrap();
    let mut points = Vec::new();
    for minute in 1..4 {
        let point = write(&vault, 4, minute, false).await;
        vault.lock_point(&point).await.unwrap().expect("it is locked");
        vault.enter_head(&point, 4, "west").await.unwrap();
        points.push(point);
    }
    let claim = key().claim_object();
    vault.store().put_if(&claim, Bytes::from_static(b"{}"), Condition::Absent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(1100)).await;

    let newest = format!("apps/shop/db/points/{}.json", points[2].id);
    vault.store().put(&newest, Bytes::from_static(b"rubbish")).await.unwrap();
    let (refused, removed) = minio.remove_all_versions().await;
    assert!(refused > 0 && removed > 0, "{refused} {removed}");
    for entry in vault.store().list("").await.unwrap() {
        vault.store().delete(&entry.key).await.unwrap();
    }
    assert_eq!(vault.store().list("").await.unwrap(), []);

    // A new operator comes first, and takes it for a new vault.
    let made = open().unlock().await.unwrap();
    assert_ne!(made.id(), vault.id());

    let locked = open();
    let to = Rewind { at: before, key: locked.key().id(), all_keys: false, apply: true };
    let told = locked.store().rewind(&to).await.unwrap();
    assert_eq!((told.deleted, told.restored, told.overwritten), (told.objects - 2, told.objects, 2));
    let back = locked.unlock().await.unwrap();
    assert_eq!(back.id(), vault.id());
    let vault = back;
    let depth = check::Depth { points: 1000, repair: true, read: false, accept_missing: false };
    let report = check::check(&vault, &[], &depth).await.unwrap();
    assert_eq!(report.applications[0].repaired.len(), 1, "the head, which cannot be locked");
    let listed = points::applications(&vault, "west").await.unwrap();
    let newest = listed.applications[0].newest.as_ref().unwrap();
    assert_eq!((&newest.id, listed.applications[0].claim.as_ref()), (&points[2].id, None));
    let recorded = points::recorded(&vault, &key(), "west").await.unwrap();
    let watching = |_: &Claim| (Duration::from_millis(20), Duration::from_millis(5));
    let made = claim::renew(&vault, &key(), "west", recorded.protection.as_ref(), watching).await.unwrap();
    assert_eq!((made.released, made.epoch), (true, 5));
    for point in &points {
        assert_eq!(vault.read_point("shop", "db", &point.id).await.as_ref(), Ok(point));
        assert!(vault.lock_point(point).await.unwrap().is_some(), "and it is locked again");
    }
}
