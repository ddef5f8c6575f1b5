//! Azure's immutability policies of blob versions: how one is locked as it is written, and later.
//!
//! The container must have version-level immutability. No emulator knows any of this: it is tested by what is sent.

use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use object_store::client::HttpRequest;

use super::StoreError;
use super::requests::{Asked, Requests};
use crate::api::vault::{LockMode, ObjectLock};

const UNTIL: &str = "x-ms-immutability-policy-until-date";
const MODE: &str = "x-ms-immutability-policy-mode";
/// In the answer about a container.
const ENABLED: &str = "x-ms-immutable-storage-with-versioning-enabled";

/// Whether it is a write of a whole blob, a copy, or the end of a write in blocks: what has no `comp` in its query, or
/// this one. There may be a signature in it as well.
pub(super) fn makes_a_version(request: &HttpRequest, query: &str) -> bool {
    let comp = query.split('&').find_map(|it| it.strip_prefix("comp="));
    request.method() == Method::PUT && comp.is_none_or(|it| it == "blocklist")
}

/// What such a write is given.
pub(super) fn headers(lock: &ObjectLock, until: Timestamp) -> [(&'static str, HeaderValue); 2] {
    let mode = match lock.mode {
        LockMode::Governance => "unlocked",
        LockMode::Compliance => "locked",
    };
    let until = DateTimePrinter::new().timestamp_to_rfc9110_string(&until).expect("it is of these centuries");
    [(MODE, HeaderValue::from_static(mode)), (UNTIL, HeaderValue::from_str(&until).expect("a date is plain text"))]
}

/// Whether the container can lock versions at all.
pub(super) async fn can_lock(requests: &Requests) -> Result<bool, StoreError> {
    let asked = Asked { method: Method::HEAD, query: &[("restype", "container")], ..Asked::default() };
    let reply = requests.send(asked).await?;
    Ok(reply.is_some_and(|it| it.headers.get(ENABLED).is_some_and(|it| it == "true")))
}

/// Until when the current version is locked.
pub(super) async fn locked_until(requests: &Requests, key: &str) -> Result<Option<Timestamp>, StoreError> {
    let Some(reply) = requests.send(Asked { method: Method::HEAD, key, ..Asked::default() }).await? else {
        return Ok(None);
    };
    let Some(until) = reply.headers.get(UNTIL) else { return Ok(None) };
    let read = until.to_str().ok().and_then(|it| DateTimeParser::new().parse_timestamp(it).ok());
    read.map(Some).ok_or_else(|| requests.garbled())
}

/// Locks the current version. False: it is not there.
pub(super) async fn lock(
    requests: &Requests,
    key: &str,
    lock: &ObjectLock,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let headers: HeaderMap =
        headers(lock, until).into_iter().map(|(name, value)| (http::HeaderName::from_static(name), value)).collect();
    let query = &[("comp", "immutabilityPolicies")];
    let asked = Asked { method: Method::PUT, key, query, headers, ..Asked::default() };
    Ok(requests.send(asked).await?.is_some())
}
