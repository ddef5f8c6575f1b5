//! The probe scheduler: asks the probes of all applications, each at its interval, and keeps what follows from the
//! answers in memory. It wakes a decision only when a verdict or its reasons change, so that thousands of applications
//! that are well cost no reconcile and no write.
//!
//! It decides nothing, and writes nothing: minutes that are to be kept over a restart are handed out as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    api::application::Verdict,
    core::{
        app_key::AppKey,
        health::{Health, Monitor, Window},
        slo::{LONGEST_WINDOW, Minute, Minutes, Summary, Target},
    },
    probe::{Probe, Route, Vantage},
};

/// The first questions of a probe are spread over at most this long.
const SPREAD: Duration = Duration::from_secs(10);
/// How often minutes are to be kept while all of them are good.
const KEEP_EVERY: i64 = 5;
/// How large a map of `minutes` may be, in bytes: a `ConfigMap` may have 1 MiB.
const MAP_BYTES: usize = 768 * 1024;

/// What the time is. Tests have a clock of their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What minutes are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// The share of them that shall be good.
    pub target: Target,
    /// The rolling window, in minutes.
    pub window: u32,
}

/// The probes of all applications of this operator. Everything stops when the last clone is dropped.
#[derive(Clone)]
pub struct Watch(Arc<Owned>);

/// What ends with the last clone: the tasks hold only what is shared.
struct Owned {
    shared: Arc<Shared>,
    ticker: AbortHandle,
}

struct Shared {
    vantage: Vantage,
    clock: Clock,
    permits: Semaphore,
    generations: AtomicU64,
    state: Mutex<State>,
    /// Told when `State::changed` is no longer empty.
    changed: Notify,
    /// Told when minutes are to be kept.
    due: Notify,
}

#[derive(Default)]
struct State {
    apps: BTreeMap<AppKey, App>,
    /// Whose verdict or reasons changed and was not told yet. Each stands in it once: it cannot grow beyond `apps`.
    changed: BTreeSet<AppKey>,
    /// Minutes that are not counted now: of applications that have no objective, or were not set since the restart.
    laid_by: BTreeMap<AppKey, String>,
    /// The minute that goes on.
    minute: i64,
    /// When minutes were last handed out to be kept.
    kept_at: i64,
    /// Something is to be kept at the end of this minute.
    pressing: bool,
}

struct App {
    monitor: Monitor,
    probes: BTreeMap<String, Running>,
    service: Option<Service>,
    /// What was seen of the minute that goes on.
    minute: Minute,
}

struct Running {
    probe: Probe,
    /// An answer of an older generation came too late, and is dropped.
    generation: u64,
    task: AbortHandle,
}

struct Service {
    objective: Objective,
    /// Of the longest window that an objective may have: a shorter one may be followed by a longer one.
    minutes: Minutes,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.ticker.abort();
        self.shared.lock().apps.clear();
    }
}

impl Watch {
    /// Watches nothing yet, and never asks more than `concurrent` questions at once. To be called within the runtime.
    ///
    /// Give it room for the day on which everything fails at once: probes * timeout / interval, so 3 000 for 10 000
    /// probes of 3 s every 10 s. With less, they are believed to fail late: with 256, after five minutes.
    #[must_use]
    pub fn new(vantage: Vantage, clock: Clock, concurrent: usize) -> Self {
        let minute = minute_of(clock());
        let state = State { minute, kept_at: minute, ..State::default() };
        let shared = Arc::new(Shared {
            vantage,
            clock,
            permits: Semaphore::new(concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            generations: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: Notify::new(),
            due: Notify::new(),
        });
        let ticker = tokio::spawn(tick(shared.clone())).abort_handle();
        Self(Arc::new(Owned { shared, ticker }))
    }

    /// Watches an application with these probes, and counts its minutes when there is an objective. A probe that stays
    /// as it was goes on undisturbed, with the answers it has. Of probes with one name, the last one counts. Without an
    /// objective the minutes are laid by, and go on when there is one again. A change of health by this is not told: who sets, asks for it next.
    pub fn set(&self, app: &AppKey, probes: Vec<Probe>, objective: Option<Objective>) {
        let shared = &self.0.shared;
        let now = (shared.clock)();
        let mut state = shared.lock();
        let laid_by = objective.and_then(|_| state.laid_by.remove(app));
        let entry = state.apps.entry(app.clone()).or_insert_with(|| App::new(now));
        let probes: BTreeMap<_, _> = probes.into_iter().map(|it| (it.name.clone(), it)).collect();
        let gone: Vec<_> = entry.probes.keys().filter(|it| !probes.contains_key(*it)).cloned().collect();
        for name in gone {
            entry.probes.remove(&name);
            entry.monitor.remove(&name, now);
        }
        for (name, probe) in probes {
            if entry.probes.get(&name).is_some_and(|it| it.probe == probe) {
                continue;
            }
            entry.monitor.add(&name, Window::new(probe.failures, probe.of), now);
            let generation = shared.generations.fetch_add(1, Ordering::Relaxed);
            let task = tokio::spawn(keep_asking(shared.clone(), app.clone(), probe.clone(), generation)).abort_handle();
            entry.probes.insert(name, Running { probe, generation, task });
        }
        let left = entry.set_objective(objective, laid_by.as_deref(), app);
        entry.settle(now);
        if let Some(minutes) = left {
            state.laid_by.insert(app.clone(), minutes.to_string());
            state.pressing = true;
        }
    }

    /// Watches an application no more, and forgets its minutes.
    pub fn remove(&self, app: &AppKey) {
        let mut state = self.0.shared.lock();
        state.apps.remove(app);
        state.laid_by.remove(app);
        state.changed.remove(app);
    }

    /// How an application looks from here. None when it is not watched.
    #[must_use]
    pub fn health(&self, app: &AppKey) -> Option<Health> {
        self.0.shared.lock().apps.get(app).map(|it| it.monitor.health().clone())
    }

    /// The service level of an application, up to the last full minute. None without an objective.
    #[must_use]
    pub fn service_level(&self, app: &AppKey) -> Option<Summary> {
        let now = minute_of((self.0.shared.clock)());
        let state = self.0.shared.lock();
        let service = state.apps.get(app)?.service.as_ref()?;
        Some(service.minutes.clone().with_window(service.objective.window).summary(now, service.objective.target))
    }

    /// The next application whose verdict or reasons changed. One that changed again before it was asked for is told
    /// once. For one caller; the stream of `changes` calls it.
    pub async fn changed(&self) -> AppKey {
        loop {
            let told = self.0.shared.changed.notified();
            if let Some(app) = self.0.shared.lock().changed.pop_first() {
                return app;
            }
            told.await;
        }
    }

    /// What `changed` returns, without end.
    pub fn changes(&self) -> impl Stream<Item = AppKey> + Send + 'static {
        futures::stream::unfold(self.clone(), async |watch| Some((watch.changed().await, watch)))
    }

    /// Waits until minutes are to be kept, and returns all of them, as `minutes` does: within a minute of a bad one,
    /// and every five minutes otherwise; never twice within a minute; not while there are none.
    pub async fn minutes_to_persist(&self) -> Vec<BTreeMap<String, String>> {
        self.0.shared.due.notified().await;
        self.minutes()
    }

    /// The minutes of all applications, as text by `<namespace>.<name>`: for a `ConfigMap` each. More than one map, with
    /// less than 768 KiB each, only when there are thousands of applications; empty when there are no minutes.
    #[must_use]
    pub fn minutes(&self) -> Vec<BTreeMap<String, String>> {
        let state = self.0.shared.lock();
        let told = state.apps.iter().filter_map(|(app, it)| Some((app, it.service.as_ref()?.minutes.to_string())));
        let laid_by = state.laid_by.iter().map(|(app, text)| (app, text.clone()));
        let mut maps: Vec<BTreeMap<String, String>> = Vec::new();
        let mut room = 0;
        for (app, text) in told.chain(laid_by) {
            let key = format!("{}.{}", app.namespace, app.name);
            let size = key.len() + text.len();
            match maps.last_mut() {
                Some(last) if size <= room => {
                    room -= size;
                    last.insert(key, text);
                }
                Some(_) | None => {
                    room = MAP_BYTES.saturating_sub(size);
                    maps.push(BTreeMap::from([(key, text)]));
                }
            }
        }
        maps
    }

    /// Takes minutes back that `minutes` gave, before applications are set. What lies between is unknown. Returns the
    /// keys of what could not be read, or is no longer in any window: it is left out. Of one application the first map
    /// counts: a later one may have been left from when more of them were filled.
    pub fn restore(&self, maps: impl IntoIterator<Item = BTreeMap<String, String>>) -> Vec<String> {
        let now = minute_of((self.0.shared.clock)());
        let mut state = self.0.shared.lock();
        let mut refused = Vec::new();
        for (key, text) in maps.into_iter().flatten() {
            let readable = Minutes::parse(&text, LONGEST_WINDOW).is_ok_and(|it| !it.is_outdated(now));
            match key.split_once('.') {
                Some((namespace, name)) if readable => {
                    let app = AppKey { namespace: namespace.to_owned(), name: name.to_owned() };
                    state.laid_by.entry(app).or_insert(text);
                }
                Some(_) | None => refused.push(key),
            }
        }
        refused
    }
}

impl Shared {
    /// A panic while the state was held would be a defect; what was in it is still the best there is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &mut State, app: &AppKey) {
        state.changed.insert(app.clone());
        self.changed.notify_one();
    }

    /// Takes an answer in. False when nobody waits for it any more.
    fn record(&self, app: &AppKey, probe: &Probe, generation: u64, bad: Option<&str>) -> bool {
        let now = (self.clock)();
        let mut state = self.lock();
        let Some(entry) = state.apps.get_mut(app) else { return false };
        if entry.probes.get(&probe.name).is_none_or(|it| it.generation != generation) {
            return false;
        }
        let changed = entry.monitor.record(&probe.name, now, bad);
        let bad_minute = entry.settle(now);
        state.pressing |= bad_minute;
        if changed {
            self.tell(&mut state, app);
        }
        true
    }

    /// Ends the minute that went on for all applications, unless `now` is still in it. Minutes that were slept through
    /// are told by nobody, and so unknown.
    fn end_minute(&self, now: Timestamp) {
        let mut state = self.lock();
        let current = minute_of(now);
        if current == state.minute {
            return;
        }
        let ended = std::mem::replace(&mut state.minute, current);
        let State { apps, changed, pressing, .. } = &mut *state;
        let mut counted = false;
        for (app, entry) in apps {
            if entry.expire(now) {
                changed.insert(app.clone());
            }
            let next = entry.minute_now();
            let how = std::mem::replace(&mut entry.minute, next);
            if let Some(service) = &mut entry.service {
                *pressing |= service.minutes.record(ended, how) && how == Minute::Bad;
                counted = true;
            }
        }
        if !changed.is_empty() {
            self.changed.notify_one();
        }
        if state.pressing || (counted && (current - state.kept_at).abs() >= KEEP_EVERY) {
            (state.kept_at, state.pressing) = (current, false);
            self.due.notify_one();
        }
    }
}

impl App {
    fn new(now: Timestamp) -> Self {
        Self { monitor: Monitor::new(now), probes: BTreeMap::new(), service: None, minute: Minute::Unknown }
    }

    /// Gives the minutes that are not counted any more, if there were some.
    fn set_objective(&mut self, objective: Option<Objective>, laid_by: Option<&str>, app: &AppKey) -> Option<Minutes> {
        let before = self.service.take().map(|it| it.minutes);
        let Some(objective) = objective else { return before };
        let minutes = match (before, laid_by) {
            (Some(minutes), _) => minutes,
            (None, Some(text)) => Minutes::parse(text, LONGEST_WINDOW).unwrap_or_else(|error| {
                tracing::warn!(namespace = app.namespace, name = app.name, %error, "minutes are not restored");
                Minutes::new(LONGEST_WINDOW)
            }),
            (None, None) => Minutes::new(LONGEST_WINDOW),
        };
        self.service = Some(Service { objective, minutes });
        None
    }

    /// How the minute is by the verdict that stands.
    fn minute_now(&self) -> Minute {
        match self.monitor.health().verdict {
            Verdict::Healthy => Minute::Good,
            Verdict::Unhealthy => Minute::Bad,
            Verdict::Unknown => Minute::Unknown,
        }
    }

    /// Counts the verdict for the minute that goes on; and, once it is believed to be down, for those since it went
    /// down. Says whether a full minute became bad.
    fn settle(&mut self, now: Timestamp) -> bool {
        self.minute = self.minute.max(self.minute_now());
        let (Some(since), Some(service)) = (self.monitor.health().disrupted_at, &mut self.service) else {
            return false;
        };
        service.minutes.mark(minute_of(since), minute_of(now) - 1, Minute::Bad)
    }

    /// Forgets good answers that are too old to tell anything, and all of a probe that is asked no more: its task ended
    /// by a defect, since nothing else ends it.
    fn expire(&mut self, now: Timestamp) -> bool {
        let mut changed = false;
        for (name, Running { probe, task, .. }) in &self.probes {
            if task.is_finished() {
                changed |= self.monitor.add(name, Window::new(probe.failures, probe.of), now);
                continue;
            }
            let lifetime = probe.interval * 3 + probe.timeout;
            changed |= now.checked_sub(lifetime).is_ok_and(|oldest| self.monitor.expire(name, oldest, now));
        }
        changed
    }
}

/// Asks one probe until it is aborted, never twice at once.
async fn keep_asking(shared: Arc<Shared>, app: AppKey, probe: Probe, generation: u64) {
    let spread = u64::try_from(probe.interval.min(SPREAD).as_millis()).unwrap_or(u64::MAX).max(1);
    let mut next = Instant::now() + Duration::from_millis(rand::random_range(0..spread));
    loop {
        sleep_until(next).await;
        let answer = {
            let _permit = shared.permits.acquire().await.expect("the semaphore is never closed");
            shared.vantage.ask(&probe, &Route::ByName).await
        };
        let bad = (!answer.good).then_some(answer.reason.as_str());
        if !shared.record(&app, &probe, generation, bad) {
            return;
        }
        // When it is late, the questions that were missed are not made up for.
        next = (next + probe.interval).max(Instant::now());
    }
}

/// Ends each minute when it is over.
async fn tick(shared: Arc<Shared>) {
    loop {
        let into = (shared.clock)().as_millisecond().rem_euclid(60_000);
        sleep(Duration::from_millis(u64::try_from(60_000 - into).unwrap_or(60_000))).await;
        shared.end_minute((shared.clock)());
    }
}

/// Minutes since 1970.
fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
