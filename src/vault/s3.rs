//! A bucket of an S3-compatible server: how it is addressed and opened. Requests are `bucket`.

use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};

use super::bucket::Bucket;
use super::bucket_error::{Identity, Place};
use super::object_lock::LockOnWrite;
use super::pace::Pace;
use super::requests::{Requests, Signer};
use super::transport::Transport;
use super::{Provider, S3Location, VaultError};
use crate::api::vault::{ServerSideEncryption, SseAlgorithm};

/// What the environment's identity is made of: IRSA, EKS pod identity, ECS tasks, and plain variables.
const IDENTITY: [(&str, AmazonS3ConfigKey); 9] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// Makes the client. No request is sent.
///
/// # Errors
/// When the endpoint or the certificates can't be read.
pub(super) fn open(location: &S3Location) -> Result<Bucket, VaultError> {
    let pace = Arc::new(Pace::default());
    let transport = Transport::new(Provider::S3, location.ca_bundle.as_deref(), location.proxy.as_ref(), pace.clone())?;
    let mut builder = AmazonS3Builder::new();
    if location.credentials.is_none() {
        for (variable, key) in IDENTITY {
            if let Ok(value) = std::env::var(variable) {
                builder = builder.with_config(key, value);
            }
        }
    }
    builder = builder
        .with_http_connector(transport.clone())
        .with_bucket_name(&location.bucket)
        .with_region(&location.region)
        .with_virtual_hosted_style_request(!location.path_style)
        // The connector decides on what is sent where.
        .with_allow_http(true)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        // No retries in the client: it does not know which requests may be repeated.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    let server = match &location.endpoint {
        Some(endpoint) => {
            builder = builder.with_endpoint(endpoint_url(endpoint, location)?);
            endpoint.trim_end_matches('/').to_owned()
        }
        None => format!("https://s3.{}.amazonaws.com", location.region),
    };
    let mut identity = Identity::Environment;
    if let Some(credentials) = &location.credentials {
        identity = Identity::AccessKey;
        builder = builder
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(credentials.secret_access_key.expose());
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token.expose());
        }
    }
    if let Some(asked) = &location.server_side_encryption {
        builder = encrypting(builder, asked);
    }
    if location.object_lock.is_some() {
        // A write with a lock must say what it carries, and so must the parts of one.
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    let client =
        builder.build().map_err(|_| VaultError::Settings("`spec.s3` does not make up a usable address".to_owned()))?;
    let url = bucket_url(location, &server);
    let at =
        Place { bucket: format!("bucket `{}` at {server}", location.bucket), server, provider: Provider::S3, identity };
    let asked = location.server_side_encryption.as_ref().map(|it| name(it.algorithm));
    let signer = Signer::S3 { credentials: client.credentials().clone(), region: location.region.clone() };
    if let Some(lock) = &location.object_lock {
        transport.lock_writes(LockOnWrite::new(signer.clone(), &url, &location.prefix, lock));
    }
    let requests = Requests::new((transport, signer), url, at.clone(), &location.bucket, location.object_lock.clone());
    Ok(Bucket::new(Arc::new(client), &location.prefix, at, pace).asking_for(asked).with_versions(requests))
}

fn encrypting(builder: AmazonS3Builder, asked: &ServerSideEncryption) -> AmazonS3Builder {
    let key = |name: &str| name.parse::<AmazonS3ConfigKey>().expect("it is one of the client's names");
    let builder = builder.with_config(key("aws_server_side_encryption"), name(asked.algorithm));
    match &asked.kms_key_id {
        Some(id) => builder.with_config(key("aws_sse_kms_key_id"), id),
        None => builder,
    }
}

/// The algorithm, as servers are asked for it and report it.
fn name(algorithm: SseAlgorithm) -> &'static str {
    match algorithm {
        SseAlgorithm::Aes256 => "AES256",
        SseAlgorithm::AwsKms => "aws:kms",
    }
}

/// The bucket's own URL, as `object_store` makes it.
fn bucket_url(location: &S3Location, server: &str) -> String {
    match server.split_once("://") {
        Some((scheme, host)) if !location.path_style => format!("{scheme}://{}.{host}", location.bucket),
        _ => format!("{server}/{}", location.bucket),
    }
}

/// The URL that `object_store` wants: with the bucket in the host name, unless it stands in the path.
fn endpoint_url(endpoint: &str, location: &S3Location) -> Result<String, VaultError> {
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, host) = endpoint
        .split_once("://")
        .filter(|(scheme, host)| matches!(*scheme, "http" | "https") && !host.is_empty())
        .ok_or_else(|| VaultError::Settings("`spec.s3.endpoint` is not an http:// or https:// URL".to_owned()))?;
    if location.path_style { Ok(endpoint.to_owned()) } else { Ok(format!("{scheme}://{}.{host}", location.bucket)) }
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
