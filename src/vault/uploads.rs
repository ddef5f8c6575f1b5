//! Packs on their way to the vault: a few at a time, and none forgotten.
//!
//! Whoever hands over a pack would wait until it is stored. Here they overlap; what may name packs, an
//! index or a snapshot, is written only when all of them are stored. Once a pack is lost, every later write fails, so
//! that nothing ever names it.

use std::sync::{Mutex, PoisonError};

use rustic_core::{ErrorKind, RusticError, RusticResult};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

/// How many are under way at most; each is held in memory.
const AT_ONCE: usize = 4;

/// Packs on their way.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    packs: JoinSet<RusticResult<()>>,
    lost: bool,
}

impl Uploads {
    /// Begins an upload as soon as there is room for it. The error is that of an earlier one.
    pub(super) fn begin<U>(&self, runtime: &Handle, upload: U) -> RusticResult<()>
    where
        U: FnOnce() -> RusticResult<()> + Send + 'static,
    {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.wait_for(AT_ONCE - 1, runtime)?;
        under_way.packs.spawn_blocking_on(upload, runtime);
        Ok(())
    }

    /// Waits until all that was begun is stored.
    pub(super) fn settle(&self, runtime: &Handle) -> RusticResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wait_for(0, runtime)
    }
}

impl UnderWay {
    /// Waits until at most so many are under way.
    fn wait_for(&mut self, room: usize, runtime: &Handle) -> RusticResult<()> {
        while let Some(ended) = self.next_ended(room, runtime) {
            ended.unwrap_or_else(|error| Err(broke_off(error))).inspect_err(|_| self.lost = true)?;
        }
        if self.lost { Err(RusticError::new(ErrorKind::Backend, "a pack was not stored")) } else { Ok(()) }
    }

    fn next_ended(&mut self, room: usize, runtime: &Handle) -> Option<Result<RusticResult<()>, JoinError>> {
        if self.packs.len() > room { runtime.block_on(self.packs.join_next()) } else { self.packs.try_join_next() }
    }
}

fn broke_off(error: JoinError) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, "storing a pack broke off", error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::runtime::Runtime;

    use super::*;

    fn lost() -> RusticResult<()> {
        Err(RusticError::new(ErrorKind::Backend, "it is lost"))
    }

    #[test]
    fn a_few_are_under_way_at_a_time_and_all_are_waited_for() {
        let (runtime, uploads) = (Runtime::new().unwrap(), Uploads::default());
        let [under_way, most, stored] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 * AT_ONCE {
            let [under_way, most, stored] = [&under_way, &most, &stored].map(Arc::clone);
            let upload = move || {
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                under_way.fetch_sub(1, Ordering::SeqCst);
                stored.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            uploads.begin(runtime.handle(), upload).unwrap();
        }
        uploads.settle(runtime.handle()).unwrap();
        assert_eq!(stored.load(Ordering::SeqCst), 3 * AT_ONCE);
        assert!((2..=AT_ONCE).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }

    #[test]
    fn once_one_is_lost_every_later_write_fails() {
        for upload in [lost, || panic!("an upload broke off")] {
            let (runtime, uploads) = (Runtime::new().unwrap(), Uploads::default());
            uploads.begin(runtime.handle(), upload).unwrap();
            for _ in 0..3 {
                assert!(uploads.settle(runtime.handle()).is_err());
                assert!(uploads.begin(runtime.handle(), || Ok(())).is_err());
            }
        }
    }
}
