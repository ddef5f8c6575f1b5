//! What went wrong with a request to an S3 server, in words that a person can act on.
//!
//! Reads the error of `object_store`: the status and the code that the server gave, or what broke on the way. It
//! retries nothing, and decides nothing but two things that writers need to know: whether the request may have
//! been carried out although it failed, and whether the object is simply not there.

use std::error::Error;
use std::io::ErrorKind;

use object_store::client::{HttpError, HttpErrorKind};

use super::StoreError;

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

/// Where requests go, for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The server: `https://s3.example.com`.
    pub(super) server: String,
    /// The bucket and the server, with "bucket" in front.
    pub(super) bucket: String,
}

/// Says how a request failed.
pub(super) fn classify(error: &object_store::Error, place: &Place) -> Failure {
    let text = chain_text(error);
    if is_about_credentials(&text) {
        return Failure::Refused(StoreError::NoCredentials);
    }
    if let Some(http) = find::<HttpError>(error) {
        return classify_transport(http, &text, place);
    }
    if let Some(status) = status(&text) {
        return classify_status(status, code(&text), place);
    }
    match error {
        object_store::Error::NotFound { .. } => Failure::Absent,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => Failure::Lost,
        _ if text.contains("redirect") => Failure::Refused(StoreError::OtherRegion { place: place.bucket.clone() }),
        _ => Failure::Broken(StoreError::Other(format!("{} gave a reply that can't be understood", place.server))),
    }
}

/// What the server's own code means; its status when the code says nothing or is missing, as after HEAD.
fn classify_status(status: u16, code: Option<&str>, place: &Place) -> Failure {
    let bucket = || place.bucket.clone();
    let server = || place.server.clone();
    match code.unwrap_or_default() {
        "NoSuchBucket" => return Failure::Refused(StoreError::NoBucket { place: bucket() }),
        "InvalidAccessKeyId" => return Failure::Refused(StoreError::AccessKeyId),
        "SignatureDoesNotMatch" => return Failure::Refused(StoreError::SecretAccessKey),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            return Failure::Refused(StoreError::SessionToken);
        }
        "RequestTimeTooSkewed" => return Failure::Refused(StoreError::ClockSkew),
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" | "InvalidRegionName" => {
            return Failure::Refused(StoreError::OtherRegion { place: bucket() });
        }
        "AccessDenied" | "AllAccessDisabled" => return Failure::Refused(StoreError::Forbidden { place: bucket() }),
        // Requests that were turned away before they did anything.
        "SlowDown" | "SlowDownWrite" | "SlowDownRead" | "TooManyRequests" => {
            return Failure::Refused(StoreError::Busy { server: server() });
        }
        _ => {}
    }
    match status {
        404 => Failure::Absent,
        409 | 412 | 304 => Failure::Lost,
        301 | 302 | 307 | 308 => Failure::Refused(StoreError::OtherRegion { place: bucket() }),
        401 | 403 => Failure::Refused(StoreError::Forbidden { place: bucket() }),
        429 => Failure::Refused(StoreError::Busy { server: server() }),
        // A server that fails may have carried out the request before it failed.
        408 | 500..=599 => Failure::Broken(StoreError::Busy { server: server() }),
        _ => {
            let code = code.map(|code| format!(" {code}")).unwrap_or_default();
            Failure::Refused(StoreError::Other(format!("{} answered {status}{code}", place.server)))
        }
    }
}

/// What broke on the way. Only a connection that was never made is certain to have carried nothing.
fn classify_transport(http: &HttpError, text: &str, place: &Place) -> Failure {
    let server = || place.server.clone();
    let lower = text.to_lowercase();
    if let Some(reason) = tls_reason(&lower) {
        return Failure::Refused(StoreError::Tls { server: server(), reason });
    }
    if lower.contains("dns error") || lower.contains("failed to lookup address") {
        return Failure::Refused(StoreError::Unresolved { server: server() });
    }
    let refused = find::<std::io::Error>(http).is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        || lower.contains("connection refused");
    match http.kind() {
        HttpErrorKind::Connect if refused => Failure::Refused(StoreError::Refused { server: server() }),
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
fn tls_reason(lower: &str) -> Option<&'static str> {
    if lower.contains("invalidcontenttype") {
        return Some("the server does not speak TLS, begin `spec.s3.endpoint` with http://");
    }
    if !lower.contains("certificate") {
        return None;
    }
    Some(if lower.contains("expired") || lower.contains("not valid yet") || lower.contains("notvalidyet") {
        "it is expired or not valid yet"
    } else if lower.contains("not valid for name") || lower.contains("notvalidforname") {
        "it is for another name than that in `spec.s3.endpoint`"
    } else if lower.contains("causedasendentity") {
        "it is that of an authority (CA:TRUE), give the server one that is not"
    } else {
        "put its issuer into `spec.s3.caBundle`"
    })
}

/// Whether it was the environment's identity that failed, before there was any request to the bucket.
fn is_about_credentials(text: &str) -> bool {
    ["169.254.", "/latest/api/token", "latest/meta-data", "AssumeRoleWithWebIdentity", "web identity token"]
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
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// The S3 error code in the answer's body.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { server: "https://s3.test".to_owned(), bucket: "bucket `b` at https://s3.test".to_owned() }
    }

    #[test]
    fn the_servers_code_counts_more_than_its_status() {
        let failure = classify_status(403, Some("SignatureDoesNotMatch"), &place());
        assert_eq!(failure, Failure::Refused(StoreError::SecretAccessKey));
        let failure = classify_status(404, Some("NoSuchBucket"), &place());
        assert!(matches!(failure, Failure::Refused(StoreError::NoBucket { .. })));
        assert_eq!(classify_status(404, Some("NoSuchKey"), &place()), Failure::Absent);
        assert_eq!(
            classify_status(403, Some("RequestTimeTooSkewed"), &place()),
            Failure::Refused(StoreError::ClockSkew)
        );
    }

    #[test]
    fn a_conflict_is_lost_and_a_failed_server_leaves_it_open() {
        assert_eq!(classify_status(409, Some("ConditionalRequestConflict"), &place()), Failure::Lost);
        assert_eq!(classify_status(412, None, &place()), Failure::Lost);
        assert!(matches!(classify_status(500, Some("InternalError"), &place()), Failure::Broken(_)));
        assert!(matches!(classify_status(503, Some("SlowDown"), &place()), Failure::Refused(StoreError::Busy { .. })));
    }

    #[test]
    fn status_and_code_are_found_in_the_text() {
        let text = "Error performing GET http://x in 3ms - Server returned non-2xx status code: 403 Forbidden: \
                    <?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>";
        assert_eq!((status(text), code(text)), (Some(403), Some("InvalidAccessKeyId")));
        assert_eq!((status("all is well"), code("<Code>a b</Code>")), (None, None));
    }
}
