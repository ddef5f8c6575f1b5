//! Where restic cuts a file: behind every byte at which the Rabin fingerprint of the last 64 bytes ends in zeros.
//!
//! It reads nothing and copies nothing; it finds cuts in what it is shown. The fingerprint of a place depends on 64
//! bytes only, so that four parts of a block are searched side by side: one search alone would wait for its own table
//! look-ups most of the time.

/// Bytes that a fingerprint is made of.
pub const WINDOW: usize = 64;
/// Parts that are searched side by side, and the length of each.
const LANES: usize = 4;
const LANE: usize = 8 * 1024;

/// A polynomial over GF(2), its tables, and the sizes of chunks.
pub struct Chunker {
    append: [u64; 256],
    remove: [u64; 256],
    shift: u32,
    mask: u64,
    least: usize,
    most: usize,
}

impl Chunker {
    /// For a repository's irreducible `polynomial` (degree 53 in restic's), chunks of `least` to `most` bytes, and of
    /// `average` bytes more than `least` between two cuts. `average` must be a power of two, and `least` not below
    /// `WINDOW`.
    #[must_use]
    pub fn new(polynomial: u64, average: usize, least: usize, most: usize) -> Self {
        let degree = polynomial.ilog2();
        let mut chunker = Self {
            append: [0; 256],
            remove: [0; 256],
            shift: degree - 8,
            mask: average as u64 - 1,
            least: least.max(WINDOW),
            most,
        };
        for byte in 0..256_u64 {
            let above = byte << degree;
            chunker.append[usize::try_from(byte).unwrap_or(0)] = remainder(above, polynomial) | above;
        }
        for byte in 0..=255_u8 {
            let first = chunker.slide(0, byte);
            chunker.remove[usize::from(byte)] = (1..WINDOW).fold(first, |hash, _| chunker.slide(hash, 0));
        }
        chunker
    }

    /// The most bytes of a chunk.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// The length of the first chunk of `data`, when it ends there. `searched` bytes were looked at before, and had no
    /// cut. `None` means that more bytes are needed; a file that has no more ends with all of `data` as one chunk.
    #[must_use]
    pub fn cut(&self, data: &[u8], searched: usize) -> Option<usize> {
        let end = data.len().min(self.most);
        let mut begin = searched.max(self.least - 1);
        while begin < end {
            let block = &data[begin + 1 - WINDOW..end.min(begin + LANES * LANE)];
            if let Some(at) = self.search(block) {
                return Some(begin + at + 1);
            }
            begin += LANES * LANE;
        }
        (data.len() >= self.most).then_some(self.most)
    }

    /// The first place in `block`, counted from its 64th byte, with a fingerprint that ends in zeros.
    fn search(&self, block: &[u8]) -> Option<usize> {
        let places = block.len() + 1 - WINDOW;
        if places < LANES * LANE {
            return self.search_lane(block);
        }
        let mut found = [usize::MAX; LANES];
        let lane = |number: usize| &block[number * LANE..(number + 1) * LANE + WINDOW - 1];
        let lanes: [&[u8]; LANES] = std::array::from_fn(lane);
        let mut hashes = lanes.map(|lane| self.begin(lane));
        for at in 0..LANE {
            for number in 0..LANES {
                let hash = self.slide(hashes[number], lanes[number][at + WINDOW - 1]);
                if hash & self.mask == 0 {
                    found[number] = found[number].min(number * LANE + at);
                }
                hashes[number] = hash ^ self.remove[usize::from(lanes[number][at])];
            }
        }
        found.into_iter().min().filter(|at| *at != usize::MAX)
    }

    fn search_lane(&self, block: &[u8]) -> Option<usize> {
        let mut hash = self.begin(block);
        for (at, (first, last)) in block.iter().zip(&block[WINDOW - 1..]).enumerate() {
            hash = self.slide(hash, *last);
            if hash & self.mask == 0 {
                return Some(at);
            }
            hash ^= self.remove[usize::from(*first)];
        }
        None
    }

    /// The fingerprint of all bytes of the first window but its last.
    fn begin(&self, block: &[u8]) -> u64 {
        block[..WINDOW - 1].iter().fold(0, |hash, byte| self.slide(hash, *byte))
    }

    #[inline]
    fn slide(&self, hash: u64, byte: u8) -> u64 {
        let index = ((hash >> self.shift) & 255) as usize;
        ((hash << 8) | u64::from(byte)) ^ self.append[index]
    }
}

fn remainder(mut of: u64, by: u64) -> u64 {
    while of != 0 && of.leading_zeros() <= by.leading_zeros() {
        of ^= by << (by.leading_zeros() - of.leading_zeros());
    }
    of
}
