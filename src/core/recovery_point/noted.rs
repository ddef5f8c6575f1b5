//! What was found out about a point after it was made, as its status shows it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{CHECKED, Observed};
use crate::{
    api::recovery_point::{Level, RecoveryPoint, RecoveryPointStatus, Verification},
    core::{
        condition::{self, Finding, VERIFIED},
        point::Point,
        verified::{Found, Verified},
    },
};

/// What is shown of a point that is read for the first time.
pub(super) fn first(point: &Point, note: Option<&Verified>) -> Verification {
    note.map_or_else(|| made(Time(point.created_at)), of)
}

/// What every point is checked for before it is entered.
pub(super) fn made(at: Time) -> Verification {
    Verification { level: Level::L1, at, detail: CHECKED.into(), restore_seconds: None, damage: None }
}

fn of(note: &Verified) -> Verification {
    Verification {
        level: note.level,
        at: Time(note.at),
        detail: note.detail.clone(),
        restore_seconds: note.restore_seconds,
        damage: note.damage(),
    }
}

/// What is to be shown of a point, as far as it is whole, with what was found out since.
#[must_use]
pub fn verification(status: &RecoveryPointStatus, note: Option<&Verified>) -> Option<Verification> {
    let shown = status.verification.clone()?;
    Some(match note {
        Some(note) => of(note),
        // What it was made with stands. A note that is gone says nothing any more.
        None if shown.detail == CHECKED => shown,
        None => made(status.finished_at.clone().or_else(|| status.started_at.clone()).unwrap_or(shown.at)),
    })
}

/// Whether it is as it was stored, as far as it was looked at.
pub(super) fn finding(it: &Verification) -> Finding {
    match &it.damage {
        Some(damage) => Finding::new(VERIFIED, false, "Damaged", damage.clone()),
        None => Finding::new(VERIFIED, true, format_level(it.level), it.detail.clone()),
    }
}

fn format_level(level: Level) -> &'static str {
    match level {
        Level::L1 => "L1",
        Level::L2 => "L2",
        Level::L3 => "L3",
    }
}

/// Takes over what was found out since.
pub(super) fn take_over(point: &RecoveryPoint, status: &mut RecoveryPointStatus, seen: &Observed, now: Timestamp) {
    let Found::Read(note) = &seen.noted else { return };
    let Some(shown) = verification(status, note.as_ref()) else { return };
    let finding = finding(&shown);
    status.conditions = condition::with(&status.conditions, finding, point.metadata.generation, now);
    status.verification = Some(shown);
}
