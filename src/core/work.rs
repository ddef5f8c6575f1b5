//! Work that outlasts one pass of the loop: requests to vaults, to DNS servers, whole captures.
//!
//! `Effect::Begin` starts it under the object's key and its own name; the next passes see its `Progress`. It lives
//! in the operator's memory: after a restart it is simply begun again, so each work is idempotent.

mod progress;

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;

pub use self::progress::{Failure, Progress, Seen, Works, doubled, retry_after, see};
use super::{
    app_key::AppKey,
    point::{Head, Objects, Point},
    verified::Verified,
};
use crate::api::{
    application::{Hook, ObjectSettings, Probe, RetainedPoint, Retention},
    mappings::{Mappings, ObjectSelector},
    recovery_point::Level,
    restore::PointChoice,
    restoring::OnConflict,
};

/// So many points that were passed over are named.
pub const REASONS: usize = 20;

/// So many of another region's points are shown in a cluster.
pub const IMPORTED: usize = 20;

/// A piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Open the vault, verify its key, and run the conformance self-test.
    TestVault {
        /// The `Vault`.
        vault: String,
    },
    /// Ask the vault which regions have opened it.
    ListRegions {
        /// The `Vault`.
        vault: String,
    },
    /// Ask the zone's server, and prove the key.
    TestZone {
        /// The `DnsZone`.
        zone: String,
    },
    /// Read the namespace's objects, and those of the cluster that it needs, and store them as a bundle.
    Capture {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Which of them.
        objects: ObjectSettings,
    },
    /// Run hooks in pods, one after the other.
    RunHooks {
        /// The application's namespace.
        namespace: String,
        /// Which they are.
        side: Side,
        /// What is run, in this order.
        hooks: Vec<Hook>,
        /// The name of the hold, the same before and after, and no other run's.
        hold: String,
        /// After so many seconds a pod releases itself.
        seconds: u64,
    },
    /// Write the point, then enter it in the head of the catalogue.
    CommitPoint {
        /// The `Vault`.
        vault: String,
        /// The point.
        point: Box<Point>,
    },
    /// Read which epoch the head of the catalogue is sealed with.
    ReadHead {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
    },
    /// Read which point the head of the catalogue names, and which there are: the newest ones.
    ReadLatest {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// What was found the last time: as long as the head is the same, nothing else is read.
        known: Option<Box<Catalogue>>,
    },
    /// Read a point.
    ReadPoint {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Its name in the vault.
        id: String,
    },
    /// Read what was found out about the points that this cluster shows.
    ReadNotes {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
    },
    /// Write down at a point that it was rehearsed well.
    NoteRehearsal {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Which.
        point: String,
        /// What was done, for people.
        detail: String,
        /// How long the restore took.
        seconds: u64,
    },
    /// Read which point the head names in each of some vaults, and of when it is.
    ReadCopies {
        /// The `Vault`s.
        vaults: Vec<String>,
        /// Whose.
        application: AppKey,
    },
    /// Seal the head with the new epoch.
    SealCatalogue {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// The epoch.
        epoch: u64,
    },
    /// Read the points, newest first, until one is good.
    SurveyPoints {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Only points that are older: this one was passed over, and so was every newer one that is not good.
        older_than: Option<String>,
        /// Only points that were checked so far, or further.
        minimum: Level,
    },
    /// Read the point that is wanted.
    FindPoint {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Which.
        choice: PointChoice,
        /// Where none is named, only points that are older: this one was passed over.
        older_than: Option<String>,
    },
    /// Go through all points, and say which are to be dropped.
    ReviewPoints {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Which are kept.
        policy: Box<Retention>,
        /// Points that a run in this cluster restores.
        in_use: Vec<String>,
        /// Only while this region holds the claim with this epoch.
        epoch: u64,
    },
    /// Delete points from the vault.
    DropPoints {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Which.
        ids: Vec<String>,
        /// Only while this region holds the claim with this epoch.
        epoch: u64,
    },
    /// Go through the points of a vault that they are copied into, and say which are to be dropped.
    ReviewCopy {
        /// The `Vault`.
        vault: String,
        /// The first `Vault`: what is held there is held.
        first: String,
        /// Whose.
        application: AppKey,
        /// Which are kept.
        policy: Box<Retention>,
        /// The newest point in it.
        newest: String,
        /// Only while this region holds the claim with this epoch.
        epoch: u64,
    },
    /// Delete points from a vault that they are copied into.
    DropCopies {
        /// The `Vault`.
        vault: String,
        /// The first `Vault`: what is held there is held.
        first: String,
        /// Whose.
        application: AppKey,
        /// Which.
        ids: Vec<String>,
        /// Only while this region holds the claim with this epoch.
        epoch: u64,
    },
    /// Go on with a round over an application's objects, which extends locks that are short.
    ExtendLocks {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// When the round began.
        began: Timestamp,
        /// The last object that was looked at in it.
        after: Option<String>,
    },
    /// Have retention leave a point alone, or no longer.
    SetHold {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// Which.
        point: String,
        /// Whether it is held.
        held: bool,
    },
    /// Bring the objects of a point back, workloads last, and start them.
    RestoreObjects {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// The namespace that they go to.
        into: String,
        /// The bundle.
        manifest: String,
        /// What is changed in them.
        mappings: Box<Mappings>,
        /// Only these objects. None: all of them.
        only: Vec<ObjectSelector>,
        /// What becomes of objects that are there and say something else.
        on_conflict: OnConflict,
        /// Only while this region holds the claim with this epoch. `None`: into another namespace, which no claim is about.
        epoch: Option<u64>,
        /// Whether nothing of it may reach out of the namespace, as in a rehearsal.
        isolated: bool,
    },
    /// Look what would become of the objects if those of a point were brought back. Changes nothing.
    PlanObjects {
        /// The `Vault`.
        vault: String,
        /// Whose.
        application: AppKey,
        /// The namespace that they would go to.
        into: String,
        /// The bundle.
        manifest: String,
        /// What would be changed in them.
        mappings: Box<Mappings>,
        /// Only these objects. None: all of them.
        only: Vec<ObjectSelector>,
        /// What would become of objects that are there and say something else.
        on_conflict: OnConflict,
    },
    /// Start what was stopped here, as it was.
    StartWorkloads {
        /// Whose.
        application: AppKey,
        /// Only while this region holds the claim with this epoch.
        epoch: u64,
    },
    /// Ask the application's probes once.
    Ask {
        /// The probes that can be asked from anywhere.
        probes: Vec<Probe>,
        /// The public name, and the address to ask instead of what DNS says.
        at: Option<(String, IpAddr)>,
    },
    /// Give the public name an address, under an epoch.
    Publish {
        /// What is published.
        publication: Publication,
        /// Whose.
        application: AppKey,
        /// The `Vault` whose identity marks the owner.
        vault: String,
    },
}

impl Work {
    /// Its name under the object that began it: at most one of a name goes on at a time.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TestVault { .. } => "TestVault",
            Self::ListRegions { .. } => "ListRegions",
            Self::TestZone { .. } => "TestZone",
            Self::Capture { .. } => "Capture",
            Self::RunHooks { side, .. } => side.work_name(),
            Self::CommitPoint { .. } => "CommitPoint",
            Self::ReadHead { .. } => "ReadHead",
            Self::ReadLatest { .. } => "ReadLatest",
            Self::ReadCopies { .. } => "ReadCopies",
            Self::ReadPoint { .. } => "ReadPoint",
            Self::ReadNotes { .. } => "ReadNotes",
            Self::NoteRehearsal { .. } => "NoteRehearsal",
            Self::SealCatalogue { .. } => "SealCatalogue",
            Self::SurveyPoints { .. } => "SurveyPoints",
            Self::FindPoint { .. } => "FindPoint",
            Self::ReviewPoints { .. } => "ReviewPoints",
            Self::DropPoints { .. } => "DropPoints",
            Self::ReviewCopy { .. } => "ReviewCopy",
            Self::DropCopies { .. } => "DropCopies",
            Self::ExtendLocks { .. } => "ExtendLocks",
            Self::SetHold { .. } => "SetHold",
            Self::RestoreObjects { .. } => "RestoreObjects",
            Self::PlanObjects { .. } => "PlanObjects",
            Self::StartWorkloads { .. } => "StartWorkloads",
            Self::Ask { .. } => "Ask",
            Self::Publish { .. } => "Publish",
        }
    }

    /// The application and epoch whose claim must be valid at the moment it begins.
    ///
    /// The catalogue and DNS are fenced by themselves as well: their compare-and-swap refuses an older epoch.
    #[must_use]
    pub fn needs_claim(&self) -> Option<(&AppKey, u64)> {
        match self {
            Self::RestoreObjects { application, epoch, .. } => epoch.map(|epoch| (application, epoch)),
            Self::SealCatalogue { application, epoch, .. }
            | Self::ReviewPoints { application, epoch, .. }
            | Self::DropPoints { application, epoch, .. }
            | Self::ReviewCopy { application, epoch, .. }
            | Self::DropCopies { application, epoch, .. }
            | Self::StartWorkloads { application, epoch } => Some((application, *epoch)),
            Self::Publish { application, publication, .. } => Some((application, publication.epoch)),
            Self::TestVault { .. }
            | Self::ListRegions { .. }
            | Self::TestZone { .. }
            | Self::Capture { .. }
            | Self::RunHooks { .. }
            | Self::CommitPoint { .. }
            | Self::ReadHead { .. }
            | Self::ReadLatest { .. }
            | Self::ReadCopies { .. }
            | Self::ReadPoint { .. }
            | Self::ReadNotes { .. }
            | Self::NoteRehearsal { .. }
            | Self::SurveyPoints { .. }
            | Self::FindPoint { .. }
            | Self::ExtendLocks { .. }
            | Self::SetHold { .. }
            | Self::PlanObjects { .. }
            | Self::Ask { .. } => None,
        }
    }
}

/// On which side of the snapshots hooks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before: they quiesce.
    Before,
    /// After: they release.
    After,
}

impl Side {
    /// The name of the work that runs them.
    #[must_use]
    pub fn work_name(self) -> &'static str {
        match self {
            Self::Before => "HooksBefore",
            Self::After => "HooksAfter",
        }
    }
}

/// A record to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The `DnsZone`.
    pub zone: String,
    /// The public name.
    pub hostname: String,
    /// An IP address, or a host name (published as CNAME).
    pub address: String,
    /// Seconds.
    pub ttl: u64,
    /// The epoch of the claim.
    pub epoch: u64,
}

/// What a region that makes no points sees of those that are made elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The version of the head that the rest was read with.
    pub version: String,
    /// The newest point that counts, and the instant of its data.
    pub latest: Option<(String, Timestamp)>,
    /// The names of the newest `IMPORTED` points, newest first, whatever they are.
    pub newest: Vec<String>,
}

/// What came of a piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of `TestVault`.
    VaultTested {
        /// The vault's own identity.
        id: String,
        /// What the self-test found wrong. Empty when it can be trusted with claims.
        failures: Vec<String>,
        /// Regions that have opened it.
        regions: Vec<String>,
        /// The id of the key that this region opens it with.
        key: String,
        /// The ids of all keys that open it.
        keys: Vec<String>,
        /// What is wrong with locks. `None`: none are asked for.
        locks: Option<Vec<String>>,
    },
    /// Of `ListRegions`.
    Regions(Vec<String>),
    /// Of `Capture`.
    Captured {
        /// What was stored.
        objects: Objects,
        /// When the first list was sent.
        at: Timestamp,
        /// Kinds that could not be read, with the reason.
        failed: Vec<String>,
        /// How many were left out, by rule.
        left_out: Vec<String>,
    },
    /// Of `RunHooks`.
    HooksRan {
        /// What failed that must not.
        failure: Option<String>,
        /// Hooks whose pods were not held any more when they were released: what was read meanwhile was not quiet.
        lapsed: Option<String>,
        /// What else failed.
        notes: Vec<String>,
    },
    /// Of `ReadHead`: the epoch, if there is a head.
    HeadRead(Option<u64>),
    /// Of `ReadLatest`. `None` when the catalogue was never sealed.
    Latest(Option<Box<Catalogue>>),
    /// Of `ReadCopies`: by vault, the point and the instant of its data. Vaults that could not be read are not in it.
    CopiesRead(BTreeMap<String, (String, Timestamp)>),
    /// Of `ReadPoint`: the point, and what was found out about it since.
    PointRead(Box<Point>, Option<Box<Verified>>),
    /// Of `SealCatalogue`.
    Sealed(Head),
    /// Of `SurveyPoints` and `FindPoint`.
    Surveyed {
        /// The newest good point.
        chosen: Option<Box<Point>>,
        /// Newer ones that are not good, with the reason, newest first: the last `REASONS`, after a line about the rest.
        passed_over: Vec<String>,
    },
    /// Of `ReviewPoints` and `ReviewCopy`.
    Reviewed(Box<Review>),
    /// Of `DropPoints` and `DropCopies`.
    Dropped {
        /// Which are gone.
        dropped: Vec<String>,
        /// Which the vault refused to delete.
        refused: Vec<String>,
    },
    /// Of `ExtendLocks`.
    LocksExtended {
        /// The last object that was looked at. `None`: the round is complete.
        after: Option<String>,
        /// How many were looked at in this step.
        objects: u64,
    },
    /// Of `CommitPoint`.
    Committed {
        /// Until when the point itself, its objects and the lists of its files are locked, as read back. `None`: some are
        /// not.
        locked_until: Option<Timestamp>,
    },
    /// Of `RestoreObjects`.
    ObjectsRestored {
        /// How many are as in the point.
        restored: u64,
        /// How many are not.
        not_restored_count: u64,
        /// Which, with the reason: the first of them.
        not_restored: Vec<String>,
        /// What else people may want to know.
        notes: Vec<String>,
    },
    /// Of `PlanObjects`. Nothing was changed.
    ObjectsPlanned {
        /// How many would be made.
        created: u64,
        /// How many would be changed.
        updated: u64,
        /// How many are as in the point.
        unchanged: u64,
        /// Those that would be made or changed: the first of them.
        changes: Vec<String>,
        /// Those that would not be restored, with the reason: the first of them.
        not_restored: Vec<String>,
    },
    /// Of `Ask`: what was bad. Empty when all is well.
    Answered(Vec<String>),
    /// Of `TestZone`, `SetHold`, `ReadNotes`, `NoteRehearsal`, `StartWorkloads` and `Publish`.
    Done,
}

/// What retention found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Review {
    /// How many points are kept.
    pub kept: u64,
    /// The newest of them, and why.
    pub points: Vec<RetainedPoint>,
    /// What is to be dropped, oldest first.
    pub drop: Vec<String>,
    /// Why nothing is dropped, though it could be.
    pub suspended: Option<String>,
}
