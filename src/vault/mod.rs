//! Object storage: where a vault lies (`location`), what opens it, and the few requests that everything else is made of.
//!
//! The story of a request is told in `bucket` and `directory`, what differs between providers in `s3` and `azure`; what is stored under which
//! key in `identity`, `catalogue` and `repository`; whether a store can be trusted with claims in `conformance`.
//! Nothing here knows of Kubernetes, and nothing decides: a failed request is an error for the caller to judge.
//!
//! Keys are relative to the vault's prefix, without a slash at their start.

pub mod application_key;
mod azure;
mod azure_lock;
#[cfg(test)]
pub(crate) mod azurite;
mod bucket;
mod bucket_error;
pub mod catalogue;
pub mod chain;
pub mod conformance;
pub mod directory;
mod envelope;
mod error;
pub mod escrow;
#[cfg(test)]
pub(crate) mod fake;
mod head_repair;
pub mod identity;
pub mod immutability;
pub mod keys;
pub mod lease;
pub mod limits;
mod location;
pub mod manifest;
#[cfg(test)]
pub(crate) mod minio;
mod noted;
pub mod object_lock;
mod opened;
mod pace;
pub mod regions;
pub mod repository;
mod requests;
pub mod retention;
mod s3;
mod s3_lock;
mod transport;
mod uploads;
pub mod vault_key;
pub mod verified;
pub mod versions;
pub mod wraps;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;

pub use self::error::{Provider, StoreError};
pub use self::location::{
    AzureCredentials, AzureLocation, DirectoryLocation, Location, ProxyCredentials, ProxyLocation, S3Credentials,
    S3Location,
};
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
    /// How fast data may be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<crate::api::vault::Limits>,
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
    /// It is empty, and was not.
    #[error(
        "the vault is empty, and was not when this region opened it: somebody deleted what is in it. `kubectl reprise recover --at TIME` says what \
         can be brought back. If a new one is meant, delete the Vault object and make it again"
    )]
    Emptied,
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
    /// A bucket of an S3-compatible server, or a container of Azure.
    Bucket(bucket::Bucket),
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
            Self::Bucket(store) => store.get(key, limit, wait).await,
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
            Self::Bucket(store) => store.get_range(key, offset, length).await,
            Self::Directory(store) => store.get_range(key, offset, length).await,
            #[cfg(test)]
            Self::Fake(store) => store.get_range(key, offset, length),
        }
    }

    /// The size of an object, and when it was written. `None` when it is absent.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn find(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        match self {
            Self::Bucket(store) => store.find(key).await,
            Self::Directory(store) => store.find(key).await,
            #[cfg(test)]
            Self::Fake(store) => store.find(key),
        }
    }

    /// Waits as long as the store asked to be left alone, half a minute at most.
    pub(crate) async fn calm(&self) {
        match self {
            Self::Bucket(store) => store.calm().await,
            Self::Directory(_) => {}
            #[cfg(test)]
            Self::Fake(_) => {}
        }
    }

    /// Whether the server encrypts as it is asked to, as far as it says how it encrypted this object.
    ///
    /// # Errors
    /// `OtherEncryption` when it does not; any `StoreError` but `Lost` and `Unknown`.
    pub async fn check_encryption(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Self::Bucket(store) => store.check_encryption(key).await,
            Self::Directory(_) => Ok(()),
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Writes if the condition holds, and returns the new tag. Sent once, never repeated.
    ///
    /// # Errors
    /// `Lost` when the condition did not hold or another writer was in the way, `Unknown` when no reply came: both
    /// want the caller to read back. Any other error says that nothing was written.
    pub async fn put_if(&self, key: &str, bytes: Bytes, condition: Condition<'_>) -> Result<String, StoreError> {
        match self {
            Self::Bucket(store) => store.put_if(key, bytes, condition).await,
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
            Self::Bucket(store) => store.put(key, bytes).await,
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
            Self::Bucket(store) => store.put_parts(key, parts).await,
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
            Self::Bucket(store) => store.delete(key).await,
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
            Self::Bucket(store) => store.page(prefix, after, limit).await,
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
            Self::Bucket(store) => store.names(prefix).await,
            Self::Directory(store) => store.names(prefix).await,
            #[cfg(test)]
            Self::Fake(store) => store.names(prefix),
        }
    }
}
