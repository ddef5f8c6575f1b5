//! What a mover's memory grows by with each file: a limit of its container must hold for millions of them.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::lab::Lab;
use super::prune::{enter, prune_task};
use crate::core::mover_task::{Report, Task};

/// Files that are few, and many.
const FEW: u32 = 2_000;
const MANY: u32 = 12_000;

/// The most bytes for each file; of a restore, until the files that it holds at once are as many as it ever holds.
const BACKUP: u64 = 500;
const RESTORE: u64 = 1_500;
const PRUNE: u64 = 500;
/// The most bytes with so many files. What does not grow is several buffers for each thread.
const MOST: u64 = 256 << 20;

/// Directories of some tiny files, each with its own content.
fn write(root: &Path, files: u32) {
    for number in 0..files {
        let folder = root.join(format!("folder {}", number / 200));
        if number % 200 == 0 {
            fs::create_dir(&folder).unwrap();
        }
        fs::write(folder.join(number.to_string()), format!("content of file {number}")).unwrap();
    }
}

/// What a mover reports, and the most memory that it had, in bytes.
fn measured(lab: &Lab, task: &Task) -> (Report, u64) {
    let path = lab.folder.path().join("report");
    let mut mover = lab.command(task, &path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (status, mut most) = (format!("/proc/{}/status", mover.id()), 0);
    while mover.try_wait().unwrap().is_none() {
        // It only rises, and is gone once the process is.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|it| it.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        most = most.max(line.map_or(0, |it| it.trim().parse::<u64>().unwrap() * 1024));
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = Report::from_message(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(report.error, None);
    (report, most)
}

/// The most memory of a backup, a restore and a prune of so many files.
fn peaks(files: u32) -> [u64; 3] {
    let lab = Lab::new();
    write(&lab.volume(), files);
    let (backup, peak) = measured(&lab, &lab.backup_task("1"));
    let (restored, again) = measured(&lab, &lab.restore_task(backup.snapshot.as_ref().unwrap()));
    assert_eq!(restored.files, u64::from(files));
    enter(&lab, 1, &backup);
    let (pruned, last) = measured(&lab, &prune_task(1));
    assert!(pruned.pruned.is_some());
    [peak, again, last]
}

#[test]
fn memory_grows_by_a_few_hundred_bytes_with_each_file() {
    let (few, many) = std::thread::scope(|scope| {
        let few = scope.spawn(|| peaks(FEW));
        let many = peaks(MANY);
        (few.join().unwrap(), many)
    });
    for ((what, most), (few, many)) in
        [("backup", BACKUP), ("restore", RESTORE), ("prune", PRUNE)].into_iter().zip(few.into_iter().zip(many))
    {
        let each = many.saturating_sub(few) / u64::from(MANY - FEW);
        println!("{what}: {} KiB for {FEW} files, {} KiB for {MANY}: {each} bytes for each", few / 1024, many / 1024);
        assert!(few > 0 && each <= most && many <= MOST, "{what}: {each} bytes for each file, {many} in all");
    }
}
