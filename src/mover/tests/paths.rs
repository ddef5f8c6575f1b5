//! Restores of some paths of a volume: what was named is as it was, and nothing else is touched.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::lab::{Lab, noise, portrait};
use crate::core::mover_task::{FAILED, MISCONFIGURED};

/// A volume with configuration, uploads and a link, backed up; and another one to restore into.
fn stored() -> (Lab, crate::core::mover_task::Report) {
    let lab = Lab::new();
    let volume = lab.volume();
    for folder in ["conf/old", "uploads/2026", "uploads/2027/a"] {
        fs::create_dir_all(volume.join(folder)).unwrap();
    }
    for (number, name) in
        ["conf/app.ini", "conf/db.ini", "conf/old/app.ini", "uploads/2026/x", "uploads/2027/a/y"].iter().enumerate()
    {
        fs::write(volume.join(name), noise(number as u64, 50_000)).unwrap();
    }
    fs::hard_link(volume.join("uploads/2027/a/y"), volume.join("uploads/2027/a/same")).unwrap();
    symlink("app.ini", volume.join("conf/link.ini")).unwrap();
    fs::set_permissions(volume.join("uploads/2027"), fs::Permissions::from_mode(0o2750)).unwrap();
    let backup = lab.back_up();
    (lab, backup)
}

#[test]
fn what_is_named_is_as_it_was_and_nothing_else_is_made() {
    let (lab, backup) = stored();
    let report = lab.restore_paths(&backup, &["conf/*.ini", "uploads/2027"]).done();
    assert_eq!((report.files, report.bytes), (5, 150_000), "the second name of a file is counted, and its bytes once");
    let (was, is) = (portrait(&lab.volume()), portrait(&lab.target()));
    let here: Vec<_> = is.keys().map(|it| it.to_str().unwrap()).collect();
    assert_eq!(
        here,
        [
            "",
            "conf",
            "conf/app.ini",
            "conf/db.ini",
            "conf/link.ini",
            "uploads",
            "uploads/2027",
            "uploads/2027/a",
            "uploads/2027/a/same",
            "uploads/2027/a/y"
        ]
    );
    for (path, seen) in is.iter().filter(|(path, _)| !path.as_os_str().is_empty()) {
        assert_eq!(seen, &was[path], "{}: also directories that were made on the way", path.display());
    }
}

#[test]
fn what_is_not_named_stays_to_the_byte_and_to_the_time() {
    let (lab, backup) = stored();
    let target = lab.target();
    for folder in ["conf", "uploads/2027/a"] {
        fs::create_dir_all(target.join(folder)).unwrap();
    }
    fs::write(target.join("conf/app.ini"), "damaged").unwrap();
    fs::write(target.join("conf/own.txt"), "mine").unwrap();
    fs::write(target.join("uploads/2027/a/mine"), "beside it").unwrap();
    // A link to something outside: it is replaced, and what it leads to is not written to.
    let outside = lab.folder.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    symlink(&outside, target.join("conf/db.ini")).unwrap();
    let modes = |name: &str| fs::metadata(target.join(name)).unwrap().mode();
    let before = (modes("conf"), modes("conf/own.txt"));
    lab.restore_paths(&backup, &["conf/*.ini", "uploads/**"]).done();
    assert_eq!(fs::read(target.join("conf/app.ini")).unwrap(), noise(0, 50_000));
    assert_eq!(fs::read(target.join("conf/db.ini")).unwrap(), noise(1, 50_000));
    assert_eq!(fs::read(outside).unwrap(), b"outside");
    assert_eq!(fs::read(target.join("conf/own.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(target.join("uploads/2027/a/mine")).unwrap(), b"beside it", "nothing is deleted");
    assert_eq!((modes("conf"), modes("conf/own.txt")), before);
    assert!(!target.join("conf/old").exists());
    let again = lab.restore_paths(&backup, &["conf/*.ini"]).done();
    assert_eq!(again.added_bytes, 0, "what is there is not transferred again");
}

#[test]
fn a_directory_in_the_way_is_not_deleted_and_a_link_on_the_way_is_not_followed() {
    let (lab, backup) = stored();
    let target = lab.target();
    fs::create_dir_all(target.join("conf/app.ini/precious")).unwrap();
    let end = lab.restore_paths(&backup, &["conf/app.ini"]);
    assert_eq!(end.code, Some(FAILED.into()));
    assert!(end.report.error.unwrap().contains("conf/app.ini is a directory in the volume"));
    assert!(target.join("conf/app.ini/precious").exists());
    let outside = lab.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, target.join("uploads")).unwrap();
    let end = lab.restore_paths(&backup, &["uploads/2027/**"]);
    assert_eq!(end.code, Some(FAILED.into()));
    assert!(end.report.error.unwrap().contains("uploads is no directory in the volume"));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn paths_that_fit_nothing_change_nothing_and_wrong_ones_are_refused() {
    let (lab, backup) = stored();
    assert_eq!(lab.restore_paths(&backup, &["confx/**", "conf/*.txt"]).done().files, 0);
    assert_eq!(portrait(&lab.target()).len(), 1);
    let end = lab.restore_paths(&backup, &["../etc/passwd"]);
    assert_eq!(end.code, Some(MISCONFIGURED.into()));
    assert!(end.report.error.unwrap().contains("`paths`: '../etc/passwd'"));
}
