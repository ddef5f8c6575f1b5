//! The timeline: what the second region does after the power loss, told as it happens. It watches the `Failover` and
//! the client's log, and changes nothing.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, bail};
use jiff::Timestamp;
use reprise::{
    api::failover::Failover,
    cli::failover::{Told, active},
    core::condition::SUCCEEDED,
};

use crate::{
    client::{Attempt, Disruption},
    harness::{app::Writer, lab::Region, shop::SHOP},
};

/// What was told so far.
pub struct Timeline {
    disruption: Disruption,
    told: Told,
    made: bool,
    silent: bool,
}

impl Timeline {
    /// It counts from the disruption.
    pub fn new(disruption: Disruption) -> Self {
        Self { disruption, told: Told::default(), made: false, silent: false }
    }

    /// Follow until the failover has succeeded and the client's writes are acknowledged again. Returns the failover and
    /// the first acknowledged write.
    ///
    /// # Errors
    /// When that has not happened `within` the time, or the failover has ended without success.
    pub fn follow(&mut self, region: &Region, writer: &Writer, within: Duration) -> Result<(Failover, Attempt)> {
        let mut first_write = None;
        loop {
            let attempts = writer.attempts()?;
            self.silence(&attempts);
            // One object at most: it is the region's first failover.
            let failover = SHOP.failovers(region).unwrap_or_default().into_iter().next_back();
            if let Some(it) = &failover {
                self.tell(it)?;
            }
            if first_write.is_none() {
                first_write =
                    attempts.iter().find(|it| it.acknowledged() && it.sent_at > self.disruption.done).cloned();
                if let Some(it) = &first_write {
                    let to = it.address.map_or_else(String::new, |at| format!(" by {at}"));
                    self.line(it.ended_at, &format!("record {} is acknowledged{to}: it serves again", it.number));
                }
            }
            match (failover, &first_write) {
                (Some(failover), Some(first)) if !active(&failover) => return Ok((failover, first.clone())),
                (failover, _) if Timestamp::now() > self.disruption.began + within => {
                    let step = failover.and_then(|it| it.status).and_then(|it| it.step);
                    bail!("not back after {} s: the failover is at {step:?}", within.as_secs());
                }
                _ => sleep(Duration::from_millis(500)),
            }
        }
    }

    /// The first record that was not acknowledged.
    fn silence(&mut self, attempts: &[Attempt]) {
        let lost = attempts.iter().find(|it| !it.acknowledged() && it.ended_at > self.disruption.began);
        if let (false, Some(it)) = (self.silent, lost) {
            self.silent = true;
            let why = it.failure.as_deref().unwrap_or_default();
            self.line(it.ended_at, &format!("record {} is not acknowledged: {why}", it.number));
        }
    }

    fn tell(&mut self, failover: &Failover) -> Result<()> {
        if !self.made {
            self.made = true;
            let at = failover.metadata.creation_timestamp.as_ref().map_or_else(Timestamp::now, |it| it.0);
            let why = failover.spec.reason.as_deref().unwrap_or("no reason given");
            self.line(at, &format!("{} decides to take over: {why}", failover.spec.to));
        }
        for line in self.told.news(failover.status.as_ref()) {
            self.line(Timestamp::now(), &line);
        }
        let conditions = failover.status.as_ref().map(|it| it.conditions.as_slice()).unwrap_or_default();
        match conditions.iter().find(|it| it.type_ == SUCCEEDED && it.status == "False") {
            Some(it) => bail!("the failover ended without success: {} ({})", it.reason, it.message),
            None => Ok(()),
        }
    }

    fn line(&self, at: Timestamp, what: &str) {
        println!("{:>7.1} s  {what}", at.duration_since(self.disruption.began).as_secs_f64());
    }
}
