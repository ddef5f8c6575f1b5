//! The backend of a restic repository in a vault: what `rustic_core` reads and writes, as requests to the store.
//!
//! One repository per application, in restic's own layout, so that the restic program reads it as well:
//!
//! ```text
//! repos/<namespace>.<application>/config
//! repos/<namespace>.<application>/keys/<id>            index/<id>          snapshots/<id>
//! repos/<namespace>.<application>/data/<first two digits of id>/<id>
//! ```
//!
//! `restic -r s3:<endpoint>/<bucket>/<prefix>/repos/<namespace>.<application>` opens it with the password of
//! `Keys::repository_password`, for listing, checking and restoring; never prune with it, since neither side sees the
//! other's locks.
//!
//! The engine gives up, or panics, at the first error of a backend, so all patience is here: a request is tried
//! again for about a minute, and for ten while the store says that it is too busy. What was found missing or damaged, and what failed last, is kept in `Health`, since the
//! engine loses or hides it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use rand::RngExt;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::limits::Limits;
use super::uploads::Uploads;
use super::{Condition, PAGE_LIMIT, Store, StoreError, Vault, immutability};
use crate::core::hex::hex;
use crate::core::locks::of_longer;

/// How long a request is tried again; the store itself tries some more within the deadline of each attempt.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same where the store said that it is too busy: it will take the request, later.
const PATIENCE_WHEN_BUSY: Duration = Duration::from_mins(10);
/// The pause before the second attempt; it doubles with each, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// The most bytes of index files and packs of trees that are kept in memory.
const CACHE_LIMIT: usize = 48 * 1024 * 1024;
/// The largest file that is read as a whole.
const FILE_LIMIT: u64 = 256 * 1024 * 1024;
/// The largest pack of trees that is read as a whole to serve a part of it.
const TREE_PACK_LIMIT: u64 = 16 * 1024 * 1024;
/// How many files are locked before somebody hears of it.
const LOCKED_AT_ONCE: usize = 256;
/// The most files of one kind.
const FILES: usize = 5_000_000;

/// The prefix of an application's repository, without a slash at its end. A namespace has no dot, so no two
/// applications share one.
#[must_use]
pub fn prefix(namespace: &str, application: &str) -> String {
    format!("repos/{namespace}.{application}")
}

/// What the requests of one run showed.
#[derive(Debug, Default)]
pub struct Health {
    corrupt: Mutex<Option<String>>,
    vanished: Mutex<Option<String>>,
    failure: Mutex<Option<StoreError>>,
    stopped: AtomicBool,
    requests: AtomicU64,
}

/// A panic elsewhere leaves these values whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// The first file that was missing or damaged, and what is wrong with it. One that vanished counts until it was
    /// taken for that.
    #[must_use]
    pub fn corrupt(&self) -> Option<String> {
        locked(&self.corrupt).clone().or_else(|| locked(&self.vanished).clone())
    }

    /// An index or a snapshot that was listed, and was gone when it was to be read: a prune replaces them. It is
    /// forgotten by this: who asks reads again.
    #[must_use]
    pub fn take_vanished(&self) -> Option<String> {
        locked(&self.vanished).take()
    }

    /// The first request that failed for good.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        locked(&self.failure).clone()
    }

    /// How many requests were answered so far: it stands still when nothing moves.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// From now on every request fails at once: the run is lost, and need not be paid for to its end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn found_corrupt(&self, what: &str) -> Box<RusticError> {
        locked(&self.corrupt).get_or_insert_with(|| what.to_owned());
        RusticError::new(ErrorKind::Backend, what)
    }

    fn failed(&self, error: StoreError) -> Box<RusticError> {
        locked(&self.failure).get_or_insert_with(|| error.clone());
        RusticError::with_source(ErrorKind::Backend, "the vault did not answer as it should", error)
    }
}

/// The backend. Its methods block; they must not be called from a thread that drives the runtime.
#[derive(Clone, Debug)]
pub struct RepositoryBackend {
    store: Store,
    limits: Arc<Limits>,
    prefix: String,
    runtime: Handle,
    health: Arc<Health>,
    cache: Arc<Mutex<Cache>>,
    uploads: Arc<Uploads>,
}

impl RepositoryBackend {
    /// The backend of an application's repository; requests run on `runtime`.
    #[must_use]
    pub fn new(vault: &Vault, namespace: &str, application: &str, runtime: Handle) -> Self {
        Self {
            store: vault.store().clone(),
            limits: vault.limits().clone(),
            prefix: prefix(namespace, application),
            runtime,
            health: Arc::default(),
            cache: Arc::default(),
            uploads: Arc::default(),
        }
    }

    /// What its requests showed; shared by its clones.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Locks files until then at least, where the vault locks at all, and reads the locks back.
    ///
    /// # Errors
    /// When the store does not answer, or does not lock, or a pack is not there.
    pub fn lock(&self, files: &[(FileType, Id)], until: Timestamp) -> RusticResult<()> {
        if self.store.object_lock().is_none() {
            return Ok(());
        }
        for some in files.chunks(LOCKED_AT_ONCE) {
            let keys: Vec<String> = some.iter().map(|(kind, id)| self.key(*kind, id)).collect();
            let held = self.patiently(|| immutability::hold_all(&self.store, keys.clone(), of_longer(until)))?;
            // An index that a prune has replaced meanwhile is not needed; its successor holds for as long as others.
            let gone = held.iter().zip(some).any(|(held, (kind, _))| held.is_none() && *kind == FileType::Pack);
            if gone {
                return Err(self.health.found_corrupt("a pack that is to be locked is missing in the vault"));
            }
        }
        Ok(())
    }

    /// The size of a file. `None` when it is not there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn size(&self, kind: FileType, id: &Id) -> RusticResult<Option<u64>> {
        let key = self.key(kind, id);
        Ok(self.patiently(|| self.store.find(&key))?.map(|it| it.bytes))
    }

    /// Deletes a file. False when the vault refuses to, as under an object lock.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn delete(&self, kind: FileType, id: &Id) -> RusticResult<bool> {
        let key = self.key(kind, id);
        self.patiently(|| async {
            match self.store.delete(&key).await {
                Ok(()) => Ok(true),
                Err(StoreError::Forbidden { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// The files of a kind, each with its size and when it was written, by the store's clock.
    ///
    /// # Errors
    /// When the store does not answer, or has too many.
    pub fn files(&self, kind: FileType) -> RusticResult<Vec<(Id, u32, Timestamp)>> {
        let prefix = format!("{}/{}/", self.prefix, kind.dirname());
        let mut files = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.patiently(|| self.store.page(&prefix, after.as_deref(), PAGE_LIMIT))?;
            // What is not named like a file of a repository is none of ours.
            files.extend(page.iter().filter_map(|entry| {
                let name = entry.key.rsplit('/').next()?;
                Some((name.parse::<Id>().ok()?, u32::try_from(entry.bytes).ok()?, entry.modified))
            }));
            if page.len() < PAGE_LIMIT {
                return Ok(files);
            }
            if files.len() >= FILES {
                return Err(self.health.failed(StoreError::TooMany { prefix, limit: FILES }));
            }
            after = page.last().map(|entry| entry.key.clone());
        }
    }

    fn key(&self, kind: FileType, id: &Id) -> String {
        let name = id.to_hex();
        let name = name.as_str();
        match kind {
            FileType::Config => format!("{}/config", self.prefix),
            FileType::Pack => format!("{}/data/{}/{name}", self.prefix, &name[..2]),
            FileType::Key | FileType::Index | FileType::Snapshot => {
                format!("{}/{}/{name}", self.prefix, kind.dirname())
            }
        }
    }

    /// Sends a request until it is answered.
    fn patiently<T, F>(&self, request: impl Fn() -> F) -> RusticResult<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let begin = Instant::now();
        let mut pause = PAUSE;
        loop {
            if self.health.stopped.load(Ordering::Relaxed) {
                return Err(RusticError::new(ErrorKind::Backend, "the run was stopped"));
            }
            match self.runtime.block_on(request()) {
                Ok(value) => {
                    self.health.requests.fetch_add(1, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) if error.is_transient() && begin.elapsed() + pause < patience(&error) => {
                    let seconds = begin.elapsed().as_secs();
                    tracing::warn!(%error, seconds, "a request to the vault failed and is tried again");
                    std::thread::sleep(pause.mul_f64(rand::rng().random_range(0.5..1.5)));
                    self.runtime.block_on(self.store.calm());
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(self.health.failed(error)),
            }
        }
    }

    /// Reads a file and compares it with its name, which is its SHA-256; only `config` has another name. What does not
    /// fit is read once more: it may have been changed on the way.
    fn read(&self, kind: FileType, id: &Id, limit: u64) -> RusticResult<Bytes> {
        let key = self.key(kind, id);
        for _ in 0..2 {
            let bytes = self.read_once(kind, &key, limit)?;
            if kind == FileType::Config || hex(&Sha256::digest(&bytes)) == id.to_hex().as_str() {
                return Ok(bytes);
            }
        }
        Err(self.health.found_corrupt(&format!("`{key}` in the vault is damaged")))
    }

    fn read_once(&self, kind: FileType, key: &str, limit: u64) -> RusticResult<Bytes> {
        let object = self.patiently(|| self.store.get_up_to(key, limit))?;
        if let (FileType::Pack, Some(object)) = (kind, &object) {
            self.runtime.block_on(self.limits.download(object.bytes.len() as u64));
        }
        object.map(|object| object.bytes).ok_or_else(|| {
            let what = format!("`{key}` is missing in the vault");
            if matches!(kind, FileType::Index | FileType::Snapshot) {
                locked(&self.health.vanished).get_or_insert_with(|| what.clone());
                return RusticError::new(ErrorKind::Backend, what);
            }
            self.health.found_corrupt(&what)
        })
    }

    /// A file as it was written, also a large one; `None` when it is missing or damaged, of which nothing else is made.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn sound(&self, kind: FileType, id: &Id) -> RusticResult<Option<Bytes>> {
        let key = self.key(kind, id);
        let found = self.patiently(|| async {
            match self.store.get_up_to(&key, FILE_LIMIT).await {
                Err(StoreError::TooLarge { .. }) => Ok(None),
                other => other,
            }
        })?;
        let bytes = found.map(|it| it.bytes);
        Ok(bytes.filter(|it| hex(&Sha256::digest(it)) == id.to_hex().as_str()))
    }

    fn read_cached(&self, kind: FileType, id: &Id, limit: u64) -> RusticResult<Bytes> {
        if let Some(bytes) = locked(&self.cache).get(id) {
            return Ok(bytes);
        }
        let bytes = self.read(kind, id, limit)?;
        locked(&self.cache).put(*id, bytes.clone());
        Ok(bytes)
    }

    fn fits_cache(&self, key: &str, id: &Id) -> RusticResult<bool> {
        if locked(&self.cache).get(id).is_some() {
            return Ok(true);
        }
        let size = self.patiently(|| self.store.find(key))?.map(|it| it.bytes);
        Ok(size.is_none_or(|size| size <= TREE_PACK_LIMIT))
    }

    fn put(&self, key: &str, content: BytesList) -> RusticResult<()> {
        let content = whole(content);
        self.patiently(|| self.store.put(key, content.clone()))
    }

    fn put_pack(&self, key: &str, content: BytesList) -> RusticResult<()> {
        let content = whole(content);
        self.patiently(|| async {
            self.limits.upload(content.len() as u64).await;
            self.store.put(key, content.clone()).await
        })
    }

    /// Two movers may make one repository at the same time: the first config counts, and the other is told so.
    fn create_config(&self, content: &Bytes) -> RusticResult<()> {
        let key = self.key(FileType::Config, &Id::default());
        let written = self.patiently(|| async {
            match self.store.put_if(&key, content.clone(), Condition::Absent).await {
                Ok(_) => Ok(true),
                Err(error @ (StoreError::Lost | StoreError::Unknown { .. })) => match self.store.get(&key).await? {
                    Some(object) => Ok(object.bytes == *content),
                    None => Err(StoreError::Unknown { reason: error.to_string() }),
                },
                Err(error) => Err(error),
            }
        })?;
        if written {
            Ok(())
        } else {
            Err(RusticError::new(ErrorKind::Configuration, "the repository was made by another mover meanwhile"))
        }
    }
}

impl ReadBackend for RepositoryBackend {
    fn location(&self) -> String {
        self.prefix.clone()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if kind == FileType::Config {
            let key = self.key(kind, &Id::default());
            let size = self.patiently(|| self.store.find(&key))?.map(|it| it.bytes);
            return Ok(size
                .and_then(|size| u32::try_from(size).ok())
                .map(|size| (Id::default(), size))
                .into_iter()
                .collect());
        }
        Ok(self.files(kind)?.into_iter().map(|(id, size, _)| (id, size)).collect())
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        match kind {
            FileType::Index => self.read_cached(kind, id, FILE_LIMIT),
            FileType::Config | FileType::Key | FileType::Snapshot | FileType::Pack => self.read(kind, id, FILE_LIMIT),
        }
    }

    fn read_partial(&self, kind: FileType, id: &Id, cacheable: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let key = self.key(kind, id);
        let (start, end) = (offset as usize, offset as usize + length as usize);
        // Trees are small and read one by one, many from one pack.
        let part = if cacheable && self.fits_cache(&key, id)? {
            let pack = self.read_cached(kind, id, TREE_PACK_LIMIT)?;
            pack.slice(start.min(pack.len())..end.min(pack.len()))
        } else {
            self.patiently(|| async {
                self.limits.download(u64::from(length)).await;
                self.store.get_range(&key, u64::from(offset), u64::from(length)).await
            })?
            .ok_or_else(|| self.health.found_corrupt(&format!("`{key}` is missing in the vault")))?
        };
        if part.len() < length as usize {
            return Err(self.health.found_corrupt(&format!("`{key}` in the vault is cut off")));
        }
        Ok(part)
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        self.key(kind, id)
    }
}

impl WriteBackend for RepositoryBackend {
    fn write_bytes(&self, kind: FileType, id: &Id, _cacheable: bool, content: BytesList) -> RusticResult<()> {
        // The name is the content's hash, so that to write twice is to write once.
        let key = self.key(kind, id);
        match kind {
            FileType::Pack => {
                let backend = self.clone();
                self.uploads.begin(&self.runtime, move || backend.put_pack(&key, content))
            }
            FileType::Config => self.create_config(&whole(content)),
            FileType::Key => self.put(&key, content),
            // They may name every pack that was handed over before.
            FileType::Index | FileType::Snapshot => {
                self.uploads.settle(&self.runtime)?;
                self.put(&key, content)
            }
        }
    }

    fn remove(&self, kind: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        let key = self.key(kind, id);
        self.patiently(|| self.store.delete(&key))
    }
}

fn patience(error: &StoreError) -> Duration {
    if matches!(error, StoreError::Busy { .. }) { PATIENCE_WHEN_BUSY } else { PATIENCE }
}

/// The content in one piece. Each part is let go as soon as it is copied.
fn whole(content: BytesList) -> Bytes {
    let mut parts = content.into_vec();
    if let [_] = parts[..] {
        return parts.remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}

/// The files that were read last. Only what was read from the vault is in it, never what was written, so that
/// reading back reads from the vault.
#[derive(Debug, Default)]
struct Cache {
    files: VecDeque<(Id, Bytes)>,
    bytes: usize,
}

impl Cache {
    fn get(&mut self, id: &Id) -> Option<Bytes> {
        let at = self.files.iter().position(|(found, _)| found == id)?;
        let file = self.files.remove(at)?;
        let bytes = file.1.clone();
        self.files.push_front(file);
        Some(bytes)
    }

    fn put(&mut self, id: Id, bytes: Bytes) {
        if bytes.len() > CACHE_LIMIT || self.files.iter().any(|(found, _)| *found == id) {
            return;
        }
        self.bytes += bytes.len();
        self.files.push_front((id, bytes));
        while self.bytes > CACHE_LIMIT {
            let Some((_, dropped)) = self.files.pop_back() else { return };
            self.bytes -= dropped.len();
        }
    }
}
