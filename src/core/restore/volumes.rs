//! The step that makes volumes equal to the point. What is done to one of them is `core::volume_restore`.

use std::{collections::BTreeSet, sync::LazyLock};

use super::{Next, Pass, export};
use crate::{
    api::{restore::RestoreProgress, vault::VaultSpec},
    core::{
        effect::Effect,
        empty_claim,
        mover_task::Task,
        paths,
        point::{Point, Skipped, Volume},
        volume_restore::{Data, Held, Restore as VolumeRestore, Seen as VolumeSeen, Step},
        work::REASONS,
    },
};

static NOTHING: LazyLock<VolumeSeen> = LazyLock::new(VolumeSeen::default);

impl Pass<'_> {
    pub(super) fn restore_volumes(&mut self) -> Next {
        if let Some(next) = self.leave_point() {
            return next;
        }
        let (point, volumes) = match self.volumes() {
            Ok(it) => it,
            Err(next) => return next,
        };
        let missing = self.empty_claims(&point);
        if volumes.is_empty() && missing.is_empty() {
            return Next::Go("no volume is restored".into());
        }
        if self.runs() {
            return Next::Stay("something was started meanwhile, and is being stopped".into());
        }
        let Some(vault) = self.seen.vault.as_ref().map(|it| it.spec.shared_by(volumes.len())) else {
            return Next::Stay("the Vault object is gone".into());
        };
        let task = self.export_task(&point);
        if let Some(volume) = volumes.iter().find(|it| self.in_the_way(&self.volume_restore(&vault, it, task.as_ref())))
        {
            let (claim, namespace, left) = (&volume.claim, &self.run.namespace, self.left_behind());
            let why = format!(
                "the claim {claim} is in namespace {namespace} already, and no volume is written over there: delete it, or \
                 leave it out by spec.only{left}"
            );
            return Next::Fail("ClaimExists", why);
        }
        let (mut done, mut going, mut all) = (BTreeSet::new(), Vec::new(), Vec::new());
        for volume in &volumes {
            let restore = self.volume_restore(&vault, volume, task.as_ref());
            let (step, effects) = restore.next();
            let nothing = restore.found_nothing();
            match step {
                Step::Done => {
                    done.insert(volume.claim.as_str());
                    let told = paths::fit_nothing_of(&volume.claim);
                    if nothing && !self.status.not_restored.contains(&told) {
                        self.status.not_restored.push(told);
                    }
                }
                Step::Going(what) | Step::Failed(what) => going.push(format!("{}: {what}", volume.claim)),
                Step::Corrupt(why) => return self.pass_over(&point, &volume.claim, &why),
            }
            all.extend(effects);
        }
        self.effects.extend(all);
        self.tell_volumes(&volumes, &done);
        for (claim, effect) in missing {
            self.effects.push(effect);
            going.push(format!("{claim}: an empty claim is made"));
        }
        if going.is_empty() && task.is_some() {
            Next::Go(format!("what is wanted of {} is exported", point.id))
        } else if going.is_empty() {
            Next::Go(format!("{} volumes are as in {}", volumes.len(), point.id))
        } else {
            Next::Stay(going.join("; "))
        }
    }

    /// In another namespace: a claim that this run did not make.
    fn in_the_way(&self, volume: &VolumeRestore<'_>) -> bool {
        !self.in_place() && volume.seen.tenant.is_some() && volume.held() == Held::Untouched
    }

    /// The point's data is bad. One that was named is what is wanted, and nothing else; in the place of the newest good
    /// one comes the next older one. That is written down, and movers are ended.
    fn pass_over(&mut self, point: &Point, claim: &str, why: &str) -> Next {
        if self.object.spec.point.name.is_some() {
            let left = self.left_behind();
            return Next::Fail(
                "PointDamaged",
                format!("volume {claim} cannot be restored from {}: {why}{left}", point.id),
            );
        }
        let reason = format!("{}: volume {claim}: {why}", point.id);
        self.effects = self.movers_ended();
        self.status.passed_over.push(reason.clone());
        Next::Stay(format!("passed over: {reason}"))
    }

    /// When the point was passed over, the next older one takes its place, once no mover of it is left: what such a mover
    /// says would be taken for what the next one says. The step stays the same, since volumes are in its hands.
    fn leave_point(&mut self) -> Option<Next> {
        let id = self.status.point.clone()?;
        let bad = format!("{id}: ");
        let reason = format!("passed over: {}", self.status.passed_over.iter().find(|it| it.starts_with(&bad))?);
        let movers = self.movers_ended();
        if !movers.is_empty() {
            self.effects.extend(movers);
            return Some(Next::Stay(reason));
        }
        let choice = self.object.spec.point.clone();
        let (older, passed_over) = match self.found(choice, Some(id.clone())) {
            Ok(it) => it,
            Err(next) => return Some(next),
        };
        // What was found before is this point itself.
        if older.as_ref().is_some_and(|it| it.id >= id) {
            self.find(self.object.spec.point.clone(), Some(id));
            return Some(Next::Stay(format!("{reason}: an older point is looked for")));
        }
        let Some(older) = older else {
            let left = self.left_behind();
            return Some(Next::Fail("PointDamaged", format!("{reason}, and no older point is good{left}")));
        };
        if let Some((why, message)) = self.lacking(&older) {
            return Some(Next::Fail(why, format!("{reason}; {message}{}", self.left_behind())));
        }
        self.status.not_restored.clear();
        self.status.passed_over.extend(passed_over);
        self.status.passed_over.truncate(2 * REASONS);
        let volumes_total = self.status.progress.take().map_or(0, |it| it.volumes_total);
        self.status.progress = Some(RestoreProgress { volumes_total, ..self.blank() });
        self.take(&older);
        Some(Next::Stay(format!("{reason}: {} is restored in its place", older.id)))
    }

    fn movers_ended(&self) -> Vec<Effect> {
        self.seen.made.iter().filter(|it| it.kind == "Job").cloned().map(Effect::Delete).collect()
    }

    /// What is done to one volume.
    pub(super) fn volume_restore<'a>(
        &'a self,
        vault: &'a VaultSpec,
        volume: &'a Volume,
        task: Option<&'a Task>,
    ) -> VolumeRestore<'a> {
        VolumeRestore {
            run: &self.run,
            movers: &self.seen.movers,
            application: &self.key,
            vault,
            point: self.status.point.as_deref().unwrap_or_default(),
            volume,
            data: task.map_or_else(|| Data::Snapshot(self.paths_of(&volume.claim)), Data::Task),
            seen: self.seen.volumes.get(&volume.claim).unwrap_or(&NOTHING),
            deadline: 24 * 3_600,
            ahead: false,
            now: self.now,
        }
    }

    /// The paths of this volume that are to be restored. None: all of it.
    pub(super) fn paths_of(&self, claim: &str) -> &[String] {
        let only = self.object.spec.only.as_ref().map_or(&[][..], |it| &it.volumes);
        only.iter().find(|it| it.claim == claim).map_or(&[], |it| &it.paths)
    }

    /// The wanted claims that are in the point without their data, and not here.
    fn empty_claims(&self, point: &Point) -> Vec<(String, Effect)> {
        let mappings = self.mappings();
        let make = |it: &Skipped| {
            let seen = self.seen.volumes.get(&it.claim).unwrap_or(&NOTHING);
            Some((it.claim.clone(), empty_claim::make(&self.run, it, &mappings, seen)?))
        };
        let wanted = |it: &&Skipped| self.object.spec.export.is_none() && self.object.wants_volume(&it.claim);
        point.skipped.iter().filter(wanted).filter_map(make).collect()
    }

    /// The chosen point, and those of its volumes that are to be restored.
    pub(super) fn volumes(&mut self) -> Result<(Point, Vec<Volume>), Next> {
        let point = self.chosen()?;
        let volumes = export::volumes(self.object, &point, &self.mappings());
        Ok((point, volumes))
    }
}
