//! What to do about a `ProtectedApplication`: which role this region has, and what follows from it.
//!
//! The claim itself is `core::claim`; a failover in progress is `core::failover`; one point is
//! `core::recovery_point`. This file decides the role and puts the pieces together.

pub mod copies;
pub mod copy_retention;
pub mod copy_scrub;
mod fencing;
mod findings;
mod imported;
mod locks;
mod noted;
mod outlook;
mod points;
mod rehearse;
mod restoring;
pub mod retention;
pub mod scrub;
mod traffic;
pub mod warm;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

pub(super) use fencing::point_object;

use super::{
    app_key::AppKey,
    child::Run,
    claim::{state::Wish, view::View},
    condition,
    effect::{Decision, Effect},
    health::Health,
    mover_job::MoverSettings,
    recovery_point::JobSeen,
    slo,
    work::{Progress, Seen, Work, Works, see},
};
use crate::api::{
    application::{
        FenceStatus, HealthStatus, LastFailover, ProtectedApplication, ProtectedApplicationStatus, Role, SloStatus,
    },
    dns_zone::DnsZone,
    failover::{Failover, FailoverStatus},
    recovery_point::RecoveryPoint,
    restore::Restore,
    vault::Vault,
};

/// How often an application is looked at when nothing is due: conditions that depend on time are kept by it.
const LOOK: Duration = Duration::from_mins(1);
/// How often while its copy here is being stopped.
const LOOK_CLOSELY: Duration = Duration::from_secs(2);

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The operator's region.
    pub region: String,
    /// The vault it names.
    pub vault: Option<Arc<Vault>>,
    /// The zone it names.
    pub zone: Option<Arc<DnsZone>>,
    /// The claim.
    pub claim: Option<View>,
    /// How it looks from here.
    pub health: Option<Health>,
    /// The service level reached so far.
    pub slo: Option<slo::Summary>,
    /// Its recovery points in this cluster.
    pub points: Vec<Arc<RecoveryPoint>>,
    /// Its failovers in this cluster.
    pub failovers: Vec<Arc<Failover>>,
    /// Its restores in this cluster, also those into other namespaces.
    pub restores: Vec<Arc<Restore>>,
    /// What runs of it in this cluster. Counted only where that matters.
    pub copy: LocalCopy,
    /// The workload whose pods may take longest to stop, and how many seconds that is.
    pub slowest: Option<(String, u64)>,
    /// Probes that cannot be asked, with the reason.
    pub unaskable: Vec<String>,
    /// The address of its Service, if it has one.
    pub address: Result<String, String>,
    /// What movers have in common.
    pub movers: Option<MoverSettings>,
    /// The Job that prunes its repository, while its status tells of one.
    pub prune: Option<JobSeen>,
    /// The vaults that its points are copied into, as far as they are in this cluster.
    pub copy_vaults: Vec<Arc<Vault>>,
    /// The Jobs that copy, by what they are named after, while its status tells of one.
    pub copy_jobs: BTreeMap<String, JobSeen>,
    /// What is restored ahead. Looked up only while something is done about it.
    pub warm: Option<warm::WarmSeen>,
    /// The Job that reads back a share of its repository, while its status tells of one.
    pub scrub: Option<JobSeen>,
    /// Work in progress.
    pub works: Works,
}

/// What runs of an application in this cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCopy {
    /// Workloads that want to run.
    pub wanted: u32,
    /// Pods that are not gone.
    pub pods: u32,
    /// Bound claims.
    pub volumes: u32,
}

/// Where a region stands with the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It holds the claim, and serves.
    Serving,
    /// It holds the claim, and a failover brings the application into service.
    Arriving,
    /// It holds the claim, but has to stop: it was asked to hand over, or could not prove its claim under `Strict`.
    Yielding,
    /// It had stopped, and its own copy is still the newest: it took the claim anew, or is not asked for it any more.
    Resuming,
    /// Another region holds the claim.
    Foreign,
    /// Nobody holds it, or it is in conflict.
    Unclear,
}

/// What one pass has at hand, and what it puts together.
pub(super) struct Pass<'a> {
    object: &'a ProtectedApplication,
    seen: &'a Observed,
    now: Timestamp,
    key: AppKey,
    status: ProtectedApplicationStatus,
    effects: Vec<Effect>,
    /// What is done after all else: an object that is refused, as by a quota, keeps nothing else from being done.
    last: Vec<Effect>,
    recheck: Duration,
    advice: outlook::Advice,
}

/// Decides what to do about `object`.
#[must_use]
pub fn decide(object: &ProtectedApplication, seen: &Observed, now: Timestamp) -> Decision<ProtectedApplicationStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    status.region = Some(seen.region.clone());
    let key = AppKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    let mut pass = Pass {
        object,
        seen,
        now,
        key,
        status,
        effects: Vec::new(),
        last: Vec::new(),
        recheck: LOOK,
        advice: outlook::Advice::default(),
    };
    if pass.runs_here() {
        pass.judge();
        pass.follow_notes();
        pass.follow_claim();
        pass.follow_prune(pass.status.role == Some(Role::Active));
        pass.scrub();
        pass.follow_copies(pass.status.role == Some(Role::Active));
        pass.scrub_copies(pass.status.role == Some(Role::Active));
        pass.rehearse();
    } else {
        pass.status.role = None;
    }
    pass.follow_warm();
    pass.find();
    pass.effects.append(&mut pass.last);
    Decision { status: pass.status, effects: pass.effects, recheck: Some(pass.recheck) }
}

impl Pass<'_> {
    /// Whether this region is one of the application's.
    fn runs_here(&self) -> bool {
        self.object.spec.regions.iter().any(|it| it.name == self.seen.region)
    }

    /// Takes over what the probes say.
    fn judge(&mut self) {
        self.status.health = self.seen.health.as_ref().map(|it| HealthStatus {
            verdict: it.verdict,
            since: Some(condition::whole_second(it.since)),
            reasons: it.reasons.clone(),
        });
        let succeeded = |it: &FailoverStatus| condition::is_true(&it.conditions, condition::SUCCEEDED);
        let ended = self
            .seen
            .failovers
            .iter()
            .filter_map(|it| Some((it.name_any(), it.status.as_ref().filter(|it| succeeded(it))?)));
        let last =
            ended.filter_map(|(name, it)| Some((it.finished_at.clone()?, name, it.rto_seconds?, it.rpo_seconds)));
        if let Some((finished_at, name, rto_seconds, rpo_seconds)) = last.max_by_key(|it| it.0.0) {
            self.status.last_failover = Some(LastFailover { name, finished_at, rto_seconds, rpo_seconds });
        }
        self.status.slo = self.seen.slo.as_ref().map(|it| SloStatus {
            availability: percent(it.good, it.good + it.bad),
            budget_left_minutes: it.budget_left_minutes,
            coverage: percent(it.good + it.bad, it.good + it.bad + it.unknown),
        });
    }

    /// Takes the role that the claim gives this region, and does what belongs to it.
    fn follow_claim(&mut self) {
        let Some(view) = self.seen.claim.clone() else {
            self.status.role = Some(Role::Unknown);
            self.stand_aside();
            self.recheck = LOOK_CLOSELY;
            return;
        };
        if view.epoch > 0 && view.conflict.is_none() {
            self.status.epoch = Some(view.epoch);
            self.status.active_region.clone_from(&view.holder);
        }
        self.status.role = Some(match self.standing(&view) {
            Standing::Serving => {
                self.wish(Wish::Hold);
                self.status.fence = None;
                if self.sealed(&view) {
                    self.schedule_points(&view);
                    self.retain(&view);
                    self.keep_locks(&view);
                    self.publish(&view);
                }
                Role::Active
            }
            Standing::Arriving => {
                self.wish(Wish::Hold);
                if !self.status.fence.as_ref().is_some_and(|it| it.settled) {
                    self.fence(&view);
                }
                if let Some(fence) = &mut self.status.fence {
                    // The epoch is the failover's: what it restores is not resumed, also when its object is gone.
                    fence.retake = None;
                }
                self.finish_arriving(&view);
                Role::Activating
            }
            Standing::Yielding => {
                self.yield_service(&view);
                Role::Fencing
            }
            Standing::Resuming => {
                self.resume(&view);
                Role::Fencing
            }
            Standing::Foreign => {
                self.stand_aside();
                let role = self.fence(&view);
                self.follow_points();
                if view.given_up_by(&self.seen.region) {
                    self.take_back(&view);
                } else {
                    self.weigh(&view);
                }
                role
            }
            Standing::Unclear => {
                let first = self.object.spec.regions.first().is_some_and(|it| it.name == self.seen.region);
                let free = view.claim.is_none() && view.conflict.is_none() && self.vault_trusted().is_ok();
                self.look_up_evidence();
                if first && free {
                    self.wish(Wish::Hold);
                } else {
                    self.stand_aside();
                }
                self.recheck = LOOK_CLOSELY * 5;
                Role::Unknown
            }
        });
    }

    /// Where this region stands with the claim.
    fn standing(&self, view: &View) -> Standing {
        // `Strict` stops what it cannot prove, whatever else is unclear.
        if view.must_fence {
            return Standing::Yielding;
        }
        if view.conflict.is_some() || (!view.mine && view.claim.is_none()) {
            return Standing::Unclear;
        }
        if !view.mine {
            return Standing::Foreign;
        }
        // Half of a restore is not handed over as the last point: whoever asks waits for its end.
        let asked = view.requested_handover.is_some() && !self.restoring();
        match &self.status.fence {
            None if asked => Standing::Yielding,
            // A failover took it before this region was ever seen to stand by.
            None if self.failover_began(view.epoch) && !self.failover_succeeded(view.epoch) => Standing::Arriving,
            Some(fence) if fence.epoch == view.epoch && (asked || fence.unproven) => Standing::Yielding,
            Some(fence) if fence.epoch == view.epoch => Standing::Resuming,
            Some(fence) if resumes(fence, view.epoch) && !self.failover_began(view.epoch) => Standing::Resuming,
            Some(_) if !self.failover_succeeded(view.epoch) => Standing::Arriving,
            None | Some(_) => Standing::Serving,
        }
    }

    /// Whether a failover to here under this epoch has succeeded.
    fn failover_succeeded(&self, epoch: u64) -> bool {
        self.seen
            .failovers
            .iter()
            .filter_map(|it| it.status.as_ref())
            .any(|it| it.epoch == Some(epoch) && condition::is_true(&it.conditions, condition::SUCCEEDED))
    }

    /// Whether a failover to here was to take the claim with this epoch.
    fn failover_began(&self, epoch: u64) -> bool {
        self.seen.failovers.iter().filter_map(|it| it.status.as_ref()).any(|it| it.epoch == Some(epoch))
    }

    /// The failover that goes on here.
    fn moving(&self) -> Option<&Failover> {
        let going = |it: &&Arc<Failover>| !it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        self.seen.failovers.iter().find(going).map(AsRef::as_ref)
    }

    /// What is known of the claim from elsewhere: no first claim is made before that was looked up.
    fn look_up_evidence(&mut self) {
        if let Seen::Due(_) = see(&self.seen.works, "ReadHead", self.now)
            && self.vault_ready().is_ok()
        {
            let work = Work::ReadHead { vault: self.vault_name(), application: self.key.clone() };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    /// Whether the catalogue is sealed with this epoch, as it must be before anything enters it.
    fn sealed(&mut self, view: &View) -> bool {
        if let Some(Progress::Done { work, .. }) = self.seen.works.get("SealCatalogue")
            && matches!(work.as_ref(), Work::SealCatalogue { epoch, .. } if *epoch == view.epoch)
        {
            return true;
        }
        self.recheck = LOOK_CLOSELY;
        let running = matches!(see(&self.seen.works, "SealCatalogue", self.now), Seen::Waiting(_));
        if view.valid && !running && self.vault_ready().is_ok() {
            let (vault, application) = (self.vault_name(), self.key.clone());
            self.effects.push(Effect::Begin(Box::new(Work::SealCatalogue { vault, application, epoch: view.epoch })));
        }
        false
    }

    fn wish(&mut self, wish: Wish) {
        self.effects.push(Effect::Wish { application: self.key.clone(), wish });
    }

    /// Wants nothing of the claim, unless a failover to here goes on, which says itself what it wants.
    fn stand_aside(&mut self) {
        if self.moving().is_none() {
            self.wish(Wish::Watch);
        } else {
            // Nothing wakes this when the failover is deleted, and its last wish stands until then.
            self.recheck = LOOK_CLOSELY;
        }
    }

    /// Looks again in time for `at`.
    fn look_at(&mut self, at: Timestamp) {
        let seconds = u64::try_from(at.as_second() - self.now.as_second()).unwrap_or(0).max(1);
        self.recheck = self.recheck.min(Duration::from_secs(seconds));
    }

    /// What the application's own objects are made for.
    fn run(&self) -> Run {
        run(&self.key, self.object.uid().unwrap_or_default())
    }

    /// The vault's name, as the application gives it.
    fn vault_name(&self) -> String {
        self.object.spec.backup.vaults.first().cloned().unwrap_or_default()
    }
}

/// The run that objects are made for which serve the application itself, and no point, restore or failover of it.
#[must_use]
pub fn run(key: &AppKey, uid: String) -> Run {
    Run { namespace: key.namespace.clone(), name: key.name.clone(), uid }
}

/// Whether what was stopped here is of the epoch before this one, which was taken to start it again. What a failover
/// had not yet restored is of an older one.
pub(super) fn resumes(fence: &FenceStatus, epoch: u64) -> bool {
    fence.retake == Some(epoch) && fence.epoch + 1 == epoch
}

/// Labels an object as made by Reprise, and as owned by its application.
fn owned(metadata: &mut kube::core::ObjectMeta, key: &AppKey, uid: Option<String>) {
    let (label, value) = super::child::MANAGED_BY;
    metadata.labels.get_or_insert_default().insert(label.to_owned(), value.to_owned());
    metadata.owner_references = uid.map(|uid| {
        vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: "reprise.dev/v1alpha1".to_owned(),
            kind: "ProtectedApplication".to_owned(),
            name: key.name.clone(),
            uid,
            ..k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference::default()
        }]
    });
}

/// `part` of `whole` in per cent, with two decimals, never rounded up: more of them would be written anew each minute.
fn percent(part: u32, whole: u32) -> String {
    match (u64::from(part) * 10_000).checked_div(u64::from(whole)) {
        Some(hundredths) => format!("{}.{:02}%", hundredths / 100, hundredths % 100),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests;
