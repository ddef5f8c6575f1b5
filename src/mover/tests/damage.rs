//! What a mover makes of a damaged repository and of a volume that takes no more.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::lab::{End, KEY, Lab, noise, portrait};
use crate::core::mover_task::{CORRUPT, FAILED, Report};
use crate::mover::backup::{Backup, back_up};
use crate::mover::engine::Engine;
use crate::mover::error::MoverError;
use crate::mover::log::Witness;
use crate::vault::fake::{Fake, Manner};
use crate::vault::{Store, StoreError, Vault};

/// A backed-up volume with three packs of data, the largest of them first, and one of trees.
fn stored() -> (Lab, Report, Vec<PathBuf>) {
    let lab = Lab::new();
    for number in 0..5 {
        fs::write(lab.volume().join(format!("file {number}")), noise(number, 4_000_000)).unwrap();
    }
    let backup = lab.back_up();
    let mut packs = lab.stored("data");
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).unwrap().len()));
    assert!(packs.len() >= 3, "{packs:?}");
    (lab, backup, packs)
}

fn is_corrupt(end: &End) {
    assert_eq!((end.code, end.report.corrupt), (Some(CORRUPT.into()), true), "{:?}\n{}", end.report, end.log);
}

fn restore(lab: &Lab, backup: &Report) -> End {
    lab.run(&lab.restore_task(backup.snapshot.as_ref().unwrap()), |_| ())
}

/// The kernel refuses to let files grow beyond so many KiB, and the mover is told so instead of being killed.
fn limit_files(command: &mut Command, kilobytes: u32) {
    let script = format!("trap '' XFSZ; ulimit -f $(({kilobytes} * 2)); exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    *command = shell;
}

#[test]
fn a_missing_pack_is_found_by_all_who_need_it() {
    let (lab, backup, packs) = stored();
    let name = packs[0].file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&packs[0]).unwrap();
    let end = restore(&lab, &backup);
    is_corrupt(&end);
    assert!(end.report.error.unwrap().contains(&name), "it is named");
    is_corrupt(&lab.verify(&backup, 0));
    // A new snapshot of the same data would rest on the missing pack.
    let end = lab.run(&lab.backup_task("2"), |_| ());
    is_corrupt(&end);
    assert!(end.report.error.unwrap().contains(&name), "it is named");
}

#[test]
fn a_missing_pack_does_not_stop_what_does_not_need_it() {
    let (lab, _, packs) = stored();
    fs::remove_file(&packs[0]).unwrap();
    for number in 0..5 {
        fs::write(lab.volume().join(format!("file {number}")), noise(100 + number, 1_000_000)).unwrap();
    }
    let backup = lab.run(&lab.backup_task("2"), |_| ()).done();
    lab.verify(&backup, 100).done();
    lab.restore(&backup);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
fn a_flipped_bit_in_a_pack_is_found_by_reading() {
    let (lab, backup, packs) = stored();
    let mut content = fs::read(&packs[0]).unwrap();
    content[100_000] ^= 1;
    fs::write(&packs[0], content).unwrap();
    is_corrupt(&restore(&lab, &backup));
    lab.verify(&backup, 0).done();
    is_corrupt(&lab.verify(&backup, 100));
}

#[test]
fn a_pack_that_was_cut_off_is_found() {
    let (lab, backup, packs) = stored();
    let file = fs::File::options().write(true).open(&packs[0]).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    is_corrupt(&restore(&lab, &backup));
    is_corrupt(&lab.verify(&backup, 0));
}

#[test]
fn a_damaged_pack_of_trees_snapshot_or_index_is_found() {
    for kind in ["trees", "snapshots", "index"] {
        let (lab, backup, packs) = stored();
        let victim = match kind {
            "trees" => packs.last().unwrap().clone(),
            kind => lab.stored(kind)[0].clone(),
        };
        let mut content = fs::read(&victim).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(&victim, content).unwrap();
        is_corrupt(&restore(&lab, &backup));
        is_corrupt(&lab.verify(&backup, 0));
    }
}

#[test]
fn a_file_that_can_not_be_written_ends_the_restore_with_a_reason() {
    let (lab, backup, _) = stored();
    let end = lab.run(&lab.restore_task(backup.snapshot.as_ref().unwrap()), |command| {
        limit_files(command, 1024);
    });
    assert_eq!((end.code, end.report.corrupt), (Some(FAILED.into()), false), "{:?}\n{}", end.report, end.log);
    assert!(end.report.error.as_ref().unwrap().contains("file too large"), "{:?}", end.report);
    // Nothing is left behind that would hinder the next attempt.
    lab.restore(&backup);
    assert_eq!(portrait(&lab.target()), portrait(&lab.volume()));
}

#[test]
#[ignore = "needs the right to mount: cargo test --lib mover -- --ignored full"]
fn a_full_volume_is_said_to_be_full() {
    let (lab, backup, _) = stored();
    let target = lab.target();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=5m", "none"]).arg(&target).status().unwrap();
    assert!(mount.success());
    let end = restore(&lab, &backup);
    let unmount = Command::new("umount").arg(&target).status().unwrap();
    assert!(unmount.success());
    assert_eq!(end.code, Some(FAILED.into()));
    assert!(end.report.error.as_ref().unwrap().contains("the volume is full"), "{:?}\n{}", end.report, end.log);
}

#[test]
fn a_vault_that_takes_no_more_fails_the_backup() {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), noise(1, 20_000_000)).unwrap();
    let end = lab.run(&lab.backup_task("1"), |command| {
        limit_files(command, 4096);
    });
    assert_eq!(end.code, Some(FAILED.into()), "{:?}", end.report);
    assert!(end.report.error.as_ref().unwrap().contains("directory"), "the vault's error is told: {:?}", end.report);
    assert_eq!(end.report.snapshot, None);
}

#[test]
fn one_pack_that_is_lost_fails_the_backup_and_nothing_names_it() {
    // One of many; the only one of data; and the last of all, that of trees.
    for (bytes, nth) in [(60_000_000, 3), (100_000, 1), (100_000, 2)] {
        let lab = Lab::new();
        fs::write(lab.volume().join("file"), noise(1, bytes)).unwrap();
        let fake = Fake::new(Manner::Sound);
        let lost = StoreError::Other("this pack is lost".to_owned());
        fake.refuse("repos/shop.db/data/", nth, lost.clone());
        let vault = Vault::with(Store::Fake(fake.clone()), KEY);
        let engine = Engine::new(&vault, "shop", "db", lab.runtime.handle().clone());
        let source = &lab.volume();
        let backup = Backup { source, host: "east", label: "data", tags: Default::default(), exclude: &[] };
        let outcome = back_up(&engine, &backup, &Witness::default());
        assert_eq!(outcome.unwrap_err(), MoverError::Vault(lost.into()));
        for kind in ["index", "snapshots"] {
            let named = fake.page(&format!("repos/shop.db/{kind}/"), None, 10).unwrap();
            assert_eq!(named, [], "{kind}, with pack {nth} lost");
        }
    }
}
