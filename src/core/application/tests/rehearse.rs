//! When a point is rehearsed, and where.

use super::*;
use crate::api::{application::RehearseSettings, restore::Restore};

const WEEK: i64 = 7 * 86_400;

fn rehearsing(region: Option<&str>) -> ProtectedApplication {
    let mut object = application(json!({"lastPoint": {"id": "1-00001", "consistentAt": at(0)}}));
    object.metadata.creation_timestamp = Some(Time(at(0)));
    let every = crate::api::span::Span::from_secs(7 * 86_400);
    object.spec.backup.verification.rehearse = Some(RehearseSettings { every, region: region.map(ToOwned::to_owned) });
    object
}

fn rehearsal(number: u32, second: i64, ended: bool) -> Arc<Restore> {
    let status = ended.then(|| json!({"conditions": conditions(vec![Finding::new(SUCCEEDED, true, "Rehearsed", "")])}));
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": format!("shop-rehearsal-{number:04}"), "namespace": "shop", "creationTimestamp": at(second)},
        "spec": {"application": "shop", "rehearse": true}, "status": status,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn at_time(object: &ProtectedApplication, seen: Observed, restores: Vec<Arc<Restore>>, second: i64) -> Decided {
    decide(object, &Observed { restores, ..seen }, at(second))
}

fn standby() -> Observed {
    observed(Some(view(Some("east"), 2)))
}

#[test]
fn one_is_made_when_it_is_due_and_never_two_at_a_time() {
    let object = rehearsing(Some("west"));
    let names = |restores, second| made(&at_time(&object, standby(), restores, second), "Restore");
    assert_eq!(names(vec![], 2 * WEEK).len(), 1, "the first one within a week");
    assert_eq!(names(vec![rehearsal(1, 0, true)], WEEK - 1).len(), 0);
    assert_eq!(names(vec![rehearsal(1, 0, true)], WEEK).len(), 1);
    assert_eq!(names(vec![rehearsal(1, 0, false)], 5 * WEEK).len(), 0);
    let decided = at_time(&object, standby(), vec![rehearsal(9, 0, true)], WEEK);
    let next = decided.effects.iter().find_map(|it| match it {
        Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Restore" => Some(it.clone()),
        _ => None,
    });
    let next = next.unwrap();
    assert_eq!(
        (next.metadata.name.as_deref(), &next.data["spec"]["rehearse"]),
        (Some("shop-rehearsal-0010"), &json!(true))
    );
}

#[test]
fn after_the_last_number_comes_the_first() {
    let object = rehearsing(Some("west"));
    let names = |restores, second| made(&at_time(&object, standby(), restores, second), "Restore");
    assert_eq!(names(vec![rehearsal(9_999, 0, true)], WEEK), ["shop-rehearsal-0001"]);
    let both = vec![rehearsal(9_999, 0, true), rehearsal(1, WEEK, true)];
    assert_eq!(names(both, 2 * WEEK), ["shop-rehearsal-0002"], "the newest is the one that was made last");
}

#[test]
fn it_is_done_where_it_is_asked_for_or_where_nothing_serves() {
    let makes =
        |object: &ProtectedApplication, seen| !made(&at_time(object, seen, vec![], 2 * WEEK), "Restore").is_empty();
    let anywhere = rehearsing(None);
    let first = |holder: &str| {
        let others = anywhere.spec.regions.iter().map(|it| it.name.as_str());
        others.into_iter().find(|it| *it != holder) == Some("west")
    };
    assert_eq!(makes(&anywhere, standby()), first("east"));
    assert!(!makes(&anywhere, serving()), "west serves");
    assert!(makes(&rehearsing(Some("west")), serving()));
    assert!(!makes(&rehearsing(Some("east")), standby()));
    assert!(!makes(&application(json!({})), standby()), "nobody asked for it");
}

#[test]
fn the_newest_three_records_are_kept() {
    let object = rehearsing(Some("west"));
    let restores = (1..=5).map(|it| rehearsal(it, i64::from(it), true)).collect();
    let decided = at_time(&object, standby(), restores, 10);
    let deleted: Vec<_> = decided
        .effects
        .iter()
        .filter_map(|it| match it {
            Effect::Delete(key) if key.kind == "Restore" => Some(key.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["shop-rehearsal-0002", "shop-rehearsal-0001"]);
}
