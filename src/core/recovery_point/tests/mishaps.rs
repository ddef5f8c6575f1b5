//! Whole runs against a model of the cluster and the vault, in which something goes wrong at any moment.
//!
//! Wherever the operator is ended, before an effect, in its midst, or before its status is written, the run comes to the
//! same end. Whatever is taken away meanwhile, it comes to one; what the status says is what is in the vault, and nothing
//! stands in the cluster any more.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    api::recovery_point::GroupVersion,
    core::{
        child::{CLAIM, GROUP_MARK},
        effect::ObjectKey,
        recovery_point::groups::{GroupClass, GroupSeen},
        work::{Failure, Progress},
    },
};

const DRIVER: &str = "csi.example";

/// How the volumes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One, from its snapshot.
    Snapshot,
    /// One, in place.
    Direct,
    /// Two, from their group snapshot.
    Group,
}

const WAYS: [Way; 3] = [Way::Snapshot, Way::Direct, Way::Group];

/// What one effect was cut off by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// It was not done.
    Before,
    /// It was done; what comes of work is not learnt.
    After,
}

/// What goes wrong in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    None,
    /// The claim is deleted, with its volume.
    ClaimLost,
    /// The snapshot class is deleted.
    ClassGone,
    /// Somebody deletes the snapshot, or that of the group.
    SnapshotGone,
    /// Nobody takes group snapshots any more.
    NoGroups,
    /// The mover fails for good.
    MoverFails,
    /// Somebody deletes the mover, as a node that is drained for good.
    MoverGone,
    /// The `Vault` object is deleted.
    VaultGone,
    /// The application's object is deleted.
    ApplicationGone,
    /// The region loses its claim, and the catalogue is sealed by another.
    Sealed,
    /// The API server takes no more snapshots.
    Quota,
}

const MISHAPS: [Mishap; 11] = [
    Mishap::None,
    Mishap::ClaimLost,
    Mishap::ClassGone,
    Mishap::SnapshotGone,
    Mishap::NoGroups,
    Mishap::MoverFails,
    Mishap::MoverGone,
    Mishap::VaultGone,
    Mishap::ApplicationGone,
    Mishap::Sealed,
    Mishap::Quota,
];

/// The cluster, the vault, and the operator's memory.
struct World {
    object: RecoveryPoint,
    observed: Observed,
    /// What stands in the cluster for the run, and since when.
    made: BTreeMap<(&'static str, String), (ObjectKey, String, i64)>,
    movers: BTreeMap<String, JobSeen>,
    /// Points in the vault, which are written once.
    vault: BTreeMap<String, Point>,
    head: Option<String>,
    sealed: bool,
    quota: bool,
    mover_fails: bool,
    no_groups: Option<i64>,
    /// The claims that have the mark.
    marked: BTreeSet<String>,
    /// How many had it when a group snapshot was asked for.
    found: usize,
    /// How many captures there were: each finds something else.
    captures: u64,
    second: i64,
    effects: usize,
    cuts: Vec<(usize, Cut)>,
}

impl World {
    fn new(cuts: &[(usize, Cut)], way: Way) -> Self {
        let mut observed = observed();
        match way {
            Way::Snapshot => {}
            Way::Direct => {
                observed.snapshot_classes.clear();
                observed.sources[0].mounted_by = None;
            }
            Way::Group => {
                observed.sources.push(source("log"));
                let class = GroupClass { name: "together".into(), version: GroupVersion::V1 };
                observed.groups.classes = BTreeMap::from([(DRIVER.to_owned(), class)]);
            }
        }
        Self {
            object: point(Purpose::Scheduled),
            observed,
            made: BTreeMap::new(),
            movers: BTreeMap::new(),
            vault: BTreeMap::new(),
            head: None,
            sealed: false,
            quota: false,
            mover_fails: false,
            no_groups: None,
            marked: BTreeSet::new(),
            found: 0,
            captures: 0,
            second: 0,
            effects: 0,
            cuts: cuts.to_vec(),
        }
    }

    fn ended(&self) -> bool {
        self.object.status.as_ref().is_some_and(|it| condition::ended(&it.conditions))
    }

    /// As `operator::observe` looks.
    fn look(&mut self) {
        let (second, seen) = (self.second, &mut self.observed);
        let ready = self.made.values().filter(|(key, _, since)| {
            key.kind == "VolumeSnapshot" && key.namespace.as_deref() == Some("shop") && *since < second
        });
        let snapshot = |since: i64| SnapshotSeen {
            handle: Some("h".into()),
            taken_at: Some(at(since)),
            ..SnapshotSeen::default()
        };
        seen.snapshots = ready.map(|(_, claim, since)| (claim.clone(), snapshot(*since))).collect();
        let pod = self.made.values().any(|(key, _, since)| key.kind == "Pod" && *since < second);
        if let Some(source) = seen.sources.first_mut() {
            source.mounted_by = pod.then(|| Mounting { pod_uid: "holder".into(), node: "node-1".into() });
        }
        seen.jobs = self.movers.clone();
        let group = self.made.values().find(|(key, ..)| key.kind == "VolumeGroupSnapshot");
        let done = |since: i64| since < second && self.no_groups.is_none_or(|it| since < it);
        let group = group.map(|(_, _, since)| group_seen(self.found, *since, done(*since)));
        seen.groups.of_run = group.map(|it| (DRIVER.to_owned(), it)).into_iter().collect();
        for it in &mut seen.sources {
            let label = format!("{GROUP_MARK}shop");
            if self.marked.contains(&it.claim) {
                it.labels.insert(label, "run-1".into())
            } else {
                it.labels.remove(&label)
            };
        }
        let ended = self.object.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        seen.made = if ended { self.made.values().map(|it| it.0.clone()).collect() } else { Vec::new() };
        seen.groups.marked = self.marked.iter().filter(|_| ended).map(|it| (it.clone(), None)).collect();
    }

    /// What the cluster and the vault do by themselves in a second.
    fn pass_time(&mut self) {
        self.second += 1;
        for mover in self.movers.values_mut().filter(|it| matches!(it, JobSeen::Running(_))) {
            let failed = JobSeen::Failed { message: "no".into(), at: at(self.second), corrupt: false, command: None };
            *mover = if self.mover_fails { failed } else { stored(0) };
        }
    }

    fn mishap(&mut self, it: Mishap) {
        match it {
            Mishap::None => {}
            Mishap::ClaimLost => self.observed.sources.clear(),
            Mishap::ClassGone => self.observed.snapshot_classes.clear(),
            Mishap::SnapshotGone => {
                self.made.retain(|(kind, _), _| !["VolumeSnapshot", "VolumeGroupSnapshot"].contains(kind));
            }
            Mishap::NoGroups => self.no_groups = Some(self.second),
            Mishap::MoverFails => self.mover_fails = true,
            Mishap::MoverGone => {
                self.made.retain(|(kind, _), _| *kind != "Job");
                self.movers.clear();
            }
            Mishap::VaultGone => self.observed.vault = None,
            Mishap::ApplicationGone => self.observed.application = None,
            Mishap::Sealed => {
                self.observed.claim = Some(view("west"));
                self.sealed = true;
            }
            Mishap::Quota => self.quota = true,
        }
    }

    /// One pass of the shell. The operator may be ended in it, and the next one has no memory.
    fn pass(&mut self) {
        self.look();
        let decision = decide(&self.object, &self.observed, at(self.second));
        for effect in decision.effects {
            if matches!(effect, Effect::Announce(_)) {
                continue;
            }
            self.effects += 1;
            let cut = self.cuts.iter().find(|(number, _)| *number == self.effects).map(|it| it.1);
            if cut != Some(Cut::Before) && !self.perform(effect) {
                break;
            }
            if cut.is_some() {
                self.observed.works.clear();
                return;
            }
        }
        self.object.status = Some(decision.status);
    }

    /// Whether it was done.
    fn perform(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Apply(object) => {
                let types = object.types.clone().unwrap();
                let space = object.metadata.namespace.clone();
                let counted = ["VolumeSnapshot", "VolumeGroupSnapshot"].contains(&types.kind.as_str());
                if self.quota && counted && space.as_deref() == Some("shop") {
                    return false;
                }
                let claim = object.metadata.annotations.as_ref().unwrap()[CLAIM].clone();
                let kinds = [
                    "VolumeSnapshot",
                    "VolumeSnapshotContent",
                    "VolumeGroupSnapshot",
                    "PersistentVolumeClaim",
                    "Pod",
                    "Job",
                ];
                let kind = kinds.into_iter().find(|it| *it == types.kind).expect("a run makes nothing else");
                let name = object.metadata.name.clone().unwrap();
                let key = ObjectKey { api_version: "", kind, namespace: space.clone(), name: name.clone() };
                let id = (kind, format!("{}/{name}", space.unwrap_or_default()));
                if kind == "Job" {
                    self.movers.entry(claim.clone()).or_insert(JobSeen::Running(None));
                }
                if kind == "VolumeGroupSnapshot" {
                    self.found = self.marked.len();
                }
                self.made.entry(id).or_insert((key, claim, self.second));
            }
            Effect::Delete(key) => {
                let id = (key.kind, format!("{}/{}", key.namespace.unwrap_or_default(), key.name));
                self.made.remove(&id).expect("what is deleted was there");
            }
            Effect::LabelClaim { name, value: Some(_), .. } => drop(self.marked.insert(name)),
            Effect::LabelClaim { name, value: None, .. } => drop(self.marked.remove(&name)),
            Effect::Begin(work) => self.carry_out(*work),
            other => panic!("a run does not {other:?}"),
        }
        true
    }

    fn carry_out(&mut self, work: Work) {
        let outcome = match &work {
            Work::Capture { .. } => {
                self.captures += 1;
                let objects = Objects { manifest: format!("m{}", self.captures), count: 7, bytes: 70 };
                Ok(Outcome::Captured { objects, at: at(self.second), failed: vec![], left_out: vec![] })
            }
            Work::CommitPoint { point, .. } => self.commit(point).map(|()| Outcome::Committed { locked_until: None }),
            other => panic!("a run does not {other:?}"),
        };
        let name = work.name();
        let progress = match outcome {
            Ok(outcome) => Progress::Done { at: at(self.second), work: Box::new(work), outcome },
            Err(reason) => {
                let failure = Failure { reason, message: String::new(), lasting: true };
                Progress::Failed { at: at(self.second), times: 1, failure }
            }
        };
        self.observed.works.insert(name, progress);
    }

    /// A point is written once, and entered under its epoch only.
    fn commit(&mut self, point: &Point) -> Result<(), &'static str> {
        if self.vault.entry(point.id.clone()).or_insert_with(|| point.clone()) != point {
            return Err("Exists");
        }
        if point.good() {
            if self.sealed {
                return Err("Sealed");
            }
            self.head = Some(point.id.clone());
        }
        Ok(())
    }

    /// Plays until it ended and nothing more is done. `mishap` happens before the pass of that number.
    fn play(&mut self, mishap: Mishap, before: usize) {
        for number in 0..80 {
            if number == before {
                self.mishap(mishap);
            }
            let (ended, done) = (self.ended(), self.effects);
            self.pass();
            if ended && self.effects == done && number > before {
                return;
            }
            // What goes on for long is looked at less often here than it is.
            self.second += if number > 30 { 100 } else { 0 };
            self.pass_time();
        }
        // What has touched nothing may wait for as long as it takes.
        let begun = self.object.status.as_ref().is_some_and(|it| it.id.is_some());
        assert!(!begun, "it never came to an end: {:?}", self.object.status);
    }

    /// What must hold at each end. The reason that the status gives.
    fn judge(&self, told: &str) -> String {
        assert!(self.made.is_empty(), "{told}: this is left: {:?}", self.made);
        assert!(self.marked.is_empty(), "{told}: these are still marked: {:?}", self.marked);
        let status = self.object.status.as_ref().unwrap();
        let said = condition::find(&status.conditions, SUCCEEDED).unwrap();
        let written = status.id.as_ref().and_then(|id| self.vault.get(id));
        assert!(self.vault.len() <= 1, "{told}: one run makes one point");
        match said.reason.as_str() {
            "Stored" => {
                let point = written.unwrap_or_else(|| panic!("{told}: it is not in the vault"));
                assert!(point.complete() && self.head == status.id, "{told}: {point:?}");
                assert_eq!(point.volumes.len(), status.volumes.len(), "{told}: what is not in the point is not told");
                let told_of = status.objects.as_ref().map(|it| it.manifest.as_str());
                assert_eq!(Some(point.objects.manifest.as_str()), told_of, "{told}");
                assert_eq!(Some(point.consistent_at), status.consistent_at.as_ref().map(|it| it.0), "{told}");
            }
            "Partial" => assert!(written.is_some_and(|it| !it.complete()) && self.head.is_none(), "{told}: {said:?}"),
            "VaultNotReady" => assert!(status.id.is_none() && self.effects == 0, "{told}"),
            // It may be in the vault, but nothing says that it counts.
            "Sealed" | "DeadlineExceeded" | "NoApplication" | "NotActive" => {
                assert!(self.head.is_none() || written.is_some(), "{told}: {said:?}");
            }
            other => panic!("{told}: it ended with {other}: {}", said.message),
        }
        said.reason.clone()
    }
}

/// A group snapshot that found so many volumes, when it is done.
fn group_seen(found: usize, since: i64, done: bool) -> GroupSeen {
    if !done {
        return GroupSeen::default();
    }
    let member = |it: &str| {
        let taken_at = Some(at(since));
        (
            it.to_owned(),
            SnapshotSeen { handle: Some("h".into()), taken_at, instant: taken_at, ..SnapshotSeen::default() },
        )
    };
    let members = ["data", "log"].map(member).into();
    GroupSeen { volumes: Some(found), cut_at: Some(at(since)), ready: true, members, ..GroupSeen::default() }
}

/// Every moment at which the operator can be ended, in a run of at most so many effects.
fn cuts(effects: usize) -> impl Iterator<Item = (usize, Cut)> {
    (1..=effects).flat_map(|number| [(number, Cut::Before), (number, Cut::After)])
}

/// How many effects an undisturbed run has.
fn undisturbed(way: Way) -> usize {
    let mut world = World::new(&[], way);
    world.play(Mishap::None, 0);
    assert_eq!(world.judge("undisturbed"), "Stored");
    world.effects
}

#[test]
fn an_operator_that_is_ended_at_any_two_moments_makes_the_same_point_and_leaves_nothing() {
    for way in WAYS {
        let effects = undisturbed(way);
        assert!(effects >= 6, "{effects}");
        for first in cuts(effects) {
            // With more to do, every other one must do: what is cut before an effect is mostly what is cut after the last.
            let all = |it: &(usize, Cut)| way != Way::Group || it.1 == Cut::Before;
            for second in cuts(effects + 6).filter(|it| it.0 > first.0 && all(it)) {
                let mut world = World::new(&[first, second], way);
                world.play(Mishap::None, 0);
                assert_eq!(world.judge(&format!("{first:?}, {second:?}")), "Stored", "{first:?}, {second:?}");
                let given_up = world.object.status.as_ref().unwrap().groups.iter().any(|it| it.failure.is_some());
                assert!(!given_up, "{way:?}, {first:?}, {second:?}");
            }
        }
    }
}

#[test]
fn whatever_goes_wrong_at_any_moment_a_run_ends_tells_the_truth_and_leaves_nothing() {
    let mut ends = BTreeSet::new();
    for way in WAYS {
        let effects = undisturbed(way);
        for mishap in MISHAPS {
            for before in 0..10 {
                // A group's run has twice as many effects: a third of them must do.
                let some = cuts(effects).filter(|it| way != Way::Group || it.0 % 3 == 0 && it.1 == Cut::Before);
                for cut in std::iter::once(None).chain(some.map(Some)) {
                    let mut world = World::new(cut.as_slice(), way);
                    world.play(mishap, before);
                    let told = format!("{mishap:?} before pass {before}, {cut:?}, {way:?}");
                    let mishap =
                        if way == Way::Group { format!("{mishap:?} of a group") } else { format!("{mishap:?}") };
                    ends.insert((mishap, world.judge(&told)));
                }
            }
        }
    }
    let of = |mishap: &str| -> Vec<&str> { ends.iter().filter(|it| it.0 == mishap).map(|it| it.1.as_str()).collect() };
    // Before, or too late to matter, nothing is in the way.
    assert_eq!(of("None"), ["Stored"]);
    assert_eq!(of("SnapshotGone"), ["Stored"], "another one is taken");
    assert_eq!(of("MoverGone"), ["Stored"], "another one is started");
    assert_eq!(of("ClaimLost"), ["Partial", "Stored"]);
    assert_eq!(of("MoverFails"), ["Partial", "Stored"]);
    assert_eq!(of("Quota"), ["Partial", "Stored"]);
    assert_eq!(of("None of a group"), ["Stored"]);
    assert_eq!(of("NoGroups of a group"), ["Stored"], "they are snapshotted one by one");
    assert_eq!(of("SnapshotGone of a group"), ["Partial", "Stored"], "no other is of the same instant");
    assert_eq!(of("VaultGone"), ["DeadlineExceeded", "Stored", "VaultNotReady"]);
}

#[test]
fn a_volume_whose_claim_goes_when_all_is_read_is_in_the_point_as_it_was() {
    let start = begun(&observed());
    let read = then(&start, Purpose::Scheduled, &read(stored(0), &[]), 10);
    let gone = Observed { sources: vec![], ..super::read(stored(0), &[]) };
    let last = then(&read, Purpose::Scheduled, &gone, 11);
    let [.., Effect::Begin(work)] = last.effects.as_slice() else { panic!("{:?}", last.effects) };
    let Work::CommitPoint { point, .. } = work.as_ref() else { panic!("{work:?}") };
    assert_eq!((point.complete(), point.volumes.len()), (true, 1));
    assert_eq!((point.volumes[0].size.as_str(), point.volumes[0].storage_class.as_deref()), ("1Gi", Some("fast")));
}

#[test]
fn a_clock_that_was_set_back_does_not_put_a_new_point_behind_an_old_one() {
    let ahead = identify(3, "run-0", at(86_400), None);
    let mut seen = observed();
    let application = Arc::make_mut(seen.application.as_mut().unwrap());
    application.status.get_or_insert_default().last_point =
        Some(crate::api::application::LastPoint { id: ahead.clone(), consistent_at: Time(at(86_400)) });
    let id = begun(&seen).status.id.unwrap();
    assert!(id > ahead, "{id} after {ahead}");
    assert!(identify(4, "run-1", at(0), Some(&ahead)) > ahead);
    assert_eq!(identify(4, "run-1", at(0), Some(&ahead)), identify(4, "run-1", at(0), None), "an epoch is enough");
}
