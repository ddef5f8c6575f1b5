//! What lies in a vault about recovery points: the point, and the head of an application's catalogue.
//!
//! Data only. How they are stored is `vault::catalogue`; which one is taken is `operator::work::restore`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::Link;

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// One recovery point, written once and never changed: `apps/<ns>/<name>/points/<id>.json`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The format it is written in.
    pub format: u32,
    /// `<epoch, 10 digits>-<ULID>`: sorts by epoch, then by time.
    pub id: String,
    /// The application's namespace.
    pub namespace: String,
    /// The `ProtectedApplication`'s name.
    pub application: String,
    /// The epoch of the claim that it was made under.
    pub epoch: u64,
    /// The region that made it.
    pub region: String,
    /// What a region had written that lost the claim: never chosen by itself.
    pub branch: bool,
    /// The instant that its data is of: the RPO counts from here.
    pub consistent_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
    /// The Kubernetes objects.
    pub objects: Objects,
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// Claims whose data is not in it, as was asked for or since they hold none.
    pub skipped: Vec<Skipped>,
    /// The dumps. What loads them stands in the application's spec, not here: a vault gives nobody commands to run.
    pub dumps: Vec<Dump>,
    /// What is missing. Empty when the point is complete; it does not count for the RPO otherwise.
    pub missing: Vec<String>,
    /// Why its sources look as if something had emptied them. It does not count for the RPO then, is not chosen by
    /// itself, and retention drops nothing while it is the newest.
    pub suspicious: Vec<String>,
    /// Until when it is to be locked as the first good point of a day, week, month or year: retention keeps it so long.
    pub lock_until: Option<Timestamp>,
    /// The point that the head named when this one was written: a chain, in which is noticed what is gone. Branches have
    /// none, nor has the first point.
    pub previous: Option<Link>,
}

impl Point {
    /// Every snapshot that it needs, each after the claim or the dump that it is of.
    pub fn snapshots(&self) -> impl Iterator<Item = (&str, &str)> {
        let volumes = self.volumes.iter().map(|it| (it.claim.as_str(), it.snapshot.as_str()));
        volumes.chain(self.dumps.iter().map(|it| (it.name.as_str(), it.snapshot.as_str())))
    }

    /// Whether every declared source is in it.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether it counts for the RPO, and may be chosen by itself.
    #[must_use]
    pub fn good(&self) -> bool {
        self.complete() && self.suspicious.is_empty() && !self.branch
    }
}

/// Whether a point can have this name: 10 digits, and a ULID. What is read from a list may be anything.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let ulid = |it: &str| it.len() == 26 && it.bytes().all(|it| it.is_ascii_digit() || it.is_ascii_uppercase());
    let epoch = |it: &str| it.len() == 10 && it.bytes().all(|it| it.is_ascii_digit());
    id.split_once('-').is_some_and(|(first, second)| epoch(first) && ulid(second))
}

/// The Kubernetes objects of a point: `apps/<ns>/<name>/manifests/<manifest>`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// SHA-256 of the bundle before encryption, in hex.
    pub manifest: String,
    /// How many objects of the namespace.
    pub count: u64,
    /// Bytes in the vault.
    pub bytes: u64,
}

/// A volume of a point, and all that is needed to make its like elsewhere.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The `PersistentVolumeClaim`.
    pub claim: String,
    /// The snapshot in the application's repository.
    pub snapshot: String,
    /// Requested size, as a Kubernetes quantity.
    pub size: String,
    /// Its storage class, if it named one.
    pub storage_class: Option<String>,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// Whether it is a block device, and not a file system.
    pub block: bool,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What was left out on request, by these patterns. A restore leaves it alone.
    pub exclude: Vec<String>,
    /// How many files and directories they left out, each directory with what is in it.
    pub excluded: u64,
    /// How many directories were left out but for their `.nobackup`.
    pub no_backup: u64,
}

/// A claim without its data, and all that is needed to make it anew.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// The `PersistentVolumeClaim`.
    pub claim: String,
    /// Requested size, as a Kubernetes quantity.
    pub size: String,
    /// Its storage class, if it named one.
    pub storage_class: Option<String>,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// Whether it is a block device, and not a file system.
    pub block: bool,
    /// Why its data is not in the point.
    pub why: String,
    /// The dump that stands for it.
    pub dump: Option<String>,
}

/// A `ProtectedApplication`, as a point records it: enough to make it again where nothing is left of it. No restore
/// does that by itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Protection {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What it declares.
    pub spec: Value,
}

/// A dump of a point: what a database wrote of itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    /// Its name in the application's `backup.dumps`.
    pub name: String,
    /// The snapshot in the application's repository, of one file. Points may share it.
    pub snapshot: String,
    /// When its command was started.
    pub consistent_at: Timestamp,
    /// Its bytes.
    pub bytes: u64,
}

/// The head of an application's catalogue: `apps/<ns>/<name>/head.json`, changed by compare-and-swap only.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The format it is written in.
    pub format: u32,
    /// Only points of this epoch may enter.
    pub epoch: u64,
    /// The region that sealed it with that epoch.
    pub sealed_by: String,
    /// Rises by one with each version.
    pub seq: u64,
    /// Fresh in each version, since some servers' tags follow the content.
    pub nonce: String,
    /// The newest point that entered.
    pub latest: Option<String>,
    /// Points that were saved by regions that had lost the claim.
    pub branches: Vec<String>,
}

/// When a point of this id was begun. `None` for what is no point's name.
#[must_use]
pub fn begun_at(id: &str) -> Option<Timestamp> {
    let ulid = ulid::Ulid::from_string(id.split_once('-')?.1).ok()?;
    Timestamp::from_millisecond(i64::try_from(ulid.timestamp_ms()).ok()?).ok()
}

/// A point with nothing in it.
#[cfg(test)]
pub(crate) fn example(namespace: &str, application: &str) -> Point {
    Point {
        format: FORMAT,
        id: format!("{:010}-{:026}", 1, 0),
        namespace: namespace.to_owned(),
        application: application.to_owned(),
        epoch: 1,
        region: "east".to_owned(),
        branch: false,
        consistent_at: Timestamp::UNIX_EPOCH,
        created_at: Timestamp::UNIX_EPOCH,
        objects: Objects { manifest: "00".to_owned(), count: 1, bytes: 2 },
        volumes: Vec::new(),
        dumps: Vec::new(),
        skipped: Vec::new(),
        missing: Vec::new(),
        suspicious: Vec::new(),
        lock_until: None,
        previous: None,
    }
}
