//! The steps, one by one.

use jiff::SignedDuration;
use kube::ResourceExt;

use super::{Next, Pass};
use crate::{
    api::{
        application::Role,
        mappings::{Mappings, ObjectSelector},
        recovery_point::Purpose,
        restore::{Plan, PlannedVolume, PointChoice, SafetyPoint},
        restoring::OnConflict,
    },
    core::{
        application::point_object,
        condition,
        effect::Effect,
        empty_claim,
        point::{Point, Skipped, Volume},
        volume_restore::{Restore as VolumeRestore, Seen as VolumeSeen, Step, mapped},
        work::{Outcome, REASONS, Seen, Work, see},
    },
};

/// How long the workloads may take to be ready.
const READY: SignedDuration = SignedDuration::from_mins(30);
/// How many objects, and how many volumes, are told in a status.
const TOLD: usize = 100;

impl Pass<'_> {
    /// Nothing is changed, and nothing chosen, before this region serves and nothing else is being done.
    pub(super) fn check(&mut self) -> Next {
        if let Some(other) = self.seen.others.first() {
            return Next::Stay(format!("{other} goes on: its end is waited for"));
        }
        let Some(view) = &self.seen.claim else { return Next::Stay("the claim is being read".into()) };
        let status = self.application.status.as_ref();
        match status.and_then(|it| it.role) {
            Some(Role::Active) if view.mine && view.valid => {}
            Some(Role::Standby) => {
                let holder = view.holder.as_deref().unwrap_or("another region");
                let message = format!("{holder} holds the claim: make the Restore in the cluster of the active region");
                return Next::Fail("NotActive", message);
            }
            Some(Role::Active | Role::Activating | Role::Fencing | Role::Unknown) | None => {
                return Next::Stay("this region does not serve, or cannot prove its claim, at the moment".into());
            }
        }
        if self.seen.vault.is_none() {
            let message = format!("spec.backup.vaults: there is no Vault '{}' in this cluster", self.vault_name());
            return Next::Fail("NoVault", message);
        }
        self.status.epoch = Some(view.epoch);
        Next::Go("this region serves".into())
    }

    pub(super) fn choose_point(&mut self) -> Next {
        let choice = self.object.spec.point.clone();
        let (chosen, passed_over) = match self.found(choice) {
            Ok(it) => it,
            Err(next) => return next,
        };
        self.status.passed_over = passed_over.into_iter().take(REASONS).collect();
        let Some(point) = chosen else {
            let why = self.status.passed_over.join("; ");
            return Next::Fail("NoRecoveryPoint", format!("there is no good recovery point of that time: {why}"));
        };
        let only = self.object.spec.only.as_ref().map_or(&[][..], |it| &it.volumes);
        let here = |claim: &String| point.volumes.iter().any(|it| it.claim == *claim);
        if let Some(absent) = only.iter().find(|it| !here(it)) {
            let there: Vec<_> = point.volumes.iter().map(|it| it.claim.as_str()).collect();
            let message =
                format!("spec.only.volumes: {absent} is not in {}, which has: {}", point.id, there.join(", "));
            return Next::Fail("NoSuchVolume", message);
        }
        self.status.point = Some(point.id.clone());
        self.status.consistent_at = Some(condition::whole_second(point.consistent_at));
        Next::Go(format!("{} of {}", point.id, point.consistent_at))
    }

    /// What would be changed is told, and nothing is.
    pub(super) fn plan(&mut self) -> Next {
        let (point, volumes) = match self.volumes() {
            Ok(it) => it,
            Err(next) => return next,
        };
        let mut told = format!("{} volumes would be made equal to the point", volumes.len());
        let mut plan = Plan::default();
        if let Some(only) = self.wanted_objects() {
            plan = match self.planned_objects(point.objects.manifest, only) {
                Ok(it) => it,
                Err(next) => return next,
            };
            let Plan { created, updated, unchanged, .. } = plan;
            let fails = self.object.spec.on_conflict == OnConflict::Fail && updated > 0;
            let fails = if fails { ", which onConflict: Fail does not let happen: it would fail" } else { "" };
            told = format!(
                "{created} objects would be made, {unchanged} are as in the point, {updated} would be changed{fails}; {told}"
            );
        }
        let planned =
            |it: Volume| PlannedVolume { claim: it.claim, snapshot: it.snapshot, files: it.files, bytes: it.bytes };
        plan.volumes = volumes.into_iter().take(TOLD).map(planned).collect();
        self.status.plan = Some(plan);
        Next::Go(told)
    }

    /// What would become of the objects. Those that would not be restored stand in the status then.
    fn planned_objects(&mut self, manifest: String, only: Vec<ObjectSelector>) -> Result<Plan, Next> {
        let work = Work::PlanObjects {
            vault: self.vault_name(),
            application: self.key.clone(),
            manifest,
            mappings: Box::new(self.mappings()),
            only,
            on_conflict: self.object.spec.on_conflict,
        };
        match self.working(work, "the objects are being compared")? {
            Outcome::ObjectsPlanned { created, updated, unchanged, changes, not_restored } => {
                self.status.not_restored = not_restored.into_iter().take(TOLD).collect();
                let changes = changes.into_iter().take(TOLD).collect();
                Ok(Plan { created, updated, unchanged, changes, volumes: Vec::new() })
            }
            _ => Err(Next::Stay("the objects are being compared".into())),
        }
    }

    /// Which objects are to be restored, none named being all of them. `None`: no object is.
    fn wanted_objects(&self) -> Option<Vec<ObjectSelector>> {
        let only = self.object.spec.only.as_ref();
        let objects = only.map_or_else(Vec::new, |it| it.objects.clone());
        (only.is_none() || !objects.is_empty()).then_some(objects)
    }

    /// What is there is saved. Its name stands in the status before it is made.
    pub(super) fn safety_point(&mut self) -> Next {
        if self.object.spec.safety_point == SafetyPoint::Skip {
            return Next::Go("none is made, as spec.safetyPoint says".into());
        }
        let Some(name) = self.status.safety_point.clone() else {
            self.status.safety_point = Some(format!("{}-before", self.run.name));
            return Next::Stay("what is there is saved first".into());
        };
        let made = self.seen.points.iter().find(|it| it.name_any() == name);
        let Some(status) = made.and_then(|it| it.status.as_ref()) else {
            if made.is_none() {
                let owner = self.application.uid();
                let object = point_object(&self.key, &name, Purpose::Manual, owner);
                self.effects.push(Effect::Apply(Box::new(object)));
            }
            return Next::Stay(format!("RecoveryPoint {name} is being made"));
        };
        match condition::find(&status.conditions, condition::SUCCEEDED) {
            Some(it) if it.status == "True" => {
                self.status.safety_point_id.clone_from(&status.id);
                Next::Go(format!("what was there is saved as {}", status.id.as_deref().unwrap_or(&name)))
            }
            Some(it) if it.status == "False" => {
                let message = format!(
                    "RecoveryPoint {name} of what is there did not succeed, so nothing was changed: {}: {} (when it is \
                     worth nothing, make another Restore with safetyPoint: Skip)",
                    it.reason, it.message
                );
                Next::Fail("SafetyPointFailed", message)
            }
            Some(_) | None => Next::Stay(format!("RecoveryPoint {name} is being made")),
        }
    }

    /// The intent stands in the status: from now on no point is begun. One that goes on would read half of this.
    pub(super) fn stop(&mut self) -> Next {
        let going = |it: &&std::sync::Arc<crate::api::recovery_point::RecoveryPoint>| {
            it.status.as_ref().is_some_and(|it| it.id.is_some() && !condition::ended(&it.conditions))
        };
        if let Some(point) = self.seen.points.iter().find(going) {
            return Next::Stay(format!("RecoveryPoint {} is being made: its end is waited for", point.name_any()));
        }
        let volumes = match self.volumes() {
            Ok((_, volumes)) => volumes,
            Err(next) => return next,
        };
        if volumes.is_empty() {
            return Next::Go("no volume is restored, so nothing is stopped".into());
        }
        if self.runs() {
            return Next::Stay("the workloads are being stopped".into());
        }
        Next::Go("nothing runs".into())
    }

    /// Whether something runs, which is stopped then.
    fn runs(&mut self) -> bool {
        let runs = self.seen.copy.wanted > 0 || self.seen.copy.pods > 0;
        if runs {
            self.effects.push(Effect::StopWorkloads { namespace: self.run.namespace.clone() });
        }
        runs
    }

    pub(super) fn restore_volumes(&mut self) -> Next {
        let (point, volumes) = match self.volumes() {
            Ok(it) => it,
            Err(next) => return next,
        };
        let missing = self.empty_claims(&point);
        if volumes.is_empty() && missing.is_empty() {
            return Next::Go("no volume is restored".into());
        }
        if self.runs() {
            return Next::Stay("something was started meanwhile, and is being stopped".into());
        }
        let Some(vault) = self.seen.vault.as_ref().map(|it| it.spec.clone()) else {
            return Next::Stay("the Vault object is gone".into());
        };
        let (nothing, application, mut going) = (VolumeSeen::default(), self.application.name_any(), Vec::new());
        for volume in &volumes {
            let restore = VolumeRestore {
                run: &self.run,
                movers: &self.seen.movers,
                application: &application,
                vault: &vault,
                volume,
                seen: self.seen.volumes.get(&volume.claim).unwrap_or(&nothing),
                deadline: 24 * 3_600,
                now: self.now,
            };
            let (step, effects) = restore.next();
            match step {
                Step::Done => {}
                Step::Going(what) | Step::Failed(what) => going.push(format!("{}: {what}", volume.claim)),
                Step::Corrupt(why) => {
                    let left = self.left_behind();
                    return Next::Fail(
                        "PointDamaged",
                        format!("volume {} cannot be restored from {}: {why}{left}", volume.claim, point.id),
                    );
                }
            }
            self.effects.extend(effects);
        }
        for (claim, effect) in missing {
            self.effects.push(effect);
            going.push(format!("{claim}: an empty claim is made"));
        }
        if going.is_empty() {
            Next::Go(format!("{} volumes are as in {}", volumes.len(), point.id))
        } else {
            Next::Stay(going.join("; "))
        }
    }

    /// The wanted claims that are in the point without their data, and not here.
    fn empty_claims(&self, point: &Point) -> Vec<(String, Effect)> {
        let (nothing, mappings) = (VolumeSeen::default(), self.mappings());
        let make = |it: &Skipped| {
            let seen = self.seen.volumes.get(&it.claim).unwrap_or(&nothing);
            Some((it.claim.clone(), empty_claim::make(&self.run, it, &mappings, seen)?))
        };
        point.skipped.iter().filter(|it| self.wants_volume(&it.claim)).filter_map(make).collect()
    }

    pub(super) fn restore_objects(&mut self) -> Next {
        let Some(only) = self.wanted_objects() else {
            return Next::Go("no object is restored".into());
        };
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        let work = Work::RestoreObjects {
            vault: self.vault_name(),
            application: self.key.clone(),
            manifest: point.objects.manifest.clone(),
            mappings: Box::new(self.mappings()),
            only,
            on_conflict: self.object.spec.on_conflict,
            epoch: self.status.epoch.unwrap_or(0),
        };
        match self.working(work, "the objects are being restored") {
            Ok(Outcome::ObjectsRestored { restored, not_restored_count, not_restored, notes }) => {
                self.status.restored_objects = Some(restored);
                self.status.not_restored = not_restored.iter().take(TOLD).cloned().collect();
                let told = format!("{restored} objects are as in the point, {not_restored_count} are not");
                Next::Go(std::iter::once(told).chain(notes.iter().cloned()).collect::<Vec<_>>().join("; "))
            }
            Ok(_) => Next::Stay("the objects are being restored".into()),
            Err(next) => next,
        }
    }

    /// Also what the point does not have, and was stopped.
    pub(super) fn start(&mut self) -> Next {
        let work = Work::StartWorkloads { application: self.key.clone(), epoch: self.status.epoch.unwrap_or(0) };
        match self.working(work, "the workloads are being started") {
            Ok(_) => Next::Go("what was stopped is started".into()),
            Err(next) => next,
        }
    }

    pub(super) fn await_ready(&mut self) -> Next {
        if self.seen.not_ready.is_empty() {
            return Next::Go("every workload is ready".into());
        }
        let missing = self.seen.not_ready.join("; ");
        let begun = self.status.steps.last().map_or(self.now, |it| it.started_at.0);
        if begun + READY <= self.now {
            return Next::Fail("NotReady", format!("restored, but not ready after 30 minutes: {missing}"));
        }
        Next::Stay(missing)
    }

    /// The chosen point, and those of its volumes that are to be restored.
    fn volumes(&mut self) -> Result<(Point, Vec<Volume>), Next> {
        let point = self.chosen()?;
        let mappings = self.mappings();
        let wanted = point.volumes.iter().filter(|it| self.wants_volume(&it.claim));
        let volumes = wanted.map(|it| mapped(it, &mappings)).collect();
        Ok((point, volumes))
    }

    /// What is different in this region: the point may be another's.
    fn mappings(&self) -> Mappings {
        self.seen.application.as_ref().map(|it| it.mappings(&self.seen.region)).unwrap_or_default()
    }

    /// The point that stands in the status. It is read again after a restart of the operator.
    fn chosen(&mut self) -> Result<Point, Next> {
        let id = self.status.point.clone().unwrap_or_default();
        let (found, _) = self.found(PointChoice { name: Some(id.clone()), before: None })?;
        if let Some(point) = found.filter(|it| it.id == id) {
            return Ok(point);
        }
        let (vault, application) = (self.vault_name(), self.key.clone());
        let choice = PointChoice { name: Some(id), before: None };
        self.effects.push(Effect::Begin(Box::new(Work::FindPoint { vault, application, choice })));
        Err(Next::Stay("the point is being read".into()))
    }

    fn found(&mut self, choice: PointChoice) -> Result<(Option<Point>, Vec<String>), Next> {
        let work = Work::FindPoint { vault: self.vault_name(), application: self.key.clone(), choice };
        match self.working(work, "the points are being read")? {
            Outcome::Surveyed { chosen, passed_over } => Ok((chosen.map(|it| *it), passed_over)),
            _ => Err(Next::Stay("the points are being read".into())),
        }
    }

    /// The outcome of a piece of work, which is begun when it is due. What failed for good before anything was changed
    /// ends the run.
    fn working(&mut self, work: Work, meanwhile: &str) -> Result<Outcome, Next> {
        let failure = match see(&self.seen.works, work.name(), self.now) {
            Seen::Done(outcome, _) => return Ok(outcome.clone()),
            Seen::Waiting(failure) | Seen::Due(failure) => failure.cloned(),
        };
        if let Some(failure) = failure.as_ref().filter(|it| it.lasting) {
            let left = self.left_behind();
            return Err(Next::Fail(failure.reason, format!("{}{left}", failure.message)));
        }
        if matches!(see(&self.seen.works, work.name(), self.now), Seen::Due(_)) {
            self.effects.push(Effect::Begin(Box::new(work)));
        }
        Err(Next::Stay(failure.map_or_else(|| meanwhile.to_owned(), |it| it.message)))
    }
}
