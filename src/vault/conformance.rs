//! The self-test: whether a store really compares and swaps.
//!
//! Claims rest on it. Some servers ignore conditions, and some honour them one request at a time but let several
//! concurrent writers win, so the test races. It works on scratch keys under `conformance/<region>/`, where a
//! sentinel stays for ever: `MinIO` may refuse a write that meets the removal of the last key of a prefix.
//!
//! A test that passes is evidence, not proof. A test that could not be carried out is an error, not a verdict.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use ulid::Ulid;

use super::{Condition, Store, StoreError};

/// How many writers race.
const WRITERS: usize = 16;
/// How many rounds they race for creation, and again for updates.
const ROUNDS: usize = 8;
/// The most time that the test takes; with the sentinel before it and the cleaning after it, a minute.
const LIMIT: Duration = Duration::from_secs(40);
const CLEANING: Duration = Duration::from_secs(10);
/// How many failures are told.
const FAILURES: usize = 10;

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conformance {
    /// Whether the store can be trusted with claims.
    pub passed: bool,
    /// What it did wrong, the same text for the same fault. At most ten.
    pub failures: Vec<String>,
    /// How many requests were sent.
    pub requests: u32,
}

/// Tests a store, in at most a minute and about 350 requests.
///
/// # Errors
/// When the store could not be reached or refused a plain request: nothing is known then.
pub async fn test(store: &Store, region: &str) -> Result<Conformance, StoreError> {
    let base = format!("conformance/{region}");
    let mut test = Test {
        store,
        base: format!("{base}/{}", Ulid::generate()),
        failures: Vec::new(),
        requests: 0,
        keys: Vec::new(),
    };
    let sentinel = format!("{base}/sentinel");
    test.requests += 1;
    store.put(&sentinel, Bytes::from_static(b"kept, so that this prefix is never empty")).await?;
    store.check_encryption(&sentinel).await?;
    let outcome = tokio::time::timeout(LIMIT, test.run()).await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            test.clean().await;
            return Err(error);
        }
        Err(_) => test.fail(format!("the test took more than {} seconds", LIMIT.as_secs())),
    }
    test.clean().await;
    Ok(Conformance { passed: test.failures.is_empty(), failures: test.failures, requests: test.requests })
}

struct Test<'a> {
    store: &'a Store,
    base: String,
    failures: Vec<String>,
    requests: u32,
    keys: Vec<String>,
}

/// What one writer was told.
enum Told {
    Won,
    Lost,
    Nothing,
}

impl Test<'_> {
    async fn run(&mut self) -> Result<(), StoreError> {
        self.sequential().await?;
        // A store that fails one by one needs no race.
        if self.failures.is_empty() {
            self.race_to_create().await?;
            self.race_to_update().await?;
        }
        Ok(())
    }

    fn fail(&mut self, failure: impl Into<String>) {
        let failure = failure.into();
        if self.failures.len() < FAILURES && !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    fn key(&mut self, name: &str) -> String {
        let key = format!("{}-{name}", self.base);
        self.keys.push(key.clone());
        key
    }

    async fn content(&mut self, key: &str) -> Result<Option<(String, String)>, StoreError> {
        self.requests += 1;
        let object = self.store.get(key).await?;
        Ok(object.map(|object| (String::from_utf8_lossy(&object.bytes).into_owned(), object.tag)))
    }

    /// Writes under a condition and says what came of it; a lost reply is resolved by reading back.
    async fn write(&mut self, key: &str, text: &str, condition: Condition<'_>) -> Result<Option<String>, StoreError> {
        self.requests += 1;
        match self.store.put_if(key, Bytes::copy_from_slice(text.as_bytes()), condition).await {
            Ok(tag) => Ok(Some(tag)),
            Err(StoreError::Lost | StoreError::Unknown { .. }) => {
                Ok(self.content(key).await?.filter(|(found, _)| found == text).map(|(_, tag)| tag))
            }
            Err(error) => Err(error),
        }
    }

    async fn expect(&mut self, key: &str, text: &str, failure: &str) -> Result<(), StoreError> {
        if self.content(key).await?.is_none_or(|(found, _)| found != text) {
            self.fail(failure);
        }
        Ok(())
    }

    async fn sequential(&mut self) -> Result<(), StoreError> {
        let key = self.key("one");
        let Some(first) = self.write(&key, "first", Condition::Absent).await? else {
            self.fail("an object could not be created where there was none");
            return Ok(());
        };
        self.expect(&key, "first", "an object was not read back as it was just created").await?;
        if self.write(&key, "again", Condition::Absent).await?.is_some() {
            self.fail("an object was created twice: If-None-Match is ignored");
            return Ok(());
        }
        self.expect(&key, "first", "a refused creation changed the object").await?;
        if self.write(&key, "second", Condition::Unchanged(&first)).await?.is_none() {
            self.fail("an update with the right tag was refused: If-Match is not supported");
            return Ok(());
        }
        self.expect(&key, "second", "an object was not read back as it was just updated").await?;
        if self.write(&key, "stale", Condition::Unchanged(&first)).await?.is_some() {
            self.fail("an update with a stale tag was accepted: If-Match is ignored");
        }
        self.expect(&key, "second", "a refused update changed the object").await?;
        let absent = self.key("absent");
        if self.write(&absent, "ghost", Condition::Unchanged(&first)).await?.is_some() {
            self.fail("an update of an absent object was accepted: If-Match is ignored");
        }
        self.requests += 1;
        let prefix = self.base.clone();
        if !self.store.page(&prefix, None, 10).await?.iter().any(|entry| entry.key == key) {
            self.fail("a listing does not show an object that was just written");
        }
        Ok(())
    }

    async fn race_to_create(&mut self) -> Result<(), StoreError> {
        let mut decided = 0;
        for round in 0..ROUNDS {
            let key = self.key(&format!("create-{round}"));
            decided += usize::from(self.race(&key, round, None).await?);
        }
        if decided == 0 && self.failures.is_empty() {
            self.fail("no writer won any race to create an object");
        }
        Ok(())
    }

    async fn race_to_update(&mut self) -> Result<(), StoreError> {
        let key = self.key("update");
        let mut decided = 0;
        if self.write(&key, "start", Condition::Absent).await?.is_none() {
            self.fail("an object could not be created where there was none");
            return Ok(());
        }
        for round in 0..ROUNDS {
            let Some((_, tag)) = self.content(&key).await? else {
                self.fail("an object vanished while it was updated");
                return Ok(());
            };
            decided += usize::from(self.race(&key, round, Some(tag)).await?);
        }
        if decided == 0 && self.failures.is_empty() {
            self.fail("no writer won any race to update an object");
        }
        Ok(())
    }

    /// One round: all writers start together, under the same condition. Whether it had a winner.
    async fn race(&mut self, key: &str, round: usize, tag: Option<String>) -> Result<bool, StoreError> {
        let what = if tag.is_some() { "update" } else { "create" };
        let start = Arc::new(Barrier::new(WRITERS));
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let (store, key, tag, start) = (self.store.clone(), key.to_owned(), tag.clone(), start.clone());
            let nonce = format!("{round} {number} {}", Ulid::generate());
            writers.spawn(async move {
                let condition = tag.as_deref().map_or(Condition::Absent, Condition::Unchanged);
                start.wait().await;
                let reply = store.put_if(&key, Bytes::copy_from_slice(nonce.as_bytes()), condition).await;
                (nonce, reply)
            });
        }
        self.requests += u32::try_from(WRITERS).unwrap_or(u32::MAX);
        let mut told = Vec::new();
        let mut failure = None;
        for (nonce, reply) in writers.join_all().await {
            match reply {
                Ok(_) => told.push((nonce, Told::Won)),
                Err(StoreError::Lost) => told.push((nonce, Told::Lost)),
                Err(StoreError::Unknown { .. }) => told.push((nonce, Told::Nothing)),
                Err(error) if error.is_transient() => told.push((nonce, Told::Lost)),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let found = self.content(key).await?.map(|(content, _)| content);
        self.judge(what, &told, found.as_deref());
        Ok(told.iter().any(|(nonce, _)| found.as_deref() == Some(nonce)))
    }

    fn judge(&mut self, what: &str, told: &[(String, Told)], found: Option<&str>) {
        let winners: Vec<&str> =
            told.iter().filter(|(_, told)| matches!(told, Told::Won)).map(|(nonce, _)| nonce.as_str()).collect();
        match winners[..] {
            // All conflicted, or the winner's reply was lost: then its content may be there, and only its.
            [] => {
                let loser = told.iter().any(|(nonce, told)| matches!(told, Told::Lost) && found == Some(nonce));
                if loser {
                    self.fail(format!("a writer was told that it had lost the race to {what} an object, but had won"));
                }
            }
            [winner] if found == Some(winner) => {}
            [_] => self.fail(format!("the winner's content was lost in a race to {what} an object")),
            _ => self.fail(format!("several writers won a race to {what} an object: conditions are not atomic")),
        }
    }

    /// Scratch keys that can't be removed do no harm.
    async fn clean(&mut self) {
        let all = async {
            for key in std::mem::take(&mut self.keys) {
                self.requests += 1;
                if self.store.delete(&key).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(CLEANING, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::fake::{Fake, Manner};
    use crate::vault::{DirectoryLocation, directory::Directory};

    async fn outcome(manner: Manner) -> (Conformance, Fake) {
        let fake = Fake::new(manner);
        (test(&Store::Fake(fake.clone()), "east").await.unwrap(), fake)
    }

    #[tokio::test]
    async fn a_sound_store_passes_and_is_left_clean() {
        let (outcome, fake) = outcome(Manner::Sound).await;
        assert_eq!((outcome.passed, outcome.failures), (true, vec![]));
        let left: Vec<_> = fake.page("", None, 100).unwrap().into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, ["conformance/east/sentinel"]);
        assert!(outcome.requests < 400, "{} requests", outcome.requests);
        assert_eq!(fake.requests() - 1, outcome.requests, "every request is counted");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_directory_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let store = Store::Directory(Directory::new(&DirectoryLocation { path }).unwrap());
        let outcome = test(&store, "east").await.unwrap();
        assert_eq!((outcome.passed, outcome.failures), (true, vec![]));
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_fails() {
        let (outcome, _) = outcome(Manner::Careless).await;
        assert!(!outcome.passed);
        assert_eq!(outcome.failures, ["an object was created twice: If-None-Match is ignored"]);
    }

    #[tokio::test]
    async fn a_store_that_checks_and_then_writes_fails_although_it_passes_one_by_one() {
        let (outcome, _) = outcome(Manner::Racy).await;
        assert!(!outcome.passed);
        assert_eq!(
            outcome.failures,
            [
                "several writers won a race to create an object: conditions are not atomic",
                "several writers won a race to update an object: conditions are not atomic"
            ]
        );
    }

    #[tokio::test]
    async fn lost_replies_are_no_fault_of_the_store() {
        for every in [1, 2, 3] {
            let (outcome, _) = outcome(Manner::Forgetful(every)).await;
            assert_eq!((outcome.passed, outcome.failures), (true, vec![]), "every {every}");
        }
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_not_judged() {
        let fake = Fake::new(Manner::Sound);
        let error = StoreError::Refused { server: "http://x".to_owned(), provider: crate::vault::Provider::S3 };
        fake.break_with(error.clone());
        assert_eq!(test(&Store::Fake(fake), "east").await, Err(error));
    }
}
