//! Stores a block device: as one file, cut into pieces of equal length, since nothing on a device moves.
//!
//! All of it is read each time, for a device does not tell what has changed; what is stored already is not stored again,
//! and pieces of zeros are neither hashed nor compressed. Restoring is `restore::device`.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use rustic_core::repofile::{BlobType, Metadata, Node, NodeType, Tree};
use rustic_core::{DataId, Id, Progress, TreeId};

use super::archive::{Change, Counts, Store};
use super::engine::{Engine, ROOT};
use super::error::MoverError;
use super::parallel;

/// The name of the file that a device is in a snapshot.
pub(super) const NAME: &str = "device";
/// The length of a piece, and that of pieces of a device that is larger than `LARGE`: a piece's name takes some 70 bytes
/// of memory.
const PIECE: usize = 1 << 20;
const LONG_PIECE: usize = 4 << 20;
const LARGE: u64 = 1 << 40;

/// Whether a path leads to a block device.
pub(super) fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.file_type().is_block_device())
}

/// How many bytes a device has.
pub(super) fn size(mut device: &File) -> io::Result<u64> {
    device.seek(SeekFrom::End(0))
}

/// Stores what is on a device; returns the tree that has nothing but it.
pub(super) fn store(
    engine: &Engine,
    store: &Store<'_>,
    source: &Path,
    progress: &Progress,
) -> Result<(TreeId, Counts), MoverError> {
    let failed = |error: &io::Error| MoverError::Volume(format!("{}: {}", source.display(), error.kind()));
    let device = File::open(source).map_err(|error| failed(&error))?;
    let size = size(&device).map_err(|error| failed(&error))?;
    progress.set_length(size);
    let piece = if size > LARGE { LONG_PIECE } else { PIECE };
    let begins = (0..size).step_by(piece);
    let ids = Mutex::new(vec![Id::default(); begins.clone().count()]);
    let zeros = Mutex::new(None);
    let state = || (store.tools(), vec![0; piece]);
    parallel::each(parallel::processors(), begins.enumerate(), state, |(tools, buffer), (number, begin)| {
        let length = usize::try_from(size - begin).unwrap_or(usize::MAX).min(piece);
        let buffer = &mut buffer[..length];
        device.read_exact_at(buffer, begin).map_err(|error| failed(&error))?;
        let id = if length == piece && is_zero(buffer) {
            let mut zeros = zeros.lock().unwrap_or_else(PoisonError::into_inner);
            match *zeros {
                Some(id) => id,
                None => *zeros.insert(store.add(BlobType::Data, buffer, tools)?),
            }
        } else {
            store.add(BlobType::Data, buffer, tools)?
        };
        ids.lock().unwrap_or_else(PoisonError::into_inner)[number] = id;
        engine.meter.step();
        progress.inc(length as u64);
        Ok(())
    })?;
    let ids = ids.into_inner().unwrap_or_else(PoisonError::into_inner);
    let counts = Counts::default();
    counts.files[Change::Changed as usize].store(1, Ordering::Relaxed);
    counts.bytes.store(size, Ordering::Relaxed);
    Ok((tree(store, size, ids)?, counts))
}

fn tree(store: &Store<'_>, size: u64, ids: Vec<Id>) -> Result<TreeId, MoverError> {
    let mut tools = store.tools();
    let mut save = |node: Node| {
        let tree = Tree { nodes: vec![node] };
        let (text, id) = tree.serialize().map_err(|error| MoverError::Engine(error.to_string()))?;
        store.add(BlobType::Tree, &text, &mut tools).map(|_| id)
    };
    // Nothing that differs from time to time: what has not changed has the same name.
    let meta = Metadata { mode: Some(0o600), size, links: 1, ..Metadata::default() };
    let mut file = Node::new_node(NAME.as_ref(), NodeType::File, meta);
    file.content = Some(ids.into_iter().map(DataId::from).collect());
    let mut root = Node::new_node(ROOT.as_ref(), NodeType::Dir, Metadata::default());
    root.subtree = Some(save(file)?);
    save(root)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|it| it == &[0; 4096][..it.len()])
}
