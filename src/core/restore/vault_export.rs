//! The step of a `Restore` that exports into a vault: one mover, which stores plain objects there.
//!
//! The mover claims the place for this run before it writes, so that a new one goes on where an old one was ended.

use std::sync::Arc;

use jiff::SignedDuration;
use kube::ResourceExt;

use super::{Next, Pass, export::wanted_dumps};
use crate::{
    api::{
        restore::{RestoreProgress, VaultExport},
        vault::Vault,
    },
    core::{
        child::job_key,
        effect::{Effect, ObjectKey},
        mover_job::Mover,
        mover_task::{Report, Task},
        point::Point,
        recovery_point::JobSeen,
    },
};

/// What the mover is said to work for. No claim has such a name: it has a slash.
pub const LABEL: &str = "export/vault";
/// Seconds after which Kubernetes ends a mover, and no other is made.
const DEADLINE: u64 = 24 * 3_600;
/// How long after a failed mover the next one is made.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What was found of an export into a vault.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The vault that it goes to.
    pub vault: Option<Arc<Vault>>,
    /// The mover.
    pub job: Option<JobSeen>,
}

/// Where it goes, for people.
fn place(to: &VaultExport, namespace: &str) -> String {
    format!("exports/{namespace}/{} of vault {}", to.prefix, to.name)
}

impl Pass<'_> {
    /// Why nothing may be exported into the vault that is named.
    pub(super) fn export_refused(&self) -> Option<Next> {
        let to = self.object.exports_to()?;
        let Some(vault) = &self.seen.export.vault else {
            let message = format!("spec.export.vault.name: there is no Vault '{}' in this cluster", to.name);
            return Some(Next::Fail("NoVault", message));
        };
        let message = format!(
            "spec.export.vault.name: Vault {} does not allow exports, which lay data bare for whoever reads the bucket: an \
             administrator may set its spec.allowExports to true, or use export.claim",
            vault.name_any()
        );
        (!vault.spec.allow_exports).then_some(Next::Fail("ExportsNotAllowed", message))
    }

    pub(super) fn export(&mut self) -> Next {
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        if let Some(Next::Fail(reason, message)) = self.export_refused() {
            return Next::Fail(reason, format!("{message}{}", self.left_behind()));
        }
        let (Some(task), Some(from), Some(to)) =
            (self.export_task(&point), self.seen.vault.clone(), self.seen.export.vault.clone())
        else {
            return Next::Stay("the Vault object is gone".into());
        };
        match self.seen.export.job.clone() {
            Some(JobSeen::Succeeded(report)) if report.occupied => Next::Fail(
                "PrefixNotEmpty",
                format!(
                    "spec.export.vault.prefix: something lies at {} already, and nothing was written: take another prefix, or \
                     remove what is there",
                    self.export_place()
                ),
            ),
            Some(JobSeen::Succeeded(report)) => {
                self.tell_export(&point, Some(&report));
                self.status.not_restored.clone_from(&report.first_warnings);
                Next::Go(self.exported(&report))
            }
            Some(JobSeen::Failed { message, corrupt: true, .. }) => {
                let left = self.left_behind();
                Next::Fail("PointDamaged", format!("{} cannot be exported: {message}{left}", point.id))
            }
            Some(JobSeen::Failed { message, at, .. }) => self.export_again(&message, at),
            Some(JobSeen::Running(waits)) => {
                self.tell_export(&point, None);
                Next::Stay(waits.unwrap_or_else(|| format!("{} is being written", self.export_place())))
            }
            None => {
                self.effects.push(self.export_mover(&task, (&from, &to)));
                Next::Stay(format!("{} is being written", self.export_place()))
            }
        }
    }

    /// The next mover goes on where this one failed.
    fn export_again(&mut self, message: &str, at: jiff::Timestamp) -> Next {
        let begun = self.status.steps.last().map_or(self.now, |it| it.started_at.0);
        if begun + SignedDuration::from_secs(DEADLINE.cast_signed()) <= self.now {
            let left = self.left_behind();
            return Next::Fail("ExportFailed", format!("{message}; it was tried for a day{left}"));
        }
        if at + PAUSE <= self.now {
            self.effects.push(Effect::Delete(self.export_job()));
        }
        Next::Stay(format!("{message} (tried again after {} s)", PAUSE.as_secs()))
    }

    fn export_mover(&self, task: &Task, (from, to): (&Vault, &Vault)) -> Effect {
        let mover = Mover {
            settings: &self.seen.movers,
            run: &self.run,
            claim: LABEL,
            task,
            mount: None,
            vault: &from.spec,
            deadline: DEADLINE,
        };
        Effect::Apply(Box::new(mover.copy_job(&to.spec)))
    }

    fn export_job(&self) -> ObjectKey {
        job_key(&self.seen.movers.namespace, &self.run.derived(LABEL))
    }

    /// Where it goes, for people.
    pub(super) fn export_place(&self) -> String {
        self.object.exports_to().map_or_else(String::new, |it| place(it, &self.run.namespace))
    }

    fn exported(&self, report: &Report) -> String {
        let Report { files, bytes, excluded, .. } = report;
        let secrets = match excluded {
            0 => String::new(),
            count => format!("; {count} Secrets were left out: name their kind in only.objects to have them there"),
        };
        format!("{files} files with {bytes} bytes are in {}{secrets}", self.export_place())
    }

    /// Of a run that is cancelled: its mover is ended first.
    pub(super) fn export_ended(&mut self) -> Next {
        if self.seen.export.job.is_some() {
            self.effects.push(Effect::Delete(self.export_job()));
            return Next::Stay("the mover that exports is being ended".into());
        }
        Next::Fail("Cancelled", format!("cancelled{}", self.left_behind()))
    }

    /// How far it is, as its mover told; or that all is there.
    fn tell_export(&mut self, point: &Point, whole: Option<&Report>) {
        let volumes: Vec<_> = point.volumes.iter().filter(|it| self.object.wants_volume(&it.claim)).collect();
        let entire = || volumes.iter().filter(|it| self.paths_of(&it.claim).is_empty());
        let dumps: u64 = wanted_dumps(self.object, point).map(|it| it.bytes).sum();
        let volumes_total = volumes.len() as u64;
        let (bytes_total, files_total) =
            (entire().map(|it| it.bytes).sum::<u64>() + dumps, entire().map(|it| it.files).sum());
        let (volumes_done, bytes_done, files_done) = match (whole, self.seen.told.get(LABEL)) {
            (Some(report), _) => (volumes_total, report.bytes, report.files),
            (None, Some(told)) => (0, told.done, told.files),
            (None, None) => return,
        };
        let blank = self.blank();
        self.tell_estimated(RestoreProgress {
            volumes_done,
            volumes_total,
            bytes_done,
            bytes_total,
            files_done,
            files_total,
            ..blank
        });
    }
}
