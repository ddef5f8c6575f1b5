//! A directory that every region mounts: one file per key.
//!
//! Compare-and-swap is made of `flock` on one of 64 lock files (by the key's hash), a comparison with the SHA-256 of
//! what is there, and a rename. It holds between processes of one machine, and between machines when the file system
//! passes `flock` on (`NFSv4`, `CephFS`); the self-test in `conformance` finds out within one region only.
//!
//! `.reprise/` directly in the directory holds the locks and the files that are being written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use ulid::Ulid;

use super::{Condition, DirectoryLocation, Entry, LIST_LIMIT, Object, Provider, StoreError, VaultError, deadline};
use crate::core::hex::hex;

/// Where locks and unfinished files are.
const OWN: &str = ".reprise";
/// How many lock files there are.
const LOCKS: u8 = 64;
/// How many requests may hang in a dead file system before further ones are refused.
const CONCURRENT: usize = 64;
/// How long to wait between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Arc<PathBuf>,
    slots: Arc<Semaphore>,
}

impl Directory {
    /// Names the directory. It is not looked at.
    ///
    /// # Errors
    /// When the path is not absolute.
    pub fn new(location: &DirectoryLocation) -> Result<Self, VaultError> {
        let root = PathBuf::from(&location.path);
        if !root.is_absolute() {
            return Err(VaultError::Settings(format!("the vault's directory `{}` is not absolute", location.path)));
        }
        Ok(Self { root: Arc::new(root), slots: Arc::new(Semaphore::new(CONCURRENT)) })
    }

    pub(super) async fn get(&self, key: &str, limit: u64, wait: Duration) -> Result<Option<Object>, StoreError> {
        let key = key.to_owned();
        self.run(wait, move |root| {
            let Some(file) = open(&path(root, &key)?)? else { return missing_under(root) };
            if file.metadata()?.len() > limit {
                return Err(Trouble::Store(StoreError::TooLarge { key, limit }));
            }
            let mut content = Vec::new();
            file.take(limit).read_to_end(&mut content)?;
            let tag = tag(&content);
            Ok(Some(Object { bytes: content.into(), tag }))
        })
        .await
    }

    pub(super) async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, StoreError> {
        let key = key.to_owned();
        self.run(deadline(length), move |root| {
            let Some(mut file) = open(&path(root, &key)?)? else { return missing_under(root) };
            file.seek(SeekFrom::Start(offset))?;
            let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            file.take(length).read_to_end(&mut content)?;
            Ok(Some(Bytes::from(content)))
        })
        .await
    }

    pub(super) async fn find(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.run(deadline(0), move |root| match fs::metadata(path(root, &key)?) {
            Ok(meta) if !meta.is_file() => Ok(None),
            Ok(meta) => Ok(Some(Entry { bytes: meta.len(), modified: modified(&meta)?, key })),
            Err(error) if error.kind() == ErrorKind::NotFound => missing_under(root),
            Err(error) => Err(error.into()),
        })
        .await
    }

    pub(super) async fn put_if(&self, key: &str, bytes: Bytes, condition: Condition<'_>) -> Result<String, StoreError> {
        let key = key.to_owned();
        let wanted = match condition {
            Condition::Absent => None,
            Condition::Unchanged(tag) => Some(tag.to_owned()),
        };
        let wait = deadline(bytes.len() as u64);
        let outcome = self
            .run(wait, move |root| {
                let target = path(root, &key)?;
                let _lock = lock(root, &key, Instant::now() + wait)?;
                let found = match open(&target)? {
                    None => None,
                    Some(mut file) => Some(hash_of(&mut file)?),
                };
                if found != wanted {
                    return Err(Trouble::Store(StoreError::Lost));
                }
                write(root, &target, &bytes)?;
                Ok(tag(&bytes))
            })
            .await;
        match outcome {
            // The thread goes on behind the deadline.
            Err(StoreError::TimedOut { server }) => {
                Err(StoreError::Unknown { reason: StoreError::TimedOut { server }.to_string() })
            }
            outcome => outcome,
        }
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let key = key.to_owned();
        let wait = deadline(bytes.len() as u64);
        self.run(wait, move |root| {
            let target = path(root, &key)?;
            let _lock = lock(root, &key, Instant::now() + wait)?;
            write(root, &target, &bytes)
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.run(deadline(0), move |root| {
            let target = path(root, &key)?;
            let _lock = lock(root, &key, Instant::now() + deadline(0))?;
            match fs::remove_file(target) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                result => Ok(result?),
            }
        })
        .await
    }

    pub(super) async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let prefix = prefix.to_owned();
        let after = after.unwrap_or_default().to_owned();
        self.run(deadline(0) * 3, move |root| {
            check_root(root)?;
            let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut walk = Walk { prefix: &prefix, after: &after, limit, found: Vec::new() };
            let base = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            walk.folder(&root.join(folder), &base)?;
            Ok(walk.found)
        })
        .await
    }

    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let prefix = prefix.to_owned();
        self.run(deadline(0) * 3, move |root| {
            check_root(root)?;
            let mut names: Vec<String> = children(&root.join(&prefix))?
                .into_iter()
                .filter_map(|(name, folder)| folder.then_some(name))
                .collect();
            names.retain(|name| !(prefix.is_empty() && name == OWN));
            if names.len() > LIST_LIMIT {
                return Err(Trouble::Store(StoreError::TooMany { prefix, limit: LIST_LIMIT }));
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    /// Runs blocking work on its own thread, and stops waiting for it at the deadline.
    async fn run<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce(&Path) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.root.display().to_string();
        let timed_out = || StoreError::TimedOut { server: format!("directory `{place}`") };
        let slot = tokio::time::timeout(wait, self.slots.clone().acquire_owned())
            .await
            .map_err(|_| timed_out())?
            .expect("the semaphore is never closed");
        let root = self.root.clone();
        let thread = tokio::task::spawn_blocking(move || {
            let result = work(&root);
            drop(slot);
            result
        });
        match tokio::time::timeout(wait, thread).await {
            Err(_) => Err(timed_out()),
            Ok(Err(_)) => Err(StoreError::Other(format!("a request to directory `{place}` was aborted"))),
            Ok(Ok(result)) => result.map_err(|trouble| trouble.into_error(&place)),
        }
    }
}

/// What goes wrong in a thread.
enum Trouble {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Trouble {
    fn into_error(self, place: &str) -> StoreError {
        let path = place.to_owned();
        match self {
            Self::Store(error) => error,
            Self::Io(error) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path },
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    StoreError::Forbidden { place: format!("directory `{place}`"), provider: Provider::Directory }
                }
                ErrorKind::TimedOut => StoreError::TimedOut { server: format!("directory `{place}`") },
                kind => StoreError::Other(format!("directory `{place}`: {kind}")),
            },
        }
    }
}

/// The file of a key. Keys come from this program, but a `..` would leave the directory.
fn path(root: &Path, key: &str) -> Result<PathBuf, Trouble> {
    let sound = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..") && !key.starts_with(OWN);
    if sound {
        Ok(root.join(key))
    } else {
        Err(Trouble::Store(StoreError::Other(format!("`{key}` can't be a key in a directory"))))
    }
}

fn check_root(root: &Path) -> Result<(), Trouble> {
    if root.is_dir() {
        Ok(())
    } else {
        Err(Trouble::Store(StoreError::NoDirectory { path: root.display().to_string() }))
    }
}

/// For a file that is not there: `None`, unless it is the whole vault that is not there.
fn missing_under<T>(root: &Path) -> Result<Option<T>, Trouble> {
    check_root(root).map(|()| None)
}

fn open(path: &Path) -> Result<Option<File>, Trouble> {
    match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn tag(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hash_of(file: &mut File) -> Result<String, Trouble> {
    let mut hash = Sha256::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&part[..read]),
        }
    }
}

/// Takes the lock of a key; it is given back when the file is closed, also by a crash.
fn lock(root: &Path, key: &str, end: Instant) -> Result<File, Trouble> {
    check_root(root)?;
    let folder = root.join(OWN);
    fs::create_dir_all(&folder)?;
    let number = Sha256::digest(key.as_bytes())[0] % LOCKS;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(format!("lock-{number:02}")))?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK && Instant::now() < end => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                return Err(Trouble::Store(StoreError::TimedOut { server: format!("directory `{}`", root.display()) }));
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

/// Writes a file so that it is there as a whole or not at all, also after a power failure.
fn write(root: &Path, target: &Path, content: &[u8]) -> Result<(), Trouble> {
    let folder = target.parent().expect("a key's file lies in the vault's directory");
    fs::create_dir_all(folder)?;
    let unfinished = root.join(OWN).join(format!("new-{}", Ulid::generate()));
    let written = (|| {
        let mut file = File::create_new(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, target)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    Ok(written?)
}

/// The names in a folder, and whether each is a folder. Nothing when there is no such folder.
fn children(folder: &Path) -> Result<Vec<(String, bool)>, Trouble> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, entry.file_type()?.is_dir()));
        }
    }
    Ok(names)
}

/// A walk in the byte order of keys, which skips what comes before the page.
struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<Entry>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, base: &str) -> Result<(), Trouble> {
        let mut keys: Vec<(String, bool)> = children(folder)?
            .into_iter()
            .filter(|(name, _)| !(base.is_empty() && name == OWN))
            .map(|(name, is_folder)| (format!("{base}{name}{}", if is_folder { "/" } else { "" }), is_folder))
            .collect();
        keys.sort();
        for (key, is_folder) in keys {
            if self.found.len() >= self.limit {
                return Ok(());
            }
            let may_match = key.starts_with(self.prefix) || (is_folder && self.prefix.starts_with(&key));
            let before = key.as_str() <= self.after && !(is_folder && self.after.starts_with(&key));
            if !may_match || before {
                continue;
            }
            let name = key.trim_end_matches('/').rsplit('/').next().expect("a key has a last part").to_owned();
            let path = folder.join(name);
            if is_folder {
                self.folder(&path, &key)?;
            } else {
                self.file(&path, key)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, key: String) -> Result<(), Trouble> {
        match fs::metadata(path) {
            // Deleted since the folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
            Ok(meta) => {
                self.found.push(Entry { key, bytes: meta.len(), modified: modified(&meta)? });
                Ok(())
            }
        }
    }
}

fn modified(meta: &fs::Metadata) -> std::io::Result<Timestamp> {
    Ok(Timestamp::try_from(meta.modified()?).unwrap_or(Timestamp::UNIX_EPOCH))
}
#[path = "directory_parts.rs"]
mod parts;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Store;

    fn store(folder: &tempfile::TempDir) -> Store {
        let path = folder.path().to_str().unwrap().to_owned();
        Store::Directory(Directory::new(&DirectoryLocation { path }).unwrap())
    }

    #[tokio::test]
    async fn what_was_put_is_read_back_and_gone_after_deletion() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        assert_eq!(store.get("a/b").await.unwrap(), None);
        store.put("a/b", "one".into()).await.unwrap();
        assert_eq!(store.get("a/b").await.unwrap().unwrap().bytes, "one");
        assert_eq!(store.find("a/b").await.unwrap().map(|it| it.bytes), Some(3));
        assert_eq!(store.find("a").await.unwrap(), None, "a folder is no object");
        store.delete("a/b").await.unwrap();
        store.delete("a/b").await.unwrap();
        assert_eq!(store.get("a/b").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_stale_tag_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let first = store.put_if("k", "one".into(), Condition::Absent).await.unwrap();
        assert_eq!(store.put_if("k", "x".into(), Condition::Absent).await, Err(StoreError::Lost));
        let second = store.put_if("k", "two".into(), Condition::Unchanged(&first)).await.unwrap();
        assert_eq!(store.put_if("k", "x".into(), Condition::Unchanged(&first)).await, Err(StoreError::Lost));
        assert_eq!(store.put_if("absent", "x".into(), Condition::Unchanged(&second)).await, Err(StoreError::Lost));
        let object = store.get("k").await.unwrap().unwrap();
        assert_eq!((object.bytes, object.tag), ("two".into(), second));
    }

    #[tokio::test]
    async fn a_range_ends_with_the_object() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        store.put("k", "0123456789".into()).await.unwrap();
        assert_eq!(store.get_range("k", 2, 3).await.unwrap().unwrap(), "234");
        assert_eq!(store.get_range("k", 8, 5).await.unwrap().unwrap(), "89");
        assert_eq!(store.get_range("k", 20, 5).await.unwrap().unwrap(), "");
        assert_eq!(store.get_range("absent", 0, 5).await.unwrap(), None);
    }

    #[tokio::test]
    async fn pages_follow_the_byte_order_of_keys_and_miss_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        // `-` and `.` come before `/`, `0` after it.
        let keys = ["p/a", "p/a-b", "p/a.b", "p/a0", "p/b/1", "p/b/2/x", "p/b/2/y", "p/b-c", "p/c", "q/a"];
        for key in keys {
            store.put(key, "x".into()).await.unwrap();
        }
        let mut wanted: Vec<_> = keys[..9].to_vec();
        wanted.sort_unstable();
        for limit in [1, 2, 3, 100] {
            let mut got: Vec<String> = Vec::new();
            loop {
                let page = store.page("p/", got.last().map(String::as_str), limit).await.unwrap();
                let last = page.len() < limit;
                got.extend(page.into_iter().map(|entry| entry.key));
                if last {
                    break;
                }
            }
            assert_eq!(got, wanted, "pages of {limit}");
        }
        let some: Vec<_> = store.page("p/b", None, 100).await.unwrap().into_iter().map(|entry| entry.key).collect();
        assert_eq!(some, ["p/b-c", "p/b/1", "p/b/2/x", "p/b/2/y"]);
        assert_eq!(store.list("").await.unwrap().len(), 10, "locks and unfinished files are not listed");
        assert_eq!(store.names("").await.unwrap(), ["p", "q"]);
        assert_eq!(store.names("p/").await.unwrap(), ["b"]);
    }

    #[tokio::test]
    async fn an_unmounted_vault_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").to_str().unwrap().to_owned();
        let store = Store::Directory(Directory::new(&DirectoryLocation { path: path.clone() }).unwrap());
        let missing = StoreError::NoDirectory { path };
        assert_eq!(store.list("").await, Err(missing.clone()));
        assert_eq!(store.put("k", "x".into()).await, Err(missing.clone()));
        assert_eq!(store.get("k").await, Err(missing.clone()));
        assert_eq!(store.put_if("k", "x".into(), Condition::Absent).await, Err(missing));
    }

    #[tokio::test]
    async fn keys_do_not_leave_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        for key in ["../x", "a/../../x", "/x", "a//b", ".reprise/lock-00"] {
            assert!(matches!(store.put(key, "x".into()).await, Err(StoreError::Other(_))), "{key}");
        }
    }
}
