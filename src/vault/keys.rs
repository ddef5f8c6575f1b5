//! Everything that is derived from a vault's key.
//!
//! HKDF-SHA256 with one label per purpose, so that no derived value says anything about another one or about the key.
//! The labels are part of the vault's format: to change one is to lose what was written with it. Losing the key is
//! losing the vault; this module neither stores nor prints it.

use std::fmt;
use std::io::{self, Read, Write};

use age::stream::StreamWriter;
use age::x25519;
use bech32::{Bech32, Hrp};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::SecretText;
use super::directory::hex;

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

/// Why a sealed text can't be read.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsealError {
    /// Sealed with another key, or for another application.
    #[error("it is not encrypted for this application with this vault's key")]
    OtherKey,
    /// Not what was written.
    #[error("it is damaged")]
    Damaged,
}

/// The master key of a restic repository: AES-256-CTR with Poly1305-AES.
pub struct RepositoryKey {
    /// The key of the cipher.
    pub encrypt: [u8; 32],
    /// The AES part of the authenticator's key.
    pub mac_k: [u8; 16],
    /// The Poly1305 part of it.
    pub mac_r: [u8; 16],
}

/// What is derived from a vault's key. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Hkdf<Sha256>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// Takes the key. White space around it does not count: files and Secrets tend to end with a line feed.
    ///
    /// # Errors
    /// When it has fewer than `KEY_LENGTH` characters.
    pub fn new(key: &SecretText) -> Result<Self, KeyError> {
        let key = key.expose().trim();
        let found = key.chars().count();
        if found < KEY_LENGTH {
            return Err(KeyError::TooShort { found });
        }
        Ok(Self(Hkdf::new(Some(SALT), key.as_bytes())))
    }

    /// Tells this key from others, and says nothing else about it: 64 hexadecimal digits.
    #[must_use]
    pub fn check_value(&self) -> String {
        hex(&self.derive::<32>(&["key check"]))
    }

    /// The password of an application's repository, for people with the restic program.
    #[must_use]
    pub fn repository_password(&self, namespace: &str, application: &str) -> SecretText {
        SecretText::new(hex(&self.derive::<32>(&["repository password", namespace, application])))
    }

    /// The master key of an application's repository.
    #[must_use]
    pub fn repository_key(&self, namespace: &str, application: &str) -> RepositoryKey {
        let key = self.derive::<64>(&["repository key", namespace, application]);
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

    /// The age identity of an application, `AGE-SECRET-KEY-1…`, for people with the age program.
    ///
    /// # Panics
    /// Never: 32 bytes always make an identity.
    #[must_use]
    pub fn identity(&self, namespace: &str, application: &str) -> SecretText {
        let secret = self.derive::<32>(&["age identity", namespace, application]);
        let prefix = Hrp::parse("age-secret-key-").expect("the prefix is valid");
        let text = bech32::encode::<Bech32>(prefix, &secret).expect("32 bytes are not too long for bech32");
        SecretText::new(text.to_uppercase())
    }

    /// Encrypts for an application what is written: an age file, binary. It is whole once its writer is finished.
    ///
    /// # Errors
    /// When `to` refuses.
    ///
    /// # Panics
    /// Never: there is a recipient.
    pub fn seal<W: Write>(&self, namespace: &str, application: &str, to: W) -> io::Result<StreamWriter<W>> {
        let recipient = self.age_identity(namespace, application).to_public();
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        age::Encryptor::with_recipients(recipients).expect("there is a recipient").wrap_output(to)
    }

    /// Decrypts what `seal` made for the same application. What is read is what was written, up to an error.
    ///
    /// # Errors
    /// When it was sealed with another key or for another application, or is damaged at its start.
    pub fn unseal<R: Read>(
        &self,
        namespace: &str,
        application: &str,
        from: R,
    ) -> Result<impl Read + use<R>, UnsealError> {
        let wrong = |error| match error {
            age::DecryptError::NoMatchingKeys | age::DecryptError::KeyDecryptionFailed => UnsealError::OtherKey,
            _ => UnsealError::Damaged,
        };
        let identity = self.age_identity(namespace, application);
        let sealed = age::Decryptor::new(from).map_err(wrong)?;
        sealed.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(wrong)
    }

    /// The MAC of bytes with the application's key, HMAC-SHA256, 64 hexadecimal digits.
    #[must_use]
    pub fn mac(&self, namespace: &str, application: &str, bytes: &[u8]) -> String {
        hex(&self.hmac(namespace, application, bytes).finalize().into_bytes())
    }

    /// Whether `mac` is the MAC of the bytes, compared in constant time.
    #[must_use]
    pub fn mac_fits(&self, namespace: &str, application: &str, bytes: &[u8], mac: &str) -> bool {
        unhex(mac).is_some_and(|mac| self.hmac(namespace, application, bytes).verify_slice(&mac).is_ok())
    }

    fn hmac(&self, namespace: &str, application: &str, bytes: &[u8]) -> Hmac<Sha256> {
        let key = self.derive::<32>(&["point mac", namespace, application]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        mac.update(bytes);
        mac
    }

    fn age_identity(&self, namespace: &str, application: &str) -> x25519::Identity {
        let text = self.identity(namespace, application);
        text.expose().parse().expect("the text was just encoded")
    }

    /// The label's parts are separated by NUL, which occurs in no Kubernetes name.
    fn derive<const N: usize>(&self, label: &[&str]) -> [u8; N] {
        let mut info = b"reprise/1\0".to_vec();
        info.extend_from_slice(label.join("\0").as_bytes());
        let mut key = [0; N];
        self.0.expand(&info, &mut key).expect("less than 255 blocks are derived");
        key
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() {
        return None;
    }
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn keys(key: &str) -> Keys {
        Keys::new(&SecretText::new(key)).unwrap()
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(Keys::new(&SecretText::new(&KEY[..31])).err(), Some(KeyError::TooShort { found: 31 }));
        assert_eq!(
            Keys::new(&SecretText::new(format!("{}\n", &KEY[..31]))).err(),
            Some(KeyError::TooShort { found: 31 })
        );
    }

    #[test]
    fn a_line_feed_at_the_end_of_the_key_does_not_count() {
        assert_eq!(keys(KEY).check_value(), keys(&format!("{KEY}\n")).check_value());
    }

    #[test]
    fn the_derivation_never_changes() {
        // These values stand in vaults: a change here makes them unreadable. Computed by another program, from RFC 5869.
        let keys = keys(KEY);
        assert_eq!(keys.check_value(), "61b7df09af598a642630bff3de44dfe89e533ac4c58cf66b1c6739bdace38ad1");
        assert_eq!(
            keys.repository_password("shop", "db").expose(),
            "3e48d1b31a1ad7ed72d4b71b2c2c4be8ff3783cb333d40ec28251e913c24531a"
        );
        assert_eq!(
            keys.identity("shop", "db").expose(),
            "AGE-SECRET-KEY-1SXMR62CXPFCL3PMDJGN4UDQ26VYWTNAJWM4WWU8DEKP6JGJJTP8Q3ZYY7G"
        );
        let key = keys.repository_key("shop", "db");
        let key = format!("{}{}{}", hex(&key.encrypt), hex(&key.mac_k), hex(&key.mac_r));
        assert_eq!(
            key,
            "e2cf3bbdc5f934334e433e9701a6630c1f12271e53de73ab732305f76ba86921f696768954250e231a6055789360734d108e580c58fcb2065450a70c984ff407"
        );
        assert_eq!(
            keys.mac("shop", "db", b"point"),
            "fee496843693600c4734efa634ff01f8b77ea048a663bfb5c899548d088dd921"
        );
    }

    #[test]
    fn every_purpose_and_application_has_its_own_key() {
        let keys = keys(KEY);
        let all = [
            keys.check_value(),
            keys.repository_password("a", "b").expose().to_owned(),
            keys.repository_password("a", "c").expose().to_owned(),
            keys.repository_password("b", "a").expose().to_owned(),
            keys.repository_password("ab", "").expose().to_owned(),
            hex(&keys.repository_key("a", "b").encrypt),
            keys.mac("a", "b", b""),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    fn sealed(keys: &Keys) -> Vec<u8> {
        let mut to = keys.seal("shop", "db", Vec::new()).unwrap();
        to.write_all(b"objects").unwrap();
        to.finish().unwrap()
    }

    fn unsealed(keys: &Keys, application: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let mut plain = Vec::new();
        let read = keys.unseal("shop", application, sealed)?.read_to_end(&mut plain);
        read.map(|_| plain).map_err(|_| UnsealError::Damaged)
    }

    #[test]
    fn what_is_sealed_for_one_application_is_closed_to_another() {
        let keys = keys(KEY);
        let sealed = sealed(&keys);
        assert_eq!(unsealed(&keys, "db", &sealed).as_deref(), Ok(&b"objects"[..]));
        assert_eq!(unsealed(&keys, "web", &sealed), Err(UnsealError::OtherKey));
        assert_eq!(unsealed(&self::keys(&KEY.to_uppercase()), "db", &sealed), Err(UnsealError::OtherKey));
    }

    #[test]
    fn damage_to_a_sealed_text_is_found() {
        let keys = keys(KEY);
        let mut sealed = sealed(&keys);
        *sealed.last_mut().unwrap() ^= 1;
        assert_eq!(unsealed(&keys, "db", &sealed), Err(UnsealError::Damaged));
        sealed.pop();
        assert_eq!(unsealed(&keys, "db", &sealed), Err(UnsealError::Damaged));
        sealed.truncate(20);
        assert_eq!(unsealed(&keys, "db", &sealed), Err(UnsealError::Damaged));
    }

    #[test]
    fn a_mac_fits_its_bytes_only() {
        let keys = keys(KEY);
        let mac = keys.mac("shop", "db", b"point");
        assert!(keys.mac_fits("shop", "db", b"point", &mac));
        assert!(!keys.mac_fits("shop", "db", b"Point", &mac));
        assert!(!keys.mac_fits("shop", "web", b"point", &mac));
        assert!(!keys.mac_fits("shop", "db", b"point", "abc"));
        assert!(!keys.mac_fits("shop", "db", b"point", ""));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?} {:?}", keys(KEY), SecretText::new(KEY));
        assert_eq!(text, "Keys(***) ***");
    }
}
