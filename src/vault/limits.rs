//! How fast file data is moved: bytes per second up and down, by time of day.
//!
//! Each way has one queue. Who wants to move so many bytes waits until those before it are paid for at the rate of the
//! moment, so that the average is the rate, whatever the size of a pack; time in which nothing is moved is not saved up.
//! The rate is looked up every second: a new window takes hold at once, also for those who wait.

#![expect(clippy::cast_precision_loss, reason = "bytes are counted exactly up to 8 PiB")]

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::VaultError;
use crate::api::vault;

/// The longest sleep before the rate is looked up again.
const LOOK: Duration = Duration::from_secs(1);

/// The limits of one process. Without any, nothing waits.
#[derive(Debug, Default)]
pub struct Limits {
    general: Rates,
    windows: Vec<Window>,
    upload: Mutex<Debt>,
    download: Mutex<Debt>,
}

/// Bytes per second; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    upload: Option<u64>,
    download: Option<u64>,
}

#[derive(Debug)]
struct Window {
    from: Time,
    to: Time,
    zone: TimeZone,
    rates: Rates,
}

impl Window {
    fn holds(&self, now: Timestamp) -> bool {
        let time = now.to_zoned(self.zone.clone()).time();
        if self.from < self.to { self.from <= time && time < self.to } else { self.from <= time || time < self.to }
    }
}

impl Limits {
    /// Reads what a `Vault` says.
    ///
    /// # Errors
    /// When a time or a time zone can't be read.
    pub fn new(spec: &vault::Limits) -> Result<Self, VaultError> {
        let rates = |upload: Option<vault::Rate>, download: Option<vault::Rate>| Rates {
            upload: upload.map(vault::Rate::bytes),
            download: download.map(vault::Rate::bytes),
        };
        let window = |(at, window): (usize, &vault::Window)| {
            let wrong =
                |field: &str, what: &str| VaultError::Settings(format!("`spec.limits.schedule[{at}].{field}`: {what}"));
            let time = |field: &str, text: &str| {
                Time::strptime("%H:%M", text).map_err(|_| wrong(field, "write a time of the day as 08:00"))
            };
            let name = window.time_zone.as_deref().unwrap_or("UTC");
            Ok(Window {
                from: time("from", &window.from)?,
                to: time("to", &window.to)?,
                zone: TimeZone::get(name)
                    .map_err(|_| wrong("timeZone", "there is no such zone: write its IANA name, as Europe/Berlin"))?,
                rates: rates(window.upload, window.download),
            })
        };
        let windows = spec.schedule.iter().enumerate().map(window).collect::<Result<_, VaultError>>()?;
        Ok(Self { general: rates(spec.upload, spec.download), windows, ..Self::default() })
    }

    fn rates(&self, now: Timestamp) -> Rates {
        self.windows.iter().find(|it| it.holds(now)).map_or(self.general, |it| it.rates)
    }

    /// Waits until so many bytes may be sent.
    pub async fn upload(&self, bytes: u64) {
        self.pay(&self.upload, bytes, |rates| rates.upload).await;
    }

    /// Waits until so many bytes may be read.
    pub async fn download(&self, bytes: u64) {
        self.pay(&self.download, bytes, |rates| rates.download).await;
    }

    async fn pay(&self, debt: &Mutex<Debt>, bytes: u64, way: impl Fn(Rates) -> Option<u64>) {
        if self.general == Rates::default() && self.windows.is_empty() {
            return;
        }
        // Who waits holds the lock: first come, first served.
        let mut debt = debt.lock().await;
        while let Some(wait) = debt.left(way(self.rates(Timestamp::now())), Instant::now()) {
            tokio::time::sleep(wait.min(LOOK)).await;
        }
        debt.bytes += bytes as f64;
    }
}

/// What was moved and is not paid for yet.
#[derive(Debug, Default)]
struct Debt {
    bytes: f64,
    at: Option<Instant>,
}

impl Debt {
    /// Pays for the time that went by. How long it takes, at this rate, until all is paid for.
    fn left(&mut self, rate: Option<u64>, now: Instant) -> Option<Duration> {
        let before = self.at.replace(now).unwrap_or(now);
        let Some(rate) = rate else {
            self.bytes = 0.0;
            return None;
        };
        let paid = now.saturating_duration_since(before).as_secs_f64() * rate as f64;
        self.bytes = (self.bytes - paid).max(0.0);
        // Less than a byte is nothing.
        (self.bytes >= 1.0).then(|| Duration::from_secs_f64(self.bytes / rate as f64))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn limits(spec: Value) -> Limits {
        Limits::new(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Moves packs of one size for ten minutes of virtual time, each as soon as it may. Bytes per second.
    fn average(pack: u64, rate: u64) -> f64 {
        let (mut debt, begin) = (Debt::default(), Instant::now());
        let (mut now, mut moved) = (begin, 0_u64);
        while now < begin + Duration::from_mins(10) {
            if let Some(wait) = debt.left(Some(rate), now) {
                now += wait;
            } else {
                debt.bytes += pack as f64;
                moved += pack;
            }
        }
        (moved - pack) as f64 / now.duration_since(begin).as_secs_f64()
    }

    #[test]
    fn the_average_is_the_rate_whatever_the_size_of_a_pack() {
        for (pack, rate) in [(8 << 20, 50 << 20), (8 << 20, 1 << 20), (100, 64 << 10), (1 << 20, 64 << 10)] {
            let ratio = average(pack, rate) / rate as f64;
            assert!((0.90..=1.001).contains(&ratio), "{pack} at {rate}: {ratio}");
        }
    }

    #[test]
    fn time_in_which_nothing_moves_is_not_saved_up_and_without_a_limit_nothing_waits() {
        let (mut debt, now) = (Debt::default(), Instant::now());
        assert_eq!(debt.left(Some(1 << 20), now), None);
        debt.bytes += f64::from(1 << 20);
        let later = now + Duration::from_hours(1);
        assert_eq!(debt.left(Some(1 << 20), later), None);
        debt.bytes += f64::from(2 << 20);
        assert_eq!(debt.left(Some(1 << 20), later), Some(Duration::from_secs(2)));
        assert_eq!(debt.left(None, later), None);
    }

    #[test]
    fn the_first_window_that_fits_counts_in_its_own_time_zone_and_over_midnight() {
        let limits = limits(json!({
            "upload": "50Mi",
            "schedule": [
                {"from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin", "upload": "1Mi", "download": "2Mi"},
                {"from": "22:00", "to": "05:00"},
            ],
        }));
        let (day, general) = (
            Rates { upload: Some(1 << 20), download: Some(2 << 20) },
            Rates { upload: Some(50 << 20), download: None },
        );
        for (time, rates) in [
            ("2026-07-01T05:59:59Z", general),
            ("2026-07-01T06:00:00Z", day),
            ("2026-07-01T15:59:59Z", day),
            ("2026-07-01T16:00:00Z", general),
            ("2026-12-01T06:30:00Z", general),
            ("2026-12-01T07:00:00Z", day),
            ("2026-07-01T22:00:00Z", Rates::default()),
            ("2026-07-01T04:59:00Z", Rates::default()),
        ] {
            assert_eq!(limits.rates(at(time)), rates, "{time}");
        }
    }

    #[test]
    fn a_time_zone_that_is_none_is_named() {
        let spec = json!({"schedule": [{"from": "08:00", "to": "18:00", "timeZone": "Europe/Berln"}]});
        let error = Limits::new(&serde_json::from_value(spec).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("`spec.limits.schedule[0].timeZone`"), "{error}");
    }

    #[tokio::test]
    async fn those_who_wait_are_slowed_down_in_real_time() {
        let limits = limits(json!({"download": "1Mi"}));
        let begin = Instant::now();
        for _ in 0..5 {
            limits.download(100 << 10).await;
            limits.upload(100 << 30).await;
        }
        let took = begin.elapsed().as_secs_f64();
        assert!((0.39..0.6).contains(&took), "400 KiB of 500 are paid for: {took} s");
    }
}
