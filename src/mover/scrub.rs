//! Reads back a share of a repository, so that all of it is read in so many rounds, and notes which points are damaged.
//!
//! A round reads the packs whose names fall to it: compared with their names, which are their checksums; then every
//! blob in them is decrypted, unpacked, and compared with its own. Packs that are missing are found each time, whatever
//! the share. Only when something is damaged are the trees of all snapshots walked (`touched`), to find the points that
//! need it, which is noted (`noted`). What earlier notes name is looked at again each time, so that a note is lifted once
//! it is whole. Nothing is repaired here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use rustic_core::repofile::{IndexFile, IndexPack, PackId};
use rustic_core::{BlobId, FileType, Id, ReadBackend};

use super::check::verify;
use super::engine::Engine;
use super::error::MoverError;
use super::is_id;
use super::noted::{Found, Notes};
use super::parallel;
use super::seal::blob_id;
use super::touched::{blobs, held, touched};
use crate::api::recovery_point::Level;
use crate::core::mover_task::{Newest, Report, Scrubbed};
use crate::vault::Vault;
use crate::vault::catalogue::CatalogueError;

/// So many packs and points are named in the report.
const TOLD: usize = 10;
/// How many packs are read at a time, each in memory as a whole; and how many points.
const AT_ONCE: usize = 8;

/// A round.
pub(super) struct Scrub<'a> {
    /// Where notes are written.
    pub(super) vault: &'a Vault,
    /// The application's namespace.
    pub(super) namespace: &'a str,
    /// Its name.
    pub(super) application: &'a str,
    /// The region that does it.
    pub(super) region: &'a str,
    /// Which round, from 0.
    pub(super) part: u32,
    /// Of how many.
    pub(super) parts: u32,
    /// The point that reaches level `L2` when all is well.
    pub(super) newest: Option<&'a Newest>,
}

/// What was read, and what of it is bad: packs, each with the blobs that the index says are in it.
#[derive(Default)]
struct Findings {
    read: u64,
    bytes: u64,
    damaged: BTreeMap<String, Vec<BlobId>>,
}

/// Refuses a round that there is none of, and what is no snapshot.
pub(super) fn check(part: u32, parts: u32, newest: Option<&Newest>) -> Result<(), MoverError> {
    if part >= parts {
        return Err(MoverError::Task("`part` must be less than `parts`".to_owned()));
    }
    if newest.is_some_and(|it| !it.snapshots.iter().all(is_id)) {
        return Err(MoverError::Task("`newest.snapshots` must be full ids".to_owned()));
    }
    Ok(())
}

impl Scrub<'_> {
    pub(super) fn run(&self, engine: &Engine) -> Result<Report, MoverError> {
        let snapshots = self.newest.map_or(Ok(Vec::new()), |it| self.snapshots_of(engine, it))?;
        if self.newest.is_some() && snapshots.is_empty() && !engine.exists()? {
            // Nothing but objects was copied here so far.
            return Ok(Report { scrubbed: Some(Scrubbed::default()), ..Report::default() });
        }
        let notes = Notes { vault: self.vault, namespace: self.namespace, application: self.application };
        let before = notes.damaged(engine)?;
        let doubts = notes.looked_at_again(engine, &before)?;
        let findings = self.read(engine, &doubts.packs)?;
        let touched = if findings.damaged.is_empty() {
            BTreeSet::new()
        } else {
            let touched = engine.steadily(|| touched(engine, &findings.damaged))?;
            engine.runtime().block_on(self.points_of(engine, &touched))?
        };
        let packs: Vec<String> = findings.damaged.keys().cloned().collect();
        let bad = notes.settle(engine, &before, &Found { touched, packs: &packs, doubts: &doubts }, self.region)?;
        let sound = findings.damaged.is_empty() && !snapshots.is_empty();
        if let Some(newest) = self.newest.filter(|it| sound && !bad.contains(&it.point)) {
            verify(engine, &snapshots, 0)?;
            let detail = format!(
                "every chunk of its volumes was looked up; part {} of {} of the repository was read back in {}, decrypted \
                 and compared with its checksums",
                self.part + 1,
                self.parts,
                self.region
            );
            notes.reached(engine, &newest.point, Level::L2, &detail)?;
        }
        let scrubbed = Scrubbed {
            packs: findings.read,
            bytes: findings.bytes,
            damaged_packs: findings.damaged.len() as u64,
            first_packs: findings.damaged.keys().take(TOLD).cloned().collect(),
            damaged_points: bad.len() as u64,
            last_points: bad.iter().rev().take(TOLD).cloned().collect(),
        };
        Ok(Report { scrubbed: Some(scrubbed), ..Report::default() })
    }

    /// The snapshots that are looked up for a point. None when it is gone, or damaged itself: nobody chooses it.
    fn snapshots_of(&self, engine: &Engine, newest: &Newest) -> Result<Vec<String>, MoverError> {
        if !newest.snapshots.is_empty() {
            return Ok(newest.snapshots.clone());
        }
        match engine.runtime().block_on(self.vault.read_point(self.namespace, self.application, &newest.point)) {
            Ok(point) => Ok(point.snapshots().map(|(_, it)| it.to_owned()).collect()),
            Err(error @ CatalogueError::Store(_)) => Err(error.into()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Reads this round's packs, and those that were damaged before; looks whether all are there.
    fn read(&self, engine: &Engine, again: &HashSet<String>) -> Result<Findings, MoverError> {
        let named: Mutex<HashMap<PackId, u32>> = Mutex::default();
        let findings = Mutex::new(Findings::default());
        engine.steadily(|| self.read_share(engine, again, &named, &findings))?;
        let named = named.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Listed after the index was read: what the index names was there before.
        let listed = engine.backend.list_with_size(FileType::Pack).map_err(|error| engine.error(&error))?;
        let listed: HashMap<Id, u32> = listed.into_iter().collect();
        let gone = |id: &PackId, size: u32| listed.get(&**id).is_none_or(|it| *it < size);
        let missing: HashSet<PackId> = named.into_iter().filter(|(id, size)| gone(id, *size)).map(|it| it.0).collect();
        if !missing.is_empty() {
            findings.damaged.extend(engine.steadily(|| held(engine, &missing))?);
        }
        Ok(findings)
    }

    /// May be done again when a prune replaced files of the index meanwhile: what was read is not read twice.
    fn read_share(
        &self,
        engine: &Engine,
        again: &HashSet<String>,
        named: &Mutex<HashMap<PackId, u32>>,
        findings: &Mutex<Findings>,
    ) -> Result<(), MoverError> {
        let found = |pack: &IndexPack, sound: bool| {
            let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
            findings.read += 1;
            findings.bytes += u64::from(pack.pack_size());
            if !sound {
                findings.damaged.insert(pack.id.to_hex().as_str().to_owned(), blobs(pack));
            }
        };
        let repository = engine.open()?;
        for file in repository.stream_files::<IndexFile>().map_err(|error| engine.error(&error))? {
            let (_, file) = file.map_err(|error| engine.error(&error))?;
            let mine = |pack: &IndexPack| {
                pack.id.as_u32() % self.parts == self.part || again.contains(pack.id.to_hex().as_str())
            };
            let mut named = named.lock().unwrap_or_else(PoisonError::into_inner);
            let new = |pack: &IndexPack| named.insert(pack.id, pack.pack_size()).is_none();
            let packs: Vec<IndexPack> = file.packs.into_iter().filter(new).collect();
            parallel::each(AT_ONCE, packs.iter().filter(|pack| mine(pack)), Vec::new, |plain, pack| {
                engine.meter.step();
                found(pack, sound(engine, pack, plain)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The points that need one of these snapshots. Several may share a dump.
    async fn points_of(&self, engine: &Engine, snapshots: &HashSet<String>) -> Result<BTreeSet<String>, MoverError> {
        let (vault, namespace, application) = (self.vault, self.namespace, self.application);
        let mut points = BTreeSet::new();
        for some in vault.all_points(namespace, application).await?.chunks(AT_ONCE) {
            for read in join_all(some.iter().map(|id| vault.read_point(namespace, application, id))).await {
                match read {
                    Ok(point) if point.snapshots().any(|(_, it)| snapshots.contains(it)) => {
                        points.insert(point.id);
                    }
                    Err(error @ CatalogueError::Store(_)) => return Err(error.into()),
                    // It was dropped meanwhile, or is damaged itself: nobody chooses it.
                    Ok(_) | Err(_) => {}
                }
            }
            engine.meter.step();
        }
        Ok(points)
    }
}

/// Whether a pack is there, is what its name says, and holds what the index says.
fn sound(engine: &Engine, pack: &IndexPack, plain: &mut Vec<u8>) -> Result<bool, MoverError> {
    let Some(content) = engine.backend.sound(FileType::Pack, &pack.id).map_err(|error| engine.error(&error))? else {
        return Ok(false);
    };
    for blob in &pack.blobs {
        let (start, length) = (blob.location.offset as usize, blob.location.length as usize);
        let sealed = content.get(start..start.saturating_add(length)).unwrap_or_default();
        if !engine.seal.open(sealed, plain) {
            return Ok(false);
        }
        let fits = match blob.location.uncompressed_length {
            None => blob_id(plain) == blob.id,
            Some(length) => {
                let text = zstd::bulk::decompress(plain, u32::from(length) as usize);
                text.is_ok_and(|it| blob_id(&it) == blob.id)
            }
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}
