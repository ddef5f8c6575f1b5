//! What a point of another region looks like here.

use super::*;
use crate::core::point::{Dump, FORMAT, Volume};

const IMPORTED: &str = "0000000002-01KABCDEFGHJKMNPQRSTVWXYZ0";

fn imported(work: Option<Progress>) -> Decided {
    let mut object = point(Purpose::Imported);
    object.spec.id = Some(IMPORTED.into());
    let works = work.map(|it| ("ReadPoint", it)).into_iter().collect();
    decide(&object, &Observed { works, claim: Some(view("west")), ..observed() }, at(10))
}

fn of_west(branch: bool, missing: &[&str], suspicious: &[&str]) -> Progress {
    let volume = Volume {
        claim: "data".into(),
        snapshot: "5a".into(),
        size: "1Gi".into(),
        storage_class: None,
        access_modes: vec![],
        block: true,
        files: 3,
        bytes: 30,
        exclude: vec!["cache/**".into()],
        excluded: 4,
        no_backup: 0,
    };
    let dump = Dump { name: "orders".into(), snapshot: "6b".into(), consistent_at: at(-60), bytes: 5 };
    let point = Point {
        format: FORMAT,
        id: IMPORTED.into(),
        namespace: "shop".into(),
        application: "shop".into(),
        epoch: 2,
        region: "west".into(),
        branch,
        consistent_at: at(-60),
        created_at: at(-61),
        objects: Objects { manifest: "ab".into(), count: 7, bytes: 12 },
        volumes: vec![volume],
        skipped: vec![],
        dumps: vec![dump],
        missing: missing.iter().map(|it| (*it).to_owned()).collect(),
        suspicious: suspicious.iter().map(|it| (*it).to_owned()).collect(),
        lock_until: None,
        previous: None,
    };
    let work = Work::ReadPoint {
        vault: "main".into(),
        application: AppKey { namespace: "shop".into(), name: "shop".into() },
        id: IMPORTED.into(),
    };
    Progress::Done { at: at(9), work: Box::new(work), outcome: Outcome::PointRead(Box::new(point), None) }
}

#[test]
fn an_imported_point_is_read_once_and_nothing_is_made() {
    let reading = imported(None);
    assert_eq!((acts(&reading), reason(&reading)), (vec!["begin ReadPoint".to_owned()], "Reading"));
    let shown = imported(Some(of_west(false, &[], &[])));
    assert_eq!((acts(&shown), reason(&shown), shown.recheck), (vec![], "Imported", None));
    let status = shown.status;
    assert_eq!((status.id.as_deref(), status.region.as_deref(), status.epoch), (Some(IMPORTED), Some("west"), Some(2)));
    assert_eq!((status.consistent_at, status.bytes), (Some(Time(at(-60))), Some(47)));
    let volume = &status.volumes[0];
    assert_eq!((volume.size.as_deref(), volume.block, volume.excluded), (Some("1Gi"), true, 4));
    assert_eq!((status.volumes[0].files, status.duration_seconds), (3, None), "it took this region no time");
    assert_eq!(status.dumps[0].snapshot.as_deref(), Some("6b"));
    assert!(condition::ended(&status.conditions));
}

#[test]
fn an_imported_point_says_what_the_vault_says_of_it() {
    assert_eq!(reason(&imported(Some(of_west(true, &[], &[])))), "ImportedBranch");
    let partial = imported(Some(of_west(false, &["volume data: gone"], &[])));
    assert_eq!(reason(&partial), "Partial");
    assert!(!condition::is_true(&partial.status.conditions, SUCCEEDED));
    let emptied = imported(Some(of_west(false, &[], &["volume data: 1 of 100 files"])));
    assert_eq!((reason(&emptied), emptied.status.suspicious.len()), ("Suspicious", 1));
    assert!(!condition::is_true(&emptied.status.conditions, SUCCEEDED));
    let failed = |reason, lasting| {
        let failure = Failure { reason, message: "why".into(), lasting };
        let decision = imported(Some(Progress::Failed { at: at(9), times: 1, failure }));
        (self::reason(&decision).to_owned(), condition::ended(&decision.status.conditions))
    };
    assert_eq!(failed("Absent", false), ("Absent".to_owned(), true));
    assert_eq!(failed("Corrupt", true), ("Corrupt".to_owned(), true));
    assert_eq!(failed("StoreFailed", false), ("Reading".to_owned(), false));
}

#[test]
fn what_is_found_out_about_a_point_is_shown_in_every_region_and_goes_when_it_is_whole_again() {
    use crate::api::recovery_point::Level;
    use crate::core::{
        condition::VERIFIED,
        verified::{Found, example},
    };
    let mut object = point(Purpose::Imported);
    object.spec.id = Some(IMPORTED.into());
    let first = imported(Some(of_west(false, &[], &[]))).status;
    assert!(condition::is_true(&first.conditions, VERIFIED));
    object.status = Some(first.clone());
    let mut look = |noted| {
        let seen = Observed { noted, claim: Some(view("west")), ..observed() };
        let decision = decide(&object, &seen, at(20));
        object.status = Some(decision.status.clone());
        let shown = condition::find(&decision.status.conditions, VERIFIED).unwrap();
        (shown.status.clone(), shown.reason.clone(), decision.status)
    };
    assert_eq!(look(Found::Unknown).2, first, "it is not known yet");
    assert_eq!(look(Found::Read(None)).2, first, "nothing was found out");
    let (truth, reason, status) = look(Found::Read(Some(example(IMPORTED, Level::L1, &["ab12"]))));
    assert_eq!((truth.as_str(), reason.as_str(), status.damaged()), ("False", "Damaged", true));
    assert!(condition::is_true(&status.conditions, SUCCEEDED), "it was made all the same");
    let (truth, reason, status) = look(Found::Read(Some(example(IMPORTED, Level::L2, &[]))));
    assert_eq!((truth.as_str(), reason.as_str(), status.damaged()), ("True", "L2", false));
    let (_, reason, status) = look(Found::Read(None));
    assert_eq!((reason.as_str(), status.verification.unwrap().level), ("L1", Level::L1), "the note is gone");
}
