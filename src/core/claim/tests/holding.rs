//! What a holder does to keep the claim, how it fences itself when it cannot, and what the others are told of it.

use super::*;

// Renewals.

#[test]
fn renewals_fall_on_multiples_of_renew_so_that_all_claims_are_renewed_together() {
    let mut east = Region::new(settings("east"));
    east.wish(Wish::Hold, at(3));
    let (first, ..) = written(&east.answer(None, at(3)));
    east.done(&first, at(4));
    assert_eq!(east.tick(at(9)), []);
    assert_eq!(east.state.due(&east.settings, at(9)), at(10).boot);
    written(&east.tick(at(10)));
}

#[test]
fn a_renewal_carries_health_candidates_and_deadlines() {
    let (mut east, _) = holder(settings("east"));
    east.observe(Observation::Judged(Some(false)), at(5));
    east.observe(Observation::Judged(Some(false)), at(7));
    east.settings.candidates.push("north".to_owned());
    east.settings.deadlines.wait = 90;
    let (renewal, ..) = written(&east.tick(at(10)));
    assert_eq!(renewal.health, Some(Health { healthy: false, since: at(5).wall }));
    assert_eq!(renewal.candidates.len(), 3);
    assert_eq!(renewal.deadlines.wait, 90);
    assert_eq!((renewal.epoch, renewal.seq), (1, 2));
}

#[test]
fn a_holder_that_is_told_only_to_watch_lets_its_claim_run_out() {
    let (mut east, first) = holder(settings("east"));
    east.wish(Wish::Watch, at(1));
    for second in (10..=40).step_by(10) {
        assert_eq!(east.read(Some(first.clone()), at(second)), []);
    }
    assert!(!east.view(at(40)).valid);
    assert!(east.view(at(40)).mine);
}

#[test]
fn an_advisory_holder_goes_on_after_an_outage_if_nobody_took_the_claim() {
    let (mut east, first) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.unknown(&renewal, at(13));
    east.observe(Observation::ReadFailed("away".to_owned()), at(16));
    assert!(!east.view(at(300)).valid);
    assert!(!east.view(at(300)).must_fence);
    east.tick(at(300));
    let (renewal, ..) = written(&east.answer(Some(first), at(301)));
    assert_eq!(renewal.epoch, 1);
    east.done(&renewal, at(302));
    assert!(east.view(at(302)).valid);
}

#[test]
fn a_holder_that_finds_the_claim_elsewhere_holds_nothing() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.observe(Observation::WriteLost { nonce: renewal.nonce }, at(11));
    assert_eq!(east.answer(Some(claim("west", 2, 2)), at(11)), []);
    let view = east.view(at(11));
    assert!(!view.mine && !view.valid);
    assert_eq!((view.holder.as_deref(), view.epoch), (Some("west"), 2));
}

// Fencing.

#[test]
fn a_strict_holder_fences_at_hold_and_never_renews_that_epoch_again() {
    let (mut east, first) = holder(strict("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    assert!(!east.view(at(29)).must_fence);
    assert_eq!(east.state.due(&east.settings, at(29)), at(30).boot);
    assert!(east.view(at(30)).must_fence);
    east.tick(at(30));
    // The renewal had landed after all, and is still valid by its own count: too late.
    east.done(&renewal, at(31));
    let view = east.view(at(31));
    assert!(view.must_fence && view.fenced && !view.valid);
    assert_eq!(east.tick(at(40)), []);
    // But it may take the next epoch, since nobody else has it.
    assert!(view.seizable);
    let (next, ..) = written(&east.wish(Wish::Seize { epoch: 2, reason: "back".to_owned() }, at(41)));
    assert_eq!(next.epoch, 2);
    east.done(&next, at(42));
    let view = east.view(at(42));
    assert!(view.valid && !view.must_fence && !view.fenced);
    assert_eq!(first.epoch, 1);
}

#[test]
fn an_answer_after_the_deadline_does_not_undo_that_it_passed() {
    let (mut east, _) = holder(strict("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.done(&renewal, at(35));
    assert!(east.view(at(35)).must_fence, "the application may already have been told to stop");
}

#[test]
fn that_a_region_fenced_itself_outlasts_its_operator() {
    let evidence = Evidence { fenced: Some(3), ..Evidence::default() };
    let mut east = Region::new(Settings { evidence: Some(evidence), ..strict("east") });
    east.wish(Wish::Hold, at(0));
    assert_eq!(east.answer(Some(claim("east", 3, 8)), at(0)), []);
    assert!(east.view(at(0)).fenced);
}

#[test]
fn a_restarted_strict_holder_has_until_the_last_safe_moment() {
    let mut east = Region::restarted(strict("east"), Some(entry(Purpose::Renew, 0, Some(0))));
    assert!(!east.view(at(42)).must_fence, "(75 - 1) / 1.01 - 30 seconds, over 1.01, are 42.8");
    assert!(east.view(at(43)).must_fence);
    east.wish(Wish::Hold, at(41));
    let (renewal, ..) = written(&east.answer(Some(sent_before()), at(42)));
    east.done(&renewal, at(42));
    assert!(east.view(at(43)).valid);
    assert!(east.view(at(72)).must_fence, "from here on it fences at hold");
}

#[test]
fn a_strict_holder_without_any_proof_fences_at_once() {
    let mut east = Region::new(strict("east"));
    east.read(Some(claim("east", 3, 8)), at(0));
    assert!(east.view(at(0)).must_fence);
}

#[test]
fn a_strict_holder_by_its_status_fences_hold_after_its_start_when_neither_journal_nor_vault_says_anything() {
    let evidence = |held| Some(Evidence { status: Some(3), held, ..Evidence::default() });
    let silent = |settings: Settings| {
        let mut region = Region::new(settings);
        for second in (0..=30).step_by(5) {
            region.tick(at(second));
            region.observe(Observation::ReadFailed("away".to_owned()), at(second));
        }
        region
    };
    let mut east = silent(Settings { evidence: evidence(Some(3)), ..strict("east") });
    assert!(!east.view(at(29)).must_fence);
    assert_eq!(east.state.due(&east.settings, at(29)), at(30).boot);
    let view = east.view(at(30));
    assert_eq!((view.must_fence, view.own_epoch, view.mine), (true, Some(3), false));
    east.read(Some(claim("west", 4, 9)), at(35));
    assert_eq!((east.view(at(35)).must_fence, east.view(at(35)).own_epoch), (false, None), "the vault says more");
    assert!(!silent(Settings { evidence: evidence(Some(3)), ..settings("east") }).view(at(90)).must_fence);
    assert!(!silent(Settings { evidence: evidence(None), ..strict("east") }).view(at(90)).must_fence, "a standby");
}

#[test]
fn a_strict_holder_by_its_status_fences_also_when_the_vault_answers_with_a_conflict() {
    let evidence = Some(Evidence { status: Some(3), held: Some(3), ..Evidence::default() });
    let mut east = Region::new(Settings { evidence, ..strict("east") });
    for second in (0..=30).step_by(10) {
        east.read(Some(claim("east", 2, 8)), at(second));
    }
    assert!(east.view(at(29)).conflict.is_some() && !east.view(at(29)).must_fence);
    let view = east.view(at(30));
    assert_eq!((view.must_fence, view.own_epoch), (true, Some(3)));
}

// What the others are told.

#[test]
fn a_mere_renewal_is_no_news() {
    let (mut east, _) = holder(settings("east"));
    let before = east.view(at(9));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.done(&renewal, at(11));
    assert!(!before.differs(&east.view(at(11))));
    assert_ne!(before, east.view(at(11)));
    assert!(before.differs(&east.view(at(40))), "that it is not valid any more is");
}

#[test]
fn the_next_moment_is_never_in_the_past_unless_there_is_something_to_do() {
    let (mut east, _) = holder(strict("east"));
    for second in 1..10 {
        let due = east.state.due(&east.settings, at(second));
        assert!(due > at(second).boot, "at {second}");
        assert_eq!(east.tick(at(second)), []);
    }
}
