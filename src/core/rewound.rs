//! What is told of a vault that is set back to an earlier time: which objects were deleted or overwritten since.
//!
//! Data only: how versions are found and brought back is `vault::versions`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most differences that are named.
const NAMED: usize = 100;

/// What became of an object since.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It is hidden behind a delete marker.
    Deleted,
    /// Its current version holds something else.
    Overwritten,
}

/// An object that is not what it was.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// What became of it.
    pub change: Change,
    /// When, by the store's clock.
    pub at: Timestamp,
}

/// What differs from an earlier time.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rewound {
    /// How many objects were there at that time.
    pub objects: u64,
    /// How many were deleted since.
    pub deleted: u64,
    /// How many were overwritten since.
    pub overwritten: u64,
    /// How many of both were brought back.
    pub restored: u64,
    /// The first of the differences.
    pub first: Vec<Difference>,
}

impl Rewound {
    /// Counts a difference, and names it if there is room.
    pub fn note(&mut self, difference: Difference) {
        self.objects += 1;
        match difference.change {
            Change::Deleted => self.deleted += 1,
            Change::Overwritten => self.overwritten += 1,
        }
        if self.first.len() < NAMED {
            self.first.push(difference);
        }
    }
}
