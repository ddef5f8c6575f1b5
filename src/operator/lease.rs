//! Leader election over a `coordination.k8s.io` Lease: one replica acts, the others wait. kube has none.
//!
//! Fail-stop: when the lease is lost the process ends, and its successor begins with empty hands.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

/// How long a lease stands without renewal, in seconds.
pub const TERM_SECONDS: i32 = 12;
pub(super) const TERM: Duration = Duration::from_secs(12);
/// How often the leader renews, and a follower looks: one that waits takes over `TERM` and one look after the last
/// renewal, 16 s, at the latest.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// The shortest pause between two looks of a follower.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one request may take.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

/// What a replica may do about the lease as it saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// Free, expired, or mine: write it.
    Take,
    /// Somebody else's, and still standing.
    Wait,
}

/// The lease of another replica, as first seen in this version.
///
/// Judged by the time since it was seen here, not by the time written in it: clocks of nodes differ.
#[derive(Clone, Debug)]
struct Sighting {
    version: Option<String>,
    at: Instant,
}

/// When a follower looks next: as usual, or just when the lease that it saw would be over.
fn pause(unchanged_for: Option<Duration>) -> Duration {
    let left = unchanged_for.map_or(RENEW_EVERY, |it| TERM.saturating_sub(it));
    left.clamp(PAUSE, RENEW_EVERY)
}

fn next_move(spec: Option<&LeaseSpec>, me: &str, unchanged_for: Duration) -> Move {
    let holder = spec.and_then(|it| it.holder_identity.as_deref()).filter(|it| !it.is_empty());
    match holder {
        None => Move::Take,
        Some(holder) if holder == me => Move::Take,
        Some(_) => {
            let term = spec.and_then(|it| it.lease_duration_seconds).unwrap_or(TERM_SECONDS);
            let term = Duration::from_secs(u64::try_from(term).unwrap_or(0));
            if unchanged_for >= term { Move::Take } else { Move::Wait }
        }
    }
}

/// Leader election of one process.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    me: String,
    sighting: Option<Sighting>,
    /// What was written last, while nothing else is known to stand.
    last: Option<Lease>,
    /// When the API server last answered while this process waited.
    answered: watch::Sender<Option<Instant>>,
}

impl Election {
    /// For the lease `name`, as `me`.
    #[must_use]
    pub fn new(leases: Api<Lease>, name: &str, me: &str) -> Self {
        Self {
            leases,
            name: name.to_owned(),
            me: me.to_owned(),
            sighting: None,
            last: None,
            answered: watch::Sender::default(),
        }
    }

    /// When the API server last answered while this process waited to lead.
    #[must_use]
    pub fn answered(&self) -> watch::Receiver<Option<Instant>> {
        self.answered.subscribe()
    }

    /// Waits until this process leads.
    pub async fn acquire(&mut self) {
        loop {
            match timeout(REQUEST, self.claim()).await {
                Ok(Ok(leads)) => {
                    self.answered.send_replace(Some(Instant::now()));
                    if leads {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "the leader lease could not be read or written"),
                Err(_) => tracing::warn!("the API server did not answer about the leader lease"),
            }
            sleep(pause(self.sighting.as_ref().map(|it| it.at.elapsed()))).await;
        }
    }

    /// Renews until the lease is lost, then returns: the process must end.
    pub async fn hold(&mut self) {
        let mut deadline = Instant::now() + TERM;
        loop {
            sleep(RENEW_EVERY).await;
            let asked = Instant::now();
            match timeout_at(deadline, timeout(REQUEST, self.claim())).await {
                Ok(Ok(Ok(true))) => deadline = asked + TERM,
                Ok(Ok(Ok(false))) | Err(_) => return,
                Ok(Ok(Err(error))) => tracing::warn!(%error, "the leader lease could not be renewed"),
                Ok(Err(_)) => tracing::warn!("the API server did not answer about the leader lease"),
            }
        }
    }

    /// Gives the lease up, so that a successor need not wait for its end.
    pub async fn release(&mut self) {
        let release = async {
            let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
            let mine = lease.spec.as_ref().is_some_and(|it| it.holder_identity.as_deref() == Some(&self.me));
            if let Some(spec) = lease.spec.as_mut().filter(|_| mine) {
                spec.holder_identity = None;
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if !matches!(timeout(REQUEST, release).await, Ok(Ok(()))) {
            tracing::warn!("the leader lease could not be given up: a successor waits {TERM_SECONDS} s");
        }
    }

    /// One compare-and-swap: the resource version known is the resource version replaced. The lease is read only when
    /// what was written last does not stand any more, or it is not known whether it does.
    async fn claim(&mut self) -> Result<bool, kube::Error> {
        if let Some(last) = self.last.take()
            && self.write(Some(last)).await?
        {
            return Ok(true);
        }
        let read = self.leases.get_opt(&self.name).await?;
        let version = read.as_ref().and_then(|it| it.metadata.resource_version.clone());
        let spec = read.as_ref().and_then(|it| it.spec.as_ref());
        let sighting = match self.sighting.take().filter(|it| it.version == version) {
            Some(standing) => standing,
            None => Sighting { version: version.clone(), at: Instant::now() },
        };
        let decided = next_move(spec, &self.me, sighting.at.elapsed());
        self.sighting = Some(sighting);
        if decided == Move::Wait {
            return Ok(false);
        }
        self.write(read).await
    }

    /// Whether the lease is this process's now.
    async fn write(&mut self, old: Option<Lease>) -> Result<bool, kube::Error> {
        let version = old.as_ref().and_then(|it| it.metadata.resource_version.clone());
        let lease = self.mine(version, old.as_ref().and_then(|it| it.spec.as_ref()));
        let params = PostParams::default();
        let written = match old {
            Some(_) => self.leases.replace(&self.name, &params, &lease).await,
            None => self.leases.create(&params, &lease).await,
        };
        match written {
            Ok(lease) => {
                self.last = Some(lease);
                Ok(true)
            }
            Err(kube::Error::Api(it)) if it.is_conflict() || it.is_already_exists() || it.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn mine(&self, resource_version: Option<String>, old: Option<&LeaseSpec>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let stays = old.is_some_and(|it| it.holder_identity.as_deref() == Some(&self.me));
        let transitions = old.and_then(|it| it.lease_transitions).unwrap_or(0);
        Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), resource_version, ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: Some(TERM_SECONDS),
                renew_time: Some(now.clone()),
                acquire_time: old.filter(|_| stays).and_then(|it| it.acquire_time.clone()).or(Some(now)),
                lease_transitions: Some(transitions + i32::from(!stays)),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Router,
        body::Bytes,
        extract::State,
        http::{Method, StatusCode, header::CONTENT_TYPE},
        response::{IntoResponse, Response},
        routing::any,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::played;

    /// An API server with one lease, and the requests it got.
    #[derive(Clone, Default)]
    struct Played(Arc<Mutex<(Option<Value>, Vec<&'static str>)>>);

    impl Played {
        async fn election(&self, me: &str) -> Election {
            let router = Router::new().fallback(any(respond)).with_state(self.clone());
            Election::new(Api::namespaced(played::client(router).await, "reprise"), "reprise", me)
        }

        /// Somebody else changes what stands.
        fn touch(&self, change: impl FnOnce(&mut Value)) {
            let mut inner = self.0.lock().unwrap();
            let lease = inner.0.as_mut().unwrap();
            change(lease);
            lease["metadata"]["resourceVersion"] = "touched".into();
        }

        fn asked(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap().1)
        }
    }

    async fn respond(State(played): State<Played>, method: Method, body: Bytes) -> Response {
        let answer = |code: StatusCode, body: &Value| {
            (code, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        };
        let refuse = |code: StatusCode, reason: &str| {
            answer(
                code,
                &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": reason, "reason": reason, "code": code.as_u16()}),
            )
        };
        let mut inner = played.0.lock().unwrap();
        let told = if method == Method::GET { "GET" } else { "write" };
        inner.1.push(told);
        let number = inner.1.len();
        let stands = inner.0.as_ref().map(|it| it["metadata"]["resourceVersion"].clone());
        if method == Method::GET {
            return inner
                .0
                .as_ref()
                .map_or_else(|| refuse(StatusCode::NOT_FOUND, "NotFound"), |it| answer(StatusCode::OK, it));
        }
        let mut lease: Value = serde_json::from_slice(&body).unwrap();
        match stands {
            Some(_) if method == Method::POST => return refuse(StatusCode::CONFLICT, "Conflict"),
            Some(version) if lease["metadata"]["resourceVersion"] != version => {
                return refuse(StatusCode::CONFLICT, "Conflict");
            }
            None if method == Method::PUT => return refuse(StatusCode::NOT_FOUND, "NotFound"),
            Some(_) | None => {}
        }
        lease["metadata"]["resourceVersion"] = format!("{number}-{}", lease["spec"]["renewTime"]).into();
        inner.0 = Some(lease.clone());
        answer(StatusCode::OK, &lease)
    }

    #[tokio::test]
    async fn a_leader_reads_the_lease_only_when_it_is_not_what_it_wrote() {
        let played = Played::default();
        let mut east = played.election("east").await;
        assert!(east.claim().await.unwrap());
        assert_eq!(played.asked(), ["GET", "write"]);
        for _ in 0..3 {
            assert!(east.claim().await.unwrap());
        }
        assert_eq!(played.asked(), ["write", "write", "write"]);
        played.touch(|it| it["metadata"]["annotations"] = json!({"by": "a person"}));
        assert!(east.claim().await.unwrap(), "it is still the leader");
        assert_eq!(played.asked(), ["write", "GET", "write"]);
        played.0.lock().unwrap().0 = None;
        assert!(east.claim().await.unwrap());
        assert_eq!(played.asked(), ["write", "GET", "write"]);
        played.touch(|it| it["spec"]["holderIdentity"] = "west".into());
        assert!(!east.claim().await.unwrap(), "it is lost");
        assert_eq!(played.asked(), ["write", "GET"]);
    }

    #[tokio::test]
    async fn a_follower_tells_when_the_lease_was_answered_and_says_nothing_while_it_was_not() {
        let played = Played::default();
        assert!(played.election("east").await.claim().await.unwrap());
        let mut west = played.election("west").await;
        let mut answered = west.answered();
        let waits = tokio::spawn(async move { west.acquire().await });
        let seen = timeout(REQUEST, answered.wait_for(Option::is_some)).await;
        assert!(seen.is_ok_and(|it| it.is_ok()) && !waits.is_finished(), "it waits, and is answered");
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let leases = Api::namespaced(kube::Client::try_from(config).unwrap(), "reprise");
        let mut lost = Election::new(leases, "reprise", "west");
        let answered = lost.answered();
        assert!(timeout(PAUSE, lost.acquire()).await.is_err() && answered.borrow().is_none());
        waits.abort();
    }

    #[test]
    fn a_follower_looks_as_often_as_the_leader_renews_and_when_the_term_is_over() {
        let looks = |seconds| pause(Some(Duration::from_secs(seconds)));
        assert_eq!((pause(None), looks(0), looks(8)), (RENEW_EVERY, RENEW_EVERY, RENEW_EVERY));
        assert_eq!((looks(10), looks(13)), (Duration::from_secs(2), PAUSE));
    }

    #[test]
    fn a_lease_is_respected_until_it_was_seen_unchanged_for_its_term() {
        let spec = LeaseSpec {
            holder_identity: Some("east".to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        let after = Duration::from_secs;
        assert_eq!(next_move(Some(&spec), "west", after(14)), Move::Wait);
        assert_eq!(next_move(Some(&spec), "west", after(15)), Move::Take);
        assert_eq!(next_move(Some(&spec), "east", after(0)), Move::Take);
        assert_eq!(next_move(None, "west", after(0)), Move::Take);
    }

    #[test]
    fn a_lease_that_was_given_up_is_free_at_once() {
        let spec = LeaseSpec { lease_duration_seconds: Some(15), ..LeaseSpec::default() };
        assert_eq!(next_move(Some(&spec), "west", Duration::ZERO), Move::Take);
    }
}
