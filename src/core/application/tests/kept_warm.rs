//! A standby that restores each new point ahead of a failover.

use super::*;
use crate::core::{
    application::{run as run_of, warm::WarmSeen},
    child::{claim_key, job_key},
    condition::WARM,
    effect::ObjectKey,
    point::{Objects, Point, Volume},
    volume_restore::{RESTORED_FROM, Seen as VolumeSeenOf, VolumeSeen},
};

fn warm(status: &Value) -> ProtectedApplication {
    let mut object = application(status.clone());
    for region in &mut object.spec.regions {
        region.standby = crate::api::application::Standby::Warm;
    }
    object
}

/// A standby whose copy is stopped and saved, and that knows a newest point.
fn standing_by(newest: &str, warm: &Value) -> Value {
    json!({
        "fence": {"epoch": 1, "since": at(-600).to_string(), "stoppedAt": at(-590).to_string(), "settled": true},
        "lastPoint": {"id": newest, "consistentAt": at(-20).to_string()}, "warm": warm, "conditions": [],
    })
}

fn round(point: &str) -> Value {
    json!({"round": {"point": point, "consistentAt": at(-20).to_string(), "startedAt": at(0).to_string()}})
}

fn point(id: &str, claims: &[&str]) -> Point {
    let volume = |claim: &&str| Volume {
        claim: (*claim).into(),
        snapshot: format!("{claim} of {id}"),
        size: "1Gi".into(),
        storage_class: None,
        access_modes: vec!["ReadWriteOnce".into()],
        files: 1,
        bytes: 1,
        ..Volume::default()
    };
    Point {
        format: 1,
        id: id.into(),
        namespace: "shop".into(),
        application: "shop".into(),
        epoch: 2,
        region: "east".into(),
        branch: false,
        consistent_at: at(-20),
        created_at: at(-10),
        objects: Objects { manifest: String::new(), count: 1, bytes: 1 },
        volumes: claims.iter().map(volume).collect(),
        missing: Vec::new(),
        skipped: Vec::new(),
        dumps: Vec::new(),
        suspicious: Vec::new(),
        lock_until: None,
        previous: None,
    }
}

/// What is seen of a round to this point: volumes that hold what is said.
fn during(point: &Point, holds: &[Option<&str>], made: Vec<ObjectKey>) -> Observed {
    let volume = |holds: &str| VolumeSeen {
        name: "pv".into(),
        reclaim: "Delete".into(),
        run: Some("app".into()),
        annotations: [(RESTORED_FROM, holds), ("reprise.dev/transferred-bytes", "21")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..VolumeSeen::default()
    };
    let seen = |it: Option<&str>| VolumeSeenOf { volume: it.map(volume), ..VolumeSeenOf::default() };
    let volumes = point.volumes.iter().zip(holds).map(|(it, holds)| (it.claim.clone(), seen(*holds))).collect();
    let work = Work::ReadPoint { vault: "main".into(), application: key(), id: point.id.clone() };
    let outcome = Outcome::PointRead(Box::new(point.clone()), None);
    Observed {
        movers: Some(movers()),
        warm: Some(WarmSeen { volumes, made }),
        works: Works::from([done(work, 1, outcome), latest()]),
        ..observed(Some(view(Some("east"), 2)))
    }
}

fn latest() -> (&'static str, Progress) {
    done(Work::ReadLatest { vault: "main".into(), application: key(), known: None }, 1, Outcome::Latest(None))
}

fn idle() -> Observed {
    Observed { works: Works::from([latest()]), ..observed(Some(view(Some("east"), 2))) }
}

fn condition_of(decision: &Decided) -> (String, String) {
    let it = condition::find(&decision.status.conditions, WARM).unwrap();
    (it.status.clone(), it.reason.clone())
}

/// How many movers are started.
fn movers_started(decision: &Decided) -> usize {
    made(decision, "Job").len()
}

#[test]
fn a_new_point_is_written_down_before_anything_is_done_for_it() {
    let first = decide(&warm(&standing_by("p7", &json!(null))), &idle(), at(2));
    assert_eq!(first.status.warm.as_ref().unwrap().round.as_ref().unwrap().point, "p7");
    assert_eq!(begun(&first), [""; 0]);
    let next = decide(&warm(&standing_by("p7", &round("p7"))), &idle(), at(4));
    assert_eq!((begun(&next), condition_of(&next)), (vec!["ReadPoint"], ("False".into(), "FirstRound".into())));
}

#[test]
fn a_round_ends_with_the_point_that_it_was_begun_for_and_the_next_one_skips_to_the_newest() {
    let p7 = point("p7", &["data", "log"]);
    let busy = during(&p7, &[Some("data of p7"), Some("-,log of p7")], vec![]);
    let going = decide(&warm(&standing_by("p9", &round("p7"))), &busy, at(4));
    assert_eq!(going.status.warm.unwrap().round.unwrap().point, "p7");
    let equal = during(&p7, &[Some("data of p7"), Some("log of p7")], vec![]);
    let done = decide(&warm(&standing_by("p9", &round("p7"))), &equal, at(4));
    assert_eq!(condition_of(&done), ("True".into(), "RestoredAhead".into()));
    let status = done.status.warm.clone().unwrap();
    assert_eq!((status.point.as_deref(), status.bytes, &status.round), (Some("p7"), 42, &None));
    assert_eq!(status.full_seconds, Some(4), "all of the data was transferred, for the first time");
    let next = decide(&warm(&serde_json::to_value(&done.status).unwrap()), &idle(), at(6));
    assert_eq!(next.status.warm.unwrap().round.unwrap().point, "p9");
}

#[test]
fn what_a_full_restore_took_is_kept_through_later_rounds_and_one_onto_a_base_is_none() {
    let mut p9 = point("p9", &["data"]);
    let seen = during(&p9, &[Some("data of p9")], vec![]);
    let mut later = round("p9");
    (later["point"], later["bytes"], later["fullSeconds"]) = (json!("p7"), json!(1), json!(300));
    let full = |status: &Value, seen: &Observed| {
        decide(&warm(&standing_by("p9", status)), seen, at(4)).status.warm.unwrap().full_seconds
    };
    assert_eq!(full(&later, &seen), Some(300));
    assert_eq!(full(&round("p9"), &seen), Some(4));
    p9.volumes[0].bytes = 1_000;
    assert_eq!(full(&round("p9"), &during(&p9, &[Some("data of p9")], vec![])), None, "a base was there");
}

#[test]
fn an_idle_standby_does_nothing() {
    let finished =
        json!({"point": "p7", "consistentAt": at(-20).to_string(), "finishedAt": at(0).to_string(), "bytes": 1});
    let decision = decide(&warm(&standing_by("p7", &finished)), &idle(), at(20));
    assert_eq!(
        decision.effects.iter().filter(|it| !matches!(it, Effect::Wish { .. } | Effect::Announce(_))).count(),
        0
    );
    assert_eq!((decision.recheck, condition_of(&decision).0.as_str()), (Some(LOOK), "True"));
}

#[test]
fn only_two_volumes_are_restored_at_a_time() {
    let p7 = point("p7", &["a", "b", "c", "d"]);
    let seen = during(&p7, &[Some("a of p7"), None, None, None], vec![]);
    assert_eq!(movers_started(&decide(&warm(&standing_by("p7", &round("p7"))), &seen, at(4))), 2);
}

#[test]
fn nothing_is_restored_ahead_while_something_runs_here_or_is_not_saved_or_the_claim_is_here() {
    let p7 = point("p7", &["data"]);
    let seen = during(&p7, &[None], vec![]);
    let status = standing_by("p7", &round("p7"));
    assert_eq!(movers_started(&decide(&warm(&status), &seen, at(4))), 1);
    let runs = Observed { copy: LocalCopy { wanted: 1, pods: 1, volumes: 1 }, ..seen.clone() };
    assert_eq!(movers_started(&decide(&warm(&status), &runs, at(4))), 0);
    let mut unsaved = status.clone();
    unsaved["fence"]["settled"] = json!(false);
    let volumes = Observed { copy: LocalCopy { wanted: 0, pods: 0, volumes: 1 }, ..seen.clone() };
    assert_eq!(movers_started(&decide(&warm(&unsaved), &volumes, at(4))), 0);
    let arriving = Observed { claim: Some(view(Some("west"), 3)), ..seen.clone() };
    assert_eq!(movers_started(&decide(&warm(&status), &arriving, at(4))), 0);
    assert_eq!(movers_started(&decide(&application(status), &seen, at(4))), 0, "a cold one");
}

#[test]
fn a_point_that_cannot_be_restored_is_told_and_left_for_a_newer_one() {
    use crate::core::recovery_point::JobSeen;
    let p7 = point("p7", &["data"]);
    let mut seen = during(&p7, &[Some("-,data of p7")], vec![]);
    let volume = seen.warm.as_mut().unwrap().volumes.get_mut("data").unwrap();
    let run = run_of(&key(), "app".into());
    let own = (HOME.to_owned(), run.derived("data"), None);
    volume.volume.as_mut().unwrap().claim = Some(own);
    volume.own = Some(crate::core::volume_restore::ClaimSeen { volume: Some("pv".into()), ..Default::default() });
    volume.job = Some(JobSeen::Failed { message: "pack gone".into(), at: at(1), corrupt: true, command: None });
    let same = decide(&warm(&standing_by("p7", &round("p7"))), &seen, at(4));
    assert_eq!(condition_of(&same), ("False".into(), "Failed".into()));
    assert!(same.status.warm.as_ref().unwrap().round.is_some());
    let newer = decide(&warm(&standing_by("p8", &round("p7"))), &seen, at(4));
    assert_eq!(newer.status.warm.unwrap().round, None);
}

#[test]
fn what_was_restored_for_a_claim_that_is_no_longer_in_the_point_goes() {
    let p7 = point("p7", &["data"]);
    let run = run_of(&key(), "app".into());
    let keys = |claim: &str| vec![claim_key(HOME, &run.derived(claim))];
    let seen = during(&p7, &[Some("data of p7")], [keys("data"), keys("old")].concat());
    let decision = decide(&warm(&standing_by("p7", &round("p7"))), &seen, at(4));
    let deleted: Vec<_> = decision.effects.iter().filter(|it| matches!(it, Effect::Delete(_))).cloned().collect();
    assert_eq!(deleted, [Effect::Delete(keys("old").remove(0))]);
}

#[test]
fn what_is_not_wanted_any_more_is_tidied_away() {
    let left = vec![job_key(HOME, "reprise-1"), claim_key(HOME, "reprise-1")];
    let status = standing_by("p7", &json!({"point": "p7", "bytes": 0}));
    let of = |made: Vec<ObjectKey>| Observed { warm: Some(WarmSeen { made, ..WarmSeen::default() }), ..idle() };
    let going = decide(&application(status.clone()), &of(left.clone()), at(4));
    let deleted: Vec<_> = going.effects.iter().filter(|it| matches!(it, Effect::Delete(_))).cloned().collect();
    assert_eq!(deleted, left.into_iter().map(Effect::Delete).collect::<Vec<_>>());
    assert!(going.status.warm.is_some());
    assert_eq!(decide(&application(status.clone()), &of(vec![]), at(6)).status.warm, None);
    assert!(decide(&application(status), &idle(), at(6)).status.warm.is_some(), "nothing was looked at yet");
}
