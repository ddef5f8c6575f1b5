//! The minutes of an application, good, bad or unknown, and the service level that follows from them.
//!
//! Minutes are counted in UTC from the epoch, so that no daylight saving and no restart shifts them. A minute that
//! nobody judged is unknown: it neither burns budget nor counts as available. Nothing here is measured or stored.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

/// The longest window, in minutes: 90 days.
pub const LONGEST_WINDOW: u32 = 90 * 24 * 60;

/// How a minute was. The greater one wins when a minute is told twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Minute {
    /// Nobody judged it.
    Unknown,
    /// Healthy, as far as it was judged.
    Good,
    /// Unhealthy at some moment of it.
    Bad,
}

/// The share of minutes that shall be good, in millionths: 99.9 % is 999 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(u32);

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("objectives.slo.availability '{0}' is not a percentage below 100 with at most four decimals, such as 99.9%")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, decimals) = number.split_once('.').map_or((number, None), |(it, rest)| (it, Some(rest)));
        let digits = |it: &str, most: usize| (1..=most).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_digit());
        if !digits(whole, 2) || !decimals.is_none_or(|it| digits(it, 4)) {
            return Err(wrong());
        }
        let millionths = format!("{whole}{:0<4}", decimals.unwrap_or_default());
        millionths.parse().map(Self).map_err(|_| wrong())
    }
}

/// The minutes of the last window, as runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minutes {
    /// The first minute that is kept.
    start: i64,
    /// No run is empty, and no two neighbours are alike.
    runs: Vec<(Minute, u32)>,
    window: u32,
}

/// Why a text does not hold minutes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MinutesError {
    /// Another version wrote it, or nobody did.
    #[error("not minutes of version 1")]
    Version,
    /// It is not what this version writes.
    #[error("the text of version 1 is damaged")]
    Damaged,
}

/// The service level over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Good minutes.
    pub good: u32,
    /// Bad minutes.
    pub bad: u32,
    /// Minutes since measuring began, within the window, that nobody judged.
    pub unknown: u32,
    /// What is left of the error budget of the whole window, in minutes, rounded down; negative when overspent.
    pub budget_left_minutes: i64,
}

impl Summary {
    /// Good minutes of those that were judged, in per cent, never rounded up: `99.9537%`. None without a judged minute.
    #[must_use]
    pub fn availability(&self) -> Option<String> {
        percent(self.good, self.good + self.bad)
    }

    /// Judged minutes of those since measuring began, within the window, in per cent, never rounded up. None before
    /// the first minute.
    #[must_use]
    pub fn coverage(&self) -> Option<String> {
        percent(self.good + self.bad, self.good + self.bad + self.unknown)
    }
}

/// `part` of `whole` in per cent, with at most four decimals, rounded down.
fn percent(part: u32, whole: u32) -> Option<String> {
    let millionths = (u64::from(part) * 1_000_000).checked_div(u64::from(whole))?;
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    Some(format!("{}%", text.trim_end_matches('0').trim_end_matches('.')))
}

impl Minutes {
    /// Nothing yet, for a window of so many minutes: brought to between 1 and `LONGEST_WINDOW`.
    #[must_use]
    pub fn new(window: u32) -> Self {
        Self { start: 0, runs: Vec::new(), window: window.clamp(1, LONGEST_WINDOW) }
    }

    /// The same minutes for another window. A shorter one forgets the older minutes.
    #[must_use]
    pub fn with_window(mut self, window: u32) -> Self {
        self.window = window.clamp(1, LONGEST_WINDOW);
        self.trim();
        self
    }

    /// Tells how a minute was. One that was told before keeps the worse of the two; what lies between the last one and
    /// this one is unknown. Says whether anything changed.
    pub fn record(&mut self, minute: i64, how: Minute) -> bool {
        self.mark(minute, minute, how)
    }

    /// Tells how the minutes from `first` to `last` were, both included: a disruption is known to have begun before
    /// it was believed. Minutes from before the first one that is kept are left alone.
    pub fn mark(&mut self, first: i64, last: i64, how: Minute) -> bool {
        if first > last {
            return false;
        }
        let before = self.clone();
        let window = i64::from(self.window);
        // Begun anew when the clock was set back, or forward, by more than the window: nothing kept is inside it.
        if self.runs.is_empty() || last < self.end() - window || last >= self.end() + window {
            (self.start, self.runs) = (first.max(last - window + 1), Vec::new());
        }
        let (end, mut at) = (self.end(), self.start);
        let mut old = std::mem::take(&mut self.runs);
        old.push((Minute::Unknown, length(last + 1 - end)));
        for (kind, count) in old {
            let next = at + i64::from(count);
            let (from, to) = (first.clamp(at, next), (last + 1).clamp(at, next));
            self.push(kind, length(from - at));
            self.push(kind.max(how), length(to - from));
            self.push(kind, length(next - to));
            at = next;
        }
        self.trim();
        *self != before
    }

    /// The service level over the window that ends before the minute `now`, for a target.
    #[must_use]
    pub fn summary(&self, now: i64, target: Target) -> Summary {
        let (mut good, mut bad) = (0, 0);
        let from = now - i64::from(self.window);
        let mut at = self.start;
        for (kind, count) in &self.runs {
            let next = at + i64::from(*count);
            let inside = length(next.min(now) - at.max(from));
            match kind {
                Minute::Good => good += inside,
                Minute::Bad => bad += inside,
                Minute::Unknown => {}
            }
            at = next;
        }
        let measured = if self.runs.is_empty() { 0 } else { length(now - self.start.max(from)).min(self.window) };
        let allowed = i64::from(self.window) * i64::from(1_000_000 - target.0);
        let budget_left_minutes = (allowed - i64::from(bad) * 1_000_000).div_euclid(1_000_000);
        Summary { good, bad, unknown: measured - good - bad, budget_left_minutes }
    }

    /// Whether it holds nothing of the window that ends before the minute `now`.
    #[must_use]
    pub fn is_outdated(&self, now: i64) -> bool {
        self.end() <= now - i64::from(self.window)
    }

    /// The minute after the last one that was told.
    fn end(&self) -> i64 {
        self.start + self.runs.iter().map(|(_, count)| i64::from(*count)).sum::<i64>()
    }

    fn push(&mut self, kind: Minute, count: u32) {
        match self.runs.last_mut() {
            _ if count == 0 => {}
            Some((last, length)) if *last == kind => *length += count,
            Some(_) | None => self.runs.push((kind, count)),
        }
    }

    /// Drops what lies before the window that ends with the last minute.
    fn trim(&mut self) {
        let mut excess = length(self.end() - self.start - i64::from(self.window));
        self.start += i64::from(excess);
        self.runs.retain_mut(|(_, count)| {
            let gone = excess.min(*count);
            excess -= gone;
            *count -= gone;
            *count > 0
        });
    }
}

/// A length that is negative when there is nothing, and never longer than a few windows.
fn length(minutes: i64) -> u32 {
    u32::try_from(minutes.max(0)).unwrap_or(u32::MAX)
}

/// `1:<first minute>:<runs>`, a run being `G`, `B` or `U` and its length; or, where that is shorter,
/// `1:<first minute>/<count>:<packed>`, four minutes to the character. The window is not in it. At most 33 kB for 90 days.
impl fmt::Display for Minutes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs = String::new();
        for (kind, count) in &self.runs {
            write!(runs, "{}{count}", letter(*kind))?;
        }
        let count = self.end() - self.start;
        if i64::try_from(runs.len()).is_ok_and(|it| it > count / 4 + 8) {
            write!(out, "1:{}/{count}:{}", self.start, self.packed())
        } else {
            write!(out, "1:{}:{runs}", self.start)
        }
    }
}

impl Minutes {
    /// Reads what `Display` wrote, for a window of so many minutes.
    ///
    /// # Errors
    /// When it was written by another version, or is damaged. Nothing is guessed then.
    pub fn parse(text: &str, window: u32) -> Result<Self, MinutesError> {
        let (head, body) =
            text.strip_prefix("1:").ok_or(MinutesError::Version)?.split_once(':').ok_or(MinutesError::Damaged)?;
        let (start, count) = head.split_once('/').map_or((head, None), |(it, rest)| (it, Some(rest)));
        let mut it = Self::new(window);
        // Far from the ends of the number, so that nothing below can overflow.
        it.start = start.parse().ok().filter(|it: &i64| it.abs() < 1 << 40).ok_or(MinutesError::Damaged)?;
        let runs = match count {
            Some(count) => unpacked(body, count.parse().map_err(|_| MinutesError::Damaged)?),
            None => spelled(body),
        };
        for (kind, count) in runs.ok_or(MinutesError::Damaged)? {
            it.push(kind, count);
        }
        if it.end() - it.start > i64::from(LONGEST_WINDOW) {
            return Err(MinutesError::Damaged);
        }
        it.trim();
        Ok(it)
    }

    /// Four minutes to the character, the first one in the lowest place of base 3.
    fn packed(&self) -> String {
        let all: Vec<u8> = self.runs.iter().flat_map(|(kind, count)| (0..*count).map(|_| digit(*kind))).collect();
        all.chunks(4).map(|four| symbol(four.iter().rev().fold(0, |sum, it| sum * 3 + it))).collect()
    }
}

/// The 81 characters from `(` on. The backslash is written as `~`: JSON would make two of it.
const fn symbol(value: u8) -> char {
    match b'(' + value {
        b'\\' => '~',
        it => it as char,
    }
}

fn unpacked(body: &str, count: usize) -> Option<Vec<(Minute, u32)>> {
    let longest = usize::try_from(LONGEST_WINDOW).ok()?;
    if count > longest || body.len() != count.div_ceil(4) {
        return None;
    }
    let value = |it: u8| (if it == b'~' { b'\\' } else { it }).checked_sub(b'(').filter(|it| *it < 81);
    let values = body.bytes().map(value).collect::<Option<Vec<u8>>>()?;
    let digits = values.iter().flat_map(|it| [1, 3, 9, 27].map(|place| it / place % 3));
    digits.take(count).map(|it| Some((kind(it)?, 1))).collect()
}

fn spelled(mut body: &str) -> Option<Vec<(Minute, u32)>> {
    let mut runs = Vec::new();
    while let Some(first) = body.chars().next() {
        let kind = [Minute::Unknown, Minute::Good, Minute::Bad].into_iter().find(|it| letter(*it) == first)?;
        let rest = &body[1..];
        let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        let count: u32 = rest[..end].parse().ok().filter(|it| (1..=LONGEST_WINDOW).contains(it))?;
        runs.push((kind, count));
        body = &rest[end..];
    }
    Some(runs)
}

const fn letter(kind: Minute) -> char {
    match kind {
        Minute::Unknown => 'U',
        Minute::Good => 'G',
        Minute::Bad => 'B',
    }
}

const fn digit(kind: Minute) -> u8 {
    match kind {
        Minute::Unknown => 0,
        Minute::Good => 1,
        Minute::Bad => 2,
    }
}

const fn kind(digit: u8) -> Option<Minute> {
    match digit {
        0 => Some(Minute::Unknown),
        1 => Some(Minute::Good),
        2 => Some(Minute::Bad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const NOW: i64 = 28_000_000;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    /// The same rules, one minute at a time.
    struct Naive {
        told: BTreeMap<i64, Minute>,
        window: i64,
    }

    impl Naive {
        fn mark(&mut self, first: i64, last: i64, how: Minute) {
            let end = self.told.last_key_value().map(|(it, _)| it + 1);
            if end.is_none_or(|end| last < end - self.window || last >= end + self.window) {
                self.told.clear();
            }
            let start = self.told.first_key_value().map_or(first, |(it, _)| *it);
            for minute in start.max(last + 1 - self.window).max(first.min(end.unwrap_or(first)))..=last {
                let told = self.told.entry(minute).or_insert(Minute::Unknown);
                if minute >= first {
                    *told = how.max(*told);
                }
            }
            let end = self.told.last_key_value().map_or(0, |(it, _)| it + 1);
            self.told.retain(|it, _| *it >= end - self.window);
        }

        fn count(&self, now: i64, kind: Minute) -> u32 {
            let inside = self.told.range(now - self.window..now);
            u32::try_from(inside.filter(|(_, it)| **it == kind).count()).unwrap()
        }
    }

    #[test]
    fn runs_and_single_minutes_say_the_same() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let window = random.random_range(1..200);
            let mut runs = Minutes::new(window);
            let mut naive = Naive { told: BTreeMap::new(), window: i64::from(window) };
            let mut clock = NOW;
            for _ in 0..200 {
                clock += random.random_range(-3..9);
                if random.random_ratio(1, 60) {
                    clock += random.random_range(-400..400);
                }
                let how = [Minute::Unknown, Minute::Good, Minute::Good, Minute::Bad][random.random_range(0..4)];
                let first = clock - if random.random_ratio(1, 5) { random.random_range(0..20) } else { 0 };
                runs.mark(first, clock, how);
                naive.mark(first, clock, how);

                let told: Vec<_> = runs.runs.iter().flat_map(|(it, count)| vec![*it; *count as usize]).collect();
                assert_eq!(told, naive.told.values().copied().collect::<Vec<_>>(), "seed {seed}");
                assert_eq!(Some(runs.start), naive.told.first_key_value().map(|(it, _)| *it), "seed {seed}");
                assert!(runs.runs.windows(2).all(|two| two[0].0 != two[1].0), "neighbours differ: seed {seed}");
                let now = clock + random.random_range(-5..30);
                let sum = runs.summary(now, target("99%"));
                assert_eq!((sum.good, sum.bad), (naive.count(now, Minute::Good), naive.count(now, Minute::Bad)));
                let parsed = Minutes::parse(&runs.to_string(), window);
                assert_eq!(parsed.as_ref(), Ok(&runs), "seed {seed}: {runs}");
            }
        }
    }

    #[test]
    fn a_ten_minute_outage_takes_ten_minutes_of_the_budget() {
        let mut it = Minutes::new(30 * 1440);
        it.mark(NOW - 30 * 1440, NOW - 1, Minute::Good);
        let sum = it.summary(NOW, target("99.9%"));
        assert_eq!((sum.budget_left_minutes, sum.availability()), (43, Some("100%".into())));
        it.mark(NOW - 100, NOW - 91, Minute::Bad);
        let sum = it.summary(NOW, target("99.9%"));
        assert_eq!((sum.good, sum.bad, sum.unknown, sum.budget_left_minutes), (43_190, 10, 0, 33));
        assert_eq!(sum.availability().as_deref(), Some("99.9768%"));
        assert_eq!(it.summary(NOW, target("99.99%")).budget_left_minutes, -6, "4.32 - 10, rounded down");
    }

    #[test]
    fn a_gap_is_unknown_and_burns_nothing() {
        let mut it = Minutes::new(1440);
        it.record(NOW, Minute::Good);
        it.record(NOW + 10, Minute::Good);
        let sum = it.summary(NOW + 20, target("99%"));
        assert_eq!((sum.good, sum.bad, sum.unknown, sum.budget_left_minutes), (2, 0, 18, 14));
        assert_eq!((sum.availability().as_deref(), sum.coverage().as_deref()), (Some("100%"), Some("10%")));
    }

    #[test]
    fn before_the_first_minute_nothing_is_claimed() {
        let sum = Minutes::new(1440).summary(NOW, target("99%"));
        assert_eq!((sum.availability(), sum.coverage(), sum.unknown), (None, None, 0));
    }

    #[test]
    fn a_bad_minute_leaves_with_the_window() {
        let mut it = Minutes::new(60);
        it.record(NOW, Minute::Bad);
        it.mark(NOW + 1, NOW + 59, Minute::Good);
        assert_eq!(it.summary(NOW + 60, target("90%")).bad, 1);
        assert_eq!(it.summary(NOW + 61, target("90%")).bad, 0, "also when nothing was told since");
        it.record(NOW + 60, Minute::Good);
        assert_eq!(it.summary(NOW + 61, target("90%")).bad, 0);
        assert!(!it.is_outdated(NOW + 120));
        assert!(it.is_outdated(NOW + 121));
    }

    #[test]
    fn a_bad_minute_stays_bad_when_it_is_told_again() {
        let mut it = Minutes::new(60);
        assert!(it.record(NOW, Minute::Bad));
        assert!(!it.record(NOW, Minute::Good));
        assert!(!it.record(NOW, Minute::Unknown));
        assert_eq!(it.summary(NOW + 1, target("90%")).bad, 1);
    }

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(percent(99_999_999, 100_000_000).as_deref(), Some("99.9999%"));
        assert_eq!(percent(1, 3).as_deref(), Some("33.3333%"));
        assert_eq!(percent(0, 3).as_deref(), Some("0%"));
        assert_eq!(percent(0, 0), None);
    }

    #[test]
    fn ninety_days_at_their_worst_stay_below_33_kilobytes() {
        let mut it = Minutes::new(LONGEST_WINDOW);
        for minute in 0..i64::from(LONGEST_WINDOW) {
            it.push([Minute::Good, Minute::Bad, Minute::Unknown][usize::try_from(minute % 3).unwrap()], 1);
        }
        let text = it.to_string();
        assert!(text.len() < 33_000, "{}", text.len());
        assert_eq!(Minutes::parse(&text, LONGEST_WINDOW), Ok(it));
        let mut calm = Minutes::new(LONGEST_WINDOW);
        calm.mark(NOW, NOW + 129_599, Minute::Good);
        assert_eq!(calm.to_string(), format!("1:{NOW}:G129600"));
    }

    #[test]
    fn what_was_not_written_by_this_version_is_refused() {
        for text in ["", "2:5:G1", "G1"] {
            assert_eq!(Minutes::parse(text, 60), Err(MinutesError::Version), "{text}");
        }
        for text in [
            "1:",
            "1:x:G1",
            "1:5:G",
            "1:5:X1",
            "1:5:G0",
            "1:5:G129601",
            "1:5:é1",
            "1:5:G129600B1",
            "1:5/3:!",
            "1:5/3:y",
            "1:5/3:(((",
            "1:5/x:(",
            "1:9223372036854775807:G1",
            "1:5/9999999999999999999999:(",
        ] {
            assert_eq!(Minutes::parse(text, 60), Err(MinutesError::Damaged), "{text}");
        }
    }

    #[test]
    fn a_shorter_window_forgets_and_a_longer_one_keeps() {
        let mut it = Minutes::new(60);
        it.record(NOW, Minute::Bad);
        it.mark(NOW + 1, NOW + 59, Minute::Good);
        let sum = it.clone().with_window(30).summary(NOW + 60, target("99%"));
        assert_eq!((sum.good, sum.bad), (30, 0));
        assert_eq!(it.with_window(90).summary(NOW + 60, target("99%")).bad, 1);
    }

    #[test]
    fn targets_are_read_as_people_write_them() {
        for (text, millionths) in
            [("99.9%", 999_000), ("99%", 990_000), ("0%", 0), ("99.9999%", 999_999), ("5.05%", 50_500)]
        {
            assert_eq!(text.parse(), Ok(Target(millionths)), "{text}");
        }
        for text in ["", "99.9", "100%", "99.%", ".9%", "99.99999%", "-1%", "+9%", "9 %"] {
            assert_eq!(text.parse::<Target>(), Err(TargetError(text.to_owned())), "{text}");
        }
    }
}
