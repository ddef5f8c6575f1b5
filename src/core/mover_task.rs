//! What a mover is told to do, and what it reports: the words between the operator and a mover's pod.
//!
//! Data only: a `Task` travels as JSON in the pod's environment (without secrets), a `Report` comes back as the
//! pod's termination message. The work itself is `mover`.

use serde::{Deserialize, Serialize};

/// The environment variable that holds the `Task`, as JSON.
pub const TASK: &str = "REPRISE_TASK";
/// The environment variable that holds the vault's `Location` without credentials, as JSON.
pub const VAULT: &str = "REPRISE_VAULT";
/// The environment variable that holds the vault's key.
pub const VAULT_KEY: &str = "REPRISE_VAULT_KEY";
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
}

/// A point whose volumes a scrub looks at more closely.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Newest {
    /// Its name in the vault.
    pub point: String,
    /// The full ids of its snapshots.
    pub snapshots: Vec<String>,
}

impl Task {
    /// The namespace and the name of the application that it is for.
    #[must_use]
    pub fn application(&self) -> (&str, &str) {
        match self {
            Self::Backup { namespace, application, .. }
            | Self::Restore { namespace, application, .. }
            | Self::Verify { namespace, application, .. }
            | Self::Scrub { namespace, application, .. } => (namespace, application),
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
    /// Bytes that a backup stored anew (compressed, encrypted), or that a restore transferred (before compression).
    pub added_bytes: u64,
    /// How long it took, in seconds.
    pub duration_seconds: u64,
    /// How many files and directories could not be read, in whole or in part: the point is `Partial` then.
    pub unreadable: u64,
    /// The first of them, with the reason.
    pub unreadable_files: Vec<String>,
    /// How many owners, modes, attributes, times, links or special files could not be restored.
    pub warnings: u64,
    /// The first of them.
    pub first_warnings: Vec<String>,
    /// What a scrub found.
    pub scrubbed: Option<Scrubbed>,
    /// Why it failed. Absent when it succeeded.
    pub error: Option<String>,
    /// Whether data in the repository is missing or damaged: trying again does not help.
    pub corrupt: bool,
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
    /// As JSON of at most `REPORT_LIMIT` bytes: lists are shortened first, then the error's text.
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
        let text = r#"{"restore":{"namespace":"shop","application":"db","snapshot":"ab","target":"/data"}}"#;
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
            ..Report::default()
        };
        let text = report.to_message();
        assert!(text.len() <= REPORT_LIMIT);
        let back = Report::from_message(&text).unwrap();
        assert_eq!(back.unreadable, 9000);
        assert!(back.error.is_some_and(|error| !error.is_empty()));
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
