//! `Restore::next` against a small model of what Kubernetes does with volumes, claims and Jobs.
//!
//! Every order is tried: effects are done one at a time, twice, or not at all, the controllers do one thing at any
//! moment, and the next pass may begin at any moment. In none of them is data deleted or a volume given to the
//! application that does not hold the snapshot; and from each of them the end is reached.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::SignedDuration;
use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::vault::{Directory, Encryption},
    core::{effect::ObjectKey, mover_task::Report},
};

#[path = "volume_restore_cancel_tests.rs"]
mod cancel;
#[path = "volume_restore_orders_tests.rs"]
mod orders;

const HOME: &str = "reprise-system";
const SPACE: &str = "shop";
const CLAIM_NAME: &str = "data";
const FAILED_AT: Timestamp = Timestamp::constant(1_800_000_000, 0);
const TENANT: (&str, &str) = (SPACE, CLAIM_NAME);

fn run() -> Run {
    Run { namespace: SPACE.into(), name: "shop-000002-00".into(), uid: "run-1".into() }
}

fn application() -> AppKey {
    AppKey { namespace: SPACE.into(), name: "shop".into() }
}

fn movers() -> MoverSettings {
    MoverSettings {
        namespace: HOME.into(),
        image: "reprise".into(),
        pull_policy: "Never".into(),
        service_account: "mover".into(),
        dump_service_account: "dumper".into(),
        direct: false,
        kubelet_root: "/var/lib/kubelet".into(),
        resources: json!({}),
    }
}

fn vault() -> VaultSpec {
    VaultSpec {
        s3: None,
        azure: None,
        proxy: None,
        limits: None,
        directory: Some(Directory { claim_name: "nfs".into() }),
        allow_exports: false,
        encryption: Encryption::new("key"),
    }
}

/// The next step of the restore of that snapshot.
fn next(seen: &Seen, snapshot: &str, now: Timestamp) -> (Step, Vec<Effect>) {
    let (run, movers, vault, volume) = (run(), movers(), vault(), wanted(snapshot));
    let restore = Restore {
        run: &run,
        movers: &movers,
        application: &application(),
        vault: &vault,
        point: "p1",
        volume: &volume,
        data: Data::Snapshot(&[]),
        seen,
        deadline: 600,
        ahead: false,
        now,
    };
    restore.next()
}

fn wanted(snapshot: &str) -> Volume {
    Volume {
        claim: CLAIM_NAME.into(),
        snapshot: snapshot.into(),
        size: "1Gi".into(),
        storage_class: Some("fast".into()),
        access_modes: vec!["ReadWriteOnce".into()],
        files: 3,
        bytes: 30,
        ..Volume::default()
    }
}

/// A way to break the decisions, so that the model is seen to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    /// The volume is taken for safe, and was not made so.
    NoRetain,
    /// A volume keeps the uid of the claim that it had.
    StaleUid,
    /// The mover's report is not waited for.
    NotFilled,
    /// A Job goes before its pod does, and is no longer seen.
    PodUnseen,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Pvc {
    uid: u32,
    volume: Option<String>,
    bound: bool,
    deleting: bool,
    kept: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MoverJob {
    snapshot: String,
    done: bool,
    /// It was deleted, and is there until its pod has ended.
    deleting: bool,
}

/// A volume: its data, and its object as the API server has it.
#[derive(Clone, Debug, PartialEq)]
struct Pv {
    data: String,
    object: Value,
    version: u32,
}

impl Pv {
    /// What a provisioner makes: reclaimed with its claim, as nearly every class has it.
    fn provisioned(data: &str, owner: (&str, &str), uid: u32) -> Self {
        let object = json!({
            "metadata": {"labels": {}, "annotations": {}},
            "spec": {
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": "fast",
                "claimRef": {"namespace": owner.0, "name": owner.1, "uid": uid.to_string()},
            },
        });
        Self { data: data.to_owned(), object, version: 1 }
    }

    fn reclaim(&self) -> &str {
        self.object["spec"]["persistentVolumeReclaimPolicy"].as_str().unwrap()
    }

    /// The claim it is for, and the uid that stands with it.
    fn owner(&self) -> ((String, String), Option<String>) {
        let owner = &self.object["spec"]["claimRef"];
        let text = |field: &str| owner[field].as_str().map(ToOwned::to_owned);
        ((text("namespace").unwrap_or_default(), text("name").unwrap_or_default()), text("uid"))
    }

    fn run(&self) -> Option<&str> {
        self.object["metadata"]["labels"][RUN].as_str()
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.object["metadata"]["annotations"][name].as_str()
    }
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that may happen or not, whatever the others do")]
struct World {
    mutation: Mutation,
    /// Whether volumes are made only once a pod wants them.
    lazy: bool,
    uids: u32,
    claims: BTreeMap<(String, String), Pvc>,
    volumes: BTreeMap<String, Pv>,
    job: Option<MoverJob>,
    /// A second mover was started beside the pod of one that was deleted.
    two_movers: bool,
    /// Data of volumes that were deleted.
    lost: Vec<String>,
    /// Whether what was restored so far may go: the vault has it.
    copies_may_go: bool,
    /// What has yet to be done of the pass that goes on.
    pending: VecDeque<Effect>,
    /// The next mover to end does so in a way that may pass.
    fails: bool,
    failed: bool,
    /// Somebody deletes the operator's claim, once the volume is marked.
    meddles: bool,
    /// Somebody's GitOps makes the claim once more while it is not there.
    recreates: bool,
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

/// What the tenant's claim says of itself.
fn kept() -> Kept {
    Kept { labels: [("cluster".into(), "db".into())].into(), ..Kept::default() }
}

impl World {
    fn empty(lazy: bool, mutation: Mutation) -> Self {
        Self {
            mutation,
            lazy,
            uids: 10,
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
            job: None,
            two_movers: false,
            lost: Vec::new(),
            copies_may_go: false,
            pending: VecDeque::new(),
            fails: false,
            failed: false,
            meddles: false,
            recreates: false,
        }
    }

    /// The tenant's claim is there, with what the region held before.
    fn with_old_data(lazy: bool, mutation: Mutation) -> Self {
        let mut world = Self::empty(lazy, mutation);
        let claim = Pvc { uid: 1, volume: Some("pv-old".into()), bound: true, deleting: false, kept: kept() };
        world.claims.insert(key(SPACE, CLAIM_NAME), claim);
        world.volumes.insert("pv-old".into(), Pv::provisioned("old", TENANT, 1));
        world
    }

    fn own() -> (String, String) {
        key(HOME, &run().derived(CLAIM_NAME))
    }

    // --- what is seen, as `operator::observe::failover` looks

    fn claim_seen(&self, at: &(String, String)) -> Option<ClaimSeen> {
        self.claims.get(at).map(|it| ClaimSeen {
            uid: it.uid.to_string(),
            volume: it.volume.clone(),
            bound: it.bound,
            deleting: it.deleting,
            storage_class: Some("fast".into()),
            size: None,
            kept: it.kept.clone(),
        })
    }

    fn seen(&self) -> Seen {
        let (tenant, own) = (self.claim_seen(&key(SPACE, CLAIM_NAME)), self.claim_seen(&Self::own()));
        let marked =
            self.volumes.iter().find(|(_, it)| it.run() == Some("run-1") && it.annotation(CLAIM) == Some(CLAIM_NAME));
        let bound_to = tenant.as_ref().or(own.as_ref()).and_then(|it| it.volume.clone());
        let found = marked.or_else(|| bound_to.and_then(|name| self.volumes.get_key_value(&name)));
        let unseen = |it: &&MoverJob| it.deleting && self.mutation == Mutation::PodUnseen;
        let job = self.job.as_ref().filter(|it| !unseen(it)).map(|it| match (it.done && !it.deleting, self.failed) {
            (false, _) => JobSeen::Running(None),
            (true, true) => {
                JobSeen::Failed { message: "the network was away".into(), at: FAILED_AT, corrupt: false, command: None }
            }
            (true, false) => JobSeen::Succeeded(Box::new(Report {
                snapshot: Some(it.snapshot.clone()),
                files: 3,
                ..Report::default()
            })),
        });
        Seen {
            tenant,
            own,
            volume: found.map(|(name, it)| self.volume_seen(name, it)),
            job,
            class_present: true,
            ahead: None,
        }
    }

    fn volume_seen(&self, name: &str, it: &Pv) -> VolumeSeen {
        let ((space, claim), uid) = it.owner();
        let annotations = it.object["metadata"]["annotations"].as_object().unwrap();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let reclaim = if self.mutation == Mutation::NoRetain { "Retain" } else { it.reclaim() };
        VolumeSeen {
            name: name.to_owned(),
            reclaim: reclaim.to_owned(),
            claim: Some((space, claim, uid)),
            storage_class: Some("fast".into()),
            attributes_class: None,
            run: it.run().map(ToOwned::to_owned),
            annotations: annotations.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
            resource_version: Some(it.version.to_string()),
        }
    }

    fn next(&self, snapshot: &str) -> (Step, Vec<Effect>) {
        next(&self.seen(), snapshot, FAILED_AT + SignedDuration::from_hours(1))
    }

    // --- what the API server does with an effect

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Apply(object) => {
                let types = object.types.as_ref().unwrap();
                let at = key(object.metadata.namespace.as_ref().unwrap(), object.metadata.name.as_ref().unwrap());
                match types.kind.as_str() {
                    "PersistentVolumeClaim" => self.apply_claim(at, object),
                    "Job" => self.apply_job(&object.data),
                    other => panic!("a restore makes no {other}"),
                }
            }
            Effect::Delete(ObjectKey { kind, namespace, name, .. }) => match *kind {
                "PersistentVolumeClaim" => {
                    if let Some(it) = self.claims.get_mut(&key(namespace.as_ref().unwrap(), name)) {
                        it.deleting = true;
                    }
                }
                "Job" => {
                    if let Some(it) = self.job.as_mut() {
                        it.deleting = true;
                    }
                }
                other => panic!("a restore deletes no {other}"),
            },
            Effect::PatchVolume { name, patch, resource_version } => {
                self.patch_volume(name, patch, resource_version.as_deref());
            }
            other => panic!("a restore does not {other:?}"),
        }
    }

    fn apply_claim(&mut self, at: (String, String), object: &DynamicObject) {
        let asked = object.data["spec"]["volumeName"].as_str().map(ToOwned::to_owned);
        match self.claims.get_mut(&at) {
            // A volume may be asked for once; nothing else of the specification may change.
            Some(it) if it.volume.is_none() => it.volume = asked,
            Some(_) => {}
            None => {
                self.uids += 1;
                let kept = Kept::of(object.labels(), object.annotations());
                self.claims.insert(at, Pvc { uid: self.uids, volume: asked, kept, ..Pvc::default() });
            }
        }
    }

    fn apply_job(&mut self, data: &Value) {
        let environment = &data["spec"]["template"]["spec"]["containers"][0]["env"];
        let task = environment.as_array().unwrap().iter().find(|it| it["name"] == "REPRISE_TASK").unwrap();
        let task: Task = serde_json::from_str(task["value"].as_str().unwrap()).unwrap();
        let Task::Restore { snapshot, .. } = task else { panic!("a restore only restores") };
        self.two_movers |=
            self.mutation == Mutation::PodUnseen && self.job.as_ref().is_some_and(|it| it.deleting && !it.done);
        // The template of a Job that is there cannot be changed.
        let done = self.mutation == Mutation::NotFilled;
        self.job.get_or_insert(MoverJob { snapshot, done, deleting: false });
    }

    fn patch_volume(&mut self, name: &str, patch: &Value, version: Option<&str>) {
        let mut patch = patch.clone();
        match self.mutation {
            Mutation::NoRetain if patch["spec"]["persistentVolumeReclaimPolicy"] == "Retain" => {
                patch["spec"].as_object_mut().unwrap().remove("persistentVolumeReclaimPolicy");
            }
            Mutation::StaleUid if patch["spec"]["claimRef"].is_object() => {
                patch["spec"]["claimRef"].as_object_mut().unwrap().remove("uid");
            }
            Mutation::None | Mutation::NoRetain | Mutation::StaleUid | Mutation::NotFilled | Mutation::PodUnseen => {}
        }
        let Some(it) = self.volumes.get_mut(name) else { return };
        if version.is_some_and(|version| version != it.version.to_string()) {
            return;
        }
        let before = it.object.clone();
        merge(&mut it.object, &patch);
        if it.object != before {
            it.version += 1;
        }
    }

    // --- what the controllers may do next, each a world of its own

    fn controllers(&self) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for at in self.claims.keys() {
            all.extend(self.end_claim(at));
            all.extend(self.bind(at));
        }
        all.extend(self.volumes.keys().filter_map(|it| self.reclaim(it)));
        all.extend(self.work());
        all.extend(self.end_job());
        let safe = self.volumes.values().any(|it| it.run().is_some());
        if self.meddles && safe && self.claims.contains_key(&Self::own()) {
            let mut next = self.clone();
            next.meddles = false;
            next.claims.get_mut(&Self::own()).unwrap().deleting = true;
            all.push(next);
        }
        if self.recreates && !self.claims.contains_key(&key(SPACE, CLAIM_NAME)) {
            let mut next = self.clone();
            next.recreates = false;
            next.uids += 1;
            next.claims.insert(key(SPACE, CLAIM_NAME), Pvc { uid: next.uids, kept: kept(), ..Pvc::default() });
            all.push(next);
        }
        all
    }

    /// A claim goes once no pod uses it.
    fn end_claim(&self, at: &(String, String)) -> Option<Self> {
        let used = *at == Self::own() && self.job.as_ref().is_some_and(|it| !it.done);
        (self.claims[at].deleting && !used).then(|| {
            let mut next = self.clone();
            next.claims.remove(at);
            next
        })
    }

    fn bind(&self, at: &(String, String)) -> Option<Self> {
        let claim = &self.claims[at];
        if claim.bound || claim.deleting {
            return None;
        }
        let free = |it: &Pv| {
            let (owner, uid) = it.owner();
            owner == *at && uid.is_none_or(|uid| uid == claim.uid.to_string())
        };
        let found = match &claim.volume {
            Some(name) => Some(self.volumes.get_key_value(name).filter(|(_, it)| free(it))?.0.clone()),
            None => self.volumes.iter().find(|(_, it)| free(it)).map(|(name, _)| name.clone()),
        };
        let mut next = self.clone();
        let name = if let Some(name) = found {
            name
        } else {
            let consumed = *at == Self::own() && self.job.is_some();
            if self.lazy && !consumed {
                return None;
            }
            let name = format!("pv-{}", claim.uid);
            next.volumes.insert(name.clone(), Pv::provisioned("", (&at.0, &at.1), claim.uid));
            name
        };
        let volume = next.volumes.get_mut(&name).unwrap();
        let uid = json!(claim.uid.to_string());
        if volume.object["spec"]["claimRef"]["uid"] != uid {
            volume.object["spec"]["claimRef"]["uid"] = uid;
            volume.version += 1;
        }
        let claim = next.claims.get_mut(at).unwrap();
        (claim.bound, claim.volume) = (true, Some(name));
        Some(next)
    }

    /// A volume whose claim is gone, or is another one of the same name, is released; `Delete` deletes it.
    fn reclaim(&self, name: &str) -> Option<Self> {
        let volume = &self.volumes[name];
        let (owner, uid) = volume.owner();
        let uid = uid?;
        let alive = self.claims.get(&owner).is_some_and(|it| it.uid.to_string() == uid);
        (!alive && volume.reclaim() == "Delete").then(|| {
            let mut next = self.clone();
            let gone = next.volumes.remove(name).unwrap();
            if gone.data == "old" || !(gone.data.is_empty() || self.copies_may_go) {
                next.lost.push(gone.data);
            }
            next
        })
    }

    /// The mover's pod runs once its claim is bound: it writes a part, then the rest.
    fn work(&self) -> Option<Self> {
        let job = self.job.as_ref().filter(|it| !it.done)?;
        let own = self.claims.get(&Self::own()).filter(|it| it.bound)?;
        let mut next = self.clone();
        let data = &mut next.volumes.get_mut(own.volume.as_ref()?)?.data;
        let part = format!("part of {}", job.snapshot);
        if *data != part && *data != job.snapshot {
            *data = part;
        } else if self.fails {
            (next.fails, next.failed) = (false, true);
            next.job.as_mut()?.done = true;
        } else {
            data.clone_from(&job.snapshot);
            next.job.as_mut()?.done = true;
        }
        Some(next)
    }

    /// A deleted Job goes once its pod has, which was ended, or ended by itself.
    fn end_job(&self) -> Option<Self> {
        self.job.as_ref().filter(|it| it.deleting)?;
        Some(Self { job: None, failed: false, ..self.clone() })
    }

    // --- what is checked

    /// The snapshot in the volume that the tenant's claim is bound to.
    fn served(&self) -> Option<&str> {
        let claim = self.claims.get(&key(SPACE, CLAIM_NAME)).filter(|it| it.bound && !it.deleting)?;
        self.volumes.get(claim.volume.as_ref()?).map(|it| it.data.as_str())
    }

    fn check(&self, snapshot: &str) -> Result<(), String> {
        if let Some(lost) = self.lost.first() {
            return Err(format!("lost: {lost}"));
        }
        if self.two_movers {
            return Err("two movers write to one volume".to_owned());
        }
        if self.pending.is_empty() && self.next(snapshot).0 == Step::Done {
            let volume = &self.volumes[self.claims[&key(SPACE, CLAIM_NAME)].volume.as_ref().unwrap()];
            if self.volumes.contains_key("pv-old") && self.claims[&key(SPACE, CLAIM_NAME)].kept != kept() {
                return Err("what the claim said of itself is lost".to_owned());
            }
            if self.served() != Some(snapshot) {
                return Err(format!("done with {:?}", self.served()));
            }
            if volume.reclaim() != "Delete" || self.job.is_some() || self.claims.contains_key(&Self::own()) {
                return Err("done, but not tidied up".to_owned());
            }
        }
        Ok(())
    }

    /// Whole passes, and controllers that keep up with them.
    fn settle(mut self, snapshot: &str) -> Result<Self, String> {
        for _ in 0..60 {
            while let Some(effect) = self.pending.pop_front() {
                self.perform(&effect);
            }
            for _ in 0..60 {
                let Some(next) = self.controllers().into_iter().next() else { break };
                self = next;
            }
            self.check(snapshot)?;
            let (step, effects) = self.next(snapshot);
            if step == Step::Done {
                return Ok(self);
            }
            self.pending = effects.into();
        }
        Err(format!("no end: {:?}", self.next(snapshot).0))
    }

    /// Every world that may come next.
    fn successors(&self, snapshot: &str) -> Vec<Self> {
        let mut all = self.controllers();
        let mut next = self.clone();
        if let Some(effect) = next.pending.pop_front() {
            // Done; done, and to be done once more; or the operator ends before it.
            next.perform(&effect);
            let mut again = self.clone();
            again.perform(&effect);
            let mut ended = self.clone();
            ended.pending.clear();
            all.extend([next, again, ended]);
        } else {
            next.pending = next.next(snapshot).1.into();
            all.push(next);
        }
        all
    }
}

/// Every world that can be reached, each checked. How many there are.
fn explore(start: World, snapshot: &str) -> Result<Vec<World>, String> {
    let (mut seen, mut all, mut queue) = (BTreeSet::new(), Vec::new(), VecDeque::from([start]));
    while let Some(world) = queue.pop_front() {
        if !seen.insert(format!("{world:?}")) {
            continue;
        }
        assert!(seen.len() < 100_000, "the model has no end: {world:#?}");
        world.check(snapshot)?;
        queue.extend(world.successors(snapshot));
        all.push(world);
    }
    Ok(all)
}
