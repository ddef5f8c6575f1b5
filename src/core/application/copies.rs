//! Copies of the newest good point in other vaults, one at a time, while this region serves.
//!
//! A point is good once it is in the first vault; nothing waits for its copies. When one is due is `core::copies`; what
//! is done is a mover's. Each run stands in the status before its Job is made.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::Pass;
use crate::{
    api::{
        application::{CopyRun, CopyStatus, LastPoint},
        vault::Vault,
    },
    core::{
        child::job_key,
        condition::{self, COPIES_UP_TO_DATE, Finding, READY, Truth},
        copies::{GRACE, again, expected},
        effect::Effect,
        mover_job::Mover,
        mover_task::{Report, Task},
        recovery_point::JobSeen,
        vault,
        work::{Outcome, Seen, Work, see},
    },
};

/// The longest that one run may take, in seconds. What it had copied by then is found by the next one.
const DEADLINE: u64 = 24 * 3_600;
/// How often a run is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What the Job of a run is named after, and found by.
#[must_use]
pub fn job(vault: &str, run: &CopyRun) -> String {
    format!("copy of {} to {vault} since {}", run.point, run.started_at.0)
}

/// What is to be done about copies.
enum Due {
    /// This one, now.
    Now,
    /// Not before then.
    At(Timestamp),
    /// Not before something changes.
    Never,
}

impl Pass<'_> {
    /// In whatever role: runs begin where the application serves, and are told of and ended everywhere.
    pub(super) fn follow_copies(&mut self, serving: bool) {
        self.line_copies_up(serving);
        if serving {
            self.look_copies_up();
        }
        for at in 0..self.status.copies.len() {
            self.follow_copy(at);
        }
        let busy = self.status.copies.iter().any(|it| unfinished(it) || self.job_of(it).is_some());
        if busy {
            self.recheck = self.recheck.min(LOOK);
        } else if serving && self.seen.claim.as_ref().is_some_and(|it| it.valid) {
            if self.retain_copies() {
                self.recheck = self.recheck.min(LOOK);
            } else {
                self.start_copy();
            }
        }
    }

    /// One entry for each vault of the spec, in its order. A run that shall not go on ends.
    fn line_copies_up(&mut self, serving: bool) {
        let settings = if serving { self.object.spec.backup.copies.as_slice() } else { &[] };
        let mut old = std::mem::take(&mut self.status.copies);
        for it in settings {
            let at = old.iter().position(|old| old.vault == it.vault);
            let status = at.map(|at| old.remove(at));
            self.status.copies.push(status.unwrap_or_else(|| CopyStatus { vault: it.vault.clone(), ..<_>::default() }));
        }
        // What is left is told of until its Jobs are gone.
        old.retain(|it| {
            let job = self.job_of(it).or(self.prune_job_of(it)).or(self.scrub_job_of(it));
            unfinished(it) || job.is_some()
        });
        for it in &mut old {
            self.end_prune(it);
            if let Some(run) = it.last_run.as_mut().filter(|it| it.finished_at.is_none()) {
                run.finished_at = Some(condition::whole_second(self.now));
                run.failure =
                    Some("it was ended: this region no longer serves, or the copy is no longer asked for".into());
            }
        }
        self.status.copies.append(&mut old);
    }

    /// What lies in the other vaults already, as after a failover: asked once.
    fn look_copies_up(&mut self) {
        match see(&self.seen.works, "ReadCopies", self.now) {
            Seen::Done(Outcome::CopiesRead(found), _) => {
                for copy in &mut self.status.copies {
                    if let (None, Some((point, at))) = (&copy.point, found.get(&copy.vault)) {
                        copy.point = Some(point.clone());
                        copy.consistent_at = Some(condition::whole_second(*at));
                    }
                }
            }
            Seen::Due(_) if self.unknown_copies() => {
                let vaults = self.status.copies.iter().map(|it| it.vault.clone());
                let vaults: Vec<_> = vaults.filter(|it| self.copy_vault(it).is_ok()).collect();
                if !vaults.is_empty() {
                    let work = Work::ReadCopies { vaults, application: self.key.clone() };
                    self.effects.push(Effect::Begin(Box::new(work)));
                }
            }
            Seen::Done(..) | Seen::Due(_) | Seen::Waiting(_) => {}
        }
    }

    fn unknown_copies(&self) -> bool {
        self.status.copies.iter().any(|it| it.point.is_none())
    }

    /// Takes over how a run ended, makes its Job, and tidies up after it.
    fn follow_copy(&mut self, at: usize) {
        let Some(movers) = &self.seen.movers else { return };
        let copy = &self.status.copies[at];
        let Some(run) = copy.last_run.clone() else { return };
        let name = job(&copy.vault, &run);
        let written = self.object.status.as_ref().is_some_and(|it| it.copies.iter().any(|it| it == copy));
        let key = job_key(&movers.namespace, &self.run().derived(&name));
        match self.seen.copy_jobs.get(&name) {
            Some(_) if run.finished_at.is_some() => self.effects.push(Effect::Delete(key)),
            Some(JobSeen::Succeeded(report)) => self.copied(at, report),
            Some(JobSeen::Failed { message, .. }) => self.not_copied(at, message),
            None if run.finished_at.is_none() && written => self.make_copy(at, &run, &name),
            Some(JobSeen::Running(_)) | None => {}
        }
    }

    fn copied(&mut self, at: usize, report: &Report) {
        let copy = &mut self.status.copies[at];
        let Some(run) = &mut copy.last_run else { return };
        run.finished_at = Some(condition::whole_second(self.now));
        run.added_bytes = Some(report.added_bytes);
        copy.point = Some(run.point.clone());
        copy.consistent_at = Some(run.consistent_at.clone());
        copy.copied_at = Some(run.started_at.clone());
        copy.failures = 0;
    }

    fn not_copied(&mut self, at: usize, message: &str) {
        let copy = &mut self.status.copies[at];
        let Some(run) = &mut copy.last_run else { return };
        run.finished_at = Some(condition::whole_second(self.now));
        run.failure = Some(message.to_owned());
        copy.failures = copy.failures.saturating_add(1);
    }

    fn make_copy(&mut self, at: usize, run: &CopyRun, name: &str) {
        let (Some(movers), Some(from)) = (&self.seen.movers, &self.seen.vault) else { return };
        let to = match self.copy_vault(&self.status.copies[at].vault) {
            Ok(to) => to.spec.clone(),
            Err(why) => return self.not_copied(at, &why),
        };
        let (namespace, application) = (self.key.namespace.clone(), self.key.name.clone());
        let task = Task::Copy { namespace, application, point: run.point.clone() };
        let of = self.run();
        let mover = Mover {
            settings: movers,
            run: &of,
            claim: name,
            task: &task,
            mount: None,
            vault: &from.spec,
            deadline: DEADLINE,
        };
        self.effects.push(Effect::Apply(Box::new(mover.copy_job(&to))));
    }

    /// Writes down the run that is due for longest, if one is.
    fn start_copy(&mut self) {
        let Some(newest) = self.status.last_point.clone() else { return };
        // What other vaults have is not known before they were asked.
        let unasked = self.unknown_copies() && !matches!(see(&self.seen.works, "ReadCopies", self.now), Seen::Done(..));
        if unasked || self.vault_ready().is_err() {
            return;
        }
        let mut now = Vec::new();
        for at in 0..self.status.copies.len() {
            match self.copy_due(at, &newest) {
                Due::Now => now.push(at),
                Due::At(then) => self.look_at(then),
                Due::Never => {}
            }
        }
        let begun = |at: &usize| self.status.copies[*at].last_run.as_ref().map(|it| it.started_at.0);
        let Some(at) = now.into_iter().min_by_key(begun) else { return };
        self.status.copies[at].last_run = Some(CopyRun {
            point: newest.id,
            consistent_at: newest.consistent_at,
            started_at: Time(condition::whole_second(self.now).0),
            finished_at: None,
            added_bytes: None,
            failure: None,
        });
        self.recheck = self.recheck.min(Duration::from_secs(1));
    }

    fn copy_due(&self, at: usize, newest: &LastPoint) -> Due {
        let copy = &self.status.copies[at];
        let Some(settings) = self.object.spec.backup.copies.get(at) else { return Due::Never };
        if copy.point.as_ref() == Some(&newest.id) || self.copy_vault(&copy.vault).is_err() {
            return Due::Never;
        }
        if copy.failures > 0 {
            let ended = copy.last_run.as_ref().and_then(|it| it.finished_at.as_ref()).map_or(self.now, |it| it.0);
            return if again(ended, copy.failures) <= self.now {
                Due::Now
            } else {
                Due::At(again(ended, copy.failures))
            };
        }
        match expected(settings, copy) {
            Ok(None) => Due::Now,
            Ok(Some(then)) if then <= self.now => Due::Now,
            Ok(Some(then)) => Due::At(then),
            Err(_) => Due::Never,
        }
    }

    /// The Job of a copy's last run.
    fn job_of(&self, copy: &CopyStatus) -> Option<&JobSeen> {
        self.seen.copy_jobs.get(&job(&copy.vault, copy.last_run.as_ref()?))
    }

    /// The other vault, if points may be written into it.
    pub(super) fn copy_vault(&self, name: &str) -> Result<&Vault, String> {
        let found = self.seen.copy_vaults.iter().find(|it| it.name_any() == name);
        let found = found.ok_or_else(|| format!("spec.backup.copies: there is no Vault '{name}' in this cluster"))?;
        let conditions = found.status.as_ref().map_or(&[][..], |it| &it.conditions);
        match condition::find(conditions, READY) {
            Some(it) if it.status == "True" => vault::unescrowed(found).map_or(Ok(found.as_ref()), Err),
            Some(it) => Err(format!("vault {name}: {}", it.message)),
            None => Err(format!("vault {name} was not tested yet")),
        }
    }

    /// Whether every other vault has what it should have by now. Nothing hangs on it.
    pub(super) fn copies_up_to_date(&mut self) -> Option<Finding> {
        let finding =
            |truth: Truth, reason, message: String| Some(Finding::new(COPIES_UP_TO_DATE, truth, reason, message));
        if self.object.spec.backup.copies.is_empty() {
            return None;
        }
        let (mut late, mut none) = (Vec::new(), Vec::new());
        for (settings, copy) in self.object.spec.backup.copies.clone().iter().zip(self.status.copies.clone()) {
            let name = &copy.vault;
            if let Err(why) = self.copy_vault(name) {
                return finding(Truth::False, "VaultNotReady", why);
            }
            if let Some(why) = copy.last_run.as_ref().and_then(|it| it.failure.as_ref()).filter(|_| copy.failures > 0) {
                return finding(Truth::False, "CopyFailed", format!("vault {name}: {why}"));
            }
            match expected(settings, &copy) {
                Err(why) => return finding(Truth::False, "ScheduleInvalid", why),
                Ok(None) => none.push(name.clone()),
                Ok(Some(then)) if then + GRACE <= self.now => late.push(name.clone()),
                Ok(Some(then)) => self.look_at(then + GRACE),
            }
        }
        match (late.is_empty(), none.is_empty()) {
            (false, _) => finding(
                Truth::False,
                "Late",
                format!("more than an hour after it was due there is no newer point in {}", late.join(", ")),
            ),
            (true, false) => finding(Truth::Unknown, "NoCopy", format!("there is no point in {} yet", none.join(", "))),
            (true, true) => {
                finding(Truth::True, "UpToDate", "every other vault has the points that it should have".into())
            }
        }
    }
}

fn unfinished(copy: &CopyStatus) -> bool {
    copy.last_run.as_ref().is_some_and(|it| it.finished_at.is_none())
}
