//! Dumps that are loaded into another database than the one that they were made of: nothing else is changed.

use super::*;
use crate::{
    api::application::Role,
    core::{
        mover_task::{Ran, Report},
        point::Dump,
    },
};

/// A restore of the dump `orders` of `shop` into pods of the namespace `analysis`.
fn into_analysis(spec: &Value) -> Play {
    let part = json!({"name": "orders", "into": {"pods": {"matchLabels": {"app": "pg"}}, "load": ["psql"]}});
    let mut all = json!({"sourceNamespace": "shop", "only": {"dumps": [part]}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut play = Play::new(&all);
    play.object.metadata.namespace = Some("analysis".into());
    let application = play.application.as_mut().unwrap();
    application.spec.shared_with = vec!["analysis".into()];
    // Also where it is not served, and into a namespace that has an application of its own.
    application.status.as_mut().unwrap().role = Some(Role::Standby);
    play.protected = vec!["warehouse".into()];
    play.dumps = vec![Dump { name: "orders".into(), snapshot: "d".into(), consistent_at: START, bytes: 7 }];
    play.pods = [("orders".to_owned(), seen(None))].into();
    play
}

fn seen(job: Option<JobSeen>) -> dump_load::Seen {
    let pod = |name: &str, ready| dump_load::PodSeen { name: name.into(), ready, claims: vec![] };
    dump_load::Seen { pods: vec![pod("pg-2", true), pod("pg-1", true), pod("pg-0", false)], forbidden: None, job }
}

fn loaded() -> JobSeen {
    let command = Some(Ran { pod: "pg-1".into(), exit_code: Some(0), stderr: "a notice".into(), ..Ran::default() });
    JobSeen::Succeeded(Box::new(Report { snapshot: Some("d".into()), bytes: 7, command, ..Report::default() }))
}

fn steps(play: &Play) -> Vec<RestoreStepName> {
    play.object.status.as_ref().unwrap().steps.iter().map(|it| it.name).collect()
}

#[test]
fn nothing_is_done_but_to_load_it_and_its_exit_code_and_standard_error_are_kept() {
    for every in [1_000, 3, 4] {
        let mut play = into_analysis(&json!({}));
        play.until(RestoreStepName::LoadDumps);
        play.pods = [("orders".to_owned(), seen(Some(loaded())))].into();
        let (reason, message) = play.played_out(|second| second % every == every - 1);
        assert_eq!(reason, "Loaded", "{message}");
        assert_eq!(steps(&play), STEPS_OF_LOADING);
        assert_eq!((play.done.len(), play.running), (0, 2), "nothing is saved, stopped, restored or started");
        let status = play.object.status.unwrap();
        let [load] = status.dumps.as_slice() else { panic!("{status:?}") };
        let told = (load.pod.as_deref(), load.exit_code, load.stderr.as_deref(), load.bytes);
        assert_eq!(told, (Some("pg-1"), Some(0), Some("a notice"), 7));
    }
}

#[test]
fn without_consent_it_is_refused_before_anything_is_read() {
    let mut play = into_analysis(&json!({}));
    play.application.as_mut().unwrap().spec.shared_with.clear();
    assert_eq!(play.played_out(|_| false).0, "NotShared");
    assert!(play.begun.is_empty());
}

#[test]
fn a_dump_without_a_command_or_that_is_not_in_the_point_is_refused_with_the_remedy() {
    let refused = |part: Value| {
        let mut play = into_analysis(&json!({"only": {"dumps": [part]}}));
        let (reason, message) = play.played_out(|_| false);
        assert_eq!((reason.as_str(), play.done.len()), ("NoSuchDump", 0));
        message
    };
    let pods = json!({"pods": {"matchLabels": {"app": "pg"}}});
    assert!(refused(json!({"name": "orders", "into": pods})).contains("only.dumps[].into.load"));
    assert!(refused(json!({"name": "other", "into": pods})).contains("other is not in"));
}

#[test]
fn a_dry_run_tells_into_which_pod_it_would_be_loaded_and_loads_nothing() {
    let mut play = into_analysis(&json!({"dryRun": true}));
    let (reason, _) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), play.done.len()), ("Planned", 0));
    let planned = play.object.status.unwrap().plan.unwrap();
    let [dump] = planned.dumps.as_slice() else { panic!("{planned:?}") };
    assert_eq!(
        (dump.pod.as_deref(), dump.namespace.as_str(), dump.labels.as_str()),
        (Some("pg-1"), "analysis", "app=pg")
    );
    assert_eq!((dump.load.as_slice(), dump.bytes, planned.created), (&["psql".to_owned()][..], 7, 0));
}

#[test]
fn a_command_that_fails_ends_it_and_says_that_a_part_may_be_loaded() {
    let mut play = into_analysis(&json!({}));
    play.until(RestoreStepName::LoadDumps);
    let ran = Ran { pod: "pg-1".into(), exit_code: Some(3), stderr: "no such role".into(), ..Ran::default() };
    let job =
        JobSeen::Failed { message: "it ended with 3".into(), at: START, corrupt: false, command: Some(Box::new(ran)) };
    play.pods = [("orders".to_owned(), seen(Some(job)))].into();
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "DumpNotLoaded");
    assert!(message.contains("ended with 3") && message.contains("a part of it may be loaded"), "{message}");
    let load = &play.object.status.unwrap().dumps[0];
    assert_eq!((load.exit_code, load.stderr.as_deref()), (Some(3), Some("no such role")));
}

#[test]
fn cancelled_it_ends_the_mover_first_and_says_what_may_be_half_loaded() {
    let mut play = into_analysis(&json!({}));
    play.until(RestoreStepName::LoadDumps);
    play.pass();
    play.pass();
    play.object.spec.cancel = true;
    play.pass();
    play.pods = [("orders".to_owned(), seen(Some(JobSeen::Running(None))))].into();
    let waits = decide(&play.object, &play.observed(), START);
    let ended = |it: &Effect| matches!(it, Effect::Delete(key) if key.kind == "Job");
    assert!(waits.effects.iter().any(ended), "{:?}", waits.effects);
    assert!(!condition::ended(&waits.status.conditions), "its pod may still write");
    play.pods = [("orders".to_owned(), seen(Some(loaded())))].into();
    let done = decide(&play.object, &play.observed(), START).status.conditions[0].message.clone();
    assert!(done.contains("orders is loaded"), "{done}");
    play.pods = [("orders".to_owned(), seen(None))].into();
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "Cancelled");
    assert!(message.contains("orders may be half loaded; nothing else was changed"), "{message}");
    let mut early = into_analysis(&json!({}));
    early.until(RestoreStepName::ChoosePoint);
    early.object.spec.cancel = true;
    assert!(early.played_out(|_| false).1.contains("nothing was changed"));
}
