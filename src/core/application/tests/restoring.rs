//! Restores in place, and what they keep this region from: `Strict` that stops it in the middle, half of one that is left.

use super::*;
use crate::api::restore::Restore;

/// A restore in place at that step, of that epoch. One that has ended did so with that condition.
fn restore(name: &str, step: &str, epoch: u64, ended: Option<(&str, bool)>) -> Arc<Restore> {
    let order = ["Check", "Stop", "RestoreVolumes", "RestoreObjects", "Start", "LoadDumps", "AwaitReady"];
    let so_far = order.iter().position(|it| *it == step).map_or(order.len(), |it| it + 1);
    let steps: Vec<_> =
        order[..so_far].iter().map(|it| json!({"name": it, "startedAt": at(10), "message": ""})).collect();
    let condition = ended.map_or("Unknown", |it| it.0);
    let mut status = json!({
        "step": step, "steps": steps, "epoch": epoch, "leftStopped": ended.is_some_and(|it| it.1),
        "conditions": [{"type": "Succeeded", "status": condition, "reason": "X", "message": "", "lastTransitionTime": at(0)}],
        "progress": {"at": at(0), "volumesDone": 0, "volumesTotal": 2, "bytesDone": 0, "bytesTotal": 0, "filesDone": 0,
            "filesTotal": 0, "objectsDone": 0},
    });
    if ended.is_some() {
        status["finishedAt"] = json!(at(20));
    }
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Restore", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"application": "shop"}, "status": status,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// `west` stopped by itself in epoch 1, since it could not prove its claim, and has taken epoch 2.
fn taken_anew(restores: Vec<Arc<Restore>>) -> Decided {
    let fence = json!({"epoch": 1, "since": at(0), "stoppedAt": at(2), "unproven": true, "retake": 2});
    let seen = Observed { works: Works::from([sealed(2)]), restores, ..observed(Some(view(Some("west"), 2))) };
    decide(&application(json!({"fence": fence})), &seen, at(30))
}

#[test]
fn nothing_but_the_restore_starts_what_is_half_restored_when_a_strict_holder_takes_its_claim_anew() {
    for step in ["Stop", "RestoreVolumes", "RestoreObjects", "Start", "Cancel"] {
        let behind = taken_anew(vec![restore("back", step, 1, None)]);
        assert!(!starts(&behind) && behind.status.fence.is_some(), "{step}: it has yet to go on under the new epoch");
        let goes_on = taken_anew(vec![restore("back", step, 2, None)]);
        assert_eq!((starts(&goes_on), &goes_on.status.fence), (false, &None), "{step}");
    }
    for step in ["LoadDumps", "AwaitReady"] {
        assert!(
            starts(&taken_anew(vec![restore("back", step, 2, None)])),
            "{step}: it was started before, and stopped again"
        );
    }
    assert!(starts(&taken_anew(vec![restore("old", "AwaitReady", 1, Some(("True", false)))])));
}

#[test]
fn what_a_restore_left_half_done_is_neither_started_nor_saved_as_a_point() {
    let half = || restore("back", "RestoreVolumes", 1, Some(("False", true)));
    let resumed = taken_anew(vec![half()]);
    assert_eq!((starts(&resumed), &resumed.status.fence), (false, &None), "another Restore needs a region that serves");
    let serves = |restores| decide(&application(json!({})), &Observed { restores, ..serving() }, at(900));
    let held = serves(vec![half()]);
    assert_eq!(made(&held, "RecoveryPoint"), Vec::<String>::new());
    assert_eq!(reason(&held, READY), "HalfRestored");
    let message = &condition::find(&held.status.conditions, READY).unwrap().message;
    assert!(message.contains("Restore back") && message.contains("until another Restore"), "{message}");
    let mended = Arc::unwrap_or_clone(restore("again", "AwaitReady", 1, Some(("True", false))));
    let mut mended = mended;
    mended.status.as_mut().unwrap().steps.iter_mut().for_each(|it| it.started_at = Time(at(30)));
    assert_eq!(made(&serves(vec![half(), Arc::new(mended)]), "RecoveryPoint").len(), 1);
    let whole = restore("back", "AwaitReady", 1, Some(("False", false)));
    assert_eq!(made(&serves(vec![whole]), "RecoveryPoint").len(), 1, "it is not ready, but as in the point");
}

#[test]
fn half_of_a_restore_is_not_the_last_point_of_a_hand_over() {
    let asked = View {
        requested_handover: Some(record::Handover { to: "east".into(), run: "shop-000002-00".into() }),
        ..view(Some("west"), 1)
    };
    let fence = json!({"epoch": 1, "since": at(0), "stoppedAt": at(2)});
    let restores = vec![restore("back", "RestoreVolumes", 1, Some(("False", true)))];
    let seen = Observed { restores, works: Works::from([sealed(1)]), ..observed(Some(asked)) };
    let decided = decide(&application(json!({"fence": fence})), &seen, at(30));
    assert_eq!(made(&decided, "RecoveryPoint"), Vec::<String>::new());
    let released = wishes(&decided).iter().any(|it| matches!(it, Wish::Release { point: None, .. }));
    assert!(released, "the other region restores the newest good point");
}

#[test]
fn a_holder_renews_while_it_restores_and_is_not_asked_away() {
    let asked = View {
        requested_handover: Some(record::Handover { to: "east".into(), run: "shop-000002-00".into() }),
        ..view(Some("west"), 1)
    };
    let restores = vec![restore("back", "RestoreVolumes", 1, None)];
    let seen = Observed { restores, works: Works::from([sealed(1)]), ..observed(Some(asked)) };
    let decided = decide(&application(json!({})), &seen, at(30));
    assert!(wishes(&decided).iter().all(|it| matches!(it, Wish::Hold)) && !wishes(&decided).is_empty());
    assert_eq!((starts(&decided), stops(&decided), decided.status.role), (false, false, Some(Role::Active)));
}
