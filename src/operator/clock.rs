//! This machine's clocks: time since it started (suspended time included), time of day, and which start it was.
//!
//! It decides nothing about how much time has passed: `core::claim::time` does.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::core::claim::time::Now;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the clocks cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// Linux gives each boot an identity; without it no time can be compared across a restart.
    #[error("cannot read the boot's identity from {BOOT_ID}: {0}")]
    BootId(#[source] std::io::Error),
}

/// This moment.
///
/// # Panics
/// Never: the kernel counts the time since boot upwards from zero.
#[must_use]
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).expect("the time since boot is not negative");
    let nanos = u32::try_from(boot.tv_nsec).expect("nanoseconds are less than a second");
    Now { boot: Duration::new(seconds, nanos), wall: Timestamp::now() }
}

/// The identity of this boot: times since boot are comparable only where it is the same.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot_id() -> Result<String, ClockError> {
    let text = std::fs::read_to_string(BOOT_ID).map_err(ClockError::BootId)?;
    Ok(text.trim().to_owned())
}

/// The wall's time, cut to the second: finer times in a status would never equal what is read back.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "a time in range begins with a second in range")]
pub fn second() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("the present is in range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_advances_and_the_boot_has_one_identity() {
        let before = now();
        std::thread::sleep(Duration::from_millis(5));
        assert!(now().boot >= before.boot + Duration::from_millis(5));
        let id = boot_id().expect("Linux tells");
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(id, boot_id().expect("Linux tells"));
    }
}
