//! The end of a run whose reading is done: the point is written in the vault, and entered in the catalogue.

use kube::ResourceExt;

use super::{Ending, Pass, end, method};
use crate::{
    api::recovery_point::{DumpInPoint, Purpose, RecoveryPointStatus, VolumeInPoint},
    core::{
        effect::{Decision, Effect},
        point::{Dump, FORMAT, Objects, Point, Volume},
        work::{Seen, Work, see},
    },
};

impl Pass<'_> {
    /// Everything is read: the point is written, and entered.
    pub(super) fn commit(&self, mut status: RecoveryPointStatus) -> Decision<RecoveryPointStatus> {
        match see(&self.seen.works, "CommitPoint", self.now) {
            Seen::Done(outcome, _) => {
                status.locked_until = self.locked_until(&status, outcome);
                let missing = missing(&status);
                let ending = match (missing.is_empty(), status.suspicious.is_empty()) {
                    (true, true) => Ending::Stored,
                    (true, false) => Ending::Suspicious(status.suspicious.join("; ")),
                    (false, _) => Ending::Partial(missing.join("; ")),
                };
                end(self.point, status, self.seen, ending, self.now)
            }
            Seen::Due(Some(failure)) | Seen::Waiting(Some(failure)) if failure.lasting => {
                let ending = Ending::Failed(failure.reason, failure.message.clone());
                end(self.point, status, self.seen, ending, self.now)
            }
            Seen::Waiting(failure) => {
                let message =
                    failure.map_or("the point is being entered in the catalogue".to_owned(), |it| it.message.clone());
                self.wait(status, "Entering", message)
            }
            Seen::Due(_) => {
                let point = Box::new(self.stored(&status));
                let vault = self.vault_name();
                let mut decision = self.wait(status, "Entering", "the point is being entered in the catalogue");
                decision.effects.push(Effect::Begin(Box::new(Work::CommitPoint { vault, point })));
                decision
            }
        }
    }

    /// The point as it is written in the vault.
    fn stored(&self, status: &RecoveryPointStatus) -> Point {
        let objects = status.objects.clone().unwrap_or_default();
        let volume = |it: &VolumeInPoint| {
            Some(Volume {
                claim: it.claim.clone(),
                snapshot: it.snapshot.clone()?,
                size: it.size.clone()?,
                storage_class: it.storage_class.clone(),
                access_modes: it.access_modes.clone(),
                block: it.block,
                files: it.files,
                bytes: it.bytes,
                exclude: it.exclude.clone(),
                excluded: it.excluded,
                no_backup: it.no_backup,
            })
        };
        let dump = |it: &DumpInPoint| {
            let (snapshot, consistent_at) = (it.snapshot.clone()?, it.consistent_at.as_ref()?.0);
            Some(Dump { name: it.name.clone(), snapshot, consistent_at, bytes: it.bytes })
        };
        Point {
            format: FORMAT,
            id: status.id.clone().unwrap_or_default(),
            namespace: self.run.namespace.clone(),
            application: self.application.name_any(),
            epoch: status.epoch.unwrap_or(0),
            region: self.seen.region.clone(),
            branch: self.point.spec.purpose == Purpose::Branch,
            consistent_at: status.consistent_at.as_ref().map_or(self.now, |it| it.0),
            // Not `now`: a repeated commit must write the same bytes under the same name.
            created_at: status.started_at.as_ref().map_or(self.now, |it| it.0),
            objects: Objects { manifest: objects.manifest, count: objects.count, bytes: objects.bytes },
            volumes: status.volumes.iter().filter_map(volume).collect(),
            skipped: status.volumes.iter().filter_map(method::skipped).collect(),
            dumps: status.dumps.iter().filter_map(dump).collect(),
            missing: missing(status),
            suspicious: status.suspicious.clone(),
            lock_until: status.lock.as_ref().map(|it| it.until.0),
            // Whoever writes it knows.
            previous: None,
        }
    }
}

/// What is not in the point, for people.
fn missing(status: &RecoveryPointStatus) -> Vec<String> {
    let volumes = status.volumes.iter().filter_map(|it| match &it.failure {
        Some(failure) => Some(format!("volume {}: {failure}", it.claim)),
        None if it.unreadable > 0 => Some(format!("volume {}: {} files could not be read", it.claim, it.unreadable)),
        None => None,
    });
    let kinds = status.objects.iter().flat_map(|it| &it.failed).map(|it| format!("objects: {it}"));
    let dumps = status.dumps.iter().filter_map(|it| Some(format!("dump {}: {}", it.name, it.failure.as_ref()?)));
    volumes.chain(dumps).chain(kinds).collect()
}
