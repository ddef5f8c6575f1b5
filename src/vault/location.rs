//! Where a vault lies: what a `Vault` object says about it, and the credentials that are added from Secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SecretText;
use crate::api::vault::{Azure, ObjectLock, Proxy, S3, ServerSideEncryption, VaultSpec};

/// Where a vault lies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    /// A bucket.
    S3(S3Location),
    /// A container of Azure Blob Storage.
    Azure(AzureLocation),
    /// A directory.
    Directory(DirectoryLocation),
}

/// A bucket of an S3-compatible server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Location {
    /// The bucket. It must exist.
    pub bucket: String,
    /// The prefix of every key, without slashes at its ends; may be empty.
    #[serde(default)]
    pub prefix: String,
    /// The provider's name of the bucket's region.
    pub region: String,
    /// The server, as `https://host` or `http://host`; AWS when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name.
    pub path_style: bool,
    /// Certificates to trust besides the usual ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The credentials; the environment's identity when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<S3Credentials>,
    /// What the server is asked to encrypt with; nothing is asked when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// How what is written is locked; not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// The proxy on the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyLocation>,
}

/// Credentials of a bucket.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: SecretText,
    /// The session's token, with temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretText>,
}

/// A container of Azure Blob Storage.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AzureLocation {
    /// The storage account.
    pub account: String,
    /// The container. It must exist.
    pub container: String,
    /// The prefix of every blob's name, without slashes at its ends; may be empty.
    #[serde(default)]
    pub prefix: String,
    /// The account's address; that of Azure's public cloud when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the usual ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// How what is written is locked, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<ObjectLock>,
    /// The credentials; the environment's identity when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AzureCredentials>,
    /// The proxy on the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyLocation>,
}

/// Credentials of a container.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AzureCredentials {
    /// A key of the account, in base64.
    AccountKey(SecretText),
    /// A shared access signature, as a query: `sv=…&sig=…`.
    SasToken(SecretText),
    /// A service principal.
    Client {
        /// Its id.
        client_id: String,
        /// The directory that it is in.
        tenant_id: String,
        /// Its secret.
        client_secret: SecretText,
    },
}

impl AzureCredentials {
    /// What a Secret's entries make up; `Err` says what is missing.
    ///
    /// # Errors
    /// When the entries are none of the three sets, or more than one.
    pub fn from_entries(mut entry: impl FnMut(&str) -> Option<String>) -> Result<Self, &'static str> {
        let account_key = entry("accountKey").map(|it| Self::AccountKey(SecretText::new(it.trim())));
        let sas_token = entry("sasToken").map(|it| Self::SasToken(SecretText::new(it.trim().trim_start_matches('?'))));
        let client = match (entry("clientId"), entry("tenantId"), entry("clientSecret")) {
            (Some(client_id), Some(tenant_id), Some(secret)) => {
                Some(Self::Client { client_id, tenant_id, client_secret: SecretText::new(secret) })
            }
            (None, None, None) => None,
            _ => return Err("clientId, tenantId and clientSecret belong together: give all three"),
        };
        let mut found = [account_key, sas_token, client].into_iter().flatten();
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err("give accountKey, or sasToken, or clientId, tenantId and clientSecret"),
            (Some(_), Some(_)) => Err("give one of accountKey, sasToken, and clientId with tenantId and clientSecret"),
        }
    }
}

/// An HTTP proxy.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProxyLocation {
    /// Where it listens, as `http://host:port`.
    pub url: String,
    /// Hosts that are reached without it.
    #[serde(default)]
    pub no_proxy: Vec<String>,
    /// What it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ProxyCredentials>,
}

/// Who we are to a proxy.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProxyCredentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: SecretText,
}

/// A directory that every region mounts.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryLocation {
    /// Where it is mounted. It must exist.
    pub path: String,
}

impl Location {
    /// What a `Vault` object says, without credentials. A directory lies under `root`, by the name of its claim.
    #[must_use]
    pub fn from_spec(spec: &VaultSpec, root: &str) -> Option<Self> {
        let proxy = spec.proxy.as_ref().map(ProxyLocation::from_spec);
        if let Some(s3) = &spec.s3 {
            return Some(Self::S3(S3Location::from_spec(s3, proxy)));
        }
        if let Some(azure) = &spec.azure {
            return Some(Self::Azure(AzureLocation::from_spec(azure, proxy)));
        }
        let path = |claim: &str| format!("{root}/{claim}");
        spec.directory.as_ref().map(|it| Self::Directory(DirectoryLocation { path: path(&it.claim_name) }))
    }

    /// The proxy on the way there.
    pub fn proxy_mut(&mut self) -> Option<&mut ProxyLocation> {
        match self {
            Self::S3(at) => at.proxy.as_mut(),
            Self::Azure(at) => at.proxy.as_mut(),
            Self::Directory(_) => None,
        }
    }
}

impl S3Location {
    fn from_spec(s3: &S3, proxy: Option<ProxyLocation>) -> Self {
        Self {
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone().unwrap_or_default(),
            region: s3.region.clone(),
            endpoint: s3.endpoint.clone(),
            path_style: s3.path_style.unwrap_or(s3.endpoint.is_some()),
            ca_bundle: s3.ca_bundle.clone(),
            credentials: None,
            server_side_encryption: s3.server_side_encryption.clone(),
            object_lock: s3.object_lock.clone(),
            proxy,
        }
    }
}

impl AzureLocation {
    fn from_spec(azure: &Azure, proxy: Option<ProxyLocation>) -> Self {
        Self {
            account: azure.account.clone(),
            container: azure.container.clone(),
            prefix: azure.prefix.clone().unwrap_or_default(),
            endpoint: azure.endpoint.clone(),
            ca_bundle: azure.ca_bundle.clone(),
            immutability: azure.immutability.clone(),
            credentials: None,
            proxy,
        }
    }

    /// The account's address, without a slash at its end.
    #[must_use]
    pub fn server(&self) -> String {
        let public = || format!("https://{}.blob.core.windows.net", self.account);
        self.endpoint.as_ref().map_or_else(public, |endpoint| endpoint.trim_end_matches('/').to_owned())
    }
}

impl ProxyLocation {
    fn from_spec(proxy: &Proxy) -> Self {
        Self { url: proxy.url.clone(), no_proxy: proxy.no_proxy.clone(), credentials: None }
    }
}

impl fmt::Display for Location {
    /// For people: `s3://bucket/prefix at https://host`, `azure://container/prefix at https://host`, `/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix, server) = match self {
            Self::S3(at) => ("s3", &at.bucket, &at.prefix, at.endpoint.clone()),
            Self::Azure(at) => ("azure", &at.container, &at.prefix, Some(at.server())),
            Self::Directory(at) => return f.write_str(&at.path),
        };
        write!(f, "{scheme}://{bucket}")?;
        if !prefix.is_empty() {
            write!(f, "/{prefix}")?;
        }
        server.map_or(Ok(()), |server| write!(f, " at {server}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[&str]) -> Result<AzureCredentials, &'static str> {
        AzureCredentials::from_entries(|name| entries.contains(&name).then(|| format!("?{name} ")))
    }

    #[test]
    fn a_secret_has_exactly_one_kind_of_azure_credentials() {
        assert!(matches!(read(&["accountKey"]), Ok(AzureCredentials::AccountKey(_))));
        assert!(matches!(read(&["sasToken"]), Ok(AzureCredentials::SasToken(token)) if token.expose() == "sasToken"));
        assert!(matches!(read(&["clientId", "tenantId", "clientSecret"]), Ok(AzureCredentials::Client { .. })));
        assert!(read(&[]).unwrap_err().starts_with("give accountKey"));
        assert!(read(&["accountKey", "sasToken"]).unwrap_err().starts_with("give one"));
        assert!(read(&["accountKey", "clientId"]).unwrap_err().contains("all three"));
    }
}
