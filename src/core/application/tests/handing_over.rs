//! Handing over, what becomes of it when it is not wanted any more, and `Strict`.

use super::*;
use crate::{api::application::FenceStatus, core::claim::record::Handover};

fn asked() -> Observed {
    let view = View {
        requested_handover: Some(Handover { to: "east".into(), run: "shop-000002-00".into() }),
        ..view(Some("west"), 1)
    };
    Observed { copy: LocalCopy { volumes: 1, ..LocalCopy::default() }, ..observed(Some(view)) }
}

/// The point that the claim is released with.
#[expect(clippy::option_option, reason = "a claim may be released without a point")]
fn release(decision: &Decided) -> Option<Option<String>> {
    wishes(decision).into_iter().find_map(|it| match it {
        Wish::Release { to, point, .. } => {
            assert_eq!(to.as_deref(), Some("east"));
            Some(point.clone())
        }
        _ => None,
    })
}

#[test]
fn a_holder_that_is_asked_stops_makes_a_last_point_and_only_then_releases() {
    let running = Observed { copy: LocalCopy { wanted: 1, pods: 1, volumes: 1 }, ..asked() };
    let intent = decide(&application(json!({"role": "Active", "epoch": 1})), &running, at(0));
    assert_eq!((intent.status.role, stops(&intent), release(&intent)), (Some(Role::Fencing), false, None));
    let stopping = then(&intent, &running, 2);
    assert_eq!((stops(&stopping), release(&stopping)), (true, None));
    let saving = then(&stopping, &asked(), 4);
    let name = format!("shop-last-{}-00", START.as_second());
    assert_eq!((made(&saving, "RecoveryPoint"), release(&saving)), (vec![name.clone()], None));
    let saved = recovery_point(&name, "Scheduled", ended(true, "Stored", 1, 4, 8));
    let released = then(&saving, &Observed { points: vec![saved], ..asked() }, 10);
    assert_eq!(release(&released), Some(Some("1-00004".to_owned())));
    // Another region has it then: nothing was written since, so nothing is saved again.
    let after = Observed { claim: Some(view(None, 1)), ..asked() };
    let standby = then(&released, &after, 12);
    assert_eq!((standby.status.role, made(&standby, "RecoveryPoint")), (Some(Role::Standby), vec![]));
}

#[test]
fn a_last_point_that_does_not_come_holds_the_handover_up_for_two_minutes_only() {
    let object = application(json!({"fence": {"epoch": 1, "since": at(0), "stoppedAt": at(2)}}));
    let name = format!("shop-last-{}-00", START.as_second());
    let slow = Observed { points: vec![recovery_point(&name, "Scheduled", json!({"conditions": []}))], ..asked() };
    assert_eq!(release(&decide(&object, &slow, at(120))), None);
    assert_eq!(release(&decide(&object, &slow, at(121))), Some(None));
    let failed = recovery_point(&name, "Scheduled", ended(false, "Failed", 1, 4, 8));
    assert_eq!(release(&decide(&object, &Observed { points: vec![failed], ..asked() }, at(9))), Some(None));
}

#[test]
fn a_strict_holder_without_proof_stops_takes_its_claim_anew_and_goes_on() {
    let unproven = View { must_fence: true, fenced: true, valid: false, ..view(Some("west"), 1) };
    let running = Observed {
        copy: LocalCopy { wanted: 1, pods: 1, volumes: 1 },
        ..observed(Some(View { readable: false, ..unproven.clone() }))
    };
    let intent = decide(&application(json!({"role": "Active", "epoch": 1})), &running, at(0));
    assert!(intent.status.fence.as_ref().unwrap().unproven);
    let stopping = then(&intent, &running, 2);
    assert!(stops(&stopping));
    let stopped = Observed { copy: LocalCopy::default(), ..running };
    let still = then(&stopping, &stopped, 4);
    assert_eq!(still.status.fence.as_ref().unwrap().retake, None, "not while the vault is away");
    let back = Observed { claim: Some(View { seizable: true, ..unproven }), ..stopped };
    let intent = then(&still, &back, 6);
    assert_eq!(intent.status.fence.as_ref().unwrap().retake, Some(2));
    let seizes = |it: &Decided| wishes(it).iter().any(|it| matches!(it, Wish::Seize { epoch: 2, .. }));
    assert!(!seizes(&intent), "the epoch stands in the status first");
    let taking = then(&intent, &back, 8);
    assert!(seizes(&taking));
    let taken = Observed { claim: Some(view(Some("west"), 2)), works: Works::from([sealed(2)]), ..back };
    let starting = then(&taking, &taken, 10);
    assert!(starts(&starting));
    assert_eq!(starting.status.role, Some(Role::Fencing));
    // It may have failed: it is begun until it is known to be done.
    let again = then(&starting, &taken, 12);
    assert!(starts(&again) && again.status.fence.is_some());
    let work = Work::StartWorkloads { application: AppKey { namespace: "shop".into(), name: "shop".into() }, epoch: 2 };
    let started = Progress::Done { at: at(13), work: Box::new(work), outcome: Outcome::Done };
    let up = Observed { works: Works::from([sealed(2), ("StartWorkloads", started)]), ..taken };
    let resumed = then(&again, &up, 14);
    assert_eq!((starts(&resumed), &resumed.status.fence), (false, &None));
    assert_eq!(then(&resumed, &up, 16).status.role, Some(Role::Active));
}

#[test]
fn what_a_failover_had_not_yet_restored_is_not_started_after_a_strict_stop() {
    let fence = FenceStatus { epoch: 1, since: Some(Time(START)), retake: Some(3), ..FenceStatus::default() };
    let object = application(json!({"fence": fence}));
    let seen = Observed { works: Works::from([sealed(3)]), ..observed(Some(view(Some("west"), 3))) };
    let decision = decide(&object, &seen, at(10));
    assert_eq!((decision.status.role, starts(&decision)), (Some(Role::Activating), false));
}

/// `west` gave epoch 1 up for `east`, which has not taken it.
fn given_up(to: &str, silent_for: u64) -> Observed {
    let mut free = View { silent_for, seizable: true, ..view(None, 1) };
    let intent =
        Intent::Released { to: Some(to.into()), from: Some("west".into()), point: None, reason: "stopped".into() };
    free.claim.as_mut().unwrap().intent = intent;
    observed(Some(free))
}

fn seizes(decision: &Decided) -> bool {
    wishes(decision).iter().any(|it| matches!(it, Wish::Seize { epoch: 2, .. }))
}

fn stopped_for(epoch: u64) -> ProtectedApplication {
    application(json!({"fence": {"epoch": epoch, "since": at(0), "stoppedAt": at(2), "settled": true}}))
}

#[test]
fn a_holder_that_is_not_asked_any_more_starts_what_it_had_stopped() {
    let seen = serving();
    let starting = decide(&stopped_for(1), &seen, at(10));
    assert_eq!((starting.status.role, starts(&starting), stops(&starting)), (Some(Role::Fencing), true, false));
    let unproven = Observed { claim: Some(View { valid: false, ..view(Some("west"), 1) }), ..serving() };
    assert!(!starts(&decide(&stopped_for(1), &unproven, at(10))), "a release may still land");
    let work = |seconds| done(Work::StartWorkloads { application: key(), epoch: 1 }, seconds, Outcome::Done);
    let before = Observed { works: Works::from([sealed(1), work(-5)]), ..serving() };
    assert!(starts(&decide(&stopped_for(1), &before, at(10))), "an earlier start counts for nothing");
    let up = Observed { works: Works::from([sealed(1), work(12)]), ..serving() };
    let resumed = then(&starting, &up, 14);
    assert_eq!((starts(&resumed), &resumed.status.fence), (false, &None));
    assert_eq!(then(&resumed, &up, 16).status.role, Some(Role::Active));
}

#[test]
fn a_copy_that_is_started_again_is_not_told_as_being_stopped_and_why_it_cannot_be_started_is_told() {
    let told = |decision: &Decided| {
        let ready = condition::find(&decision.status.conditions, READY).unwrap();
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    };
    let starting = decide(&stopped_for(1), &serving(), at(10));
    assert_eq!((told(&starting).0.as_str(), told(&starting).1.as_str()), ("Unknown", "Resuming"));
    let with = |progress| Observed { works: Works::from([sealed(1), ("StartWorkloads", progress)]), ..serving() };
    let failure = Failure { reason: "Refused", message: "Deployment web: a quota".into(), lasting: false };
    let failed = then(&starting, &with(Progress::Failed { at: at(11), times: 1, failure }), 12);
    let why = "this region's copy cannot be started: Deployment web: a quota";
    assert_eq!(told(&failed), ("False".into(), "NotStarted".into(), why.into()));
    let again = then(&failed, &with(Progress::Running), 14);
    assert_eq!(told(&again), told(&failed), "while it is tried again");
    let stopping = then(&failed, &asked(), 16);
    assert_eq!(told(&stopping).1, "Fencing");
}

#[test]
fn what_was_given_up_and_given_back_is_taken_again_and_started() {
    let seen = given_up("west", 0);
    let intent = decide(&stopped_for(1), &seen, at(10));
    assert_eq!(intent.status.fence.as_ref().unwrap().retake, Some(2));
    assert!(!seizes(&intent), "the epoch stands in the status first");
    let taking = then(&intent, &seen, 12);
    assert!(seizes(&taking));
    let taken = Observed { claim: Some(view(Some("west"), 2)), works: Works::from([sealed(2)]), ..seen };
    assert!(starts(&then(&taking, &taken, 14)));
}

#[test]
fn what_was_given_up_is_taken_back_when_nobody_took_it_for_twice_the_wait() {
    let retake = |seen: &Observed| decide(&stopped_for(1), seen, at(10)).status.fence.unwrap().retake;
    assert_eq!(retake(&given_up("east", 149)), None);
    assert_eq!(retake(&given_up("east", 150)), Some(2));
    // Not by a region that only stood by, and not while a failover to here goes on.
    let mut other = given_up("east", 150);
    other.region = "south".into();
    assert_eq!(retake(&other), None);
    let mut moving = given_up("east", 150);
    moving.failovers = vec![going_on()];
    assert_eq!(retake(&moving), None);
}

#[test]
fn what_a_failover_began_to_restore_is_not_resumed_when_the_failover_is_gone() {
    let object = application(json!({"fence": {"epoch": 1, "since": at(0), "stoppedAt": at(2), "retake": 2}}));
    let mut run = Failover::clone(&going_on());
    run.status = Some(serde_json::from_value(json!({"epoch": 2, "conditions": []})).unwrap());
    let gone = Observed { works: Works::from([sealed(2)]), ..observed(Some(view(Some("west"), 2))) };
    let begun = Observed { failovers: vec![Arc::new(run)], ..gone.clone() };
    let arriving = decide(&object, &begun, at(10));
    assert_eq!(arriving.status.role, Some(Role::Activating));
    let after = then(&arriving, &gone, 12);
    assert_eq!((after.status.role, starts(&after)), (Some(Role::Activating), false));
}

#[test]
fn what_a_strict_failover_had_not_restored_is_not_counted_as_whole_by_the_next_retake() {
    let object = application(json!({"fence": {"epoch": 1, "since": at(0), "stoppedAt": at(2), "retake": 2}}));
    let unproven = View { must_fence: true, fenced: true, valid: false, seizable: true, ..view(Some("west"), 2) };
    let fence = |failovers| {
        let seen = Observed { failovers, ..observed(Some(unproven.clone())) };
        let fence = decide(&object, &seen, at(10)).status.fence.unwrap();
        (fence.epoch, fence.retake)
    };
    let mut run = Failover::clone(&going_on());
    run.status = Some(serde_json::from_value(json!({"epoch": 2, "conditions": []})).unwrap());
    assert_eq!(fence(vec![Arc::new(run)]), (1, Some(3)));
    assert_eq!(fence(vec![]), (2, Some(3)), "what was resumed is of the epoch it was resumed in");
}

#[test]
fn what_was_written_down_to_be_taken_is_forgotten_when_the_claim_is_released() {
    let object = application(json!({"fence": {"epoch": 1, "since": at(0), "stoppedAt": at(2), "retake": 2}}));
    let released = decide(&object, &asked(), at(200));
    assert_eq!((release(&released), released.status.fence.unwrap().retake), (Some(None), None));
}

#[test]
fn while_a_failover_to_here_goes_on_it_is_looked_closely_whether_it_is_still_there() {
    let healthy = |failovers| {
        let settled = json!({"fence": {"epoch": 1, "since": at(0), "stoppedAt": at(2), "settled": true}});
        let seen = Observed { failovers, ..observed(Some(view(Some("east"), 1))) };
        decide(&application(settled), &seen, at(10)).recheck
    };
    assert_eq!((healthy(vec![going_on()]), healthy(vec![])), (Some(LOOK_CLOSELY), Some(LOOK)));
}

fn going_on() -> Arc<Failover> {
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Failover",
        "metadata": {"name": "move", "namespace": "shop"}, "spec": {"application": "shop", "to": "west"},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

#[test]
fn a_standby_wants_nothing_of_the_claim_unless_a_failover_to_here_goes_on() {
    for view in [None, Some(View { claim: None, ..view(None, 0) }), Some(view(Some("east"), 2))] {
        let seen = observed(view);
        assert!(wishes(&decide(&application(json!({})), &seen, at(0))).contains(&&Wish::Watch));
        let seen = Observed { failovers: vec![going_on()], ..seen };
        assert_eq!(wishes(&decide(&application(json!({})), &seen, at(0))), Vec::<&Wish>::new());
    }
}

#[test]
fn a_strict_failover_that_was_fenced_half_way_takes_the_next_epoch_and_is_not_resumed() {
    let fence = json!({"epoch": 1, "since": at(0), "stoppedAt": at(2), "settled": true});
    let mut unproven = View { must_fence: true, fenced: true, valid: false, seizable: true, ..view(Some("west"), 2) };
    unproven.requested_handover = Some(Handover { to: "east".into(), run: "move".into() });
    let seen = observed(Some(unproven));
    let intent = decide(&application(json!({"fence": fence})), &seen, at(10));
    assert_eq!(release(&intent), None, "what is not whole is not handed over");
    assert_eq!(intent.status.fence.as_ref().unwrap().retake, Some(3));
    let taken = Observed { claim: Some(view(Some("west"), 3)), works: Works::from([sealed(3)]), ..seen };
    let arriving = then(&intent, &taken, 14);
    assert_eq!((arriving.status.role, starts(&arriving)), (Some(Role::Activating), false));
}

#[test]
fn a_strict_region_that_served_by_its_status_stops_although_it_cannot_read_that_the_claim_is_its_own() {
    let unread = View { claim: None, must_fence: true, own_epoch: Some(3), readable: false, ..view(None, 0) };
    let running = Observed { copy: LocalCopy { wanted: 1, pods: 1, volumes: 1 }, ..observed(Some(unread)) };
    let status = json!({"role": "Active", "epoch": 3, "activeRegion": "west"});
    let intent = decide(&application(status), &running, at(0));
    let fence = intent.status.fence.clone().unwrap();
    assert_eq!((intent.status.role, fence.epoch, fence.unproven), (Some(Role::Fencing), 3, true));
    assert!(stops(&then(&intent, &running, 2)));
}
