//! S3 Object Lock: how a version is locked as it is written, and later.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use object_store::client::HttpRequest;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::StoreError;
use super::requests::{Asked, Requests};
use crate::api::vault::{LockMode, ObjectLock};

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

fn mode(lock: &ObjectLock) -> &'static str {
    match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

/// In whole seconds.
fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether it is a write of a whole object, a copy, or the beginning of a write in parts.
pub(super) fn makes_a_version(request: &HttpRequest, query: &str) -> bool {
    match *request.method() {
        Method::PUT => query.is_empty(),
        Method::POST => query == "uploads" || query == "uploads=",
        _ => false,
    }
}

/// What such a write is given.
pub(super) fn headers(lock: &ObjectLock, until: Timestamp) -> [(&'static str, HeaderValue); 2] {
    let until = HeaderValue::from_str(&date(until)).expect("a date is plain text");
    [("x-amz-object-lock-mode", HeaderValue::from_static(mode(lock))), ("x-amz-object-lock-retain-until-date", until)]
}

/// Whether the bucket can lock versions at all.
pub(super) async fn can_lock(requests: &Requests) -> Result<bool, StoreError> {
    let asked = Asked { query: &[("object-lock", "")], ..Asked::default() };
    let found: Option<Configuration> = requests.ask(asked).await?;
    Ok(found.is_some_and(|it| it.object_lock_enabled == "Enabled"))
}

/// Until when the current version is locked.
pub(super) async fn locked_until(requests: &Requests, key: &str) -> Result<Option<Timestamp>, StoreError> {
    let asked = Asked { key, query: &[("retention", "")], ..Asked::default() };
    let found: Option<Retention> = requests.ask(asked).await?;
    Ok(found.map(|it| it.retain_until_date))
}

/// Locks the current version. False: it is not there.
pub(super) async fn lock(
    requests: &Requests,
    key: &str,
    lock: &ObjectLock,
    until: Timestamp,
) -> Result<bool, StoreError> {
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
    let asked = Asked { method: Method::PUT, key, query, headers, body: Bytes::from(body) };
    Ok(requests.send(asked).await?.is_some())
}
