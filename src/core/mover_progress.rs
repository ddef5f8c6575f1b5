//! How far a mover is, as its log says: the words between a mover that goes on and the operator.
//!
//! A mover speaks to nobody. What it writes to its standard output every few seconds is read from its pod's log.

use serde::{Deserialize, Serialize};

/// The message of the log's lines about progress.
pub const PROGRESS: &str = "progress";
/// The phase in which data is restored.
pub const RESTORING: &str = "restoring";

/// How far a mover is in the phase that it is in.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct MoverProgress {
    /// What it does.
    pub phase: String,
    /// Bytes that are done, whether they were transferred or there already.
    pub done: u64,
    /// Bytes in all. 0: not known.
    pub total: u64,
    /// Files that are done.
    pub files: u64,
}

impl MoverProgress {
    /// How far the restoring was when the last line about it was written. What follows it (flushing, comparing) moves no
    /// data.
    #[must_use]
    pub fn of_restoring(log: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            message: String,
            #[serde(flatten)]
            progress: MoverProgress,
        }
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        lines.filter(|it| it.message == PROGRESS).map(|it| it.progress).find(|it| it.phase == RESTORING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_about_restoring_counts_and_other_lines_do_not() {
        let line = |phase: &str, done: u64| {
            format!(
                r#"{{"timestamp":"t","level":"INFO","message":"progress","phase":"{phase}","done":{done},"total":9,"files":2,"seconds":5,"target":"x"}}"#
            )
        };
        let log = [
            line("restoring", 3),
            line("restoring", 7),
            line("comparing", 0),
            r#"{"message":"finished","code":0}"#.into(),
            "panic".into(),
        ];
        let expected = MoverProgress { phase: RESTORING.into(), done: 7, total: 9, files: 2 };
        assert_eq!(MoverProgress::of_restoring(&log.join("\n")), Some(expected));
        assert_eq!(MoverProgress::of_restoring(&log[2..].join("\n")), None);
    }
}
