//! What fuzzing begins with: one sound example of each format, in `fuzz/seeds`. With `REPRISE_WRITE_SEEDS=1` they are
//! written anew, as a change of a format asks for.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::repofile::{IndexFile, SnapshotFile, Tree};
use serde_json::{Value, json};

use super::export::bundle_in;
use super::lab::Lab;
use crate::api::recovery_point::Level;
use crate::capture::bundle::Bundle;
use crate::core::claim::record::{Claim, Deadlines, FORMAT, Intent};
use crate::core::point::Point;
use crate::core::verified::{Damage, Verified};
use crate::vault::versions::Page;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

fn claim() -> Claim {
    Claim {
        format: FORMAT,
        group: "shop.db".to_owned(),
        epoch: 3,
        holder: Some("east".to_owned()),
        candidates: vec!["east".to_owned(), "west".to_owned()],
        seq: 7,
        nonce: "east.one.7".to_owned(),
        intent: Intent::Released { to: Some("west".into()), from: None, point: None, reason: "asked for".into() },
        deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
        reason: "first claim".to_owned(),
        health: None,
        renewed_at: Timestamp::UNIX_EPOCH,
    }
}

fn point() -> Value {
    json!({
        "format": crate::core::point::FORMAT, "id": "0000000001-01JDHS0000000000000000000A", "namespace": "shop",
        "application": "db", "epoch": 1, "region": "east", "branch": false, "consistentAt": "2026-01-01T00:00:00Z",
        "createdAt": "2026-01-01T00:00:05Z", "objects": {"manifest": "0".repeat(64), "count": 1, "bytes": 2},
        "volumes": [], "dumps": [], "missing": ["x"], "skipped": [], "suspicious": [],
    })
}

fn note() -> Verified {
    Verified {
        point: "0000000001-01JDHS0000000000000000000A".to_owned(),
        level: Level::L2,
        at: Timestamp::UNIX_EPOCH,
        detail: "read back".to_owned(),
        restore_seconds: Some(5),
        damage: Some(Damage { packs: vec!["a".repeat(64)], ..Damage::default() }),
    }
}

/// Those that are made by what writes such things. The first letter says what of several it is.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    let lab = Lab::new();
    fs::write(lab.volume().join("file"), "data").unwrap();
    lab.back_up();
    let snapshots = lab.engine().open().unwrap().get_matching_snapshots(|_: &SnapshotFile| true).unwrap();
    let mut snapshot = serde_json::to_value(&snapshots[0]).unwrap();
    snapshot["tree"] = json!("b".repeat(64));
    let manifest = bundle_in(&lab);
    let vault = lab.vault();
    let read = vault.read_manifest("shop", "db", &manifest, Vec::new());
    let bundle = lab.runtime.block_on(read).unwrap();
    let lettered = |letter: &str, text: &str| format!("{letter}{text}").into_bytes();
    let head =
        json!({"format": 1, "epoch": 1, "sealedBy": "east", "seq": 1, "nonce": "n", "latest": null, "branches": []});
    vec![
        ("claim/claim", claim().to_bytes()),
        (
            "catalogue/identity",
            lettered("0", &fs::read_to_string(lab.folder.path().join("vault/reprise.json")).unwrap()),
        ),
        ("catalogue/head", lettered("1", &head.to_string())),
        ("catalogue/point", lettered("3", &point().to_string())),
        ("catalogue/note", lettered("4", &serde_json::to_string(&note()).unwrap())),
        ("repository/snapshot", lettered("2", &snapshot.to_string())),
        ("bundle/bundle", [b"0", &bundle[..]].concat()),
    ]
}

#[test]
fn what_fuzzing_begins_with_is_read_by_what_is_fuzzed() {
    if std::env::var_os("REPRISE_WRITE_SEEDS").is_some() {
        for (name, bytes) in made() {
            fs::create_dir_all(folder().join(name).parent().unwrap()).unwrap();
            fs::write(folder().join(name), bytes).unwrap();
        }
    }
    let read = |name: &str| fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(Claim::parse(&read("claim/claim")).unwrap().group, "shop.db");
    let json = |name: &str| serde_json::from_slice::<Value>(&read(name)[1..]).unwrap();
    assert!(json("catalogue/identity")["format"].is_number() && json("catalogue/head")["sealedBy"].is_string());
    assert_eq!(serde_json::from_value::<Point>(json("catalogue/point")).unwrap().namespace, "shop");
    assert!(serde_json::from_value::<Verified>(json("catalogue/note")).unwrap().damage.is_some());
    let bundle = Bundle::from_bytes(Bytes::from(read("bundle/bundle")[1..].to_vec()));
    assert_eq!(bundle.index().unwrap().count, 3);
    assert_eq!(serde_json::from_slice::<Tree>(&read("repository/directory")[1..]).unwrap().nodes.len(), 3);
    assert_eq!(serde_json::from_slice::<IndexFile>(&read("repository/index")[1..]).unwrap().packs[0].blobs.len(), 2);
    assert_eq!(serde_json::from_slice::<SnapshotFile>(&read("repository/snapshot")[1..]).unwrap().label, "data");
    let versions = String::from_utf8(read("listings/versions")).unwrap();
    assert!(quick_xml::de::from_str::<Page>(&versions[1..]).is_ok());
    assert!(read("listings/s3").starts_with(b"0<") && read("listings/azure").starts_with(b"1<"));
}
