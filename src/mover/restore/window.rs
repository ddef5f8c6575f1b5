//! A part of a restore that fits into memory: some files, and what must wait for them.
//!
//! What the files lack is sorted by the packs that it lies in, so that a pack is read in few and long pieces. Each blob
//! is compared with its name, which is its hash, before it is written.

use std::fs::File;
use std::path::PathBuf;

use rustic_core::repofile::{Node, PackId};
use rustic_core::{BlobId, DataId, FileType, IndexedFull, Progress, ReadBackend, Repository};

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::log::Witness;
use super::super::parallel;
use super::super::pieces::{Opener, pieces};
use super::super::seal::{OVERHEAD, blob_id};
use super::files::{Onto, Target, open_directory, read_up_to};
use super::{attributes, volume};

/// How many pieces are under way at most: each is held in memory.
const FETCHES: usize = 12;
/// The most files, and bytes of them, of one window.
const FILES: usize = 20_000;
const BYTES: u64 = 1 << 30;

/// Some files, and what must wait for them.
#[derive(Default)]
pub(super) struct Window {
    pub(super) files: Vec<Target>,
    /// Links to files, with the files.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Directories that have all that they will have when the files are there, each after those in it.
    pub(super) complete: Vec<(PathBuf, Node)>,
    pub(super) bytes: u64,
}

impl Window {
    pub(super) fn is_full(&self) -> bool {
        self.files.len() + self.links.len() + self.complete.len() >= FILES || self.bytes >= BYTES
    }
}

/// One blob that one file lacks.
struct Lack {
    pack: PackId,
    offset: u32,
    length: u32,
    plain_length: Option<u32>,
    blob: DataId,
    file: usize,
    at: u64,
}

impl Lack {
    /// How many bytes it has, compressed or not.
    fn bytes(&self) -> u64 {
        self.plain_length.map_or(u64::from(self.length).saturating_sub(OVERHEAD as u64), u64::from)
    }
}

/// What carries windows out.
pub(super) struct Workshop<'a, S> {
    pub(super) engine: &'a Engine,
    pub(super) repository: &'a Repository<S>,
    pub(super) witness: &'a Witness,
    pub(super) progress: &'a Progress,
}

impl<S: IndexedFull + Sync> Workshop<'_, S> {
    /// Carries a window out; returns how many bytes were transferred.
    pub(super) fn carry_out(&self, window: &Window) -> Result<u64, MoverError> {
        let mut lacks = self.lacks(&window.files)?;
        lacks.sort_unstable_by_key(|lack| (lack.pack, lack.offset, lack.file, lack.at));
        let pieces = pieces(&lacks, |it| (it.pack, it.offset, it.length));
        parallel::each(FETCHES, pieces, Opener::default, |opener, piece| self.fetch(&window.files, piece, opener))?;
        for (link, file) in &window.links {
            std::fs::hard_link(file, link).map_err(|error| volume(&error, link))?;
            self.engine.meter.files(1);
        }
        for (path, node) in &window.complete {
            match open_directory(path) {
                Ok(directory) => attributes::set(&directory, path, node, self.witness),
                Err(error) => return Err(volume(&error, path)),
            }
        }
        Ok(lacks.iter().map(Lack::bytes).sum())
    }

    /// What the files lack. Those that lack nothing are finished.
    fn lacks(&self, files: &[Target]) -> Result<Vec<Lack>, MoverError> {
        let all = std::sync::Mutex::new(Vec::new());
        parallel::each(parallel::processors(), files.iter().enumerate(), Vec::new, |buffer, (number, target)| {
            let lacks = self.lacks_of(number, target, buffer)?;
            target.missing.store(lacks.len(), std::sync::atomic::Ordering::Release);
            all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(lacks);
            Ok(())
        })?;
        Ok(all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn lacks_of(&self, number: usize, target: &Target, buffer: &mut Vec<u8>) -> Result<Vec<Lack>, MoverError> {
        let failed = |error: &std::io::Error| volume(error, &target.path);
        let mut file =
            if target.is_simple() { None } else { Some(target.open_whole().map_err(|error| failed(&error))?) };
        let (mut lacks, mut at, mut kept) = (Vec::new(), 0, 0);
        for blob in target.blobs() {
            let entry = self.repository.get_index_entry(blob).map_err(|error| self.engine.error(&error))?;
            let place = entry.location;
            let length = entry.data_length();
            let there = match &mut file {
                Some(file) if target.onto != Onto::New => {
                    read_up_to(file, length as usize, buffer).map_err(|error| failed(&error))?;
                    blob_id(buffer) == BlobId::from(*blob)
                }
                _ => false,
            };
            if there {
                kept += u64::from(length);
            } else {
                lacks.push(Lack {
                    pack: entry.pack,
                    offset: place.offset,
                    length: place.length,
                    plain_length: place.uncompressed_length.map(Into::into),
                    blob: *blob,
                    file: number,
                    at,
                });
            }
            at += u64::from(length);
        }
        if at != target.node.meta.size && !target.blobs().is_empty() {
            // The file changed while it was backed up: what was read of it counts.
            if let Some(file) = &file {
                file.set_len(at).map_err(|error| failed(&error))?;
            }
        }
        self.progress.inc(kept);
        if let (Some(file), true) = (file, lacks.is_empty()) {
            self.finish(&file, target);
        }
        Ok(lacks)
    }

    /// A file that has its content gets its attributes. Those of a device are its node's.
    fn finish(&self, file: &File, target: &Target) {
        match target.onto {
            Onto::New | Onto::Existing => {
                attributes::set(file, &target.path, &target.node, self.witness);
                self.engine.meter.files(1);
            }
            Onto::Device(_) => {}
        }
    }

    /// Fetches a piece of a pack, and writes what is in it to where it belongs.
    fn fetch(&self, files: &[Target], piece: &[Lack], opener: &mut Opener) -> Result<(), MoverError> {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return Ok(()) };
        let length = last.offset + last.length - first.offset;
        let backend = &self.engine.backend;
        let sealed = backend
            .read_partial(FileType::Pack, &first.pack, false, first.offset, length)
            .map_err(|error| self.engine.error(&error))?;
        for same in piece.chunk_by(one_blob) {
            let blob = &same[0];
            let begin = (blob.offset - first.offset) as usize;
            let part = sealed.get(begin..begin + blob.length as usize).unwrap_or_default();
            let plain =
                opener.open(self.engine, part, blob.plain_length, BlobId::from(blob.blob)).ok_or_else(|| {
                    damaged(&format!("{} of pack {}", blob.blob.to_hex().as_str(), first.pack.to_hex().as_str()))
                })?;
            for lack in same {
                let target = &files[lack.file];
                let last = target.write(lack.at, plain).map_err(|error| volume(&error, &target.path))?;
                if let Some(file) = last {
                    self.finish(&file, target);
                }
                self.progress.inc(plain.len() as u64);
            }
        }
        Ok(())
    }
}

fn damaged(what: &str) -> MoverError {
    MoverError::Corrupt(format!("stored data is not what was written: blob {what}"))
}

fn one_blob(a: &Lack, b: &Lack) -> bool {
    (a.pack, a.offset) == (b.pack, b.offset)
}
