//! How fast movers may move data, as a `Vault` names it.

use std::{borrow::Cow, str::FromStr};

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Limits of data transfer, in bytes per second. The movers of one run share them evenly; each run has them by itself.
/// What movers read and write beside file data (indexes, snapshots), and all that the operator asks (claims, heads,
/// points), is never held back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// To the store: `50Mi` is 50 MiB a second. Default: none. At least `64Ki`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Rate>,
    /// From the store. Default: none. At least `64Ki`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Rate>,
    /// Times of the day at which other limits hold. The first that fits counts, as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub schedule: Vec<Window>,
}

/// A time of the day, and the limits that hold then instead of the general ones.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to").message("from and to are the same time: give a window, or the general limits"))]
pub struct Window {
    /// Its first minute: `08:00`.
    #[schemars(regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// The minute that it ends before: `18:00`. Earlier than `from`: on the next day.
    #[schemars(regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// The time zone of both, by its IANA name: `Europe/Berlin`. Default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// To the store. Absent: no limit at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Rate>,
    /// From the store. Absent: no limit at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Rate>,
}

/// Bytes per second, as people write them: `512Ki`, `50Mi`, `1Gi`. At least `64Ki`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

/// Why a text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a rate: write bytes per second as 512Ki, 50Mi or 1Gi, at least 64Ki")]
pub struct RateError(String);

/// The units.
const UNITS: [(&str, u64); 3] = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
/// The lowest rate. At a lower one a pack could take so long that a mover is taken for stuck.
const LOWEST: u64 = 64 << 10;

impl Rate {
    /// Bytes per second.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Limits {
    /// What each of so many movers may move that work at once, so that together they keep to these limits.
    #[must_use]
    pub fn shared_by(&self, movers: usize) -> Self {
        let share = |rate: Option<Rate>| rate.map(|it| it.shared_by(movers));
        let window = |it: &Window| Window { upload: share(it.upload), download: share(it.download), ..it.clone() };
        let schedule = self.schedule.iter().map(window).collect();
        Self { upload: share(self.upload), download: share(self.download), schedule }
    }
}

impl Rate {
    /// An even share, as it can be written, and never less than the lowest rate.
    fn shared_by(self, movers: usize) -> Self {
        let share = self.0 / u64::try_from(movers).unwrap_or(u64::MAX).max(1);
        // Six digits are written at most.
        let unit = UNITS.iter().find(|(_, bytes)| share / bytes <= 999_999).map_or(1 << 30, |it| it.1);
        Self((share / unit * unit).max(LOWEST))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError(text.to_owned());
        let (number, unit) =
            UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes))).ok_or_else(wrong)?;
        let digits = number.len() <= 6 && number.bytes().all(|it| it.is_ascii_digit());
        let count: u64 = number.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        Some(Self(count * unit)).filter(|it| it.0 >= LOWEST).ok_or_else(wrong)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (name, bytes) = UNITS.iter().rfind(|(_, bytes)| self.0.is_multiple_of(*bytes)).unwrap_or(&UNITS[0]);
        to.collect_str(&format_args!("{}{name}", self.0 / bytes))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 3,
            "maxLength": 8,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^((6[4-9]|[7-9][0-9]|[1-9][0-9]{2,5})Ki|[1-9][0-9]{0,5}(Mi|Gi))$')",
                "message": "write bytes per second as 512Ki, 50Mi or 1Gi, at least 64Ki",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written_back() {
        for (text, bytes) in [("64Ki", 65_536), ("50Mi", 52_428_800), ("1Gi", 1_073_741_824)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bytes(), serde_json::to_value(rate).unwrap()), (bytes, text.into()));
        }
        assert_eq!(serde_json::to_value("1024Ki".parse::<Rate>().unwrap()).unwrap(), "1Mi");
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        for text in ["", "50", "50M", "63Ki", "0Mi", "+5Mi", "1.5Mi", "1234567Ki", "Mi"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn movers_that_work_at_once_keep_to_the_limits_together_and_each_share_can_be_written() {
        for text in ["64Ki", "1Mi", "50Mi", "999999Mi", "999999Gi"] {
            let rate: Rate = text.parse().unwrap();
            for movers in [0, 1, 2, 3, 7, 100] {
                let share = rate.shared_by(movers);
                let written = serde_json::to_value(share).unwrap();
                assert_eq!(serde_json::from_value::<Rate>(written.clone()).unwrap(), share, "{written}");
                let together = share.bytes() * movers.max(1) as u64;
                assert!(together <= rate.bytes() || share.bytes() == LOWEST, "{movers} at {written} of {text}");
                assert!(together >= rate.bytes() / 100 * 98 || movers > 2, "little is given away");
            }
        }
        let window = Window {
            from: "08:00".into(),
            to: "18:00".into(),
            time_zone: None,
            upload: "4Mi".parse().ok(),
            download: None,
        };
        let limits = Limits { upload: None, download: "10Mi".parse().ok(), schedule: vec![window] }.shared_by(2);
        let told = serde_json::to_value(limits).unwrap();
        assert_eq!((&told["download"], &told["schedule"][0]["upload"]), (&"5Mi".into(), &"2Mi".into()));
        assert!(told.get("upload").is_none() && told["schedule"][0].get("download").is_none(), "no limit stays none");
    }
}
