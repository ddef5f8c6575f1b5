//! Keeping a standby warm: each new point is restored into volumes that wait for a failover, one round at a time.
//!
//! A round is written into the status before anything is done for it, and goes on where it was after a restart. How one
//! volume is restored, and how a failover takes it over, is `core::volume_restore` and `core::volume_ahead`.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{LOOK_CLOSELY, Pass};
use crate::{
    api::application::{Role, Standby, WarmRound, WarmStatus},
    core::{
        child::{Run, claim_key, job_key},
        condition::{Finding, Truth, WARM},
        effect::{Effect, ObjectKey},
        mover_job::MoverSettings,
        point::Point,
        volume_ahead::TRANSFERRED,
        volume_restore::{self, Data, Restore, Step, mapped},
        work::{Outcome, Seen, Work, see},
    },
};

/// So many movers of one application restore ahead at a time: nobody waits for them.
const AT_ONCE: usize = 2;
/// How often is looked while movers run.
const LOOK_AT_MOVERS: Duration = Duration::from_secs(5);
/// How long Kubernetes lets a mover run, in seconds.
const DEADLINE: u64 = 24 * 3_600;

/// What is looked at while a round goes on, or while what it left is tidied away.
#[derive(Clone, Debug, Default)]
pub struct WarmSeen {
    /// The volumes of the round's point, by claim. Empty before the point was read.
    pub volumes: BTreeMap<String, volume_restore::Seen>,
    /// The movers and the claims that stand in the operator's namespace for this application itself.
    pub made: Vec<ObjectKey>,
}

impl Pass<'_> {
    pub(super) fn is_warm(&self) -> bool {
        self.object.standby(&self.seen.region) == Some(Standby::Warm)
    }

    /// Another region serves, and nothing runs here, and all is saved: the newest point is restored ahead.
    pub(super) fn keep_warm(&mut self) {
        let mut warm = self.status.warm.take().unwrap_or_default();
        match warm.round.clone() {
            None => self.begin_round(&mut warm),
            Some(round) => self.go_on(&mut warm, &round),
        }
        self.status.warm = Some(warm);
    }

    fn begin_round(&mut self, warm: &mut WarmStatus) {
        let Some(last) = self.status.last_point.clone() else { return };
        if warm.point.as_ref() == Some(&last.id) {
            return;
        }
        warm.round = Some(WarmRound { point: last.id, consistent_at: last.consistent_at, started_at: Time(self.now) });
        self.recheck = LOOK_CLOSELY;
    }

    fn go_on(&mut self, warm: &mut WarmStatus, round: &WarmRound) {
        let newer = self.status.last_point.as_ref().is_some_and(|it| it.id != round.point);
        let point = match self.point_of(round) {
            Ok(Some(point)) => point,
            Ok(None) => return,
            Err(why) => return give_up(warm, why, newer),
        };
        let (Some(movers), Some(vault), Some(warm_seen)) =
            (self.seen.movers.as_ref(), self.seen.vault.clone(), self.seen.warm.as_ref())
        else {
            return;
        };
        let vault = vault.spec.shared_by(AT_ONCE.min(point.volumes.len()));
        let run = self.run();
        self.drop_others(&run, &point, movers, &warm_seen.made);
        let mappings = self.object.mappings(&self.seen.region);
        let (mut going, mut failed, mut acted) = (0, None, false);
        for volume in &point.volumes {
            let Some(seen) = warm_seen.volumes.get(&volume.claim) else { return };
            let restore = Restore {
                run: &run,
                movers,
                application: &self.key,
                vault: &vault,
                point: &point.id,
                volume: &mapped(volume, &mappings),
                data: Data::Snapshot(&[]),
                seen,
                deadline: DEADLINE,
                ahead: true,
                now: self.now,
            };
            let (step, effects) = restore.next();
            if step == Step::Done {
                continue;
            }
            if going == AT_ONCE {
                break;
            }
            acted |= !effects.is_empty();
            self.effects.extend(effects);
            match step {
                Step::Done => {}
                Step::Going(_) => going += 1,
                Step::Failed(why) | Step::Corrupt(why) => {
                    failed.get_or_insert(format!("{}: {why}", volume.claim));
                }
            }
        }
        match failed {
            Some(why) => return give_up(warm, why, newer && going == 0),
            None if going == 0 => return self.finish(warm, round, (&point, warm_seen)),
            None => warm.failure = None,
        }
        self.recheck = self.recheck.min(if acted { LOOK_CLOSELY } else { LOOK_AT_MOVERS });
    }

    /// The round's point: read when it is not at hand.
    fn point_of(&mut self, round: &WarmRound) -> Result<Option<Point>, String> {
        self.recheck = LOOK_CLOSELY;
        let failure = match see(&self.seen.works, "ReadPoint", self.now) {
            Seen::Done(Outcome::PointRead(point, noted), _) if point.id == round.point => {
                return match noted.as_ref().and_then(|it| it.damage()) {
                    Some(damage) => Err(format!("{}: {damage}", point.id)),
                    None => Ok(Some(point.as_ref().clone())),
                };
            }
            Seen::Waiting(failure) => return failure.map_or(Ok(None), |it| Err(it.message.clone())),
            Seen::Due(failure) => failure.map(|it| it.message.clone()),
            Seen::Done(..) => None,
        };
        self.vault_ready()?;
        let (vault, application, id) = (self.vault_name(), self.key.clone(), round.point.clone());
        self.effects.push(Effect::Begin(Box::new(Work::ReadPoint { vault, application, id })));
        failure.map_or(Ok(None), Err)
    }

    /// What was restored ahead for claims that the point does not have.
    fn drop_others(&mut self, run: &Run, point: &Point, movers: &MoverSettings, made: &[ObjectKey]) {
        let wanted: Vec<_> = point.volumes.iter().map(|it| run.derived(&it.claim)).collect();
        let ours = |it: &&ObjectKey| {
            let home = &movers.namespace;
            let ours = [job_key(home, &it.name), claim_key(home, &it.name)];
            ours.contains(it) && !wanted.contains(&it.name)
        };
        let others: Vec<_> = made.iter().filter(ours).cloned().map(Effect::Delete).collect();
        self.effects.extend(others);
    }

    fn finish(&self, warm: &mut WarmStatus, round: &WarmRound, (point, seen): (&Point, &WarmSeen)) {
        let volumes = seen.volumes.values().filter_map(|it| it.volume.as_ref());
        let bytes = volumes.filter_map(|it| it.annotations.get(TRANSFERRED)?.parse::<u64>().ok()).sum::<u64>();
        let all = point.volumes.iter().map(|it| it.bytes).sum::<u64>();
        // Volumes that were here before are a base, also of a first round: little is transferred then.
        let full = warm.point.is_none() && bytes > 0 && bytes >= all / 10 * 9;
        let seconds = u64::try_from(self.now.duration_since(round.started_at.0).as_secs()).ok();
        *warm = WarmStatus {
            point: Some(round.point.clone()),
            consistent_at: Some(round.consistent_at.clone()),
            finished_at: Some(Time(self.now)),
            bytes,
            full_seconds: if full { seconds } else { warm.full_seconds },
            round: None,
            failure: None,
        };
    }

    /// Nothing is restored ahead here any more: what was is deleted. The volumes go with their claims.
    pub(super) fn let_go_warm(&mut self) {
        let settled = !self.is_warm() || self.status.role == Some(Role::Active);
        let Some(seen) = self.seen.warm.as_ref().filter(|_| settled && self.status.warm.is_some()) else { return };
        if seen.made.is_empty() {
            self.status.warm = None;
            return;
        }
        self.effects.extend(seen.made.iter().cloned().map(Effect::Delete));
        self.recheck = LOOK_CLOSELY;
    }

    /// Keeps warm, or lets go.
    pub(super) fn follow_warm(&mut self) {
        match self.status.role {
            Some(Role::Standby) if self.is_warm() => self.keep_warm(),
            Some(Role::Active | Role::Activating | Role::Fencing | Role::Standby | Role::Unknown) | None => {
                self.let_go_warm();
            }
        }
    }

    /// Whether a failover would find its volumes restored.
    pub(super) fn warm_finding(&self) -> Option<Finding> {
        let warm = self.status.warm.as_ref().filter(|_| self.is_warm())?;
        if let Some(why) = &warm.failure {
            return Some(Finding::new(WARM, false, "Failed", why.clone()));
        }
        Some(match (&warm.point, &warm.consistent_at, &warm.round) {
            (Some(point), Some(at), None) => {
                Finding::new(WARM, true, "RestoredAhead", format!("the volumes are as in {point}, of {}", at.0))
            }
            (Some(point), Some(at), Some(round)) => {
                let message = format!(
                    "the volumes were as in {point}, of {}; what differs in {} is being restored",
                    at.0, round.point
                );
                Finding::new(WARM, true, "RestoringAhead", message)
            }
            (_, _, Some(round)) => {
                Finding::new(WARM, false, "FirstRound", format!("{} is being restored for the first time", round.point))
            }
            (_, _, None) => Finding::new(WARM, Truth::Unknown, "NoPoint", "no recovery point is known yet"),
        })
    }
}

/// It does not go on. Another point may do better: what the volumes are like by then is not known, also when that is
/// the point before.
fn give_up(warm: &mut WarmStatus, why: String, another: bool) {
    warm.failure = Some(why);
    if another {
        let full_seconds = warm.full_seconds;
        *warm = WarmStatus { failure: warm.failure.take(), full_seconds, ..WarmStatus::default() };
    }
}
