//! How it is noticed that points are gone which nobody dropped.
//!
//! Each point names the one that the head named before it. What retention takes leaves gaps in that chain, so before it
//! takes anything it writes down which points stay. Pure: `vault` stores both, and `inspect` asks what is missing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// So many points are listed, the newest: of older ones nothing is known then.
const LISTED: usize = 20_000;

/// The point before.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Its id.
    pub id: String,
    /// SHA-256 of its object in the vault, in hex.
    pub digest: String,
}

/// The points that stay, written each time before retention takes some: `apps/<ns>/<name>/kept.json`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The oldest that it tells of. What was before may be gone.
    pub from: String,
    /// The newest that there was.
    pub up_to: String,
    /// Those in between that are to be there, oldest first.
    pub ids: BTreeSet<String>,
}

impl Kept {
    /// What is to be there when these were dropped. What was to be there, and is not, is still missed.
    #[must_use]
    pub fn after(before: Option<&Self>, listed: &BTreeSet<String>, named: &BTreeSet<String>, drop: &[String]) -> Self {
        let known = |id: &String| before.is_some_and(|it| *id <= it.up_to);
        let new = named.iter().filter(|id| !known(id));
        let mut ids: BTreeSet<String> =
            listed.iter().chain(before.iter().flat_map(|it| &it.ids)).chain(new).cloned().collect();
        ids.retain(|id| !drop.contains(id));
        let up_to = ids.last().into_iter().chain(drop).chain(before.map(|it| &it.up_to)).max().cloned();
        let mut from = before.map(|it| it.from.clone()).unwrap_or_default();
        while ids.len() > LISTED {
            from = ids.pop_first().map_or(from, |it| format!("{it}~"));
        }
        Self { from, up_to: up_to.unwrap_or_default(), ids }
    }

    /// Whether it says that a point may be gone.
    #[must_use]
    pub fn excuses(&self, id: &str) -> bool {
        id < self.from.as_str() || (id <= self.up_to.as_str() && !self.ids.contains(id))
    }
}

/// The points that are to be there, and are not in this list: newest first. `named` are those that others name.
#[must_use]
pub fn missing(kept: Option<&Kept>, listed: &BTreeSet<String>, named: &BTreeSet<String>) -> Vec<String> {
    let excused = |id: &String| kept.is_some_and(|it| it.excuses(id));
    let expected: BTreeSet<&String> = kept.iter().flat_map(|it| &it.ids).chain(named).collect();
    expected.into_iter().rev().filter(|id| !listed.contains(*id) && !excused(id)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|it| (*it).to_owned()).collect()
    }

    /// A history of points `a`, `b`, …, each of which names the one before; retention, and a thief.
    struct Vault {
        kept: Option<Kept>,
        /// Each with the one that it names.
        points: Vec<(String, Option<String>)>,
        made: u8,
    }

    impl Vault {
        fn with(count: u8) -> Self {
            let mut vault = Self { kept: None, points: Vec::new(), made: 0 };
            (0..count).for_each(|_| vault.make());
            vault
        }

        fn make(&mut self) {
            let last = self.points.last().map(|it| it.0.clone());
            self.points.push((char::from(b'a' + self.made).to_string(), last));
            self.made += 1;
        }

        fn listed(&self) -> BTreeSet<String> {
            self.points.iter().map(|it| it.0.clone()).collect()
        }

        fn named(&self) -> BTreeSet<String> {
            self.points.iter().filter_map(|it| it.1.clone()).collect()
        }

        fn drop(&mut self, which: &[&str]) {
            let which: Vec<String> = which.iter().map(|it| (*it).to_owned()).collect();
            self.kept = Some(Kept::after(self.kept.as_ref(), &self.listed(), &self.named(), &which));
            self.points.retain(|it| !which.contains(&it.0));
        }

        fn steal(&mut self, id: &str) {
            self.points.retain(|it| it.0 != id);
        }

        fn missing(&self) -> Vec<String> {
            missing(self.kept.as_ref(), &self.listed(), &self.named())
        }
    }

    #[test]
    fn what_retention_takes_is_not_missed_and_what_a_thief_takes_is() {
        let mut vault = Vault::with(6);
        assert_eq!(vault.missing(), [""; 0]);
        vault.steal("c");
        assert_eq!(vault.missing(), ["c"], "without retention the next one names it");
        let mut vault = Vault::with(6);
        vault.drop(&["b", "c"]);
        assert_eq!(vault.missing(), [""; 0]);
        vault.make();
        vault.drop(&["d"]);
        assert_eq!(vault.missing(), [""; 0]);
        vault.steal("a");
        assert_eq!(vault.missing(), ["a"], "nobody names it, but it was to stay");
        vault.make();
        vault.steal("g");
        assert_eq!(vault.missing(), ["g", "a"], "it is younger than what retention wrote");
    }

    #[test]
    fn what_was_stolen_is_still_missed_when_retention_took_all_that_named_it() {
        let mut vault = Vault::with(6);
        vault.steal("c");
        vault.drop(&["d", "e"]);
        assert_eq!(vault.missing(), ["c"]);
        vault.make();
        vault.steal("f");
        vault.drop(&["g"]);
        vault.make();
        vault.drop(&["a"]);
        assert_eq!(vault.missing(), ["f", "c"]);
    }

    #[test]
    fn an_older_list_put_in_the_place_of_the_last_one_hides_nothing() {
        let mut vault = Vault::with(6);
        vault.drop(&["b"]);
        let old = vault.kept.clone();
        vault.make();
        vault.drop(&["c"]);
        vault.steal("f");
        vault.kept = old;
        assert!(vault.missing().contains(&"f".to_owned()), "{:?}", vault.missing());
        vault.kept = None;
        assert!(vault.missing().contains(&"f".to_owned()));
    }

    #[test]
    fn the_list_is_bounded_and_says_from_where_it_tells() {
        let many: BTreeSet<String> = (0..LISTED + 5).map(|it| format!("{it:06}")).collect();
        let kept = Kept::after(None, &many, &ids(&[]), &[]);
        assert_eq!((kept.ids.len(), kept.excuses("000004"), kept.excuses("000005")), (LISTED, true, false));
    }
}
