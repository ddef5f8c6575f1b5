//! All that the regions knew is gone: the operator's namespace, the application's and the cluster's own objects. The
//! bucket and the key are enough: the application is listed, and brought back into the region that held its claim, whose
//! name is all that is left of it there.

use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stage::{SOON, Scene, TERMS, ask, point, reprise, serving};
use crate::harness::{
    app::App,
    lab::Region,
    product::{self, NAMESPACE},
};

/// `kubectl reprise WORDS -o json`, and how it ended.
pub(super) fn asked(app: &App, region: &Region, words: &[&str]) -> Result<Value> {
    let answer = reprise(app, region, &[&["-o", "json"], words].concat())?;
    serde_json::from_str(&answer).with_context(|| format!("read {answer}"))
}

/// Deletes all that Reprise has in a region, and the application.
pub(super) fn wiped(app: &App, region: &Region) -> Result<()> {
    // The operator first: it must not see the application go.
    region.remove_namespace(NAMESPACE, SOON)?;
    for words in [["vault", "main"], ["dnszone", "demo-test"]] {
        region.kubectl(&["delete", words[0], words[1], "--ignore-not-found", "--wait=false"], None)?;
    }
    region.remove_namespace(app.name, SOON)
}

pub(super) fn in_both(scene: &Scene, what: impl Fn(&Region) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let all = [scene.west, scene.north].map(|region| scope.spawn(|| what(region)));
        all.into_iter().try_for_each(|it| it.join().expect("it does not panic"))
    })
}

#[test]
fn an_application_of_which_only_the_vault_is_left_is_listed_and_brought_back() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("recover", 30_113, TERMS)?;
    ask("POST", &app, scene.west, "/records/1")?;
    let first = point(&app, scene.west)?.id.context("a point has an id")?;
    ask("POST", &app, scene.west, "/records/2")?;
    scene.west.kubectl(&["create", "configmap", "new", "-n", app.name], None)?;
    let last = point(&app, scene.west)?.id.context("a point has an id")?;
    looked_into(&scene, &app, &first, &last)?;

    in_both(&scene, |region| wiped(&app, region))?;
    in_both(&scene, |region| {
        product::install(region, &[])?;
        region.apply(scene.shared)?;
        product::await_shared(region, SOON)
    })?;
    let listed = asked(&app, scene.west, &["recover"])?;
    let found = listed["applications"].as_array().context("no list")?;
    let own = found.iter().find(|it| it["name"] == app.name).with_context(|| listed.to_string())?;
    ensure!(own["newest"]["id"] == *last && own["claim"]["holder"] == scene.west.name, "{own}");

    let name = format!("{0}/{0}", app.name);
    let back = asked(&app, scene.west, &["recover", &name, "--wait", "--timeout", "3m"])?;
    ensure!(back[0]["succeeded"] == true && back[0]["point"] == *last, "{back}");
    ensure!(app.records(scene.west)? == [1, 2], "what was written before is there");
    serving(&app, scene.west)?;
    let checked = asked(&app, scene.west, &["vault", "check", "--application", &name, "--read"])?;
    ensure!(checked["applications"][0]["findings"] == json!([]), "{checked}");
    Ok(())
}

fn looked_into(scene: &Scene, app: &App, first: &str, last: &str) -> Result<()> {
    let content = asked(app, scene.west, &["ls", last])?;
    let volume = content["point"]["volumes"][0]["claim"].as_str().context("no volume")?.to_owned();
    ensure!(content["kinds"]["StatefulSet.apps"] == 1, "{content}");
    let files = asked(app, scene.west, &["ls", &format!("{last}:{volume}")])?;
    let records = files["entries"].as_array().and_then(|it| it.iter().find(|it| it["name"] == "records"));
    ensure!(records.is_some_and(|it| it["bytes"] == 4 && it["kind"] == "file"), "{files}");
    let difference = asked(app, scene.west, &["diff", first, last])?;
    let added = json!([{"kind": "ConfigMap", "name": "new", "change": "added", "diff": ""}]);
    ensure!(difference["objects"] == added, "{difference}");
    let file = &difference["volumes"][0]["files"][0];
    ensure!(file["path"] == "records" && file["before"]["bytes"] == 2 && file["after"]["bytes"] == 4, "{difference}");
    Ok(())
}
