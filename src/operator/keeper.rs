//! Keeps the claims: one task per application drives the step function with this machine's clocks, the vault and
//! the journal.
//!
//! It decides nothing about a claim (`core::claim` does) and nothing about an application (the reconcile loop does,
//! which is woken when a view changes in something that matters).

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    clock,
    journal::{Journal, JournalError},
};
use crate::core::{
    app_key::AppKey,
    claim::{
        record::{Claim, Entry},
        state::{Settings, State, Wish},
        step::{Act, Expected, Observation, Stored, step},
        time::Now,
        view::View,
    },
};

/// Claims that one operator looks after.
pub const MAX_CLAIMS: usize = 20_000;
/// Requests about claims that may be under way at once.
const MAX_REQUESTS: usize = 64;
/// A holder looks at its clocks at least this often: one of them may have been set.
const LOOK: Duration = Duration::from_secs(1);

/// Where claims lie: a vault.
pub trait ClaimStore: Send + Sync + 'static {
    /// Reads an object. `None` when there is none.
    fn read(&self, object: &str) -> impl Future<Output = Result<Option<Found>, String>> + Send;

    /// Writes an object if what is there is as expected, once and without any repetition; gives its tag.
    fn write(
        &self,
        object: &str,
        bytes: Bytes,
        expected: &Expected,
    ) -> impl Future<Output = Result<String, WriteError>> + Send;
}

/// An object as read.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its content.
    pub bytes: Bytes,
    /// What a write must find unchanged.
    pub tag: String,
}

/// Why a conditional write is not known to have succeeded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The store refused it because of the condition (412, 409).
    #[error("another version came first")]
    Lost,
    /// Anything else: it may have landed, or may still land.
    #[error("{0}")]
    Unknown(String),
}

/// Why a claim cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// There are too many.
    #[error("one operator looks after at most {MAX_CLAIMS} claims")]
    Full,
    /// It was not set before, or was removed.
    #[error("the claim of this application is not looked after")]
    NotKept,
}

/// All claims of this operator.
pub struct Keeper<S> {
    house: Arc<House>,
    kept: Mutex<HashMap<AppKey, Kept<S>>>,
}

/// What all tasks share.
struct House {
    boot_id: String,
    journal: Journal,
    requests: Semaphore,
    wakes: mpsc::Sender<AppKey>,
}

struct Kept<S> {
    desired: watch::Sender<Desired<S>>,
    known: Arc<Mutex<Remembered>>,
}

/// What the rest of the operator declared. Only the latest counts.
struct Desired<S> {
    settings: Settings,
    store: Arc<S>,
    wish: Wish,
    healthy: Option<bool>,
}

struct Remembered {
    settings: Settings,
    state: State,
}

impl Remembered {
    fn view(&self, now: Now) -> View {
        self.state.view(&self.settings, now)
    }
}

impl<S: ClaimStore> Keeper<S> {
    /// A keeper of nothing yet. `wakes` is told which application has something new in its view.
    ///
    /// # Errors
    /// When this machine does not tell which boot it is in.
    pub fn new(journal: Journal, wakes: mpsc::Sender<AppKey>) -> Result<Self, clock::ClockError> {
        let house = House { boot_id: clock::boot_id()?, journal, requests: Semaphore::new(MAX_REQUESTS), wakes };
        Ok(Self { house: Arc::new(house), kept: Mutex::default() })
    }

    /// Looks after a claim from now on, or by other settings from now on. It only watches it until `wish` says more.
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When there are too many.
    pub fn set(&self, app: &AppKey, settings: Settings, store: Arc<S>) -> Result<(), KeeperError> {
        let mut all = lock(&self.kept);
        if let Some(kept) = all.get(app) {
            kept.desired.send_if_modified(|it| {
                let changed = it.settings != settings || !Arc::ptr_eq(&it.store, &store);
                it.settings = settings;
                it.store = store;
                changed
            });
            return Ok(());
        }
        if all.len() >= MAX_CLAIMS {
            return Err(KeeperError::Full);
        }
        let instance = ulid::Ulid::generate().to_string();
        let state = State::restarted(instance, self.house.boot_id.clone(), self.house.journal.entry(app));
        let known = Arc::new(Mutex::new(Remembered { settings: settings.clone(), state }));
        let (desired, declared) = watch::channel(Desired { settings, store, wish: Wish::Undecided, healthy: None });
        let task = Task { app: app.clone(), house: self.house.clone(), declared, known: known.clone() };
        tokio::spawn(task.run());
        all.insert(app.clone(), Kept { desired, known });
        Ok(())
    }

    /// Looks after a claim no longer. If it is this region's, it runs out. What the journal says of it stays.
    pub fn remove(&self, app: &AppKey) {
        // The task ends when it finds its other end gone.
        drop(lock(&self.kept).remove(app));
    }

    /// Looks after a claim no longer, and removes it from the journal: for an application that is protected no more.
    ///
    /// # Errors
    /// When it may still stand in the journal, which only takes space there.
    pub async fn forget(&self, app: &AppKey) -> Result<(), JournalError> {
        self.remove(app);
        self.house.journal.forget(app).await
    }

    /// What may be known of a claim at this moment; `None` when it is not looked after.
    #[must_use]
    pub fn view(&self, app: &AppKey) -> Option<View> {
        let known = lock(&self.kept).get(app)?.known.clone();
        let remembered = lock(&known);
        Some(remembered.view(clock::now()))
    }

    /// Whether this region may act as the holder with this epoch at this moment: asked before each effect that
    /// cannot be undone.
    #[must_use]
    pub fn valid_now(&self, app: &AppKey, epoch: u64) -> bool {
        self.view(app).is_some_and(|it| it.valid && it.lease.is_some_and(|lease| lease.epoch == epoch))
    }

    /// Declares what is wanted of a claim, until it is declared otherwise. The same wish again changes nothing.
    ///
    /// # Errors
    /// When it is not looked after.
    pub fn wish(&self, app: &AppKey, wish: Wish) -> Result<(), KeeperError> {
        self.declare(app, |it| {
            let changed = it.wish != wish;
            it.wish = wish;
            changed
        })
    }

    /// Declares how the application looks from here: the next renewal carries it. No verdict when absent.
    ///
    /// # Errors
    /// When it is not looked after.
    pub fn set_health(&self, app: &AppKey, healthy: Option<bool>) -> Result<(), KeeperError> {
        self.declare(app, |it| {
            let changed = it.healthy != healthy;
            it.healthy = healthy;
            changed
        })
    }

    fn declare(&self, app: &AppKey, change: impl FnOnce(&mut Desired<S>) -> bool) -> Result<(), KeeperError> {
        let all = lock(&self.kept);
        all.get(app).ok_or(KeeperError::NotKept)?.desired.send_if_modified(change);
        Ok(())
    }
}

type Answer = Pin<Box<dyn Future<Output = Observation> + Send>>;

struct Task<S> {
    app: AppKey,
    house: Arc<House>,
    declared: watch::Receiver<Desired<S>>,
    known: Arc<Mutex<Remembered>>,
}

impl<S: ClaimStore> Task<S> {
    async fn run(mut self) {
        let mut flight: Option<Answer> = None;
        let mut published: Option<View> = None;
        let mut owed = false;
        loop {
            let (act, view, pause) = {
                let mut remembered = lock(&self.known);
                let now = clock::now();
                // Nothing is observed by a tick that is not due; it also brings out what other observations made due.
                let act = advance(&mut remembered, Observation::Tick, now);
                (act, remembered.view(now), pause(&remembered, now))
            };
            if let Some(act) = act {
                flight = Some(self.send(act));
            }
            owed |= published.as_ref().is_none_or(|it| it.differs(&view));
            published = Some(view);
            if owed {
                // A full queue is told again at the next look, so that nothing here ever waits for a reader.
                owed = matches!(self.house.wakes.try_send(self.app.clone()), Err(mpsc::error::TrySendError::Full(_)));
            }
            let pause = if owed { pause.min(LOOK) } else { pause };
            tokio::select! {
                observation = answer(&mut flight) => {
                    flight = None;
                    self.observe(observation, &mut flight);
                }
                changed = self.declared.changed() => match changed {
                    Ok(()) => self.redeclare(&mut flight),
                    Err(_) => break,
                },
                () = sleep(pause) => {}
            }
        }
    }

    fn observe(&self, observation: Observation, flight: &mut Option<Answer>) {
        let act = advance(&mut lock(&self.known), observation, clock::now());
        if let Some(act) = act {
            *flight = Some(self.send(act));
        }
    }

    fn redeclare(&mut self, flight: &mut Option<Answer>) {
        let (settings, wish, healthy) = {
            let desired = self.declared.borrow_and_update();
            (desired.settings.clone(), desired.wish.clone(), desired.healthy)
        };
        lock(&self.known).settings = settings;
        self.observe(Observation::Judged(healthy), flight);
        self.observe(Observation::Wished(wish), flight);
    }

    /// Starts a request. The state allows one at a time.
    fn send(&self, act: Act) -> Answer {
        let store = self.declared.borrow().store.clone();
        let renew = lock(&self.known).settings.deadlines.renew();
        // A write, the read that looks for it and the next write must fit into the time between two renewals.
        let deadline = Instant::now() + (renew / 3).clamp(Duration::from_secs(1), Duration::from_secs(10));
        let (house, app) = (self.house.clone(), self.app.clone());
        match act {
            Act::Read => Box::pin(async move { read(&house, &*store, &app, deadline).await }),
            Act::Write { expected, claim, entry } => {
                Box::pin(async move { write(&house, &*store, &app, (claim, expected, entry), deadline).await })
            }
        }
    }
}

/// One step on what is remembered.
fn advance(remembered: &mut Remembered, observation: Observation, now: Now) -> Option<Act> {
    let (state, acts) = step(&remembered.settings, remembered.state.clone(), observation, now);
    remembered.state = state;
    let mut acts = acts.into_iter();
    let act = acts.next();
    assert!(acts.next().is_none(), "a claim has one request in flight at most");
    act
}

fn pause(remembered: &Remembered, now: Now) -> Duration {
    let Remembered { settings, state } = remembered;
    let due = state.due(settings, now).saturating_sub(now.boot);
    if state.own.is_some() {
        return due.min(LOOK);
    }
    // Standbys spread their reads; holders renew together, so that the journal is written once.
    let spread = settings.deadlines.renew() / 20;
    due + spread.mul_f64(rand::random())
}

async fn answer(flight: &mut Option<Answer>) -> Observation {
    match flight {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

async fn read(house: &House, store: &impl ClaimStore, app: &AppKey, deadline: Instant) -> Observation {
    let late = || Observation::ReadFailed("the vault did not answer a read of the claim in time".to_owned());
    let object = app.claim_object();
    let reading = async {
        let _permit = house.requests.acquire().await;
        store.read(&object).await
    };
    match timeout_at(deadline, reading).await {
        Err(_) => late(),
        Ok(Err(why)) => Observation::ReadFailed(why),
        Ok(Ok(None)) => Observation::ReadDone(None),
        Ok(Ok(Some(Found { bytes, tag }))) => match Claim::parse(&bytes) {
            Ok(claim) => Observation::ReadDone(Some(Stored { claim, tag })),
            Err(error) => Observation::ReadFailed(error.to_string()),
        },
    }
}

async fn write(
    house: &House,
    store: &impl ClaimStore,
    app: &AppKey,
    (claim, expected, entry): (Claim, Expected, Option<Entry>),
    deadline: Instant,
) -> Observation {
    let nonce = claim.nonce.clone();
    if let Some(entry) = entry {
        let why = match timeout_at(deadline, house.journal.record(app, entry)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the journal was not written in time".to_owned()),
        };
        if let Some(why) = why {
            return Observation::WriteUnsent { nonce, why: format!("the claim was not written: {why}") };
        }
    }
    let Ok(permit) = timeout_at(deadline, house.requests.acquire()).await else {
        let why = "the claim was not written: too many requests are under way".to_owned();
        return Observation::WriteUnsent { nonce, why };
    };
    let object = app.claim_object();
    let outcome = timeout_at(deadline, store.write(&object, claim.to_bytes().into(), &expected)).await;
    drop(permit);
    match outcome {
        Ok(Ok(tag)) => Observation::WriteDone { nonce, tag },
        Ok(Err(WriteError::Lost)) => Observation::WriteLost { nonce },
        Ok(Err(WriteError::Unknown(why))) => Observation::WriteUnknown { nonce, why },
        Err(_) => {
            let why = "the vault did not answer a write of the claim in time".to_owned();
            Observation::WriteUnknown { nonce, why }
        }
    }
}

/// A panic while the lock was held cannot leave half a state behind: it is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
