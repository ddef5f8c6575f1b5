//! Restores into another namespace than the application's: who may, and what is never touched.

use super::*;
use crate::{api::application::Role, core::app_key::AppKey};

/// A restore in the namespace `drill` of what is protected in `shop`, which shares with these.
fn into_drill(shared_with: &[&str], spec: &Value) -> Play {
    let mut all = json!({"sourceNamespace": "shop"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut play = Play::new(&all);
    play.object.metadata.namespace = Some("drill".into());
    play.running = 0;
    let application = play.application.as_mut().unwrap();
    application.spec.shared_with = shared_with.iter().map(|it| (*it).to_owned()).collect();
    // Also where it is not served.
    application.status.as_mut().unwrap().role = Some(Role::Standby);
    play
}

#[test]
fn it_comes_back_there_and_neither_claim_nor_workloads_of_the_application_are_touched() {
    let mut play = into_drill(&["drill"], &json!({}));
    let (reason, message) = play.played_out(|second| second % 6 == 5);
    assert_eq!(reason, "Restored", "{message}");
    play.done.dedup();
    assert_eq!(play.done, ["fill data", "fill log", "make cache", "objects 0"], "nothing is saved, stopped or started");
    let shop = AppKey { namespace: "shop".into(), name: "shop".into() };
    let restored = play.begun.iter().find(|it| matches!(it, Work::RestoreObjects { .. })).unwrap();
    assert_eq!(restored.needs_claim(), None);
    let Work::RestoreObjects { application, into, .. } = restored else { panic!("{restored:?}") };
    assert_eq!((application, into.as_str()), (&shop, "drill"));
    assert!(play.object.status.unwrap().safety_point.is_none());
}

#[test]
fn its_movers_read_the_repository_of_the_application_and_give_volumes_to_the_other_namespace() {
    let mut play = into_drill(&["drill"], &json!({}));
    play.until(RestoreStepName::RestoreVolumes);
    let decided = decide(&play.object, &play.observed(), START);
    let jobs: Vec<_> = decided
        .effects
        .iter()
        .filter_map(|it| match it {
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => Some(it.data.to_string()),
            _ => None,
        })
        .collect();
    assert!(jobs.len() == 2 && jobs.iter().all(|it| it.contains(r#"\"namespace\":\"shop\""#)), "{jobs:?}");
}

#[test]
fn without_consent_nothing_is_told_and_the_field_is_named() {
    let mut play = into_drill(&["stage"], &json!({}));
    let (reason, refused) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), play.begun.len()), ("NotShared", 0));
    assert!(refused.contains("spec.sharedWith") && refused.contains("names drill"), "{refused}");
    let mut play = into_drill(&["drill"], &json!({}));
    play.application = None;
    assert_eq!(play.played_out(|_| false).1, refused, "whether there is one is nobody's business");
}

#[test]
fn consent_that_is_withdrawn_before_it_has_begun_counts() {
    let mut play = into_drill(&["drill"], &json!({}));
    play.pass();
    play.application.as_mut().unwrap().spec.shared_with.clear();
    assert_eq!(play.played_out(|_| false).0, "NotShared");
}

#[test]
fn a_namespace_with_an_application_of_its_own_is_left_alone() {
    let mut play = into_drill(&["drill"], &json!({}));
    play.protected = vec!["web".into()];
    let (reason, message) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), play.begun.len()), ("NamespaceProtected", 0));
    assert!(message.contains("ProtectedApplication web"), "{message}");
}

#[test]
fn a_volume_that_is_there_is_not_written_over() {
    let mut play = into_drill(&["drill"], &json!({}));
    play.until(RestoreStepName::RestoreVolumes);
    let mut seen = play.observed();
    let there = ClaimSeen { volume: Some("theirs".into()), bound: true, ..ClaimSeen::default() };
    let volume = Pv { name: "theirs".into(), reclaim: "Delete".into(), ..Pv::default() };
    seen.volumes
        .insert("log".into(), VolumeSeen { tenant: Some(there), volume: Some(volume), ..VolumeSeen::default() });
    let refused = decide(&play.object, &seen, START);
    assert_eq!(refused.status.conditions[0].reason, "ClaimExists");
    assert!(refused.status.conditions[0].message.contains("the claim log is in namespace drill already"));
    let changes = |it: &&Effect| !matches!(it, Effect::Announce(_));
    assert_eq!(refused.effects.iter().find(changes), None, "neither is another one made");
}

#[test]
fn mappings_of_the_restore_take_the_place_of_the_regions() {
    let class = json!({"storageClasses": [{"from": "fast", "to": "slow"}]});
    let mut play = into_drill(&["drill"], &json!({"mappings": class}));
    play.played_out(|_| false);
    let mapped = play.begun.iter().find_map(|it| match it {
        Work::RestoreObjects { mappings, .. } => Some(mappings.storage_class("fast").to_owned()),
        _ => None,
    });
    assert_eq!(mapped.as_deref(), Some("slow"));
}
