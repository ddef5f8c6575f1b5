//! Locks of what recovery is made of: S3 Object Lock.
//!
//! Every write of such an object asks for a lock of its version; what newer points still need is locked for longer by
//! `Store::lock`. A lock holds for a version: whoever has the credentials may still hide it behind a newer one or
//! behind a delete marker, and `versions` finds it again. Nothing here decides how long.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use object_store::client::{HttpError, HttpRequest};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::keys::unhex;
use super::s3_requests::{Asked, S3Requests, Signer};
use super::{Store, StoreError};
use crate::api::vault::{LockMode, ObjectLock};
use crate::core::locks::of_write;

/// Whether the object with this key, relative to the vault's prefix, is locked: only what is never written anew and
/// never taken back. A claim, a head or a lease that can't be written anew would stop the application. A wrapped key is
/// retired by hiding it, like everything that is locked.
#[must_use]
pub fn is_locked(key: &str) -> bool {
    let mut names = key.split('/');
    match names.next() {
        Some("apps") => matches!(names.nth(2), Some("points" | "manifests")),
        Some("repos") => matches!(names.nth(1), Some("config" | "keys" | "index" | "snapshots" | "data")),
        Some("reprise.json" | "keys") => true,
        _ => false,
    }
}

fn mode(lock: &ObjectLock) -> &'static str {
    match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

/// As S3 wants it: whole seconds.
fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Adds a lock to writes, as they are sent.
#[derive(Debug)]
pub(super) struct LockOnWrite {
    signer: Signer,
    base: String,
    lock: ObjectLock,
}

impl LockOnWrite {
    /// For the bucket at this URL.
    pub(super) fn new(signer: Signer, url: &str, prefix: &str, lock: &ObjectLock) -> Self {
        let prefix = prefix.trim_matches('/');
        let base = if prefix.is_empty() { format!("{url}/") } else { format!("{url}/{prefix}/") };
        Self { signer, base, lock: lock.clone() }
    }

    /// Adds the lock to a write of what is to be locked, and signs it anew: headers that are not signed are refused.
    pub(super) async fn protect(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        if !self.makes_a_version(request) {
            return Ok(());
        }
        let until = of_write(self.lock.period, Timestamp::now());
        let digest = request.headers().get("x-amz-content-sha256").and_then(|it| it.to_str().ok()).and_then(unhex);
        let until = HeaderValue::from_str(&date(until)).expect("a date is plain text");
        let headers = request.headers_mut();
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static(mode(&self.lock)));
        headers.insert("x-amz-object-lock-retain-until-date", until);
        self.signer.sign(request, digest.as_deref()).await
    }

    /// A write of a whole object, a copy, or the beginning of a write in parts.
    fn makes_a_version(&self, request: &HttpRequest) -> bool {
        let address = request.uri().to_string();
        let (path, query) = address.split_once('?').unwrap_or((&address, ""));
        let makes = match *request.method() {
            Method::PUT => query.is_empty(),
            Method::POST => query == "uploads" || query == "uploads=",
            _ => false,
        };
        makes && path.strip_prefix(&self.base).is_some_and(is_locked)
    }
}

/// Until when a version is locked.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    retain_until_date: Timestamp,
}

/// What a bucket is made with.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    object_lock_enabled: String,
}

impl Store {
    fn lockable(&self) -> Option<(&S3Requests, &str, &ObjectLock)> {
        match self {
            Self::Bucket(bucket) => {
                let (requests, prefix) = bucket.versions()?;
                Some((requests, prefix, requests.lock.as_ref()?))
            }
            Self::Directory(_) => None,
            #[cfg(test)]
            Self::Fake(_) => None,
        }
    }

    /// How what is written is locked. `None`: it is not.
    #[must_use]
    pub fn object_lock(&self) -> Option<&ObjectLock> {
        self.lockable().map(|(_, _, lock)| lock)
    }

    /// Whether the bucket can lock versions at all.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn can_lock(&self) -> Result<bool, StoreError> {
        let Some((requests, ..)) = self.lockable() else { return Ok(false) };
        let asked = Asked { query: &[("object-lock", "")], ..Asked::default() };
        let found: Option<Configuration> = requests.ask(asked).await?;
        Ok(found.is_some_and(|it| it.object_lock_enabled == "Enabled"))
    }

    /// Until when the current version of an object is locked, as the server says. `None`: it is not there, or not locked.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn locked_until(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some((requests, prefix, _)) = self.lockable() else { return Ok(None) };
        let key = format!("{prefix}{key}");
        let asked = Asked { key: &key, query: &[("retention", "")], ..Asked::default() };
        let found: Option<Retention> = requests.ask(asked).await?;
        Ok(found.map(|it| it.retain_until_date))
    }

    /// Locks the current version of an object until then. False: it is not there. A lock is never shortened: the server
    /// refuses.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost`.
    ///
    /// # Panics
    /// Never: base64 is plain text.
    pub async fn lock(&self, key: &str, until: Timestamp) -> Result<bool, StoreError> {
        let Some((requests, prefix, lock)) = self.lockable() else {
            return Err(StoreError::Other("this vault has no locks".to_owned()));
        };
        let key = format!("{prefix}{key}");
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
            mode(lock),
            date(until)
        );
        let checksum = BASE64_STANDARD.encode(Sha256::digest(body.as_bytes()));
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-sdk-checksum-algorithm", HeaderValue::from_static("SHA256"));
        headers.insert("x-amz-checksum-sha256", HeaderValue::from_str(&checksum).expect("base64 is plain text"));
        let query = &[("retention", "")];
        let asked = Asked { method: Method::PUT, key: &key, query, headers, body: Bytes::from(body) };
        Ok(requests.send(asked).await?.is_some())
    }
}

#[cfg(test)]
#[path = "object_lock_tests.rs"]
mod tests;
