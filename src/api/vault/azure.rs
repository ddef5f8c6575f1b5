//! A container of Azure Blob Storage, as a `Vault` names it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ObjectLock, SecretName};

/// A container of Azure Blob Storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The storage account.
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z0-9]+$"))]
    pub account: String,
    /// The container. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub container: String,
    /// The prefix of every blob's name, without slashes at its ends. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"))]
    pub prefix: Option<String>,
    /// The account's address, when it is not `https://<account>.blob.core.windows.net`: that of a national cloud, or of
    /// an emulator as `http://10.0.0.1:10000/<account>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^/ ]+(/[a-z0-9]+)?/?$"))]
    pub endpoint: Option<String>,
    /// Certificates that the server's certificate may come from, as PEM, besides the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
    /// The Secret in the operator's namespace with one of: `accountKey`; `sasToken`; `clientId`, `tenantId` and
    /// `clientSecret`. Default: the environment's identity (workload identity, managed identity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretName>,
    /// Locks what recovery is made of against deletion, also by whoever has these credentials, by immutability policies of
    /// versions: unlocked ones with `Governance`, locked ones with `Compliance`. The container must have been made with
    /// version-level immutability. Default: nothing is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<ObjectLock>,
}
