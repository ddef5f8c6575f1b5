//! The mover over a bucket of a real server.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lab::{Lab, noise, portrait};
use crate::core::mover_task::{AZURE_CREDENTIALS, FAILED, MISCONFIGURED, Report};
use crate::vault::Location;
use crate::vault::azurite::{ACCOUNT_KEY, Azurite};
use crate::vault::minio::Minio;

/// A laboratory whose vault is a bucket; to processes the credentials travel in variables of their own.
pub(super) fn lab() -> (Lab, Minio) {
    let mut lab = Lab::new();
    let minio = lab.runtime.block_on(Minio::start("http", |_| ()));
    lab.location = Location::S3(minio.location());
    (lab, minio)
}

pub(super) fn with_credentials(command: &mut Command) {
    command.envs([("AWS_ACCESS_KEY_ID", "labadmin"), ("AWS_SECRET_ACCESS_KEY", "labsecret123")]);
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_volume_comes_back_from_a_bucket() {
    let (lab, _minio) = lab();
    for number in 0..300 {
        fs::write(lab.volume().join(format!("file {number}")), noise(number, 200_000)).unwrap();
    }
    let backup = lab.run(&lab.backup_task("1"), with_credentials).done();
    let again = lab.run(&lab.backup_task("2"), with_credentials).done();
    assert!(again.added_bytes < 100_000, "{} bytes", again.added_bytes);
    let restore = lab.restore_task(backup.snapshot.as_ref().unwrap());
    lab.run(&restore, with_credentials).done();
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
    let wrong = lab.run(&restore, |command| {
        command.envs([("AWS_ACCESS_KEY_ID", "labadmin"), ("AWS_SECRET_ACCESS_KEY", "wrong")]);
    });
    assert_eq!(wrong.code, Some(MISCONFIGURED.into()));
    assert!(wrong.report.error.unwrap().contains("`secretAccessKey`"));
}

#[test]
#[ignore = "needs azurite: REPRISE_TEST_AZURITE=path cargo test --lib azurite -- --ignored"]
fn a_volume_comes_back_from_a_container_of_azurite() {
    let mut lab = Lab::new();
    let azurite = lab.runtime.block_on(Azurite::start());
    lab.location = Location::Azure(azurite.location());
    for number in 0..300 {
        fs::write(lab.volume().join(format!("file {number}")), noise(number, 100_000)).unwrap();
    }
    let with_key = |key: &'static str| {
        move |command: &mut Command| {
            command.env(AZURE_CREDENTIALS[0].0, key);
        }
    };
    let backup = lab.run(&lab.backup_task("1"), with_key(ACCOUNT_KEY)).done();
    let again = lab.run(&lab.backup_task("2"), with_key(ACCOUNT_KEY)).done();
    assert!(again.added_bytes < 100_000, "{} bytes", again.added_bytes);
    let restore = lab.restore_task(backup.snapshot.as_ref().unwrap());
    lab.run(&restore, with_key(ACCOUNT_KEY)).done();
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
    for (key, word) in [("d3Jvbmc=", "`accountKey`"), ("", "accountKey, or sasToken")] {
        let wrong = lab.run(&restore, with_key(key));
        assert_eq!(wrong.code, Some(MISCONFIGURED.into()));
        assert!(wrong.report.error.as_ref().unwrap().contains(word), "{:?}", wrong.report);
    }
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_limited_backup_and_restore_over_a_bucket_take_no_less_than_the_limit_says() {
    let (mut lab, _minio) = lab();
    lab.limits = Some(json!({"upload": "4Mi", "download": "8Mi"}));
    fs::write(lab.volume().join("file"), noise(1, 32 << 20)).unwrap();
    let begin = Instant::now();
    let backup = lab.run(&lab.backup_task("1"), with_credentials).done();
    // All packs but the first are paid for: about 24 of 32 MiB at 4 MiB/s.
    let stored = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    lab.run(&lab.restore_task(backup.snapshot.as_ref().unwrap()), with_credentials).done();
    let restored = begin.elapsed().as_secs_f64();
    println!("32 MiB: stored in {stored:.1} s at 4 MiB/s, restored in {restored:.1} s at 8 MiB/s");
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
    // A busy machine takes longer; the limit is that it takes no less.
    assert!(stored > 5.0 && restored > 2.0, "{stored}, {restored}");
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_server_that_dies_fails_backup_and_restore_without_calling_it_corruption() {
    for restore in [false, true] {
        let (lab, mut minio) = lab();
        fs::write(lab.volume().join("file"), noise(1, 800_000_000)).unwrap();
        let task = if restore {
            let backup = lab.run(&lab.backup_task("1"), with_credentials).done();
            lab.restore_task(backup.snapshot.as_ref().unwrap())
        } else {
            lab.backup_task("1")
        };
        let path = lab.folder.path().join("report");
        let mut command = lab.command(&task, &path);
        with_credentials(&mut command);
        let mut child = command.spawn().unwrap();
        let begun = |lab: &Lab| if restore { lab.target().join("file").exists() } else { has_data(&minio) };
        let end = Instant::now() + Duration::from_mins(1);
        while !begun(&lab) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        minio.child.kill().unwrap();
        minio.child.wait().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(FAILED.into()), "restore: {restore}");
        let report = Report::from_message(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(report.error.as_ref().unwrap().contains("refuses connections"), "{report:?}");
        assert!(!report.corrupt && report.snapshot.is_none());
    }
}

fn has_data(minio: &Minio) -> bool {
    minio.folder.path().join("data/bucket/some/prefix/repos/shop.db/data").exists()
}
