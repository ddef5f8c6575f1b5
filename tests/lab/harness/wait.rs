//! Waiting for something that takes a while: always with a deadline, and with what was seen last when it passes.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// What one look showed.
pub enum Look<T> {
    /// What was waited for.
    Seen(T),
    /// Not yet: what there is instead.
    NotYet(String),
}

/// Look every half second until it is there. A look that fails counts as not yet: a cluster that is coming up refuses.
///
/// # Errors
/// When it is not there `within` that time.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = match look() {
            Ok(Look::Seen(it)) => return Ok(it),
            Ok(Look::NotYet(instead)) => instead,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}; last seen: {last}", within.as_secs());
        }
        sleep(Duration::from_millis(500));
    }
}
