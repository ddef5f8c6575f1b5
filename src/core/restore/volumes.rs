//! The step that makes volumes equal to the point. What is done to one of them is `core::volume_restore`.

use std::{collections::BTreeSet, sync::LazyLock};

use super::{Next, Pass};
use crate::{
    api::vault::VaultSpec,
    core::{
        effect::Effect,
        empty_claim,
        point::{Point, Skipped, Volume},
        volume_restore::{Restore as VolumeRestore, Seen as VolumeSeen, Step, mapped},
    },
};

static NOTHING: LazyLock<VolumeSeen> = LazyLock::new(VolumeSeen::default);

impl Pass<'_> {
    pub(super) fn restore_volumes(&mut self) -> Next {
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
        let Some(vault) = self.seen.vault.as_ref().map(|it| it.spec.clone()) else {
            return Next::Stay("the Vault object is gone".into());
        };
        let (mut done, mut going, mut all) = (BTreeSet::new(), Vec::new(), Vec::new());
        for volume in &volumes {
            let (step, effects) = self.volume_restore(&vault, volume).next();
            match step {
                Step::Done => {
                    done.insert(volume.claim.as_str());
                }
                Step::Going(what) | Step::Failed(what) => going.push(format!("{}: {what}", volume.claim)),
                Step::Corrupt(why) => {
                    let left = self.left_behind();
                    return Next::Fail(
                        "PointDamaged",
                        format!("volume {} cannot be restored from {}: {why}{left}", volume.claim, point.id),
                    );
                }
            }
            all.extend(effects);
        }
        self.effects.extend(all);
        self.tell_volumes(&volumes, &done);
        for (claim, effect) in missing {
            self.effects.push(effect);
            going.push(format!("{claim}: an empty claim is made"));
        }
        if going.is_empty() {
            Next::Go(format!("{} volumes are as in {}", volumes.len(), point.id))
        } else {
            Next::Stay(going.join("; "))
        }
    }

    /// What is done to one volume.
    pub(super) fn volume_restore<'a>(&'a self, vault: &'a VaultSpec, volume: &'a Volume) -> VolumeRestore<'a> {
        VolumeRestore {
            run: &self.run,
            movers: &self.seen.movers,
            application: &self.key.name,
            vault,
            volume,
            seen: self.seen.volumes.get(&volume.claim).unwrap_or(&NOTHING),
            deadline: 24 * 3_600,
            ahead: false,
            now: self.now,
        }
    }

    /// The wanted claims that are in the point without their data, and not here.
    fn empty_claims(&self, point: &Point) -> Vec<(String, Effect)> {
        let mappings = self.mappings();
        let make = |it: &Skipped| {
            let seen = self.seen.volumes.get(&it.claim).unwrap_or(&NOTHING);
            Some((it.claim.clone(), empty_claim::make(&self.run, it, &mappings, seen)?))
        };
        point.skipped.iter().filter(|it| self.wants_volume(&it.claim)).filter_map(make).collect()
    }

    /// The chosen point, and those of its volumes that are to be restored.
    pub(super) fn volumes(&mut self) -> Result<(Point, Vec<Volume>), Next> {
        let point = self.chosen()?;
        let mappings = self.mappings();
        let wanted = point.volumes.iter().filter(|it| self.wants_volume(&it.claim));
        let volumes = wanted.map(|it| mapped(it, &mappings)).collect();
        Ok((point, volumes))
    }
}
