//! `keys/escrow-<hash of the recipient>.age`: the vault's root for someone offline.
//!
//! An age file of the root's text for one recipient of `spec.encryption.recipients`. Whoever has the identity to it
//! needs no key of the vault: `kubectl reprise key recover`, or `age --decrypt -i`. Written once for each recipient, and
//! never removed.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::keys::Root;
use super::wraps::PREFIX;
use super::{Condition, Store, StoreError, VaultError};
use crate::core::hex::hex;

const NAME: &str = "escrow-";
/// More than the root for one recipient takes: what is larger was not written by us.
const LIMIT: u64 = 4096;

fn path(recipient: &str) -> String {
    format!("{PREFIX}{NAME}{}.age", &hex(&Sha256::digest(recipient))[..16])
}

/// Stores the root for each recipient that has none yet.
///
/// # Errors
/// `Recipient` when one can't be taken: then none is stored. `Store`.
pub(super) async fn store(store: &Store, root: &Root, recipients: &[String]) -> Result<(), VaultError> {
    let sealed: Vec<(String, Bytes)> =
        recipients.iter().map(|it| Ok((path(it), seal(root, it)?))).collect::<Result<_, VaultError>>()?;
    for (path, bytes) in sealed {
        if store.find(&path).await?.is_some() {
            continue;
        }
        match store.put_if(&path, bytes, Condition::Absent).await {
            // Another region was first: what it wrote holds the same.
            Ok(_) | Err(StoreError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn seal(root: &Root, recipient: &str) -> Result<Bytes, VaultError> {
    let parsed: age::x25519::Recipient = recipient
        .parse()
        .map_err(|reason: &str| VaultError::Recipient { recipient: recipient.to_owned(), reason: reason.to_owned() })?;
    let sealed = age::encrypt(&parsed, root.to_text().expose().as_bytes());
    Ok(sealed.expect("encryption into memory does not fail").into())
}

/// What was stored for offline recipients, as age files.
///
/// # Errors
/// `Store`.
pub async fn list(store: &Store) -> Result<Vec<Bytes>, StoreError> {
    let mut found = Vec::new();
    for entry in store.list(&format!("{PREFIX}{NAME}")).await? {
        if let Some(object) = store.get_up_to(&entry.key, LIMIT).await? {
            found.push(object.bytes);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::fake::{Fake, Manner};
    use crate::vault::manifest::Content;
    use crate::vault::{Locked, Store};

    const LOST: &str = "a key that is long enough for a vault";
    const NEW: &str = "another key that is long enough too";

    fn locked(fake: &Fake, key: &str) -> Locked {
        Locked::with(Store::Fake(fake.clone()), key)
    }

    #[tokio::test]
    async fn an_offline_identity_alone_makes_a_new_key_open_the_vault() {
        let fake = Fake::new(Manner::Sound);
        let offline = [age::x25519::Identity::generate(), age::x25519::Identity::generate()];
        let recipients = offline.each_ref().map(|it| it.to_public().to_string());
        let vault = locked(&fake, LOST).unlock().await.unwrap();
        vault.escrow(&recipients).await.unwrap();
        vault.escrow(&recipients).await.unwrap();
        let manifest =
            vault.write_manifest("shop", "db", Content::of(b"objects", 1), &b"objects"[..]).await.unwrap().manifest;

        let stored = list(&Store::Fake(fake.clone())).await.unwrap();
        assert_eq!(stored.len(), 2, "each once");
        for identity in &offline {
            let opened: Vec<_> = stored.iter().filter_map(|it| age::decrypt(identity, it).ok()).collect();
            let root = Root::parse(std::str::from_utf8(&opened[0]).unwrap()).unwrap();
            assert_eq!(opened.len(), 1, "its own only");
            locked(&fake, NEW).recover(&root).await.unwrap();
        }
        let recovered = locked(&fake, NEW).unlock().await.unwrap();
        assert_eq!(recovered.id(), vault.id());
        assert_eq!(recovered.read_manifest("shop", "db", &manifest, Vec::new()).await.unwrap(), b"objects");
    }

    #[tokio::test]
    async fn the_root_of_another_vault_recovers_nothing() {
        let fake = Fake::new(Manner::Sound);
        locked(&fake, LOST).unlock().await.unwrap();
        assert_eq!(locked(&fake, NEW).recover(&Root::generate()).await, Err(VaultError::OtherKey));
        assert_eq!(locked(&fake, NEW).unlock().await.err(), Some(VaultError::OtherKey));
    }

    #[tokio::test]
    async fn a_recipient_with_a_slip_of_the_pen_is_refused_by_name_and_none_is_stored() {
        let fake = Fake::new(Manner::Sound);
        let vault = locked(&fake, LOST).unlock().await.unwrap();
        let good = age::x25519::Identity::generate().to_public().to_string();
        let last = if good.ends_with('q') { "p" } else { "q" };
        let bad = format!("{}{last}", &good[..good.len() - 1]);
        let error = vault.escrow(&[good, bad.clone()]).await.unwrap_err();
        assert!(error.to_string().contains(&format!("spec.encryption.recipients: `{bad}`")), "{error}");
        assert_eq!(list(&Store::Fake(fake)).await.unwrap().len(), 0);
    }
}
