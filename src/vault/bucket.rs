//! A bucket of an S3-compatible server, or a container of Azure: the requests, as both understand them.
//!
//! A conditional write is sent exactly once: a repeated one that succeeded the first time would be told that it lost.
//! Everything else may be repeated, within the deadline of the request. How a bucket is addressed is `s3` and `azure`,
//! what an error means is `bucket_error`, when a request has to wait since the store is busy is `pace`.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::Timestamp;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use rand::RngExt;
use tokio::time::Instant;

use super::bucket_error::{Failure, Place, classify};
use super::pace::Pace;
use super::requests::Requests;
use super::transport::Encrypted;
use super::{Condition, Entry, LIST_LIMIT, Object, StoreError, deadline};

/// How often a request is sent at most, when it may be repeated.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles with each.
const PAUSE: Duration = Duration::from_millis(200);

/// What providers' clients have in common.
pub(super) trait Client: ObjectStore + PaginatedListStore + MultipartStore + Debug {}
impl<T: ObjectStore + PaginatedListStore + MultipartStore + Debug> Client for T {}

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Arc<dyn Client>,
    prefix: String,
    place: Place,
    pace: Arc<Pace>,
    encryption: Option<&'static str>,
    versions: Option<Arc<Requests>>,
}

impl Bucket {
    pub(super) fn new(client: Arc<dyn Client>, prefix: &str, at: Place, pace: Arc<Pace>) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { client, prefix, place: at, pace, encryption: None, versions: None }
    }

    /// Names the encryption that the client asks the server for, as servers report it.
    pub(super) fn asking_for(self, encryption: Option<&'static str>) -> Self {
        Self { encryption, ..self }
    }

    /// Adds what S3 has beside objects: their versions, and locks of them.
    pub(super) fn with_versions(self, requests: Requests) -> Self {
        Self { versions: Some(Arc::new(requests)), ..self }
    }

    /// What reaches versions and their locks, with the prefix of the vault's keys. `None`: the store has none.
    pub(super) fn versions(&self) -> Option<(&Requests, &str)> {
        Some((self.versions.as_deref()?, &self.prefix))
    }

    /// Waits until the store is no longer to be left alone: 30 s at most.
    pub(super) async fn calm(&self) {
        tokio::time::sleep(self.pace.pause()).await;
    }

    /// Compares how the server says that an object is encrypted with what was asked for. One that says nothing is
    /// believed: it took the request.
    pub(super) async fn check_encryption(&self, key: &str) -> Result<(), StoreError> {
        let Some(asked) = self.encryption else { return Ok(()) };
        let path = self.path(key)?;
        let reply = self.repeat(deadline(0), || self.first(self.client.get_opts(&path, GetOptions::default()))).await?;
        match reply.and_then(|reply| reply.extensions.get::<Encrypted>().cloned()) {
            Some(found) if found.0 != asked => Err(StoreError::OtherEncryption { asked, found: found.0 }),
            _ => Ok(()),
        }
    }

    fn no_tag(&self) -> StoreError {
        StoreError::Other(format!("{} gives no ETag", self.place.server))
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        Path::parse(format!("{}{key}", self.prefix))
            .map_err(|_| StoreError::Other(format!("`{key}` can't be a key in a bucket")))
    }

    pub(super) async fn get(&self, key: &str, limit: u64, wait: Duration) -> Result<Option<Object>, StoreError> {
        let path = self.path(key)?;
        self.repeat(wait, || async {
            let reply = self.first(self.client.get_opts(&path, GetOptions::default())).await?;
            if reply.meta.size > limit {
                return Err(Failure::Refused(StoreError::TooLarge { key: key.to_owned(), limit }));
            }
            let tag = reply.meta.e_tag.clone().ok_or_else(|| Failure::Refused(self.no_tag()))?;
            let bytes = self.body(reply).await?;
            Ok(Object { bytes, tag })
        })
        .await
    }

    pub(super) async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(key)?;
        let range = GetOptions { range: Some(GetRange::Bounded(offset..offset + length)), ..GetOptions::default() };
        let part = self
            .repeat(deadline(length), || async {
                let reply = self.first(self.client.get_opts(&path, range.clone())).await?;
                self.body(reply).await
            })
            .await;
        match part {
            // A range that begins behind the end is refused by the server: tell it from other refusals by the size.
            Err(StoreError::Other(reason)) => match self.find(key).await? {
                Some(found) if found.bytes <= offset => Ok(Some(Bytes::new())),
                _ => Err(StoreError::Other(reason)),
            },
            part => part,
        }
    }

    pub(super) async fn find(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let path = self.path(key)?;
        let meta = self.repeat(deadline(0), || self.first(self.client.head(&path))).await?;
        Ok(meta.map(|meta| Entry { key: key.to_owned(), bytes: meta.size, modified: modified(&meta) }))
    }

    pub(super) async fn put_if(&self, key: &str, bytes: Bytes, condition: Condition<'_>) -> Result<String, StoreError> {
        let path = self.path(key)?;
        let mode = match condition {
            Condition::Absent => PutMode::Create,
            Condition::Unchanged(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.to_owned()), version: None }),
        };
        let wait = deadline(bytes.len() as u64);
        let request = self.client.put_opts(&path, PutPayload::from_bytes(bytes), PutOptions::from(mode));
        let unknown = |error: &StoreError| StoreError::Unknown { reason: error.to_string() };
        match tokio::time::timeout(wait, request).await {
            Err(_) => Err(unknown(&self.place.timed_out())),
            Ok(Ok(reply)) => reply.e_tag.ok_or_else(|| unknown(&self.no_tag())),
            Ok(Err(error)) => Err(match classify(&error, &self.place) {
                Failure::Absent | Failure::Lost => StoreError::Lost,
                Failure::Refused(error) => error,
                Failure::Broken(error) => unknown(&error),
            }),
        }
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let wait = deadline(bytes.len() as u64);
        self.repeat(wait, || async {
            let payload = PutPayload::from_bytes(bytes.clone());
            let request = self.client.put_opts(&path, payload, PutOptions::default());
            request.await.map(|_| ()).map_err(|error| classify(&error, &self.place))
        })
        .await?
        .ok_or_else(|| StoreError::Other(format!("{} does not take `{key}`", self.place.server)))
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        self.repeat(deadline(0), || self.first(self.client.delete(&path))).await.map(|_| ())
    }

    pub(super) async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let prefix = format!("{}{prefix}", self.prefix);
        let options = PaginatedListOptions {
            offset: after.map(|after| format!("{}{after}", self.prefix)),
            max_keys: Some(limit),
            ..PaginatedListOptions::default()
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut token = None;
        // A server may answer with fewer keys than asked for although there are more.
        loop {
            let options = PaginatedListOptions { page_token: token, ..options.clone() };
            let reply = self
                .repeat(deadline(0), || self.first(self.client.list_paginated(Some(&prefix), options.clone())))
                .await?
                .ok_or_else(|| self.place.no_bucket())?;
            // Servers that do not know where to begin (azurite) begin at the beginning.
            let entries_here = reply.result.objects.into_iter().filter_map(|meta| self.entry(&meta));
            entries.extend(entries_here.filter(|entry| after.is_none_or(|after| entry.key.as_str() > after)));
            token = reply.page_token;
            if token.is_none() || entries.len() >= limit {
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                entries.truncate(limit);
                return Ok(entries);
            }
        }
    }

    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let prefix = format!("{}{prefix}", self.prefix);
        let mut names = Vec::new();
        let mut token = None;
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                page_token: token,
                ..PaginatedListOptions::default()
            };
            let reply = self
                .repeat(deadline(0), || self.first(self.client.list_paginated(Some(&prefix), options.clone())))
                .await?
                .ok_or_else(|| self.place.no_bucket())?;
            names.extend(reply.result.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)));
            token = reply.page_token;
            if token.is_none() {
                return Ok(names);
            }
            if names.len() >= LIST_LIMIT {
                return Err(StoreError::TooMany { prefix, limit: LIST_LIMIT });
            }
        }
    }

    fn entry(&self, meta: &object_store::ObjectMeta) -> Option<Entry> {
        let key = meta.location.as_ref().strip_prefix(self.prefix.as_str())?.to_owned();
        Some(Entry { key, bytes: meta.size, modified: modified(meta) })
    }

    /// Waits for the first bytes of a reply: a network that was cut is noticed after the time of a small request.
    async fn first<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(deadline(0), request).await {
            Err(_) => Err(Failure::Broken(self.place.timed_out())),
            Ok(reply) => reply.map_err(|error| classify(&error, &self.place)),
        }
    }

    /// Reads the body of a reply; each part of it must come within the time of a small request.
    async fn body(&self, reply: object_store::GetResult) -> Result<Bytes, Failure> {
        let expected = usize::try_from(reply.range.end - reply.range.start).unwrap_or(0);
        let mut body = BytesMut::with_capacity(expected);
        let mut parts = reply.into_stream();
        while let Some(part) = self.first(async { parts.next().await.transpose() }).await? {
            // A server may send more than it said.
            if body.len() + part.len() > expected {
                return Err(Failure::Broken(StoreError::Garbled { server: self.place.server.clone() }));
            }
            body.extend_from_slice(&part);
        }
        if body.len() == expected { Ok(body.freeze()) } else { Err(Failure::Broken(self.place.unreachable())) }
    }

    /// Sends a request until it is answered, at most `ATTEMPTS` times and within the deadline. `None`: absent.
    async fn repeat<T, F>(&self, wait: Duration, mut request: impl FnMut() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let end = Instant::now() + wait;
        let mut pause = PAUSE;
        let mut attempt = 1;
        // What an attempt that came to its end was told says more than that the last one did not.
        let mut told = self.place.timed_out();
        loop {
            let paced = async {
                // What carries little is not held up by what carries much: claims are read like this.
                let _slot = if wait > deadline(0) { Some(self.pace.slot().await) } else { None };
                request().await
            };
            let error = match tokio::time::timeout_at(end, paced).await {
                Err(_) => return Err(told),
                Ok(Ok(value)) => return Ok(Some(value)),
                Ok(Err(Failure::Absent)) => return Ok(None),
                Ok(Err(failure)) => failure.into_error(),
            };
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.5)).max(self.pace.pause());
            if attempt == ATTEMPTS || !error.is_transient() || Instant::now() + jittered >= end {
                return Err(error);
            }
            tokio::time::sleep(jittered).await;
            told = error;
            pause *= 2;
            attempt += 1;
        }
    }
}

fn modified(meta: &object_store::ObjectMeta) -> Timestamp {
    Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[path = "bucket_parts.rs"]
mod parts;
