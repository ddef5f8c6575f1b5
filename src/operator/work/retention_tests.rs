//! Retention against a catalogue.

use super::*;
use crate::{
    core::{
        point::{FORMAT, Objects},
        verified::example,
    },
    vault::{
        Store, StoreError,
        fake::{Fake, Manner},
    },
};

fn shop() -> AppKey {
    AppKey { namespace: "shop".to_owned(), name: "db".to_owned() }
}

/// Drops points of the first vault.
async fn dropped(
    vault: &Vault,
    ids: &[String],
    mine: impl Fn(&Head) -> bool,
    valid: impl Fn() -> bool,
) -> Result<Outcome, Failure> {
    let (application, named) = (shop(), gather(vault, &shop(), Remembered::default()).await?.read.named);
    delete(&Dropping { vault, application: &application, ids, elsewhere: &BTreeSet::new(), named: &named }, mine, valid)
        .await
}

fn vault(fake: &Fake) -> Vault {
    Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault")
}

/// One point for each day, oldest first, all under one epoch, the newest entered in the head.
async fn filled(days: i64) -> (Fake, Vault, Vec<String>) {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    vault.seal_head("shop", "db", 3, "east").await.unwrap();
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut ids = Vec::new();
    for day in 0..days {
        let point = Point {
            format: FORMAT,
            id: format!("{:010}-{day:026}", 3),
            namespace: "shop".to_owned(),
            application: "db".to_owned(),
            epoch: 3,
            region: "east".to_owned(),
            branch: false,
            consistent_at: begin + SignedDuration::from_hours(24 * day),
            created_at: begin,
            objects: Objects { manifest: "00".to_owned(), count: 1, bytes: 2 },
            volumes: vec![],
            dumps: vec![],
            missing: vec![],
            skipped: vec![],
            suspicious: vec![],
            lock_until: None,
            previous: None,
        };
        vault.write_point(&point).await.unwrap();
        vault.enter_head(&point, 3, "east").await.unwrap();
        ids.push(point.id);
    }
    (fake, vault, ids)
}

async fn look(vault: &Vault, policy: &Retention) -> Review {
    let gathered = gather(vault, &shop(), Remembered::default()).await.unwrap();
    let points: Vec<Known> = gathered.points().collect();
    reviewed(&points, &gathered.unreadable, policy, "2026-11-20T00:00:00Z".parse().unwrap())
}

fn last(count: u32) -> Retention {
    Retention { last: Some(count), ..Retention::default() }
}

/// The catalogue is the east's, in its third epoch.
fn by_east(head: &Head) -> bool {
    (head.epoch, head.sealed_by.as_str()) == (3, "east")
}

#[tokio::test]
async fn what_no_rule_keeps_is_deleted_oldest_first_and_the_rest_stays() {
    let (_, vault, ids) = filled(40).await;
    vault.hold("shop", "db", &ids[4], "west").await.unwrap();
    let review = look(&vault, &last(5)).await;
    assert_eq!((review.kept, review.drop.len()), (6, 34));
    assert_eq!(review.drop[0], ids[0]);
    assert!(review.points.iter().any(|it| it.id == ids[4] && it.why == "held"));
    let outcome = dropped(&vault, &review.drop, by_east, || true).await.unwrap();
    assert_eq!(outcome, Outcome::Dropped { dropped: review.drop, refused: vec![] });
    let mut left = vec![ids[4].clone()];
    left.extend_from_slice(&ids[35..]);
    assert_eq!(vault.all_points("shop", "db").await.unwrap(), left);
}

#[tokio::test]
async fn a_point_that_was_held_or_named_by_the_head_meanwhile_is_not_deleted() {
    let (_, vault, ids) = filled(6).await;
    vault.hold("shop", "db", &ids[1], "west").await.unwrap();
    let outcome = dropped(&vault, &ids, by_east, || true).await.unwrap();
    let Outcome::Dropped { dropped: gone, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(gone, [0, 2, 3, 4].map(|it| ids[it].clone()));
}

#[tokio::test]
async fn a_region_that_lost_the_claim_deletes_nothing() {
    let (_, vault, ids) = filled(6).await;
    let unproven = dropped(&vault, &ids[..3], by_east, || false).await.unwrap_err();
    assert_eq!((unproven.reason, unproven.lasting), ("NoClaim", false));
    vault.seal_head("shop", "db", 4, "west").await.unwrap();
    let sealed = dropped(&vault, &ids[..3], by_east, || true).await.unwrap_err();
    assert_eq!((sealed.reason, sealed.lasting), ("Sealed", true));
    assert_eq!(vault.all_points("shop", "db").await.unwrap(), ids);
}

#[tokio::test]
async fn a_deletion_that_the_vault_refuses_is_told_and_is_no_failure() {
    let (fake, vault, ids) = filled(6).await;
    fake.lock(&format!("apps/shop/db/points/{}.json", ids[1]));
    let outcome = dropped(&vault, &ids[..3], by_east, || true).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Dropped { dropped: vec![ids[0].clone(), ids[2].clone()], refused: vec![ids[1].clone()] }
    );
    fake.break_with(StoreError::TimedOut { server: "fake".to_owned() });
    let failed = dropped(&vault, &ids[3..4], by_east, || true).await.unwrap_err();
    assert_eq!((failed.reason, failed.lasting), ("StoreFailed", false));
}

#[tokio::test]
async fn a_point_that_cannot_be_read_is_kept_and_keeps_nothing_from_being_dropped() {
    let (fake, vault, ids) = filled(6).await;
    fake.put(&format!("apps/shop/db/points/{}.json", ids[0]), "rubbish".into()).unwrap();
    let review = look(&vault, &last(2)).await;
    assert_eq!((review.kept, review.drop.as_slice()), (3, &ids[1..4]));
}

#[tokio::test]
async fn a_clock_that_differs_from_the_vaults_is_noticed_by_the_claims_age() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    let now: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
    clocks_agree(&vault, &shop(), now).await.unwrap();
    fake.put("claims/shop.db.json", "{}".into()).unwrap();
    for (minutes, agree) in [(-9, true), (9, true), (-11, false), (11, false)] {
        fake.age("claims/shop.db.json", now + SignedDuration::from_mins(minutes));
        let told = clocks_agree(&vault, &shop(), now).await;
        assert_eq!(told.map_err(|it| it.reason), if agree { Ok(()) } else { Err("ClockSkew") }, "{minutes}");
    }
}

#[tokio::test]
async fn the_last_verified_point_is_never_dropped_and_a_damaged_one_counts_for_no_rule() {
    let (fake, vault, ids) = filled(10).await;
    for (id, level, packs) in [(1, Level::L2, &[][..]), (2, Level::L2, &[]), (9, Level::L1, &["ab12"])] {
        let note = example(&ids[id], level, packs);
        vault.change_verified("shop", "db", &ids[id], |_| Some(note.clone())).await.unwrap();
    }
    let review = look(&vault, &last(1)).await;
    assert!(!review.drop.contains(&ids[2]) && review.drop.contains(&ids[1]), "{:?}", review.drop);
    assert!(!review.drop.contains(&ids[8]) && !review.drop.contains(&ids[9]), "{:?}", review.drop);
    assert!(review.drop.contains(&ids[7]));
    // A note that is the same is read once.
    let gathered = gather(&vault, &shop(), Remembered::default()).await.unwrap();
    let before = fake.requests();
    gather(&vault, &shop(), gathered.read).await.unwrap();
    assert_eq!(fake.requests() - before, 3, "the lists of points, notes and holds");
}

#[tokio::test]
async fn what_stays_is_written_down_before_anything_goes() {
    let (fake, vault, ids) = filled(10).await;
    ids[..3].iter().for_each(|it| fake.lock(&format!("apps/shop/db/points/{it}.json")));
    let refused = dropped(&vault, &ids[..3], by_east, || true).await.unwrap();
    let kept = vault.read_kept("shop", "db").await.unwrap().unwrap();
    assert_eq!(kept.ids.iter().collect::<Vec<_>>(), ids[3..].iter().collect::<Vec<_>>(), "{refused:?}");
    vault.seal_head("shop", "db", 4, "west").await.unwrap();
    dropped(&vault, &ids[3..5], by_east, || true).await.unwrap_err();
    assert_eq!(vault.read_kept("shop", "db").await.unwrap(), Some(kept), "another region decides by now");
}

#[tokio::test]
async fn a_survey_says_of_each_point_what_a_review_would_do_with_it_and_without_a_policy_nothing() {
    let (fake, vault, ids) = filled(5).await;
    vault.hold("shop", "db", &ids[0], "east").await.unwrap();
    vault.change_verified("shop", "db", &ids[2], |_| Some(example(&ids[2], Level::L2, &[]))).await.unwrap();
    fake.put(&format!("apps/shop/db/points/{}.json", ids[3]), "rubbish".into()).unwrap();
    let now = "2026-11-20T00:00:00Z".parse().unwrap();
    let told = survey(&vault, None, &shop(), (Some(&last(1)), &ids[1..2]), now).await.unwrap();
    let fates = told.points.iter().map(|it| match it.fate.as_ref().unwrap() {
        Fate::Keep(reasons) => (it.point.id.as_str(), Reason::all(reasons)),
        Fate::Drop(why) => (it.point.id.as_str(), why.text().to_owned()),
    });
    let fates: Vec<_> = fates.collect();
    assert_eq!(fates[0], (ids[4].as_str(), "in use, newest good, last".to_owned()));
    assert_eq!(fates[2], (ids[1].as_str(), "in use".to_owned()));
    assert_eq!(fates[3], (ids[0].as_str(), "held".to_owned()));
    assert_eq!((told.unreadable, told.points[1].note.is_some()), (vec![ids[3].clone()], true));
    let told = survey(&vault, None, &shop(), (None, &[]), now).await.unwrap();
    assert!(told.points.iter().all(|it| it.fate.is_none()) && told.points[0].point.id == ids[4]);
}

#[tokio::test]
async fn what_the_first_vault_holds_is_held_in_a_copy() {
    let (_fake, first, ids) = filled(3).await;
    let (_other, copy, _) = filled(3).await;
    first.hold("shop", "db", &ids[0], "east").await.unwrap();
    let now = "2026-11-20T00:00:00Z".parse().unwrap();
    let held = async |first| {
        let told = survey(&copy, first, &shop(), (Some(&last(1)), &[]), now).await.unwrap();
        told.points.into_iter().filter(|it| it.point.held).map(|it| it.point.id).collect::<Vec<_>>()
    };
    assert_eq!((held(None).await, held(Some(&first)).await), (vec![], vec![ids[0].clone()]));
}
