//! The Job in which a mover runs: its pod, its limits, its mounts. What a mover does is `mover`.

use serde_json::{Value, json};

use super::{
    child::{CLAIM, Run, job_key},
    mover_task::Task,
};
use crate::api::vault::VaultSpec;

/// Where directory vaults are mounted, in the operator and in movers alike.
pub const VAULTS: &str = "/vaults";
/// Where a mover finds the volume.
pub const DATA: &str = "/data";

/// What every mover of this operator has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoverSettings {
    /// The operator's namespace.
    pub namespace: String,
    /// The image, the operator's own.
    pub image: String,
    /// When nodes pull it: `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// A `ServiceAccount` without rights.
    pub service_account: String,
    /// Whether movers may read volumes through the node's file system.
    pub direct: bool,
    /// The kubelet's root on the nodes: `/var/lib/kubelet`.
    pub kubelet_root: String,
    /// Requests and limits of a mover's container, as in a pod. At least 768 MiB of memory are needed.
    pub resources: Value,
}

/// The volume as the mover's pod mounts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A claim in the operator's namespace.
    Claim {
        /// Its name.
        name: String,
        /// Whether it is only read.
        read_only: bool,
    },
    /// A directory of a node, only read.
    Node {
        /// The node.
        node: String,
        /// The path on it.
        path: String,
    },
}

/// One mover.
#[derive(Clone, Debug, PartialEq)]
pub struct Mover<'a> {
    /// What it has in common with others.
    pub settings: &'a MoverSettings,
    /// The run it works for.
    pub run: &'a Run,
    /// The claim whose data it moves.
    pub claim: &'a str,
    /// What it does.
    pub task: &'a Task,
    /// The volume that it mounts, if it needs one.
    pub mount: Option<Mount>,
    /// The vault it reads or writes.
    pub vault: &'a VaultSpec,
    /// Seconds after which Kubernetes ends it.
    pub deadline: u64,
}

impl Mover<'_> {
    /// Its Job, under the run's derived name.
    #[must_use]
    pub fn job(&self) -> kube::core::DynamicObject {
        let key = job_key(&self.settings.namespace, &self.run.derived(self.claim));
        let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
        let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
        if let Some(mount) = &self.mount {
            volumes.push(volume(mount));
            mounts.push(volume_mount(mount));
        }
        if let Some(directory) = &self.vault.directory {
            volumes.push(json!({"name": "vault", "persistentVolumeClaim": {"claimName": directory.claim_name}}));
            mounts.push(json!({"name": "vault", "mountPath": format!("{VAULTS}/{}", directory.claim_name)}));
        }
        let labels = json!({super::child::MANAGED_BY.0: super::child::MANAGED_BY.1, super::child::RUN: self.run.uid});
        let mut pod = json!({
            "restartPolicy": "Never",
            "serviceAccountName": self.settings.service_account,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "mover",
                "image": self.settings.image,
                "imagePullPolicy": self.settings.pull_policy,
                "args": ["mover"],
                "env": self.environment(),
                "volumeMounts": mounts,
                "resources": self.settings.resources,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    // Files belong to anybody and are restored as they were: see docs/architecture.md.
                    "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]},
                },
            }],
            "volumes": volumes,
        });
        if let Some(Mount::Node { node, .. }) = &self.mount {
            pod["nodeName"] = json!(node);
            pod["tolerations"] = json!([{"operator": "Exists"}]);
        }
        let spec = json!({
            "backoffLimit": 2,
            // A pod that is being evicted may still write: the next one waits until it has ended.
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": self.deadline,
            "template": {"metadata": {"labels": labels, "annotations": {CLAIM: self.claim}}, "spec": pod},
        });
        self.run.object(&key, self.claim, json!({"spec": spec}))
    }

    /// Secrets reach the mover by reference: the Job holds none.
    fn environment(&self) -> Vec<Value> {
        let secret = |name: &str, secret: &str, entry: &str, optional: bool| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": entry, "optional": optional}}});
        let mut all = vec![
            json!({"name": "REPRISE_TASK", "value": serde_json::to_string(self.task).expect("a task is plain data")}),
            json!({"name": "REPRISE_VAULT", "value": serde_json::to_string(self.vault).expect("a vault's spec is plain data")}),
            json!({"name": "MALLOC_ARENA_MAX", "value": "2"}),
            secret("REPRISE_VAULT_KEY", &self.vault.encryption.secret.name, "key", false),
        ];
        if let Some(credentials) = self.vault.s3.as_ref().and_then(|it| it.credentials.as_ref()) {
            all.push(secret("AWS_ACCESS_KEY_ID", &credentials.name, "accessKeyId", false));
            all.push(secret("AWS_SECRET_ACCESS_KEY", &credentials.name, "secretAccessKey", false));
            all.push(secret("AWS_SESSION_TOKEN", &credentials.name, "sessionToken", true));
        }
        all
    }
}

fn volume(mount: &Mount) -> Value {
    match mount {
        Mount::Claim { name, .. } => json!({"name": "data", "persistentVolumeClaim": {"claimName": name}}),
        Mount::Node { path, .. } => json!({"name": "data", "hostPath": {"path": path, "type": "Directory"}}),
    }
}

fn volume_mount(mount: &Mount) -> Value {
    match mount {
        Mount::Claim { read_only, .. } => json!({"name": "data", "mountPath": DATA, "readOnly": read_only}),
        Mount::Node { .. } => {
            json!({"name": "data", "mountPath": DATA, "readOnly": true, "mountPropagation": "HostToContainer"})
        }
    }
}
