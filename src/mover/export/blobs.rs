//! The pieces that files are made of, as they are read from packs for an export: in their order, and few requests for many.

use rustic_core::repofile::PackId;
use rustic_core::{BlobId, DataId, FileType, IndexedFull, ReadBackend, Repository};

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::pieces::{Opener, pieces};
use super::super::seal::OVERHEAD;

/// Where a piece of a file lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    blob: DataId,
    pack: PackId,
    offset: u32,
    length: u32,
    plain_length: Option<u32>,
}

impl Place {
    /// How many bytes it has, compressed or not.
    pub(super) fn bytes(&self) -> u64 {
        self.plain_length.map_or(u64::from(self.length).saturating_sub(OVERHEAD as u64), u64::from)
    }
}

/// Looks the pieces of a file up.
pub(super) fn places<S: IndexedFull>(
    engine: &Engine,
    repository: &Repository<S>,
    content: &[DataId],
) -> Result<Vec<Place>, MoverError> {
    let place = |blob: &DataId| {
        let entry = repository.get_index_entry(blob).map_err(|error| engine.error(&error))?;
        let at = entry.location;
        let plain_length = at.uncompressed_length.map(Into::into);
        Ok(Place { blob: *blob, pack: entry.pack, offset: at.offset, length: at.length, plain_length })
    };
    content.iter().map(place).collect()
}

/// Reads pieces; returns the text of each, in their order. All of them are held in memory.
pub(super) fn read(engine: &Engine, places: &[Place], opener: &mut Opener) -> Result<Vec<Vec<u8>>, MoverError> {
    let mut sorted: Vec<(usize, &Place)> = places.iter().enumerate().collect();
    sorted.sort_unstable_by_key(|(number, it)| (it.pack, it.offset, *number));
    let mut texts = vec![Vec::new(); places.len()];
    for piece in pieces(&sorted, |(_, it)| (it.pack, it.offset, it.length)) {
        let (Some((_, first)), Some((_, last))) = (piece.first(), piece.last()) else { continue };
        let length = last.offset + last.length - first.offset;
        let sealed = engine.backend.read_partial(FileType::Pack, &first.pack, false, first.offset, length);
        let sealed = sealed.map_err(|error| engine.error(&error))?;
        for (number, place) in piece {
            let begin = (place.offset - first.offset) as usize;
            let part = sealed.get(begin..begin + place.length as usize).unwrap_or_default();
            let plain = opener.open(engine, part, place.plain_length, BlobId::from(place.blob)).ok_or_else(|| {
                let (blob, pack) = (place.blob.to_hex(), first.pack.to_hex());
                let what = format!("blob {} of pack {}", blob.as_str(), pack.as_str());
                MoverError::Corrupt(format!("stored data is not what was written: {what}"))
            })?;
            texts[*number] = plain.to_vec();
        }
    }
    Ok(texts)
}
