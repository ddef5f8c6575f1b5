//! For how long what recovery is made of is locked, and when locks are extended: functions of plain values.
//!
//! All that is kept is locked for `period` at least, at any time. A write is locked for half of that more. All of an
//! application's objects are then looked at in **rounds**, which extend what has become short, so that each object is
//! extended only every few days. What is extended is `vault::immutability`'s to do.

use jiff::{SignedDuration, Timestamp};

use super::{
    calendar::{self, Period},
    point::Point,
};
use crate::api::{
    span::Span,
    vault::{LockClass, ObjectLock, VaultSpec},
};

/// How a vault is to lock what is written, if it is.
#[must_use]
pub fn asked(vault: &VaultSpec) -> Option<&ObjectLock> {
    let of_s3 = vault.s3.as_ref().and_then(|it| it.object_lock.as_ref());
    of_s3.or_else(|| vault.azure.as_ref().and_then(|it| it.immutability.as_ref()))
}

/// The newest good point before one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// When it was begun.
    pub at: Timestamp,
    /// The class for which it was to be locked longer, and was not: the next point is, in its place.
    pub failed: Option<LockClass>,
}

/// The class that a point is locked longer for than others, and until when: of those that it is the first good one of,
/// the one with the longest lock.
#[must_use]
pub fn longer(lock: &ObjectLock, now: Timestamp, previous: Option<&Previous>) -> Option<(LockClass, Timestamp)> {
    let classes: [(LockClass, Option<Span>, Period); 4] = [
        (LockClass::Daily, lock.daily, calendar::day),
        (LockClass::Weekly, lock.weekly, calendar::week),
        (LockClass::Monthly, lock.monthly, calendar::month),
        (LockClass::Yearly, lock.yearly, calendar::year),
    ];
    let found = classes.into_iter().filter_map(|(class, period, of)| {
        let first = previous.is_none_or(|it| of(it.at) != of(now) || it.failed == Some(class));
        Some((class, now + length(period.filter(|_| first)?)))
    });
    found.max_by_key(|(_, until)| *until)
}

/// How much longer than asked for a lock is made.
fn slack(period: Span) -> SignedDuration {
    length(period) / 2
}

fn length(period: Span) -> SignedDuration {
    SignedDuration::try_from(period.duration()).unwrap_or(SignedDuration::MAX)
}

/// Until when a write is locked.
#[must_use]
pub fn of_write(period: Span, now: Timestamp) -> Timestamp {
    now + length(period) + slack(period)
}

/// What a round asks of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// A lock until then is left as it is.
    pub enough: Timestamp,
    /// Until then a shorter one is extended.
    pub until: Timestamp,
}

/// What a round that began then asks of each object. Once it is complete, all are locked until `enough`: what was
/// written since by its own lock.
#[must_use]
pub fn of_round(period: Span, began: Timestamp) -> Asked {
    let enough = began + length(period) + slack(period) / 4;
    Asked { enough, until: of_write(period, began) }
}

/// What is asked of a point, and of what it may share with earlier ones.
#[must_use]
pub fn of_point(period: Span, point: &Point) -> Asked {
    let usual = Asked { enough: point.created_at + length(period), until: of_write(period, point.created_at) };
    point.lock_until.map_or(usual, of_longer)
}

/// What is asked of what a point needs that is locked longer than others: a day more, so that a point that takes its place
/// finds enough.
#[must_use]
pub fn of_longer(until: Timestamp) -> Asked {
    Asked { enough: until, until: until + SignedDuration::from_hours(24) }
}

/// What is asked of objects that are looked at only once a day, with the vault.
#[must_use]
pub fn of_vault(period: Span, now: Timestamp) -> Asked {
    let enough = now + length(period) + SignedDuration::from_hours(36);
    Asked { enough, until: enough + slack(period) }
}

/// When the next round begins after one that has locked all until then: early enough that it may take as long again.
#[must_use]
pub fn next_round(period: Span, locked_until: Timestamp) -> Timestamp {
    locked_until - length(period) - slack(period) / 8
}

/// Whether less is locked than is asked for.
#[must_use]
pub fn is_short(period: Span, locked_until: Timestamp, now: Timestamp) -> bool {
    locked_until < now + length(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    #[test]
    fn all_that_is_kept_is_locked_for_the_period_when_rounds_take_no_longer_than_they_wait() {
        let period = Span::from_secs(16 * 86_400);
        let began = Timestamp::UNIX_EPOCH;
        let asked = of_round(period, began);
        assert_eq!((asked.enough, asked.until), (began + DAY * 18, began + DAY * 24));
        assert_eq!(of_write(period, began), asked.until, "a write needs no extension in the round that it falls into");
        let next = next_round(period, asked.enough);
        assert_eq!(next, began + DAY);
        let ended = next + DAY;
        assert!(asked.enough >= ended + DAY * 16);
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_point_has_the_longest_lock_of_those_that_it_is_the_first_good_one_of() {
        let days = |it: u64| Some(Span::from_secs(it * 86_400));
        let mode = crate::api::vault::LockMode::Governance;
        let period = Span::from_secs(86_400);
        let lock = ObjectLock { mode, period, daily: days(8), weekly: None, monthly: days(200), yearly: days(100) };
        let (noon, previous) = (at("2027-02-10T12:00:00Z"), |it: &str| Some(Previous { at: at(it), failed: None }));
        let class = |it: Option<Previous>| longer(&lock, noon, it.as_ref());
        let monthly = Some((LockClass::Monthly, noon + DAY * 200));
        assert_eq!(class(None), monthly);
        assert_eq!(class(previous("2026-12-31T23:00:00Z")), monthly, "longer than the yearly one");
        assert_eq!(class(previous("2027-02-09T23:59:59Z")), Some((LockClass::Daily, noon + DAY * 8)));
        assert_eq!(class(previous("2027-02-10T00:00:00Z")), None);
        let failed = Previous { at: at("2027-02-10T00:00:00Z"), failed: Some(LockClass::Monthly) };
        assert_eq!(class(Some(failed)), monthly, "in the place of one that was not locked");
    }

    #[test]
    fn what_is_looked_at_once_a_day_is_never_locked_for_less_than_the_period() {
        let (period, now) = (Span::from_secs(86_400), Timestamp::UNIX_EPOCH);
        assert!(of_vault(period, now).enough >= now + DAY * 2);
    }
}
