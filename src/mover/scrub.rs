//! Reads back a share of a repository, so that all of it is read in so many rounds, and notes which points are damaged.
//!
//! A round reads the packs whose names fall to it: compared with their names, which are their checksums; then every
//! blob in them is decrypted, unpacked, and compared with its own. Packs that are missing are found each time, whatever
//! the share. Only when something is damaged are the trees of all snapshots walked, to find the points that need it;
//! what is noted of them stands in the vault (`vault::verified`). Packs that earlier notes name are read again each
//! time, so that a note is lifted once they are whole. Nothing is repaired here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use rustic_core::repofile::{IndexFile, IndexPack, PackId, SnapshotFile};
use rustic_core::{BlobId, FileType, Id, ReadBackend, TreeId};

use super::check::verify;
use super::engine::Engine;
use super::error::MoverError;
use super::index::Index;
use super::is_id;
use super::parallel;
use super::seal::blob_id;
use crate::api::recovery_point::Level;
use crate::core::condition::whole_second;
use crate::core::mover_task::{Newest, Report, Scrubbed};
use crate::core::point::Verified;
use crate::vault::Vault;
use crate::vault::catalogue::CatalogueError;

/// So many damaged packs are named in a note, and read again the next time.
const NAMED: usize = 100;
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
        let notes = self.notes(engine)?;
        let again: HashSet<&str> = notes.iter().flat_map(|it| &it.damaged_packs).map(String::as_str).collect();
        let findings = self.read(engine, &again)?;
        let touched = if findings.damaged.is_empty() {
            BTreeSet::new()
        } else {
            let snapshots = engine.steadily(|| touched(engine, &findings.damaged))?;
            engine.runtime().block_on(self.points_of(engine, &snapshots))?
        };
        self.note(engine, &notes, &touched, &findings)?;
        if findings.damaged.is_empty()
            && let Some(newest) = self.newest
        {
            verify(engine, &newest.snapshots, 0)?;
            let detail = format!(
                "every chunk of its volumes was looked up; part {} of {} of the repository was read back, decrypted and \
                 compared with its checksums",
                self.part + 1,
                self.parts
            );
            self.write(engine, &newest.point, Level::L2, detail, Vec::new())?;
        }
        let scrubbed = Scrubbed {
            packs: findings.read,
            bytes: findings.bytes,
            damaged_packs: findings.damaged.len() as u64,
            first_packs: findings.damaged.keys().take(TOLD).cloned().collect(),
            damaged_points: touched.len() as u64,
            last_points: touched.iter().rev().take(TOLD).cloned().collect(),
        };
        Ok(Report { scrubbed: Some(scrubbed), ..Report::default() })
    }

    /// What was noted of damaged points before.
    fn notes(&self, engine: &Engine) -> Result<Vec<Verified>, MoverError> {
        let ids = engine.runtime().block_on(self.vault.list_verified(self.namespace, self.application))?;
        let mut notes = Vec::new();
        for (id, _) in ids {
            engine.meter.step();
            let read = self.vault.read_verified(self.namespace, self.application, &id);
            // What cannot be read is no note of ours: it is written anew if there is a reason.
            notes.extend(engine.runtime().block_on(read).unwrap_or_default().filter(|it| !it.damaged_packs.is_empty()));
        }
        Ok(notes)
    }

    /// Reads this round's packs, and those that were damaged before; looks whether all are there.
    fn read(&self, engine: &Engine, again: &HashSet<&str>) -> Result<Findings, MoverError> {
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
        again: &HashSet<&str>,
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

    /// Writes down which points are damaged, and which no longer are.
    fn note(
        &self,
        engine: &Engine,
        before: &[Verified],
        touched: &BTreeSet<String>,
        findings: &Findings,
    ) -> Result<(), MoverError> {
        for point in touched {
            let packs = findings.damaged.keys().take(NAMED).cloned().collect();
            let detail = "packs that its volumes need are damaged or missing".to_owned();
            self.write(engine, point, Level::L1, detail, packs)?;
        }
        let whole = |it: &&Verified| {
            !touched.contains(&it.point) && !it.damaged_packs.iter().any(|pack| findings.damaged.contains_key(pack))
        };
        for note in before.iter().filter(whole) {
            let detail = "what was found damaged was read again, and is whole".to_owned();
            self.write(engine, &note.point, Level::L1, detail, Vec::new())?;
        }
        Ok(())
    }

    fn write(
        &self,
        engine: &Engine,
        point: &str,
        level: Level,
        detail: String,
        damaged_packs: Vec<String>,
    ) -> Result<(), MoverError> {
        engine.meter.step();
        let at = whole_second(Timestamp::now()).0;
        let (point, region) = (point.to_owned(), self.region.to_owned());
        let note = Verified { point, level, at, region, detail, damaged_packs };
        Ok(engine.runtime().block_on(self.vault.write_verified(self.namespace, self.application, &note))?)
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

/// What the index says is in these packs.
fn held(engine: &Engine, wanted: &HashSet<PackId>) -> Result<BTreeMap<String, Vec<BlobId>>, MoverError> {
    let mut held = BTreeMap::new();
    for file in engine.open()?.stream_files::<IndexFile>().map_err(|error| engine.error(&error))? {
        let (_, file) = file.map_err(|error| engine.error(&error))?;
        let packs = file.packs.iter().filter(|pack| wanted.contains(&pack.id));
        held.extend(packs.map(|pack| (pack.id.to_hex().as_str().to_owned(), blobs(pack))));
    }
    Ok(held)
}

fn blobs(pack: &IndexPack) -> Vec<BlobId> {
    pack.blobs.iter().map(|blob| blob.id).collect()
}

/// The snapshots that need one of these packs.
fn touched(engine: &Engine, damaged: &BTreeMap<String, Vec<BlobId>>) -> Result<HashSet<String>, MoverError> {
    let blobs: HashSet<BlobId> = damaged.values().flatten().copied().collect();
    let repository = engine.open()?;
    let index = Index::read(engine, &repository, None)?;
    let mut judged = HashMap::new();
    let mut touched = HashSet::new();
    for file in repository.stream_files::<SnapshotFile>().map_err(|error| engine.error(&error))? {
        let (id, snapshot) = file.map_err(|error| engine.error(&error))?;
        if needs(engine, &index, snapshot.tree, &blobs, &mut judged)? {
            touched.insert(id.to_hex().as_str().to_owned());
        }
    }
    Ok(touched)
}

/// Whether a directory, or one in it, needs one of these blobs. Each is looked at once; one after the other, since this
/// is done only when something is wrong.
fn needs(
    engine: &Engine,
    index: &Index,
    root: TreeId,
    damaged: &HashSet<BlobId>,
    judged: &mut HashMap<TreeId, bool>,
) -> Result<bool, MoverError> {
    // Directories on the way down, each with those in it that were not looked at yet.
    let mut way: Vec<(TreeId, Vec<TreeId>, bool)> = Vec::new();
    let mut next = Some(root);
    loop {
        if let Some(tree) = next.take() {
            if let Some(bad) = judged.get(&tree) {
                if let Some(above) = way.last_mut() {
                    above.2 |= *bad;
                } else {
                    return Ok(*bad);
                }
            } else if damaged.contains(&BlobId::from(tree)) || !index.has_tree(BlobId::from(tree)) {
                judged.insert(tree, true);
                next = Some(tree);
                continue;
            } else {
                engine.meter.step();
                let nodes = match index.tree(engine, tree) {
                    Ok(tree) => tree.nodes,
                    // Another round's pack: it is as bad for who needs it.
                    Err(MoverError::Corrupt(_)) => {
                        judged.insert(tree, true);
                        next = Some(tree);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let mut content = nodes.iter().flat_map(|node| node.content.iter().flatten());
                let bad = content.any(|blob| damaged.contains(&BlobId::from(*blob)));
                // What is bad by itself needs no look below.
                let below = if bad { Vec::new() } else { nodes.iter().filter_map(|node| node.subtree).collect() };
                way.push((tree, below, bad));
            }
        }
        match way.last_mut() {
            None => return Ok(judged.get(&root).copied().unwrap_or(true)),
            Some((_, below, bad)) => {
                next = if *bad { None } else { below.pop() };
                if next.is_none() {
                    let Some((tree, _, bad)) = way.pop() else { continue };
                    judged.insert(tree, bad);
                    if let Some(above) = way.last_mut() {
                        above.2 |= bad;
                    }
                }
            }
        }
    }
}
