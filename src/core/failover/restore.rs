//! The steps that bring the data and the objects back.

use kube::ResourceExt;

use super::{DAMAGED, Next, Pass};
use crate::{
    api::{failover::StepName, restoring::OnConflict, vault::VaultSpec},
    core::{
        claim::state::Wish,
        dump_load::{self, Loads},
        effect::Effect,
        empty_claim,
        point::Point,
        volume_ahead::{AHEAD, TRANSFERRED},
        volume_restore::{Data, Restore, Seen as VolumeSeen, Step, mapped},
        work::{Outcome, Seen, Work},
    },
};

impl Pass<'_> {
    /// Stops what may run here, waits until it is saved, and makes every volume equal to the point.
    pub(super) fn restore_volumes(&mut self) -> Next {
        self.wish(Wish::Hold);
        if let Some(lost) = self.claim_lost() {
            return Next::Fail("LostClaim", lost);
        }
        if let Some(next) = self.leave_point() {
            return next;
        }
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        if self.seen.copy.wanted > 0 || self.seen.copy.pods > 0 {
            self.effects.push(Effect::StopWorkloads { namespace: self.run.namespace.clone() });
            return Next::Stay("what ran here is being stopped".into());
        }
        if let Some(message) = self.unsaved() {
            return Next::Stay(message);
        }
        let vault = match self.point_place() {
            Ok(vault) => vault.shared_by(point.volumes.len()),
            Err(next) => return next,
        };
        let nothing = VolumeSeen::default();
        let mut going = Vec::new();
        let mappings = self.application.mappings(&self.seen.region);
        for volume in &point.volumes {
            let restore = Restore {
                run: &self.run,
                movers: &self.seen.movers,
                application: &self.key,
                vault: &vault,
                point: &point.id,
                volume: &mapped(volume, &mappings),
                data: Data::Snapshot(&[]),
                seen: self.seen.volumes.get(&volume.claim).unwrap_or(&nothing),
                deadline: 24 * 3_600,
                ahead: false,
                now: self.now,
            };
            let (step, effects) = restore.next();
            self.effects.extend(effects);
            match step {
                Step::Done => {}
                Step::Going(what) | Step::Failed(what) => going.push(format!("{}: {what}", volume.claim)),
                Step::Corrupt(why) => return self.pass_over(&point, &volume.claim, &why),
            }
        }
        for skipped in &point.skipped {
            let seen = self.seen.volumes.get(&skipped.claim).unwrap_or(&nothing);
            if let Some(effect) = empty_claim::make(&self.run, skipped, &mappings, seen) {
                self.effects.push(effect);
                going.push(format!("{}: an empty claim is made", skipped.claim));
            }
        }
        if going.is_empty() {
            Next::Go(format!("{} volumes are as in {}{}", point.volumes.len(), point.id, self.ahead()))
        } else {
            Next::Stay(going.join("; "))
        }
    }

    /// What restoring ahead has saved.
    fn ahead(&self) -> String {
        let volumes: Vec<_> = self.seen.volumes.values().filter_map(|it| it.volume.as_ref()).collect();
        let ahead = volumes.iter().filter(|it| it.annotations.contains_key(AHEAD)).count();
        if ahead == 0 {
            return String::new();
        }
        let bytes = volumes.iter().filter_map(|it| it.annotations.get(TRANSFERRED)?.parse::<u64>().ok()).sum::<u64>();
        format!("; {ahead} of them were restored ahead, and {bytes} bytes were transferred now{}", self.saved())
    }

    /// What this step took, against the restore of all the data, where that was measured.
    fn saved(&self) -> String {
        let warm = self.application.status.as_ref().and_then(|it| it.warm.as_ref());
        let begun = self.status.steps.iter().find(|it| it.name == StepName::RestoreVolumes);
        let (Some(full), Some(begun)) = (warm.and_then(|it| it.full_seconds), begun) else { return String::new() };
        let seconds = self.now.duration_since(begun.started_at.0).as_secs();
        format!(": it took {seconds} s, and {full} s when all was restored ahead for the first time")
    }

    /// The vault that the point is read from.
    fn point_place(&self) -> Result<VaultSpec, Next> {
        let name = self.point_vault();
        let copy = self.seen.copies.iter().find(|it| it.name_any() == name);
        let vault = copy.or(self.seen.vault.as_ref().filter(|_| name == self.vault_name()));
        vault.map(|it| it.spec.clone()).ok_or_else(|| Next::Stay(format!("there is no Vault '{name}' in this cluster")))
    }

    /// The point's data is bad: that is written down, and its movers are ended.
    fn pass_over(&mut self, point: &Point, claim: &str, why: &str) -> Next {
        let reason = format!("{}{DAMAGED}{claim}: {why}", point.id);
        self.effects = self.movers_ended();
        self.status.passed_over.push(reason.clone());
        Next::Stay(format!("passed over: {reason}"))
    }

    /// An older point is chosen once no mover of the one that is passed over is left: what such a mover says would
    /// be taken for what the next one says.
    fn leave_point(&mut self) -> Option<Next> {
        let bad = format!("{}: ", self.status.point.as_ref()?);
        let reason = format!("passed over: {}", self.status.passed_over.iter().find(|it| it.starts_with(&bad))?);
        let movers = self.movers_ended();
        if movers.is_empty() {
            return Some(Next::Back(StepName::ChoosePoint, reason));
        }
        self.effects.extend(movers);
        Some(Next::Stay(reason))
    }

    fn movers_ended(&self) -> Vec<Effect> {
        self.seen.made.iter().filter(|it| it.kind == "Job").cloned().map(Effect::Delete).collect()
    }

    /// The point that was chosen: from the survey, which is made again after a restart of the operator.
    fn chosen(&mut self) -> Result<Point, Next> {
        let wanted = self.status.point.clone().unwrap_or_default();
        match self.survey() {
            Seen::Done(Outcome::Surveyed { chosen: Some(point), .. }, _) if point.id == wanted => {
                Ok(point.as_ref().clone())
            }
            Seen::Done(Outcome::Surveyed { .. }, _) => {
                Err(Next::Back(StepName::ChoosePoint, format!("{wanted} is no longer the newest good point")))
            }
            Seen::Done(..) | Seen::Due(_) | Seen::Waiting(_) => Err(Next::Stay("the point is being read".into())),
        }
    }

    /// What this region had written before is saved as a branch before anything is written over.
    fn unsaved(&self) -> Option<String> {
        let settled = match self.application.status.as_ref().and_then(|it| it.fence.as_ref()) {
            Some(fence) => fence.settled,
            // Never seen to stand by: what is bound here and not this run's own work is somebody's data.
            None => self.seen.volumes.values().all(|it| {
                let worked = it.volume.as_ref().and_then(|it| it.run.as_ref()) == Some(&self.run.uid);
                worked || !it.tenant.as_ref().is_some_and(|it| it.bound)
            }),
        };
        (!settled).then(|| {
            "what this region's volumes hold is being saved as a branch first: see its RecoveryPoint (when it is worth \
             nothing and cannot be saved, delete the PersistentVolumeClaims in this namespace)"
                .to_owned()
        })
    }

    /// Objects, workloads last; then everything is started.
    pub(super) fn restore_objects(&mut self) -> Next {
        self.wish(Wish::Hold);
        if let Some(lost) = self.claim_lost() {
            return Next::Fail("LostClaim", lost);
        }
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        let work = Work::RestoreObjects {
            vault: self.point_vault(),
            application: self.key.clone(),
            into: self.key.namespace.clone(),
            manifest: point.objects.manifest.clone(),
            mappings: Box::new(self.application.mappings(&self.seen.region)),
            only: Vec::new(),
            on_conflict: OnConflict::default(),
            epoch: Some(self.epoch()),
            isolated: false,
        };
        match self.working(work, "the objects are being restored") {
            Ok(Outcome::ObjectsRestored { restored, not_restored_count, not_restored, notes }) => {
                self.status.not_restored = not_restored.iter().take(100).cloned().collect();
                let told = format!("{restored} objects are as in the point, {not_restored_count} are not");
                Next::Go(std::iter::once(told).chain(notes).collect::<Vec<_>>().join("; "))
            }
            Ok(_) => Next::Stay("the objects are being restored".into()),
            Err(next) => next,
        }
    }

    /// Gives the databases their dumps whose data is in no volume. What fails is tried again: nobody is sent to an
    /// application without its data.
    pub(super) fn load_dumps(&mut self) -> Next {
        self.wish(Wish::Hold);
        if let Some(lost) = self.claim_lost() {
            return Next::Fail("LostClaim", lost);
        }
        let point = match self.chosen() {
            Ok(point) => point,
            Err(next) => return next,
        };
        let vault = match self.point_place() {
            Ok(vault) => vault.shared_by(point.dumps.len()),
            Err(next) => return next,
        };
        let loads = Loads {
            run: &self.run,
            movers: &self.seen.movers,
            application: self.application,
            of: &self.key,
            vault: &vault,
            point: &point,
            seen: &self.seen.dumps,
            named: None,
            now: self.now,
        };
        let Some(progress) = loads.advance(&mut self.status.dumps) else {
            return Next::Stay("the dumps are about to be loaded".into());
        };
        self.effects.extend(progress.effects);
        match (progress.failed.is_empty(), progress.going.is_empty()) {
            (false, _) => Next::Hindered("DumpNotLoaded", progress.failed.join("; ")),
            (true, false) => Next::Stay(progress.going.join("; ")),
            (true, true) => Next::Go(dump_load::told(&self.status.dumps)),
        }
    }
}
