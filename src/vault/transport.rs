//! The HTTP client under a bucket: whom it trusts, which way it takes, and what it hears beside the answers.
//!
//! `object_store` would build one itself, but takes proxies from the environment without a word, follows redirects to
//! other regions, and loses `Retry-After`. It retries nothing and knows no provider's protocol.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, NoProxy, Proxy};

use super::location::ProxyLocation;
use super::object_lock::LockOnWrite;
use super::pace::Pace;
use super::{Provider, VaultError};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// What is never reached through a proxy: the metadata services of clouds, which give pods their identity.
const METADATA: &str = "169.254.0.0/16,fd00:ec2::/32";

/// The most bytes of an answer that is no object's content: a list, an error, a token. They are read whole.
pub(super) const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// An answer that has more bytes than it may have.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {ANSWER_LIMIT} bytes")]
pub(super) struct TooLong;

/// What the server says it encrypted an object with: `AES256`, `aws:kms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Encrypted(pub(super) String);

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    pace: Arc<Pace>,
    lock: Arc<OnceLock<LockOnWrite>>,
}

impl Transport {
    /// Makes the client; what it hears about the store's load goes to `pace`.
    pub(super) fn new(
        provider: Provider,
        ca_bundle: Option<&str>,
        proxy: Option<&ProxyLocation>,
        pace: Arc<Pace>,
    ) -> Result<Self, VaultError> {
        let settings = |text: &str| VaultError::Settings(text.to_owned());
        // Compressed answers would have another length than the object.
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("reprise/", env!("CARGO_PKG_VERSION")));
        if let Some(bundle) = ca_bundle {
            let certificates = Certificate::from_pem_bundle(bundle.as_bytes())
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| settings(&format!("`spec.{provider}.caBundle` has no certificate in PEM form")))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(proxy) = proxy {
            builder = builder.proxy(way(proxy).map_err(|_| settings("`spec.proxy.url` is not a usable address"))?);
        }
        let client = builder.build().map_err(|_| settings("the certificates of this system can't be read"))?;
        Ok(Self { client, pace, lock: Arc::default() })
    }

    /// Has writes locked from now on. The client that signs them is made after this one.
    pub(super) fn lock_writes(&self, lock: LockOnWrite) {
        self.lock.get_or_init(|| lock);
    }
}

fn way(proxy: &ProxyLocation) -> reqwest::Result<Proxy> {
    let past = [METADATA.to_owned()].into_iter().chain(proxy.no_proxy.iter().cloned()).collect::<Vec<_>>().join(",");
    let way = Proxy::all(&proxy.url)?.no_proxy(NoProxy::from_string(&past));
    Ok(match &proxy.credentials {
        Some(who) => way.basic_auth(&who.username, who.password.expose()),
        None => way,
    })
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if let Some(lock) = self.lock.get() {
            lock.protect(&mut request).await?;
        }
        let content = is_for_content(&request);
        let mut reply = self.client.call(request).await?;
        if matches!(reply.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            self.pace.throttled(retry_after(reply.headers()));
        } else if reply.status().is_success() {
            self.pace.served();
        }
        let encrypted = reply.headers().get("x-amz-server-side-encryption").and_then(|it| it.to_str().ok());
        if let Some(encrypted) = encrypted.map(|it| Encrypted(it.to_owned())) {
            reply.extensions_mut().insert(encrypted);
        }
        // Content is bounded by who reads it, who knows how much there must be.
        Ok(if content && reply.status().is_success() { reply } else { bounded(reply) })
    }
}

/// Whether an object's content is asked for. Lists have no key, and say in the query what they are.
fn is_for_content(request: &HttpRequest) -> bool {
    let list = |query: &str| query.split('&').any(|it| it.starts_with("list-type=") || it.starts_with("comp="));
    request.method() == Method::GET && !request.uri().query().is_some_and(list)
}

/// The answer, whose body ends in an error after `ANSWER_LIMIT` bytes, whatever the server says of its length.
pub(super) fn bounded(reply: HttpResponse) -> HttpResponse {
    reply.map(|body| {
        HttpResponseBody::new(Limited::new(body, ANSWER_LIMIT).map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => *error,
            Err(_) => HttpError::new(HttpErrorKind::Decode, TooLong),
        }))
    })
}

/// How long the server asks to be left alone. Dates, the other form of it, are left out: they rest on two clocks.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_taken_and_dates_are_not() {
        let read = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod endless;
