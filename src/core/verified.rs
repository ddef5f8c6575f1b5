//! What is found out about a point after it was made: how far it was checked, and what of it is damaged.
//!
//! Data, and what a new finding makes of it. It lies in the vault beside the point (`vault::verified`), for every region.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::recovery_point::Level;

/// So many damaged packs are named in a note, and read again the next time.
const PACKS: usize = 100;
/// So much else is named in a note, each with at most so many letters.
const OTHER: usize = 20;
const LETTERS: usize = 300;

/// What was found out about a point after it was made: `apps/<ns>/<name>/verified/<id>.json`, written anew each time.
/// Most points have none: they are at level `L1` since they were made.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The point's name.
    pub point: String,
    /// The level it has reached.
    pub level: Level,
    /// When that was found.
    pub at: Timestamp,
    /// What was checked, and where, for people.
    pub detail: String,
    /// How long its restore took in the last rehearsal, in seconds.
    pub restore_seconds: Option<u64>,
    /// What of it is damaged or missing.
    pub damage: Option<Damage>,
}

/// What is known of what was found out about a point.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Found {
    /// It was not asked for yet.
    #[default]
    Unknown,
    /// It was read: nothing, for most points.
    Read(Option<Verified>),
}

/// What of a point is damaged or missing.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Damage {
    /// When it was found first.
    pub since: Timestamp,
    /// Packs of the repository that the point needs: the first of them.
    pub packs: Vec<String>,
    /// What else was met, for people: the first of it. Which packs are behind it is not known.
    pub other: Vec<String>,
}

impl Damage {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let first = self.packs.first().map(|it| {
            let folder = it.get(..2).unwrap_or_default();
            format!("{} packs of its volumes, as `data/{folder}/{it}`", self.packs.len())
        });
        let all: Vec<_> = first.into_iter().chain(self.other.iter().cloned()).collect();
        format!("found damaged at {}: {}", self.since, all.join("; "))
    }
}

impl Verified {
    /// What is wrong with the point, for people.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.damage.as_ref().map(Damage::text)
    }

    /// These packs, and this besides, are all that is known to be damaged: it was looked for.
    #[must_use]
    pub fn damaged(before: Option<&Self>, point: &str, at: Timestamp, detail: String, found: Damage) -> Self {
        let since = before.and_then(|it| it.damage.as_ref()).map_or(at, |it| it.since);
        let packs = found.packs.into_iter().take(PACKS).collect();
        let other = found.other.iter().take(OTHER).map(|it| it.chars().take(LETTERS).collect()).collect();
        let damage = Some(Damage { since, packs, other });
        Self { point: point.to_owned(), level: Level::L1, at, detail, restore_seconds: None, damage }
    }

    /// Somebody who needed the point met these packs, and this besides. Nothing else was looked at: what was known before
    /// stands. `None` when all of it was known.
    #[must_use]
    pub fn met(before: Option<&Self>, point: &str, at: Timestamp, packs: &[String], what: &[String]) -> Option<Self> {
        let known = before.and_then(|it| it.damage.clone());
        let stands = known.clone();
        let Damage { packs: mut all, mut other, .. } = known.unwrap_or_default();
        let new = |known: &[String], it: &String| !known.contains(it);
        let packs: Vec<String> = packs.iter().filter(|it| new(&all, it)).cloned().collect();
        all.extend(packs);
        let what = what.iter().map(|it| it.chars().take(LETTERS).collect::<String>());
        let what: Vec<String> = what.filter(|it| new(&other, it)).collect();
        other.extend(what);
        let detail = "somebody who needed it met damaged or missing data".to_owned();
        let met = Self::damaged(before, point, at, detail, Damage { packs: all, other, ..Damage::default() });
        (met.damage != stands).then_some(met)
    }

    /// What was damaged was looked at again, and is whole.
    #[must_use]
    pub fn mended(&self, at: Timestamp, detail: String) -> Self {
        Self { at, detail, level: Level::L1, restore_seconds: None, damage: None, ..self.clone() }
    }

    /// It was rehearsed well, within so many seconds. `None` when it is known to be damaged.
    #[must_use]
    pub fn rehearsed(before: Option<&Self>, point: &str, at: Timestamp, detail: String, seconds: u64) -> Option<Self> {
        let reached = Self::reached(before, point, Level::L3, at, detail)?;
        Some(Self { restore_seconds: Some(seconds), ..reached })
    }

    /// It reached a level. One that was higher stays, and nothing counts while it is damaged: that is looked at first.
    /// `None` when nothing is to be written.
    #[must_use]
    pub fn reached(before: Option<&Self>, point: &str, level: Level, at: Timestamp, detail: String) -> Option<Self> {
        let stands = before.is_some_and(|it| it.damage.is_some() || it.level > level);
        let point = point.to_owned();
        (!stands).then_some(Self { point, level, at, detail, restore_seconds: None, damage: None })
    }
}

/// A note that says this level, and these damaged packs.
#[cfg(test)]
pub(crate) fn example(point: &str, level: Level, packs: &[&str]) -> Verified {
    let packs: Vec<String> = packs.iter().map(|it| (*it).to_owned()).collect();
    let since = Timestamp::UNIX_EPOCH;
    let damage = (!packs.is_empty()).then_some(Damage { since, packs, other: Vec::new() });
    Verified { point: point.to_owned(), level, at: since, detail: String::new(), restore_seconds: None, damage }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn damage_keeps_the_time_that_it_was_found_at_first_and_what_was_known_of_it() {
        let met = |before, second, what: &str| Verified::met(before, "p1", at(second), &[], &[what.to_owned()]);
        let first = met(None, 10, "volume data: a pack is gone").unwrap();
        let same = met(Some(&first), 20, "its objects: gone").unwrap();
        let damage = same.damage.clone().unwrap();
        assert_eq!((damage.since, damage.other.len(), same.at), (at(10), 2, at(20)));
        assert_eq!(met(Some(&same), 30, "its objects: gone"), None, "it is known");
        let found = Damage { packs: vec!["ab12".into()], ..Damage::default() };
        let scrubbed = Verified::damaged(Some(&same), "p1", at(40), String::new(), found);
        let text = "found damaged at 1970-01-01T00:00:10Z: 1 packs of its volumes, as `data/ab/ab12`";
        assert_eq!(scrubbed.damage().as_deref(), Some(text), "what was looked for takes the place of what was met");
        assert_eq!(scrubbed.mended(at(50), String::new()).damage(), None);
    }

    #[test]
    fn a_level_is_neither_lowered_nor_reached_while_something_is_damaged() {
        let high = example("p1", Level::L2, &[]);
        assert_eq!(Verified::reached(Some(&high), "p1", Level::L1, at(9), String::new()), None);
        let again = Verified::reached(Some(&high), "p1", Level::L2, at(9), String::new()).unwrap();
        assert_eq!((again.level, again.at), (Level::L2, at(9)));
        let damaged = example("p1", Level::L1, &["ab12"]);
        assert_eq!(Verified::reached(Some(&damaged), "p1", Level::L2, at(9), String::new()), None);
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let found = Damage { packs: vec!["p".into(); 500], other: vec!["x".repeat(900); 50], ..Damage::default() };
        let damage = Verified::damaged(None, "p1", at(1), String::new(), found).damage.unwrap();
        assert_eq!((damage.packs.len(), damage.other.len(), damage.other[0].len()), (100, 20, 300));
    }
}
