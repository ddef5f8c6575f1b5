//! What went wrong with a request to a bucket or a container, in words that a person can act on.
//!
//! Reads the error of `object_store`: the status and the code that the server gave, or what broke on the way. It
//! retries nothing, and decides nothing but two things that writers need to know: whether the request may have
//! been carried out although it failed, and whether the object is simply not there.

use std::error::Error;
use std::io::ErrorKind;

use object_store::client::{HttpError, HttpErrorKind};

use super::error::TlsFault;
use super::transport::TooLong;
use super::{Provider, StoreError};

/// How a request failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such object.
    Absent,
    /// The condition of a write did not hold, or it met another one.
    Lost,
    /// The server did not carry it out.
    Refused(StoreError),
    /// No one knows whether the server carried it out.
    Broken(StoreError),
}

impl Failure {
    /// For requests that may be repeated: what to report.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Absent => StoreError::Other("the object vanished while it was read".to_owned()),
            Self::Lost => StoreError::Lost,
            Self::Refused(error) | Self::Broken(error) => error,
        }
    }
}

/// What requests are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// What the environment gives.
    Environment,
    /// An access key of S3.
    AccessKey,
    /// A key of an Azure account.
    AccountKey,
    /// A shared access signature.
    SasToken,
    /// A service principal.
    Client,
}

/// Where requests go, for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The server: `https://s3.example.com`.
    pub(super) server: String,
    /// The bucket and the server, with "bucket" in front.
    pub(super) bucket: String,
    /// Whose protocol it is.
    pub(super) provider: Provider,
    /// What requests are signed with.
    pub(super) identity: Identity,
}

impl Place {
    pub(super) fn no_bucket(&self) -> StoreError {
        StoreError::NoBucket { place: self.bucket.clone(), provider: self.provider }
    }

    pub(super) fn timed_out(&self) -> StoreError {
        StoreError::TimedOut { server: self.server.clone() }
    }

    pub(super) fn unreachable(&self) -> StoreError {
        StoreError::Unreachable { server: self.server.clone() }
    }

    fn forbidden(&self) -> StoreError {
        StoreError::Forbidden { place: self.bucket.clone(), provider: self.provider }
    }

    fn other_region(&self) -> StoreError {
        StoreError::OtherRegion { place: self.bucket.clone() }
    }

    fn busy(&self) -> StoreError {
        StoreError::Busy { server: self.server.clone() }
    }

    /// The server does not take what requests are signed with.
    fn unsigned(&self) -> StoreError {
        match self.identity {
            Identity::Environment | Identity::AccessKey => self.forbidden(),
            Identity::AccountKey => StoreError::AccountKey,
            Identity::SasToken => StoreError::SasToken,
            Identity::Client => StoreError::ClientSecret,
        }
    }
}

/// Says how a request failed.
pub(super) fn classify(error: &object_store::Error, place: &Place) -> Failure {
    let text = chain_text(error);
    if is_about_credentials(&text) {
        return Failure::Refused(match place.identity {
            Identity::Client if status(&text).is_some_and(|status| status < 500) => StoreError::ClientSecret,
            Identity::Client => StoreError::Unreachable { server: "login.microsoftonline.com".to_owned() },
            _ => StoreError::NoCredentials { provider: place.provider },
        });
    }
    if is_too_long(error) {
        return Failure::Broken(StoreError::Garbled { server: place.server.clone() });
    }
    if let Some(http) = find::<HttpError>(error) {
        return classify_transport(http, &text, place);
    }
    if let Some(status) = status(&text) {
        return classify_status(status, code(&text), &text, place);
    }
    match error {
        object_store::Error::NotFound { .. } => Failure::Absent,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => Failure::Lost,
        _ if text.contains("redirect") => Failure::Refused(place.other_region()),
        _ => Failure::Broken(StoreError::Garbled { server: place.server.clone() }),
    }
}

/// What the server's own code means; its status when the code says nothing or is missing, as after HEAD.
pub(super) fn classify_status(status: u16, code: Option<&str>, text: &str, place: &Place) -> Failure {
    let refused = |error| Failure::Refused(error);
    match code.unwrap_or_default() {
        "NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError" => return Failure::Absent,
        "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" => return refused(place.no_bucket()),
        "InvalidAccessKeyId" => return refused(StoreError::AccessKeyId),
        "SignatureDoesNotMatch" => return refused(StoreError::SecretAccessKey),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => return refused(StoreError::SessionToken),
        "RequestTimeTooSkewed" => return refused(StoreError::ClockSkew),
        "AuthenticationFailed" if text.contains("Request date header") => return refused(StoreError::ClockSkew),
        "AuthenticationFailed" | "InvalidAuthenticationInfo" => return refused(place.unsigned()),
        "AuthorizationFailure" if text.contains("failed to authenticate") => return refused(place.unsigned()),
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" | "InvalidRegionName" => {
            return refused(place.other_region());
        }
        "AccessDenied"
        | "AllAccessDisabled"
        | "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "AuthorizationSourceIPMismatch"
        | "InsufficientAccountPermissions" => return refused(place.forbidden()),
        // Requests that were turned away before they did anything.
        "SlowDown" | "SlowDownWrite" | "SlowDownRead" | "TooManyRequests" | "ServerBusy" => {
            return refused(place.busy());
        }
        "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded" => {
            return refused(StoreError::NoRoom { place: place.bucket.clone() });
        }
        code if is_about_encryption(code, text) => {
            return refused(StoreError::Encryption { code: code.to_owned() });
        }
        _ => {}
    }
    match status {
        404 => Failure::Absent,
        409 | 412 | 304 => Failure::Lost,
        301 | 302 | 307 | 308 => refused(place.other_region()),
        401 | 403 => refused(place.forbidden()),
        429 => refused(place.busy()),
        507 => refused(StoreError::NoRoom { place: place.bucket.clone() }),
        // A server that fails may have carried out the request before it failed.
        408 | 500 | 502..=504 | 506 | 508..=599 => Failure::Broken(place.busy()),
        _ => {
            let code = code.map(|code| format!(" {code}")).unwrap_or_default();
            refused(StoreError::Other(format!("{} answered {status}{code}", place.server)))
        }
    }
}

/// Whether the server can't encrypt as `spec.s3.serverSideEncryption` asks.
fn is_about_encryption(code: &str, text: &str) -> bool {
    code.to_lowercase().starts_with("kms")
        || code == "InvalidEncryptionAlgorithmError"
        || (code == "NotImplemented" && text.to_lowercase().contains("encryption"))
}

/// What broke on the way. Only a connection that was never made is certain to have carried nothing.
fn classify_transport(http: &HttpError, text: &str, place: &Place) -> Failure {
    let server = || place.server.clone();
    let lower = text.to_lowercase();
    if let Some(reason) = tls_reason(&lower) {
        return Failure::Refused(StoreError::Tls { server: server(), provider: place.provider, reason });
    }
    if lower.contains("dns error") || lower.contains("failed to lookup address") {
        return Failure::Refused(StoreError::Unresolved { server: server(), provider: place.provider });
    }
    let refused = find::<std::io::Error>(http).is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        || lower.contains("connection refused");
    match http.kind() {
        HttpErrorKind::Connect if refused => {
            Failure::Refused(StoreError::Refused { server: server(), provider: place.provider })
        }
        HttpErrorKind::Connect => Failure::Refused(StoreError::Unreachable { server: server() }),
        // `reqwest` says timeout also when it was the connection's; the text tells them apart.
        HttpErrorKind::Timeout if lower.contains("connect") && !lower.contains("connection") => {
            Failure::Refused(StoreError::Unreachable { server: server() })
        }
        HttpErrorKind::Timeout => Failure::Broken(StoreError::TimedOut { server: server() }),
        _ => Failure::Broken(StoreError::Unreachable { server: server() }),
    }
}

/// What is wrong with the server's certificate, if it is that. The words are those of `rustls`.
fn tls_reason(lower: &str) -> Option<TlsFault> {
    if lower.contains("invalidcontenttype") {
        return Some(TlsFault::Plain);
    }
    if !lower.contains("certificate") {
        return None;
    }
    Some(if lower.contains("expired") || lower.contains("not valid yet") || lower.contains("notvalidyet") {
        TlsFault::Time
    } else if lower.contains("not valid for name") || lower.contains("notvalidforname") {
        TlsFault::Name
    } else if lower.contains("causedasendentity") {
        TlsFault::Authority
    } else {
        TlsFault::Issuer
    })
}

/// Whether it was the environment's identity that failed, before there was any request to the bucket.
fn is_about_credentials(text: &str) -> bool {
    [
        "169.254.",
        "/latest/api/token",
        "latest/meta-data",
        "AssumeRoleWithWebIdentity",
        "web identity token",
        "token request",
        "token response",
        "federated token file",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

/// The texts of an error and of all its causes.
fn chain_text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether an answer was not read to its end, since there was too much of it.
pub(super) fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    find::<TooLong>(error).is_some()
}

/// The first cause of a type.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The status that the server answered with: `object_store` shows it in its text only.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("non-2xx status code: ").or_else(|| text.split_once("(code: "))?;
    rest.get(..3)?.parse().ok()
}

/// The S3 error code in the answer's body.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:".contains(&byte))).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            server: "https://s3.test".to_owned(),
            bucket: "bucket `b` at https://s3.test".to_owned(),
            provider: Provider::S3,
            identity: Identity::AccessKey,
        }
    }

    #[test]
    fn the_servers_code_counts_more_than_its_status() {
        let failure = classify_status(403, Some("SignatureDoesNotMatch"), "", &place());
        assert_eq!(failure, Failure::Refused(StoreError::SecretAccessKey));
        let failure = classify_status(404, Some("NoSuchBucket"), "", &place());
        assert!(matches!(failure, Failure::Refused(StoreError::NoBucket { .. })));
        assert_eq!(classify_status(404, Some("NoSuchKey"), "", &place()), Failure::Absent);
        assert_eq!(
            classify_status(403, Some("RequestTimeTooSkewed"), "", &place()),
            Failure::Refused(StoreError::ClockSkew)
        );
    }

    #[test]
    fn a_conflict_is_lost_and_a_failed_server_leaves_it_open() {
        assert_eq!(classify_status(409, Some("ConditionalRequestConflict"), "", &place()), Failure::Lost);
        assert_eq!(classify_status(412, None, "", &place()), Failure::Lost);
        assert!(matches!(classify_status(500, Some("InternalError"), "", &place()), Failure::Broken(_)));
        assert!(matches!(
            classify_status(503, Some("SlowDown"), "", &place()),
            Failure::Refused(StoreError::Busy { .. })
        ));
    }

    #[test]
    fn status_and_code_are_found_in_the_text() {
        let text = "Error performing GET http://x in 3ms - Server returned non-2xx status code: 403 Forbidden: \
                    <?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>";
        assert_eq!((status(text), code(text)), (Some(403), Some("InvalidAccessKeyId")));
        assert_eq!((status("all is well"), code("<Code>a b</Code>")), (None, None));
    }
}
