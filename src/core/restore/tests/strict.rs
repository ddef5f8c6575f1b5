//! A restore in place whose region stops by itself in the middle, since it could not prove its claim (`Strict`).

use super::*;

impl Play {
    /// This region took the next epoch of the claim that nobody else had since.
    fn took_anew(&mut self) {
        let (old, new) = (self.epoch, self.epoch + 1);
        let fence = json!({"epoch": old, "since": START, "stoppedAt": START, "unproven": true, "retake": new});
        let status = self.application.as_mut().unwrap().status.as_mut().unwrap();
        status.fence = serde_json::from_value(fence).unwrap();
        self.epoch = new;
    }
}

#[test]
fn it_goes_on_under_the_epoch_that_its_region_took_anew_also_after_a_restart() {
    let steps = [
        RestoreStepName::SafetyPoint,
        RestoreStepName::RestoreVolumes,
        RestoreStepName::RestoreObjects,
        RestoreStepName::Start,
    ];
    for (step, every) in steps.into_iter().flat_map(|it| [(it, 1_000), (it, 4)]) {
        let mut play = Play::new(&json!({}));
        play.until(step);
        play.took_anew();
        play.pass();
        play.took_anew();
        play.works.clear();
        let (reason, message) = play.played_out(|second| second % every == every - 1);
        assert_eq!(reason, "Restored", "{step:?}: {message}");
        assert_eq!(play.object.status.as_ref().unwrap().epoch, Some(3));
        let started = play.begun.iter().rev().find_map(|it| match it {
            Work::StartWorkloads { epoch, .. } => Some(*epoch),
            _ => None,
        });
        assert_eq!(started, Some(3), "{step:?}: under the epoch that is valid");
    }
}

#[test]
fn an_epoch_that_a_failover_took_or_that_another_region_had_before_ends_it() {
    let ended = |change: fn(&mut Play)| {
        let mut play = Play::new(&json!({}));
        play.until(RestoreStepName::RestoreVolumes);
        play.pass();
        change(&mut play);
        play.played_out(|_| false).0
    };
    assert_eq!(ended(|play| play.epoch = 2), "LostClaim", "nothing says that it was taken anew");
    let between = |play: &mut Play| {
        play.took_anew();
        play.epoch = 3;
    };
    assert_eq!(ended(between), "LostClaim");
}

#[test]
fn one_that_ends_with_volumes_in_its_hands_says_so_and_one_that_does_not_does_not() {
    let left = |step: RestoreStepName, spec: &Value, end: fn(&mut Play)| {
        let mut play = Play::new(spec);
        play.until(step);
        play.pass();
        end(&mut play);
        play.played_out(|_| false);
        play.object.status.unwrap().left_stopped
    };
    let lost = |play: &mut Play| play.epoch = 2;
    assert!(left(RestoreStepName::RestoreVolumes, &json!({}), lost));
    assert!(!left(RestoreStepName::Stop, &json!({"safetyPoint": "Skip"}), lost), "no volume was touched");
    assert!(!left(RestoreStepName::Start, &json!({}), |play| play.not_restored.clear()), "it succeeded");
    assert!(!left(RestoreStepName::RestoreVolumes, &json!({"only": {"objects": [{"kind": "Secret"}]}}), lost));
    let cancelled = |play: &mut Play| play.object.spec.cancel = true;
    assert!(left(RestoreStepName::RestoreVolumes, &json!({}), cancelled));
    assert!(!left(RestoreStepName::Stop, &json!({"safetyPoint": "Skip"}), cancelled), "what was stopped is started");
}
