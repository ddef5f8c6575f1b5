//! Files of a restore: what of them is there already, what is missing, and how it is written.
//!
//! A file that the restore makes itself has holes where the snapshot has zeros.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustic_core::DataId;
use rustic_core::repofile::Node;
use rustix::fs::{CWD, Mode, OFlags};

/// What is looked at as one when holes are made.
const BLOCK: usize = 64 * 1024;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A file to restore.
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) node: Node,
    /// Whether a file was there before.
    pub(super) existing: bool,
    /// How many of its blobs are still to be written.
    pub(super) missing: AtomicUsize,
}

impl Target {
    pub(super) fn new(path: PathBuf, node: Node, existing: bool) -> Self {
        Self { path, node, existing, missing: AtomicUsize::new(0) }
    }

    /// The blobs of the content.
    pub(super) fn blobs(&self) -> &[DataId] {
        self.node.content.as_deref().unwrap_or_default()
    }

    /// Whether it is a new file of one blob, which is made when it is written.
    pub(super) fn is_simple(&self) -> bool {
        self.blobs().len() == 1 && !self.existing
    }

    /// Opens it for writing, in its full length.
    pub(super) fn open_whole(&self) -> io::Result<File> {
        let flags = if self.existing { OFlags::empty() } else { OFlags::CREATE | OFlags::EXCL };
        let file = open(&self.path, OFlags::RDWR | flags)?;
        file.set_len(self.node.meta.size)?;
        Ok(file)
    }

    /// Writes one blob; returns whether it was the last one that was missing, with the file.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> io::Result<Option<File>> {
        let alone = self.is_simple();
        let flags = if alone { OFlags::CREATE | OFlags::EXCL } else { OFlags::empty() };
        let file = open(&self.path, OFlags::WRONLY | flags)?;
        if self.existing {
            file.write_all_at(data, at)?;
        } else if write_sparsely(&file, at, data)? < data.len() && alone {
            file.set_len(data.len() as u64)?;
        }
        // Whoever takes the last one sees what the others wrote.
        Ok((self.missing.fetch_sub(1, Ordering::AcqRel) == 1).then_some(file))
    }
}

/// Never through a link.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(File::from(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode)?))
}

/// Opens a directory, to set its attributes.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Writes what is not zero; returns where the last of it ends.
fn write_sparsely(file: &File, at: u64, data: &[u8]) -> io::Result<usize> {
    let mut end = 0;
    let mut begin = None;
    for (number, block) in data.chunks(BLOCK).enumerate() {
        let here = number * BLOCK;
        match (is_zero(block), begin) {
            (false, None) => begin = Some(here),
            (true, Some(from)) => {
                file.write_all_at(&data[from..here], at + from as u64)?;
                (begin, end) = (None, here);
            }
            (false, Some(_)) | (true, None) => {}
        }
    }
    match begin {
        Some(from) => file.write_all_at(&data[from..], at + from as u64).map(|()| data.len()),
        None => Ok(end),
    }
}

fn is_zero(block: &[u8]) -> bool {
    *block == ZEROS[..block.len()]
}

/// Reads as much as there is, up to the buffer's length.
pub(super) fn read_up_to(file: &mut File, length: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    file.take(length as u64).read_to_end(buffer).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_become_holes_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = vec![0; 10 * BLOCK + 5];
        for at in [0, 3 * BLOCK + 7, 4 * BLOCK, 10 * BLOCK + 4] {
            data[at] = 1;
        }
        for end in [data.len(), 10 * BLOCK, 4 * BLOCK, 3, 0] {
            let path = folder.path().join(end.to_string());
            let file = File::create(&path).unwrap();
            file.set_len(end as u64 + 100).unwrap();
            write_sparsely(&file, 100, &data[..end]).unwrap();
            assert_eq!(std::fs::read(&path).unwrap()[100..], data[..end], "{end} bytes");
            assert!(file.metadata().unwrap().blocks() * 512 <= 6 * BLOCK as u64);
        }
    }
}
