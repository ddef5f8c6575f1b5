//! What is noted in the vault of damaged points: by a scrub that looked for it, and by whoever needed a point and met it.
//!
//! What was met says little of where the damage is. So a scrub looks at all that such a point needs: it looks its
//! directories and chunks up, has all its packs read, and reads its objects. From then on the note names packs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use jiff::Timestamp;

use super::check;
use super::engine::Engine;
use super::error::MoverError;
use crate::api::recovery_point::Level;
use crate::core::condition::whole_second;
use crate::core::mover_task::Task;
use crate::core::verified::{Damage, Verified};
use crate::vault::Vault;
use crate::vault::catalogue::CatalogueError;

/// The notes of one application.
pub(super) struct Notes<'a> {
    /// Where they lie.
    pub(super) vault: &'a Vault,
    /// The application's namespace.
    pub(super) namespace: &'a str,
    /// Its name.
    pub(super) application: &'a str,
}

/// What came of looking again at what was noted.
#[derive(Default)]
pub(super) struct Doubts {
    /// Packs that are to be read, whatever the share.
    pub(super) packs: HashSet<String>,
    /// What is wrong besides, by point.
    wrong: BTreeMap<String, Vec<String>>,
}

/// What a round found.
pub(super) struct Found<'a> {
    /// The points that need a damaged pack.
    pub(super) touched: BTreeSet<String>,
    /// The damaged packs.
    pub(super) packs: &'a [String],
    /// What else is wrong.
    pub(super) doubts: &'a Doubts,
}

impl Notes<'_> {
    /// What was noted of damaged points before.
    pub(super) fn damaged(&self, engine: &Engine) -> Result<Vec<Verified>, MoverError> {
        let ids = engine.runtime().block_on(self.vault.list_verified(self.namespace, self.application))?;
        let mut notes = Vec::new();
        for (id, _) in ids {
            engine.meter.step();
            let read = self.vault.read_verified(self.namespace, self.application, &id);
            // What cannot be read is no note of ours: it is written anew if there is a reason.
            notes.extend(engine.runtime().block_on(read).unwrap_or_default().filter(|it| it.damage.is_some()));
        }
        Ok(notes)
    }

    /// Looks at what those points need that somebody met damage in.
    pub(super) fn looked_at_again(&self, engine: &Engine, before: &[Verified]) -> Result<Doubts, MoverError> {
        let mut doubts = Doubts::default();
        for note in before {
            let Some(damage) = &note.damage else { continue };
            doubts.packs.extend(damage.packs.iter().cloned());
            if damage.other.is_empty() {
                continue;
            }
            let (packs, wrong) = self.needs(engine, &note.point)?;
            doubts.packs.extend(packs);
            if !wrong.is_empty() {
                doubts.wrong.insert(note.point.clone(), wrong);
            }
        }
        Ok(doubts)
    }

    /// The packs that a point needs, and what else of it is damaged or missing.
    fn needs(&self, engine: &Engine, id: &str) -> Result<(HashSet<String>, Vec<String>), MoverError> {
        let (namespace, application, runtime) = (self.namespace, self.application, engine.runtime());
        let point = match runtime.block_on(self.vault.read_point(namespace, application, id)) {
            Ok(point) => point,
            Err(error @ CatalogueError::Store(_)) => return Err(error.into()),
            // It was dropped, or is damaged itself: nobody chooses it.
            Err(_) => return Ok((HashSet::new(), Vec::new())),
        };
        let (mut packs, mut wrong) = (HashSet::new(), Vec::new());
        let snapshots: Vec<String> = point.snapshots().map(|(_, it)| it.to_owned()).collect();
        if !snapshots.is_empty() {
            // What this finds is of this point: the round's own engine must not take it for a failure of the round.
            let mut own = Engine::new(self.vault, namespace, application, runtime.clone());
            own.meter = engine.meter.clone();
            match own.steadily(|| check::packs(&own, &snapshots)) {
                Ok(found) => packs.extend(found.iter().map(|it| it.to_hex().as_str().to_owned())),
                Err(MoverError::Corrupt(what)) => wrong.push(what),
                Err(error) => return Err(error),
            }
        }
        let objects = self.vault.read_manifest(namespace, application, &point.objects.manifest, io::sink());
        match runtime.block_on(objects) {
            Ok(_) => {}
            Err(error @ (CatalogueError::Corrupt { .. } | CatalogueError::Absent { .. })) => {
                wrong.push(format!("its objects: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok((packs, wrong))
    }

    /// Writes down which points are damaged, and which no longer are. Gives those that are.
    pub(super) fn settle(
        &self,
        engine: &Engine,
        before: &[Verified],
        found: &Found<'_>,
        region: &str,
    ) -> Result<BTreeSet<String>, MoverError> {
        let bad: BTreeSet<String> = found.touched.iter().chain(found.doubts.wrong.keys()).cloned().collect();
        for point in &bad {
            let packs = if found.touched.contains(point) { found.packs.to_vec() } else { Vec::new() };
            let other = found.doubts.wrong.get(point).cloned().unwrap_or_default();
            let damage = Damage { packs, other, ..Damage::default() };
            let detail = format!("what it needs is damaged or missing, as {region} found");
            self.change(engine, point, |before| {
                Some(Verified::damaged(before, point, now(), detail.clone(), damage.clone()))
            })?;
        }
        let named = |it: &Verified| it.damage.iter().flat_map(|it| &it.packs).any(|pack| found.packs.contains(pack));
        for note in before.iter().filter(|it| !bad.contains(&it.point) && !named(it)) {
            let detail = format!("what was found damaged was read again in {region}, and is whole");
            self.change(engine, &note.point, |now_there| {
                // Somebody met more since it was read: that is looked at in the next round.
                (now_there == Some(note)).then(|| note.mended(now(), detail.clone()))
            })?;
        }
        Ok(bad)
    }

    /// Writes down that a point reached a level.
    pub(super) fn reached(&self, engine: &Engine, point: &str, level: Level, detail: &str) -> Result<(), MoverError> {
        self.change(engine, point, |before| Verified::reached(before, point, level, now(), detail.to_owned()))
    }

    fn change(
        &self,
        engine: &Engine,
        point: &str,
        change: impl Fn(Option<&Verified>) -> Option<Verified>,
    ) -> Result<(), MoverError> {
        engine.meter.step();
        let changed = self.vault.change_verified(self.namespace, self.application, point, change);
        Ok(engine.runtime().block_on(changed)?)
    }
}

/// A mover that needed a point met damage in it: that is written down for every region.
pub(super) async fn met(vault: &Vault, task: &Task, what: &str) -> Result<(), CatalogueError> {
    let Some(point) = task.needs() else { return Ok(()) };
    let (namespace, application) = task.application();
    let what = [what.to_owned()];
    vault.change_verified(namespace, application, point, |it| Verified::met(it, point, now(), &[], &what)).await
}

fn now() -> Timestamp {
    whole_second(Timestamp::now()).0
}
