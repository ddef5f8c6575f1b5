//! What retention asks of the catalogue: every point there is, which of them people hold, and their deletion.
//!
//! ```text
//! apps/<namespace>/<name>/holds/<id>.json         a point that retention leaves alone: made and deleted by people's wish
//! ```
//!
//! A hold lies in the vault, so that every region honours it. Which points go is decided in `core::retention`.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::json;

use super::catalogue::{CatalogueError, POINTS_SEEN, folder, point_key};
use super::manifest::manifest_key;
use super::{Entry, PAGE_LIMIT, StoreError, Vault};

/// The most manifests and holds that are listed.
const LISTED: usize = 1_000_000;

fn holds(namespace: &str, application: &str) -> String {
    format!("{}/holds/", folder(namespace, application))
}

impl Vault {
    /// The ids of all points of an application, oldest first.
    ///
    /// # Errors
    /// `Store`, also when there are more points than can be listed: a part of them would be taken for all.
    pub async fn all_points(&self, namespace: &str, application: &str) -> Result<Vec<String>, CatalogueError> {
        let prefix = format!("{}/points/", folder(namespace, application));
        let listed = self.listed(&prefix, POINTS_SEEN).await?;
        let id = |it: &Entry| Some(it.key.strip_prefix(&prefix)?.strip_suffix(".json")?.to_owned());
        Ok(listed.iter().filter_map(id).collect())
    }

    /// The manifests of an application: each with its name as its key.
    ///
    /// # Errors
    /// `Store`.
    pub async fn all_manifests(&self, namespace: &str, application: &str) -> Result<Vec<Entry>, CatalogueError> {
        let prefix = format!("{}/manifests/", folder(namespace, application));
        let listed = self.listed(&prefix, LISTED).await?;
        let named = |it: Entry| Some(Entry { key: it.key.strip_prefix(&prefix)?.to_owned(), ..it });
        Ok(listed.into_iter().filter_map(named).collect())
    }

    /// Everything under a prefix; an error when that is more than `limit`.
    pub(super) async fn listed(&self, prefix: &str, limit: usize) -> Result<Vec<Entry>, CatalogueError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map(|it| it.key.clone());
            let page = self.store().page(prefix, after.as_deref(), PAGE_LIMIT).await?;
            let last = page.len() < PAGE_LIMIT;
            entries.extend(page);
            if last {
                return Ok(entries);
            }
            if entries.len() >= limit {
                return Err(StoreError::TooMany { prefix: prefix.to_owned(), limit }.into());
            }
        }
    }

    /// Deletes a point. False when the vault refuses to, as under an object lock. What only this point needs stays
    /// until it is pruned.
    ///
    /// # Errors
    /// `Store`.
    pub async fn delete_point(&self, namespace: &str, application: &str, id: &str) -> Result<bool, CatalogueError> {
        self.delete_unless_refused(&point_key(namespace, application, id)).await
    }

    /// Deletes the objects of points that are gone, if they were not written again since. False when they were, or the
    /// vault refuses to.
    ///
    /// # Errors
    /// `Store`.
    pub async fn delete_manifest(
        &self,
        namespace: &str,
        application: &str,
        manifest: &Entry,
    ) -> Result<bool, CatalogueError> {
        let key = manifest_key(namespace, application, &manifest.key);
        match self.store().find(&key).await? {
            Some(found) if found.modified > manifest.modified => Ok(false),
            Some(_) | None => self.delete_unless_refused(&key).await,
        }
    }

    /// Whether the objects that a point names are there.
    ///
    /// # Errors
    /// `Store`.
    pub async fn has_manifest(
        &self,
        namespace: &str,
        application: &str,
        manifest: &str,
    ) -> Result<bool, CatalogueError> {
        Ok(self.store().find(&manifest_key(namespace, application, manifest)).await?.is_some())
    }

    pub(super) async fn delete_unless_refused(&self, key: &str) -> Result<bool, CatalogueError> {
        match self.store().delete(key).await {
            Ok(()) => Ok(true),
            Err(StoreError::Forbidden { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Has every region's retention leave a point alone. Again is the same as once.
    ///
    /// # Errors
    /// `Store`.
    pub async fn hold(&self, namespace: &str, application: &str, id: &str, region: &str) -> Result<(), CatalogueError> {
        let key = format!("{}{id}.json", holds(namespace, application));
        let note = json!({"point": id, "region": region}).to_string();
        Ok(self.store().put(&key, Bytes::from(note)).await?)
    }

    /// Lifts a hold, whoever made it.
    ///
    /// # Errors
    /// `Store`.
    pub async fn release(&self, namespace: &str, application: &str, id: &str) -> Result<(), CatalogueError> {
        Ok(self.store().delete(&format!("{}{id}.json", holds(namespace, application))).await?)
    }

    /// The points that are held.
    ///
    /// # Errors
    /// `Store`.
    pub async fn held(&self, namespace: &str, application: &str) -> Result<BTreeSet<String>, CatalogueError> {
        let prefix = holds(namespace, application);
        let listed = self.listed(&prefix, LISTED).await?;
        let id = |it: &Entry| Some(it.key.strip_prefix(&prefix)?.strip_suffix(".json")?.to_owned());
        Ok(listed.iter().filter_map(id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Store;
    use crate::vault::fake::{Fake, Manner};

    const KEY: &str = "a key that is long enough for a vault";

    #[tokio::test]
    async fn a_hold_is_seen_by_every_region_until_it_is_lifted() {
        let fake = Fake::new(Manner::Sound);
        let [east, west] = [(); 2].map(|()| Vault::with(Store::Fake(fake.clone()), KEY));
        east.hold("shop", "db", "1-a", "east").await.unwrap();
        east.hold("shop", "db", "1-a", "east").await.unwrap();
        assert_eq!(west.held("shop", "db").await.unwrap(), BTreeSet::from(["1-a".to_owned()]));
        assert!(west.held("shop", "other").await.unwrap().is_empty());
        west.release("shop", "db", "1-a").await.unwrap();
        west.release("shop", "db", "1-a").await.unwrap();
        assert!(east.held("shop", "db").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn more_points_than_one_page_are_listed_and_a_deleted_one_is_gone() {
        let fake = Fake::new(Manner::Sound);
        let vault = Vault::with(Store::Fake(fake.clone()), KEY);
        for number in 0..1_500 {
            fake.put(&format!("apps/shop/db/points/{number:06}.json"), "{}".into()).unwrap();
        }
        assert!(vault.delete_point("shop", "db", "000007").await.unwrap());
        assert!(vault.delete_point("shop", "db", "000007").await.unwrap(), "again is the same as once");
        let all = vault.all_points("shop", "db").await.unwrap();
        assert_eq!((all.len(), all[7].as_str()), (1_499, "000008"));
    }
}
