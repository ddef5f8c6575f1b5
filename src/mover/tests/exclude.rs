//! What is left out of a volume on request.

use std::fs;
use std::path::Path;

use super::lab::{Lab, portrait};
use crate::core::mover_task::{MISCONFIGURED, Report, Task};

fn write(root: &Path, files: &[&str]) {
    for file in files {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), file).unwrap();
    }
}

fn backup(lab: &Lab, patterns: &[&str]) -> Task {
    let mut task = lab.backup_task("1");
    let Task::Backup { exclude, .. } = &mut task else { panic!() };
    *exclude = patterns.iter().map(|it| (*it).to_owned()).collect();
    task
}

fn back_up(lab: &Lab, patterns: &[&str]) -> Report {
    lab.run(&backup(lab, patterns), |_| ()).done()
}

fn restore(lab: &Lab, report: &Report, patterns: &[&str]) -> Report {
    let mut task = lab.restore_task(report.snapshot.as_ref().unwrap());
    let Task::Restore { exclude, .. } = &mut task else { panic!() };
    *exclude = patterns.iter().map(|it| (*it).to_owned()).collect();
    lab.run(&task, |_| ()).done()
}

fn names(root: &Path) -> Vec<String> {
    portrait(root).keys().skip(1).map(|it| it.to_str().unwrap().to_owned()).collect()
}

const FILES: [&str; 6] = ["a.tmp", "cache/big/file", "db/wal", "db/old.tmp", "scratch/.nobackup", "scratch/deep/file"];

#[test]
fn what_patterns_fit_and_what_lies_beside_a_nobackup_file_is_not_stored_and_is_counted() {
    let lab = Lab::new();
    write(&lab.volume(), &FILES);
    let report = back_up(&lab, &["*.tmp", "/cache/"]);
    assert_eq!((report.excluded, report.no_backup, report.files), (3, 1, 2));
    restore(&lab, &report, &[]);
    assert_eq!(names(&lab.target()), ["db", "db/wal", "scratch", "scratch/.nobackup"]);
    // What is no longer left out is stored with the next one, although nothing of it has changed.
    fs::remove_file(lab.volume().join("scratch/.nobackup")).unwrap();
    let report = back_up(&lab, &[]);
    assert_eq!((report.excluded, report.no_backup, report.files), (0, 0, 5));
    restore(&lab, &report, &[]);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn a_restore_leaves_alone_what_the_backup_left_out() {
    let lab = Lab::new();
    write(&lab.volume(), &FILES);
    let report = back_up(&lab, &["*.tmp", "/cache/"]);
    write(&lab.target(), &["b.tmp", "cache/warm", "db/wal", "db/stray", "scratch/mine", "gone/c.tmp"]);
    restore(&lab, &report, &["*.tmp", "/cache/"]);
    let wanted = ["b.tmp", "cache", "cache/warm", "db", "db/wal", "scratch", "scratch/.nobackup", "scratch/mine"];
    assert_eq!(names(&lab.target()), wanted, "what the point has no directory for goes with its directory");
    assert_eq!(fs::read_to_string(lab.target().join("cache/warm")).unwrap(), "cache/warm");
}

#[test]
fn a_pattern_that_is_none_ends_the_backup_before_anything_is_stored() {
    let lab = Lab::new();
    let end = lab.run(&backup(&lab, &["a[z-a]"]), |_| ());
    assert_eq!(end.code, Some(i32::from(MISCONFIGURED)));
    assert!(end.report.error.is_some_and(|it| it.contains("a[z-a]")));
}
