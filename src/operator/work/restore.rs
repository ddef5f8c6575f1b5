//! Work on bringing an application back: which point is good, and its objects.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};

use futures::{TryFutureExt, future::join_all};
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use ulid::Ulid;

use super::{
    failure,
    notes::{met, noted},
    open,
    point::catalogue_failure,
};
use crate::{
    api::{recovery_point::Level, restore::PointChoice},
    capture::{
        apply::{Options, Phase, Restored, restore},
        bundle::{Bundle, Incoming},
        fence,
    },
    core::{
        app_key::AppKey,
        point::Point,
        verified::Verified,
        work::{Failure, Outcome, REASONS},
    },
    operator::context::Context,
    vault::{
        Vault,
        catalogue::{CatalogueError, a_day_before},
    },
};

/// How many points are read at a time.
const AT_ONCE: usize = 16;
/// How much of the reason why a point is not good is told.
const REASON: usize = 300;
/// How far the clocks of those who make points may differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);
/// How often the claim is asked, and what was started is looked at.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long starting may take.
const STARTING: Duration = Duration::from_mins(5);

/// The newest point that is whole: complete, no branch, its objects readable.
pub(super) async fn survey(
    name: &str,
    application: &AppKey,
    older_than: Option<&str>,
    minimum: Level,
    context: &Context,
) -> Result<Outcome, Failure> {
    newest_good(&open(name, context).await?, application, older_than, Bounds { minimum, before: None }).await
}

/// The point that is wanted. One that is named may be partial, or a branch; its objects must be readable all the same.
pub(super) async fn find(
    name: &str,
    application: &AppKey,
    choice: &PointChoice,
    older_than: Option<&str>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let Some(id) = &choice.name else {
        let before = choice.before.as_ref().map(|it| it.0);
        return newest_good(&vault, application, older_than, Bounds { minimum: Level::L1, before }).await;
    };
    let (namespace, app) = (&application.namespace, &application.name);
    let point = vault.read_point(namespace, app, id).await.map_err(|error| {
        // A point is never written under a name that was told before.
        let lasting = matches!(error, CatalogueError::Absent { .. });
        let failure = catalogue_failure(&error);
        Failure { lasting: lasting || failure.lasting, ..failure }
    })?;
    let objects = vault.read_manifest(namespace, app, &point.objects.manifest, io::sink()).await;
    if let Err(error) = objects {
        met(&vault, application, id, &error).await;
        return Err(catalogue_failure(&error));
    }
    Ok(Outcome::Surveyed { chosen: Some(Box::new(point)), passed_over: Vec::new() })
}

/// The points of the newest day are listed first, and searched through: a vault may hold a year of them.
async fn newest_good(
    vault: &Vault,
    application: &AppKey,
    older_than: Option<&str>,
    bounds: Bounds,
) -> Result<Outcome, Failure> {
    let (namespace, app) = (&application.namespace, &application.name);
    let latest = match older_than {
        Some(id) => Some(id.to_owned()),
        None => match vault.read_head(namespace, app).await {
            Ok(head) => head.and_then(|(head, _)| head.latest),
            Err(error @ CatalogueError::Store(_)) => return Err(catalogue_failure(&error)),
            // It only shortens the way: the list is what counts.
            Err(_) => None,
        },
    };
    let mut search = Search { bounds, ..Search::default() };
    if let Some(begin) = latest.as_deref().and_then(a_day_before) {
        let listed = vault.list_points(namespace, app, Some(&begin), older_than).await;
        let ids = listed.map_err(|error| catalogue_failure(&error))?;
        if let Some(point) = search.through(&ids, vault, application).await? {
            return Ok(search.outcome(Some(point)));
        }
    }
    let end = search.last.clone().or_else(|| older_than.map(ToOwned::to_owned));
    let listed = vault.list_points(namespace, app, None, end.as_deref()).await;
    let ids = listed.map_err(|error| catalogue_failure(&error))?;
    let mut chosen = search.through(&ids, vault, application).await?;
    let unseen = latest.filter(|it| older_than.is_none() && search.last.as_ref().is_none_or(|last| it < last));
    if let (None, Some(latest)) = (&chosen, unseen) {
        // More points that do not count than are looked at lie upon the one that the head names.
        chosen = search.through(&[latest], vault, application).await?;
    }
    if search.last.is_none() && older_than.is_none() {
        search.reasons.push_back(match search.bounds.before {
            Some(at) => format!("the vault holds no point of it from before {at}"),
            None => "the vault holds no point of it".to_owned(),
        });
    }
    Ok(search.outcome(chosen))
}

/// When a point was begun, by its name.
fn begun(id: &str) -> Option<Timestamp> {
    let (_, ulid) = id.split_once('-')?;
    Timestamp::from_millisecond(i64::try_from(Ulid::from_string(ulid).ok()?.timestamp_ms()).ok()?).ok()
}

/// Which points are looked for.
#[derive(Clone, Copy, Default)]
struct Bounds {
    /// How far a point must have been checked.
    minimum: Level,
    /// No younger data is wanted.
    before: Option<Timestamp>,
}

/// What was looked at so far.
#[derive(Default)]
struct Search {
    /// Which are looked for.
    bounds: Bounds,
    /// The oldest point.
    last: Option<String>,
    /// How many were passed over.
    passed: usize,
    /// The last of those, with the reason.
    reasons: VecDeque<String>,
}

impl Search {
    /// The first of these that is good.
    async fn through(&mut self, ids: &[String], vault: &Vault, application: &AppKey) -> Result<Option<Point>, Failure> {
        let (namespace, app) = (&application.namespace, &application.name);
        // What was begun after the wanted instant is no older than it: it need not be read. A driver's clock may differ.
        let may = |id: &&String| self.bounds.before.is_none_or(|it| begun(id).is_none_or(|begun| begun <= it + CLOCKS));
        let ids: Vec<&String> = ids.iter().filter(may).collect();
        for some in ids.chunks(AT_ONCE) {
            let points = join_all(some.iter().map(|id| vault.read_point(namespace, app, id))).await;
            for (id, read) in some.iter().zip(points) {
                self.last = Some((*id).clone());
                if self.bounds.before.is_some_and(|it| read.as_ref().is_ok_and(|point| point.consistent_at > it)) {
                    continue;
                }
                match judge(read, vault, application, self.bounds.minimum).await? {
                    Ok(point) => return Ok(Some(point)),
                    Err(Some(why)) => self.pass_over(id, &why),
                    Err(None) => {}
                }
            }
        }
        Ok(None)
    }

    fn pass_over(&mut self, id: &str, why: &str) {
        self.passed += 1;
        if self.reasons.len() == REASONS {
            self.reasons.pop_front();
        }
        self.reasons.push_back(format!("{id}: {}", why.chars().take(REASON).collect::<String>()));
    }

    fn outcome(mut self, chosen: Option<Point>) -> Outcome {
        let more = self.passed.saturating_sub(self.reasons.len());
        if more > 0 {
            self.reasons.push_front(format!("{more} newer ones were passed over as well"));
        }
        Outcome::Surveyed { chosen: chosen.map(Box::new), passed_over: self.reasons.into() }
    }
}

/// A point if it is good; why not if that is worth telling. Only what the store cannot answer is a failure.
async fn judge(
    read: Result<Point, CatalogueError>,
    vault: &Vault,
    application: &AppKey,
    minimum: Level,
) -> Result<Result<Point, Option<String>>, Failure> {
    let point = match read {
        Ok(point) => point,
        Err(error @ CatalogueError::Store(_)) => return Err(catalogue_failure(&error)),
        Err(error) => return Ok(Err(Some(error.to_string()))),
    };
    if point.branch {
        return Ok(Err(None));
    }
    if !point.complete() {
        return Ok(Err(Some(format!("it is partial: {}", point.missing.join("; ")))));
    }
    if !point.suspicious.is_empty() {
        return Ok(Err(Some(format!("it is suspicious: {}", point.suspicious.join("; ")))));
    }
    if let Some(why) = verdict(&point.id, vault, application, minimum).await? {
        return Ok(Err(Some(why)));
    }
    let read = vault.read_manifest(&application.namespace, &application.name, &point.objects.manifest, io::sink());
    match read.await {
        Ok(_) => Ok(Ok(point)),
        Err(error @ (CatalogueError::Store(_) | CatalogueError::Local { .. })) => Err(catalogue_failure(&error)),
        Err(error) => {
            met(vault, application, &point.id, &error).await;
            Ok(Err(Some(error.to_string())))
        }
    }
}

/// What speaks against a point of what was found out about it after it was made. It is asked for whole points only, so
/// for one, as a rule.
async fn verdict(id: &str, vault: &Vault, application: &AppKey, minimum: Level) -> Result<Option<String>, Failure> {
    let verified = noted(vault, application, id).await?;
    let level = verified.as_ref().map_or(Level::L1, |it| it.level);
    let low =
        || (level < minimum).then(|| format!("it was checked to {level:?}, and failover.minimumLevel is {minimum:?}"));
    Ok(verified.as_ref().and_then(Verified::damage).or_else(low))
}

/// The objects of a point: the `Vault`, whose they are, and the name of the bundle.
type Manifest<'a> = (&'a str, &'a AppKey, &'a str);

/// Whether something may be restored or started now. No claim is about another namespace than the application's.
fn may(application: &AppKey, epoch: Option<u64>, context: &Context) -> bool {
    epoch.is_none_or(|epoch| context.keeper.valid_now(application, epoch))
}

/// Objects, workloads last; then what was stopped here is started.
pub(super) async fn objects(
    of: Manifest<'_>,
    namespace: &str,
    options: Options,
    epoch: Option<u64>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (bundle, application) = (bundle(of, context).await?, of.1);
    let valid = || may(application, epoch, context);
    let put = async |phase| {
        let options = Options { phase, ..options.clone() };
        let put = restore(&context.client, namespace, &bundle, &options);
        while_valid(valid, put.map_err(|error| failure("RestoreFailed", error))).await
    };
    let first = put(Phase::AllButWorkloads).await?;
    let second = put(Phase::Workloads).await?;
    let unreadable = start(application, namespace, epoch, context).await?;
    let restored = [&first, &second].iter().map(|it| it.created + it.updated + it.unchanged).sum();
    let not_restored_count = first.not_restored_count + second.not_restored_count + unreadable.len() as u64;
    let notes = notes(&first, &second);
    let not_restored = first.not_restored.into_iter().chain(second.not_restored).chain(unreadable).collect();
    Ok(Outcome::ObjectsRestored { restored, not_restored_count, not_restored, notes })
}

/// What would become of the objects. It only reads, so it needs no claim.
pub(super) async fn plan(
    of: Manifest<'_>,
    namespace: &str,
    options: &Options,
    context: &Context,
) -> Result<Outcome, Failure> {
    let bundle = bundle(of, context).await?;
    let planned = restore(&context.client, namespace, &bundle, options);
    let planned = planned.await.map_err(|error| failure("PlanFailed", error))?;
    Ok(Outcome::ObjectsPlanned {
        created: planned.created,
        updated: planned.updated,
        unchanged: planned.unchanged,
        changes: planned.changes,
        not_restored: planned.not_restored,
    })
}

/// The objects of a point, read from the vault.
async fn bundle((name, application, manifest): Manifest<'_>, context: &Context) -> Result<Bundle, Failure> {
    let vault = open(name, context).await?;
    let incoming = vault
        .read_manifest(&application.namespace, &application.name, manifest, Incoming::new())
        .await
        .map_err(|error| catalogue_failure(&error))?;
    Ok(incoming.finish())
}

/// What else is told of both halves.
fn notes(first: &Restored, second: &Restored) -> Vec<String> {
    let mut counted = BTreeMap::new();
    for (note, count) in first.notes.iter().chain(&second.notes) {
        *counted.entry(note).or_insert(0) += count;
    }
    let warnings: BTreeSet<_> = first.warnings.iter().chain(&second.warnings).cloned().collect();
    warnings.into_iter().chain(counted.into_iter().map(|(note, count)| format!("{note} ({count})"))).collect()
}

/// Starts what was stopped, as it was. Marks that could not be read, with the workload.
pub(super) async fn start(
    application: &AppKey,
    namespace: &str,
    epoch: Option<u64>,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    let valid = || may(application, epoch, context);
    let starting = async {
        loop {
            let start = fence::start(&context.client, namespace);
            let started = while_valid(valid, start.map_err(|error| failure("StartFailed", error))).await?;
            if started.complete() {
                return Ok(started.unreadable);
            }
            sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(STARTING, starting)
        .await
        .map_err(|_| failure("StartFailed", "the workloads could not all be started in time"))?
}

/// Begins only while the claim is valid, and is given up when it no longer is: what may run elsewhere by then must not
/// be brought up here.
async fn while_valid<T>(
    valid: impl Fn() -> bool,
    doing: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let lost = async {
        while valid() {
            sleep(ASK_AGAIN).await;
        }
    };
    tokio::select! {
        biased;
        () = lost => Err(failure("NoClaim", "this region can no longer prove that it holds the claim: nothing more is restored or started")),
        done = doing => done,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use jiff::Timestamp;
    use sha2::{Digest, Sha256};
    use ulid::Ulid;

    use super::*;
    use crate::{
        core::{
            hex::hex,
            point::{FORMAT, Objects},
            verified::example,
        },
        vault::{
            Store,
            fake::{Fake, Manner},
            manifest::Content,
        },
    };

    fn shop() -> AppKey {
        AppKey { namespace: "shop".to_owned(), name: "db".to_owned() }
    }

    fn id(epoch: u64, minute: u64) -> String {
        format!("{epoch:010}-{}", Ulid::from_parts(1_800_000_000_000 + minute * 60_000, 7))
    }

    async fn write(vault: &Vault, id: String, good: bool) -> Point {
        let missing = if good { vec![] } else { vec!["volume data".to_owned()] };
        let point = Point { id, missing, ..like(vault).await };
        vault.write_point(&point).await.unwrap();
        point
    }

    async fn like(vault: &Vault) -> Point {
        let content = Content { digest: hex(&Sha256::digest(b"objects")), bytes: 7, count: 1 };
        let objects = vault.write_manifest("shop", "db", content, &b"objects"[..]).await.unwrap();
        Point {
            format: FORMAT,
            id: String::new(),
            namespace: "shop".to_owned(),
            application: "db".to_owned(),
            epoch: 1,
            region: "east".to_owned(),
            branch: false,
            consistent_at: Timestamp::UNIX_EPOCH,
            created_at: Timestamp::UNIX_EPOCH,
            objects: Objects { count: 1, ..objects },
            volumes: vec![],
            dumps: vec![],
            missing: vec![],
            skipped: vec![],
            suspicious: vec![],
            lock_until: None,
            previous: None,
        }
    }

    async fn surveyed(vault: &Vault, older_than: Option<&str>) -> (Option<String>, Vec<String>) {
        match newest_good(vault, &shop(), older_than, Bounds::default()).await.unwrap() {
            Outcome::Surveyed { chosen, passed_over } => (chosen.map(|it| it.id), passed_over),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn any_number_of_partial_points_does_not_hide_the_good_one_before_them() {
        let vault = Vault::with(Store::Fake(Fake::new(Manner::Sound)), "a key that is long enough for a vault");
        write(&vault, id(1, 0), true).await;
        let good = write(&vault, id(1, 1), true).await;
        // Three days of them, and none of the last day is good.
        for number in 0..300 {
            write(&vault, id(1, 10 + number * 15), false).await;
        }
        let (chosen, passed_over) = surveyed(&vault, None).await;
        assert_eq!(chosen.as_ref(), Some(&good.id), "without a head the whole list is searched");
        vault.seal_head("shop", "db", 1, "east").await.unwrap();
        vault.enter_head(&good, 1, "east").await.unwrap();
        assert_eq!(surveyed(&vault, None).await, (chosen, passed_over.clone()));
        assert_eq!(
            (passed_over.len(), passed_over[0].as_str()),
            (REASONS + 1, "280 newer ones were passed over as well")
        );
        let bound = passed_over.last().and_then(|it| it.split_once(": ")).map(|(id, _)| id.to_owned());
        assert_eq!(bound, Some(id(1, 10)), "the last one named is the oldest: it bounds the next choice");
    }

    #[tokio::test]
    async fn only_older_points_than_the_bound_are_chosen_and_the_newest_day_is_asked_for_first() {
        let fake = Fake::new(Manner::Sound);
        let vault = Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault");
        for number in 0..2_500 {
            write(&vault, id(1, number), true).await;
        }
        assert_eq!(surveyed(&vault, Some(&id(1, 1_700))).await.0, Some(id(1, 1_699)));
        assert_eq!(surveyed(&vault, Some(&id(1, 0))).await.0, None);
        let head = write(&vault, id(1, 2_500), true).await;
        vault.seal_head("shop", "db", 1, "east").await.unwrap();
        vault.enter_head(&head, 1, "east").await.unwrap();
        let before = fake.requests();
        assert_eq!(surveyed(&vault, None).await.0, Some(head.id));
        let spent = fake.requests() - before;
        assert!(
            spent <= 1 + 2 + 16 + 2,
            "head, two pages of a day, points at once, one note and one manifest: {spent}"
        );
    }

    #[tokio::test]
    async fn a_damaged_point_and_one_that_was_checked_too_little_are_passed_over_with_the_reason() {
        let vault = Vault::with(Store::Fake(Fake::new(Manner::Sound)), "a key that is long enough for a vault");
        for number in 1..=4 {
            write(&vault, id(1, number), true).await;
        }
        for (number, level, packs) in [(4, Level::L1, &["ab12"][..]), (2, Level::L2, &[])] {
            let note = example(&id(1, number), level, packs);
            vault.change_verified("shop", "db", &id(1, number), |_| Some(note.clone())).await.unwrap();
        }
        let (chosen, passed_over) = surveyed(&vault, None).await;
        assert_eq!(chosen, Some(id(1, 3)));
        assert!(passed_over[0].ends_with("1 packs of its volumes, as `data/ab/ab12`"), "{passed_over:?}");
        match newest_good(&vault, &shop(), None, Bounds { minimum: Level::L2, before: None }).await.unwrap() {
            Outcome::Surveyed { chosen, passed_over } => {
                assert_eq!(chosen.map(|it| it.id), Some(id(1, 2)));
                assert!(passed_over[1].ends_with("checked to L1, and failover.minimumLevel is L2"), "{passed_over:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_point_whose_objects_are_gone_is_noted_as_damaged_by_who_looks_for_one() {
        let vault = Vault::with(Store::Fake(Fake::new(Manner::Sound)), "a key that is long enough for a vault");
        let good = write(&vault, id(1, 1), true).await;
        let lost = Point { id: id(1, 2), objects: Objects { manifest: "00".repeat(32), ..good.objects }, ..good };
        vault.write_point(&lost).await.unwrap();
        assert_eq!(surveyed(&vault, None).await.0, Some(id(1, 1)));
        let note = vault.read_verified("shop", "db", &lost.id).await.unwrap().unwrap();
        assert!(note.damage().unwrap().contains("its objects: "), "{note:?}");
    }

    #[tokio::test]
    async fn the_newest_good_point_before_a_time_is_found_and_younger_ones_are_not_read() {
        let fake = Fake::new(Manner::Sound);
        let vault = Vault::with(Store::Fake(fake.clone()), "a key that is long enough for a vault");
        let instant = |minute: i64| Timestamp::from_second(1_800_000_000 + minute * 60).unwrap();
        for number in 0..200_u32 {
            let made = Point { id: id(1, number.into()), consistent_at: instant(number.into()), ..like(&vault).await };
            vault.write_point(&made).await.unwrap();
        }
        let found = async |before| match newest_good(
            &vault,
            &shop(),
            None,
            Bounds { before: Some(before), ..Bounds::default() },
        )
        .await
        .unwrap()
        {
            Outcome::Surveyed { chosen, passed_over } => (chosen.map(|it| it.id), passed_over),
            other => panic!("{other:?}"),
        };
        let before = fake.requests();
        assert_eq!(found(instant(50)).await.0, Some(id(1, 50)), "of that very moment");
        let spent = fake.requests() - before;
        assert!(spent <= 1 + 2 + 16 + 2, "{spent} requests");
        assert_eq!(
            found(instant(-5)).await,
            (None, vec![format!("the vault holds no point of it from before {}", instant(-5))])
        );
    }

    #[tokio::test]
    async fn nothing_more_is_restored_once_the_claim_is_lost() {
        let (valid, applied) = (Cell::new(true), Cell::new(0));
        let restoring = async {
            for object in 0..100 {
                if object == 10 {
                    valid.set(false);
                }
                applied.set(object);
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let lost = while_valid(|| valid.get(), restoring).await.unwrap_err();
        assert_eq!((lost.reason, lost.lasting), ("NoClaim", false));
        assert!(applied.get() < 50, "{} objects were restored", applied.get());
        let begun =
            while_valid(|| false, async { panic!("it was begun without a claim") as Result<(), Failure> }).await;
        assert_eq!(begun.unwrap_err().reason, "NoClaim");
    }

    #[test]
    fn what_is_no_points_name_shortens_nothing() {
        assert_eq!(a_day_before("x"), None);
        assert_eq!(a_day_before("0000000001-x"), None);
        assert!(a_day_before(&id(1, 0)).unwrap() < id(1, 0));
    }
}
