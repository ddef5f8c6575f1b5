//! Blobs on their way into the vault: compressed, sealed, put into packs, and named by an index.
//!
//! The formats are restic's. A pack is its blobs, then a sealed list of them, then that list's length.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustic_core::repofile::BlobType;
use rustic_core::{BlobId, FileType, Id, WriteBackend};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::engine::{Engine, PACK, TREE_PACK};
use super::super::error::MoverError;
use super::super::index::Index;
use super::super::seal::{NONCE, OVERHEAD};

/// Blobs of one index file, and the most of one pack.
const INDEX: usize = 50_000;
const BLOBS: usize = 10_000;
/// Sets of names, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// What was written.
#[derive(Default)]
pub(in crate::mover) struct Written {
    pub(in crate::mover) blobs: AtomicU64,
    pub(in crate::mover) bytes: AtomicU64,
    pub(in crate::mover) packed: AtomicU64,
}

/// The way into the vault.
pub(in crate::mover) struct Store<'a> {
    engine: &'a Engine,
    index: &'a Index,
    level: i32,
    verify: bool,
    new: Vec<Mutex<HashSet<BlobId>>>,
    data: Mutex<Pack>,
    trees: Mutex<Pack>,
    unnamed: Mutex<Vec<NamedPack>>,
    pub(in crate::mover) data_written: Written,
    pub(in crate::mover) trees_written: Written,
}

/// A pack that grows.
#[derive(Default)]
struct Pack {
    bytes: Vec<u8>,
    blobs: Vec<Blob>,
}

#[derive(Serialize)]
struct Blob {
    id: Id,
    #[serde(rename = "type")]
    kind: &'static str,
    offset: usize,
    length: usize,
    uncompressed_length: usize,
    #[serde(skip)]
    hash: [u8; 32],
}

/// A pack as an index names it.
#[derive(Serialize)]
struct NamedPack {
    id: Id,
    blobs: Vec<Blob>,
    time: jiff::Timestamp,
}

#[derive(Serialize)]
struct IndexText {
    packs: Vec<NamedPack>,
}

/// What one thread keeps between blobs.
pub(in crate::mover) struct Tools {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    sealed: Vec<u8>,
    /// What was sealed, opened again; and that, decompressed.
    opened: Vec<u8>,
    again: Vec<u8>,
    /// What is read of a file.
    pub(super) buffer: Vec<u8>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Store<'a> {
    /// `level` is that of zstd; with `verify`, what was sealed is opened again and compared.
    pub(in crate::mover) fn new(engine: &'a Engine, index: &'a Index, level: i32, verify: bool) -> Self {
        Self {
            engine,
            index,
            level,
            verify,
            new: (0..SHARDS).map(|_| Mutex::default()).collect(),
            data: Mutex::default(),
            trees: Mutex::default(),
            unnamed: Mutex::default(),
            data_written: Written::default(),
            trees_written: Written::default(),
        }
    }

    /// How many bytes were written, compressed and sealed.
    pub(in crate::mover) fn packed(&self) -> u64 {
        [&self.data_written, &self.trees_written].iter().map(|it| it.packed.load(Ordering::Relaxed)).sum()
    }

    /// Tools for one thread.
    pub(in crate::mover) fn tools(&self) -> Tools {
        Tools {
            compressor: zstd::bulk::Compressor::new(self.level).expect("zstd takes every level"),
            decompressor: zstd::bulk::Decompressor::new().expect("without a dictionary nothing can be wrong with it"),
            sealed: Vec::new(),
            opened: Vec::new(),
            again: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Stores a blob that is not there yet; returns its name.
    pub(in crate::mover) fn add(&self, kind: BlobType, plain: &[u8], tools: &mut Tools) -> Result<Id, MoverError> {
        let hash: [u8; 32] = Sha256::digest(plain).into();
        let id = Id::new(hash);
        let blob = BlobId::from(id);
        let (there, pack, limit, written, name) = match kind {
            BlobType::Data => (self.index.has_data(blob), &self.data, PACK, &self.data_written, "data"),
            BlobType::Tree => (self.index.has_tree(blob), &self.trees, TREE_PACK, &self.trees_written, "tree"),
        };
        if there || !locked(&self.new[usize::from(hash[0]) % SHARDS]).insert(blob) {
            return Ok(id);
        }
        let length = self.seal(plain, tools)?;
        written.blobs.fetch_add(1, Ordering::Relaxed);
        written.bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        written.packed.fetch_add(length as u64, Ordering::Relaxed);
        let full = {
            let mut pack = locked(pack);
            if pack.bytes.capacity() == 0 {
                pack.bytes.reserve_exact(usize::try_from(limit.as_u64()).unwrap_or(0));
            }
            let offset = pack.bytes.len();
            pack.bytes.extend_from_slice(&tools.sealed[..length]);
            pack.blobs.push(Blob { id, kind: name, offset, length, uncompressed_length: plain.len(), hash });
            let full = pack.bytes.len() as u64 >= limit.as_u64() || pack.blobs.len() >= BLOBS;
            full.then(|| std::mem::take(&mut *pack))
        };
        full.map_or(Ok(()), |pack| self.send(pack))?;
        Ok(id)
    }

    /// Compresses and seals into the tools' buffer; returns how many bytes that are.
    fn seal(&self, plain: &[u8], tools: &mut Tools) -> Result<usize, MoverError> {
        let Tools { compressor, decompressor, sealed, opened, again, buffer: _ } = tools;
        let room = zstd::zstd_safe::compress_bound(plain.len()) + OVERHEAD;
        if sealed.len() < room {
            sealed.resize(room, 0);
        }
        let packed = compressor
            .compress_to_buffer(plain, &mut sealed[NONCE..])
            .map_err(|error| MoverError::Engine(format!("compressing: {error}")))?;
        let length = packed + OVERHEAD;
        self.engine.seal.seal(&mut sealed[..length]);
        let mut opens = |sealed: &[u8]| {
            again.clear();
            again.reserve(plain.len());
            self.engine.seal.open(sealed, opened)
                && decompressor.decompress_to_buffer(&opened[..], again).is_ok()
                && again == plain
        };
        let sound = !self.verify || opens(&sealed[..length]);
        if sound {
            Ok(length)
        } else {
            Err(MoverError::Engine(
                "memory or processor are faulty: what was compressed and sealed does not open".to_owned(),
            ))
        }
    }

    /// Closes a pack and sends it.
    fn send(&self, mut pack: Pack) -> Result<(), MoverError> {
        let mut list = vec![0; NONCE];
        for blob in &pack.blobs {
            let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
            list.push(if blob.kind == "data" { 2 } else { 3 });
            list.extend(small(blob.length));
            list.extend(small(blob.uncompressed_length));
            list.extend(blob.hash);
        }
        list.resize(list.len() + NONCE, 0);
        self.engine.seal.seal(&mut list);
        pack.bytes.extend_from_slice(&list);
        pack.bytes.extend(u32::try_from(list.len()).unwrap_or(u32::MAX).to_le_bytes());
        let id = Id::new(Sha256::digest(&pack.bytes).into());
        let Pack { bytes, blobs } = pack;
        self.write(FileType::Pack, id, bytes)?;
        self.engine.meter.step();
        let full = {
            let mut unnamed = locked(&self.unnamed);
            unnamed.push(NamedPack { id, blobs, time: jiff::Timestamp::now() });
            let count = unnamed.iter().map(|pack| pack.blobs.len()).sum::<usize>();
            (count >= INDEX).then(|| std::mem::take(&mut *unnamed))
        };
        full.map_or(Ok(()), |packs| self.name(packs))
    }

    fn name(&self, packs: Vec<NamedPack>) -> Result<(), MoverError> {
        self.save(FileType::Index, &IndexText { packs }).map(|_| ())
    }

    /// Sends what is left, and names it: whoever comes after a kill finds it.
    pub(in crate::mover) fn finish(&self) -> Result<(), MoverError> {
        for pack in [&self.data, &self.trees] {
            let pack = std::mem::take(&mut *locked(pack));
            if !pack.blobs.is_empty() {
                self.send(pack)?;
            }
        }
        self.name_sent()
    }

    /// Names the packs that were sent.
    pub(in crate::mover) fn name_sent(&self) -> Result<(), MoverError> {
        let packs = std::mem::take(&mut *locked(&self.unnamed));
        if packs.is_empty() { Ok(()) } else { self.name(packs) }
    }

    /// Writes a file of the repository; returns its name.
    pub(in crate::mover) fn save(&self, kind: FileType, content: &impl Serialize) -> Result<Id, MoverError> {
        let text = serde_json::to_vec(content).expect("it is plain data");
        let packed = zstd::bulk::compress(&text, self.level)
            .map_err(|error| MoverError::Engine(format!("compressing: {error}")))?;
        // The two says that what follows is compressed.
        let mut sealed = [&[0; NONCE][..], &[2], &packed, &[0; NONCE]].concat();
        self.engine.seal.seal(&mut sealed);
        let id = Id::new(Sha256::digest(&sealed).into());
        self.write(kind, id, sealed)?;
        Ok(id)
    }

    fn write(&self, kind: FileType, id: Id, content: Vec<u8>) -> Result<(), MoverError> {
        self.engine.backend.write_bytes(kind, &id, false, content.into()).map_err(|error| self.engine.error(&error))
    }
}
