//! What is there is saved before anything is changed.

use super::*;

#[test]
fn nothing_is_changed_when_what_is_there_could_not_be_saved() {
    let mut play = Play::new(&json!({}));
    play.safe = false;
    let (reason, message) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), play.done.as_slice()), ("SafetyPointFailed", &["save".to_owned()][..]));
    assert!(message.contains("safetyPoint: Skip"), "{message}");
    let mut play = Play::new(&json!({"safetyPoint": "Skip"}));
    assert_eq!(play.played_out(|_| false).0, "Restored");
    assert!(!play.done.contains(&"save".to_owned()));
}

#[test]
fn a_database_that_is_down_does_not_keep_its_volumes_from_being_restored() {
    let saved = |volumes: Value| {
        let mut play = Play::new(&json!({}));
        play.until(RestoreStepName::SafetyPoint);
        play.pass();
        let conditions =
            condition::conditions(&[], vec![Finding::new(SUCCEEDED, false, "Partial", "why")], None, START);
        let status = json!({
            "id": "safe", "conditions": conditions, "volumes": volumes,
            "objects": {"manifest": "m", "count": 1, "bytes": 1},
            "dumps": [{"name": "orders", "failure": "no pod is running"}],
        });
        let mut made =
            RecoveryPoint::new("back-before", serde_json::from_value(json!({"application": "shop"})).unwrap());
        made.status = Some(serde_json::from_value(status).unwrap());
        play.points.push(Arc::new(made));
        let reason = play.played_out(|_| false).0;
        let step = play.object.status.unwrap().steps.into_iter().find(|it| it.name == RestoreStepName::SafetyPoint);
        (reason, step.unwrap().message)
    };
    let (reason, told) = saved(json!([{"claim": "data", "method": "Snapshot", "snapshot": "s"}]));
    assert_eq!(reason, "Restored");
    assert!(told.contains("without the dumps that could not be made: orders"), "{told}");
    let lost = json!([{"claim": "data", "method": "Snapshot", "failure": "the node is gone"}]);
    assert_eq!(saved(lost).0, "SafetyPointFailed");
    assert_eq!(saved(json!([])).0, "SafetyPointFailed", "its data is in its dumps alone");
    let dumped = json!([{"claim": "a", "method": "Snapshot", "snapshot": "s"}, {"claim": "b", "method": "Dump", "dump": "orders"}]);
    assert_eq!(saved(dumped).0, "SafetyPointFailed", "the volume's is in the dump alone");
}
