//! The Job in which a mover runs: its pod, its limits, its mounts. What a mover does is `mover`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    child::{CLAIM, Run, job_key},
    mover_task::{AZURE_CREDENTIALS, PROXY_CREDENTIALS, TO, Task},
};
use crate::api::vault::VaultSpec;

/// Where directory vaults are mounted, in the operator and in movers alike.
pub const VAULTS: &str = "/vaults";
/// The label by which Azure gives a pod its service account's identity.
const WORKLOAD_IDENTITY: &str = "azure.workload.identity/use";
/// Where a mover finds the volume.
pub const DATA: &str = "/data";
/// Where a mover finds a volume that is a block device.
pub const DEVICE: &str = "/dev/reprise-data";

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
    /// The `ServiceAccount` of movers that run a command in a pod: it may do that, and find the pod.
    pub dump_service_account: String,
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
    /// A claim in the operator's namespace that is a block device.
    Device {
        /// Its name.
        name: String,
    },
    /// A directory of a node, only read.
    Node {
        /// The node.
        node: String,
        /// The path on it.
        path: String,
    },
}

impl Mount {
    /// That of a claim in the operator's namespace.
    #[must_use]
    pub fn claim(name: String, block: bool, read_only: bool) -> Self {
        if block { Self::Device { name } } else { Self::Claim { name, read_only } }
    }

    /// Where the mover finds it.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self {
            Self::Claim { .. } | Self::Node { .. } => DATA,
            Self::Device { .. } => DEVICE,
        }
    }
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
        self.job_with(None)
    }

    /// The Job of one that copies or exports into another vault.
    #[must_use]
    pub fn copy_job(&self, to: &VaultSpec) -> kube::core::DynamicObject {
        self.job_with(Some(to))
    }

    fn job_with(&self, to: Option<&VaultSpec>) -> kube::core::DynamicObject {
        let key = job_key(&self.settings.namespace, &self.run.derived(self.claim));
        let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
        let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
        volumes.extend(self.mount.as_ref().map(volume));
        mounts.extend(self.mount.as_ref().and_then(volume_mount));
        let directory = |vault: &VaultSpec| vault.directory.as_ref().map(|it| it.claim_name.clone());
        let claims: BTreeSet<_> = std::iter::once(self.vault).chain(to).filter_map(directory).collect();
        for (number, claim) in claims.iter().enumerate() {
            let name = format!("vault-{number}");
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
            mounts.push(json!({"name": name, "mountPath": format!("{VAULTS}/{claim}")}));
        }
        let mut labels =
            json!({super::child::MANAGED_BY.0: super::child::MANAGED_BY.1, super::child::RUN: self.run.uid});
        let identity = |vault: &VaultSpec| vault.azure.as_ref().is_some_and(|it| it.credentials.is_none());
        if identity(self.vault) || to.is_some_and(identity) {
            labels[WORKLOAD_IDENTITY] = json!("true");
        }
        let (ordinary, commands) = (&self.settings.service_account, &self.settings.dump_service_account);
        let account = if self.task.runs_a_command() { commands } else { ordinary };
        let mut pod = json!({
            "restartPolicy": "Never",
            // The Job's deadline is kept by the control plane; this one by the node itself, also when it is cut off.
            "activeDeadlineSeconds": self.deadline,
            "serviceAccountName": account,
            "automountServiceAccountToken": self.task.runs_a_command(),
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "mover",
                "image": self.settings.image,
                "imagePullPolicy": self.settings.pull_policy,
                "args": ["mover"],
                "env": self.environment(to),
                "volumeMounts": mounts,
                "volumeDevices": self.mount.iter().filter_map(volume_device).collect::<Vec<_>>(),
                "resources": self.settings.resources,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"], "add": self.capabilities()},
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

    /// Files belong to anybody and are restored as they were: see docs/architecture.md. One that moves no files needs
    /// but to write into a vault that is a directory, or to a device.
    fn capabilities(&self) -> &'static [&'static str] {
        match self.mount {
            Some(Mount::Claim { .. } | Mount::Node { .. }) => {
                &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
            }
            Some(Mount::Device { .. }) | None => &["DAC_OVERRIDE"],
        }
    }

    /// Secrets reach the mover by reference: the Job holds none.
    fn environment(&self, to: Option<&VaultSpec>) -> Vec<Value> {
        let mut all = vec![
            json!({"name": "REPRISE_TASK", "value": serde_json::to_string(self.task).expect("a task is plain data")}),
            json!({"name": "MALLOC_ARENA_MAX", "value": "2"}),
        ];
        all.extend(vault_environment("", self.vault));
        all.extend(to.into_iter().flat_map(|it| vault_environment(TO, it)));
        all
    }
}

/// What a mover is told of a vault, in variables whose names begin so.
fn vault_environment(prefix: &str, vault: &VaultSpec) -> Vec<Value> {
    let secret = |name: &str, secret: &str, entry: &str, optional: bool| json!({"name": format!("{prefix}{name}"), "valueFrom": {"secretKeyRef": {"name": secret, "key": entry, "optional": optional}}});
    let spec = serde_json::to_string(vault).expect("a vault's spec is plain data");
    let mut all = vec![
        json!({"name": format!("{prefix}REPRISE_VAULT"), "value": spec}),
        secret("REPRISE_VAULT_KEY", &vault.encryption.secret.name, "key", false),
    ];
    if let Some(credentials) = vault.s3.as_ref().and_then(|it| it.credentials.as_ref()) {
        all.push(secret("AWS_ACCESS_KEY_ID", &credentials.name, "accessKeyId", false));
        all.push(secret("AWS_SECRET_ACCESS_KEY", &credentials.name, "secretAccessKey", false));
        all.push(secret("AWS_SESSION_TOKEN", &credentials.name, "sessionToken", true));
    }
    // Which of them a Secret has is known where it is read.
    if let Some(credentials) = vault.azure.as_ref().and_then(|it| it.credentials.as_ref()) {
        all.extend(AZURE_CREDENTIALS.map(|(name, entry)| secret(name, &credentials.name, entry, true)));
    }
    if let Some(credentials) = vault.proxy.as_ref().and_then(|it| it.credentials.as_ref()) {
        all.extend(PROXY_CREDENTIALS.map(|(name, entry)| secret(name, &credentials.name, entry, false)));
    }
    all
}

fn volume(mount: &Mount) -> Value {
    match mount {
        Mount::Claim { name, .. } | Mount::Device { name } => {
            json!({"name": "data", "persistentVolumeClaim": {"claimName": name}})
        }
        Mount::Node { path, .. } => json!({"name": "data", "hostPath": {"path": path, "type": "Directory"}}),
    }
}

fn volume_mount(mount: &Mount) -> Option<Value> {
    match mount {
        Mount::Claim { read_only, .. } => {
            Some(json!({"name": "data", "mountPath": mount.path(), "readOnly": read_only}))
        }
        Mount::Node { .. } => Some(
            json!({"name": "data", "mountPath": mount.path(), "readOnly": true, "mountPropagation": "HostToContainer"}),
        ),
        Mount::Device { .. } => None,
    }
}

fn volume_device(mount: &Mount) -> Option<Value> {
    match mount {
        Mount::Claim { .. } | Mount::Node { .. } => None,
        Mount::Device { .. } => Some(json!({"name": "data", "devicePath": mount.path()})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(vault: Value) -> Value {
        let settings = MoverSettings {
            namespace: "reprise".to_owned(),
            image: "image".to_owned(),
            pull_policy: "Always".to_owned(),
            service_account: "mover".to_owned(),
            dump_service_account: "dumper".to_owned(),
            direct: false,
            kubelet_root: "/var/lib/kubelet".to_owned(),
            resources: json!({}),
        };
        let task = Task::Verify {
            namespace: "shop".to_owned(),
            application: "db".to_owned(),
            snapshots: vec![],
            read_percent: 0,
        };
        let mount = Mount::Claim { name: "data".to_owned(), read_only: true };
        let vault: VaultSpec = serde_json::from_value(vault).unwrap();
        let run = Run { namespace: "shop".into(), name: "run".into(), uid: "run-1".into() };
        let mover = Mover {
            settings: &settings,
            run: &run,
            claim: "data",
            task: &task,
            mount: Some(mount),
            vault: &vault,
            deadline: 60,
        };
        mover.job().data
    }

    #[test]
    fn secrets_of_azure_and_of_a_proxy_reach_the_mover_by_reference_and_its_identity_by_a_label() {
        let key = json!({"secret": {"name": "key"}});
        let azure = json!({"account": "account", "container": "container", "credentials": {"name": "azure"}});
        let proxy = json!({"url": "http://proxy:3128", "credentials": {"name": "proxy"}});
        let job = job(json!({"azure": azure, "proxy": proxy, "encryption": key}));
        let pod = &job["spec"]["template"];
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let reference = |name: &str| {
            let found = env.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name} in {env:?}"));
            let from = &found["valueFrom"]["secretKeyRef"];
            (from["name"].as_str().unwrap().to_owned(), from["key"].as_str().unwrap().to_owned())
        };
        for (name, entry) in AZURE_CREDENTIALS {
            assert_eq!(reference(name), ("azure".to_owned(), entry.to_owned()));
        }
        for (name, entry) in PROXY_CREDENTIALS {
            assert_eq!(reference(name), ("proxy".to_owned(), entry.to_owned()));
        }
        assert_eq!(pod["metadata"]["labels"].get(WORKLOAD_IDENTITY), None);
        let azure = json!({"account": "account", "container": "container"});
        let job = self::job(json!({"azure": azure, "encryption": {"secret": {"name": "key"}}}));
        assert_eq!(job["spec"]["template"]["metadata"]["labels"][WORKLOAD_IDENTITY], "true");
    }
}
