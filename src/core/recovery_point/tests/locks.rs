//! Longer locks, and until when a point is said to be locked.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::{
    api::{
        application::LocksStatus,
        vault::{LockClass, S3},
    },
    core::mover_task::Task,
};

const DAY: i64 = 86_400;

/// A run whose volume was read, with a vault that locks for a day, and the first good point of a month for thirty.
fn locking(lock: Option<JobSeen>) -> Observed {
    let mut seen = read(stored(0), &[]);
    let s3 = json!({"bucket": "bucket", "objectLock": {"mode": "Governance", "period": "1d", "monthly": "30d"}});
    Arc::make_mut(seen.vault.as_mut().unwrap()).spec.s3 = Some(serde_json::from_value::<S3>(s3).unwrap());
    seen.jobs.extend(lock.map(|it| ("point/locks".to_owned(), it)));
    seen
}

fn task(decided: &Decided) -> Task {
    let [Effect::Apply(job)] = decided.effects.as_slice() else { panic!("{:?}", decided.effects) };
    let env = &job.data["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
    serde_json::from_str(env.as_str().unwrap()).unwrap()
}

fn failed(message: &str) -> JobSeen {
    JobSeen::Failed { message: message.into(), at: at(8), corrupt: false, command: None }
}

#[test]
fn what_the_first_good_point_of_a_month_needs_is_locked_for_longer_before_the_point_is_entered() {
    let first = begun(&locking(None));
    let lock = first.status.lock.clone().unwrap();
    assert_eq!((lock.class, lock.until.0, lock.settled), (LockClass::Monthly, at(30 * DAY), false));
    let locking_now = then(&first, Purpose::Scheduled, &locking(None), 10);
    let Task::Lock { snapshots, until, .. } = task(&locking_now) else { panic!() };
    assert_eq!((snapshots, until), (vec!["s1".to_owned()], at(30 * DAY)));
    let waiting = then(&locking_now, Purpose::Scheduled, &locking(Some(JobSeen::Running(None))), 11);
    assert_eq!((reason(&waiting), acts(&waiting)), ("Reading", vec![]));
    let last = entering(&waiting, Purpose::Scheduled, &locking(Some(JobSeen::Succeeded(Box::default()))));
    let [Effect::Begin(work)] = last.effects.as_slice() else { panic!() };
    assert!(matches!(work.as_ref(), Work::CommitPoint { point, .. } if point.lock_until == Some(at(30 * DAY))));
}

#[test]
fn a_later_point_of_the_month_and_a_branch_are_locked_like_all() {
    let later = Observed { previous: Some(Previous { at: at(-60), failed: None }), ..locking(None) };
    assert_eq!(begun(&later).status.lock, None);
    let branch = decide(&point(Purpose::Branch), &locking(None), at(0));
    assert!(branch.status.id.is_some() && branch.status.lock.is_none());
}

#[test]
fn a_point_that_cannot_be_locked_for_longer_is_entered_and_says_so() {
    let first = begun(&locking(None));
    let last = entering(&first, Purpose::Scheduled, &locking(Some(failed("denied"))));
    assert_eq!(acts(&last), ["begin CommitPoint"]);
    assert_eq!(last.status.lock.unwrap().failure.as_deref(), Some("denied"));
    let late = then(&first, Purpose::Scheduled, &locking(None), 1_500);
    assert_eq!(reason(&late), "Entering", "no mover is begun that the point's deadline would cut off");
    assert!(late.status.lock.unwrap().failure.unwrap().contains("no time was left"));
}

#[test]
fn a_point_is_locked_for_as_long_as_the_shortest_lock_that_was_read_back() {
    let until = |own: Option<i64>, all: Option<i64>, lock: Option<JobSeen>| {
        let mut application = application();
        application.status.get_or_insert_default().locks =
            Some(LocksStatus { locked_until: all.map(|it| Time(at(it))), ..LocksStatus::default() });
        let seen = if lock.is_some() { locking(lock) } else { read(stored(0), &[]) };
        let seen = Observed { application: Some(Arc::new(application)), ..seen };
        let first = if seen.jobs.len() > 1 { begun(&locking(None)) } else { begun(&observed()) };
        entered(&first, seen, own.map(at)).0.status.locked_until.map(|it| it.0)
    };
    assert_eq!(until(Some(900), Some(700), None), Some(at(700)), "what it shares with earlier points");
    assert_eq!(until(Some(600), Some(700), None), Some(at(600)));
    assert_eq!(until(Some(600), None, None), None, "earlier data was not looked at yet");
    assert_eq!(until(None, Some(700), None), None);
    assert_eq!(until(Some(900), Some(700), Some(JobSeen::Succeeded(Box::default()))), Some(at(900)));
    assert_eq!(until(Some(900), Some(700), Some(failed("denied"))), Some(at(700)));
}
