//! The step that loads dumps: into the databases that they were made of, or into others. What is done to one of them is
//! `core::dump_load`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Next, Pass};
use crate::{
    api::restore::{DumpPart, Plan, PlannedDump},
    core::{
        child::job_key,
        dump,
        dump_load::{self, Loads, PodSeen},
        dump_target,
        effect::Effect,
        point::Point,
        recovery_point::JobSeen,
    },
};

impl Pass<'_> {
    /// The dumps that are asked for by name. `None`: whatever is in the point.
    fn named(&self) -> Option<&[DumpPart]> {
        self.object.spec.only.as_ref().map(|it| it.dumps.as_slice())
    }

    /// Gives the databases their dumps whose data is in no volume, or that are named.
    pub(super) fn load_dumps(&mut self) -> Next {
        if self.object.spec.export.is_some() {
            return Next::Go("nothing is loaded".into());
        }
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        let Some(vault) = &self.seen.vault else { return Next::Stay("the Vault object is gone".into()) };
        let vault = vault.spec.shared_by(self.named().map_or(point.dumps.len(), <[DumpPart]>::len));
        let loads = Loads {
            run: &self.run,
            movers: &self.seen.movers,
            application: self.application,
            of: &self.key,
            vault: &vault,
            point: &point,
            seen: &self.seen.dumps,
            named: self.named(),
            now: self.now,
        };
        let mut status = self.status.dumps.clone();
        let progress = loads.advance(&mut status);
        self.status.dumps = status;
        let Some(progress) = progress else {
            return Next::Stay("the dumps are about to be loaded".into());
        };
        self.effects.extend(progress.effects);
        if !progress.failed.is_empty() {
            let why = progress.failed.join("; ");
            let again = if self.object.loads_elsewhere() {
                "a part of it may be loaded, and nothing else was changed: make another Restore to try again"
            } else {
                "everything before this step is done: make another Restore, of only.dumps, to try again"
            };
            return Next::Fail("DumpNotLoaded", format!("{why}; {again}"));
        }
        if progress.going.is_empty() {
            return Next::Go(dump_load::told(&self.status.dumps));
        }
        let going = progress.going.join("; ");
        let loading = self.seen.dumps.values().any(|it| it.job.is_some());
        if !loading && self.overdue() {
            return Next::Fail("DumpNotLoaded", format!("not begun within 30 minutes: {going}"));
        }
        Next::Stay(going)
    }

    /// Of a run that is cancelled: its movers are ended, and what other databases have of the dumps is told.
    pub(super) fn loading_ended(&mut self) -> Next {
        let (mut told, mut waits) = (Vec::new(), false);
        let mut loads = std::mem::take(&mut self.status.dumps);
        for load in &mut loads {
            match self.seen.dumps.get(&load.name).and_then(|it| it.job.as_ref()) {
                Some(JobSeen::Succeeded(report)) if report.snapshot.as_ref() == Some(&load.snapshot) => {
                    load.loaded_at.get_or_insert(Time(self.now));
                }
                Some(JobSeen::Succeeded(_) | JobSeen::Running(_) | JobSeen::Failed { .. }) => {
                    let name = self.run.derived(&dump::label(&load.name));
                    self.effects.push(Effect::Delete(job_key(&self.seen.movers.namespace, &name)));
                    waits = true;
                }
                None => {}
            }
            let how = if load.loaded_at.is_some() { "is loaded" } else { "may be half loaded" };
            told.push(format!("dump {} {how}", load.name));
        }
        self.status.dumps = loads;
        if waits {
            return Next::Stay("the mover that loads a dump is being ended".into());
        }
        let told = if told.is_empty() { "no dump was loaded".to_owned() } else { told.join("; ") };
        Next::Fail("Cancelled", format!("cancelled: {told}; nothing else was changed"))
    }

    /// A dump that is asked for, and that the point does not have or nothing says how to load.
    pub(super) fn no_such_dump(&self, point: &Point) -> Option<String> {
        let named = self.named()?;
        let there: Vec<_> = point.dumps.iter().map(|it| it.name.as_str()).collect();
        if let Some(absent) = named.iter().find(|it| !there.contains(&it.name.as_str())) {
            let name = &absent.name;
            return Some(format!("spec.only.dumps: {name} is not in {}, which has: {}", point.id, there.join(", ")));
        }
        if self.object.spec.export.is_some() {
            return None;
        }
        let unknown = |it: &&DumpPart| dump_target::target(self.application, Some(named), &it.name).is_none();
        let DumpPart { name, into } = named.iter().find(unknown)?;
        let remedy = if into.is_some() { "say it in only.dumps[].into.load" } else { "declare how it is loaded" };
        Some(format!("spec.only.dumps: {name} is not in spec.backup.dumps of the application: {remedy}"))
    }

    /// What a dry run tells that loads dumps and does nothing else.
    pub(super) fn plan_dumps(&mut self, point: &Point) -> Next {
        let dumps = self.planned_dumps(point);
        let one = |it: &PlannedDump| {
            let PlannedDump { name, namespace, labels, .. } = it;
            let into = it.pod.as_ref().map_or_else(
                || format!("a pod with the labels {labels} of namespace {namespace}, of which none is ready"),
                |pod| format!("pod {pod} of namespace {namespace}"),
            );
            format!("dump {name} would be loaded into {into}")
        };
        let told = dumps.iter().map(one).collect::<Vec<_>>().join("; ");
        self.status.plan = Some(Plan { dumps, ..Plan::default() });
        Next::Go(told)
    }

    /// Where dumps that are named would be loaded.
    pub(super) fn planned_dumps(&self, point: &Point) -> Vec<PlannedDump> {
        let planned = |part: &DumpPart| {
            let dump = point.dumps.iter().find(|it| it.name == part.name)?;
            let target = dump_target::target(self.application, self.named(), &part.name)?;
            let labels = target.pods.match_labels.iter().map(|(name, value)| format!("{name}={value}"));
            let ready = |it: &&PodSeen| it.ready;
            let pods = self.seen.dumps.get(&part.name).map_or(&[][..], |it| &it.pods);
            Some(PlannedDump {
                name: part.name.clone(),
                snapshot: dump.snapshot.clone(),
                bytes: dump.bytes,
                namespace: self.run.namespace.clone(),
                labels: labels.collect::<Vec<_>>().join(","),
                pod: pods.iter().filter(ready).map(|it| it.name.clone()).min(),
                load: target.load,
            })
        };
        self.named().unwrap_or_default().iter().filter_map(planned).collect()
    }
}
