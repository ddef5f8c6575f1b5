//! Opens an application's repository for the engine, `rustic_core`, and makes it at first use.
//!
//! The repository's master key is derived from the vault's key, so that two movers who make the same repository at
//! the same time make it with the same key: the first `config` counts, and the other one opens it. The key file with
//! the derived password is there for people with the restic program; no mover needs it.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytesize::ByteSize;
use rustic_core::repofile::{KeyId, MasterKey};
use rustic_core::{
    ConfigOptions, Credentials, KeyOptions, OpenStatus, Repository, RepositoryBackends, RepositoryOptions, RusticResult,
};
use tokio::runtime::Handle;

use super::error::MoverError;
use super::meter::Meter;
use super::seal::Seal;
use crate::vault::repository::{Health, RepositoryBackend};
use crate::vault::{SecretText, Vault};

/// The size of a pack of data. A restore holds twenty of them at a time in memory: it would take less with fewer, but
/// twice as long over a network that limits each connection.
pub(super) const PACK: ByteSize = ByteSize::mib(8);
/// The size of a pack of trees.
pub(super) const TREE_PACK: ByteSize = ByteSize::mib(4);
/// The directory's name in a snapshot.
pub(super) const ROOT: &str = "data";

/// An application's repository.
#[derive(Clone)]
pub(super) struct Engine {
    /// The backend.
    pub(super) backend: RepositoryBackend,
    /// What moves.
    pub(super) meter: Meter,
    /// The key of what lies in packs.
    pub(super) seal: Seal,
    runtime: Handle,
    credentials: Credentials,
    password: SecretText,
}

impl Engine {
    pub(super) fn new(vault: &Vault, namespace: &str, application: &str, runtime: Handle) -> Self {
        let key = vault.keys().repository_key(namespace, application);
        let seal = Seal::new(&key);
        let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let key: MasterKey = serde_json::from_value(serde_json::json!({
            "mac": { "k": text(&key.mac_k), "r": text(&key.mac_r) },
            "encrypt": text(&key.encrypt),
        }))
        .expect("a master key is three texts in base64");
        Self {
            backend: RepositoryBackend::new(vault.store().clone(), namespace, application, runtime.clone()),
            runtime,
            meter: Meter::default(),
            seal,
            credentials: Credentials::Masterkey(key),
            password: vault.keys().repository_password(namespace, application),
        }
    }

    /// What requests run on.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn health(&self) -> &Arc<Health> {
        self.backend.health()
    }

    fn repository(&self) -> RusticResult<Repository<()>> {
        let backends = RepositoryBackends::new(Arc::new(self.backend.clone()), None);
        // The engine's own cache is on disk and unbounded; the backend has one in memory.
        Repository::new_with_progress(&RepositoryOptions::default().no_cache(true), &backends, self.meter.clone())
    }

    /// Opens the repository, which must be there.
    pub(super) fn open(&self) -> Result<Repository<OpenStatus>, MoverError> {
        let repository = self.repository().map_err(|error| self.error(&error))?;
        if repository.config_id().map_err(|error| self.error(&error))?.is_none() {
            let place = rustic_core::ReadBackend::location(&self.backend);
            return Err(MoverError::Corrupt(format!("there is no repository at `{place}` in the vault")));
        }
        repository.open(&self.credentials).map_err(|error| self.error(&error))
    }

    /// Opens the repository, or makes it.
    pub(super) fn open_or_make(&self) -> Result<Repository<OpenStatus>, MoverError> {
        let repository = self.make_or_open().map_err(|error| self.error(&error))?;
        let keyed = repository.list::<KeyId>().map_err(|error| self.error(&error))?.next().is_some();
        if !keyed {
            let options = KeyOptions::default().hostname("reprise".to_owned());
            repository.add_key(self.password.expose(), &options).map_err(|error| self.error(&error))?;
        }
        Ok(repository)
    }

    fn make_or_open(&self) -> RusticResult<Repository<OpenStatus>> {
        if self.repository()?.config_id()?.is_some() {
            return self.repository()?.open(&self.credentials);
        }
        let options = ConfigOptions::default()
            .set_datapack_size(PACK)
            .set_datapack_growfactor(0_u32)
            .set_datapack_size_limit(PACK)
            .set_treepack_size(TREE_PACK)
            .set_treepack_growfactor(0_u32)
            .set_treepack_size_limit(PACK);
        let made = self.repository()?.init(&self.credentials, &KeyOptions::default(), &options);
        match made {
            Err(_) if self.repository()?.config_id()?.is_some() => self.repository()?.open(&self.credentials),
            made => made,
        }
    }

    pub(super) fn error(&self, error: &rustic_core::RusticError) -> MoverError {
        MoverError::from_engine(self.health(), error)
    }
}
