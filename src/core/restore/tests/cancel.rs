//! A restore that is cancelled, at each of its steps.

use super::*;

/// Cancelled when it is at that step, and played to its end.
fn cancelled_at(step: RestoreStepName, spec: &Value, slow: &[&str]) -> (Play, String) {
    let mut play = Play::new(spec);
    play.slow = slow.iter().map(|it| (*it).to_owned()).collect();
    play.until(step);
    play.pass();
    play.object.spec.cancel = true;
    play.works.clear();
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "Cancelled", "{message}");
    (play, message)
}

#[test]
fn before_anything_is_stopped_nothing_was_changed() {
    for step in [RestoreStepName::ChoosePoint, RestoreStepName::SafetyPoint] {
        let (play, message) = cancelled_at(step, &json!({}), &[]);
        assert!(message.ends_with("nothing was changed"), "{message}");
        assert!(!play.done.contains(&"stop".to_owned()) && play.running == 2, "{:?}", play.done);
    }
}

#[test]
fn what_was_stopped_is_started_while_no_volume_was_touched() {
    let mut play = Play::new(&json!({"safetyPoint": "Skip"}));
    play.until(RestoreStepName::Stop);
    play.running = 0;
    play.object.spec.cancel = true;
    let (_, message) = play.played_out(|second| second % 5 == 0);
    assert_eq!(message, "cancelled: nothing was changed, and what was stopped is started");
    assert_eq!((play.running, play.done.as_slice()), (2, &["start".to_owned()][..]));
}

#[test]
fn once_volumes_are_restored_it_says_which_are_whole_and_the_workloads_stay_stopped() {
    let (play, message) = cancelled_at(RestoreStepName::RestoreVolumes, &json!({}), &["log"]);
    assert!(
        message.contains("volume data is as in the point; volume log may be half restored; no object"),
        "{message}"
    );
    assert!(message.contains("stays stopped") && message.contains("recovery point safe"), "{message}");
    assert_eq!(play.running, 0);
    assert!(!play.done.iter().any(|it| it.starts_with("objects")), "{:?}", play.done);
}

#[test]
fn when_all_is_restored_it_is_started_and_not_waited_for() {
    let (play, message) = cancelled_at(RestoreStepName::Start, &json!({}), &[]);
    assert!(message.contains("is as in the point, and what was stopped is started"), "{message}");
    assert_eq!(play.running, 2);
}

#[test]
fn one_that_has_ended_cannot_be_cancelled() {
    let mut play = Play::new(&json!({}));
    play.played_out(|_| false);
    let before = play.object.status.clone();
    play.object.spec.cancel = true;
    play.pass();
    assert_eq!(play.object.status, before);
}
