//! How a volume is read: what the application says of its claim, and what its driver can.

use std::collections::BTreeMap;

use kube::core::SelectorExt;

use super::{Pass, Source, Unbound};
use crate::{
    api::{
        application::{VolumeMethod, VolumeOverride},
        recovery_point::VolumeInPoint,
    },
    core::{child::EXCLUDE, labels::selector, point::Skipped},
};

/// What the application says of one claim.
struct Said<'a> {
    read: Result<Read, Left>,
    /// The field that says so.
    field: String,
    /// What is told besides of a volume that is read.
    note: Option<String>,
    exclude: &'a [String],
}

/// How a volume is to be read.
#[derive(Clone, Copy)]
enum Read {
    Auto,
    Snapshot,
    Direct,
}

/// A volume that is not to be read.
struct Left {
    why: String,
    /// The dump that stands for it.
    dump: Option<String>,
}

impl Pass<'_> {
    fn said(&self, claim: &str, labels: &BTreeMap<String, String>, excluded: bool) -> Said<'_> {
        let settings = &self.application.spec.backup.volumes;
        let fits = |it: &VolumeOverride| {
            it.claim.as_deref() == Some(claim) || it.selector.as_ref().is_some_and(|it| selector(it).matches(labels))
        };
        let found = settings.overrides.iter().enumerate().find(|(_, it)| fits(it));
        let exclude = found.and_then(|(_, it)| it.exclude.as_ref()).unwrap_or(&settings.exclude);
        let dump = found.and_then(|(_, it)| it.dump.clone());
        let (method, field, special) = match found.and_then(|(number, it)| Some((number, it.method?))) {
            Some((number, method)) => (method, format!("backup.volumes.overrides[{number}].method"), true),
            None => (settings.method, "backup.volumes.method".to_owned(), false),
        };
        let mut note = special.then(|| field.clone());
        let left = |why: String, dump| Err(Left { why, dump });
        let read = match method {
            _ if excluded => left(format!("the claim is marked {EXCLUDE}: \"true\""), None),
            VolumeMethod::Auto => Ok(Read::Auto),
            VolumeMethod::Snapshot => Ok(Read::Snapshot),
            VolumeMethod::Direct => Ok(Read::Direct),
            VolumeMethod::Skip => left(format!("{field} is Skip"), None),
            // What it has written since its last dump is on the volume, and nowhere else.
            VolumeMethod::Dump if self.stopped() => {
                note = Some("the application is stopped, and cannot be dumped".to_owned());
                Ok(Read::Auto)
            }
            VolumeMethod::Dump => {
                let name = dump.as_deref().unwrap_or_default();
                left(format!("{field} is Dump: the dump {name} stands for it"), dump)
            }
        };
        Said { read, field, note, exclude }
    }

    /// How a volume will be read, and why; or why it will not be.
    pub(super) fn planned(&self, source: &Source) -> VolumeInPoint {
        let said = self.said(&source.claim, &source.labels, source.excluded);
        let class = source.driver.as_ref().and_then(|it| self.seen.snapshot_classes.get(it));
        let (driver, direct) = (source.driver.as_deref().unwrap_or("no CSI driver"), self.movers.direct);
        let planned = VolumeInPoint {
            claim: source.claim.clone(),
            size: Some(source.size.clone()),
            storage_class: source.storage_class.clone(),
            access_modes: source.access_modes.clone(),
            block: source.block,
            ..VolumeInPoint::default()
        };
        let read = match said.read {
            Ok(read) => read,
            Err(Left { why, dump }) => {
                let method = if dump.is_some() { "Dump" } else { "Skip" };
                return VolumeInPoint { method: method.to_owned(), left_out: Some(why), dump, ..planned };
            }
        };
        let by = |why: Option<String>| match said.note.iter().cloned().chain(why).collect::<Vec<_>>().join("; ") {
            told if told.is_empty() => String::new(),
            told => format!(" ({told})"),
        };
        let (method, failure) = match (read, class) {
            (Read::Direct, _) | (Read::Auto, None) if source.block => (
                "Direct".to_owned(),
                Some(format!(
                    "volumeMode Block is read from snapshots only: {} ({driver})",
                    match class {
                        Some(_) => format!("{} is Direct", said.field),
                        None => "there is no VolumeSnapshotClass".to_owned(),
                    }
                )),
            ),
            // The snapshot controller takes no more snapshots of such a claim.
            (Read::Auto, _) if source.deleting && direct && source.mounted_by.is_some() && !source.block => {
                ("Direct (the claim is being deleted)".to_owned(), None)
            }
            (Read::Auto | Read::Snapshot, Some(_)) if source.deleting => {
                ("Snapshot".to_owned(), Some("the claim is being deleted: no snapshot of it can be taken".to_owned()))
            }
            (Read::Auto | Read::Snapshot, Some(class)) => {
                (format!("Snapshot{}", by(Some(format!("class {class} of {driver}")))), None)
            }
            (Read::Snapshot, None) => (
                "Snapshot".to_owned(),
                Some(format!("{} is Snapshot, but there is no VolumeSnapshotClass for {driver}", said.field)),
            ),
            (Read::Auto | Read::Direct, _) if !direct => (
                "Direct".to_owned(),
                Some(
                    "direct movers are switched off: set movers.direct.enabled of the chart, or use a driver with \
                     snapshots"
                        .to_owned(),
                ),
            ),
            (Read::Auto, None) => (format!("Direct (there is no VolumeSnapshotClass for {driver})"), None),
            (Read::Direct, _) => (format!("Direct{}", by(None)), None),
        };
        let exclude = if source.block { Vec::new() } else { said.exclude.to_vec() };
        VolumeInPoint { method, exclude, failure, ..planned }
    }

    /// A claim without a volume: missing if it should have one. What a branch can save is what is there.
    pub(super) fn without_volume(&self, it: &Unbound, branch: bool) -> VolumeInPoint {
        let left = self.said(&it.claim, &it.labels, it.excluded).read.err();
        let dump = left.as_ref().and_then(|it| it.dump.clone());
        let (failure, left_out) = match &it.wanted_by {
            _ if left.is_some() => (None, left.map(|it| it.why)),
            _ if branch => (None, Some(format!("the claim is {}: there is nothing to save", it.phase))),
            _ if it.phase == "Lost" => (Some("the claim is Lost: its PersistentVolume is gone".to_owned()), None),
            Some(pod) => (Some(format!("the claim is {}, and pod {pod} waits for it", it.phase)), None),
            None => (None, Some(format!("the claim is {}, and no pod uses it: it holds nothing yet", it.phase))),
        };
        VolumeInPoint {
            claim: it.claim.clone(),
            size: Some(it.size.clone()),
            storage_class: it.storage_class.clone(),
            access_modes: it.access_modes.clone(),
            block: it.block,
            failure,
            left_out,
            dump,
            ..VolumeInPoint::default()
        }
    }
}

/// What is kept of a claim whose data is left out, so that it can be made anew.
pub(super) fn skipped(volume: &VolumeInPoint) -> Option<Skipped> {
    Some(Skipped {
        claim: volume.claim.clone(),
        size: volume.size.clone()?,
        storage_class: volume.storage_class.clone(),
        access_modes: volume.access_modes.clone(),
        block: volume.block,
        why: volume.left_out.clone()?,
        dump: volume.dump.clone(),
    })
}

/// Whether a volume is read from a snapshot.
pub(super) fn is_snapshot(volume: &VolumeInPoint) -> bool {
    volume.method.split(' ').next() == Some("Snapshot")
}
