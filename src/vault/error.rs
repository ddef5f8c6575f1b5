//! Why a request to a store failed, in words for people.

/// Why a request failed. The texts are for people, and the same for the same cause.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The server does not know the key's id.
    #[error("the server does not know the access key id: correct `accessKeyId` in the Secret of `spec.s3.credentials`")]
    AccessKeyId,
    /// The signature is wrong.
    #[error("the server refuses the signature: correct `secretAccessKey` in the Secret of `spec.s3.credentials`")]
    SecretAccessKey,
    /// The session token is not valid.
    #[error("the session token is expired or wrong: renew `sessionToken` in the Secret of `spec.s3.credentials`")]
    SessionToken,
    /// The environment has no identity to give.
    #[error(
        "the environment gives no credentials: name a Secret in `spec.s3.credentials`, or give the service account an identity"
    )]
    NoCredentials,
    /// Known, but not allowed.
    #[error(
        "access denied to {place}: allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket for these credentials, or correct `spec.s3.credentials`"
    )]
    Forbidden {
        /// Bucket and server.
        place: String,
    },
    /// There is no such bucket.
    #[error("there is no {place}: create it, or correct `spec.s3.bucket`")]
    NoBucket {
        /// Bucket and server.
        place: String,
    },
    /// The bucket is elsewhere.
    #[error("{place} is in another region: correct `spec.s3.region`")]
    OtherRegion {
        /// Bucket and server.
        place: String,
    },
    /// The server's name does not resolve.
    #[error("the name of {server} does not resolve: correct `spec.s3.endpoint`, or this cluster's DNS")]
    Unresolved {
        /// The server.
        server: String,
    },
    /// Nothing listens there.
    #[error("{server} refuses connections: it is down, or `spec.s3.endpoint` is wrong")]
    Refused {
        /// The server.
        server: String,
    },
    /// No way there, or the connection broke.
    #[error("{server} can't be reached: the network is down, or a firewall or network policy is in the way")]
    Unreachable {
        /// The server.
        server: String,
    },
    /// No reply in time.
    #[error("{server} did not answer in time")]
    TimedOut {
        /// The server or the directory.
        server: String,
    },
    /// The clocks differ.
    #[error("the clock of this node differs from the server's by more than 15 minutes: correct it")]
    ClockSkew,
    /// No trust.
    #[error("the certificate of {server} is not trusted: {reason}")]
    Tls {
        /// The server.
        server: String,
        /// What is wrong with it, and the remedy.
        reason: &'static str,
    },
    /// The condition did not hold, or another writer was in the way: read back what is there.
    #[error("another writer was first")]
    Lost,
    /// The write was sent and no reply came: it may have happened, or may yet happen. Read back what is there.
    #[error("the outcome of a write is unknown: {reason}")]
    Unknown {
        /// What broke.
        reason: String,
    },
    /// The server is too busy.
    #[error("{server} is too busy")]
    Busy {
        /// The server.
        server: String,
    },
    /// More than may be read into memory.
    #[error("`{key}` is larger than {limit} bytes")]
    TooLarge {
        /// The key.
        key: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// More keys than may be listed.
    #[error("more than {limit} keys begin with `{prefix}`")]
    TooMany {
        /// What was listed.
        prefix: String,
        /// The limit.
        limit: usize,
    },
    /// The directory is not there.
    #[error(
        "there is no directory `{path}`: its volume is not mounted, or the claim in `spec.directory.claimName` is wrong"
    )]
    NoDirectory {
        /// The directory.
        path: String,
    },
    /// The directory has no space left.
    #[error("the volume of directory `{path}` is full")]
    Full {
        /// The directory.
        path: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    /// Whether the same request may succeed in a moment, without anyone changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unresolved { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Unknown { .. }
            | Self::Busy { .. } => true,
            Self::AccessKeyId
            | Self::SecretAccessKey
            | Self::SessionToken
            | Self::NoCredentials
            | Self::Forbidden { .. }
            | Self::NoBucket { .. }
            | Self::OtherRegion { .. }
            | Self::ClockSkew
            | Self::Tls { .. }
            | Self::Lost
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::NoDirectory { .. }
            | Self::Full { .. }
            | Self::Other(_) => false,
        }
    }
}
