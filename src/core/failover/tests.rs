//! A failover, step by step and as a whole: driven through a small world, with the operator ended at any moment.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{failover::FailoverSpec, failover::Initiator, vault::VaultSpec},
    core::{
        child::job_key,
        claim::{fixtures, state::Wish},
        condition::{COMPARE_AND_SWAP, READY},
        mover_task::Task,
        point::{Head, Objects, Point, Skipped, Volume},
        recovery_point::JobSeen,
        volume_restore::{ClaimSeen, RESTORED_FROM, VolumeSeen},
        work::{Failure, Outcome, Progress, Work},
    },
};

mod steps;

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);
const ADDRESS: &str = "192.0.2.7";

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn application(status: &Value) -> ProtectedApplication {
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
        "metadata": {"name": "shop", "namespace": "shop", "uid": "app"},
        "spec": {
            "objectives": {"rto": "5m", "rpo": "60s"},
            "regions": [{"name": "east"}, {"name": "west"}],
            "backup": {"vaults": ["main"]},
            "traffic": {"zone": "example", "hostname": "shop.example.com", "target": {"service": "web"}},
            "health": {"probes": [{"name": "web", "http": {"url": "http://shop.example.com/"}}]},
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn vault() -> Vault {
    let spec: VaultSpec =
        serde_json::from_value(json!({"directory": {"claimName": "nfs"}, "encryption": {"secret": {"name": "key"}}}))
            .unwrap();
    let mut vault = Vault::new("main", spec);
    let findings = vec![Finding::new(READY, true, "Opened", ""), Finding::new(COMPARE_AND_SWAP, true, "Passed", "")];
    vault.status.get_or_insert_default().conditions = condition::conditions(&[], findings, None, START);
    vault
}

fn failover(initiator: Initiator) -> Failover {
    let spec = FailoverSpec { application: "shop".into(), to: "west".into(), reason: None, initiator };
    let mut object = Failover::new("shop-000002-00", spec);
    object.metadata.namespace = Some("shop".into());
    object.metadata.uid = Some("run-1".into());
    object.metadata.creation_timestamp = Some(Time(START));
    object
}

fn point(id: &str, snapshot: &str) -> Point {
    Point {
        format: 1,
        id: id.into(),
        namespace: "shop".into(),
        application: "shop".into(),
        epoch: 1,
        region: "east".into(),
        branch: false,
        consistent_at: at(-30),
        created_at: at(-30),
        objects: Objects { manifest: format!("objects of {id}"), count: 5, bytes: 50 },
        volumes: vec![Volume {
            claim: "data".into(),
            snapshot: snapshot.into(),
            size: "1Gi".into(),
            storage_class: None,
            access_modes: vec!["ReadWriteOnce".into()],
            files: 1,
            bytes: 1,
            ..Volume::default()
        }],
        dumps: vec![],
        missing: Vec::new(),
        skipped: vec![Skipped { claim: "cache".into(), size: "1Gi".into(), ..Skipped::default() }],
        suspicious: Vec::new(),
        lock_until: None,
        previous: None,
    }
}

fn view(holder: Option<&str>, epoch: u64, seizable: bool) -> View {
    View { silent_for: if seizable { 80 } else { 0 }, seizable, ..fixtures::view("west", holder, epoch) }
}

/// Points of the other vault have snapshots of their own.
fn is_copy(point: &Point) -> bool {
    point.volumes[0].snapshot.starts_with("copy")
}

/// What lies outside the operator's memory, and how far it got.
#[derive(Clone, Debug, PartialEq)]
struct World {
    holder: Option<&'static str>,
    epoch: u64,
    /// The holder answers, and hands over when it is asked to.
    alive: bool,
    sealed: u64,
    /// The points by age, newest first, and whether the data of each is whole.
    points: Vec<(Point, bool)>,
    running: u32,
    volume: Option<String>,
    /// Whether there is a claim for the volume whose data is not in points.
    cache: bool,
    /// The mover that stands there: its snapshot.
    mover: Option<String>,
    objects: Option<String>,
    dns: Option<(String, u64)>,
    ready: bool,
}

/// The operator at work on one failover.
struct Play {
    world: World,
    object: Failover,
    works: Works,
    second: i64,
    passes: usize,
}

/// What happens to one pass.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    None,
    /// The operator ends after so many effects: no status is written, and its memory is gone.
    Killed(usize),
    /// An effect fails after so many: the rest is not done, the status is written all the same.
    Failed(usize),
    /// The operator ends after the status was written.
    Restarted,
}

impl Play {
    fn new(alive: bool) -> Self {
        let points = vec![(point("p3", "s3"), false), (point("p2", "s2"), true), (point("p1", "s1"), true)];
        let world = World {
            holder: Some("east"),
            epoch: 1,
            alive,
            sealed: 1,
            points,
            running: 2,
            volume: None,
            cache: false,
            mover: None,
            objects: None,
            dns: None,
            ready: false,
        };
        Self { world, object: failover(Initiator::Person), works: Works::new(), second: 0, passes: 0 }
    }

    fn volume_seen(&self) -> volume_restore::Seen {
        let run = Run { namespace: "shop".into(), name: "shop-000002-00".into(), uid: "run-1".into() };
        let mut annotations = BTreeMap::new();
        let bound = |uid: &str| {
            Some(ClaimSeen { uid: uid.into(), volume: Some("pv".into()), bound: true, ..ClaimSeen::default() })
        };
        let volume = |owner: (&str, String, &str), annotations| VolumeSeen {
            name: "pv".into(),
            reclaim: "Retain".into(),
            claim: Some((owner.0.into(), owner.1, Some(owner.2.into()))),
            run: Some("run-1".into()),
            annotations,
            ..VolumeSeen::default()
        };
        match (&self.world.mover, &self.world.volume) {
            (Some(snapshot), _) => {
                let whole = self.world.points.iter().find(|(it, _)| it.volumes[0].snapshot == *snapshot).unwrap().1;
                let job = if whole {
                    JobSeen::Running(None)
                } else {
                    JobSeen::Failed { message: "a pack is gone".into(), at: START, corrupt: true, command: None }
                };
                volume_restore::Seen {
                    own: bound("own"),
                    volume: Some(volume(("reprise", run.derived("data"), "own"), annotations)),
                    job: Some(job),
                    ..volume_restore::Seen::default()
                }
            }
            (None, Some(snapshot)) => {
                annotations.insert(RESTORED_FROM.to_owned(), snapshot.clone());
                volume_restore::Seen {
                    tenant: bound("tenant"),
                    volume: Some(volume(("shop", "data".into(), "tenant"), annotations)),
                    ..volume_restore::Seen::default()
                }
            }
            (None, None) => volume_restore::Seen::default(),
        }
    }

    fn observed(&self) -> Observed {
        let world = &self.world;
        let made = world.mover.as_ref().map(|_| job_key("reprise", "mover")).into_iter().collect();
        Observed {
            region: "west".into(),
            movers: MoverSettings {
                namespace: "reprise".into(),
                image: "reprise".into(),
                pull_policy: "Never".into(),
                service_account: "mover".into(),
                dump_service_account: "dumper".into(),
                direct: false,
                kubelet_root: "/".into(),
                resources: json!({}),
            },
            application: Some(Arc::new(self.application())),
            vault: Some(Arc::new(vault())),
            copies: vec![Arc::new(Vault { metadata: Vault::new("second", vault().spec).metadata, ..vault() })],
            zone: None,
            claim: Some(view(world.holder, world.epoch, world.holder.is_none() || !world.alive && world.epoch == 1)),
            health: None,
            copy: LocalCopy { wanted: world.running, pods: world.running, volumes: 0 },
            volumes: BTreeMap::from([
                ("data".to_owned(), self.volume_seen()),
                (
                    "cache".to_owned(),
                    volume_restore::Seen {
                        tenant: world.cache.then(ClaimSeen::default),
                        ..volume_restore::Seen::default()
                    },
                ),
            ]),
            dumps: BTreeMap::new(),
            not_ready: if world.ready { vec![] } else { vec!["Deployment web: 0 of 1".into()] },
            address: Ok(ADDRESS.into()),
            others: Vec::new(),
            made,
            hindrance: None,
            works: self.works.clone(),
        }
    }

    /// With a copy where there are points of one.
    fn application(&self) -> ProtectedApplication {
        let mut object = application(&json!({"conditions": []}));
        if self.world.points.iter().any(|(it, _)| is_copy(it)) {
            object.spec.backup.copies = serde_json::from_value(json!([{"vault": "second", "every": "6h"}])).unwrap();
        }
        object
    }

    /// Work is done at once; that it is done is seen by the next pass, unless the memory of it is lost.
    fn work(&mut self, work: Work, status: &FailoverStatus) {
        let outcome = match &work {
            Work::SurveyPoints { vault, older_than, .. } => {
                let older = |it: &&Point| older_than.as_ref().is_none_or(|bound| it.id < *bound);
                let copy = vault != "main";
                let mut good =
                    self.world.points.iter().map(|(it, _)| it).filter(|it| copy == is_copy(it)).filter(older);
                Outcome::Surveyed { chosen: good.next().cloned().map(Box::new), passed_over: vec![] }
            }
            Work::SealCatalogue { epoch, .. } => {
                assert_eq!((status.step, status.epoch), (Some(StepName::SealCatalogue), Some(*epoch)));
                assert_eq!((self.world.holder, self.world.epoch), (Some("west"), *epoch), "sealed by the holder only");
                self.world.sealed = *epoch;
                Outcome::Sealed(Head {
                    format: 1,
                    epoch: *epoch,
                    sealed_by: "west".into(),
                    seq: 1,
                    nonce: "n".into(),
                    latest: None,
                    branches: vec![],
                })
            }
            Work::RestoreObjects { manifest, .. } => {
                assert_eq!(status.step, Some(StepName::RestoreObjects));
                assert!(self.world.volume.is_some() && self.world.cache, "volumes come before workloads");
                (self.world.objects, self.world.ready) = (Some(manifest.clone()), true);
                Outcome::ObjectsRestored { restored: 5, not_restored_count: 0, not_restored: vec![], notes: vec![] }
            }
            Work::Ask { .. } => Outcome::Answered(vec![]),
            Work::Publish { publication, .. } => {
                assert_eq!(status.step, Some(StepName::SwitchTraffic), "the intent stands first");
                assert_eq!(status.address.as_deref(), Some(publication.address.as_str()), "the intent stands first");
                assert_eq!(self.world.epoch, publication.epoch);
                self.world.dns = Some((publication.address.clone(), publication.epoch));
                Outcome::Done
            }
            other => panic!("a failover does not {other:?}"),
        };
        self.works.insert(work.name(), Progress::Done { at: at(self.second), work: Box::new(work), outcome });
    }

    fn perform(&mut self, effect: Effect, status: &FailoverStatus) {
        let world = &mut self.world;
        match effect {
            Effect::Begin(work) => self.work(*work, status),
            Effect::Wish { wish: Wish::Seize { epoch, .. }, .. } => {
                assert_eq!(status.epoch, Some(epoch), "the claim is taken only once its epoch stands in the status");
                if epoch == world.epoch + 1 {
                    (world.holder, world.epoch) = (Some("west"), epoch);
                }
            }
            Effect::Wish { wish: Wish::RequestHandover { to, .. }, .. } => {
                assert_eq!((to.as_str(), world.alive), ("west", true));
                world.holder = None;
            }
            Effect::StopWorkloads { .. } => world.running = 0,
            Effect::Apply(object) if object.types.as_ref().unwrap().kind == "Job" => {
                assert_eq!(world.running, 0, "nothing runs while volumes are written");
                let environment = &object.data["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
                let task: Task = serde_json::from_str(environment.as_str().unwrap()).unwrap();
                let Task::Restore { snapshot, .. } = task else { panic!("{task:?}") };
                assert_eq!(status.step, Some(StepName::RestoreVolumes));
                world.mover.get_or_insert(snapshot);
            }
            Effect::Apply(object) if object.metadata.name.as_deref() == Some("cache") => world.cache = true,
            Effect::Delete(key) if key.kind == "Job" => world.mover = None,
            Effect::Wish { wish: Wish::Hold | Wish::Watch, .. }
            | Effect::Announce(_)
            | Effect::Apply(_)
            | Effect::Delete(_) => {}
            other => panic!("a failover does not {other:?}"),
        }
    }

    fn pass(&mut self, mishap: Mishap) {
        self.second += 2;
        self.passes += 1;
        let decision = decide(&self.object, &self.observed(), at(self.second));
        let before = self.object.status.clone().unwrap_or_default();
        let few = match mishap {
            Mishap::Killed(few) | Mishap::Failed(few) => few,
            Mishap::None | Mishap::Restarted => usize::MAX,
        };
        for effect in decision.effects.into_iter().take(few) {
            self.perform(effect, &before);
        }
        match mishap {
            Mishap::None | Mishap::Failed(_) => self.object.status = Some(decision.status),
            Mishap::Killed(_) => self.works.clear(),
            Mishap::Restarted => {
                self.object.status = Some(decision.status);
                self.works.clear();
            }
        }
        // A mover of a whole snapshot ends between two passes.
        if let Some(snapshot) = self.world.mover.clone()
            && self.world.points.iter().any(|(it, whole)| *whole && it.volumes[0].snapshot == snapshot)
        {
            (self.world.volume, self.world.mover) = (Some(snapshot), None);
        }
    }

    fn ended(&self) -> bool {
        self.object.status.as_ref().is_some_and(|it| condition::ended(&it.conditions))
    }

    fn play(&mut self, mishap: impl Fn(usize) -> Mishap) {
        while !self.ended() {
            self.pass(mishap(self.passes));
            assert!(self.passes < 200, "no end: {:#?}", self.object.status);
        }
    }

    fn status(&self) -> &FailoverStatus {
        self.object.status.as_ref().unwrap()
    }

    fn reason(&self) -> &str {
        condition::find(&self.status().conditions, SUCCEEDED).map_or("", |it| it.reason.as_str())
    }
}

fn played(alive: bool) -> Play {
    let mut play = Play::new(alive);
    play.play(|_| Mishap::None);
    play
}

#[test]
fn a_silent_holders_application_is_brought_into_service_from_the_newest_whole_point() {
    let play = played(false);
    let World { holder, epoch, sealed, volume, objects, dns, .. } = &play.world;
    assert_eq!((*holder, *epoch, *sealed), (Some("west"), 2, 2));
    assert_eq!((volume.as_deref(), objects.as_deref()), (Some("s2"), Some("objects of p2")));
    assert_eq!(dns, &Some((ADDRESS.to_owned(), 2)));
    let status = play.status();
    assert_eq!((play.reason(), status.point.as_deref()), ("ObjectivesKept", Some("p2")));
    assert_eq!(status.passed_over, ["p3: volume data: a pack is gone"]);
    assert_eq!(status.steps.iter().map(|it| it.name).collect::<Vec<_>>(), STEPS);
    assert!(status.steps.iter().all(|it| it.finished_at.is_some()));
    assert_eq!(status.rpo_seconds, Some(30));
}

#[test]
fn a_living_holder_is_asked_to_hand_over_and_the_end_is_the_same() {
    assert_eq!(World { alive: false, ..played(true).world }, played(false).world);
}

#[test]
fn an_operator_that_ends_at_any_moment_comes_to_the_same_end() {
    for alive in [false, true] {
        let good = played(alive);
        for pass in 0..good.passes {
            for few in 0..6 {
                for mishap in [Mishap::Killed(few), Mishap::Failed(few), Mishap::Restarted] {
                    let mut play = Play::new(alive);
                    play.play(|it| if it == pass { mishap } else { Mishap::None });
                    assert_eq!(play.world, good.world, "{mishap:?} in pass {pass}");
                    assert_eq!(play.status().point, good.status().point, "{mishap:?} in pass {pass}");
                }
            }
        }
    }
}

#[test]
fn an_operator_that_ends_again_and_again_comes_to_the_same_end() {
    let good = played(false);
    for rhythm in 2..7 {
        for mishap in [Mishap::Killed(1), Mishap::Restarted, Mishap::Failed(0)] {
            // The first passes of a rhythm of two are lost each time the points were to be read.
            let mut play = Play::new(false);
            play.play(|it| if it % rhythm == rhythm - 1 && rhythm > 3 { mishap } else { Mishap::None });
            assert_eq!(play.world, good.world, "{mishap:?} every {rhythm} passes");
        }
    }
}

#[test]
fn a_point_that_was_passed_over_is_never_chosen_again_however_many_are_damaged() {
    let mut play = Play::new(false);
    let damaged = (10..40).rev().map(|it| (point(&format!("p{it}"), &format!("s{it}")), false));
    play.world.points = damaged.chain([(point("p09", "s09"), true)]).collect();
    play.play(|it| if it % 9 == 8 { Mishap::Restarted } else { Mishap::None });
    let status = play.status();
    assert_eq!(status.point.as_deref(), Some("p09"));
    assert_eq!((status.passed_over.len(), status.passed_over[0].split(':').next()), (20, Some("p29")));
}

#[test]
fn a_copy_serves_when_the_first_vault_has_no_point_or_points_with_damaged_data() {
    let copy = (point("p2", "copy of s2"), true);
    let damaged = |it: u32| (point(&format!("p{it}"), &format!("s{it}")), false);
    for points in [vec![], (2..9).rev().map(damaged).collect()] {
        for mishap in [Mishap::None, Mishap::Restarted, Mishap::Killed(1)] {
            let mut play = Play::new(false);
            play.world.points = points.clone();
            play.world.points.push(copy.clone());
            play.play(|it| if it % 7 == 6 { mishap } else { Mishap::None });
            let status = play.status();
            assert_eq!((status.point.as_deref(), status.vault.as_deref()), (Some("p2"), Some("second")));
            assert_eq!(play.world.volume.as_deref(), Some("copy of s2"));
            let why = status.vault_reason.as_ref().unwrap();
            let expected =
                if points.is_empty() { "main: no good point" } else { "main: the data of 3 points is damaged" };
            assert!(why.starts_with(expected), "{why}");
        }
    }
}

#[test]
fn an_end_is_an_end_and_only_tidies_up() {
    let mut play = played(false);
    let before = play.object.status.clone();
    play.world.mover = Some("s2".into());
    let decision = decide(&play.object, &play.observed(), at(9_000));
    assert_eq!(decision.effects, [Effect::Delete(job_key("reprise", "mover"))]);
    assert_eq!(Some(decision.status), before);
}
