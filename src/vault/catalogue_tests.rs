//! Tests of the catalogue, over a store that is sound, forgetful, or tampered with.

use futures::future::join_all;
use jiff::Timestamp;

use super::*;
use crate::core::point::Objects;
use crate::vault::fake::{Fake, Manner};

const KEY: &str = "a key that is long enough for a vault";

fn vault(fake: &Fake) -> Vault {
    Vault::with(Store::Fake(fake.clone()), KEY)
}

fn point(epoch: u64, number: u64, branch: bool) -> Point {
    Point {
        format: FORMAT,
        id: format!("{epoch:010}-{number:026}"),
        namespace: "shop".to_owned(),
        application: "db".to_owned(),
        epoch,
        region: "east".to_owned(),
        branch,
        consistent_at: Timestamp::UNIX_EPOCH,
        created_at: Timestamp::UNIX_EPOCH,
        objects: Objects { manifest: "00".to_owned(), count: 1, bytes: 2 },
        volumes: vec![],
        dumps: vec![],
        missing: vec!["a \",\"mac\":\"x\"} b".to_owned()],
        skipped: vec![],
        suspicious: vec![],
        lock_until: None,
        previous: None,
    }
}

#[tokio::test]
async fn a_seal_shuts_lower_epochs_out_and_keeps_what_is_in() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    assert_eq!(vault.read_head("shop", "db").await.unwrap(), None);
    vault.seal_head("shop", "db", 3, "east").await.unwrap();
    let first = point(3, 1, false);
    vault.enter_head(&first, 3, "east").await.unwrap();
    let head = vault.seal_head("shop", "db", 4, "west").await.unwrap();
    assert_eq!((head.epoch, head.sealed_by.as_str(), head.seq), (4, "west", 3));
    assert_eq!(head.latest, Some(first.id));
    let refused = vault.enter_head(&point(3, 2, false), 3, "east").await;
    assert_eq!(refused, Err(CatalogueError::Sealed { epoch: 4, by: "west".to_owned() }));
    let refused = vault.seal_head("shop", "db", 3, "east").await;
    assert_eq!(refused, Err(CatalogueError::Sealed { epoch: 4, by: "west".to_owned() }));
}

#[tokio::test]
async fn sealing_again_changes_nothing() {
    let vault = vault(&Fake::new(Manner::Sound));
    let once = vault.seal_head("shop", "db", 1, "east").await.unwrap();
    assert_eq!(vault.seal_head("shop", "db", 1, "east").await.unwrap(), once);
}

#[tokio::test]
async fn one_epoch_is_sealed_by_one_region() {
    let vault = vault(&Fake::new(Manner::Sound));
    let seals = join_all(["a", "b", "c", "d"].map(|region| vault.seal_head("shop", "db", 7, region))).await;
    assert_eq!(seals.iter().filter(|seal| seal.is_ok()).count(), 1);
    assert!(seals.iter().all(|seal| seal.is_ok() || matches!(seal, Err(CatalogueError::Sealed { epoch: 7, .. }))));
}

#[tokio::test]
async fn a_point_of_another_region_or_epoch_does_not_enter() {
    let vault = vault(&Fake::new(Manner::Sound));
    assert_eq!(vault.enter_head(&point(1, 1, false), 1, "east").await, Err(CatalogueError::Unsealed));
    vault.seal_head("shop", "db", 2, "east").await.unwrap();
    let sealed = Err(CatalogueError::Sealed { epoch: 2, by: "east".to_owned() });
    assert_eq!(vault.enter_head(&point(2, 1, false), 2, "west").await, sealed);
    assert_eq!(vault.enter_head(&point(1, 1, false), 2, "east").await, sealed);
    assert_eq!(vault.enter_head(&point(3, 1, false), 3, "east").await, sealed);
    assert_eq!(vault.read_head("shop", "db").await.unwrap().unwrap().0.latest, None);
}

#[tokio::test]
async fn an_older_point_does_not_replace_a_newer_one() {
    let vault = vault(&Fake::new(Manner::Sound));
    vault.seal_head("shop", "db", 1, "east").await.unwrap();
    vault.enter_head(&point(1, 5, false), 1, "east").await.unwrap();
    let head = vault.enter_head(&point(1, 4, false), 1, "east").await.unwrap();
    assert_eq!(head.latest, Some(point(1, 5, false).id));
}

#[tokio::test]
async fn a_branch_enters_at_any_epoch_and_is_never_the_latest() {
    let vault = vault(&Fake::new(Manner::Sound));
    vault.seal_head("shop", "db", 9, "west").await.unwrap();
    for number in 0..=BRANCHES as u64 {
        vault.enter_head(&point(3, number, true), 3, "east").await.unwrap();
    }
    let head = vault.enter_head(&point(3, 50, true), 3, "east").await.unwrap();
    assert_eq!((head.latest, head.branches.len(), head.epoch), (None, BRANCHES, 9));
    assert_eq!(head.branches.first(), Some(&point(3, 1, true).id), "the oldest leaves the list");
}

#[tokio::test]
async fn lost_replies_neither_lose_nor_double_a_change() {
    for every in [1, 2, 3] {
        let fake = Fake::new(Manner::Forgetful(every));
        let vault = vault(&fake);
        vault.seal_head("shop", "db", 1, "east").await.unwrap();
        for number in 0..5 {
            let point = point(1, number, false);
            vault.write_point(&point).await.unwrap();
            vault.enter_head(&point, 1, "east").await.unwrap();
        }
        vault.enter_head(&point(1, 7, true), 1, "east").await.unwrap();
        let (head, _) = vault.read_head("shop", "db").await.unwrap().unwrap();
        assert_eq!((head.seq, head.branches.len()), (7, 1), "every {every}");
        assert_eq!(head.latest, Some(point(1, 4, false).id));
    }
}

#[tokio::test]
async fn writers_of_one_head_all_get_through() {
    let vault = vault(&Fake::new(Manner::Sound));
    vault.seal_head("shop", "db", 1, "east").await.unwrap();
    let points: Vec<_> = (0..4).map(|number| point(1, number, true)).collect();
    let entered = join_all(points.iter().map(|point| vault.enter_head(point, 1, "east"))).await;
    assert!(entered.iter().all(Result::is_ok), "{entered:?}");
    assert_eq!(vault.read_head("shop", "db").await.unwrap().unwrap().0.branches.len(), 4);
}

#[tokio::test]
async fn a_point_is_read_back_as_it_was_written_and_written_once() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    let point = point(1, 1, false);
    vault.write_point(&point).await.unwrap();
    vault.write_point(&point).await.unwrap();
    assert_eq!(vault.read_point("shop", "db", &point.id).await.unwrap(), point);
    let other = Point { region: "west".to_owned(), ..point.clone() };
    assert!(matches!(vault.write_point(&other).await, Err(CatalogueError::Exists { .. })));
    assert_eq!(vault.read_point("shop", "db", &point.id).await.unwrap(), point);
    assert!(matches!(vault.read_point("shop", "db", "x").await, Err(CatalogueError::Absent { .. })));
}

#[tokio::test]
async fn a_changed_point_and_a_moved_point_are_refused() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    let point = point(1, 1, false);
    vault.write_point(&point).await.unwrap();
    let key = point_key("shop", "db", &point.id);
    let original = fake.get(&key).unwrap().unwrap().bytes;
    fake.put(&point_key("shop", "db", "moved"), original.clone()).unwrap();
    fake.put(&point_key("shop", "web", &point.id), original).unwrap();
    for (application, id) in [("db", "moved"), ("web", point.id.as_str())] {
        assert!(matches!(vault.read_point("shop", application, id).await, Err(CatalogueError::Corrupt { .. })));
    }
    fake.tamper(&key, |bytes| {
        let at = bytes.windows(4).position(|four| four == b"east").unwrap();
        bytes[at..at + 4].copy_from_slice(b"west");
    });
    assert!(matches!(vault.read_point("shop", "db", &point.id).await, Err(CatalogueError::Corrupt { .. })));
    fake.put(&key, "{}".into()).unwrap();
    assert!(matches!(vault.read_point("shop", "db", &point.id).await, Err(CatalogueError::Corrupt { .. })));
}

#[tokio::test]
async fn the_newest_points_are_listed_first_and_no_more_than_can_be_looked_at() {
    let fake = Fake::new(Manner::Sound);
    let id = |number: u64| point(1 + number / 20_000, number, false).id;
    for number in 0..20_500 {
        fake.put(&point_key("shop", "db", &id(number)), "x".into()).unwrap();
    }
    fake.put(&point_key("shop", "db2", "other"), "x".into()).unwrap();
    let vault = vault(&fake);
    let ids = vault.list_points("shop", "db", None, None).await.unwrap();
    assert_eq!((ids.len(), &ids[0]), (POINTS, &id(20_499)));
    assert!(ids.windows(2).all(|two| two[0] > two[1]));
    let some = vault.list_points("shop", "db", Some(&id(19_998)), Some(&id(20_001))).await.unwrap();
    assert_eq!(some, [id(20_000), id(19_999)]);
    assert!(vault.list_points("shop", "absent", None, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_vault_knows_its_applications() {
    let fake = Fake::new(Manner::Sound);
    for key in
        ["apps/a/x/head.json", "apps/a/x/points/1.json", "apps/a/y.z/head.json", "apps/b/x/head.json", "claims/c"]
    {
        fake.put(key, "x".into()).unwrap();
    }
    let all = vault(&fake).list_applications().await.unwrap();
    let all: Vec<_> = all.iter().map(|(namespace, name)| (namespace.as_str(), name.as_str())).collect();
    assert_eq!(all, [("a", "x"), ("a", "y.z"), ("b", "x")]);
}

#[tokio::test]
async fn a_head_that_was_lost_is_sealed_anew_by_who_holds_the_claim_and_by_nobody_else() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    let lost = point(3, 1, false);
    assert_eq!(vault.enter_head(&lost, 3, "east").await, Err(CatalogueError::Unsealed));
    let head = vault.enter_as_holder(&lost).await.unwrap();
    assert_eq!((head.epoch, head.sealed_by.as_str(), head.latest), (3, "east", Some(lost.id.clone())));
    vault.seal_head("shop", "db", 4, "west").await.unwrap();
    let refused = vault.enter_as_holder(&point(3, 2, false)).await;
    assert_eq!(refused, Err(CatalogueError::Sealed { epoch: 4, by: "west".to_owned() }), "one that stands is left");
}

#[tokio::test]
async fn a_head_that_was_changed_or_copied_is_not_taken() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(&fake);
    vault.seal_head("shop", "db", 3, "east").await.unwrap();
    let taken = async |name| vault.read_head("shop", name).await.map(|it| it.map(|(head, _)| head.epoch));
    assert_eq!(taken("db").await, Ok(Some(3)));
    let bytes = fake.get("apps/shop/db/head.json").unwrap().unwrap().bytes;
    fake.put("apps/shop/other/head.json", bytes.clone()).unwrap();
    assert!(matches!(taken("other").await, Err(CatalogueError::Corrupt { .. })), "it is another application's");
    let text = std::str::from_utf8(&bytes).unwrap();
    for changed in
        [text.replace("\"epoch\":3", "\"epoch\":2"), text.replace("east", "west"), text.replace("head", "point")]
    {
        assert_ne!(changed, text);
        fake.put("apps/shop/db/head.json", changed.into()).unwrap();
        assert!(matches!(taken("db").await, Err(CatalogueError::Corrupt { .. })));
    }
}
