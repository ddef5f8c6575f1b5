//! When points are copied into other vaults, and what is told of it.

use super::{retention::seeing, *};
use crate::{
    api::application::CopyStatus,
    core::{condition::COPIES_UP_TO_DATE, mover_task::Report},
};

const HOUR: i64 = 3_600;

/// The application with two other vaults, and these entries of its status.
fn copied(status: &Value) -> ProtectedApplication {
    let point = json!({"id": "p9", "consistentAt": at(-60)});
    let mut object = application(json!({"role": "Active", "epoch": 1, "lastPoint": point, "copies": status}));
    let copies = json!([{"vault": "second", "every": "6h"}, {"vault": "third", "schedule": "0 * * * *"}]);
    object.spec.backup.copies = serde_json::from_value(copies).unwrap();
    object
}

/// What other vaults have, as they say themselves.
fn found(points: &[(&str, &str, i64)]) -> (&'static str, Progress) {
    let work = Work::ReadCopies { vaults: vec!["second".into(), "third".into()], application: key() };
    let one = |(vault, point, seconds): &(&str, &str, i64)| ((*vault).to_owned(), ((*point).to_owned(), at(*seconds)));
    done(work, 0, Outcome::CopiesRead(points.iter().map(one).collect()))
}

fn with_vaults(works: [(&'static str, Progress); 1]) -> Observed {
    let seen = seeing(works);
    let ready = |name: &str| {
        let mut vault = seen.vault.as_deref().unwrap().clone();
        vault.metadata.name = Some(name.to_owned());
        Arc::new(vault)
    };
    Observed { copy_vaults: ["second", "third"].map(ready).to_vec(), ..seen }
}

/// After a decision, as it is read back.
fn next(decided: &Decided) -> ProtectedApplication {
    let mut object = copied(&json!([]));
    object.status = Some(decided.status.clone());
    object
}

/// The vaults whose run goes on.
fn running(decided: &Decided) -> Vec<&str> {
    let going = |it: &&CopyStatus| it.last_run.as_ref().is_some_and(|it| it.finished_at.is_none());
    decided.status.copies.iter().filter(going).map(|it| it.vault.as_str()).collect()
}

fn job_name(decided: &Decided) -> String {
    let copy = decided.status.copies.iter().find(|it| it.last_run.is_some()).unwrap();
    crate::core::application::copies::job(&copy.vault, copy.last_run.as_ref().unwrap())
}

fn seen_job(seen: &Observed, decided: &Decided, job: JobSeen) -> Observed {
    Observed { copy_jobs: BTreeMap::from([(job_name(decided), job)]), ..seen.clone() }
}

fn deleted(decided: &Decided) -> bool {
    decided.effects.iter().any(|it| matches!(it, Effect::Delete(key) if key.kind == "Job"))
}

fn failed() -> JobSeen {
    JobSeen::Failed { message: "the bucket is gone".into(), at: at(9), corrupt: false, command: None }
}

#[test]
fn a_vault_without_points_gets_the_newest_at_once_after_it_was_asked_and_after_it_was_written_down() {
    let unasked = decide(&copied(&json!([])), &with_vaults([sealed(1)]), at(0));
    assert!(begun(&unasked).contains(&"ReadCopies") && running(&unasked).is_empty());
    let seen = with_vaults([found(&[])]);
    let intent = decide(&next(&unasked), &seen, at(1));
    assert_eq!(
        (running(&intent), made(&intent, "Job").len()),
        (vec!["second"], 0),
        "one at a time, not before it is written"
    );
    let act = decide(&next(&intent), &seen, at(2));
    let job = |it: &Effect| match it {
        Effect::Apply(it) if it.types.as_ref().is_some_and(|it| it.kind == "Job") => Some(it.data.clone()),
        _ => None,
    };
    let job = act.effects.iter().find_map(job).unwrap();
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    for wanted in ["TO_REPRISE_VAULT", "TO_REPRISE_VAULT_KEY", r#"{\"copy\":{"#, "p9"] {
        assert!(env.contains(wanted), "{wanted} in {env}");
    }
}

#[test]
fn what_a_run_came_to_is_told_and_its_job_goes_before_the_next_begins() {
    let seen = with_vaults([found(&[])]);
    let intent = decide(&copied(&json!([])), &seen, at(1));
    let report = Report { added_bytes: 7, ..Report::default() };
    let ended = seen_job(&seen, &intent, JobSeen::Succeeded(Box::new(report)));
    let told = decide(&next(&intent), &ended, at(60));
    let second = &told.status.copies[0];
    assert_eq!((second.point.as_deref(), second.copied_at.as_ref().unwrap().0), (Some("p9"), at(1)));
    assert_eq!(second.last_run.as_ref().unwrap().added_bytes, Some(7));
    let tidied = decide(&next(&told), &ended, at(61));
    assert!(deleted(&tidied) && running(&tidied).is_empty());
    let then = decide(&next(&tidied), &seen, at(62));
    assert_eq!(running(&then), ["third"]);
    assert_eq!(reason(&then, COPIES_UP_TO_DATE), "NoCopy", "there is none in the third one");
}

#[test]
fn what_lies_in_a_vault_after_a_failover_counts_and_is_not_copied_before_it_is_due() {
    let seen = with_vaults([found(&[("second", "p5", -HOUR), ("third", "p5", 0)])]);
    let decided = decide(&copied(&json!([])), &seen, at(10));
    assert_eq!(running(&decided), Vec::<&str>::new());
    assert_eq!(decided.status.copies[0].point.as_deref(), Some("p5"));
    assert_eq!(reason(&decided, COPIES_UP_TO_DATE), "UpToDate");
    let due = decide(&next(&decided), &seen, at(5 * HOUR));
    assert_eq!(running(&due), ["second"], "the one that was copied into longest ago, or never");
}

#[test]
fn nothing_is_copied_that_is_there_already() {
    let seen = with_vaults([found(&[("second", "p9", -60), ("third", "p9", -60)])]);
    let decided = decide(&copied(&json!([])), &seen, at(10 * HOUR));
    assert_eq!(running(&decided), Vec::<&str>::new());
}

#[test]
fn a_run_that_failed_is_told_and_tried_again_later_each_time() {
    let seen = with_vaults([found(&[("third", "p9", 0)])]);
    let intent = decide(&copied(&json!([])), &seen, at(1));
    let told = decide(&next(&intent), &seen_job(&seen, &intent, failed()), at(10));
    assert_eq!(reason(&told, COPIES_UP_TO_DATE), "CopyFailed");
    assert_eq!(reason(&told, READY), reason(&intent, READY), "the application is none the worse");
    assert_eq!(running(&decide(&next(&told), &seen, at(69))), Vec::<&str>::new());
    let again = decide(&next(&told), &seen, at(70));
    assert_eq!((running(&again), again.status.copies[0].failures), (vec!["second"], 1));
    let told = decide(&next(&again), &seen_job(&seen, &again, failed()), at(80));
    assert_eq!(running(&decide(&next(&told), &seen, at(199))), Vec::<&str>::new());
    assert_eq!(running(&decide(&next(&told), &seen, at(200))), ["second"]);
}

#[test]
fn a_region_that_cannot_prove_its_claim_begins_nothing_and_one_that_lost_it_ends_what_goes_on() {
    let seen = with_vaults([found(&[])]);
    let mut unproven = seen.clone();
    unproven.claim.as_mut().unwrap().valid = false;
    assert_eq!(running(&decide(&copied(&json!([])), &unproven, at(1))), Vec::<&str>::new());
    let intent = decide(&copied(&json!([])), &seen, at(1));
    let standby = Observed { claim: Some(view(Some("east"), 2)), ..seen_job(&seen, &intent, JobSeen::Running(None)) };
    let ended = decide(&next(&intent), &standby, at(5));
    assert_eq!(running(&ended), Vec::<&str>::new());
    let tidied = decide(&next(&ended), &standby, at(6));
    assert!(deleted(&tidied));
    let gone = decide(&next(&tidied), &Observed { copy_jobs: BTreeMap::new(), ..standby }, at(7));
    assert!(gone.status.copies.is_empty(), "who serves tells of them");
}

#[test]
fn a_copy_that_is_late_and_a_vault_that_is_not_ready_are_told() {
    let seen = with_vaults([found(&[])]);
    let old = json!([
        {"vault": "second", "point": "p1", "consistentAt": at(-9 * HOUR), "copiedAt": at(-9 * HOUR)},
        {"vault": "third", "point": "p9", "consistentAt": at(-60), "copiedAt": at(-60)},
    ]);
    assert_eq!(reason(&decide(&copied(&old), &seen, at(0)), COPIES_UP_TO_DATE), "Late");
    let one = Observed { copy_vaults: seen.copy_vaults[..1].to_vec(), ..seen };
    assert_eq!(reason(&decide(&copied(&json!([])), &one, at(0)), COPIES_UP_TO_DATE), "VaultNotReady");
}
