//! For how long what recovery is made of is locked, and when locks are extended: functions of plain values.
//!
//! All that is kept is locked for `period` at least, at any time. A write is locked for half of that more. All of an
//! application's objects are then looked at in **rounds**, which extend what has become short, so that each object is
//! extended only every few days. What is extended is `vault::immutability`'s to do.

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    span::Span,
    vault::{ObjectLock, VaultSpec},
};

/// How a vault is to lock what is written, if it is.
#[must_use]
pub fn asked(vault: &VaultSpec) -> Option<&ObjectLock> {
    vault.s3.as_ref()?.object_lock.as_ref()
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
pub fn of_point(period: Span, created: Timestamp) -> Asked {
    Asked { enough: created + length(period), until: of_write(period, created) }
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

    #[test]
    fn what_is_looked_at_once_a_day_is_never_locked_for_less_than_the_period() {
        let (period, now) = (Span::from_secs(86_400), Timestamp::UNIX_EPOCH);
        assert!(of_vault(period, now).enough >= now + DAY * 2);
    }
}
