//! The objects of a point, from one vault to another: opened and sealed anew on their way, never in memory as a whole.

use std::io::{self, PipeReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::error::MoverError;
use super::Copy;
use crate::core::point::Objects;
use crate::vault::catalogue::CatalogueError;
use crate::vault::manifest::Content;

/// Copies them. They are stored only if they are what their name says.
pub(super) async fn copy(copy: &Copy<'_>, objects: &Objects) -> Result<Objects, MoverError> {
    let (namespace, application) = (copy.namespace, copy.application);
    let local = |error: io::Error| CatalogueError::Local { reason: error.to_string() };
    let (reader, writer) = io::pipe().map_err(local)?;
    let whole = Arc::new(AtomicBool::new(false));
    let content = Content { digest: objects.manifest.clone(), bytes: objects.bytes, count: objects.count };
    let plain = UntilWhole { reader, whole: Arc::clone(&whole) };
    let reading = async {
        // What was written counts from here on: the digest was compared. The pipe is closed after that is said.
        let read = copy.from.read_manifest(namespace, application, &objects.manifest, writer).await;
        read.map(|writer| {
            whole.store(true, Ordering::SeqCst);
            drop(writer);
        })
    };
    let (read, written) = tokio::join!(reading, copy.to.write_manifest(namespace, application, content, plain));
    match (read, written) {
        // It is there already, or all of it was read.
        (_, Ok(objects)) => Ok(objects),
        (Err(error @ (CatalogueError::Corrupt { .. } | CatalogueError::Absent { .. })), Err(_)) => {
            Err(MoverError::Corrupt(format!("its objects: {error}")))
        }
        (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error.into()),
    }
}

/// An end of what is read that comes too early is an error, and no end.
struct UntilWhole {
    reader: PipeReader,
    whole: Arc<AtomicBool>,
}

impl Read for UntilWhole {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(into)? {
            0 if !into.is_empty() && !self.whole.load(Ordering::SeqCst) => {
                Err(io::Error::other("the objects could not be read to their end"))
            }
            read => Ok(read),
        }
    }
}
