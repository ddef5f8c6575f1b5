//! Whether the application should be brought into service here: suspicion, the gates before an automatic failover,
//! and the `Failover` that follows.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{LOOK_CLOSELY, Pass, fencing::dynamic};
use crate::{
    api::{
        application::{Activation, Verdict},
        failover::{Failover, FailoverSpec, Initiator},
    },
    core::{
        claim::view::View,
        condition::{self, FAILOVER_ADVISED, Finding, Truth},
        effect::Effect,
        health::{Evidence, HolderView, Suspicion, suspicion},
    },
};

/// Automatic failovers are counted over this time.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// What is thought of a failover to here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Advice {
    advised: bool,
    reason: &'static str,
    message: String,
}

impl Pass<'_> {
    /// Weighs the evidence, and starts a failover when there is reason to and nothing forbids it.
    pub(super) fn weigh(&mut self, view: &View) {
        let Some(health) = &self.seen.health else { return };
        let silent = view.holder_silent();
        if health.verdict == Verdict::Unhealthy {
            // The silence of the holder wakes nobody by itself.
            self.recheck = self.recheck.min(LOOK_CLOSELY);
        }
        let evidence = Evidence {
            own: health,
            holder: view.holder_health.as_ref().map(|it| HolderView { healthy: it.healthy, fresh: !silent }),
            holder_silent: silent,
            vault_reachable: view.readable,
            api_reachable: true, // this pass has just read from it
            vantages: self.object.spec.health.confirm.vantages,
        };
        let advice = match suspicion(&evidence) {
            Suspicion::None => Advice {
                advised: false,
                reason: "NothingSuspected",
                message: "nothing speaks for a failover to here".to_owned(),
            },
            Suspicion::Abstain { reason } => Advice { advised: false, reason: "NotConfirmed", message: reason },
            Suspicion::Suspected { evidence } => {
                self.recheck = self.recheck.min(LOOK_CLOSELY);
                let since = health.disrupted_at.unwrap_or(self.now);
                self.suspected(view, &evidence.join("; "), since)
            }
        };
        self.advice = advice;
    }

    fn suspected(&mut self, view: &View, evidence: &str, since: Timestamp) -> Advice {
        let advice = |reason, message| Advice { advised: true, reason, message };
        if let Some(failover) = self.moving() {
            return advice("InProgress", format!("{evidence}; Failover {} goes on", failover.name_any()));
        }
        if self.object.spec.failover.activation == Activation::Manual {
            let how = format!(
                "kubectl reprise failover {} -n {} --to {}",
                self.key.name, self.key.namespace, self.seen.region
            );
            return advice("ActivationIsManual", format!("{evidence}; to fail over: {how}"));
        }
        if let Err((reason, gate)) = self.gates(view, since) {
            return advice(reason, format!("{evidence}; not failed over: {gate}"));
        }
        self.start_failover(view.epoch + 1, evidence);
        advice("Started", evidence.to_owned())
    }

    /// This region holds the claim, and no failover to here goes on: one is started to finish what was begun.
    pub(super) fn finish_arriving(&mut self, view: &View) {
        let ended = self.seen.failovers.iter().filter_map(|it| it.status.as_ref()?.finished_at.as_ref());
        let last = ended.map(|it| it.0).max();
        let rested = last.is_none_or(|it| it + SignedDuration::from_secs(30) <= self.now);
        self.recheck = self.recheck.min(LOOK_CLOSELY * 5);
        if view.valid && rested && self.moving().is_none() {
            self.start_failover(view.epoch, "this region holds the claim, but no failover to here has come to its end");
        }
    }

    fn start_failover(&mut self, epoch: u64, why: &str) {
        let stem = format!("{}-{epoch:06}-", self.key.name);
        // The highest number, not how many: an old one may have been deleted.
        let numbers =
            self.seen.failovers.iter().filter_map(|it| it.name_any().strip_prefix(&stem)?.parse::<u32>().ok());
        let next = numbers.max().map_or(0, |it| it + 1);
        let spec = FailoverSpec {
            application: self.key.name.clone(),
            to: self.seen.region.clone(),
            reason: Some(why.chars().take(1000).collect()),
            initiator: Initiator::Operator,
        };
        let mut failover = Failover::new(&format!("{stem}{next:02}"), spec);
        failover.metadata.namespace = Some(self.key.namespace.clone());
        super::owned(&mut failover.metadata, &self.key, self.object.uid());
        self.effects.push(Effect::Apply(Box::new(dynamic(&failover))));
        self.effects.push(Effect::warn("FailoverStarted", format!("{why}: failing over to {}", self.seen.region)));
    }

    /// What forbids an automatic failover.
    fn gates(&mut self, view: &View, since: Timestamp) -> Result<(), (&'static str, String)> {
        self.vault_trusted().map_err(|it| ("VaultNotTrusted", it))?;
        let settings = &self.object.spec.failover;
        let finished = |it: &Failover| it.status.as_ref().and_then(|it| it.finished_at.as_ref()).map(|it| it.0);
        if let Some(last) = self.seen.failovers.iter().filter_map(|it| finished(it)).max() {
            // One that was given up before it took anything is no move: only a short pause follows it.
            let taken = self.seen.failovers.iter().any(|it| {
                finished(it) == Some(last)
                    && it.status.as_ref().is_some_and(|it| condition::is_true(&it.conditions, condition::SUCCEEDED))
            });
            let pause = if taken { settings.cooldown.as_secs() } else { 30 };
            let until = last + SignedDuration::from_secs(i64::try_from(pause).unwrap_or(i64::MAX / 4));
            if until > self.now {
                self.look_at(until);
                return Err(("CoolingDown", format!("failover.cooldown holds until {until}")));
            }
        }
        let automatic = self.seen.failovers.iter().filter(|it| {
            let status = it.status.as_ref();
            it.spec.initiator == Initiator::Operator
                && status.is_some_and(|it| condition::is_true(&it.conditions, condition::SUCCEEDED))
                && finished(it).is_some_and(|at| at + WINDOW > self.now)
        });
        let most = settings.max_automatic;
        if u32::try_from(automatic.count()).unwrap_or(u32::MAX) >= most {
            return Err(("LimitReached", format!("failover.maxAutomatic allows {most} in 24 hours")));
        }
        self.turn(view, since)
    }

    /// Local remedy comes first while the holder is alive, and more preferred standbys before this one.
    fn turn(&mut self, view: &View, since: Timestamp) -> Result<(), (&'static str, String)> {
        let standbys = self.object.spec.regions.iter().filter(|it| Some(&it.name) != view.holder.as_ref());
        let rank = standbys.take_while(|it| it.name != self.seen.region).count() as u64;
        let mut grace = rank * self.object.spec.claim.wait.as_secs();
        if !view.holder_silent() {
            // The holder's own cluster restarts what has failed: a third of the RTO is left to it.
            grace += self.object.spec.objectives.rto.as_secs() / 3;
        }
        let from = since + SignedDuration::from_secs(i64::try_from(grace).unwrap_or(i64::MAX / 4));
        if from > self.now {
            self.look_at(from);
            return Err(("Waiting", format!("a local remedy, or a more preferred region, has until {from}")));
        }
        Ok(())
    }

    /// The advice as a condition. Absent where this region serves.
    pub(super) fn advice_finding(&self) -> Option<Finding> {
        let Advice { advised, reason, message } = &self.advice;
        (!reason.is_empty()).then(|| Finding::new(FAILOVER_ADVISED, Truth::from(*advised), reason, message.clone()))
    }
}
