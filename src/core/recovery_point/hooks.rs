//! Holds the application for the instant of the snapshots: the hooks before, the snapshots, the hooks after.
//!
//! That hooks will be run, and which, stands in the status before the first one is. Whatever happens from then on, the
//! point does not end before the hooks after have been run: also when the operator was away, the snapshots failed, or
//! the application's object is gone. They may be run more than once.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Observed, groups, method, volumes};
use crate::{
    api::{
        application::Hooks,
        recovery_point::{Holding, HooksInPoint, RecoveryPointStatus, VolumeInPoint},
    },
    core::work::{Outcome, Progress, Seen, Side, Work, see},
};

/// How often the hooks after are begun, when not even that they ran can be told.
const TRIES: u32 = 10;

/// What the hooks mean for a pass.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// Nothing stands in the way of the snapshots, or of the rest of the run.
    Go,
    /// Nothing else is to be done in this pass.
    Wait(Option<Work>, &'static str),
    /// Nothing is held any more, and the point has failed.
    Failed(String),
}

/// The hooks' next step.
pub(super) fn turn(status: &mut RecoveryPointStatus, namespace: &str, seen: &Observed, now: Timestamp) -> Turn {
    let cut = status.volumes.iter().all(|it| cut(it, status, seen));
    let hold = status.id.clone().unwrap_or_default();
    let Some(hooks) = status.hooks.as_mut() else { return Turn::Go };
    match hooks.holding {
        Holding::Planned | Holding::Quiescing => before(hooks, (namespace, &hold), seen, now),
        Holding::Held if cut => after(hooks, (namespace, &hold), seen, now),
        Holding::Held if over(hooks, now) => {
            let most = hooks.run.hold_at_most.as_secs();
            let why = format!("the application was held for {most} s, and not all volumes were snapshotted by then");
            hooks.failure = Some(why);
            after(hooks, (namespace, &hold), seen, now)
        }
        Holding::Held => Turn::Go,
        Holding::Releasing => after(hooks, (namespace, &hold), seen, now),
        Holding::Released => hooks.failure.clone().map_or(Turn::Go, Turn::Failed),
    }
}

/// Whether the instant of a volume is past. One that is read directly has none.
fn cut(volume: &VolumeInPoint, status: &RecoveryPointStatus, seen: &Observed) -> bool {
    let group = status.groups.iter().find(|it| it.failure.is_none() && it.claims.contains(&volume.claim));
    volumes::settled(volume)
        || !method::is_snapshot(volume)
        || match group {
            Some(group) => groups::taken_at(group, &status.volumes, seen).is_some(),
            None => seen.snapshots.get(&volume.claim).is_some_and(|it| it.taken_at.is_some()),
        }
}

fn over(hooks: &HooksInPoint, now: Timestamp) -> bool {
    held_until(hooks).is_none_or(|it| it <= now)
}

/// Until when the application may be held.
pub(super) fn held_until(hooks: &HooksInPoint) -> Option<Timestamp> {
    let most = i64::try_from(hooks.run.hold_at_most.as_secs()).unwrap_or(i64::MAX);
    hooks.held_from.as_ref().map(|it| it.0 + SignedDuration::from_secs(most))
}

fn before(hooks: &mut HooksInPoint, place: (&str, &str), seen: &Observed, now: Timestamp) -> Turn {
    let first = hooks.holding == Holding::Planned;
    hooks.held_from.get_or_insert(Time(now));
    hooks.holding = Holding::Quiescing;
    match seen.works.get(Side::Before.work_name()) {
        None if first => Turn::Wait(Some(work(hooks, place.0, place.1, Side::Before)), "the hooks before run"),
        // How far they came is not known, and what they began may be over.
        None => {
            hooks.failure = Some("the operator was restarted while the hooks before ran".to_owned());
            after(hooks, place, seen, now)
        }
        Some(Progress::Running) if over(hooks, now) => {
            hooks.failure = Some("the hooks before were not done within holdAtMost".to_owned());
            after(hooks, place, seen, now)
        }
        Some(Progress::Running) => Turn::Wait(None, "the hooks before run"),
        Some(Progress::Failed { failure, .. }) => {
            hooks.failure = Some(failure.message.clone());
            after(hooks, place, seen, now)
        }
        Some(Progress::Done { outcome, .. }) => {
            told(hooks, outcome);
            if hooks.failure.is_some() {
                return after(hooks, place, seen, now);
            }
            hooks.holding = Holding::Held;
            Turn::Go
        }
    }
}

fn after(hooks: &mut HooksInPoint, place: (&str, &str), seen: &Observed, now: Timestamp) -> Turn {
    hooks.holding = Holding::Releasing;
    let name = Side::After.work_name();
    let ended = match (see(&seen.works, name, now), seen.works.get(name)) {
        (Seen::Done(outcome, at), _) => {
            told(hooks, outcome);
            at
        }
        (_, Some(Progress::Failed { times: TRIES.., failure, at })) => {
            let why = format!("the hooks after: {}: look whether the application is still held", failure.message);
            hooks.failure.get_or_insert(why);
            *at
        }
        (Seen::Due(_), _) => {
            return Turn::Wait(Some(work(hooks, place.0, place.1, Side::After)), "the hooks after run");
        }
        (Seen::Waiting(_), _) => return Turn::Wait(None, "the hooks after run"),
    };
    hooks.holding = Holding::Released;
    let held = hooks.held_from.as_ref().map_or(0, |it| ended.as_second() - it.0.as_second());
    hooks.held_seconds = Some(u64::try_from(held).unwrap_or(0));
    hooks.failure.clone().map_or(Turn::Go, Turn::Failed)
}

fn work(hooks: &HooksInPoint, namespace: &str, hold: &str, side: Side) -> Work {
    let all = hooks.run.commands.iter().cloned();
    let run = match side {
        Side::Before => all.filter(|it| !it.before.is_empty()).collect(),
        Side::After => all.rev().filter(|it| !it.after.is_empty()).collect(),
    };
    let seconds = hooks.run.hold_at_most.as_secs();
    Work::RunHooks { namespace: namespace.to_owned(), side, hooks: run, hold: hold.to_owned(), seconds }
}

fn told(hooks: &mut HooksInPoint, outcome: &Outcome) {
    if let Outcome::HooksRan { failure, lapsed, notes } = outcome {
        hooks.notes.extend(notes.iter().cloned());
        if hooks.failure.is_none() {
            hooks.failure.clone_from(if failure.is_some() { failure } else { lapsed });
        }
    }
}

/// Whether the application is held, or may be.
pub(super) fn holds(hooks: &HooksInPoint) -> bool {
    !matches!(hooks.holding, Holding::Planned | Holding::Released)
}

/// Whether nothing holds the application: what runs commands in it can run.
pub(super) fn released(status: &RecoveryPointStatus) -> bool {
    status.hooks.as_ref().is_none_or(|it| it.holding == Holding::Released)
}

impl HooksInPoint {
    /// Written down before anything is run.
    pub(super) fn planned(run: Hooks) -> Self {
        let holding = Holding::Planned;
        Self { run, holding, held_from: None, held_seconds: None, failure: None, notes: Vec::new() }
    }
}
