//! The probe scheduler against a world of one workload and a clock that is set by hand: what is told, what is asked,
//! and what becomes of the minutes.

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
    until("each was asked", || (0..100).all(|it| watch.health(&key(it)).unwrap().verdict == Verdict::Healthy)).await;
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
async fn minutes_outlive_a_change_of_the_objective_and_its_removal_for_a_while() {
    let world = World::default();
    let watch = world.watch(8);
    let text = |minutes: &str| vec![BTreeMap::from([("shop.web-0".to_owned(), minutes.to_owned())])];
    // 2000 minutes before now, more than a day.
    watch.restore(text("1:28331333:G1000B10G990"));
    let level = |window: u32| {
        watch.set(&key(0), vec![], Some(Objective { window, ..objective() }));
        let level = watch.service_level(&key(0)).unwrap();
        (level.good, level.bad)
    };
    assert_eq!(level(2_880), (1990, 10));
    assert_eq!(level(60), (60, 0));
    assert_eq!(level(2_880), (1990, 10), "a shorter window forgets nothing");
    watch.set(&key(0), vec![], None);
    watch.set(&key(0), vec![], None);
    assert_eq!((watch.service_level(&key(0)), watch.minutes()), (None, text("1:28331333:G1000B10G990")));
    let kept = tokio::time::timeout(Duration::from_secs(5), watch.minutes_to_persist());
    world.go_to(&watch, 60);
    assert_eq!(kept.await.unwrap().len(), 1, "it is written down before a restart");
    assert_eq!(level(2_880), (1990, 10));
    // Nor does a restart while there is no objective lose them.
    let watch = world.watch(8);
    watch.restore(text("1:28331333:G1000B10G990"));
    watch.set(&key(0), vec![], None);
    assert_eq!(watch.minutes(), text("1:28331333:G1000B10G990"));
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

#[tokio::test]
async fn minutes_in_a_map_that_is_no_longer_filled_do_not_replace_newer_ones() {
    let world = World::default();
    let watch = world.watch(8);
    let map = |text: &str| BTreeMap::from([("shop.web-0".to_owned(), text.to_owned())]);
    watch.restore([map("1:28331333:G1000B10G990"), map("1:28331333:G1000")]);
    assert_eq!(watch.minutes(), [map("1:28331333:G1000B10G990")]);
}
