//! Blobs as they are read from packs: some that lie near each other at once, each compared with its name, its hash.

use rustic_core::BlobId;
use rustic_core::repofile::PackId;

use super::engine::Engine;
use super::seal::blob_id;

/// The most bytes that are read at once, but for a blob that is larger.
const PIECE: u32 = 4 << 20;
/// Bytes that are rather read in vain than left out by a second request.
const GAP: u32 = 128 << 10;

/// Cuts blobs, in the order in which they lie, into pieces that are read at once. `place` is the pack, the offset and the
/// length of one. A blob that is there more than once is read once.
pub(super) fn pieces<T>(blobs: &[T], place: impl Fn(&T) -> (PackId, u32, u32)) -> Vec<&[T]> {
    let (mut pieces, mut begin) = (Vec::new(), 0);
    for end in 1..=blobs.len() {
        let near = blobs.get(end).is_some_and(|next| {
            let (first, last, next) = (place(&blobs[begin]), place(&blobs[end - 1]), place(next));
            next == last
                || (next.0 == first.0
                    && next.1 <= (last.1 + last.2).saturating_add(GAP)
                    && next.1 + next.2 - first.1 <= PIECE)
        });
        if !near {
            pieces.push(&blobs[begin..end]);
            begin = end;
        }
    }
    pieces
}

/// What one thread keeps between blobs.
#[derive(Default)]
pub(super) struct Opener {
    opened: Vec<u8>,
    plain: Vec<u8>,
    unpack: Option<zstd::bulk::Decompressor<'static>>,
}

impl Opener {
    /// The plain text of a blob, when it is what its name says. `plain_length` is how many bytes it has, if it is compressed.
    pub(super) fn open(
        &mut self,
        engine: &Engine,
        sealed: &[u8],
        plain_length: Option<u32>,
        blob: BlobId,
    ) -> Option<&[u8]> {
        let Self { opened, plain, unpack } = self;
        if !engine.seal.open(sealed, opened) {
            return None;
        }
        let plain = match plain_length {
            None => opened,
            Some(length) => {
                let unpack = match unpack {
                    Some(unpack) => unpack,
                    none => none.insert(zstd::bulk::Decompressor::new().ok()?),
                };
                plain.clear();
                plain.reserve_exact(length as usize);
                unpack.decompress_to_buffer(opened, plain).ok()?;
                plain
            }
        };
        (blob_id(plain) == blob).then_some(plain)
    }
}

#[cfg(test)]
mod tests {
    use rustic_core::Id;

    use super::*;

    #[test]
    fn what_lies_near_is_read_at_once_and_what_is_there_twice_is_read_once() {
        let packs = [1, 2].map(|it| PackId::from(Id::new([it; 32])));
        let large = PIECE + 5;
        let blobs = [
            (packs[0], 0, 100),
            (packs[0], 0, 100),
            (packs[0], 100 + GAP, 50),
            (packs[0], 151 + 2 * GAP, 10),
            (packs[1], 0, large),
            (packs[1], 0, large),
            (packs[1], large, 1),
        ];
        let lengths: Vec<usize> = pieces(&blobs, |it| *it).iter().map(|it| it.len()).collect();
        assert_eq!(lengths, [3, 1, 2, 1]);
        assert!(pieces(&blobs[..0], |it| *it).is_empty());
    }
}
