//! The mover over a bucket of a real server.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::lab::{KEY, Lab, noise, portrait};
use crate::core::mover_task::{FAILED, MISCONFIGURED, Report};
use crate::vault::minio::Minio;
use crate::vault::{Location, S3Credentials, S3Location, SecretText, Settings, Vault};

/// A laboratory whose vault is a bucket; the credentials travel in variables of their own.
pub(super) fn lab() -> (Lab, Minio) {
    let mut lab = Lab::new();
    let minio = lab.runtime.block_on(Minio::start("http", |_| ()));
    lab.location = Location::S3(S3Location { credentials: None, ..minio.location() });
    (lab, minio)
}

pub(super) fn with_credentials(command: &mut Command) {
    command.envs([("AWS_ACCESS_KEY_ID", "labadmin"), ("AWS_SECRET_ACCESS_KEY", "labsecret123")]);
}

/// The vault itself, for what a test does to it.
pub(super) async fn vault(lab: &Lab) -> Vault {
    let Location::S3(at) = &lab.location else { panic!("the vault is a bucket") };
    let credentials = S3Credentials {
        access_key_id: "labadmin".to_owned(),
        secret_access_key: SecretText::new("labsecret123".to_owned()),
        session_token: None,
    };
    let location = Location::S3(S3Location { credentials: Some(credentials), ..at.clone() });
    Vault::open(&Settings { location, key: SecretText::new(KEY) }).await.unwrap()
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
