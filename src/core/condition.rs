//! Conditions, by the Kubernetes API conventions: their types and reasons, and how one is set.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Sums up a lasting kind.
pub const READY: &str = "Ready";
/// Sums up a run: `Unknown` while it goes on.
pub const SUCCEEDED: &str = "Succeeded";
/// Whether a vault can be trusted with claims.
pub const COMPARE_AND_SWAP: &str = "CompareAndSwap";
/// What opens the vault is kept outside the regions as well.
pub const KEY_ESCROWED: &str = "KeyEscrowed";
/// What recovery is made of is locked, as the server says: of a vault, or of an application.
pub const IMMUTABLE: &str = "Immutable";
/// Whether the claim is read, and in order.
pub const CLAIM_SOUND: &str = "ClaimSound";
/// Whether the newest good point is young enough.
pub const RPO_MET: &str = "RecoveryPointObjectiveMet";
/// Whether the other vaults have the points that they should have.
pub const COPIES_UP_TO_DATE: &str = "CopiesUpToDate";
/// Whether what was read back of the other vaults is what was written, and stays locked there.
pub const COPIES_SOUND: &str = "CopiesSound";
/// Whether the last scheduled points had the data that the ones before them had. Told once that was in doubt.
pub const SOURCES_SOUND: &str = "SourcesSound";
/// Whether what was read back of the repository is what was written (only where the application is active).
pub const REPOSITORY_SOUND: &str = "RepositorySound";
/// Whether the application looks well from here.
pub const HEALTHY: &str = "Healthy";
/// Whether the public name leads here (only where the application is active).
pub const TRAFFIC_PUBLISHED: &str = "TrafficPublished";
/// Whether the operator would fail over, or does: `True` is bad news.
pub const FAILOVER_ADVISED: &str = "FailoverAdvised";
/// Whether the application's pods can be stopped within `claim.fence`.
pub const FENCE_IN_TIME: &str = "FenceInTime";
/// Whether every region of the application has an operator on this vault.
pub const REGIONS_PRESENT: &str = "RegionsPresent";

/// Whether a point is as it was stored, as far as it was looked at since.
pub const VERIFIED: &str = "Verified";
/// Whether the volumes are restored ahead, where that is asked for.
pub const WARM: &str = "Warm";

/// `True`, `False` or `Unknown`, as the API spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(it: bool) -> Self {
        if it { Self::True } else { Self::False }
    }
}

/// What is to be said, before it is known since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One of the constants of this module.
    pub type_: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// One word in `CamelCase`, for programs.
    pub reason: &'static str,
    /// A sentence for people: deterministic, or each pass would write it anew.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(type_: &'static str, truth: impl Into<Truth>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, truth: truth.into(), reason, message: message.into() }
    }
}

/// Conditions from findings, in their order, keeping the transition time of those in `previous` whose truth stands.
///
/// Without this each pass would move `lastTransitionTime`, and each of those writes would wake the next pass.
#[must_use]
pub fn conditions(
    previous: &[Condition],
    findings: Vec<Finding>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let one = |it: Finding| {
        let standing = previous.iter().find(|old| old.type_ == it.type_ && old.status == it.truth.as_str());
        Condition {
            type_: it.type_.to_owned(),
            status: it.truth.as_str().to_owned(),
            reason: it.reason.to_owned(),
            message: it.message,
            observed_generation: generation,
            last_transition_time: standing.map_or(Time(now), |old| old.last_transition_time.clone()),
        }
    };
    findings.into_iter().map(one).collect()
}

/// The same conditions, but for what is found now.
#[must_use]
pub fn with(standing: &[Condition], finding: Finding, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut all: Vec<Condition> = standing.iter().filter(|it| it.type_ != finding.type_).cloned().collect();
    all.extend(conditions(standing, vec![finding], generation, now));
    all
}

/// Whether a condition of this type stands at `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|it| it.type_ == type_ && it.status == "True")
}

/// The condition of this type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|it| it.type_ == type_)
}

/// Times in a status are whole seconds: finer ones would never equal what is read back.
///
/// # Panics
/// Never: the seconds of a timestamp are in range.
#[must_use]
pub fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("a timestamp's seconds are in range"))
}

/// Whether a run has ended, well or not.
#[must_use]
pub fn ended(conditions: &[Condition]) -> bool {
    find(conditions, SUCCEEDED).is_some_and(|it| it.status != "Unknown")
}
