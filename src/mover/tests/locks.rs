//! Longer locks of what a snapshot needs, in a bucket of a real server.

use std::fs;

use jiff::{SignedDuration, Timestamp};

use super::bucket::with_credentials;
use super::lab::{Lab, noise};
use crate::core::mover_task::Task;
use crate::vault::Location;
use crate::vault::minio::Minio;
use crate::vault::object_lock::tests::locking;

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn what_a_snapshot_needs_in_a_bucket_is_locked_for_longer_and_what_it_does_not_need_is_not() {
    let mut lab = Lab::new();
    let minio = lab.runtime.block_on(Minio::start("http", |_| ()));
    lab.runtime.block_on(minio.make_locked_bucket());
    lab.location = Location::S3(locking(&minio));
    let file = |number: u64| lab.volume().join(format!("file {number}"));
    for number in 0..2 {
        fs::write(file(number), noise(number, 3_000_000)).unwrap();
        lab.run(&lab.backup_task("1"), with_credentials).done();
    }
    fs::remove_file(file(0)).unwrap();
    let snapshot = lab.run(&lab.backup_task("2"), with_credentials).done().snapshot.unwrap();
    let vault = lab.vault();
    let all = lab.runtime.block_on(vault.store().list("repos/shop.db/")).unwrap();
    let day = SignedDuration::from_hours(24);
    let until = Timestamp::now() + day * 100;
    let names = ["shop", "db"].map(str::to_owned);
    let [namespace, application] = names;
    let task = Task::Lock { namespace, application, snapshots: vec![snapshot.clone()], until };
    lab.run(&task, with_credentials).done();
    let (mut longer, mut usual) = (Vec::new(), Vec::new());
    for entry in all {
        let found = lab.runtime.block_on(vault.store().locked_until(&entry.key)).unwrap().expect(&entry.key);
        if found.as_second() >= until.as_second() { longer.push(entry) } else { usual.push(entry) }
    }
    let large = |it: &[crate::vault::Entry]| it.iter().filter(|it| it.bytes > 1_000_000).count();
    assert_eq!((large(&longer), large(&usual)), (1, 1), "{longer:?}\n{usual:?}");
    let of = |kind: &str| longer.iter().filter(|it| it.key.contains(kind)).count();
    assert_eq!((of("/config"), of("/snapshots/"), of("/keys/")), (1, 1, 1));
    assert!(of("/index/") >= 3 && of(&snapshot) == 1);
    assert!(usual.iter().all(|it| !it.key.contains("/index/")), "{usual:?}");
    lab.run(&task, with_credentials).done();
}
