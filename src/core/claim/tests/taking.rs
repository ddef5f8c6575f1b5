//! Who may take the claim, and when: one that is absent or went back, one that is silent, one that was released.

use super::*;

// An absent claim, and one that went back.

#[test]
fn only_the_first_region_makes_a_claim_where_there_never_was_one() {
    let (_, first) = holder(settings("east"));
    assert_eq!((first.epoch, first.seq, first.holder.as_deref()), (1, 1, Some("east")));
    let mut west = Region::new(settings("west"));
    west.wish(Wish::Hold, at(0));
    for second in (0..=200).step_by(10) {
        west.tick(at(second));
        assert_eq!(west.answer(None, at(second)), [], "at {second}");
    }
    assert!(west.view(at(200)).seizable, "it may if it is told to");
    assert_eq!(written(&west.wish(Wish::Seize { epoch: 1, reason: "told".to_owned() }, at(200))).0.epoch, 1);
}

#[test]
fn no_claim_is_made_while_the_evidence_was_not_looked_up() {
    let mut east = Region::new(Settings { evidence: None, ..settings("east") });
    east.wish(Wish::Hold, at(0));
    assert_eq!(east.answer(None, at(0)), []);
    assert_eq!(east.view(at(0)).conflict, None);
    east.settings.evidence = Some(Evidence::default());
    written(&east.tick(at(1)));
}

#[test]
fn an_absent_claim_that_somebody_remembers_is_a_conflict() {
    for (evidence, source) in [
        (Evidence { status: Some(4), ..Evidence::default() }, "the application's status says so"),
        (Evidence { head: Some(4), ..Evidence::default() }, "the catalogue is sealed with it"),
    ] {
        let mut east = Region::new(Settings { evidence: Some(evidence), ..settings("east") });
        east.wish(Wish::Hold, at(0));
        assert_eq!(east.answer(None, at(0)), []);
        let conflict = east.view(at(0)).conflict.expect("a conflict");
        assert!(
            conflict.contains("no claim") && conflict.contains("epoch 4") && conflict.contains(source),
            "{conflict}"
        );
        assert!(!east.view(at(0)).seizable);
    }
}

#[test]
fn the_journal_is_evidence_of_an_epoch() {
    let mut east = Region::restarted(settings("east"), Some(entry(Purpose::Renew, 0, None)));
    east.wish(Wish::Hold, at(100));
    assert_eq!(east.answer(None, at(100)), []);
    assert!(east.view(at(100)).conflict.is_some());
}

#[test]
fn a_first_claim_that_never_landed_is_no_evidence() {
    let journal = Entry { epoch: 1, seq: 1, ..entry(Purpose::Seize, 0, None) };
    let mut east = Region::restarted(settings("east"), Some(journal));
    east.wish(Wish::Hold, at(100));
    assert_eq!(written(&east.answer(None, at(100))).0.epoch, 1);
}

#[test]
fn a_claim_whose_epoch_or_seq_fell_is_a_conflict_until_it_is_back() {
    let mut west = Region::new(settings("west"));
    west.watch(&claim("east", 3, 30), 0..=0);
    for (older, second) in [(claim("east", 2, 31), 10), (claim("east", 3, 29), 20)] {
        west.read(Some(older), at(second));
        let view = west.view(at(second));
        assert!(view.conflict.is_some(), "at {second}");
        assert_eq!(view.silent_for, 0);
    }
    west.read(Some(claim("east", 4, 31)), at(30));
    assert_eq!(west.view(at(30)).conflict, None);
}

#[test]
fn a_claim_that_a_person_adopted_ends_the_conflict_in_every_region() {
    for adopted_for in ["east", "west"] {
        let adopted = Claim { nonce: format!("adopt.{adopted_for}.1"), ..claim(adopted_for, 4, 1_000_029) };
        let mut regions = ["east", "west"].map(|it| Region::new(settings(it)));
        for region in &mut regions {
            region.wish(Wish::Watch, at(0));
            region.answer(Some(claim("east", 3, 30)), at(0));
            region.tick(at(10));
            region.answer(Some(claim("east", 2, 29)), at(10));
            assert!(region.view(at(10)).conflict.is_some(), "the vault was rolled back");
            region.wish(Wish::Hold, at(11));
            region.tick(at(21));
            let acts = region.answer(Some(adopted.clone()), at(21));
            let (here, view) = (region.settings.region == adopted_for, region.view(at(21)));
            assert_eq!((view.conflict, view.mine, view.epoch), (None, here, 4), "{adopted_for}");
            // It renews what it did not write itself, and acts only once that stands.
            assert_eq!(acts.iter().any(|it| matches!(it, Act::Write { .. })), here, "{acts:?}");
            assert!(!view.valid);
            if here {
                let (renewal, ..) = written(&acts);
                region.done(&renewal, at(21));
                assert!(region.view(at(21)).valid);
            }
        }
    }
}

#[test]
fn two_versions_with_one_number_are_a_conflict() {
    let mut west = Region::new(settings("west"));
    west.watch(&claim("east", 3, 30), 0..=0);
    west.read(Some(Claim { nonce: "east.rewritten.1".to_owned(), ..claim("east", 3, 30) }), at(10));
    assert!(west.view(at(10)).conflict.is_some());
}

/// Found by the search: the vault was set back, another region took the claim from there and sealed the catalogue, and
/// the epoch of that seal made this region forget the number of the version that it had written itself.
#[test]
fn a_newer_seal_does_not_hide_that_the_seq_fell() {
    let mut east = Region::new(settings("east"));
    east.watch(&claim("east", 1, 4), 0..=0);
    east.read(Some(claim("west", 2, 3)), at(10));
    assert!(east.view(at(10)).conflict.is_some());
    east.settings.evidence = Some(Evidence { status: Some(1), head: Some(2), ..Evidence::default() });
    east.read(Some(claim("west", 2, 3)), at(20));
    assert!(east.view(at(20)).conflict.is_some());
    east.read(Some(claim("west", 2, 4)), at(30));
    assert!(east.view(at(30)).conflict.is_some(), "another version of the same number");
    east.read(Some(claim("west", 2, 5)), at(40));
    assert_eq!(east.view(at(40)).conflict, None);
}

#[test]
fn a_holder_in_conflict_neither_renews_nor_acts() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.observe(Observation::WriteLost { nonce: renewal.nonce }, at(11));
    assert_eq!(east.answer(None, at(11)), []);
    assert!(!east.view(at(11)).valid);
    assert_eq!(east.tick(at(21)), [Act::Read], "it goes on looking");
}

#[test]
fn evidence_that_comes_while_a_read_is_under_way_does_not_contradict_its_answer() {
    let mut west = Region::new(settings("west"));
    west.tick(at(0));
    west.settings.evidence = Some(Evidence { head: Some(4), ..Evidence::default() });
    west.answer(Some(claim("east", 3, 30)), at(1));
    assert_eq!(west.view(at(1)).conflict, None, "the head was sealed in between");
    west.read(Some(claim("east", 3, 30)), at(11));
    assert!(west.view(at(11)).conflict.is_some(), "but this was asked for after it was known");
}

#[test]
fn the_claim_of_another_application_is_a_conflict() {
    let mut west = Region::new(settings("west"));
    west.read(Some(Claim { group: "shop.blog".to_owned(), ..claim("east", 1, 1) }), at(0));
    assert!(west.view(at(0)).conflict.is_some_and(|it| it.contains("shop.blog")));
}

#[test]
fn an_operator_that_calls_itself_by_the_same_name_is_a_conflict() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.observe(Observation::WriteLost { nonce: renewal.nonce }, at(11));
    assert_eq!(east.answer(Some(claim("east", 1, 2)), at(11)), []);
    assert!(east.view(at(11)).conflict.is_some_and(|it| it.contains("as region east")));
}

// Silence, and taking the claim.

#[test]
fn a_standby_takes_the_claim_after_it_has_seen_the_same_version_for_the_whole_wait() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.wish(Wish::Seize { epoch: 2, reason: "no sign of life".to_owned() }, at(0));
    assert_eq!(west.answer(Some(silent.clone()), at(0)), []);
    west.watch(&silent, (10..=70).step_by(10));
    assert_eq!(west.view(at(70)).silent_for, 70);
    assert_eq!(west.tick(at(74)), []);
    // The read that completes the wait comes early.
    assert_eq!(west.tick(at(75)), [Act::Read]);
    let (taken, expected, entry) = written(&west.answer(Some(silent.clone()), at(75)));
    assert_eq!(expected, Expected::Unchanged(format!("tag of {}", silent.nonce)));
    assert_eq!((taken.epoch, taken.seq, taken.holder.as_deref()), (2, 6, Some("west")));
    assert_eq!(taken.reason, "no sign of life");
    assert!(entry.is_some());
    assert!(!west.view(at(76)).valid);
    west.done(&taken, at(76));
    assert!(west.view(at(76)).valid);
}

#[test]
fn a_new_version_starts_the_wait_anew() {
    let mut west = Region::new(settings("west"));
    west.watch(&claim("east", 1, 5), (0..=70).step_by(10));
    west.watch(&claim("east", 1, 6), (80..=140).step_by(10));
    assert!(!west.view(at(140)).seizable);
    assert_eq!(west.view(at(140)).silent_for, 60);
}

#[test]
fn one_failed_read_interrupts_no_silence() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=20).step_by(10));
    west.tick(at(30));
    west.observe(Observation::ReadFailed("timed out".to_owned()), at(33));
    west.watch(&silent, (40..=80).step_by(10));
    assert!(west.view(at(80)).seizable);
}

#[test]
fn the_silence_of_the_vault_is_not_that_of_the_holder() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=70).step_by(10));
    for second in (80..=140).step_by(10) {
        west.tick(at(second));
        west.observe(Observation::ReadFailed("away".to_owned()), at(second + 3));
    }
    assert!(!west.view(at(144)).readable);
    west.watch(&silent, 150..=150);
    assert!(!west.view(at(150)).seizable, "the holder could not renew either, and may be about to");
    assert_eq!(west.view(at(150)).silent_for, 0);
}

#[test]
fn a_wall_clock_that_is_set_forward_shortens_no_wait() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=20).step_by(10));
    for (wall, counted) in [(42, 30), (3_000, 0)] {
        let mut west = Region { settings: west.settings.clone(), state: west.state.clone() };
        west.tick(at(30));
        west.answer(Some(silent.clone()), Now { boot: at(30).boot, wall: at(wall).wall });
        assert_eq!(west.state.sight.map(|it| it.silent.as_secs()), Some(counted), "set to {wall}");
    }
}

#[test]
fn the_longer_wait_counts() {
    let slow = Claim { deadlines: Deadlines { renew: 10, hold: 60, fence: 60, wait: 130 }, ..claim("east", 1, 5) };
    let mut west = Region::new(settings("west"));
    west.watch(&slow, (0..=120).step_by(10));
    assert!(!west.view(at(120)).seizable);
    west.watch(&slow, 130..=130);
    assert!(west.view(at(130)).seizable);
}

#[test]
fn only_the_epoch_that_was_asked_for_is_taken() {
    let silent = claim("east", 4, 50);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=80).step_by(10));
    assert_eq!(west.wish(Wish::Seize { epoch: 4, reason: String::new() }, at(81)), []);
    assert_eq!(west.wish(Wish::Seize { epoch: 6, reason: String::new() }, at(82)), []);
    assert_eq!(written(&west.wish(Wish::Seize { epoch: 5, reason: String::new() }, at(83))).0.epoch, 5);
}

#[test]
fn a_region_that_is_no_candidate_takes_nothing() {
    let mut north = Region::new(settings("north"));
    north.watch(&claim("east", 1, 5), (0..=200).step_by(10));
    assert!(!north.view(at(200)).seizable);
}

// Release and handover.

fn released(to: Option<&str>) -> Claim {
    let intent = Intent::Released {
        to: to.map(str::to_owned),
        from: Some("east".to_owned()),
        point: None,
        reason: "maintenance".to_owned(),
    };
    Claim { holder: None, intent, ..claim("east", 1, 9) }
}

#[test]
fn a_released_claim_is_taken_at_once_by_whom_it_is_for() {
    for (to, free) in [(None, true), (Some("west"), true), (Some("north"), false)] {
        let mut west = Region::new(settings("west"));
        west.watch(&released(to), 0..=0);
        assert_eq!(west.view(at(0)).seizable, free, "{to:?}");
    }
    let mut west = Region::new(settings("west"));
    west.watch(&released(Some("north")), (0..=80).step_by(10));
    assert!(west.view(at(80)).seizable, "whom it was for did not come");
}

#[test]
fn a_holder_that_releases_is_not_valid_from_the_moment_it_sends_that() {
    let (mut east, _) = holder(settings("east"));
    let wish = Wish::Release { to: Some("west".to_owned()), point: Some("p".to_owned()), reason: "r".to_owned() };
    let (release, _, entry) = written(&east.wish(wish, at(5)));
    assert_eq!((release.epoch, release.holder.as_ref()), (1, None));
    assert_eq!(
        release.intent,
        Intent::Released {
            to: Some("west".to_owned()),
            from: Some("east".to_owned()),
            point: Some("p".to_owned()),
            reason: "r".to_owned()
        }
    );
    assert_eq!(entry.map(|it| it.purpose), Some(Purpose::Release));
    assert!(!east.view(at(5)).valid);
    east.done(&release, at(6));
    assert!(!east.view(at(6)).mine);
    assert_eq!(east.tick(at(10)), [], "it is written once");
}

#[test]
fn a_request_for_a_handover_reaches_the_holder_and_survives_its_renewals() {
    let (mut east, first) = holder(settings("east"));
    let mut west = Region::new(settings("west"));
    west.watch(&first, 0..=0);
    let wish = Wish::RequestHandover { to: "west".to_owned(), run: "move-1".to_owned() };
    let (request, _, entry) = written(&west.wish(wish, at(1)));
    assert_eq!((request.epoch, request.holder.as_deref(), request.seq), (1, Some("east"), 2));
    assert_eq!(entry, None, "a region that holds nothing writes nothing down");
    west.done(&request, at(2));
    assert_eq!(west.tick(at(9)), [], "it is asked once");

    let (lost, ..) = written(&east.tick(at(10)));
    assert_eq!(east.observe(Observation::WriteLost { nonce: lost.nonce }, at(11)), [Act::Read]);
    assert_eq!(east.answer(Some(request), at(11)), []);
    let wanted = Handover { to: "west".to_owned(), run: "move-1".to_owned() };
    assert_eq!(east.view(at(11)).requested_handover, Some(wanted.clone()));
    assert!(east.view(at(29)).valid, "it holds the claim as before");
    assert!(!east.view(at(30)).valid, "but somebody else's version renews nothing");
    let (renewal, ..) = written(&east.tick(at(15)));
    assert_eq!(renewal.intent, Intent::Handover(wanted));
}

#[test]
fn a_request_that_is_not_wanted_any_more_is_withdrawn_and_only_then() {
    let asked = Intent::Handover(Handover { to: "west".to_owned(), run: "move-1".to_owned() });
    let stands = Claim { intent: asked, ..claim("east", 1, 9) };
    let mut west = Region::new(settings("west"));
    west.watch(&stands, (0..=10).step_by(10)); // Nothing was declared since the start.
    assert_eq!(west.wish(Wish::RequestHandover { to: "west".to_owned(), run: "move-1".to_owned() }, at(11)), []);
    let (declined, expected, entry) = written(&west.wish(Wish::Watch, at(12)));
    assert_eq!(expected, Expected::Unchanged(format!("tag of {}", stands.nonce)));
    assert_eq!((declined.epoch, declined.holder.as_deref(), &declined.intent), (1, Some("east"), &Intent::None));
    assert_eq!(entry, None, "a region that holds nothing writes nothing down");
    west.done(&declined, at(13));
    assert_eq!(west.tick(at(19)), [], "it is withdrawn once");
    // The request of another region is not its business.
    let mut north = Region::new(settings("north"));
    north.wish(Wish::Watch, at(0));
    assert_eq!(north.answer(Some(stands), at(0)), []);
}

#[test]
fn the_request_of_a_new_run_replaces_that_of_the_one_before() {
    let asked = Intent::Handover(Handover { to: "west".to_owned(), run: "move-1".to_owned() });
    let mut west = Region::new(settings("west"));
    west.watch(&Claim { intent: asked, ..claim("east", 1, 9) }, 0..=0);
    let wish = Wish::RequestHandover { to: "west".to_owned(), run: "move-2".to_owned() };
    let (request, ..) = written(&west.wish(wish, at(1)));
    assert_eq!(request.intent, Intent::Handover(Handover { to: "west".to_owned(), run: "move-2".to_owned() }));
}

#[test]
fn a_release_to_a_region_that_does_not_want_it_is_given_back_at_once() {
    let mut west = Region::new(settings("west"));
    west.watch(&released(Some("west")), 0..=0);
    let (declined, ..) = written(&west.wish(Wish::Watch, at(1)));
    let Intent::Released { to, from, .. } = &declined.intent else { panic!("{:?}", declined.intent) };
    assert_eq!(
        (to.as_deref(), from.as_deref(), &declined.holder, declined.epoch),
        (Some("east"), Some("east"), &None, 1)
    );
    let mut east = Region::new(settings("east"));
    east.wish(Wish::Watch, at(2));
    assert_eq!(east.answer(Some(declined), at(2)), [], "it goes no further");
    assert!(east.view(at(2)).returned_to("east"));
    assert_eq!(written(&east.wish(Wish::Seize { epoch: 2, reason: "back".to_owned() }, at(3))).0.epoch, 2);
}

#[test]
fn what_a_person_released_to_a_region_waits_there_for_a_failover() {
    let mut free = released(Some("west"));
    free.intent = Intent::Released { to: Some("west".to_owned()), from: None, point: None, reason: "conflict".into() };
    let mut west = Region::new(settings("west"));
    west.wish(Wish::Watch, at(0));
    assert_eq!(west.answer(Some(free.clone()), at(0)), []);
    let taken = written(&west.wish(Wish::Seize { epoch: free.epoch + 1, reason: "a person's".to_owned() }, at(1))).0;
    assert_eq!(taken.holder.as_deref(), Some("west"));
}

#[test]
fn whoever_gave_the_claim_up_may_take_it_back_after_twice_the_wait() {
    let mut east = Region::new(settings("east"));
    east.watch(&released(Some("west")), (0..=140).step_by(10));
    let view = east.view(at(140));
    assert!(view.seizable && view.given_up_by("east") && !view.returned_to("east"));
    east.watch(&released(Some("west")), 150..=150);
    assert!(east.view(at(150)).returned_to("east"));
    assert!(!east.view(at(150)).returned_to("west"));
}
