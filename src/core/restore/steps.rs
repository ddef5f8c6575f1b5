//! The steps, one by one.

use jiff::SignedDuration;
use kube::ResourceExt;

use super::{Next, Pass};
use crate::{
    api::{
        application::{ProtectedApplication, Role},
        mappings::{Mappings, ObjectSelector},
        recovery_point::{Purpose, RecoveryPointStatus, VolumeInPoint},
        restore::{Plan, PlannedVolume, PointChoice, Restore, SafetyPoint},
        restoring::OnConflict,
    },
    core::{
        application::point_object,
        condition,
        copies::{answered_by, failing},
        effect::Effect,
        paths::{self, Paths},
        point::{Point, Volume},
        work::{Outcome, REASONS, Seen, Work, see},
    },
};

/// How long the workloads may take to be ready.
const READY: SignedDuration = SignedDuration::from_mins(30);
/// How many objects, and how many volumes, are told in a status.
const TOLD: usize = 100;

/// What is different where it is restored: the point may be another region's.
#[must_use]
pub fn mappings(restore: &Restore, application: &ProtectedApplication, region: &str) -> Mappings {
    restore.spec.mappings.clone().unwrap_or_else(|| application.mappings(region))
}

/// What is said whether there is such an application or not: it is nobody's business.
pub(super) fn not_shared(application: &str, source: &str, here: &str) -> String {
    format!(
        "spec.sourceNamespace: there is no ProtectedApplication '{application}' in namespace {source} that names {here} in \
         its spec.sharedWith"
    )
}

impl Pass<'_> {
    /// Nothing is changed, and nothing chosen, before this region serves and nothing else is being done.
    pub(super) fn check(&mut self) -> Next {
        if let Some(other) = self.seen.others.first() {
            return Next::Stay(format!("{other} goes on: its end is waited for"));
        }
        if self.object.spec.rehearse {
            return self.check_rehearsal();
        }
        if !self.in_place() {
            return self.check_elsewhere();
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
        let epoch = view.epoch;
        if let Some(none) = self.no_vault() {
            return none;
        }
        self.status.epoch = Some(epoch);
        Next::Go("this region serves".into())
    }

    /// Why nothing can be taken from the vault.
    pub(super) fn no_vault(&self) -> Option<Next> {
        let name = self.vault_name();
        if !self.application.vaults().any(|it| it == name) {
            let all: Vec<_> = self.application.vaults().collect();
            let message =
                format!("spec.vault: {name} holds no points of this application; these do: {}", all.join(", "));
            return Some(Next::Fail("NoSuchVault", message));
        }
        let gone = self.seen.vault.is_none();
        gone.then(|| Next::Fail("NoVault", format!("there is no Vault '{name}' in this cluster")))
    }

    /// Whoever writes a `Restore` gains nothing by it: the application it is from must agree. Nothing is written over that
    /// is protected: it may be active, or a standby with workloads that were stopped.
    fn check_elsewhere(&self) -> Next {
        let here = &self.run.namespace;
        if self.key.namespace == *here {
            // An export, or dumps for another database: the application is not changed.
            let refused = self.no_vault().or_else(|| self.export_refused());
            return refused.unwrap_or_else(|| Next::Go("nothing of the application is changed".into()));
        }
        if !self.application.spec.shared_with.contains(here) {
            return Next::Fail("NotShared", not_shared(&self.key.name, &self.key.namespace, here));
        }
        let beside = self.object.spec.export.is_some() || self.object.loads_elsewhere();
        if let Some(other) = self.seen.protected.first().filter(|_| !beside) {
            let message = format!(
                "namespace {here} has the ProtectedApplication {other}: restore {} into a namespace without one",
                self.key
            );
            return Next::Fail("NamespaceProtected", message);
        }
        let refused = self.no_vault().or_else(|| self.export_refused());
        refused.unwrap_or_else(|| Next::Go(format!("{} is shared with this namespace", self.key)))
    }

    pub(super) fn choose_point(&mut self) -> Next {
        let only = self.object.spec.only.as_ref().map_or(&[][..], |it| &it.volumes);
        if let Some((claim, why)) = only.iter().find_map(|it| Some((&it.claim, Paths::new(&it.paths).err()?))) {
            return Next::Fail("BadPaths", format!("spec.only.volumes: paths of {claim}: {why}: nothing was changed"));
        }
        let choice = self.object.spec.point.clone();
        if let Some(next) = self.look_elsewhere(&choice) {
            return next;
        }
        let (chosen, passed_over) = match self.found(choice, None) {
            Ok(it) => it,
            Err(next) => return next,
        };
        self.status.passed_over = passed_over.into_iter().take(REASONS).collect();
        let Some(point) = chosen else {
            let why = self.status.passed_over.join("; ");
            return Next::Fail("NoRecoveryPoint", format!("there is no good recovery point of that time: {why}"));
        };
        self.status.vault = Some(self.vault_name());
        if let Some((reason, message)) = self.lacking(&point) {
            return Next::Fail(reason, message);
        }
        self.take(&point);
        let from = self.status.vault_reason.as_ref().map_or_else(String::new, |why| format!(", a copy: {why}"));
        Next::Go(format!("{} of {}{from}", point.id, point.consistent_at))
    }

    /// Where the first vault does not have it, or does not answer, the next one is asked, unless one was named.
    fn look_elsewhere(&mut self, choice: &PointChoice) -> Option<Next> {
        if self.object.spec.vault.is_some() || self.status.point.is_some() {
            return None;
        }
        let here = self.vault_name();
        let why = failing(&self.seen.works, "FindPoint", &here)?;
        let next = self.application.vaults().skip_while(|it| *it != here).nth(1)?.to_owned();
        let why = format!("{here}: {why}");
        self.status.vault_reason = Some(match self.status.vault_reason.take() {
            Some(before) => format!("{before}; {why}"),
            None => why.clone(),
        });
        self.status.vault = Some(next.clone());
        self.find(choice.clone(), None);
        Some(Next::Stay(format!("it is looked for in {next}: {why}")))
    }

    /// From now on this is the point that is restored.
    pub(super) fn take(&mut self, point: &Point) {
        self.status.point = Some(point.id.clone());
        self.status.consistent_at = Some(condition::whole_second(point.consistent_at));
    }

    /// What is to be said when something that is named is not in the point.
    pub(super) fn lacking(&self, point: &Point) -> Option<(&'static str, String)> {
        let only = self.object.spec.only.as_ref().map_or(&[][..], |it| &it.volumes);
        for part in only {
            let Some(volume) = point.volumes.iter().find(|it| it.claim == part.claim) else {
                let there: Vec<_> = point.volumes.iter().map(|it| it.claim.as_str()).collect();
                let why = point.skipped.iter().find(|it| it.claim == part.claim).map(|it| format!(" ({})", it.why));
                let why = why.unwrap_or_default();
                let there = format!("is not in {}{why}, which has: {}", point.id, there.join(", "));
                return Some(("NoSuchVolume", format!("spec.only.volumes: {} {there}", part.claim)));
            };
            if volume.block && !part.paths.is_empty() {
                let message =
                    format!("spec.only.volumes: paths of {}: it is a block device, and has no files", part.claim);
                return Some(("BadPaths", message));
            }
        }
        self.no_such_dump(point).map(|message| ("NoSuchDump", message))
    }

    /// What would be changed is told, and nothing is.
    pub(super) fn plan(&mut self) -> Next {
        let (point, volumes) = match self.volumes() {
            Ok(it) => it,
            Err(next) => return next,
        };
        if self.object.loads_elsewhere() {
            return self.plan_dumps(&point);
        }
        let mut told = format!("{} volumes would be made equal to the point", volumes.len());
        if !point.dumps.is_empty() {
            let names: Vec<_> = point.dumps.iter().map(|it| it.name.as_str()).collect();
            told = format!("{told}; it has the dumps {}", names.join(", "));
        }
        let mut plan = Plan::default();
        if let Some(only) = self.wanted_objects() {
            plan = match self.planned_objects(point.objects.manifest.clone(), only) {
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
        let planned = |it: Volume| {
            let paths = self.paths_of(&it.claim).to_vec();
            PlannedVolume { claim: it.claim, snapshot: it.snapshot, files: it.files, bytes: it.bytes, paths }
        };
        plan.volumes = volumes.into_iter().take(TOLD).map(planned).collect();
        plan.dumps = self.planned_dumps(&point);
        self.status.plan = Some(plan);
        Next::Go(told)
    }

    /// What would become of the objects. Those that would not be restored stand in the status then.
    fn planned_objects(&mut self, manifest: String, only: Vec<ObjectSelector>) -> Result<Plan, Next> {
        let work = Work::PlanObjects {
            vault: self.vault_name(),
            application: self.key.clone(),
            into: self.run.namespace.clone(),
            manifest,
            mappings: Box::new(self.mappings()),
            only,
            on_conflict: self.object.spec.on_conflict,
        };
        match self.working(work, "the objects are being compared")? {
            Outcome::ObjectsPlanned { created, updated, unchanged, changes, not_restored } => {
                self.status.not_restored = not_restored.into_iter().take(TOLD).collect();
                let changes = changes.into_iter().take(TOLD).collect();
                Ok(Plan { created, updated, unchanged, changes, ..Plan::default() })
            }
            _ => Err(Next::Stay("the objects are being compared".into())),
        }
    }

    /// Which objects are to be restored, none named being all of them. `None`: no object is.
    pub(super) fn wanted_objects(&self) -> Option<Vec<ObjectSelector>> {
        let only = self.object.spec.only.as_ref();
        let objects = only.map_or_else(Vec::new, |it| it.objects.clone());
        (only.is_none() || !objects.is_empty()).then_some(objects)
    }

    /// What is there is saved. Its name stands in the status before it is made.
    pub(super) fn safety_point(&mut self) -> Next {
        if !self.in_place() {
            return Next::Go("none is made: no volume is written over in another namespace".into());
        }
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
            Some(it) if it.reason == "Partial" && only_dumps_missing(status) => {
                self.status.safety_point_id.clone_from(&status.id);
                let failed = status.dumps.iter().filter(|it| it.failure.is_some()).map(|it| it.name.as_str());
                let (id, failed) = (status.id.as_deref().unwrap_or(&name), failed.collect::<Vec<_>>().join(", "));
                Next::Go(format!("what was there is saved as {id}, without the dumps that could not be made: {failed}"))
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
        if !self.in_place() {
            return Next::Go("nothing is stopped in another namespace".into());
        }
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
    pub(super) fn runs(&mut self) -> bool {
        // In another namespace volumes are new, and nobody has them before they are handed over.
        if !self.in_place() {
            return false;
        }
        let runs = self.seen.copy.wanted > 0 || self.seen.copy.pods > 0;
        if runs {
            self.effects.push(Effect::StopWorkloads { namespace: self.run.namespace.clone() });
        }
        runs
    }

    pub(super) fn restore_objects(&mut self) -> Next {
        if self.object.spec.export.is_some() {
            return Next::Go("objects are among the files".into());
        }
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        let wanted = self.wanted_objects();
        // A volume's claim was made anew: it becomes what it was, also where nothing else does.
        let on_conflict = if wanted.is_some() { self.object.spec.on_conflict } else { OnConflict::Update };
        let mut only = wanted.unwrap_or_default();
        if self.object.spec.only.is_some() {
            only.extend(self.restored_claims(&point));
            if only.is_empty() {
                return Next::Go("no object is restored".into());
            }
        }
        let work = Work::RestoreObjects {
            vault: self.vault_name(),
            application: self.key.clone(),
            into: self.run.namespace.clone(),
            manifest: point.objects.manifest.clone(),
            mappings: Box::new(self.mappings()),
            only,
            on_conflict,
            epoch: self.in_place().then(|| self.status.epoch.unwrap_or(0)),
            isolated: self.object.spec.rehearse,
        };
        if let Some(done) = self.seen.objects_done {
            let whole = self.object.spec.only.is_none().then_some(point.objects.count);
            self.tell_objects(done, whole);
        }
        match self.working(work, "the objects are being restored") {
            Ok(Outcome::ObjectsRestored { restored, not_restored_count, not_restored, notes }) => {
                self.status.restored_objects = Some(restored);
                self.status.progress.iter_mut().for_each(|it| it.estimated_end = None);
                // What was told of volumes stays.
                self.status.not_restored.retain(|it| it.starts_with(paths::FIT_NOTHING));
                self.status.not_restored.extend(not_restored.into_iter().take(TOLD));
                let told = format!("{restored} objects are as in the point, {not_restored_count} are not");
                Next::Go(std::iter::once(told).chain(notes.iter().cloned()).collect::<Vec<_>>().join("; "))
            }
            Ok(_) => Next::Stay("the objects are being restored".into()),
            Err(next) => next,
        }
    }

    /// The claims of the volumes that are restored.
    fn restored_claims(&self, point: &Point) -> impl Iterator<Item = ObjectSelector> {
        let names = point.volumes.iter().map(|it| &it.claim).chain(point.skipped.iter().map(|it| &it.claim));
        names.filter(|it| self.object.wants_volume(it)).map(|it| ObjectSelector {
            group: Some(String::new()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            name: Some(it.clone()),
            ..ObjectSelector::default()
        })
    }

    /// Also what the point does not have, and was stopped.
    pub(super) fn start(&mut self) -> Next {
        if !self.in_place() {
            return Next::Go("workloads came back as they were".into());
        }
        let work = Work::StartWorkloads { application: self.key.clone(), epoch: self.status.epoch.unwrap_or(0) };
        match self.working(work, "the workloads are being started") {
            Ok(_) => Next::Go("what was stopped is started".into()),
            Err(next) => next,
        }
    }

    /// Whether the step has taken as long as workloads may take to be ready.
    pub(super) fn overdue(&self) -> bool {
        self.status.steps.last().map_or(self.now, |it| it.started_at.0) + READY <= self.now
    }

    pub(super) fn await_ready(&mut self) -> Next {
        if self.object.spec.export.is_some() {
            return Next::Go("nothing was started".into());
        }
        if self.seen.not_ready.is_empty() {
            return self.ready_after().unwrap_or_else(|| Next::Go("every workload is ready".into()));
        }
        let missing = self.seen.not_ready.join("; ");
        if self.overdue() {
            return Next::Fail("NotReady", format!("restored, but not ready after 30 minutes: {missing}"));
        }
        Next::Stay(missing)
    }

    pub(super) fn mappings(&self) -> Mappings {
        mappings(self.object, self.application, &self.seen.region)
    }

    /// The point that stands in the status. It is read again after a restart of the operator.
    pub(super) fn chosen(&mut self) -> Result<Point, Next> {
        let id = self.status.point.clone().unwrap_or_default();
        let named = || PointChoice { name: Some(id.clone()), before: None };
        let (found, _) = self.found(named(), None)?;
        if let Some(point) = found.filter(|it| it.id == id) {
            return Ok(point);
        }
        self.find(named(), None);
        Err(Next::Stay("the point is being read".into()))
    }

    /// The point that was found last, or is being looked for; and newer ones that are not good.
    pub(super) fn found(
        &mut self,
        choice: PointChoice,
        older_than: Option<String>,
    ) -> Result<(Option<Point>, Vec<String>), Next> {
        // What another vault answered before is not asked for any more.
        if answered_by(&self.seen.works, "FindPoint").is_some_and(|it| it != self.vault_name()) {
            self.find(choice, older_than);
            return Err(Next::Stay("the points are being read".into()));
        }
        match self.working(self.find_point(choice, older_than), "the points are being read")? {
            Outcome::Surveyed { chosen, passed_over } => Ok((chosen.map(|it| *it), passed_over)),
            _ => Err(Next::Stay("the points are being read".into())),
        }
    }

    /// Looks for a point, whatever was found before.
    pub(super) fn find(&mut self, choice: PointChoice, older_than: Option<String>) {
        let work = self.find_point(choice, older_than);
        self.effects.push(Effect::Begin(Box::new(work)));
    }

    fn find_point(&self, choice: PointChoice, older_than: Option<String>) -> Work {
        Work::FindPoint { vault: self.vault_name(), application: self.key.clone(), choice, older_than }
    }

    /// The outcome of a piece of work, which is begun when it is due. What failed for good before anything was changed
    /// ends the run.
    pub(super) fn working(&mut self, work: Work, meanwhile: &str) -> Result<Outcome, Next> {
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

/// Whether all that a partial point lacks are dumps, and it has volumes: a database that is down is often why there is a
/// restore, and what it had written is in its volumes.
fn only_dumps_missing(status: &RecoveryPointStatus) -> bool {
    let dumped = |name: &String| status.dumps.iter().any(|it| it.name == *name && it.failure.is_none());
    let whole = |it: &VolumeInPoint| it.failure.is_none() && it.unreadable == 0 && it.dump.as_ref().is_none_or(dumped);
    status.volumes.iter().all(whole)
        && status.volumes.iter().any(|it| it.snapshot.is_some())
        && status.objects.as_ref().is_some_and(|it| it.failed.is_empty())
        && status.suspicious.is_empty()
}
