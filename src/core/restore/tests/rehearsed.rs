//! Rehearsals: into a namespace of their own, of which nothing is left however they went.

use super::*;

/// A rehearsal of an application with a probe of its public name, and one of another.
fn play() -> Play {
    let mut play = Play::new(&json!({"rehearse": true}));
    play.running = 0;
    let spec = &mut play.application.as_mut().unwrap().spec;
    spec.health.probes = serde_json::from_value(json!([
        {"name": "web", "http": {"url": "http://Shop.example.com:30080/healthz?a=b"}},
        {"name": "bank", "tcp": {"host": "bank.example.com", "port": 443}},
        {"name": "pods", "workload": {"kind": "Deployment", "name": "web"}},
    ]))
    .unwrap();
    spec.traffic =
        serde_json::from_value(json!({"zone": "z", "hostname": "shop.example.com", "target": {"service": "web"}}))
            .unwrap();
    let service = Some(("10.0.0.7".parse().unwrap(), BTreeMap::from([(30_080, 80)])));
    play.stage = rehearsal::Stage { allowed: true, wanted: 2, service, ..rehearsal::Stage::default() };
    play
}

fn marked(name: &str) -> Pv {
    Pv { name: name.into(), reclaim: "Retain".into(), ..Pv::default() }
}

#[test]
fn a_point_is_restored_asked_noted_and_removed_whenever_the_operator_restarts() {
    for every in 4..12 {
        let mut play = play();
        play.until(RestoreStepName::RestoreVolumes);
        play.stage.volumes = vec![marked("pv-1")];
        let (reason, message) = play.played_out(|second| second % every == every - 1);
        assert_eq!(reason, "Rehearsed", "every {every}: {message}");
        play.done.dedup();
        let asked = "ask http://Shop.example.com:80/healthz?a=b at 10.0.0.7";
        let begin = ["make namespace", "fill data", "fill log", "make cache", "objects 0", asked];
        assert_eq!(play.done[..6], begin, "every {every}");
        assert!(play.done[6].starts_with(&format!("note {CHOSEN} ")), "{:?}", play.done);
        assert_eq!(play.done[7..], ["let go of pv-1", "delete namespace"]);
        assert!(message.contains("answered: web") && message.contains("not asked: bank"), "{message}");
        let restored = play.begun.iter().find(|it| matches!(it, Work::RestoreObjects { .. })).unwrap();
        let Work::RestoreObjects { into, isolated: true, epoch: None, .. } = restored else { panic!("{restored:?}") };
        assert!(into.starts_with("reprise-rehearsal-"), "{into}");
    }
}

#[test]
fn an_operator_that_is_ended_at_any_effect_of_a_rehearsal_leaves_nothing() {
    let mut whole = play();
    whole.played_out(|_| false);
    for number in 1..=whole.effects {
        for done in [false, true] {
            let mut play = play();
            play.cut = Some((number, done));
            let (reason, message) = play.played_out(|_| false);
            assert_eq!((reason.as_str(), play.stage.space), ("Rehearsed", None), "{number}, {done}: {message}");
        }
    }
}

#[test]
fn what_fails_is_removed_before_it_is_said_and_notes_nothing() {
    let failed = |change: &dyn Fn(&mut Play)| {
        let mut play = play();
        change(&mut play);
        for _ in 0..3_000 {
            play.pass();
            if condition::ended(&play.object.status.as_ref().unwrap().conditions) {
                break;
            }
        }
        let status = play.object.status.clone().unwrap();
        let told = condition::find(&status.conditions, SUCCEEDED).unwrap();
        assert_eq!(play.stage.space, None, "{}", told.message);
        assert!(!play.done.iter().any(|it| it.starts_with("note")), "{:?}", play.done);
        (told.reason.clone(), told.message.clone())
    };
    let named = |change: &dyn Fn(&mut Play), reason: &str, part: &str| {
        let (told, message) = failed(change);
        assert_eq!(told, "RehearsalFailed", "{message}");
        assert!(message.starts_with(reason) && message.contains(part), "{message}");
    };
    named(&|it| it.not_ready = vec!["Deployment web: 0 of 1".into()], "NotReady", "Deployment web");
    named(&|it| it.bad = vec!["web: 500".into()], "ProbesFailed", "web: 500");
    named(&|it| it.stage.wanted = 0, "NothingRuns", "no workload");
    named(&|it| it.stage.service = None, "NoProbeAsked", "spec.traffic");
    let (reason, message) = failed(&|it| it.not_restored = vec!["Deployment web: hostPath".into()]);
    assert_eq!(reason, "NotAllRestored", "{message}");
    let (reason, message) = failed(&|it| it.stage.allowed = false);
    assert_eq!(reason, "RehearsalsOff");
    assert!(message.contains("rehearsals.enabled"), "{message}");
}

#[test]
fn it_is_ended_by_a_person_its_deadline_and_a_failover_and_removed() {
    let ended = |change: &dyn Fn(&mut Play)| {
        let mut play = play();
        play.not_ready = vec!["StatefulSet db: 0 of 1".into()];
        play.until(RestoreStepName::AwaitReady);
        change(&mut play);
        let (reason, message) = play.played_out(|_| false);
        assert_eq!((reason.as_str(), play.stage.space), ("RehearsalFailed", None), "{message}");
        message
    };
    assert!(ended(&|it| it.object.spec.cancel = true).starts_with("Cancelled"));
    assert!(ended(&|it| it.others = vec!["Failover shop-1".into()]).starts_with("FailoverFirst"));
    assert!(ended(&|it| it.second += 7 * 3_600).starts_with("DeadlineExceeded"));
    let mut early = play();
    early.object.spec.cancel = true;
    early.pass();
    assert_eq!(early.played_out(|_| false).0, "Cancelled");
    assert_eq!(early.done, [""; 0], "nothing was made");
}

#[test]
fn a_namespace_of_that_name_that_was_made_for_something_else_is_left_alone() {
    let mut play = play();
    play.stage.space = Some(rehearsal::Space { ours: false, going: false, closed: false });
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "RehearsalFailed");
    assert!(message.starts_with("NamespaceTaken"), "{message}");
    assert!(play.stage.space.is_some() && play.done.is_empty(), "{:?}", play.done);
}
