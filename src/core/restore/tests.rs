//! A restore, driven through a small world, with the operator ended after any pass; and what keeps it from beginning.

mod cancel;
mod damaged;
mod dumps;
mod elsewhere;
mod export;
mod progress;
mod rehearsed;
mod safety;
mod strict;
mod vaults;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        restore::{PointChoice, RestoreSpec},
        vault::VaultSpec,
    },
    core::{
        child::job_key,
        claim::fixtures,
        point::{Dump, Objects, Point, Skipped, Volume},
        recovery_point::JobSeen,
        volume_restore::{ClaimSeen, RESTORED_FROM, Seen as VolumeSeen, VolumeSeen as Pv},
        work::{Failure, Outcome, Progress, Work},
    },
};

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);
const CHOSEN: &str = "0000000001-01JXXXXXXXXXXXXXXXXXXXXXXX";

fn application() -> ProtectedApplication {
    serde_json::from_value(json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication",
        "metadata": {"name": "shop", "namespace": "shop", "uid": "app"},
        "spec": {"objectives": {"rto": "5m", "rpo": "60s"}, "regions": [{"name": "west"}], "backup": {"vaults": ["main"]}},
        "status": {"role": "Active", "conditions": []},
    }))
    .unwrap()
}

fn copied(application: &ProtectedApplication, vaults: &[String]) -> ProtectedApplication {
    let mut object = application.clone();
    let copies: Vec<_> = vaults.iter().map(|it| json!({"vault": it, "every": "6h"})).collect();
    object.spec.backup.copies = serde_json::from_value(json!(copies)).unwrap();
    object
}

fn restore(spec: &Value) -> Restore {
    let mut all = json!({"application": "shop"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let spec: RestoreSpec = serde_json::from_value(all).unwrap();
    let mut object = Restore::new("back", spec);
    object.metadata.namespace = Some("shop".into());
    object.metadata.uid = Some("run-1".into());
    object
}

fn point((bytes, files): (u64, u64)) -> Point {
    let volume = |claim: &str| Volume {
        claim: claim.into(),
        snapshot: format!("s-{claim}"),
        size: "1Gi".into(),
        storage_class: None,
        access_modes: vec!["ReadWriteOnce".into()],
        files,
        bytes,
        ..Volume::default()
    };
    Point {
        format: 1,
        id: CHOSEN.into(),
        namespace: "shop".into(),
        application: "shop".into(),
        epoch: 1,
        region: "west".into(),
        branch: false,
        consistent_at: START,
        created_at: START,
        objects: Objects { manifest: "m".into(), count: 5, bytes: 50 },
        volumes: vec![volume("data"), volume("log")],
        dumps: Vec::new(),
        missing: Vec::new(),
        skipped: vec![Skipped { claim: "cache".into(), size: "1Gi".into(), ..Skipped::default() }],
        suspicious: vec![],
        lock_until: None,
        previous: None,
    }
}

/// The cluster and the operator's memory.
struct Play {
    object: Restore,
    works: Works,
    epoch: u64,
    points: Vec<Arc<RecoveryPoint>>,
    safe: bool,
    running: u32,
    /// Which volumes a mover was started for: they are as in the point from then on.
    filled: Vec<String>,
    not_restored: Vec<String>,
    /// A vault without points.
    empty: String,
    /// The vaults that were asked for a point, in order.
    asked: Vec<String>,
    /// Vaults that points are copied into.
    copies: Vec<String>,
    /// What movers told in their logs.
    told: BTreeMap<String, MoverProgress>,
    /// Volumes that a mover writes to, and does not finish.
    slow: Vec<String>,
    /// The bytes and files of each volume.
    size: (u64, u64),
    /// The points in the vault that are good, newest first.
    good: Vec<String>,
    /// What stands on volumes that are done, if it is not the snapshot.
    marks: Option<String>,
    /// What stands before the snapshot on volumes that are done.
    mark: &'static str,
    /// Of which point the mover of `log` finds the data damaged.
    damaged: Option<String>,
    /// Dumps in the points.
    dumps: Vec<Dump>,
    /// What dumps would be loaded in, and the movers that load them.
    pods: BTreeMap<String, dump_load::Seen>,
    /// What was found of an export into a vault.
    export: vault_export::Seen,
    /// The application that is seen.
    application: Option<ProtectedApplication>,
    /// Applications that are protected where the restore is.
    protected: Vec<String>,
    /// The namespace of a rehearsal.
    stage: rehearsal::Stage,
    /// What is not ready.
    not_ready: Vec<String>,
    /// What probes answer.
    bad: Vec<String>,
    /// What goes on besides.
    others: Vec<String>,
    second: i64,
    /// All work that was begun.
    begun: Vec<Work>,
    /// What was done, in order.
    done: Vec<String>,
    /// How many effects were wanted so far.
    effects: usize,
    /// The operator is ended at the effect of that number: before it, or after it.
    cut: Option<(usize, bool)>,
}

impl Play {
    fn new(spec: &Value) -> Self {
        Self {
            object: restore(spec),
            works: Works::new(),
            epoch: 1,
            points: Vec::new(),
            safe: true,
            running: 2,
            filled: Vec::new(),
            not_restored: Vec::new(),
            empty: String::new(),
            asked: Vec::new(),
            copies: Vec::new(),
            told: BTreeMap::new(),
            slow: Vec::new(),
            size: (1, 1),
            good: vec![CHOSEN.into()],
            marks: None,
            mark: "",
            damaged: None,
            dumps: Vec::new(),
            pods: BTreeMap::new(),
            export: vault_export::Seen::default(),
            application: Some(application()),
            protected: Vec::new(),
            stage: rehearsal::Stage::default(),
            not_ready: Vec::new(),
            bad: Vec::new(),
            others: Vec::new(),
            second: 0,
            begun: Vec::new(),
            done: Vec::new(),
            effects: 0,
            cut: None,
        }
    }

    fn observed(&self) -> Observed {
        let spec: VaultSpec = serde_json::from_value(
            json!({"directory": {"claimName": "nfs"}, "encryption": {"secret": {"name": "key"}}}),
        )
        .unwrap();
        let tenant = |claim: &String| {
            let whole = !self.slow.contains(claim);
            let volume = Pv {
                name: "pv".into(),
                reclaim: "Delete".into(),
                claim: Some((run(&self.object).namespace, claim.clone(), Some("t".into()))),
                run: Some("run-1".into()),
                annotations: whole
                    .then(|| {
                        (
                            RESTORED_FROM.to_owned(),
                            self.marks.clone().unwrap_or_else(|| format!("{}s-{claim}", self.mark)),
                        )
                    })
                    .into_iter()
                    .collect(),
                ..Pv::default()
            };
            let bound = ClaimSeen { uid: "t".into(), volume: Some("pv".into()), bound: true, ..ClaimSeen::default() };
            (claim.clone(), VolumeSeen { tenant: Some(bound), volume: Some(volume), ..VolumeSeen::default() })
        };
        Observed {
            region: "west".into(),
            movers: MoverSettings {
                namespace: "reprise".into(),
                image: "i".into(),
                pull_policy: "Never".into(),
                service_account: "m".into(),
                dump_service_account: "d".into(),
                direct: true,
                kubelet_root: "/k".into(),
                resources: json!({}),
            },
            application: self.application.as_ref().map(|it| Arc::new(copied(it, &self.copies))),
            protected: self.protected.clone(),
            vault: Some(Arc::new(Vault::new("main", spec))),
            claim: Some(fixtures::view("west", Some("west"), self.epoch)),
            points: self.points.clone(),
            others: self.others.clone(),
            copy: LocalCopy { wanted: self.running, ..LocalCopy::default() },
            volumes: self.filled.iter().map(|it| self.broken(it).unwrap_or_else(|| tenant(it))).collect(),
            told: self.told.clone(),
            objects_done: None,
            dumps: self.pods.clone(),
            export: self.export.clone(),
            not_ready: self.not_ready.clone(),
            stage: self.stage.clone(),
            made: self.broken("log").map(|_| job_key("reprise", "mover")).into_iter().collect(),
            works: self.works.clone(),
            hindrance: None,
        }
    }

    /// A volume whose mover found its data damaged.
    fn broken(&self, claim: &str) -> Option<(String, VolumeSeen)> {
        let point = self.object.status.as_ref().and_then(|it| it.point.clone());
        let here = claim == "log" && self.filled.iter().any(|it| it == "log");
        (here && self.damaged.is_some() && self.damaged == point).then(|| {
            let name = Run { namespace: "shop".into(), name: "back".into(), uid: "run-1".into() }.derived("log");
            let volume = Pv {
                name: "pv".into(),
                reclaim: "Retain".into(),
                claim: Some(("reprise".into(), name, None)),
                run: Some("run-1".into()),
                ..Pv::default()
            };
            let own = ClaimSeen { volume: Some("pv".into()), bound: true, ..ClaimSeen::default() };
            let job = JobSeen::Failed { message: "pack gone".into(), at: START, corrupt: true, command: None };
            let seen = VolumeSeen { own: Some(own), volume: Some(volume), job: Some(job), ..VolumeSeen::default() };
            ("log".to_owned(), seen)
        })
    }

    /// One pass: decided, performed, written down.
    fn pass(&mut self) {
        self.second += 1;
        let decision = decide(&self.object, &self.observed(), START + jiff::SignedDuration::from_secs(self.second));
        for effect in decision.effects {
            self.effects += 1;
            let cut = self.cut.filter(|it| it.0 == self.effects).map(|it| it.1);
            if cut != Some(false) {
                self.perform(effect);
            }
            if cut.is_some() {
                // Nothing is written down, and nothing remembered.
                self.works.clear();
                return;
            }
        }
        self.object.status = Some(decision.status);
    }

    fn found(&self, vault: &str, choice: &PointChoice, older_than: Option<&String>) -> Outcome {
        let wanted = |it: &&String| match &choice.name {
            Some(name) => *it == name,
            None => older_than.is_none_or(|older| *it < older),
        };
        let good = if *vault == self.empty { &[][..] } else { &self.good };
        let chosen = good
            .iter()
            .find(wanted)
            .map(|id| Box::new(Point { id: id.clone(), dumps: self.dumps.clone(), ..point(self.size) }));
        Outcome::Surveyed { chosen, passed_over: vec![] }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::StopWorkloads { .. } => {
                self.running = 0;
                self.done.push("stop".into());
            }
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "RecoveryPoint" => {
                let mut made: RecoveryPoint = serde_json::from_value(serde_json::to_value(&*it).unwrap()).unwrap();
                let conditions = condition::conditions(
                    &[],
                    vec![Finding::new(SUCCEEDED, self.safe, if self.safe { "Stored" } else { "Partial" }, "")],
                    None,
                    START,
                );
                made.status.get_or_insert_default().conditions = conditions;
                made.status.get_or_insert_default().id = Some("safe".into());
                self.points.push(Arc::new(made));
                self.done.push("save".into());
            }
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => {
                let claim = it.metadata.annotations.as_ref().unwrap()[crate::core::child::CLAIM].clone();
                if claim.contains('/') {
                    return self.done.push(claim);
                }
                assert_eq!(self.running, 0, "nothing writes into a volume that is in use");
                self.done.push(format!("fill {claim}"));
                self.filled.push(claim);
            }
            Effect::Apply(it) if it.metadata.name.as_deref() == Some("cache") => {
                self.done.push("make cache".into());
                self.filled.push("cache".into());
            }
            Effect::Begin(work) => {
                self.begun.push(work.as_ref().clone());
                let outcome = self.outcome(&work);
                self.works.insert(work.name(), Progress::Done { at: START, work, outcome });
            }
            Effect::Delete(key) if key.kind == "Job" => {
                self.done.push("end log".into());
                self.filled.retain(|it| it != "log");
            }
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Namespace" => {
                self.done.push("make namespace".into());
                self.stage.space = Some(rehearsal::Space { ours: true, going: false, closed: false });
            }
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "NetworkPolicy" => {
                self.stage.space.as_mut().unwrap().closed = true;
            }
            Effect::Delete(key) if key.kind == "Namespace" => {
                assert_eq!(key.name, run(&self.object).namespace);
                self.done.push("delete namespace".into());
                (self.stage.space, self.stage.volumes) = (None, Vec::new());
            }
            Effect::PatchVolume { name, patch, .. } if self.stage.volumes.iter().any(|it| it.name == name) => {
                assert_eq!(patch["spec"]["persistentVolumeReclaimPolicy"], "Delete");
                self.done.push(format!("let go of {name}"));
            }
            Effect::Apply(_) | Effect::Delete(_) | Effect::PatchVolume { .. } | Effect::Announce(_) => {}
            Effect::Wish { .. } => panic!("a restore wants nothing of the claim"),
            Effect::LabelClaim { .. } => panic!("a restore labels no claim"),
        }
    }

    /// What comes of a piece of work.
    fn outcome(&mut self, work: &Work) -> Outcome {
        match work {
            Work::FindPoint { vault, choice, older_than, .. } => {
                self.asked.push(vault.clone());
                self.found(vault, choice, older_than.as_ref())
            }
            Work::RestoreObjects { only, .. } => {
                self.done.push(format!("objects {}", only.len()));
                Outcome::ObjectsRestored {
                    restored: 5,
                    not_restored_count: self.not_restored.len() as u64,
                    not_restored: self.not_restored.clone(),
                    notes: Vec::new(),
                }
            }
            Work::PlanObjects { only, .. } => Outcome::ObjectsPlanned {
                created: 1,
                updated: 2,
                unchanged: 3 + only.len() as u64,
                changes: vec!["ConfigMap web: would be made".into(); 120],
                not_restored: vec!["Secret a: exists".into()],
            },
            Work::StartWorkloads { .. } => {
                self.done.push("start".into());
                self.running = 2;
                Outcome::Done
            }
            Work::Ask { probes, at } => {
                let asked: Vec<_> = probes.iter().filter_map(|it| Some(it.http.as_ref()?.url.clone())).collect();
                self.done.push(format!("ask {} at {}", asked.join(" "), at.as_ref().unwrap().1));
                Outcome::Answered(self.bad.clone())
            }
            Work::NoteRehearsal { point, seconds, .. } => {
                self.done.push(format!("note {point} {seconds}"));
                Outcome::Done
            }
            other => panic!("{other:?}"),
        }
    }

    /// Until it ends; the operator's memory is lost before the passes that fit.
    fn played_out(&mut self, restarts: impl Fn(i64) -> bool) -> (String, String) {
        for _ in 0..200 {
            if restarts(self.second) {
                self.works.clear();
            }
            self.pass();
            let conditions = self.object.status.as_ref().map_or(&[][..], |it| &it.conditions);
            if condition::ended(conditions) {
                let it = condition::find(conditions, SUCCEEDED).unwrap();
                return (it.reason.clone(), it.message.clone());
            }
        }
        panic!("it never ended: {:?}", self.object.status)
    }

    fn until(&mut self, step: RestoreStepName) {
        while self.object.status.as_ref().and_then(|it| it.step) != Some(step) {
            self.pass();
        }
    }
}

#[test]
fn everything_comes_back_in_order_whenever_the_operator_restarts() {
    let order = ["save", "stop", "fill data", "fill log", "make cache", "objects 0", "start"];
    for every in 4..12 {
        let mut play = Play::new(&json!({}));
        assert_eq!(play.played_out(|second| second % every == every - 1).0, "Restored", "every {every}");
        play.done.dedup();
        assert_eq!(play.done, order, "every {every}");
        let status = play.object.status.unwrap();
        assert_eq!((status.point.as_deref(), status.safety_point_id.as_deref()), (Some(CHOSEN), Some("safe")));
        assert!(status.steps.len() == STEPS.len() && status.steps.iter().all(|it| it.finished_at.is_some()));
    }
}

#[test]
fn an_operator_that_is_ended_at_any_effect_restores_the_same() {
    let mut whole = Play::new(&json!({}));
    assert_eq!(whole.played_out(|_| false).0, "Restored");
    for number in 1..=whole.effects {
        for done in [false, true] {
            let mut play = Play::new(&json!({}));
            play.cut = Some((number, done));
            let (reason, message) = play.played_out(|_| false);
            assert_eq!(reason, "Restored", "{number}, {done}: {message}");
            play.done.dedup();
            assert_eq!(play.done, whole.done, "{number}, {done}");
            assert_eq!((play.running, play.points.len()), (2, 1), "{number}, {done}");
        }
    }
}

#[test]
fn only_what_is_named_is_touched() {
    let mut play = Play::new(&json!({"only": {"volumes": [{"claim": "log"}]}}));
    play.played_out(|_| false);
    assert_eq!(play.done, ["save", "stop", "fill log", "objects 1", "start"], "the claim becomes what it was");
    let claim = play.begun.iter().find_map(|it| match it {
        Work::RestoreObjects { only, .. } => Some((only[0].kind.as_deref(), only[0].name.as_deref())),
        _ => None,
    });
    assert_eq!(claim, Some((Some("PersistentVolumeClaim"), Some("log"))));
    let mut play = Play::new(&json!({"only": {"objects": [{"kind": "ConfigMap", "name": "web"}]}}));
    play.played_out(|_| false);
    assert_eq!(play.done, ["save", "objects 1", "start"], "nothing is stopped for an object");
    let mut play = Play::new(&json!({"only": {"volumes": [{"claim": "lgo"}]}}));
    let (reason, message) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), play.done.len()), ("NoSuchVolume", 0));
    assert!(message.contains("spec.only.volumes: lgo") && message.contains("data, log"), "{message}");
}

#[test]
fn a_dry_run_tells_what_would_be_changed_and_changes_nothing() {
    let mut play = Play::new(&json!({"dryRun": true}));
    let (reason, message) = play.played_out(|second| second == 5);
    assert_eq!((reason.as_str(), play.done.len(), play.running), ("Planned", 0, 2), "{message}");
    let status = play.object.status.unwrap();
    let told = status.plan.unwrap();
    assert_eq!((told.created, told.updated, told.unchanged, told.changes.len()), (1, 2, 3, 100));
    let volumes: Vec<_> = told.volumes.iter().map(|it| (it.claim.as_str(), it.snapshot.as_str(), it.bytes)).collect();
    assert_eq!(volumes, [("data", "s-data", 1), ("log", "s-log", 1)]);
    assert_eq!((status.safety_point, status.not_restored.len()), (None, 1));
    let mut play = Play::new(&json!({"dryRun": true, "only": {"volumes": [{"claim": "log"}]}}));
    play.played_out(|_| false);
    let told = play.object.status.unwrap().plan.unwrap();
    assert_eq!((told.volumes.len(), told.unchanged), (1, 0), "no object was named");
    assert!(!play.works.contains_key("PlanObjects"));
}

#[test]
fn objects_that_are_not_as_in_the_point_are_no_success() {
    let mut play = Play::new(&json!({}));
    play.not_restored = vec!["Secret a: exists".into()];
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "NotAllRestored");
    assert!(message.contains("1 objects"), "{message}");
}

#[test]
fn it_begins_only_where_the_application_is_served_and_nothing_else_goes_on() {
    let mut play = Play::new(&json!({}));
    play.pass();
    let mut seen = play.observed();
    seen.others = vec!["Failover move".into()];
    let waits = decide(&play.object, &seen, START);
    assert_eq!(waits.status.step, Some(RestoreStepName::Check));
    assert!(waits.status.conditions[0].message.contains("Failover move goes on"));
    let mut standby = application();
    standby.status.as_mut().unwrap().role = Some(crate::api::application::Role::Standby);
    let mut seen = play.observed();
    seen.application = Some(Arc::new(standby));
    seen.claim = Some(fixtures::view("west", Some("east"), 1));
    let refused = decide(&play.object, &seen, START);
    assert_eq!(refused.status.conditions[0].reason, "NotActive");
    assert!(refused.status.conditions[0].message.contains("east holds the claim"));
}

#[test]
fn another_epoch_ends_it_before_anything_more_is_written() {
    let mut play = Play::new(&json!({}));
    play.until(RestoreStepName::RestoreVolumes);
    play.epoch = 2;
    let done = play.done.clone();
    let (reason, message) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), &play.done), ("LostClaim", &done));
    assert!(message.contains("stays stopped") && message.contains("recovery point safe"), "{message}");
}

#[test]
fn a_point_that_is_being_made_is_waited_for_before_anything_stops() {
    let mut play = Play::new(&json!({"safetyPoint": "Skip"}));
    let mut going = RecoveryPoint::new("shop-000007", serde_json::from_value(json!({"application": "shop"})).unwrap());
    going.status.get_or_insert_default().id = Some("p".into());
    play.points.push(Arc::new(going));
    for _ in 0..20 {
        play.pass();
    }
    assert_eq!(play.object.status.as_ref().unwrap().step, Some(RestoreStepName::Stop));
    assert_eq!(play.running, 2);
    play.points.clear();
    assert_eq!(play.played_out(|_| false).0, "Restored");
}

#[test]
fn what_fails_for_good_ends_it_and_says_what_is_left() {
    let mut play = Play::new(&json!({}));
    play.until(RestoreStepName::ChoosePoint);
    let failure = Failure { reason: "Absent", message: "no such point".into(), lasting: true };
    play.works.insert("FindPoint", Progress::Failed { at: START, times: 1, failure });
    let (reason, message) = play.played_out(|_| false);
    assert_eq!((reason.as_str(), message.as_str()), ("Absent", "no such point: nothing was changed"));
}
