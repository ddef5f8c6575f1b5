//! Locks of what recovery is made of: S3 Object Lock, Azure's immutability policies.
//!
//! Every write of such an object asks for a lock of its version; what newer points still need is locked for longer by
//! `Store::lock`. A lock holds for a version: whoever has the credentials may still hide it behind a newer one or
//! behind a delete marker, and `versions` finds it again. Nothing here decides how long.

use jiff::Timestamp;
use object_store::client::{HttpError, HttpRequest};

use super::keys::unhex;
use super::requests::{Requests, Signer};
use super::{Store, StoreError, azure_lock, s3_lock};
use crate::api::vault::ObjectLock;
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
        let headers = match &self.signer {
            Signer::S3 { .. } => s3_lock::headers(&self.lock, until),
            Signer::Azure { .. } => azure_lock::headers(&self.lock, until),
        };
        for (name, value) in headers {
            request.headers_mut().insert(name, value);
        }
        self.signer.sign_anew(request, digest.as_deref()).await
    }

    fn makes_a_version(&self, request: &HttpRequest) -> bool {
        let address = request.uri().to_string();
        let (path, query) = address.split_once('?').unwrap_or((&address, ""));
        let makes = match &self.signer {
            Signer::S3 { .. } => s3_lock::makes_a_version(request, query),
            Signer::Azure { .. } => azure_lock::makes_a_version(request, query),
        };
        makes && path.strip_prefix(&self.base).is_some_and(is_locked)
    }
}

impl Store {
    fn lockable(&self) -> Option<(&Requests, &str, &ObjectLock)> {
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
        match requests.signer() {
            Signer::S3 { .. } => s3_lock::can_lock(requests).await,
            Signer::Azure { .. } => azure_lock::can_lock(requests).await,
        }
    }

    /// Until when the current version of an object is locked, as the server says. `None`: it is not there, or not locked.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost` and `Unknown`.
    pub async fn locked_until(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some((requests, prefix, _)) = self.lockable() else { return Ok(None) };
        let key = format!("{prefix}{key}");
        match requests.signer() {
            Signer::S3 { .. } => s3_lock::locked_until(requests, &key).await,
            Signer::Azure { .. } => azure_lock::locked_until(requests, &key).await,
        }
    }

    /// Locks the current version of an object until then. False: it is not there. A lock is never shortened: the server
    /// refuses.
    ///
    /// # Errors
    /// Any `StoreError` but `Lost`.
    pub async fn lock(&self, key: &str, until: Timestamp) -> Result<bool, StoreError> {
        let Some((requests, prefix, lock)) = self.lockable() else {
            return Err(StoreError::Other("this vault has no locks".to_owned()));
        };
        let key = format!("{prefix}{key}");
        match requests.signer() {
            Signer::S3 { .. } => s3_lock::lock(requests, &key, lock, until).await,
            Signer::Azure { .. } => azure_lock::lock(requests, &key, lock, until).await,
        }
    }
}

#[cfg(test)]
#[path = "object_lock_tests.rs"]
pub(crate) mod tests;
