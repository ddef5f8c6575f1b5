//! When a share of what lies in the other vaults is read back, and what is told of it.

use super::*;
use crate::{
    api::application::{CopyStatus, ScrubStatus},
    core::{
        application::copy_scrub::scrub_job,
        condition::COPIES_SOUND,
        mover_task::{Report, Scrubbed, TASK, Task},
        recovery_point::JobSeen,
    },
};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// `west` serves, its newest point has a volume, and it is in the other vault.
fn seen(every: &str, copy: &CopyStatus, job: Option<JobSeen>) -> (ProtectedApplication, Observed) {
    let mut stored = ended(true, "Stored", 1, 0, 9);
    stored["volumes"] = json!([{"claim": "data", "method": "Snapshot", "snapshot": "5a"}]);
    let points = vec![recovery_point("shop-000001", "Scheduled", stored)];
    let seen = with_points(points);
    let mut vault = seen.vault.as_deref().unwrap().clone();
    vault.metadata.name = Some("second".to_owned());
    let copy_jobs = job.map(|it| (scrub_job("second"), it)).into_iter().collect();
    // The first vault's own rounds are another test's.
    let recent =
        ScrubStatus { started_at: Some(Time(at(40 * DAY))), finished_at: Some(Time(at(40 * DAY))), ..<_>::default() };
    let mut object = application(json!({"scrub": recent, "copies": [copy]}));
    object.spec.backup.copies = serde_json::from_value(json!([{"vault": "second", "every": every}])).unwrap();
    (object, Observed { movers: Some(movers()), copy_vaults: vec![Arc::new(vault)], copy_jobs, ..seen })
}

/// The vault has a point, and this round.
fn copy(scrub: Option<ScrubStatus>) -> CopyStatus {
    let (consistent_at, copied_at) = (Some(Time(at(0))), Some(Time(at(40 * DAY))));
    CopyStatus { vault: "second".into(), point: Some("p1".into()), consistent_at, copied_at, scrub, ..<_>::default() }
}

fn pass(copy: &CopyStatus, job: Option<JobSeen>, seconds: i64) -> Decided {
    let (object, seen) = seen("30d", copy, job);
    decide(&object, &seen, at(seconds))
}

fn scrub_of(decided: &Decided) -> ScrubStatus {
    decided.status.copies[0].scrub.clone().unwrap()
}

fn tasks(decided: &Decided) -> Vec<Task> {
    let task = |it: &Effect| match it {
        Effect::Apply(it) if it.types.as_ref().is_some_and(|it| it.kind == "Job") => {
            let env = it.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned().unwrap();
            let task = env.iter().find(|it| it["name"] == TASK).and_then(|it| it["value"].as_str().map(str::to_owned));
            serde_json::from_str(&task.unwrap()).ok()
        }
        _ => None,
    };
    decided.effects.iter().filter_map(task).collect()
}

fn deletes_job(decided: &Decided) -> bool {
    decided.effects.iter().any(|it| matches!(it, Effect::Delete(key) if key.kind == "Job"))
}

/// A round that ended at 0.
fn earlier() -> ScrubStatus {
    let (started_at, finished_at) = (Some(Time(at(-60))), Some(Time(at(0))));
    ScrubStatus { part: 19, parts: 20, started_at, finished_at, packs_read: Some(7), ..ScrubStatus::default() }
}

fn found(scrubbed: Scrubbed) -> JobSeen {
    JobSeen::Succeeded(Box::new(Report { scrubbed: Some(scrubbed), ..Report::default() }))
}

#[test]
fn a_round_stands_in_the_status_before_its_job_and_reads_the_next_share_of_the_copy() {
    let idle = copy(Some(earlier()));
    assert_eq!(scrub_of(&pass(&idle, None, DAY - 61)), earlier(), "not due yet");
    let begun = pass(&idle, None, DAY - 60);
    assert_eq!((scrub_of(&begun).part, scrub_of(&begun).finished_at, tasks(&begun).len()), (0, None, 0));
    let going = copy(Some(scrub_of(&begun)));
    let [Task::Scrub { part: 0, parts: 20, newest: Some(newest), .. }] = &tasks(&pass(&going, None, DAY - 59))[..]
    else {
        panic!("a round in the other vault")
    };
    assert_eq!((newest.point.as_str(), newest.snapshots.len()), ("p1", 0), "the point says there what it needs");
    let running = pass(&going, Some(JobSeen::Running(None)), DAY);
    assert_eq!((tasks(&running).len(), deletes_job(&running), scrub_of(&running)), (0, false, going.scrub.unwrap()));
}

#[test]
fn damage_in_a_copy_is_told_with_its_vault_and_read_again_within_the_hour() {
    let going = copy(Some(ScrubStatus { finished_at: None, ..earlier() }));
    let damaged = Scrubbed {
        packs: 5,
        damaged_packs: 1,
        first_packs: vec!["ab12".into()],
        damaged_points: 2,
        last_points: vec!["p1".into()],
        ..Scrubbed::default()
    };
    let told = pass(&going, Some(found(damaged.clone())), 10);
    let finding = condition::find(&told.status.conditions, COPIES_SOUND).unwrap();
    assert_eq!((finding.status.as_str(), finding.reason.as_str()), ("False", "Damaged"));
    for part in ["vault second", "1 packs", "data/ab/ab12", "2 points", "newest p1"] {
        assert!(finding.message.contains(part), "{part} in {}", finding.message);
    }
    assert!(!deletes_job(&told) && told.effects.iter().any(|it| matches!(it, Effect::Announce(it) if it.warning)));
    let ended = copy(told.status.copies[0].scrub.clone());
    assert!(deletes_job(&pass(&ended, Some(found(damaged)), 12)));
    let again = |seconds| scrub_of(&pass(&ended, None, seconds)).finished_at.is_none();
    assert_eq!((again(3_539), again(3_540)), (false, true));
    let sound = pass(&going, Some(found(Scrubbed { packs: 5, ..Scrubbed::default() })), 10);
    assert!(condition::is_true(&sound.status.conditions, COPIES_SOUND));
}

#[test]
fn nothing_is_read_back_where_nothing_was_copied_or_on_a_standby_and_no_job_is_forgotten() {
    let begins = |copy: &CopyStatus, change: &dyn Fn(&mut ProtectedApplication, &mut Observed)| {
        let (mut object, mut seen) = seen("30d", copy, None);
        change(&mut object, &mut seen);
        let decided = decide(&object, &seen, at(2 * DAY));
        decided.status.copies.iter().any(|it| it.scrub.as_ref().is_some_and(|it| it.finished_at.is_none()))
    };
    let idle = copy(Some(earlier()));
    assert!(begins(&idle, &|_, _| ()));
    assert!(!begins(&CopyStatus { point: None, ..idle.clone() }, &|_, _| ()));
    assert!(!begins(&idle, &|object, _| object.spec.backup.verification.share_percent = 0));
    assert!(!begins(&idle, &|_, seen| seen.points.clear()));
    assert!(!begins(&idle, &|_, seen| seen.claim = Some(view(Some("east"), 2))));
    let (mut object, left) = seen("30d", &copy(Some(earlier())), Some(JobSeen::Running(None)));
    object.spec.backup.copies.clear();
    assert_eq!(decide(&object, &left, at(10)).status.copies.len(), 1, "it is told of until its Job is gone");
}

#[test]
fn locks_that_lapse_between_two_copies_are_told() {
    let reason = |every: &str| {
        let (object, mut seen) = seen(every, &copy(Some(earlier())), None);
        let mut vault = seen.copy_vaults[0].as_ref().clone();
        vault.spec = serde_json::from_value(json!({
            "s3": {"bucket": "b", "region": "r", "objectLock": {"mode": "Compliance", "period": "14d"}},
            "encryption": {"secret": {"name": "key"}},
        }))
        .unwrap();
        seen.copy_vaults = vec![Arc::new(vault)];
        let decided = decide(&object, &seen, at(10));
        condition::find(&decided.status.conditions, COPIES_SOUND).map(|it| (it.reason.clone(), it.message.clone()))
    };
    let (lapse, why) = reason("15d").unwrap();
    assert_eq!(lapse, "LocksLapse");
    assert!(why.contains("360 h") && why.contains("336 h") && why.contains("vault second"), "{why}");
    assert_eq!(reason("14d").unwrap().0, "ReadBack");
}
