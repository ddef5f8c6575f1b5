//! When points are gone through, dropped and pruned.

use super::*;
use crate::{
    api::application::{RetainedPoint, RetentionStatus},
    core::{
        mover_task::{Pruned, Report},
        work::Review,
    },
};

const HOURS: i64 = 3_600;

/// The application with a policy, and this status of it.
fn kept(status: &Value) -> ProtectedApplication {
    let mut object = application(json!({"role": "Active", "epoch": 1, "retention": status}));
    object.spec.backup.retention = serde_json::from_value(json!({"last": 3})).unwrap();
    object
}

/// After a decision, as it is read back.
fn next(decided: &Decided) -> ProtectedApplication {
    let mut object = kept(&Value::Null);
    object.status = Some(decided.status.clone());
    object
}

fn review(drop: &[&str], seconds: i64) -> (&'static str, Progress) {
    let work = Work::ReviewPoints {
        vault: "main".into(),
        application: key(),
        policy: Box::default(),
        in_use: vec![],
        epoch: 1,
    };
    let points = vec![RetainedPoint { id: "p9".into(), why: "newest good".into() }];
    let drop = drop.iter().map(|it| (*it).to_owned()).collect();
    done(work, seconds, Outcome::Reviewed(Box::new(Review { kept: 1, points, drop, suspended: None })))
}

fn dropped(ids: &[&str], refused: &[&str], seconds: i64) -> (&'static str, Progress) {
    let own = |ids: &[&str]| ids.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let work = Work::DropPoints { vault: "main".into(), application: key(), ids: own(ids), epoch: 1 };
    let gone: Vec<_> = own(ids).into_iter().filter(|it| !refused.contains(&it.as_str())).collect();
    done(work, seconds, Outcome::Dropped { dropped: gone, refused: own(refused) })
}

pub(super) fn seeing<const N: usize>(works: [(&'static str, Progress); N]) -> Observed {
    let works = works.into_iter().chain([sealed(1)]).collect();
    Observed { works, movers: Some(movers()), ..serving() }
}

fn retention(decided: &Decided) -> RetentionStatus {
    decided.status.retention.clone().unwrap_or_default()
}

#[test]
fn without_a_policy_nothing_is_gone_through() {
    assert!(!begun(&decide(&application(json!({})), &seeing([]), at(0))).contains(&"ReviewPoints"));
    assert!(begun(&decide(&kept(&Value::Null), &seeing([]), at(0))).contains(&"ReviewPoints"));
}

#[test]
fn a_region_that_does_not_serve_or_cannot_prove_its_claim_drops_nothing() {
    let status = json!({"dropping": ["p1"]});
    let mut unproven = seeing([review(&["p1"], 0)]);
    unproven.claim.as_mut().unwrap().valid = false;
    let standby = Observed { claim: Some(view(Some("east"), 2)), ..seeing([review(&["p1"], 0)]) };
    for seen in [unproven, standby] {
        let works = begun(&decide(&kept(&status), &seen, at(2 * HOURS)));
        assert!(!works.contains(&"ReviewPoints") && !works.contains(&"DropPoints"), "{works:?}");
    }
}

#[test]
fn what_was_to_go_is_found_anew_after_an_edit_a_loss_of_the_claim_and_a_suspicious_point() {
    let status = json!({"dropping": ["p1"]});
    let seen = seeing([]);
    assert!(begun(&decide(&kept(&status), &seen, at(5))).contains(&"DropPoints"));
    let mut edited = kept(&status);
    edited.metadata.generation = Some(2);
    let mut emptied = ended(false, "Suspicious", 1, 0, 9);
    (emptied["id"], emptied["suspicious"]) = (json!("1-b"), json!(["volume data is empty"]));
    let suspicious = Observed { points: vec![recovery_point("shop-000002", "Scheduled", emptied)], ..seen.clone() };
    let standby = Observed { claim: Some(view(Some("east"), 2)), ..seen.clone() };
    for (object, seen) in [(edited, &seen), (kept(&status), &suspicious), (kept(&status), &standby)] {
        let decided = decide(&object, seen, at(5));
        assert!(!begun(&decided).contains(&"DropPoints") && retention(&decided).dropping.is_empty());
    }
}

#[test]
fn without_a_policy_any_more_nothing_is_told_of_it() {
    let mut object = kept(&json!({"dropping": ["p1"], "kept": 3}));
    object.spec.backup.retention = None;
    let decided = decide(&object, &seeing([]), at(5));
    assert!(decided.status.retention.is_none() && !begun(&decided).contains(&"DropPoints"));
}

#[test]
fn the_point_that_a_restore_is_at_is_in_use_wherever_it_goes_to() {
    let restore = |source: Option<&str>, status: &str| {
        let metadata = json!({"name": "back", "namespace": if source.is_some() { "drill" } else { "shop" }});
        let spec = json!({"application": "db", "sourceNamespace": source});
        let conditions = json!([{"type": "Succeeded", "status": status, "reason": "X", "message": "",
            "lastTransitionTime": "2027-01-01T00:00:00Z"}]);
        let all = json!({"apiVersion": "reprise.dev/v1alpha1", "kind": "Restore", "metadata": metadata, "spec": spec,
            "status": {"point": "p7", "conditions": conditions}});
        std::sync::Arc::new(serde_json::from_value(all).unwrap())
    };
    let used = |restores| {
        let seen = Observed { restores, ..seeing([]) };
        decide(&kept(&Value::Null), &seen, at(0)).effects.into_iter().find_map(|it| match it {
            Effect::Begin(work) => match *work {
                Work::ReviewPoints { in_use, .. } => Some(in_use),
                _ => None,
            },
            _ => None,
        })
    };
    assert_eq!(used(vec![restore(None, "Unknown")]), Some(vec!["p7".to_owned()]));
    assert_eq!(used(vec![restore(Some("shop"), "Unknown")]), Some(vec!["p7".to_owned()]));
    assert_eq!(used(vec![restore(None, "True")]), Some(vec![]));
}

#[test]
fn what_shall_go_stands_in_the_status_before_it_goes() {
    let seen = seeing([review(&["p1", "p2"], 0)]);
    let intent = decide(&kept(&Value::Null), &seen, at(5));
    assert_eq!(retention(&intent).dropping, ["p1", "p2"]);
    assert!(!begun(&intent).contains(&"DropPoints"), "not before it was written");
    let act = decide(&next(&intent), &seen, at(6));
    assert!(begun(&act).contains(&"DropPoints"));
}

#[test]
fn what_is_gone_is_counted_once_and_its_objects_go_too() {
    let status = json!({"dropping": ["p1", "p2"], "dropped": 5});
    let mut seen = seeing([review(&["p1", "p2"], 0), dropped(&["p1", "p2"], &["p2"], 9)]);
    let object = |name, id: &str| {
        let mut status = ended(true, "Stored", 1, 0, 9);
        status["id"] = json!(id);
        recovery_point(name, "Manual", status)
    };
    seen.points = vec![object("one", "p1"), object("two", "p2")];
    let told = decide(&kept(&status), &seen, at(10));
    let found = retention(&told);
    assert_eq!((found.dropped, found.refused, found.dropping.len()), (6, 1, 0));
    let gone = |it: &&Effect| matches!(it, Effect::Delete(key) if key.kind == "RecoveryPoint");
    assert_eq!(told.effects.iter().filter(gone).count(), 1);
    // The review is older than the drop: what it named is not dropped again.
    let after = decide(&next(&told), &seen, at(11));
    assert!(retention(&after).dropping.is_empty() && !begun(&after).contains(&"DropPoints"));
    assert_eq!(retention(&after).dropped, 6);
}

#[test]
fn points_are_gone_through_once_an_hour_and_an_unchanged_result_is_not_written() {
    let seen = seeing([review(&[], 0)]);
    let first = decide(&kept(&Value::Null), &seen, at(1));
    let second = decide(&next(&first), &seen, at(HOURS - 1));
    assert_eq!(retention(&first), retention(&second));
    assert!(!begun(&second).contains(&"ReviewPoints"));
    assert!(begun(&decide(&next(&second), &seen, at(HOURS))).contains(&"ReviewPoints"));
}

#[test]
fn a_prune_follows_what_was_dropped_at_most_once_a_day_and_again_while_something_is_marked() {
    let seen = seeing([review(&[], 0)]);
    assert_eq!(retention(&decide(&kept(&Value::Null), &seen, at(5))).prune, None, "nothing was dropped");
    let intent = decide(&kept(&json!({"dropped": 3})), &seen, at(5));
    assert!(retention(&intent).prune.is_some_and(|it| it.started_at.is_some() && it.dropped == 3));
    assert!(made(&intent, "Job").is_empty(), "not before it was written");
    let act = decide(&next(&intent), &seen, at(6));
    assert_eq!(made(&act, "Job").len(), 1);
    let pruned = Pruned { snapshots: 3, pending_bytes: 70, ..Pruned::default() };
    let report = Box::new(Report { pruned: Some(pruned), ..Report::default() });
    let finished = Observed { prune: Some(JobSeen::Succeeded(report)), ..seen.clone() };
    let told = decide(&next(&act), &finished, at(60));
    let found = retention(&told).prune.unwrap();
    assert_eq!((found.snapshots, found.pending_bytes, found.finished_at.is_some()), (3, 70, true));
    let tidied = decide(&next(&told), &finished, at(61));
    assert!(tidied.effects.iter().any(|it| matches!(it, Effect::Delete(key) if key.kind == "Job")));
    let again = |seconds| retention(&decide(&next(&tidied), &seen, at(seconds))).prune.unwrap().finished_at.is_none();
    assert!(!again(23 * HOURS) && again(24 * HOURS + 6), "what is marked is removed by a later one");
}

#[test]
fn a_prune_that_failed_is_told_and_tried_again_the_next_day() {
    let status = json!({"dropped": 3, "prune": {"startedAt": at(0).to_string(), "dropped": 3}});
    let failed = JobSeen::Failed { message: "the vault is away".into(), at: at(9), corrupt: false, command: None };
    let told = decide(&kept(&status), &Observed { prune: Some(failed), ..seeing([]) }, at(10));
    assert_eq!(retention(&told).prune.unwrap().failure.as_deref(), Some("the vault is away"));
    let later = decide(&next(&told), &seeing([]), at(25 * HOURS));
    assert!(retention(&later).prune.unwrap().finished_at.is_none());
}

#[test]
fn a_region_that_lost_the_claim_begins_no_prune() {
    let status = json!({"dropped": 3, "prune": {"startedAt": at(0).to_string(), "dropped": 3}});
    let standby = Observed { claim: Some(view(Some("east"), 2)), ..seeing([]) };
    let told = decide(&kept(&status), &standby, at(10));
    assert!(made(&told, "Job").is_empty());
    assert!(retention(&told).prune.unwrap().failure.is_some());
}

#[test]
fn a_suspicious_point_is_told_until_one_counts_again() {
    let suspicious = |id: &str| {
        let mut status = ended(false, "Suspicious", 1, 0, 9);
        (status["id"], status["suspicious"]) = (json!(id), json!(["volume data is empty"]));
        recovery_point("shop-000002", "Scheduled", status)
    };
    let good = |name, id: &str| {
        let mut status = ended(true, "Stored", 1, 0, 9);
        status["id"] = json!(id);
        recovery_point(name, "Manual", status)
    };
    let sound = |it: &Decided| {
        let found = condition::find(&it.status.conditions, condition::SOURCES_SOUND);
        found.map(|it| (it.status.clone(), it.message.clone()))
    };
    let quiet = decide(&kept(&Value::Null), &Observed { points: vec![good("a", "1-a")], ..seeing([]) }, at(9));
    assert_eq!(sound(&quiet), None, "an idle application has no word about it");
    let seen = Observed { points: vec![good("a", "1-a"), suspicious("1-b")], ..seeing([]) };
    let told = decide(&next(&quiet), &seen, at(10));
    assert!(sound(&told).is_some_and(|(is, why)| is == "False" && why.contains("volume data is empty")));
    assert_eq!(reason(&told, READY), "Suspicious");
    let warned =
        |it: &Decided| it.effects.iter().any(|it| matches!(it, Effect::Announce(it) if it.reason == "Suspicious"));
    assert!(warned(&told) && !warned(&decide(&next(&told), &seen, at(11))));
    let seen = Observed { points: vec![good("a", "1-a"), suspicious("1-b"), good("c", "1-c")], ..seeing([]) };
    assert_eq!(sound(&decide(&next(&told), &seen, at(12))).map(|it| it.0).as_deref(), Some("True"));
}
