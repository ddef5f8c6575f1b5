//! A vault in memory, with points as an operator writes them, and what is said of it when parts of it are gone.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use ulid::Ulid;

use super::{
    adopt, application, check, claim,
    listed::{self, PointsArguments},
    points,
};
use crate::{
    api::{
        application::{ProtectedApplicationSpec, Retention},
        recovery_point::Level,
    },
    capture::bundle::{self, FORMAT as BUNDLE, Index, Namespace},
    core::{
        app_key::AppKey,
        claim::record::{Claim, Deadlines, FORMAT as CLAIM, Intent},
        point::{FORMAT, Head, Objects, Point, Protection, Volume},
        vault_answer::PointState,
        vault_check::{Checked, Finding},
    },
    vault::{
        Store, Vault,
        fake::{Fake, Manner},
        manifest::Content,
        repository,
    },
};

mod thief;

const HEAD: &str = "apps/shop/db/head.json";

fn key() -> AppKey {
    AppKey { namespace: "shop".to_owned(), name: "db".to_owned() }
}

fn id(epoch: u64, minute: u64) -> String {
    format!("{epoch:010}-{}", Ulid::from_parts(1_800_000_000_000 + minute * 60_000, 7))
}

fn snapshot(number: u64) -> String {
    format!("{number:064x}")
}

/// A point that holds objects of its own, and a volume whose snapshot lies in the repository.
async fn write(vault: &Vault, epoch: u64, minute: u64, branch: bool) -> Point {
    let protection = Protection {
        name: "db".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: json!({"objectives": {"rto": "5m", "rpo": format!("{}s", 60 + minute)}}),
    };
    let index = Index {
        format: BUNDLE,
        namespace: Namespace {
            name: "shop".to_owned(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            annotations: BTreeMap::new(),
        },
        protection: Some(protection),
        ..Index::default()
    };
    let bundle = bundle::write(&index, std::iter::empty(), |_, _| Ok(())).unwrap();
    let content = Content { digest: bundle.digest().to_owned(), bytes: bundle.len(), count: 3 };
    let objects = vault.write_manifest("shop", "db", content, bundle.reader()).await.unwrap();
    let file = format!("{}/snapshots/{}", repository::prefix("shop", "db"), snapshot(minute));
    vault.store().put(&file, Bytes::from_static(b"snapshot")).await.unwrap();
    let volume = Volume {
        claim: "data".to_owned(),
        snapshot: snapshot(minute),
        size: "1Gi".to_owned(),
        storage_class: None,
        access_modes: vec![],
        files: 1,
        bytes: 1000,
        ..Volume::default()
    };
    let point = Point {
        format: FORMAT,
        id: id(epoch, minute),
        namespace: "shop".to_owned(),
        application: "db".to_owned(),
        epoch,
        region: if epoch == 1 { "west" } else { "north" }.to_owned(),
        branch,
        consistent_at: Timestamp::UNIX_EPOCH,
        created_at: Timestamp::UNIX_EPOCH,
        objects: Objects { count: 3, ..objects },
        volumes: vec![volume],
        dumps: vec![],
        missing: vec![],
        skipped: vec![],
        suspicious: vec![],
        lock_until: None,
        previous: None,
    };
    vault.write_linked(&point).await.unwrap()
}

struct Scene {
    fake: Fake,
    vault: Vault,
}

impl Scene {
    fn new() -> Self {
        let fake = Fake::new(Manner::Sound);
        let vault = Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault");
        Self { fake, vault }
    }

    async fn write(&self, epoch: u64, minute: u64, branch: bool) -> Point {
        write(&self.vault, epoch, minute, branch).await
    }

    /// Three points of the first epoch and a branch, two of the second, a head and a claim.
    async fn usual() -> (Self, Vec<Point>) {
        let scene = Self::new();
        let mut made = Vec::new();
        for (epoch, minutes) in [(1, [1, 2, 3].as_slice()), (2, &[5, 6])] {
            let region = if epoch == 1 { "west" } else { "north" };
            scene.vault.seal_head("shop", "db", epoch, region).await.unwrap();
            for minute in minutes {
                let point = scene.write(epoch, *minute, false).await;
                scene.vault.enter_head(&point, epoch, region).await.unwrap();
                made.push(point);
            }
        }
        let branch = scene.write(1, 4, true).await;
        scene.vault.enter_head(&branch, 1, "west").await.unwrap();
        scene.claim(2, Some("north"));
        (scene, made)
    }

    fn claim(&self, epoch: u64, holder: Option<&str>) {
        let claim = Claim {
            format: CLAIM,
            group: key().group(),
            epoch,
            holder: holder.map(ToOwned::to_owned),
            candidates: vec![],
            seq: 7,
            nonce: "north.1".to_owned(),
            intent: Intent::None,
            deadlines: Deadlines { renew: 2, hold: 6, fence: 6, wait: 20 },
            reason: String::new(),
            health: None,
            renewed_at: Timestamp::UNIX_EPOCH,
        };
        self.put(&key().claim_object(), &claim.to_bytes());
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        self.fake.put(key, Bytes::copy_from_slice(bytes)).unwrap();
    }

    fn delete(&self, key: &str) {
        self.fake.delete(key).unwrap();
    }

    async fn check(&self, repair: bool) -> Checked {
        self.checked(check::Depth { repair, read: false, points: 1000, accept_missing: false }).await
    }

    async fn checked(&self, depth: check::Depth) -> Checked {
        check::check(&self.vault, &[key()], &depth).await.unwrap().applications.remove(0)
    }

    async fn newest(&self) -> Option<String> {
        let found = points::applications(&self.vault, "west").await.unwrap();
        found.applications[0].newest.as_ref().map(|it| it.id.clone())
    }
}

fn manifest(point: &Point) -> String {
    format!("apps/shop/db/manifests/{}", point.objects.manifest)
}

#[tokio::test]
async fn a_vault_that_is_whole_is_said_to_be() {
    let (scene, made) = Scene::usual().await;
    let checked = scene.check(true).await;
    assert_eq!((checked.points, checked.whole, checked.unread), (6, 6, 0));
    assert_eq!((checked.findings, checked.repaired, checked.doubts), (vec![], vec![], vec![]));
    assert_eq!(scene.newest().await.as_ref(), Some(&made[4].id));
}

#[tokio::test]
async fn a_lost_head_costs_nothing_and_is_made_anew_from_the_points() {
    let (scene, made) = Scene::usual().await;
    let (before, _) = scene.vault.read_head("shop", "db").await.unwrap().unwrap();
    scene.delete(HEAD);
    assert_eq!(scene.newest().await.as_ref(), Some(&made[4].id), "the list is what counts");
    assert_eq!(scene.check(false).await.findings, [Finding::NoHead]);
    assert_eq!(scene.check(true).await.repaired.len(), 1);
    assert_eq!(scene.check(false).await.findings, []);
    let (after, _) = scene.vault.read_head("shop", "db").await.unwrap().unwrap();
    assert_eq!(
        (after.epoch, after.sealed_by, after.latest, after.branches),
        (before.epoch, before.sealed_by, before.latest, before.branches)
    );
    // The region that holds the claim goes on, and the one that lost it is kept out.
    let next = scene.write(2, 9, false).await;
    scene.vault.enter_head(&next, 2, "north").await.unwrap();
    let stale = scene.write(1, 10, false).await;
    assert!(scene.vault.enter_head(&stale, 1, "west").await.is_err());
}

#[tokio::test]
async fn a_head_made_anew_is_sealed_with_the_claims_epoch_when_no_point_was_made_under_it() {
    let (scene, _) = Scene::usual().await;
    scene.claim(3, Some("west"));
    scene.delete(HEAD);
    scene.check(true).await;
    let (head, _) = scene.vault.read_head("shop", "db").await.unwrap().unwrap();
    assert_eq!((head.epoch, head.sealed_by.as_str()), (3, "west"));
    let stale = scene.write(2, 9, false).await;
    assert!(scene.vault.enter_head(&stale, 2, "north").await.is_err(), "it lost the claim");
}

#[tokio::test]
async fn a_damaged_head_and_one_that_was_set_back_are_made_anew_and_a_newer_one_is_left() {
    let (scene, made) = Scene::usual().await;
    let (now, _) = scene.vault.read_head("shop", "db").await.unwrap().unwrap();
    scene.put(HEAD, b"{");
    assert!(matches!(scene.check(true).await.findings[..], [Finding::HeadDamaged { .. }]));
    let old = json!({"format": 1, "epoch": 1, "sealedBy": "west", "seq": 2, "nonce": "x", "latest": made[0].id, "branches": []});
    let old: Head = serde_json::from_value(old).unwrap();
    scene.put(HEAD, &scene.vault.signed_head("shop", "db", &old));
    let findings = scene.check(true).await.findings;
    assert!(
        matches!(findings[..], [Finding::HeadEpoch { head: 1, known: 2 }, Finding::HeadLatest { .. }]),
        "{findings:?}"
    );
    let (after, _) = scene.vault.read_head("shop", "db").await.unwrap().unwrap();
    assert_eq!((after.epoch, &after.latest, &after.branches), (2, &now.latest, &now.branches));

    scene.vault.seal_head("shop", "db", 5, "west").await.unwrap();
    assert_eq!(scene.check(true).await.findings, [], "a claim is taken, and the head sealed, before there are points");
    assert_eq!(scene.vault.read_head("shop", "db").await.unwrap().unwrap().0.epoch, 5);
}

#[tokio::test]
async fn a_head_that_names_a_point_which_is_gone_names_the_newest_that_is_there() {
    let (scene, made) = Scene::usual().await;
    scene.delete(&format!("apps/shop/db/points/{}.json", made[4].id));
    let findings = scene.check(true).await.findings;
    let newest = Some(made[3].id.clone());
    assert_eq!(findings, [Finding::HeadLatest { head: Some(made[4].id.clone()), newest: newest.clone() }]);
    assert_eq!(scene.vault.read_head("shop", "db").await.unwrap().unwrap().0.latest, newest);
}

#[tokio::test]
async fn a_lost_manifest_costs_the_points_that_name_it_and_no_other() {
    let (scene, made) = Scene::usual().await;
    scene.delete(&manifest(&made[4]));
    let checked = scene.check(true).await;
    let [Finding::Manifest { points, count: 1, .. }] = &checked.findings[..] else { panic!("{:?}", checked.findings) };
    assert_eq!((points, checked.whole), (&vec![made[4].id.clone()], 5));
    let recorded = points::recorded(&scene.vault, &key(), "west").await.unwrap();
    assert_eq!(recorded.point.id, made[3].id, "the one before it is taken");
}

#[tokio::test]
async fn what_points_name_and_the_repository_lacks_is_told_by_point() {
    let (scene, made) = Scene::usual().await;
    scene.delete(&format!("repos/shop.db/snapshots/{}", snapshot(3)));
    let checked = scene.check(false).await;
    let [Finding::Snapshot { claim, points, .. }] = &checked.findings[..] else { panic!("{:?}", checked.findings) };
    assert_eq!((claim.as_str(), points), ("data", &vec![made[2].id.clone()]));
}

#[tokio::test]
async fn what_is_there_and_damaged_is_found_when_it_is_read() {
    let (scene, made) = Scene::usual().await;
    scene.fake.tamper(&manifest(&made[1]), |it| *it.last_mut().unwrap() ^= 1);
    assert_eq!(scene.check(false).await.findings, []);
    let checked = scene.checked(check::Depth { repair: false, read: true, points: 1000, accept_missing: false }).await;
    let manifests: Vec<_> = checked.findings.iter().filter(|it| matches!(it, Finding::Manifest { .. })).collect();
    let [Finding::Manifest { points, reason, .. }] = manifests[..] else { panic!("{:?}", checked.findings) };
    assert_eq!(points, &vec![made[1].id.clone()]);
    assert!(reason.contains("damaged"), "{reason}");
    // What the scene puts for snapshots is named by no content, and there is no repository.
    assert_eq!(checked.findings.iter().filter(|it| matches!(it, Finding::Snapshot { .. })).count(), 6);
    assert!(checked.doubts[0].contains("there is no repository"), "{:?}", checked.doubts);
}

#[tokio::test]
async fn what_a_read_finds_damaged_is_noted_once_and_told_by_every_check_from_then_on() {
    let (scene, made) = Scene::usual().await;
    scene.fake.tamper(&manifest(&made[1]), |it| *it.last_mut().unwrap() ^= 1);
    let read = || scene.checked(check::Depth { repair: false, read: true, points: 1000, accept_missing: false });
    assert_eq!(read().await.noted, 6, "the scene's snapshots are no snapshots");
    let note = scene.vault.read_verified("shop", "db", &made[1].id).await.unwrap().unwrap();
    let damage = note.damage().unwrap();
    assert!(damage.contains("its objects") && damage.contains("data: "), "{damage}");
    assert_eq!(read().await.noted, 0);
    let later = scene.check(false).await;
    assert_eq!((later.whole, later.findings.len()), (0, 6));
    assert!(later.findings.iter().all(|it| matches!(it, Finding::Noted { .. })), "{:?}", later.findings);
}

#[tokio::test]
async fn a_point_that_somebody_deleted_from_the_middle_is_missed_until_that_is_accepted() {
    let (scene, made) = Scene::usual().await;
    let gone = |it: &Point| format!("apps/shop/db/points/{}.json", it.id);
    scene.delete(&gone(&made[1]));
    scene.delete(&gone(&made[3]));
    let depth = |accept_missing| check::Depth { repair: true, read: false, points: 1000, accept_missing };
    let checked = scene.checked(depth(false)).await;
    let both = vec![made[3].id.clone(), made[1].id.clone()];
    assert_eq!(checked.findings, [Finding::Missing { points: both, count: 2 }]);
    assert_eq!(scene.checked(depth(true)).await.repaired, ["2 points that are gone are not missed any more"]);
    assert_eq!(scene.checked(depth(false)).await.findings, []);
    scene.delete(&gone(&made[2]));
    let later = scene.checked(depth(false)).await.findings;
    assert_eq!(later, [Finding::Missing { points: vec![made[2].id.clone()], count: 1 }]);
    scene.fake.tamper("apps/shop/db/kept.json", |it| it[20] ^= 1);
    let findings = scene.checked(depth(false)).await.findings;
    assert!(findings.iter().any(|it| matches!(it, Finding::KeptDamaged { .. })), "{findings:?}");
}

#[tokio::test]
async fn a_branch_that_is_gone_and_a_point_that_was_written_anew_are_told() {
    let (scene, made) = Scene::usual().await;
    scene.delete(&format!("apps/shop/db/points/{}.json", made[1].id));
    let other = Point { previous: made[1].previous.clone(), region: "thief".to_owned(), ..made[1].clone() };
    scene.vault.write_point(&other).await.unwrap();
    let named_by = made[2].id.clone();
    assert_eq!(scene.check(false).await.findings, [Finding::Replaced { point: made[1].id.clone(), named_by }]);
    scene.delete(&format!("apps/shop/db/points/{}.json", id(1, 4)));
    let findings = scene.check(false).await.findings;
    assert!(findings.contains(&Finding::Missing { points: vec![id(1, 4)], count: 1 }), "{findings:?}");
}

#[tokio::test]
async fn points_that_are_not_read_are_counted_and_do_not_pass_for_gone() {
    let (scene, _) = Scene::usual().await;
    let checked = scene.checked(check::Depth { repair: true, read: false, points: 2, accept_missing: false }).await;
    assert_eq!((checked.points, checked.unread, checked.findings), (2, 4, vec![]));
}

#[tokio::test]
async fn a_point_that_was_changed_is_told_and_takes_no_part_in_a_new_head() {
    let (scene, made) = Scene::usual().await;
    scene.fake.tamper(&format!("apps/shop/db/points/{}.json", made[4].id), |it| it[40] ^= 1);
    scene.delete(HEAD);
    scene.delete(&key().claim_object());
    let findings = scene.check(true).await.findings;
    assert!(
        matches!(&findings[..], [Finding::NoHead, Finding::NoClaim, Finding::PointDamaged { point, .. }] if *point == made[4].id),
        "{findings:?}"
    );
    assert_eq!(scene.vault.read_head("shop", "db").await.unwrap().unwrap().0.latest.as_ref(), Some(&made[3].id));
}

#[tokio::test]
async fn repairing_deletes_nothing() {
    let (scene, made) = Scene::usual().await;
    scene.delete(&manifest(&made[0]));
    scene.fake.tamper(&format!("apps/shop/db/points/{}.json", made[1].id), |it| it[40] ^= 1);
    scene.put(HEAD, b"{");
    let keys = || scene.fake.page("", None, 1000).unwrap().into_iter().map(|it| it.key).collect::<Vec<_>>();
    let before = keys();
    scene.check(true).await;
    assert_eq!(keys(), before);
}

#[tokio::test]
async fn the_newest_point_records_what_is_needed_to_make_the_application_again() {
    let (scene, made) = Scene::usual().await;
    let recorded = points::recorded(&scene.vault, &key(), "west").await.unwrap();
    assert_eq!((&recorded.point.id, recorded.point.objects, recorded.point.volumes), (&made[4].id, 3, 1));
    assert_eq!(recorded.protection.unwrap().spec["objectives"]["rpo"], "66s");
    assert_eq!(recorded.namespace_labels["team"], "a");
    assert_eq!(recorded.claim.unwrap().holder.as_deref(), Some("north"));
}

#[tokio::test]
async fn a_claim_is_given_up_only_by_the_region_that_it_names_and_when_nobody_renews_it() {
    let (scene, _) = Scene::usual().await;
    let (store, key, ms) = (scene.vault.store(), key(), std::time::Duration::from_millis);
    let watching = |_: &Claim| (ms(60), ms(5));
    assert!(!claim::release(store, &key, "west", watching).await.unwrap().released, "it is north's");
    let renewing = async {
        tokio::time::sleep(ms(30)).await;
        scene.fake.tamper(&key.claim_object(), |it| {
            let text = String::from_utf8(it.clone()).unwrap().replace("north.1", "north.2");
            *it = text.into_bytes();
        });
    };
    let (refused, ()) = tokio::join!(claim::release(store, &key, "north", watching), renewing);
    assert!(refused.unwrap_err().to_string().contains("is renewed"));
    assert!(claim::release(store, &key, "north", watching).await.unwrap().released);
    let claim = claim::read(store, &key).await.unwrap().unwrap();
    assert_eq!((claim.epoch, claim.holder, claim.seq), (2, None, 8));
    assert!(matches!(claim.intent, Intent::Released { to: Some(to), from: None, .. } if to == "north"));
}

#[tokio::test]
async fn a_claim_in_conflict_is_adopted_above_all_that_anybody_knows_and_only_when_nobody_renews_it() {
    let (scene, _) = Scene::usual().await;
    let (store, ms) = (scene.vault.store(), std::time::Duration::from_millis);
    let spec: ProtectedApplicationSpec = serde_json::from_value(json!({
        "objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "north"}, {"name": "west"}], "backup": {"vaults": ["main"]},
    }))
    .unwrap();
    let decided = |region: &str, stopped, known_epoch| adopt::Decided {
        vault: "main".to_owned(),
        application: key(),
        region: region.to_owned(),
        stopped,
        known_epoch,
        reason: "rolled back".to_owned(),
    };
    let watching = |_: &Claim| (ms(40), ms(5));
    let nowhere = adopt::adopt(&scene.vault, &decided("mars", false, 0), &spec, watching).await;
    assert!(nowhere.unwrap_err().to_string().contains("north, west"));

    let renewing = async {
        tokio::time::sleep(ms(20)).await;
        scene.fake.tamper(&key().claim_object(), |it| it.push(b' '));
    };
    let wanted = decided("west", false, 0);
    let (refused, ()) = tokio::join!(adopt::adopt(&scene.vault, &wanted, &spec, watching), renewing);
    assert!(refused.unwrap_err().to_string().contains("by north meanwhile, and nothing was changed"));

    let adopted = adopt::adopt(&scene.vault, &decided("west", false, 8), &spec, watching).await.unwrap();
    assert_eq!((adopted.epoch, adopted.holder.as_deref()), (9, Some("west")));
    let claim = claim::read(store, &key()).await.unwrap().unwrap();
    assert_eq!((claim.epoch, claim.seq, &claim.intent), (9, adopted.seq, &Intent::None));
    assert!(claim.nonce.starts_with("adopt.west.") && adopted.seq > 1_000_000);

    scene.fake.delete(&key().claim_object()).unwrap();
    let adopted = adopt::adopt(&scene.vault, &decided("north", true, 8), &spec, watching).await.unwrap();
    assert_eq!((adopted.epoch, adopted.holder, adopted.before), (9, None, None));
    let claim = claim::read(store, &key()).await.unwrap().unwrap();
    assert!(matches!(claim.intent, Intent::Released { to: Some(to), .. } if to == "north"));
}

#[tokio::test]
async fn a_head_that_another_region_changes_meanwhile_is_not_overwritten() {
    let (scene, _) = Scene::usual().await;
    let (now, _) = scene.vault.read_head("shop", "db").await.unwrap().unwrap();
    let rebuilt = crate::core::vault_check::Rebuilt {
        epoch: 9,
        sealed_by: "west".to_owned(),
        latest: None,
        gone: None,
        branches: vec![],
    };
    let newer = scene.vault.signed_head("shop", "db", &Head { epoch: 11, ..now });
    scene.fake.put_after_next_get([(HEAD, newer)]);
    let (head, written) = scene.vault.repair_head("shop", "db", &rebuilt).await.unwrap();
    assert_eq!((head.epoch, written), (11, false));
}

#[test]
fn an_application_is_named_with_its_namespace() {
    assert_eq!(application("shop/db"), Ok(key()));
    for bad in ["db", "/db", "shop/", "shop/db/x", ""] {
        assert!(application(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_claim_that_is_gone_is_made_anew_above_the_catalogues_epoch_and_given_up_to_this_region() {
    let (scene, _) = Scene::usual().await;
    let (store, key, ms) = (scene.vault.store(), key(), std::time::Duration::from_millis);
    let watching = |_: &Claim| (ms(40), ms(10));
    for rubbish in [None, Some("rubbish")] {
        scene.fake.delete(&key.claim_object()).unwrap();
        if let Some(rubbish) = rubbish {
            scene.put(&key.claim_object(), rubbish.as_bytes());
        }
        assert_eq!(claim::legible(store, &key).await.unwrap(), None);
        let made = claim::renew(&scene.vault, &key, "west", None, watching).await.unwrap();
        assert_eq!((made.released, made.epoch), (true, 3), "{rubbish:?}");
        let claim = claim::read(store, &key).await.unwrap().unwrap();
        assert!(matches!(claim.intent, Intent::Released { to: Some(to), .. } if to == "west"));
        assert_eq!((claim.holder, claim.deadlines.wait), (None, 75));
    }
    scene.fake.delete(&key.claim_object()).unwrap();
    let other = async {
        tokio::time::sleep(ms(15)).await;
        scene.claim(2, Some("north"));
    };
    let (refused, ()) = tokio::join!(claim::renew(&scene.vault, &key, "west", None, watching), other);
    assert!(refused.unwrap_err().to_string().contains("somebody wrote a claim"));
    scene.fake.delete(HEAD).unwrap();
    let refused = claim::renew(&scene.vault, &key, "west", None, watching).await.unwrap_err();
    assert!(refused.to_string().contains("vault check --repair"), "{refused}");
}

#[tokio::test]
async fn all_points_of_a_vault_are_told_page_by_page_with_what_becomes_of_each() {
    let (scene, made) = Scene::usual().await;
    let asked = |limit, before: Option<&str>| PointsArguments {
        vault: "main".to_owned(),
        application: key(),
        limit,
        before: before.map(ToOwned::to_owned),
        retention: Some(Retention { last: Some(1), ..Retention::default() }),
        in_use: vec![],
        held_in: None,
    };
    let all = listed::points(&scene.vault, None, &asked(10, None)).await.unwrap();
    assert_eq!((all.total, all.points.len(), all.more), (6, 6, false), "five points, and the branch");
    let first = listed::points(&scene.vault, None, &asked(4, None)).await.unwrap();
    assert_eq!((first.points.as_slice(), first.more), (&all.points[..4], true));
    let rest = listed::points(&scene.vault, None, &asked(4, Some(&first.points[3].id))).await.unwrap();
    assert_eq!((rest.points.as_slice(), rest.more), (&all.points[4..], false));
    let newest = all.points.iter().find(|it| it.id == made[4].id).unwrap();
    assert!(newest.kept == Some(true) && newest.why.as_ref().unwrap().contains("newest good"), "{newest:?}");
    assert_eq!((newest.region.as_deref(), newest.level), (Some("north"), Some(Level::L1)));
    let branches = all.points.iter().filter(|it| it.state == PointState::Branch && it.level.is_none());
    assert_eq!(branches.count(), 1);
    let gone = listed::points(&scene.vault, None, &asked(4, Some("gone"))).await.unwrap_err();
    assert!(gone.exit_code() == 3 && gone.to_string().contains("begin with the newest"), "{gone}");
}
