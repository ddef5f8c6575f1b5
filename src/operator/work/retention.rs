//! Work on what is kept in a vault: the points are gone through, dropped, and held.
//!
//! Which of them go is decided in `core::retention`. What is asked here once more, at the last moment: whether this
//! region still seals the catalogue, and what people hold.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::{
    failure,
    notes::{Noted, notes},
    open,
    point::catalogue_failure,
};
use crate::{
    api::{
        application::{RetainedPoint, Retention},
        recovery_point::Level,
    },
    core::{
        app_key::AppKey,
        chain::Kept,
        point::{Head, Point},
        retention::{Fate, Known, REVIEWED, Reason, explain, suspended},
        verified::Verified,
        work::{Failure, Outcome, Review},
    },
    operator::{context::Context, stores},
    vault::{Vault, catalogue::CatalogueError},
};

/// How many requests are under way at a time.
const AT_ONCE: usize = 16;
/// How far this machine's clock may be from the vault's.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// What was read, by application: points never change, and a vault may hold thousands of them.
pub type PointCache = Mutex<HashMap<AppKey, Remembered>>;

/// What was read of an application, by the points' ids.
#[derive(Default)]
pub struct Remembered {
    points: BTreeMap<String, Known>,
    notes: BTreeMap<String, Noted>,
    /// The points that they name as the one before.
    named: BTreeMap<String, String>,
}

/// Goes through all points.
pub(super) async fn review(
    name: &str,
    application: &AppKey,
    policy: &Retention,
    in_use: &[String],
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    clocks_agree(&vault, application, Timestamp::now()).await?;
    let known = context.points.lock().expect("no holder of this lock panics").remove(application).unwrap_or_default();
    let gathered = gather(&vault, application, known).await?;
    let head = vault.read_head(&application.namespace, &application.name).await.map_err(|it| catalogue_failure(&it))?;
    let latest = head.and_then(|(head, _)| head.latest);
    let used = |id: &String| latest.as_ref() == Some(id) || in_use.contains(id);
    let points: Vec<Known> = gathered.points().map(|it| Known { in_use: used(&it.id), ..it }).collect();
    let review = reviewed(&points, &gathered.unreadable, policy, Timestamp::now());
    let mut cache = context.points.lock().expect("no holder of this lock panics");
    cache.insert(application.clone(), gathered.read);
    // What is no longer protected is forgotten.
    cache.retain(|it, _| stores::get(&context.stores.applications, Some(&it.namespace), &it.name).is_some());
    Ok(Outcome::Reviewed(Box::new(review)))
}

/// Goes through the points of a vault that they are copied into. What was read of the first one's is known of these: they
/// are the same.
pub(super) async fn review_copy(
    (name, first): (&str, &str),
    application: &AppKey,
    policy: &Retention,
    newest: &str,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let known =
        context.points.lock().expect("no holder of this lock panics").get(application).map(|it| it.points.clone());
    // What was found out about points is of one vault's data.
    let known = Remembered { points: known.unwrap_or_default(), ..Remembered::default() };
    let gathered = gather(&vault, application, known).await?;
    let first = open(first, context).await?;
    let held = first.held(&application.namespace, &application.name).await.map_err(|it| catalogue_failure(&it))?;
    let points =
        gathered.points().map(|it| Known { in_use: it.id == newest, held: it.held || held.contains(&it.id), ..it });
    let points: Vec<Known> = points.collect();
    Ok(Outcome::Reviewed(Box::new(reviewed(&points, &gathered.unreadable, policy, Timestamp::now()))))
}

/// What is known of the points of a vault, for people.
pub struct Survey {
    /// Those that could be read, newest first.
    pub points: Vec<Surveyed>,
    /// Those that could not: they stay.
    pub unreadable: Vec<String>,
    /// Why nothing is dropped, if so.
    pub suspended: Option<String>,
}

/// A point, what was found out about it since it was made, and what becomes of it where there is a policy.
pub struct Surveyed {
    /// As retention knows it.
    pub point: Known,
    /// What was found out.
    pub note: Option<Verified>,
    /// What becomes of it.
    pub fate: Option<Fate>,
}

/// Goes through all points as a review does, and drops nothing: `first` is the vault whose holds count too, of a copy.
///
/// # Errors
/// When they cannot all be read.
pub async fn survey(
    vault: &Vault,
    first: Option<&Vault>,
    application: &AppKey,
    (policy, in_use): (Option<&Retention>, &[String]),
    now: Timestamp,
) -> Result<Survey, Failure> {
    let (namespace, app) = (&application.namespace, &application.name);
    let mut gathered = gather(vault, application, Remembered::default()).await?;
    if let Some(first) = first {
        gathered.held.extend(first.held(namespace, app).await.map_err(|it| catalogue_failure(&it))?);
    }
    let head = vault.read_head(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
    let latest = head.and_then(|(head, _)| head.latest);
    let used = |id: &String| latest.as_ref() == Some(id) || in_use.contains(id);
    let points: Vec<Known> = gathered.points().map(|it| Known { in_use: used(&it.id), ..it }).collect();
    let suspended = policy.and_then(|_| suspension(&points));
    // Without a policy every point stays: only the order counts.
    let fates = explain(&points, policy.unwrap_or(&Retention::default()), now);
    let mut note = |id: &str| gathered.read.notes.remove(id).map(|it| it.note);
    let points = fates.into_iter().map(|(point, fate)| Surveyed {
        note: note(&point.id),
        fate: policy.is_some().then_some(fate),
        point,
    });
    Ok(Survey { points: points.collect(), unreadable: gathered.unreadable, suspended })
}

/// Why nothing is dropped, if so.
fn suspension(points: &[Known]) -> Option<String> {
    let it = suspended(points)?;
    Some(format!("{} is suspicious, and nothing after it counts: look at it, then make a RecoveryPoint by hand", it.id))
}

fn reviewed(points: &[Known], unreadable: &[String], policy: &Retention, now: Timestamp) -> Review {
    let mut review = Review { kept: unreadable.len() as u64, ..Review::default() };
    for (it, fate) in explain(points, policy, now) {
        match fate {
            Fate::Keep(reasons) => {
                review.kept += 1;
                if review.points.len() < REVIEWED {
                    review.points.push(RetainedPoint { id: it.id, why: Reason::all(&reasons) });
                }
            }
            Fate::Drop(_) => review.drop.push(it.id),
        }
    }
    review.drop.reverse();
    review.suspended = suspension(points);
    review
}

/// The points of an application.
struct Gathered {
    read: Remembered,
    held: BTreeSet<String>,
    /// Points that could not be understood: they stay.
    unreadable: Vec<String>,
}

impl Gathered {
    /// The points, with what is known of each besides.
    fn points(&self) -> impl Iterator<Item = Known> {
        let damaged = |it: &Known| self.read.notes.get(&it.id).is_some_and(|it| it.note.damage.is_some());
        let verified = |it: &&Known| {
            let level = self.read.notes.get(&it.id).map(|it| it.note.level);
            it.good && !damaged(it) && level.is_some_and(|it| it >= Level::L2)
        };
        let last = self.read.points.values().filter(verified).max_by_key(|it| it.at).map(|it| &it.id);
        self.read.points.values().map(move |it| Known {
            held: self.held.contains(&it.id),
            last_verified: last == Some(&it.id),
            damaged: damaged(it),
            ..it.clone()
        })
    }
}

/// Lists the points, and reads those that are not known.
async fn gather(vault: &Vault, application: &AppKey, mut known: Remembered) -> Result<Gathered, Failure> {
    let (namespace, app) = (&application.namespace, &application.name);
    let ids = vault.all_points(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
    let (mut points, mut named, mut new, mut unreadable) = (BTreeMap::new(), BTreeMap::new(), Vec::new(), Vec::new());
    for id in ids {
        match known.points.remove(&id) {
            Some(it) => {
                named.extend(known.named.remove_entry(&id));
                points.insert(id, it);
            }
            None => new.push(id),
        }
    }
    for some in new.chunks(AT_ONCE) {
        let read = join_all(some.iter().map(|id| vault.read_point(namespace, app, id))).await;
        for (id, read) in some.iter().zip(read) {
            match read {
                Ok(point) => {
                    named.extend(point.previous.as_ref().map(|it| (point.id.clone(), it.id.clone())));
                    points.insert(point.id.clone(), of(&point));
                }
                Err(error @ CatalogueError::Store(_)) => return Err(catalogue_failure(&error)),
                // Another region dropped it meanwhile, or it is damaged, or of a newer version.
                Err(error) => {
                    unreadable.push(id.clone());
                    tracing::warn!(application = %application, %error, "a point is kept that cannot be read");
                }
            }
        }
    }
    let notes = notes(vault, application, known.notes, |_| true).await?;
    // Read last: what is held by now is not dropped.
    let held = vault.held(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
    Ok(Gathered { read: Remembered { points, notes, named }, held, unreadable })
}

fn of(point: &Point) -> Known {
    Known {
        id: point.id.clone(),
        at: point.consistent_at,
        good: point.good(),
        suspicious: !point.suspicious.is_empty(),
        branch: point.branch,
        held: false,
        in_use: false,
        last_verified: false,
        lock_until: point.lock_until,
        damaged: false,
    }
}

/// The claim is renewed all the time where retention runs, so that its age in the vault tells the clocks apart.
async fn clocks_agree(vault: &Vault, application: &AppKey, now: Timestamp) -> Result<(), Failure> {
    let key = format!("claims/{}.json", application.group());
    let found = vault.store().find(&key).await.map_err(|it| failure("StoreFailed", it))?;
    let Some(claim) = found else { return Ok(()) };
    if now.duration_since(claim.modified).abs() <= SKEW {
        return Ok(());
    }
    let minutes = SKEW.as_mins();
    let message = format!(
        "this machine's clock and the vault's differ by more than {minutes} minutes: nothing is dropped until they agree"
    );
    Err(failure("ClockSkew", message))
}

/// Deletes points, oldest first, while this region holds the claim.
pub(super) async fn drop_points(
    name: &str,
    application: &AppKey,
    ids: &[String],
    epoch: u64,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let mine = |head: &Head| head.epoch == epoch && head.sealed_by == context.region;
    let named =
        context.points.lock().expect("no holder of this lock panics").get(application).map(|it| it.named.clone());
    let dropping =
        Dropping { vault: &vault, application, ids, elsewhere: &BTreeSet::new(), named: &named.unwrap_or_default() };
    delete(&dropping, mine, || context.keeper.valid_now(application, epoch)).await
}

/// Deletes points from a vault that they are copied into, while this region holds the claim and none of a later epoch has
/// copied into it.
pub(super) async fn drop_copies(
    (name, first): (&str, &str),
    application: &AppKey,
    ids: &[String],
    epoch: u64,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (vault, first) = (open(name, context).await?, open(first, context).await?);
    let held = first.held(&application.namespace, &application.name).await.map_err(|it| catalogue_failure(&it))?;
    let mine = |head: &Head| head.epoch <= epoch;
    let dropping = Dropping { vault: &vault, application, ids, elsewhere: &held, named: &BTreeMap::new() };
    delete(&dropping, mine, || context.keeper.valid_now(application, epoch)).await
}

/// What is deleted.
struct Dropping<'a> {
    vault: &'a Vault,
    application: &'a AppKey,
    ids: &'a [String],
    /// What another vault holds.
    elsewhere: &'a BTreeSet<String>,
    /// The points that others name as the one before, by these.
    named: &'a BTreeMap<String, String>,
}

impl Dropping<'_> {
    /// What stays is written down first: what is gone besides is noticed then.
    async fn write_kept(&self) -> Result<(), Failure> {
        let (namespace, app) = (&self.application.namespace, &self.application.name);
        let listed = self.vault.all_points(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
        let listed: BTreeSet<String> = listed.into_iter().collect();
        let named: BTreeSet<String> = self.named.values().cloned().collect();
        let kept = self.vault.change_kept(namespace, app, |it| Kept::after(it, &listed, &named, self.ids));
        kept.await.map_err(|it| catalogue_failure(&it))
    }
}

async fn delete(
    dropping: &Dropping<'_>,
    mine: impl Fn(&Head) -> bool,
    valid: impl Fn() -> bool,
) -> Result<Outcome, Failure> {
    let Dropping { vault, application, ids, elsewhere, .. } = *dropping;
    let (namespace, app) = (&application.namespace, &application.name);
    let head = async || {
        let head = vault.read_head(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
        let Some((head, _)) = head.filter(|(it, _)| mine(it)) else {
            let message = "the catalogue is sealed by another region: it decides what is kept".to_owned();
            return Err(Failure { reason: "Sealed", message, lasting: true });
        };
        Ok(head)
    };
    head().await?;
    if !valid() {
        return Err(failure("NoClaim", "this region cannot prove its claim at the moment"));
    }
    dropping.write_kept().await?;
    let (mut dropped, mut refused) = (Vec::new(), Vec::new());
    for some in ids.chunks(AT_ONCE) {
        let head = head().await?;
        let protected = vault.held(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
        if !valid() {
            return Err(failure("NoClaim", "this region cannot prove its claim at the moment"));
        }
        let free: Vec<_> = some
            .iter()
            .filter(|id| !protected.contains(*id) && !elsewhere.contains(*id) && head.latest.as_ref() != Some(id))
            .collect();
        let deleted = join_all(free.iter().map(|id| vault.delete_point(namespace, app, id))).await;
        for (id, deleted) in free.into_iter().zip(deleted) {
            if deleted.map_err(|it| catalogue_failure(&it))? {
                dropped.push(id.clone());
            } else {
                refused.push(id.clone());
            }
        }
    }
    Ok(Outcome::Dropped { dropped, refused })
}

/// Has every region's retention leave a point alone, or no longer.
pub(super) async fn set_hold(
    name: &str,
    application: &AppKey,
    point: &str,
    held: bool,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (vault, namespace, app) = (open(name, context).await?, &application.namespace, &application.name);
    let done = if held {
        vault.hold(namespace, app, point, &context.region).await
    } else {
        vault.release(namespace, app, point).await
    };
    done.map_err(|it| catalogue_failure(&it))?;
    Ok(Outcome::Done)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
