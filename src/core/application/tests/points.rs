//! When points are made, which of their objects are kept, and what they do for the objective.

use super::*;

/// When the next point is made, by trying each second.
fn due(seen: &Observed) -> Option<i64> {
    (0..600).find(|it| !made(&decide(&application(json!({})), seen, at(*it)), "RecoveryPoint").is_empty())
}

#[test]
fn a_point_is_made_when_it_is_due_and_never_two_at_a_time() {
    assert_eq!(due(&serving()), Some(0));
    // rpo 60 s, estimated duration 15 s, margin 6 s
    let stored = |epoch| recovery_point("shop-000004", "Scheduled", ended(true, "Stored", epoch, 0, 9));
    assert_eq!(due(&with_points(vec![stored(1)])), Some(60 - 15 - 6));
    let next = decide(&application(json!({})), &with_points(vec![stored(1)]), at(39));
    assert_eq!(made(&next, "RecoveryPoint"), ["shop-000005"]);
    let running = recovery_point("shop-000005", "Scheduled", json!({"epoch": 1, "conditions": []}));
    assert_eq!(due(&with_points(vec![stored(1), running])), None);
    assert_eq!(due(&with_points(vec![recovery_point("shop-000001", "Scheduled", Value::Null)])), None);
}

#[test]
fn a_failed_point_is_tried_again_after_a_pause_from_its_end() {
    let failed = recovery_point("shop-000001", "Scheduled", ended(false, "Failed", 1, 0, 50));
    assert_eq!(due(&with_points(vec![failed])), Some(65));
    let mut never_began = ended(false, "NoApplication", 1, 0, 0);
    never_began.as_object_mut().unwrap().retain(|key, _| key == "finishedAt" || key == "conditions");
    assert_eq!(due(&with_points(vec![recovery_point("shop-000001", "Scheduled", never_began)])), Some(15));
}

#[test]
fn a_clock_that_was_set_back_makes_no_pause_and_its_last_point_is_not_the_newest_for_long() {
    let ahead = recovery_point("shop-000001", "Scheduled", ended(true, "Stored", 1, 9_000, 9_009));
    assert_eq!(due(&with_points(vec![ahead.clone()])), Some(0));
    let mut after = ended(true, "Stored", 1, 0, 9);
    // It follows the other by its name.
    after["id"] = json!("1-09001");
    let seen = with_points(vec![ahead, recovery_point("shop-000002", "Scheduled", after)]);
    assert_eq!(due(&seen), Some(60 - 15 - 6), "it is counted from the one that is of this clock");
    let decision = decide(&application(json!({})), &seen, at(100));
    let newest = decision.status.last_point.as_ref().unwrap();
    assert_eq!((newest.id.as_str(), newest.consistent_at.0), ("1-09001", at(0)));
    assert!(!condition::is_true(&decision.status.conditions, condition::RPO_MET), "the future is no excuse");
}

#[test]
fn points_that_do_not_count_are_made_ever_more_seldom_and_at_last_as_often_as_others() {
    // Of 15 s, 30 s, 60 s: the interval is 39 s.
    let partial = |it: i64| {
        recovery_point(&format!("shop-{it:06}"), "Scheduled", ended(false, "Partial", 1, 100 * it - 9, 100 * it))
    };
    for (count, pause) in [(1, 15), (2, 30), (3, 39), (9, 39)] {
        let stored = recovery_point("shop-000000", "Scheduled", ended(true, "Stored", 1, 0, 9));
        let points = (1..=count).map(partial).chain([stored]).collect();
        let seen = with_points(points);
        let begun =
            |it: i64| !made(&decide(&application(json!({})), &seen, at(100 * count + it)), "RecoveryPoint").is_empty();
        assert_eq!((begun(pause - 1), begun(pause)), (false, true), "{count} in a row");
    }
}

#[test]
fn no_point_is_begun_without_a_proven_claim_or_a_vault() {
    let mut seen = serving();
    seen.claim.as_mut().unwrap().valid = false;
    assert_eq!(due(&seen), None);
    assert_eq!(due(&Observed { vault: None, ..serving() }), None);
}

#[test]
fn no_point_is_begun_with_a_key_that_must_be_kept_elsewhere_and_is_not() {
    let mut seen = serving();
    Arc::make_mut(seen.vault.as_mut().unwrap()).spec.encryption.require_escrow = true;
    assert_eq!(due(&seen), None);
    let decision = decide(&application(json!({})), &seen, at(0));
    let told = condition::find(&decision.status.conditions, condition::RPO_MET).map(|it| it.message.clone());
    assert!(told.is_some_and(|it| it.contains("requireEscrow")), "{:?}", decision.status.conditions);
}

#[test]
fn of_the_ended_points_made_on_schedule_the_newest_twenty_are_kept() {
    let mut points: Vec<_> = (1..=23)
        .map(|it| recovery_point(&format!("shop-{it:06}"), "Scheduled", ended(true, "Stored", 1, it, it + 1)))
        .collect();
    points.push(recovery_point("by-hand", "Manual", ended(true, "Stored", 1, 0, 1)));
    let decision = decide(&application(json!({})), &with_points(points), at(30));
    let deleted: Vec<_> = decision
        .effects
        .iter()
        .filter_map(|it| if let Effect::Delete(it) = it { Some(it.name.as_str()) } else { None })
        .collect();
    assert_eq!(deleted, ["shop-000001", "shop-000002", "shop-000003"]);
    assert_eq!(decision.status.last_point.unwrap().id, "1-00023");
}

#[test]
fn the_newest_point_that_counts_is_kept_however_many_failed_since() {
    let mut points: Vec<_> = (2..=30)
        .map(|it| recovery_point(&format!("shop-{it:06}"), "Scheduled", ended(false, "Partial", 1, it, it + 1)))
        .collect();
    points.push(recovery_point("shop-000001", "Scheduled", ended(true, "Stored", 1, 1, 2)));
    let decision = decide(&application(json!({})), &with_points(points), at(31));
    let deleted = |name: &str| decision.effects.iter().any(|it| matches!(it, Effect::Delete(it) if it.name == name));
    assert!(!deleted("shop-000001") && deleted("shop-000002") && deleted("shop-000010") && !deleted("shop-000011"));
}

#[test]
fn the_objective_is_met_by_young_points_that_count_and_missed_by_others() {
    let good = recovery_point("shop-000001", "Scheduled", ended(true, "Stored", 1, 0, 9));
    let partial = recovery_point("shop-000002", "Scheduled", ended(false, "Partial", 1, 40, 49));
    let met = |seen: &Observed, seconds| reason(&decide(&application(json!({})), seen, at(seconds)), RPO_MET);
    let seen = with_points(vec![good, partial]);
    assert_eq!((met(&seen, 59).as_str(), met(&seen, 60).as_str()), ("Met", "TooOld"));
    assert_eq!(met(&serving(), 0), "NoPoint");
}
