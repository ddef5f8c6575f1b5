//! Which vault a point is taken from.

use super::*;

#[test]
fn a_point_that_the_first_vault_does_not_have_is_taken_from_a_copy_and_that_is_said() {
    for every in [1_000, 5, 7] {
        let mut play = Play::new(&json!({}));
        (play.empty, play.copies) = ("main".into(), vec!["second".into(), "third".into()]);
        assert_eq!(play.played_out(|second| second % every == every - 1).0, "Restored", "every {every}");
        play.asked.dedup();
        assert_eq!(play.asked, ["main", "second"]);
        let status = play.object.status.unwrap();
        assert_eq!(status.vault.as_deref(), Some("second"));
        assert!(status.vault_reason.as_ref().unwrap().starts_with("main: no good point"), "{status:?}");
        let step = status.steps.iter().find(|it| it.name == RestoreStepName::ChoosePoint).unwrap();
        assert!(step.message.contains("a copy: main: "), "{}", step.message);
    }
}

#[test]
fn a_vault_that_is_away_is_given_up_for_a_copy_after_its_third_failure() {
    let mut play = Play::new(&json!({}));
    play.copies = vec!["second".into()];
    play.until(RestoreStepName::ChoosePoint);
    let failure = |lasting| Failure { reason: "StoreFailed", message: "no answer".into(), lasting };
    for (times, lasting, moves) in [(1, false, false), (2, false, false), (3, false, true), (1, true, true)] {
        let failed = Progress::Failed { at: START, times, failure: failure(lasting) };
        play.works.insert("FindPoint", failed);
        let decision = decide(&play.object, &play.observed(), START);
        assert_eq!(decision.status.vault.as_deref(), moves.then_some("second"), "{times} {lasting}");
    }
}

#[test]
fn a_vault_that_is_named_is_the_only_one_that_is_asked() {
    let mut play = Play::new(&json!({"vault": "second"}));
    (play.empty, play.copies) = ("second".into(), vec!["second".into(), "third".into()]);
    assert_eq!(play.played_out(|_| false).0, "NoRecoveryPoint");
    assert_eq!(play.asked, ["second"]);
    let mut play = Play::new(&json!({"vault": "fourth"}));
    play.copies = vec!["second".into()];
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "NoSuchVault");
    assert!(message.contains("spec.vault: fourth") && message.contains("main, second"), "{message}");
}
