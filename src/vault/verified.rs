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
use super::{Entry, Object, Vault, envelope};
use crate::core::verified::Verified;

/// The most notes that are listed.
const LISTED: usize = 100_000;
/// The most bytes of a note.
const LARGEST: u64 = 1 << 20;

fn notes(namespace: &str, application: &str) -> String {
    format!("{}/verified/", folder(namespace, application))
}

impl Vault {
    /// Writes down what was found out about a point: what `change` makes of what was written before, `None` leaving it.
    /// Another writer who is first is not written over: `change` is asked again. A note that is none of ours counts as
    /// absent, and is replaced.
    ///
    /// # Errors
    /// `Store`; `Contended` when another writer was first each time.
    ///
    /// # Panics
    /// Never: a note is plain data.
    pub async fn change_verified(
        &self,
        namespace: &str,
        application: &str,
        id: &str,
        change: impl Fn(Option<&Verified>) -> Option<Verified>,
    ) -> Result<(), CatalogueError> {
        let key = format!("{}{id}.json", notes(namespace, application));
        let of = (Signed::Verified, (namespace, application));
        self.change_noted((&key, LARGEST), of, |it: &Verified| it.point == id, change).await
    }

    /// A note, if it was written about this point with this vault's key.
    fn opened(&self, namespace: &str, application: &str, id: &str, object: &Object) -> Option<Verified> {
        let json = envelope::open(self.keys(), Signed::Verified, (namespace, application), &object.bytes).ok()?;
        serde_json::from_str::<Verified>(json).ok().filter(|it| it.point == id)
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
        match self.opened(namespace, application, id, &object) {
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
    use crate::core::verified::example;
    use crate::vault::Store;
    use crate::vault::fake::{Fake, Manner};

    #[tokio::test]
    async fn every_region_reads_a_note_and_none_that_was_changed_moved_or_made_without_the_key() {
        let fake = Fake::new(Manner::Sound);
        let vault = |key: &str| Vault::with(Store::Fake(fake.clone()), key);
        let (east, west) =
            (vault("a key that is long enough for a vault"), vault("a key that is long enough for a vault"));
        assert_eq!(west.read_verified("shop", "db", "p1").await.unwrap(), None);
        let note = example("p1", Level::L2, &[]);
        east.change_verified("shop", "db", "p1", |_| Some(note.clone())).await.unwrap();
        east.change_verified("shop", "db", "p1", |_| Some(note.clone())).await.unwrap();
        assert_eq!(west.read_verified("shop", "db", "p1").await.unwrap(), Some(note));
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

    #[tokio::test]
    async fn of_two_that_write_at_once_neither_is_lost_and_what_is_no_note_is_replaced() {
        let fake = Fake::new(Manner::Sound);
        let vault = || Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault");
        fake.put("apps/shop/db/verified/p1.json", "rubbish".into()).unwrap();
        let met = async |what: &str| {
            let what = [what.to_owned()];
            let change = |before: Option<&Verified>| Verified::met(before, "p1", Timestamp::UNIX_EPOCH, &[], &what);
            vault().change_verified("shop", "db", "p1", change).await.unwrap();
        };
        tokio::join!(met("a"), met("b"), met("c"));
        let mut other = vault().read_verified("shop", "db", "p1").await.unwrap().unwrap().damage.unwrap().other;
        other.sort();
        assert_eq!(other, ["a", "b", "c"]);
    }
}
