//! What was found out about points after they were made, beside them in the catalogue.
//!
//! ```text
//! apps/<namespace>/<name>/verified/<id>.json      {"verified":{…},"mac":"…"}, written anew each time
//! ```
//!
//! So every region knows. A point without such a note is as it was when it was made. What follows from a note is decided
//! by who reads it.

use jiff::Timestamp;

use super::catalogue::{CatalogueError, folder, point_key};
use super::keys::Signed;
use super::{Entry, Vault, envelope};
use crate::core::point::Verified;

/// The most notes that are listed.
const LISTED: usize = 100_000;

fn notes(namespace: &str, application: &str) -> String {
    format!("{}/verified/", folder(namespace, application))
}

impl Vault {
    /// Writes down what was found out about a point, over what was written before.
    ///
    /// # Errors
    /// `Store`.
    ///
    /// # Panics
    /// Never: a note is plain data.
    pub async fn write_verified(
        &self,
        namespace: &str,
        application: &str,
        verified: &Verified,
    ) -> Result<(), CatalogueError> {
        let key = format!("{}{}.json", notes(namespace, application), verified.point);
        let json = serde_json::to_string(verified).expect("a note is plain data");
        let bytes = envelope::sign(self.keys(), Signed::Verified, (namespace, application), &json);
        Ok(self.store().put(&key, bytes).await?)
    }

    /// What was found out about a point since it was made, if anything was.
    ///
    /// # Errors
    /// `Store`; `Corrupt` when it was not written with this vault's key, or about another point.
    pub async fn read_verified(
        &self,
        namespace: &str,
        application: &str,
        id: &str,
    ) -> Result<Option<Verified>, CatalogueError> {
        let key = format!("{}{id}.json", notes(namespace, application));
        let Some(object) = self.store().get(&key).await? else { return Ok(None) };
        let whose = (namespace, application);
        let json = envelope::open(self.keys(), Signed::Verified, whose, &object.bytes);
        match json.ok().and_then(|it| serde_json::from_str::<Verified>(it).ok()).filter(|it| it.point == id) {
            Some(verified) => Ok(Some(verified)),
            None => Err(CatalogueError::Corrupt {
                key,
                reason: "it was not written about this point with this vault's key".to_owned(),
            }),
        }
    }

    /// The points that something was found out about, oldest first, each with the time that it was written.
    ///
    /// # Errors
    /// `Store`.
    pub async fn list_verified(
        &self,
        namespace: &str,
        application: &str,
    ) -> Result<Vec<(String, Timestamp)>, CatalogueError> {
        let prefix = notes(namespace, application);
        let listed = self.listed(&prefix, LISTED).await?;
        let id = |it: &Entry| Some((it.key.strip_prefix(&prefix)?.strip_suffix(".json")?.to_owned(), it.modified));
        Ok(listed.iter().filter_map(id).collect())
    }

    /// Deletes what was found out about a point, if the point is gone.
    ///
    /// # Errors
    /// `Store`.
    pub async fn forget_verified(&self, namespace: &str, application: &str, id: &str) -> Result<bool, CatalogueError> {
        if self.store().find(&point_key(namespace, application, id)).await?.is_some() {
            return Ok(false);
        }
        self.delete_unless_refused(&format!("{}{id}.json", notes(namespace, application))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::recovery_point::Level;
    use crate::vault::Store;
    use crate::vault::fake::{Fake, Manner};

    fn note(point: &str) -> Verified {
        Verified {
            point: point.to_owned(),
            level: Level::L2,
            at: Timestamp::UNIX_EPOCH,
            region: "east".to_owned(),
            detail: "a sample".to_owned(),
            damaged_packs: vec![],
        }
    }

    #[tokio::test]
    async fn every_region_reads_a_note_and_none_that_was_changed_moved_or_made_without_the_key() {
        let fake = Fake::new(Manner::Sound);
        let vault = |key: &str| Vault::with(Store::Fake(fake.clone()), key);
        let (east, west) =
            (vault("a key that is long enough for a vault"), vault("a key that is long enough for a vault"));
        assert_eq!(west.read_verified("shop", "db", "p1").await.unwrap(), None);
        east.write_verified("shop", "db", &note("p1")).await.unwrap();
        east.write_verified("shop", "db", &note("p1")).await.unwrap();
        assert_eq!(west.read_verified("shop", "db", "p1").await.unwrap(), Some(note("p1")));
        let listed = west.list_verified("shop", "db").await.unwrap();
        assert_eq!(listed.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["p1"]);
        let key = "apps/shop/db/verified/p1.json";
        let bytes = fake.get(key).unwrap().unwrap().bytes;
        let corrupt = async |vault: &Vault, id| {
            matches!(vault.read_verified("shop", "db", id).await, Err(CatalogueError::Corrupt { .. }))
        };
        fake.put("apps/shop/db/verified/p2.json", bytes).unwrap();
        assert!(corrupt(&west, "p2").await, "of another point");
        assert!(corrupt(&vault("another key, long enough for a vault"), "p1").await);
        fake.tamper(key, |it| it[30] ^= 1);
        assert!(corrupt(&west, "p1").await);
    }
}
