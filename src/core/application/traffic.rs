//! The public name while the application is active here: published once, and again when its address changes.

use jiff::SignedDuration;

use super::Pass;
use crate::{
    api::application::{Published, Role},
    core::{
        claim::view::View,
        effect::Effect,
        work::{Outcome, Progress, Publication, Seen, Work, see},
    },
};

/// How often what is published is compared with what stands in DNS.
const VERIFY_EVERY: SignedDuration = SignedDuration::from_hours(1);

impl Pass<'_> {
    /// Publishes the address of the Service under the epoch of the claim.
    ///
    /// Only once the role and the epoch stand in the observed status: DNS cannot be undone.
    pub(super) fn publish(&mut self, view: &View) {
        let Some(traffic) = &self.object.spec.traffic else { return };
        if let Some(Progress::Done { work, outcome: Outcome::Done, .. }) = self.seen.works.get("Publish")
            && let Work::Publish { publication, .. } = work.as_ref()
        {
            self.status.published = Some(Published {
                hostname: publication.hostname.clone(),
                address: publication.address.clone(),
                epoch: publication.epoch,
            });
        }
        let observed = self.object.status.as_ref();
        let intended = observed.is_some_and(|it| it.role == Some(Role::Active) && it.epoch == Some(view.epoch));
        let (Ok(address), Ok(()), true, true) = (&self.seen.address, self.zone_ready(), intended, view.valid) else {
            return;
        };
        let wanted = Published { hostname: traffic.hostname.clone(), address: address.clone(), epoch: view.epoch };
        let due = match see(&self.seen.works, "Publish", self.now) {
            Seen::Due(_) => true,
            Seen::Waiting(_) => false,
            Seen::Done(_, at) => self.status.published.as_ref() != Some(&wanted) || at + VERIFY_EVERY <= self.now,
        };
        if due {
            let publication = Publication {
                zone: traffic.zone.clone(),
                hostname: wanted.hostname,
                address: wanted.address,
                ttl: traffic.ttl.as_secs(),
                epoch: wanted.epoch,
            };
            let (application, vault) = (self.key.clone(), self.vault_name());
            self.effects.push(Effect::Begin(Box::new(Work::Publish { publication, application, vault })));
        }
    }

    /// What the last try to publish met.
    pub(super) fn publish_failure(&self) -> Option<(&'static str, String)> {
        match self.seen.works.get("Publish") {
            Some(Progress::Failed { failure, .. }) => Some((failure.reason, failure.message.clone())),
            Some(Progress::Running | Progress::Done { .. }) | None => None,
        }
    }
}
