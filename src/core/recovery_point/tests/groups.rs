//! Volumes that are snapshotted together, pass by pass.

use super::*;
use crate::{
    api::recovery_point::GroupVersion,
    core::recovery_point::groups::{GroupClass, GroupSeen, Groups},
};

const LABEL: &str = "group.reprise.dev/shop";
/// The name of the group snapshot.
const NAME: &str = "reprise-c4c03325e00908d3";

/// Three volumes of one driver, which has a class for groups.
fn three() -> Observed {
    let class = GroupClass { name: "together".into(), version: GroupVersion::V1beta2 };
    Observed {
        sources: ["cache", "data", "log"].map(source).into(),
        groups: Groups { classes: BTreeMap::from([("csi.example".to_owned(), class)]), ..Groups::default() },
        works: Works::from([("Capture", Progress::Running)]),
        ..observed()
    }
}

/// With the run's group snapshot, as it is seen then.
fn with(group: GroupSeen) -> Observed {
    let of_run = BTreeMap::from([("csi.example".to_owned(), group)]);
    Observed { groups: Groups { of_run, ..Groups::default() }, ..three() }
}

/// With these snapshots in the group, each of another instant: ready, or only taken.
fn taken(claims: &[&str], ready: bool) -> GroupSeen {
    let member = |millis: i64| SnapshotSeen {
        handle: ready.then(|| format!("h{millis}")),
        taken_at: Some(at(2)),
        instant: Some(at(2) + SignedDuration::from_millis(millis)),
        ..SnapshotSeen::default()
    };
    let members = claims.iter().zip(0..).map(|(claim, it)| ((*claim).to_owned(), member(it))).collect();
    GroupSeen { volumes: Some(3), cut_at: Some(at(2)), ready, members, ..GroupSeen::default() }
}

/// It has found so many volumes, and that is all.
fn found(volumes: usize) -> GroupSeen {
    GroupSeen { volumes: Some(volumes), ..GroupSeen::default() }
}

const ALL: [&str; 3] = ["cache", "data", "log"];

fn next(decision: &Decided, seen: &Observed, seconds: i64) -> Decided {
    then(decision, Purpose::Scheduled, seen, seconds)
}

fn groupings(decision: &Decided) -> Vec<&str> {
    decision.status.volumes.iter().map(|it| it.grouping.as_deref().unwrap_or("-")).collect()
}

/// The labels that are put on claims, or taken off.
fn labelled(decision: &Decided) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    for effect in &decision.effects {
        if let Effect::LabelClaim { namespace, name, label, value, .. } = effect {
            assert_eq!((namespace.as_str(), label.as_str()), ("shop", LABEL));
            found.push((name.as_str(), value.as_deref()));
        }
    }
    found
}

fn marked(mut seen: Observed, run: &str) -> Observed {
    seen.sources.iter_mut().for_each(|it| drop(it.labels.insert(LABEL.into(), run.into())));
    seen
}

fn applied<'a>(decision: &'a Decided, kind: &str) -> Vec<&'a kube::core::DynamicObject> {
    let of_kind = |it: &'a Effect| match it {
        Effect::Apply(it) if it.types.as_ref().unwrap().kind == kind => Some(it.as_ref()),
        _ => None,
    };
    decision.effects.iter().filter_map(of_kind).collect()
}

#[test]
fn volumes_of_one_driver_with_a_class_are_snapshotted_at_once_and_that_stands_in_the_status_before() {
    let first = begun(&three());
    assert_eq!(groupings(&first), ["Group (of 3, by VolumeGroupSnapshotClass together)"; 3]);
    assert_eq!((acts(&first), first.status.groups[0].claims.len()), (vec![], 3));
    let second = next(&first, &three(), 1);
    assert_eq!(labelled(&second), ALL.map(|it| (it, Some(NAME))));
    assert_eq!(acts(&second)[3..], ["apply VolumeGroupSnapshot in shop"], "no single snapshots beside it");
    let group = applied(&second, "VolumeGroupSnapshot")[0];
    assert_eq!(group.types.as_ref().unwrap().api_version, "groupsnapshot.storage.k8s.io/v1beta2");
    let selector = json!({"selector": {"matchLabels": {LABEL: NAME}}});
    assert_eq!(group.data["spec"], json!({"volumeGroupSnapshotClassName": "together", "source": selector}));
    assert_eq!(next(&first, &three(), 1).effects, second.effects, "a repeated pass does the same");
    let half = next(&second, &marked(three(), NAME), 2);
    assert_eq!(acts(&half), ["apply VolumeGroupSnapshot in shop"], "what is marked is not marked again");
}

#[test]
fn claims_are_unmarked_when_the_group_has_found_them_and_each_member_is_read_as_a_snapshot_is() {
    let second = next(&begun(&three()), &three(), 1);
    let unbound = next(&second, &marked(with(GroupSeen::default()), NAME), 2);
    assert_eq!(acts(&unbound), Vec::<String>::new(), "it finds them by their labels");
    let bound = next(&unbound, &marked(with(found(3)), NAME), 3);
    assert_eq!(labelled(&bound), ALL.map(|it| (it, None)));
    assert_eq!((acts(&bound).len(), bound.status.groups[0].taken_at.clone()), (3, None));
    let whole = next(&bound, &with(taken(&["data"], false)), 4);
    assert_eq!((acts(&whole), whole.status.groups[0].taken_at.clone()), (vec![], Some(Time(at(2)))));
    let whole = next(&whole, &with(taken(&ALL, false)), 4);
    assert_eq!((acts(&whole), whole.status.skew_millis), (vec![], Some(2)));
    let read = next(&whole, &with(taken(&ALL, true)), 5);
    let handles: Vec<_> =
        applied(&read, "VolumeSnapshotContent").iter().map(|it| it.data["spec"]["source"].clone()).collect();
    assert_eq!(handles, ["h0", "h1", "h2"].map(|it| json!({"snapshotHandle": it})));
    assert_eq!((applied(&read, "Job").len(), applied(&read, "VolumeGroupSnapshot").len()), (3, 0));
    assert!(read.status.volumes.iter().all(|it| it.consistent_at == Some(Time(at(2)))));
}

#[test]
fn a_group_that_is_not_taken_in_its_time_is_given_up_with_the_reason_and_its_volumes_are_snapshotted_one_by_one() {
    let second = next(&begun(&three()), &three(), 1);
    let gate = "is the feature gate CSIVolumeGroupSnapshot on?";
    for (group, why) in [
        (GroupSeen { error: Some("no such pool".into()), ..found(3) }, "no such pool".to_owned()),
        (GroupSeen::default(), format!("the snapshot-controller did not answer: {gate}")),
        (found(3), format!("neither the driver nor its csi-snapshotter answered: {gate}")),
        (GroupSeen { volumes: Some(1), ..taken(&["data"], true) }, "it has only 1 of the volumes".to_owned()),
    ] {
        let seen = with(group);
        let waiting = next(&second, &seen, 60);
        assert!(waiting.status.groups[0].failure.is_none() && applied(&waiting, "VolumeSnapshot").is_empty());
        let late = next(&waiting, &seen, 61);
        let said = format!("not taken after 60 s: {why}");
        assert_eq!(late.status.groups[0].failure.as_deref(), Some(said.as_str()));
        let alone = format!("Alone (the group snapshot was {said})");
        assert_eq!(groupings(&late), [alone.as_str(); 3]);
        assert_eq!(acts(&late), Vec::<String>::new(), "it is written down first");
        let told =
            late.effects.iter().any(|it| matches!(it, Effect::Announce(it) if it.reason == "GroupSnapshotFailed"));
        assert!(told, "{:?}", late.effects);
        let after = next(&late, &marked(seen, NAME), 62);
        assert_eq!(applied(&after, "VolumeSnapshot").len(), 3);
        assert_eq!(labelled(&after), ALL.map(|it| (it, None)));
    }
}

#[test]
fn what_is_late_to_join_a_group_that_was_given_up_is_not_read() {
    let late = next(&next(&begun(&three()), &three(), 1), &three(), 61);
    assert!(late.status.groups[0].failure.is_some());
    let mut seen = with(taken(&ALL, true));
    assert!(applied(&next(&late, &seen, 62), "Job").is_empty());
    let own = SnapshotSeen { handle: Some("own".into()), taken_at: Some(at(62)), ..SnapshotSeen::default() };
    seen.snapshots = BTreeMap::from([("log".to_owned(), own)]);
    let read = next(&late, &seen, 63);
    let handles: Vec<_> = applied(&read, "VolumeSnapshotContent").iter().map(|it| &it.data["spec"]["source"]).collect();
    assert_eq!(handles, [&json!({"snapshotHandle": "own"})]);
}

#[test]
fn an_application_that_is_held_waits_for_the_group_half_of_its_time_at_most() {
    let mut seen = three();
    let hooks = json!({"commands": [{"name": "freeze", "pods": {"matchLabels": {"app": "db"}}, "before": ["a"], "after": ["b"]}],
        "holdAtMost": "20s"});
    Arc::make_mut(seen.application.as_mut().unwrap()).spec.backup.hooks = Some(serde_json::from_value(hooks).unwrap());
    let mut start = begun(&seen);
    let run = start.status.hooks.as_mut().unwrap();
    (run.holding, run.held_from) = (crate::api::recovery_point::Holding::Held, Some(Time(at(0))));
    let asked = next(&start, &seen, 1);
    assert_eq!(asked.status.groups[0].asked_at, Some(Time(at(1))));
    assert!(next(&asked, &seen, 10).status.groups[0].failure.is_none());
    assert!(next(&asked, &seen, 11).status.groups[0].failure.is_some(), "of 20 s, 19 were left");
    // The instant is past before the members are seen: the application is let go.
    let cut =
        |it| acts(&next(&asked, &Observed { application: seen.application.clone(), ..with(it) }, 5)).into_iter().next();
    assert_eq!(cut(taken(&[], false)).as_deref(), Some("begin HooksAfter"));
    assert_eq!(cut(GroupSeen { volumes: Some(2), ..taken(&[], false) }), None);
    assert_eq!(cut(found(3)), None);
}

#[test]
fn where_volumes_are_snapshotted_one_by_one_the_point_says_why() {
    let why = |groups: Groups| {
        let first = begun(&Observed { groups, ..three() });
        assert!(first.status.groups.is_empty());
        let all = groupings(&first).into_iter().map(ToOwned::to_owned).collect::<std::collections::BTreeSet<_>>();
        all.into_iter().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(why(Groups::default()), "Alone (there is no VolumeGroupSnapshotClass for csi.example)");
    let stuck = why(Groups { stuck: Some("reprise-1".into()), ..three().groups });
    assert!(stuck.contains("VolumeGroupSnapshot reprise-1 was deleted and does not go"), "{stuck}");
    let failed = |seconds| BTreeMap::from([("csi.example".to_owned(), (at(seconds), "no".to_owned()))]);
    let lately = why(Groups { failed: failed(-3_599), ..three().groups });
    assert!(lately.contains("none is tried for an hour: no"), "{lately}");
    let long_ago = begun(&Observed { groups: Groups { failed: failed(-3_600), ..three().groups }, ..three() });
    assert_eq!(long_ago.status.groups.len(), 1);
}

#[test]
fn only_what_is_snapshotted_by_the_same_driver_is_grouped() {
    let mut seen = three();
    seen.sources[0].driver = Some("other.example".into());
    seen.snapshot_classes.insert("other.example".into(), "snap".into());
    assert_eq!(groupings(&begun(&seen))[0], "-", "one alone has nothing to be grouped with");
    assert_eq!(begun(&seen).status.groups[0].claims, ["data", "log"]);
    let volumes = json!({"overrides": [{"claim": "log", "method": "Direct"}]});
    Arc::make_mut(seen.application.as_mut().unwrap()).spec.backup.volumes = serde_json::from_value(volumes).unwrap();
    assert_eq!((groupings(&begun(&seen)), begun(&seen).status.groups), (vec!["-"; 3], vec![]));
}

#[test]
fn each_driver_has_a_group_of_its_own_that_finds_its_own_volumes_only() {
    let mut seen = three();
    let other = source("other");
    seen.sources.push(other);
    for source in &mut seen.sources[2..] {
        source.driver = Some("other.example".into());
    }
    seen.snapshot_classes.insert("other.example".into(), "snap".into());
    let class = seen.groups.classes["csi.example"].clone();
    seen.groups.classes.insert("other.example".into(), class);
    let second = next(&begun(&seen), &seen, 1);
    let marks: BTreeMap<_, _> = labelled(&second).into_iter().collect();
    assert!(marks["cache"] == marks["data"] && marks["log"] == marks["other"] && marks["data"] != marks["log"]);
    let selected = applied(&second, "VolumeGroupSnapshot");
    let selected: Vec<_> =
        selected.iter().map(|it| it.data["spec"]["source"]["selector"]["matchLabels"][LABEL].as_str()).collect();
    assert_eq!(selected, [marks["data"], marks["log"]]);
}

#[test]
fn a_claim_that_goes_before_the_group_is_taken_is_missing_and_the_others_are_taken() {
    let second = next(&begun(&three()), &three(), 1);
    let mut seen = with(GroupSeen { volumes: Some(2), ..taken(&["cache", "data"], true) });
    seen.sources.pop();
    let third = next(&second, &seen, 2);
    assert!(third.status.volumes[2].failure.as_ref().is_some_and(|it| it.contains("was deleted")));
    let fourth = next(&third, &seen, 3);
    assert!(fourth.status.groups[0].taken_at.is_some());
    assert_eq!(applied(&next(&fourth, &seen, 4), "Job").len(), 2);
}

#[test]
fn a_group_that_was_taken_and_is_deleted_or_lacks_a_snapshot_makes_the_point_partial() {
    let second = next(&begun(&three()), &three(), 1);
    let whole = next(&second, &with(taken(&ALL, false)), 2);
    assert!(whole.status.groups[0].taken_at.is_some());
    let unready = next(&whole, &with(taken(&ALL, false)), 3);
    assert_eq!((acts(&unready), unready.status.volumes[0].failure.as_deref()), (vec![], None));
    let gone = next(&unready, &three(), 4);
    assert_eq!(gone.status.volumes[1].failure.as_deref(), Some("its group snapshot was deleted before it was read"));
    assert_eq!(acts(&gone), Vec::<String>::new());
    let early = next(&unready, &with(taken(&["cache", "data"], true)), 61);
    assert!(early.status.volumes[2].failure.is_none(), "it may be seen later");
    let lacks = next(&unready, &with(taken(&["cache", "data"], true)), 62);
    let failures: Vec<_> = lacks.status.volumes.iter().filter_map(|it| it.failure.as_deref()).collect();
    assert_eq!((failures, applied(&lacks, "Job").len()), (vec!["its group snapshot has no snapshot of it"], 2));
}

#[test]
fn a_group_that_would_outlive_its_object_is_made_to_go_with_the_run() {
    let second = next(&begun(&three()), &three(), 1);
    let retained = |it: GroupSeen| with(GroupSeen { retained: Some("group-1".into()), ..it });
    let pass = next(&second, &retained(found(1)), 2);
    let content = applied(&pass, "VolumeGroupSnapshotContent")[0];
    assert_eq!(
        (content.metadata.name.as_deref(), &content.data["spec"]["deletionPolicy"]),
        (Some("group-1"), &json!("Delete"))
    );
    let mut given_up = GroupSeen { volumes: Some(1), ..taken(&["log"], true) };
    given_up.members.get_mut("log").unwrap().retained = Some("member-1".into());
    let late = next(&pass, &retained(given_up.clone()), 61);
    let after = next(&late, &retained(given_up), 62);
    assert_eq!(applied(&after, "VolumeSnapshotContent")[0].metadata.name.as_deref(), Some("member-1"));
}

#[test]
fn when_a_run_ends_or_was_deleted_its_marks_go() {
    let (mut ended, _) = committed(stored(0), &[]);
    let marked_claims = vec![("data".to_owned(), Some("7".to_owned()))];
    let groups = Groups { marked: marked_claims, ..Groups::default() };
    ended = next(&ended, &Observed { groups, ..observed() }, 20);
    let [Effect::LabelClaim { name, value: None, resource_version: Some(version), .. }] = ended.effects.as_slice()
    else {
        panic!("{:?}", ended.effects)
    };
    assert_eq!((name.as_str(), version.as_str()), ("data", "7"), "a newer run's mark stays");
    assert!(ended.recheck.is_some());
    // Of a run whose object was deleted, the next one takes them away, whatever becomes of its own snapshots.
    let seen = marked(Observed { groups: Groups::default(), ..three() }, "run-0");
    assert_eq!(labelled(&next(&begun(&seen), &seen, 1)), ALL.map(|it| (it, None)));
}
