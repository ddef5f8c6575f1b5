//! What is done about one volume of a point, when it is known how it is read (`method`): it is snapshotted or mounted,
//! and copied.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::{JobSeen, PATIENCE, Pass, Source, method};
use crate::{
    api::{
        recovery_point::{RecoveryPointStatus, VolumeInPoint},
        vault::VaultSpec,
    },
    core::{
        child::{self, claim_key, content_key, snapshot_key, volume_mode},
        effect::{Effect, ObjectKey},
        mover_job::{DATA, Mount, Mover},
        mover_task::{Report, Task},
    },
};

impl Pass<'_> {
    /// One volume's next step: snapshot, then mover, then its report.
    pub(super) fn advance(&self, volume: &mut VolumeInPoint, patience: u64, effects: &mut Vec<Effect>) {
        let source = self.seen.sources.iter().find(|it| it.claim == volume.claim);
        match (source, self.seen.jobs.get(&volume.claim)) {
            (Some(_), Some(job)) => self.follow(volume, job),
            // What is copied is a copy already: the claim is no longer needed.
            (None, Some(job)) if method::is_snapshot(volume) => self.follow(volume, job),
            (None, _) => volume.failure = Some("the claim was deleted while it was being read".to_owned()),
            (Some(_), None) if self.awaits_group(&volume.claim) => {}
            (Some(source), None) if method::is_snapshot(volume) => {
                self.advance_snapshot(volume, source, patience, effects);
            }
            (Some(source), None) => self.advance_direct(volume, source, patience, effects),
        }
    }

    /// Takes over what its mover says.
    fn follow(&self, volume: &mut VolumeInPoint, job: &JobSeen) {
        if volume.consistent_at.is_none() {
            // The pass that started the mover was not written down. Its data is not younger than this.
            let taken_at = self.seen.snapshot(self.groups(), &volume.claim).and_then(|it| it.taken_at);
            let started_at = self.point.status.as_ref().and_then(|it| it.started_at.as_ref()).map(|it| it.0);
            volume.consistent_at = taken_at.or(started_at).map(Time);
        }
        match job {
            JobSeen::Succeeded(report) => record(volume, report),
            JobSeen::Failed { message, .. } => volume.failure = Some(message.clone()),
            JobSeen::Running(_) => {}
        }
    }

    /// How far apart the snapshots are, when all are taken: they are asked for one after the other.
    pub(super) fn skew(&self, status: &RecoveryPointStatus) -> Option<u64> {
        let from_snapshots = status.volumes.iter().filter(|it| method::is_snapshot(it) && it.failure.is_none());
        let instant = |it: &VolumeInPoint| self.seen.snapshot(self.groups(), &it.claim).and_then(|it| it.instant);
        let instants = from_snapshots.map(instant).collect::<Option<Vec<_>>>()?;
        let (first, last) = (instants.iter().min()?, instants.iter().max()?);
        (instants.len() > 1).then(|| u64::try_from(last.as_millisecond() - first.as_millisecond()).unwrap_or(0))
    }

    fn advance_snapshot(&self, volume: &mut VolumeInPoint, source: &Source, patience: u64, effects: &mut Vec<Effect>) {
        let name = self.run.derived(&volume.claim);
        let snapshot = self.seen.snapshot(self.groups(), &volume.claim).cloned().unwrap_or_default();
        let (Some(handle), Some(taken_at)) = (&snapshot.handle, snapshot.taken_at) else {
            if let Some(group) = self.group_of(&volume.claim) {
                volume.failure = self.torn(group, &volume.claim).map(ToOwned::to_owned);
                return;
            }
            let driver = source.driver.as_deref().unwrap_or_default();
            let Some(class) = self.seen.snapshot_classes.get(driver) else {
                volume.failure = Some(format!("the VolumeSnapshotClass of {driver} is gone"));
                return;
            };
            let key = snapshot_key(&self.run.namespace, &name);
            let spec = json!({"volumeSnapshotClassName": class, "source": {"persistentVolumeClaimName": volume.claim}});
            effects.push(self.in_tenants_namespace(&key, &volume.claim, &spec));
            return;
        };
        volume.consistent_at = Some(Time(taken_at));
        if let Some(content) = &snapshot.retained {
            // Its class means snapshots that people make. This one is the run's, and goes with it.
            let spec = json!({"spec": {"deletionPolicy": "Delete"}});
            effects.push(Effect::Apply(Box::new(self.run.object(&content_key(content), &volume.claim, spec))));
        }
        let home = &self.movers.namespace;
        let content = json!({
            "deletionPolicy": "Retain",
            "driver": source.driver,
            "source": {"snapshotHandle": handle},
            "sourceVolumeMode": volume_mode(source.block),
            "volumeSnapshotRef": {"namespace": home, "name": name},
        });
        let snapshot = json!({"source": {"volumeSnapshotContentName": name}});
        let claim = json!({
            "storageClassName": source.storage_class,
            "accessModes": source.access_modes,
            "volumeMode": volume_mode(source.block),
            "resources": {"requests": {"storage": source.size}},
            "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name},
        });
        let objects =
            [(content_key(&name), content), (snapshot_key(home, &name), snapshot), (claim_key(home, &name), claim)];
        for (key, spec) in objects {
            effects.push(Effect::Apply(Box::new(self.run.object(&key, &volume.claim, json!({"spec": spec})))));
        }
        let mount = Mount::claim(name, source.block, true);
        effects.push(self.mover(volume, mount, patience));
    }

    fn advance_direct(&self, volume: &mut VolumeInPoint, source: &Source, patience: u64, effects: &mut Vec<Effect>) {
        let Some(pod) = &source.mounted_by else {
            effects.push(self.holding_pod(volume));
            return;
        };
        // From here on the data changes under the reader: the RPO counts from the moment the reading began.
        volume.consistent_at.get_or_insert(Time(self.now));
        let path = match (&source.driver, &source.node_path) {
            (Some(_), _) => {
                let root = &self.movers.kubelet_root;
                format!("{root}/pods/{}/volumes/kubernetes.io~csi/{}/mount", pod.pod_uid, source.volume)
            }
            (None, Some(path)) => path.clone(),
            (None, None) => {
                volume.failure = Some(format!(
                    "volume {} is neither CSI, local nor hostPath: it cannot be read directly",
                    source.volume
                ));
                return;
            }
        };
        effects.push(self.mover(volume, Mount::Node { node: pod.node.clone(), path }, patience));
    }

    /// A volume that no pod mounts is mounted by a short pod of its own, in the application's namespace, that holds
    /// no credentials and does nothing.
    fn holding_pod(&self, volume: &VolumeInPoint) -> Effect {
        let key = child::key("v1", "Pod", Some(&self.run.namespace), &self.run.derived(&volume.claim));
        let spec = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "activeDeadlineSeconds": PATIENCE,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "hold", "image": self.movers.image, "imagePullPolicy": self.movers.pull_policy, "args": ["hold"],
                "volumeMounts": [{"name": "data", "mountPath": DATA, "readOnly": true}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": volume.claim}}],
        });
        self.in_tenants_namespace(&key, &volume.claim, &spec)
    }

    /// What stands in the application's namespace goes with the point's object, also when that is deleted half way.
    pub(super) fn in_tenants_namespace(&self, key: &ObjectKey, claim: &str, spec: &serde_json::Value) -> Effect {
        let mut object = self.run.object(key, claim, json!({"spec": spec}));
        object.metadata.owner_references = self.point.owner_ref(&()).map(|it| vec![it]);
        Effect::Apply(Box::new(object))
    }

    /// The vault as each of the run's movers is told of it, which work at once. How many were planned does not change.
    pub(super) fn shared_vault(&self) -> VaultSpec {
        let vault = self.seen.vault.as_ref().expect("a run begins only with a vault");
        let movers = self.point.status.as_ref().map_or(1, |it| {
            let dumps = it.dumps.iter().filter(|it| it.left_out.is_none() && it.made_for.is_none());
            it.volumes.iter().filter(|it| it.left_out.is_none()).count() + dumps.count()
        });
        vault.spec.shared_by(movers)
    }

    fn mover(&self, volume: &VolumeInPoint, mount: Mount, deadline: u64) -> Effect {
        let task = Task::Backup {
            namespace: self.run.namespace.clone(),
            application: self.application.name_any(),
            source: mount.path().to_owned(),
            host: self.seen.region.clone(),
            label: volume.claim.clone(),
            point: self.point.status.as_ref().and_then(|it| it.id.clone()).unwrap_or_default(),
            exclude: volume.exclude.clone(),
        };
        let vault = &self.shared_vault();
        let mover = Mover {
            settings: self.movers,
            run: self.run,
            claim: &volume.claim,
            task: &task,
            mount: Some(mount),
            vault,
            deadline,
        };
        Effect::Apply(Box::new(mover.job()))
    }
}

/// Whether nothing more is to be done about a volume.
pub(super) fn settled(volume: &VolumeInPoint) -> bool {
    volume.snapshot.is_some() || volume.failure.is_some() || volume.left_out.is_some()
}

/// Takes over what a mover reported.
fn record(volume: &mut VolumeInPoint, report: &Report) {
    volume.files = report.files;
    volume.bytes = report.bytes;
    volume.added_bytes = report.added_bytes;
    volume.duration_seconds = report.duration_seconds;
    volume.excluded = report.excluded;
    volume.no_backup = report.no_backup;
    volume.unreadable = report.unreadable;
    volume.unreadable_files.clone_from(&report.unreadable_files);
    volume.warnings = report.warnings;
    volume.first_warnings.clone_from(&report.first_warnings);
    match &report.snapshot {
        Some(snapshot) => volume.snapshot = Some(snapshot.clone()),
        None => volume.failure = Some("the mover ended without a snapshot".to_owned()),
    }
}
