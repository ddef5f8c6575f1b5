//! The directories and the data of snapshots, from one repository to another. Each blob is compared with its name, which
//! is its hash, before it is sealed anew.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustic_core::repofile::{BlobType, IndexFile, PackId};
use rustic_core::{BlobId, FileType, OpenStatus, ProgressBars, ProgressType, ReadBackend, Repository, TreeId};

use super::super::archive::{Store, Tools};
use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::index::Index;
use super::super::parallel;
use super::super::pieces::{Opener, pieces};

/// How many pieces are worked on at a time. Each is held in memory several times: as it was read, opened, sealed, and
/// opened once more.
const AT_ONCE: usize = 6;
/// After so many bytes what was sent is named: what a copy that is killed had sent since is sent again.
const NAMED: u64 = 128 << 20;

/// What the other repository does not have.
pub(super) struct Wanted {
    /// Directories, each after one that it is in.
    trees: Vec<TreeId>,
    data: HashSet<BlobId>,
}

/// A blob of a pack.
struct Lying {
    pack: PackId,
    offset: u32,
    length: u32,
    plain_length: Option<u32>,
    blob: BlobId,
}

impl Wanted {
    /// Walks directories, and finds what is not `there`. A directory that is there is taken to be there with all that is in
    /// it; without `there`, everything is wanted.
    pub(super) fn find(
        engine: &Engine,
        known: &Index,
        there: Option<&Index>,
        roots: Vec<TreeId>,
    ) -> Result<Self, MoverError> {
        engine.meter.phase("comparing");
        let found = Mutex::new((HashSet::new(), Self { trees: Vec::new(), data: HashSet::new() }));
        let lock = || found.lock().unwrap_or_else(PoisonError::into_inner);
        parallel::descend(
            parallel::processors(),
            roots,
            || (),
            |(), queue, tree| {
                if there.is_some_and(|it| it.has_tree(BlobId::from(tree))) || !lock().0.insert(tree) {
                    return Ok(());
                }
                let nodes = known.tree(engine, tree)?.nodes;
                let content = nodes.iter().flat_map(|it| it.content.iter().flatten()).map(|it| BlobId::from(*it));
                let content: Vec<_> = content.filter(|it| !there.is_some_and(|there| there.has_data(*it))).collect();
                let mut found = lock();
                found.1.trees.push(tree);
                found.1.data.extend(content);
                drop(found);
                queue.push(nodes.iter().filter_map(|it| it.subtree));
                engine.meter.step();
                Ok(())
            },
        )?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Copies it: the data, then the directories, each before those that it is in.
    pub(super) fn copy(
        &self,
        source: &Engine,
        from: &Repository<OpenStatus>,
        known: &Index,
        store: &Store<'_>,
    ) -> Result<(), MoverError> {
        let progress = source.meter.progress(ProgressType::Bytes, "copying");
        let since_named = AtomicU64::new(0);
        // One file of the index at a time: its packs are read, whatever the repository's size.
        for file in from.stream_files::<IndexFile>().map_err(|error| source.error(&error))? {
            let lying = self.lying(file.map_err(|error| source.error(&error))?.1);
            let pieces = pieces(&lying, |it| (it.pack, it.offset, it.length));
            parallel::each(
                AT_ONCE,
                pieces,
                || (Opener::default(), store.tools()),
                |own, piece| {
                    for length in copy_piece(source, store, piece, own)? {
                        progress.inc(length);
                        since_named.fetch_add(length, Ordering::Relaxed);
                    }
                    if since_named.load(Ordering::Relaxed) >= NAMED && since_named.swap(0, Ordering::Relaxed) >= NAMED {
                        store.name_sent()?;
                    }
                    Ok(())
                },
            )?;
        }
        store.finish()?;
        let mut tools = store.tools();
        for tree in self.trees.iter().rev() {
            let text = known.tree_text(source, *tree)?;
            if BlobId::from(store.add(BlobType::Tree, &text, &mut tools)?) != BlobId::from(*tree) {
                return Err(not_what_was_written(BlobId::from(*tree)));
            }
            source.meter.step();
        }
        store.finish()
    }

    /// What of it lies in the packs of a file of the index, in the order in which it lies.
    fn lying(&self, file: IndexFile) -> Vec<Lying> {
        let mut lying = Vec::new();
        for pack in file.packs {
            let wanted = pack.blobs.iter().filter(|it| it.tpe == BlobType::Data && self.data.contains(&it.id));
            lying.extend(wanted.map(|it| Lying {
                pack: pack.id,
                offset: it.location.offset,
                length: it.location.length,
                plain_length: it.location.uncompressed_length.map(Into::into),
                blob: it.id,
            }));
        }
        lying.sort_unstable_by_key(|it| (it.pack, it.offset));
        lying
    }
}

/// Copies blobs that lie near each other; returns how many bytes each had.
fn copy_piece(
    source: &Engine,
    store: &Store<'_>,
    piece: &[Lying],
    (opener, tools): &mut (Opener, Tools),
) -> Result<Vec<u64>, MoverError> {
    let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return Ok(Vec::new()) };
    let length = last.offset + last.length - first.offset;
    let sealed = source
        .backend
        .read_partial(FileType::Pack, &first.pack, false, first.offset, length)
        .map_err(|error| source.error(&error))?;
    let mut lengths = Vec::with_capacity(piece.len());
    for it in piece {
        let begin = (it.offset - first.offset) as usize;
        let part = sealed.get(begin..begin + it.length as usize).unwrap_or_default();
        let plain = opener.open(source, part, it.plain_length, it.blob).ok_or_else(|| not_what_was_written(it.blob))?;
        store.add(BlobType::Data, plain, tools)?;
        lengths.push(plain.len() as u64);
    }
    Ok(lengths)
}

fn not_what_was_written(blob: BlobId) -> MoverError {
    MoverError::Corrupt(format!("stored data is not what was written: blob {}", blob.to_hex().as_str()))
}
