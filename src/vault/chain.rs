//! The chain of an application's points, and which of them stay.
//!
//! ```text
//! apps/<namespace>/<name>/kept.json               {"kept":{…},"mac":"…"}, compare-and-swap
//! ```

use std::time::Duration;

use rand::RngExt;

use super::catalogue::{CatalogueError, folder};
use super::keys::Signed;
use super::{Condition, StoreError, Vault, envelope};
use crate::core::chain::{Kept, Link};
use crate::core::point::Point;

/// How often the list is written that others write at the same time.
const ATTEMPTS: u32 = 8;
/// The pause in between.
const PAUSE: Duration = Duration::from_millis(200);
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
        let (key, whose) = (kept_key(namespace, application), (namespace, application));
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let spread = PAUSE.mul_f64(rand::rng().random_range(0.5..1.5));
                tokio::time::sleep(spread).await;
            }
            let found = self.store().get_up_to(&key, LARGEST).await?;
            let json = found.as_ref().and_then(|it| envelope::open(self.keys(), Signed::Kept, whose, &it.bytes).ok());
            let before: Option<Kept> = json.and_then(|it| serde_json::from_str(it).ok());
            let kept = change(before.as_ref());
            if before.as_ref() == Some(&kept) {
                return Ok(());
            }
            let json = serde_json::to_string(&kept).expect("it is plain data");
            let bytes = envelope::sign(self.keys(), Signed::Kept, whose, &json);
            let condition = found.as_ref().map_or(Condition::Absent, |it| Condition::Unchanged(&it.tag));
            match self.store().put_if(&key, bytes, condition).await {
                Ok(_) => return Ok(()),
                // A write whose reply was lost is found at the next attempt.
                Err(StoreError::Lost | StoreError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogueError::Contended)
    }
}
