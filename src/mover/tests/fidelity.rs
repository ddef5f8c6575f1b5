//! What a restored volume keeps of the one that was backed up, whatever was in its place before.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, IFlags, Mode, XattrFlags, mknodat};

use super::lab::{Lab, noise, portrait};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `cap_net_bind_service=ep`, as the kernel keeps it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `u::rw-,u:1000:r--,g::r--,m::r--,o::---`, as the kernel keeps it.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)];
    let entry = |(tag, rights, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    2_u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect()
}

/// A volume with one of everything that file systems have.
fn furnish(root: &Path) {
    fs::create_dir_all(root.join("deep/er/est")).unwrap();
    fs::create_dir(root.join("empty folder")).unwrap();
    fs::write(root.join("deep/er/est/large"), noise(1, 5_000_000)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("owned"), "mine").unwrap();
    chown(root.join("owned"), Some(1234), Some(4321)).unwrap();
    mode(&root.join("owned"), 0o640);
    fs::write(root.join("setuid"), "#!/bin/sh").unwrap();
    mode(&root.join("setuid"), 0o6755);
    fs::create_dir(root.join("sticky")).unwrap();
    mode(&root.join("sticky"), 0o3777);
    fs::write(root.join("locked"), "no one").unwrap();
    mode(&root.join("locked"), 0o000);
    fs::hard_link(root.join("owned"), root.join("deep/owned too")).unwrap();
    fs::hard_link(root.join("owned"), root.join("a link before it")).unwrap();
    symlink("../owned", root.join("deep/relative")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"target \xff\xfe"), root.join("link to no text")).unwrap();
    lchown(root.join("dangling"), Some(77), Some(78)).unwrap();
    for name in [&b"no \xff\x80 text"[..], b"back\\slash", b"quo\"te", b"line\nfeed", b"\xc3\xbcml\xc3\xa4ut", b"-rf *"]
    {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), 0x103).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    rustix::fs::setxattr(root.join("owned"), "user.note", b"\x00\xffvalue", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(root.join("deep"), "user.folder", b"", XattrFlags::empty()).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(300 * 1024 * 1024).unwrap();
    for (at, byte) in [(0, 1), (20_000_000, 2), (299 * 1024 * 1024, 3)] {
        sparse.write_all_at(&[byte; 100], at).unwrap();
    }
    mknodat(CWD, root.join("disk"), FileType::BlockDevice, Mode::from_raw_mode(0o660), 0x700).unwrap();
    rustix::fs::setxattr(root.join("setuid"), "security.capability", &CAPABILITY, XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(root.join("owned"), "system.posix_acl_access", &acl(), XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(root.join("sticky"), "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
    fs::write(root.join("ancient"), "before 1970").unwrap();
    let ancient = SystemTime::UNIX_EPOCH - Duration::new(1000, 1);
    fs::File::open(root.join("ancient")).unwrap().set_modified(ancient).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(root.join("owned")).unwrap().set_modified(old).unwrap();
    fs::File::open(root.join("deep/er")).unwrap().set_modified(old).unwrap();
    chown(root, Some(999), Some(998)).unwrap();
    mode(root, 0o2750);
}

#[test]
fn a_volume_comes_back_as_it_was() {
    let lab = Lab::new();
    furnish(&lab.volume());
    let backup = lab.back_up();
    assert_eq!((backup.unreadable, backup.warnings), (0, 0), "{backup:?}");
    let restored = lab.restore(&backup);
    assert_eq!(restored.first_warnings, Vec::<String>::new());
    assert_eq!((restored.files, restored.bytes), (backup.files, backup.bytes));
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
    let sparse = fs::metadata(lab.target().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1024 * 1024, "the holes of a sparse file are kept: {} blocks", sparse.blocks());
}

#[test]
#[ignore = "needs restic: cargo test --lib mover -- --ignored restic"]
fn restic_reads_what_a_mover_wrote_and_cuts_files_at_the_same_places() {
    let lab = Lab::new();
    furnish(&lab.volume());
    lab.back_up();
    let repository = lab.folder.path().join("vault/repos/shop.db");
    let restic = |arguments: &[&OsStr]| {
        let mut command = std::process::Command::new("restic");
        command.arg("-r").arg(&repository).arg("--no-cache").args(arguments);
        command.env("RESTIC_PASSWORD", lab.vault().keys().repository_password("shop", "db").expose());
        let output = command.output().unwrap();
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let words = |text: &'static str| text.split(' ').map(OsStr::new).collect::<Vec<_>>();
    assert!(restic(&words("check --read-data")).contains("no errors were found"));
    restic(&[words("restore latest --target"), vec![lab.target().as_os_str()]].concat());
    let (mut restored, mut wanted) = (portrait(&lab.target().join("data")), portrait(&lab.volume()));
    // It leaves sockets out, and older ones know link targets only as text.
    for name in ["socket", "link to no text"] {
        restored.remove(Path::new(name));
        wanted.remove(Path::new(name)).unwrap();
    }
    assert_eq!(restored, wanted);
    let again = restic(&[words("backup --json"), vec![lab.volume().as_os_str()]].concat());
    assert!(again.contains("\"data_blobs\":0,"), "it has nothing to add to the content: {again}");
}

#[test]
fn a_second_restore_finds_nothing_to_transfer() {
    let lab = Lab::new();
    furnish(&lab.volume());
    let backup = lab.back_up();
    lab.restore(&backup);
    let again = lab.restore(&backup);
    // Hard links are made anew: four bytes.
    assert_eq!((again.added_bytes, again.first_warnings), (4, vec![]));
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn whatever_is_in_the_target_gives_way() {
    let lab = Lab::new();
    let (volume, target) = (lab.volume(), lab.target());
    furnish(&volume);
    let backup = lab.back_up();
    lab.restore(&backup);
    // Changed, cut, grown, deleted, added.
    fs::write(target.join("setuid"), "#!/bin/no").unwrap();
    fs::write(target.join("empty"), "no longer").unwrap();
    fs::remove_file(target.join("quo\"te")).unwrap();
    fs::create_dir_all(target.join("extra/deep")).unwrap();
    fs::write(target.join("extra/deep/file"), "x").unwrap();
    // Changed with its size and time kept.
    let large = target.join("deep/er/est/large");
    let time = fs::metadata(&large).unwrap().modified().unwrap();
    let mut content = fs::read(&large).unwrap();
    content[3_000_000] ^= 1;
    fs::write(&large, content).unwrap();
    fs::File::open(&large).unwrap().set_modified(time).unwrap();
    // Kinds that changed places, and ways out of the volume.
    let outside = lab.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("large"), "keep me").unwrap();
    fs::remove_dir_all(target.join("deep/er/est")).unwrap();
    symlink(&outside, target.join("deep/er/est")).unwrap();
    fs::remove_file(target.join("dangling")).unwrap();
    fs::create_dir_all(target.join("dangling/was a link")).unwrap();
    fs::remove_dir(target.join("empty folder")).unwrap();
    fs::write(target.join("empty folder"), "was a folder").unwrap();
    fs::remove_file(target.join("fifo")).unwrap();
    fs::write(target.join("fifo"), "was a fifo").unwrap();
    // Files of the snapshot that became links to one file, one of them outside.
    fs::remove_file(target.join("locked")).unwrap();
    fs::hard_link(outside.join("large"), target.join("locked")).unwrap();
    fs::remove_file(target.join("owned")).unwrap();
    fs::write(target.join("owned"), "not a link any more").unwrap();

    let restored = lab.restore(&backup);
    assert_eq!(restored.first_warnings, Vec::<String>::new());
    assert_eq!(portrait(&target), portrait(&volume));
    assert_eq!(fs::read_to_string(outside.join("large")).unwrap(), "keep me", "nothing outside is touched");
}

#[test]
fn only_what_differs_is_transferred() {
    let lab = Lab::new();
    fs::write(lab.volume().join("large"), noise(1, 40_000_000)).unwrap();
    let backup = lab.back_up();
    assert_eq!(lab.restore(&backup).added_bytes, 40_000_000);
    let path = lab.target().join("large");
    let mut content = fs::read(&path).unwrap();
    content[20_000_000..20_000_010].fill(0);
    fs::write(&path, content).unwrap();
    let again = lab.restore(&backup);
    assert!((1..10_000_000).contains(&again.added_bytes), "{} bytes", again.added_bytes);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn lost_and_found_is_neither_stored_nor_deleted() {
    let lab = Lab::new();
    for root in [lab.volume(), lab.target()] {
        fs::create_dir(root.join("lost+found")).unwrap();
        fs::write(root.join("lost+found/inode"), root.to_str().unwrap()).unwrap();
    }
    fs::create_dir(lab.volume().join("sub")).unwrap();
    fs::create_dir(lab.volume().join("sub/lost+found")).unwrap();
    fs::write(lab.volume().join("file"), "x").unwrap();
    let backup = lab.back_up();
    assert_eq!((backup.files, backup.bytes), (1, 1));
    lab.restore(&backup);
    let left = fs::read_to_string(lab.target().join("lost+found/inode")).unwrap();
    assert_eq!(left, lab.target().to_str().unwrap());
    assert!(lab.target().join("sub/lost+found").is_dir(), "only the one at the top is the file system's");
}

#[test]
fn a_flag_that_is_not_kept_is_said() {
    let lab = Lab::new();
    let path = lab.volume().join("for ever");
    fs::write(&path, "x").unwrap();
    let file = fs::File::open(&path).unwrap();
    rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE).unwrap();
    let backup = lab.back_up();
    rustix::fs::ioctl_setflags(&file, IFlags::empty()).unwrap();
    assert_eq!(backup.warnings, 1);
    assert!(backup.first_warnings[0].ends_with("for ever: that it is immutable is not kept"), "{backup:?}");
    assert_eq!(lab.back_up().warnings, 0);
}

#[test]
fn what_can_not_be_restored_is_said() {
    let lab = Lab::new();
    fs::write(lab.volume().join("owned"), "x").unwrap();
    chown(lab.volume().join("owned"), Some(1234), Some(4321)).unwrap();
    let backup = lab.back_up();
    // The directory itself is given to whoever restores; what lies in it is not.
    chown(lab.target(), Some(65532), Some(65532)).unwrap();
    let end = lab.run(&lab.restore_task(backup.snapshot.as_ref().unwrap()), super::lab::as_nobody);
    assert_eq!(fs::read_to_string(lab.target().join("owned")).unwrap(), "x");
    assert!(end.report.first_warnings.iter().any(|text| text.contains("owned") && text.contains("UID")), "{end:?}");
}
