//! Which points of an application are kept, and why: a function of the points, the policy and the present.
//!
//! Nothing is deleted here, and nothing is read: `operator::work::retention` gathers the points and deletes what is to
//! be dropped. What only points need (snapshots, packs, manifests) is removed by `mover::prune`.
//!
//! Points are judged by their own instants. The present only protects: what is young, or of the future, stays. So a
//! clock that was stepped drops nothing that was not to be dropped anyway.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::calendar::{self, Period};
use crate::api::application::Retention;

/// What is younger is kept, whatever the policy: a person has that long to notice, and to hold a point.
const YOUNG: SignedDuration = SignedDuration::from_hours(24);
/// Regions' clocks may differ so much; beyond it a point is of the future.
const SKEW: SignedDuration = SignedDuration::from_mins(10);
/// So long points that do not count are kept when newer ones do: they are for people.
const FOR_PEOPLE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// So many of the points that are kept are told of in a status.
pub const REVIEWED: usize = 100;
/// The shortest time that data no point names is kept, in seconds: twice the longest restore. A pod on a node that is
/// cut off may begin at its Job's deadline, and ends by its own.
const DATA: u64 = 48 * 3_600;
/// What clocks and pauses may add, in seconds.
const MARGIN: u64 = 24 * 3_600;

/// How long data that no point names is kept, in seconds: longer than any backup of this objective and any restore
/// may take, so that neither is ever robbed of what it has found.
#[must_use]
pub fn keep_data(rpo: u64) -> u64 {
    DATA.max(2 * super::recovery_point::patience(rpo) + MARGIN)
}

/// What retention knows of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all of them may hold")]
pub struct Known {
    /// Its name in the vault.
    pub id: String,
    /// The instant of its data.
    pub at: Timestamp,
    /// Whether it counts: complete, not suspicious, no branch.
    pub good: bool,
    /// Whether its sources looked emptied.
    pub suspicious: bool,
    /// Whether it is what a region had written that lost the claim.
    pub branch: bool,
    /// Whether a person holds it.
    pub held: bool,
    /// Whether the head of the catalogue names it, or a run restores it.
    pub in_use: bool,
    /// Whether it is the newest of those that were verified.
    pub last_verified: bool,
    /// Until when it was to be locked as the first good one of a day, week, month or year.
    pub lock_until: Option<Timestamp>,
    /// Whether it needs what was found damaged.
    pub damaged: bool,
}

/// What becomes of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for each of these reasons.
    Keep(Vec<Reason>),
    /// It goes, since no rule keeps it.
    Drop(Why),
}

/// Why a point stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The newest good one.
    Newest,
    /// The newest one that was verified.
    LastVerified,
    /// A branch: only a person deletes it.
    Branch,
    /// A person holds it.
    Held,
    /// The head names it, or a run restores it.
    InUse,
    /// It is the first good one of a day, week, month or year, and locked for longer than others.
    Locked,
    /// It is younger than a day.
    Young,
    /// It is of a time that has not come: a clock was wrong, then or now.
    Future,
    /// A rule would keep it, were it not damaged: it takes no other's place, and may be whole again.
    Damaged,
    /// It does not count, but nothing newer does.
    NothingNewer,
    /// It does not count, and people may still want to look at it.
    ForPeople,
    /// The newest point looks emptied: nothing is dropped until a person has looked.
    Suspended,
    /// One of the newest few.
    Last,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// Not older than `within`.
    Within,
}

/// Why a point goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule of the policy keeps it.
    NoRule,
    /// It never counted, newer ones do, and people had their time.
    NeverCounted,
}

impl Reason {
    /// All of them for people.
    #[must_use]
    pub fn all(reasons: &[Self]) -> String {
        reasons.iter().map(|it| it.text()).collect::<Vec<_>>().join(", ")
    }

    /// For people, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Newest => "newest good",
            Self::LastVerified => "last verified",
            Self::Branch => "branch",
            Self::Held => "held",
            Self::InUse => "in use",
            Self::Locked => "locked longer than others",
            Self::Young => "younger than a day",
            Self::Future => "from the future",
            Self::Damaged => "damaged, kept beside those that are not",
            Self::NothingNewer => "nothing newer counts",
            Self::ForPeople => "does not count, kept a week",
            Self::Suspended => "retention is suspended",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
        }
    }
}

impl Why {
    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRule => "no rule of spec.backup.retention keeps it",
            Self::NeverCounted => "it does not count, and is older than a week",
        }
    }
}

/// The fate of each point, newest first.
#[must_use]
pub fn explain(points: &[Known], policy: &Retention, now: Timestamp) -> Vec<(Known, Fate)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|one, other| (other.at, &other.id).cmp(&(one.at, &one.id)));
    let future = |it: &Known| it.at > now + SKEW;
    // What is of the future counts for no rule: it would take the place of what is.
    let counting: Vec<&Known> = sorted.iter().filter(|it| it.good && !it.damaged && !future(it)).collect();
    let ruled = by_rules(&counting, policy);
    let were_all_whole: Vec<&Known> = sorted.iter().filter(|it| it.good && !future(it)).collect();
    let were_all_whole = by_rules(&were_all_whole, policy);
    let suspended = suspended(&sorted).is_some();
    let newest = counting.first().map(|it| it.at);
    let fate = |it: &Known| {
        let mut reasons = protection(it, now);
        if let Some(found) = ruled.get(it.id.as_str()) {
            reasons.extend(found);
        }
        if it.damaged && were_all_whole.contains_key(it.id.as_str()) {
            reasons.push(Reason::Damaged);
        }
        if (!it.good || it.damaged) && !it.branch && !future(it) {
            match newest {
                Some(newest) if newest > it.at && !it.good && it.at + FOR_PEOPLE > now => {
                    reasons.push(Reason::ForPeople);
                }
                Some(newest) if newest > it.at => {}
                Some(_) | None => reasons.push(Reason::NothingNewer),
            }
        }
        if reasons.is_empty() && suspended {
            reasons.push(Reason::Suspended);
        }
        if reasons.is_empty() {
            return Fate::Drop(if it.good { Why::NoRule } else { Why::NeverCounted });
        }
        Fate::Keep(reasons)
    };
    let fates: Vec<Fate> = sorted.iter().map(fate).collect();
    sorted.into_iter().zip(fates).collect()
}

/// The suspicious point that keeps everything from being dropped: there is one, and nothing after it counts.
#[must_use]
pub fn suspended(points: &[Known]) -> Option<&Known> {
    let newest = points.iter().filter(|it| it.good).map(|it| it.at).max();
    points
        .iter()
        .filter(|it| it.suspicious && !it.branch && newest.is_none_or(|newest| newest < it.at))
        .max_by_key(|it| it.at)
}

/// What keeps a point whatever the policy is.
fn protection(it: &Known, now: Timestamp) -> Vec<Reason> {
    let all = [
        (it.last_verified, Reason::LastVerified),
        (it.branch, Reason::Branch),
        (it.held, Reason::Held),
        (it.in_use, Reason::InUse),
        (it.lock_until.is_some_and(|until| until > now), Reason::Locked),
        (it.at > now + SKEW, Reason::Future),
        (it.at <= now + SKEW && it.at + YOUNG > now, Reason::Young),
    ];
    all.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
}

/// The points that rules keep, by id. `points` are those that count, newest first.
fn by_rules<'a>(points: &[&'a Known], policy: &Retention) -> BTreeMap<&'a str, Vec<Reason>> {
    let mut kept: BTreeMap<&str, Vec<Reason>> = BTreeMap::new();
    let Some(newest) = points.first() else { return kept };
    kept.entry(&newest.id).or_default().push(Reason::Newest);
    let last = policy.last.map_or(0, wide);
    for it in points.iter().take(last) {
        kept.entry(&it.id).or_default().push(Reason::Last);
    }
    let periods: [(Option<u32>, Reason, Period); 5] = [
        (policy.hourly, Reason::Hourly, calendar::hour),
        (policy.daily, Reason::Daily, calendar::day),
        (policy.weekly, Reason::Weekly, calendar::week),
        (policy.monthly, Reason::Monthly, calendar::month),
        (policy.yearly, Reason::Yearly, calendar::year),
    ];
    for (count, reason, period) in periods {
        let mut before = None;
        let mut left = count.map_or(0, wide);
        for it in points {
            let of = period(it.at);
            if left == 0 {
                break;
            }
            if before != Some(of) {
                before = Some(of);
                left -= 1;
                kept.entry(&it.id).or_default().push(reason);
            }
        }
    }
    if let Some(within) = policy.within {
        let oldest = newest.at.as_second().saturating_sub_unsigned(within.as_secs());
        for it in points.iter().take_while(|it| it.at.as_second() >= oldest) {
            kept.entry(&it.id).or_default().push(Reason::Within);
        }
    }
    kept
}

fn wide(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
