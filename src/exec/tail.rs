//! The end of what a command writes, of any length, in bounded memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// So many bytes are kept.
const KEPT: usize = 1000;

/// The last bytes. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// As text, without blanks around it.
    pub(super) fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_however_much_is_written() {
        let tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        tail.push(&[b'x'; 5 * KEPT]);
        tail.push(b"\nthe end\n");
        assert!(tail.text().ends_with("xx\nthe end"));
        assert_eq!(tail.text().len(), KEPT - 1);
    }
}
