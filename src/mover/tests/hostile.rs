//! Snapshots that no backup makes: whoever has the vault's key may write trees that lead out of the volume.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustic_core::repofile::{BlobType, SnapshotFile, SnapshotId};
use rustic_core::{FileType, Id};
use serde_json::{Value, json};

use super::lab::{End, Lab, portrait};
use crate::core::mover_task::{CORRUPT, ExportPlace, ExportTarget, ExportedVolume, Report, Task};
use crate::mover::archive::Store;
use crate::mover::backup::id_text;
use crate::mover::index::Index;

/// Where exports into a vault lie.
const EXPORTS: &str = "exports/analysis";

/// A lab with a snapshot, and a directory beside the volume that nothing may touch.
fn lab() -> (Lab, PathBuf) {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), "data").unwrap();
    lab.back_up();
    let outside = lab.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "keep me").unwrap();
    (lab, outside)
}

/// Stores a snapshot whose volume has these entries. `{DATA}` is the name of a blob, `{TREE}` that of a tree with a file `f`.
fn snapshot(lab: &Lab, entries: &[Value]) -> String {
    let engine = lab.engine();
    let repository = engine.open().unwrap();
    let index = Index::read(&engine, &repository, None).unwrap();
    let store = Store::new(&engine, &index, 3, true);
    let mut tools = store.tools();
    let mut tree = |nodes: &[Value]| -> Id {
        let text = format!("{}\n", json!({ "nodes": nodes }));
        store.add(BlobType::Tree, text.as_bytes(), &mut tools).unwrap()
    };
    let data = store.add(BlobType::Data, b"evil", &mut store.tools()).unwrap().to_hex().to_string();
    let below = tree(&[file("f", &data)]).to_hex().to_string();
    let entries: Vec<Value> = entries
        .iter()
        .map(|it| serde_json::from_str(&it.to_string().replace("{DATA}", &data).replace("{TREE}", &below)).unwrap())
        .collect();
    let volume = tree(&entries).to_hex().to_string();
    let top = tree(&[directory("data", &volume)]);
    store.finish().unwrap();
    let found = repository.get_matching_snapshots(|_: &SnapshotFile| true).unwrap();
    let snapshot = SnapshotFile { tree: top.into(), ..found[0].clone() };
    id_text(SnapshotId::from(store.save(FileType::Snapshot, &snapshot).unwrap()))
}

fn file(name: &str, blob: &str) -> Value {
    json!({"name": name, "type": "file", "mode": 0o644, "size": 4, "content": [blob]})
}

fn directory(name: &str, tree: &str) -> Value {
    json!({"name": name, "type": "dir", "mode": 0o2_000_000_755_u32, "subtree": tree})
}

fn link(name: &str, to: &Path) -> Value {
    json!({"name": name, "type": "symlink", "mode": 0o777, "linktarget": to})
}

/// Everywhere that files of a snapshot go to: in whole, some paths of it, into a folder, into a vault.
fn all_ways(lab: &Lab, snapshot: &str) -> Vec<(&'static str, End)> {
    let export = |target| Task::Export {
        namespace: "shop".into(),
        application: "db".into(),
        point: "p1".into(),
        volumes: vec![ExportedVolume { claim: "data".into(), snapshot: snapshot.to_owned(), paths: vec![] }],
        dumps: vec![],
        manifest: None,
        objects: vec![],
        target,
    };
    let run = ulid::Ulid::generate().to_string().to_lowercase();
    let place = ExportPlace { namespace: "analysis".into(), prefix: run.clone(), run };
    let folder = ExportTarget::Folder(lab.target().to_str().unwrap().to_owned());
    let report = Report { snapshot: Some(snapshot.to_owned()), ..Report::default() };
    let mut ways = vec![("restore", lab.run(&lab.restore_task(snapshot), |_| ()))];
    empty(&lab.target());
    ways.push(("paths", lab.restore_paths(&report, &["**"])));
    empty(&lab.target());
    ways.push(("folder", lab.run(&export(folder), |_| ())));
    empty(&lab.target());
    ways.push(("vault", lab.run(&export(ExportTarget::Vault(place)), |command| lab.as_target(command))));
    assert!(ways.iter().all(|(_, end)| !end.report.occupied), "each writes");
    ways
}

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

/// Everything but where something may be written.
fn surroundings(lab: &Lab) -> BTreeMap<PathBuf, String> {
    let mut all = portrait(lab.folder.path());
    let exported = Path::new("vault").join(EXPORTS);
    let ours = |path: &Path| {
        path.starts_with("target")
            || path.starts_with(&exported)
            || path.starts_with("vault/.reprise")
            // What is damaged is noted at the point.
            || path.starts_with("vault/apps")
            || exported.starts_with(path)
            || path.to_str().is_some_and(|it| it.starts_with("report-"))
    };
    all.retain(|path, _| !ours(path));
    all
}

#[test]
fn a_name_that_leads_out_of_its_directory_is_damage_and_nothing_is_written() {
    let (lab, outside) = lab();
    let absolute = outside.join("f");
    for name in ["", ".", "..", "../outside/f", "a/b", absolute.to_str().unwrap(), "a\0b"] {
        let snapshot = snapshot(&lab, &[file(name, "{DATA}"), directory("z", "{TREE}")]);
        let before = surroundings(&lab);
        for (way, end) in all_ways(&lab, &snapshot) {
            assert_eq!(end.code, Some(CORRUPT.into()), "{name:?}, {way}: {:?}\n{}", end.report, end.log);
            assert!(end.report.error.unwrap().contains("is not a name"), "{name:?}, {way}");
        }
        assert_eq!(surroundings(&lab), before, "{name:?}");
        assert!(!lab.target().join("z").exists() && !lab.target().join("volumes/data/z").exists(), "{name:?}");
    }
}

#[test]
fn what_lies_below_a_name_that_is_a_link_as_well_is_not_written_through_the_link() {
    let (lab, outside) = lab();
    let hard = |name: &str| {
        let mut node = file(name, "{DATA}");
        (node["inode"], node["device_id"], node["links"]) = (json!(7), json!(1), json!(2));
        node
    };
    let (to_folder, to_file) = (link("x", &outside), link("x", &outside.join("f")));
    for entries in [
        vec![to_folder.clone(), directory("x", "{TREE}")],
        vec![directory("x", "{TREE}"), to_folder],
        vec![to_file.clone(), file("x", "{DATA}")],
        vec![file("x", "{DATA}"), to_file.clone()],
        // The second name of a file whose first is a link.
        vec![to_file, hard("x"), hard("y")],
    ] {
        let snapshot = snapshot(&lab, &entries);
        let before = surroundings(&lab);
        for (way, end) in all_ways(&lab, &snapshot) {
            let error = end.report.error.as_deref().unwrap_or_default();
            assert!(
                way == "vault" || !error.is_empty() || end.report.warnings > 0 || way == "paths",
                "{way}: {entries:?}"
            );
        }
        assert_eq!(surroundings(&lab), before, "{entries:?}");
        assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "keep me", "{entries:?}");
    }
}
