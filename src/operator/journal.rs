//! What this region is about to send as the holder of claims, written down before it is sent.
//!
//! One `ConfigMap` in the operator's namespace, one entry per claim that is held, and one write for all entries that
//! become due together. An operator that restarts reads here since when its claims are valid; a renewal that could
//! not be written down is not sent. A region that holds nothing writes nothing. It decides nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::core::{app_key::AppKey, claim::record::Entry};

/// Its name in the operator's namespace.
pub const NAME: &str = "reprise-journal";

/// Entries it may have: some 230 bytes each, and an object may have 1 MiB.
pub const MAX_ENTRIES: usize = 4_000;

/// How long one request to the API server may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the first entry of a batch waits for the others, which become due at the same moment.
const GATHER: Duration = Duration::from_millis(50);
const QUEUE: usize = 1_024;

/// Why something could not be written down, or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// It was there, or not, but could not be read.
    #[error("cannot read the ConfigMap {NAME}: {0}")]
    Read(String),
    /// It may have been written all the same.
    #[error("cannot write the ConfigMap {NAME}: {0}")]
    Write(String),
    /// Somebody else wrote it at the same time, twice: a second operator of this region?
    #[error("the ConfigMap {NAME} is being written by somebody else: only one operator may run in a region")]
    Contended,
    /// It is full.
    #[error("the ConfigMap {NAME} has {MAX_ENTRIES} entries: one region cannot hold more claims")]
    Full,
    /// The task that writes it has ended.
    #[error("the journal is closed")]
    Closed,
}

type Entries = Arc<Mutex<BTreeMap<String, Entry>>>;

/// The journal of this region. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: Entries,
    queue: mpsc::Sender<Line>,
}

/// One line to write: an entry, or its removal.
struct Line {
    group: String,
    entry: Option<Entry>,
    written: oneshot::Sender<Result<(), JournalError>>,
}

impl Journal {
    /// Reads what was written before, and starts to write. Only the operator that leads may do this.
    ///
    /// # Errors
    /// When it cannot be read. An entry that is not one is left out, as if it had never been written.
    pub async fn open(client: Client, namespace: &str) -> Result<Self, JournalError> {
        let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
        let (entries, version) = match read(&maps).await? {
            Some(map) => (parse(&map), map.metadata.resource_version),
            None => (BTreeMap::new(), None),
        };
        let entries = Arc::new(Mutex::new(entries));
        let (queue, lines) = mpsc::channel(QUEUE);
        let writer = Writer { maps, entries: entries.clone(), version };
        tokio::spawn(writer.run(lines));
        Ok(Self { entries, queue })
    }

    /// What was written down last about a claim.
    #[must_use]
    pub fn entry(&self, app: &AppKey) -> Option<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(&app.group()).cloned()
    }

    /// Writes an entry down. It is lasting once this returns.
    ///
    /// # Errors
    /// When it is not known to be lasting: what it is about must not be sent then.
    pub async fn record(&self, app: &AppKey, entry: Entry) -> Result<(), JournalError> {
        self.put(app, Some(entry)).await
    }

    /// Removes the entry of a claim that is kept no longer.
    ///
    /// # Errors
    /// When it may still be there, which does no harm.
    pub async fn forget(&self, app: &AppKey) -> Result<(), JournalError> {
        if self.entry(app).is_none() {
            return Ok(());
        }
        self.put(app, None).await
    }

    async fn put(&self, app: &AppKey, entry: Option<Entry>) -> Result<(), JournalError> {
        let (written, answer) = oneshot::channel();
        let line = Line { group: app.group(), entry, written };
        self.queue.send(line).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }
}

struct Writer {
    maps: Api<ConfigMap>,
    entries: Entries,
    /// The version that the next write replaces; unknown after a write with an unknown outcome. A write that lands
    /// late finds another version and fails: it cannot put an older entry over a newer one.
    version: Option<String>,
}

impl Writer {
    async fn run(mut self, mut lines: mpsc::Receiver<Line>) {
        while let Some(first) = lines.recv().await {
            sleep(GATHER).await;
            let mut batch = vec![first];
            while batch.len() < MAX_ENTRIES
                && let Ok(line) = lines.try_recv()
            {
                batch.push(line);
            }
            let changes: BTreeMap<String, Option<Entry>> =
                batch.iter().map(|it| (it.group.clone(), it.entry.clone())).collect();
            let outcome = self.write(&changes).await;
            if outcome.is_ok() {
                self.remember(changes);
            }
            for line in batch {
                // Whoever waited may have given up: nothing was sent then.
                let _ = line.written.send(outcome.clone());
            }
        }
    }

    fn remember(&self, changes: BTreeMap<String, Option<Entry>>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for (group, entry) in changes {
            match entry {
                Some(entry) => entries.insert(group, entry),
                None => entries.remove(&group),
            };
        }
    }

    async fn write(&mut self, changes: &BTreeMap<String, Option<Entry>>) -> Result<(), JournalError> {
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (group, entry) in changes {
            match entry {
                Some(entry) => all.insert(group.clone(), entry.clone()),
                None => all.remove(group),
            };
        }
        if all.len() > MAX_ENTRIES {
            return Err(JournalError::Full);
        }
        // A conflict may be an earlier write of our own that landed late: look once, and try once more.
        for _ in 0..2 {
            match self.attempt(changes, &all).await? {
                Some(version) => {
                    self.version = Some(version);
                    return Ok(());
                }
                None => self.version = None,
            }
        }
        Err(JournalError::Contended)
    }

    /// One write: the version it made, or `None` when another one came in between.
    async fn attempt(
        &mut self,
        changes: &BTreeMap<String, Option<Entry>>,
        all: &BTreeMap<String, Entry>,
    ) -> Result<Option<String>, JournalError> {
        let version = match self.version.take() {
            Some(version) => Some(version),
            None => read(&self.maps).await?.and_then(|it| it.metadata.resource_version),
        };
        let outcome = if let Some(version) = version {
            let data: BTreeMap<&String, Option<String>> =
                changes.iter().map(|(group, entry)| (group, entry.as_ref().map(line))).collect();
            let patch: Value = json!({ "metadata": { "resourceVersion": version }, "data": data });
            timeout(DEADLINE, self.maps.patch(NAME, &PatchParams::default(), &Patch::Merge(patch))).await
        } else {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    labels: Some([("app.kubernetes.io/managed-by".to_owned(), "reprise".to_owned())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(all.iter().map(|(group, entry)| (group.clone(), line(entry))).collect()),
                ..ConfigMap::default()
            };
            timeout(DEADLINE, self.maps.create(&PostParams::default(), &map)).await
        };
        match outcome {
            Ok(Ok(map)) => Ok(Some(map.metadata.resource_version.unwrap_or_default())),
            Ok(Err(kube::Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                Ok(None)
            }
            Ok(Err(error)) => Err(JournalError::Write(error.to_string())),
            Err(_) => Err(JournalError::Write(format!("no answer within {} s", DEADLINE.as_secs()))),
        }
    }
}

async fn read(maps: &Api<ConfigMap>) -> Result<Option<ConfigMap>, JournalError> {
    match timeout(DEADLINE, maps.get_opt(NAME)).await {
        Ok(Ok(map)) => Ok(map),
        Ok(Err(error)) => Err(JournalError::Read(error.to_string())),
        Err(_) => Err(JournalError::Read(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

fn line(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("an entry has string keys and no failing serializer")
}

fn parse(map: &ConfigMap) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for (group, text) in map.data.iter().flatten().take(MAX_ENTRIES) {
        match serde_json::from_str(text) {
            Ok(entry) => drop(entries.insert(group.clone(), entry)),
            Err(error) => tracing::warn!(%group, %error, "an entry of the journal cannot be read: treated as expired"),
        }
    }
    entries
}

#[cfg(test)]
#[path = "journal_tests.rs"]
pub(super) mod tests;
