//! How old the points in other vaults are, against when they should be copied: below what `status` and `points` print.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::{
    output::{Cell, Tone, short, table},
    points::ago,
};
use crate::{
    api::application::{CopySettings, CopyStatus, ProtectedApplication, Role},
    core::copies::{GRACE, expected},
};

/// What one other vault has, as the region knows that serves.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// The `ProtectedApplication`.
    pub application: String,
    /// The `Vault`.
    pub vault: String,
    /// Its newest point.
    pub point: Option<String>,
    /// The age of that point's data, in seconds: what would be lost with the first vault.
    pub age_seconds: Option<u64>,
    /// When points are copied: `every 6h`, or a crontab line with its time zone.
    pub schedule: String,
    /// When the next one is due. Absent before the first one, and where the schedule is none.
    pub due: Option<Timestamp>,
    /// Whether it was due more than an hour ago, or the last run failed.
    pub behind: bool,
}

/// The copies of an application. None are known where it does not serve.
#[must_use]
pub fn copies(application: &ProtectedApplication, now: Timestamp) -> Vec<Copy> {
    let Some(status) = application.status.as_ref().filter(|it| it.role == Some(Role::Active)) else {
        return Vec::new();
    };
    let of = |vault: &str| status.copies.iter().find(|it| it.vault == vault);
    let settings = application.spec.backup.copies.iter();
    settings.map(|it| copy(application.name_any(), it, of(&it.vault).cloned().unwrap_or_default(), now)).collect()
}

fn copy(application: String, settings: &CopySettings, status: CopyStatus, now: Timestamp) -> Copy {
    let due = expected(settings, &status).ok().flatten();
    let age = |at: Timestamp| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
    let schedule = match (&settings.schedule, &settings.every) {
        (Some(schedule), _) => format!("{schedule} {}", settings.time_zone.as_deref().unwrap_or("UTC")),
        (None, Some(every)) => format!("every {}", short(every.as_secs())),
        (None, None) => String::new(),
    };
    Copy {
        application,
        vault: settings.vault.clone(),
        age_seconds: status.consistent_at.as_ref().map(|it| age(it.0)),
        schedule,
        behind: status.failures > 0 || due.is_some_and(|it| it + GRACE <= now),
        due,
        point: status.point,
    }
}

/// As a table, after an empty line. Nothing without copies.
#[must_use]
pub fn text(copies: &[Copy], now: Timestamp, colour: bool) -> String {
    if copies.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = copies.iter().map(|it| cells(it, now)).collect();
    format!("\n{}", table(&["APPLICATION", "COPY IN", "DATA OF", "COPIED", "NEXT", "POINT"], &rows, colour))
}

fn cells(it: &Copy, now: Timestamp) -> Vec<Cell> {
    let tone = if it.behind { Tone::Bad } else { Tone::Good };
    let age = it.age_seconds.map_or_else(
        || Cell::toned("no point", if it.behind { Tone::Bad } else { Tone::Doubtful }),
        |seconds| Cell::toned(format!("{} ago", short(seconds)), tone),
    );
    let next = match it.due {
        None => "-".to_owned(),
        Some(due) if due <= now => format!("due {}", ago(due, now)),
        Some(due) => format!("in {}", short(u64::try_from(due.duration_since(now).as_secs()).unwrap_or(0))),
    };
    vec![
        Cell::plain(&it.application),
        Cell::plain(&it.vault),
        age,
        Cell::plain(&it.schedule),
        Cell::plain(next),
        Cell::plain(it.point.as_deref().unwrap_or("-")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(role: &str, status: &Value) -> (Vec<Copy>, String) {
        let application = serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication", "metadata": {"name": "shop"},
            "spec": {"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "west"}],
                     "backup": {"vaults": ["main"], "copies": [{"vault": "second", "every": "6h"},
                                                               {"vault": "third", "schedule": "0 3 * * *"}]}},
            "status": {"role": role, "conditions": [], "copies": status},
        }))
        .expect("a ProtectedApplication");
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let copies = copies(&application, now);
        let text = text(&copies, now, false);
        (copies, text)
    }

    #[test]
    fn each_copy_is_told_with_the_age_of_its_data_against_its_schedule() {
        let second = json!({"vault": "second", "point": "1-A", "consistentAt": "2026-11-22T04:50:00Z",
            "copiedAt": "2026-11-22T04:55:00Z"});
        let (copies, text) = told("Active", &json!([second]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "shop         second   7h10m ago  every 6h       due 1h5m ago  1-A", "{text}");
        assert_eq!(lines[3], "shop         third    no point   0 3 * * * UTC  -             -", "{text}");
        assert_eq!((copies[0].behind, copies[1].behind, copies[0].age_seconds), (true, false, Some(25_800)));
    }

    #[test]
    fn a_copy_that_is_in_time_is_not_behind_and_one_that_failed_is() {
        let after = |failures| {
            let it = json!({"vault": "second", "point": "1-A", "consistentAt": "2026-11-22T10:50:00Z",
                "copiedAt": "2026-11-22T11:00:00Z", "failures": failures});
            told("Active", &json!([it]))
        };
        let (copies, text) = after(0);
        assert!(!copies[0].behind && text.contains("1h10m ago  every 6h       in 5h"), "{text}");
        assert!(after(1).0[0].behind);
    }

    #[test]
    fn where_the_application_does_not_serve_nothing_is_said_of_its_copies() {
        assert_eq!(told("Standby", &json!([])), (vec![], String::new()));
    }
}
