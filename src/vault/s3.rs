//! A bucket of an S3-compatible server.
//!
//! A conditional write is sent exactly once: a repeated one that succeeded the first time would be told that it lost.
//! Everything else may be repeated, within the deadline of the request. What an error means is `s3_error`.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use rand::RngExt;
use tokio::time::Instant;

use super::s3_error::{Failure, Place, classify};
use super::{Condition, Entry, LIST_LIMIT, Object, S3Location, StoreError, VaultError, deadline};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a request is sent at most, when it may be repeated.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles with each.
const PAUSE: Duration = Duration::from_millis(200);

/// What the environment's identity is made of: IRSA, EKS pod identity, ECS tasks, and plain variables.
const IDENTITY: [(&str, AmazonS3ConfigKey); 9] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3 {
    client: AmazonS3,
    prefix: String,
    place: Place,
}

impl S3 {
    /// Makes the client. No request is sent.
    ///
    /// # Errors
    /// When the endpoint or the certificates can't be read.
    pub fn new(location: &S3Location) -> Result<Self, VaultError> {
        let settings = |text: String| VaultError::Settings(text);
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT)
            .with_allow_http(location.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")));
        if let Some(bundle) = &location.ca_bundle {
            let certificates = Certificate::from_pem_bundle(bundle.as_bytes())
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| settings("`spec.s3.caBundle` has no certificate in PEM form".to_owned()))?;
            for certificate in certificates {
                options = options.with_root_certificate(certificate);
            }
        }
        let mut builder = AmazonS3Builder::new();
        if location.credentials.is_none() {
            for (variable, key) in IDENTITY {
                if let Ok(value) = std::env::var(variable) {
                    builder = builder.with_config(key, value);
                }
            }
        }
        builder = builder
            .with_bucket_name(&location.bucket)
            .with_region(&location.region)
            .with_virtual_hosted_style_request(!location.path_style)
            .with_client_options(options)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            // No retries in the client: it does not know which requests may be repeated.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let server = match &location.endpoint {
            Some(endpoint) => {
                builder = builder.with_endpoint(endpoint_url(endpoint, location)?);
                endpoint.trim_end_matches('/').to_owned()
            }
            None => format!("https://s3.{}.amazonaws.com", location.region),
        };
        if let Some(credentials) = &location.credentials {
            builder = builder
                .with_access_key_id(&credentials.access_key_id)
                .with_secret_access_key(credentials.secret_access_key.expose());
            if let Some(token) = &credentials.session_token {
                builder = builder.with_token(token.expose());
            }
        }
        let client = builder.build().map_err(|_| settings("`spec.s3` does not make up a usable address".to_owned()))?;
        let prefix = location.prefix.trim_matches('/');
        Ok(Self {
            client,
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            place: Place { bucket: format!("bucket `{}` at {server}", location.bucket), server },
        })
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
            Err(_) => Err(unknown(&StoreError::TimedOut { server: self.place.server.clone() })),
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
                .ok_or_else(|| StoreError::NoBucket { place: self.place.bucket.clone() })?;
            entries.extend(reply.result.objects.into_iter().filter_map(|meta| self.entry(&meta)));
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
                .ok_or_else(|| StoreError::NoBucket { place: self.place.bucket.clone() })?;
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
            Err(_) => Err(Failure::Broken(StoreError::TimedOut { server: self.place.server.clone() })),
            Ok(reply) => reply.map_err(|error| classify(&error, &self.place)),
        }
    }

    /// Reads the body of a reply; each part of it must come within the time of a small request.
    async fn body(&self, reply: object_store::GetResult) -> Result<Bytes, Failure> {
        let expected = usize::try_from(reply.range.end - reply.range.start).unwrap_or(0);
        let mut body = BytesMut::with_capacity(expected);
        let mut parts = reply.into_stream();
        while let Some(part) = self.first(async { parts.next().await.transpose() }).await? {
            body.extend_from_slice(&part);
        }
        if body.len() == expected {
            Ok(body.freeze())
        } else {
            Err(Failure::Broken(StoreError::Unreachable { server: self.place.server.clone() }))
        }
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
        let mut told = StoreError::TimedOut { server: self.place.server.clone() };
        loop {
            let error = match tokio::time::timeout_at(end, request()).await {
                Err(_) => return Err(told),
                Ok(Ok(value)) => return Ok(Some(value)),
                Ok(Err(Failure::Absent)) => return Ok(None),
                Ok(Err(failure)) => failure.into_error(),
            };
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.5));
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

/// The URL that `object_store` wants: with the bucket in the host name, unless it stands in the path.
fn endpoint_url(endpoint: &str, location: &S3Location) -> Result<String, VaultError> {
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, host) = endpoint
        .split_once("://")
        .filter(|(scheme, host)| matches!(*scheme, "http" | "https") && !host.is_empty())
        .ok_or_else(|| VaultError::Settings("`spec.s3.endpoint` is not an http:// or https:// URL".to_owned()))?;
    if location.path_style { Ok(endpoint.to_owned()) } else { Ok(format!("{scheme}://{}.{host}", location.bucket)) }
}

fn modified(meta: &object_store::ObjectMeta) -> Timestamp {
    Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
