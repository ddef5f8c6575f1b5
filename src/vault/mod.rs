//! Object storage: where a vault lies, what opens it, and the few requests that everything else is made of.
//!
//! The story of a request is told in `s3` and `directory`, one file per kind of storage; what is stored under which
//! key in `identity`, `catalogue` and `repository`; whether a store can be trusted with claims in `conformance`.
//! Nothing here knows of Kubernetes, and nothing decides: a failed request is an error for the caller to judge.
//!
//! Keys are relative to the vault's prefix, without a slash at their start.

pub mod application_key;
pub mod catalogue;
pub mod conformance;
pub mod directory;
mod error;
pub mod escrow;
#[cfg(test)]
pub(crate) mod fake;
pub mod identity;
pub mod keys;
pub mod manifest;
#[cfg(test)]
pub(crate) mod minio;
mod opened;
pub mod regions;
pub mod repository;
pub mod s3;
mod s3_error;
mod uploads;
pub mod vault_key;
pub mod verified;
pub mod wraps;

use std::fmt;
use std::time::Duration;

use crate::api::vault::VaultSpec;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;

pub use self::error::StoreError;
pub use self::opened::{Locked, Vault};
use self::vault_key::KeyError;

/// The deadline of one request that carries little, retries included.
pub const REQUEST_SECONDS: u64 = 10;
/// The slowest transfer that is waited for, in bytes per second: what is sent or read beyond a small object adds
/// to the deadline at this rate.
const SLOWEST_BYTES_PER_SECOND: u64 = 128 * 1024;
/// The most bytes that `Store::get` reads into memory.
pub const OBJECT_LIMIT: u64 = 16 * 1024 * 1024;
/// The most keys that `Store::list` returns.
pub const LIST_LIMIT: usize = 100_000;
/// The most keys of one page.
pub const PAGE_LIMIT: usize = 1000;

/// Where a vault lies and what opens it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Where it lies.
    pub location: Location,
    /// A key of the vault: at least 32 characters.
    pub key: SecretText,
}

/// Where a vault lies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    /// A bucket.
    S3(S3Location),
    /// A directory.
    Directory(DirectoryLocation),
}

/// A bucket of an S3-compatible server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Location {
    /// The bucket. It must exist.
    pub bucket: String,
    /// The prefix of every key, without slashes at its ends; may be empty.
    #[serde(default)]
    pub prefix: String,
    /// The provider's name of the bucket's region.
    pub region: String,
    /// The server, as `https://host` or `http://host`; AWS when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name.
    pub path_style: bool,
    /// Certificates to trust besides the usual ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The credentials; the environment's identity when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<S3Credentials>,
}

/// Credentials of a bucket.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: SecretText,
    /// The session's token, with temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretText>,
}

/// A directory that every region mounts.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryLocation {
    /// Where it is mounted. It must exist.
    pub path: String,
}

impl Location {
    /// What a `Vault` object says, without credentials. A directory lies under `root`, by the name of its claim.
    #[must_use]
    pub fn from_spec(spec: &VaultSpec, root: &str) -> Option<Self> {
        if let Some(s3) = &spec.s3 {
            return Some(Self::S3(S3Location {
                bucket: s3.bucket.clone(),
                prefix: s3.prefix.clone().unwrap_or_default(),
                region: s3.region.clone(),
                endpoint: s3.endpoint.clone(),
                path_style: s3.path_style.unwrap_or(s3.endpoint.is_some()),
                ca_bundle: s3.ca_bundle.clone(),
                credentials: None,
            }));
        }
        let path = |claim: &str| format!("{root}/{claim}");
        spec.directory.as_ref().map(|it| Self::Directory(DirectoryLocation { path: path(&it.claim_name) }))
    }
}

impl fmt::Display for Location {
    /// For people: `s3://bucket/prefix at https://host`, `/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(at) => {
                write!(f, "s3://{}", at.bucket)?;
                if !at.prefix.is_empty() {
                    write!(f, "/{}", at.prefix)?;
                }
                at.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
            }
            Self::Directory(at) => f.write_str(&at.path),
        }
    }
}

/// A text that is not to be printed: `Debug` shows `***`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a vault can't be used.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum VaultError {
    /// The key can't be one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The settings can't be right.
    #[error("{0}")]
    Settings(String),
    /// The store did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault has no root for this key.
    #[error(
        "the key is none of this vault's keys: put one that is into the Secret of `spec.encryption.secret`; if all are lost, an offline identity makes this one a key of it (`kubectl reprise key recover`)"
    )]
    OtherKey,
    /// What the key is to open can't be read.
    #[error(
        "`keys/{id}.json` in the vault is damaged: restore it from a copy, use another key of the vault, or make it anew with an offline identity (`kubectl reprise key recover`)"
    )]
    Wrap {
        /// The key's id.
        id: String,
    },
    /// The root can't be stored for an offline recipient.
    #[error("spec.encryption.recipients: `{recipient}` is not an age recipient: {reason}")]
    Recipient {
        /// As it was given.
        recipient: String,
        /// Why not.
        reason: String,
    },
    /// The vault was made by a newer version.
    #[error("the vault has format {found}, this version reads up to {known}: use a newer version of Reprise")]
    Format {
        /// What it has.
        found: u32,
        /// What this version reads.
        known: u32,
    },
    /// A key can't be taken away.
    #[error("the key {id} is not retired: {reason}")]
    Retire {
        /// Its id.
        id: String,
        /// Why not.
        reason: String,
    },
    /// `reprise.json` can't be read.
    #[error("`reprise.json` in the vault is damaged: restore it from a copy or from an older version of the object")]
    Identity,
    /// `reprise.json` is gone, but other objects are there.
    #[error(
        "the vault has no `reprise.json`, yet objects under `{prefix}`: restore `reprise.json`, or use an empty prefix"
    )]
    Stray {
        /// Where objects were found.
        prefix: String,
    },
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// The key does not exist.
    Absent,
    /// The object still has this tag.
    Unchanged(&'a str),
}

/// An object, and the tag of this version of it. Tags may follow the content: identical bytes, identical tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// Its tag.
    pub tag: String,
}

/// A key in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The object's size in bytes.
    pub bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
}

/// How long a request may take that carries so many bytes.
pub(crate) fn deadline(bytes: u64) -> Duration {
    Duration::from_secs(REQUEST_SECONDS + bytes / SLOWEST_BYTES_PER_SECOND)
}

/// A part of an object that is being written; why there is no more of it when what it is made of cannot be read.
pub type Part = Result<Bytes, String>;

/// One storage. Every request has a deadline; reads and unconditional writes are tried again within it.
#[derive(Clone, Debug)]
pub enum Store {
    /// A bucket.
    S3(s3::S3),
    /// A directory.
    Directory(directory::Directory),
    /// Memory, with the faults that a test asks for.
    #[cfg(test)]
    Fake(fake::Fake),
}

impl Store {
    /// Reads an object of at most `OBJECT_LIMIT` bytes. `None` when it is absent.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.get_within(key, OBJECT_LIMIT, deadline(0)).await
    }

    /// Reads an object of at most `limit` bytes. `None` when it is absent.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn get_up_to(&self, key: &str, limit: u64) -> Result<Option<Object>, StoreError> {
        self.get_within(key, limit, deadline(limit)).await
    }

    async fn get_within(&self, key: &str, limit: u64, wait: Duration) -> Result<Option<Object>, StoreError> {
        match self {
            Self::S3(store) => store.get(key, limit, wait).await,
            Self::Directory(store) => store.get(key, limit, wait).await,
            #[cfg(test)]
            Self::Fake(store) => store.get(key),
        }
    }

    /// Reads a part of an object. `None` when the object is absent; fewer bytes than asked for when it is shorter.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::S3(store) => store.get_range(key, offset, length).await,
            Self::Directory(store) => store.get_range(key, offset, length).await,
            #[cfg(test)]
            Self::Fake(store) => store.get_range(key, offset, length),
        }
    }

    /// The size of an object in bytes. `None` when it is absent.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self {
            Self::S3(store) => store.size(key).await,
            Self::Directory(store) => store.size(key).await,
            #[cfg(test)]
            Self::Fake(store) => Ok(store.get(key)?.map(|object| object.bytes.len() as u64)),
        }
    }

    /// Writes if the condition holds, and returns the new tag. Sent once, never repeated.
    ///
    /// # Errors
    /// `Lost` when the condition did not hold or another writer was in the way, `Unknown` when no reply came: both
    /// want the caller to read back. Any other error says that nothing was written.
    pub async fn put_if(&self, key: &str, bytes: Bytes, condition: Condition<'_>) -> Result<String, StoreError> {
        match self {
            Self::S3(store) => store.put_if(key, bytes, condition).await,
            Self::Directory(store) => store.put_if(key, bytes, condition).await,
            #[cfg(test)]
            Self::Fake(store) => store.put_if(key, bytes, condition).await,
        }
    }

    /// Writes, whatever is there.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost`. The write may have happened nevertheless.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => store.put(key, bytes).await,
            Self::Directory(store) => store.put(key, bytes).await,
            #[cfg(test)]
            Self::Fake(store) => store.put(key, bytes),
        }
    }

    /// Writes an object that comes in parts, all but the last of one size, whatever is there. `bytes` is about how many
    /// there are. It is there as a whole or not at all.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost`. The write may have happened nevertheless.
    pub async fn put_parts(&self, key: &str, bytes: u64, parts: &mut Receiver<Part>) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => store.put_parts(key, parts).await,
            Self::Directory(store) => store.put_parts(key, bytes, parts).await,
            #[cfg(test)]
            Self::Fake(store) => store.put_parts(key, parts).await,
        }
    }

    /// Deletes. To delete what is absent is a success.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost`. The deletion may have happened nevertheless.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => store.delete(key).await,
            Self::Directory(store) => store.delete(key).await,
            #[cfg(test)]
            Self::Fake(store) => store.delete(key),
        }
    }

    /// The first keys, in byte order, that begin with `prefix` and come after `after`: at most `limit`, and at most
    /// `PAGE_LIMIT`. Fewer than that means that there are no more.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let limit = limit.clamp(1, PAGE_LIMIT);
        match self {
            Self::S3(store) => store.page(prefix, after, limit).await,
            Self::Directory(store) => store.page(prefix, after, limit).await,
            #[cfg(test)]
            Self::Fake(store) => store.page(prefix, after, limit),
        }
    }

    /// All keys that begin with `prefix`, in byte order.
    ///
    /// # Errors
    /// `TooMany` beyond `LIST_LIMIT`; any other `StoreError` but `Lost` and `Unknown`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.key.clone());
            let page = self.page(prefix, after.as_deref(), PAGE_LIMIT).await?;
            let last = page.len() < PAGE_LIMIT;
            entries.extend(page);
            if last {
                return Ok(entries);
            }
            if entries.len() >= LIST_LIMIT {
                return Err(StoreError::TooMany { prefix: prefix.to_owned(), limit: LIST_LIMIT });
            }
        }
    }

    /// The names directly under `prefix` that have something under them: `b` for `prefix` `a/` and key `a/b/c`.
    /// `prefix` ends with a slash.
    ///
    /// # Errors
    /// `TooMany` beyond `LIST_LIMIT`; any other `StoreError` but `Lost` and `Unknown`.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::S3(store) => store.names(prefix).await,
            Self::Directory(store) => store.names(prefix).await,
            #[cfg(test)]
            Self::Fake(store) => store.names(prefix),
        }
    }
}
