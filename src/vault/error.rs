//! Why a request to a store failed, in words for people.

use std::fmt;

/// Whose storage it is: the part of a `Vault`'s spec that the remedies are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `spec.s3`
    S3,
    /// `spec.azure`
    Azure,
    /// `spec.directory`
    Directory,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 => "s3",
            Self::Azure => "azure",
            Self::Directory => "directory",
        })
    }
}

impl Provider {
    /// The field that names the bucket.
    fn bucket(self) -> &'static str {
        match self {
            Self::S3 => "bucket",
            Self::Azure => "container",
            Self::Directory => "claimName",
        }
    }

    /// What to do about refused access.
    fn allow(self) -> &'static str {
        match self {
            Self::S3 => {
                "allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket for these credentials, or correct `spec.s3.credentials`"
            }
            Self::Azure => {
                "give these credentials the role Storage Blob Data Contributor (a shared access signature: the permissions rwdl on the container), let the account's firewall pass, or correct `spec.azure.credentials`"
            }
            Self::Directory => "let user 65532, as whom the operator runs, and root, as whom movers run, write into it",
        }
    }
}

/// What is wrong with a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The server speaks no TLS.
    Plain,
    /// The certificate's time.
    Time,
    /// The certificate's name.
    Name,
    /// The certificate is an authority's.
    Authority,
    /// Unknown issuer.
    Issuer,
}

impl TlsFault {
    /// What is wrong, and the remedy.
    fn tell(self, provider: Provider) -> String {
        match self {
            Self::Plain => format!("the server does not speak TLS, begin `spec.{provider}.endpoint` with http://"),
            Self::Time => "it is expired or not valid yet".to_owned(),
            Self::Name => format!("it is for another name than that in `spec.{provider}.endpoint`"),
            Self::Authority => "it is that of an authority (CA:TRUE), give the server one that is not".to_owned(),
            Self::Issuer => format!("put its issuer into `spec.{provider}.caBundle`"),
        }
    }
}

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
    /// The account's key is wrong.
    #[error(
        "the server refuses the signature: correct `accountKey` in the Secret of `spec.azure.credentials`, or `spec.azure.account`"
    )]
    AccountKey,
    /// The shared access signature is not valid.
    #[error(
        "the shared access signature is expired or wrong: renew `sasToken` in the Secret of `spec.azure.credentials`"
    )]
    SasToken,
    /// The service principal is refused.
    #[error(
        "the directory refuses the service principal: correct `clientId`, `tenantId` and `clientSecret` in the Secret of `spec.azure.credentials`"
    )]
    ClientSecret,
    /// The environment has no identity to give.
    #[error(
        "the environment gives no credentials: name a Secret in `spec.{provider}.credentials`, or give the service account an identity"
    )]
    NoCredentials {
        /// Whose.
        provider: Provider,
    },
    /// Known, but not allowed.
    #[error(
        "access denied to {place}: {}", provider.allow()
    )]
    Forbidden {
        /// Bucket and server.
        place: String,
        /// Whose.
        provider: Provider,
    },
    /// There is no such bucket.
    #[error("there is no {place}: create it, or correct `spec.{provider}.{}`", provider.bucket())]
    NoBucket {
        /// Bucket and server.
        place: String,
        /// Whose.
        provider: Provider,
    },
    /// The bucket is elsewhere.
    #[error("{place} is in another region: correct `spec.s3.region`")]
    OtherRegion {
        /// Bucket and server.
        place: String,
    },
    /// The server's name does not resolve.
    #[error("the name of {server} does not resolve: correct `spec.{provider}.endpoint`, or this cluster's DNS")]
    Unresolved {
        /// The server.
        server: String,
        /// Whose.
        provider: Provider,
    },
    /// Nothing listens there.
    #[error("{server} refuses connections: it is down, or `spec.{provider}.endpoint` is wrong")]
    Refused {
        /// The server.
        server: String,
        /// Whose.
        provider: Provider,
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
    #[error("the certificate of {server} is not trusted: {}", reason.tell(*provider))]
    Tls {
        /// The server.
        server: String,
        /// Whose.
        provider: Provider,
        /// What is wrong with it, and the remedy.
        reason: TlsFault,
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
    /// The answer is none.
    #[error("{server} gave a reply that can't be understood")]
    Garbled {
        /// The server.
        server: String,
    },
    /// No space left in the bucket.
    #[error("{place} takes no more: it is full, or a quota is reached")]
    NoRoom {
        /// Bucket and server.
        place: String,
    },
    /// The server can't encrypt as it is asked to.
    #[error(
        "the server can't encrypt as `spec.s3.serverSideEncryption` asks ({code}): correct it, or the server's keys"
    )]
    Encryption {
        /// The server's code.
        code: String,
    },
    /// The server encrypts in another way than asked.
    #[error(
        "`spec.s3.serverSideEncryption` asks for {asked}, and the server reports {found}: correct it, or what the bucket is set to"
    )]
    OtherEncryption {
        /// What it was asked for.
        asked: &'static str,
        /// What it reports.
        found: String,
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
            | Self::Busy { .. }
            | Self::Garbled { .. } => true,
            Self::AccessKeyId
            | Self::SecretAccessKey
            | Self::SessionToken
            | Self::AccountKey
            | Self::SasToken
            | Self::ClientSecret
            | Self::NoCredentials { .. }
            | Self::NoRoom { .. }
            | Self::Encryption { .. }
            | Self::OtherEncryption { .. }
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
