//! Block devices, stored and restored: loop devices on files.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::{Lab, noise};
use crate::core::mover_task::{Report, Task};

const MIB: usize = 1 << 20;

/// A loop device. It goes when this does.
struct Device {
    path: PathBuf,
    file: PathBuf,
}

impl Device {
    fn new(file: PathBuf, bytes: usize) -> Self {
        File::create(&file).unwrap().set_len(bytes as u64).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { path: String::from_utf8(made.stdout).unwrap().trim().into(), file }
    }

    fn write(&self, at: usize, data: &[u8]) {
        let device = fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        device.write_all_at(data, at as u64).unwrap();
        device.sync_all().unwrap();
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Bytes that it takes of the disk.
    fn taken(&self) -> u64 {
        fs::metadata(&self.file).unwrap().blocks() * 512
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn back_up(lab: &Lab, device: &Device) -> Report {
    let mut task = lab.backup_task("1");
    let Task::Backup { source, .. } = &mut task else { panic!() };
    device.path.to_str().unwrap().clone_into(source);
    lab.run(&task, |_| ()).done()
}

fn restore_task(lab: &Lab, backup: &Report, onto: &Path) -> Task {
    let mut task = lab.restore_task(backup.snapshot.as_ref().unwrap());
    let Task::Restore { target, .. } = &mut task else { panic!() };
    onto.to_str().unwrap().clone_into(target);
    task
}

fn restore(lab: &Lab, backup: &Report, onto: &Device) -> Report {
    lab.run(&restore_task(lab, backup, &onto.path), |_| ()).done()
}

#[test]
#[ignore = "needs loop devices: cargo test --lib mover -- --ignored device"]
fn a_device_comes_back_as_it_was_and_only_what_differs_is_stored_and_transferred() {
    let lab = Lab::new();
    // Its end is no whole piece.
    let size = 300 * MIB + 5 * 512;
    let (source, target) = (
        Device::new(lab.folder.path().join("source"), size),
        Device::new(lab.folder.path().join("larger"), size + MIB),
    );
    source.write(0, &noise(1, 3 * MIB));
    source.write(200 * MIB - 100, &noise(2, MIB));
    source.write(size - 512, &noise(3, 512));
    let backup = back_up(&lab, &source);
    assert_eq!((backup.files, backup.bytes), (1, size as u64));
    assert!((4..7).contains(&(backup.added_bytes / MIB as u64)), "zeros cost nothing: {} bytes", backup.added_bytes);
    let restored = restore(&lab, &backup, &target);
    assert!(target.content()[..size] == source.content(), "every byte is the same");
    assert!((4..8).contains(&(restored.added_bytes / MIB as u64)), "{} bytes", restored.added_bytes);
    assert!(target.taken() < 10 * MIB as u64, "it stays sparse: {} bytes", target.taken());
    assert_eq!(restore(&lab, &backup, &target).added_bytes, 0);

    source.write(100 * MIB, &noise(4, 1000));
    let changed = back_up(&lab, &source);
    assert!(changed.added_bytes < 100_000, "{} bytes", changed.added_bytes);
    assert_eq!(restore(&lab, &changed, &target).added_bytes, MIB as u64);
    assert!(target.content()[..size] == source.content());
    // What was there, and is zeros in the point, gives its room back.
    assert_eq!(restore(&lab, &backup, &target).added_bytes, MIB as u64);
    assert!(target.taken() < 10 * MIB as u64, "{} bytes", target.taken());
}

#[test]
#[ignore = "needs loop devices: cargo test --lib mover -- --ignored device"]
fn a_device_that_is_too_small_and_a_snapshot_of_files_are_refused_untouched() {
    let lab = Lab::new();
    let (source, small) =
        (Device::new(lab.folder.path().join("source"), 8 * MIB), Device::new(lab.folder.path().join("small"), 4 * MIB));
    source.write(0, &noise(1, 8 * MIB));
    let refused = |backup: &Report| {
        let end = lab.run(&restore_task(&lab, backup, &small.path), |_| ());
        assert!(small.content().iter().all(|it| *it == 0));
        end.report.error.unwrap()
    };
    assert!(refused(&back_up(&lab, &source)).contains("has 4194304 bytes, and the snapshot 8388608"));
    fs::write(lab.volume().join("file"), "x").unwrap();
    assert!(refused(&lab.back_up()).contains("not one of a block device"));
}
