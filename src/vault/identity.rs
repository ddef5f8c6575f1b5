//! `reprise.json`: which vault this is, and whether the key at hand is its key.
//!
//! Written once, by whoever comes first, and never changed. It keeps no secret.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::{Condition, StoreError, Vault, VaultError};

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
    key_check: String,
}

impl Vault {
    /// Says which vault this is: a ULID, the same for everyone who uses it. Makes it known at first use, and checks
    /// the key against it ever after.
    ///
    /// # Errors
    /// `OtherKey` when the key is not this vault's, `Format`, `Identity` and `Stray` when `reprise.json` can't be
    /// taken or made, `Store` when the store does not answer.
    ///
    /// # Panics
    /// Never: an identity is plain data.
    pub async fn identify(&self) -> Result<String, VaultError> {
        let mut last = StoreError::Lost;
        for _ in 0..ATTEMPTS {
            if let Some(object) = self.store().get(KEY).await? {
                return self.check(&object.bytes);
            }
            if let Some(stray) = self.traces().await? {
                // Someone may have made it, and begun to write, since it was looked for.
                return match self.store().get(KEY).await? {
                    Some(object) => self.check(&object.bytes),
                    None => Err(stray),
                };
            }
            let identity = Identity {
                format: FORMAT,
                vault_id: Ulid::generate().to_string(),
                created: Timestamp::now(),
                key_check: self.keys().check_value(),
            };
            let bytes = Bytes::from(serde_json::to_vec_pretty(&identity).expect("an identity is plain data"));
            match self.store().put_if(KEY, bytes, Condition::Absent).await {
                Ok(_) => return Ok(identity.vault_id),
                // Someone was first, or the reply was lost: what is there counts.
                Err(error @ (StoreError::Lost | StoreError::Unknown { .. })) => last = error,
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    fn check(&self, bytes: &[u8]) -> Result<String, VaultError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_slice(bytes).map_err(|_| VaultError::Identity)?;
        if format > FORMAT {
            return Err(VaultError::Format { found: format, known: FORMAT });
        }
        let identity: Identity = serde_json::from_slice(bytes).map_err(|_| VaultError::Identity)?;
        if identity.key_check == self.keys().check_value() { Ok(identity.vault_id) } else { Err(VaultError::OtherKey) }
    }

    /// Why a vault that has no `reprise.json` is given none, if it had one: the new one could have another key.
    async fn traces(&self) -> Result<Option<VaultError>, VaultError> {
        for prefix in TRACES {
            if !self.store().page(prefix, None, 1).await?.is_empty() {
                return Ok(Some(VaultError::Stray { prefix: prefix.to_owned() }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Store;
    use crate::vault::fake::{Fake, Manner};

    const KEY_TEXT: &str = "a key that is long enough for a vault";

    fn vault(fake: &Fake, key: &str) -> Vault {
        Vault::with(Store::Fake(fake.clone()), key)
    }

    #[tokio::test]
    async fn a_vault_keeps_its_identity() {
        let fake = Fake::new(Manner::Sound);
        let first = vault(&fake, KEY_TEXT).identify().await.unwrap();
        assert_eq!(vault(&fake, KEY_TEXT).identify().await.unwrap(), first);
    }

    #[tokio::test]
    async fn another_key_is_refused_by_name() {
        let fake = Fake::new(Manner::Sound);
        vault(&fake, KEY_TEXT).identify().await.unwrap();
        let error = vault(&fake, "another key that is long enough too").identify().await.unwrap_err();
        assert_eq!(error, VaultError::OtherKey);
        assert!(error.to_string().contains("`spec.encryption.secret`"));
    }

    #[tokio::test]
    async fn everyone_who_comes_at_once_gets_the_same_identity() {
        for manner in [Manner::Sound, Manner::Forgetful(1)] {
            let fake = Fake::new(manner);
            let all: Vec<_> = (0..16).map(|_| vault(&fake, KEY_TEXT)).collect();
            let ids = futures::future::join_all(all.iter().map(Vault::identify)).await;
            let first = ids[0].clone().unwrap();
            assert!(ids.into_iter().all(|id| id.as_ref() == Ok(&first)));
        }
    }

    #[tokio::test]
    async fn someone_who_begins_between_two_looks_left_no_stray_trace() {
        let elsewhere = Fake::new(Manner::Sound);
        let first = vault(&elsewhere, KEY_TEXT).identify().await.unwrap();
        let identity = elsewhere.get(KEY).unwrap().unwrap().bytes;
        let fake = Fake::new(Manner::Sound);
        fake.put_after_next_get([(KEY, identity), ("repos/shop.shop/config", "x".into())]);
        assert_eq!(vault(&fake, KEY_TEXT).identify().await, Ok(first));
    }

    #[tokio::test]
    async fn a_vault_that_lost_its_identity_is_given_no_new_one() {
        let fake = Fake::new(Manner::Sound);
        fake.put("claims/shop.json", "{}".into()).unwrap();
        let error = vault(&fake, KEY_TEXT).identify().await.unwrap_err();
        assert_eq!(error, VaultError::Stray { prefix: "claims/".to_owned() });
        assert_eq!(fake.get(KEY).unwrap(), None);
    }

    #[tokio::test]
    async fn a_newer_format_and_damage_are_told_apart() {
        let fake = Fake::new(Manner::Sound);
        fake.put(KEY, r#"{"format":2,"other":true}"#.into()).unwrap();
        let error = vault(&fake, KEY_TEXT).identify().await.unwrap_err();
        assert_eq!(error, VaultError::Format { found: 2, known: 1 });
        fake.put(KEY, "nonsense".into()).unwrap();
        assert_eq!(vault(&fake, KEY_TEXT).identify().await.unwrap_err(), VaultError::Identity);
    }
}
