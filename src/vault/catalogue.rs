//! The catalogue of an application: its head and its points. Its manifests are in `manifest`.
//!
//! ```text
//! apps/<namespace>/<name>/head.json               compare-and-swap: {"head":{…},"mac":"…"}
//! apps/<namespace>/<name>/points/<id>.json        create-only: {"point":{…},"mac":"…"}
//! ```
//!
//! The head is the fence: a point enters it only while the head's epoch is the point's. Which point is taken, and
//! who may seal, is decided in `core`; here the rules of the swap are kept, and unclear outcomes are cleared up by
//! reading back. Nothing is deleted here: `retention` does that.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::envelope;
use super::keys::Signed;
use super::manifest::MANIFEST_LIMIT;
use super::{Condition, PAGE_LIMIT, Store, StoreError, Vault};
use crate::core::claim::mark::{Standing, enters, standing};
use crate::core::hex::hex;
use crate::core::point::{FORMAT, Head, Point};

/// How often a swap is tried against other writers.
const ATTEMPTS: u32 = 8;
/// The pause before the second attempt; it doubles with each, up to `LONGEST_PAUSE`.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// The most branches in a head.
pub const BRANCHES: usize = 100;
/// The most points that `list_points` returns.
pub const POINTS: usize = 20_000;
/// The most points that `list_points` looks through.
pub(super) const POINTS_SEEN: usize = 1_000_000;

/// Why the catalogue could not be read or changed.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum CatalogueError {
    /// The store did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The head is another's, or of another epoch.
    #[error("the catalogue is sealed by region {by} with epoch {epoch}")]
    Sealed {
        /// The head's epoch.
        epoch: u64,
        /// The region that sealed it.
        by: String,
    },
    /// There is no head.
    #[error("the catalogue was never sealed")]
    Unsealed,
    /// There is no such object.
    #[error("`{key}` is not in the vault")]
    Absent {
        /// Its key.
        key: String,
    },
    /// It is not what was written.
    #[error("`{key}` in the vault is damaged: {reason}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// Written by a newer version.
    #[error("`{key}` has format {found}, this version reads up to {FORMAT}: use a newer version of Reprise")]
    Format {
        /// Its key.
        key: String,
        /// Its format.
        found: u32,
    },
    /// Another point with the same id is there.
    #[error("`{key}` is already there with other content")]
    Exists {
        /// Its key.
        key: String,
    },
    /// Too many other writers.
    #[error("the catalogue changed each time it was to be written, {ATTEMPTS} times")]
    Contended,
    /// The manifest is too large.
    #[error("the objects take {bytes} bytes, the limit is {MANIFEST_LIMIT}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Something of this machine refused: the temporary directory is full, or not there.
    #[error("the temporary directory: {reason}")]
    Local {
        /// Why.
        reason: String,
    },
}

pub(super) fn folder(namespace: &str, application: &str) -> String {
    format!("apps/{namespace}/{application}")
}

pub(super) fn head_key(namespace: &str, application: &str) -> String {
    format!("{}/head.json", folder(namespace, application))
}

pub(super) fn point_key(namespace: &str, application: &str, id: &str) -> String {
    format!("{}/points/{id}.json", folder(namespace, application))
}

/// The name that a point of the same epoch, a day older, would have. `None` for what is no point's name.
#[must_use]
pub fn a_day_before(id: &str) -> Option<String> {
    let (epoch, ulid) = id.split_once('-')?;
    let at = Ulid::from_string(ulid).ok()?.timestamp_ms();
    Some(format!("{epoch}-{}", Ulid::from_parts(at.saturating_sub(24 * 3_600_000), 0)))
}

impl Vault {
    /// The head, and the tag of this version of it. `None` when there is none.
    ///
    /// # Errors
    /// `Store`, `Corrupt`, `Format`.
    pub async fn read_head(
        &self,
        namespace: &str,
        application: &str,
    ) -> Result<Option<(Head, String)>, CatalogueError> {
        let key = head_key(namespace, application);
        let Some(object) = self.store().get(&key).await? else { return Ok(None) };
        let corrupt = |reason: &str| CatalogueError::Corrupt { key: key.clone(), reason: reason.to_owned() };
        let whose = (namespace, application);
        let json = envelope::open(self.keys(), Signed::Head, whose, &object.bytes).map_err(corrupt)?;
        let head: Head = serde_json::from_str(json).map_err(|_| corrupt("it is not a head"))?;
        if head.format > FORMAT {
            return Err(CatalogueError::Format { key, found: head.format });
        }
        Ok(Some((head, object.tag)))
    }

    /// Seals the head with an epoch: from then on no point of a lower epoch enters. The points in it stay. Sealing
    /// again with the same epoch changes nothing.
    ///
    /// # Errors
    /// `Sealed` when the head has a higher epoch, or this epoch by another region; `Contended`, `Store`, `Corrupt`.
    pub async fn seal_head(
        &self,
        namespace: &str,
        application: &str,
        epoch: u64,
        region: &str,
    ) -> Result<Head, CatalogueError> {
        self.change_head(namespace, application, |head| match head {
            None => Ok(Change::Write(Head {
                format: FORMAT,
                epoch,
                sealed_by: region.to_owned(),
                seq: 1,
                nonce: String::new(),
                latest: None,
                branches: Vec::new(),
            })),
            Some(head) => match standing((head.epoch, &head.sealed_by), (epoch, region)) {
                Standing::Older => Ok(Change::Write(Head { epoch, sealed_by: region.to_owned(), ..head })),
                Standing::Mine => Ok(Change::Done(head)),
                Standing::Newer | Standing::Contested => {
                    Err(CatalogueError::Sealed { epoch: head.epoch, by: head.sealed_by })
                }
            },
        })
        .await
    }

    /// Enters a point that was written. A branch is added to the branches, at any epoch; any other point becomes
    /// the latest, if the head is sealed by `region` with `epoch` and the point is of that epoch. An older point
    /// than the latest does not replace it. Entering again changes nothing.
    ///
    /// # Errors
    /// `Sealed` when the head is no longer this region's at this epoch, `Unsealed`, `Contended`, `Store`, `Corrupt`.
    pub async fn enter_head(&self, point: &Point, epoch: u64, region: &str) -> Result<Head, CatalogueError> {
        self.change_head(&point.namespace, &point.application, |head| {
            let Some(mut head) = head else { return Err(CatalogueError::Unsealed) };
            if point.branch {
                if head.branches.contains(&point.id) {
                    return Ok(Change::Done(head));
                }
                head.branches.push(point.id.clone());
                let surplus = head.branches.len().saturating_sub(BRANCHES);
                head.branches.drain(..surplus);
                return Ok(Change::Write(head));
            }
            if point.epoch != epoch || !enters((head.epoch, &head.sealed_by), (epoch, region)) {
                return Err(CatalogueError::Sealed { epoch: head.epoch, by: head.sealed_by });
            }
            if head.latest.as_ref().is_some_and(|latest| *latest >= point.id) {
                return Ok(Change::Done(head));
            }
            head.latest = Some(point.id.clone());
            Ok(Change::Write(head))
        })
        .await
    }

    /// Enters a point that was copied from another vault: the head follows the newest one, and the epoch that it is of. It
    /// never goes back, also when copies of two regions meet. Entering again changes nothing.
    ///
    /// # Errors
    /// `Contended`, `Store`, `Corrupt`.
    pub async fn enter_copy(&self, point: &Point) -> Result<Head, CatalogueError> {
        self.change_head(&point.namespace, &point.application, |head| {
            let newest = head.as_ref().and_then(|it| it.latest.as_ref()).is_none_or(|it| *it < point.id);
            let (latest, sealed_by) = (Some(point.id.clone()), point.region.clone());
            Ok(match head {
                None => Change::Write(Head {
                    format: FORMAT,
                    epoch: point.epoch,
                    sealed_by,
                    seq: 1,
                    nonce: String::new(),
                    latest,
                    branches: Vec::new(),
                }),
                Some(head) if head.epoch > point.epoch || !newest => Change::Done(head),
                Some(head) => Change::Write(Head { epoch: point.epoch, sealed_by, latest, ..head }),
            })
        })
        .await
    }

    /// Enters a point for the region that certainly holds the claim with the point's epoch: a head that was lost is
    /// sealed anew first. What it said of branches is lost with it, until it is repaired.
    ///
    /// # Errors
    /// As `seal_head` and `enter_head`.
    pub async fn enter_as_holder(&self, point: &Point) -> Result<Head, CatalogueError> {
        match self.enter_head(point, point.epoch, &point.region).await {
            Err(CatalogueError::Unsealed) => {
                self.seal_head(&point.namespace, &point.application, point.epoch, &point.region).await?;
                self.enter_head(point, point.epoch, &point.region).await
            }
            entered => entered,
        }
    }

    /// A head as it lies in the vault.
    ///
    /// # Panics
    /// Never: a head is plain data.
    pub(crate) fn signed_head(&self, namespace: &str, application: &str, head: &Head) -> Bytes {
        let json = serde_json::to_string(head).expect("a head is plain data");
        envelope::sign(self.keys(), Signed::Head, (namespace, application), &json)
    }

    /// Swaps the head: reads, asks what to make of it, writes; again when another writer was first.
    async fn change_head(
        &self,
        namespace: &str,
        application: &str,
        change: impl Fn(Option<Head>) -> Result<Change, CatalogueError>,
    ) -> Result<Head, CatalogueError> {
        let key = head_key(namespace, application);
        let mut pause = PAUSE;
        let mut sent: Vec<String> = Vec::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let spread = pause.mul_f64(rand::rng().random_range(0.5..1.5));
                tokio::time::sleep(spread).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            let found = self.read_head(namespace, application).await?;
            let (head, tag) = found.map_or((None, None), |(head, tag)| (Some(head), Some(tag)));
            // A write whose reply was lost has arrived.
            if let Some(head) = head.as_ref().filter(|head| sent.contains(&head.nonce)) {
                return Ok(head.clone());
            }
            let seq = head.as_ref().map_or(0, |head| head.seq);
            let head = match change(head)? {
                Change::Done(head) => return Ok(head),
                Change::Write(head) => Head { seq: seq + 1, nonce: Ulid::generate().to_string(), ..head },
            };
            let bytes = self.signed_head(namespace, application, &head);
            let condition = tag.as_deref().map_or(Condition::Absent, Condition::Unchanged);
            match self.store().put_if(&key, bytes, condition).await {
                Ok(_) => return Ok(head),
                Err(StoreError::Lost | StoreError::Unknown { .. }) => sent.push(head.nonce),
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogueError::Contended)
    }

    /// Writes a point, with the MAC of the application's key. Writing the same point again is a success.
    ///
    /// # Errors
    /// `Exists` when another point has its id, `Contended` when no outcome could be learnt, `Store`.
    ///
    /// # Panics
    /// Never: a point is plain data.
    pub async fn write_point(&self, point: &Point) -> Result<(), CatalogueError> {
        let key = point_key(&point.namespace, &point.application, &point.id);
        let json = serde_json::to_string(point).expect("a point is plain data");
        let bytes = envelope::sign(self.keys(), Signed::Point, (&point.namespace, &point.application), &json);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.store().put_if(&key, bytes.clone(), Condition::Absent).await {
                Ok(_) => return Ok(()),
                Err(error @ (StoreError::Lost | StoreError::Unknown { .. })) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
            match self.store().get(&key).await? {
                Some(object) if object.bytes == bytes => return Ok(()),
                Some(_) => return Err(CatalogueError::Exists { key }),
                None => {}
            }
        }
        Err(last.map_or(CatalogueError::Contended, CatalogueError::Store))
    }

    /// Reads a point and verifies that it was written with this vault's key, and under this id.
    ///
    /// # Errors
    /// `Absent`, `Corrupt`, `Format`, `Store`.
    pub async fn read_point(&self, namespace: &str, application: &str, id: &str) -> Result<Point, CatalogueError> {
        self.read_stored(namespace, application, id).await.map(|it| it.0)
    }

    /// The same, and the SHA-256 of its object, in hex.
    ///
    /// # Errors
    /// As `read_point`.
    pub async fn read_stored(
        &self,
        namespace: &str,
        application: &str,
        id: &str,
    ) -> Result<(Point, String), CatalogueError> {
        let key = point_key(namespace, application, id);
        let corrupt = |reason: &str| CatalogueError::Corrupt { key: key.clone(), reason: reason.to_owned() };
        let Some(object) = self.store().get(&key).await? else { return Err(CatalogueError::Absent { key }) };
        let whose = (namespace, application);
        let json = envelope::open(self.keys(), Signed::Point, whose, &object.bytes).map_err(corrupt)?;
        let point: Point = serde_json::from_str(json).map_err(|_| match format_of(json) {
            Some(found) if found > FORMAT => CatalogueError::Format { key: key.clone(), found },
            _ => corrupt("it is not a point"),
        })?;
        if point.format > FORMAT {
            return Err(CatalogueError::Format { key, found: point.format });
        }
        if point.id != id || point.namespace != namespace || point.application != application {
            return Err(corrupt("it is a copy of another point"));
        }
        Ok((point, hex(&Sha256::digest(&object.bytes))))
    }

    /// The ids of the newest `POINTS` points, newest first: by epoch, then by time. Only those after `begin` and
    /// before `end`, if they are given.
    ///
    /// # Errors
    /// `Store`, also when there are more points than can be looked through.
    pub async fn list_points(
        &self,
        namespace: &str,
        application: &str,
        begin: Option<&str>,
        end: Option<&str>,
    ) -> Result<Vec<String>, CatalogueError> {
        let prefix = format!("{}/points/", folder(namespace, application));
        let mut ids: VecDeque<String> = VecDeque::new();
        let mut after = begin.map(|id| format!("{prefix}{id}.json"));
        let mut seen = 0;
        loop {
            let page = self.store().page(&prefix, after.as_deref(), PAGE_LIMIT).await?;
            let last = page.len() < PAGE_LIMIT;
            seen += page.len();
            after = page.last().map(|entry| entry.key.clone());
            for entry in &page {
                if let Some(id) = entry.key.strip_prefix(&prefix).and_then(|name| name.strip_suffix(".json")) {
                    if end.is_some_and(|end| id >= end) {
                        return Ok(ids.into());
                    }
                    if ids.len() == POINTS {
                        ids.pop_back();
                    }
                    ids.push_front(id.to_owned());
                }
            }
            if last {
                return Ok(ids.into());
            }
            if seen >= POINTS_SEEN {
                return Err(StoreError::TooMany { prefix, limit: POINTS_SEEN }.into());
            }
        }
    }

    /// The applications that the vault knows, as namespace and name, in order.
    ///
    /// # Errors
    /// `Store`.
    pub async fn list_applications(&self) -> Result<Vec<(String, String)>, CatalogueError> {
        list_applications(self.store()).await.map_err(CatalogueError::Store)
    }
}

async fn list_applications(store: &Store) -> Result<Vec<(String, String)>, StoreError> {
    let mut applications = Vec::new();
    for namespace in store.names("apps/").await? {
        for name in store.names(&format!("apps/{namespace}/")).await? {
            applications.push((namespace.clone(), name));
        }
    }
    Ok(applications)
}

/// What is to become of a head.
enum Change {
    /// It is as it should be.
    Done(Head),
    /// This is to be written; `seq` and `nonce` are filled in.
    Write(Head),
}

fn format_of(json: &str) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    value.get("format")?.as_u64()?.try_into().ok()
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
