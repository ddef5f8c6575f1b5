//! The journal against an API server's `ConfigMap` endpoints, as far as it uses them, on a loopback address.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;

use super::*;
use crate::core::claim::{
    record::{Deadlines, Purpose},
    time::Now,
};

/// One `ConfigMap`, and what was asked of it.
#[derive(Default)]
pub struct Cluster {
    map: Mutex<Option<Value>>,
    version: AtomicU64,
    pub writes: AtomicU64,
    pub away: AtomicBool,
}

impl Cluster {
    /// Serves it on a loopback address; gives a client of it.
    pub async fn serve(self: &Arc<Self>) -> Client {
        let maps = "/api/v1/namespaces/reprise/configmaps";
        let router = Router::new()
            .route(maps, post(create))
            .route(&format!("{maps}/{NAME}"), get(show).patch(change))
            .with_state(self.clone());
        crate::operator::played::client(router).await
    }

    pub fn data(&self) -> Value {
        self.map.lock().unwrap().as_ref().map_or(Value::Null, |it| it["data"].clone())
    }

    fn next(&self) -> String {
        (self.version.fetch_add(1, Ordering::SeqCst) + 1).to_string()
    }

    /// Somebody else writes it.
    fn touch(&self) {
        let version = self.next();
        if let Some(map) = self.map.lock().unwrap().as_mut() {
            map["metadata"]["resourceVersion"] = version.into();
        }
    }
}

fn answer(code: StatusCode, body: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn refuse(code: StatusCode, reason: &str) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16() });
    answer(code, &status)
}

async fn show(State(cluster): State<Arc<Cluster>>) -> Response {
    if cluster.away.load(Ordering::SeqCst) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    match cluster.map.lock().unwrap().clone() {
        Some(map) => answer(StatusCode::OK, &map),
        None => refuse(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn create(State(cluster): State<Arc<Cluster>>, body: Bytes) -> Response {
    let mut map: Value = serde_json::from_slice(&body).unwrap();
    cluster.writes.fetch_add(1, Ordering::SeqCst);
    if cluster.away.load(Ordering::SeqCst) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    let mut stored = cluster.map.lock().unwrap();
    if stored.is_some() {
        return refuse(StatusCode::CONFLICT, "AlreadyExists");
    }
    map["metadata"]["resourceVersion"] = cluster.next().into();
    *stored = Some(map.clone());
    answer(StatusCode::CREATED, &map)
}

async fn change(State(cluster): State<Arc<Cluster>>, body: Bytes) -> Response {
    let patch: Value = serde_json::from_slice(&body).unwrap();
    cluster.writes.fetch_add(1, Ordering::SeqCst);
    if cluster.away.load(Ordering::SeqCst) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    let mut stored = cluster.map.lock().unwrap();
    let Some(map) = stored.as_mut() else { return refuse(StatusCode::NOT_FOUND, "NotFound") };
    if patch["metadata"]["resourceVersion"] != map["metadata"]["resourceVersion"] {
        return refuse(StatusCode::CONFLICT, "Conflict");
    }
    let data = map["data"].as_object_mut().unwrap();
    for (key, value) in patch["data"].as_object().unwrap() {
        match value {
            Value::Null => drop(data.remove(key)),
            value => drop(data.insert(key.clone(), value.clone())),
        }
    }
    map["metadata"]["resourceVersion"] = cluster.next().into();
    answer(StatusCode::OK, map)
}

fn app(name: &str) -> AppKey {
    AppKey { namespace: "shop".to_owned(), name: name.to_owned() }
}

fn entry(seq: u64) -> Entry {
    let now = Now { boot: Duration::from_millis(1_500), wall: Timestamp::constant(1_800_000_000, 0) };
    Entry {
        boot_id: "boot".to_owned(),
        purpose: Purpose::Renew,
        epoch: 3,
        seq,
        nonce: format!("east.me.{seq}"),
        deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
        sent: now,
        confirmed: Some(now),
    }
}

async fn journal(cluster: &Arc<Cluster>) -> Journal {
    Journal::open(cluster.serve().await, "reprise").await.unwrap()
}

#[tokio::test]
async fn what_becomes_due_together_is_written_once() {
    let cluster = Arc::new(Cluster::default());
    let journal = journal(&cluster).await;
    let names: Vec<String> = (0..200).map(|it| format!("app-{it}")).collect();
    let all = futures::future::join_all(names.iter().map(|name| {
        let journal = journal.clone();
        async move { journal.record(&app(name), entry(1)).await }
    }));
    assert!(all.await.iter().all(Result::is_ok));
    assert_eq!(cluster.writes.load(Ordering::SeqCst), 1);
    assert_eq!(cluster.data().as_object().unwrap().len(), 200);
}

#[tokio::test]
async fn what_was_written_down_is_read_after_a_restart() {
    let cluster = Arc::new(Cluster::default());
    let first = journal(&cluster).await;
    first.record(&app("web"), entry(1)).await.unwrap();
    first.record(&app("web"), entry(2)).await.unwrap();
    first.record(&app("blog"), entry(7)).await.unwrap();
    first.forget(&app("blog")).await.unwrap();
    let second = journal(&cluster).await;
    assert_eq!(second.entry(&app("web")), Some(entry(2)));
    assert_eq!(second.entry(&app("blog")), None);
}

#[tokio::test]
async fn a_region_that_holds_nothing_writes_nothing() {
    let cluster = Arc::new(Cluster::default());
    let journal = journal(&cluster).await;
    journal.forget(&app("web")).await.unwrap();
    assert_eq!(cluster.writes.load(Ordering::SeqCst), 0);
    assert_eq!(cluster.data(), Value::Null);
}

#[tokio::test]
async fn what_could_not_be_written_is_refused_and_not_remembered() {
    let cluster = Arc::new(Cluster::default());
    let journal = journal(&cluster).await;
    journal.record(&app("web"), entry(1)).await.unwrap();
    cluster.away.store(true, Ordering::SeqCst);
    let refused = journal.record(&app("web"), entry(2)).await;
    assert!(matches!(refused, Err(JournalError::Write(_))), "{refused:?}");
    assert_eq!(journal.entry(&app("web")), Some(entry(1)));
    cluster.away.store(false, Ordering::SeqCst);
    journal.record(&app("web"), entry(3)).await.unwrap();
}

#[tokio::test]
async fn a_write_replaces_only_the_version_it_knows_so_that_a_late_one_cannot_undo_a_newer_one() {
    let cluster = Arc::new(Cluster::default());
    let journal = journal(&cluster).await;
    journal.record(&app("web"), entry(1)).await.unwrap();
    cluster.touch();
    let before = cluster.writes.load(Ordering::SeqCst);
    journal.record(&app("web"), entry(2)).await.unwrap();
    assert_eq!(cluster.writes.load(Ordering::SeqCst) - before, 2, "one was refused, and one came after a look");
}

#[tokio::test]
async fn a_journal_that_somebody_deleted_is_made_again_whole() {
    let cluster = Arc::new(Cluster::default());
    let journal = journal(&cluster).await;
    journal.record(&app("web"), entry(1)).await.unwrap();
    *cluster.map.lock().unwrap() = None;
    journal.record(&app("blog"), entry(7)).await.unwrap();
    assert_eq!(cluster.data().as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn an_entry_that_is_none_is_left_out() {
    let cluster = Arc::new(Cluster::default());
    let first = journal(&cluster).await;
    first.record(&app("web"), entry(1)).await.unwrap();
    cluster.map.lock().unwrap().as_mut().unwrap()["data"]["shop.odd"] = "by hand".into();
    let second = journal(&cluster).await;
    assert_eq!(second.entry(&app("odd")), None);
    assert_eq!(second.entry(&app("web")), Some(entry(1)));
}
