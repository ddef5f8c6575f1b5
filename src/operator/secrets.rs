//! Secrets of the operator's namespace, and the vaults and DNS providers that are opened with them.
//!
//! Opened vaults are kept for a minute: a Secret that changed is taken up by then.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use crate::{
    api::{dns_zone::DnsZone, vault::Vault as VaultObject},
    core::{mover_job::VAULTS, work::Failure},
    traffic::{self, resolve::Resolve, rfc2136},
    vault::{S3Credentials, SecretText, Settings, Vault, VaultError},
};

/// How long an opened vault is used before its Secrets are read again.
const KEEP: Duration = Duration::from_mins(1);

/// Reads Secrets, and keeps what was opened with them.
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
    vaults: Mutex<HashMap<String, Opened>>,
}

#[derive(Clone)]
struct Opened {
    generation: Option<String>,
    at: Instant,
    vault: Vault,
}

impl Secrets {
    /// Of the operator's namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned(), vaults: Mutex::default() }
    }

    /// One entry of a Secret, or what to do about its absence.
    async fn entry(&self, field: &str, secret: &str, entry: &str) -> Result<Option<String>, Failure> {
        let failure = |reason, message: String| Failure { reason, message, lasting: false };
        let found = self.api.get_opt(secret).await.map_err(|error| {
            failure(
                "SecretUnreadable",
                format!("{field}: Secret {secret} in {} could not be read: {error}", self.namespace),
            )
        })?;
        let Some(found) = found else {
            let message =
                format!("{field}: there is no Secret '{secret}' in namespace {}: create it there", self.namespace);
            return Err(failure("SecretMissing", message));
        };
        let bytes = found.data.as_ref().and_then(|it| it.get(entry)).map(|it| it.0.clone());
        let bytes = bytes.filter(|it| !it.is_empty());
        bytes.map(String::from_utf8).transpose().map_err(|_| {
            failure("SecretUnreadable", format!("{field}: entry '{entry}' of Secret '{secret}' is not text"))
        })
    }

    async fn required(&self, field: &str, secret: &str, entry: &str) -> Result<String, Failure> {
        self.entry(field, secret, entry).await?.ok_or_else(|| Failure {
            reason: "SecretIncomplete",
            message: format!("{field}: Secret '{secret}' in namespace {} has no entry '{entry}'", self.namespace),
            lasting: false,
        })
    }

    /// The vault, opened.
    ///
    /// # Errors
    /// What is wrong with its settings or Secrets, by field.
    pub async fn vault(&self, object: &VaultObject) -> Result<Vault, Failure> {
        let (name, version) = (object.name_any(), object.resource_version());
        let generation = object.metadata.generation.map(|it| it.to_string()).or(version);
        let kept = self.vaults.lock().expect("no holder of this lock panics").get(&name).cloned();
        if let Some(kept) = kept.filter(|it| it.generation == generation && it.at.elapsed() < KEEP) {
            return Ok(kept.vault);
        }
        let key = self.required("spec.encryption.secret", &object.spec.encryption.secret.name, "key").await?;
        let mut location = crate::vault::Location::from_spec(&object.spec, VAULTS).ok_or_else(|| Failure {
            reason: "SettingsInvalid",
            message: "a vault has exactly one of spec.s3 and spec.directory".to_owned(),
            lasting: false,
        })?;
        if let (crate::vault::Location::S3(s3), Some(secret)) =
            (&mut location, object.spec.s3.as_ref().and_then(|it| it.credentials.as_ref()))
        {
            let field = "spec.s3.credentials";
            s3.credentials = Some(S3Credentials {
                access_key_id: self.required(field, &secret.name, "accessKeyId").await?,
                secret_access_key: SecretText::new(self.required(field, &secret.name, "secretAccessKey").await?),
                session_token: self.entry(field, &secret.name, "sessionToken").await?.map(SecretText::new),
            });
        }
        let settings = Settings { location, key: SecretText::new(key.trim_end_matches(['\n', '\r'])) };
        let vault = Vault::open(&settings).map_err(|error| vault_failure(&error))?;
        let mut vaults = self.vaults.lock().expect("no holder of this lock panics");
        vaults.insert(name, Opened { generation, at: Instant::now(), vault: vault.clone() });
        Ok(vault)
    }

    /// What changes the zone.
    ///
    /// # Errors
    /// What is wrong with its settings or Secret, by field.
    pub async fn provider(&self, zone: &DnsZone, resolve: &Resolve) -> Result<traffic::Provider, Failure> {
        let tsig = &zone.spec.rfc2136.tsig;
        let secret = self.required("spec.rfc2136.tsig.secret", &tsig.secret.name, "secret").await?;
        let settings = rfc2136::Settings {
            zone: zone.spec.zone.clone(),
            server: zone.spec.rfc2136.server.clone(),
            key_name: tsig.name.clone(),
            algorithm: tsig.algorithm,
            secret,
        };
        traffic::Provider::rfc2136(&settings, resolve.clone()).map_err(|error| Failure {
            reason: "ZoneInvalid",
            message: error.to_string(),
            lasting: false,
        })
    }
}

/// How a vault's error is told.
#[must_use]
pub fn vault_failure(error: &VaultError) -> Failure {
    let reason = match error {
        VaultError::Key(_) => "KeyTooShort",
        VaultError::Settings(_) => "SettingsInvalid",
        VaultError::Store(_) => "StoreFailed",
        VaultError::OtherKey => "WrongKey",
        VaultError::Format { .. } => "FormatUnknown",
        VaultError::Identity | VaultError::Stray { .. } => "IdentityDamaged",
    };
    Failure { reason, message: error.to_string(), lasting: false }
}
