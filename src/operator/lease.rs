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
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a lease stands without renewal, in seconds.
pub const TERM_SECONDS: i32 = 12;
const TERM: Duration = Duration::from_secs(12);
/// How often the leader renews, and a follower looks.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

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
}

impl Election {
    /// For the lease `name`, as `me`.
    #[must_use]
    pub fn new(leases: Api<Lease>, name: &str, me: &str) -> Self {
        Self { leases, name: name.to_owned(), me: me.to_owned(), sighting: None }
    }

    /// Waits until this process leads.
    pub async fn acquire(&mut self) {
        loop {
            match timeout(REQUEST, self.claim()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the leader lease could not be read or written"),
                Err(_) => tracing::warn!("the API server did not answer about the leader lease"),
            }
            sleep(RENEW_EVERY / 2).await;
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

    /// One compare-and-swap: the resource version read is the resource version replaced.
    async fn claim(&mut self) -> Result<bool, kube::Error> {
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
        let lease = self.mine(version, spec);
        let params = PostParams::default();
        let written = match read {
            Some(_) => self.leases.replace(&self.name, &params, &lease).await,
            None => self.leases.create(&params, &lease).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
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
    use super::*;

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
