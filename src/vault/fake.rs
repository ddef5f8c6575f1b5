//! A store in memory, for tests: sound, or with one of the faults that real servers have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

use super::{Condition, Entry, Object, Part, Provider, StoreError};
use crate::core::hex::hex;

/// How it treats conditional writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Sound,
    /// Compares, lets others run, then writes.
    Racy,
    /// Writes, whatever the condition says.
    Careless,
    /// As it should, but every n-th reply is lost after the write.
    Forgetful(u32),
}

/// The store. Clones share their content.
#[derive(Clone, Debug)]
pub struct Fake {
    manner: Manner,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<String, Bytes>,
    writes: u32,
    requests: u32,
    broken: Option<StoreError>,
    /// How many writes under a prefix are left until one fails.
    refused: Option<(String, u32, StoreError)>,
    /// When objects were written, if not just now.
    aged: BTreeMap<String, Timestamp>,
    /// What must not be deleted.
    locked: Vec<String>,
    /// What someone else writes as soon as something was read.
    next: Vec<(String, Bytes)>,
}

impl Fake {
    pub fn new(manner: Manner) -> Self {
        Self { manner, content: Arc::default() }
    }

    /// From now on every request fails.
    pub fn break_with(&self, error: StoreError) {
        self.content.lock().unwrap().broken = Some(error);
    }

    /// The n-th write of a key that begins so fails; those after it do not.
    pub fn refuse(&self, prefix: &str, nth: u32, error: StoreError) {
        self.content.lock().unwrap().refused = Some((prefix.to_owned(), nth, error));
    }

    /// From now on this is not deleted, as under an object lock.
    pub fn lock(&self, key: &str) {
        self.content.lock().unwrap().locked.push(key.to_owned());
    }

    /// Someone else writes this right after the next `get`.
    pub fn put_after_next_get<const N: usize>(&self, objects: [(&str, Bytes); N]) {
        self.content.lock().unwrap().next = objects.map(|(key, bytes)| (key.to_owned(), bytes)).into();
    }

    pub fn requests(&self) -> u32 {
        self.content.lock().unwrap().requests
    }

    /// Changes an object behind everyone's back.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content.lock().unwrap();
        let mut bytes = content.objects[key].to_vec();
        change(&mut bytes);
        content.objects.insert(key.to_owned(), bytes.into());
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        let mut content = self.content.lock().unwrap();
        content.requests += 1;
        match &content.broken {
            Some(error) => Err(error.clone()),
            None => Ok(content),
        }
    }

    pub fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let mut content = self.content()?;
        let found = content.objects.get(key).map(|bytes| Object { bytes: bytes.clone(), tag: tag(bytes) });
        let next = std::mem::take(&mut content.next);
        content.objects.extend(next);
        Ok(found)
    }

    pub fn find(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let content = self.content()?;
        let modified = content.aged.get(key).copied().unwrap_or_else(Timestamp::now);
        Ok(content.objects.get(key).map(|it| Entry { key: key.to_owned(), bytes: it.len() as u64, modified }))
    }

    /// From now on this was written then.
    pub fn age(&self, key: &str, modified: Timestamp) {
        self.content.lock().unwrap().aged.insert(key.to_owned(), modified);
    }

    pub fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, StoreError> {
        let content = self.content()?;
        Ok(content.objects.get(key).map(|bytes| {
            let size = bytes.len() as u64;
            let range = offset.min(size)..(offset + length).min(size);
            bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
        }))
    }

    pub async fn put_if(&self, key: &str, bytes: Bytes, condition: Condition<'_>) -> Result<String, StoreError> {
        let holds = |content: &Content| {
            let found = content.objects.get(key).map(|bytes| tag(bytes));
            match condition {
                Condition::Absent => found.is_none(),
                Condition::Unchanged(wanted) => found.as_deref() == Some(wanted),
            }
        };
        if self.manner == Manner::Racy {
            if !holds(&*self.content()?) {
                return Err(StoreError::Lost);
            }
            tokio::task::yield_now().await;
        }
        let mut content = self.content()?;
        if matches!(self.manner, Manner::Sound | Manner::Forgetful(_)) && !holds(&content) {
            return Err(StoreError::Lost);
        }
        let tag = tag(&bytes);
        content.objects.insert(key.to_owned(), bytes);
        content.writes += 1;
        match self.manner {
            Manner::Forgetful(every) if content.writes % every == 0 => {
                Err(StoreError::Unknown { reason: "the reply was lost".to_owned() })
            }
            _ => Ok(tag),
        }
    }

    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let mut content = self.content()?;
        if let Some((prefix, left, error)) = &mut content.refused
            && key.starts_with(prefix.as_str())
            && *left > 0
        {
            *left -= 1;
            if *left == 0 {
                return Err(error.clone());
            }
        }
        content.objects.insert(key.to_owned(), bytes);
        Ok(())
    }

    pub async fn put_parts(&self, key: &str, parts: &mut Receiver<Part>) -> Result<(), StoreError> {
        let mut whole = Vec::new();
        while let Some(part) = parts.recv().await {
            whole.extend_from_slice(&part.map_err(StoreError::Other)?);
        }
        self.put(key, whole.into())
    }

    pub fn delete(&self, key: &str) -> Result<(), StoreError> {
        let mut content = self.content()?;
        if content.locked.iter().any(|it| it == key) {
            return Err(StoreError::Forbidden { place: "bucket `fake`".to_owned(), provider: Provider::S3 });
        }
        content.objects.remove(key);
        Ok(())
    }

    pub fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let content = self.content()?;
        let entry = |(key, bytes): (&String, &Bytes)| Entry {
            key: key.clone(),
            bytes: bytes.len() as u64,
            modified: Timestamp::UNIX_EPOCH,
        };
        let keys = content.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(keys.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after)).take(limit).map(entry).collect())
    }

    pub fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let content = self.content()?;
        let mut names: Vec<String> = content
            .objects
            .keys()
            .filter_map(|key| key.strip_prefix(prefix)?.split_once('/').map(|(name, _)| name.to_owned()))
            .collect();
        names.dedup();
        Ok(names)
    }
}

fn tag(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
