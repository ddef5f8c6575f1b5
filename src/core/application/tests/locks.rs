//! When locks are extended, and how far a round is told to be.

use super::*;
use crate::{
    api::{application::LocksStatus, vault::S3},
    core::condition::IMMUTABLE,
};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// A vault that locks for 16 days: a round asks for 18, and the next begins a day after it.
fn locking(works: impl IntoIterator<Item = (&'static str, Progress)>) -> Observed {
    let mut seen = Observed { works: works.into_iter().chain([sealed(1)]).collect(), ..serving() };
    let vault = Arc::make_mut(seen.vault.as_mut().unwrap());
    let s3 = json!({"bucket": "bucket", "objectLock": {"mode": "Compliance", "period": "16d"}});
    vault.spec.s3 = Some(serde_json::from_value::<S3>(s3).unwrap());
    seen
}

fn locks(decided: &Decided) -> LocksStatus {
    decided.status.locks.clone().unwrap()
}

/// The step behind `after` has looked at ten objects.
fn step(began: i64, after: Option<&str>, found: Option<&str>, seconds: i64) -> (&'static str, Progress) {
    let own = |it: Option<&str>| it.map(ToOwned::to_owned);
    let work = Work::ExtendLocks { vault: "main".into(), application: key(), began: at(began), after: own(after) };
    done(work, seconds, Outcome::LocksExtended { after: own(found), objects: 10 })
}

#[test]
fn a_round_is_written_down_before_it_begins_and_goes_on_where_it_was() {
    let first = decide(&application(json!({})), &locking([]), at(0));
    assert_eq!((begun(&first).contains(&"ExtendLocks"), locks(&first).began_at.map(|it| it.0)), (false, Some(at(0))));
    assert!(begun(&then(&first, &locking([]), 2)).contains(&"ExtendLocks"));
    let half = then(&first, &locking([step(0, None, Some("k"), 60)]), 61);
    assert_eq!((locks(&half).after.as_deref(), locks(&half).objects, locks(&half).locked_until), (Some("k"), 10, None));
    assert!(!begun(&half).contains(&"ExtendLocks"), "not before that is written down");
    let on = then(&half, &locking([step(0, None, Some("k"), 60)]), 62);
    assert!(begun(&on).contains(&"ExtendLocks") && locks(&on).objects == 10, "what was done is counted once");
    let ended = then(&on, &locking([step(0, Some("k"), None, 90)]), 91);
    assert_eq!((locks(&ended).objects, locks(&ended).finished_at.map(|it| it.0)), (20, Some(at(90))));
    assert_eq!(locks(&ended).locked_until.map(|it| it.0), Some(at(18 * DAY)));
}

#[test]
fn the_next_round_begins_long_before_a_lock_is_short() {
    let complete =
        json!({"locks": {"period": "384h", "beganAt": at(0), "finishedAt": at(9), "lockedUntil": at(18 * DAY)}});
    let after = |seconds| locks(&decide(&application(complete.clone()), &locking([]), at(seconds))).began_at.unwrap().0;
    assert_eq!((after(DAY - 1), after(DAY)), (at(0), at(DAY)));
    let other = json!({"locks": {"period": "24h", "beganAt": at(0), "finishedAt": at(9), "lockedUntil": at(18 * DAY)}});
    assert_eq!(locks(&decide(&application(other), &locking([]), at(60))).began_at.unwrap().0, at(60), "another period");
}

#[test]
fn a_step_that_fails_is_told_and_done_again() {
    let going = json!({"locks": {"period": "384h", "beganAt": at(0), "after": "k"}});
    let failure = Failure { reason: "Forbidden", message: "may not lock".into(), lasting: false };
    let failed = ("ExtendLocks", Progress::Failed { at: at(10), times: 1, failure });
    let told = decide(&application(going.clone()), &locking([failed.clone()]), at(12));
    assert_eq!((locks(&told).failure.as_deref(), locks(&told).after.as_deref()), (Some("may not lock"), Some("k")));
    assert!(begun(&then(&told, &locking([failed]), 13)).contains(&"ExtendLocks"));
}

#[test]
fn without_locks_and_without_the_claim_there_are_no_rounds() {
    assert_eq!(decide(&application(json!({})), &serving(), at(0)).status.locks, None);
    let unproven = View { valid: false, ..view(Some("west"), 1) };
    let seen = Observed { claim: Some(unproven), ..locking([]) };
    assert_eq!(decide(&application(json!({})), &seen, at(0)).status.locks, None);
}

#[test]
fn locks_that_fall_behind_are_told_and_so_is_where_retention_and_the_vault_disagree() {
    let told = |locks: Value, retention: Value, seconds| {
        let mut object = application(json!({"locks": locks}));
        object.spec.backup.retention = serde_json::from_value(retention).unwrap();
        let decided = decide(&object, &locking([]), at(seconds));
        condition::find(&decided.status.conditions, IMMUTABLE)
            .map(|it| (it.reason.clone(), it.message.clone()))
            .unwrap()
    };
    let complete = json!({"period": "384h", "beganAt": at(0), "finishedAt": at(9), "lockedUntil": at(18 * DAY)});
    assert_eq!(told(Value::Null, Value::Null, 0).0, "Locking");
    let (reason, message) = told(complete.clone(), Value::Null, 2 * DAY);
    assert_eq!((reason.as_str(), message.contains("retention")), ("Locked", false), "{message}");
    assert_eq!(told(complete.clone(), Value::Null, 2 * DAY + 1).0, "LocksShort");
    let (_, message) = told(complete, json!({"last": 3, "monthly": 6}), DAY);
    assert!(message.contains("retention keeps monthly points"), "{message}");
    let idle = decide(&application(json!({})), &serving(), at(0));
    assert!(condition::find(&idle.status.conditions, IMMUTABLE).is_none(), "where no locks are asked for");
}

#[test]
fn an_application_that_is_less_locked_than_was_asked_for_is_not_ready_and_one_being_locked_for_the_first_time_is() {
    let ready = |locks: Value, seconds| {
        let mut object = application(json!({"locks": locks}));
        object.spec.traffic = None;
        let stored = ended(true, "Stored", 1, seconds, seconds + 9);
        let seen = Observed { points: vec![recovery_point("shop-000001", "Scheduled", stored)], ..locking([]) };
        reason(&decide(&object, &seen, at(seconds + 10)), READY)
    };
    let complete = json!({"period": "384h", "beganAt": at(0), "finishedAt": at(9), "lockedUntil": at(18 * DAY)});
    assert_eq!(ready(complete, 3 * DAY), "LocksShort");
    assert_eq!(ready(Value::Null, 0), "Active", "what is not known yet is told by Immutable alone");
}
