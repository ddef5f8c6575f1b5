//! Requests that `object_store` has no words for: signed like its own, and sent on the same way.
//!
//! What they are good for is `object_lock` and `versions`. Each is sent once, within the deadline of a small request.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, Method};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpService};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bucket_error::{Failure, Place, classify_status, is_too_long};
use super::transport::{Transport, bounded};
use super::{StoreError, deadline};
use crate::api::vault::ObjectLock;

/// Signs requests.
#[derive(Clone, Debug)]
pub(super) enum Signer {
    /// As S3 wants it.
    S3 { credentials: AwsCredentialProvider, region: String },
    /// As Azure wants it.
    Azure { credentials: AzureCredentialProvider, account: String },
}

impl Signer {
    /// Signs a request. `digest`: the SHA-256 of the body, where it is known; none for an unsigned one.
    pub(super) async fn sign(&self, request: &mut HttpRequest, digest: Option<&[u8]>) -> Result<(), HttpError> {
        match self {
            Self::S3 { credentials, region } => {
                let credential = credentials.get_credential().await.map_err(failed)?;
                AwsAuthorizer::new(&credential, "s3", region)
                    .with_sign_payload(digest.is_some())
                    .try_authorize(request, digest)
                    .map_err(failed)
            }
            Self::Azure { credentials, account } => {
                let credential = credentials.get_credential().await.map_err(failed)?;
                AzureAuthorizer::new(&credential, account).try_authorize(request).map_err(failed)
            }
        }
    }

    /// Signs a request that was signed already, and was given more headers since.
    pub(super) async fn sign_anew(&self, request: &mut HttpRequest, digest: Option<&[u8]>) -> Result<(), HttpError> {
        match self {
            Self::S3 { .. } => self.sign(request, digest).await,
            Self::Azure { credentials, .. } => {
                let credential = credentials.get_credential().await.map_err(failed)?;
                // Tokens say nothing of the headers.
                if !matches!(*credential, AzureCredential::AccessKey(_)) {
                    return Ok(());
                }
                request.headers_mut().remove(AUTHORIZATION);
                self.sign(request, digest).await
            }
        }
    }
}

fn failed(error: object_store::Error) -> HttpError {
    HttpError::new(HttpErrorKind::Request, error)
}

/// What the requests of one bucket need.
#[derive(Debug)]
pub(super) struct Requests {
    transport: Transport,
    signer: Signer,
    url: String,
    place: Place,
    /// The bucket's name.
    pub(super) bucket: String,
    /// How writes are locked.
    pub(super) lock: Option<ObjectLock>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
}

/// The code in the body of an error.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    code: String,
}

/// One request: what, of which full key (empty: the bucket itself), with which query, headers and body.
#[derive(Default)]
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    pub(super) key: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Requests {
    /// For the bucket, or container, of this name at this URL.
    pub(super) fn new(
        (transport, signer): (Transport, Signer),
        url: String,
        place: Place,
        bucket: &str,
        lock: Option<ObjectLock>,
    ) -> Self {
        Self { transport, signer, url, place, bucket: bucket.to_owned(), lock }
    }

    /// What signs them, which tells whose words are spoken.
    pub(super) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// An answer that is not what such a server answers.
    pub(super) fn garbled(&self) -> StoreError {
        StoreError::Garbled { server: self.place.server.clone() }
    }

    /// Sends a request. `None`: there is no such object, or none of what is asked for about it.
    pub(super) async fn send(&self, asked: Asked<'_>) -> Result<Option<Reply>, StoreError> {
        let sent = tokio::time::timeout(deadline(0), self.send_once(asked)).await;
        match sent.unwrap_or_else(|_| Err(Failure::Broken(self.place.timed_out()))) {
            Ok(reply) => Ok(Some(reply)),
            Err(Failure::Absent) => Ok(None),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Sends a request, and reads the XML that it is answered with.
    pub(super) async fn ask<T: DeserializeOwned>(&self, asked: Asked<'_>) -> Result<Option<T>, StoreError> {
        let Some(reply) = self.send(asked).await? else { return Ok(None) };
        let text = std::str::from_utf8(&reply.body).map_err(|_| self.garbled())?;
        quick_xml::de::from_str(text).map(Some).map_err(|_| self.garbled())
    }

    async fn send_once(&self, asked: Asked<'_>) -> Result<Reply, Failure> {
        let broken = || Failure::Broken(self.place.unreachable());
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&asked.body);
        let mut request = self.request(asked)?;
        let unsigned = |_| Failure::Refused(StoreError::NoCredentials { provider: self.place.provider });
        self.signer.sign(&mut request, Some(digest.as_slice())).await.map_err(unsigned)?;
        let reply = bounded(self.transport.call(request).await.map_err(|_| broken())?);
        let (status, headers) = (reply.status(), reply.headers().clone());
        let body = reply
            .into_body()
            .bytes()
            .await
            .map_err(|error| if is_too_long(&error) { Failure::Refused(self.garbled()) } else { broken() })?;
        if status.is_success() {
            return Ok(Reply { headers, body });
        }
        let text = String::from_utf8_lossy(&body);
        let refusal: Option<Refusal> = quick_xml::de::from_str(&text).ok();
        // Azure says it here as well: answers to some requests have no body.
        let told = headers.get("x-ms-error-code").and_then(|it| it.to_str().ok());
        let code = refusal.as_ref().map(|it| it.code.as_str()).or(told);
        Err(classify_status(status.as_u16(), code, &text, &self.place))
    }

    fn request(&self, asked: Asked<'_>) -> Result<HttpRequest, Failure> {
        let unusable = |()| Failure::Refused(StoreError::Other(format!("`{}` can't be a key", asked.key)));
        let slash = if asked.key.is_empty() { "" } else { "/" };
        let address = format!("{}{slash}{}", self.url, asked.key);
        let url = match asked.query {
            [] => Url::parse(&address),
            query => Url::parse_with_params(&address, query),
        };
        let url = url.map_err(|_| unusable(()))?;
        let bytes = asked.body.len();
        let mut request = http::Request::builder()
            .method(asked.method)
            .uri(url.as_str())
            .body(HttpRequestBody::from(asked.body))
            .map_err(|_| unusable(()))?;
        *request.headers_mut() = asked.headers;
        request.headers_mut().insert(CONTENT_LENGTH, bytes.into());
        Ok(request)
    }
}
