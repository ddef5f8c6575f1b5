//! Requests of S3 that `object_store` has no words for: signed like its own, and sent on the same way.
//!
//! What they are good for is `object_lock` and `versions`. Each is sent once, within the deadline of a small request.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, Method};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpService};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bucket_error::{Failure, Place, classify_status};
use super::transport::Transport;
use super::{S3Location, StoreError, deadline};
use crate::api::vault::ObjectLock;

/// The most bytes of an answer.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// Signs requests.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
}

impl Signer {
    /// Signs a request, also one that is signed already and was changed since. `digest`: the SHA-256 of the body, where
    /// it is known; none for an unsigned one.
    pub(super) async fn sign(&self, request: &mut HttpRequest, digest: Option<&[u8]>) -> Result<(), HttpError> {
        let failed = |error| HttpError::new(HttpErrorKind::Request, error);
        let credential = self.credentials.get_credential().await.map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(digest.is_some())
            .try_authorize(request, digest)
            .map_err(failed)
    }
}

/// What the requests of one bucket need.
#[derive(Debug)]
pub(super) struct S3Requests {
    transport: Transport,
    signer: Signer,
    url: String,
    place: Place,
    /// The bucket's name.
    pub(super) bucket: String,
    /// How writes are locked.
    pub(super) lock: Option<ObjectLock>,
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

impl S3Requests {
    pub(super) fn new(transport: Transport, signer: Signer, url: String, place: Place, location: &S3Location) -> Self {
        let (bucket, lock) = (location.bucket.clone(), location.object_lock.clone());
        Self { transport, signer, url, place, bucket, lock }
    }

    /// Sends a request. `None`: there is no such object, or none of what is asked for about it.
    pub(super) async fn send(&self, asked: Asked<'_>) -> Result<Option<Bytes>, StoreError> {
        let sent = tokio::time::timeout(deadline(0), self.send_once(asked)).await;
        match sent.unwrap_or_else(|_| Err(Failure::Broken(self.place.timed_out()))) {
            Ok(body) => Ok(Some(body)),
            Err(Failure::Absent) => Ok(None),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Sends a request, and reads the XML that it is answered with.
    pub(super) async fn ask<T: DeserializeOwned>(&self, asked: Asked<'_>) -> Result<Option<T>, StoreError> {
        let Some(body) = self.send(asked).await? else { return Ok(None) };
        let garbled = StoreError::Garbled { server: self.place.server.clone() };
        let text = std::str::from_utf8(&body).map_err(|_| garbled.clone())?;
        quick_xml::de::from_str(text).map(Some).map_err(|_| garbled)
    }

    async fn send_once(&self, asked: Asked<'_>) -> Result<Bytes, Failure> {
        let broken = || Failure::Broken(self.place.unreachable());
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&asked.body);
        let mut request = self.request(asked)?;
        let unsigned = |_| Failure::Refused(StoreError::NoCredentials { provider: self.place.provider });
        self.signer.sign(&mut request, Some(digest.as_slice())).await.map_err(unsigned)?;
        let reply = self.transport.call(request).await.map_err(|_| broken())?;
        let status = reply.status();
        let mut parts = reply.into_body().bytes_stream();
        let mut body = BytesMut::new();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|_| broken())?);
            if body.len() > ANSWER_LIMIT {
                return Err(Failure::Refused(StoreError::Garbled { server: self.place.server.clone() }));
            }
        }
        if status.is_success() {
            return Ok(body.freeze());
        }
        let text = String::from_utf8_lossy(&body);
        let refusal: Option<Refusal> = quick_xml::de::from_str(&text).ok();
        let code = refusal.as_ref().map(|it| it.code.as_str());
        Err(classify_status(status.as_u16(), code, &text, &self.place))
    }

    fn request(&self, asked: Asked<'_>) -> Result<HttpRequest, Failure> {
        let unusable = |()| Failure::Refused(StoreError::Other(format!("`{}` can't be a key", asked.key)));
        let slash = if asked.key.is_empty() { "" } else { "/" };
        let address = format!("{}{slash}{}", self.url, asked.key);
        let url = Url::parse_with_params(&address, asked.query).map_err(|_| unusable(()))?;
        let mut request = http::Request::builder()
            .method(asked.method)
            .uri(url.as_str())
            .body(HttpRequestBody::from(asked.body))
            .map_err(|_| unusable(()))?;
        *request.headers_mut() = asked.headers;
        Ok(request)
    }
}
