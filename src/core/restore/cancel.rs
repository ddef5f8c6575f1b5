//! What a run that is cancelled still does: it gives back what it has in its hands, and says what it leaves.

use super::{Next, Pass};
use crate::{
    api::restore::RestoreStepName,
    core::{
        dump_load,
        point::Volume,
        volume_restore::{Held, Step},
    },
};

impl Pass<'_> {
    /// The last step, in place of the one that went on. Before anything is begun there is nothing to give back.
    pub(super) fn cancelled(&mut self, step: RestoreStepName) {
        let message = "cancelled by spec.cancel";
        self.note(step, message);
        if step < RestoreStepName::Stop {
            self.end_without_success(step, "Cancelled", format!("{message}: nothing was changed"));
        } else {
            self.leave(step);
            self.enter(RestoreStepName::Cancel);
        }
    }

    pub(super) fn cancel(&mut self) -> Next {
        if self.object.loads_elsewhere() {
            return self.loading_ended();
        }
        if self.object.exports_to().is_some() {
            return self.export_ended();
        }
        let steps: Vec<_> = self.status.steps.iter().map(|it| it.name).collect();
        if steps.contains(&RestoreStepName::Start) {
            let loading = dump_load::unsettled(&self.status.dumps);
            if loading.is_empty() {
                return self.started("what was to be restored is as in the point");
            }
            let names = loading.join(", ");
            return self.started(&format!("all but the dumps is as in the point, and of {names} a part may be loaded"));
        }
        let objects = steps.contains(&RestoreStepName::RestoreObjects);
        let some = if objects { "some objects may be as in the point" } else { "no object was changed" };
        let volumes = steps.contains(&RestoreStepName::RestoreVolumes);
        match if volumes { self.given_back() } else { Ok(Vec::new()) } {
            // No volume is other than it was.
            Ok(told) if told.is_empty() => self.started(if objects { some } else { "nothing was changed" }),
            Ok(told) => {
                let told = told.join("; ");
                Next::Fail("Cancelled", format!("cancelled: {told}; {some}{}", self.left_behind()))
            }
            Err(next) => next,
        }
    }

    /// Nothing half done is in the way of the application.
    fn started(&mut self, what: &str) -> Next {
        match self.start() {
            Next::Go(_) => {
                self.started = true;
                Next::Fail("Cancelled", format!("cancelled: {what}, and what was stopped is started"))
            }
            waiting => waiting,
        }
    }

    /// How the application has each volume now that was to be restored. Nothing when all of them are as they were.
    fn given_back(&mut self) -> Result<Vec<String>, Next> {
        let (point, volumes) = self.volumes()?;
        let task = self.export_task(&point);
        let Some(vault) = self.seen.vault.as_ref().map(|it| it.spec.clone()) else {
            return Err(Next::Stay("the Vault object is gone".into()));
        };
        let (mut going, mut told, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        for volume in &volumes {
            let restore = self.volume_restore(&vault, volume, task.as_ref());
            let (step, wanted) = restore.give_back();
            effects.extend(wanted);
            match step {
                Step::Done => told.push((volume, restore.held())),
                Step::Going(what) | Step::Failed(what) | Step::Corrupt(what) => {
                    going.push(format!("{}: {what}", volume.claim));
                }
            }
        }
        let touched = told.iter().any(|(_, it)| *it != Held::Untouched);
        let told =
            if touched { told.into_iter().map(|(volume, held)| left(volume, held)).collect() } else { Vec::new() };
        self.effects.extend(effects);
        if going.is_empty() { Ok(told) } else { Err(Next::Stay(going.join("; "))) }
    }
}

fn left(volume: &Volume, held: Held) -> String {
    let how = match held {
        Held::Untouched => "is as it was",
        Held::Partly => "may be half restored",
        Held::Whole => "is as in the point",
    };
    format!("volume {} {how}", volume.claim)
}
