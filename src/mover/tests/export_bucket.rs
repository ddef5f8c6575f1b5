//! Volumes, dumps and objects of a point as plain objects of a vault: in a directory, and on real servers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bucket::{self, with_credentials};
use super::export::{bundle_in, dump_in};
use super::lab::{End, Lab, noise};
use crate::api::mappings::ObjectSelector;
use crate::core::mover_task::{
    AZURE_CREDENTIALS, CORRUPT, ExportPlace, ExportTarget, ExportedDump, ExportedVolume, MISCONFIGURED, Report, TO,
    Task,
};
use crate::vault::Location;
use crate::vault::azurite::{ACCOUNT_KEY, Azurite};

const BASE: &str = "exports/analysis/q1/";

fn export(backup: &Report, run: &str, change: impl FnOnce(&mut ExportedVolume)) -> Task {
    let mut volume = ExportedVolume { claim: "data".into(), snapshot: backup.snapshot.clone().unwrap(), paths: vec![] };
    change(&mut volume);
    Task::Export {
        namespace: "shop".into(),
        application: "db".into(),
        point: "p1".into(),
        volumes: vec![volume],
        dumps: vec![],
        manifest: None,
        objects: vec![],
        target: ExportTarget::Vault(ExportPlace { namespace: "analysis".into(), prefix: "q1".into(), run: run.into() }),
    }
}

/// Into the vault that it is read from.
fn run(lab: &Lab, task: &Task, change: impl FnOnce(&mut Command)) -> End {
    lab.run(task, |command| {
        lab.as_target(command);
        change(command);
    })
}

/// What lies below the export's prefix, without it.
fn stored(lab: &Lab) -> BTreeMap<String, u64> {
    let found = lab.runtime.block_on(lab.vault().store().list(BASE)).unwrap();
    found.into_iter().map(|it| (it.key[BASE.len()..].to_owned(), it.bytes)).collect()
}

fn content(lab: &Lab, key: &str) -> Vec<u8> {
    let vault = lab.vault();
    let found = lab.runtime.block_on(vault.store().get_up_to(&format!("{BASE}{key}"), 1 << 30)).unwrap();
    found.unwrap_or_else(|| panic!("{key}")).bytes.to_vec()
}

fn lines(lab: &Lab) -> BTreeMap<String, Value> {
    let list = String::from_utf8(content(lab, "lists/data.jsonl")).unwrap();
    let lines = list.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    lines.map(|it| (it["path"].as_str().unwrap().to_owned(), it)).collect()
}

/// A volume with everything that an object cannot say.
fn odd_files(lab: &Lab) {
    let root = lab.volume();
    fs::create_dir_all(root.join("a b/deep")).unwrap();
    fs::write(root.join("a b/deep/x.ini"), "x").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not\xffutf8")), "raw").unwrap();
    fs::write(root.join("Größe?"), noise(1, 100_000)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o4750)).unwrap();
    symlink("../else where/x", root.join("link")).unwrap();
    fs::hard_link(root.join("Größe?"), root.join("same")).unwrap();
    let long = ["d".repeat(200), "e".repeat(200), "f".repeat(200), "g".repeat(200)];
    let folder = long.iter().fold(root, |at, name| at.join(name));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("far"), "far").unwrap();
}

fn assert_all_there(lab: &Lab) {
    let (stored, lines) = (stored(lab), lines(lab));
    assert_eq!(content(lab, "volumes/data/a%20b/deep/x.ini"), b"x");
    assert_eq!(content(lab, "volumes/data/not%FFutf8"), b"raw");
    assert_eq!(content(lab, "volumes/data/Größe%3F"), noise(1, 100_000));
    assert_eq!(stored["volumes/data/empty"], 0);
    let said = |path: &str, field: &str| lines[path][field].clone();
    assert_eq!((said("empty", "mode"), said("empty", "kind")), ("4750".into(), "file".into()));
    assert_eq!((said("link", "linkTarget"), said("link", "key")), ("../else%20where/x".into(), Value::Null));
    assert_eq!(said("same", "hardLinkTo"), "Größe%3F");
    assert!(!stored.contains_key("volumes/data/same") && !stored.contains_key("volumes/data/link"), "{stored:?}");
    assert_eq!(said("a%20b", "kind"), "directory");
    let far = lines.iter().find(|(path, _)| path.ends_with("/far")).unwrap().1;
    let key = far["key"].as_str().unwrap();
    assert!(key.starts_with("long/data/"), "{key}");
    assert_eq!(content(lab, key), b"far");
    let note: Value = serde_json::from_slice(&content(lab, "export.json")).unwrap();
    assert!(note["finishedAt"].is_string() && note["point"] == "p1", "{note}");
}

#[test]
fn every_file_is_an_object_and_a_list_says_what_objects_cannot() {
    let lab = Lab::new();
    odd_files(&lab);
    let backup = lab.back_up();
    let report = run(&lab, &export(&backup, "r1", |_| ()), |_| ()).done();
    assert_eq!((report.snapshot.as_deref(), report.files, report.occupied), (Some("p1"), 7, false));
    assert_all_there(&lab);
}

#[test]
fn what_another_run_has_written_is_left_alone_and_the_same_run_goes_on() {
    let lab = Lab::new();
    fs::write(lab.volume().join("a"), noise(1, 50_000)).unwrap();
    fs::write(lab.volume().join("b"), noise(2, 50_000)).unwrap();
    let backup = lab.back_up();
    let first = run(&lab, &export(&backup, "r1", |_| ()), |_| ()).done();
    let before = stored(&lab);
    let other = run(&lab, &export(&backup, "r2", |_| ()), |_| ()).done();
    assert!(other.occupied && stored(&lab) == before, "{other:?}");
    let again = run(&lab, &export(&backup, "r1", |_| ()), |_| ()).done();
    assert_eq!((again.files, again.bytes, again.added_bytes), (first.files, first.bytes, 0), "it is whole already");

    // As a mover leaves it that was killed.
    let vault = lab.vault();
    let mut note: Value = serde_json::from_slice(&content(&lab, "export.json")).unwrap();
    note["finishedAt"] = Value::Null;
    let key = |name: &str| format!("{BASE}{name}");
    lab.runtime.block_on(async {
        vault.store().put(&key("export.json"), note.to_string().into()).await.unwrap();
        vault.store().delete(&key("volumes/data/b")).await.unwrap();
        vault.store().delete(&key("lists/data.jsonl")).await.unwrap();
    });
    let rest = run(&lab, &export(&backup, "r1", |_| ()), |_| ()).done();
    assert_eq!((rest.files, rest.bytes, rest.added_bytes), (first.files, first.bytes, 50_000), "only what was missing");
    assert!(stored(&lab).keys().eq(before.keys()));
    lab.runtime.block_on(vault.store().delete(&key("export.json"))).unwrap();
    assert!(run(&lab, &export(&backup, "r1", |_| ()), |_| ()).done().occupied, "nobody knows whose that is");
}

#[test]
fn dumps_and_objects_are_there_and_secrets_only_when_they_are_asked_for() {
    let lab = Lab::new();
    let (backup, bundle, text) = (lab.back_up(), bundle_in(&lab), noise(3, 9_000_000));
    let dump = ExportedDump { name: "orders".into(), snapshot: dump_in(&lab, &text) };
    let with = |only: Vec<ObjectSelector>, run: &str, prefix: &str| {
        let mut task = export(&backup, run, |_| ());
        let Task::Export { dumps, manifest, objects, target: ExportTarget::Vault(place), .. } = &mut task else {
            panic!("an export into a vault")
        };
        (*dumps, *manifest, *objects) = (vec![dump.clone()], Some(bundle.clone()), only);
        prefix.clone_into(&mut place.prefix);
        task
    };
    let report = run(&lab, &with(vec![], "r1", "q1"), |_| ()).done();
    assert_eq!((report.files, report.excluded, report.bytes), (1 + 2, 1, 9_000_000));
    assert_eq!(content(&lab, "dumps/orders"), text);
    let there = stored(&lab);
    assert!(
        there.contains_key("objects/core/ConfigMap/web.yaml") && !there.contains_key("objects/core/Secret/web.yaml")
    );
    let secrets = ObjectSelector { kind: Some("Secret".into()), ..ObjectSelector::default() };
    let report = run(&lab, &with(vec![secrets], "r2", "q2"), |_| ()).done();
    assert_eq!((report.files, report.excluded), (1 + 1, 0));
}

#[test]
fn only_what_lies_under_the_paths_is_written() {
    let lab = Lab::new();
    odd_files(&lab);
    let backup = lab.back_up();
    let task = export(&backup, "r1", |it| it.paths = vec!["a b/**/*.ini".into()]);
    assert_eq!(run(&lab, &task, |_| ()).done().files, 1);
    let keys: Vec<_> = stored(&lab).into_keys().collect();
    assert_eq!(keys, ["export.json", "lists/data.jsonl", "volumes/data/a%20b/deep/x.ini"]);
    let mut nothing = export(&backup, "r2", |it| it.paths = vec!["a b/*.ini".into()]);
    let Task::Export { target: ExportTarget::Vault(place), .. } = &mut nothing else {
        panic!("an export into a vault")
    };
    place.prefix = "q2".into();
    for _ in 0..2 {
        let report = run(&lab, &nothing, |_| ()).done();
        assert_eq!((report.files, report.warnings), (0, 1), "told again when it is asked again: {report:?}");
    }
}

#[test]
fn damaged_data_ends_it_and_the_list_that_would_say_all_is_there_is_missing() {
    let lab = Lab::new();
    fs::write(lab.volume().join("a"), noise(1, 9_000_000)).unwrap();
    let backup = lab.back_up();
    let pack = lab.stored("data").into_iter().max_by_key(|it| it.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let end = run(&lab, &export(&backup, "r1", |_| ()), |_| ());
    assert_eq!((end.code, end.report.corrupt), (Some(CORRUPT.into()), true), "{:?}", end.report);
    assert_eq!(stored(&lab).into_keys().collect::<Vec<_>>(), ["export.json"]);
}

#[test]
fn a_prefix_that_leads_elsewhere_is_refused() {
    let lab = Lab::new();
    let backup = lab.back_up();
    for wrong in ["../apps", "", "a/b"] {
        let mut task = export(&backup, "r1", |_| ());
        let Task::Export { target: ExportTarget::Vault(place), .. } = &mut task else {
            panic!("an export into a vault")
        };
        wrong.clone_into(&mut place.prefix);
        assert_eq!(run(&lab, &task, |_| ()).code, Some(MISCONFIGURED.into()), "{wrong}");
    }
}

fn as_target(lab: &Lab) -> impl Fn(&mut Command) + '_ {
    move |command| {
        lab.as_target(command);
        with_credentials(command);
        for (name, value) in [("AWS_ACCESS_KEY_ID", "labadmin"), ("AWS_SECRET_ACCESS_KEY", "labsecret123")] {
            command.env(format!("{TO}{name}"), value);
        }
    }
}

#[test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib bucket -- --ignored"]
fn a_volume_is_exported_into_a_bucket_and_a_mover_that_was_killed_is_gone_on_from() {
    let (lab, _minio) = bucket::lab();
    odd_files(&lab);
    for number in 0..3_000 {
        fs::write(lab.volume().join(format!("small {number}")), noise(number + 1, 5_000)).unwrap();
    }
    for number in 0..4 {
        fs::write(lab.volume().join(format!("large {number}")), noise(number + 7, 100_000_000)).unwrap();
    }
    let backup = lab.run(&lab.backup_task("1"), with_credentials).done();
    let task = export(&backup, "r1", |_| ());
    let mut command = lab.command(&task, &lab.folder.path().join("report"));
    as_target(&lab)(&mut command);
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_mins(1);
    while stored(&lab).len() < 500 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = stored(&lab);
    assert!(!before.contains_key("lists/data.jsonl") && before.len() >= 500, "{} objects", before.len());
    let begin = Instant::now();
    let report = lab.run(&task, as_target(&lab)).done();
    let (seconds, sent) = (begin.elapsed().as_secs_f64(), report.added_bytes);
    println!("{} files, {} bytes, {sent} of them after the kill, in {seconds:.1} s", report.files, report.bytes);
    assert!(report.files == 3_011 && sent < report.bytes, "{report:?}");
    assert_all_there(&lab);
    assert_eq!(content(&lab, "volumes/data/large%203"), noise(10, 100_000_000));
    assert_eq!(content(&lab, "volumes/data/small%2017"), noise(18, 5_000));
}

#[test]
#[ignore = "needs azurite: REPRISE_TEST_AZURITE=path cargo test --lib azurite -- --ignored"]
fn a_volume_is_exported_into_a_container_of_azurite() {
    let mut lab = Lab::new();
    let azurite = lab.runtime.block_on(Azurite::start());
    lab.location = Location::Azure(azurite.location());
    odd_files(&lab);
    fs::write(lab.volume().join("large"), noise(9, 20_000_000)).unwrap();
    let key = |command: &mut Command| {
        command.env(AZURE_CREDENTIALS[0].0, ACCOUNT_KEY);
    };
    let backup = lab.run(&lab.backup_task("1"), key).done();
    let both = |command: &mut Command| {
        key(command);
        command.env(format!("{TO}{}", AZURE_CREDENTIALS[0].0), ACCOUNT_KEY);
    };
    run(&lab, &export(&backup, "r1", |_| ()), both).done();
    assert_all_there(&lab);
    assert_eq!(content(&lab, "volumes/data/large"), noise(9, 20_000_000));
}
