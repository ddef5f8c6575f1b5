//! Work on many things by a few threads at a time. The first error ends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::MoverError;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many threads compute beside each other.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

/// Does `work` with each item, by so many threads. Each has a state of its own.
///
/// # Errors
/// The first one; what was not begun by then is not done.
pub(super) fn each<T, S>(
    threads: usize,
    items: impl IntoIterator<Item = T, IntoIter: Send>,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<(), MoverError> + Sync,
) -> Result<(), MoverError>
where
    T: Send,
{
    let items = Mutex::new(items.into_iter());
    let failed = AtomicBool::new(false);
    let first = Mutex::new(None);
    let labour = || {
        let mut own = state();
        while !failed.load(Ordering::Relaxed) {
            let Some(item) = locked(&items).next() else { return };
            if let Err(error) = work(&mut own, item) {
                failed.store(true, Ordering::Relaxed);
                locked(&first).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(labour);
        }
        labour();
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Things that are found while others are worked on, as directories are. The last one found is the first one done.
struct Found<T> {
    waiting: Vec<T>,
    busy: usize,
    over: bool,
}

/// Does `work` with each item, and with those that it returns, by so many threads.
///
/// # Errors
/// The first one; what was not begun by then is not done.
pub(super) fn descend<T>(
    threads: usize,
    roots: Vec<T>,
    work: impl Fn(T) -> Result<Vec<T>, MoverError> + Sync,
) -> Result<(), MoverError>
where
    T: Send,
{
    let found = Mutex::new(Found { waiting: roots, busy: 0, over: false });
    let changed = Condvar::new();
    let first = Mutex::new(None);
    let labour = || {
        while let Some(item) = next(&found, &changed) {
            let mut turn = Turn { found: &found, changed: &changed, more: None };
            match work(item) {
                Ok(more) => turn.more = Some(more),
                Err(error) => {
                    locked(&first).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(labour);
        }
        labour();
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// One item that is worked on. Should the work panic, the others must not wait for it.
struct Turn<'a, T> {
    found: &'a Mutex<Found<T>>,
    changed: &'a Condvar,
    more: Option<Vec<T>>,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut found = locked(self.found);
        found.busy -= 1;
        match self.more.take() {
            Some(more) => found.waiting.extend(more),
            None => found.over = true,
        }
        self.changed.notify_all();
    }
}

fn next<T>(found: &Mutex<Found<T>>, changed: &Condvar) -> Option<T> {
    let mut guard = locked(found);
    loop {
        if guard.over || (guard.waiting.is_empty() && guard.busy == 0) {
            return None;
        }
        if let Some(item) = guard.waiting.pop() {
            guard.busy += 1;
            return Some(item);
        }
        guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_item_is_done_once_and_the_first_error_ends_it() {
        let sum = AtomicU64::new(0);
        let add = |(): &mut (), item: u64| {
            sum.fetch_add(item, Ordering::Relaxed);
            if item == 500 { Err(MoverError::Stopped) } else { Ok(()) }
        };
        assert_eq!(each(4, 1..=100, || (), add), Ok(()));
        assert_eq!(sum.load(Ordering::Relaxed), 5050);
        assert_eq!(each(4, 1..=1_000_000, || (), add), Err(MoverError::Stopped));
        assert!(sum.load(Ordering::Relaxed) < 1_000_000_000);
    }

    #[test]
    fn what_is_found_is_done_too() {
        let count = AtomicU64::new(0);
        let split = |depth: u32| {
            count.fetch_add(1, Ordering::Relaxed);
            if depth == 0 { Ok(vec![]) } else { Ok(vec![depth - 1; 2]) }
        };
        assert_eq!(descend(3, vec![9], split), Ok(()));
        assert_eq!(count.load(Ordering::Relaxed), 1023);
        assert_eq!(
            descend(3, vec![9], |depth: u32| if depth == 4 { Err(MoverError::Stopped) } else { split(depth) }),
            Err(MoverError::Stopped)
        );
    }
}
