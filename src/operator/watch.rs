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
    /// Minutes that were restored, of applications that were not set since.
    restored: BTreeMap<AppKey, String>,
    /// The minute that goes on.
    minute: i64,
    /// When minutes were last handed out to be kept.
    kept_at: i64,
    bad_since_kept: bool,
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
    /// objective, the minutes are forgotten. A change of health by this is not told: who sets, asks for it next.
    pub fn set(&self, app: &AppKey, probes: Vec<Probe>, objective: Option<Objective>) {
        let shared = &self.0.shared;
        let now = (shared.clock)();
        let mut state = shared.lock();
        let restored = state.restored.remove(app);
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
        entry.set_objective(objective, restored.as_deref(), app);
        entry.settle(now);
    }

    /// Watches an application no more, and forgets its minutes.
    pub fn remove(&self, app: &AppKey) {
        let mut state = self.0.shared.lock();
        state.apps.remove(app);
        state.restored.remove(app);
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
        Some(service.minutes.summary(now, service.objective.target))
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
        let restored = state.restored.iter().map(|(app, text)| (app, text.clone()));
        let mut maps: Vec<BTreeMap<String, String>> = Vec::new();
        let mut room = 0;
        for (app, text) in told.chain(restored) {
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
    /// keys of what could not be read, or is no longer in any window: it is left out.
    pub fn restore(&self, maps: impl IntoIterator<Item = BTreeMap<String, String>>) -> Vec<String> {
        let now = minute_of((self.0.shared.clock)());
        let mut state = self.0.shared.lock();
        let mut refused = Vec::new();
        for (key, text) in maps.into_iter().flatten() {
            let readable = Minutes::parse(&text, LONGEST_WINDOW).is_ok_and(|it| !it.is_outdated(now));
            match key.split_once('.') {
                Some((namespace, name)) if readable => {
                    let app = AppKey { namespace: namespace.to_owned(), name: name.to_owned() };
                    state.restored.insert(app, text);
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
        state.bad_since_kept |= bad_minute;
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
        let State { apps, changed, bad_since_kept, .. } = &mut *state;
        let mut counted = false;
        for (app, entry) in apps {
            if entry.expire(now) {
                changed.insert(app.clone());
            }
            let next = entry.minute_now();
            let how = std::mem::replace(&mut entry.minute, next);
            if let Some(service) = &mut entry.service {
                *bad_since_kept |= service.minutes.record(ended, how) && how == Minute::Bad;
                counted = true;
            }
        }
        if !changed.is_empty() {
            self.changed.notify_one();
        }
        let counted = counted || !state.restored.is_empty();
        if counted && (state.bad_since_kept || (current - state.kept_at).abs() >= KEEP_EVERY) {
            (state.kept_at, state.bad_since_kept) = (current, false);
            self.due.notify_one();
        }
    }
}

impl App {
    fn new(now: Timestamp) -> Self {
        Self { monitor: Monitor::new(now), probes: BTreeMap::new(), service: None, minute: Minute::Unknown }
    }

    fn set_objective(&mut self, objective: Option<Objective>, restored: Option<&str>, app: &AppKey) {
        let Some(objective) = objective else {
            self.service = None;
            return;
        };
        let minutes = match (self.service.take(), restored) {
            (Some(it), _) => it.minutes.with_window(objective.window),
            (None, Some(text)) => Minutes::parse(text, objective.window).unwrap_or_else(|error| {
                tracing::warn!(namespace = app.namespace, name = app.name, %error, "minutes are not restored");
                Minutes::new(objective.window)
            }),
            (None, None) => Minutes::new(objective.window),
        };
        self.service = Some(Service { objective, minutes });
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
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};

    use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};

    use super::*;
    use crate::{
        api::application::WorkloadKind,
        probe::{
            Question,
            workload::{Workload, WorkloadView},
        },
        traffic::resolve::Resolve,
    };

    /// A cluster with one workload that each probe asks for, and a clock that is set by hand.
    #[derive(Clone, Default)]
    struct World {
        down: Arc<AtomicBool>,
        slow_ms: Arc<AtomicUsize>,
        asked: Arc<AtomicUsize>,
        under_way: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        seconds: Arc<AtomicI64>,
    }

    impl World {
        fn watch(&self, concurrent: usize) -> Watch {
            let world = self.clone();
            let read = move |_: &str, _: WorkloadKind, _: &str| {
                let world = world.clone();
                let reading: futures::future::BoxFuture<'static, WorkloadView> =
                    Box::pin(async move { world.read().await });
                reading
            };
            let resolve = Resolve::with_servers(&["127.0.0.1:9".parse().unwrap()]).unwrap();
            let seconds = self.seconds.clone();
            let clock = move || Timestamp::from_second(1_699_999_980 + seconds.load(Ordering::SeqCst)).unwrap();
            Watch::new(Vantage::new(resolve, Arc::new(read)).unwrap(), Arc::new(clock), concurrent)
        }

        async fn read(&self) -> WorkloadView {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(self.slow_ms.load(Ordering::SeqCst) as u64)).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return WorkloadView::Absent;
            }
            WorkloadView::Deployment(Arc::new(Deployment {
                spec: Some(DeploymentSpec { replicas: Some(1), ..Default::default() }),
                status: Some(DeploymentStatus { ready_replicas: Some(1), ..Default::default() }),
                ..Default::default()
            }))
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        /// Sets the clock to the second, and ends the minutes on the way there.
        fn go_to(&self, watch: &Watch, second: i64) {
            while self.seconds.load(Ordering::SeqCst) < second {
                self.seconds.fetch_add(1, Ordering::SeqCst);
                watch.0.shared.end_minute((watch.0.shared.clock)());
            }
        }
    }

    fn key(number: usize) -> AppKey {
        AppKey { namespace: "shop".into(), name: format!("web-{number}") }
    }

    fn probe(name: &str, interval_ms: u64) -> Probe {
        let workload = Workload { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() };
        Probe {
            name: name.into(),
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_mins(1),
            failures: 2,
            of: 2,
            question: Question::Workload(workload),
        }
    }

    fn objective() -> Objective {
        Objective { target: "99%".parse().unwrap(), window: 1440 }
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..500 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 5 s: {what}");
    }

    async fn until_verdict(watch: &Watch, verdict: Verdict) {
        until("the verdict", || watch.health(&key(0)).is_some_and(|it| it.verdict == verdict)).await;
    }

    /// Everything that is told within a moment.
    async fn told(watch: &Watch) -> Vec<AppKey> {
        let mut all = Vec::new();
        while let Ok(app) = tokio::time::timeout(Duration::from_millis(200), watch.changed()).await {
            all.push(app);
        }
        all
    }

    #[tokio::test]
    async fn only_a_change_is_told_and_once() {
        let world = World::default();
        let watch = world.watch(8);
        watch.set(&key(0), vec![probe("web", 10)], None);
        until_verdict(&watch, Verdict::Healthy).await;
        assert_eq!(told(&watch).await, [key(0)]);
        let asked = world.asked();
        assert_eq!(told(&watch).await, [], "while nothing changes");
        assert!(world.asked() > asked + 5, "though it was asked");

        world.down.store(true, Ordering::SeqCst);
        until_verdict(&watch, Verdict::Unhealthy).await;
        world.down.store(false, Ordering::SeqCst);
        until_verdict(&watch, Verdict::Healthy).await;
        assert_eq!(told(&watch).await, [key(0)], "two changes that nobody asked for are told once");
    }

    #[tokio::test]
    async fn settings_that_stay_as_they_are_disturb_nothing() {
        let world = World::default();
        let watch = world.watch(8);
        watch.set(&key(0), vec![probe("web", 200)], None);
        until_verdict(&watch, Verdict::Healthy).await;
        told(&watch).await;
        let asked = world.asked();
        for _ in 0..50 {
            watch.set(&key(0), vec![probe("web", 200)], Some(objective()));
            assert_eq!(watch.health(&key(0)).unwrap().verdict, Verdict::Healthy);
            sleep(Duration::from_millis(10)).await;
        }
        assert!(world.asked() <= asked + 4, "it is asked at its interval");
        assert_eq!(told(&watch).await, []);
    }

    #[tokio::test]
    async fn a_new_probe_leaves_the_others_their_answers() {
        let world = World::default();
        let watch = world.watch(8);
        world.down.store(true, Ordering::SeqCst);
        watch.set(&key(0), vec![probe("web", 10)], None);
        until_verdict(&watch, Verdict::Unhealthy).await;
        let before = watch.health(&key(0)).unwrap();
        watch.set(&key(0), vec![probe("web", 10), probe("db", 60_000)], None);
        assert_eq!(watch.health(&key(0)).unwrap(), before);
        watch.set(&key(0), vec![probe("db", 60_000)], None);
        assert_eq!(watch.health(&key(0)).unwrap().reasons, ["db: no good answer yet"]);
        watch.set(&key(0), vec![], None);
        assert_eq!(watch.health(&key(0)).unwrap().reasons, ["no probe"]);
    }

    #[tokio::test]
    async fn a_probe_never_overlaps_itself() {
        let world = World::default();
        world.slow_ms.store(40, Ordering::SeqCst);
        let watch = world.watch(8);
        watch.set(&key(0), vec![probe("web", 5)], None);
        until("some answers", || world.asked() > 5).await;
        assert_eq!(world.most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn no_more_questions_are_under_way_than_allowed() {
        let world = World::default();
        world.slow_ms.store(10, Ordering::SeqCst);
        let watch = world.watch(4);
        for number in 0..100 {
            watch.set(&key(number), vec![probe("web", 20)], None);
        }
        until("each was asked", || (0..100).all(|it| watch.health(&key(it)).unwrap().verdict == Verdict::Healthy))
            .await;
        assert_eq!(world.most.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn what_is_no_longer_watched_is_no_longer_asked() {
        let world = World::default();
        let watch = world.watch(8);
        watch.set(&key(0), vec![probe("web", 10)], Some(objective()));
        until_verdict(&watch, Verdict::Healthy).await;
        watch.remove(&key(0));
        assert_eq!((watch.health(&key(0)), watch.service_level(&key(0))), (None, None));
        let asked = world.asked();
        sleep(Duration::from_millis(100)).await;
        assert!(world.asked() <= asked + 1);
        assert_eq!(told(&watch).await, []);

        watch.set(&key(1), vec![probe("web", 10)], None);
        until("an answer", || world.asked() > asked + 2).await;
        drop(watch);
        let asked = world.asked();
        sleep(Duration::from_millis(100)).await;
        assert!(world.asked() <= asked + 1, "nor after the watch is gone");
    }

    #[tokio::test]
    async fn minutes_are_good_bad_from_the_first_bad_answer_and_unknown_without_answers() {
        let world = World::default();
        let watch = world.watch(8);
        let level = || watch.service_level(&key(0)).unwrap();
        world.slow_ms.store(1_000_000, Ordering::SeqCst);
        watch.set(&key(0), vec![probe("web", 10)], Some(objective()));
        world.go_to(&watch, 60);
        assert_eq!((level().good, level().bad, level().unknown), (0, 0, 1), "not answered yet");
        world.slow_ms.store(0, Ordering::SeqCst);
        watch.set(&key(0), vec![], Some(objective()));
        watch.set(&key(0), vec![probe("web", 10)], Some(objective()));
        until_verdict(&watch, Verdict::Healthy).await;
        world.go_to(&watch, 61);
        // From here it is asked by hand, so that answers have the times that they shall have.
        watch.set(&key(0), vec![Probe { interval: Duration::from_secs(50), ..probe("web", 0) }], Some(objective()));
        let generation = watch.0.shared.lock().apps[&key(0)].probes["web"].generation;
        let answer = |second, bad| {
            world.go_to(&watch, second);
            let probe = watch.0.shared.lock().apps[&key(0)].probes["web"].probe.clone();
            assert!(watch.0.shared.record(&key(0), &probe, generation, bad));
        };
        answer(70, None);
        answer(110, None);
        answer(170, None);
        assert_eq!((level().good, level().bad, level().unknown), (1, 0, 1));
        answer(230, Some("refused"));
        world.go_to(&watch, 245);
        assert_eq!((level().good, level().bad), (3, 0), "one bad answer of two is not believed");
        answer(290, Some("refused"));
        assert_eq!((level().good, level().bad), (2, 1), "and then it counts from the first");
        answer(350, None);
        world.go_to(&watch, 360);
        assert_eq!((level().good, level().bad, level().unknown), (2, 3, 1));
        world.go_to(&watch, 1_000);
        assert_eq!(watch.health(&key(0)).unwrap().verdict, Verdict::Unknown, "answers that no longer come");
        assert!(level().unknown > 3);
    }

    #[tokio::test]
    async fn minutes_outlive_a_restart_and_the_gap_is_unknown() {
        let world = World::default();
        let watch = world.watch(8);
        watch.set(&key(0), vec![probe("web", 10)], Some(objective()));
        until_verdict(&watch, Verdict::Healthy).await;
        for second in [60, 120, 180] {
            sleep(Duration::from_millis(50)).await;
            world.go_to(&watch, second);
        }
        let (kept, level) = (watch.minutes(), watch.service_level(&key(0)).unwrap());
        assert_eq!((level.good, level.unknown), (3, 0));
        drop(watch);
        world.seconds.store(480, Ordering::SeqCst);
        let watch = world.watch(8);
        let mut kept = kept;
        kept[0].insert("shop.old".into(), "1:5:G3".into());
        kept[0].insert("shop.torn".into(), "1:".into());
        kept[0].insert("nodot".into(), "1:28333333:G3".into());
        assert_eq!(watch.restore(kept.clone()), ["nodot", "shop.old", "shop.torn"]);
        assert_eq!(watch.minutes()[0].keys().collect::<Vec<_>>(), ["shop.web-0"], "kept also before it is set");
        watch.set(&key(0), vec![probe("web", 10)], Some(objective()));
        until_verdict(&watch, Verdict::Healthy).await;
        world.go_to(&watch, 540);
        let level = watch.service_level(&key(0)).unwrap();
        assert_eq!((level.good, level.bad, level.unknown), (4, 0, 5));
    }

    #[tokio::test]
    async fn minutes_are_kept_every_five_and_at_once_when_one_was_bad() {
        let world = World::default();
        let watch = world.watch(8);
        let mut due = std::pin::pin!(watch.minutes_to_persist());
        let mut is_due = async || {
            let told = tokio::time::timeout(Duration::from_millis(100), due.as_mut()).await.is_ok();
            if told {
                due.set(watch.minutes_to_persist());
            }
            told
        };
        world.go_to(&watch, 600);
        assert!(!is_due().await, "there are none");
        watch.set(&key(0), vec![probe("web", 5)], Some(objective()));
        until_verdict(&watch, Verdict::Healthy).await;
        let mut seen = Vec::new();
        for minute in 11..22 {
            world.go_to(&watch, minute * 60);
            sleep(Duration::from_millis(30)).await;
            seen.push(is_due().await);
        }
        assert_eq!(seen.iter().filter(|it| **it).count(), 2 + usize::from(seen[10]), "{seen:?}");
        world.down.store(true, Ordering::SeqCst);
        until_verdict(&watch, Verdict::Unhealthy).await;
        world.go_to(&watch, 22 * 60);
        assert!(is_due().await);
        assert!(!is_due().await, "once in a minute");
    }

    #[tokio::test]
    async fn minutes_that_are_too_many_for_one_map_go_into_several() {
        let world = World::default();
        let watch = world.watch(8);
        let mut maps = vec![BTreeMap::new()];
        for number in 0..2_000 {
            let text = format!("1:28333000:{}", "G1B1".repeat(150));
            maps[0].insert(format!("shop.web-{number}"), text);
        }
        assert_eq!(watch.restore(maps.clone()), [""; 0]);
        let kept = watch.minutes();
        assert_eq!(kept.len(), 2);
        for map in &kept {
            assert!(map.iter().map(|(key, text)| key.len() + text.len()).sum::<usize>() <= MAP_BYTES);
        }
        assert_eq!(kept.into_iter().flatten().collect::<BTreeMap<_, _>>(), maps[0]);
    }
}
