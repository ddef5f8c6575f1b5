//! A vault and what opens it: locked, with a key that may be the right one; and opened, by its root.
//!
//! How the root is found stands in `identity` and `wraps`; here is what can be done with it.

use std::sync::{Arc, OnceLock};

use super::keys::{Keys, Root};
use super::limits::Limits;
use super::vault_key::VaultKey;
use super::wraps::KeyInfo;
#[cfg(test)]
use super::{DirectoryLocation, SecretText};
use super::{Location, Settings, Store, VaultError, azure, directory, escrow, identity, regions, s3, wraps};

/// A vault and a key that may open it. Cheap to clone; clones share what was opened.
#[derive(Clone, Debug)]
pub struct Locked {
    settings: Settings,
    store: Store,
    key: VaultKey,
    limits: Arc<Limits>,
    opened: Arc<OnceLock<Vault>>,
}

impl Locked {
    /// Makes the clients. No request is sent.
    ///
    /// # Errors
    /// When the key is too short, or the settings can't be right.
    pub fn new(settings: Settings) -> Result<Self, VaultError> {
        let key = VaultKey::new(&settings.key)?;
        let store = match &settings.location {
            Location::S3(location) => Store::Bucket(s3::open(location)?),
            Location::Azure(location) => Store::Bucket(azure::open(location)?),
            Location::Directory(location) => Store::Directory(directory::Directory::new(location)?),
        };
        let limits = settings.limits.as_ref().map(Limits::new).transpose()?.unwrap_or_default();
        Ok(Self { settings, store, key, limits: Arc::new(limits), opened: Arc::default() })
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The store: claims need no more.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &VaultKey {
        &self.key
    }

    /// The vault, opened with the key: two requests the first time, none later. A vault that is empty is made.
    ///
    /// # Errors
    /// When the key is none of this vault's, or the vault can't be read.
    pub async fn unlock(&self) -> Result<Vault, VaultError> {
        if let Some(vault) = self.opened.get() {
            return Ok(vault.clone());
        }
        // Whoever comes meanwhile asks as well: one request that hangs holds up nobody else.
        let (id, root) = identity::unlock(&self.store, &self.key).await?;
        let vault = Vault {
            store: self.store.clone(),
            key: self.key.clone(),
            keys: Keys::new(&root),
            root,
            id,
            limits: Arc::clone(&self.limits),
        };
        Ok(self.opened.get_or_init(|| vault).clone())
    }

    #[cfg(test)]
    pub(crate) fn with(store: Store, key: &str) -> Self {
        let location = Location::Directory(DirectoryLocation { path: String::new() });
        let settings = Settings { location, key: SecretText::new(key), limits: None };
        let key = VaultKey::new(&settings.key).expect("a test's key is long enough");
        Self { settings, store, key, limits: Arc::default(), opened: Arc::default() }
    }

    /// Makes the key one of the vault's, by its root.
    ///
    /// # Errors
    /// `OtherKey` when the root is another vault's, `Store`.
    pub async fn recover(&self, root: &Root) -> Result<(), VaultError> {
        identity::check(&self.store, root).await?;
        wraps::add(&self.store, &self.key, root, "recovered with an offline identity").await.map(|_| ())
    }
}

/// An opened vault. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vault {
    store: Store,
    key: VaultKey,
    keys: Keys,
    root: Root,
    id: String,
    limits: Arc<Limits>,
}

impl Vault {
    /// Opens a vault, and makes it when it is empty.
    ///
    /// # Errors
    /// When the settings can't be right, the key is none of this vault's, or the vault can't be read.
    pub async fn open(settings: &Settings) -> Result<Self, VaultError> {
        Locked::new(settings.clone())?.unlock().await
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How fast file data may be moved; shared by this value's clones.
    #[must_use]
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// What is derived from the root.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Which vault this is: a ULID, the same for everyone who uses it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of the key that it was opened with.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.key.id()
    }

    /// Looks whether the vault is still there, is the same, and would be opened by the same key.
    ///
    /// # Errors
    /// As `open`; `OtherKey` when it is another vault now.
    pub async fn check(&self) -> Result<(), VaultError> {
        match identity::unlock(&self.store, &self.key).await? {
            (id, root) if id == self.id && root == self.root => Ok(()),
            _ => Err(VaultError::OtherKey),
        }
    }

    /// The keys that open it.
    ///
    /// # Errors
    /// `Wrap` when one can't be read, `Store`.
    pub async fn list_keys(&self) -> Result<Vec<KeyInfo>, VaultError> {
        wraps::list(&self.store).await
    }

    /// Has another key open it as well; `note` says why, for people. Whether it did not before.
    ///
    /// # Errors
    /// `Store`.
    pub async fn add_key(&self, key: &VaultKey, note: &str) -> Result<bool, VaultError> {
        wraps::add(&self.store, key, &self.root, note).await
    }

    /// Has a key open it no longer. The one that it was opened with is refused, so that one always remains.
    ///
    /// # Errors
    /// `Retire` when the key is still needed or there is none of that id, `Store`.
    pub async fn retire_key(&self, id: &str, without: &[String]) -> Result<(), VaultError> {
        let refused = |reason: String| Err(VaultError::Retire { id: id.to_owned(), reason });
        if id == self.key_id() {
            return refused("this region opens the vault with it".to_owned());
        }
        if !self.list_keys().await?.iter().any(|it| it.id == id) {
            return refused("the vault has no key of that id".to_owned());
        }
        for mark in regions::marks(&self.store).await? {
            if mark.key == id && !without.contains(&mark.region) {
                return refused(format!(
                    "the region {} was seen with it at {}: give it another key first, and wait until its `Vault` says so in `status.key`",
                    mark.region, mark.opened_at
                ));
            }
        }
        wraps::remove(&self.store, id).await
    }

    /// Stores the root for offline recipients, for each that has none yet.
    ///
    /// # Errors
    /// `Recipient` when one can't be taken, `Store`.
    pub async fn escrow(&self, recipients: &[String]) -> Result<(), VaultError> {
        escrow::store(&self.store, &self.root, recipients).await
    }

    #[cfg(test)]
    pub(crate) fn with(store: Store, key: &str) -> Self {
        let key = VaultKey::new(&SecretText::new(key)).expect("a test's key is long enough");
        // As many roots as keys, and the same root for the same key.
        let root = key.root_for_tests();
        Self { store, keys: Keys::new(&root), key, root, id: "a-vault-of-a-test".to_owned(), limits: Arc::default() }
    }
}
