//! Dumps in a point: made by movers, taken over, judged.

use super::*;
use crate::core::{dump::label, mover_task::Task, point::Dump};

/// The application with a dump, and with the volume beside it or without.
fn declared(every: Option<&str>, volumes: bool) -> Observed {
    let mut application = application();
    let dump = json!({
        "name": "orders", "every": every, "pods": {"matchLabels": {"app": "postgres"}},
        "dump": ["pg_dump", "orders"], "load": ["psql", "orders"], "maxBytes": 5000,
    });
    application.spec.backup.dumps = vec![serde_json::from_value(dump).unwrap()];
    let observed = observed();
    let sources = if volumes { observed.sources.clone() } else { vec![] };
    Observed { application: Some(Arc::new(application)), sources, works: Works::from([captured(&[])]), ..observed }
}

fn ran(bytes: u64) -> JobSeen {
    let command = Ran { pod: "postgres-0".into(), started_at: Some(at(1)), exit_code: Some(0), ..Ran::default() };
    let report = Report { snapshot: Some("d1".into()), files: 1, bytes, command: Some(command), ..Report::default() };
    JobSeen::Succeeded(Box::new(report))
}

fn with(seen: &Observed, job: JobSeen) -> Observed {
    Observed { jobs: BTreeMap::from([(label("orders"), job)]), ..seen.clone() }
}

fn earlier(second: i64, bytes: u64) -> BTreeMap<String, Vec<Earlier>> {
    let one = Earlier { point: "before".into(), snapshot: "d0".into(), consistent_at: at(second), bytes };
    BTreeMap::from([("orders".to_owned(), vec![one])])
}

/// The point that is committed.
fn committed_point(decision: &Decided) -> Point {
    let [.., Effect::Begin(work)] = decision.effects.as_slice() else { panic!("{:?}", decision.effects) };
    let Work::CommitPoint { point, .. } = work.as_ref().clone() else { panic!("{work:?}") };
    *point
}

#[test]
fn a_dump_is_made_by_a_mover_that_is_told_the_command_and_its_limits() {
    let seen = declared(None, false);
    let first = begun(&seen);
    assert_eq!((acts(&first), first.status.dumps.len()), (vec![], 1));
    let second = then(&first, Purpose::Scheduled, &seen, 1);
    assert_eq!(acts(&second), ["apply Job in reprise"]);
    let Effect::Apply(job) = &second.effects[0] else { panic!() };
    let env = &job.data["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
    let Task::Dump { namespace, command, max_bytes, name, .. } = serde_json::from_str(env.as_str().unwrap()).unwrap()
    else {
        panic!("{env}")
    };
    assert_eq!((namespace.as_str(), name.as_str(), max_bytes), ("shop", "orders", Some(5000)));
    assert_eq!((command.command, command.timeout_seconds), (vec!["pg_dump".to_owned(), "orders".to_owned()], 3600));
    assert_eq!(command.pods["app"], "postgres");
}

#[test]
fn a_dump_is_in_the_point_with_its_own_instant_and_the_rpo_counts_from_it() {
    let seen = declared(None, false);
    let point = committed_point(&entering(&begun(&seen), Purpose::Scheduled, &with(&seen, ran(900))));
    assert_eq!(point.dumps, [Dump { name: "orders".into(), snapshot: "d1".into(), consistent_at: at(1), bytes: 900 }]);
    assert_eq!((point.consistent_at, point.complete()), (at(1), true), "the objects were read at 3");
}

#[test]
fn a_dump_that_failed_is_missing_and_told_with_its_exit_code_and_its_words() {
    let seen = declared(None, false);
    let command = Some(Box::new(Ran { exit_code: Some(1), stderr: "x".repeat(600) + "fatal", ..Ran::default() }));
    let job = JobSeen::Failed { message: "ended with 1: fatal".into(), at: START, corrupt: false, command };
    let entering = entering(&begun(&seen), Purpose::Scheduled, &with(&seen, job));
    let dump = &entering.status.dumps[0];
    assert_eq!(dump.exit_code, Some(1));
    assert!(dump.stderr.as_ref().is_some_and(|it| it.len() == 500 && it.ends_with("fatal")), "{dump:?}");
    let point = committed_point(&entering);
    assert_eq!((point.missing, point.dumps), (vec!["dump orders: ended with 1: fatal".to_owned()], vec![]));
}

#[test]
fn a_dump_that_is_young_enough_is_taken_over_and_the_rpo_does_not_count_from_it() {
    let seen = Observed { dumps: earlier(-3_000, 900), ..declared(Some("1h"), true) };
    let first = begun(&seen);
    assert_eq!(first.status.dumps[0].made_for.as_deref(), Some("before"));
    let seen = Observed { dumps: seen.dumps, application: seen.application, ..read(stored(0), &[]) };
    let point = committed_point(&entering(&first, Purpose::Scheduled, &seen));
    assert_eq!((point.dumps[0].snapshot.as_str(), point.dumps[0].consistent_at), ("d0", at(-3_000)));
    assert_eq!(point.consistent_at, at(2), "that of the volume");
}

#[test]
fn the_rpo_of_an_application_whose_data_is_in_dumps_alone_counts_from_the_dump_also_when_it_is_taken_over() {
    let seen = Observed { dumps: earlier(-3_000, 900), ..declared(Some("1h"), false) };
    assert_eq!(committed_point(&entering(&begun(&seen), Purpose::Scheduled, &seen)).consistent_at, at(-3_000));
}

#[test]
fn an_old_dump_is_made_anew_and_so_is_one_for_a_point_by_hand() {
    let old = Observed { dumps: earlier(-3_600, 900), ..declared(Some("1h"), false) };
    assert_eq!(begun(&old).status.dumps[0].snapshot, None);
    let young = Observed { dumps: earlier(-10, 900), ..declared(Some("1h"), false) };
    assert_eq!(decide(&point(Purpose::Manual), &young, at(0)).status.dumps[0].snapshot, None);
}

#[test]
fn a_dump_much_smaller_than_the_last_ones_makes_the_point_partial_unless_it_is_made_by_hand() {
    let seen = Observed { dumps: earlier(-10, 900), ..declared(None, false) };
    for (purpose, bytes, partial) in [
        (Purpose::Scheduled, 89, true),
        (Purpose::Scheduled, 90, false),
        (Purpose::Manual, 89, false),
        (Purpose::Manual, 0, true),
    ] {
        let first = decide(&point(purpose), &seen, at(0));
        let made = committed_point(&entering(&first, purpose, &with(&seen, ran(bytes))));
        assert_eq!(!made.complete(), partial, "{purpose:?} {bytes}: {:?}", made.missing);
        assert_eq!(made.dumps.len(), 1, "it is kept for people");
    }
}

#[test]
fn where_the_application_is_stopped_no_dump_is_made_and_the_last_one_is_taken_over_for_a_hand_over() {
    let mut seen = declared(None, true);
    let branch = decide(&point(Purpose::Branch), &seen, at(0));
    assert!(branch.status.dumps[0].left_out.is_some());
    let mut application = application();
    application.spec = seen.application.as_ref().unwrap().spec.clone();
    application.status.get_or_insert_default().fence = Some(crate::api::application::FenceStatus::default());
    seen.application = Some(Arc::new(application));
    assert!(begun(&seen).status.dumps[0].left_out.is_some(), "there is none to be taken over");
    seen.dumps = earlier(-9_000, 900);
    let last = &begun(&seen).status.dumps[0];
    assert_eq!((last.made_for.as_deref(), last.left_out.as_deref()), (Some("before"), None), "however old it is");
}
