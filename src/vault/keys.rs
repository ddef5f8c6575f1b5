//! Everything that is derived from a vault's root.
//!
//! The root is 32 random bytes, made once for each vault and stored wrapped (`wraps`): keys of the vault come and go,
//! the root stays. HKDF-SHA256 with one label per purpose, so that no derived value says anything about another one
//! or about the root. What reads an application's data comes of a key of its own (`application_key`). The labels are
//! part of the vault's format: to change one is to lose what was written with it. This module stores nothing.

use std::fmt;
use std::io::{self, Read, Write};

use age::stream::StreamWriter;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::SecretText;
use super::application_key::{ApplicationKey, RepositoryKey};
use crate::core::hex::hex;

/// Tells a text that holds a root from others.
const ROOT_MARK: &str = "reprise-root-1:";
const SALT: &[u8] = b"reprise root";

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

/// What everything in a vault is derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct Root([u8; 32]);

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(***)")
    }
}

impl Root {
    /// A new one, at random.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads what `to_text` wrote. White space around it does not count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text.trim().strip_prefix(ROOT_MARK)?)?.try_into().ok().map(Self)
    }

    /// As a text that tells what it is: what is wrapped, and what an offline copy holds.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        SecretText::new(format!("{ROOT_MARK}{}", hex(&self.0)))
    }
}

/// What is signed with a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// A point.
    Point,
    /// The head of a catalogue.
    Head,
    /// What was found out about a point after it was made.
    Verified,
    /// Which points stay.
    Kept,
}

/// What is derived from a vault's root. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Hkdf<Sha256>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// What comes of a root.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        Self(Hkdf::new(Some(SALT), &root.0))
    }

    /// Tells this root from others, and says nothing else about it: 64 hexadecimal digits.
    #[must_use]
    pub fn check_value(&self) -> String {
        hex(&self.derive::<32>(&["root check"]))
    }

    /// What reads one application's volumes and objects, and nothing else.
    #[must_use]
    pub fn application(&self, namespace: &str, application: &str) -> ApplicationKey {
        ApplicationKey::new(self.derive(&["application", namespace, application]))
    }

    /// The password of an application's repository, for people with the restic program.
    #[must_use]
    pub fn repository_password(&self, namespace: &str, application: &str) -> SecretText {
        self.application(namespace, application).repository_password()
    }

    /// The master key of an application's repository.
    #[must_use]
    pub fn repository_key(&self, namespace: &str, application: &str) -> RepositoryKey {
        self.application(namespace, application).repository_key()
    }

    /// Encrypts for an application what is written: an age file, binary. It is whole once its writer is finished.
    ///
    /// # Errors
    /// When `to` refuses.
    ///
    /// # Panics
    /// Never: there is a recipient.
    pub fn seal<W: Write>(&self, namespace: &str, application: &str, to: W) -> io::Result<StreamWriter<W>> {
        let recipient = self.application(namespace, application).age_identity().to_public();
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
        let identity = self.application(namespace, application).age_identity();
        let sealed = age::Decryptor::new(from).map_err(wrong)?;
        sealed.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(wrong)
    }

    /// The MAC of bytes with a key of the application, HMAC-SHA256, 64 hexadecimal digits. Whoever was given the
    /// application's key to read with can't make one.
    #[must_use]
    pub fn mac(&self, of: Signed, namespace: &str, application: &str, bytes: &[u8]) -> String {
        hex(&self.hmac(of, namespace, application, bytes).finalize().into_bytes())
    }

    /// Whether `mac` is the MAC of the bytes, compared in constant time.
    #[must_use]
    pub fn mac_fits(&self, of: Signed, namespace: &str, application: &str, bytes: &[u8], mac: &str) -> bool {
        unhex(mac).is_some_and(|mac| self.hmac(of, namespace, application, bytes).verify_slice(&mac).is_ok())
    }

    fn hmac(&self, of: Signed, namespace: &str, application: &str, bytes: &[u8]) -> Hmac<Sha256> {
        let label = match of {
            Signed::Point => "point mac",
            Signed::Head => "head mac",
            Signed::Verified => "verified mac",
            Signed::Kept => "kept mac",
        };
        let key = self.derive::<32>(&[label, namespace, application]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        mac.update(bytes);
        mac
    }

    /// The label's parts are separated by NUL, which occurs in no Kubernetes name.
    fn derive<const N: usize>(&self, label: &[&str]) -> [u8; N] {
        derive(&self.0, label)
    }
}

/// The value of a label, from any of the keys that are derived from.
pub(super) fn derive<const N: usize>(from: &Hkdf<Sha256>, label: &[&str]) -> [u8; N] {
    let mut info = b"reprise/1\0".to_vec();
    info.extend_from_slice(label.join("\0").as_bytes());
    let mut key = [0; N];
    from.expand(&info, &mut key).expect("less than 255 blocks are derived");
    key
}

/// Decrypts an age file in memory.
pub(super) fn unseal(identity: &age::x25519::Identity, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
    age::decrypt(identity, sealed).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys | age::DecryptError::KeyDecryptionFailed => UnsealError::OtherKey,
        _ => UnsealError::Damaged,
    })
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() {
        return None;
    }
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> Keys {
        Keys::new(&Root([byte; 32]))
    }

    #[test]
    fn a_root_is_read_from_its_own_text_only() {
        let root = Root::generate();
        let text = root.to_text();
        assert_eq!(Root::parse(&format!(" {}\n", text.expose())), Some(root));
        for other in ["", "reprise-root-1:", "reprise-root-1:00", text.expose().trim_start_matches("reprise-")] {
            assert_eq!(Root::parse(other), None, "{other}");
        }
        assert_ne!(Root::generate(), Root::generate());
    }

    #[test]
    fn the_derivation_never_changes() {
        // These values stand in vaults: a change here makes them unreadable. Computed by another program, from RFC 5869.
        let keys = keys(7);
        assert_eq!(keys.check_value(), "b2c367c1ea8914431864620311e7e4de26cb5f8c76aa672d3da7ac748d857169");
        assert_eq!(
            keys.repository_password("shop", "db").expose(),
            "5db9f6f5b055ea2d03a4cb57888fffaf43bf55c5bc4ecc0535a14cf501cbe2df"
        );
        assert_eq!(
            keys.application("shop", "db").identity().expose(),
            "AGE-SECRET-KEY-1XQS74CN0LMHMGM8TWXCT8SW5G5K7Z0H2TPUERCYF6LAVKF9F5A3S2XZP30"
        );
        let key = keys.repository_key("shop", "db");
        let key = format!("{}{}{}", hex(&key.encrypt), hex(&key.mac_k), hex(&key.mac_r));
        assert_eq!(
            key,
            "69f061d6b856898ec72871e30ff68001aa11375971db6822879b173b4f1c2aa42cab9129b7efd392049a06897646430a96f91401e8802a0018e89d0f10a2080c"
        );
        assert_eq!(
            keys.mac(Signed::Point, "shop", "db", b"point"),
            "32ea6a906c7e3c75538cf901359978cfc6778930fd3afda6d5c180acd19b0cbb"
        );
    }

    #[test]
    fn every_purpose_and_application_has_its_own_key() {
        let keys = keys(7);
        let all = [
            keys.check_value(),
            keys.repository_password("a", "b").expose().to_owned(),
            keys.repository_password("a", "c").expose().to_owned(),
            keys.repository_password("b", "a").expose().to_owned(),
            keys.repository_password("ab", "").expose().to_owned(),
            hex(&keys.repository_key("a", "b").encrypt),
            keys.mac(Signed::Point, "a", "b", b""),
            keys.mac(Signed::Head, "a", "b", b""),
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
        let keys = keys(7);
        let sealed = sealed(&keys);
        assert_eq!(unsealed(&keys, "db", &sealed).as_deref(), Ok(&b"objects"[..]));
        assert_eq!(unsealed(&keys, "web", &sealed), Err(UnsealError::OtherKey));
        assert_eq!(unsealed(&self::keys(8), "db", &sealed), Err(UnsealError::OtherKey));
    }

    #[test]
    fn damage_to_a_sealed_text_is_found() {
        let keys = keys(7);
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
        let keys = keys(7);
        let mac = keys.mac(Signed::Point, "shop", "db", b"point");
        assert!(keys.mac_fits(Signed::Point, "shop", "db", b"point", &mac));
        assert!(!keys.mac_fits(Signed::Point, "shop", "db", b"Point", &mac));
        assert!(!keys.mac_fits(Signed::Head, "shop", "db", b"point", &mac));
        assert!(!keys.mac_fits(Signed::Point, "shop", "web", b"point", &mac));
        assert!(!keys.mac_fits(Signed::Point, "shop", "db", b"point", "abc"));
        assert!(!keys.mac_fits(Signed::Point, "shop", "db", b"point", ""));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?} {:?} {:?}", keys(7), Root::generate(), SecretText::new("text"));
        assert_eq!(text, "Keys(***) Root(***) ***");
    }
}
