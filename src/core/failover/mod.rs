//! What to do about a `Failover`: its steps in order, each with its intent written down before it acts.
//!
//! One pass either stays in a step or goes to the next: the next one acts only in a later pass, when the status that
//! names it was written. A step that meets a hindrance stays and says why; before the claim is taken the run may end,
//! afterwards it only goes forward.

mod claim;
mod restore;
mod serve;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    app_key::AppKey,
    application::LocalCopy,
    child::Run,
    claim::view::View,
    condition::{self, Finding, SUCCEEDED, Truth},
    dump_load,
    effect::{Decision, Effect, ObjectKey, hindered},
    health::Health,
    mover_job::MoverSettings,
    volume_restore,
    work::Works,
};
use crate::api::{
    application::ProtectedApplication,
    dns_zone::DnsZone,
    failover::{Failover, FailoverStatus, Step, StepName},
    vault::Vault,
};

/// How often a run in progress is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The operator's region.
    pub region: String,
    /// What movers have in common.
    pub movers: MoverSettings,
    /// What an effect of the last pass was refused for.
    pub hindrance: Option<String>,
    /// The application.
    pub application: Option<Arc<ProtectedApplication>>,
    /// Its vault.
    pub vault: Option<Arc<Vault>>,
    /// Its zone.
    pub zone: Option<Arc<DnsZone>>,
    /// Its claim.
    pub claim: Option<View>,
    /// How it looks from here.
    pub health: Option<Health>,
    /// What runs of it here.
    pub copy: LocalCopy,
    /// Its volumes here, by claim. Looked up while they are restored.
    pub volumes: BTreeMap<String, volume_restore::Seen>,
    /// The vaults that its points are copied into, as far as they are in this cluster.
    pub copies: Vec<Arc<Vault>>,
    /// What its dumps would be loaded in, and the movers that load them. Looked up while they are loaded.
    pub dumps: BTreeMap<String, dump_load::Seen>,
    /// What of its workloads is not ready. Looked up while that is waited for.
    pub not_ready: Vec<String>,
    /// The address of its Service, or why there is none.
    pub address: Result<String, String>,
    /// Other failovers of the application in this cluster that come first: begun, or not begun and earlier by name.
    pub others: Vec<String>,
    /// Everything that stands in the operator's namespace for this run.
    pub made: Vec<ObjectKey>,
    /// Work in progress.
    pub works: Works,
}

/// What one step says.
pub(super) enum Next {
    /// It goes on; what it waits for.
    Stay(String),
    /// It does not go on by itself: the reason in one word, and what to do.
    Hindered(&'static str, String),
    /// It is done; what came of it.
    Go(String),
    /// The run goes back to an earlier step: what was chosen turned out to be bad.
    Back(StepName, String),
    /// The run ends without success. Only before the claim is taken.
    Fail(&'static str, String),
}

/// What one pass has at hand.
pub(super) struct Pass<'a> {
    object: &'a Failover,
    seen: &'a Observed,
    application: &'a ProtectedApplication,
    run: Run,
    key: AppKey,
    now: Timestamp,
    status: FailoverStatus,
    effects: Vec<Effect>,
}

/// What stands between a point and its volume where the volume's data is damaged.
const DAMAGED: &str = ": volume ";

/// The steps, in order.
const STEPS: [StepName; 11] = [
    StepName::WaitOutClaim,
    StepName::SeizeClaim,
    StepName::SealCatalogue,
    StepName::ChoosePoint,
    StepName::RestoreVolumes,
    StepName::RestoreObjects,
    StepName::LoadDumps,
    StepName::AwaitReady,
    StepName::ProbeAddress,
    StepName::SwitchTraffic,
    StepName::ProbeName,
];

/// Decides what to do about `object`.
#[must_use]
pub fn decide(object: &Failover, seen: &Observed, now: Timestamp) -> Decision<FailoverStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    if condition::ended(&status.conditions) {
        let effects: Vec<_> = seen.made.iter().cloned().map(Effect::Delete).collect();
        let recheck = (!effects.is_empty()).then_some(LOOK * 2);
        return Decision { status, effects, recheck };
    }
    let Some(application) = seen.application.as_deref() else {
        let message = format!(
            "spec.application: there is no ProtectedApplication '{}' in this namespace",
            object.spec.application
        );
        if status.step.is_none() {
            return refuse(object, status, "NoApplication", message, now);
        }
        // Once begun it does not end by that: the application may be back, or readable again, in a moment.
        let finding = Finding::new(SUCCEEDED, Truth::Unknown, "NoApplication", message);
        status.conditions = condition::conditions(&status.conditions, vec![finding], object.metadata.generation, now);
        return Decision { status, effects: Vec::new(), recheck: Some(LOOK * 5) };
    };
    if status.step.is_none()
        && let Err((reason, message)) = admissible(object, application, seen)
    {
        return refuse(object, status, reason, message, now);
    }
    let namespace = object.namespace().unwrap_or_default();
    let run = Run { namespace: namespace.clone(), name: object.name_any(), uid: object.uid().unwrap_or_default() };
    let key = AppKey { namespace, name: application.name_any() };
    let mut pass = Pass { object, seen, application, run, key, now, status, effects: Vec::new() };
    match pass.status.step {
        None => pass.begin(),
        Some(step) => pass.advance(step),
    }
    Decision { status: pass.status, effects: pass.effects, recheck: Some(LOOK) }
}

/// What is refused before the first step.
fn admissible(
    object: &Failover,
    application: &ProtectedApplication,
    seen: &Observed,
) -> Result<(), (&'static str, String)> {
    if object.spec.to != seen.region {
        let message = format!(
            "spec.to is {}, but this cluster is {}: make the Failover in the cluster of {}",
            object.spec.to, seen.region, object.spec.to
        );
        return Err(("WrongCluster", message));
    }
    if !application.spec.regions.iter().any(|it| it.name == object.spec.to) {
        let message = format!("spec.to: {} is not among spec.regions of {}", object.spec.to, application.name_any());
        return Err(("UnknownRegion", message));
    }
    if let Some(other) = seen.others.first() {
        return Err(("AnotherInProgress", format!("Failover {other} goes on: wait for its end, or delete it")));
    }
    Ok(())
}

fn refuse(
    object: &Failover,
    mut status: FailoverStatus,
    reason: &'static str,
    message: String,
    now: Timestamp,
) -> Decision<FailoverStatus> {
    status.finished_at = Some(Time(now));
    let finding = Finding::new(SUCCEEDED, false, reason, message.clone());
    status.conditions = condition::conditions(&status.conditions, vec![finding], object.metadata.generation, now);
    Decision { status, effects: vec![Effect::warn("FailoverFailed", message)], recheck: None }
}

impl Pass<'_> {
    fn begin(&mut self) {
        let objectives = &self.application.spec.objectives;
        self.status.rto_objective_seconds = Some(objectives.rto.as_secs());
        self.status.rpo_objective_seconds = Some(objectives.rpo.as_secs());
        self.status.from = self.seen.claim.as_ref().and_then(|it| it.holder.clone());
        let created = self.object.metadata.creation_timestamp.as_ref().map_or(self.now, |it| it.0);
        let disrupted = self.seen.health.as_ref().and_then(|it| it.disrupted_at).map_or(created, |it| it.min(created));
        self.status.disrupted_at = Some(condition::whole_second(disrupted));
        self.enter(StepName::WaitOutClaim);
        self.report(Truth::Unknown, "InProgress", "begun".to_owned());
    }

    fn advance(&mut self, step: StepName) {
        // A clock that was set back: what is counted from the step's beginning must not wait for that time to come again.
        if let Some(it) = self.status.steps.last_mut() {
            it.started_at.0 = it.started_at.0.min(self.now);
        }
        let next = match step {
            StepName::WaitOutClaim => self.wait_out_claim(),
            StepName::SeizeClaim => self.seize_claim(),
            StepName::SealCatalogue => self.seal_catalogue(),
            StepName::ChoosePoint => self.choose_point(),
            StepName::RestoreVolumes => self.restore_volumes(),
            StepName::RestoreObjects => self.restore_objects(),
            StepName::LoadDumps => self.load_dumps(),
            StepName::AwaitReady => self.await_ready(),
            StepName::ProbeAddress => self.probe_address(),
            StepName::SwitchTraffic => self.switch_traffic(),
            StepName::ProbeName => self.probe_name(),
        };
        match next {
            Next::Stay(message) => {
                let message = hindered(message, self.seen.hindrance.as_deref());
                self.note(step, &message);
                self.report(Truth::Unknown, "InProgress", format!("{step:?}: {message}"));
            }
            Next::Hindered(reason, message) => {
                self.note(step, &message);
                self.report(Truth::Unknown, reason, format!("{step:?}: {message}"));
            }
            Next::Go(message) => {
                self.note(step, &message);
                self.leave(step);
                match STEPS.iter().position(|it| *it == step).and_then(|it| STEPS.get(it + 1)) {
                    Some(following) => {
                        self.enter(*following);
                        self.report(Truth::Unknown, "InProgress", format!("{following:?}: begun"));
                    }
                    None => self.succeed(),
                }
            }
            Next::Back(to, message) => {
                self.effects.push(Effect::warn("FailoverStepBack", message.clone()));
                self.status.steps.retain(|it| it.name < to);
                self.enter(to);
                self.report(Truth::Unknown, "InProgress", message);
            }
            Next::Fail(reason, message) => {
                self.note(step, &message);
                self.leave(step);
                self.status.finished_at = Some(condition::whole_second(self.now));
                self.effects.push(Effect::warn("FailoverFailed", message.clone()));
                self.report(Truth::False, reason, message);
            }
        }
    }

    fn succeed(&mut self) {
        self.status.finished_at = Some(condition::whole_second(self.now));
        let disrupted = self.status.disrupted_at.as_ref().map_or(self.now, |it| it.0);
        let seconds = |from: Timestamp, to: Timestamp| u64::try_from(to.as_second() - from.as_second()).unwrap_or(0);
        let rto = seconds(disrupted, self.now);
        self.status.rto_seconds = Some(rto);
        let rpo = self.status.consistent_at.as_ref().map(|it| seconds(it.0, disrupted));
        self.status.rpo_seconds = rpo;
        let objectives = &self.application.spec.objectives;
        let kept = rto <= objectives.rto.as_secs() && rpo.is_none_or(|it| it <= objectives.rpo.as_secs());
        let lost =
            rpo.map_or("with nothing lost".to_owned(), |it| format!("with data of {it} s before the disruption"));
        let message = format!(
            "{} serves {} s after the disruption, {lost} (objectives: RTO {}, RPO {})",
            self.seen.region, rto, objectives.rto, objectives.rpo
        );
        let reason = if kept { "ObjectivesKept" } else { "ObjectivesMissed" };
        self.effects.push(Effect::note("FailoverSucceeded", message.clone()));
        self.report(Truth::True, reason, message);
    }

    fn enter(&mut self, name: StepName) {
        self.status.step = Some(name);
        self.status.steps.push(Step {
            name,
            started_at: condition::whole_second(self.now),
            finished_at: None,
            message: String::new(),
        });
        self.effects.push(Effect::note("FailoverStep", format!("{name:?}")));
    }

    fn leave(&mut self, name: StepName) {
        let at = condition::whole_second(self.now);
        if let Some(step) = self.status.steps.iter_mut().find(|it| it.name == name) {
            step.finished_at = Some(at);
        }
    }

    fn note(&mut self, name: StepName, message: &str) {
        if let Some(step) = self.status.steps.iter_mut().find(|it| it.name == name) {
            message.clone_into(&mut step.message);
        }
    }

    fn report(&mut self, truth: Truth, reason: &'static str, message: String) {
        let finding = Finding::new(SUCCEEDED, truth, reason, message);
        let generation = self.object.metadata.generation;
        self.status.conditions = condition::conditions(&self.status.conditions, vec![finding], generation, self.now);
    }

    /// The name of the vault that holds the claim.
    fn vault_name(&self) -> String {
        self.application.spec.backup.vaults.first().cloned().unwrap_or_default()
    }

    /// The name of the vault that the point is taken from.
    fn point_vault(&self) -> String {
        self.status.vault.clone().unwrap_or_else(|| self.vault_name())
    }

    /// The epoch that this run holds the claim with.
    fn epoch(&self) -> u64 {
        self.status.epoch.unwrap_or(0)
    }

    /// Whether the claim is still this run's. It is asked before each effect that needs it. Also when this region
    /// itself took the next epoch, as it does after it had stopped by itself: nothing is done under the old one. And when
    /// it gave the claim up, or never had this epoch: a claim in conflict tells neither.
    fn claim_lost(&self) -> Option<String> {
        let view = self.seen.claim.as_ref()?;
        if view.epoch == self.epoch() && view.claim.is_some() && !view.mine && view.conflict.is_none() {
            let holder = view.holder.as_deref().unwrap_or("nobody");
            return Some(format!("{holder} holds the claim with epoch {}, and not this region", view.epoch));
        }
        let holder = view.holder.as_deref().unwrap_or("another region");
        (view.epoch > self.epoch()).then(|| format!("{holder} has taken the claim with epoch {} meanwhile", view.epoch))
    }
}

#[cfg(test)]
mod tests;
