//! What a volume that is restored ahead holds, and that a failover takes it over whatever goes on with it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::{
    api::vault::{Directory, Encryption, VaultSpec},
    core::{
        app_key::AppKey,
        mover_job::MoverSettings,
        mover_task::{Report, Task},
        point::Volume,
        volume_restore::{Data, Seen},
    },
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn run(uid: &str) -> Run {
    Run { namespace: "shop".into(), name: "shop".into(), uid: uid.into() }
}

/// The next step towards a snapshot, of the application's own run or of a failover's.
fn next(seen: &Seen, uid: &str, snapshot: &str) -> (Step, Vec<Effect>) {
    let movers = MoverSettings {
        namespace: "reprise-system".into(),
        image: String::new(),
        pull_policy: String::new(),
        service_account: String::new(),
        dump_service_account: String::new(),
        direct: false,
        kubelet_root: String::new(),
        resources: json!({}),
    };
    let vault = VaultSpec {
        s3: None,
        azure: None,
        proxy: None,
        limits: None,
        directory: Some(Directory { claim_name: "nfs".into() }),
        allow_exports: false,
        encryption: Encryption::new("k"),
    };
    let volume = Volume {
        claim: "data".into(),
        snapshot: snapshot.into(),
        size: "1Gi".into(),
        storage_class: Some("fast".into()),
        access_modes: vec!["ReadWriteOnce".into()],
        files: 3,
        bytes: 30,
        ..Volume::default()
    };
    let restore = Restore {
        run: &run(uid),
        movers: &movers,
        application: &AppKey { namespace: "shop".into(), name: "shop".into() },
        vault: &vault,
        point: "p1",
        volume: &volume,
        data: Data::Snapshot(&[]),
        seen,
        deadline: 600,
        ahead: uid == "app",
        now: NOW,
    };
    restore.next()
}

/// A volume with the operator's claim of a run.
fn volume(uid: &str, holds: Option<&str>, reclaim: &str) -> VolumeSeen {
    VolumeSeen {
        name: "pv-1".into(),
        reclaim: reclaim.into(),
        claim: Some(("reprise-system".into(), run(uid).derived("data"), Some("own-1".into()))),
        storage_class: Some("fast".into()),
        run: Some(uid.into()),
        annotations: holds.map(|it| (RESTORED_FROM.to_owned(), it.to_owned())).into_iter().collect(),
        resource_version: Some("7".into()),
        ..VolumeSeen::default()
    }
}

fn claim(uid: &str, volume: &str) -> ClaimSeen {
    ClaimSeen { uid: uid.into(), volume: Some(volume.into()), bound: true, ..ClaimSeen::default() }
}

fn succeeded(snapshot: &str) -> JobSeen {
    JobSeen::Succeeded(Box::new(Report { snapshot: Some(snapshot.into()), added_bytes: 12, ..Report::default() }))
}

/// What the application's own run sees.
fn kept(holds: &str, job: Option<JobSeen>) -> Seen {
    let own = Some(claim("own-1", "pv-1"));
    Seen { own, volume: Some(volume("app", Some(holds), "Delete")), job, class_present: true, ..Seen::default() }
}

/// What a failover sees of it.
fn found(holds: &str, job: Option<JobSeen>) -> Seen {
    let Seen { own, volume, job, .. } = kept(holds, job);
    Seen { ahead: Some(Ahead { run: run("app"), volume, own, job }), class_present: true, ..Seen::default() }
}

fn annotations(effects: &[Effect]) -> BTreeMap<String, serde_json::Value> {
    let [Effect::PatchVolume { patch, resource_version: Some(_), .. }] = effects else { panic!("{effects:?}") };
    patch["metadata"]["annotations"].as_object().unwrap().clone().into_iter().collect()
}

/// The snapshots that the mover is told of, if one is started.
fn base(effects: &[Effect]) -> Option<Vec<String>> {
    let job = effects.iter().find_map(|it| match it {
        Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => Some(it),
        _ => None,
    })?;
    let environment = job.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let task = environment.iter().find(|it| it["name"] == "REPRISE_TASK").unwrap();
    let Task::Restore { base, .. } = serde_json::from_str(task["value"].as_str().unwrap()).unwrap() else { panic!() };
    Some(base)
}

#[test]
fn what_a_mover_is_about_to_write_is_written_down_first() {
    let (_, effects) = next(&kept("s1", None), "app", "s2");
    assert_eq!(annotations(&effects)[RESTORED_FROM], "s1,s2");
    assert_eq!(base(&effects), None);
    let (_, effects) = next(&kept("s1,s2", None), "app", "s2");
    assert_eq!(base(&effects), Some(vec!["s1".to_owned()]));
    let (_, effects) = next(&kept("s1,s2", Some(succeeded("s2"))), "app", "s2");
    assert_eq!(
        (&annotations(&effects)[RESTORED_FROM], &annotations(&effects)[TRANSFERRED]),
        (&json!("s2"), &json!("12"))
    );
}

#[test]
fn what_is_not_known_is_no_base_however_many_restores_went_over_it() {
    for holds in ["", "-"] {
        let (_, effects) = next(&kept(holds, None), "app", "s2");
        assert_eq!(annotations(&effects)[RESTORED_FROM], "-,s2");
    }
    assert_eq!(base(&next(&kept("-,s2", None), "app", "s2").1), Some(vec![]));
    let many = Contents::of(&volume("app", Some("s1,s2,s3,s4"), "Delete")).announcing("s5");
    assert_eq!((many.text().as_str(), many.base("s5")), ("-,s5", vec![]), "the list is bounded");
}

#[test]
fn a_volume_that_is_kept_may_go_with_its_claim_and_is_never_handed_over_by_itself() {
    let (step, effects) = next(&kept("s2", Some(succeeded("s2"))), "app", "s2");
    let mover = job_key("reprise-system", &run("app").derived("data"));
    assert_eq!((step, effects), (Step::Going("the mover is tidied away".into()), vec![Effect::Delete(mover)]));
    let mut seen = kept("s2", None);
    let volume = seen.volume.as_mut().unwrap();
    volume.reclaim = "Retain".into();
    volume.annotations.insert(RECLAIM_POLICY.into(), "Delete".into());
    let (_, effects) = next(&seen, "app", "s2");
    let [Effect::PatchVolume { patch, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(patch["spec"], json!({"persistentVolumeReclaimPolicy": "Delete"}));
    assert_eq!(next(&kept("s2", None), "app", "s2"), (Step::Done, vec![]));
}

#[test]
fn a_claim_that_was_made_anew_beside_it_is_told_and_not_touched() {
    let seen = Seen { tenant: Some(claim("t-2", "pv-2")), ..kept("s1", None) };
    let (step, effects) = next(&seen, "app", "s2");
    assert!(matches!(step, Step::Failed(why) if why.contains("pv-2") && why.contains("GitOps")));
    assert_eq!(effects, []);
}

#[test]
fn a_failover_marks_the_volume_before_anything_else_and_makes_it_safe() {
    let (_, effects) = next(&found("s2", None), "run", "s2");
    let [Effect::PatchVolume { patch, resource_version, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(resource_version.as_deref(), Some("7"), "what the application's last pass still does is refused then");
    assert_eq!(patch["metadata"]["labels"]["reprise.dev/run"], "run");
    assert_eq!(patch["spec"], json!({"persistentVolumeReclaimPolicy": "Retain"}));
    let noted = annotations(&effects);
    assert_eq!((&noted[RECLAIM_POLICY], &noted[RESTORED_FROM]), (&json!("Delete"), &json!("s2")));
}

/// What a failover sees once it has marked it.
fn taken(holds: &str, ahead: Option<Ahead>) -> Seen {
    let mut it = volume("app", Some(holds), "Retain");
    it.run = Some("run".into());
    it.annotations.insert(RECLAIM_POLICY.into(), "Delete".into());
    Seen { volume: Some(it), class_present: true, ahead, ..Seen::default() }
}

#[test]
fn nothing_follows_before_the_mover_that_restored_ahead_is_gone() {
    let left = |own, job| Ahead { run: run("app"), volume: None, own, job };
    let running = Some(JobSeen::Running(None));
    for (own, job) in
        [(Some(claim("own-1", "pv-1")), running.clone()), (None, running), (Some(claim("own-1", "pv-1")), None)]
    {
        let (_, effects) = next(&taken("s2", Some(left(own, job))), "run", "s2");
        assert!(effects.iter().all(|it| matches!(it, Effect::Delete(_))) && effects.len() == 2, "{effects:?}");
    }
    let (step, effects) = next(&taken("s2", None), "run", "s2");
    assert_eq!(step, Step::Going("the volume is given to the application".into()));
    let [Effect::PatchVolume { patch, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(patch["spec"]["claimRef"]["namespace"], "shop", "without a mover");
}

#[test]
fn of_another_snapshot_only_the_difference_is_restored() {
    let mut seen = taken("s1,s2", None);
    let volume = seen.volume.as_mut().unwrap();
    volume.claim = Some(("reprise-system".into(), run("run").derived("data"), None));
    let (_, effects) = next(&seen, "run", "s3");
    assert_eq!(annotations(&effects)[RESTORED_FROM], "s1,s2,s3");
    let mut seen = seen.clone();
    seen.volume.as_mut().unwrap().annotations.insert(RESTORED_FROM.into(), "s1,s2,s3".into());
    assert_eq!(base(&next(&seen, "run", "s3").1), Some(vec!["s1".to_owned(), "s2".to_owned()]));
}

#[test]
fn a_mover_that_works_on_the_chosen_snapshot_is_waited_for_and_another_one_is_not() {
    let running = Some(JobSeen::Running(None));
    for holds in ["s1,s2", "-,s2"] {
        assert_eq!(next(&found(holds, running.clone()), "run", "s2").1, [], "{holds}");
        assert_eq!(annotations(&next(&found(holds, running.clone()), "run", "s3").1)[RESTORED_FROM], holds);
        let ended = found(holds, Some(succeeded("s2")));
        assert_eq!(annotations(&next(&ended, "run", "s3").1)[RESTORED_FROM], "s2", "what it said counts");
        let other = found(holds, Some(succeeded("s0")));
        assert_eq!(annotations(&next(&other, "run", "s2").1)[RESTORED_FROM], holds);
    }
}

#[test]
fn what_the_application_has_here_of_its_own_is_taken_instead() {
    let seen = Seen { tenant: Some(claim("t-1", "pv-9")), ..found("s2", None) };
    let (step, effects) = next(&seen, "run", "s2");
    assert_eq!(step, Step::Going("what restored ahead is tidied away".into()));
    assert!(effects.iter().all(|it| matches!(it, Effect::Delete(_))));
}

#[test]
fn a_volume_of_another_size_is_made_anew_and_never_handed_over() {
    let larger = |mut own: ClaimSeen| {
        own.size = Some("500Mi".into());
        Some(own)
    };
    let seen = kept("s2", None);
    let seen = Seen { own: larger(seen.own.clone().unwrap()), ..seen };
    let gone = |effects: &[Effect]| effects.len() == 2 && effects.iter().all(|it| matches!(it, Effect::Delete(_)));
    assert!(gone(&next(&seen, "app", "s2").1));
    let mut seen = found("s2", None);
    let ahead = seen.ahead.as_mut().unwrap();
    ahead.own = larger(ahead.own.clone().unwrap());
    assert!(gone(&next(&seen, "run", "s2").1));
}

#[test]
fn what_was_handed_over_is_no_base_any_more() {
    let mut seen = taken("s2", None);
    seen.volume.as_mut().unwrap().claim = Some(("shop".into(), "data".into(), Some("t-1".into())));
    seen.tenant = Some(claim("t-1", "pv-1"));
    let (_, effects) = next(&seen, "run", "s1");
    assert_eq!(annotations(&effects)[RESTORED_FROM], json!(null));
}
