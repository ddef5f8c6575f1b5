//! Where recovery points go, how they are made, and how long they are kept.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CopySettings, Dump, Hooks, ObjectSelector, ObjectSettings, seconds};
use crate::api::span::Span;

/// Where recovery points go, and how volumes are read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.volumes) || !has(self.volumes.overrides) || self.volumes.overrides.all(it, !has(it.dump) || (has(self.dumps) && self.dumps.exists(one, one.name == it.dump && (!has(one.loadOnRestore) || one.loadOnRestore != 'Never'))))").message("each dump in backup.volumes.overrides must be the name of one of backup.dumps whose loadOnRestore is not Never: nothing else brings the volume's data back"))]
#[x_kube(validation = Rule::new("!has(self.copies) || self.copies.all(it, it.vault != self.vaults[0])").message("backup.copies: a copy goes into another vault than the one in backup.vaults"))]
pub struct BackupSettings {
    /// The name of the `Vault` that holds its points, and the claim on which the regions agree. Exactly one.
    #[schemars(length(min = 1, max = 1))]
    pub vaults: Vec<String>,
    /// Other vaults, into which its points are copied. A point is good without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vault".into()]))]
    #[schemars(length(max = 4))]
    pub copies: Vec<CopySettings>,
    /// How its volumes are read.
    #[serde(default)]
    pub volumes: VolumeSettings,
    /// Which Kubernetes objects are kept.
    #[serde(default)]
    pub objects: ObjectSettings,
    /// What databases write of themselves, beside their volumes or instead of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub dumps: Vec<Dump>,
    /// Commands around the instant of the snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Which points are kept. Without it every point is kept, and nothing is ever deleted from the vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// A scheduled point is suspicious when a source has less than so many per cent of what the last good points had:
    /// it does not count, until a `RecoveryPoint` made by hand says that this is meant. `0` switches this off.
    /// Default 20.
    #[serde(default = "twenty")]
    #[schemars(range(max = 99))]
    pub suspect_below_percent: u8,
    /// How much of what is stored is read back, and how often.
    #[serde(default)]
    pub verification: VerificationSettings,
}

/// Which points are kept: each rule keeps some, and what no rule keeps is deleted. Days, weeks (from Monday), months
/// and years are those of UTC; of each, the newest good point is kept. Never deleted are the newest good point,
/// branches, points with `spec.hold`, and what is younger than a day.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.last), has(self.hourly), has(self.daily), has(self.weekly), has(self.monthly), has(self.yearly), has(self.within)].exists(it, it)").message("backup.retention needs at least one of last, hourly, daily, weekly, monthly, yearly and within: leave retention out to keep every point"))]
pub struct Retention {
    /// The newest so many good points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub last: Option<u32>,
    /// One for each of the newest so many hours that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub hourly: Option<u32>,
    /// One for each of the newest so many days that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub daily: Option<u32>,
    /// One for each of the newest so many weeks that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weekly: Option<u32>,
    /// One for each of the newest so many months that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub monthly: Option<u32>,
    /// One for each of the newest so many years that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub yearly: Option<u32>,
    /// Every good point that is no older than this, counted from the newest good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$')").message("backup.retention.within must be a length of time such as 36h or 30d"))]
    pub within: Option<Span>,
}

const fn twenty() -> u8 {
    20
}

/// How much of what is stored is read back, and how often: a share each time, another one each time, until all of it
/// was read, and then from the beginning. What was copied into other vaults is read back there in the same way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSettings {
    /// How often a share is read. Default `24h`.
    #[serde(default = "seconds::<86_400>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("backup.verification.every must be at least 1h"))]
    pub every: Span,
    /// How large a share is, in per cent of the packs: with 5, all of them were read after 20 times. `0` switches it
    /// off. Default 5.
    #[serde(default = "five")]
    #[schemars(range(max = 100))]
    pub share_percent: u8,
    /// Restore the newest point now and then into a namespace that is made for it, and see whether the application works
    /// there (`spec.rehearse` of a `Restore`). Without it, only by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearse: Option<RehearseSettings>,
}

/// How often a point is rehearsed, and where.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RehearseSettings {
    /// How often. Default `168h`: a week.
    #[serde(default = "seconds::<604_800>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("backup.verification.rehearse.every must be at least 1h"))]
    pub every: Span,
    /// The region. Default: the first of `spec.regions` that does not serve, or the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
}

impl Default for VerificationSettings {
    fn default() -> Self {
        Self { every: Span::from_secs(86_400), share_percent: five(), rehearse: None }
    }
}

impl VerificationSettings {
    /// In how many rounds everything is read; `None` when nothing is.
    #[must_use]
    pub fn parts(&self) -> Option<u32> {
        (self.share_percent > 0).then(|| 100_u32.div_ceil(u32::from(self.share_percent)))
    }
}

const fn five() -> u8 {
    5
}

/// How volumes are read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = Rule::new("!has(self.method) || self.method != 'Dump'").message("backup.volumes.method: Dump is for single claims: say it, and which dump, in backup.volumes.overrides"))]
pub struct VolumeSettings {
    /// `Auto` takes a CSI snapshot where the volume's driver has a `VolumeSnapshotClass`, and reads the volume
    /// directly where it has none. Default `Auto`.
    #[serde(default)]
    pub method: VolumeMethod,
    /// Files and directories that are neither stored nor, when a volume is restored over itself, removed: by patterns as
    /// in a `.gitignore` at the volume's top (`*.tmp` anywhere, `/cache/` a directory at the top, `!keep.tmp` all the
    /// same). Besides, of a directory that has an entry `.nobackup` nothing but that entry is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(
            length(max = 255),
            regex(
                pattern = r"^([^\\\[\]{}#\s]|\\.|\[[^\[\]\s]+\]|\{[^{}\s]+\})([^\\\[\]{}\r\n]|\\.|\[[^\[\]\r\n]+\]|\{[^{}\r\n]+\})*$"
            )
        )
    )]
    pub exclude: Vec<String>,
    /// What is different for some claims. The first that fits a claim counts, and no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub overrides: Vec<VolumeOverride>,
}

/// What is different for some claims. What is absent here is as for all.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = Rule::new("has(self.claim) != has(self.selector)").message("each of backup.volumes.overrides needs either claim or selector, and not both"))]
#[x_kube(validation = Rule::new("has(self.method) || has(self.exclude)").message("each of backup.volumes.overrides needs method or exclude: without them, it changes nothing"))]
#[x_kube(validation = Rule::new("(has(self.method) && self.method == 'Dump') == has(self.dump)").message("each of backup.volumes.overrides with method Dump needs dump, the name of one of backup.dumps, and no other has it"))]
pub struct VolumeOverride {
    /// The claim that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim: Option<String>,
    /// The claims that it is for, by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<ObjectSelector>,
    /// How they are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<VolumeMethod>,
    /// With `Dump`: the name of the one of `backup.dumps` that stands for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub dump: Option<String>,
    /// What is left out of them, instead of `backup.volumes.exclude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        inner(
            length(max = 255),
            regex(
                pattern = r"^([^\\\[\]{}#\s]|\\.|\[[^\[\]\s]+\]|\{[^{}\s]+\})([^\\\[\]{}\r\n]|\\.|\[[^\[\]\r\n]+\]|\{[^{}\r\n]+\})*$"
            )
        )
    )]
    pub exclude: Option<Vec<String>>,
}

/// How one volume is read.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeMethod {
    /// `Snapshot` where it can be had, `Direct` otherwise.
    #[default]
    Auto,
    /// From a CSI snapshot: the data of one instant.
    Snapshot,
    /// From the running volume, on the node that mounts it: not the data of one instant.
    Direct,
    /// Not at all: points are complete without it. A restore leaves such a claim as it is, and makes it anew, empty,
    /// where it is not there.
    Skip,
    /// Not at all: a dump stands for it, which a restore loads. Only where the application is stopped, and can't be
    /// dumped, it is read as by `Auto`.
    Dump,
}
