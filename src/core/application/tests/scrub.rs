//! When a share of the repository is read back, and what is told of it.

use super::*;
use crate::{
    api::application::ScrubStatus,
    core::{
        condition::REPOSITORY_SOUND,
        mover_task::{Report, Scrubbed, TASK, Task},
        recovery_point::JobSeen,
    },
};

const DAY: i64 = 86_400;

/// `west` serves, and its newest point has a volume.
fn with_volume(scrub: Option<JobSeen>) -> Observed {
    let mut stored = ended(true, "Stored", 1, 0, 9);
    stored["volumes"] = json!([{"claim": "data", "method": "Snapshot", "snapshot": "5a"}]);
    let points = vec![recovery_point("shop-000001", "Scheduled", stored)];
    Observed { movers: Some(movers()), scrub, ..with_points(points) }
}

fn pass(scrub: &ScrubStatus, seen: &Observed, seconds: i64) -> Decided {
    decide(&application(json!({"scrub": scrub})), seen, at(seconds))
}

fn scrub_of(decision: &Decided) -> ScrubStatus {
    decision.status.scrub.clone().unwrap()
}

/// A round that ended at 0.
fn earlier() -> ScrubStatus {
    let (started_at, finished_at) = (Some(Time(at(-60))), Some(Time(at(0))));
    ScrubStatus { part: 19, parts: 20, started_at, finished_at, packs_read: Some(7), ..ScrubStatus::default() }
}

fn found(scrubbed: Scrubbed) -> JobSeen {
    JobSeen::Succeeded(Box::new(Report { scrubbed: Some(scrubbed), ..Report::default() }))
}

fn tasks(decision: &Decided) -> Vec<Task> {
    let env = |it: &Effect| match it {
        Effect::Apply(it) if it.types.as_ref().is_some_and(|it| it.kind == "Job") => {
            let all = it.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned().unwrap();
            let task = all.iter().find(|it| it["name"] == TASK).and_then(|it| it["value"].as_str().map(str::to_owned));
            Some(serde_json::from_str(&task.unwrap()).unwrap())
        }
        _ => None,
    };
    decision.effects.iter().filter_map(env).collect()
}

fn deletes_job(decision: &Decided) -> bool {
    decision.effects.iter().any(|it| matches!(it, Effect::Delete(key) if key.kind == "Job"))
}

#[test]
fn a_round_stands_in_the_status_before_its_job_is_made_and_reads_the_next_share() {
    assert_eq!(scrub_of(&pass(&earlier(), &with_volume(None), DAY - 61)), earlier(), "not due yet");
    let begun = pass(&earlier(), &with_volume(None), DAY - 60);
    let status = scrub_of(&begun);
    assert_eq!((status.part, status.finished_at.clone(), tasks(&begun)), (0, None, vec![]), "after the last the first");
    let made = pass(&status, &with_volume(None), DAY - 59);
    let [Task::Scrub { part: 0, parts: 20, newest: Some(newest), .. }] = &tasks(&made)[..] else { panic!("{made:?}") };
    assert_eq!(newest.snapshots, ["5a"]);
    let going = pass(&status, &with_volume(Some(JobSeen::Running(None))), DAY);
    assert_eq!((tasks(&going), deletes_job(&going), scrub_of(&going)), (vec![], false, status));
}

#[test]
fn what_a_round_found_is_in_the_status_before_its_job_is_deleted() {
    let going = ScrubStatus { part: 3, finished_at: None, ..earlier() };
    let job = || Some(found(Scrubbed { packs: 5, bytes: 50, ..Scrubbed::default() }));
    let told = pass(&going, &with_volume(job()), 10);
    let status = scrub_of(&told);
    assert_eq!(
        (status.packs_read, status.finished_at.clone(), deletes_job(&told)),
        (Some(5), Some(Time(at(10))), false)
    );
    assert!(condition::is_true(&told.status.conditions, REPOSITORY_SOUND));
    assert!(deletes_job(&pass(&status, &with_volume(job()), 12)));
}

#[test]
fn damage_is_told_with_what_to_do_and_looked_at_again_within_the_hour() {
    let going = ScrubStatus { finished_at: None, ..earlier() };
    let damaged = Scrubbed {
        packs: 5,
        damaged_packs: 2,
        first_packs: vec!["ab12".into()],
        damaged_points: 9,
        last_points: vec!["p9".into()],
        ..Scrubbed::default()
    };
    let told = pass(&going, &with_volume(Some(found(damaged))), 10);
    let finding = condition::find(&told.status.conditions, REPOSITORY_SOUND).unwrap();
    assert_eq!((finding.status.as_str(), finding.reason.as_str()), ("False", "Damaged"));
    for part in ["2 packs", "data/ab/ab12", "9 points", "newest p9", "Put the packs back"] {
        assert!(finding.message.contains(part), "{}", finding.message);
    }
    let warned = |it: &Effect| matches!(it, Effect::Announce(it) if it.warning && it.reason == "Damaged");
    assert!(told.effects.iter().any(warned));
    let status = scrub_of(&told);
    let again = |seconds| scrub_of(&pass(&status, &with_volume(None), seconds)).finished_at.is_none();
    assert_eq!((again(3_539), again(3_540)), (false, true));
}

#[test]
fn an_application_whose_points_are_damaged_is_not_ready() {
    let damaged = ScrubStatus { damaged_packs: 2, packs_read: Some(5), ..earlier() };
    let mut object = application(json!({"scrub": damaged}));
    object.spec.traffic = None;
    let told = decide(&object, &with_volume(None), at(10));
    let ready = condition::find(&told.status.conditions, READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Damaged"),
        "a failover needs what is damaged"
    );
}

#[test]
fn a_round_that_failed_is_done_again_and_what_can_not_be_read_is_told() {
    let going = ScrubStatus { part: 3, finished_at: None, ..earlier() };
    let failed = |corrupt| JobSeen::Failed { message: "no answer".into(), at: at(5), corrupt, command: None };
    let passing = pass(&going, &with_volume(Some(failed(false))), 10);
    assert!(condition::is_true(&passing.status.conditions, REPOSITORY_SOUND), "it says nothing about the data");
    assert_eq!(scrub_of(&pass(&scrub_of(&passing), &with_volume(None), DAY)).part, 3, "the same share");
    let lasting = pass(&going, &with_volume(Some(failed(true))), 10);
    let finding = condition::find(&lasting.status.conditions, REPOSITORY_SOUND).unwrap();
    assert_eq!((finding.status.as_str(), finding.reason.as_str()), ("False", "Unreadable"));
}

#[test]
fn nothing_is_read_back_where_nothing_is_stored_where_it_is_switched_off_or_on_a_standby() {
    let begins = |object: &ProtectedApplication, seen: &Observed| {
        decide(object, seen, at(2 * DAY)).status.scrub.is_some_and(|it| it.finished_at.is_none())
    };
    let object = application(json!({"scrub": earlier()}));
    assert!(begins(&object, &with_volume(None)));
    assert!(!begins(&object, &Observed { points: vec![], ..with_volume(None) }));
    assert!(!begins(&object, &Observed { claim: Some(view(Some("east"), 2)), ..with_volume(None) }));
    let mut off = object.clone();
    off.spec.backup.verification.share_percent = 0;
    assert!(!begins(&off, &with_volume(None)));
}
