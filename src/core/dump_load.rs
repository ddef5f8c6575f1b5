//! Loads the dumps of a point into the databases of the application, when its data is in them and in no volume.
//!
//! Which dumps are meant stands in the status before the first mover is made, and that one was loaded stands there for
//! good: it is not loaded again. What a mover does is `mover`; whether it is time for this is the run's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    app_key::AppKey,
    child::{Run, job_key},
    dump, dump_target,
    effect::Effect,
    mover_job::MoverSettings,
    mover_task::Ran,
    point::Point,
    recovery_point::JobSeen,
    work::doubled,
};
use crate::api::{
    application::{Dump, LoadOnRestore, ProtectedApplication},
    restore::DumpPart,
    restoring::DumpLoad,
    vault::VaultSpec,
};

/// Seconds after which Kubernetes ends a mover.
const DEADLINE: u64 = 24 * 3_600;
/// Seconds until a mover that failed is run again: doubled each time, up to the second one.
const PAUSES: (i64, i64) = (10, 300);

/// What was found of one dump.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The application's pods that it may be loaded in, running or not.
    pub pods: Vec<PodSeen>,
    /// Why they may not be listed.
    pub forbidden: Option<String>,
    /// The mover.
    pub job: Option<JobSeen>,
}

/// A pod that a dump may be loaded in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// Whether it runs and is ready.
    pub ready: bool,
    /// The claims that it mounts.
    pub claims: Vec<String>,
}

/// The dumps of a point.
pub struct Loads<'a> {
    /// The run.
    pub run: &'a Run,
    /// What movers have in common.
    pub movers: &'a MoverSettings,
    /// The application.
    pub application: &'a ProtectedApplication,
    /// Its name, and the namespace in which it is protected: whose repository has the dumps.
    pub of: &'a AppKey,
    /// The vault.
    pub vault: &'a VaultSpec,
    /// The point.
    pub point: &'a Point,
    /// What was found, by the dump's name.
    pub seen: &'a BTreeMap<String, Seen>,
    /// The dumps that are asked for by name: these, and no others, are loaded whatever volumes there are.
    pub named: Option<&'a [DumpPart]>,
    /// The time.
    pub now: Timestamp,
}

/// How far they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What goes on.
    pub going: Vec<String>,
    /// What failed, and is tried again after a pause.
    pub failed: Vec<String>,
    /// What is to be done.
    pub effects: Vec<Effect>,
}

/// What is to be done about one dump.
enum Next {
    Going(&'static str),
    Failed(String),
    Settled,
}

/// Whether nothing more is to be done about a dump.
fn settled(load: &DumpLoad) -> bool {
    load.loaded_at.is_some() || load.left_out.is_some()
}

/// Those of which not all is done, or nothing: by their names.
#[must_use]
pub fn unsettled(loads: &[DumpLoad]) -> Vec<&str> {
    loads.iter().filter(|it| !settled(it)).map(|it| it.name.as_str()).collect()
}

/// What became of them, for people.
#[must_use]
pub fn told(loads: &[DumpLoad]) -> String {
    if loads.is_empty() {
        return "no dump is to be loaded".to_owned();
    }
    let one = |it: &DumpLoad| match &it.left_out {
        Some(why) => format!("dump {} was not loaded: {why}", it.name),
        None => format!("dump {} is loaded", it.name),
    };
    loads.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Loads<'_> {
    /// The dumps that are looked at.
    fn planned(&self) -> Vec<DumpLoad> {
        let wanted = |name: &String| self.named.is_none_or(|it| it.iter().any(|it| it.name == *name));
        let planned = |it: &super::point::Dump| DumpLoad {
            name: it.name.clone(),
            snapshot: it.snapshot.clone(),
            consistent_at: Time(it.consistent_at),
            loaded_at: None,
            left_out: None,
            bytes: 0,
            pod: None,
            exit_code: None,
            stderr: None,
            failure: None,
            failures: 0,
            failed_at: None,
        };
        self.point.dumps.iter().filter(|it| wanted(&it.name)).map(planned).collect()
    }

    /// The next step of each, and what it takes. With nothing that goes on and nothing that failed, all are settled.
    /// None when what will be done was only written down.
    #[must_use]
    pub fn advance(&self, loads: &mut Vec<DumpLoad>) -> Option<Progress> {
        let planned = self.planned();
        let same =
            |it: &DumpLoad| planned.iter().any(|other| (&other.name, &other.snapshot) == (&it.name, &it.snapshot));
        if planned.len() != loads.len() || !loads.iter().all(same) {
            *loads = planned;
            return None;
        }
        let mut progress = Progress::default();
        for load in loads.iter_mut().filter(|it| !settled(it)) {
            match self.one(load, &mut progress.effects) {
                Next::Going(what) => progress.going.push(format!("dump {}: {what}", load.name)),
                Next::Failed(why) => progress.failed.push(format!("dump {}: {why}", load.name)),
                Next::Settled => {}
            }
        }
        Some(progress)
    }

    fn one(&self, load: &mut DumpLoad, effects: &mut Vec<Effect>) -> Next {
        let Some(target) = dump_target::target(self.application, self.named, &load.name) else {
            return self.undeclared(load);
        };
        let nothing = Seen::default();
        let seen = self.seen.get(&load.name).unwrap_or(&nothing);
        if let (Some(why), None) = (&seen.forbidden, &seen.job) {
            let namespace = &self.run.namespace;
            return Next::Failed(format!(
                "is {namespace} one of the chart's protectedNamespaces? Its pods cannot be listed: {why}"
            ));
        }
        if let Some(next) = self.left_out(&target, load, seen) {
            return next;
        }
        let job = job_key(&self.movers.namespace, &self.run.derived(&dump::label(&load.name)));
        match &seen.job {
            Some(JobSeen::Succeeded(report)) if report.snapshot.as_ref() != Some(&load.snapshot) => {
                effects.push(Effect::Delete(job));
                Next::Going("the mover of another point is tidied away")
            }
            Some(JobSeen::Succeeded(report)) => {
                ran(load, report.command.as_ref());
                load.bytes = report.bytes;
                load.loaded_at = Some(Time(self.now));
                load.failure = None;
                Next::Settled
            }
            Some(JobSeen::Failed { message, at, command, .. }) => {
                ran(load, command.as_deref());
                if self.failed(load, message, *at) {
                    effects.push(Effect::Delete(job));
                }
                Next::Failed(format!("{message} (tried again after {} s)", pause(load).as_secs()))
            }
            Some(JobSeen::Running(_)) => Next::Going("it is being loaded"),
            None if seen.pods.iter().any(|it| it.ready) => {
                let from = (self.point.id.as_str(), load.snapshot.as_str());
                let task = dump::load_task(&target, self.of, from, &self.run.namespace);
                let job = dump::job(self.movers, self.run, self.vault, &load.name, &task, DEADLINE);
                effects.push(Effect::Apply(Box::new(job)));
                Next::Going("it is being loaded")
            }
            None => Next::Going("a pod with its labels that is ready is waited for"),
        }
    }

    /// Nobody says how it is loaded. Is it all the data there is, that is a failure.
    fn undeclared(&self, load: &mut DumpLoad) -> Next {
        let why = "it is not among backup.dumps here, so nothing says how it is loaded";
        if self.point.volumes.is_empty() || self.named.is_some() {
            return Next::Failed(format!("{why}: declare it there"));
        }
        load.left_out = Some(why.to_owned());
        Next::Settled
    }

    /// Whether the data comes back in another way, or is not wanted.
    fn left_out(&self, declared: &Dump, load: &mut DumpLoad, seen: &Seen) -> Option<Next> {
        if self.named.is_some() {
            return None;
        }
        let why = match declared.load_on_restore {
            LoadOnRestore::Always => return None,
            LoadOnRestore::Never => "loadOnRestore says Never".to_owned(),
            LoadOnRestore::Auto if self.point.volumes.is_empty() => return None,
            // Whatever other volumes its pods have: what it was made of is in none.
            LoadOnRestore::Auto if self.point.skipped.iter().any(|it| it.dump.as_ref() == Some(&declared.name)) => {
                return None;
            }
            LoadOnRestore::Auto if seen.pods.is_empty() => {
                return Some(Next::Going("a pod with its labels is waited for, to see which volumes it has"));
            }
            LoadOnRestore::Auto => {
                let mut claims = seen.pods.iter().flat_map(|it| &it.claims);
                let claim = claims.find(|it| self.point.volumes.iter().any(|volume| volume.claim == **it))?;
                format!("its data is in volume {claim}")
            }
        };
        load.left_out = Some(why);
        Some(Next::Settled)
    }

    /// Counts a failure once. Whether its mover may go: only after the pause, when the count was written down.
    fn failed(&self, load: &mut DumpLoad, message: &str, at: Timestamp) -> bool {
        if load.failed_at.as_ref().is_none_or(|it| it.0 != at) {
            load.failures += 1;
            load.failed_at = Some(Time(at));
            load.failure = Some(message.to_owned());
            return false;
        }
        at + pause(load) <= self.now
    }
}

fn pause(load: &DumpLoad) -> jiff::SignedDuration {
    doubled(PAUSES.0, load.failures, PAUSES.1)
}

fn ran(load: &mut DumpLoad, command: Option<&Ran>) {
    let Some(ran) = command else { return };
    load.stderr = dump::stderr_told(ran);
    load.exit_code = ran.exit_code;
    load.pod = Some(ran.pod.clone()).filter(|it| !it.is_empty());
}

#[cfg(test)]
#[path = "dump_load_tests.rs"]
mod tests;
