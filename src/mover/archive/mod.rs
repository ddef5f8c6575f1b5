//! Makes a snapshot of a directory: walks it, and stores what the repository does not have.
//!
//! Directories, files and chunks are worked on by a few threads, whatever is there first. A directory is written when
//! all in it is known; a file that is as its parent snapshot has it, by size, mtime and ctime, is not read. What can't
//! be read is left out and noted.

mod folder;
mod store;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reprise_chunker::Chunker;
use rustic_core::repofile::{BlobType, ConfigFile, Node, Tree};
use rustic_core::{DataId, Id, Progress, TreeId};

use self::folder::{Before, Folder};
pub(super) use self::store::{Store, Tools};
use super::engine::Engine;
use super::error::MoverError;
use super::exclude::Exclusions;
use super::index::Index;
use super::log::Witness;
use super::parallel::{self, Queue};
use super::source::{self, Losses};

/// How much of a file is read at once.
const READ: usize = 512 * 1024;
/// How many files of a directory are one piece of work.
const BATCH: usize = 64;
/// How many chunks may wait for each thread; each is held in memory. Whoever finds no room works on its own.
const WAITING: usize = 2;

/// Files and directories, counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) files: [AtomicU64; 3],
    pub(super) folders: [AtomicU64; 3],
    pub(super) bytes: AtomicU64,
    pub(super) folder_bytes: AtomicU64,
}

/// What became of something since the parent snapshot.
#[derive(Clone, Copy)]
pub(super) enum Change {
    New = 0,
    Changed = 1,
    Unchanged = 2,
}

fn add(to: &AtomicU64, number: u64) {
    to.fetch_add(number, Ordering::Relaxed);
}

/// One walk.
pub(super) struct Archive<'a> {
    pub(super) engine: &'a Engine,
    pub(super) index: &'a Index,
    pub(super) store: &'a Store<'a>,
    pub(super) chunker: Chunker,
    pub(super) losses: &'a Losses,
    pub(super) exclusions: &'a Exclusions,
    pub(super) witness: &'a Witness,
    pub(super) progress: &'a Progress,
    pub(super) counts: Counts,
    waiting: AtomicUsize,
    threads: usize,
}

/// What one thread does at a time.
enum Work {
    /// A directory in another one, and what the parent snapshot has of it.
    Folder { parent: Arc<Folder>, at: usize, before: Before },
    /// Files of a directory.
    Files { folder: Arc<Folder>, files: Vec<(usize, Change)> },
    /// A piece of a large file.
    Chunk { file: Arc<Large>, at: usize, content: Vec<u8> },
}

/// A file of more than one chunk.
struct Large {
    folder: Arc<Folder>,
    at: usize,
    content: Mutex<Vec<Id>>,
    /// Chunks that are still worked on, and one for the reading.
    pending: AtomicUsize,
}

/// A chunker for a repository.
pub(super) fn chunker(engine: &Engine, config: &ConfigFile) -> Result<Chunker, MoverError> {
    let polynomial = config.poly().map_err(|error| engine.error(&error))?;
    Ok(Chunker::new(polynomial, config.chunk_size(), config.chunk_min_size(), config.chunk_max_size()))
}

impl<'a> Archive<'a> {
    pub(super) fn new(
        (engine, index, store): (&'a Engine, &'a Index, &'a Store<'a>),
        chunker: Chunker,
        (losses, exclusions, witness): (&'a Losses, &'a Exclusions, &'a Witness),
        progress: &'a Progress,
    ) -> Self {
        let counts = Counts::default();
        let threads = parallel::processors();
        let waiting = AtomicUsize::new(0);
        Self { engine, index, store, chunker, losses, exclusions, witness, progress, counts, waiting, threads }
    }

    /// Stores the directory `root` under the name of `node`; returns the tree that has nothing but it.
    pub(super) fn run(&self, root: PathBuf, node: Node, before: Before) -> Result<TreeId, MoverError> {
        let top = Arc::new(Folder::top(root, node));
        let first = Work::Folder { parent: top.clone(), at: 0, before };
        parallel::descend(
            self.threads,
            vec![first],
            || self.store.tools(),
            |tools, queue, work| match work {
                Work::Folder { parent, at, before } => self.folder(&parent, at, &before, queue, tools),
                Work::Files { folder, files } => self.files(&folder, files, queue, tools),
                Work::Chunk { file, at, content } => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.chunk(&file, at, &content, tools)
                }
            },
        )?;
        let nodes = top.take();
        let (text, id) = Tree { nodes }.serialize().map_err(|error| MoverError::Engine(error.to_string()))?;
        self.store.add(BlobType::Tree, &text, &mut self.store.tools())?;
        Ok(id)
    }

    /// Reads a directory, and finds what is to be read in it.
    fn folder(
        &self,
        parent: &Arc<Folder>,
        at: usize,
        before: &Before,
        queue: &Queue<Work>,
        tools: &mut Tools,
    ) -> Result<(), MoverError> {
        self.engine.meter.step();
        let folder = Arc::new(Folder::below(parent, at, before));
        let found = folder.read(self, before)?;
        let folders = found.folders.into_iter().map(|(at, before)| Work::Folder { parent: folder.clone(), at, before });
        // The last one is the first one done.
        queue.push(folders.rev());
        let batches = found.files.chunks(BATCH).map(<[_]>::to_vec);
        queue.push(batches.rev().map(|files| Work::Files { folder: folder.clone(), files }));
        self.release(&folder, 1, tools)
    }

    /// So much less is to be waited for in a directory. When nothing is left, it is written, and so on upwards.
    fn release(&self, folder: &Arc<Folder>, count: usize, tools: &mut Tools) -> Result<(), MoverError> {
        let (mut folder, mut count) = (folder.clone(), count);
        while folder.release(count) {
            let Some((parent, at)) = folder.parent() else { return Ok(()) };
            let (text, id) =
                Tree { nodes: folder.take() }.serialize().map_err(|error| MoverError::Engine(error.to_string()))?;
            let change = folder.change(id);
            add(&self.counts.folders[change as usize], 1);
            add(&self.counts.folder_bytes, text.len() as u64);
            if !matches!(change, Change::Unchanged) {
                self.store.add(BlobType::Tree, &text, tools)?;
            }
            parent.set(at, |node| node.subtree = Some(id));
            (folder, count) = (parent, 1);
        }
        Ok(())
    }

    fn files(
        &self,
        folder: &Arc<Folder>,
        files: Vec<(usize, Change)>,
        queue: &Queue<Work>,
        tools: &mut Tools,
    ) -> Result<(), MoverError> {
        let count = files.len();
        for (at, change) in files {
            let path = folder.path_of(at);
            match source::open(&path) {
                Ok(file) => {
                    add(&self.counts.files[change as usize], 1);
                    if let Err(error) = self.file(folder, at, file, queue, tools)? {
                        self.counts.files[change as usize].fetch_sub(1, Ordering::Relaxed);
                        self.losses.note(&path, &error);
                        folder.leave_out(at);
                    }
                }
                Err(error) => {
                    self.losses.note(&path, &error);
                    folder.leave_out(at);
                }
            }
        }
        self.release(folder, count, tools)
    }

    /// Reads a file. The inner error is that of the reading.
    fn file(
        &self,
        folder: &Arc<Folder>,
        at: usize,
        mut file: File,
        queue: &Queue<Work>,
        tools: &mut Tools,
    ) -> Result<io::Result<()>, MoverError> {
        let mut buffer = std::mem::take(&mut tools.buffer);
        buffer.clear();
        let mut large: Option<(Arc<Large>, usize, u64)> = None;
        let (mut searched, mut over) = (0, false);
        let outcome = loop {
            let cut = self.chunker.cut(&buffer, searched);
            if let Some(length) = cut.or((over && large.is_some() && !buffer.is_empty()).then_some(buffer.len())) {
                let rest = buffer.split_off(length);
                let chunk = std::mem::replace(&mut buffer, rest);
                let (file, chunks, bytes) = large.get_or_insert_with(|| (Large::new(folder, at), 0, 0));
                *bytes += chunk.len() as u64;
                *chunks += 1;
                self.hand_over(file, *chunks - 1, chunk, queue, tools)?;
                searched = 0;
                continue;
            }
            if over {
                break Ok(());
            }
            searched = buffer.len();
            match (&mut file).take(READ as u64).read_to_end(&mut buffer) {
                Ok(read) => over = read < READ,
                Err(error) => break Err(error),
            }
        };
        match (large, outcome) {
            (Some((large, _, bytes)), outcome) => {
                // Its chunks may still be under way: they are waited for, whatever comes of it.
                let read = outcome.map(|()| bytes);
                if let Ok(bytes) = read {
                    add(&self.counts.bytes, bytes);
                    folder.set(at, |node| node.meta.size = bytes);
                }
                self.chunk_done(&large, tools)?;
                tools.buffer = buffer;
                Ok(read.map(|_| ()))
            }
            (None, Ok(())) => {
                self.small(folder, at, &buffer, tools)?;
                tools.buffer = buffer;
                Ok(Ok(()))
            }
            (None, Err(error)) => {
                tools.buffer = buffer;
                Ok(Err(error))
            }
        }
    }

    /// A file of one chunk, or none.
    fn small(&self, folder: &Folder, at: usize, content: &[u8], tools: &mut Tools) -> Result<(), MoverError> {
        let blob = match content {
            [] => None,
            content => Some(DataId::from(self.store.add(BlobType::Data, content, tools)?)),
        };
        self.progress.inc(content.len() as u64);
        add(&self.counts.bytes, content.len() as u64);
        folder.set(at, |node| {
            node.meta.size = content.len() as u64;
            node.content = Some(blob.into_iter().collect());
        });
        Ok(())
    }

    /// Gives a chunk to whoever has time, or works on it here.
    fn hand_over(
        &self,
        file: &Arc<Large>,
        at: usize,
        content: Vec<u8>,
        queue: &Queue<Work>,
        tools: &mut Tools,
    ) -> Result<(), MoverError> {
        file.pending.fetch_add(1, Ordering::AcqRel);
        if self.waiting.fetch_add(1, Ordering::Relaxed) < WAITING * self.threads {
            queue.push([Work::Chunk { file: file.clone(), at, content }]);
            return Ok(());
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.chunk(file, at, &content, tools)
    }

    fn chunk(&self, file: &Large, at: usize, content: &[u8], tools: &mut Tools) -> Result<(), MoverError> {
        let id = self.store.add(BlobType::Data, content, tools)?;
        self.progress.inc(content.len() as u64);
        let mut ids = file.content.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() <= at {
            ids.resize(at + 1, Id::default());
        }
        ids[at] = id;
        drop(ids);
        self.chunk_done(file, tools)
    }

    fn chunk_done(&self, file: &Large, tools: &mut Tools) -> Result<(), MoverError> {
        if file.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let ids = std::mem::take(&mut *file.content.lock().unwrap_or_else(PoisonError::into_inner));
        file.folder.set(file.at, |node| node.content = Some(ids.into_iter().map(DataId::from).collect()));
        self.release(&file.folder, 1, tools)
    }
}

impl Large {
    /// The directory waits for it from now on.
    fn new(folder: &Arc<Folder>, at: usize) -> Arc<Self> {
        folder.wait(1);
        Arc::new(Self { folder: folder.clone(), at, content: Mutex::default(), pending: AtomicUsize::new(1) })
    }
}

#[cfg(test)]
mod tests {
    use reprise_chunker::WINDOW;

    use super::*;
    use crate::mover::tests::lab::noise;

    /// The fingerprint by its definition: the window's remainder, as a polynomial over GF(2).
    fn fingerprint(window: &[u8], polynomial: u64) -> u64 {
        let degree = polynomial.ilog2();
        let bits = window.iter().flat_map(|byte| (0..8).rev().map(move |bit| u64::from(byte >> bit & 1)));
        bits.fold(0, |hash, bit| {
            let hash = hash << 1 | bit;
            if hash >> degree == 1 { hash ^ polynomial } else { hash }
        })
    }

    #[test]
    fn a_file_is_cut_where_restic_cuts_it() {
        let (polynomial, average, least, most) = (0x003d_a335_8b4d_c173, 1 << 13, 3000, 40_000);
        let chunker = Chunker::new(polynomial, average, least, most);
        let mut data = noise(1, 400_000);
        data[100_000..200_000].fill(7);
        let mut begin = 0;
        let mut cuts = Vec::new();
        while begin < data.len() {
            let rest = &data[begin..];
            let wanted = (least..=rest.len().min(most)).find(|end| {
                *end == most || fingerprint(&rest[end - WINDOW..*end], polynomial) & (average as u64 - 1) == 0
            });
            assert_eq!(chunker.cut(rest, 0), wanted, "at {begin}");
            // Whatever is shown at a time, the cut is the same.
            let mut searched = 0;
            let pieces = (0..=rest.len()).step_by(777).find_map(|end| {
                let cut = chunker.cut(&rest[..end], searched);
                searched = end;
                cut
            });
            assert!(pieces == wanted || pieces.is_none() && rest.len() - wanted.unwrap_or(rest.len()) < 777);
            begin += wanted.unwrap_or(rest.len());
            cuts.push(begin);
        }
        assert!(cuts.len() > 15, "{cuts:?}");
    }
}
