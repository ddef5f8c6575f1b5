//! Stopping this region's copy: because another region holds the claim, because it was asked to hand over, or
//! because `Strict` demands it. What had been written is saved first, then nothing runs.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, core::DynamicObject};
use serde_json::json;

use super::{LOOK_CLOSELY, Pass, resumes};
use crate::{
    api::{
        application::{FenceStatus, Role},
        recovery_point::{Purpose, RecoveryPoint, VolumeInPoint},
    },
    core::{
        claim::{state::Wish, view::View},
        condition,
        effect::Effect,
        work::{Seen, Work, see},
    },
};

/// How long the last point before a hand-over may take, in seconds: the application is down meanwhile.
const LAST_POINT_SECONDS: i64 = 120;
/// How long after the first failed attempt to save a branch the next one is made; twice as long after each further one.
const RETRY: SignedDuration = SignedDuration::from_mins(1);
/// From then on every 32 minutes: each attempt leaves an object.
const MOST_DOUBLINGS: u32 = 5;

/// How far saving is.
enum Saved {
    Yes(String),
    NotYet,
    Failed,
}

impl Pass<'_> {
    /// Another region holds the claim: stop, save, stand by.
    pub(super) fn fence(&mut self, view: &View) -> Role {
        let Some(since) = self.stopped(view) else { return Role::Fencing };
        let settled = self.status.fence.as_ref().is_some_and(|it| it.settled);
        if settled || self.seen.copy.volumes == 0 {
            self.settle(None);
            return Role::Standby;
        }
        match self.save(Purpose::Branch, "branch", since) {
            Saved::Yes(id) => {
                let note = format!("what this region had written is saved as {id}: it is never restored by itself");
                self.effects.push(Effect::note("BranchSaved", note));
                self.settle(Some(id));
                Role::Standby
            }
            Saved::NotYet | Saved::Failed => {
                self.recheck = LOOK_CLOSELY;
                Role::Fencing
            }
        }
    }

    /// This region holds the claim but has to stop. Asked to hand over: a last point, then the claim is released.
    /// Unable to prove its claim under `Strict`: once it can again, it takes the claim anew and goes on.
    pub(super) fn yield_service(&mut self, view: &View) {
        self.recheck = LOOK_CLOSELY;
        if view.mine {
            self.wish(Wish::Hold);
        }
        let Some(since) = self.stopped(view) else { return };
        // What is not whole yet is not handed over: a last point of it would hide the good ones.
        let whole = self.status.fence.as_ref().is_some_and(|it| it.epoch == view.epoch);
        let Some(to) = view.requested_handover.as_ref().filter(|_| whole).map(|it| it.to.clone()) else {
            return self.retake(view, "it had stopped by itself", view.seizable);
        };
        let waited = self.now.as_second() - since.as_second();
        // What a restore left half done would hide the good points.
        let half = self.left_half().is_some();
        let point = match if half { Saved::Failed } else { self.save(Purpose::Scheduled, "last", since) } {
            Saved::Yes(id) => Some(id),
            Saved::Failed => None,
            Saved::NotYet if waited > LAST_POINT_SECONDS => None,
            Saved::NotYet => return,
        };
        let reason = match &point {
            Some(id) => format!("stopped for {to}; the last point is {id}"),
            None => format!("stopped for {to}; no last point could be made"),
        };
        if point.is_some() {
            // Nothing was written since: it need not be saved again.
            self.settle(point.clone());
        }
        if let Some(fence) = &mut self.status.fence {
            // Written down for an epoch that is not taken now: it comes back by `returned_to`, or not at all.
            fence.retake = None;
        }
        self.wish(Wish::Release { to: Some(to), point, reason });
    }

    /// Takes the next epoch of a claim that nobody else had since: written down first, then done.
    fn retake(&mut self, view: &View, reason: &str, may: bool) {
        let epoch = view.epoch + 1;
        let written = self.object.status.as_ref().and_then(|it| it.fence.as_ref()).and_then(|it| it.retake);
        if written == Some(epoch) {
            return self.wish(Wish::Seize { epoch, reason: reason.to_owned() });
        }
        let whole = !self.failover_began(view.epoch);
        if let Some(fence) = self.status.fence.as_mut().filter(|_| may) {
            if whole && resumes(fence, view.epoch) {
                // It stopped again before all was started: its copy is of this epoch as well.
                fence.epoch = view.epoch;
            }
            fence.retake = Some(epoch);
        }
    }

    /// What this region gave up was not taken: nobody serves, and its own copy is the newest.
    pub(super) fn take_back(&mut self, view: &View) {
        self.recheck = LOOK_CLOSELY;
        let stopped = self.status.fence.as_ref().is_some_and(|it| it.stopped_at.is_some() && it.epoch == view.epoch);
        if stopped && self.moving().is_none() {
            self.retake(view, "nobody took it", view.returned_to(&self.seen.region));
        }
    }

    /// Nobody else had the claim since this region stopped: what was stopped is started.
    pub(super) fn resume(&mut self, view: &View) {
        self.wish(Wish::Hold);
        self.recheck = LOOK_CLOSELY;
        if !view.valid || !self.sealed(view) || self.restore_behind(view.epoch) {
            return;
        }
        if self.restore_starts() {
            let note = "nobody else took the claim; what was stopped is for a Restore to start";
            self.effects.push(Effect::note("Resumed", note));
            self.status.fence = None;
            return;
        }
        let since = self.status.fence.as_ref().and_then(|it| it.since.as_ref()).map(|it| it.0);
        match see(&self.seen.works, "StartWorkloads", self.now) {
            // What was started before it was stopped does not count.
            Seen::Done(_, at) if Some(at) > since => {
                self.effects.push(Effect::note("Resumed", "nobody else took the claim: the application is started"));
                self.status.fence = None;
            }
            Seen::Due(_) | Seen::Done(..) => {
                let work = Work::StartWorkloads { application: self.key.clone(), epoch: view.epoch };
                self.effects.push(Effect::Begin(Box::new(work)));
            }
            Seen::Waiting(_) => {}
        }
    }

    /// Nothing is left to be saved.
    fn settle(&mut self, branch: Option<String>) {
        if let Some(fence) = &mut self.status.fence {
            fence.settled = true;
            fence.branch = branch.or(fence.branch.take());
        }
    }

    /// Since when nothing of the application runs here. `None` while something does: it is being stopped then, once
    /// the intent stands in the observed status.
    fn stopped(&mut self, view: &View) -> Option<Timestamp> {
        let intent = self.object.status.as_ref().and_then(|it| it.fence.clone());
        let runs = self.seen.copy.wanted > 0 || self.seen.copy.pods > 0;
        let Some(mut fence) = intent else {
            let epoch = view.own_epoch.unwrap_or(view.epoch);
            // What a failover took before this region was seen to stand by gave way to the epoch before.
            let held = view.own_epoch.is_some();
            let arriving = held && self.failover_began(epoch) && !self.failover_succeeded(epoch);
            let epoch = if arriving { epoch.saturating_sub(1) } else { epoch };
            let unproven = view.must_fence && !arriving;
            let since = Some(Time(self.now));
            self.status.fence = Some(FenceStatus { epoch, since, unproven, ..FenceStatus::default() });
            self.recheck = LOOK_CLOSELY;
            if runs {
                let holder = view.holder.as_deref().unwrap_or("nobody");
                let note = if view.must_fence {
                    format!(
                        "this region cannot prove its claim with epoch {epoch}, and claim.fencing is Strict: its copy is stopped"
                    )
                } else {
                    format!(
                        "{holder} holds the claim with epoch {epoch}, and this region must not serve: its copy is stopped"
                    )
                };
                self.effects.push(Effect::warn("Fencing", note));
            }
            return None;
        };
        if runs {
            if fence.stopped_at.take().is_some() {
                let note = "something scaled this standby's workloads up: they are stopped again. If it is GitOps, leave spec.replicas to Reprise here";
                self.effects.push(Effect::warn("FencingAgain", note));
                fence = FenceStatus { since: Some(Time(self.now)), branch: None, settled: false, ..fence };
            }
            self.effects.push(Effect::StopWorkloads { namespace: self.key.namespace.clone() });
            self.recheck = LOOK_CLOSELY;
        } else if fence.stopped_at.is_none() {
            fence.stopped_at = Some(Time(self.now));
            self.effects.push(Effect::note("Fenced", "nothing of the application runs in this region"));
        }
        let since = fence.stopped_at.as_ref().and(fence.since.as_ref()).map(|it| it.0);
        self.status.fence = Some(fence);
        since
    }

    /// A point of what stands still now. Its name tells when the stopping began, and which attempt it is.
    fn save(&mut self, purpose: Purpose, word: &str, since: Timestamp) -> Saved {
        let stem = format!("{}-{word}-{}-", self.key.name, since.as_second());
        // By the highest number, not by how many: an old one may have been deleted.
        let number = |it: &RecoveryPoint| it.name_any().strip_prefix(&stem)?.parse::<u32>().ok();
        let attempts = self.seen.points.iter().filter_map(|it| Some((number(it)?, it)));
        let last = attempts.max_by_key(|it| it.0);
        let next = last.map_or(0, |it| it.0 + 1);
        let ended = last.and_then(|it| it.1.status.as_ref()).filter(|it| condition::ended(&it.conditions));
        match (last, ended) {
            (None, _) => {}
            (Some(_), None) => return Saved::NotYet,
            (Some((tried, _)), Some(status)) => {
                let finding = condition::find(&status.conditions, condition::SUCCEEDED);
                // A partial point of what must not be lost will do when no volume is missing as a whole.
                let saved = |it: &VolumeInPoint| it.snapshot.is_some() || it.left_out.is_some();
                let whole = !status.volumes.is_empty() && status.volumes.iter().all(saved);
                let partial = |reason: &str| purpose == Purpose::Branch && reason == "Partial" && whole;
                if finding.is_some_and(|it| it.status == "True" || partial(&it.reason)) {
                    return Saved::Yes(status.id.clone().unwrap_or_default());
                }
                let at = status.finished_at.as_ref().map_or(self.now, |it| it.0);
                // One that ended in the future ended before the clock was set back.
                if at <= self.now && at + RETRY * (1 << tried.min(MOST_DOUBLINGS)) > self.now {
                    return Saved::Failed;
                }
            }
        }
        let object = point_object(&self.key, &format!("{stem}{next:02}"), purpose, self.object.uid());
        self.effects.push(Effect::Apply(Box::new(object)));
        Saved::NotYet
    }
}

/// A `RecoveryPoint` of the application.
pub(in crate::core) fn point_object(
    key: &crate::core::app_key::AppKey,
    name: &str,
    purpose: Purpose,
    owner: Option<String>,
) -> DynamicObject {
    let spec = crate::api::recovery_point::RecoveryPointSpec {
        application: key.name.clone(),
        purpose,
        hold: false,
        description: None,
        id: None,
    };
    let mut object = RecoveryPoint::new(name, spec);
    object.metadata.namespace = Some(key.namespace.clone());
    super::owned(&mut object.metadata, key, owner);
    dynamic(&object)
}

/// The same object, as effects carry it.
pub(super) fn dynamic<K: kube::Resource<DynamicType = ()> + serde::Serialize>(object: &K) -> DynamicObject {
    let mut value = serde_json::to_value(object).expect("our own kinds are plain data");
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
        map.insert("apiVersion".to_owned(), json!(K::api_version(&())));
        map.insert("kind".to_owned(), json!(K::kind(&())));
    }
    serde_json::from_value(value).expect("our own kinds are objects")
}
