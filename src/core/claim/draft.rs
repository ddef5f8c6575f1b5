//! What a region writes into a claim, if anything, given what it remembers and what is wanted of it.
//!
//! Whether it is time for it is `State::write_due`; sending it is `operator::keeper`.

use super::{
    record::{Claim, Entry, FORMAT, Handover, Intent, Purpose},
    rules::rule,
    state::{Flight, MAX_OUTSTANDING, Seen, Sent, Settings, State, Wish},
    step::{Act, Expected},
    time::{Now, Since},
};

impl State {
    /// What a write would be for, if one is wanted and allowed.
    pub(super) fn wanted(&self, settings: &Settings, now: Now) -> Option<Purpose> {
        let conflict = rule!(ConflictWritesNothing, self.conflict.is_some(), off: false);
        if self.unresolved || conflict || self.seen.is_none() {
            return None;
        }
        match &self.wish {
            Wish::Undecided => None,
            Wish::Watch => self.asked_for(settings).then_some(Purpose::Decline),
            Wish::Hold => self.renewable(settings).or_else(|| {
                let absent = matches!(self.seen, Some(Seen::Absent));
                (absent && settings.first() && self.seizable(settings, now)).then_some(Purpose::Seize)
            }),
            Wish::Seize { epoch, .. } if self.own.as_ref().is_some_and(|own| own.epoch == *epoch) => {
                self.renewable(settings)
            }
            Wish::Seize { epoch, .. } => {
                let next = self.claim().map_or(0, |it| it.epoch) + 1;
                (next == *epoch && self.seizable(settings, now)).then_some(Purpose::Seize)
            }
            Wish::Release { .. } => self.named(settings).then_some(Purpose::Release),
            Wish::RequestHandover { run, .. } => {
                let claim = self.claim()?;
                let others = claim.holder.as_ref().is_some_and(|it| *it != settings.region);
                let open = match &claim.intent {
                    Intent::None => true,
                    // Of a run before this one.
                    Intent::Handover(it) => it.to == settings.region && it.run != *run,
                    Intent::Released { .. } => false,
                };
                (others && open).then_some(Purpose::Request)
            }
        }
    }

    /// Whether the claim says that this region wants it: by a request, or by a release to it that it has not taken.
    fn asked_for(&self, settings: &Settings) -> bool {
        let me = Some(&settings.region);
        self.claim().is_some_and(|it| match &it.intent {
            Intent::None => false,
            Intent::Handover(it) => Some(&it.to) == me,
            // What a person released has nobody to be given back to.
            Intent::Released { to, from, .. } => to.as_ref() == me && from.is_some() && from.as_ref() != me,
        })
    }

    /// A region that fenced itself in this epoch does not renew it.
    fn renewable(&self, settings: &Settings) -> Option<Purpose> {
        let fenced = rule!(FencedRenewsNoMore, self.is_fenced(settings), off: false);
        (self.own.is_some() && self.named(settings) && !fenced).then_some(Purpose::Renew)
    }

    /// Makes the next version and notes that it is in flight.
    pub(super) fn write(&mut self, settings: &Settings, purpose: Purpose, now: Now) -> Act {
        self.count += 1;
        let claim = self.draft(settings, purpose, now);
        let expected = match &self.seen {
            Some(Seen::Present { tag, .. }) => Expected::Unchanged(tag.clone()),
            Some(Seen::Absent) | None => Expected::Absent,
        };
        let confirmed = self.confirmed(purpose, claim.epoch);
        let holds = match purpose {
            Purpose::Renew | Purpose::Seize | Purpose::Release => true,
            Purpose::Request | Purpose::Decline => false,
        };
        let entry = rule!(WrittenDownBeforeItIsSent, holds, off: false).then(|| Entry {
            boot_id: self.boot_id.clone(),
            purpose,
            epoch: claim.epoch,
            seq: claim.seq,
            nonce: claim.nonce.clone(),
            deadlines: claim.deadlines,
            sent: now,
            confirmed,
        });
        if let (Purpose::Release, Some(own)) = (purpose, &mut self.own) {
            // From here on anybody may hold it, whether or not an answer comes.
            own.since = rule!(ReleaseEndsTheValidity, Since::Unknown, off: own.since);
        }
        if self.outstanding.len() == MAX_OUTSTANDING {
            // If this one lands after all, it proves no validity, which is safe; its shorter deadlines stay in force.
            let forgotten = self.outstanding.remove(0);
            if let Some(own) = self.own.as_mut().filter(|own| forgotten.deadlines.hold < own.deadlines.hold) {
                own.deadlines = forgotten.deadlines;
            }
        }
        self.outstanding.push(Sent {
            nonce: claim.nonce.clone(),
            epoch: claim.epoch,
            purpose,
            since: Since::Proven(now),
            deadlines: claim.deadlines,
        });
        self.wrote_at = Some(now.boot);
        self.flight = Flight::Writing(Box::new(claim.clone()));
        Act::Write { expected, claim, entry }
    }

    /// Since when the claim may count, if the version that is about to be sent never lands.
    fn confirmed(&self, purpose: Purpose, epoch: u64) -> Option<Now> {
        let proven = |since: Since| match since {
            Since::Proven(at) => Some(at),
            Since::Wall(_) | Since::Unknown => None,
        };
        match purpose {
            Purpose::Renew => self.own.as_ref().and_then(|own| proven(own.since)),
            // An earlier attempt at the same epoch may land late, and then counts from when it was sent.
            Purpose::Seize => {
                let attempts = self.outstanding.iter().filter(|it| it.purpose == purpose && it.epoch == epoch);
                attempts.filter_map(|it| proven(it.since)).min_by_key(|it| it.boot)
            }
            Purpose::Release | Purpose::Request | Purpose::Decline => None,
        }
    }

    fn draft(&self, settings: &Settings, purpose: Purpose, now: Now) -> Claim {
        let fresh = Claim {
            format: FORMAT,
            group: settings.group.clone(),
            epoch: 0,
            holder: None,
            candidates: settings.candidates.clone(),
            seq: 0,
            nonce: String::new(),
            intent: Intent::None,
            deadlines: settings.deadlines,
            reason: "first claim".to_owned(),
            health: None,
            renewed_at: now.wall,
        };
        let mut claim = self.claim().cloned().unwrap_or(fresh);
        claim.seq += 1;
        claim.nonce = format!("{}.{}.{}", settings.region, self.instance, self.count);
        match purpose {
            Purpose::Renew => self.sign(settings, &mut claim, now),
            Purpose::Seize => {
                claim.epoch += 1;
                claim.holder = Some(settings.region.clone());
                claim.intent = Intent::None;
                if let Wish::Seize { reason, .. } = &self.wish {
                    claim.reason.clone_from(reason);
                }
                self.sign(settings, &mut claim, now);
            }
            Purpose::Release => {
                if let Wish::Release { to, point, reason } = &self.wish {
                    claim.holder = None;
                    claim.reason.clone_from(reason);
                    let from = Some(settings.region.clone());
                    let (to, point, reason) = (to.clone(), point.clone(), reason.clone());
                    claim.intent = Intent::Released { to, from, point, reason };
                    claim.health = None;
                }
            }
            Purpose::Request => {
                if let Wish::RequestHandover { to, run } = &self.wish {
                    claim.intent = Intent::Handover(Handover { to: to.clone(), run: run.clone() });
                }
            }
            Purpose::Decline => {
                claim.intent = match claim.intent {
                    Intent::None | Intent::Handover(_) => Intent::None,
                    Intent::Released { to: _, from, point, reason } => {
                        Intent::Released { to: from.clone(), from, point, reason }
                    }
                };
            }
        }
        claim
    }

    /// What only a holder says.
    fn sign(&self, settings: &Settings, claim: &mut Claim, now: Now) {
        claim.candidates.clone_from(&settings.candidates);
        claim.deadlines = settings.deadlines;
        claim.health = self.health;
        claim.renewed_at = now.wall;
    }
}
