//! A restore into what earlier restores left: what is the same is not looked at, and the end is the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::lab::{Lab, noise, portrait};
use crate::core::mover_task::{Report, Task};

fn write(folder: &Path, name: &str, seed: u64) {
    fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    fs::write(folder.join(name), noise(seed, 50_000)).unwrap();
}

fn filled() -> Lab {
    let lab = Lab::new();
    for number in 0..8 {
        write(&lab.volume(), &format!("still/{number}"), number);
        write(&lab.volume(), &format!("busy/{number}"), 100 + number);
    }
    symlink("still", lab.volume().join("link")).unwrap();
    lab
}

fn id(report: &Report) -> String {
    report.snapshot.clone().unwrap()
}

fn restore_onto(lab: &Lab, to: &Report, base: &[&Report]) -> Report {
    let Task::Restore { namespace, application, snapshot, target, exclude, .. } = lab.restore_task(&id(to)) else {
        panic!()
    };
    let base = base.iter().map(|it| id(it)).collect();
    lab.run(
        &Task::Restore { namespace, application, snapshot, target, exclude, base, paths: vec![], point: None },
        |_| (),
    )
    .done()
}

fn set_time(lab: &Lab, name: &str) {
    let time = fs::metadata(lab.volume().join(name)).unwrap().modified().unwrap();
    fs::File::open(lab.target().join(name)).unwrap().set_modified(time).unwrap();
}

/// The volume moves on: a file changes, one goes, one comes, one becomes a directory.
fn move_on(lab: &Lab) -> Report {
    write(&lab.volume(), "busy/1", 201);
    fs::remove_file(lab.volume().join("busy/2")).unwrap();
    write(&lab.volume(), "busy/new", 202);
    fs::remove_file(lab.volume().join("busy/3")).unwrap();
    write(&lab.volume(), "busy/3/in it", 203);
    lab.back_up()
}

#[test]
fn what_is_the_same_in_both_snapshots_is_not_looked_at() {
    let lab = filled();
    let first = lab.back_up();
    lab.restore(&first);
    let second = move_on(&lab);
    // What a restore must not see: it would be mended. By size and time it is the same.
    let other = noise(999, 50_000);
    for name in ["still/0", "busy/0"] {
        fs::write(lab.target().join(name), &other).unwrap();
        set_time(&lab, name);
    }
    let report = restore_onto(&lab, &second, &[&first]);
    assert_eq!(report.added_bytes, 150_000, "the three new contents");
    for name in ["still/0", "busy/0"] {
        assert!(fs::read(lab.target().join(name)).unwrap() == other, "{name}");
        fs::copy(lab.volume().join(name), lab.target().join(name)).unwrap();
        set_time(&lab, name);
    }
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn a_restore_that_was_broken_off_is_a_base_as_well() {
    let lab = filled();
    let first = lab.back_up();
    lab.restore(&first);
    let second = move_on(&lab);
    write(&lab.volume(), "busy/1", 101);
    write(&lab.volume(), "busy/4", 204);
    let third = lab.back_up();
    // A part of the second came: one file, and half of another.
    write(&lab.target(), "busy/1", 201);
    fs::write(lab.target().join("busy/new"), &noise(202, 50_000)[..20_000]).unwrap();
    restore_onto(&lab, &third, &[&first, &second]);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn a_base_that_is_gone_tells_nothing() {
    let lab = filled();
    let first = lab.back_up();
    lab.restore(&first);
    fs::write(lab.target().join("still/0"), "other").unwrap();
    let gone = Report { snapshot: Some("0".repeat(64)), ..Report::default() };
    restore_onto(&lab, &first, &[&gone]);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn hard_links_into_what_did_not_change_stay_links() {
    let lab = filled();
    fs::hard_link(lab.volume().join("still/5"), lab.volume().join("busy/same")).unwrap();
    let first = lab.back_up();
    lab.restore(&first);
    fs::rename(lab.volume().join("busy/same"), lab.volume().join("busy/renamed")).unwrap();
    let second = lab.back_up();
    restore_onto(&lab, &second, &[&first]);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
    // Where they did not change they cost nothing.
    write(&lab.volume(), "busy/6", 206);
    let third = lab.back_up();
    assert_eq!(restore_onto(&lab, &third, &[&second]).added_bytes, 50_000);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}
