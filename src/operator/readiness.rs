//! Whether this replica can do its part: a leader decides, a follower can take over.

use std::sync::{Arc, OnceLock, Weak};

use tokio::{sync::watch, time::Instant};

use super::{context::Context, lease::TERM};

/// What `/readyz` looks at.
pub struct Readiness {
    /// When the API server last answered about the lease, before this process leads.
    answered: watch::Receiver<Option<Instant>>,
    /// What the leader has, which must end with its work. Empty in a follower.
    leading: OnceLock<Weak<Context>>,
}

impl Readiness {
    /// Of a replica that does not lead yet.
    #[must_use]
    pub fn new(answered: watch::Receiver<Option<Instant>>) -> Arc<Self> {
        Arc::new(Self { answered, leading: OnceLock::new() })
    }

    /// From here on what the leader has counts.
    pub fn leads(&self, context: &Arc<Context>) {
        let _ = self.leading.set(Arc::downgrade(context));
    }

    /// Why this replica is not ready.
    ///
    /// # Errors
    /// That is the answer, in words.
    pub fn ask(&self) -> Result<(), String> {
        match self.leading.get().map(Weak::upgrade) {
            Some(Some(context)) => leader(&context.stores.unfilled()),
            Some(None) => Err("it is ending".to_owned()),
            None => follower(*self.answered.borrow(), Instant::now()),
        }
    }
}

fn leader(unfilled: &[&str]) -> Result<(), String> {
    if unfilled.is_empty() { Ok(()) } else { Err(format!("not listed yet: {}", unfilled.join(", "))) }
}

/// One that does not know how the lease stands would not notice that it is free.
fn follower(answered: Option<Instant>, now: Instant) -> Result<(), String> {
    match answered {
        None => Err("the leader lease was not read yet".to_owned()),
        Some(at) if now.duration_since(at) > TERM => {
            Err(format!("the leader lease was last read {} s ago", now.duration_since(at).as_secs()))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_leader_is_ready_when_every_kind_was_listed() {
        assert_eq!(leader(&[]), Ok(()));
        assert_eq!(leader(&["Vault", "DnsZone"]), Err("not listed yet: Vault, DnsZone".to_owned()));
    }

    #[test]
    fn a_follower_is_ready_for_one_term_after_an_answer_about_the_lease() {
        let start = Instant::now();
        assert_eq!(follower(None, start), Err("the leader lease was not read yet".to_owned()));
        assert_eq!(follower(Some(start), start + TERM), Ok(()));
        let late = follower(Some(start), start + TERM + Duration::from_secs(1));
        assert_eq!(late, Err("the leader lease was last read 13 s ago".to_owned()));
    }
}
