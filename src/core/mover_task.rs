//! What a mover is told to do, and what it reports: the words between the operator and a mover's pod.
//!
//! Data only: a `Task` travels as JSON in the pod's environment (without secrets), a `Report` comes back as the
//! pod's termination message. The work itself is `mover`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::mappings::ObjectSelector;

/// The environment variable that holds the `Task`, as JSON.
pub const TASK: &str = "REPRISE_TASK";
/// The environment variable that holds the vault's `Location` without credentials, as JSON.
pub const VAULT: &str = "REPRISE_VAULT";
/// Before the name of every variable of the vault that a copy goes to: those of the vault that it comes from have none.
pub const TO: &str = "TO_";
/// The environment variable that holds the vault's key.
pub const VAULT_KEY: &str = "REPRISE_VAULT_KEY";
/// The environment variables that hold an Azure container's credentials, and the Secret's entries they come from.
pub const AZURE_CREDENTIALS: [(&str, &str); 5] = [
    ("REPRISE_AZURE_ACCOUNT_KEY", "accountKey"),
    ("REPRISE_AZURE_SAS_TOKEN", "sasToken"),
    ("REPRISE_AZURE_CLIENT_ID", "clientId"),
    ("REPRISE_AZURE_TENANT_ID", "tenantId"),
    ("REPRISE_AZURE_CLIENT_SECRET", "clientSecret"),
];
/// The environment variables that hold a proxy's credentials, and the Secret's entries they come from.
pub const PROXY_CREDENTIALS: [(&str, &str); 2] =
    [("REPRISE_PROXY_USERNAME", "username"), ("REPRISE_PROXY_PASSWORD", "password")];
/// The environment variable that holds the path that the report is written to. Default `/dev/termination-log`.
pub const REPORT: &str = "REPRISE_REPORT";
/// The most bytes of a report: Kubernetes cuts termination messages at 4096.
pub const REPORT_LIMIT: usize = 4000;

/// The mover's exit code when it has done its task.
pub const DONE: u8 = 0;
/// The mover's exit code when it failed in a way that may pass: try again.
pub const FAILED: u8 = 1;
/// The mover's exit code when the task or the settings are wrong: trying again is useless until they are changed.
pub const MISCONFIGURED: u8 = 2;
/// The mover's exit code when data in the repository is missing or damaged: trying again is useless.
pub const CORRUPT: u8 = 3;

/// One task of one mover.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Task {
    /// Store what lies under a directory as one snapshot.
    Backup {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The directory to read. `lost+found` directly in it is left out.
        source: String,
        /// The region that makes the snapshot.
        host: String,
        /// What is backed up: the claim's name. Snapshots of one label follow each other: what is unchanged since the
        /// newest one is not read again.
        label: String,
        /// The id of the point that it is made for.
        point: String,
        /// What is left out, by patterns as in a `.gitignore` in the directory.
        exclude: Vec<String>,
    },
    /// Make a directory equal to a snapshot: what is not in the snapshot is deleted, only what differs is transferred.
    Restore {
        /// The namespace of the application whose repository holds the snapshot.
        namespace: String,
        /// The application's name.
        application: String,
        /// The snapshot's full id: 64 hexadecimal digits.
        snapshot: String,
        /// The directory to write into. `lost+found` directly in it is left alone.
        target: String,
        /// What the snapshot left out, by the same patterns: it is left alone.
        exclude: Vec<String>,
        /// Full ids of snapshots. Everything in the directory is of one of them or of this one, and was written by
        /// restores of them: what is the same in all of these is neither looked at nor written. Empty when that is
        /// not known: everything is compared then.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        base: Vec<String>,
        /// Only what lies under these paths of it (`core::paths`); nothing is deleted then. None: all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        paths: Vec<String>,
        /// The id of the point that it is restored from: damage is noted there. `None`: it is noted nowhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<String>,
    },
    /// Write volumes, dumps and objects of a point as plain files.
    Export {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The point's id: the report names it as its snapshot.
        point: String,
        /// The volumes.
        volumes: Vec<ExportedVolume>,
        /// The dumps.
        dumps: Vec<ExportedDump>,
        /// The bundle of objects. `None`: no objects.
        manifest: Option<String>,
        /// Only these objects. None: all of them.
        objects: Vec<ObjectSelector>,
        /// Where to: `volumes/CLAIM/…`, `dumps/NAME`, `objects/GROUP/KIND/NAME.yaml`.
        target: ExportTarget,
    },
    /// Check that all data of the snapshots is in the repository.
    Verify {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The snapshots' full ids.
        snapshots: Vec<String>,
        /// How much of their data is also read, decrypted and compared with its checksum, in percent.
        #[serde(default)]
        read_percent: u8,
    },
    /// Lock all that the snapshots need until then at least.
    Lock {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The snapshots' full ids.
        snapshots: Vec<String>,
        /// The moment.
        until: Timestamp,
    },
    /// Remove from the application's repository and catalogue what no point needs.
    Prune {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The region that does it.
        region: String,
        /// How long data is kept that nothing names, in seconds: longer than any backup or restore takes.
        keep_seconds: u64,
    },
    /// Read back a share of the repository, and note in the vault which points are damaged.
    Scrub {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The region that does it.
        region: String,
        /// Which share, from 0. Each pack falls to one of them, by its name.
        part: u32,
        /// Of how many.
        parts: u32,
        /// The point that is noted as checked when all is well.
        newest: Option<Newest>,
    },
    /// Store what a command in a pod writes to its standard output as one snapshot of one file.
    Dump {
        /// The application's namespace, and the pod's.
        namespace: String,
        /// The application's name.
        application: String,
        /// The region that makes the snapshot.
        host: String,
        /// The dump's name.
        name: String,
        /// The id of the point that it is made for.
        point: String,
        /// The command.
        command: Command,
        /// More bytes than this are refused.
        max_bytes: Option<u64>,
    },
    /// Copy a point, and all that it needs, into another vault. It is there as a whole or not at all.
    Copy {
        /// The application's namespace.
        namespace: String,
        /// The application's name.
        application: String,
        /// The point's id, which is the same in both vaults.
        point: String,
    },
    /// Give a stored dump to the standard input of a command in a pod.
    Load {
        /// The namespace of the application whose repository holds the snapshot.
        namespace: String,
        /// The application's name.
        application: String,
        /// The snapshot's full id.
        snapshot: String,
        /// The pod's namespace.
        into: String,
        /// The command.
        command: Command,
        /// The id of the point that it is loaded from: damage is noted there.
        point: String,
    },
}

/// Where an export goes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum ExportTarget {
    /// Into this directory.
    Folder(String),
    /// Into a vault.
    Vault(ExportPlace),
}

/// Where an export goes in a vault: below `exports/NAMESPACE/PREFIX/`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportPlace {
    /// The namespace of whoever wants it.
    pub namespace: String,
    /// The prefix.
    pub prefix: String,
    /// The uid of the run: what another one has written there is left alone.
    pub run: String,
}

/// A dump that is written as a plain file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportedDump {
    /// Its name.
    pub name: String,
    /// The snapshot's full id.
    pub snapshot: String,
}

/// A volume that is written as plain files.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportedVolume {
    /// The claim: the directory's name.
    pub claim: String,
    /// The snapshot's full id.
    pub snapshot: String,
    /// Only what lies under these paths of it. None: all.
    pub paths: Vec<String>,
}

/// A point whose volumes a scrub looks at more closely.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Newest {
    /// Its name in the vault.
    pub point: String,
    /// The full ids of its snapshots. None: those that the point names in the vault.
    pub snapshots: Vec<String>,
}

/// A command in a pod.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The labels that the pod must have.
    pub pods: BTreeMap<String, String>,
    /// The container. Without it, the one that kubectl would take.
    pub container: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout_seconds: u64,
}

impl Task {
    /// The namespace and the name of the application that it is for.
    #[must_use]
    pub fn application(&self) -> (&str, &str) {
        match self {
            Self::Backup { namespace, application, .. }
            | Self::Restore { namespace, application, .. }
            | Self::Export { namespace, application, .. }
            | Self::Verify { namespace, application, .. }
            | Self::Lock { namespace, application, .. }
            | Self::Prune { namespace, application, .. }
            | Self::Scrub { namespace, application, .. }
            | Self::Dump { namespace, application, .. }
            | Self::Copy { namespace, application, .. }
            | Self::Load { namespace, application, .. } => (namespace, application),
        }
    }

    /// Whether it writes into another vault than the one that it reads.
    #[must_use]
    pub fn writes_elsewhere(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Export { target: ExportTarget::Vault(_), .. })
    }

    /// The point whose data it needs, and which is noted as damaged when that is.
    #[must_use]
    pub fn needs(&self) -> Option<&str> {
        match self {
            Self::Restore { point, .. } => point.as_deref(),
            Self::Export { point, .. } | Self::Load { point, .. } | Self::Copy { point, .. } => Some(point),
            Self::Backup { .. }
            | Self::Verify { .. }
            | Self::Lock { .. }
            | Self::Prune { .. }
            | Self::Scrub { .. }
            | Self::Dump { .. } => None,
        }
    }

    /// Whether it runs a command in a pod: only such a mover speaks to the API server.
    #[must_use]
    pub fn runs_a_command(&self) -> bool {
        match self {
            Self::Backup { .. }
            | Self::Restore { .. }
            | Self::Export { .. }
            | Self::Verify { .. }
            | Self::Lock { .. }
            | Self::Prune { .. }
            | Self::Scrub { .. }
            | Self::Copy { .. } => false,
            Self::Dump { .. } | Self::Load { .. } => true,
        }
    }
}

/// What a mover did.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The snapshot that was made or restored.
    pub snapshot: Option<String>,
    /// Files in the snapshot, without directories. Zero for an empty source: it is for the reader to be alarmed.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Bytes that a backup or a copy stored anew (compressed, encrypted), or that a restore transferred (before compression).
    pub added_bytes: u64,
    /// How long it took, in seconds.
    pub duration_seconds: u64,
    /// How many files and directories could not be read, in whole or in part: the point is `Partial` then.
    pub unreadable: u64,
    /// The first of them, with the reason.
    pub unreadable_files: Vec<String>,
    /// How many files and directories patterns left out, each directory with what is in it. Of an export into a vault: how many
    /// Secrets were left out.
    pub excluded: u64,
    /// How many directories were left out but for their `.nobackup`.
    pub no_backup: u64,
    /// How many owners, modes, attributes, times, links or special files could not be restored.
    pub warnings: u64,
    /// The first of them.
    pub first_warnings: Vec<String>,
    /// What a prune removed.
    pub pruned: Option<Pruned>,
    /// What a scrub found.
    pub scrubbed: Option<Scrubbed>,
    /// Of an export: nothing was written, since something else lies where it was to go.
    pub occupied: bool,
    /// Why it failed. Absent when it succeeded.
    pub error: Option<String>,
    /// Whether data in the repository is missing or damaged: trying again does not help.
    pub corrupt: bool,
    /// What the command in the pod did, for a dump or its loading.
    pub command: Option<Ran>,
}

/// What a command in a pod did.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Ran {
    /// The pod.
    pub pod: String,
    /// When it was started. Nothing that it wrote is older.
    pub started_at: Option<Timestamp>,
    /// Its exit code. Absent when it is not known, as after a connection that broke.
    pub exit_code: Option<i32>,
    /// The end of what it wrote to its standard error.
    pub stderr: String,
}

/// What a prune removed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Pruned {
    /// Snapshots.
    pub snapshots: u64,
    /// Bundles of objects.
    pub manifests: u64,
    /// Bytes of packs and manifests.
    pub reclaimed_bytes: u64,
    /// Bytes of packs that are marked: a later prune removes them.
    pub pending_bytes: u64,
    /// Deletions that the vault refused.
    pub refused: u64,
}

/// What a scrub found.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Scrubbed {
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many are damaged or missing.
    pub damaged_packs: u64,
    /// The first of them.
    pub first_packs: Vec<String>,
    /// How many points need one of them.
    pub damaged_points: u64,
    /// The newest of these.
    pub last_points: Vec<String>,
}

impl Report {
    /// As JSON of at most `REPORT_LIMIT` bytes: lists are shortened first, then what a command wrote, then the error.
    ///
    /// # Panics
    ///
    /// Never: the type has nothing that JSON cannot say.
    #[must_use]
    pub fn to_message(&self) -> String {
        let mut report = self.clone();
        loop {
            let text = serde_json::to_string(&report).expect("a report is plain data");
            if text.len() <= REPORT_LIMIT {
                return text;
            }
            let longest = if report.unreadable_files.len() >= report.first_warnings.len() {
                &mut report.unreadable_files
            } else {
                &mut report.first_warnings
            };
            if longest.pop().is_none() {
                if let Some(ran) = report.command.as_mut().filter(|it| !it.stderr.is_empty()) {
                    // The end tells most.
                    let half = ran.stderr.chars().count().div_ceil(2);
                    ran.stderr = ran.stderr.chars().skip(half).collect();
                    continue;
                }
                let error = report.error.take().unwrap_or_default();
                report.error = Some(error.chars().take(error.chars().count() / 2).collect());
            }
        }
    }

    /// Reads a termination message. `None` when it is not a report, as when the pod was killed.
    #[must_use]
    pub fn from_message(message: &str) -> Option<Self> {
        serde_json::from_str(message.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_says_its_kind_by_one_word() {
        let text =
            r#"{"restore":{"namespace":"shop","application":"db","snapshot":"ab","target":"/data","exclude":[]}}"#;
        let task: Task = serde_json::from_str(text).unwrap();
        assert_eq!(task.application(), ("shop", "db"));
        assert_eq!(serde_json::to_string(&task).unwrap(), text);
    }

    #[test]
    fn a_task_with_an_unknown_field_is_refused() {
        let text = r#"{"verify":{"namespace":"a","application":"b","snapshots":[],"deep":true}}"#;
        assert!(serde_json::from_str::<Task>(text).is_err());
    }

    #[test]
    fn a_report_fits_the_termination_message_whatever_is_in_it() {
        let report = Report {
            unreadable: 9000,
            unreadable_files: (0..500).map(|i| format!("/data/ü{i}/{}: denied", "x".repeat(300))).collect(),
            first_warnings: vec!["w".repeat(900); 30],
            error: Some("\u{1}\"".repeat(9000)),
            command: Some(Ran { stderr: "\u{1}".repeat(9000), exit_code: Some(3), ..Ran::default() }),
            ..Report::default()
        };
        let text = report.to_message();
        assert!(text.len() <= REPORT_LIMIT);
        let back = Report::from_message(&text).unwrap();
        assert_eq!(back.unreadable, 9000);
        assert!(back.error.is_some_and(|error| !error.is_empty()));
        assert_eq!(back.command.and_then(|it| it.exit_code), Some(3));
    }

    #[test]
    fn a_short_report_is_kept_whole() {
        let report = Report { files: 3, unreadable_files: vec!["a: denied".into()], ..Report::default() };
        assert_eq!(Report::from_message(&report.to_message()), Some(report));
    }

    #[test]
    fn what_a_killed_pod_leaves_is_no_report() {
        assert_eq!(Report::from_message("OOMKilled"), None);
        assert_eq!(Report::from_message(""), None);
    }
}
