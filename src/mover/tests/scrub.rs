//! What a scrub finds in a damaged repository, and what it notes of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::bucket;
use super::lab::{Lab, noise};
use super::prune::{enter, prune_task};
use crate::api::recovery_point::Level;
use crate::core::mover_task::{CORRUPT, Newest, Report, Scrubbed, Task};
use crate::core::verified::Verified;

fn task(part: u32, parts: u32, newest: Option<(&str, &Report)>) -> Task {
    let newest = newest
        .map(|(point, backup)| Newest { point: point.to_owned(), snapshots: vec![backup.snapshot.clone().unwrap()] });
    let (namespace, application, region) = ("shop".to_owned(), "db".to_owned(), "east".to_owned());
    Task::Scrub { namespace, application, region, part, parts, newest }
}

fn scrub(lab: &Lab, task: &Task, change: impl FnOnce(&mut Command)) -> Scrubbed {
    lab.run(task, change).done().scrubbed.unwrap()
}

fn note(lab: &Lab, point: &str) -> Option<Verified> {
    lab.runtime.block_on(lab.vault().read_verified("shop", "db", point)).unwrap()
}

/// A point's id.
fn id(number: u64) -> String {
    format!("{:010}-{number:026}", 1)
}

/// Two points: both need the first files, only the second one the last.
fn stored() -> (Lab, Report) {
    let lab = Lab::new();
    for number in 0..4 {
        fs::write(lab.volume().join(format!("file {number}")), noise(number, 4_000_000)).unwrap();
    }
    enter(&lab, 1, &lab.back_up());
    fs::write(lab.volume().join("late"), noise(9, 6_000_000)).unwrap();
    let second = lab.run(&lab.backup_task("2"), |_| ()).done();
    enter(&lab, 2, &second);
    (lab, second)
}

fn name(pack: &Path) -> String {
    pack.file_name().unwrap().to_str().unwrap().to_owned()
}

fn flip(pack: &Path) {
    let mut content = fs::read(pack).unwrap();
    content[100] ^= 1;
    fs::write(pack, content).unwrap();
}

#[test]
fn rounds_read_every_pack_once_and_the_newest_point_is_noted_as_checked() {
    let (lab, second) = stored();
    let packs = lab.stored("data").len() as u64;
    let rounds: Vec<Scrubbed> =
        (0..3).map(|part| scrub(&lab, &task(part, 3, Some((&id(2), &second))), |_| ())).collect();
    assert_eq!(rounds.iter().map(|it| it.packs).sum::<u64>(), packs);
    assert_eq!(rounds.iter().map(|it| it.damaged_packs).sum::<u64>(), 0);
    let noted = note(&lab, &id(2)).unwrap();
    assert_eq!((noted.level, noted.damage()), (Level::L2, None));
    assert!(noted.detail.contains("part 3 of 3"), "{}", noted.detail);
    assert_eq!(note(&lab, &id(1)), None);
}

#[test]
fn a_damaged_pack_is_found_in_its_round_and_the_points_that_need_it_are_noted_until_it_is_whole() {
    let (lab, second) = stored();
    // What was added by the second backup is younger than all of the first.
    let mut packs = lab.stored("data");
    packs.sort_by_key(|it| fs::metadata(it).unwrap().modified().unwrap());
    let size = |it: &Path| fs::metadata(it).unwrap().len();
    let late = packs.iter().rev().find(|it| size(it) > 1_000_000).unwrap().clone();
    let whole = fs::read(&late).unwrap();
    flip(&late);
    let found: Vec<Scrubbed> =
        (0..4).map(|part| scrub(&lab, &task(part, 4, Some((&id(2), &second))), |_| ())).collect();
    // From its round on it is read each time.
    let first = found.iter().position(|it| it.damaged_packs > 0).unwrap();
    assert!(found[first..].iter().all(|it| it.first_packs == [name(&late)] && it.last_points == [id(2)]), "{found:?}");
    assert_eq!(note(&lab, &id(2)).unwrap().damage.unwrap().packs, [name(&late)]);
    assert!(note(&lab, &id(2)).unwrap().damage().unwrap().contains(&name(&late)));
    assert_eq!(note(&lab, &id(1)), None, "the first point does not need it");
    fs::write(&late, whole).unwrap();
    let other = (u32::try_from(first).unwrap() + 1) % 4;
    assert_eq!(scrub(&lab, &task(other, 4, None), |_| ()).damaged_packs, 0);
    assert_eq!(note(&lab, &id(2)).unwrap().damage(), None, "it was read again, though another round's");
}

#[test]
fn a_point_in_which_a_restore_met_damage_is_noted_until_a_scrub_finds_all_that_it_needs_whole() {
    let (lab, second) = stored();
    let mut packs = lab.stored("data");
    packs.sort_by_key(|it| fs::metadata(it).unwrap().modified().unwrap());
    let late = packs.iter().rev().find(|it| fs::metadata(it).unwrap().len() > 1_000_000).unwrap().clone();
    let whole = fs::read(&late).unwrap();
    flip(&late);
    let mut restore = lab.restore_task(second.snapshot.as_ref().unwrap());
    let Task::Restore { point, .. } = &mut restore else { panic!("it restores") };
    *point = Some(id(2));
    assert_eq!(lab.run(&restore, |_| ()).code, Some(i32::from(CORRUPT)));
    let met = note(&lab, &id(2)).unwrap().damage.unwrap();
    assert_eq!((met.packs.len(), met.other.len()), (0, 1), "{met:?}");
    // Of the shares of this round none holds it: it is read since the point needs it.
    let empty = |part: &u32| lab.stored("data").iter().all(|it| share(it, 100) != *part);
    let part = (0..100).find(empty).unwrap();
    assert_eq!(scrub(&lab, &task(part, 100, None), |_| ()).last_points, [id(2)]);
    let named = note(&lab, &id(2)).unwrap().damage.unwrap();
    assert_eq!((named.since, named.packs, named.other.len()), (met.since, vec![name(&late)], 0));
    fs::write(&late, whole).unwrap();
    assert_eq!(scrub(&lab, &task(part, 100, None), |_| ()).damaged_points, 0);
    assert_eq!(note(&lab, &id(2)).unwrap().damage, None);
}

/// The share that a pack falls to.
fn share(pack: &Path, parts: u32) -> u32 {
    u32::from_str_radix(&name(pack)[..8], 16).unwrap().swap_bytes() % parts
}

#[test]
fn a_missing_pack_is_found_in_every_round_and_touches_all_that_need_it() {
    let (lab, second) = stored();
    let mut packs = lab.stored("data");
    packs.sort_by_key(|it| fs::metadata(it).unwrap().modified().unwrap());
    let early = packs.iter().find(|it| fs::metadata(it).unwrap().len() > 1_000_000).unwrap();
    fs::remove_file(early).unwrap();
    for part in [0, 50] {
        let found = scrub(&lab, &task(part, 100, Some((&id(2), &second))), |_| ());
        assert_eq!((found.first_packs, found.last_points), (vec![name(early)], vec![id(2), id(1)]));
    }
    assert!(note(&lab, &id(1)).unwrap().damage().is_some());
}

#[test]
fn a_damaged_directory_touches_the_points_that_have_it() {
    let (lab, _) = stored();
    let packs = lab.stored("data");
    let smallest = packs.iter().min_by_key(|it| fs::metadata(it).unwrap().len()).unwrap();
    flip(smallest);
    let found = scrub(&lab, &task(0, 1, None), |_| ());
    assert_eq!((found.damaged_packs, found.damaged_points > 0), (1, true), "{found:?}");
}

#[test]
fn a_damaged_dump_touches_every_point_that_shares_it() {
    let (lab, second) = stored();
    // The third point has no backup of its own: it names what the second one made.
    let shared = enter(&lab, 3, &second);
    let mut packs = lab.stored("data");
    packs.sort_by_key(|it| fs::metadata(it).unwrap().modified().unwrap());
    fs::remove_file(packs.last().unwrap()).unwrap();
    let found = scrub(&lab, &task(0, 100, None), |_| ());
    assert_eq!(found.last_points, [shared.id, id(2)]);
}

#[test]
fn a_prune_forgets_what_was_found_out_about_points_that_are_gone() {
    let (lab, second) = stored();
    enter(&lab, 3, &lab.run(&lab.backup_task("3"), |_| ()).done());
    for number in [2, 3] {
        scrub(&lab, &task(0, 1, Some((&id(number), &second))), |_| ());
    }
    assert!(lab.runtime.block_on(lab.vault().delete_point("shop", "db", &id(2))).unwrap());
    lab.run(&prune_task(3_600), |_| ()).done();
    assert_eq!((note(&lab, &id(2)), note(&lab, &id(3)).map(|it| it.level)), (None, Some(Level::L2)));
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_pack_that_was_overwritten_in_a_bucket_is_found_and_its_point_noted() {
    let (lab, _minio) = bucket::lab();
    fs::write(lab.volume().join("file"), noise(1, 20_000_000)).unwrap();
    let backup = lab.run(&lab.backup_task("1"), bucket::with_credentials).done();
    enter(&lab, 1, &backup);
    let vault = lab.vault();
    let sound = scrub(&lab, &task(0, 1, Some((&id(1), &backup))), bucket::with_credentials);
    assert_eq!(sound.damaged_packs, 0);
    let listed = lab.runtime.block_on(vault.store().page("repos/shop.db/data/", None, 10)).unwrap();
    let pack = &listed.iter().max_by_key(|it| it.bytes).unwrap().key;
    let content = lab.runtime.block_on(vault.store().get_up_to(pack, 1 << 30)).unwrap().unwrap().bytes;
    let mut content = content.to_vec();
    content[4_000] ^= 1;
    lab.runtime.block_on(vault.store().put(pack, content.into())).unwrap();
    let found = scrub(&lab, &task(0, 1, Some((&id(1), &backup))), bucket::with_credentials);
    assert_eq!((found.damaged_packs, found.last_points), (1, vec![id(1)]));
    let noted = lab.runtime.block_on(vault.read_verified("shop", "db", &id(1))).unwrap().unwrap();
    assert!(pack.ends_with(&noted.damage.unwrap().packs[0]));
}

#[test]
fn what_was_copied_into_another_vault_is_read_back_there_and_its_damage_is_noted_there() {
    let (from, second) = stored();
    let to = Lab { key: "another key that is long enough for a vault".to_owned(), ..Lab::new() };
    let point = id(2);
    let copy = Task::Copy { namespace: "shop".into(), application: "db".into(), point: point.clone() };
    let round = |part| {
        let Task::Scrub { namespace, application, region, parts, .. } = task(part, 2, None) else { panic!("a scrub") };
        // Its snapshots have names of their own there.
        let newest = Some(Newest { point: point.clone(), snapshots: Vec::new() });
        Task::Scrub { namespace, application, region, part, parts, newest }
    };
    assert_eq!(scrub(&to, &round(0), |_| ()), Scrubbed::default(), "nothing was copied yet");
    from.run(&copy, |command| to.as_target(command)).done();
    let read: u64 = [0, 1].into_iter().map(|part| scrub(&to, &round(part), |_| ()).packs).sum();
    assert_eq!(read, to.stored("data").len() as u64);
    assert_eq!(note(&to, &point).map(|it| it.level), Some(Level::L2));

    let pack = to.stored("data").into_iter().max_by_key(|it| fs::metadata(it).unwrap().len()).unwrap();
    flip(&pack);
    let found: Vec<Scrubbed> = [0, 1].into_iter().map(|part| scrub(&to, &round(part), |_| ())).collect();
    assert!(found.iter().any(|it| it.first_packs == [name(&pack)] && it.last_points == [point.clone()]), "{found:?}");
    assert!(note(&to, &point).unwrap().damage.is_some());
    assert_eq!(note(&from, &point), None, "the first vault has nothing to do with it: {second:?}");
}
