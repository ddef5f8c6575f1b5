//! What a mover makes of its tasks: what it reads, what it leaves out, what it refuses.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::time::{Duration, Instant};

use super::lab::{KEY, Lab, as_nobody, noise, portrait};
use crate::core::mover_task::{CORRUPT, FAILED, MISCONFIGURED, Report, Task, VAULT_KEY};
use crate::mover::check;
use crate::mover::look::Look;

#[test]
fn an_unchanged_file_is_not_read_again() {
    let lab = Lab::new();
    for number in 0..10 {
        fs::write(lab.volume().join(format!("file {number}")), noise(number, 100_000)).unwrap();
    }
    let first = lab.back_up();
    assert_eq!((first.files, first.bytes), (10, 1_000_000));
    assert!(first.added_bytes > 1_000_000);
    fs::write(lab.volume().join("file 3"), noise(77, 100_000)).unwrap();
    // A mover of another region, as after a failover.
    let Task::Backup { namespace, application, source, label, exclude, .. } = lab.backup_task("2") else { panic!() };
    let [host, point] = ["west", "2"].map(str::to_owned);
    let task = Task::Backup { namespace, application, source, host, label, point, exclude };
    let second = lab.run(&task, |_| ()).done();
    assert_eq!((second.files, second.bytes), (10, 1_000_000));
    assert!((100_000..200_000).contains(&second.added_bytes), "{} bytes", second.added_bytes);
    let engine = lab.engine();
    let snapshot = check::snapshot(&engine, &engine.open().unwrap(), second.snapshot.as_ref().unwrap()).unwrap();
    let summary = snapshot.summary.unwrap();
    assert_eq!((summary.files_unmodified, summary.files_changed, summary.files_new), (9, 1, 0));
    assert_eq!(snapshot.hostname, "west");
    assert!(snapshot.tags.contains("point=2") && snapshot.tags.contains("application=db"));
}

#[test]
fn a_file_that_changed_is_read_again_also_when_its_size_and_its_time_say_otherwise() {
    let lab = Lab::new();
    let (written, replaced) = (lab.volume().join("written"), lab.volume().join("replaced"));
    // The other file was there all the time: nothing but its place changes.
    for (name, seed) in [("written", 1), ("replaced", 2), ("other", 3)] {
        fs::write(lab.volume().join(name), noise(seed, 100_000)).unwrap();
    }
    let old = fs::metadata(&written).unwrap().modified().unwrap();
    let set_back = |name: &str| fs::File::open(lab.volume().join(name)).unwrap().set_modified(old).unwrap();
    for name in ["written", "replaced", "other"] {
        set_back(name);
    }
    lab.back_up();
    fs::write(&written, noise(4, 100_000)).unwrap();
    set_back("written");
    fs::rename(lab.volume().join("other"), &replaced).unwrap();
    let report = lab.back_up();
    assert!((100_000..200_000).contains(&report.added_bytes), "{} bytes", report.added_bytes);
    lab.restore(&report);
    for (name, seed) in [("written", 4), ("replaced", 3)] {
        assert!(fs::read(lab.target().join(name)).unwrap() == noise(seed, 100_000), "{name}");
    }
}

#[test]
fn an_unreadable_file_is_counted_and_named() {
    let lab = Lab::new();
    chown(lab.volume(), Some(65532), Some(65532)).unwrap();
    for name in ["open", "shut"] {
        fs::write(lab.volume().join(name), name).unwrap();
    }
    fs::create_dir(lab.volume().join("closed folder")).unwrap();
    fs::write(lab.volume().join("closed folder/inside"), "x").unwrap();
    for name in ["shut", "closed folder"] {
        fs::set_permissions(lab.volume().join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let report = lab.run(&lab.backup_task("1"), as_nobody).done();
    assert_eq!((report.files, report.unreadable), (1, 2), "{report:?}");
    for name in ["shut", "closed folder"] {
        assert!(
            report.unreadable_files.iter().any(|text| text.contains(name) && text.contains("denied")),
            "{report:?}"
        );
    }
    fs::set_permissions(lab.volume().join("shut"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(lab.volume().join("closed folder"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(lab.run(&lab.backup_task("2"), as_nobody).done().unreadable, 0);
}

#[test]
fn the_first_hundred_of_what_can_not_be_read_are_named_in_the_snapshot_however_many_the_report_has_room_for() {
    let lab = Lab::new();
    chown(lab.volume(), Some(65532), Some(65532)).unwrap();
    for number in 100..250 {
        let path = lab.volume().join(format!("a name that is\nsomewhat long, as file {number} of many has it"));
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let report = lab.run(&lab.backup_task("1"), as_nobody).done();
    assert_eq!((report.files, report.unreadable), (0, 150));
    assert!((10..100).contains(&report.unreadable_files.len()), "{}", report.unreadable_files.len());
    let look = Look::open(&lab.vault(), "shop", "db", lab.runtime.handle().clone()).unwrap();
    let named = look.list(report.snapshot.as_ref().unwrap(), "", 10).unwrap().unwrap().unreadable;
    assert_eq!(named.len(), 100);
    assert!(named.iter().all(|it| it.contains("is\\nsomewhat") && it.contains("denied")), "{named:?}");
}

#[test]
fn an_empty_volume_is_reported_as_such() {
    let lab = Lab::new();
    let report = lab.back_up();
    assert_eq!((report.files, report.bytes, report.unreadable), (0, 0, 0));
    lab.restore(&report);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn movers_that_make_one_repository_at_once_all_succeed() {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), noise(1, 2_000_000)).unwrap();
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let movers: Vec<_> = (0..4)
            .map(|number| {
                let lab = &lab;
                scope.spawn(move || lab.run(&lab.backup_task(&number.to_string()), |_| ()).done())
            })
            .collect();
        movers.into_iter().map(|mover| mover.join().unwrap()).collect()
    });
    for report in &reports {
        lab.restore(report);
        assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
    }
    assert!(!lab.stored("keys").is_empty(), "restic finds a key");
}

#[test]
fn another_key_is_refused_before_anything_is_written() {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), "x").unwrap();
    lab.back_up();
    let before = lab.stored("");
    let end = lab.run(&lab.backup_task("2"), |command| {
        command.env(VAULT_KEY, KEY.to_uppercase());
    });
    assert_eq!(end.code, Some(MISCONFIGURED.into()));
    assert!(end.report.error.unwrap().contains("`spec.encryption.secret`"));
    assert_eq!(lab.stored(""), before);
}

#[test]
fn wrong_tasks_are_refused_with_the_field_s_name() {
    let lab = Lab::new();
    let restore = |snapshot: &str| lab.restore_task(snapshot);
    let id = "ab".repeat(32);
    let elsewhere = Task::Restore {
        base: Vec::new(),
        namespace: "shop".to_owned(),
        application: "db".to_owned(),
        snapshot: id.clone(),
        target: lab.folder.path().join("not mounted").to_str().unwrap().to_owned(),
        exclude: vec![],
        paths: Vec::new(),
        point: None,
    };
    for (task, word) in [(restore("latest"), "`snapshot`"), (restore(&id[1..]), "`snapshot`"), (elsewhere, "`target`")]
    {
        let end = lab.run(&task, |_| ());
        assert_eq!(end.code, Some(MISCONFIGURED.into()), "{end:?}");
        assert!(end.report.error.as_ref().unwrap().contains(word), "{end:?}");
    }
    let end = lab.run(&restore(&id), |command| {
        command.env("REPRISE_TASK", "{}");
    });
    assert_eq!(end.code, Some(MISCONFIGURED.into()));
    fs::remove_dir(lab.volume()).unwrap();
    assert!(lab.run(&lab.backup_task("1"), |_| ()).report.error.unwrap().contains("`source`"));
}

#[test]
fn a_snapshot_that_is_not_there_is_lost_data() {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), "x").unwrap();
    lab.back_up();
    let end = lab.run(&lab.restore_task(&"ab".repeat(32)), |_| ());
    assert_eq!((end.code, end.report.corrupt), (Some(CORRUPT.into()), true), "{:?}", end.report);
}

#[test]
fn a_mover_that_is_told_to_stop_says_so() {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), noise(1, 300_000_000)).unwrap();
    let report = lab.folder.path().join("report");
    let mut child = lab.command(&lab.backup_task("1"), &report).spawn().unwrap();
    let packs = lab.folder.path().join("vault/repos/shop.db/data");
    let end = Instant::now() + Duration::from_mins(1);
    while !packs.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    let told = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(FAILED.into()));
    assert!(told.elapsed() < Duration::from_secs(5), "at once");
    let report = Report::from_message(&fs::read_to_string(report).unwrap()).unwrap();
    assert!(report.error.unwrap().contains("stopped"));
    // What it stored is found by the next one.
    let next = lab.back_up();
    assert!(next.snapshot.is_some());
    lab.restore(&next);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}
