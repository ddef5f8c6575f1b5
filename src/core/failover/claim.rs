//! The steps up to the point that is restored: the claim, the catalogue, the choice.

use jiff::SignedDuration;

use super::{DAMAGED, Next, Pass};
use crate::{
    api::{
        application::{Role, Verdict},
        failover::{Initiator, StepName},
    },
    core::{
        application::resumes,
        claim::state::Wish,
        condition::{self, COMPARE_AND_SWAP, READY},
        copies::{answered_by, failing},
        effect::Effect,
        work::{Failure, Outcome, REASONS, Seen, Work, see},
    },
};

/// So many points of which the data is damaged, and a copy is looked for before yet another one is tried.
const DAMAGES: usize = 3;

impl<'a> Pass<'a> {
    /// Nothing is taken yet: the claim has to fall silent for its `wait`, or to be released.
    pub(super) fn wait_out_claim(&mut self) -> Next {
        if let Err(message) = self.vault_trusted() {
            // A holder that was asked before must not stop for a run that cannot take the claim.
            if self.seen.claim.as_ref().is_some_and(|it| !it.mine) {
                self.wish(Wish::Watch);
            }
            return Next::Stay(message);
        }
        let Some(view) = self.seen.claim.clone() else { return Next::Stay("the claim is being read".into()) };
        if let Some(conflict) = view.conflict {
            return Next::Stay(conflict);
        }
        if view.mine {
            if self.serves_already(view.epoch) {
                let message = format!(
                    "{} holds the claim, and its own copy is the newest: nothing was moved, and nothing restored",
                    self.seen.region
                );
                return Next::Fail("AlreadyActive", message);
            }
            // A run before this one took the claim and did not come to an end: this one goes on from there.
            self.status.epoch = Some(view.epoch);
            return Next::Go("this region holds the claim already".into());
        }
        if self.object.spec.initiator == Initiator::Operator && self.recovered() && !view.holder_silent() {
            return Next::Fail(
                "Recovered",
                "the application answers again, and the holder renews its claim: nothing was moved".into(),
            );
        }
        if !view.readable {
            return Next::Stay(format!(
                "the claim cannot be read: {}",
                view.last_error.as_deref().unwrap_or("no answer")
            ));
        }
        // Harmless, and it may take a while: what would be restored is looked up meanwhile.
        let survey = self.survey();
        if let Seen::Done(Outcome::Surveyed { chosen: None, passed_over }, _) = survey {
            let message = format!(
                "there is no good recovery point in the vault, so nothing is taken: {}",
                passed_over.join("; ")
            );
            return Next::Fail("NoRecoveryPoint", message);
        }
        if view.seizable {
            if !matches!(survey, Seen::Done(..)) {
                return Next::Stay(format!("the claim is free; {}", self.survey_message()));
            }
            self.status.epoch = Some(view.epoch + 1);
            self.status.from.clone_from(&view.holder);
            return Next::Go("the claim is free to be taken".into());
        }
        let holder = view.holder.as_deref().unwrap_or("nobody");
        if view.holder_silent() {
            let silent = view.silent_for;
            // Rounded, so that the status is not written each second.
            return Next::Stay(format!("{holder} has been silent for more than {} s", silent / 10 * 10));
        }
        if !matches!(survey, Seen::Done(..)) {
            // A holder that stops for nothing is an outage: it is asked only once it is known what would be restored.
            return Next::Stay(self.survey_message());
        }
        self.wish(Wish::RequestHandover { to: self.seen.region.clone(), run: self.run.name.clone() });
        Next::Stay(format!("{holder} renews its claim: it is asked to stop the application and to hand over"))
    }

    /// Whether this region is active under this epoch, or only stopped what it is about to start again: restoring here
    /// would set its own data back to the last point.
    fn serves_already(&self, epoch: u64) -> bool {
        let Some(status) = &self.application.status else { return false };
        let active = status.role == Some(Role::Active) && status.epoch == Some(epoch);
        active || status.fence.as_ref().is_some_and(|it| it.epoch == epoch || resumes(it, epoch))
    }

    fn recovered(&self) -> bool {
        self.seen.health.as_ref().is_some_and(|it| it.verdict == Verdict::Healthy)
    }

    /// The intent (the epoch) stands in the status: now it is taken.
    pub(super) fn seize_claim(&mut self) -> Next {
        let Some(view) = self.seen.claim.clone() else { return Next::Stay("the claim is being read".into()) };
        let epoch = self.epoch();
        if view.mine && view.epoch == epoch && view.valid {
            return Next::Go(format!("{} holds the claim with epoch {epoch}", self.seen.region));
        }
        if view.epoch > epoch || (view.epoch == epoch && !view.mine) {
            let holder = view.holder.as_deref().unwrap_or("another region");
            return Next::Fail("LostRace", format!("{holder} took the claim with epoch {}", view.epoch));
        }
        if let Some(conflict) = view.conflict {
            return Next::Stay(conflict);
        }
        if !view.mine && !view.seizable && view.readable && !view.holder_silent() {
            return Next::Fail(
                "HolderReturned",
                "the holder renewed its claim before it was taken: nothing was moved".into(),
            );
        }
        self.wish(Wish::Seize { epoch, reason: format!("Failover {}", self.run.name) });
        Next::Stay(format!("the claim is being taken with epoch {epoch}"))
    }

    /// From here on no point of an older epoch enters the catalogue.
    pub(super) fn seal_catalogue(&mut self) -> Next {
        self.wish(Wish::Hold);
        if let Some(lost) = self.claim_lost() {
            return Next::Fail("LostClaim", lost);
        }
        let (vault, application, epoch) = (self.vault_name(), self.key.clone(), self.epoch());
        let work = Work::SealCatalogue { vault, application, epoch };
        match self.working(work, "the catalogue is being sealed") {
            Ok(_) => Next::Go(format!("sealed with epoch {epoch}")),
            // The head of a claim that was lost, which the next look at the claim tells; or of one that was set back.
            Err(Next::Hindered(reason, why)) => Next::Hindered(
                reason,
                format!(
                    "{why}, and this run's epoch is {epoch}: it ends when another region holds the claim; when none \
                     does, the claim was set back (docs/claim.md, \"A claim in conflict\")"
                ),
            ),
            Err(next) => next,
        }
    }

    /// The newest good point of those that entered before the seal.
    pub(super) fn choose_point(&mut self) -> Next {
        self.wish(Wish::Hold);
        if let Some(lost) = self.claim_lost() {
            return Next::Fail("LostClaim", lost);
        }
        let begun = self.status.steps.last().map_or(self.now, |it| it.started_at.0);
        match self.survey() {
            // One from before the seal may miss the last point: it is asked for again. Steps begin at whole seconds.
            Seen::Done(_, at) if at < begun + SignedDuration::from_secs(1) => {
                let work = self.survey_work();
                self.effects.push(Effect::Begin(Box::new(work)));
                Next::Stay("the points are being read".into())
            }
            Seen::Done(Outcome::Surveyed { chosen: Some(point), passed_over }, _) => {
                self.status.point = Some(point.id.clone());
                self.status.consistent_at = Some(condition::whole_second(point.consistent_at));
                // The oldest of them bounds the next choice, so it is the newest that are forgotten.
                self.status.passed_over.extend(passed_over.iter().cloned());
                let surplus = self.status.passed_over.len().saturating_sub(REASONS);
                self.status.passed_over.drain(..surplus);
                let why = self.status.vault_reason.as_ref();
                let copy =
                    why.map_or_else(String::new, |why| format!(", from the copy in {}: {why}", self.point_vault()));
                Next::Go(format!("{} of {}{copy}", point.id, point.consistent_at))
            }
            Seen::Done(Outcome::Surveyed { chosen: None, passed_over }, at) => {
                if at + SignedDuration::from_secs(30) <= self.now {
                    let work = self.survey_work();
                    self.effects.push(Effect::Begin(Box::new(work)));
                }
                let all = [self.status.passed_over.as_slice(), passed_over].concat();
                Next::Stay(format!("there is no good recovery point: {}", all.join("; ")))
            }
            Seen::Done(..) | Seen::Due(_) | Seen::Waiting(_) => Next::Stay(self.survey_message()),
        }
    }

    /// The survey of the points, begun when it is due.
    pub(super) fn survey(&mut self) -> Seen<'a> {
        let here = self.point_vault();
        let other = answered_by(&self.seen.works, "SurveyPoints").is_some_and(|it| it != here);
        if other || self.look_elsewhere(&here) {
            let work = self.survey_work();
            self.effects.push(Effect::Begin(Box::new(work)));
            return Seen::Waiting(None);
        }
        if let Seen::Due(_) = see(&self.seen.works, "SurveyPoints", self.now) {
            let work = self.survey_work();
            self.effects.push(Effect::Begin(Box::new(work)));
        }
        see(&self.seen.works, "SurveyPoints", self.now)
    }

    /// Whether the next vault is asked from now on, since this one does not serve. Not once a point was chosen.
    fn look_elsewhere(&mut self, here: &str) -> bool {
        let choosing = matches!(self.status.step, Some(StepName::WaitOutClaim | StepName::ChoosePoint));
        let damaged = self.status.passed_over.iter().filter(|it| it.contains(DAMAGED)).count();
        let why = match failing(&self.seen.works, "SurveyPoints", here) {
            None if damaged >= DAMAGES => Some(format!("the data of {damaged} points is damaged")),
            why => why,
        };
        let next = self.application.vaults().skip_while(|it| *it != here).nth(1);
        let (Some(why), Some(next), true) = (why, next, choosing) else { return false };
        let before = self.status.vault_reason.take().map_or_else(String::new, |it| format!("{it}; "));
        self.status.vault_reason = Some(format!("{before}{here}: {why}"));
        self.status.vault = Some(next.to_owned());
        // What is damaged there need not be so here.
        self.status.passed_over.clear();
        let note = format!("the point is looked for in {next}: {here}: {why}");
        self.effects.push(Effect::warn("LooksInCopy", note));
        true
    }

    fn survey_work(&self) -> Work {
        let last = self.status.passed_over.last().and_then(|it| it.split_once(": "));
        let older_than = last.map(|(id, _)| id.to_owned());
        let minimum = self.application.spec.failover.minimum_level;
        Work::SurveyPoints { vault: self.point_vault(), application: self.key.clone(), older_than, minimum }
    }

    fn survey_message(&self) -> String {
        match see(&self.seen.works, "SurveyPoints", self.now) {
            Seen::Due(Some(it)) | Seen::Waiting(Some(it)) => it.message.clone(),
            Seen::Due(None) | Seen::Waiting(None) | Seen::Done(..) => "the points are being read".to_owned(),
        }
    }

    fn vault_trusted(&self) -> Result<(), String> {
        let name = self.vault_name();
        let Some(vault) = &self.seen.vault else {
            return Err(format!("spec.backup.vaults: there is no Vault '{name}' in this cluster"));
        };
        let conditions = vault.status.as_ref().map_or(&[][..], |it| &it.conditions);
        for type_ in [READY, COMPARE_AND_SWAP] {
            match condition::find(conditions, type_) {
                Some(it) if it.status == "True" => {}
                Some(it) => return Err(format!("vault {name}: {}", it.message)),
                None => return Err(format!("vault {name} was not tested yet")),
            }
        }
        Ok(())
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        self.effects.push(Effect::Wish { application: self.key.clone(), wish });
    }

    /// The outcome of a piece of work, which is begun when it is due.
    pub(super) fn working(&mut self, work: Work, meanwhile: &str) -> Result<Outcome, Next> {
        let say = |failure: Option<&Failure>| match failure {
            Some(it) if it.lasting => Next::Hindered(it.reason, it.message.clone()),
            Some(it) => Next::Stay(it.message.clone()),
            None => Next::Stay(meanwhile.to_owned()),
        };
        match see(&self.seen.works, work.name(), self.now) {
            Seen::Done(outcome, _) => Ok(outcome.clone()),
            Seen::Waiting(failure) => Err(say(failure)),
            Seen::Due(failure) => {
                self.effects.push(Effect::Begin(Box::new(work)));
                Err(say(failure))
            }
        }
    }
}
