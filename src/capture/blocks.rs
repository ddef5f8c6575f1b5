//! Objects on their way into a bundle: compressed page by page, and read again one by one.
//!
//! A capture meets objects in the order in which lists bring them, and writes them in the order of their names. What lies
//! in between takes a fraction of its size, in memory while it is small and in a file when it is not. Lists are nearly
//! in order already, so that a page is seldom unpacked twice.

use std::io::{self, Read, Write};

use super::spool::{Frozen, Spool};

/// How hard a page is compressed: it is for a moment only.
const LEVEL: i32 = 1;

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    block: u32,
    offset: u32,
    /// How long it is. Bytes.
    pub length: u32,
}

impl Span {
    /// A part of a block that has no number yet: see `within`.
    #[must_use]
    pub fn new(offset: u32, length: u32) -> Self {
        Self { block: 0, offset, length }
    }

    /// The same part, of a block that was added.
    #[must_use]
    pub fn within(self, block: u32) -> Self {
        Self { block, ..self }
    }
}

/// Compresses the text of a page, to be added.
///
/// # Errors
/// When there is no memory for it.
pub fn pack(text: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(text, LEVEL)
}

/// Blocks that are added.
#[derive(Debug)]
pub struct Blocks {
    spool: Spool,
    places: Vec<Place>,
    text: u64,
}

/// Where a block lies, how long it is, and how long it was.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    packed: usize,
    text: usize,
}

impl Blocks {
    /// None yet; they move to a file once they have more than so many bytes.
    #[must_use]
    pub fn new(memory_bytes: usize) -> Self {
        Self { spool: Spool::new(memory_bytes), places: Vec::new(), text: 0 }
    }

    /// How many bytes the texts of all blocks have.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        self.text
    }

    /// Adds a block that was packed from a text of so many bytes, and returns its number.
    ///
    /// # Errors
    /// When the temporary directory refuses.
    pub fn add(&mut self, packed: &[u8], text: usize) -> io::Result<u32> {
        let number = u32::try_from(self.places.len()).map_err(io::Error::other)?;
        let offset = self.spool.len();
        self.spool.write_all(packed)?;
        self.places.push(Place { offset, packed: packed.len(), text });
        self.text += text as u64;
        Ok(number)
    }

    /// Ends the adding.
    #[must_use]
    pub fn freeze(self) -> Stored {
        Stored { content: self.spool.freeze(), places: self.places, unpacked: None }
    }
}

/// Blocks that are read.
#[derive(Debug)]
pub struct Stored {
    content: Frozen,
    places: Vec<Place>,
    /// The block that was read last.
    unpacked: Option<(u32, Vec<u8>)>,
}

impl Stored {
    /// The object at a place.
    ///
    /// # Errors
    /// When the temporary directory does not give back what was written.
    pub fn get(&mut self, at: Span) -> io::Result<&[u8]> {
        if self.unpacked.as_ref().is_none_or(|(number, _)| *number != at.block) {
            // The one before goes first: two at a time are not needed.
            self.unpacked = None;
            self.unpacked = Some((at.block, self.unpack(at.block)?));
        }
        let block = self.unpacked.as_ref().map(|(_, text)| text.as_slice()).unwrap_or_default();
        let start = at.offset as usize;
        block.get(start..start + at.length as usize).ok_or_else(|| io::Error::other("a block is shorter than it was"))
    }

    fn unpack(&self, number: u32) -> io::Result<Vec<u8>> {
        let place = self.places.get(number as usize).ok_or_else(|| io::Error::other("there is no such block"))?;
        let mut packed = Vec::with_capacity(place.packed);
        self.content.part(place.offset, place.packed as u64).read_to_end(&mut packed)?;
        zstd::bulk::decompress(&packed, place.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_found_again_in_whatever_order_it_is_asked_for() {
        for memory in [0, 1 << 20] {
            let mut blocks = Blocks::new(memory);
            let mut spans = Vec::new();
            for text in ["one two", "three four"] {
                let packed = pack(text.as_bytes()).expect("memory");
                let number = blocks.add(&packed, text.len()).expect("room");
                let first = u32::try_from(text.find(' ').expect("two words")).expect("short");
                let rest = u32::try_from(text.len()).expect("short") - first - 1;
                spans.extend([Span::new(0, first), Span::new(first + 1, rest)].map(|it| it.within(number)));
            }
            assert_eq!(blocks.text_bytes(), 17);
            let mut stored = blocks.freeze();
            for (at, word) in [(3, "four"), (0, "one"), (2, "three"), (1, "two")] {
                assert_eq!(stored.get(spans[at]).expect("it is there"), word.as_bytes());
            }
        }
    }

    #[test]
    fn a_page_takes_a_fraction_of_its_size() {
        let text = r#"{"apiVersion":"v1","kind":"ConfigMap"}"#.repeat(1000);
        let mut blocks = Blocks::new(1 << 20);
        blocks.add(&pack(text.as_bytes()).expect("memory"), text.len()).expect("room");
        assert!(blocks.spool.len() * 20 < text.len() as u64, "{}", blocks.spool.len());
    }
}
