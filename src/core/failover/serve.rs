//! The steps from ready workloads to the public name.

use jiff::SignedDuration;

use super::{Next, Pass};
use crate::{
    api::application::Probe,
    core::{
        claim::state::Wish,
        effect::Effect,
        work::{Outcome, Publication, Seen, Work, see},
    },
};

/// How often the application is asked again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(2);

impl Pass<'_> {
    /// Every workload that wants to run is ready.
    pub(super) fn await_ready(&mut self) -> Next {
        self.wish(Wish::Hold);
        if self.seen.not_ready.is_empty() {
            Next::Go("every workload is ready".into())
        } else {
            Next::Stay(self.seen.not_ready.join("; "))
        }
    }

    /// The application answers at its new address, before anybody is sent there.
    pub(super) fn probe_address(&mut self) -> Next {
        self.wish(Wish::Hold);
        let probes = self.remote_probes();
        let Some(traffic) = &self.application.spec.traffic else { return Next::Go("no public name is given".into()) };
        let address = match &self.seen.address {
            Ok(address) => address.clone(),
            Err(why) => return Next::Stay(why.clone()),
        };
        self.status.address = Some(address.clone());
        if probes.is_empty() {
            return Next::Go(format!("no http or tcp probe is given; the address is {address}"));
        }
        let Ok(ip) = address.parse() else {
            return Next::Go(format!("{address} is a name of the provider: it is asked through the public name"));
        };
        let at = Some((traffic.hostname.clone(), ip));
        self.ask(probes, at, &format!("it answers at {address}"))
    }

    /// The name gets the address. The intent (`status.address`) stands since the step before.
    pub(super) fn switch_traffic(&mut self) -> Next {
        self.wish(Wish::Hold);
        if let Some(lost) = self.claim_lost() {
            return Next::Fail("LostClaim", lost);
        }
        let Some(traffic) = &self.application.spec.traffic else { return Next::Go("no public name is given".into()) };
        let Some(address) = self.status.address.clone() else { return Next::Stay("the address is not known".into()) };
        let publication = Publication {
            zone: traffic.zone.clone(),
            hostname: traffic.hostname.clone(),
            address: address.clone(),
            ttl: traffic.ttl.as_secs(),
            epoch: self.epoch(),
        };
        let (application, vault) = (self.key.clone(), self.vault_name());
        let done = format!("{} leads to {address}", traffic.hostname);
        match self.working(Work::Publish { publication, application, vault }, "the name is being switched") {
            Ok(_) => Next::Go(done),
            Err(next) => next,
        }
    }

    /// The application answers through its public name.
    pub(super) fn probe_name(&mut self) -> Next {
        self.wish(Wish::Hold);
        let probes = self.remote_probes();
        if probes.is_empty() || self.application.spec.traffic.is_none() {
            return Next::Go("no http or tcp probe is given".into());
        }
        self.ask(probes, None, "it answers through its public name")
    }

    /// The probes that can be asked from anywhere.
    fn remote_probes(&self) -> Vec<Probe> {
        self.application.spec.health.probes.iter().filter(|it| it.workload.is_none()).cloned().collect()
    }

    /// Asks until every probe is answered well.
    fn ask(&mut self, probes: Vec<Probe>, at: Option<(String, std::net::IpAddr)>, done: &str) -> Next {
        let work = Work::Ask { probes, at };
        let begun = self.status.steps.last().map_or(self.now, |it| it.started_at.0);
        let again = |pass: &mut Self| pass.effects.push(Effect::Begin(Box::new(work)));
        match see(&self.seen.works, "Ask", self.now) {
            // Answers of the step before were got another way.
            Seen::Done(_, asked) if asked < begun + SignedDuration::from_secs(1) => {
                again(self);
                Next::Stay("the probes are being asked".into())
            }
            Seen::Done(Outcome::Answered(bad), _) if bad.is_empty() => Next::Go(done.to_owned()),
            Seen::Done(Outcome::Answered(bad), asked) => {
                let message = bad.join("; ");
                if asked + ASK_AGAIN <= self.now {
                    again(self);
                }
                Next::Stay(message)
            }
            Seen::Due(_) => {
                again(self);
                Next::Stay("the probes are being asked".into())
            }
            Seen::Done(..) | Seen::Waiting(_) => Next::Stay("the probes are being asked".into()),
        }
    }
}
