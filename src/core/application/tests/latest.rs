//! What a standby tells of the points that another region makes.

use super::*;
use crate::core::work::Catalogue;

fn standby(status: &Value, seen: Observed, seconds: i64) -> Decided {
    let seen = Observed { claim: Some(view(Some("east"), 2)), ..seen };
    decide(&application(status.clone()), &seen, at(seconds))
}

fn with(works: Works) -> Observed {
    Observed { works, ..observed(None) }
}

/// What it asks the vault for, in words.
fn reads(decision: &Decided) -> Vec<String> {
    let word = |it: &Effect| match it {
        Effect::Begin(work) => match work.as_ref() {
            Work::ReadLatest { known, .. } => {
                Some(format!("newer than {}", known.as_ref().map_or("nothing", |it| &it.version)))
            }
            _ => None,
        },
        _ => None,
    };
    decision.effects.iter().filter_map(word).collect()
}

fn id(number: u64) -> String {
    format!("0000000002-{number:026}")
}

fn read(version: &str, latest: (u64, i64), newest: &[u64], seconds: i64) -> Works {
    let catalogue = Catalogue {
        version: version.to_owned(),
        latest: Some((id(latest.0), at(latest.1))),
        newest: newest.iter().map(|it| id(*it)).collect(),
    };
    let outcome = Outcome::Latest(Some(Box::new(catalogue)));
    Works::from([done(Work::ReadLatest { vault: "main".into(), application: key(), known: None }, seconds, outcome)])
}

fn shown(number: u64) -> Arc<RecoveryPoint> {
    let name = format!("imported-{}", id(number));
    let mut it = Arc::unwrap_or_clone(recovery_point(&name, "Imported", ended(true, "Imported", 2, 0, 1)));
    it.spec.id = Some(id(number));
    it.status.as_mut().unwrap().id = Some(id(number));
    Arc::new(it)
}

/// The numbers of the points whose objects are made and deleted.
fn changes(decision: &Decided) -> (Vec<u64>, Vec<u64>) {
    let number = |it: &str| it.rsplit_once('-').and_then(|it| it.1.parse().ok()).unwrap();
    let (mut made, mut deleted) = (Vec::new(), Vec::new());
    for effect in &decision.effects {
        match effect {
            Effect::Apply(it) => {
                assert_eq!((&it.data["spec"]["purpose"], it.metadata.name.is_some()), (&json!("Imported"), true));
                assert_eq!(it.metadata.owner_references.iter().flatten().count(), 1, "it goes with the application");
                made.push(number(it.data["spec"]["id"].as_str().unwrap()));
            }
            Effect::Delete(it) if it.kind == "RecoveryPoint" => deleted.push(number(&it.name)),
            _ => {}
        }
    }
    (made, deleted)
}

#[test]
fn a_standby_tells_the_newest_point_and_asks_for_it_once_a_minute() {
    assert_eq!(reads(&standby(&json!({}), with(Works::new()), 0)), ["newer than nothing"]);
    let told = standby(&json!({}), with(read("v1", (7, -20), &[7], 1)), 2);
    assert_eq!(told.status.last_point.as_ref().map(|it| (it.id.clone(), it.consistent_at.0)), Some((id(7), at(-20))));
    assert_eq!(reads(&told), [""; 0]);
    let status = json!({"lastPoint": {"id": id(7), "consistentAt": at(-20).to_string()}, "conditions": []});
    let later = standby(&status, with(read("v1", (7, -20), &[7], 1)), 61);
    assert_eq!(reads(&later), ["newer than v1"]);
    let old = standby(&status, with(read("v0", (1, -900), &[1], 62)), 63);
    assert_eq!(old.status.last_point.map(|it| it.id), Some(id(7)), "what was read long ago sets nothing back");
}

#[test]
fn a_standby_shows_the_points_of_the_vault_and_forgets_what_is_no_longer_there() {
    let works = || read("v1", (7, -20), &[7, 6, 5], 1);
    assert_eq!(changes(&standby(&json!({}), with(works()), 2)), (vec![7, 6, 5], vec![]));
    let due = standby(&json!({}), with(works()), 61);
    let shows: Vec<_> = due.effects.iter().map(|it| matches!(it, Effect::Apply(_))).collect();
    assert!(shows.is_sorted() && !shows[0], "one that is refused keeps nothing else from being done: {shows:?}");
    let points = vec![shown(7), shown(6), shown(5)];
    let settled = standby(&json!({}), Observed { points, ..with(works()) }, 3);
    assert_eq!(changes(&settled), (vec![], vec![]), "nothing changed, nothing is written");
    let points = vec![shown(6), shown(5), shown(4)];
    let later = standby(&json!({}), Observed { points, ..with(works()) }, 4);
    assert_eq!(changes(&later), (vec![7], vec![4]));
}

#[test]
fn a_held_imported_point_stays_shown_wherever_the_region_stands() {
    let held = || {
        let mut it = Arc::unwrap_or_clone(shown(1));
        it.spec.hold = true;
        Arc::new(it)
    };
    let points = vec![shown(7), held()];
    let decision = standby(&json!({}), Observed { points, ..with(read("v1", (7, 0), &[7], 1)) }, 2);
    assert_eq!(changes(&decision), (vec![], vec![]));
    let own =
        (1..=20).map(|it| recovery_point(&format!("shop-{it:06}"), "Scheduled", ended(true, "Stored", 1, it, it)));
    let points = own.chain([shown(7), held()]).collect();
    assert_eq!(changes(&decide(&application(json!({})), &with_points(points), at(21))).1, [7]);
}

#[test]
fn what_this_region_made_itself_is_not_shown_twice() {
    let mut own = Arc::unwrap_or_clone(recovery_point("shop-000009", "Scheduled", ended(true, "Stored", 1, 0, 9)));
    own.status.as_mut().unwrap().id = Some(id(6));
    let points = vec![Arc::new(own)];
    let decision = standby(&json!({}), Observed { points, ..with(read("v1", (7, 0), &[7, 6], 1)) }, 2);
    assert_eq!(changes(&decision), (vec![7], vec![]));
}

#[test]
fn an_imported_point_that_a_person_made_is_left_alone() {
    let mut by_hand = Arc::unwrap_or_clone(shown(1));
    by_hand.metadata.name = Some("look-at-this".into());
    let points = vec![Arc::new(by_hand), shown(7)];
    let decision = standby(&json!({}), Observed { points, ..with(read("v1", (7, 0), &[7], 1)) }, 2);
    assert_eq!(changes(&decision), (vec![], vec![]));
}

#[test]
fn a_new_holder_counts_no_imported_point_as_its_own() {
    // Not yet read, read, failed: none of them starts, holds up or times a point of this region.
    let mut unread = Arc::unwrap_or_clone(shown(3));
    unread.status = None;
    let mut slow = Arc::unwrap_or_clone(shown(2));
    slow.status.as_mut().unwrap().duration_seconds = Some(3_000);
    let failed = {
        let mut it = Arc::unwrap_or_clone(shown(1));
        it.status.as_mut().unwrap().conditions =
            condition::conditions(&[], vec![Finding::new(SUCCEEDED, false, "Corrupt", "why")], None, START);
        Arc::new(it)
    };
    let points = vec![Arc::new(unread), Arc::new(slow), failed];
    let none = decide(&application(json!({})), &serving(), at(0));
    let some = decide(&application(json!({})), &with_points(points), at(0));
    assert_eq!(made(&some, "RecoveryPoint"), ["shop-000001"]);
    assert_eq!((some.status, some.effects), (none.status, none.effects));
}

#[test]
fn a_new_holder_forgets_imported_points_as_it_makes_its_own() {
    let own =
        (1..=15).map(|it| recovery_point(&format!("shop-{it:06}"), "Scheduled", ended(true, "Stored", 1, it, it)));
    let points = own.chain((1..=20).map(shown)).collect();
    let (_, mut deleted) = changes(&decide(&application(json!({})), &with_points(points), at(16)));
    deleted.sort_unstable();
    assert_eq!(deleted, (1..=15).collect::<Vec<_>>(), "the newest five are left");
}
