//! A length of time as people write it: `90s`, `15m`, `1h30m`, `30d`.
//!
//! It parses and prints; it does no arithmetic beyond `as_secs`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in whole seconds, read with the units `d`, `h`, `m` and `s`, largest first.
///
/// Days are 24 hours. They are read and not printed, since CEL's `duration()`, which most fields are checked with, does
/// not know them; fields that are counted in days are written by `in_days`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a length of time: write whole numbers with units, largest first, such as 90s, 15m, 1h30m or 30d")]
pub struct SpanError(String);

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Span {
    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Its length in seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// Its length as the standard library's duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.to_owned());
        let (mut rest, mut units, mut seconds) = (text, UNITS.iter(), 0_u64);
        while !rest.is_empty() {
            let digits = rest.find(|it: char| !it.is_ascii_digit()).ok_or_else(wrong)?;
            let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = rest[digits..].chars().next().ok_or_else(wrong)?;
            let (_, size) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            seconds = count.checked_mul(*size).and_then(|it| seconds.checked_add(it)).ok_or_else(wrong)?;
            rest = &rest[digits + 1..];
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(seconds)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return out.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, size) in &UNITS[1..] {
            if rest >= *size {
                write!(out, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// Writes a span in whole days, for fields that are counted in them.
///
/// # Errors
/// Those of the serializer.
pub fn in_days<S: Serializer>(span: &Span, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{}d", span.0.div_ceil(86_400)))
}

/// The same for a field that may be left out.
///
/// # Errors
/// Those of the serializer.
pub fn in_days_if_given<S: Serializer>(span: &Option<Span>, to: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => in_days(span, to),
        None => to.serialize_none(),
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 20,
            "pattern": "^([0-9]+d|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_printed_back() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h30m", 5_400), ("30d", 2_592_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Span::from_secs(seconds)), "{text}");
        }
        assert_eq!(Span::from_secs(90).to_string(), "1m30s");
        assert_eq!(Span::from_secs(5_400).to_string(), "1h30m");
    }

    #[test]
    fn what_is_printed_has_no_days_since_the_api_server_does_not_know_them() {
        for (seconds, text) in [(86_400, "24h"), (90_061, "25h1m1s"), (2_592_000, "720h")] {
            assert_eq!(Span::from_secs(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Span::from_secs(seconds)));
        }
    }

    #[test]
    fn a_window_is_written_in_days_as_its_rule_wants() {
        let level =
            crate::api::application::ServiceLevel { availability: "99%".into(), window: Span::from_secs(2_592_000) };
        assert_eq!(serde_json::to_value(level).unwrap()["window"], "30d");
    }

    #[test]
    fn what_is_no_length_of_time_is_refused_by_name() {
        for text in ["", "5", "m", "5x", "-5m", "5m1h", "1.5h", "99999999999999999999s", "999999999999999999d"] {
            assert_eq!(text.parse::<Span>(), Err(SpanError(text.to_owned())), "{text}");
        }
    }
}
