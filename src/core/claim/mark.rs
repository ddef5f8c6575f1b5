//! What a holder changes elsewhere bears a mark: the epoch of the claim, and the region. A claim alone fences nothing;
//! the mark does, at the catalogue's head and at the DNS record: it decides who may replace what.
//!
//! Reading and replacing them in one step is `vault::catalogue`'s and `traffic`'s.

use std::cmp::Ordering;

use super::rules::rule;

/// How what stands there relates to a change that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is of an older epoch: it may be replaced.
    Older,
    /// It is of this region, and of this epoch.
    Mine,
    /// It is of a newer epoch: whoever wants to change it lost the claim.
    Newer,
    /// Another region has the same epoch: the claim was set back, and a person must decide.
    Contested,
}

/// Compares what was found with what is wanted: each an epoch and a region.
#[must_use]
pub fn standing(found: (u64, &str), wanted: (u64, &str)) -> Standing {
    match found.0.cmp(&wanted.0) {
        Ordering::Less => Standing::Older,
        Ordering::Greater => rule!(NewerMarkStands, Standing::Newer, off: Standing::Older),
        Ordering::Equal if found.1 == wanted.1 => Standing::Mine,
        Ordering::Equal => Standing::Contested,
    }
}

/// Whether a point of this epoch and region enters under the mark that the head bears.
#[must_use]
pub fn enters(found: (u64, &str), point: (u64, &str)) -> bool {
    rule!(OnlyPointsOfTheSealEnter, standing(found, point) == Standing::Mine, off: true)
}
