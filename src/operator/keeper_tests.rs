//! Keepers of two regions with real clocks, a journal on a loopback address, and a vault in memory.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::time::timeout;

use super::*;
use crate::{
    api::application::Fencing,
    core::claim::{record::Deadlines, state::Evidence},
    operator::journal::tests::Cluster,
};

#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
    tags: AtomicU64,
    writes: AtomicU64,
    hangs: AtomicBool,
}

impl ClaimStore for Memory {
    async fn read(&self, object: &str) -> Result<Option<Found>, String> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let found = lock(&self.objects).get(object).cloned();
        Ok(found.map(|(bytes, tag)| Found { bytes, tag: tag.to_string() }))
    }

    async fn write(&self, object: &str, bytes: Bytes, expected: &Expected) -> Result<String, WriteError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut objects = lock(&self.objects);
        let met = match (expected, objects.get(object)) {
            (Expected::Absent, None) => true,
            (Expected::Unchanged(wanted), Some((_, tag))) => *wanted == tag.to_string(),
            (Expected::Absent, Some(_)) | (Expected::Unchanged(_), None) => false,
        };
        if !met {
            return Err(WriteError::Lost);
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        let tag = self.tags.fetch_add(1, Ordering::SeqCst);
        objects.insert(object.to_owned(), (bytes, tag));
        Ok(tag.to_string())
    }
}

fn app() -> AppKey {
    AppKey { namespace: "shop".to_owned(), name: "web".to_owned() }
}

fn settings(region: &str) -> Settings {
    Settings {
        region: region.to_owned(),
        group: app().group(),
        candidates: vec!["east".to_owned(), "west".to_owned()],
        fencing: Fencing::Advisory,
        deadlines: Deadlines { renew: 1, hold: 3, fence: 1, wait: 6 },
        evidence: Some(Evidence::default()),
    }
}

struct Operator {
    keeper: Keeper<Memory>,
    wakes: mpsc::Receiver<AppKey>,
    cluster: Arc<Cluster>,
}

impl Operator {
    async fn start(cluster: Arc<Cluster>) -> Self {
        let journal = Journal::open(cluster.serve().await, "reprise").await.unwrap();
        let (wake, wakes) = mpsc::channel(16);
        Self { keeper: Keeper::new(journal, wake).unwrap(), wakes, cluster }
    }

    async fn keeping(region: &str, vault: &Arc<Memory>, wish: Wish) -> Self {
        let operator = Self::start(Arc::default()).await;
        operator.keeper.set(&app(), settings(region), vault.clone()).unwrap();
        operator.keeper.wish(&app(), wish).unwrap();
        operator
    }

    fn view(&self) -> View {
        self.keeper.view(&app()).unwrap()
    }

    /// Waits for wakes until the view is so; the reconcile loop does the same.
    async fn until(&mut self, what: &str, so: impl Fn(&View) -> bool) -> View {
        let waiting = async {
            while !so(&self.view()) {
                self.wakes.recv().await.unwrap();
            }
        };
        let waited = timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "waited for: {what}; {:?}", self.view());
        self.view()
    }
}

#[tokio::test]
async fn a_claim_is_made_kept_and_written_down_and_a_renewal_wakes_nobody() {
    let vault = Arc::new(Memory::default());
    let mut east = Operator::keeping("east", &vault, Wish::Hold).await;
    let view = east.until("a valid claim", |it| it.valid).await;
    assert_eq!((view.epoch, view.holder.as_deref()), (1, Some("east")));
    assert!(east.keeper.valid_now(&app(), 1));
    assert!(!east.keeper.valid_now(&app(), 2));
    while east.wakes.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert!(east.keeper.valid_now(&app(), 1), "{:?}", east.view());
    assert!(vault.writes.load(Ordering::SeqCst) >= 4);
    assert!(east.wakes.try_recv().is_err(), "nothing changed that matters");
    let entry: Entry = serde_json::from_str(east.cluster.data()["shop.web"].as_str().unwrap()).unwrap();
    assert_eq!(entry.epoch, 1);
    assert!(entry.confirmed.is_some());
}

#[tokio::test]
async fn a_holder_that_dies_is_succeeded_after_the_wait_and_not_before() {
    let vault = Arc::new(Memory::default());
    let mut east = Operator::keeping("east", &vault, Wish::Hold).await;
    east.until("a valid claim", |it| it.valid).await;
    let mut west = Operator::keeping("west", &vault, Wish::Watch).await;
    west.until("the holder", |it| it.holder.as_deref() == Some("east")).await;
    east.keeper.remove(&app());
    let gone = std::time::Instant::now();
    let view = west.until("silence", |it| it.seizable).await;
    assert!(gone.elapsed() >= Duration::from_millis(4_900), "{:?}", gone.elapsed());
    assert_eq!(view.silent_for, 6);
    west.keeper.wish(&app(), Wish::Seize { epoch: 2, reason: "gone".to_owned() }).unwrap();
    let view = west.until("the claim", |it| it.valid).await;
    assert_eq!((view.epoch, view.holder.as_deref()), (2, Some("west")));
}

#[tokio::test]
async fn a_vault_that_hangs_ends_the_validity_and_hinders_nothing_else() {
    let vault = Arc::new(Memory::default());
    let mut east = Operator::keeping("east", &vault, Wish::Hold).await;
    east.until("a valid claim", |it| it.valid).await;
    vault.hangs.store(true, Ordering::SeqCst);
    let view = east.until("the end of it", |it| !it.valid && !it.readable).await;
    assert!(view.mine && !view.must_fence);
    assert!(view.last_error.is_some());
    vault.hangs.store(false, Ordering::SeqCst);
    let view = east.until("a valid claim", |it| it.valid).await;
    assert_eq!(view.epoch, 1);
}

#[tokio::test]
async fn a_renewal_that_cannot_be_written_down_is_not_sent() {
    let vault = Arc::new(Memory::default());
    let mut east = Operator::keeping("east", &vault, Wish::Hold).await;
    east.until("a valid claim", |it| it.valid).await;
    east.cluster.away.store(true, Ordering::SeqCst);
    // One may be under way.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = vault.writes.load(Ordering::SeqCst);
    east.until("the end of it", |it| !it.valid).await;
    assert_eq!(vault.writes.load(Ordering::SeqCst), before);
    assert!(east.view().readable, "the vault is there");
}

#[tokio::test]
async fn an_operator_that_restarts_proves_its_claim_from_the_journal() {
    let vault = Arc::new(Memory::default());
    let east = Operator::keeping("east", &vault, Wish::Hold).await;
    let renewed = |it: &View| it.valid && it.claim.as_ref().is_some_and(|claim| claim.seq >= 2);
    let waiting = async {
        while !renewed(&east.view()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.unwrap();
    east.keeper.remove(&app());
    vault.hangs.store(true, Ordering::SeqCst);
    let mut again = Operator::start(east.cluster.clone()).await;
    again.keeper.set(&app(), settings("east"), vault.clone()).unwrap();
    assert!(again.keeper.valid_now(&app(), 1), "{:?}", again.view());
    again.until("the end of it", |it| !it.valid).await;
}

#[tokio::test]
async fn health_travels_with_the_renewals() {
    let vault = Arc::new(Memory::default());
    let east = Operator::keeping("east", &vault, Wish::Hold).await;
    east.keeper.set_health(&app(), Some(false)).unwrap();
    let mut west = Operator::keeping("west", &vault, Wish::Watch).await;
    west.until("the verdict", |it| it.holder_health.is_some_and(|it| !it.healthy)).await;
}

#[tokio::test]
async fn what_is_not_kept_can_be_wished_nothing() {
    let operator = Operator::start(Arc::default()).await;
    assert_eq!(operator.keeper.wish(&app(), Wish::Hold), Err(KeeperError::NotKept));
    assert_eq!(operator.keeper.view(&app()), None);
    assert!(!operator.keeper.valid_now(&app(), 1));
}
