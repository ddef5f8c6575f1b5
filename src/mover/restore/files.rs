//! Files of a restore: what of them is there already, what is missing, and how it is written.
//!
//! What is written has holes where the snapshot has zeros, as far as that can be.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustic_core::DataId;
use rustic_core::repofile::Node;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};

/// What is looked at as one when holes are made.
const BLOCK: usize = 64 * 1024;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What a file is restored into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// A file that the restore makes.
    New,
    /// A file that was there before.
    Existing,
    /// A part of a device, which begins here.
    Device(u64),
}

/// A file to restore.
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) node: Node,
    pub(super) onto: Onto,
    /// How many of its blobs are still to be written.
    pub(super) missing: AtomicUsize,
}

impl Target {
    pub(super) fn new(path: PathBuf, node: Node, existing: bool) -> Self {
        let onto = if existing { Onto::Existing } else { Onto::New };
        Self { path, node, onto, missing: AtomicUsize::new(0) }
    }

    /// A part of a device: the node is a file as long as the part.
    pub(super) fn part(path: PathBuf, node: Node, begin: u64) -> Self {
        Self { path, node, onto: Onto::Device(begin), missing: AtomicUsize::new(0) }
    }

    /// The blobs of the content.
    pub(super) fn blobs(&self) -> &[DataId] {
        self.node.content.as_deref().unwrap_or_default()
    }

    /// Whether it is a new file of one blob, which is made when it is written.
    pub(super) fn is_simple(&self) -> bool {
        self.blobs().len() == 1 && self.onto == Onto::New
    }

    /// Opens it at its begin for writing, in its full length.
    pub(super) fn open_whole(&self) -> io::Result<File> {
        let flags = if self.onto == Onto::New { OFlags::CREATE | OFlags::EXCL } else { OFlags::empty() };
        let mut file = open(&self.path, OFlags::RDWR | flags)?;
        match self.onto {
            Onto::New | Onto::Existing => file.set_len(self.node.meta.size)?,
            Onto::Device(begin) => file.seek(SeekFrom::Start(begin)).map(|_| ())?,
        }
        Ok(file)
    }

    /// Writes one blob; returns whether it was the last one that was missing, with the file.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> io::Result<Option<File>> {
        let alone = self.is_simple();
        let flags = if alone { OFlags::CREATE | OFlags::EXCL } else { OFlags::empty() };
        let file = open(&self.path, OFlags::WRONLY | flags)?;
        match self.onto {
            Onto::New => {
                if write_sparsely(&file, at, data, |_, _| Ok(()))? < data.len() && alone {
                    file.set_len(data.len() as u64)?;
                }
            }
            Onto::Existing => write_sparsely(&file, at, data, |at, length| clear(&file, at, length)).map(|_| ())?,
            Onto::Device(begin) => {
                write_sparsely(&file, begin + at, data, |at, length| clear(&file, at, length)).map(|_| ())?;
            }
        }
        // Whoever takes the last one sees what the others wrote.
        Ok((self.missing.fetch_sub(1, Ordering::AcqRel) == 1).then_some(file))
    }
}

/// Never through a link.
pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(File::from(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode)?))
}

/// Opens a directory, to set its attributes.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Writes what is not zero, and has `clear` see to what is; returns where the last of what is not ends.
fn write_sparsely(file: &File, at: u64, data: &[u8], clear: impl Fn(u64, u64) -> io::Result<()>) -> io::Result<usize> {
    let (mut begin, mut end) = (0, 0);
    let blocks: Vec<bool> = data.chunks(BLOCK).map(is_zero).collect();
    for run in blocks.chunk_by(PartialEq::eq) {
        let length = (run.len() * BLOCK).min(data.len() - begin);
        if run.first() == Some(&true) {
            clear(at + begin as u64, length as u64)?;
        } else {
            file.write_all_at(&data[begin..begin + length], at + begin as u64)?;
            end = begin + length;
        }
        begin += length;
    }
    Ok(end)
}

/// Makes a hole where something was, or writes zeros where that can't be.
fn clear(file: &File, at: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(file, flags, at, length).is_ok() {
        return Ok(());
    }
    (0..length).step_by(BLOCK).try_for_each(|from| {
        let rest = usize::try_from(length - from).unwrap_or(BLOCK).min(BLOCK);
        file.write_all_at(&ZEROS[..rest], at + from)
    })
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
            write_sparsely(&file, 100, &data[..end], |_, _| Ok(())).unwrap();
            assert_eq!(std::fs::read(&path).unwrap()[100..], data[..end], "{end} bytes");
            assert!(file.metadata().unwrap().blocks() * 512 <= 6 * BLOCK as u64);
        }
    }
}
