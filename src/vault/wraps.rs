//! `keys/<key id>.json`: the vault's root, wrapped with one of the vault's keys.
//!
//! Each region opens the vault with the key in its Secret. While keys are rotated there are two wraps or more, and each
//! of them opens the same vault: no data is written anew. A wrap is made create-only. One that holds another root, left
//! by a region that lost the race for a new vault, is replaced; which root is the vault's is `identity`'s to say.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::Root;
use super::vault_key::VaultKey;
use super::{Condition, Store, StoreError, VaultError};

/// Where wraps lie, and the roots for the offline recipients.
pub const PREFIX: &str = "keys/";
/// The format that this version writes and reads.
const FORMAT: u32 = 1;
/// How often an unclear outcome is looked at again.
const ATTEMPTS: u32 = 4;

/// The content of `keys/<key id>.json`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Wrap {
    format: u32,
    id: String,
    created: Timestamp,
    note: String,
    /// The root as an age file, in base64.
    root: String,
}

/// What is known of a wrap without its key.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// The key's id.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// Why.
    pub note: String,
}

fn path(id: &str) -> String {
    format!("{PREFIX}{id}.json")
}

/// The id of the key that this object is the wrap of, if it is one's.
pub(super) fn id_of(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)?.strip_suffix(".json")
}

fn damaged(id: &str) -> VaultError {
    VaultError::Wrap { id: id.to_owned() }
}

/// The root that this key opens. `None` when the vault has nothing for it.
///
/// # Errors
/// `Wrap` when it is damaged, `Store`.
pub(super) async fn read(store: &Store, key: &VaultKey) -> Result<Option<Root>, VaultError> {
    let id = key.id();
    let Some(object) = store.get(&path(&id)).await? else { return Ok(None) };
    unwrapped(key, &id, &object.bytes).map(Some)
}

fn unwrapped(key: &VaultKey, id: &str, bytes: &[u8]) -> Result<Root, VaultError> {
    let wrap: Wrap = serde_json::from_slice(bytes).map_err(|_| damaged(id))?;
    if wrap.format > FORMAT {
        return Err(VaultError::Format { found: wrap.format, known: FORMAT });
    }
    let sealed = BASE64_STANDARD.decode(&wrap.root).map_err(|_| damaged(id))?;
    key.unwrap(&sealed).map_err(|_| damaged(id))
}

/// The root that this key opens; a new one when there is none yet. Whoever comes first with this key makes it.
///
/// # Errors
/// `Wrap`, `Store`.
pub(super) async fn read_or_make(store: &Store, key: &VaultKey) -> Result<Root, VaultError> {
    let mut last = StoreError::Lost;
    for _ in 0..ATTEMPTS {
        if let Some(root) = read(store, key).await? {
            return Ok(root);
        }
        let root = Root::generate();
        match store.put_if(&path(&key.id()), wrap(key, &root, "the vault's first key"), Condition::Absent).await {
            Ok(_) => return Ok(root),
            Err(error @ (StoreError::Lost | StoreError::Unknown { .. })) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// Has the key open this root as well. Whether it is new: done twice is done once.
///
/// # Errors
/// `Store`.
pub(super) async fn add(store: &Store, key: &VaultKey, root: &Root, note: &str) -> Result<bool, VaultError> {
    let (id, mut last) = (key.id(), StoreError::Lost);
    for _ in 0..ATTEMPTS {
        let found = store.get(&path(&id)).await?;
        if found.as_ref().is_some_and(|it| unwrapped(key, &id, &it.bytes).as_ref() == Ok(root)) {
            return Ok(false);
        }
        let condition = found.as_ref().map_or(Condition::Absent, |it| Condition::Unchanged(&it.tag));
        match store.put_if(&path(&id), wrap(key, root, note), condition).await {
            Ok(_) => return Ok(true),
            Err(error @ (StoreError::Lost | StoreError::Unknown { .. })) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

fn wrap(key: &VaultKey, root: &Root, note: &str) -> Bytes {
    let root = BASE64_STANDARD.encode(key.wrap(root));
    let wrap = Wrap { format: FORMAT, id: key.id(), created: Timestamp::now(), note: note.to_owned(), root };
    Bytes::from(serde_json::to_vec_pretty(&wrap).expect("a wrap is plain data"))
}

/// The keys that the vault has wraps for, in the order of their ids.
///
/// # Errors
/// `Wrap` when one can't be read, `Store`.
pub(super) async fn list(store: &Store) -> Result<Vec<KeyInfo>, VaultError> {
    let mut found = Vec::new();
    for entry in store.list(PREFIX).await? {
        let Some(id) = id_of(&entry.key) else { continue };
        // It may have been retired since the listing.
        if let Some(object) = store.get(&entry.key).await? {
            let wrap: Wrap = serde_json::from_slice(&object.bytes).map_err(|_| damaged(id))?;
            found.push(KeyInfo { id: id.to_owned(), created: wrap.created, note: wrap.note });
        }
    }
    Ok(found)
}

/// Removes a wrap.
///
/// # Errors
/// `Store`.
pub(super) async fn remove(store: &Store, id: &str) -> Result<(), VaultError> {
    Ok(store.delete(&path(id)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::fake::{Fake, Manner};
    use crate::vault::manifest::Content;
    use crate::vault::{Locked, SecretText, Vault};

    const FIRST: &str = "a key that is long enough for a vault";
    const SECOND: &str = "another key that is long enough too";

    fn key(text: &str) -> VaultKey {
        VaultKey::new(&SecretText::new(text)).unwrap()
    }

    async fn open(fake: &Fake, text: &str) -> Result<Vault, VaultError> {
        Locked::with(Store::Fake(fake.clone()), text).unlock().await
    }

    fn ids(keys: &[KeyInfo]) -> Vec<&str> {
        keys.iter().map(|it| it.id.as_str()).collect()
    }

    #[tokio::test]
    async fn a_key_that_is_added_opens_the_same_vault_without_a_byte_written_anew() {
        let fake = Fake::new(Manner::Sound);
        let vault = open(&fake, FIRST).await.unwrap();
        let manifest =
            vault.write_manifest("shop", "db", Content::of(b"objects", 1), &b"objects"[..]).await.unwrap().manifest;
        let before = fake.page("apps/", None, 10).unwrap();
        assert_eq!(vault.add_key(&key(SECOND), "rotated").await, Ok(true));
        assert_eq!(vault.add_key(&key(SECOND), "rotated").await, Ok(false), "done twice is done once");
        let other = open(&fake, SECOND).await.unwrap();
        assert_eq!(other.read_manifest("shop", "db", &manifest, Vec::new()).await.unwrap(), b"objects");
        assert_eq!((other.id(), fake.page("apps/", None, 10).unwrap()), (vault.id(), before));
        let (first, second) = (key(FIRST).id(), key(SECOND).id());
        let mut expected = [first.as_str(), second.as_str()];
        expected.sort_unstable();
        assert_eq!(ids(&other.list_keys().await.unwrap()), expected);
    }

    #[tokio::test]
    async fn a_key_is_retired_only_when_no_region_was_seen_with_it() {
        let fake = Fake::new(Manner::Sound);
        let vault = open(&fake, FIRST).await.unwrap();
        vault.add_key(&key(SECOND), "rotated").await.unwrap();
        let (first, other) = (key(FIRST).id(), open(&fake, SECOND).await.unwrap());
        vault.mark("eu-west").await.unwrap();
        other.mark("eu-north").await.unwrap();
        let refused = other.retire_key(&first, &[]).await.unwrap_err();
        assert!(refused.to_string().contains("the region eu-west was seen with it"), "{refused}");
        assert!(open(&fake, FIRST).await.is_ok());
        open(&fake, SECOND).await.unwrap().mark("eu-west").await.unwrap();
        assert_eq!(other.retire_key(&first, &[]).await, Ok(()));
        assert_eq!(open(&fake, FIRST).await.err(), Some(VaultError::OtherKey));
        assert!(open(&fake, SECOND).await.is_ok());
    }

    #[tokio::test]
    async fn a_region_that_is_no_more_can_be_left_out_of_that() {
        let fake = Fake::new(Manner::Sound);
        open(&fake, FIRST).await.unwrap().mark("gone").await.unwrap();
        open(&fake, FIRST).await.unwrap().add_key(&key(SECOND), "rotated").await.unwrap();
        let vault = open(&fake, SECOND).await.unwrap();
        assert!(vault.retire_key(&key(FIRST).id(), &["other".to_owned()]).await.is_err());
        assert_eq!(vault.retire_key(&key(FIRST).id(), &["gone".to_owned()]).await, Ok(()));
    }

    #[tokio::test]
    async fn neither_the_key_at_hand_nor_one_that_is_not_there_is_retired() {
        let fake = Fake::new(Manner::Sound);
        let vault = open(&fake, FIRST).await.unwrap();
        for (id, why) in [(key(FIRST).id(), "opens the vault with it"), (key(SECOND).id(), "no key of that id")] {
            let refused = vault.retire_key(&id, &[]).await.unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
        assert!(open(&fake, FIRST).await.is_ok());
    }

    #[tokio::test]
    async fn a_mark_that_cannot_be_read_keeps_every_key() {
        let fake = Fake::new(Manner::Sound);
        let vault = open(&fake, FIRST).await.unwrap();
        vault.add_key(&key(SECOND), "rotated").await.unwrap();
        fake.put("regions/eu-west.json", "?".into()).unwrap();
        let refused = vault.retire_key(&key(SECOND).id(), &[]).await.unwrap_err();
        assert!(refused.to_string().contains("`regions/eu-west.json` is damaged"), "{refused}");
    }

    #[tokio::test]
    async fn an_added_key_takes_the_place_of_one_that_opens_nothing() {
        let fake = Fake::new(Manner::Forgetful(1));
        let vault = open(&fake, FIRST).await.unwrap();
        let stray = wrap(&key(SECOND), &Root::generate(), "it lost the race");
        fake.put(&path(&key(SECOND).id()), stray).unwrap();
        assert_eq!(open(&fake, SECOND).await.err(), Some(VaultError::OtherKey));
        vault.add_key(&key(SECOND), "rotated").await.unwrap();
        assert_eq!(open(&fake, SECOND).await.unwrap().id(), vault.id());
    }
}
