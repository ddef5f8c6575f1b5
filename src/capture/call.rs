//! One question to the API server: with a deadline, and asked again a few times when it could not be answered.
//!
//! What an answer means is for the caller. The client retries some answers by itself (429, 503, 504); what stands
//! here adds the deadline, lost connections and the other temporary answers.

use std::{future::Future, time::Duration};

use futures::io::AsyncReadExt;
use http::{HeaderValue, Request, header};
use kube::{Client, core::Status};

/// How long one answer may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a question is asked at most.
const ATTEMPTS: u32 = 5;

/// The longest pause between two attempts, also when the server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The largest answer about a single object: its metadata, or itself.
const LARGEST_ANSWER: u64 = 16 << 20;

/// Why a question was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("no answer from the API server within {} s", .0.as_secs())]
    Late(Duration),
    /// The API server answered with a refusal.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// The answer is larger than it may be. Bytes.
    #[error("the API server's answer is larger than {0} bytes")]
    TooLarge(u64),
    /// The question could not be sent, or its answer not read.
    #[error("ask the API server: {0}")]
    Failed(#[source] kube::Error),
    /// The connection broke while the answer came in.
    #[error("read the API server's answer: {0}")]
    Broken(#[source] std::io::Error),
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Failed(other),
        }
    }
}

impl CallError {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            Self::Late(_) | Self::TooLarge(_) | Self::Failed(_) | Self::Broken(_) => None,
        }
    }

    /// The reason in one or two words, the same whenever the same thing happens: what lies in a bundle must not
    /// differ from one capture to the next because of a request's number or an address.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Refused(status) if status.reason.is_empty() => format!("refused with status {}", status.code),
            Self::Refused(status) => status.reason.clone(),
            Self::Late(_) => "no answer in time".to_owned(),
            Self::TooLarge(_) => "answer too large".to_owned(),
            Self::Failed(_) | Self::Broken(_) => "no connection".to_owned(),
        }
    }

    /// Whether the same question may be answered soon.
    #[must_use]
    pub fn temporary(&self) -> bool {
        match self {
            Self::Late(_) | Self::Broken(_) => true,
            Self::TooLarge(_) => false,
            Self::Failed(error) => {
                matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_))
            }
            Self::Refused(status) => matches!(status.code, 429 | 500 | 502 | 503 | 504) || soon_admitted(status),
        }
    }

    /// The pause that the server asks for.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Refused(status) => {
                let seconds = status.details.as_ref().map_or(0, |it| it.retry_after_seconds);
                (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
            }
            Self::Late(_) | Self::TooLarge(_) | Self::Failed(_) | Self::Broken(_) => None,
        }
    }
}

/// Refusals by admission that pass once a controller has caught up with a namespace that was just made.
fn soon_admitted(status: &Status) -> bool {
    status.code == 403
        && ["status unknown for quota", "error looking up service account"].iter().any(|it| status.message.contains(it))
}

/// Asks until there is an answer, a refusal that will stay, or no attempt left.
///
/// # Errors
/// The last attempt's.
pub async fn ask<T, F, A>(deadline: Duration, mut question: F) -> Result<T, CallError>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, CallError>>,
{
    let mut attempt = 1;
    loop {
        let answer = tokio::time::timeout(deadline, question()).await.unwrap_or(Err(CallError::Late(deadline)));
        match answer {
            Err(error) if error.temporary() && attempt < ATTEMPTS => {
                tokio::time::sleep(backoff(attempt, error.pause())).await;
                attempt += 1;
            }
            last => return last,
        }
    }
}

/// Doubles from 200 ms, with full jitter, so that many callers do not come back at once.
fn backoff(attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = Duration::from_millis(200) * 2_u32.saturating_pow(attempt - 1);
    doubled.max(asked.unwrap_or_default()).min(LONGEST_PAUSE).mul_f64(rand::random_range(0.5..1.0))
}

/// Sends one request and reads at most `largest` bytes of its answer.
///
/// # Errors
/// `TooLarge` when there is more to read.
pub async fn send(client: &Client, mut request: Request<Vec<u8>>, largest: u64) -> Result<Vec<u8>, CallError> {
    // Compression costs the API server more time than a cluster's network saves.
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut body = client.request_stream(request).await?.take(largest + 1);
    let mut bytes = Vec::new();
    let length = body.read_to_end(&mut bytes).await.map_err(CallError::Broken)?;
    if length as u64 > largest { Err(CallError::TooLarge(largest)) } else { Ok(bytes) }
}

/// Asks for an answer that holds only the object's metadata: the object itself is what was just sent.
#[must_use]
pub fn briefly(mut request: Request<Vec<u8>>) -> Request<Vec<u8>> {
    let metadata = HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    request.headers_mut().insert(header::ACCEPT, metadata);
    request
}

/// Asks a question about one object.
///
/// # Errors
/// As `ask`; a request that cannot be built is `Failed`.
pub async fn object(
    client: &Client,
    build: impl Fn() -> Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Vec<u8>, CallError> {
    ask(DEADLINE, || async {
        let request = build().map_err(kube::Error::BuildRequest)?;
        send(client, request, LARGEST_ANSWER).await
    })
    .await
}
