//! A rehearsal: a point is restored into a namespace that is made for it, its workloads become ready, its probes are
//! asked, that is noted at the point, and all of it is removed, however it went.
//!
//! What is different in the objects there is `capture::isolate`. Restoring them and the volumes is done as into any other
//! namespace.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::SignedDuration;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Next, Pass};
use crate::{
    api::{
        application::Probe,
        restore::{Rehearsal, RestoreStepName},
    },
    core::{
        child::key,
        condition::Truth,
        effect::{Effect, ObjectKey},
        volume_restore::VolumeSeen,
        work::{Outcome, Seen, Work, see},
    },
};

/// Stands on the namespace of a rehearsal.
pub const REHEARSAL: (&str, &str) = ("reprise.dev/rehearsal", "true");
/// How every such namespace's name begins.
pub const PREFIX: &str = "reprise-rehearsal-";
/// The name of its network policy.
pub const POLICY: &str = "reprise-rehearsal";
/// How long it may take in all, before what was made for it is removed.
const LONGEST: SignedDuration = SignedDuration::from_hours(6);
/// How long the probes may take to be answered well.
const ANSWERING: SignedDuration = SignedDuration::from_mins(5);
/// How often they are asked.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// How long is waited until all of it is gone.
const REMOVING: SignedDuration = SignedDuration::from_mins(30);

/// What is known of the namespace of a rehearsal.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Whether the operator may make such namespaces.
    pub allowed: bool,
    /// The namespace, if it is there.
    pub space: Option<Space>,
    /// The labels of pod security of the application's namespace.
    pub security: BTreeMap<String, String>,
    /// The volumes that the run has marked.
    pub volumes: Vec<VolumeSeen>,
    /// How many workloads want to run in it.
    pub wanted: u32,
    /// The Service that the public name leads to: its address, and its port for each that nodes had.
    pub service: Option<(IpAddr, BTreeMap<u16, u16>)>,
}

/// The namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Whether this run made it.
    pub ours: bool,
    /// Whether it is being deleted.
    pub going: bool,
    /// Whether its network policy is there.
    pub closed: bool,
}

/// The namespace that a run with this uid takes place in.
#[must_use]
pub fn namespace(uid: &str) -> String {
    let digest = Sha256::digest(format!("rehearsal of {uid}"));
    digest.iter().take(8).fold(PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// `v1` `Namespace`.
#[must_use]
pub fn space_key(name: &str) -> ObjectKey {
    key("v1", "Namespace", None, name)
}

impl Pass<'_> {
    /// Nothing is changed where anything is.
    pub(super) fn check_rehearsal(&self) -> Next {
        if !self.seen.stage.allowed {
            let message = "the operator may make no namespaces here: set rehearsals.enabled of the chart";
            return Next::Fail("RehearsalsOff", message.into());
        }
        self.no_vault().unwrap_or_else(|| Next::Go("nothing that is there is changed".into()))
    }

    /// Its name is written down before it is made.
    pub(super) fn isolate(&mut self) -> Next {
        let name = self.run.namespace.clone();
        if self.status.rehearsal.is_none() {
            self.status.rehearsal = Some(Rehearsal { namespace: name, ..Rehearsal::default() });
            return Next::Stay("a namespace is about to be made".into());
        }
        match self.seen.stage.space {
            None => {
                let mut space = self.run.object(&space_key(&name), "rehearsal/namespace", json!({}));
                let labels = space.metadata.labels.get_or_insert_default();
                labels.insert(REHEARSAL.0.to_owned(), REHEARSAL.1.to_owned());
                labels.extend(self.seen.stage.security.clone());
                self.effects.push(Effect::Apply(Box::new(space)));
                self.effects.push(self.policy());
                Next::Stay(format!("namespace {name} is being made"))
            }
            Some(Space { ours: false, .. }) => {
                Next::Fail("NamespaceTaken", format!("namespace {name} is there, and was not made for this rehearsal"))
            }
            Some(Space { going: true, .. }) => {
                Next::Fail("NamespaceGoing", format!("somebody deletes namespace {name}"))
            }
            Some(Space { closed: false, .. }) => {
                self.effects.push(self.policy());
                Next::Stay(format!("namespace {name} is being closed"))
            }
            Some(Space { closed: true, .. }) => {
                Next::Go(format!("it takes place in namespace {name}, out of which nothing leads but DNS"))
            }
        }
    }

    /// Pods reach each other and DNS; they are reached by each other and by the operator, which asks the probes.
    fn policy(&self) -> Effect {
        let policies = key("networking.k8s.io/v1", "NetworkPolicy", Some(&self.run.namespace), POLICY);
        let home = json!({"matchLabels": {"kubernetes.io/metadata.name": self.seen.movers.namespace}});
        let spec = json!({
            "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}, {"namespaceSelector": home}]}],
            "egress": [
                {"to": [{"podSelector": {}}]},
                {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            ],
        });
        Effect::Apply(Box::new(self.run.object(&policies, "rehearsal/policy", json!({"spec": spec}))))
    }

    /// Every workload is ready: after how long, if it is a rehearsal. Without any, nothing was shown.
    pub(super) fn ready_after(&mut self) -> Option<Next> {
        let begun = self.status.steps.iter().find(|it| it.name == RestoreStepName::RestoreVolumes)?.started_at.0;
        let seconds = u64::try_from(self.now.duration_since(begun).as_secs()).unwrap_or(0);
        let wanted = self.seen.stage.wanted;
        let rehearsal = self.status.rehearsal.as_mut()?;
        if wanted == 0 {
            let message = "no workload came back that wants to run: nothing shows that the application works";
            return Some(Next::Fail("NothingRuns", message.into()));
        }
        rehearsal.restore_seconds = Some(seconds);
        Some(Next::Go(format!("every workload is ready after {seconds} s")))
    }

    /// The probes are asked at the Service in the namespace; then the point's level is written down.
    pub(super) fn probe(&mut self) -> Next {
        let Some(rehearsal) = self.status.rehearsal.clone() else { return Next::Go("nothing is rehearsed".into()) };
        let remote: Vec<Probe> =
            self.application.spec.health.probes.iter().filter(|it| it.workload.is_none()).cloned().collect();
        if !remote.is_empty() && rehearsal.answered.is_empty() {
            return match self.asked(&remote) {
                Ok(()) => Next::Stay("the probes are answered".into()),
                Err(next) => next,
            };
        }
        if !self.status.not_restored.is_empty() {
            return Next::Go("not all of it could be restored: the point's level stays".into());
        }
        let (vault, application, point) =
            (self.vault_name(), self.key.clone(), self.status.point.clone().unwrap_or_default());
        let (detail, seconds) = (self.rehearsed(&point), rehearsal.restore_seconds.unwrap_or(0));
        let work = Work::NoteRehearsal { vault, application, point, detail: detail.clone(), seconds };
        match self.working(work, "it is being written down at the point") {
            Ok(_) => Next::Go(detail),
            Err(next) => next,
        }
    }

    /// Asks those that can be asked there, until all of them are answered well.
    fn asked(&mut self, remote: &[Probe]) -> Result<(), Next> {
        let hostname = self.application.spec.traffic.as_ref().map(|it| it.hostname.clone());
        let (Some((address, ports)), Some(hostname)) = (&self.seen.stage.service, hostname) else {
            let why = "no probe can be asked: spec.traffic names no Service that came back".to_owned();
            return Err(Next::Fail("NoProbeAsked", why));
        };
        let (mut probes, mut not_asked) = (Vec::new(), Vec::new());
        for probe in remote {
            match inside(probe, &hostname, ports) {
                Some(it) => probes.push(it),
                None => not_asked.push(format!("{}: it is not about {hostname}", probe.name)),
            }
        }
        if probes.is_empty() {
            return Err(Next::Fail("NoProbeAsked", format!("no probe is about {hostname}: {}", not_asked.join("; "))));
        }
        let names = probes.iter().map(|it| it.name.clone()).collect();
        let work = Work::Ask { probes, at: Some((hostname, *address)) };
        let begun = self.status.steps.last().map_or(self.now, |it| it.started_at.0);
        let told = match see(&self.seen.works, "Ask", self.now) {
            Seen::Done(Outcome::Answered(bad), _) if bad.is_empty() => {
                if let Some(it) = &mut self.status.rehearsal {
                    (it.answered, it.not_asked) = (names, not_asked);
                }
                return Ok(());
            }
            Seen::Done(Outcome::Answered(bad), asked) => {
                if asked + ASK_AGAIN <= self.now {
                    self.effects.push(Effect::Begin(Box::new(work)));
                }
                bad.join("; ")
            }
            Seen::Due(_) => {
                self.effects.push(Effect::Begin(Box::new(work)));
                "the probes are being asked".to_owned()
            }
            Seen::Done(..) | Seen::Waiting(_) => "the probes are being asked".to_owned(),
        };
        if begun + ANSWERING <= self.now {
            return Err(Next::Fail("ProbesFailed", format!("its probes are not answered well: {told}")));
        }
        Err(Next::Stay(told))
    }

    /// Removes all that was made for it. What refuses to go is told, and swept away later.
    pub(super) fn clean_up(&mut self) -> Next {
        let stage = &self.seen.stage;
        let (mut left, mut effects) = (Vec::new(), Vec::new());
        for volume in &stage.volumes {
            if volume.reclaim != "Delete" {
                let patch = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
                let (name, resource_version) = (volume.name.clone(), volume.resource_version.clone());
                effects.push(Effect::PatchVolume { name, patch, resource_version });
            }
            left.push(format!("volume {}", volume.name));
        }
        for made in &self.seen.made {
            effects.push(Effect::Delete(made.clone()));
            left.push(format!("{} {}", made.kind, made.name));
        }
        if let Some(space) = stage.space.filter(|it| it.ours) {
            if !space.going {
                effects.push(Effect::Delete(space_key(&self.run.namespace)));
            }
            left.push(format!("namespace {}", self.run.namespace));
        }
        self.effects.extend(effects);
        let begun = self.status.steps.last().map_or(self.now, |it| it.started_at.0);
        match (left.is_empty(), begun + REMOVING <= self.now) {
            (true, _) => Next::Go("all that was made for it is removed".into()),
            (false, true) => {
                let message = format!("not gone yet, and swept away later: {}", left.join(", "));
                self.effects.push(Effect::warn("RehearsalNotRemoved", message.clone()));
                Next::Go(message)
            }
            (false, false) => Next::Stay(format!("being removed: {}", left.join(", "))),
        }
    }

    /// Whether it is ended here: by a person, by its deadline, or by what is more urgent.
    pub(super) fn broken_off(&mut self, step: RestoreStepName) -> bool {
        if step == RestoreStepName::CleanUp {
            return false;
        }
        let begun = self.status.steps.first().map_or(self.now, |it| it.started_at.0);
        let failover = self.seen.others.iter().find(|it| it.starts_with("Failover"));
        let (reason, message) = match failover.filter(|_| step > RestoreStepName::Check) {
            _ if self.object.spec.cancel => ("Cancelled", "cancelled by spec.cancel".to_owned()),
            _ if begun + LONGEST <= self.now => {
                ("DeadlineExceeded", format!("not done after {} hours", LONGEST.as_hours()))
            }
            Some(failover) => ("FailoverFirst", format!("{failover} goes on, and comes first")),
            None => return false,
        };
        if self.to_be_cleaned(step) {
            self.fail_later(step, reason, &message);
        } else {
            self.end_without_success(step, reason, format!("{message}{}", self.left_behind()));
        }
        true
    }

    /// Whether something was made for it by now that is to be removed.
    pub(super) fn to_be_cleaned(&self, step: RestoreStepName) -> bool {
        self.object.spec.rehearse && self.status.rehearsal.is_some() && step != RestoreStepName::CleanUp
    }

    /// It has failed: that is said when all is removed.
    pub(super) fn fail_later(&mut self, step: RestoreStepName, reason: &str, message: &str) {
        self.note(step, message);
        self.leave(step);
        if let Some(it) = &mut self.status.rehearsal {
            it.failure = Some(format!("{reason}: {message}"));
        }
        self.enter(RestoreStepName::CleanUp);
        self.report(Truth::Unknown, "InProgress", format!("it failed, and is being removed: {reason}: {message}"));
    }

    pub(super) fn rehearsal_failed(&self) -> Option<(&'static str, String)> {
        let failure = self.status.rehearsal.as_ref()?.failure.clone()?;
        Some(("RehearsalFailed", failure))
    }

    /// What was shown.
    pub(super) fn rehearsed(&self, point: &str) -> String {
        let rehearsal = self.status.rehearsal.clone().unwrap_or_default();
        let (region, seconds) = (&self.seen.region, rehearsal.restore_seconds.unwrap_or(0));
        let probes = match (&rehearsal.answered[..], &rehearsal.not_asked[..]) {
            ([], _) => "no http or tcp probe is declared".to_owned(),
            (answered, []) => format!("its probes were answered: {}", answered.join(", ")),
            (answered, not) => {
                format!("its probes were answered: {}; not asked: {}", answered.join(", "), not.join("; "))
            }
        };
        format!("{point} was restored in {region} into a namespace of its own, ready after {seconds} s; {probes}")
    }
}

/// A probe of the public name, as it is asked at the Service: at its own port, where nodes had another for it.
fn inside(probe: &Probe, hostname: &str, ports: &BTreeMap<u16, u16>) -> Option<Probe> {
    let mut probe = probe.clone();
    if let Some(http) = &mut probe.http {
        let (scheme, rest) = http.url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (authority, None),
        };
        if !same(host, hostname) {
            return None;
        }
        if let Some(port) = port.and_then(|it| ports.get(&it)) {
            http.url = format!("{scheme}://{host}:{port}{path}");
        }
    } else if let Some(tcp) = &mut probe.tcp {
        if !same(&tcp.host, hostname) {
            return None;
        }
        tcp.port = ports.get(&tcp.port).copied().unwrap_or(tcp.port);
    }
    Some(probe)
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}
