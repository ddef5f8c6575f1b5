//! One recovery point, pass by pass, as plain values.

mod dumps;
mod groups;
mod hooks;
mod imported;
mod locks;
mod mishaps;
mod volumes;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::{
    api::{application::ObjectSettings, recovery_point::RecoveryPointSpec, vault::VaultSpec},
    core::{
        child::{RUN, job_key},
        claim::fixtures,
        point::{Objects, Point},
        work::{Failure, Progress},
    },
};

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn application() -> ProtectedApplication {
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "objectives": {"rto": "5m", "rpo": "60s"},
            "regions": [{"name": "east"}],
            "backup": {"vaults": ["main"]},
        },
    });
    serde_json::from_value(object).unwrap()
}

fn point(purpose: Purpose) -> RecoveryPoint {
    let mut point = RecoveryPoint::new(
        "shop-000001",
        RecoveryPointSpec { application: "shop".into(), purpose, hold: false, description: None, id: None },
    );
    point.metadata.namespace = Some("shop".into());
    point.metadata.uid = Some("run-1".into());
    point
}

fn view(holder: &str) -> View {
    fixtures::view("east", Some(holder), 3)
}

fn source(claim: &str) -> Source {
    Source {
        claim: claim.into(),
        labels: BTreeMap::from([("tier".to_owned(), claim.to_owned())]),
        size: "1Gi".into(),
        storage_class: Some("fast".into()),
        resource_version: Some("1".into()),
        access_modes: vec!["ReadWriteOnce".into()],
        block: false,
        volume: format!("pv-{claim}"),
        driver: Some("csi.example".into()),
        node_path: None,
        mounted_by: Some(Mounting { pod_uid: "pod".into(), node: "node-1".into() }),
        deleting: false,
        excluded: false,
    }
}

/// `east` holds the claim; one volume whose driver takes snapshots.
fn observed() -> Observed {
    let spec: VaultSpec =
        serde_json::from_value(json!({"directory": {"claimName": "nfs"}, "encryption": {"secret": {"name": "key"}}}))
            .unwrap();
    let mut vault = Vault::new("main", spec);
    vault.status.get_or_insert_default().conditions =
        condition::conditions(&[], vec![Finding::new(READY, true, "Opened", "")], None, START);
    Observed {
        region: "east".into(),
        movers: Some(MoverSettings {
            namespace: "reprise".into(),
            image: "reprise".into(),
            pull_policy: "Never".into(),
            service_account: "mover".into(),
            dump_service_account: "dumper".into(),
            direct: true,
            kubelet_root: "/var/lib/kubelet".into(),
            resources: json!({}),
        }),
        application: Some(Arc::new(application())),
        vault: Some(Arc::new(vault)),
        claim: Some(view("east")),
        sources: vec![source("data")],
        snapshot_classes: BTreeMap::from([("csi.example".to_owned(), "snap".to_owned())]),
        ..Observed::default()
    }
}

type Decided = Decision<RecoveryPointStatus>;

fn reason(decision: &Decided) -> &str {
    condition::find(&decision.status.conditions, SUCCEEDED).map_or("", |it| it.reason.as_str())
}

/// What is done, in words: `Apply Job`, `Begin Capture`.
fn acts(decision: &Decided) -> Vec<String> {
    let word = |it: &Effect| match it {
        Effect::Apply(it) => {
            let metadata = &it.metadata;
            let space = metadata.namespace.as_deref().unwrap_or("-");
            assert!(metadata.labels.as_ref().is_some_and(|it| it[RUN] == "run-1"), "what a run makes is found again");
            let owners = metadata.owner_references.iter().flatten().map(|it| (it.kind.as_str(), it.uid.as_str()));
            let expected = (space == "shop").then_some(("RecoveryPoint", "run-1"));
            assert!(owners.eq(expected), "in the application's namespace it goes with the point, elsewhere it cannot");
            Some(format!("apply {} in {space}", it.types.as_ref().unwrap().kind))
        }
        Effect::Begin(work) => Some(format!("begin {}", work.name())),
        Effect::Delete(key) => Some(format!("delete {}", key.kind)),
        Effect::Announce(_) => None,
        other => Some(format!("{other:?}")),
    };
    decision.effects.iter().filter_map(word).collect()
}

/// The next pass sees what this one wrote.
fn then(decision: &Decided, purpose: Purpose, seen: &Observed, seconds: i64) -> Decided {
    let mut point = point(purpose);
    point.status = Some(decision.status.clone());
    decide(&point, seen, at(seconds))
}

fn begun(seen: &Observed) -> Decided {
    decide(&point(Purpose::Scheduled), seen, at(0))
}

fn done(work: Work, outcome: Outcome) -> (&'static str, Progress) {
    (work.name(), Progress::Done { at: at(5), work: Box::new(work), outcome })
}

fn captured(failed: &[&str]) -> (&'static str, Progress) {
    let application = AppKey { namespace: "shop".into(), name: "shop".into() };
    let outcome = Outcome::Captured {
        objects: Objects { manifest: "abc".into(), count: 7, bytes: 70 },
        at: at(3),
        failed: failed.iter().map(|it| (*it).to_owned()).collect(),
        left_out: vec![],
    };
    done(Work::Capture { vault: "main".into(), application, objects: ObjectSettings::default() }, outcome)
}

fn stored(unreadable: u64) -> JobSeen {
    let report = Report { snapshot: Some("s1".into()), files: 4, bytes: 40, unreadable, ..Report::default() };
    JobSeen::Succeeded(Box::new(report))
}

/// Everything is read: the volume by this mover, the objects with these failures.
fn read(job: JobSeen, failed: &[&str]) -> Observed {
    let snapshot = SnapshotSeen { handle: Some("h".into()), taken_at: Some(at(2)), ..SnapshotSeen::default() };
    Observed {
        snapshots: BTreeMap::from([("data".to_owned(), snapshot)]),
        jobs: BTreeMap::from([("data".to_owned(), job)]),
        works: Works::from([captured(failed)]),
        ..observed()
    }
}

/// The pass in which a run enters the point: after the one that wrote down what was read.
fn entering(start: &Decided, purpose: Purpose, seen: &Observed) -> Decided {
    let read = then(start, purpose, seen, 10);
    assert_eq!((reason(&read), acts(&read)), ("Entering", vec![]), "what is entered is written down before");
    then(&read, purpose, seen, 10)
}

/// The last pass of a run whose reading ended so, and the point that was committed before it.
fn committed(job: JobSeen, failed: &[&str]) -> (Decided, Point) {
    entered(&begun(&observed()), read(job, failed), None)
}

/// The same after this first pass, with what was seen then, and how long the point itself is locked.
fn entered(first: &Decided, mut seen: Observed, locked_until: Option<Timestamp>) -> (Decided, Point) {
    let entering = entering(first, Purpose::Scheduled, &seen);
    assert_eq!((reason(&entering), acts(&entering)), ("Entering", vec!["begin CommitPoint".to_owned()]));
    let [.., Effect::Begin(work)] = entering.effects.as_slice() else { panic!("{:?}", entering.effects) };
    let Work::CommitPoint { point, .. } = work.as_ref().clone() else { panic!("{work:?}") };
    let (name, progress) = done((**work).clone(), Outcome::Committed { locked_until });
    seen.works.insert(name, progress);
    seen.made = vec![job_key("reprise", "mover")];
    (then(&entering, Purpose::Scheduled, &seen, 12), *point)
}

#[test]
fn the_first_pass_only_writes_down_what_it_is_about_to_do() {
    let decision = begun(&observed());
    assert_eq!((reason(&decision), acts(&decision)), ("Preparing", vec![]));
    let status = &decision.status;
    assert!(status.id.as_ref().is_some_and(|it| it.starts_with("0000000003-")), "{:?}", status.id);
    assert_eq!((status.epoch, status.volumes[0].method.as_str()), (Some(3), "Snapshot (class snap of csi.example)"));
    assert_eq!(begun(&observed()).status.id, status.id, "a pass that is repeated finds the same name");
}

#[test]
fn a_region_that_is_not_active_makes_no_point_but_a_branch() {
    let foreign = Observed { claim: Some(view("west")), ..observed() };
    let decision = begun(&foreign);
    assert_eq!((reason(&decision), acts(&decision)), ("NotActive", vec![]));
    assert!(decision.status.id.is_none() && decision.status.finished_at.is_some());
    let branch = decide(&point(Purpose::Branch), &foreign, at(0));
    assert_eq!(reason(&branch), "Preparing");
    let entering = entering(&branch, Purpose::Branch, &Observed { claim: foreign.claim, ..read(stored(0), &[]) });
    let Some(Effect::Begin(work)) = entering.effects.last() else { panic!("{:?}", entering.effects) };
    assert!(matches!(work.as_ref(), Work::CommitPoint { point, .. } if point.branch && point.epoch == 3));
}

#[test]
fn without_a_proven_claim_or_a_vault_it_waits_and_touches_nothing() {
    let unproven = Observed { claim: Some(View { valid: false, ..view("east") }), ..observed() };
    for (seen, why) in [
        (unproven, "ClaimNotProven"),
        (Observed { claim: None, ..observed() }, "ClaimUnknown"),
        (Observed { vault: None, ..observed() }, "VaultNotReady"),
    ] {
        let decision = begun(&seen);
        assert_eq!((reason(&decision), acts(&decision)), (why, vec![]));
        assert!(decision.status.id.is_none() && decision.recheck.is_some());
    }
    assert_eq!(reason(&begun(&Observed { application: None, ..observed() })), "NoApplication");
}

#[test]
fn a_branch_does_not_wait_for_the_key_to_be_kept_elsewhere() {
    let mut seen = observed();
    Arc::make_mut(seen.vault.as_mut().unwrap()).spec.encryption.require_escrow = true;
    assert_eq!(reason(&begun(&seen)), "KeyNotEscrowed");
    assert_eq!(reason(&decide(&point(Purpose::Branch), &seen, at(0))), "Preparing");
}

#[test]
fn a_whole_point_is_of_its_oldest_instant_is_entered_and_tidied_up_after() {
    let (end, point) = committed(stored(0), &[]);
    assert_eq!((reason(&end), acts(&end)), ("Stored", vec!["delete Job".to_owned()]));
    assert!(condition::is_true(&end.status.conditions, SUCCEEDED));
    assert_eq!((end.status.duration_seconds, end.status.bytes), (Some(12), Some(110)));
    assert_eq!((point.consistent_at, point.created_at, point.complete()), (at(2), at(0), true));
    assert_eq!((point.epoch, point.branch, point.volumes[0].snapshot.as_str()), (3, false, "s1"));
    let quiet = then(&end, Purpose::Scheduled, &observed(), 20);
    assert_eq!((quiet.effects, quiet.recheck, quiet.status), (vec![], None, end.status));
}

#[test]
fn a_commit_that_is_repeated_writes_the_same_point() {
    let seen = read(stored(0), &[]);
    let read = then(&begun(&observed()), Purpose::Scheduled, &seen, 10);
    let [first, second] = [10, 400].map(|it| then(&read, Purpose::Scheduled, &seen, it).effects);
    assert_eq!(first, second);
}

#[test]
fn a_point_that_lacks_something_is_kept_and_does_not_count() {
    let failed = JobSeen::Failed { message: "the node is gone".into(), at: START, corrupt: false, command: None };
    for (job, kinds, missing) in [
        (failed, vec![], "volume data: the node is gone"),
        (stored(2), vec![], "volume data: 2 files could not be read"),
        (stored(0), vec!["secrets: forbidden"], "objects: secrets: forbidden"),
        (JobSeen::Succeeded(Box::default()), vec![], "volume data: the mover ended without a snapshot"),
    ] {
        let (end, point) = committed(job, &kinds);
        assert_eq!(point.missing, [missing]);
        assert!(!point.complete());
        assert_eq!(reason(&end), "Partial");
        assert!(!condition::is_true(&end.status.conditions, SUCCEEDED));
    }
}

#[test]
fn an_emptied_application_makes_no_point_that_counts_unless_a_person_asks_for_it() {
    let suspicions = |before: Vec<Before>, purpose| {
        let mut seen = Observed { sources: vec![], before, works: Works::from([captured(&[])]), ..observed() };
        if let Some(Progress::Done { outcome: Outcome::Captured { objects, .. }, .. }) = seen.works.get_mut("Capture") {
            objects.count = 0;
        }
        let entering = entering(&decide(&point(purpose), &seen, at(0)), purpose, &seen);
        let Some(Effect::Begin(work)) = entering.effects.last() else { panic!("{:?}", entering.effects) };
        let Work::CommitPoint { point, .. } = work.as_ref() else { panic!("{work:?}") };
        assert_eq!(point.good(), point.suspicious.is_empty());
        point.suspicious.clone()
    };
    let full = Before { id: "p1".into(), objects: 7, volumes: [("data".to_owned(), (3, 9))].into() };
    let said = suspicions(vec![full.clone()], Purpose::Scheduled);
    assert!(said[0].contains("p1 before it has 7 objects and 1 volumes"), "{said:?}");
    assert_eq!(suspicions(vec![full], Purpose::Manual), [""; 0]);
    assert_eq!(suspicions(vec![Before { id: "p1".into(), ..Before::default() }], Purpose::Scheduled), [""; 0]);
    assert_eq!(suspicions(vec![], Purpose::Scheduled), [""; 0], "an application that begins empty");
}

#[test]
fn a_claim_that_is_deleted_meanwhile_is_missing_and_does_not_hold_the_rest_up() {
    let seen = Observed { sources: vec![], works: Works::from([captured(&[])]), ..observed() };
    let entering = entering(&begun(&observed()), Purpose::Scheduled, &seen);
    assert_eq!(acts(&entering), ["begin CommitPoint"]);
    assert!(entering.status.volumes[0].failure.as_ref().is_some_and(|it| it.contains("was deleted")));
    // Its snapshot is a copy: what is copied of it does not need the claim.
    let copied = Observed { sources: vec![], ..read(stored(0), &[]) };
    assert_eq!(then(&begun(&observed()), Purpose::Scheduled, &copied, 10).status.volumes[0].failure, None);
    let direct = |it: Observed| Observed { snapshot_classes: BTreeMap::new(), ..it };
    let start = begun(&direct(observed()));
    let torn = then(&start, Purpose::Scheduled, &direct(copied), 10);
    assert!(torn.status.volumes[0].failure.is_some(), "what was read in place was torn away");
}

#[test]
fn a_catalogue_that_refuses_the_point_for_good_ends_the_run_and_one_that_is_away_does_not() {
    let refused = |lasting| {
        let mut seen = read(stored(0), &[]);
        let failure = Failure { reason: "Sealed", message: "the catalogue is sealed with epoch 4".into(), lasting };
        seen.works.insert("CommitPoint", Progress::Failed { at: at(10), times: 1, failure });
        entering(&begun(&observed()), Purpose::Scheduled, &seen)
    };
    assert_eq!(reason(&refused(true)), "Sealed");
    let away = refused(false);
    assert_eq!((reason(&away), acts(&away)), ("Entering", vec![]));
}

#[test]
fn what_is_not_read_in_time_is_missing_and_the_rest_is_kept() {
    let start = begun(&observed());
    let stuck = Observed {
        jobs: BTreeMap::from([("data".to_owned(), JobSeen::Running(Some("no node has room".into())))]),
        works: Works::from([captured(&[])]),
        ..observed()
    };
    let last = then(&start, Purpose::Scheduled, &stuck, 1_800);
    assert_eq!(reason(&last), "Reading");
    let given_up = then(&last, Purpose::Scheduled, &stuck, 1_801);
    assert_eq!((reason(&given_up), acts(&given_up)), ("Entering", vec![]));
    let failure = given_up.status.volumes[0].failure.as_ref().unwrap();
    assert_eq!(failure, "not finished after 1800 s: no node has room");
    assert_eq!(acts(&then(&given_up, Purpose::Scheduled, &stuck, 1_802)), ["begin CommitPoint"]);
}

#[test]
fn a_run_whose_objects_or_vault_do_not_come_ends_says_what_it_waited_for_and_tidies_up() {
    let start = begun(&observed());
    let made = vec![job_key("reprise", "mover")];
    let no_objects = Observed { works: Works::from([("Capture", Progress::Running)]), made, ..observed() };
    let no_vault = Observed { vault: None, ..no_objects.clone() };
    for seen in [no_objects, no_vault] {
        assert_eq!(reason(&then(&start, Purpose::Scheduled, &seen, 1_801)), "DeadlineExceeded");
        let end = then(&start, Purpose::Scheduled, &seen, 1_801);
        assert_eq!(acts(&end), ["delete Job"]);
        let message = &condition::find(&end.status.conditions, SUCCEEDED).unwrap().message;
        assert!(message.contains("objects are being read"), "{message}");
    }
    let unentered =
        Observed { works: Works::from([captured(&[]), ("CommitPoint", Progress::Running)]), ..read(stored(0), &[]) };
    let entering = entering(&start, Purpose::Scheduled, &read(stored(0), &[]));
    assert_eq!(reason(&then(&entering, Purpose::Scheduled, &unentered, 2_400)), "Entering");
    assert_eq!(reason(&then(&entering, Purpose::Scheduled, &unentered, 2_401)), "DeadlineExceeded");
}

#[test]
fn one_volume_that_is_refused_is_told_of_and_does_not_hold_up_the_others() {
    let sources = vec![source("a"), source("b"), source("c")];
    let start = begun(&Observed { sources: sources.clone(), ..observed() });
    let hindrance = Some("apply VolumeSnapshot: exceeded quota".to_owned());
    let seen = Observed { sources, hindrance, works: Works::from([captured(&[])]), ..observed() };
    let mut first = std::collections::BTreeSet::new();
    for second in 1..=3 {
        let pass = then(&start, Purpose::Scheduled, &seen, second);
        let [Effect::Apply(it), ..] = pass.effects.as_slice() else { panic!("{:?}", pass.effects) };
        first.insert(it.data["spec"]["source"]["persistentVolumeClaimName"].as_str().unwrap().to_owned());
        let message = &condition::find(&pass.status.conditions, SUCCEEDED).unwrap().message;
        assert!(message.contains("volume b: apply VolumeSnapshot: exceeded quota"), "{message}");
    }
    assert_eq!(first.len(), 3, "each has its turn");
}

#[test]
fn a_vault_that_is_gone_while_a_point_is_made_is_waited_for() {
    let seen = Observed { vault: None, ..read(stored(0), &[]) };
    let seen = Observed { jobs: BTreeMap::new(), ..seen };
    let decision = then(&begun(&observed()), Purpose::Scheduled, &seen, 10);
    assert_eq!((reason(&decision), acts(&decision)), ("VaultNotReady", vec![]));
    assert!(decision.status.finished_at.is_none());
}

#[test]
fn a_direct_copy_whose_start_was_not_written_down_is_of_the_start_of_the_run() {
    let direct = |it: Observed| Observed { snapshot_classes: BTreeMap::new(), snapshots: BTreeMap::new(), ..it };
    let entering = then(&begun(&direct(observed())), Purpose::Scheduled, &direct(read(stored(0), &[])), 10);
    assert_eq!(entering.status.consistent_at, Some(Time(at(0))));
}

#[test]
fn a_hold_reaches_the_vault_after_the_end_and_so_does_its_lifting() {
    let ended = |hold, held: Option<bool>| {
        let mut point = point(Purpose::Scheduled);
        point.spec.hold = hold;
        let conditions = condition::conditions(&[], vec![Finding::new(SUCCEEDED, true, "Stored", "")], None, START);
        point.status =
            Some(RecoveryPointStatus { id: Some("3-a".into()), held, conditions, ..RecoveryPointStatus::default() });
        point
    };
    let work = |held| Work::SetHold {
        vault: "main".into(),
        application: AppKey { namespace: "shop".into(), name: "shop".into() },
        point: "3-a".into(),
        held,
    };
    let idle = Observed { works: Works::new(), ..observed() };
    assert_eq!(acts(&decide(&ended(false, None), &idle, at(0))), [""; 0]);
    assert_eq!(acts(&decide(&ended(true, Some(true)), &idle, at(0))), [""; 0]);
    for held in [true, false] {
        let object = ended(held, Some(!held));
        let asked = decide(&object, &idle, at(0));
        assert_eq!(acts(&asked), ["begin SetHold"]);
        assert_eq!(asked.status.held, Some(!held), "not before the vault has it");
        let done = |work| Progress::Done { at: at(1), work: Box::new(work), outcome: Outcome::Done };
        let seen = Observed { works: Works::from([("SetHold", done(work(held)))]), ..observed() };
        assert_eq!(decide(&object, &seen, at(2)).status.held, Some(held));
        let other = Observed { works: Works::from([("SetHold", done(work(!held)))]), ..observed() };
        assert_eq!(acts(&decide(&object, &other, at(2))), ["begin SetHold"], "what was done was the opposite");
    }
}
