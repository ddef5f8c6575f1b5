//! Seals and opens what lies in packs, as restic does: AES-256-CTR, the nonce before it, and Poly1305-AES behind it.

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use rand::Rng;
use rustic_core::{BlobId, Id};
use sha2::{Digest, Sha256};

use crate::vault::application_key::RepositoryKey;

/// Bytes of a nonce, and of a tag.
pub(super) const NONCE: usize = 16;
/// What a sealed text is longer than the plain one.
pub(super) const OVERHEAD: usize = 2 * NONCE;

/// The key of a repository.
#[derive(Clone)]
pub(super) struct Seal(Aes256CtrPoly1305Aes);

impl Seal {
    pub(super) fn new(key: &RepositoryKey) -> Self {
        let whole = [&key.encrypt[..], &key.mac_k, &key.mac_r].concat();
        Self(Aes256CtrPoly1305Aes::new(Key::from_slice(&whole)))
    }

    /// Seals in place: the text lies behind the room for a nonce, and before the room for a tag.
    pub(super) fn seal(&self, buffer: &mut [u8]) {
        let (nonce, rest) = buffer.split_at_mut(NONCE);
        rand::rng().fill_bytes(nonce);
        let (text, tag) = rest.split_at_mut(rest.len() - NONCE);
        let made = self.0.encrypt_in_place_detached(Nonce::from_slice(nonce), &[], text);
        tag.copy_from_slice(&made.expect("no text is too long for this cipher"));
    }

    /// The plain text of `sealed`, in `plain`; `false` when it was not sealed with this key, or is damaged.
    pub(super) fn open(&self, sealed: &[u8], plain: &mut Vec<u8>) -> bool {
        plain.clear();
        let Some((nonce, rest)) = sealed.split_at_checked(NONCE) else { return false };
        let Some((text, tag)) = rest.len().checked_sub(NONCE).and_then(|at| rest.split_at_checked(at)) else {
            return false;
        };
        plain.extend_from_slice(text);
        self.0.decrypt_in_place_detached(Nonce::from_slice(nonce), &[], plain, Tag::from_slice(tag)).is_ok()
    }
}

/// The name of a blob.
pub(super) fn blob_id(plain: &[u8]) -> BlobId {
    BlobId::from(Id::new(Sha256::digest(plain).into()))
}
