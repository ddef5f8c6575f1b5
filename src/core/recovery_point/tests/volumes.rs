//! How volumes are read: by which method, through which objects, and what of them is left out.

use super::*;
use crate::core::mover_job::DEVICE;
use crate::core::recovery_point::dumps::counting;

#[test]
fn a_volume_is_snapshotted_in_its_namespace_and_read_in_the_operators() {
    let first = then(&begun(&observed()), Purpose::Scheduled, &observed(), 1);
    assert_eq!(acts(&first), ["begin Capture", "apply VolumeSnapshot in shop"]);
    let snapshot = SnapshotSeen { handle: Some("h".into()), taken_at: Some(at(2)), ..SnapshotSeen::default() };
    let ready = Observed {
        snapshots: BTreeMap::from([("data".to_owned(), snapshot)]),
        works: Works::from([("Capture", Progress::Running)]),
        ..observed()
    };
    let second = then(&first, Purpose::Scheduled, &ready, 3);
    let wanted = [
        "apply VolumeSnapshotContent in -",
        "apply VolumeSnapshot in reprise",
        "apply PersistentVolumeClaim in reprise",
        "apply Job in reprise",
    ];
    assert_eq!(acts(&second), wanted);
    let content = second.effects.iter().find_map(|it| match it {
        Effect::Apply(it) if it.types.as_ref().unwrap().kind == "VolumeSnapshotContent" => Some(it),
        _ => None,
    });
    assert_eq!(
        content.unwrap().data["spec"]["deletionPolicy"],
        "Retain",
        "the tenant's snapshot is not ours to delete"
    );
    assert_eq!(acts(&then(&first, Purpose::Scheduled, &ready, 3)), wanted, "a repeated pass does the same");
    let copying = Observed { jobs: BTreeMap::from([("data".to_owned(), JobSeen::Running(None))]), ..ready };
    assert_eq!(acts(&then(&second, Purpose::Scheduled, &copying, 4)), Vec::<String>::new());
}

#[test]
fn a_snapshot_that_would_outlive_its_object_is_made_to_go_with_the_run() {
    let mut seen = read(stored(0), &[]);
    seen.jobs.clear();
    seen.snapshots.get_mut("data").unwrap().retained = Some("content-1".into());
    let pass = then(&begun(&observed()), Purpose::Scheduled, &seen, 3);
    let Some(Effect::Apply(it)) = pass.effects.first() else { panic!("{:?}", pass.effects) };
    assert_eq!(
        (it.metadata.name.as_deref(), &it.data["spec"]),
        (Some("content-1"), &json!({"deletionPolicy": "Delete"}))
    );
    assert_eq!(it.metadata.labels.as_ref().unwrap()[RUN], "run-1", "it is found when the run has ended");
}

#[test]
fn a_block_device_is_read_from_a_snapshot_as_one_and_stands_so_in_the_point() {
    let block = |seen: Observed| Observed { sources: vec![Source { block: true, ..source("data") }], ..seen };
    let start = begun(&block(observed()));
    let jobs = BTreeMap::new();
    let ready = then(&start, Purpose::Scheduled, &block(Observed { jobs, ..read(stored(0), &[]) }), 3);
    let made = |kind: &str, field: &str| {
        ready.effects.iter().find_map(|it| match it {
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == kind => it.data.pointer(field).cloned(),
            _ => None,
        })
    };
    assert_eq!(made("VolumeSnapshotContent", "/spec/sourceVolumeMode"), Some(json!("Block")));
    assert_eq!(made("PersistentVolumeClaim", "/spec/volumeMode"), Some(json!("Block")));
    let container = made("Job", "/spec/template/spec/containers/0").unwrap();
    assert_eq!(container["volumeDevices"], json!([{"name": "data", "devicePath": DEVICE}]));
    assert!(container["env"][0]["value"].as_str().is_some_and(|it| it.contains(DEVICE)), "{container}");
    assert_eq!(container["securityContext"]["capabilities"]["add"], json!(["DAC_OVERRIDE"]));
    let entering = entering(&start, Purpose::Scheduled, &block(read(stored(0), &[])));
    let Some(Effect::Begin(work)) = entering.effects.last() else { panic!("{:?}", entering.effects) };
    assert!(matches!(work.as_ref(), Work::CommitPoint { point, .. } if point.volumes[0].block));
}

#[test]
fn a_volume_without_snapshots_is_read_where_it_is_mounted_or_held() {
    let seen = Observed { snapshot_classes: BTreeMap::new(), ..observed() };
    let first = begun(&seen);
    assert!(first.status.volumes[0].method.starts_with("Direct (there is no VolumeSnapshotClass for csi.example)"));
    assert_eq!(acts(&then(&first, Purpose::Scheduled, &seen, 1)), ["begin Capture", "apply Job in reprise"]);
    let unmounted = Observed { sources: vec![Source { mounted_by: None, ..source("data") }], ..seen };
    assert_eq!(acts(&then(&first, Purpose::Scheduled, &unmounted, 1)), ["begin Capture", "apply Pod in shop"]);
}

#[test]
fn movers_and_the_pods_that_hold_volumes_are_pulled_as_the_operator_says() {
    let seen = Observed { snapshot_classes: BTreeMap::new(), ..observed() };
    let unmounted = Observed { sources: vec![Source { mounted_by: None, ..source("data") }], ..seen.clone() };
    let policy = |seen: &Observed, pod: &str| {
        let second = then(&begun(seen), Purpose::Scheduled, seen, 1);
        let made = second.effects.iter().find_map(|it| if let Effect::Apply(it) = it { Some(it) } else { None });
        made.unwrap().data.pointer(&format!("{pod}/containers/0/imagePullPolicy")).cloned()
    };
    assert_eq!(policy(&seen, "/spec/template/spec"), Some(json!("Never")));
    assert_eq!(policy(&unmounted, "/spec"), Some(json!("Never")));
}

#[test]
fn what_cannot_be_read_is_planned_as_missing_with_the_reason() {
    let block = Source { block: true, ..source("data") };
    let block = Observed { sources: vec![block], snapshot_classes: BTreeMap::new(), ..observed() };
    assert!(begun(&block).status.volumes[0].failure.as_ref().is_some_and(|it| it.contains("Block")));
    let mut off = Observed { snapshot_classes: BTreeMap::new(), ..observed() };
    off.movers.as_mut().unwrap().direct = false;
    assert!(begun(&off).status.volumes[0].failure.as_ref().is_some_and(|it| it.contains("movers.direct.enabled")));
}

#[test]
fn a_claim_without_a_volume_is_missing_when_it_is_lost_or_a_pod_waits_for_it_and_left_out_otherwise() {
    let unbound = |phase: &str, pod: Option<&str>| Unbound {
        claim: "new".into(),
        phase: phase.into(),
        wanted_by: pod.map(Into::into),
        ..Unbound::default()
    };
    let end = |it: Unbound, purpose| {
        let start = decide(&point(purpose), &Observed { unbound: vec![it], ..observed() }, at(0));
        let entering = entering(&start, purpose, &read(stored(0), &[]));
        let [.., Effect::Begin(work)] = entering.effects.as_slice() else { panic!("{:?}", entering.effects) };
        let Work::CommitPoint { point, .. } = work.as_ref() else { panic!("{work:?}") };
        assert_eq!(point.volumes.len(), 1);
        (point.missing.clone(), entering.status.volumes[1].left_out.is_some())
    };
    let missing = |it: &str| (vec![format!("volume new: {it}")], false);
    let waits = missing("the claim is Pending, and pod db-0 waits for it");
    assert_eq!(end(unbound("Pending", Some("db-0")), Purpose::Scheduled), waits);
    let lost = missing("the claim is Lost: its PersistentVolume is gone");
    assert_eq!(end(unbound("Lost", None), Purpose::Scheduled), lost);
    assert_eq!(end(unbound("Pending", None), Purpose::Scheduled), (vec![], true));
    assert_eq!(end(unbound("Lost", None), Purpose::Branch), (vec![], true), "a branch saves what is there");
}

/// What a run begins with when `backup.volumes` says this, with three volumes.
fn begun_with(volumes: serde_json::Value, seen: Observed) -> (Observed, Decided) {
    let mut seen = Observed { sources: ["cache", "data", "log"].map(source).into(), ..seen };
    Arc::make_mut(seen.application.as_mut().unwrap()).spec.backup.volumes = serde_json::from_value(volumes).unwrap();
    let decision = begun(&seen);
    (seen, decision)
}

#[test]
fn the_first_override_that_fits_a_claim_says_how_it_is_read_and_the_point_says_which_one_did() {
    let volumes = json!({"method": "Direct", "overrides": [
        {"claim": "cache", "method": "Skip"},
        {"selector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["cache", "log"]}]}, "method": "Snapshot"},
    ]});
    let (_, decision) = begun_with(volumes, observed());
    let [cache, data, log] = decision.status.volumes.as_slice() else { panic!("{:?}", decision.status) };
    assert_eq!(cache.left_out.as_deref(), Some("backup.volumes.overrides[0].method is Skip"));
    assert_eq!(
        (data.method.as_str(), log.method.as_str()),
        ("Direct", "Snapshot (backup.volumes.overrides[1].method; class snap of csi.example)")
    );
    let none = json!({"overrides": [{"claim": "log", "method": "Snapshot"}]});
    let (_, decision) = begun_with(none, Observed { snapshot_classes: BTreeMap::new(), ..observed() });
    let why = decision.status.volumes[2].failure.clone().unwrap_or_default();
    assert!(why.starts_with("backup.volumes.overrides[0].method is Snapshot, but there is no"), "{why}");
}

#[test]
fn what_is_left_out_of_a_volume_is_told_to_its_mover_and_stands_in_the_point_with_its_number() {
    let volumes = json!({"exclude": ["*.tmp"], "overrides": [{"claim": "log", "exclude": ["/old/"]}]});
    let (seen, start) = begun_with(volumes, observed());
    let excludes: Vec<_> = start.status.volumes.iter().map(|it| it.exclude.join(" ")).collect();
    assert_eq!(excludes, ["*.tmp", "*.tmp", "/old/"]);
    let report = Report { snapshot: Some("s1".into()), excluded: 7, no_backup: 2, warnings: 1, ..Report::default() };
    let read = Observed {
        jobs: BTreeMap::from([("log".into(), JobSeen::Succeeded(Box::new(report)))]),
        ..read(stored(0), &[])
    };
    let read = Observed { sources: seen.sources, application: seen.application, ..read };
    let decision = then(&start, Purpose::Scheduled, &read, 5);
    let task = decision.effects.iter().find_map(|it| match it {
        Effect::Apply(it) => it.data.pointer("/spec/template/spec/containers/0/env/0/value")?.as_str(),
        _ => None,
    });
    assert!(task.is_some_and(|it| it.contains(r#""exclude":["*.tmp"]"#)), "{task:?}");
    let log = &decision.status.volumes[2];
    assert_eq!((log.excluded, log.no_backup, log.warnings), (7, 2, 1));
}

#[test]
fn a_skipped_volume_is_not_touched_and_the_point_is_complete_and_tells_of_it() {
    let (seen, start) = begun_with(json!({"method": "Skip"}), observed());
    assert_eq!(acts(&then(&start, Purpose::Scheduled, &seen, 1)), ["begin Capture"]);
    let waiting = Unbound { claim: "new".into(), wanted_by: Some("db-0".into()), ..Unbound::default() };
    let seen = Observed { works: Works::from([captured(&[])]), unbound: vec![waiting], ..seen };
    let entering = entering(&begun(&seen), Purpose::Scheduled, &seen);
    let Some(Effect::Begin(work)) = entering.effects.last() else { panic!("{:?}", entering.effects) };
    let Work::CommitPoint { point, .. } = work.as_ref() else { panic!("{work:?}") };
    let skipped: Vec<_> = point.skipped.iter().map(|it| (it.claim.as_str(), it.size.as_str())).collect();
    assert_eq!(skipped, [("cache", "1Gi"), ("data", "1Gi"), ("log", "1Gi"), ("new", "")]);
    assert!(point.good() && point.volumes.is_empty() && point.skipped[3].why.ends_with("is Skip"));
}

#[test]
fn a_claim_that_is_being_deleted_is_read_where_that_is_possible_and_missing_at_once_where_not() {
    let deleting = Source { deleting: true, ..source("data") };
    let seen = Observed { sources: vec![deleting.clone()], ..observed() };
    let start = begun(&seen);
    assert_eq!(start.status.volumes[0].method, "Direct (the claim is being deleted)");
    assert_eq!(acts(&then(&start, Purpose::Scheduled, &seen, 1)), ["begin Capture", "apply Job in reprise"]);
    let seen = Observed { sources: vec![Source { mounted_by: None, ..deleting }], ..observed() };
    assert!(begun(&seen).status.volumes[0].failure.as_ref().is_some_and(|it| it.contains("being deleted")));
}

#[test]
fn a_point_tells_how_far_apart_its_snapshots_are_once_all_are_taken_and_goes_on_telling_it() {
    let (seen, start) = begun_with(json!({"overrides": [{"claim": "cache", "method": "Skip"}]}), observed());
    let taken = |millis: i64| SnapshotSeen {
        handle: Some("h".into()),
        taken_at: Some(at(2)),
        instant: Some(at(2) + SignedDuration::from_millis(millis)),
        ..SnapshotSeen::default()
    };
    let with = |snapshots: &[(&str, i64)]| Observed {
        snapshots: snapshots.iter().map(|(claim, it)| ((*claim).to_owned(), taken(*it))).collect(),
        ..seen.clone()
    };
    let first = then(&start, Purpose::Scheduled, &with(&[("data", 100)]), 3);
    assert_eq!(first.status.skew_millis, None);
    let second = then(&first, Purpose::Scheduled, &with(&[("data", 100), ("log", 1_350)]), 4);
    assert_eq!(second.status.skew_millis, Some(1_250));
    let third = then(&second, Purpose::Scheduled, &with(&[]), 5);
    assert_eq!(third.status.skew_millis, Some(1_250));
    let single = then(
        &begun(&observed()),
        Purpose::Scheduled,
        &Observed { sources: vec![source("data")], ..with(&[("data", 1)]) },
        3,
    );
    assert_eq!(single.status.skew_millis, None);
}

#[test]
fn the_movers_of_a_point_work_at_once_and_share_the_limits_of_its_vault() {
    let told = |claims: &[&str]| {
        let sources = claims.iter().map(|it| source(it)).collect();
        let mut seen = Observed { snapshot_classes: BTreeMap::new(), sources, ..observed() };
        let mut vault = seen.vault.as_deref().unwrap().clone();
        vault.spec.limits = serde_json::from_value(json!({"upload": "4Mi"})).unwrap();
        seen.vault = Some(Arc::new(vault));
        let pass = then(&begun(&seen), Purpose::Scheduled, &seen, 1);
        let upload = |it: &Effect| match it {
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => {
                let env = it.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned().unwrap();
                let vault = env.iter().find(|it| it["name"] == "REPRISE_VAULT")?["value"].as_str()?.to_owned();
                serde_json::from_str::<serde_json::Value>(&vault).unwrap()["limits"]["upload"]
                    .as_str()
                    .map(str::to_owned)
            }
            _ => None,
        };
        pass.effects.iter().filter_map(upload).collect::<Vec<_>>()
    };
    assert_eq!(told(&["data"]), ["4Mi"]);
    assert_eq!(told(&["data", "log", "media", "cache"]), ["1Mi", "1Mi", "1Mi", "1Mi"]);
}

#[test]
fn more_volumes_than_a_point_holds_end_it_with_the_number_before_anything_is_read() {
    let all = |count: usize| {
        let sources = (0..count).map(|it| source(&format!("a-rather-long-name-of-a-claim-{it:04}"))).collect();
        Observed { sources, ..observed() }
    };
    let most = begun(&all(VOLUMES));
    assert_eq!(most.status.volumes.len(), VOLUMES);
    let bytes = serde_json::to_vec(&most.status).unwrap().len();
    assert!(bytes < 400_000, "an object holds 1.5 MB, and more is told of volumes that were read: {bytes}");
    let ended = begun(&all(VOLUMES + 1));
    assert_eq!((reason(&ended), ended.status.id.as_ref(), acts(&ended).len()), ("TooManyVolumes", None, 0));
    assert!(ended.status.conditions[0].message.contains("1001 claims"), "{:?}", ended.status.conditions);
}

/// With a dump of the database, and these settings of volumes.
fn with_dump(volumes: serde_json::Value, mut seen: Observed) -> Observed {
    let dump = json!({"name": "orders", "pods": {"matchLabels": {"app": "db"}}, "dump": ["dump"], "load": ["load"]});
    let application = Arc::make_mut(seen.application.as_mut().unwrap());
    application.spec.backup.dumps = vec![serde_json::from_value(dump).unwrap()];
    application.spec.backup.volumes = serde_json::from_value(volumes).unwrap();
    seen
}

#[test]
fn a_volume_that_a_dump_stands_for_is_not_read_and_the_point_says_which_dump_it_is() {
    let volumes = json!({"overrides": [{"claim": "data", "method": "Dump", "dump": "orders"}]});
    let start = begun(&with_dump(volumes, observed()));
    let data = &start.status.volumes[0];
    assert_eq!((data.method.as_str(), data.dump.as_deref()), ("Dump", Some("orders")));
    let why = "backup.volumes.overrides[0].method is Dump: the dump orders stands for it";
    assert_eq!(data.left_out.as_deref(), Some(why));
    let kept = method::skipped(data).unwrap();
    assert_eq!((kept.why.as_str(), kept.dump.as_deref()), (why, Some("orders")), "so that a restore loads it");
    let mut status = start.status;
    let other = crate::api::recovery_point::VolumeInPoint {
        claim: "log".into(),
        snapshot: Some("s".into()),
        ..Default::default()
    };
    status.volumes.push(other);
    status.dumps[0].made_for = Some("before".into());
    assert_eq!(counting(&status).count(), 1, "its data is in the dump alone, which is as old as it is");
    status.volumes[0].dump = None;
    assert_eq!(counting(&status).count(), 0);
}

#[test]
fn where_the_application_is_stopped_the_volume_is_read_instead_of_its_dump() {
    let volumes = json!({"overrides": [{"claim": "data", "method": "Dump", "dump": "orders"}]});
    let branch = decide(&point(Purpose::Branch), &with_dump(volumes, observed()), at(0));
    let data = &branch.status.volumes[0];
    let told = "Snapshot (the application is stopped, and cannot be dumped; class snap of csi.example)";
    assert_eq!((data.method.as_str(), &data.left_out, &data.dump), (told, &None, &None));
}

#[test]
fn a_claim_that_people_marked_to_be_left_out_is_skipped_whatever_the_settings_say_and_the_reason_is_told() {
    for settings in [json!({}), json!({"overrides": [{"claim": "data", "method": "Snapshot"}]})] {
        let marked = Source { excluded: true, ..source("data") };
        let waiting =
            Unbound { claim: "new".into(), wanted_by: Some("db-0".into()), excluded: true, ..Unbound::default() };
        let mut seen = Observed { sources: vec![marked], unbound: vec![waiting], ..observed() };
        Arc::make_mut(seen.application.as_mut().unwrap()).spec.backup.volumes =
            serde_json::from_value(settings).unwrap();
        let start = begun(&seen);
        for volume in &start.status.volumes {
            assert_eq!(volume.left_out.as_deref(), Some(r#"the claim is marked reprise.dev/exclude: "true""#));
            assert_eq!(volume.failure, None);
        }
        assert_eq!(acts(&then(&start, Purpose::Scheduled, &seen, 1)), ["begin Capture"]);
        assert!(method::skipped(&start.status.volumes[0]).is_some(), "a restore makes it anew, empty");
    }
}
