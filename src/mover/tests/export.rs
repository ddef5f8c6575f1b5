//! Volumes and objects of a point as plain files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};

use serde_json::{Value, json};

use super::lab::{Lab, noise};
use crate::api::mappings::ObjectSelector;
use crate::capture::blocks::Span;
use crate::capture::bundle::{Count, Entry, FORMAT, Id, Index, Namespace, Scope, canonical, write};
use crate::core::mover_task::{
    CORRUPT, Command, ExportTarget, ExportedDump, ExportedVolume, MISCONFIGURED, Report, Task,
};
use crate::mover::backup::id_text;
use crate::mover::dump::{self, Dump};
use crate::vault::manifest::Content;

/// A bundle with two `ConfigMap`s and a Secret, stored in the vault; its name.
pub(super) fn bundle_in(lab: &Lab) -> String {
    let object = |kind: &str, name: &str| {
        let id = Id { group: String::new(), kind: kind.into(), namespace: Some("shop".into()), name: name.into() };
        let metadata = json!({"name": name, "namespace": "shop"});
        (id, json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": {"x": name}}))
    };
    let objects = BTreeMap::from([object("ConfigMap", "web"), object("ConfigMap", "db"), object("Secret", "web")]);
    let count = |kind: &str, count| Count {
        group: String::new(),
        kind: kind.into(),
        version: "v1".into(),
        scope: Scope::Namespaced,
        count,
    };
    let namespace = Namespace { name: "shop".into(), ..Namespace::default() };
    let kinds = vec![count("ConfigMap", 2), count("Secret", 1)];
    let index = Index { format: FORMAT, namespace, kinds, count: 3, ..Index::default() };
    let entries = objects.keys().map(|id| Entry { id: id.clone(), at: Span::new(0, 0) });
    let text = |entry: &Entry, to: &mut Vec<u8>| to.write_all(&canonical(&objects[&entry.id])?);
    let bytes = write(&index, entries, text).unwrap().bytes().unwrap();
    let vault = lab.vault();
    let written = vault.write_manifest("shop", "db", Content::of(&bytes, 3), Cursor::new(bytes.to_vec()));
    lab.runtime.block_on(written).unwrap().manifest
}

/// Stores a dump; its snapshot.
pub(super) fn dump_in(lab: &Lab, text: &[u8]) -> String {
    let engine = lab.engine();
    let command = Command { pods: BTreeMap::new(), container: None, command: vec![], timeout_seconds: 1 };
    let tags = ["a", "b", "c"].map(str::to_owned);
    let dump = Dump { namespace: "shop", host: "east", name: "orders", tags, command: &command, max_bytes: None };
    let repository = engine.open_or_make().unwrap().to_indexed_ids().unwrap();
    let stored = dump::archive(&engine, &repository, &dump, Cursor::new(text.to_vec())).unwrap();
    id_text(stored.id)
}

fn task(lab: &Lab, backup: &Report, manifest: Option<String>, objects: Vec<ObjectSelector>) -> Task {
    let snapshot = backup.snapshot.clone().unwrap();
    Task::Export {
        namespace: "shop".into(),
        application: "db".into(),
        point: "p1".into(),
        volumes: vec![
            ExportedVolume { claim: "data".into(), snapshot: snapshot.clone(), paths: vec![] },
            ExportedVolume { claim: "log".into(), snapshot, paths: vec!["a/*".into()] },
        ],
        dumps: vec![],
        manifest,
        objects,
        target: ExportTarget::Folder(lab.target().to_str().unwrap().to_owned()),
    }
}

#[test]
fn volumes_and_objects_become_plain_files_and_a_second_run_transfers_nothing() {
    let lab = Lab::new();
    fs::create_dir(lab.volume().join("a")).unwrap();
    fs::write(lab.volume().join("a/x"), noise(1, 50_000)).unwrap();
    fs::write(lab.volume().join("b"), noise(2, 50_000)).unwrap();
    let backup = lab.back_up();
    let manifest = bundle_in(&lab);
    let mut wanted = task(&lab, &backup, Some(manifest.clone()), vec![]);
    let text = noise(3, 3_000_000);
    let Task::Export { dumps, .. } = &mut wanted else { panic!("an export") };
    dumps.push(ExportedDump { name: "orders".into(), snapshot: dump_in(&lab, &text) });
    let report = lab.run(&wanted, |_| ()).done();
    assert_eq!((report.snapshot.as_deref(), report.files), (Some("p1"), 3 + 1 + 3));
    let read = |name: &str| fs::read(lab.target().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((read("volumes/data/b"), read("volumes/log/a/x")), (noise(2, 50_000), noise(1, 50_000)));
    assert!(!lab.target().join("volumes/log/b").exists());
    assert_eq!(read("dumps/orders"), text);
    let object: Value = serde_yaml::from_slice(&read("objects/core/ConfigMap/web.yaml")).unwrap();
    assert_eq!(object["data"]["x"], "web");
    assert!(lab.target().join("objects/core/Secret/web.yaml").exists());
    assert_eq!(lab.run(&wanted, |_| ()).done().added_bytes, 3_000_000, "the dump, and nothing else");

    let only = ObjectSelector { kind: Some("Secret".into()), ..ObjectSelector::default() };
    fs::remove_dir_all(lab.target().join("objects")).unwrap();
    lab.run(&task(&lab, &backup, Some(manifest), vec![only]), |_| ()).done();
    assert!(!lab.target().join("objects/core/ConfigMap").exists());
    assert!(lab.target().join("objects/core/Secret/web.yaml").exists());
}

#[test]
fn a_claim_that_leads_elsewhere_is_refused_and_missing_objects_are_damage() {
    let lab = Lab::new();
    fs::write(lab.volume().join("b"), "b").unwrap();
    let backup = lab.back_up();
    let mut wrong = task(&lab, &backup, None, vec![]);
    let Task::Export { volumes, .. } = &mut wrong else { panic!("an export") };
    volumes[0].claim = "../outside".into();
    let end = lab.run(&wrong, |_| ());
    assert_eq!(end.code, Some(MISCONFIGURED.into()), "{:?}", end.report);
    let end = lab.run(&task(&lab, &backup, Some("ab".repeat(32)), vec![]), |_| ());
    assert_eq!(end.code, Some(CORRUPT.into()), "{:?}", end.report);
}
