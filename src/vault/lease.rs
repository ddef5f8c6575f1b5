//! A lease in a vault: of all that would do one thing, in whichever region, one does it at a time.
//!
//! One small object, changed by compare-and-swap only. The holder renews it; whoever wants it looks on, and takes it
//! when it has not changed for `EXPIRY` by its own clock. No clock is compared with another's. The holder counts from
//! when it *sent* its last renewal that stood, and believes in it for a much shorter time.
//!
//! The clock is the time since the machine started, which goes on while a virtual machine is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::{Condition, Store, StoreError};

/// After so long without a change it is taken for abandoned.
pub const EXPIRY: Duration = Duration::from_secs(90);
/// So long a holder believes in its last renewal. The rest is for a request that is under way.
const VALID: Duration = Duration::from_secs(45);
/// How often a lease that is another's is looked at.
const LOOK: Duration = Duration::from_secs(3);

/// What is written.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Who holds it, for people. Nobody when it was given back.
    holder: Option<String>,
    /// Fresh in each version: some servers' tags follow the content.
    nonce: String,
}

/// Why there is no lease.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// The store did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another holds it, and lives.
    #[error("`{key}` is held by {holder}")]
    Held {
        /// Its key.
        key: String,
        /// Who.
        holder: String,
    },
    /// It was lost meanwhile.
    #[error("`{key}` was lost: another took it, or it could not be renewed in time")]
    Lost {
        /// Its key.
        key: String,
    },
}

/// A lease that is held.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    key: String,
    holder: String,
    tag: String,
    proof: Proof,
}

/// Tells whether a lease stands. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Proof(Arc<AtomicU64>);

impl Proof {
    /// Of a renewal that was sent then.
    fn new(sent: Duration) -> Self {
        let it = Self(Arc::default());
        it.set(sent);
        it
    }

    fn set(&self, sent: Duration) {
        self.0.store(u64::try_from(sent.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }

    /// Whether the lease certainly stands.
    #[must_use]
    pub fn valid(&self) -> bool {
        let sent = Duration::from_millis(self.0.load(Ordering::SeqCst));
        sent > Duration::ZERO && since_boot().saturating_sub(sent) < VALID
    }
}

impl Lease {
    /// Takes the lease: at once when nobody holds it, otherwise when it has stood still for `expiry`.
    ///
    /// # Errors
    /// `Held` when it moves, `Store`.
    pub async fn take(store: &Store, key: &str, holder: &str, expiry: Duration) -> Result<Self, LeaseError> {
        let mut seen: Option<(String, Duration)> = None;
        loop {
            let found = store.get(key).await?;
            let record = found.as_ref().map(|it| serde_json::from_slice::<Record>(&it.bytes));
            // What is no record is as good as held: whoever writes it may know why.
            let held_by = match &record {
                None => None,
                Some(Ok(record)) => record.holder.clone(),
                Some(Err(_)) => Some("something that is not Reprise".to_owned()),
            };
            let tag = found.map(|it| it.tag);
            if let (Some(other), Some(tag)) = (held_by, &tag) {
                let (first, since) = seen.get_or_insert_with(|| (tag.clone(), since_boot()));
                if first != tag {
                    return Err(LeaseError::Held { key: key.to_owned(), holder: other });
                }
                if since_boot().saturating_sub(*since) < expiry {
                    tokio::time::sleep(LOOK.min(expiry / 10)).await;
                    continue;
                }
            }
            let sent = since_boot();
            match write(store, key, Some(holder), tag.as_deref()).await? {
                Some(tag) => {
                    let (store, key, holder) = (store.clone(), key.to_owned(), holder.to_owned());
                    return Ok(Self { store, key, holder, tag, proof: Proof::new(sent) });
                }
                // Another was first: it lives.
                None => return Err(LeaseError::Held { key: key.to_owned(), holder: "another".to_owned() }),
            }
        }
    }

    /// What tells, from any thread, whether it certainly stands.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.proof.clone()
    }

    /// Renews it. A store that does not answer is no loss yet.
    ///
    /// # Errors
    /// `Lost` when another took it.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        let sent = since_boot();
        match write(&self.store, &self.key, Some(&self.holder), Some(&self.tag)).await {
            Ok(Some(tag)) => {
                self.tag = tag;
                self.proof.set(sent);
                Ok(())
            }
            Ok(None) => {
                self.proof.set(Duration::ZERO);
                Err(LeaseError::Lost { key: self.key.clone() })
            }
            Err(error) => {
                tracing::warn!(%error, key = self.key, "the lease could not be renewed");
                Ok(())
            }
        }
    }

    /// Gives it back, so that the next one need not wait. Nothing hangs on it.
    pub async fn give_back(&self) {
        if let Err(error) = write(&self.store, &self.key, None, Some(&self.tag)).await {
            tracing::warn!(%error, key = self.key, "the lease was not given back: it expires");
        }
    }
}

/// The new tag; `None` when another was first.
async fn write(
    store: &Store,
    key: &str,
    holder: Option<&str>,
    tag: Option<&str>,
) -> Result<Option<String>, StoreError> {
    let record = Record { holder: holder.map(ToOwned::to_owned), nonce: Ulid::generate().to_string() };
    let bytes = Bytes::from(serde_json::to_vec(&record).expect("a lease is plain data"));
    let condition = tag.map_or(Condition::Absent, Condition::Unchanged);
    match store.put_if(key, bytes.clone(), condition).await {
        Ok(tag) => Ok(Some(tag)),
        // Whether it was written can be read.
        Err(StoreError::Lost | StoreError::Unknown { .. }) => {
            Ok(store.get(key).await?.filter(|it| it.bytes == bytes).map(|it| it.tag))
        }
        Err(error) => Err(error),
    }
}

fn since_boot() -> Duration {
    let boot = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(boot.tv_sec).unwrap_or(0), u32::try_from(boot.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::fake::{Fake, Manner};

    const SHORT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn of_many_who_want_it_one_gets_it() {
        for manner in [Manner::Sound, Manner::Forgetful(3)] {
            let store = Store::Fake(Fake::new(manner));
            let attempts = (0..8).map(|it| {
                let store = store.clone();
                // The others look on until they are stopped.
                tokio::time::timeout(
                    SHORT,
                    async move { Lease::take(&store, "prune", &format!("r{it}"), EXPIRY).await },
                )
            });
            let taken: Vec<_> = futures::future::join_all(attempts).await.into_iter().flatten().collect();
            assert_eq!(taken.iter().filter(|it| it.is_ok()).count(), 1, "{manner:?}: {taken:?}");
        }
    }

    #[tokio::test]
    async fn one_that_is_renewed_is_not_taken_and_one_that_stands_still_is() {
        let store = Store::Fake(Fake::new(Manner::Sound));
        let mut lease = Lease::take(&store, "prune", "east", SHORT).await.unwrap();
        let (other, ()) = tokio::join!(Lease::take(&store, "prune", "west", SHORT), async {
            for _ in 0..5 {
                tokio::time::sleep(SHORT / 5).await;
                lease.renew().await.unwrap();
            }
        });
        assert!(matches!(other, Err(LeaseError::Held { holder, .. }) if holder == "east"));
        let taken = Lease::take(&store, "prune", "west", SHORT).await.unwrap();
        assert!(taken.proof().valid());
        assert!(matches!(lease.renew().await, Err(LeaseError::Lost { .. })));
        assert!(!lease.proof().valid(), "it knows at once");
    }

    #[tokio::test]
    async fn what_was_given_back_is_free_at_once() {
        let store = Store::Fake(Fake::new(Manner::Sound));
        Lease::take(&store, "prune", "east", EXPIRY).await.unwrap().give_back().await;
        Lease::take(&store, "prune", "west", EXPIRY).await.unwrap();
    }
}
