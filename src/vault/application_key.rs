//! The key of one application: what reads its volumes and objects, and nothing of any other application.
//!
//! It comes of the vault's root, and says nothing about it, so that it can be given to whoever the data belongs to. It
//! does not sign: points bear a MAC by the root.

use std::fmt;

use age::x25519;
use bech32::{Bech32, Hrp};
use hkdf::Hkdf;
use sha2::Sha256;

use super::SecretText;
use super::keys::derive;
use crate::core::hex::hex;

const SALT: &[u8] = b"reprise application key";

/// The master key of a restic repository: AES-256-CTR with Poly1305-AES.
pub struct RepositoryKey {
    /// The key of the cipher.
    pub encrypt: [u8; 32],
    /// The AES part of the authenticator's key.
    pub mac_k: [u8; 16],
    /// The Poly1305 part of it.
    pub mac_r: [u8; 16],
}

/// The key of one application.
#[derive(Clone)]
pub struct ApplicationKey([u8; 32]);

impl fmt::Debug for ApplicationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApplicationKey(***)")
    }
}

impl ApplicationKey {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself: 64 hexadecimal digits.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        SecretText::new(hex(&self.0))
    }

    /// The password of the repository, for people with the restic program.
    #[must_use]
    pub fn repository_password(&self) -> SecretText {
        SecretText::new(hex(&self.derive::<32>("repository password")))
    }

    /// The master key of the repository.
    #[must_use]
    pub fn repository_key(&self) -> RepositoryKey {
        let key = self.derive::<64>("repository key");
        let mut parts = RepositoryKey { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        parts.encrypt.copy_from_slice(&key[..32]);
        parts.mac_k.copy_from_slice(&key[32..48]);
        parts.mac_r.copy_from_slice(&key[48..]);
        // The bits that Poly1305 does not use are zero, as restic has them.
        for (byte, mask) in [(3, 15), (7, 15), (11, 15), (15, 15), (4, 252), (8, 252), (12, 252)] {
            parts.mac_r[byte] &= mask;
        }
        parts
    }

    /// The age identity that objects are encrypted to, `AGE-SECRET-KEY-1…`, for people with the age program.
    #[must_use]
    pub fn identity(&self) -> SecretText {
        identity_text(&self.derive("age identity"))
    }

    pub(super) fn age_identity(&self) -> x25519::Identity {
        parsed(&self.identity())
    }

    fn derive<const N: usize>(&self, label: &str) -> [u8; N] {
        derive(&Hkdf::<Sha256>::new(Some(SALT), &self.0), &[label])
    }
}

/// 32 bytes as age writes an identity.
pub(super) fn identity_text(secret: &[u8; 32]) -> SecretText {
    let prefix = Hrp::parse("age-secret-key-").expect("the prefix is valid");
    let text = bech32::encode::<Bech32>(prefix, secret).expect("32 bytes are not too long for bech32");
    SecretText::new(text.to_uppercase())
}

/// The identity of a text that `identity_text` made.
pub(super) fn parsed(text: &SecretText) -> x25519::Identity {
    text.expose().parse().expect("the text was just encoded")
}
