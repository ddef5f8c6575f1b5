//! `reprise.json`: which vault this is, and which root is its root.
//!
//! Written once, by whoever comes first, and never changed. It keeps no secret. Regions that open a new vault at the
//! same time with the same key agree on one root by its wrap; with different keys, by this file: the loser is told
//! that its key is another vault's, and nothing was written with its root.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::keys::{Keys, Root};
use super::vault_key::VaultKey;
use super::{Condition, Store, StoreError, VaultError, wraps};

/// The key in the vault.
pub const KEY: &str = "reprise.json";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// How often an unclear outcome is looked at again.
const ATTEMPTS: u32 = 4;
/// What a vault without identity must not contain.
const TRACES: [&str; 3] = ["apps/", "claims/", "repos/"];

/// The content of `reprise.json`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Identity {
    format: u32,
    vault_id: String,
    created: Timestamp,
    root_check: String,
}

/// Opens the vault with a key: its id, a ULID that is the same for everyone who uses it, and its root. A vault that is
/// empty is made.
///
/// # Errors
/// `OtherKey` when the key is none of this vault's, `Wrap`, `Format`, `Identity` and `Stray` when what says so can't be
/// taken or made, `Store` when the store does not answer.
pub(super) async fn unlock(store: &Store, key: &VaultKey) -> Result<(String, Root), VaultError> {
    let mut last = StoreError::Lost;
    for _ in 0..ATTEMPTS {
        if let Some(identity) = read(store).await? {
            return opened(store, key, identity).await;
        }
        if let Some(stray) = traces(store).await? {
            // Someone may have made it, and begun to write, since it was looked for.
            return match read(store).await? {
                Some(identity) => opened(store, key, identity).await,
                None => Err(stray),
            };
        }
        // The root is stored before it is the vault's: a crash in between leaves a vault that can still be made.
        let root = wraps::read_or_make(store, key).await?;
        let identity = Identity {
            format: FORMAT,
            vault_id: Ulid::generate().to_string(),
            created: Timestamp::now(),
            root_check: Keys::new(&root).check_value(),
        };
        let bytes = Bytes::from(serde_json::to_vec_pretty(&identity).expect("an identity is plain data"));
        match store.put_if(KEY, bytes, Condition::Absent).await {
            Ok(_) => return Ok((identity.vault_id, root)),
            // Someone was first, or the reply was lost: what is there counts.
            Err(error @ (StoreError::Lost | StoreError::Unknown { .. })) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// The same for a vault that is there: none is made.
///
/// # Errors
/// Those of `unlock`, but `Stray`.
pub(super) async fn find(store: &Store, key: &VaultKey) -> Result<Option<(String, Root)>, VaultError> {
    match read(store).await? {
        Some(identity) => opened(store, key, identity).await.map(Some),
        None => Ok(None),
    }
}

/// Whether the root is this vault's.
///
/// # Errors
/// `OtherKey` when it is not, and when there is no vault yet; `Format`, `Identity`, `Store`.
pub(super) async fn check(store: &Store, root: &Root) -> Result<(), VaultError> {
    match read(store).await? {
        Some(identity) if identity.root_check == Keys::new(root).check_value() => Ok(()),
        Some(_) | None => Err(VaultError::OtherKey),
    }
}

async fn read(store: &Store) -> Result<Option<Identity>, VaultError> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let Some(object) = store.get(KEY).await? else { return Ok(None) };
    let Versioned { format } = serde_json::from_slice(&object.bytes).map_err(|_| VaultError::Identity)?;
    if format > FORMAT {
        return Err(VaultError::Format { found: format, known: FORMAT });
    }
    serde_json::from_slice(&object.bytes).map(Some).map_err(|_| VaultError::Identity)
}

async fn opened(store: &Store, key: &VaultKey, identity: Identity) -> Result<(String, Root), VaultError> {
    match wraps::read(store, key).await? {
        Some(root) if Keys::new(&root).check_value() == identity.root_check => Ok((identity.vault_id, root)),
        Some(_) | None => Err(VaultError::OtherKey),
    }
}

/// Why a vault that has no `reprise.json` is given none, if it had one: the new one could have another root.
async fn traces(store: &Store) -> Result<Option<VaultError>, VaultError> {
    for prefix in TRACES {
        if !store.page(prefix, None, 1).await?.is_empty() {
            return Ok(Some(VaultError::Stray { prefix: prefix.to_owned() }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::SecretText;
    use crate::vault::fake::{Fake, Manner};

    const FIRST: &str = "a key that is long enough for a vault";
    const OTHER: &str = "another key that is long enough too";

    fn key(text: &str) -> VaultKey {
        VaultKey::new(&SecretText::new(text)).unwrap()
    }

    async fn unlock(fake: &Fake, text: &str) -> Result<(String, Root), VaultError> {
        super::unlock(&Store::Fake(fake.clone()), &key(text)).await
    }

    #[tokio::test]
    async fn a_vault_keeps_its_identity_and_its_root() {
        let fake = Fake::new(Manner::Sound);
        let first = unlock(&fake, FIRST).await.unwrap();
        assert_eq!(unlock(&fake, FIRST).await.unwrap(), first);
    }

    #[tokio::test]
    async fn another_key_is_refused_by_name_and_leaves_nothing() {
        let fake = Fake::new(Manner::Sound);
        unlock(&fake, FIRST).await.unwrap();
        let before = fake.page("", None, 10).unwrap();
        let error = unlock(&fake, OTHER).await.unwrap_err();
        assert_eq!(error, VaultError::OtherKey);
        assert!(error.to_string().contains("`spec.encryption.secret`"));
        assert_eq!(fake.page("", None, 10).unwrap(), before);
    }

    #[tokio::test]
    async fn everyone_who_comes_at_once_gets_the_same_identity_and_root() {
        for manner in [Manner::Sound, Manner::Forgetful(1), Manner::Forgetful(2)] {
            let fake = Fake::new(manner);
            let all = futures::future::join_all((0..16).map(|_| unlock(&fake, FIRST))).await;
            let first = all[0].clone().unwrap();
            assert!(all.into_iter().all(|it| it.as_ref() == Ok(&first)));
        }
    }

    #[tokio::test]
    async fn of_two_keys_that_open_a_new_vault_at_once_one_wins_and_the_other_is_told() {
        // The other makes its wrap first, and its identity last: at every step of the one, the other may be first.
        let elsewhere = Fake::new(Manner::Sound);
        let first = unlock(&elsewhere, FIRST).await.unwrap();
        let copy = |key: &str| elsewhere.get(key).unwrap().unwrap().bytes;
        let (identity, wrap) = (copy(KEY), format!("keys/{}.json", key(FIRST).id()));
        let fake = Fake::new(Manner::Sound);
        fake.put(&wrap, copy(&wrap)).unwrap();
        fake.put_after_next_get([(KEY, identity)]);
        assert_eq!(unlock(&fake, OTHER).await, Err(VaultError::OtherKey), "also after it made a wrap of its own");
        assert_eq!(unlock(&fake, OTHER).await, Err(VaultError::OtherKey), "its own wrap opens nothing");
        assert_eq!(unlock(&fake, FIRST).await, Ok(first));
    }

    #[tokio::test]
    async fn what_is_left_by_a_crash_between_root_and_identity_is_taken_up() {
        let fake = Fake::new(Manner::Sound);
        let (id, root) = unlock(&fake, FIRST).await.unwrap();
        fake.delete(KEY).unwrap();
        let again = unlock(&fake, FIRST).await.unwrap();
        assert_eq!(again.1, root);
        assert_ne!(again.0, id);
    }

    #[tokio::test]
    async fn someone_who_begins_between_two_looks_left_no_stray_trace() {
        let elsewhere = Fake::new(Manner::Sound);
        let first = unlock(&elsewhere, FIRST).await.unwrap();
        let copy = |key: &str| elsewhere.get(key).unwrap().unwrap().bytes;
        let wrap = format!("keys/{}.json", key(FIRST).id());
        let fake = Fake::new(Manner::Sound);
        fake.put_after_next_get([
            (KEY, copy(KEY)),
            (wrap.as_str(), copy(&wrap)),
            ("repos/shop.shop/config", "x".into()),
        ]);
        assert_eq!(unlock(&fake, FIRST).await, Ok(first));
    }

    #[tokio::test]
    async fn a_vault_that_lost_its_identity_is_given_no_new_one() {
        let fake = Fake::new(Manner::Sound);
        fake.put("claims/shop.json", "{}".into()).unwrap();
        let error = unlock(&fake, FIRST).await.unwrap_err();
        assert_eq!(error, VaultError::Stray { prefix: "claims/".to_owned() });
        assert_eq!(fake.get(KEY).unwrap(), None);
    }

    #[tokio::test]
    async fn a_newer_format_and_damage_are_told_apart() {
        let fake = Fake::new(Manner::Sound);
        fake.put(KEY, r#"{"format":2,"other":true}"#.into()).unwrap();
        let error = unlock(&fake, FIRST).await.unwrap_err();
        assert_eq!(error, VaultError::Format { found: 2, known: 1 });
        fake.put(KEY, "nonsense".into()).unwrap();
        assert_eq!(unlock(&fake, FIRST).await.unwrap_err(), VaultError::Identity);
    }

    #[tokio::test]
    async fn a_damaged_wrap_is_no_wrong_key() {
        let fake = Fake::new(Manner::Sound);
        unlock(&fake, FIRST).await.unwrap();
        let id = key(FIRST).id();
        fake.put(&format!("keys/{id}.json"), "{}".into()).unwrap();
        assert_eq!(unlock(&fake, FIRST).await, Err(VaultError::Wrap { id }));
    }
}
