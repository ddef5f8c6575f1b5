//! How many requests a store is sent at a time, and when: less, and later, as soon as it says that it is too much.
//!
//! A store that answers 429 or 503 is left alone for as long as it asks (`Retry-After`, `CEILING` at most) or, if it asks
//! for nothing, for a time that doubles with each such answer; and the number of requests that are under way at a time
//! is halved. Each `SERVED` answers let one more be under way again. Requests that carry little, and conditional writes, do
//! not queue here: a claim that is not renewed in time is lost. Refused, they wait as long as the store asks, like all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The most requests at a time.
const WIDEST: usize = 256;
/// Where halving begins: wider than this, no one uses it.
const FIRST_CUT: usize = 8;
/// How many answers let one more request be under way.
const SERVED: u32 = 16;
/// The first pause after an answer that asks for none.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
pub(super) const CEILING: Duration = Duration::from_secs(30);

/// The pace of one store, shared by all who use it.
#[derive(Debug)]
pub(super) struct Pace {
    slots: Semaphore,
    state: Mutex<State>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { slots: Semaphore::new(WIDEST), state: Mutex::new(State::default()) }
    }
}

/// What answers said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    width: usize,
    served: u32,
    pause: Duration,
    until: Option<Instant>,
    /// Slots that are to be given up as soon as they are free.
    surplus: usize,
}

impl Default for State {
    fn default() -> Self {
        Self { width: WIDEST, served: 0, pause: PAUSE, until: None, surplus: 0 }
    }
}

impl State {
    /// The store said that it is too much. Answers to what was under way already count once.
    fn throttled(&mut self, asked: Option<Duration>, now: Instant, jitter: f64) {
        let pausing = self.until.is_some_and(|until| until > now);
        if !pausing {
            let width = (self.width.min(2 * FIRST_CUT) / 2).max(1);
            self.surplus += self.width - width;
            self.width = width;
        }
        self.served = 0;
        let pause = asked.unwrap_or_else(|| self.pause.mul_f64(jitter)).min(CEILING);
        if asked.is_none() && !pausing {
            self.pause = (self.pause * 2).min(CEILING);
        }
        self.until = Some(self.until.map_or(now + pause, |until| until.max(now + pause)));
    }

    /// The store answered. Whether there is a slot more.
    fn served(&mut self) -> bool {
        if self.width == WIDEST {
            return false;
        }
        self.served += 1;
        if self.served < SERVED {
            return false;
        }
        (self.served, self.pause) = (0, PAUSE);
        self.width += 1;
        if self.surplus > 0 {
            self.surplus -= 1;
            return false;
        }
        true
    }
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store answered that it is too much, and asks to be left alone for a time.
    pub(super) fn throttled(&self, asked: Option<Duration>) {
        self.state().throttled(asked, Instant::now(), rand::rng().random_range(0.5..1.5));
        self.shrink();
    }

    /// The store did what it was asked.
    pub(super) fn served(&self) {
        if self.state().served() {
            self.slots.add_permits(1);
        }
    }

    fn shrink(&self) {
        let mut state = self.state();
        state.surplus -= self.slots.forget_permits(state.surplus);
    }

    /// How long the store is still to be left alone.
    pub(super) fn pause(&self) -> Duration {
        self.state().until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits until one more request may be sent.
    pub(super) async fn slot(&self) -> Slot<'_> {
        loop {
            let pause = self.pause();
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
                continue;
            }
            let permit = self.slots.acquire().await.expect("the semaphore is never closed");
            if self.pause().is_zero() {
                return Slot { pace: self, permit: Some(permit) };
            }
        }
    }
}

/// One request under way.
pub(super) struct Slot<'a> {
    pace: &'a Pace,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.permit = None;
        self.pace.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_store_gets_half_as_many_requests_down_to_one_and_later_more_again() {
        let (mut state, mut now) = (State::default(), Instant::now());
        for width in [8, 4, 2, 1, 1] {
            state.throttled(None, now, 1.0);
            assert_eq!(state.width, width);
            now = state.until.unwrap();
        }
        assert_eq!(state.surplus, WIDEST - 1);
        for _ in 0..3 * SERVED {
            state.served();
        }
        assert_eq!((state.width, state.pause), (4, PAUSE));
    }

    #[test]
    fn the_pause_is_what_the_store_asks_for_else_doubles_and_has_a_ceiling() {
        let (mut state, now) = (State::default(), Instant::now());
        state.throttled(Some(Duration::from_secs(7)), now, 1.0);
        assert_eq!(state.until, Some(now + Duration::from_secs(7)));
        // Many that were under way are told the same: they count once.
        state.throttled(None, now, 1.0);
        assert_eq!((state.until, state.width), (Some(now + Duration::from_secs(7)), 8));
        state.throttled(Some(Duration::from_hours(5)), now, 1.0);
        assert_eq!(state.until, Some(now + CEILING));
        let (mut state, mut now) = (State::default(), now);
        for pause in [250, 500, 1000, 2000] {
            state.throttled(None, now, 1.0);
            assert_eq!(state.until, Some(now + Duration::from_millis(pause)));
            now = state.until.unwrap();
        }
    }

    #[tokio::test]
    async fn slots_are_given_up_when_they_come_back() {
        let pace = Pace::default();
        let mut taken = Vec::new();
        for _ in 0..WIDEST {
            taken.push(pace.slot().await);
        }
        pace.throttled(Some(Duration::ZERO));
        drop(taken);
        assert_eq!((pace.slots.available_permits(), pace.state().surplus), (8, 0));
    }
}
