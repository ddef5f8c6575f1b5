//! Bytes that are written once and read many times: in memory while they are few, in an unnamed file when they are
//! many. The file is gone when the last reader is, also after a crash.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use bytes::Bytes;

/// A place to append to.
#[derive(Debug)]
pub struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
    threshold: usize,
}

impl Spool {
    /// An empty one that moves to a file in the temporary directory once it holds more than `threshold` bytes.
    #[must_use]
    pub fn new(threshold: usize) -> Self {
        Self { memory: Vec::new(), file: None, length: 0, threshold }
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Ends the writing.
    #[must_use]
    pub fn freeze(self) -> Frozen {
        match self.file {
            Some(file) => Frozen::File { file: Arc::new(file), length: self.length },
            None => Frozen::Memory(self.memory.into()),
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.memory.len() + bytes.len() > self.threshold {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that no longer change. Cheap to clone; clones do not share a position.
#[derive(Clone, Debug)]
pub enum Frozen {
    /// In memory.
    Memory(Bytes),
    /// In an unnamed file.
    File {
        /// The file.
        file: Arc<File>,
        /// Its length in bytes.
        length: u64,
    },
}

impl Frozen {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads from the start.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.part(0, self.len())
    }

    /// Reads `length` bytes from `offset`.
    #[must_use]
    pub fn part(&self, offset: u64, length: u64) -> Reader {
        Reader { from: self.clone(), offset, end: offset.saturating_add(length).min(self.len()) }
    }
}

/// A position in frozen bytes.
#[derive(Debug)]
pub struct Reader {
    from: Frozen,
    offset: u64,
    end: u64,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let most = left.min(into.len());
        let into = &mut into[..most];
        let read = match &self.from {
            Frozen::Memory(bytes) => {
                // A part may begin after the end: there is nothing of it to read.
                let start = usize::try_from(self.offset).map_err(io::Error::other)?.min(bytes.len());
                into.copy_from_slice(&bytes[start..start + into.len()]);
                into.len()
            }
            Frozen::File { file, .. } => file.read_at(into, self.offset)?,
        };
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(threshold: usize) -> Frozen {
        let mut spool = Spool::new(threshold);
        for part in ["one ", "two ", "three"] {
            spool.write_all(part.as_bytes()).expect("room in memory or in the temporary directory");
        }
        assert_eq!(spool.len(), 13);
        spool.freeze()
    }

    fn read(mut from: impl Read) -> String {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("what was written");
        text
    }

    #[test]
    fn few_bytes_stay_in_memory_and_many_go_to_a_file_and_both_read_alike() {
        let (memory, file) = (written(64), written(5));
        assert!(matches!(memory, Frozen::Memory(_)) && matches!(file, Frozen::File { .. }));
        for bytes in [memory, file] {
            assert_eq!(read(bytes.reader()), "one two three");
            assert_eq!(read(bytes.part(4, 3)), "two");
            assert_eq!(read(bytes.part(8, 900)), "three", "a part ends where the bytes end");
            assert_eq!(read(bytes.part(900, 1)), "");
        }
    }

    #[test]
    fn readers_do_not_share_a_position() {
        let bytes = written(5);
        let (mut first, second) = (bytes.reader(), bytes.reader());
        first.read_exact(&mut [0; 4]).expect("four bytes");
        assert_eq!((read(first), read(second)), ("two three".into(), "one two three".into()));
    }
}
