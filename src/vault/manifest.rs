//! The objects of points: content-addressed, encrypted on their way, never in memory as a whole.
//!
//! `apps/<namespace>/<name>/manifests/<sha256>` is named by what it held before encryption. It is there as a whole or not
//! at all: a store shows what was sent in parts once the last one is there. What is read back is believed only when it has
//! the digest of its name.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::catalogue::{CatalogueError, folder};
use super::keys::UnsealError;
use super::{Entry, Part, Vault};
use crate::core::hex::hex;
use crate::core::point::Objects;

/// A manifest that is younger need not be written again for a new point. Shorter than `core::retention::keep_data` by
/// more than what a point may take.
const FRESH: SignedDuration = SignedDuration::from_hours(24);

/// How long a manifest that was read back is taken for whole.
const PROVEN: Duration = Duration::from_hours(1);

/// The largest manifest, in bytes.
pub const MANIFEST_LIMIT: u64 = 4 << 30;
/// How much is encrypted, sent and read at a time, in bytes. Every part but the last has as many.
pub const PART_BYTES: usize = 8 << 20;

/// What a manifest is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of it, in hex.
    pub digest: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many objects of the namespace are in it.
    pub count: u64,
}

#[cfg(test)]
impl Content {
    /// What a test stores.
    pub(crate) fn of(plain: &[u8], count: u64) -> Self {
        Self { digest: hex(&Sha256::digest(plain)), bytes: plain.len() as u64, count }
    }
}

pub(super) fn manifest_key(namespace: &str, application: &str, manifest: &str) -> String {
    format!("{}/manifests/{manifest}", folder(namespace, application))
}

/// Manifests that were read back and are whole: the last one of each application, as the store told of it, and when.
#[derive(Debug, Default)]
pub(super) struct ProvenManifests(Mutex<HashMap<String, (Entry, Instant)>>);

impl ProvenManifests {
    fn has(&self, folder: &str, entry: &Entry) -> bool {
        let proven = self.0.lock().expect("no holder of this lock panics");
        proven.get(folder).is_some_and(|(of, at)| of == entry && at.elapsed() < PROVEN)
    }

    fn add(&self, folder: String, entry: Entry) {
        self.0.lock().expect("no holder of this lock panics").insert(folder, (entry, Instant::now()));
    }
}

impl Vault {
    /// Stores the objects of a point, encrypted, under the digest of what they were before. Costs one small request
    /// when they are there already, but once an hour they are read back: what is damaged is written again. Are they there
    /// for a day, they are written again: a prune takes what no point names by its age, and the point that shall name
    /// them is yet to be written.
    ///
    /// # Errors
    /// `TooLarge`, `Store`, `Local` when the content cannot be read.
    ///
    /// # Panics
    /// Never: encryption does not.
    pub async fn write_manifest(
        &self,
        namespace: &str,
        application: &str,
        content: Content,
        plain: impl Read + Send + 'static,
    ) -> Result<Objects, CatalogueError> {
        let Content { digest: manifest, bytes: size, count } = content;
        if size > MANIFEST_LIMIT {
            return Err(CatalogueError::TooLarge { bytes: size });
        }
        let key = manifest_key(namespace, application, &manifest);
        if let Some(found) = self.store().find(&key).await?
            && Timestamp::now().duration_since(found.modified) < FRESH
        {
            let bytes = found.bytes;
            if self.whole(namespace, application, &manifest, found).await? {
                return Ok(Objects { manifest, count, bytes });
            }
        }
        let (send, mut parts) = mpsc::channel(1);
        let (keys, of) = (self.keys().clone(), (namespace.to_owned(), application.to_owned()));
        let sealing = tokio::task::spawn_blocking(move || {
            let cut = Cut { part: Vec::new(), send: send.clone(), sent: 0 };
            let sealed = keys.seal(&of.0, &of.1, cut).and_then(|mut to| {
                io::copy(&mut { plain }, &mut to)?;
                to.finish()?.finish()
            });
            if let Err(error) = &sealed {
                // Without it an upload would take what came for all there is.
                let _ = send.blocking_send(Err(error.to_string()));
            }
            sealed
        });
        let stored = self.store().put_parts(&key, size, &mut parts).await;
        // Whoever still seals learns that nobody listens.
        drop(parts);
        let sealed = sealing.await.expect("sealing does not panic, and nobody cancels it");
        stored?;
        let bytes = sealed.map_err(|error| CatalogueError::Local { reason: error.to_string() })?;
        Ok(Objects { manifest, count, bytes })
    }

    /// Whether a manifest that is there is what its name says.
    async fn whole(
        &self,
        namespace: &str,
        application: &str,
        manifest: &str,
        found: Entry,
    ) -> Result<bool, CatalogueError> {
        let of = folder(namespace, application);
        if self.proven().has(&of, &found) {
            return Ok(true);
        }
        match self.read_manifest(namespace, application, manifest, io::sink()).await {
            Ok(_) => {
                self.proven().add(of, found);
                Ok(true)
            }
            Err(error @ (CatalogueError::Corrupt { .. } | CatalogueError::Absent { .. })) => {
                tracing::warn!(%error, "it is stored again");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the objects of a point as they were given to `write_manifest`. What was written into `into` counts only if
    /// this succeeds.
    ///
    /// # Errors
    /// `Absent`, `Corrupt`, `Store`, `Local` when `into` refuses.
    ///
    /// # Panics
    /// When `into` does.
    pub async fn read_manifest<W: Write + Send + 'static>(
        &self,
        namespace: &str,
        application: &str,
        manifest: &str,
        into: W,
    ) -> Result<W, CatalogueError> {
        let key = manifest_key(namespace, application, manifest);
        let (send, receive) = mpsc::channel(1);
        let (keys, of) = (self.keys().clone(), (namespace.to_owned(), application.to_owned()));
        let opening = tokio::task::spawn_blocking(move || {
            let parts = Joined { receive, part: Bytes::new() };
            open(keys.unseal(&of.0, &of.1, parts)?, into)
        });
        let fetched = self.fetch(&key, send).await;
        let opened = opening.await.expect("opening does not panic, and nobody cancels it");
        fetched?;
        let corrupt = |reason: String| CatalogueError::Corrupt { key: key.clone(), reason };
        match opened {
            Ok((into, digest)) if digest == manifest => Ok(into),
            Ok(_) => Err(corrupt("its content is another's".to_owned())),
            Err(Opening::Unseal(error)) => Err(corrupt(error.to_string())),
            Err(Opening::Write(error)) => Err(CatalogueError::Local { reason: error.to_string() }),
        }
    }

    /// Sends what lies under a key, part by part, until it ends or nobody listens.
    async fn fetch(&self, key: &str, send: mpsc::Sender<Bytes>) -> Result<(), CatalogueError> {
        let mut offset = 0;
        // Encryption adds little: a header, and 16 bytes for each 64 KiB.
        while offset <= MANIFEST_LIMIT + MANIFEST_LIMIT / 1024 {
            let part = self.store().get_range(key, offset, PART_BYTES as u64).await?;
            let part = part.ok_or_else(|| CatalogueError::Absent { key: key.to_owned() })?;
            let length = part.len();
            if length == 0 || send.send(part).await.is_err() || length < PART_BYTES {
                return Ok(());
            }
            offset += length as u64;
        }
        Err(CatalogueError::TooLarge { bytes: offset })
    }
}

/// Why a manifest could not be opened.
enum Opening {
    Unseal(UnsealError),
    Write(io::Error),
}

impl From<UnsealError> for Opening {
    fn from(error: UnsealError) -> Self {
        Self::Unseal(error)
    }
}

/// Copies to the end, and takes the digest.
fn open<W: Write>(mut plain: impl Read, mut into: W) -> Result<(W, String), Opening> {
    let (mut digest, mut part) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        // What cannot be read does not open: the parts themselves lie in memory.
        match plain.read(&mut part).map_err(|_| UnsealError::Damaged)? {
            0 => return Ok((into, hex(&digest.finalize()))),
            read => {
                digest.update(&part[..read]);
                into.write_all(&part[..read]).map_err(Opening::Write)?;
            }
        }
    }
}

/// Cuts what is written into parts, and sends them.
struct Cut {
    part: Vec<u8>,
    send: mpsc::Sender<Part>,
    sent: u64,
}

impl Cut {
    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        self.sent += part.len() as u64;
        self.send.blocking_send(Ok(part.into())).map_err(|_| io::Error::other("nobody stores it any more"))
    }

    /// Sends the rest, and says how many bytes there were.
    fn finish(mut self) -> io::Result<u64> {
        if !self.part.is_empty() {
            self.send()?;
        }
        Ok(self.sent)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() == PART_BYTES {
            self.send()?;
        }
        let taken = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parts that come one after another, as one.
struct Joined {
    receive: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Joined {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() {
            match self.receive.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let taken = self.part.len().min(into.len());
        into[..taken].copy_from_slice(&self.part.split_to(taken));
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
