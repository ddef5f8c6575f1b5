//! One step at a time: what ends a run, what it waits for, and what it never does.

use super::*;

/// A run at this step, with epoch 2, whose claim looks like this.
fn at_step(step: StepName, view: View) -> (Failover, Observed) {
    let play = Play::new(false);
    let mut object = failover(Initiator::Operator);
    let status = FailoverStatus {
        step: Some(step),
        steps: vec![Step { name: step, started_at: Time(START), finished_at: None, message: String::new() }],
        epoch: (step != StepName::WaitOutClaim).then_some(2),
        point: Some("p2".into()),
        address: Some(ADDRESS.into()),
        ..FailoverStatus::default()
    };
    object.status = Some(status);
    (object, Observed { claim: Some(view), ..play.observed() })
}

fn reason(decision: &Decision<FailoverStatus>) -> String {
    condition::find(&decision.status.conditions, SUCCEEDED).map_or(String::new(), |it| it.reason.clone())
}

fn acts(decision: &Decision<FailoverStatus>) -> bool {
    decision.effects.iter().any(|it| !matches!(it, Effect::Announce(_) | Effect::Wish { wish: Wish::Hold, .. }))
}

#[test]
fn what_the_api_server_refused_is_told_with_what_is_waited_for() {
    let (object, seen) = at_step(StepName::RestoreVolumes, view(Some("west"), 2, false));
    let decision = decide(&object, &Observed { hindrance: Some("exceeded quota: none".into()), ..seen }, START);
    let told = &decision.status.steps.last().unwrap().message;
    assert!(told.ends_with("; refused: exceeded quota: none"), "{told}");
}

#[test]
fn a_claim_that_is_lost_ends_the_run_before_anything_more_is_done() {
    for step in [
        StepName::SealCatalogue,
        StepName::ChoosePoint,
        StepName::RestoreVolumes,
        StepName::RestoreObjects,
        StepName::LoadDumps,
        StepName::SwitchTraffic,
    ] {
        // Also when it is this region that took the next epoch: what is done under the old one is refused for ever.
        for holder in ["east", "west"] {
            let (object, seen) = at_step(step, view(Some(holder), 3, false));
            let decision = decide(&object, &seen, at(10));
            assert_eq!(reason(&decision), "LostClaim", "{step:?} {holder}");
            assert!(!acts(&decision), "{step:?}: {:?}", decision.effects);
        }
    }
}

#[test]
fn a_race_for_the_claim_that_is_lost_ends_the_run() {
    for (view, why) in [
        (view(Some("east"), 2, false), "LostRace"),
        (view(Some("west"), 3, false), "LostRace"),
        (view(Some("east"), 1, false), "HolderReturned"),
    ] {
        let (object, seen) = at_step(StepName::SeizeClaim, view);
        let decision = decide(&object, &seen, at(10));
        assert_eq!(reason(&decision), why);
        assert!(!acts(&decision), "{:?}", decision.effects);
    }
}

#[test]
fn a_claim_that_cannot_be_read_is_waited_for() {
    let unreadable = View { readable: false, last_error: Some("refused".into()), ..view(Some("east"), 1, false) };
    let (object, seen) = at_step(StepName::WaitOutClaim, unreadable);
    let decision = decide(&object, &seen, at(10));
    assert_eq!((reason(&decision).as_str(), acts(&decision)), ("InProgress", false));
    assert_eq!(decision.status.steps[0].message, "the claim cannot be read: refused");
}

#[test]
fn nothing_is_taken_while_there_is_no_good_point() {
    let (object, mut seen) = at_step(StepName::WaitOutClaim, view(Some("east"), 1, true));
    let outcome = Outcome::Surveyed { chosen: None, passed_over: vec!["p3: partial".into()] };
    let work =
        Work::ReadHead { vault: String::new(), application: AppKey { namespace: "shop".into(), name: "shop".into() } };
    seen.works.insert("SurveyPoints", Progress::Done { at: at(5), work: Box::new(work), outcome });
    let decision = decide(&object, &seen, at(10));
    assert_eq!((reason(&decision).as_str(), acts(&decision)), ("NoRecoveryPoint", false));
}

#[test]
fn an_automatic_run_is_given_up_when_the_application_answers_again() {
    let (object, mut seen) = at_step(StepName::WaitOutClaim, view(Some("east"), 1, false));
    seen.health = Some(Health {
        verdict: crate::api::application::Verdict::Healthy,
        reasons: vec![],
        since: START,
        disrupted_at: None,
    });
    let decision = decide(&object, &seen, at(10));
    assert_eq!((reason(&decision).as_str(), acts(&decision)), ("Recovered", false));
    let person = Failover { spec: failover(Initiator::Person).spec, ..object };
    assert!(!asks(&decide(&person, &seen, at(10))), "not before it is known what would be restored");
    let outcome = Outcome::Surveyed { chosen: Some(Box::new(point("p2", "s2"))), passed_over: vec![] };
    let application = AppKey { namespace: "shop".into(), name: "shop".into() };
    let work = Work::SurveyPoints {
        vault: "main".into(),
        application,
        older_than: None,
        minimum: crate::api::recovery_point::Level::L1,
    };
    seen.works.insert("SurveyPoints", Progress::Done { at: at(5), work: Box::new(work), outcome });
    assert!(asks(&decide(&person, &seen, at(10))));
}

fn asks(decision: &Decision<FailoverStatus>) -> bool {
    let one = |it: &Effect| matches!(it, Effect::Wish { wish: Wish::RequestHandover { .. }, .. });
    decision.effects.iter().any(one)
}

#[test]
fn a_step_that_began_before_the_clock_was_set_back_begins_anew() {
    let (mut object, seen) = at_step(StepName::ProbeAddress, view(Some("west"), 2, true));
    object.status.as_mut().unwrap().steps[0].started_at = Time(at(9_000));
    assert_eq!(decide(&object, &seen, at(10)).status.steps[0].started_at, Time(at(10)));
}

#[test]
fn the_active_region_is_not_set_back_to_its_last_point() {
    let (object, mut seen) = at_step(StepName::WaitOutClaim, view(Some("west"), 2, false));
    let go_on = decide(&object, &seen, at(10));
    assert_eq!(go_on.status.step, Some(StepName::SeizeClaim), "a run that did not come to an end is gone on from");
    seen.application = Some(Arc::new(application(&json!({"role": "Active", "epoch": 2, "conditions": []}))));
    let decision = decide(&object, &seen, at(10));
    assert_eq!((reason(&decision).as_str(), acts(&decision)), ("AlreadyActive", false));
}

#[test]
fn a_holder_is_not_asked_any_more_while_the_vault_cannot_be_trusted() {
    let watches = |view| {
        let (object, mut seen) = at_step(StepName::WaitOutClaim, view);
        seen.vault = None;
        let decision = decide(&object, &seen, at(10));
        assert_eq!(reason(&decision), "InProgress");
        decision.effects.iter().any(|it| matches!(it, Effect::Wish { wish: Wish::Watch, .. }))
    };
    assert!(watches(view(Some("east"), 1, false)));
    assert!(!watches(view(Some("west"), 1, false)), "its own claim is not left to run out");
}

#[test]
fn a_region_that_only_stopped_its_own_newest_copy_is_not_set_back_to_its_last_point() {
    let (object, mut seen) = at_step(StepName::WaitOutClaim, view(Some("west"), 2, false));
    let mut ends = |fence: Value| {
        let status = json!({"role": "Fencing", "epoch": 2, "conditions": [], "fence": fence});
        seen.application = Some(Arc::new(application(&status)));
        let decision = decide(&object, &seen, at(10));
        (reason(&decision) == "AlreadyActive", decision.status.step)
    };
    // It is asked to hand over, or not asked any more; or it took the next epoch for what it had stopped.
    assert_eq!(ends(json!({"epoch": 2, "since": at(0)})), (true, Some(StepName::WaitOutClaim)));
    assert_eq!(ends(json!({"epoch": 1, "since": at(0), "retake": 2})), (true, Some(StepName::WaitOutClaim)));
    assert_eq!(ends(json!({"epoch": 1, "since": at(0)})), (false, Some(StepName::SeizeClaim)));
}

#[test]
fn a_claim_that_was_released_or_went_elsewhere_at_the_runs_own_epoch_ends_the_run() {
    for holder in [None, Some("east")] {
        for step in [StepName::SealCatalogue, StepName::RestoreVolumes, StepName::RestoreObjects] {
            let (object, mut seen) = at_step(step, view(holder, 2, false));
            let decision = decide(&object, &seen, at(10));
            assert_eq!((reason(&decision).as_str(), acts(&decision)), ("LostClaim", false), "{step:?} {holder:?}");
            seen.claim = Some(View { conflict: Some("rolled back".into()), ..view(holder, 2, false) });
            assert_ne!(reason(&decide(&object, &seen, at(10))), "LostClaim", "a conflict tells neither");
        }
    }
}

#[test]
fn what_a_region_had_written_is_saved_before_it_is_written_over() {
    let (object, mut seen) = at_step(StepName::RestoreVolumes, view(Some("west"), 2, false));
    let outcome = Outcome::Surveyed { chosen: Some(Box::new(point("p2", "s2"))), passed_over: vec![] };
    let work =
        Work::ReadHead { vault: String::new(), application: AppKey { namespace: "shop".into(), name: "shop".into() } };
    seen.works.insert("SurveyPoints", Progress::Done { at: at(5), work: Box::new(work), outcome });
    seen.copy = LocalCopy::default();
    let tenant = ClaimSeen { uid: "t".into(), volume: Some("pv".into()), bound: true, ..ClaimSeen::default() };
    let volume = VolumeSeen { name: "pv".into(), reclaim: "Delete".into(), ..VolumeSeen::default() };
    let found = volume_restore::Seen { tenant: Some(tenant), volume: Some(volume), ..volume_restore::Seen::default() };
    seen.volumes = BTreeMap::from([("data".to_owned(), found)]);
    let with = |fence: Value| Some(Arc::new(application(&json!({"fence": fence, "conditions": []}))));
    seen.application = with(json!({"epoch": 2, "since": null}));
    assert!(!acts(&decide(&object, &seen, at(10))));
    seen.application = with(json!({"epoch": 2, "since": null, "settled": true, "branch": "b1"}));
    assert!(acts(&decide(&object, &seen, at(10))));
}

#[test]
fn what_restoring_ahead_saved_is_told_in_seconds_where_a_full_restore_was_measured() {
    let (object, mut seen) = at_step(StepName::RestoreVolumes, view(Some("west"), 2, false));
    let empty = Point { volumes: vec![], skipped: vec![], ..point("p2", "s2") };
    let outcome = Outcome::Surveyed { chosen: Some(Box::new(empty)), passed_over: vec![] };
    let work =
        Work::ReadHead { vault: String::new(), application: AppKey { namespace: "shop".into(), name: "shop".into() } };
    seen.works.insert("SurveyPoints", Progress::Done { at: at(5), work: Box::new(work), outcome });
    seen.copy = LocalCopy::default();
    let annotations = [("reprise.dev/restored-ahead", "true"), ("reprise.dev/transferred-bytes", "7")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let volume = VolumeSeen { name: "pv".into(), annotations, ..VolumeSeen::default() };
    let found = volume_restore::Seen { volume: Some(volume), ..volume_restore::Seen::default() };
    seen.volumes = BTreeMap::from([("data".to_owned(), found)]);
    let mut told = |warm: Value| {
        let fence = json!({"epoch": 2, "since": null, "settled": true});
        seen.application = Some(Arc::new(application(&json!({"fence": fence, "warm": warm, "conditions": []}))));
        let decision = decide(&object, &seen, at(10));
        decision.status.steps.iter().find(|it| it.name == StepName::RestoreVolumes).unwrap().message.clone()
    };
    let told_first = told(json!({"point": "p2", "fullSeconds": 300}));
    assert!(
        told_first.ends_with("it took 10 s, and 300 s when all was restored ahead for the first time"),
        "{told_first}"
    );
    assert!(told(json!({"point": "p2"})).ends_with("and 7 bytes were transferred now"));
}

#[test]
fn work_that_failed_is_tried_again_after_a_pause_and_its_reason_is_said() {
    let (object, mut seen) = at_step(StepName::SealCatalogue, view(Some("west"), 2, false));
    let failure = Failure { reason: "Unreachable", message: "the vault does not answer".into(), lasting: false };
    seen.works.insert("SealCatalogue", Progress::Failed { at: at(10), times: 3, failure });
    let early = decide(&object, &seen, at(13));
    assert!(!acts(&early));
    assert_eq!(early.status.steps[0].message, "the vault does not answer");
    assert!(acts(&decide(&object, &seen, at(14))));
}

#[test]
fn a_catalogue_of_a_higher_epoch_is_told_as_what_it_is() {
    let (object, mut seen) = at_step(StepName::SealCatalogue, view(Some("west"), 2, false));
    let message = "the catalogue is sealed by region east with epoch 3".to_owned();
    let failure = Failure { reason: "Sealed", message, lasting: true };
    seen.works.insert("SealCatalogue", Progress::Failed { at: at(10), times: 1, failure });
    let decision = decide(&object, &seen, at(10));
    assert_eq!(reason(&decision), "Sealed");
    assert!(decision.status.steps[0].message.starts_with("the catalogue is sealed by region east with epoch 3, and"));
    seen.claim = Some(view(Some("east"), 3, false));
    assert_eq!(reason(&decide(&object, &seen, at(11))), "LostClaim", "as soon as the claim was read");
}

#[test]
fn a_run_in_the_wrong_place_or_besides_another_is_refused() {
    let play = Play::new(false);
    let refused = |object: &Failover, seen: Observed| {
        let decision = decide(object, &seen, at(1));
        assert!(!acts(&decision));
        reason(&decision)
    };
    let seen = || play.observed();
    assert_eq!(refused(&play.object, Observed { region: "east".into(), ..seen() }), "WrongCluster");
    assert_eq!(refused(&play.object, Observed { application: None, ..seen() }), "NoApplication");
    assert_eq!(
        refused(&play.object, Observed { others: vec!["shop-000001-00".into()], ..seen() }),
        "AnotherInProgress"
    );
    let mut far = failover(Initiator::Person);
    far.spec.to = "south".into();
    assert_eq!(refused(&far, Observed { region: "south".into(), ..seen() }), "UnknownRegion");
}

#[test]
fn what_differs_in_the_region_reaches_its_volumes_and_its_objects() {
    let named = json!({"storageClasses": [{"from": "gp3", "to": "premium"}]});
    let mapped = |step: StepName| {
        let (object, mut seen) = at_step(step, view(Some("west"), 2, false));
        let mut point = point("p2", "s2");
        point.volumes[0].storage_class = Some("gp3".into());
        let outcome = Outcome::Surveyed { chosen: Some(Box::new(point)), passed_over: vec![] };
        let application = AppKey { namespace: "shop".into(), name: "shop".into() };
        let work = Work::SurveyPoints {
            vault: "main".into(),
            application,
            older_than: None,
            minimum: crate::api::recovery_point::Level::L1,
        };
        seen.works.insert("SurveyPoints", Progress::Done { at: at(5), work: Box::new(work), outcome });
        seen.copy = LocalCopy::default();
        let found = volume_restore::Seen { class_present: true, ..volume_restore::Seen::default() };
        seen.volumes = BTreeMap::from([("data".to_owned(), found)]);
        let mut application = self::application(&json!({"conditions": []}));
        application.spec.regions[0].mappings = Some(serde_json::from_value(json!({"namespaces": []})).unwrap());
        application.spec.regions[1].mappings = Some(serde_json::from_value(named.clone()).unwrap());
        seen.application = Some(Arc::new(application));
        decide(&object, &seen, at(10)).effects
    };
    let class = mapped(StepName::RestoreVolumes).into_iter().find_map(|it| match it {
        Effect::Apply(it) => it.data.pointer("/spec/storageClassName").cloned(),
        _ => None,
    });
    assert_eq!(class, Some("premium".into()));
    let objects = mapped(StepName::RestoreObjects).into_iter().find_map(|it| match it {
        Effect::Begin(work) => match *work {
            Work::RestoreObjects { mappings, .. } => Some(serde_json::to_value(mappings).unwrap()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(objects, Some(named));
}

#[test]
fn a_dump_of_a_copy_is_read_from_the_copy() {
    let (mut object, mut seen) = at_step(StepName::LoadDumps, view(Some("west"), 2, false));
    let mut copy = vault();
    copy.metadata.name = Some("second".into());
    copy.spec.directory.as_mut().unwrap().claim_name = "other".into();
    seen.copies = vec![Arc::new(copy)];
    let dump = json!({"name": "orders", "pods": {"matchLabels": {"app": "db"}}, "dump": ["dump"], "load": ["load"]});
    let mut application = self::application(&json!({"conditions": []}));
    application.spec.backup.dumps = vec![serde_json::from_value(dump).unwrap()];
    application.spec.backup.copies = serde_json::from_value(json!([{"vault": "second", "every": "6h"}])).unwrap();
    seen.application = Some(Arc::new(application));
    let mut point = point("p2", "copy of s2");
    let dump = json!({"name": "orders", "snapshot": "copy of d2", "consistentAt": START, "bytes": 7});
    point.dumps = vec![serde_json::from_value(dump).unwrap()];
    let outcome = Outcome::Surveyed { chosen: Some(Box::new(point)), passed_over: vec![] };
    let key = AppKey { namespace: "shop".into(), name: "shop".into() };
    let work = Work::SurveyPoints {
        vault: "second".into(),
        application: key,
        older_than: None,
        minimum: crate::api::recovery_point::Level::default(),
    };
    seen.works.insert("SurveyPoints", Progress::Done { at: at(5), work: Box::new(work), outcome });
    let pod = dump_load::PodSeen { name: "db-0".into(), ready: true, claims: vec![] };
    seen.dumps =
        BTreeMap::from([("orders".to_owned(), dump_load::Seen { pods: vec![pod], ..dump_load::Seen::default() })]);
    object.status.as_mut().unwrap().vault = Some("second".into());
    object.status = Some(decide(&object, &seen, at(10)).status);
    let effects = decide(&object, &seen, at(11)).effects;
    let job = effects.iter().find_map(|it| match it {
        Effect::Apply(job) => Some(job.data.to_string()),
        _ => None,
    });
    let job = job.unwrap_or_else(|| panic!("{effects:?}"));
    assert!(job.contains("copy of d2") && job.contains("other") && !job.contains("nfs"), "{job}");
}
