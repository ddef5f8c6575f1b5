//! What to do about a `DnsZone`: prove server and key at start and daily, and say what is wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    condition::{self, Finding, READY},
    effect::{Decision, Effect},
    work::{Failure, Seen, Work, Works, see},
};
use crate::api::dns_zone::{DnsZone, DnsZoneStatus};

/// How often a zone that passed is tested again.
const TEST_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// Everything that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Work in progress. A changed zone or Secret starts with none: the shell forgets the old.
    pub works: Works,
}

/// Decides what to do about `zone`.
#[must_use]
pub fn decide(zone: &DnsZone, seen: &Observed, now: Timestamp) -> Decision<DnsZoneStatus> {
    let mut status = zone.status.clone().unwrap_or_default();
    let generation = zone.metadata.generation;
    status.observed_generation = generation;
    let test = || Effect::Begin(Box::new(Work::TestZone { zone: zone.name_any() }));
    let mut effects = Vec::new();
    let wrong = |failure: &Failure| Finding::new(READY, false, failure.reason, failure.message.clone());
    let mut recheck = Duration::from_secs(15);
    let finding = match see(&seen.works, "TestZone", now) {
        Seen::Done(_, at) => {
            status.tested_at = Some(Time(at));
            if at + TEST_EVERY <= now {
                effects.push(test());
            }
            recheck = Duration::from_hours(1);
            Some(Finding::new(
                READY,
                true,
                "Answered",
                "the server answers for the zone, and takes updates signed with the key",
            ))
        }
        Seen::Due(failure) => {
            effects.push(test());
            failure.map(wrong)
        }
        Seen::Waiting(failure) => failure.map(wrong),
    };
    if let Some(finding) = finding {
        let news = condition::find(&status.conditions, READY).is_none_or(|old| old.status != finding.truth.as_str());
        if news {
            let good = finding.truth == condition::Truth::True;
            let tell = if good { Effect::note } else { Effect::warn };
            effects.push(tell(finding.reason, finding.message.clone()));
        }
        status.conditions = condition::conditions(&status.conditions, vec![finding], generation, now);
    }
    Decision { status, effects, recheck: Some(recheck) }
}
