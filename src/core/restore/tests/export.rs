//! A restore that exports: one new volume, and nothing else of the cluster.

use super::*;
use crate::core::mover_task::Task;

/// The task of the one mover.
fn task(play: &Play) -> Task {
    let decided = decide(&play.object, &play.observed(), START);
    let jobs: Vec<_> = decided
        .effects
        .iter()
        .filter_map(|it| match it {
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => Some(it.data.clone()),
            _ => None,
        })
        .collect();
    let [job] = jobs.as_slice() else { panic!("{} movers", jobs.len()) };
    let environment = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let task = environment.iter().find(|it| it["name"] == "REPRISE_TASK").unwrap();
    serde_json::from_str(task["value"].as_str().unwrap()).unwrap()
}

#[test]
fn it_fills_one_new_volume_and_neither_stops_saves_nor_starts_anything() {
    let mut play = Play::new(&json!({"export": {"claim": "look"}}));
    play.size = (3 << 30, 1_000);
    play.running = 0;
    play.until(RestoreStepName::RestoreVolumes);
    let Task::Export { volumes, manifest, .. } = task(&play) else { panic!("an export") };
    let named: Vec<_> = volumes.iter().map(|it| (it.claim.as_str(), it.snapshot.as_str())).collect();
    assert_eq!((named, manifest.as_deref()), (vec![("data", "s-data"), ("log", "s-log")], Some("m")));
    let decided = decide(&play.object, &play.observed(), START);
    let size = decided.effects.iter().find_map(|it| match it {
        Effect::Apply(it) => it.data.pointer("/spec/resources/requests/storage").cloned(),
        _ => None,
    });
    assert_eq!(size, Some(json!("8Gi")), "a quarter more than six");
    play.marks = Some(CHOSEN.into());
    let (reason, message) = play.played_out(|second| second % 5 == 4);
    assert_eq!((reason.as_str(), play.running), ("Exported", 0), "{message}");
    play.done.dedup();
    assert_eq!(play.done, ["fill look"]);
    let own = !play.object.in_place() && !play.begun.iter().any(|it| matches!(it, Work::RestoreObjects { .. }));
    assert!(own && play.object.status.unwrap().safety_point.is_none());
}

#[test]
fn only_what_is_named_is_exported() {
    let only = json!({"volumes": [{"claim": "log", "paths": ["a/*"]}]});
    let mut play = Play::new(&json!({"export": {"claim": "look", "size": "5Gi"}, "only": only}));
    play.running = 0;
    play.until(RestoreStepName::RestoreVolumes);
    let Task::Export { volumes, manifest, .. } = task(&play) else { panic!("an export") };
    assert_eq!((volumes.len(), volumes[0].paths.as_slice(), manifest), (1, &["a/*".to_owned()][..], None));
}

#[test]
fn a_claim_that_is_there_is_not_written_to() {
    let mut play = Play::new(&json!({"export": {"claim": "look"}}));
    play.until(RestoreStepName::RestoreVolumes);
    let mut seen = play.observed();
    let there = ClaimSeen { volume: Some("theirs".into()), bound: true, ..ClaimSeen::default() };
    seen.volumes.insert("look".into(), VolumeSeen { tenant: Some(there), ..VolumeSeen::default() });
    assert_eq!(decide(&play.object, &seen, START).status.conditions[0].reason, "ClaimExists");
}

mod into_a_vault {
    use super::*;
    use crate::core::mover_task::{ExportTarget, Report};

    /// An export into a vault that allows it, or does not.
    fn exporting(allowed: bool, spec: &Value) -> Play {
        let mut all = json!({"export": {"vault": {"name": "looks", "prefix": "q1"}}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut play = Play::new(&all);
        let spec: VaultSpec = serde_json::from_value(json!({
            "directory": {"claimName": "other"}, "encryption": {"secret": {"name": "key"}}, "allowExports": allowed,
        }))
        .unwrap();
        play.export.vault = Some(Arc::new(Vault::new("looks", spec)));
        play.dumps = vec![Dump { name: "orders".into(), snapshot: "d".into(), consistent_at: START, bytes: 7 }];
        play.running = 0;
        play
    }

    fn succeeded(report: Report) -> JobSeen {
        JobSeen::Succeeded(Box::new(report))
    }

    fn failed(second: i64, corrupt: bool) -> JobSeen {
        let at = START + jiff::SignedDuration::from_secs(second);
        JobSeen::Failed { message: "no answer".into(), at, corrupt, command: None }
    }

    #[test]
    fn one_mover_stores_everything_and_nothing_else_is_done() {
        for every in [1_000, 3, 4] {
            let mut play = exporting(true, &json!({}));
            play.until(RestoreStepName::Export);
            let Task::Export { volumes, dumps, manifest, target, .. } = task(&play) else { panic!("an export") };
            assert_eq!((volumes.len(), dumps.len(), manifest.is_some()), (2, 1, true));
            let ExportTarget::Vault(place) = target else { panic!("{target:?}") };
            let told = (place.namespace.as_str(), place.prefix.as_str(), place.run.as_str());
            assert_eq!(told, ("shop", "q1", "run-1"));
            play.export.job = Some(succeeded(Report { files: 9, bytes: 90, excluded: 2, ..Report::default() }));
            let (reason, message) = play.played_out(|second| second % every == every - 1);
            assert_eq!((reason.as_str(), play.done.len()), ("Exported", 0), "{message}");
            let said = ["9 files with 90 bytes are in exports/shop/q1 of vault looks", "2 Secrets were left out"];
            assert!(said.iter().all(|it| message.contains(it)), "{message}");
            let steps: Vec<_> = play.object.status.unwrap().steps.iter().map(|it| it.name).collect();
            assert_eq!(steps, STEPS_OF_EXPORT);
        }
    }

    #[test]
    fn paths_that_fit_nothing_are_no_success() {
        let mut play = exporting(true, &json!({}));
        play.until(RestoreStepName::Export);
        let nothing = "volume log: the point has no file under its paths".to_owned();
        play.export.job = Some(succeeded(Report { first_warnings: vec![nothing.clone()], ..Report::default() }));
        assert_eq!(play.played_out(|_| false).0, "NotAllRestored");
        assert_eq!(play.object.status.unwrap().not_restored, [nothing]);
    }

    #[test]
    fn its_mover_has_both_vaults() {
        let mut play = exporting(true, &json!({}));
        play.until(RestoreStepName::Export);
        let decided = decide(&play.object, &play.observed(), START);
        let job = decided.effects.iter().find_map(|it| match it {
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => Some(it.data.to_string()),
            _ => None,
        });
        let job = job.unwrap();
        assert!(job.contains(r#""claimName":"nfs""#) && job.contains(r#""claimName":"other""#), "{job}");
    }

    #[test]
    fn a_vault_that_does_not_allow_it_is_refused_with_the_remedy_also_when_that_was_taken_back() {
        let mut play = exporting(false, &json!({}));
        let (reason, message) = play.played_out(|_| false);
        assert_eq!((reason.as_str(), play.begun.len()), ("ExportsNotAllowed", 0));
        assert!(message.contains("spec.export.vault.name") && message.contains("allowExports"), "{message}");
        let mut gone = exporting(true, &json!({}));
        gone.export.vault = None;
        assert_eq!(gone.played_out(|_| false).0, "NoVault");
        let mut play = exporting(true, &json!({}));
        play.until(RestoreStepName::Export);
        play.export = exporting(false, &json!({})).export;
        let (reason, message) = play.played_out(|_| false);
        assert_eq!(reason, "ExportsNotAllowed");
        assert!(message.contains("stays at exports/shop/q1"), "{message}");
        assert!(play.done.is_empty());
    }

    #[test]
    fn a_prefix_that_is_not_empty_ends_it_and_damaged_data_too() {
        let ended = |job: JobSeen| {
            let mut play = exporting(true, &json!({}));
            play.until(RestoreStepName::Export);
            play.export.job = Some(job);
            play.played_out(|_| false)
        };
        let (reason, message) = ended(succeeded(Report { occupied: true, ..Report::default() }));
        assert_eq!(reason, "PrefixNotEmpty");
        assert!(message.contains("spec.export.vault.prefix") && message.contains("take another prefix"), "{message}");
        assert_eq!(ended(failed(0, true)).0, "PointDamaged");
    }

    #[test]
    fn a_mover_that_failed_is_followed_by_another_for_a_day() {
        let mut play = exporting(true, &json!({}));
        play.until(RestoreStepName::Export);
        let begun = play.second;
        play.export.job = Some(failed(begun, false));
        let deleted = |play: &Play, second: i64| {
            let decided = decide(&play.object, &play.observed(), START + jiff::SignedDuration::from_secs(second));
            let ends = |it: &Effect| matches!(it, Effect::Delete(key) if key.kind == "Job");
            let ended = condition::ended(&decided.status.conditions);
            (decided.effects.iter().any(ends), ended)
        };
        assert_eq!(deleted(&play, begun + 30), (false, false));
        assert_eq!(deleted(&play, begun + 61), (true, false));
        assert_eq!(deleted(&play, begun + 86_401), (false, true));
    }

    #[test]
    fn cancelled_it_ends_its_mover_and_says_where_something_may_lie() {
        let mut play = exporting(true, &json!({}));
        play.until(RestoreStepName::Export);
        play.object.spec.cancel = true;
        play.pass();
        play.export.job = Some(JobSeen::Running(None));
        play.pass();
        assert!(!condition::ended(&play.object.status.as_ref().unwrap().conditions), "its pod may still write");
        play.export.job = None;
        let (reason, message) = play.played_out(|_| false);
        assert_eq!(reason, "Cancelled");
        assert!(message.contains("stays at exports/shop/q1 of vault looks"), "{message}");
    }

    #[test]
    fn how_far_it_is_is_told_as_of_any_restore() {
        let mut play = exporting(true, &json!({}));
        play.size = (1_000, 10);
        play.until(RestoreStepName::Export);
        play.export.job = Some(JobSeen::Running(None));
        let told = MoverProgress { phase: "restoring".into(), done: 500, total: 2_000, files: 4 };
        play.told = [(vault_export::LABEL.to_owned(), told)].into();
        play.second += 60;
        play.pass();
        let it = play.object.status.as_ref().unwrap().progress.clone().unwrap();
        assert_eq!((it.bytes_done, it.bytes_total, it.files_done, it.files_total), (500, 2_000 + 7, 4, 20));
        assert!(it.estimated_end.is_some());
        play.export.job = Some(succeeded(Report { files: 26, bytes: 2_007, ..Report::default() }));
        play.played_out(|_| false);
        let it = play.object.status.unwrap().progress.unwrap();
        assert_eq!((it.volumes_done, it.bytes_done, it.estimated_end), (2, 2_007, None));
    }
}

#[test]
fn dumps_are_among_the_files_and_never_loaded() {
    for claim in [json!({"claim": "look"}), json!({"claim": "look", "size": "5Gi"})] {
        let mut play = Play::new(&json!({"export": claim}));
        play.running = 0;
        play.dumps = vec![Dump { name: "orders".into(), snapshot: "d".into(), consistent_at: START, bytes: 7 }];
        play.until(RestoreStepName::RestoreVolumes);
        let Task::Export { dumps, .. } = task(&play) else { panic!("an export") };
        assert_eq!(dumps.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["orders"]);
        play.marks = Some(CHOSEN.into());
        let (reason, message) = play.played_out(|_| false);
        assert_eq!(reason, "Exported", "{message}");
        assert!(play.object.status.unwrap().dumps.is_empty());
    }
}
