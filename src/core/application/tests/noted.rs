//! What a point that was found damaged changes for the application.

use super::*;
use crate::core::application::warm::WarmSeen;
use crate::core::work::Catalogue;

fn point(name: &str, purpose: &str, started: i64, damaged: bool) -> Arc<RecoveryPoint> {
    let reason = if purpose == "Imported" { "Imported" } else { "Stored" };
    let mut status = ended(true, reason, 1, started, started + 5);
    let damage = damaged.then_some("found damaged: 2 packs");
    status["verification"] = json!({"level": "L1", "at": at(started), "detail": "", "damage": damage});
    recovery_point(name, purpose, status)
}

fn asked(decision: &Decided) -> bool {
    begun(decision).contains(&"ReadNotes")
}

#[test]
fn a_damaged_point_does_not_count_until_it_is_whole_again() {
    let newest = |damaged, last: Value| {
        let seen = with_points(vec![point("a", "Scheduled", 10, false), point("b", "Scheduled", 20, damaged)]);
        decide(&application(json!({"lastPoint": last})), &seen, at(500)).status
    };
    let of = |second: i64| json!({"id": format!("1-{second:05}"), "consistentAt": at(second)});
    let damaged = newest(true, of(20));
    assert_eq!(damaged.last_point.as_ref().unwrap().id, "1-00010", "though it was taken before");
    let finding = condition::find(&damaged.conditions, RPO_MET).unwrap();
    assert_eq!(finding.reason, "TooOld");
    assert!(finding.message.contains("1-00020 is newer, and damaged"), "{}", finding.message);
    assert_eq!(newest(false, of(10)).last_point.unwrap().id, "1-00020");
    let only = with_points(vec![point("b", "Scheduled", 20, true)]);
    assert_eq!(decide(&application(json!({"lastPoint": of(20)})), &only, at(25)).status.last_point, None);
}

#[test]
fn a_standby_takes_the_newest_point_that_it_shows_and_that_is_not_damaged() {
    let catalogue = Catalogue { version: "n".into(), latest: Some(("1-00020".into(), at(20))), newest: vec![] };
    let read = Work::ReadLatest { vault: "main".into(), application: key(), known: None };
    let seen = |damaged| Observed {
        points: vec![point("a", "Imported", 10, false), point("b", "Imported", 20, damaged)],
        works: Works::from([done(read.clone(), 1, Outcome::Latest(Some(Box::new(catalogue.clone()))))]),
        ..observed(Some(view(Some("east"), 2)))
    };
    let last = |damaged| decide(&application(json!({})), &seen(damaged), at(30)).status.last_point.unwrap().id;
    assert_eq!((last(false), last(true)), ("1-00020".into(), "1-00010".into()), "the head names the newer one");
}

#[test]
fn notes_are_asked_for_every_five_minutes_where_a_point_is_shown_that_can_have_one() {
    let read = done(Work::ReadNotes { vault: "main".into(), application: key() }, 100, Outcome::Done);
    let ask = |points, works: Works, second| {
        let seen = Observed { points, ..serving() };
        let works = seen.works.clone().into_iter().chain(works).collect();
        decide(&application(json!({})), &Observed { works, ..seen }, at(second))
    };
    let shown = || vec![point("a", "Scheduled", 10, false)];
    assert!(!asked(&ask(vec![], Works::new(), 100)));
    assert!(asked(&ask(shown(), Works::new(), 100)));
    assert!(!asked(&ask(shown(), Works::from([read.clone()]), 399)));
    assert!(asked(&ask(shown(), Works::from([read]), 400)));
}

#[test]
fn a_standby_does_not_restore_a_damaged_point_ahead() {
    let mut object = application(json!({
        "fence": {"epoch": 1, "since": at(-600), "stoppedAt": at(-590), "settled": true},
        "lastPoint": {"id": "p7", "consistentAt": at(-20)},
        "warm": {"point": "p6", "consistentAt": at(-90), "bytes": 5,
                 "round": {"point": "p7", "consistentAt": at(-20), "startedAt": at(0)}},
    }));
    for region in &mut object.spec.regions {
        region.standby = crate::api::application::Standby::Warm;
    }
    let read = Work::ReadPoint { vault: "main".into(), application: key(), id: "p7".into() };
    let p7 = crate::core::point::Point { id: "p7".into(), ..crate::core::point::example("shop", "shop") };
    let note = crate::core::verified::example("p7", crate::api::recovery_point::Level::L1, &["ab12"]);
    let seen = Observed {
        movers: Some(movers()),
        warm: Some(WarmSeen::default()),
        works: Works::from([done(read, 1, Outcome::PointRead(Box::new(p7), Some(Box::new(note))))]),
        ..observed(Some(view(Some("east"), 2)))
    };
    let told = decide(&object, &seen, at(4)).status.warm.unwrap();
    assert!(told.failure.unwrap().starts_with("p7: found damaged at"));
    // Once the damage is shown, an older point takes its place, and nothing is believed of the volumes.
    object.status.as_mut().unwrap().last_point.as_mut().unwrap().id = "p6".into();
    let another = decide(&object, &seen, at(4)).status.warm.unwrap();
    assert_eq!((another.round, another.point), (None, None));
}
