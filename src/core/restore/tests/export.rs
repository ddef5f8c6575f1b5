//! A restore that exports: one new volume, and nothing else of the cluster.

use super::*;
use crate::core::mover_task::Task;

/// The task of the one mover.
fn task(play: &Play) -> Task {
    let decided = decide(&play.object, &play.observed(), START);
    let jobs: Vec<_> = decided
        .effects
        .iter()
        .filter_map(|it| match it {
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => Some(it.data.clone()),
            _ => None,
        })
        .collect();
    let [job] = jobs.as_slice() else { panic!("{} movers", jobs.len()) };
    let environment = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let task = environment.iter().find(|it| it["name"] == "REPRISE_TASK").unwrap();
    serde_json::from_str(task["value"].as_str().unwrap()).unwrap()
}

#[test]
fn it_fills_one_new_volume_and_neither_stops_saves_nor_starts_anything() {
    let mut play = Play::new(&json!({"export": {"claim": "look"}}));
    play.size = (3 << 30, 1_000);
    play.running = 0;
    play.until(RestoreStepName::RestoreVolumes);
    let Task::Export { volumes, manifest, .. } = task(&play) else { panic!("an export") };
    let named: Vec<_> = volumes.iter().map(|it| (it.claim.as_str(), it.snapshot.as_str())).collect();
    assert_eq!((named, manifest.as_deref()), (vec![("data", "s-data"), ("log", "s-log")], Some("m")));
    let decided = decide(&play.object, &play.observed(), START);
    let size = decided.effects.iter().find_map(|it| match it {
        Effect::Apply(it) => it.data.pointer("/spec/resources/requests/storage").cloned(),
        _ => None,
    });
    assert_eq!(size, Some(json!("8Gi")), "a quarter more than six");
    play.marks = Some(CHOSEN.into());
    let (reason, message) = play.played_out(|second| second % 5 == 4);
    assert_eq!((reason.as_str(), play.running), ("Exported", 0), "{message}");
    play.done.dedup();
    assert_eq!(play.done, ["fill look"]);
    let own = !play.object.in_place() && !play.begun.iter().any(|it| matches!(it, Work::RestoreObjects { .. }));
    assert!(own && play.object.status.unwrap().safety_point.is_none());
}

#[test]
fn only_what_is_named_is_exported() {
    let only = json!({"volumes": [{"claim": "log", "paths": ["a/*"]}]});
    let mut play = Play::new(&json!({"export": {"claim": "look", "size": "5Gi"}, "only": only}));
    play.running = 0;
    play.until(RestoreStepName::RestoreVolumes);
    let Task::Export { volumes, manifest, .. } = task(&play) else { panic!("an export") };
    assert_eq!((volumes.len(), volumes[0].paths.as_slice(), manifest), (1, &["a/*".to_owned()][..], None));
}

#[test]
fn a_claim_that_is_there_is_not_written_to() {
    let mut play = Play::new(&json!({"export": {"claim": "look"}}));
    play.until(RestoreStepName::RestoreVolumes);
    let mut seen = play.observed();
    let there = ClaimSeen { volume: Some("theirs".into()), bound: true, ..ClaimSeen::default() };
    seen.volumes.insert("look".into(), VolumeSeen { tenant: Some(there), ..VolumeSeen::default() });
    assert_eq!(decide(&play.object, &seen, START).status.conditions[0].reason, "ClaimExists");
}
