//! What to do about a `Restore`: its steps in order, each with its intent written down before it acts.
//!
//! One pass either stays in a step or goes to the next: the next one acts only in a later pass, when the status that
//! names it was written. What is done to one volume is `core::volume_restore`.

mod cancel;
mod dumps;
mod export;
pub mod progress;
pub mod rehearsal;
mod steps;
pub mod vault_export;
mod volumes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    app_key::AppKey,
    application::{LocalCopy, resumes},
    child::Run,
    claim::view::View,
    condition::{self, Finding, SUCCEEDED, Truth},
    dump_load,
    effect::{Decision, Effect, ObjectKey, hindered},
    mover_job::MoverSettings,
    mover_progress::MoverProgress,
    volume_restore,
    work::Works,
};
use crate::api::{
    application::ProtectedApplication,
    recovery_point::RecoveryPoint,
    restore::{Export, Restore, RestoreStatus, RestoreStep, RestoreStepName},
    vault::Vault,
};

pub use self::{export::volumes, steps::mappings};

/// How often a run in progress is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// This region.
    pub region: String,
    /// What movers have in common.
    pub movers: MoverSettings,
    /// What an effect of the last pass was refused for.
    pub hindrance: Option<String>,
    /// The application.
    pub application: Option<Arc<ProtectedApplication>>,
    /// The vault that the point is taken from.
    pub vault: Option<Arc<Vault>>,
    /// Its claim.
    pub claim: Option<View>,
    /// The applications that are protected in this namespace.
    pub protected: Vec<String>,
    /// Its recovery points in this cluster.
    pub points: Vec<Arc<RecoveryPoint>>,
    /// What goes on and comes first, by kind and name: failovers, and restores that were begun or made before.
    pub others: Vec<String>,
    /// What runs of it here. Looked up while volumes are restored.
    pub copy: LocalCopy,
    /// Its volumes here, by claim. Looked up while they are restored.
    pub volumes: BTreeMap<String, volume_restore::Seen>,
    /// How far movers are that run, by claim. Looked up now and then while volumes are restored.
    pub told: BTreeMap<String, MoverProgress>,
    /// How many objects were dealt with, while they are restored.
    pub objects_done: Option<u64>,
    /// What its dumps would be loaded in, and the movers that load them. Looked up while they are loaded.
    pub dumps: BTreeMap<String, dump_load::Seen>,
    /// What was found of an export into a vault.
    pub export: vault_export::Seen,
    /// What of its workloads is not ready. Looked up while that is waited for.
    pub not_ready: Vec<String>,
    /// Everything that stands in the operator's namespace for this run.
    pub made: Vec<ObjectKey>,
    /// The namespace of a rehearsal, and what is known of it. Looked up while it is made, asked, and removed.
    pub stage: rehearsal::Stage,
    /// Work in progress.
    pub works: Works,
}

/// What one step says.
enum Next {
    /// It goes on; what it waits for.
    Stay(String),
    /// It is done; what came of it.
    Go(String),
    /// The run ends without success.
    Fail(&'static str, String),
}

/// What one pass has at hand.
struct Pass<'a> {
    object: &'a Restore,
    seen: &'a Observed,
    application: &'a ProtectedApplication,
    run: Run,
    key: AppKey,
    now: Timestamp,
    status: RestoreStatus,
    effects: Vec<Effect>,
    /// Whether what was stopped is started, all volumes being as they were or as in the point.
    started: bool,
}

/// The steps of one that only loads dumps into other databases.
const STEPS_OF_LOADING: [RestoreStepName; 3] =
    [RestoreStepName::Check, RestoreStepName::ChoosePoint, RestoreStepName::LoadDumps];

/// The steps of one that exports into a vault.
const STEPS_OF_EXPORT: [RestoreStepName; 3] =
    [RestoreStepName::Check, RestoreStepName::ChoosePoint, RestoreStepName::Export];

/// The steps, in order, but for that of dry runs, and that of a run which is cancelled.
const STEPS: [RestoreStepName; 9] = [
    RestoreStepName::Check,
    RestoreStepName::ChoosePoint,
    RestoreStepName::SafetyPoint,
    RestoreStepName::Stop,
    RestoreStepName::RestoreVolumes,
    RestoreStepName::RestoreObjects,
    RestoreStepName::Start,
    RestoreStepName::LoadDumps,
    RestoreStepName::AwaitReady,
];

/// Those of a rehearsal.
const REHEARSAL: [RestoreStepName; 9] = [
    RestoreStepName::Check,
    RestoreStepName::ChoosePoint,
    RestoreStepName::Isolate,
    RestoreStepName::RestoreVolumes,
    RestoreStepName::RestoreObjects,
    RestoreStepName::LoadDumps,
    RestoreStepName::AwaitReady,
    RestoreStepName::Probe,
    RestoreStepName::CleanUp,
];

/// Decides what to do about `object`.
#[must_use]
pub fn decide(object: &Restore, seen: &Observed, now: Timestamp) -> Decision<RestoreStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    if condition::ended(&status.conditions) {
        let effects: Vec<_> = seen.made.iter().cloned().map(Effect::Delete).collect();
        let recheck = (!effects.is_empty()).then_some(LOOK * 2);
        return Decision { status, effects, recheck };
    }
    let Some(application) = seen.application.as_deref() else {
        return without_application(object, status, now);
    };
    let namespace = object.namespace().unwrap_or_default();
    let run = run(object);
    let source = object.spec.source_namespace.clone().unwrap_or(namespace);
    let key = AppKey { namespace: source, name: application.name_any() };
    let mut pass = Pass { object, seen, application, run, key, now, status, effects: Vec::new(), started: false };
    let step = pass.status.step;
    match step {
        Some(step) if object.spec.rehearse && pass.broken_off(step) => {}
        Some(step) if object.spec.cancel && step != RestoreStepName::Cancel && !object.spec.rehearse => {
            pass.cancelled(step);
        }
        None => {
            pass.enter(RestoreStepName::Check);
            pass.report(Truth::Unknown, "InProgress", "begun".to_owned());
        }
        Some(step) => pass.advance(step),
    }
    Decision { status: pass.status, effects: pass.effects, recheck: Some(LOOK) }
}

/// The run: of a rehearsal, in the namespace that is made for it.
#[must_use]
pub fn run(object: &Restore) -> Run {
    let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
    let own = object.namespace().unwrap_or_default();
    let namespace = if object.spec.rehearse { rehearsal::namespace(&uid) } else { own };
    Run { namespace, name, uid }
}

/// The vault that the point is taken from: as it was found, as it is asked for, or the first one.
#[must_use]
pub fn place<'a>(object: &'a Restore, application: &'a ProtectedApplication) -> Option<&'a str> {
    let found = object.status.as_ref().and_then(|it| it.vault.as_deref());
    found.or(object.spec.vault.as_deref()).or_else(|| application.vaults().next())
}

/// Once begun it does not end by that: the application may be back, or readable again, in a moment.
fn without_application(object: &Restore, mut status: RestoreStatus, now: Timestamp) -> Decision<RestoreStatus> {
    let message = match &object.spec.source_namespace {
        Some(source) => steps::not_shared(&object.spec.application, source, &object.namespace().unwrap_or_default()),
        None => {
            format!(
                "spec.application: there is no ProtectedApplication '{}' in this namespace",
                object.spec.application
            )
        }
    };
    let begun = status.step.is_some();
    let (truth, recheck) = if begun { (Truth::Unknown, Some(LOOK * 5)) } else { (Truth::False, None) };
    if !begun {
        status.finished_at = Some(Time(now));
    }
    let effects = if begun { Vec::new() } else { vec![Effect::warn("RestoreFailed", message.clone())] };
    let finding = Finding::new(SUCCEEDED, truth, "NoApplication", message);
    status.conditions = condition::conditions(&status.conditions, vec![finding], object.metadata.generation, now);
    Decision { status, effects, recheck }
}

impl Pass<'_> {
    fn advance(&mut self, step: RestoreStepName) {
        let lost = (step > RestoreStepName::Check).then(|| self.claim_lost()).flatten();
        let next = match (lost, step) {
            (Some(lost), _) => Next::Fail("LostClaim", format!("{lost}{}", self.left_behind())),
            (None, RestoreStepName::Check) => self.check(),
            (None, RestoreStepName::ChoosePoint) => self.choose_point(),
            (None, RestoreStepName::Plan) => self.plan(),
            (None, RestoreStepName::SafetyPoint) => self.safety_point(),
            (None, RestoreStepName::Stop) => self.stop(),
            (None, RestoreStepName::RestoreVolumes) => self.restore_volumes(),
            (None, RestoreStepName::RestoreObjects) => self.restore_objects(),
            (None, RestoreStepName::Start) => self.start(),
            (None, RestoreStepName::LoadDumps) => self.load_dumps(),
            (None, RestoreStepName::AwaitReady) => self.await_ready(),
            (None, RestoreStepName::Export) => self.export(),
            (None, RestoreStepName::Isolate) => self.isolate(),
            (None, RestoreStepName::Probe) => self.probe(),
            (None, RestoreStepName::CleanUp) => self.clean_up(),
            (None, RestoreStepName::Cancel) => self.cancel(),
        };
        match next {
            Next::Stay(message) => {
                let message = hindered(message, self.seen.hindrance.as_deref());
                self.note(step, &message);
                self.report(Truth::Unknown, "InProgress", format!("{step:?}: {message}"));
            }
            Next::Go(message) => {
                self.note(step, &message);
                self.leave(step);
                match self.following(step) {
                    Some(following) => {
                        self.enter(following);
                        self.report(Truth::Unknown, "InProgress", format!("{following:?}: begun"));
                    }
                    None => self.succeed(),
                }
            }
            Next::Fail(reason, message) if self.to_be_cleaned(step) => self.fail_later(step, reason, &message),
            Next::Fail(reason, message) => {
                self.note(step, &message);
                self.end_without_success(step, reason, message);
            }
        }
    }

    fn end_without_success(&mut self, step: RestoreStepName, reason: &'static str, message: String) {
        self.leave(step);
        let stopped = step <= RestoreStepName::Start || (step == RestoreStepName::Cancel && !self.started);
        self.status.left_stopped = stopped && self.in_place() && self.status.touched_volumes();
        self.status.finished_at = Some(Time(self.now));
        self.effects.push(Effect::warn("RestoreFailed", message.clone()));
        self.report(Truth::False, reason, message);
    }

    /// A dry run ends where the first step comes that writes something.
    fn following(&self, step: RestoreStepName) -> Option<RestoreStepName> {
        match (step, self.object.spec.dry_run) {
            (RestoreStepName::ChoosePoint, true) => Some(RestoreStepName::Plan),
            (RestoreStepName::Plan, _) => None,
            _ => self.steps().iter().skip_while(|it| **it != step).nth(1).copied(),
        }
    }

    fn steps(&self) -> &'static [RestoreStepName] {
        if self.object.spec.rehearse {
            &REHEARSAL
        } else if self.object.loads_elsewhere() {
            &STEPS_OF_LOADING
        } else if self.object.exports_to().is_some() {
            &STEPS_OF_EXPORT
        } else {
            &STEPS
        }
    }

    /// That something is not as in the point is never plain success.
    fn succeed(&mut self) {
        self.status.finished_at = Some(Time(self.now));
        let point = self.status.point.clone().unwrap_or_default();
        if self.object.spec.dry_run {
            let message = format!("status.plan says what {point} would change; nothing was changed");
            self.effects.push(Effect::note("RestorePlanned", message.clone()));
            return self.report(Truth::True, "Planned", message);
        }
        if let Some((reason, failure)) = self.rehearsal_failed() {
            self.effects.push(Effect::warn("RehearsalFailed", failure.clone()));
            return self.report(Truth::False, reason, failure);
        }
        let not = self.status.not_restored.len();
        if not > 0 {
            let done = if self.object.spec.export.is_some() { "exported" } else { "restored" };
            let message =
                format!("{done} from {point}, but {not} objects or paths are not as in it: see status.notRestored");
            self.effects.push(Effect::warn("RestoreIncomplete", message.clone()));
            return self.report(Truth::False, "NotAllRestored", message);
        }
        let passed =
            self.status.passed_over.first().map_or("", |_| ": newer points were passed over, see status.passedOver");
        let (reason, message) = match &self.object.spec.export {
            None if self.object.spec.rehearse => ("Rehearsed", self.rehearsed(&point)),
            Some(Export { claim: Some(claim), .. }) => {
                ("Exported", format!("exported from {point} into the volume of {claim}{passed}"))
            }
            Some(_) => {
                let told = self.status.steps.last().map_or("", |it| it.message.as_str());
                ("Exported", format!("exported from {point}: {told}{passed}"))
            }
            None if self.object.loads_elsewhere() => {
                let told = dump_load::told(&self.status.dumps);
                ("Loaded", format!("of {point}: {told}; nothing else was changed{passed}"))
            }
            None => ("Restored", format!("restored from {point}{passed}")),
        };
        self.effects.push(Effect::note("RestoreSucceeded", message.clone()));
        self.report(Truth::True, reason, message);
    }

    fn enter(&mut self, name: RestoreStepName) {
        self.status.step = Some(name);
        let step = RestoreStep { name, started_at: Time(self.now), finished_at: None, message: String::new() };
        self.status.steps.push(step);
        self.effects.push(Effect::note("RestoreStep", format!("{name:?}")));
    }

    fn leave(&mut self, name: RestoreStepName) {
        let at = Time(self.now);
        if let Some(step) = self.status.steps.iter_mut().find(|it| it.name == name) {
            step.finished_at = Some(at);
        }
    }

    fn note(&mut self, name: RestoreStepName, message: &str) {
        if let Some(step) = self.status.steps.iter_mut().find(|it| it.name == name) {
            message.clone_into(&mut step.message);
        }
    }

    fn report(&mut self, truth: Truth, reason: &'static str, message: String) {
        let finding = Finding::new(SUCCEEDED, truth, reason, message);
        let generation = self.object.metadata.generation;
        self.status.conditions = condition::conditions(&self.status.conditions, vec![finding], generation, self.now);
    }

    /// Whether this region is no longer the one that the run began in: what another epoch wrote is not written over.
    ///
    /// One that had stopped by itself under `Strict`, and took the claim anew before anybody else had it, is the same region
    /// still: the run goes on under the new epoch.
    fn claim_lost(&mut self) -> Option<String> {
        if !self.in_place() {
            return None;
        }
        let view = self.seen.claim.as_ref()?;
        let fence = self.application.status.as_ref().and_then(|it| it.fence.as_ref());
        let resumed = fence.is_some_and(|it| Some(it.epoch) == self.status.epoch && resumes(it, view.epoch));
        if view.mine && resumed {
            self.status.epoch = Some(view.epoch);
        }
        let epoch = self.status.epoch.unwrap_or(0);
        if view.epoch == epoch && (view.mine || view.conflict.is_some() || view.claim.is_none()) {
            return None;
        }
        let holder = view.holder.as_deref().unwrap_or("another region");
        (view.epoch >= epoch)
            .then(|| format!("{holder} holds the claim with epoch {}, and this run is of epoch {epoch}", view.epoch))
    }

    /// What a run that ends now leaves, and how to go on.
    fn left_behind(&self) -> String {
        if self.object.spec.rehearse {
            return ": what was made for the rehearsal is removed".to_owned();
        }
        if self.status.step < Some(RestoreStepName::Stop) {
            return ": nothing was changed".to_owned();
        }
        if self.object.exports_to().is_some() {
            return format!(
                ": what was written until then stays at {}, and nothing else was changed",
                self.export_place()
            );
        }
        if self.object.loads_elsewhere() {
            return ": nothing but the databases that the dumps were to be loaded into was changed".to_owned();
        }
        if !self.in_place() {
            return ": what was restored into this namespace until then stays".to_owned();
        }
        let undo = self
            .status
            .safety_point_id
            .as_ref()
            .map_or_else(String::new, |id| format!(" (what was there before is the recovery point {id})"));
        format!(": what was stopped stays stopped until another Restore succeeds{undo}")
    }

    fn in_place(&self) -> bool {
        self.object.in_place()
    }

    /// The vault that the point is taken from.
    fn vault_name(&self) -> String {
        place(self.object, self.application).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests;
