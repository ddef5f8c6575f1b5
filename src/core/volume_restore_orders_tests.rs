//! What holds of a restored volume in every order that the model tries; and that the model notices when it does not.

use super::*;

/// Explores, and lets each world that was reached come to its end.
fn holds(start: World) -> Result<usize, String> {
    let all = explore(start, "s1")?;
    for world in &all {
        world.clone().settle("s1").map_err(|error| format!("{error} from {world:#?}"))?;
    }
    Ok(all.len())
}

#[test]
fn without_a_claim_every_order_ends_with_the_snapshot_and_nothing_is_lost() {
    for lazy in [false, true] {
        let worlds = holds(World::empty(lazy, Mutation::None)).unwrap();
        assert!(worlds >= 50, "{worlds} worlds are not every order");
    }
}

#[test]
fn with_old_data_every_order_ends_with_the_snapshot_in_the_same_volume() {
    for lazy in [false, true] {
        let worlds = holds(World::with_old_data(lazy, Mutation::None)).unwrap();
        assert!(worlds >= 50, "{worlds} worlds are not every order");
        let end = World::with_old_data(lazy, Mutation::None).settle("s1").unwrap();
        assert_eq!(end.volumes.keys().collect::<Vec<_>>(), ["pv-old"], "only what differs is transferred");
    }
}

#[test]
fn a_mover_that_failed_is_run_again_in_every_order() {
    for start in [World::empty(true, Mutation::None), World::with_old_data(false, Mutation::None)] {
        holds(World { fails: true, ..start }).unwrap();
    }
    let start = World { fails: true, ..World::with_old_data(false, Mutation::None) };
    let end = start.settle("s1").unwrap();
    assert_eq!(end.volumes["pv-old"].annotation(FAILURES), None, "what ended well is not counted on");
}

/// What comes `seconds` after a mover failed, and what was counted on its volume by then.
fn after_failure(counted: Option<&str>, seconds: i64) -> (Step, Vec<Effect>) {
    let mut seen = being_filled();
    let annotations = &mut seen.volume.as_mut().unwrap().annotations;
    annotations.extend(counted.map(|it| (FAILURES.to_owned(), it.to_owned())));
    seen.job =
        Some(JobSeen::Failed { message: "the vault is away".into(), at: FAILED_AT, corrupt: false, command: None });
    next(&seen, "s1", FAILED_AT + SignedDuration::from_secs(seconds))
}

/// The volume is the operator's claim's, and not equal to the snapshot yet.
fn being_filled() -> Seen {
    let mut seen = World::with_old_data(false, Mutation::None).settle("s1").unwrap().seen();
    let own = run().derived(CLAIM_NAME);
    let volume = seen.volume.as_mut().unwrap();
    volume.annotations.remove(RESTORED_FROM);
    volume.claim = Some((HOME.into(), own, None));
    (seen.tenant, seen.own) = (None, seen.tenant);
    seen
}

#[test]
fn a_failure_is_counted_before_its_mover_is_deleted() {
    for (counted, then) in [
        (None, format!("1 {FAILED_AT}")),
        (Some("2 2027-01-01T00:00:00Z"), format!("3 {FAILED_AT}")),
        (Some("somebody wrote this"), format!("1 {FAILED_AT}")),
    ] {
        let (step, effects) = after_failure(counted, 9_999);
        let [Effect::PatchVolume { patch, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(patch["metadata"]["annotations"][FAILURES], then);
        assert_eq!(step, Step::Failed("the vault is away".into()));
    }
}

#[test]
fn a_mover_that_failed_is_run_again_after_a_pause_that_doubles_up_to_five_minutes_and_says_why() {
    for (times, pause) in [(1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (1_000, 300)] {
        let counted = format!("{times} {FAILED_AT}");
        let (step, effects) = after_failure(Some(&counted), pause - 1);
        assert_eq!(effects, [], "{times}");
        let Step::Failed(why) = step else { panic!("{step:?}") };
        assert!(why.ends_with(": the vault is away") && why.contains(&format!("{times} times")), "{why}");
        let mover = job_key(HOME, &run().derived(CLAIM_NAME));
        assert_eq!(after_failure(Some(&counted), pause).1, [Effect::Delete(mover.clone())], "{times}");
        assert_eq!(after_failure(Some(&counted), -9_000).1, [Effect::Delete(mover)], "the clock was set back");
    }
}

#[test]
fn a_mover_that_never_got_a_volume_is_run_again() {
    let mut world = World::empty(true, Mutation::None);
    world.job = Some(MoverJob { snapshot: "s1".into(), done: true, deleting: false });
    world.failed = true;
    assert_eq!(world.next("s1").1, [Effect::Delete(job_key(HOME, &run().derived(CLAIM_NAME)))]);
    holds(world).unwrap();
}

#[test]
fn a_point_that_is_passed_over_half_way_leaves_nothing_of_itself_in_any_order() {
    for start in [World::empty(true, Mutation::None), World::with_old_data(false, Mutation::None)] {
        for half in explore(start, "s2").unwrap() {
            // Nobody tidied the mover away: the pass that was to do so was interrupted.
            let half = World { pending: VecDeque::new(), ..half };
            let end = half.clone().settle("s1").map_err(|error| format!("{error} from {half:#?}"));
            assert_eq!(end.unwrap().served(), Some("s1"));
        }
    }
}

#[test]
fn a_claim_that_somebody_makes_anew_meanwhile_gets_the_volume_or_is_left_to_people() {
    let lazy = World { recreates: true, ..World::with_old_data(true, Mutation::None) };
    assert!(holds(lazy).unwrap() >= 50);
    // Where a claim gets a volume at once, that one is in the way: it is said, and nothing is deleted.
    let eager = World { recreates: true, ..World::with_old_data(false, Mutation::None) };
    for world in explore(eager, "s1").unwrap() {
        match world.settle("s1") {
            Ok(end) => assert_eq!(end.served(), Some("s1")),
            Err(why) => assert!(why.contains("made anew with volume"), "{why}"),
        }
    }
}

#[test]
fn a_claim_that_appears_while_a_new_volume_is_made_is_taken_over() {
    for lazy in [false, true] {
        // What was written into the new volume by then is given up.
        let start = World { recreates: true, copies_may_go: true, ..World::empty(lazy, Mutation::None) };
        for world in explore(start, "s1").unwrap() {
            match world.settle("s1") {
                Ok(end) => assert_eq!(end.served(), Some("s1")),
                Err(why) => assert!(why.contains("made anew with volume"), "{why}"),
            }
        }
    }
}

#[test]
fn a_claim_that_is_only_just_being_bound_keeps_its_data() {
    let mut start = World::with_old_data(false, Mutation::None);
    start.claims.get_mut(&key(SPACE, CLAIM_NAME)).unwrap().bound = false;
    holds(start).unwrap();
}

#[test]
fn the_operators_claim_may_be_deleted_at_any_moment_once_its_volume_is_safe() {
    let start = World { meddles: true, ..World::with_old_data(false, Mutation::None) };
    holds(start).unwrap();
    let start = World { meddles: true, ..World::empty(true, Mutation::None) };
    holds(start).unwrap();
}

#[test]
fn a_policy_that_was_put_back_is_not_remembered() {
    let mut end = World::with_old_data(false, Mutation::None).settle("s1").unwrap();
    let volume = end.volumes.get_mut("pv-old").unwrap();
    assert_eq!(volume.annotation(RECLAIM_POLICY), None);
    volume.object["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
    volume.object["metadata"]["labels"][RUN] = json!("another run");
    let (_, effects) = end.next("s1");
    let [Effect::PatchVolume { patch, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(patch["metadata"]["annotations"][RECLAIM_POLICY], "Retain");
}

#[test]
fn a_corrupt_snapshot_touches_nothing_more() {
    let mut seen = being_filled();
    seen.job = Some(JobSeen::Failed { message: "pack gone".into(), at: FAILED_AT, corrupt: true, command: None });
    assert_eq!(next(&seen, "s1", FAILED_AT), (Step::Corrupt("pack gone".into()), vec![]));
}

#[test]
fn the_model_loses_data_when_a_volume_is_not_retained() {
    for start in [World::with_old_data(false, Mutation::NoRetain), World::with_old_data(true, Mutation::NoRetain)] {
        let found = explore(start, "s1").map(|it| it.len());
        assert!(found.as_ref().is_err_and(|it| it.starts_with("lost: ")), "{found:?}");
    }
    let found = explore(World::empty(true, Mutation::NoRetain), "s1").map(|it| it.len());
    assert!(found.as_ref().is_err_and(|it| it.starts_with("lost: ")), "{found:?}");
}

#[test]
fn the_model_never_binds_a_volume_that_keeps_the_uid_of_a_claim_that_is_gone() {
    let end = World::with_old_data(false, Mutation::StaleUid).settle("s1");
    assert!(end.as_ref().is_err_and(|it| it.starts_with("no end")), "{end:?}");
}

#[test]
fn the_model_notices_a_volume_that_was_handed_over_before_it_was_filled() {
    let found = holds(World::with_old_data(false, Mutation::NotFilled));
    assert_eq!(found, Err("done with Some(\"old\")".to_owned()));
}

#[test]
fn the_model_notices_a_mover_that_is_started_beside_the_pod_of_a_deleted_one() {
    let start = World { meddles: true, ..World::with_old_data(false, Mutation::PodUnseen) };
    let found = explore(start, "s1").map(|it| it.len());
    assert_eq!(found, Err("two movers write to one volume".to_owned()));
}

#[test]
fn a_pod_of_a_mover_is_replaced_only_once_it_has_ended() {
    let (_, effects) = World::empty(true, Mutation::None).next("s1");
    let [_, Effect::Apply(job)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(job.data["spec"]["podReplacementPolicy"], "Failed");
    assert_eq!(
        job.data["spec"]["template"]["metadata"]["annotations"][CLAIM], CLAIM_NAME,
        "it is found without its Job"
    );
}

#[test]
fn a_volume_of_a_run_that_is_over_gets_its_policy_back_only_while_it_is_bound_to_a_claim_that_stays() {
    let start = || World { copies_may_go: true, ..World::with_old_data(false, Mutation::None) };
    let mut put_back = 0;
    for world in explore(start(), "s1").unwrap() {
        // The run is over here: its mover and the operator's claim are swept, and nothing more is handed over.
        let mut left = World { pending: VecDeque::new(), job: None, ..world };
        left.claims.remove(&World::own());
        let (seen, volume) = (left.seen(), left.volume_seen("pv-old", &left.volumes["pv-old"]));
        if let Some(patch) = let_go(&volume, seen.tenant.as_ref()) {
            left.patch_volume("pv-old", &patch, None);
            assert_eq!((left.volumes["pv-old"].reclaim(), left.volumes["pv-old"].run()), ("Delete", None));
            put_back += 1;
        }
        while let Some(next) = left.controllers().into_iter().next() {
            left = next;
        }
        assert!(left.volumes.contains_key("pv-old"), "kept, or bound: {left:?}");
    }
    assert!(put_back > 0);
}

#[test]
fn a_volume_that_was_handed_over_is_left_as_it_is() {
    let mut end = World::with_old_data(false, Mutation::None).settle("s1").unwrap();
    let volume = |world: &World| world.volume_seen("pv-old", &world.volumes["pv-old"]);
    assert_eq!(let_go(&volume(&end), end.seen().tenant.as_ref()), None);
    end.claims.get_mut(&key(SPACE, CLAIM_NAME)).unwrap().deleting = true;
    end.volumes.get_mut("pv-old").unwrap().object["metadata"]["annotations"][RECLAIM_POLICY] = json!("Delete");
    assert_eq!(let_go(&volume(&end), end.seen().tenant.as_ref()), None, "a claim that goes would take the data along");
}

#[test]
fn the_claim_of_a_volume_with_an_attributes_class_asks_for_it_and_no_selector_is_brought_back() {
    let world = World::with_old_data(false, Mutation::None).settle("s1").unwrap();
    let mut seen = world.seen();
    let volume = seen.volume.as_mut().unwrap();
    volume.attributes_class = Some("gold".into());
    volume.claim = Some((SPACE.into(), CLAIM_NAME.into(), None));
    volume.annotations.insert(KEPT.into(), kept().text().unwrap());
    seen.tenant = None;
    let (_, effects) = next(&seen, "s1", FAILED_AT);
    let Some(Effect::Apply(claim)) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(claim.data["spec"]["volumeAttributesClassName"], "gold");
    assert_eq!(claim.metadata.labels, Some(kept().labels));
}
