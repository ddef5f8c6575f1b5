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
pub(super) struct Queue<T> {
    found: Mutex<Found<T>>,
    changed: Condvar,
}

struct Found<T> {
    waiting: Vec<T>,
    busy: usize,
    over: bool,
}

/// Does `work` with each item, and with those that it finds, by so many threads. Each has a state of its own.
///
/// # Errors
/// The first one; what was not begun by then is not done.
pub(super) fn descend<T: Send, S>(
    threads: usize,
    roots: Vec<T>,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &Queue<T>, T) -> Result<(), MoverError> + Sync,
) -> Result<(), MoverError> {
    let found = Mutex::new(Found { waiting: roots, busy: 0, over: false });
    let queue = Queue { found, changed: Condvar::new() };
    let first = Mutex::new(None);
    let labour = || {
        let mut own = state();
        while let Some(item) = queue.next() {
            let mut turn = Turn { queue: &queue, done: false };
            match work(&mut own, &queue, item) {
                Ok(()) => turn.done = true,
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

impl<T> Queue<T> {
    /// Adds what was found.
    pub(super) fn push(&self, items: impl IntoIterator<Item = T>) {
        locked(&self.found).waiting.extend(items);
        self.changed.notify_all();
    }

    fn next(&self) -> Option<T> {
        let mut found = locked(&self.found);
        loop {
            if found.over || (found.waiting.is_empty() && found.busy == 0) {
                return None;
            }
            if let Some(item) = found.waiting.pop() {
                found.busy += 1;
                return Some(item);
            }
            found = self.changed.wait(found).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One item that is worked on. Should the work fail or panic, the others must not wait for it.
struct Turn<'a, T> {
    queue: &'a Queue<T>,
    done: bool,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut found = locked(&self.queue.found);
        found.busy -= 1;
        found.over |= !self.done;
        let ended = found.over || (found.waiting.is_empty() && found.busy == 0);
        drop(found);
        if ended {
            self.queue.changed.notify_all();
        }
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
        let split = |(): &mut (), queue: &Queue<u32>, depth: u32| {
            count.fetch_add(1, Ordering::Relaxed);
            if depth > 0 {
                queue.push([depth - 1; 2]);
            }
            if depth == 10 { Err(MoverError::Stopped) } else { Ok(()) }
        };
        assert_eq!(descend(3, vec![9], || (), split), Ok(()));
        assert_eq!(count.load(Ordering::Relaxed), 1023);
        assert_eq!(descend(3, vec![11], || (), split), Err(MoverError::Stopped));
    }
}
