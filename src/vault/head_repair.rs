//! Makes the head of a catalogue anew: one that is gone, damaged, or behind its points.
//!
//! What it must say is decided in `core::vault_check`. It is swapped like any other version, so that a region which
//! changes the head meanwhile is not overwritten, and a sound head's epoch never falls.

use ulid::Ulid;

use super::catalogue::{BRANCHES, CatalogueError, head_key};
use super::{Condition, StoreError, Vault};
use crate::core::point::Head;
use crate::core::vault_check::Rebuilt;

/// How often the swap is tried against other writers.
const ATTEMPTS: u32 = 8;

impl Vault {
    /// Writes the head that `rebuilt` tells of, over what is there. Returns it, and whether anything was written.
    ///
    /// # Errors
    /// `Format` when the head is of a newer version, `Contended`, `Store`.
    pub async fn repair_head(
        &self,
        namespace: &str,
        application: &str,
        rebuilt: &Rebuilt,
    ) -> Result<(Head, bool), CatalogueError> {
        let key = head_key(namespace, application);
        for _ in 0..ATTEMPTS {
            let (found, condition) = match self.read_head(namespace, application).await {
                Ok(found) => found.map_or((None, None), |(head, tag)| (Some(head), Some(tag))),
                Err(CatalogueError::Corrupt { .. }) => (None, self.store().get(&key).await?.map(|it| it.tag)),
                Err(error) => return Err(error),
            };
            let made = rebuilt.over(found.clone(), BRANCHES);
            if found.as_ref() == Some(&made) {
                return Ok((made, false));
            }
            let head = Head { seq: made.seq + 1, nonce: Ulid::generate().to_string(), ..made };
            let bytes = self.signed_head(namespace, application, &head);
            let condition = condition.as_deref().map_or(Condition::Absent, Condition::Unchanged);
            match self.store().put_if(&key, bytes, condition).await {
                Ok(_) => return Ok((head, true)),
                // Whether it landed, the next look tells: then nothing is left to be changed.
                Err(StoreError::Lost | StoreError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogueError::Contended)
    }
}
