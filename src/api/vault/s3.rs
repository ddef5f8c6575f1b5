//! A bucket of an S3-compatible server, as a `Vault` names it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ObjectLock, SecretName};

/// A bucket.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The bucket. It must exist.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The prefix of every key, without slashes at its ends. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"))]
    pub prefix: Option<String>,
    /// The provider's name of the bucket's region. Default `us-east-1`.
    #[serde(default = "us_east_1")]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// The server, when it is not AWS: `https://s3.example.com`. `http://` is taken as it is: the contents are
    /// encrypted, the credentials are signed and not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^/ ]+/?$"))]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. Default: true with an `endpoint`, false without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Certificates that the server's certificate may come from, as PEM, besides the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
    /// The Secret with `accessKeyId`, `secretAccessKey` and, if there is one, `sessionToken`, in the operator's
    /// namespace. Default: the environment's identity (IRSA, EKS pod identity, instance profile).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretName>,
    /// What the server is to encrypt objects with at rest, besides the encryption that every vault has. Default: what
    /// the bucket is set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Locks what recovery is made of against deletion, also by whoever has these credentials (S3 Object Lock). The bucket
    /// must have been made with it. Default: nothing is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
}

/// Encryption by the server. Asked for with every write.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.kmsKeyId) || self.algorithm == 'aws:kms'").message("kmsKeyId is for the algorithm aws:kms: remove it, or choose that algorithm"))]
pub struct ServerSideEncryption {
    /// `AES256` (keys of the server's own) or `aws:kms` (keys of a key service).
    pub algorithm: SseAlgorithm,
    /// The key in the key service, by its id or ARN. Default: the bucket's own, or the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// How the server encrypts.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SseAlgorithm {
    /// With keys of the server's own.
    #[serde(rename = "AES256")]
    Aes256,
    /// With keys of a key service.
    #[serde(rename = "aws:kms")]
    AwsKms,
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}
