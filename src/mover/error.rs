//! Why a mover failed, and what that means for its exit code.

use rustic_core::RusticError;

use crate::core::mover_task::{CORRUPT, FAILED, MISCONFIGURED, Ran};
use crate::exec::{Ended, ExecError};
use crate::vault::catalogue::CatalogueError;
use crate::vault::lease::LeaseError;
use crate::vault::repository::Health;
use crate::vault::{StoreError, VaultError};

/// Why a mover failed.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum MoverError {
    /// The environment or the task can't be right.
    #[error("the mover's task is wrong: {0}")]
    Task(String),
    /// The vault can't be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Data in the repository is missing or damaged.
    #[error("the repository is damaged: {0}")]
    Corrupt(String),
    /// Data in the repository of the vault that is copied to is missing or damaged.
    #[error("the vault that is copied to is damaged: {0}")]
    Copy(String),
    /// The volume has no space left.
    #[error("the volume is full: it needs at least the size that the snapshot's files have")]
    VolumeFull,
    /// The volume can't be written or read.
    #[error("the volume: {0}")]
    Volume(String),
    /// What was restored is not what was stored.
    #[error(
        "after the restore {0} files or directories differ from the snapshot: something else writes into the volume"
    )]
    Different(u64),
    /// Another mover prunes.
    #[error("{0}")]
    Lease(#[from] LeaseError),
    /// The catalogue can't be read: what nothing seems to need may be needed.
    #[error("{0}: nothing is removed")]
    Catalogue(String),
    /// The catalogue of a vault that a point is copied from or to.
    #[error("{0}")]
    Point(String),
    /// The repository was pruned meanwhile.
    #[error("data that this snapshot shares was marked as unneeded meanwhile")]
    Marked,
    /// Nothing moved for a long time.
    #[error("nothing was transferred for {0} minutes")]
    Stalled(u64),
    /// The pod was told to stop.
    #[error("the mover was stopped before it had finished")]
    Stopped,
    /// A command in a pod did not run, or did not end well.
    #[error("{what}{}", said(.stderr))]
    Command {
        /// What went wrong.
        what: String,
        /// Its exit code, if it is known.
        exit_code: Option<i32>,
        /// The end of its standard error.
        stderr: String,
    },
    /// Anything else that the engine says.
    #[error("{0}")]
    Engine(String),
}

impl From<CatalogueError> for MoverError {
    fn from(error: CatalogueError) -> Self {
        match error {
            CatalogueError::Store(error) => Self::Vault(error.into()),
            other => Self::Point(other.to_string()),
        }
    }
}

impl MoverError {
    /// The exit code that says it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Corrupt(_) | Self::Copy(_) => CORRUPT,
            Self::Task(_) => MISCONFIGURED,
            Self::Vault(error) => vault_exit_code(error),
            Self::VolumeFull
            | Self::Volume(_)
            | Self::Different(_)
            | Self::Lease(_)
            | Self::Catalogue(_)
            | Self::Point(_)
            | Self::Marked
            | Self::Stalled(_)
            | Self::Stopped
            | Self::Command { .. }
            | Self::Engine(_) => FAILED,
        }
    }

    /// A command ended with another code than 0.
    pub(super) fn exited(pod: &str, ended: &Ended) -> Self {
        let what = format!("the command in pod {pod} ended with {}", ended.code);
        Self::Command { what, exit_code: Some(ended.code), stderr: ended.stderr.clone() }
    }

    /// A command did not run, or it is not known how it ended.
    pub(super) fn not_run(error: &ExecError) -> Self {
        Self::Command { what: error.to_string(), exit_code: None, stderr: String::new() }
    }

    /// What is known of the command that failed.
    pub(super) fn ran(&self) -> Option<Ran> {
        let Self::Command { exit_code, stderr, .. } = self else { return None };
        Some(Ran { exit_code: *exit_code, stderr: stderr.clone(), ..Ran::default() })
    }

    /// What an engine's error comes from: the engine wraps what the backend said, or loses it.
    pub(super) fn from_engine(health: &Health, error: &RusticError) -> Self {
        Self::judge(health, &format!("{error:?}"), &plain(error))
    }

    /// What a standstill of the engine comes from.
    pub(super) fn from_stall(health: &Health, minutes: u64) -> Self {
        match (health.corrupt(), health.failure()) {
            (Some(what), _) => Self::Corrupt(what),
            (None, Some(error)) => Self::Vault(error.into()),
            (None, None) => Self::Stalled(minutes),
        }
    }

    /// What a panic of the engine comes from: it has no other way to say that a write or a read failed.
    pub(super) fn from_panic(health: &Health, message: &str) -> Self {
        Self::judge(health, message, &format!("the engine broke off: {}", first_line(message)))
    }

    fn judge(health: &Health, details: &str, text: &str) -> Self {
        if let Some(what) = health.corrupt() {
            return Self::Corrupt(what);
        }
        if let Some(error) = health.failure() {
            return Self::Vault(error.into());
        }
        if details.contains("StorageFull") || details.contains("QuotaExceeded") {
            return Self::VolumeFull;
        }
        // The authenticator of a blob does not fit, or what it says can't be unpacked.
        if details.contains("kind: Cryptography") || details.contains("zstd") {
            return Self::Corrupt("stored data is not what was written".to_owned());
        }
        Self::Engine(text.to_owned())
    }
}

/// The last line of what a command wrote to its standard error.
fn said(stderr: &str) -> String {
    let last = stderr.lines().rev().map(str::trim).find(|it| !it.is_empty());
    last.map_or_else(String::new, |it| format!(": {}", it.chars().take(300).collect::<String>()))
}

fn vault_exit_code(error: &VaultError) -> u8 {
    match error {
        VaultError::Key(_)
        | VaultError::Settings(_)
        | VaultError::OtherKey
        | VaultError::Wrap { .. }
        | VaultError::Recipient { .. }
        | VaultError::Retire { .. }
        | VaultError::Format { .. }
        | VaultError::Identity
        | VaultError::Stray { .. }
        | VaultError::Emptied => MISCONFIGURED,
        VaultError::Store(error) => match error {
            StoreError::AccessKeyId
            | StoreError::SecretAccessKey
            | StoreError::SessionToken
            | StoreError::AccountKey
            | StoreError::SasToken
            | StoreError::ClientSecret
            | StoreError::NoCredentials { .. }
            | StoreError::Encryption { .. }
            | StoreError::OtherEncryption { .. }
            | StoreError::Forbidden { .. }
            | StoreError::NoBucket { .. }
            | StoreError::OtherRegion { .. }
            | StoreError::Tls { .. }
            | StoreError::NoDirectory { .. } => MISCONFIGURED,
            StoreError::Unresolved { .. }
            | StoreError::Refused { .. }
            | StoreError::Unreachable { .. }
            | StoreError::TimedOut { .. }
            | StoreError::ClockSkew
            | StoreError::Lost
            | StoreError::Unknown { .. }
            | StoreError::Busy { .. }
            | StoreError::Garbled { .. }
            | StoreError::NoRoom { .. }
            | StoreError::TooLarge { .. }
            | StoreError::TooMany { .. }
            | StoreError::Full { .. }
            | StoreError::Other(_) => FAILED,
        },
    }
}

/// The engine's text in one line: its own texts have headings, hints and addresses for bug reports.
pub(super) fn plain(error: &RusticError) -> String {
    let text = error.display_log();
    let text = text.strip_prefix("Error: ").unwrap_or(&text);
    first_line(text)
}

fn first_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(500).collect()
}
