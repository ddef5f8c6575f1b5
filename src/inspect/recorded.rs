//! The beginning of a bundle, kept while the rest goes by: its index is its first file.

use std::io::{self, Write};

use bytes::Bytes;

/// The most that is kept. An index has at most 16 MiB before compression.
const KEPT: usize = 17 << 20;

/// Keeps the first bytes that are written, and lets the rest go.
#[derive(Debug, Default)]
pub(super) struct Beginning(Vec<u8>);

impl Beginning {
    /// What was kept.
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = KEPT - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
