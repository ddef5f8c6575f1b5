//! A vault and what opens it: locked, with a key that may be the right one; and opened, by its root.
//!
//! How the root is found stands in `identity` and `wraps`; here is what can be done with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::keys::{Keys, Root};
use super::limits::Limits;
use super::manifest::ProvenManifests;
use super::vault_key::VaultKey;
use super::wraps::KeyInfo;
#[cfg(test)]
use super::{DirectoryLocation, SecretText};
use super::{Location, Settings, Store, VaultError, azure, directory, escrow, identity, regions, s3, wraps};

/// For how long an opened vault is taken for what is there: one that was emptied is made anew by whoever comes, and may then be
/// brought back under those who have opened the new one.
const SAME: Duration = Duration::from_mins(1);

/// A vault and a key that may open it. Cheap to clone; clones share what was opened.
#[derive(Clone, Debug)]
pub struct Locked {
    settings: Settings,
    store: Store,
    key: VaultKey,
    limits: Arc<Limits>,
    opened: Arc<Mutex<Option<(Vault, Instant)>>>,
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

    /// The vault, opened with the key: two requests the first time, and once a minute. A vault that is empty is made.
    ///
    /// # Errors
    /// When the key is none of this vault's, or the vault can't be read.
    pub async fn unlock(&self) -> Result<Vault, VaultError> {
        if let Some(vault) = self.still().await {
            return Ok(vault);
        }
        // Whoever comes meanwhile asks as well: one request that hangs holds up nobody else.
        let (id, root) = identity::unlock(&self.store, &self.key).await?;
        Ok(self.keep(id, root))
    }

    /// The same for a vault that this region has opened before: one that is empty now is not made.
    ///
    /// # Errors
    /// `Emptied`, and those of `unlock`.
    pub async fn unlock_known(&self) -> Result<Vault, VaultError> {
        if let Some(vault) = self.still().await {
            return Ok(vault);
        }
        let (id, root) = identity::find(&self.store, &self.key).await?.ok_or(VaultError::Emptied)?;
        Ok(self.keep(id, root))
    }

    /// What was opened, unless another vault lies there by now. While the store does not answer, or has none, it stays.
    async fn still(&self) -> Option<Vault> {
        let (vault, at) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        if at.elapsed() < SAME {
            return Some(vault);
        }
        let found = identity::find(&self.store, &self.key).await;
        if found.is_ok_and(|it| it.is_some_and(|(id, root)| id != vault.id || root != vault.root)) {
            return None;
        }
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some((vault.clone(), Instant::now()));
        Some(vault)
    }

    fn keep(&self, id: String, root: Root) -> Vault {
        let vault = Vault {
            store: self.store.clone(),
            key: self.key.clone(),
            keys: Keys::new(&root),
            root,
            id,
            limits: Arc::clone(&self.limits),
            proven: Arc::default(),
        };
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some((vault.clone(), Instant::now()));
        vault
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
    proven: Arc<ProvenManifests>,
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

    /// Manifests that were read back; shared by this value's clones.
    pub(super) fn proven(&self) -> &ProvenManifests {
        &self.proven
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
        match identity::find(&self.store, &self.key).await? {
            Some((id, root)) if id == self.id && root == self.root => Ok(()),
            Some(_) => Err(VaultError::OtherKey),
            None => Err(VaultError::Emptied),
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
        Self {
            store,
            keys: Keys::new(&root),
            key,
            root,
            id: "a-vault-of-a-test".to_owned(),
            limits: Arc::default(),
            proven: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::fake::{Fake, Manner};

    const KEY: &str = "a key that is long enough for a vault";

    /// All that lies there.
    fn content(fake: &Fake) -> Vec<(String, bytes::Bytes)> {
        let entries = fake.page("", None, 100).unwrap();
        entries.into_iter().map(|it| (it.key.clone(), fake.get(&it.key).unwrap().unwrap().bytes)).collect()
    }

    fn a_minute_passes(locked: &Locked) {
        let mut opened = locked.opened.lock().unwrap();
        let (_, at) = opened.as_mut().unwrap();
        *at = at.checked_sub(SAME).unwrap();
    }

    #[tokio::test]
    async fn a_vault_that_was_brought_back_under_an_operator_is_the_one_that_it_goes_on_with() {
        let fake = Fake::new(Manner::Sound);
        let first = Locked::with(Store::Fake(fake.clone()), KEY).unlock().await.unwrap();
        let before = content(&fake);
        for (key, _) in &before {
            fake.delete(key).unwrap();
        }
        assert_eq!(first.check().await, Err(VaultError::Emptied), "none is made by looking");
        let locked = Locked::with(Store::Fake(fake.clone()), KEY);
        assert_eq!(
            locked.unlock_known().await.err(),
            Some(VaultError::Emptied),
            "nor for whoever knows that there was one"
        );
        assert_eq!(content(&fake), []);
        let made = locked.unlock().await.unwrap();
        assert_ne!(made.id(), first.id());
        for (key, bytes) in before {
            fake.put(&key, bytes).unwrap();
        }
        assert_eq!(locked.unlock().await.unwrap().id(), made.id(), "it is looked at once a minute");
        a_minute_passes(&locked);
        assert_eq!(locked.unlock().await.unwrap().id(), first.id());
        for (key, _) in content(&fake) {
            fake.delete(&key).unwrap();
        }
        a_minute_passes(&locked);
        assert_eq!(locked.unlock().await.unwrap().id(), first.id(), "what was opened stays while nothing is there");
        assert_eq!(content(&fake), []);
    }
}
