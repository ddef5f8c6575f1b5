//! Which hour, day, week, month or year a moment is in, in UTC: two moments are in the same when these are equal.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Tells the one from the others.
pub type Turn = (i16, i16, i8);
/// Says which one a moment is in.
pub type Period = fn(Timestamp) -> Turn;

fn utc(at: Timestamp) -> DateTime {
    at.to_zoned(TimeZone::UTC).datetime()
}

/// The hour.
#[must_use]
pub fn hour(at: Timestamp) -> Turn {
    let at = utc(at);
    (at.year(), at.day_of_year(), at.hour())
}

/// The day.
#[must_use]
pub fn day(at: Timestamp) -> Turn {
    let at = utc(at);
    (at.year(), at.day_of_year(), 0)
}

/// The week, from Monday.
#[must_use]
pub fn week(at: Timestamp) -> Turn {
    let week = utc(at).date().iso_week_date();
    (week.year(), i16::from(week.week()), 0)
}

/// The month.
#[must_use]
pub fn month(at: Timestamp) -> Turn {
    let at = utc(at);
    (at.year(), i16::from(at.month()), 0)
}

/// The year.
#[must_use]
pub fn year(at: Timestamp) -> Turn {
    (utc(at).year(), 0, 0)
}
