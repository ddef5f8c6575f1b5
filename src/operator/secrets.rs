//! Secrets of the operator's namespace, and the vaults and DNS providers that are opened with them.
//!
//! Opened vaults are kept for a minute: a Secret that changed is taken up by then. Each Secret is read once for that.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt};

use crate::{
    api::{dns_zone::DnsZone, vault::Vault as VaultObject},
    core::{mover_job::VAULTS, vault::location, work::Failure},
    traffic::{self, resolve::Resolve, rfc2136},
    vault::{
        AzureCredentials, Location, Locked, ProxyCredentials, S3Credentials, SecretText, Settings, Vault, VaultError,
    },
};

/// How long an opened vault is used before its Secrets are read again.
const KEEP: Duration = Duration::from_mins(1);
/// How long it is told to all who ask that a vault could not be opened, before it is tried again.
const KEEP_FAILURE: Duration = Duration::from_secs(1);

/// How long opening one may take.
const OPENING: Duration = Duration::from_secs(10);

/// Reads Secrets, and keeps what was opened with them.
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
    vaults: Mutex<HashMap<String, Slot>>,
}

/// One vault. Who opens it holds the lock, and all others wait for what comes of it.
type Slot = Arc<tokio::sync::Mutex<Option<Opened>>>;

struct Opened {
    generation: Option<String>,
    at: Instant,
    vault: Result<Locked, Failure>,
}

impl Opened {
    fn fresh(&self, generation: Option<&String>) -> bool {
        let keep = if self.vault.is_ok() { KEEP } else { KEEP_FAILURE };
        self.generation.as_ref() == generation && self.at.elapsed() < keep
    }
}

/// A Secret that was read for a field.
struct Found<'a> {
    field: &'static str,
    name: &'a str,
    namespace: &'a str,
    data: Arc<BTreeMap<String, ByteString>>,
}

impl Found<'_> {
    fn entry(&self, entry: &str) -> Result<Option<String>, Failure> {
        let bytes = self.data.get(entry).map(|it| it.0.clone()).filter(|it| !it.is_empty());
        bytes.map(String::from_utf8).transpose().map_err(|_| {
            failure(
                "SecretUnreadable",
                format!("{}: entry '{entry}' of Secret '{}' is not text", self.field, self.name),
            )
        })
    }

    fn required(&self, entry: &str) -> Result<String, Failure> {
        self.entry(entry)?.ok_or_else(|| {
            let (field, name, namespace) = (self.field, self.name, self.namespace);
            failure(
                "SecretIncomplete",
                format!("{field}: Secret '{name}' in namespace {namespace} has no entry '{entry}'"),
            )
        })
    }
}

impl Found<'_> {
    fn azure(&self) -> Result<AzureCredentials, Failure> {
        let mut wrong = Ok(());
        let credentials = AzureCredentials::from_entries(|entry| match self.entry(entry) {
            Ok(text) => text,
            Err(failure) => {
                wrong = Err(failure);
                None
            }
        });
        wrong?;
        let (field, name, namespace) = (self.field, self.name, self.namespace);
        credentials.map_err(|what| {
            failure("SecretIncomplete", format!("{field}: Secret '{name}' in namespace {namespace}: {what}"))
        })
    }
}

fn failure(reason: &'static str, message: String) -> Failure {
    Failure { reason, message, lasting: false }
}

impl Secrets {
    /// Of the operator's namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned(), vaults: Mutex::default() }
    }

    /// A Secret, or what to do about its absence.
    async fn read<'a>(&'a self, field: &'static str, name: &'a str) -> Result<Found<'a>, Failure> {
        let namespace = &self.namespace;
        let found = self.api.get_opt(name).await.map_err(|error| {
            failure("SecretUnreadable", format!("{field}: Secret {name} in {namespace} could not be read: {error}"))
        })?;
        let Some(found) = found else {
            let message = format!("{field}: there is no Secret '{name}' in namespace {namespace}: create it there");
            return Err(failure("SecretMissing", message));
        };
        Ok(Found { field, name, namespace, data: Arc::new(found.data.unwrap_or_default()) })
    }

    /// The vault, opened with the key in its Secret. One that this region has opened before, where it lies now, is not
    /// made anew.
    ///
    /// # Errors
    /// What is wrong with its settings or Secrets, by field; why the vault can't be opened.
    pub async fn vault(&self, object: &VaultObject) -> Result<Vault, Failure> {
        let locked = self.locked(object).await?;
        let here = location(&object.spec);
        let known = object.status.as_ref().is_some_and(|it| it.id.is_some() && it.location.as_ref() == Some(&here));
        let opened = if known { locked.unlock_known().await } else { locked.unlock().await };
        opened.map_err(|error| vault_failure(&error))
    }

    /// The vault, not opened: made by one caller, however many ask. Needs no answer of the vault, which may be away.
    ///
    /// # Errors
    /// What is wrong with its settings or Secrets, by field.
    pub async fn locked(&self, object: &VaultObject) -> Result<Locked, Failure> {
        let (name, version) = (object.name_any(), object.resource_version());
        let generation = object.metadata.generation.map(|it| it.to_string()).or(version);
        let slot = Arc::clone(self.vaults.lock().expect("no holder of this lock panics").entry(name).or_default());
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref().filter(|it| it.fresh(generation.as_ref())) {
            return kept.vault.clone();
        }
        // All others wait for this one.
        let late = |_| Err(failure("SecretUnreadable", format!("no Secret was told within {} s", OPENING.as_secs())));
        let settings = tokio::time::timeout(OPENING, self.settings(object)).await.unwrap_or_else(late);
        let before = kept.take().and_then(|it| it.vault.ok());
        let vault = settings.and_then(|it| match before {
            // What was opened stays open.
            Some(before) if *before.settings() == it => Ok(before),
            _ => Locked::new(it).map_err(|error| vault_failure(&error)),
        });
        *kept = Some(Opened { generation, at: Instant::now(), vault: vault.clone() });
        vault
    }

    /// A Secret, without a second request if it is the one that was read already.
    async fn again<'a>(&'a self, field: &'static str, name: &'a str, read: &Found<'a>) -> Result<Found<'a>, Failure> {
        if name != read.name {
            return self.read(field, name).await;
        }
        Ok(Found { field, name, namespace: read.namespace, data: Arc::clone(&read.data) })
    }

    /// Has the vault be opened anew when it is next asked for.
    pub fn forget(&self, vault: &str) {
        self.vaults.lock().expect("no holder of this lock panics").remove(vault);
    }

    /// Where a vault lies and what opens it: its object, and the Secrets that it names.
    ///
    /// # Errors
    /// What is wrong with its settings or Secrets, by field.
    pub async fn settings(&self, object: &VaultObject) -> Result<Settings, Failure> {
        let encryption = self.read("spec.encryption.secret", &object.spec.encryption.secret.name).await?;
        let key = encryption.required("key")?;
        let mut location = Location::from_spec(&object.spec, VAULTS).ok_or_else(|| {
            failure("SettingsInvalid", "a vault has exactly one of spec.s3, spec.azure and spec.directory".to_owned())
        })?;
        let spec = &object.spec;
        match &mut location {
            Location::S3(at) => {
                if let Some(secret) = spec.s3.as_ref().and_then(|it| it.credentials.as_ref()) {
                    let found = self.again("spec.s3.credentials", &secret.name, &encryption).await?;
                    at.credentials = Some(S3Credentials {
                        access_key_id: found.required("accessKeyId")?,
                        secret_access_key: SecretText::new(found.required("secretAccessKey")?),
                        session_token: found.entry("sessionToken")?.map(SecretText::new),
                    });
                }
            }
            Location::Azure(at) => {
                if let Some(secret) = spec.azure.as_ref().and_then(|it| it.credentials.as_ref()) {
                    let found = self.again("spec.azure.credentials", &secret.name, &encryption).await?;
                    at.credentials = Some(found.azure()?);
                }
            }
            Location::Directory(_) => {}
        }
        if let (Some(proxy), Some(secret)) =
            (location.proxy_mut(), spec.proxy.as_ref().and_then(|it| it.credentials.as_ref()))
        {
            let found = self.again("spec.proxy.credentials", &secret.name, &encryption).await?;
            let (username, password) = (found.required("username")?, SecretText::new(found.required("password")?));
            proxy.credentials = Some(ProxyCredentials { username, password });
        }
        let key = SecretText::new(key.trim_end_matches(['\n', '\r']));
        Ok(Settings { location, key, limits: spec.limits.clone() })
    }

    /// The key that is to follow the vault's, if one is given: the entry `nextKey` of its Secret.
    ///
    /// # Errors
    /// What is wrong with the Secret.
    pub async fn next_key(&self, object: &VaultObject) -> Result<Option<SecretText>, Failure> {
        let found = self.read("spec.encryption.secret", &object.spec.encryption.secret.name).await?;
        Ok(found.entry("nextKey")?.map(SecretText::new))
    }

    /// What changes the zone.
    ///
    /// # Errors
    /// What is wrong with its settings or Secret, by field.
    pub async fn provider(&self, zone: &DnsZone, resolve: &Resolve) -> Result<traffic::Provider, Failure> {
        let tsig = &zone.spec.rfc2136.tsig;
        let secret = self.read("spec.rfc2136.tsig.secret", &tsig.secret.name).await?.required("secret")?;
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
        VaultError::Wrap { .. } => "KeyDamaged",
        VaultError::Recipient { .. } => "RecipientInvalid",
        VaultError::Retire { .. } => "KeyInUse",
        VaultError::Format { .. } => "FormatUnknown",
        VaultError::Identity | VaultError::Stray { .. } => "IdentityDamaged",
        VaultError::Emptied => "Emptied",
    };
    Failure { reason, message: error.to_string(), lasting: false }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{
        Router,
        extract::Path,
        http::{StatusCode, header::CONTENT_TYPE},
        routing::get,
    };
    use futures::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::operator::played;

    /// Secrets that an API server on a loopback address has, and how often they were read.
    async fn served(there: bool) -> (Secrets, Arc<AtomicUsize>) {
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let show = move |Path(name): Path<String>| async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let text = |it: &str| ByteString(it.as_bytes().to_vec());
            let data = json!({"key": text("a key that is long enough for a vault"),
                "accessKeyId": text("id"), "secretAccessKey": text("secret")});
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
            let missing =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            let (code, body) = if there { (StatusCode::OK, secret) } else { (StatusCode::NOT_FOUND, missing) };
            (code, [(CONTENT_TYPE, "application/json")], body.to_string())
        };
        let router = Router::new().route("/api/v1/namespaces/reprise/secrets/{name}", get(show));
        (Secrets::new(played::client(router).await, "reprise"), reads)
    }

    fn object(credentials: &str) -> VaultObject {
        let s3 = json!({"bucket": "b", "endpoint": "http://127.0.0.1:1", "region": "r", "credentials": {"name": credentials}});
        let spec = json!({"s3": s3, "encryption": {"secret": {"name": "key"}}});
        VaultObject::new("main", serde_json::from_value(spec).unwrap())
    }

    #[tokio::test]
    async fn a_vault_is_opened_once_for_all_who_ask_and_each_secret_is_read_once() {
        for (credentials, once) in [("s3", 2), ("key", 1)] {
            let (secrets, reads) = served(true).await;
            let object = object(credentials);
            let opened = join_all((0..200).map(|_| secrets.locked(&object))).await;
            assert!(opened.iter().all(Result::is_ok), "{:?}", opened[0].as_ref().err());
            assert_eq!(reads.load(Ordering::SeqCst), once);
        }
    }

    #[tokio::test]
    async fn that_a_vault_cannot_be_opened_is_told_to_all_who_ask_and_tried_again_a_moment_later() {
        let (secrets, reads) = served(false).await;
        let object = object("s3");
        let failed = join_all((0..200).map(|_| secrets.locked(&object))).await;
        assert!(failed.iter().all(|it| it.as_ref().is_err_and(|it| it.reason == "SecretMissing")));
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        tokio::time::sleep(KEEP_FAILURE).await;
        assert!(secrets.locked(&object).await.is_err());
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }
}
