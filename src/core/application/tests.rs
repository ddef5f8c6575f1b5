//! Roles and what follows from them, as plain values: one pass each, with what was observed before it.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        application::{Published, Verdict},
        dns_zone::DnsZoneSpec,
        recovery_point::RecoveryPointStatus,
        vault::VaultSpec,
    },
    core::{
        claim::{
            fixtures,
            record::{self, Intent},
        },
        condition::{
            CLAIM_SOUND, COMPARE_AND_SWAP, FAILOVER_ADVISED, Finding, READY, RPO_MET, SUCCEEDED, TRAFFIC_PUBLISHED,
            Truth,
        },
        work::{Failure, Outcome, Publication},
    },
};

mod copies;
mod copy_scrub;
mod handing_over;
mod kept_warm;
mod latest;
mod locks;
mod noted;
mod points;
mod rehearse;
mod restoring;
mod retention;
mod scrub;
mod suspicion;

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn conditions(findings: Vec<Finding>) -> Value {
    serde_json::to_value(condition::conditions(&[], findings, None, START)).unwrap()
}

fn application(status: Value) -> ProtectedApplication {
    let mut status = status;
    if status["conditions"].is_null() {
        status["conditions"] = json!([]);
    }
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
        "metadata": {"name": "shop", "namespace": "shop", "uid": "app"},
        "spec": {
            "objectives": {"rto": "5m", "rpo": "60s"},
            "regions": [{"name": "east"}, {"name": "west"}, {"name": "south"}],
            "backup": {"vaults": ["main"]},
            "traffic": {"zone": "example", "hostname": "shop.example.com", "target": {"service": "web"}},
            "failover": {"activation": "Automatic"},
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn view(holder: Option<&str>, epoch: u64) -> View {
    fixtures::view("west", holder, epoch)
}

/// What `west` sees, with a vault and a zone in order.
/// The operator's namespace.
const HOME: &str = "reprise-system";

fn movers() -> MoverSettings {
    MoverSettings {
        namespace: HOME.into(),
        image: "reprise".into(),
        pull_policy: "Never".into(),
        service_account: "mover".into(),
        dump_service_account: "dump-mover".into(),
        direct: false,
        kubelet_root: "/".into(),
        resources: json!({}),
    }
}

fn observed(view: Option<View>) -> Observed {
    let spec: VaultSpec =
        serde_json::from_value(json!({"directory": {"claimName": "nfs"}, "encryption": {"secret": {"name": "key"}}}))
            .unwrap();
    let mut vault = Vault::new("main", spec);
    let status = vault.status.get_or_insert_default();
    let findings = vec![Finding::new(READY, true, "Opened", ""), Finding::new(COMPARE_AND_SWAP, true, "Passed", "")];
    status.conditions = condition::conditions(&[], findings, None, START);
    status.regions = ["east", "west", "south"].map(ToOwned::to_owned).to_vec();
    let spec: DnsZoneSpec = serde_json::from_value(
        json!({"zone": "example.com", "rfc2136": {"server": "192.0.2.1", "tsig": {"name": "k", "secret": {"name": "t"}}}}),
    )
    .unwrap();
    let mut zone = DnsZone::new("example", spec);
    zone.status.get_or_insert_default().conditions =
        condition::conditions(&[], vec![Finding::new(READY, true, "Tested", "")], None, START);
    Observed {
        region: "west".into(),
        vault: Some(Arc::new(vault)),
        zone: Some(Arc::new(zone)),
        claim: view,
        health: None,
        slo: None,
        points: Vec::new(),
        failovers: Vec::new(),
        restores: Vec::new(),
        copy: LocalCopy::default(),
        slowest: None,
        unaskable: Vec::new(),
        address: Ok("192.0.2.7".into()),
        movers: None,
        prune: None,
        copy_vaults: Vec::new(),
        copy_jobs: BTreeMap::new(),
        warm: None,
        scrub: None,
        works: Works::new(),
    }
}

fn done(work: Work, seconds: i64, outcome: Outcome) -> (&'static str, Progress) {
    (work.name(), Progress::Done { at: at(seconds), work: Box::new(work), outcome })
}

fn key() -> AppKey {
    AppKey { namespace: "shop".into(), name: "shop".into() }
}

fn sealed(epoch: u64) -> (&'static str, Progress) {
    done(Work::SealCatalogue { vault: "main".into(), application: key(), epoch }, 0, Outcome::Done)
}

/// `west` holds epoch 1, and the catalogue is sealed with it.
fn serving() -> Observed {
    Observed { works: Works::from([sealed(1)]), ..observed(Some(view(Some("west"), 1))) }
}

type Decided = Decision<ProtectedApplicationStatus>;

fn wishes(decision: &Decided) -> Vec<&Wish> {
    decision
        .effects
        .iter()
        .filter_map(|it| if let Effect::Wish { wish, .. } = it { Some(wish) } else { None })
        .collect()
}

fn begun(decision: &Decided) -> Vec<&'static str> {
    let work = |it: &Effect| if let Effect::Begin(work) = it { Some(work.name()) } else { None };
    decision.effects.iter().filter_map(work).collect()
}

/// Names of the objects of this kind that are made.
fn made(decision: &Decided, kind: &str) -> Vec<String> {
    let one = |it: &Effect| match it {
        Effect::Apply(it) if it.types.as_ref().is_some_and(|it| it.kind == kind) => it.metadata.name.clone(),
        _ => None,
    };
    decision.effects.iter().filter_map(one).collect()
}

fn stops(decision: &Decided) -> bool {
    decision.effects.iter().any(|it| matches!(it, Effect::StopWorkloads { .. }))
}

fn starts(decision: &Decided) -> bool {
    decision.effects.iter().any(|it| matches!(it, Effect::Begin(work) if matches!(**work, Work::StartWorkloads { .. })))
}

fn reason(decision: &Decided, type_: &str) -> String {
    condition::find(&decision.status.conditions, type_).map_or(String::new(), |it| it.reason.clone())
}

/// The next pass sees what this one wrote.
fn then(decision: &Decided, seen: &Observed, seconds: i64) -> Decided {
    let mut object = application(json!({}));
    object.status = Some(decision.status.clone());
    decide(&object, seen, at(seconds))
}

/// A point named so, which ended so.
fn recovery_point(name: &str, purpose: &str, status: Value) -> Arc<RecoveryPoint> {
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "RecoveryPoint",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"application": "shop", "purpose": purpose},
    });
    let mut point: RecoveryPoint = serde_json::from_value(object).unwrap();
    point.status = serde_json::from_value::<Option<RecoveryPointStatus>>(status).unwrap();
    Arc::new(point)
}

fn ended(truth: bool, reason: &'static str, epoch: u64, started: i64, finished: i64) -> Value {
    json!({
        "id": format!("{epoch}-{started:05}"), "epoch": epoch, "startedAt": at(started), "consistentAt": at(started),
        "finishedAt": at(finished), "durationSeconds": finished - started,
        "conditions": conditions(vec![Finding::new(SUCCEEDED, truth, reason, "why")]),
    })
}

fn with_points(points: Vec<Arc<RecoveryPoint>>) -> Observed {
    Observed { points, ..serving() }
}

// --- roles

#[test]
fn before_the_claim_is_read_nothing_is_done() {
    let decision = decide(&application(json!({})), &observed(None), at(0));
    assert_eq!((decision.status.role, wishes(&decision)), (Some(Role::Unknown), vec![&Wish::Watch]));
    assert_eq!(begun(&decision), Vec::<&str>::new());
}

#[test]
fn only_the_first_region_makes_the_first_claim_and_only_with_a_vault_that_can_be_trusted() {
    let absent = View { claim: None, absent: true, ..view(None, 0) };
    let wish = |seen: Observed| {
        let decision = decide(&application(json!({})), &seen, at(0));
        assert_eq!(decision.status.role, Some(Role::Unknown));
        assert_eq!(begun(&decision).contains(&"ReadHead"), seen.vault.is_some(), "evidence is looked up first");
        wishes(&decision)[0].clone()
    };
    let east = || Observed { region: "east".into(), ..observed(Some(absent.clone())) };
    assert_eq!(wish(east()), Wish::Hold);
    assert_eq!(wish(observed(Some(absent.clone()))), Wish::Watch);
    assert_eq!(wish(Observed { vault: None, ..east() }), Wish::Watch);
    let conflict = View { conflict: Some("the epoch fell".into()), ..absent.clone() };
    assert_eq!(wish(Observed { claim: Some(conflict), ..east() }), Wish::Watch);
}

#[test]
fn a_region_that_is_not_named_does_nothing() {
    let seen = Observed { region: "north".into(), ..serving() };
    let decision = decide(&application(json!({})), &seen, at(0));
    assert_eq!((decision.status.role, decision.effects.len()), (None, 0));
    assert_eq!(reason(&decision, condition::REGIONS_PRESENT), "NotHere");
}

#[test]
fn a_holder_seals_its_epoch_before_it_makes_points_or_publishes() {
    let seen = observed(Some(view(Some("west"), 1)));
    let first = decide(&application(json!({})), &seen, at(0));
    assert_eq!((first.status.role, begun(&first)), (Some(Role::Active), vec!["SealCatalogue"]));
    assert_eq!(made(&first, "RecoveryPoint"), Vec::<String>::new());
    let old = Observed { works: Works::from([sealed(0)]), ..seen.clone() };
    assert_eq!(begun(&decide(&application(json!({})), &old, at(0))), ["SealCatalogue"], "of another epoch");
    let failure = Failure { reason: "Sealed", message: String::new(), lasting: true };
    let refused = Works::from([("SealCatalogue", Progress::Failed { at: at(0), times: 1, failure })]);
    let told = decide(&application(json!({})), &Observed { works: refused, ..seen.clone() }, at(0));
    assert_eq!(reason(&told, CLAIM_SOUND), "Sealed");
    let again = Works::from([("SealCatalogue", Progress::Running)]);
    let still = then(&told, &Observed { works: again, ..seen }, 2);
    assert_eq!(reason(&still, CLAIM_SOUND), "Sealed", "until the next attempt has ended");
}

#[test]
fn a_failover_that_has_not_succeeded_keeps_the_holder_from_serving() {
    let run = |truth: Truth| {
        let object = json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "Failover",
            "metadata": {"name": "shop-000002-00", "namespace": "shop"},
            "spec": {"application": "shop", "to": "west"},
            "status": {"epoch": 2, "conditions": conditions(vec![Finding::new(SUCCEEDED, truth, "r", "m")])},
        });
        Arc::new(serde_json::from_value::<Failover>(object).unwrap())
    };
    let seen = |truth| Observed {
        failovers: vec![run(truth)],
        works: Works::from([sealed(2)]),
        ..observed(Some(view(Some("west"), 2)))
    };
    // Whether or not this region had written down that it stands by.
    for fence in [json!({"epoch": 1, "since": at(0), "stoppedAt": at(0)}), Value::Null] {
        let object = application(json!({"fence": fence}));
        for truth in [Truth::Unknown, Truth::False] {
            let decision = decide(&object, &seen(truth), at(10));
            assert_eq!(decision.status.role, Some(Role::Activating), "{truth:?} {fence}");
            assert_eq!((begun(&decision), made(&decision, "RecoveryPoint")), (vec![], vec![]));
            let next = then(&decision, &seen(truth), 12);
            assert_eq!(next.status.role, Some(Role::Activating), "it stays so: {truth:?} {fence}");
            // The failover writes nothing over before that is said.
            assert!(next.status.fence.is_some_and(|it| it.settled && !it.unproven), "{truth:?} {fence}");
        }
        let decision = decide(&object, &seen(Truth::True), at(10));
        assert_eq!((decision.status.role, decision.status.fence), (Some(Role::Active), None));
    }
}

// --- fencing

#[test]
fn a_region_that_lost_the_claim_writes_that_down_then_stops_then_saves_then_stands_by() {
    let foreign = observed(Some(view(Some("east"), 2)));
    let running = Observed { copy: LocalCopy { wanted: 2, pods: 3, volumes: 1 }, ..foreign.clone() };
    let intent = decide(&application(json!({})), &running, at(0));
    assert_eq!((intent.status.role, stops(&intent)), (Some(Role::Fencing), false), "the intent stands first");
    let stopping = then(&intent, &running, 2);
    assert!(stops(&stopping));
    let stopped = Observed { copy: LocalCopy { volumes: 1, ..LocalCopy::default() }, ..foreign.clone() };
    let saving = then(&stopping, &stopped, 4);
    let name = format!("shop-branch-{}-00", START.as_second());
    assert_eq!(made(&saving, "RecoveryPoint"), std::slice::from_ref(&name));
    assert_eq!((saving.status.role, stops(&saving)), (Some(Role::Fencing), false));
    let mut saved = recovery_point(&name, "Branch", ended(false, "Partial", 2, 4, 8));
    let without = then(&saving, &Observed { points: vec![saved.clone()], ..stopped.clone() }, 10);
    assert_eq!(without.status.role, Some(Role::Fencing), "a branch without the volume saves nothing");
    let volume = crate::api::recovery_point::VolumeInPoint {
        claim: "data".into(),
        snapshot: Some("s".into()),
        ..Default::default()
    };
    Arc::make_mut(&mut saved).status.as_mut().unwrap().volumes = vec![volume];
    let standby = then(&saving, &Observed { points: vec![saved], ..stopped.clone() }, 10);
    assert_eq!(standby.status.role, Some(Role::Standby));
    assert_eq!(standby.status.fence.as_ref().and_then(|it| it.branch.as_deref()), Some("2-00004"));
    // It stays so, without the object; and whoever scales it up is stopped, and saved again.
    let later = then(&standby, &stopped, 20);
    assert_eq!((later.status.role, made(&later, "RecoveryPoint")), (Some(Role::Standby), vec![]));
    let again = then(&later, &running, 30);
    assert!(stops(&again));
    assert_eq!(again.status.fence.unwrap().branch, None);
}

#[test]
fn a_region_without_a_copy_stands_by_at_once() {
    let seen = observed(Some(view(Some("east"), 2)));
    let first = decide(&application(json!({})), &seen, at(0));
    assert_eq!(then(&first, &seen, 2).status.role, Some(Role::Standby));
    assert!(wishes(&first).contains(&&Wish::Watch));
}

#[test]
fn a_branch_that_could_not_be_saved_is_tried_again_after_a_minute() {
    let fence = json!({"epoch": 2, "since": at(0), "stoppedAt": at(2)});
    let object = application(json!({"fence": fence}));
    let failed =
        recovery_point(&format!("shop-branch-{}-00", START.as_second()), "Branch", ended(false, "Failed", 2, 4, 8));
    let seen = Observed {
        copy: LocalCopy { volumes: 1, ..LocalCopy::default() },
        points: vec![failed],
        ..observed(Some(view(Some("east"), 2)))
    };
    let early = decide(&object, &seen, at(67));
    assert_eq!((early.status.role, made(&early, "RecoveryPoint")), (Some(Role::Fencing), vec![]));
    let late = decide(&object, &seen, at(68));
    assert_eq!(made(&late, "RecoveryPoint"), [format!("shop-branch-{}-01", START.as_second())]);
    let set_back = decide(&object, &seen, at(7));
    assert_eq!(made(&set_back, "RecoveryPoint"), made(&late, "RecoveryPoint"), "by a clock that was set back");
}

#[test]
fn attempts_to_save_a_branch_go_on_ever_more_seldom_whichever_of_them_were_deleted() {
    let object = application(json!({"fence": {"epoch": 2, "since": at(0), "stoppedAt": at(2)}}));
    let attempt = |number: u32| {
        recovery_point(
            &format!("shop-branch-{}-{number:02}", START.as_second()),
            "Branch",
            ended(false, "Failed", 2, 4, 8),
        )
    };
    let next = |numbers: &[u32], seconds: i64| {
        let points = numbers.iter().map(|it| attempt(*it)).collect();
        let copy = LocalCopy { volumes: 1, ..LocalCopy::default() };
        let seen = Observed { points, copy, ..observed(Some(view(Some("east"), 2))) };
        let stem = format!("shop-branch-{}-", START.as_second());
        made(&decide(&object, &seen, at(seconds)), "RecoveryPoint").concat().replace(&stem, "")
    };
    assert_eq!((next(&[1, 2], 8 + 239), next(&[1, 2], 8 + 240)), (String::new(), "03".to_owned()), "00 was deleted");
    assert_eq!(next(&[98, 99, 100], 8 + 1_919), "", "every 32 minutes in the end");
    assert_eq!(next(&[98, 99, 100], 8 + 1_920), "101");
}

// --- traffic

/// The work that has put the name where it belongs.
fn published() -> Work {
    let publication = Publication {
        zone: "example".into(),
        hostname: "shop.example.com".into(),
        address: "192.0.2.7".into(),
        ttl: 30,
        epoch: 1,
    };
    Work::Publish { publication, application: key(), vault: "main".into() }
}

#[test]
fn the_name_is_published_only_once_role_and_epoch_stand_in_the_observed_status() {
    let publishes =
        |status: Value, seen: &Observed| begun(&decide(&application(status), seen, at(5))).contains(&"Publish");
    assert!(!publishes(json!({}), &serving()));
    assert!(!publishes(json!({"role": "Activating", "epoch": 1}), &serving()));
    assert!(!publishes(json!({"role": "Active", "epoch": 0}), &serving()));
    assert!(publishes(json!({"role": "Active", "epoch": 1}), &serving()));
    let mut unproven = serving();
    unproven.claim.as_mut().unwrap().valid = false;
    assert!(!publishes(json!({"role": "Active", "epoch": 1}), &unproven));
    assert!(!publishes(json!({"role": "Active", "epoch": 1}), &Observed { zone: None, ..serving() }));
    assert!(!publishes(json!({"role": "Active", "epoch": 1}), &Observed { address: Err("none".into()), ..serving() }));
}

#[test]
fn what_is_published_is_published_again_when_the_address_or_the_hour_changes() {
    let work = published();
    let seen = Observed { works: Works::from([sealed(1), done(work, 0, Outcome::Done)]), ..serving() };
    let object = application(json!({"role": "Active", "epoch": 1}));
    let quiet = decide(&object, &seen, at(3_599));
    assert_eq!((begun(&quiet), reason(&quiet, TRAFFIC_PUBLISHED).as_str()), (vec![], "Published"));
    let published = Published { hostname: "shop.example.com".into(), address: "192.0.2.7".into(), epoch: 1 };
    assert_eq!(quiet.status.published, Some(published));
    assert_eq!(begun(&decide(&object, &seen, at(3_600))), ["Publish"]);
    let moved = Observed { address: Ok("192.0.2.8".into()), ..seen };
    assert_eq!(begun(&decide(&object, &moved, at(10))), ["Publish"]);
}

#[test]
fn a_name_outside_the_zone_and_a_refused_update_are_said() {
    let object = application(json!({"role": "Active", "epoch": 1}));
    let mut zone = (*serving().zone.unwrap()).clone();
    zone.spec.zone = "ample.com".into();
    let outside = decide(&object, &Observed { zone: Some(Arc::new(zone)), ..serving() }, at(0));
    assert_eq!(reason(&outside, TRAFFIC_PUBLISHED), "HostnameOutsideZone");
    let mut seen = serving();
    let failure = Failure { reason: "Refused", message: "the server refused".into(), lasting: false };
    seen.works.insert("Publish", Progress::Failed { at: at(0), times: 1, failure });
    assert_eq!(reason(&decide(&object, &seen, at(0)), TRAFFIC_PUBLISHED), "Refused");
}

// --- conditions

#[test]
fn a_workload_that_may_stop_too_slowly_is_named_and_hinders_nothing() {
    let of = |seconds| Observed { slowest: Some(("StatefulSet db".into(), seconds)), ..serving() };
    let object = application(json!({"role": "Active", "epoch": 1}));
    let (slow, quick) = (decide(&object, &of(31), at(0)), decide(&object, &of(30), at(0)));
    assert_eq!(reason(&quick, condition::FENCE_IN_TIME), "InTime");
    let said = condition::find(&slow.status.conditions, condition::FENCE_IN_TIME).unwrap();
    assert_eq!((&said.status[..], &said.reason[..]), ("False", "GraceTooLong"));
    for part in ["StatefulSet db", "31 s", "30 s", "spec.claim.fence"] {
        assert!(said.message.contains(part), "{}", said.message);
    }
    assert_eq!((slow.status.role, reason(&slow, READY)), (quick.status.role, reason(&quick, READY)));
    assert_eq!(slow.effects, quick.effects);
}

#[test]
fn a_probe_that_cannot_be_asked_is_told_and_is_not_passed_over() {
    let seen = Observed { unaskable: vec!["spec.health.probes[name=web]".into()], ..serving() };
    assert_eq!(reason(&decide(&application(json!({})), &seen, at(0)), condition::HEALTHY), "ProbeInvalid");
}

#[test]
fn ready_says_the_first_thing_that_is_wrong_and_a_turn_is_announced_once() {
    let good = recovery_point("shop-000001", "Scheduled", ended(true, "Stored", 1, 0, 9));
    let work = published();
    let works = Works::from([sealed(1), done(work, 0, Outcome::Done)]);
    let seen = Observed { works, ..with_points(vec![good]) };
    let well = decide(&application(json!({"role": "Active", "epoch": 1})), &seen, at(20));
    assert_eq!(reason(&well, READY), "Active");
    let unread = View { readable: false, last_error: Some("refused".into()), ..view(Some("west"), 1) };
    let away = Observed { claim: Some(unread), ..seen };
    let warned = |it: &Decided| {
        it.effects.iter().filter(|it| matches!(it, Effect::Announce(it) if it.reason == "VaultUnreachable")).count()
    };
    let first = then(&well, &away, 22);
    assert_eq!((reason(&first, READY).as_str(), warned(&first)), ("VaultUnreachable", 1));
    let second = then(&first, &away, 24);
    assert_eq!((warned(&second), &second.status), (0, &first.status), "a status that says the same is not written");
}
