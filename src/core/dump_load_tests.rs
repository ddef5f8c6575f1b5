//! When dumps are loaded, and that each is loaded once, as plain values.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::core::{
    mover_task::{Report, Task},
    point::{self, FORMAT, Objects, Volume},
};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(second: i64) -> Timestamp {
    START + SignedDuration::from_secs(second)
}

fn application(load: &str) -> ProtectedApplication {
    let dump = json!({
        "name": "orders", "pods": {"matchLabels": {"app": "db"}}, "dump": ["dump"], "load": ["load"],
        "loadOnRestore": load,
    });
    let spec = json!({
        "objectives": {"rto": "1m", "rpo": "1m"}, "regions": [{"name": "east"}, {"name": "west"}],
        "backup": {"vaults": ["main"], "dumps": [dump]},
    });
    ProtectedApplication::new("shop", serde_json::from_value(spec).unwrap())
}

fn the_point(claims: &[&str]) -> Point {
    let volume = |claim: &&str| Volume { claim: (*claim).to_owned(), snapshot: "v".into(), ..Volume::default() };
    let dump = point::Dump { name: "orders".into(), snapshot: "d1".into(), consistent_at: START, bytes: 7 };
    Point {
        format: FORMAT,
        id: "0000000001-A".into(),
        namespace: "shop".into(),
        application: "shop".into(),
        epoch: 1,
        region: "east".into(),
        branch: false,
        consistent_at: START,
        created_at: START,
        objects: Objects { manifest: "m".into(), count: 1, bytes: 1 },
        volumes: claims.iter().map(volume).collect(),
        dumps: vec![dump],
        skipped: vec![],
        missing: vec![],
        suspicious: vec![],
        lock_until: None,
        previous: None,
    }
}

/// A run, with what stands in its status and in the cluster.
struct Play {
    application: ProtectedApplication,
    point: Point,
    seen: Seen,
    status: Vec<DumpLoad>,
    named: Option<Vec<DumpPart>>,
    namespace: String,
}

impl Play {
    fn new(load: &str, claims: &[&str]) -> Self {
        let pods = vec![PodSeen { name: "db-0".into(), ready: true, claims: vec!["data-db-0".into()] }];
        let (application, point) = (application(load), the_point(claims));
        Self {
            application,
            point,
            seen: Seen { pods, ..Seen::default() },
            status: vec![],
            named: None,
            namespace: "shop".into(),
        }
    }

    fn pass(&mut self, second: i64) -> Option<Progress> {
        let run = Run { namespace: self.namespace.clone(), name: "back".into(), uid: "run-1".into() };
        let movers = MoverSettings {
            namespace: "reprise".into(),
            image: "reprise".into(),
            pull_policy: "Never".into(),
            service_account: "mover".into(),
            dump_service_account: "dumper".into(),
            direct: false,
            kubelet_root: "/var/lib/kubelet".into(),
            resources: json!({}),
        };
        let vault: VaultSpec = serde_json::from_value(
            json!({"directory": {"claimName": "nfs"}, "encryption": {"secret": {"name": "key"}}}),
        )
        .unwrap();
        let loads = Loads {
            run: &run,
            movers: &movers,
            application: &self.application,
            of: &AppKey { namespace: "shop".into(), name: "shop".into() },
            vault: &vault,
            point: &self.point,
            seen: &BTreeMap::from([("orders".to_owned(), self.seen.clone())]),
            named: self.named.as_deref(),
            now: at(second),
        };
        loads.advance(&mut self.status)
    }

    /// Written down first; then looked at.
    fn begun(mut self) -> (Self, Progress) {
        assert_eq!(self.pass(0), None, "nothing is done before the intent stands in the status");
        let progress = self.pass(1).unwrap();
        (self, progress)
    }
}

fn jobs(progress: &Progress) -> Vec<Value> {
    let job = |it: &Effect| match it {
        Effect::Apply(it) => Some(it.data.clone()),
        _ => None,
    };
    progress.effects.iter().filter_map(job).collect()
}

fn done(snapshot: &str) -> JobSeen {
    let ran = Ran { pod: "db-0".into(), exit_code: Some(0), stderr: "loaded".into(), ..Ran::default() };
    JobSeen::Succeeded(Box::new(Report {
        snapshot: Some(snapshot.into()),
        bytes: 7,
        command: Some(ran),
        ..Report::default()
    }))
}

fn failed(second: i64) -> JobSeen {
    let ran = Ran { pod: "db-0".into(), exit_code: Some(3), stderr: "no such role".into(), ..Ran::default() };
    JobSeen::Failed { message: "it ended with 3".into(), at: at(second), corrupt: false, command: Some(Box::new(ran)) }
}

#[test]
fn a_dump_is_loaded_when_no_volume_of_its_pods_is_in_the_point() {
    for claims in [&[][..], &["uploads"]] {
        let (_, progress) = Play::new("Auto", claims).begun();
        assert_eq!(jobs(&progress).len(), 1, "{claims:?}: {progress:?}");
    }
    let (play, progress) = Play::new("Auto", &["uploads", "data-db-0"]).begun();
    assert_eq!(progress, Progress::default());
    assert_eq!(play.status[0].left_out.as_deref(), Some("its data is in volume data-db-0"));
}

#[test]
fn a_dump_that_stands_for_a_volume_is_loaded_whatever_other_volumes_its_pods_have() {
    let mut play = Play::new("Auto", &["wal-db-0"]);
    play.seen.pods[0].claims.push("wal-db-0".into());
    play.point.skipped.push(point::Skipped {
        claim: "data-db-0".into(),
        dump: Some("orders".into()),
        ..point::Skipped::default()
    });
    assert_eq!(jobs(&play.begun().1).len(), 1);
}

#[test]
fn what_its_owner_says_of_loading_holds() {
    let (_, progress) = Play::new("Always", &["data-db-0"]).begun();
    assert_eq!(jobs(&progress).len(), 1);
    let (play, progress) = Play::new("Never", &[]).begun();
    assert_eq!((progress, play.status[0].left_out.as_deref()), (Progress::default(), Some("loadOnRestore says Never")));
}

#[test]
fn what_is_named_is_loaded_whatever_volumes_there_are_and_nothing_else_is() {
    let named = |names: &[&str]| Play {
        named: Some(names.iter().map(|it| DumpPart { name: (*it).to_owned(), into: None }).collect()),
        ..Play::new("Never", &["data-db-0"])
    };
    assert_eq!(jobs(&named(&["orders"]).begun().1).len(), 1);
    assert_eq!(named(&[]).pass(0), Some(Progress::default()), "none is named, so there is nothing to write down");
}

#[test]
fn a_pod_that_is_ready_is_waited_for() {
    let mut play = Play::new("Auto", &[]);
    play.seen.pods[0].ready = false;
    let (mut play, progress) = play.begun();
    assert_eq!((progress.effects.len(), progress.going.len()), (0, 1));
    play.seen.pods[0].ready = true;
    assert_eq!(jobs(&play.pass(2).unwrap()).len(), 1);
}

#[test]
fn what_was_loaded_once_is_never_loaded_again() {
    let (mut play, _) = Play::new("Auto", &[]).begun();
    assert_eq!(unsettled(&play.status), ["orders"]);
    play.seen.job = Some(done("d1"));
    assert_eq!((play.pass(2), unsettled(&play.status)), (Some(Progress::default()), vec![]));
    let load = &play.status[0];
    assert_eq!((load.loaded_at.as_ref().map(|it| it.0), load.exit_code, load.bytes), (Some(at(2)), Some(0), 7));
    assert_eq!((load.pod.as_deref(), load.stderr.as_deref()), (Some("db-0"), Some("loaded")));
    // The mover was swept, or the operator killed.
    play.seen.job = None;
    assert_eq!(play.pass(3), Some(Progress::default()));
}

#[test]
fn a_failure_is_told_counted_once_and_tried_again_after_a_pause() {
    let (mut play, _) = Play::new("Auto", &[]).begun();
    play.seen.job = Some(failed(5));
    for second in [6, 7] {
        let progress = play.pass(second).unwrap();
        assert_eq!((progress.failed.len(), progress.effects.len()), (1, 0), "{progress:?}");
        assert_eq!((play.status[0].failures, play.status[0].exit_code), (1, Some(3)));
        assert_eq!(play.status[0].stderr.as_deref(), Some("no such role"));
    }
    let progress = play.pass(15).unwrap();
    assert!(matches!(progress.effects[..], [Effect::Delete(_)]), "{progress:?}");
    play.seen.job = None;
    assert_eq!(jobs(&play.pass(16).unwrap()).len(), 1);
    play.seen.job = Some(failed(20));
    play.pass(21);
    assert_eq!(play.pass(35).unwrap().effects, [], "the second pause is longer");
    assert_eq!(play.status[0].failures, 2);
}

#[test]
fn the_mover_of_a_point_that_was_passed_over_is_not_believed() {
    let (mut play, _) = Play::new("Auto", &[]).begun();
    play.seen.job = Some(done("d0"));
    let progress = play.pass(2).unwrap();
    assert!(matches!(progress.effects[..], [Effect::Delete(_)]), "{progress:?}");
    assert_eq!(play.status[0].loaded_at, None);
    play.point.dumps[0].snapshot = "d2".into();
    assert_eq!(play.pass(3), None, "another point was chosen: its dumps are written down first");
    assert_eq!(play.status[0].snapshot, "d2");
}

#[test]
fn a_dump_that_nothing_says_how_to_load_is_a_failure_only_where_it_is_all_the_data() {
    let undeclared = |claims: &[&str]| {
        let mut play = Play::new("Auto", claims);
        play.application.spec.backup.dumps.clear();
        play.begun().1
    };
    assert_eq!(undeclared(&[]).failed.len(), 1);
    assert_eq!(undeclared(&["data-db-0"]), Progress::default());
}

#[test]
fn pods_that_may_not_be_listed_are_no_pods_that_are_waited_for() {
    let mut play = Play::new("Always", &[]);
    play.seen = Seen { forbidden: Some("pods is forbidden".into()), ..Seen::default() };
    let (_, progress) = play.begun();
    let [why] = progress.failed.as_slice() else { panic!("{progress:?}") };
    assert!(why.contains("protectedNamespaces") && why.contains("pods is forbidden"), "{why}");
}

/// The task of the one mover.
fn task(progress: &Progress) -> Task {
    let jobs = jobs(progress);
    let [job] = jobs.as_slice() else { panic!("{} movers", jobs.len()) };
    let environment = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let task = environment.iter().find(|it| it["name"] == "REPRISE_TASK").unwrap();
    serde_json::from_str(task["value"].as_str().unwrap()).unwrap()
}

#[test]
fn into_another_database_the_repository_is_the_applications_and_the_pods_are_of_the_runs_namespace() {
    let into = |more: Value| {
        let mut into = json!({"pods": {"matchLabels": {"app": "analyst"}}});
        into.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<DumpPart>(json!({"name": "orders", "into": into})).unwrap()
    };
    let loaded = |part: DumpPart| {
        let play = Play { named: Some(vec![part]), namespace: "drill".into(), ..Play::new("Never", &["data-db-0"]) };
        let Task::Load { namespace, application, into, command, .. } = task(&play.begun().1) else { panic!("a load") };
        assert_eq!((namespace.as_str(), application.as_str(), into.as_str()), ("shop", "shop", "drill"));
        assert_eq!(command.pods, BTreeMap::from([("app".to_owned(), "analyst".to_owned())]));
        (command.container, command.command, command.timeout_seconds)
    };
    assert_eq!(loaded(into(json!({}))), (None, vec!["load".to_owned()], 3_600), "as the application says");
    let own = into(json!({"container": "pg", "load": ["psql"], "timeout": "5m"}));
    assert_eq!(loaded(own.clone()), (Some("pg".to_owned()), vec!["psql".to_owned()], 300));
    let mut undeclared = Play { named: Some(vec![own]), ..Play::new("Never", &[]) };
    undeclared.application.spec.backup.dumps.clear();
    assert_eq!(jobs(&undeclared.begun().1).len(), 1, "a command of its own needs no declaration");
}
