//! A key of a vault: the text in a region's Secret. All that it does is to open the wrapped root.
//!
//! Its id and the identity that the root is wrapped to are derived from it by HKDF-SHA256, so that neither says anything
//! about the key. A text that can be guessed makes both of no use: keys are to be random.

use std::fmt;

use age::x25519;
use hkdf::Hkdf;
use sha2::Sha256;

use super::SecretText;
use super::application_key::{identity_text, parsed};
use super::keys::{Root, UnsealError, derive, unseal};
use crate::core::hex::hex;

/// The least characters of a key.
pub const KEY_LENGTH: usize = 32;

const SALT: &[u8] = b"reprise vault key";

/// Why a text can't be a vault's key.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Too short.
    #[error(
        "the key has {found} characters, it needs at least {KEY_LENGTH}: correct the Secret of `spec.encryption.secret`"
    )]
    TooShort {
        /// What it has.
        found: usize,
    },
}

/// A key of a vault. Cheap to clone.
#[derive(Clone)]
pub struct VaultKey(Hkdf<Sha256>);

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultKey(***)")
    }
}

impl VaultKey {
    /// Takes the text. White space around it does not count: files and Secrets tend to end with a line feed.
    ///
    /// # Errors
    /// When it has fewer than `KEY_LENGTH` characters.
    pub fn new(text: &SecretText) -> Result<Self, KeyError> {
        let text = text.expose().trim();
        let found = text.chars().count();
        if found < KEY_LENGTH {
            return Err(KeyError::TooShort { found });
        }
        Ok(Self(Hkdf::new(Some(SALT), text.as_bytes())))
    }

    /// Tells this key from others: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&derive::<8>(&self.0, &["key id"]))
    }

    /// The root for whoever has this key: an age file, binary.
    ///
    /// # Panics
    /// Never: writing into memory does not fail.
    #[must_use]
    pub fn wrap(&self, root: &Root) -> Vec<u8> {
        age::encrypt(&self.identity().to_public(), root.to_text().expose().as_bytes())
            .expect("encryption into memory does not fail")
    }

    /// The root that `wrap` wrapped.
    ///
    /// # Errors
    /// When it was wrapped with another key, or is damaged.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Root, UnsealError> {
        let text = unseal(&self.identity(), wrapped)?;
        std::str::from_utf8(&text).ok().and_then(Root::parse).ok_or(UnsealError::Damaged)
    }

    #[cfg(test)]
    pub(super) fn root_for_tests(&self) -> Root {
        Root::parse(&format!("reprise-root-1:{}", hex(&derive::<32>(&self.0, &["a root for tests"])))).unwrap()
    }

    fn identity(&self) -> x25519::Identity {
        parsed(&identity_text(&derive(&self.0, &["key wrap"])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn key(text: &str) -> VaultKey {
        VaultKey::new(&SecretText::new(text)).unwrap()
    }

    #[test]
    fn a_short_key_is_refused() {
        for short in [&KEY[..31], &format!("{}\n", &KEY[..31])] {
            assert_eq!(VaultKey::new(&SecretText::new(short)).err(), Some(KeyError::TooShort { found: 31 }));
        }
    }

    #[test]
    fn a_line_feed_at_the_end_of_the_key_does_not_count() {
        assert_eq!(key(KEY).id(), key(&format!("{KEY}\n")).id());
    }

    #[test]
    fn the_derivation_never_changes() {
        // These values stand in vaults. Computed by another program, from RFC 5869.
        assert_eq!(key(KEY).id(), "70b929d02c44e2a6");
        assert_eq!(
            identity_text(&derive(&key(KEY).0, &["key wrap"])).expose(),
            "AGE-SECRET-KEY-1CU8GNMEE7JZZU53JDRL29Z3VC8JE68GTELQYVA6UPKGWKVT2N6VSLFVK0C"
        );
    }

    #[test]
    fn only_its_own_key_opens_a_wrapped_root() {
        let root = Root::generate();
        let mut wrapped = key(KEY).wrap(&root);
        assert_eq!(key(KEY).unwrap(&wrapped), Ok(root));
        assert_eq!(key(&KEY.to_uppercase()).unwrap(&wrapped), Err(UnsealError::OtherKey));
        *wrapped.last_mut().unwrap() ^= 1;
        assert_eq!(key(KEY).unwrap(&wrapped), Err(UnsealError::Damaged));
    }
}
