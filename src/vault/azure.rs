//! A container of Azure Blob Storage: how it is addressed and opened. Requests are `bucket`.
//!
//! Compare-and-swap rests on `If-None-Match: *` and `If-Match` with a blob's `ETag`, which differs with each write.

use std::sync::Arc;

use object_store::RetryConfig;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder, split_sas};

use super::bucket::Bucket;
use super::bucket_error::{Identity, Place};
use super::object_lock::LockOnWrite;
use super::pace::Pace;
use super::requests::{Requests, Signer};
use super::transport::Transport;
use super::{AzureCredentials, AzureLocation, Provider, VaultError};

/// What the environment's identity is made of: workload identity, and managed identity where it is given by variables.
const IDENTITY: [(&str, AzureConfigKey); 5] = [
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

/// Makes the client. No request is sent.
///
/// # Errors
/// When the endpoint, the certificates or the credentials can't be read.
pub(super) fn open(location: &AzureLocation) -> Result<Bucket, VaultError> {
    let pace = Arc::new(Pace::default());
    let transport =
        Transport::new(Provider::Azure, location.ca_bundle.as_deref(), location.proxy.as_ref(), pace.clone())?;
    let server = location.server();
    if !server.starts_with("https://") && !server.starts_with("http://") {
        return Err(VaultError::Settings("`spec.azure.endpoint` is not an http:// or https:// URL".to_owned()));
    }
    let builder = MicrosoftAzureBuilder::new()
        .with_http_connector(transport.clone())
        .with_account(&location.account)
        .with_container_name(&location.container)
        .with_endpoint(server.clone())
        // The connector decides on what is sent where.
        .with_allow_http(true)
        // No retries in the client: it does not know which requests may be repeated.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    let (builder, identity) = identified(builder, location.credentials.as_ref())?;
    let wrong = |_| match identity {
        Identity::AccountKey => {
            VaultError::Settings("`accountKey` in the Secret of `spec.azure.credentials` is not base64".to_owned())
        }
        _ => VaultError::Settings("`spec.azure` does not make up a usable address".to_owned()),
    };
    let client = builder.build().map_err(wrong)?;
    let bucket = format!("container `{}` at {server}", location.container);
    let url = format!("{server}/{}", location.container);
    let at = Place { bucket, server, provider: Provider::Azure, identity };
    let signer = Signer::Azure { credentials: client.credentials().clone(), account: location.account.clone() };
    if let Some(lock) = &location.immutability {
        transport.lock_writes(LockOnWrite::new(signer.clone(), &url, &location.prefix, lock));
    }
    let requests =
        Requests::new((transport, signer), url, at.clone(), &location.container, location.immutability.clone());
    Ok(Bucket::new(Arc::new(client), &location.prefix, at, pace).with_versions(requests))
}

fn identified(
    builder: MicrosoftAzureBuilder,
    credentials: Option<&AzureCredentials>,
) -> Result<(MicrosoftAzureBuilder, Identity), VaultError> {
    Ok(match credentials {
        None => {
            let given = IDENTITY.into_iter().filter_map(|(name, key)| Some((key, std::env::var(name).ok()?)));
            (given.fold(builder, |builder, (key, value)| builder.with_config(key, value)), Identity::Environment)
        }
        Some(AzureCredentials::AccountKey(key)) => (builder.with_access_key(key.expose()), Identity::AccountKey),
        Some(AzureCredentials::SasToken(token)) => {
            let pairs = split_sas(token.expose()).map_err(|_| {
                VaultError::Settings("`sasToken` in the Secret of `spec.azure.credentials` is not a query".to_owned())
            })?;
            (builder.with_sas_authorization(pairs), Identity::SasToken)
        }
        Some(AzureCredentials::Client { client_id, tenant_id, client_secret }) => {
            let secret = client_secret.expose();
            (builder.with_client_secret_authorization(client_id, secret, tenant_id), Identity::Client)
        }
    })
}

#[cfg(test)]
#[path = "azure_tests.rs"]
mod tests;
