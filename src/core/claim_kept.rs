//! What a claim says of itself, kept on its volume while the claim is deleted and made anew.
//!
//! By its labels and annotations its operator and its people find it. A restore of objects puts on it what the point has
//! ([`crate::core::restore`]); this is for the time until then, and for runs that are cancelled. Owners are not kept: one
//! that is gone by then would take the new claim, and the volume, with it. The point's are, when they are there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::child::GROUP_MARK;

/// On a `PersistentVolume`: what its claim said, as JSON of [`Kept`].
pub const KEPT: &str = "reprise.dev/claim-metadata";
/// Bytes that are kept at most: an object's annotations may be 256 KiB.
const ROOM: usize = 64 * 1_024;

/// Annotations that bind a claim to one volume, and are written anew by who binds it.
pub const BINDING: [&str; 7] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-resizer",
    // Its class is the volume's, whatever that is called here.
    "volume.beta.kubernetes.io/storage-class",
];

/// What is kept of a claim.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Kept {
    /// Of a claim's metadata what is not of its present volume, nor of a moment.
    #[must_use]
    pub fn of(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Self {
        let mut kept = Self { labels: labels.clone(), annotations: annotations.clone() };
        kept.labels.retain(|key, _| !key.starts_with(GROUP_MARK));
        kept.annotations.retain(|key, _| !BINDING.contains(&key.as_str()));
        kept
    }

    /// As it is written on the volume. Annotations that are too large for that stay behind; none when nothing is left.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let short = Self { annotations: BTreeMap::new(), ..self.clone() };
        let fitting = [self, &short].into_iter().filter(|it| **it != Self::default());
        fitting.filter_map(|it| serde_json::to_string(it).ok()).find(|it| it.len() <= ROOM)
    }

    /// What is written on a volume; nothing when it is not readable.
    #[must_use]
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        annotations.get(KEPT).and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_people_wrote_on_a_claim_is_kept_and_what_binds_it_is_not() {
        let labels = map(&[("cluster", "db"), ("group.reprise.dev/shop", "run")]);
        let kept = Kept::of(&labels, &map(&[("serial", "1"), ("pv.kubernetes.io/bind-completed", "yes")]));
        assert_eq!((&kept.labels, &kept.annotations), (&map(&[("cluster", "db")]), &map(&[("serial", "1")])));
        let text = kept.text().expect("it is small");
        assert_eq!(Kept::read(&map(&[(KEPT, &text)])), kept);
        assert_eq!((Kept::read(&map(&[])), Kept::default().text()), (Kept::default(), None));
    }

    #[test]
    fn annotations_that_are_too_large_for_the_volume_stay_behind_and_labels_do_not() {
        let kept = Kept::of(&map(&[("cluster", "db")]), &map(&[("big", &"x".repeat(ROOM))]));
        let text = kept.text().expect("the labels are small");
        assert_eq!(Kept::read(&map(&[(KEPT, &text)])), Kept { annotations: BTreeMap::new(), ..kept });
    }
}
