//! What one application's key opens, by the programs that people have: restic and age.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::lab::{Lab, noise, portrait};
use crate::mover::backup::{Backup, back_up};
use crate::mover::engine::Engine;
use crate::mover::log::Witness;
use crate::vault::application_key::ApplicationKey;
use crate::vault::manifest::Content;

fn restic(lab: &Lab, application: &str, key: &ApplicationKey, words: &[&str]) -> Output {
    let repository = lab.folder.path().join(format!("vault/repos/shop.{application}"));
    Command::new("restic")
        .args(["--no-lock", "--no-cache", "-r"])
        .arg(repository)
        .args(words)
        .env("RESTIC_PASSWORD", key.repository_password().expose())
        .output()
        .expect("restic is installed")
}

fn age(lab: &Lab, application: &str, manifest: &str, key: &ApplicationKey) -> Output {
    let identity = lab.folder.path().join("identity");
    fs::write(&identity, key.identity().expose()).unwrap();
    let sealed = lab.folder.path().join(format!("vault/apps/shop/{application}/manifests/{manifest}"));
    let mut command = Command::new("age");
    command.args(["--decrypt", "-i"]).args([identity, sealed]).stdin(Stdio::null());
    command.output().expect("age is installed")
}

#[test]
#[ignore = "needs restic and age: cargo test --lib restic -- --ignored"]
fn restic_and_age_read_an_application_with_its_own_key_and_no_other_with_it() {
    let lab = Lab::new();
    let vault = lab.vault();
    for number in 0..20 {
        fs::write(lab.volume().join(format!("file {number}")), noise(number, 50_000)).unwrap();
    }
    let mut manifests = Vec::new();
    for application in ["db", "web"] {
        let engine = Engine::new(&vault, "shop", application, lab.runtime.handle().clone());
        let source = &lab.volume();
        let backup = Backup { source, host: "east", label: "data", tags: Default::default(), exclude: &[] };
        back_up(&engine, &backup, &Witness::default()).unwrap();
        let objects = format!("the objects of {application}").into_bytes();
        let content = Content::of(&objects, 1);
        let written = vault.write_manifest("shop", application, content, Cursor::new(objects));
        manifests.push(lab.runtime.block_on(written).unwrap().manifest);
    }

    let key = vault.keys().application("shop", "db");
    let target = lab.target();
    let restored = restic(&lab, "db", &key, &["restore", "latest", "--target", target.to_str().unwrap()]);
    assert!(restored.status.success(), "{restored:?}");
    let files = |root: &Path| {
        let mut files = portrait(root);
        files.retain(|path, _| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("file ")));
        files
    };
    // restic restores below the label that the volume was stored with.
    let restored = files(&target.join("data"));
    assert_eq!(restored.len(), 20);
    assert_eq!(restored, files(&lab.volume()));
    let checked = restic(&lab, "db", &key, &["check", "--read-data"]);
    assert!(checked.status.success(), "{checked:?}");
    let foreign = restic(&lab, "web", &key, &["snapshots"]);
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("wrong password or no key found"), "{foreign:?}");

    let opened = age(&lab, "db", &manifests[0], &key);
    assert_eq!(String::from_utf8_lossy(&opened.stdout), "the objects of db", "{opened:?}");
    let foreign = age(&lab, "web", &manifests[1], &key);
    assert!(!foreign.status.success() && foreign.stdout.is_empty(), "{foreign:?}");
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("no identity matched"), "{foreign:?}");
}
