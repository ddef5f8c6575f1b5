//! What is told of a snapshot without restoring it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::lab::{Lab, noise};
use crate::core::vault_answer::{Entry, EntryKind};
use crate::mover::look::{Look, Missing, missing_packs};

fn look(lab: &Lab) -> Look {
    Look::open(&lab.vault(), "shop", "db", lab.runtime.handle().clone()).unwrap()
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn what_lies_in_a_snapshot_is_listed_by_path_and_what_differs_is_told() {
    let lab = Lab::new();
    let at = |path: &str| lab.volume().join(path);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::create_dir_all(at("same/deep")).unwrap();
    for (name, seed, bytes) in [("a/b/one", 1, 1000), ("a/two", 2, 2000), ("same/deep/x", 3, 10), ("gone", 4, 5)] {
        fs::write(at(name), noise(seed, bytes)).unwrap();
    }
    symlink("two", at("a/link")).unwrap();
    fs::set_permissions(at("a/two"), fs::Permissions::from_mode(0o640)).unwrap();
    let first = lab.back_up().snapshot.unwrap();
    fs::write(at("a/two"), noise(9, 2000)).unwrap();
    fs::write(at("a/b/new"), noise(5, 7)).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::set_permissions(at("same/deep/x"), fs::Permissions::from_mode(0o600)).unwrap();
    let second = lab.back_up().snapshot.unwrap();

    let look = look(&lab);
    let list = |path: &str, limit| look.list(&first, path, limit).unwrap();
    let root = list("", 10).unwrap();
    assert_eq!((names(&root.entries), root.more), (vec!["a", "gone", "same"], false));
    let few = list("/", 2).unwrap();
    assert_eq!((names(&few.entries), few.more), (vec!["a", "gone"], true));
    let within = list("a/", 10).unwrap().entries;
    assert_eq!(names(&within), ["b", "link", "two"]);
    assert_eq!((&within[0].kind, &within[1].kind), (&EntryKind::Directory, &EntryKind::Link { to: "two".to_owned() }));
    let file = list("a/two", 10).unwrap().entries;
    assert_eq!((file[0].bytes, file[0].mode, &file[0].kind), (2000, 0o640, &EntryKind::File));
    for nowhere in ["b", "a/b/none", "a/two/x"] {
        assert!(list(nowhere, 10).is_none(), "{nowhere}");
    }

    let (changes, more) = look.compare(&first, &second, 10).unwrap();
    let told: Vec<_> = changes.iter().map(|it| (it.path.as_str(), it.before.is_some(), it.after.is_some())).collect();
    let expected =
        [("gone", true, false), ("a/two", true, true), ("a/b/new", false, true), ("same/deep/x", true, true)];
    assert_eq!((told, more), (expected.to_vec(), false));
    let (few, more) = look.compare(&first, &second, 1).unwrap();
    assert_eq!((few.len(), more), (1, true));
    assert_eq!(look.compare(&first, &first, 10).unwrap(), (vec![], false));
}

#[test]
fn packs_that_the_index_names_and_that_are_gone_or_cut_off_are_told() {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), noise(1, 100_000)).unwrap();
    lab.back_up();
    let missing = || missing_packs(&lab.vault(), "shop", "db", lab.runtime.handle().clone()).unwrap();
    assert_eq!(missing(), Missing::default());
    let packs = lab.stored("data");
    fs::write(&packs[0], b"cut off").unwrap();
    let name = |at: usize| packs[at].file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(missing().packs, [name(0)]);
    for pack in &packs {
        fs::remove_file(pack).unwrap();
    }
    let all = missing();
    assert_eq!((all.packs.len(), all.snapshots.len()), (packs.len(), 1), "a snapshot needs them");
}
