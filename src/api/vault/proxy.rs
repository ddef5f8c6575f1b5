//! The HTTP proxy through which a store is reached, as a `Vault` names it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::SecretName;

/// A proxy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// The proxy, as `http://host:port` or `https://host:port`, without a password.
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^/@ ]+/?$"))]
    pub url: String,
    /// Hosts that are reached without it: names (with all names under them), addresses, and ranges as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = "^[^, ]+$")))]
    pub no_proxy: Vec<String>,
    /// The Secret with `username` and `password` in the operator's namespace. Default: the proxy asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretName>,
}
