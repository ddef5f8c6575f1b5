//! Whether a scheduled point's sources look as if something had emptied them, by mistake or by malice.
//!
//! It is compared with the median of the last points that count: one odd point among them does not decide. A point by
//! hand is what is meant, and the comparison begins anew with it.

use super::{Before, Pass};
use crate::api::recovery_point::{RecoveryPointStatus, VolumeInPoint};

/// Below so many bytes a volume may shrink as it likes: an empty database is a few of them.
const BYTES: u64 = 1024 * 1024;
/// The same for files.
const FILES: u64 = 50;
/// The same for objects of the namespace.
const OBJECTS: u64 = 10;

impl Pass<'_> {
    /// What looks emptied, for people.
    pub(super) fn suspicions(&self, status: &RecoveryPointStatus) -> Vec<String> {
        let percent = self.application.spec.backup.suspect_below_percent;
        suspicions(status, &self.seen.before, u64::from(percent))
    }
}

fn suspicions(status: &RecoveryPointStatus, before: &[Before], percent: u64) -> Vec<String> {
    let objects = status.objects.as_ref().map_or(0, |it| it.count);
    let had = |it: &&Before| it.objects > 0 || !it.volumes.is_empty();
    if let Some(last) = before.first().filter(had).filter(|_| objects == 0 && status.volumes.is_empty()) {
        return vec![format!(
            "the namespace is empty, and {} before it has {} objects and {} volumes",
            last.id,
            last.objects,
            last.volumes.len()
        )];
    }
    let smaller = |now: u64, before: u64, least: u64| before >= least && now * 100 < before.saturating_mul(percent);
    let mut all = Vec::new();
    let usual = median(before.iter().map(|it| it.objects));
    if smaller(objects, usual, OBJECTS) {
        all.push(format!("{objects} objects, usually {usual}"));
    }
    let read = |it: &&VolumeInPoint| it.failure.is_none() && it.left_out.is_none();
    for it in status.volumes.iter().filter(read) {
        let files = median(before.iter().filter_map(|old| Some(old.volumes.get(&it.claim)?.0)));
        let bytes = median(before.iter().filter_map(|old| Some(old.volumes.get(&it.claim)?.1)));
        if it.files == 0 && files > 0 {
            all.push(format!("volume {} is empty, usually it has {files} files", it.claim));
        } else if smaller(it.bytes, bytes, BYTES) {
            all.push(format!("volume {}: {} bytes, usually {bytes}", it.claim, it.bytes));
        } else if smaller(it.files, files, FILES) {
            all.push(format!("volume {}: {} files, usually {files}", it.claim, it.files));
        }
    }
    // Volumes may come and go; most of the data may not.
    let bytes: u64 = status.volumes.iter().map(|it| it.bytes).sum();
    let usual = median(before.iter().map(|it| it.volumes.values().map(|(_, bytes)| bytes).sum()));
    let whole = status.volumes.iter().all(|it| it.failure.is_none());
    if all.is_empty() && whole && smaller(bytes, usual, BYTES) {
        all.push(format!("{bytes} bytes in all volumes, usually {usual}"));
    }
    all
}

/// The middle one, the lower of two. Nothing has none.
fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = values.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::recovery_point::ObjectsInPoint;

    const MIB: u64 = 1024 * 1024;

    fn before(objects: u64, files: u64, bytes: u64) -> Before {
        Before { id: "p1".into(), objects, volumes: [("data".to_owned(), (files, bytes))].into() }
    }

    fn now(objects: u64, volumes: &[(&str, u64, u64)]) -> RecoveryPointStatus {
        let volume = |(claim, files, bytes): &(&str, u64, u64)| VolumeInPoint {
            claim: (*claim).to_owned(),
            files: *files,
            bytes: *bytes,
            ..VolumeInPoint::default()
        };
        RecoveryPointStatus {
            objects: Some(ObjectsInPoint { count: objects, ..ObjectsInPoint::default() }),
            volumes: volumes.iter().map(volume).collect(),
            ..RecoveryPointStatus::default()
        }
    }

    #[test]
    fn a_volume_that_lost_most_of_its_data_is_suspicious_and_one_that_shrank_is_not() {
        let usual = [before(30, 400, 100 * MIB), before(30, 400, 90 * MIB), before(30, 400, 110 * MIB)];
        let told = |bytes, files| suspicions(&now(30, &[("data", files, bytes)]), &usual, 20);
        assert_eq!(told(19 * MIB, 400), [format!("volume data: {} bytes, usually {}", 19 * MIB, 100 * MIB)]);
        assert_eq!(told(21 * MIB, 400), [""; 0]);
        assert_eq!(told(100 * MIB, 79), ["volume data: 79 files, usually 400"]);
        assert_eq!(told(0, 0), ["volume data is empty, usually it has 400 files"]);
    }

    #[test]
    fn one_odd_point_among_the_last_ones_does_not_decide() {
        let usual = [before(30, 4, 900 * MIB), before(30, 4, 10 * MIB), before(30, 4, 11 * MIB)];
        assert_eq!(suspicions(&now(30, &[("data", 4, 10 * MIB)]), &usual, 20), [""; 0]);
    }

    #[test]
    fn what_was_always_small_may_shrink_and_what_begins_empty_is_taken_as_it_is() {
        assert_eq!(suspicions(&now(1, &[("data", 1, 10)]), &[before(9, 49, MIB - 1)], 20), [""; 0]);
        assert_eq!(suspicions(&now(0, &[]), &[], 20), [""; 0]);
        assert_eq!(suspicions(&now(0, &[]), &[Before { id: "p1".into(), ..Before::default() }], 20), [""; 0]);
    }

    #[test]
    fn a_namespace_without_most_of_its_objects_or_volumes_is_suspicious() {
        assert_eq!(suspicions(&now(5, &[("data", 9, MIB)]), &[before(30, 9, MIB)], 20), ["5 objects, usually 30"]);
        let told = suspicions(&now(30, &[("cache", 9, MIB)]), &[before(30, 9, 100 * MIB)], 20);
        assert_eq!(told, [format!("{MIB} bytes in all volumes, usually {}", 100 * MIB)]);
        let told = suspicions(&now(0, &[]), &[before(7, 9, MIB)], 20);
        assert_eq!(told, ["the namespace is empty, and p1 before it has 7 objects and 1 volumes"]);
    }

    #[test]
    fn switched_off_only_what_is_empty_is_suspicious() {
        let usual = [before(30, 400, 100 * MIB)];
        assert_eq!(suspicions(&now(1, &[("data", 1, 1)]), &usual, 0), [""; 0]);
        assert_eq!(suspicions(&now(1, &[("data", 0, 0)]), &usual, 0).len(), 1);
    }
}
