//! The chain of an application's points, and which of them stay.
//!
//! ```text
//! apps/<namespace>/<name>/kept.json               {"kept":{…},"mac":"…"}, compare-and-swap
//! ```

use super::catalogue::{CatalogueError, folder};
use super::keys::Signed;
use super::{Vault, envelope};
use crate::core::chain::{Kept, Link};
use crate::core::point::Point;

/// The most bytes of the list.
const LARGEST: u64 = 4 << 20;

fn kept_key(namespace: &str, application: &str) -> String {
    format!("{}/kept.json", folder(namespace, application))
}

impl Vault {
    /// Writes a point, with a link to the one that the head names. One that was written before, with whatever link, is
    /// left as it is. Gives what is there.
    ///
    /// # Errors
    /// `Exists` when another point has its id, `Contended`, `Store`, `Corrupt`.
    pub async fn write_linked(&self, point: &Point) -> Result<Point, CatalogueError> {
        let (namespace, application) = (&point.namespace, &point.application);
        let previous = if point.branch { None } else { self.link(point).await? };
        let linked = Point { previous, ..point.clone() };
        match self.write_point(&linked).await {
            Err(CatalogueError::Exists { key }) => {
                let there = self.read_point(namespace, application, &point.id).await?;
                let same = Point { previous: there.previous.clone(), ..point.clone() } == there;
                if same { Ok(there) } else { Err(CatalogueError::Exists { key }) }
            }
            written => written.map(|()| linked),
        }
    }

    /// The point that the head names. What cannot be read is no reason to make no point.
    async fn link(&self, point: &Point) -> Result<Option<Link>, CatalogueError> {
        let (namespace, application) = (&point.namespace, &point.application);
        let head = match self.read_head(namespace, application).await {
            Ok(head) => head,
            Err(error @ CatalogueError::Store(_)) => return Err(error),
            Err(_) => None,
        };
        let Some(id) = head.and_then(|(head, _)| head.latest).filter(|it| *it != point.id) else { return Ok(None) };
        match self.read_stored(namespace, application, &id).await {
            Ok((_, digest)) => Ok(Some(Link { id, digest })),
            Err(error @ CatalogueError::Store(_)) => Err(error),
            // It is told by whoever checks the vault.
            Err(_) => Ok(None),
        }
    }

    /// Which points stay, as retention last wrote it. `None` when it never took one.
    ///
    /// # Errors
    /// `Store`; `Corrupt` when it was not written with this vault's key.
    pub async fn read_kept(&self, namespace: &str, application: &str) -> Result<Option<Kept>, CatalogueError> {
        let key = kept_key(namespace, application);
        let Some(object) = self.store().get_up_to(&key, LARGEST).await? else { return Ok(None) };
        let corrupt = |reason: &str| CatalogueError::Corrupt { key: key.clone(), reason: reason.to_owned() };
        let whose = (namespace, application);
        let json = envelope::open(self.keys(), Signed::Kept, whose, &object.bytes).map_err(corrupt)?;
        serde_json::from_str(json).map(Some).map_err(|_| corrupt("it is not a list of points"))
    }

    /// Writes down which points stay: what `change` makes of what was written before. One that is none of ours counts as
    /// absent, and is replaced.
    ///
    /// # Errors
    /// `Store`; `Contended` when another writer was first each time.
    ///
    /// # Panics
    /// Never: it is plain data.
    pub async fn change_kept(
        &self,
        namespace: &str,
        application: &str,
        change: impl Fn(Option<&Kept>) -> Kept,
    ) -> Result<(), CatalogueError> {
        let (key, of) = (kept_key(namespace, application), (Signed::Kept, (namespace, application)));
        self.change_noted((&key, LARGEST), of, |_| true, |before| Some(change(before))).await
    }
}
