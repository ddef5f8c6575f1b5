//! Volumes whose snapshots are taken together: one `VolumeGroupSnapshot` for those of one driver, where the cluster has
//! a class for that. Its members are read as any other snapshot is (`volumes`).
//!
//! A group snapshot that is not taken costs no protection: its volumes are snapshotted one by one then, as they are where
//! there are no group snapshots, and the point says so, and how far apart they are.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{Observed, Pass, SnapshotSeen, hooks, method, volumes};
use crate::{
    api::recovery_point::{GroupInPoint, GroupVersion, RecoveryPointStatus, VolumeInPoint},
    core::{
        child::{GROUP_MARK, content_key, group_content_key, group_key},
        effect::Effect,
    },
};

/// How long a group snapshot may take until its driver has taken it; and its members, then, to be known as such.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// How long none is tried after one was not taken: with each the points of a short RPO would be late.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// What is seen of group snapshots.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The `VolumeGroupSnapshotClass` of each CSI driver, when a run begins.
    pub classes: BTreeMap<String, GroupClass>,
    /// One of an earlier run that was deleted, and has not gone for minutes, when a run begins.
    pub stuck: Option<String>,
    /// When points of this application had one last that was not taken, and why, by driver.
    pub failed: BTreeMap<String, (Timestamp, String)>,
    /// Those of this run, by driver.
    pub of_run: BTreeMap<String, GroupSeen>,
    /// The claims that this run has marked, each with its resource version, when it has ended.
    pub marked: Vec<(String, Option<String>)>,
}

/// A `VolumeGroupSnapshotClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupClass {
    /// Its name.
    pub name: String,
    /// The newest version of its API that is served.
    pub version: GroupVersion,
}

/// A `VolumeGroupSnapshot` of this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSeen {
    /// How many volumes it has found, once it has: from then on their labels do not matter.
    pub volumes: Option<usize>,
    /// The instant of its data, to the second. Its snapshots may be seen seconds later.
    pub cut_at: Option<Timestamp>,
    /// Whether all of its snapshots are there, and ready to be used.
    pub ready: bool,
    /// What the driver says is wrong.
    pub error: Option<String>,
    /// The `VolumeGroupSnapshotContent` behind it, when that would outlive it, as its class says.
    pub retained: Option<String>,
    /// Its snapshots, by claim.
    pub members: BTreeMap<String, SnapshotSeen>,
}

impl Observed {
    /// What is wrong with the group snapshot that a volume is in.
    pub(super) fn group_error(&self, groups: &[GroupInPoint], claim: &str) -> Option<String> {
        let group = groups.iter().find(|it| it.failure.is_none() && has(it, claim))?;
        self.groups.of_run.get(&group.driver)?.error.clone()
    }

    /// The snapshot that a volume is read from: a member of its group, or its own.
    pub(super) fn snapshot(&self, groups: &[GroupInPoint], claim: &str) -> Option<&SnapshotSeen> {
        match groups.iter().find(|it| it.failure.is_none() && has(it, claim)) {
            Some(group) => self.groups.of_run.get(&group.driver)?.members.get(claim),
            None => self.snapshots.get(claim),
        }
    }
}

/// When a group was taken, of all of its volumes that are still to be read.
pub(super) fn taken_at(group: &GroupInPoint, volumes: &[VolumeInPoint], seen: &Observed) -> Option<Timestamp> {
    let group_seen = seen.groups.of_run.get(&group.driver)?;
    (group_seen.volumes? >= open(group, volumes).count()).then_some(group_seen.cut_at?)
}

fn open<'a>(group: &'a GroupInPoint, volumes: &'a [VolumeInPoint]) -> impl Iterator<Item = &'a VolumeInPoint> {
    volumes.iter().filter(|it| has(group, &it.claim) && !volumes::settled(it))
}

impl Pass<'_> {
    /// Which volumes are snapshotted together. Of those that are not, though their driver has more than one, it is said
    /// why.
    pub(super) fn grouped(&self, volumes: &mut [VolumeInPoint]) -> Vec<GroupInPoint> {
        let mut by_driver: BTreeMap<&str, Vec<&mut VolumeInPoint>> = BTreeMap::new();
        for volume in volumes.iter_mut().filter(|it| method::is_snapshot(it) && !volumes::settled(it)) {
            let source = self.seen.sources.iter().find(|it| it.claim == volume.claim);
            if let Some(driver) = source.and_then(|it| it.driver.as_deref()) {
                by_driver.entry(driver).or_default().push(volume);
            }
        }
        by_driver.retain(|_, of| of.len() > 1);
        let mut groups = Vec::new();
        for (driver, mut of) in by_driver {
            let class = self.group_class(driver);
            let grouping = match &class {
                Ok(class) => format!("Group (of {}, by VolumeGroupSnapshotClass {})", of.len(), class.name),
                Err(why) => alone(why),
            };
            for volume in &mut of {
                volume.grouping = Some(grouping.clone());
            }
            if let Ok(class) = class {
                groups.push(GroupInPoint {
                    driver: driver.to_owned(),
                    class: class.name.clone(),
                    version: class.version,
                    claims: of.iter().map(|it| it.claim.clone()).collect(),
                    asked_at: None,
                    taken_at: None,
                    failure: None,
                });
            }
        }
        groups
    }

    /// By which class a driver's volumes are snapshotted together, or why they are not.
    fn group_class(&self, driver: &str) -> Result<&GroupClass, String> {
        let groups = &self.seen.groups;
        let class = groups.classes.get(driver);
        let class = class.ok_or_else(|| format!("there is no VolumeGroupSnapshotClass for {driver}"))?;
        if let Some(stuck) = &groups.stuck {
            return Err(format!(
                "VolumeGroupSnapshot {stuck} was deleted and does not go: see its driver's csi-snapshotter"
            ));
        }
        match groups.failed.get(driver) {
            Some((at, why)) if self.now < *at + AGAIN => {
                Err(format!("the group snapshot at {at} was not taken, and none is tried for an hour: {why}"))
            }
            Some(_) | None => Ok(class),
        }
    }

    /// The groups as they were written down: what is done next goes by these.
    pub(super) fn groups(&self) -> &[GroupInPoint] {
        self.point.status.as_ref().map_or(&[], |it| &it.groups)
    }

    /// The group snapshot that a volume is read from.
    pub(super) fn group_of(&self, claim: &str) -> Option<&GroupInPoint> {
        self.groups().iter().find(|it| has(it, claim) && it.failure.is_none())
    }

    /// Why a volume that is read from a group snapshot which was taken can't be. Another snapshot would be of another
    /// instant than those of the group that are copied already.
    pub(super) fn torn(&self, group: &GroupInPoint, claim: &str) -> Option<&'static str> {
        match self.seen.groups.of_run.get(&group.driver) {
            Some(seen) => {
                let whole = seen.ready && group.taken_at.as_ref().is_some_and(|it| self.now >= it.0 + PATIENCE);
                (whole && !seen.members.contains_key(claim)).then_some("its group snapshot has no snapshot of it")
            }
            None => Some("its group snapshot was deleted before it was read"),
        }
    }

    /// Whether a volume waits for its group snapshot.
    pub(super) fn awaits_group(&self, claim: &str) -> bool {
        self.group_of(claim).is_some_and(|it| it.taken_at.is_none())
    }

    /// The next step of each group.
    pub(super) fn advance_groups(&self, status: &mut RecoveryPointStatus) -> Vec<Vec<Effect>> {
        let held_until = status.hooks.as_ref().and_then(hooks::held_until);
        let mut steps = Vec::new();
        for group in &mut status.groups {
            let seen = self.seen.groups.of_run.get(&group.driver);
            let mut step = seen.map_or_else(Vec::new, |it| self.let_go(group, it));
            if group.failure.is_none() && group.taken_at.is_none() {
                self.take(group, seen, &mut status.volumes, held_until, &mut step);
            }
            steps.push(step);
        }
        steps.push(self.unmark());
        steps
    }

    fn take(
        &self,
        group: &mut GroupInPoint,
        seen: Option<&GroupSeen>,
        all: &mut [VolumeInPoint],
        held_until: Option<Timestamp>,
        step: &mut Vec<Effect>,
    ) {
        let claims: Vec<_> = open(group, all).map(|it| it.claim.clone()).collect();
        group.taken_at = taken_at(group, all, self.seen).map(Time);
        if group.taken_at.is_some() || claims.is_empty() {
            return;
        }
        // Of a clock that was set back since, it is the time now.
        let asked_at = group.asked_at.as_ref().map_or(self.now, |it| it.0.min(self.now));
        group.asked_at = Some(Time(asked_at));
        // An application that is held has its volumes snapshotted one by one in the other half of its time.
        let patience = held_until.map_or(PATIENCE, |it| PATIENCE.min(it.duration_since(asked_at) / 2));
        if self.now >= asked_at + patience {
            let why = format!("not taken after {} s: {}", patience.as_secs(), self.group_waits_for(seen));
            let grouping = alone(&format!("the group snapshot was {why}"));
            for volume in all.iter_mut().filter(|it| has(group, &it.claim)) {
                volume.grouping = Some(grouping.clone());
            }
            let note = format!("the group snapshot of {} by {} was {why}", group.claims.join(", "), group.driver);
            step.push(Effect::warn("GroupSnapshotFailed", format!("{note}. The volumes are snapshotted one by one")));
            group.failure = Some(why);
        } else if seen.is_none() {
            step.extend(self.ask(group, &claims));
        }
    }

    /// Marks the claims, and asks for the group snapshot: it takes those that have the mark when it is looked at first.
    fn ask(&self, group: &GroupInPoint, claims: &[String]) -> Vec<Effect> {
        let (label, made_for) = (self.mark(), made_for(&group.driver));
        // Another for each driver: no group snapshot can have volumes of two.
        let name = self.run.derived(&made_for);
        let sources = self.seen.sources.iter().filter(|it| claims.contains(&it.claim));
        let marks = sources.filter(|it| it.labels.get(&label) != Some(&name)).map(|it| Effect::LabelClaim {
            namespace: self.run.namespace.clone(),
            name: it.claim.clone(),
            label: label.clone(),
            value: Some(name.clone()),
            resource_version: None,
        });
        let key = group_key(group.version, &self.run.namespace, &name);
        let spec = json!({
            "volumeGroupSnapshotClassName": group.class,
            "source": {"selector": {"matchLabels": {&label: &name}}},
        });
        let ask = self.in_tenants_namespace(&key, &made_for, &spec);
        marks.chain([ask]).collect()
    }

    /// Takes away marks that stand for nothing: the group snapshot has found its volumes, or was given up; or a run of
    /// this application was deleted meanwhile.
    fn unmark(&self) -> Vec<Effect> {
        let label = self.mark();
        let asked = |claim: &str| {
            let group = self.group_of(claim).filter(|it| it.taken_at.is_none());
            group.is_some_and(|it| self.seen.groups.of_run.get(&it.driver).is_none_or(|it| it.volumes.is_none()))
        };
        let marked = self.seen.sources.iter().filter(|it| it.labels.contains_key(&label) && !asked(&it.claim));
        marked.map(|it| unmarked(&self.run.namespace, &it.claim, &label, it.resource_version.clone())).collect()
    }

    fn mark(&self) -> String {
        mark(&self.point.spec.application)
    }

    /// Their class means group snapshots that people make. This one is the run's, and goes with it.
    fn let_go(&self, group: &GroupInPoint, seen: &GroupSeen) -> Vec<Effect> {
        let made_for = made_for(&group.driver);
        let spec = json!({"spec": {"deletionPolicy": "Delete"}});
        let whole = seen.retained.iter().map(|it| (group_content_key(group.version, it), made_for.as_str()));
        // Members that are read are let go when they are; of a group that was given up, none is.
        let unread = seen.members.iter().filter(|_| group.failure.is_some());
        let members = unread.filter_map(|(claim, it)| Some((content_key(it.retained.as_ref()?), claim.as_str())));
        let object = |(key, of)| Effect::Apply(Box::new(self.run.object(&key, of, spec.clone())));
        whole.chain(members).map(object).collect()
    }

    /// What a group snapshot waits for, for people.
    fn group_waits_for(&self, seen: Option<&GroupSeen>) -> String {
        let gate = "is the feature gate CSIVolumeGroupSnapshot on?";
        match seen {
            None => self.seen.hindrance.clone().unwrap_or_else(|| "the VolumeGroupSnapshot was deleted".to_owned()),
            Some(GroupSeen { error: Some(error), .. }) => error.clone(),
            Some(GroupSeen { volumes: None, .. }) => format!("the snapshot-controller did not answer: {gate}"),
            Some(GroupSeen { cut_at: None, .. }) => {
                format!("neither the driver nor its csi-snapshotter answered: {gate}")
            }
            Some(GroupSeen { volumes: Some(found), .. }) => format!("it has only {found} of the volumes"),
        }
    }
}

/// What a run that has ended takes off claims.
pub(super) fn unmark(namespace: &str, application: &str, groups: &Groups) -> Vec<Effect> {
    let label = mark(application);
    groups.marked.iter().map(|(claim, version)| unmarked(namespace, claim, &label, version.clone())).collect()
}

fn unmarked(namespace: &str, claim: &str, label: &str, resource_version: Option<String>) -> Effect {
    let (namespace, name, label) = (namespace.to_owned(), claim.to_owned(), label.to_owned());
    Effect::LabelClaim { namespace, name, label, value: None, resource_version }
}

/// The label that stands on an application's claims while a group snapshot of them is asked for.
#[must_use]
pub fn mark(application: &str) -> String {
    format!("{GROUP_MARK}{application}")
}

/// What a group snapshot is made for: no claim has that name.
#[must_use]
pub fn made_for(driver: &str) -> String {
    format!("the volumes of {driver}")
}

fn has(group: &GroupInPoint, claim: &str) -> bool {
    group.claims.iter().any(|it| it == claim)
}

fn alone(why: &str) -> String {
    format!("Alone ({why})")
}
