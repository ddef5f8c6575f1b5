//! When a copy of the newest point in another vault is due, and when a restore looks for its point in one. What is done then
//! is `core::application`, `core::restore` and `core::failover`.

use cronexpr::{Crontab, MakeTimestamp};
use jiff::{SignedDuration, Timestamp};

use super::work::{Outcome, Progress, Work, Works, doubled};
use crate::api::application::{CopySettings, CopyStatus};

/// The pause after a first failed run, and the longest one, in seconds.
const AFTER_FAILURE: i64 = 60;
const LONGEST_PAUSE: i64 = 3_600;
/// So long after it was due a copy may still be on its way.
pub const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// The first instant after `since` at which a copy is due.
///
/// # Errors
/// What is wrong with the schedule, in a sentence that names the field.
pub fn due(settings: &CopySettings, since: Timestamp) -> Result<Timestamp, String> {
    if let Some(every) = settings.every {
        let seconds = i64::try_from(every.as_secs()).unwrap_or(i64::MAX / 4);
        return Ok(since.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX));
    }
    let schedule = settings.schedule.as_deref().unwrap_or_default();
    let zone = settings.time_zone.as_deref().unwrap_or("UTC");
    let wrong = |why: cronexpr::Error| {
        let why = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        format!(
            "spec.backup.copies: the schedule `{schedule}` in the time zone {zone} of the vault {}: {why}",
            settings.vault
        )
    };
    let crontab: Crontab = format!("{schedule} {zone}").parse().map_err(wrong)?;
    crontab.find_next(MakeTimestamp(since)).map(|it| it.timestamp()).map_err(wrong)
}

/// When a run is tried again that failed so many times in a row, the last time then.
#[must_use]
pub fn again(failed_at: Timestamp, times: u32) -> Timestamp {
    failed_at + doubled(AFTER_FAILURE, times, LONGEST_PAUSE)
}

/// So many failures in a row, and a vault counts as away: about half a minute.
const AWAY: u32 = 3;

/// The vault that the last search for a point was answered by.
#[must_use]
pub fn answered_by<'a>(works: &'a Works, name: &str) -> Option<&'a str> {
    match works.get(name) {
        Some(Progress::Done { work, .. }) => match work.as_ref() {
            Work::FindPoint { vault, .. } | Work::SurveyPoints { vault, .. } => Some(vault),
            _ => None,
        },
        Some(Progress::Running | Progress::Failed { .. }) | None => None,
    }
}

/// Why a vault does not serve for a restore, by what a search for a point came to: it does not have one, or is away.
#[must_use]
pub fn failing(works: &Works, name: &str, vault: &str) -> Option<String> {
    match works.get(name)? {
        Progress::Failed { times, failure, .. } if failure.lasting || *times >= AWAY => Some(failure.message.clone()),
        Progress::Done { outcome: Outcome::Surveyed { chosen: None, passed_over }, .. }
            if answered_by(works, name) == Some(vault) =>
        {
            let last = passed_over.last().map_or("it has none", String::as_str);
            Some(format!("no good point: {last}"))
        }
        Progress::Failed { .. } | Progress::Done { .. } | Progress::Running => None,
    }
}

/// When the next copy is due. `None`: the vault has none yet.
///
/// # Errors
/// When the schedule is none, with the field.
pub fn expected(settings: &CopySettings, copy: &CopyStatus) -> Result<Option<Timestamp>, String> {
    let last = copy.copied_at.as_ref().or(copy.consistent_at.as_ref()).map(|it| it.0);
    // Also where there is nothing yet, a wrong schedule is told.
    let next = due(settings, last.unwrap_or(Timestamp::UNIX_EPOCH))?;
    Ok(last.map(|_| next))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(more: &Value) -> CopySettings {
        let mut it = json!({"vault": "second"});
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(it).unwrap()
    }

    fn next(more: &Value, since: &str) -> String {
        due(&settings(more), since.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn even_days_go_to_one_vault_and_odd_days_to_another() {
        let (even, odd) = (json!({"schedule": "0 3 2-31/2 * *"}), json!({"schedule": "0 3 1-31/2 * *"}));
        assert_eq!(next(&even, "2027-01-29T12:00:00Z"), "2027-01-30T03:00:00Z");
        assert_eq!(next(&odd, "2027-01-29T12:00:00Z"), "2027-01-31T03:00:00Z");
        assert_eq!(next(&even, "2027-01-30T03:00:00Z"), "2027-02-02T03:00:00Z");
    }

    #[test]
    fn a_schedule_keeps_the_clock_of_its_time_zone_through_summer_time() {
        let berlin = json!({"schedule": "30 3 * * *", "timeZone": "Europe/Berlin"});
        assert_eq!(next(&berlin, "2027-03-26T12:00:00Z"), "2027-03-27T02:30:00Z");
        assert_eq!(next(&berlin, "2027-03-27T12:00:00Z"), "2027-03-28T01:30:00Z");
    }

    #[test]
    fn a_length_of_time_counts_from_the_last_beginning() {
        assert_eq!(next(&json!({"every": "6h"}), "2027-01-01T00:00:00Z"), "2027-01-01T06:00:00Z");
    }

    #[test]
    fn a_schedule_that_is_none_or_never_comes_is_told_with_its_field() {
        for wrong in [
            json!({"schedule": "61 3 * * *"}),
            json!({"schedule": "0 3 30 2 *"}),
            json!({"schedule": "0 3 * * *", "timeZone": "Europe/Nowhere"}),
        ] {
            let why = due(&settings(&wrong), Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(why.starts_with("spec.backup.copies: the schedule `"), "{why}");
        }
    }

    #[test]
    fn failures_are_tried_again_after_minutes_and_at_most_an_hour() {
        let after = |times| again(Timestamp::UNIX_EPOCH, times).as_second();
        assert_eq!([1, 2, 3, 9, 4_000].map(after), [60, 120, 240, 3_600, 3_600]);
    }
}
