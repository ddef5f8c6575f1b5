//! Points that are copied into another vault, with another key: over directories, and over buckets of real servers.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustic_core::FileType;

use super::bucket::{self, with_credentials};
use super::lab::{Lab, noise, portrait};
use super::prune::enter;
use crate::core::mover_task::{CORRUPT, TO, Task};
use crate::core::point::Point;

fn copy_task(point: &Point) -> Task {
    Task::Copy { namespace: "shop".into(), application: "db".into(), point: point.id.clone() }
}

/// A vault with a key of its own.
fn other(lab: Lab) -> Lab {
    Lab { key: "another key that is long enough for a vault".to_owned(), ..lab }
}

fn copy(from: &Lab, to: &Lab, point: &Point, change: impl FnOnce(&mut Command)) -> super::lab::End {
    from.run(&copy_task(point), |command| {
        to.as_target(command);
        change(command);
    })
}

/// The point as the copy has it, whole: what it names is there to the last byte, and comes back as the volume is.
fn assert_whole(from: &Lab, to: &Lab, point: &Point, change: impl Fn(&mut Command) + Copy) -> Point {
    let vault = to.vault();
    let copy = to.runtime.block_on(vault.read_point("shop", "db", &point.id)).unwrap();
    assert_ne!(copy.volumes[0].snapshot, point.volumes[0].snapshot);
    // The chain is one of that vault's own.
    let like = |it: &Point| Point { volumes: vec![], objects: point.objects.clone(), previous: None, ..it.clone() };
    assert_eq!(like(&copy), like(point), "all else is the same");
    let objects = |lab: &Lab, of: &Point| {
        let read = lab.vault();
        lab.runtime.block_on(read.read_manifest("shop", "db", &of.objects.manifest, Vec::new())).unwrap()
    };
    assert_eq!(objects(to, &copy), objects(from, point));
    let (head, _) = to.runtime.block_on(vault.read_head("shop", "db")).unwrap().unwrap();
    assert_eq!((head.latest.as_deref(), head.epoch), (Some(point.id.as_str()), point.epoch));
    let snapshots = vec![copy.volumes[0].snapshot.clone()];
    let verify = Task::Verify { namespace: "shop".into(), application: "db".into(), snapshots, read_percent: 100 };
    to.run(&verify, change).done();
    to.run(&to.restore_task(&copy.volumes[0].snapshot), change).done();
    assert_eq!(portrait(&to.target()), portrait(&from.volume()));
    copy
}

fn write(lab: &Lab, files: u64, size: usize) {
    for number in 0..files {
        let folder = lab.volume().join(format!("folder {}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("file {number}")), noise(number + 1, size)).unwrap();
    }
}

/// What is noted as damaged of a point.
fn noted(lab: &Lab, point: &Point) -> Option<String> {
    lab.runtime.block_on(lab.vault().read_verified("shop", "db", &point.id)).unwrap().and_then(|it| it.damage())
}

#[test]
fn a_point_is_copied_into_another_vault_and_the_next_one_costs_what_changed() {
    let (from, to) = (Lab::new(), other(Lab::new()));
    write(&from, 40, 200_000);
    let first = enter(&from, 1, &from.back_up());
    let report = copy(&from, &to, &first, |_| ()).done();
    assert_eq!((report.files, report.bytes), (40, 8_000_000));
    assert!(report.added_bytes > 8_000_000, "{report:?}");
    assert_whole(&from, &to, &first, |_| ());
    assert_eq!(copy(&from, &to, &first, |_| ()).done().added_bytes, 0, "it is there");
    fs::write(from.volume().join("folder 3/file 3"), noise(99, 200_000)).unwrap();
    let second = enter(&from, 2, &from.back_up());
    let report = copy(&from, &to, &second, |_| ()).done();
    assert!((200_000..300_000).contains(&report.added_bytes), "{report:?}");
    let copied = assert_whole(&from, &to, &second, |_| ());
    // An older one that comes late does not become the newest.
    let back = copy(&from, &to, &first, |_| ()).done();
    assert_eq!(back.added_bytes, 0);
    let (head, _) = to.runtime.block_on(to.vault().read_head("shop", "db")).unwrap().unwrap();
    assert_eq!(head.latest, Some(copied.id));
}

#[test]
fn a_vault_that_lost_data_is_told_and_takes_points_again_once_it_was_emptied() {
    let (from, to) = (Lab::new(), other(Lab::new()));
    write(&from, 20, 100_000);
    let first = enter(&from, 1, &from.back_up());
    copy(&from, &to, &first, |_| ()).done();
    fs::remove_file(&to.stored("data")[0]).unwrap();
    let second = enter(&from, 2, &from.back_up());
    let end = copy(&from, &to, &second, |_| ());
    assert_eq!((end.code, end.report.corrupt), (Some(CORRUPT.into()), true), "{:?}", end.report);
    assert_eq!(noted(&from, &second), None, "the point is whole");
    let why = end.report.error.unwrap();
    assert!(why.contains("remove `apps/shop/db` and `repos/shop.db`"), "{why}");
    for folder in ["apps/shop/db", "repos/shop.db"] {
        fs::remove_dir_all(to.folder.path().join("vault").join(folder)).unwrap();
    }
    copy(&from, &to, &second, |_| ()).done();
    assert_whole(&from, &to, &second, |_| ());
}

#[test]
fn data_that_is_damaged_in_the_first_vault_is_not_copied_and_told() {
    let (from, to) = (Lab::new(), other(Lab::new()));
    write(&from, 20, 100_000);
    let point = enter(&from, 1, &from.back_up());
    let pack = from.stored("data").into_iter().max_by_key(|it| it.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let end = copy(&from, &to, &point, |_| ());
    assert_eq!((end.code, end.report.corrupt), (Some(CORRUPT.into()), true), "{:?}", end.report);
    assert!(noted(&from, &point).is_some(), "it is written down for whoever chooses a point");
    let (vault, there) = (to.vault(), to.engine());
    assert!(to.runtime.block_on(vault.read_point("shop", "db", &point.id)).is_err());
    assert_eq!(there.backend.files(FileType::Snapshot).unwrap().len(), 0);
}

#[test]
fn a_vault_is_not_copied_into_itself() {
    let lab = Lab::new();
    let point = enter(&lab, 1, &lab.back_up());
    let end = copy(&lab, &lab, &point, |_| ());
    assert!(end.report.error.as_ref().unwrap().contains("another"), "{:?}", end.report);
}

fn to_bucket(command: &mut Command) {
    for (name, value) in [("AWS_ACCESS_KEY_ID", "labadmin"), ("AWS_SECRET_ACCESS_KEY", "labsecret123")] {
        command.env(format!("{TO}{name}"), value);
    }
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_point_is_copied_from_a_bucket_to_a_bucket_of_another_server() {
    let (from, _one) = bucket::lab();
    let (to, _other) = bucket::lab();
    let to = other(to);
    write(&from, 200, 200_000);
    let report = from.run(&from.backup_task("1"), with_credentials).done();
    let point = enter(&from, 1, &report);
    let both = |command: &mut Command| {
        with_credentials(command);
        to_bucket(command);
    };
    let begin = Instant::now();
    let report = copy(&from, &to, &point, both).done();
    println!("{} bytes copied in {:.1} s", report.added_bytes, begin.elapsed().as_secs_f64());
    assert_whole(&from, &to, &point, with_credentials);
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_copy_from_a_bucket_that_is_killed_goes_on_where_it_was() {
    let (from, _minio) = bucket::lab();
    let to = other(Lab::new());
    fs::write(from.volume().join("file"), noise(1, 400_000_000)).unwrap();
    let report = from.run(&from.backup_task("1"), with_credentials).done();
    let point = enter(&from, 1, &report);
    let path = from.folder.path().join("report");
    let mut command = from.command(&copy_task(&point), &path);
    to.as_target(&mut command);
    with_credentials(&mut command);
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_mins(1);
    let index = to.folder.path().join("vault/repos/shop.db/index");
    let named = || fs::read_dir(&index).is_ok_and(|mut it| it.next().is_some());
    while !named() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(to.runtime.block_on(to.vault().read_point("shop", "db", &point.id)).is_err(), "half of it is none");
    let report = copy(&from, &to, &point, with_credentials).done();
    println!("{} of 400000000 bytes were left to copy", report.added_bytes);
    assert!(report.added_bytes < 350_000_000, "{report:?}");
    assert_whole(&from, &to, &point, |_| ());
}
