//! How a volume is read: what the application says of its claim, and what its driver can.

use std::collections::BTreeMap;

use kube::core::SelectorExt;

use super::{Pass, Source, Unbound};
use crate::{
    api::{
        application::{VolumeMethod, VolumeOverride},
        recovery_point::VolumeInPoint,
    },
    core::{labels::selector, point::Skipped},
};

/// What the application says of one claim.
struct Said {
    method: VolumeMethod,
    /// The field that says so.
    field: String,
    /// Whether it is about some claims only.
    special: bool,
}

impl Pass<'_> {
    fn said(&self, claim: &str, labels: &BTreeMap<String, String>) -> Said {
        let settings = &self.application.spec.backup.volumes;
        let fits = |it: &VolumeOverride| {
            it.claim.as_deref() == Some(claim) || it.selector.as_ref().is_some_and(|it| selector(it).matches(labels))
        };
        let found = settings.overrides.iter().enumerate().find(|(_, it)| fits(it));
        match found.and_then(|(number, it)| Some((number, it.method?))) {
            Some((number, method)) => {
                Said { method, field: format!("backup.volumes.overrides[{number}].method"), special: true }
            }
            None => Said { method: settings.method, field: "backup.volumes.method".to_owned(), special: false },
        }
    }

    /// How a volume will be read, and why; or why it will not be.
    pub(super) fn planned(&self, source: &Source) -> VolumeInPoint {
        let said = self.said(&source.claim, &source.labels);
        let class = source.driver.as_ref().and_then(|it| self.seen.snapshot_classes.get(it));
        let (driver, direct) = (source.driver.as_deref().unwrap_or("no CSI driver"), self.movers.direct);
        let by = if said.special { format!(" ({})", said.field) } else { String::new() };
        let planned = VolumeInPoint { claim: source.claim.clone(), ..VolumeInPoint::default() };
        let (method, failure) = match (said.method, class) {
            (VolumeMethod::Skip, _) => {
                return VolumeInPoint { method: "Skip".to_owned(), left_out: Some(left_out(&said)), ..planned };
            }
            _ if !source.filesystem => {
                (String::new(), Some("volumeMode Block cannot be read yet: only Filesystem volumes can".to_owned()))
            }
            // The snapshot controller takes no more snapshots of such a claim.
            (VolumeMethod::Auto, _) if source.deleting && direct && source.mounted_by.is_some() => {
                ("Direct (the claim is being deleted)".to_owned(), None)
            }
            (VolumeMethod::Auto | VolumeMethod::Snapshot, Some(_)) if source.deleting => {
                ("Snapshot".to_owned(), Some("the claim is being deleted: no snapshot of it can be taken".to_owned()))
            }
            (VolumeMethod::Auto | VolumeMethod::Snapshot, Some(_)) => (format!("Snapshot{by}"), None),
            (VolumeMethod::Snapshot, None) => (
                "Snapshot".to_owned(),
                Some(format!("{} is Snapshot, but there is no VolumeSnapshotClass for {driver}", said.field)),
            ),
            (VolumeMethod::Auto | VolumeMethod::Direct, _) if !direct => (
                "Direct".to_owned(),
                Some(
                    "direct movers are switched off: set movers.direct.enabled of the chart, or use a driver with \
                     snapshots"
                        .to_owned(),
                ),
            ),
            (VolumeMethod::Auto, None) => (format!("Direct (there is no VolumeSnapshotClass for {driver})"), None),
            (VolumeMethod::Direct, _) => (format!("Direct{by}"), None),
        };
        VolumeInPoint { method, failure, ..planned }
    }

    /// A claim without a volume: missing if it should have one. What a branch can save is what is there.
    pub(super) fn without_volume(&self, it: &Unbound, branch: bool) -> VolumeInPoint {
        let said = self.said(&it.claim, &it.labels);
        let (failure, left_out) = match &it.wanted_by {
            _ if said.method == VolumeMethod::Skip => (None, Some(left_out(&said))),
            _ if branch => (None, Some(format!("the claim is {}: there is nothing to save", it.phase))),
            _ if it.phase == "Lost" => (Some("the claim is Lost: its PersistentVolume is gone".to_owned()), None),
            Some(pod) => (Some(format!("the claim is {}, and pod {pod} waits for it", it.phase)), None),
            None => (None, Some(format!("the claim is {}, and no pod uses it: it holds nothing yet", it.phase))),
        };
        VolumeInPoint { claim: it.claim.clone(), failure, left_out, ..VolumeInPoint::default() }
    }

    /// What is kept of a claim whose data is left out, so that it can be made anew. One that is gone by now is not.
    pub(super) fn skipped(&self, volume: &VolumeInPoint) -> Option<Skipped> {
        let (claim, why) = (volume.claim.clone(), volume.left_out.clone()?);
        let bound = self.seen.sources.iter().find(|it| it.claim == claim);
        let bound = bound.map(|it| (&it.size, &it.storage_class, &it.access_modes));
        let unbound = || self.seen.unbound.iter().find(|it| it.claim == claim);
        let (size, class, modes) =
            bound.or_else(|| unbound().map(|it| (&it.size, &it.storage_class, &it.access_modes)))?;
        let (size, storage_class, access_modes) = (size.clone(), class.clone(), modes.clone());
        Some(Skipped { claim, size, storage_class, access_modes, why })
    }
}

fn left_out(said: &Said) -> String {
    format!("{} is Skip", said.field)
}

/// Whether a volume is read from a snapshot.
pub(super) fn is_snapshot(volume: &VolumeInPoint) -> bool {
    volume.method.split(' ').next() == Some("Snapshot")
}
