//! What is missing in a vault, from what was found in it; and what a head must say that is made anew.
//!
//! Pure. `inspect::check` gathers what is judged here, and `vault::head_repair` writes the head.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::point::{Head, Point};

/// A point enters the head a moment after it was written: it is not missed before that is over.
const ENTERING: SignedDuration = SignedDuration::from_mins(2);
/// The most ids that one finding names.
const NAMED: usize = 20;

/// What a check of a vault found.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The vault's own identity.
    pub vault_id: String,
    /// Its applications, by namespace and name.
    pub applications: Vec<Checked>,
}

/// What was found of one application.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many of its points were read: the newest ones.
    pub points: usize,
    /// How many older ones were not.
    pub unread: usize,
    /// How many of those that were read have all that was looked for.
    pub whole: usize,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What was repaired of that.
    pub repaired: Vec<String>,
    /// At how many points damage was noted that was not known.
    pub noted: usize,
    /// What could not be looked at, and why.
    pub doubts: Vec<String>,
}

/// Something that is wrong with what a vault holds of an application.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Finding {
    /// There are points, and no head.
    NoHead,
    /// The head is no head.
    HeadDamaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The head has a lower epoch than a point, or than the claim.
    HeadEpoch {
        /// The head's.
        head: u64,
        /// What it must be at least.
        known: u64,
    },
    /// The head names an older point than there is, or one that is not there.
    HeadLatest {
        /// What it names.
        head: Option<String>,
        /// The newest that counts.
        newest: Option<String>,
    },
    /// There are points, and no claim.
    NoClaim,
    /// A point is not what was written.
    PointDamaged {
        /// Its id.
        point: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Points name objects that are not there, or are damaged.
    Manifest {
        /// The manifest.
        manifest: String,
        /// What is wrong with it.
        reason: String,
        /// The points, newest first: at most 20.
        points: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// Points name a volume's snapshot that is not there, or is damaged.
    Snapshot {
        /// The snapshot.
        snapshot: String,
        /// The `PersistentVolumeClaim`.
        claim: String,
        /// What is wrong with it.
        reason: String,
        /// The points, newest first: at most 20.
        points: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A point was found damaged before, by a scrub or by who needed it, and was not found whole since.
    Noted {
        /// The point.
        point: String,
        /// What is wrong with it, and since when.
        damage: String,
    },
    /// Points are gone that nobody dropped.
    Missing {
        /// The points, newest first: at most 20.
        points: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A point is not the one that the next one names.
    Replaced {
        /// The point.
        point: String,
        /// The next one.
        named_by: String,
    },
    /// The list of the points that stay is not what was written.
    KeptDamaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The repository's index names packs that are not there.
    Packs {
        /// Some of them: at most 20.
        packs: Vec<String>,
        /// How many there are.
        count: usize,
    },
}

impl Finding {
    /// Whether a new head mends it.
    #[must_use]
    pub fn of_head(&self) -> bool {
        match self {
            Self::NoHead | Self::HeadDamaged { .. } | Self::HeadEpoch { .. } | Self::HeadLatest { .. } => true,
            Self::NoClaim
            | Self::PointDamaged { .. }
            | Self::Manifest { .. }
            | Self::Snapshot { .. }
            | Self::Noted { .. }
            | Self::Missing { .. }
            | Self::Replaced { .. }
            | Self::KeptDamaged { .. }
            | Self::Packs { .. } => false,
        }
    }
}

/// The head of an application, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadSeen {
    /// There is none.
    Absent,
    /// It is no head.
    Damaged(String),
    /// It is one.
    Sound(Head),
}

/// The claim, as far as it matters to the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFacts {
    /// Its epoch.
    pub epoch: u64,
    /// The region that holds it, or held it before it gave it up.
    pub region: Option<String>,
}

/// All that was read of one application.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The head.
    pub head: HeadSeen,
    /// The claim. `None` when there is none, or when it was not read.
    pub claim: Option<ClaimFacts>,
    /// The newest points, newest first; why not, if one is not what was written.
    pub points: Vec<(String, Result<Point, String>)>,
    /// How many older ones there are.
    pub unread: usize,
    /// Whether the claim was read, so that its absence tells something.
    pub claim_known: bool,
    /// The manifests that are there. `None` when they could not be listed.
    pub manifests: Option<BTreeSet<String>>,
    /// The snapshots that are there. `None` when they could not be listed.
    pub snapshots: Option<BTreeSet<String>>,
    /// Manifests and snapshots that are there, and are not what was written.
    pub damaged: BTreeMap<String, String>,
    /// Packs that the index names and that are not there.
    pub missing_packs: Vec<String>,
    /// Snapshots that need one of these.
    pub lacking: BTreeSet<String>,
    /// What was noted of damaged points before, by point.
    pub noted: BTreeMap<String, String>,
    /// Points that are to be there and are not, newest first.
    pub missing: Vec<String>,
    /// The digests of the points that were read, by point.
    pub digests: BTreeMap<String, String>,
    /// What is wrong with the list of points that stay.
    pub kept_damaged: Option<String>,
}

impl Contents {
    fn sound(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter_map(|(_, point)| point.as_ref().ok())
    }

    /// The newest point that a head names: complete, and no branch.
    fn newest(&self) -> Option<&Point> {
        self.sound().find(|it| it.complete() && !it.branch)
    }

    fn known_epoch(&self) -> u64 {
        let points = self.sound().map(|it| it.epoch).max().unwrap_or(0);
        points.max(self.claim.as_ref().map_or(0, |it| it.epoch))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.judge_head(now, &mut findings);
        if self.claim_known && self.claim.is_none() && !self.points.is_empty() {
            findings.push(Finding::NoClaim);
        }
        for (point, read) in &self.points {
            if let Err(reason) = read {
                findings.push(Finding::PointDamaged { point: point.clone(), reason: reason.clone() });
            }
        }
        for (manifest, (reason, of)) in self.bad_manifests() {
            let (points, count) = (of.iter().take(NAMED).cloned().collect(), of.len());
            findings.push(Finding::Manifest { manifest, reason, points, count });
        }
        for ((snapshot, claim), (reason, of)) in self.bad_snapshots() {
            let (points, count) = (of.iter().take(NAMED).cloned().collect(), of.len());
            findings.push(Finding::Snapshot { snapshot, claim, reason, points, count });
        }
        self.judge_chain(&mut findings);
        for (point, damage) in &self.noted {
            findings.push(Finding::Noted { point: point.clone(), damage: damage.clone() });
        }
        if !self.missing_packs.is_empty() {
            let packs = self.missing_packs.iter().take(NAMED).cloned().collect();
            findings.push(Finding::Packs { packs, count: self.missing_packs.len() });
        }
        findings
    }

    fn judge_chain(&self, findings: &mut Vec<Finding>) {
        if !self.missing.is_empty() {
            let points = self.missing.iter().take(NAMED).cloned().collect();
            findings.push(Finding::Missing { points, count: self.missing.len() });
        }
        for (point, link) in self.sound().filter_map(|it| Some((it, it.previous.as_ref()?))) {
            if self.digests.get(&link.id).is_some_and(|it| *it != link.digest) {
                findings.push(Finding::Replaced { point: link.id.clone(), named_by: point.id.clone() });
            }
        }
        findings.extend(self.kept_damaged.iter().map(|reason| Finding::KeptDamaged { reason: reason.clone() }));
    }

    /// The points that others name: as the one before, or as a branch.
    #[must_use]
    pub fn named(&self) -> BTreeSet<String> {
        let branches = match &self.head {
            HeadSeen::Sound(head) => &head.branches[..],
            HeadSeen::Absent | HeadSeen::Damaged(_) => &[],
        };
        let before = self.sound().filter_map(|it| it.previous.as_ref().map(|it| it.id.clone()));
        before.chain(branches.iter().cloned()).collect()
    }

    fn judge_head(&self, now: Timestamp, findings: &mut Vec<Finding>) {
        let head = match &self.head {
            HeadSeen::Absent if self.points.is_empty() => return,
            HeadSeen::Absent => return findings.push(Finding::NoHead),
            HeadSeen::Damaged(reason) => return findings.push(Finding::HeadDamaged { reason: reason.clone() }),
            HeadSeen::Sound(head) => head,
        };
        // The claim is taken a moment before the head is sealed, so only points tell that it is behind.
        let known = self.sound().map(|it| it.epoch).max().unwrap_or(0);
        if head.epoch < known {
            findings.push(Finding::HeadEpoch { head: head.epoch, known });
        }
        let newest = self.newest().filter(|it| it.created_at + ENTERING <= now);
        let behind = newest.is_some_and(|it| head.latest.as_ref().is_none_or(|latest| *latest < it.id));
        if behind || self.gone().is_some() {
            let newest = self.newest().map(|it| it.id.clone());
            findings.push(Finding::HeadLatest { head: head.latest.clone(), newest });
        }
    }

    /// The point that the head names, if it is not there. Older ones than were read may be there all the same.
    fn gone(&self) -> Option<&String> {
        let HeadSeen::Sound(Head { latest: Some(latest), .. }) = &self.head else { return None };
        // What is older than all that were read may be among those that were not.
        let among = self.unread == 0 || self.points.last().is_some_and(|(oldest, _)| latest > oldest);
        (among && !self.points.iter().any(|(id, _)| id == latest)).then_some(latest)
    }

    fn bad_manifests(&self) -> BTreeMap<String, (String, Vec<String>)> {
        let mut bad: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
        for point in self.sound() {
            let manifest = &point.objects.manifest;
            if let Some(reason) = self.wrong(manifest, self.manifests.as_ref()) {
                bad.entry(manifest.clone()).or_insert((reason, Vec::new())).1.push(point.id.clone());
            }
        }
        bad
    }

    fn bad_snapshots(&self) -> BTreeMap<(String, String), (String, Vec<String>)> {
        let mut bad: BTreeMap<(String, String), (String, Vec<String>)> = BTreeMap::new();
        for point in self.sound() {
            for (of, snapshot) in point.snapshots() {
                if let Some(reason) = self.wrong(snapshot, self.snapshots.as_ref()) {
                    let key = (snapshot.to_owned(), of.to_owned());
                    bad.entry(key).or_insert((reason, Vec::new())).1.push(point.id.clone());
                }
            }
        }
        bad
    }

    fn wrong(&self, name: &str, there: Option<&BTreeSet<String>>) -> Option<String> {
        if there.is_some_and(|it| !it.contains(name)) {
            return Some("it is not there".to_owned());
        }
        self.damaged.get(name).cloned()
    }

    /// How many of the points that were read have all that was looked for.
    #[must_use]
    pub fn whole(&self) -> usize {
        let noted = |it: &Point| self.noted.contains_key(&it.id);
        self.sound().filter(|it| !noted(it) && self.lacks(it).is_empty()).count()
    }

    /// The points that lack something, each with what.
    pub fn damaged_points(&self) -> impl Iterator<Item = (&Point, Vec<String>)> {
        self.sound().map(|it| (it, self.lacks(it))).filter(|(_, lacks)| !lacks.is_empty())
    }

    fn lacks(&self, point: &Point) -> Vec<String> {
        let objects = self.wrong(&point.objects.manifest, self.manifests.as_ref());
        let objects = objects.map(|why| format!("its objects: {why}"));
        let snapshots = point.snapshots().filter_map(|(of, snapshot)| {
            let why = self.wrong(snapshot, self.snapshots.as_ref());
            let lacking = || self.lacking.contains(snapshot).then(|| "packs are missing".to_owned());
            Some(format!("{of}: {}", why.or_else(lacking)?))
        });
        objects.into_iter().chain(snapshots).collect()
    }

    /// What the head must say, from the signed points. It is sealed with the highest epoch that anything tells of, so
    /// that a region which lost the claim cannot enter it. `None` when nothing tells who sealed it.
    #[must_use]
    pub fn rebuilt(&self) -> Option<Rebuilt> {
        let newest_epoch = self.sound().map(|it| (it.epoch, it.region.clone())).max();
        let claimed = self.claim.as_ref().and_then(|it| Some((it.epoch, it.region.clone()?)));
        let (epoch, sealed_by) = match (newest_epoch, claimed) {
            // Who made a point of an epoch held it: that is signed, and the claim is not.
            (Some(point), Some(claim)) => {
                if claim.0 > point.0 {
                    claim
                } else {
                    point
                }
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        if epoch < self.known_epoch() {
            return None;
        }
        let branches: Vec<String> = self.sound().filter(|it| it.branch).map(|it| it.id.clone()).collect();
        Some(Rebuilt {
            epoch,
            sealed_by,
            latest: self.newest().map(|it| it.id.clone()),
            gone: self.gone().cloned(),
            branches: branches.into_iter().rev().collect(),
        })
    }
}

/// What a head must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// At least this epoch.
    pub epoch: u64,
    /// The region that it is sealed by, if the epoch is this one.
    pub sealed_by: String,
    /// At least this point.
    pub latest: Option<String>,
    /// A point that the head names, and that is not there.
    pub gone: Option<String>,
    /// At least these branches, oldest first.
    pub branches: Vec<String>,
}

impl Rebuilt {
    /// The head that says it, made of what is there. Nothing that a sound head says is taken back, but the name of a
    /// point that is gone.
    #[must_use]
    pub fn over(&self, head: Option<Head>, most_branches: usize) -> Head {
        let mut head = head.unwrap_or_else(|| Head {
            format: super::point::FORMAT,
            epoch: 0,
            sealed_by: String::new(),
            seq: 0,
            nonce: String::new(),
            latest: None,
            branches: Vec::new(),
        });
        if self.epoch > head.epoch {
            head.epoch = self.epoch;
            head.sealed_by.clone_from(&self.sealed_by);
        }
        if head.latest == self.gone || head.latest < self.latest {
            head.latest.clone_from(&self.latest);
        }
        let missing: Vec<String> = self.branches.iter().filter(|it| !head.branches.contains(it)).cloned().collect();
        if !missing.is_empty() {
            head.branches.extend(missing);
            head.branches.sort();
            let surplus = head.branches.len().saturating_sub(most_branches);
            head.branches.drain(..surplus);
        }
        head
    }
}
