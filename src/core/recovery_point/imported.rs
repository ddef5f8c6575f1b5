//! A point that another region made, shown in this one: it is read once, and nothing is made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Pass, noted};
use crate::{
    api::recovery_point::{DumpInPoint, ObjectsInPoint, RecoveryPoint, RecoveryPointStatus, VolumeInPoint},
    core::{
        condition::{self, Finding, SUCCEEDED},
        effect::{Decision, Effect},
        point::{Dump, Point, Skipped, Volume},
        verified::Verified,
        work::{Outcome, Seen, Work, see},
    },
};

/// The name of the object that shows a point.
#[must_use]
pub fn name(id: &str) -> String {
    format!("imported-{}", id.to_ascii_lowercase())
}

impl Pass<'_> {
    /// Reads the point, and ends.
    pub(super) fn import(&self, status: RecoveryPointStatus) -> Decision<RecoveryPointStatus> {
        let id = self.point.spec.id.clone().unwrap_or_default();
        match see(&self.seen.works, "ReadPoint", self.now) {
            Seen::Done(Outcome::PointRead(point, verified), _) => {
                show(self.point, status, (point, verified.as_deref()), self.now)
            }
            Seen::Due(Some(failure)) | Seen::Waiting(Some(failure))
                if failure.lasting || failure.reason == "Absent" =>
            {
                let finding = Finding::new(SUCCEEDED, false, failure.reason, failure.message.clone());
                ended(self.point, status, finding, self.now)
            }
            Seen::Due(_) => {
                if let Some(reason) = self.vault_hindrance() {
                    return self.wait(status, "VaultNotReady", reason);
                }
                let (vault, application) = (self.vault_name(), self.app());
                let mut decision = self.wait(status, "Reading", format!("{id} is being read from the vault"));
                decision.effects.push(Effect::Begin(Box::new(Work::ReadPoint { vault, application, id })));
                decision
            }
            Seen::Waiting(failure) => {
                let message = failure.map_or(format!("{id} is being read from the vault"), |it| it.message.clone());
                self.wait(status, "Reading", message)
            }
            Seen::Done(..) => self.wait(status, "Reading", format!("{id} is being read from the vault")),
        }
    }
}

fn show(
    object: &RecoveryPoint,
    status: RecoveryPointStatus,
    (point, verified): (&Point, Option<&Verified>),
    now: Timestamp,
) -> Decision<RecoveryPointStatus> {
    let dump = |it: &Dump| DumpInPoint {
        name: it.name.clone(),
        consistent_at: Some(Time(it.consistent_at)),
        snapshot: Some(it.snapshot.clone()),
        bytes: it.bytes,
        ..DumpInPoint::default()
    };
    let objects = &point.objects;
    let data = point.volumes.iter().map(|it| it.bytes).chain(point.dumps.iter().map(|it| it.bytes));
    let status = RecoveryPointStatus {
        id: Some(point.id.clone()),
        epoch: Some(point.epoch),
        region: Some(point.region.clone()),
        started_at: Some(Time(point.created_at)),
        consistent_at: Some(Time(point.consistent_at)),
        bytes: Some(data.sum::<u64>() + objects.bytes),
        objects: Some(ObjectsInPoint {
            manifest: objects.manifest.clone(),
            count: objects.count,
            bytes: objects.bytes,
            ..ObjectsInPoint::default()
        }),
        volumes: volumes(point),
        dumps: point.dumps.iter().map(dump).collect(),
        suspicious: point.suspicious.clone(),
        verification: point.complete().then(|| noted::first(point, verified)),
        ..status
    };
    let (id, region) = (&point.id, &point.region);
    let finding = match (point.complete(), point.branch) {
        (true, false) if !point.suspicious.is_empty() => {
            let why = point.suspicious.join("; ");
            let message = format!("{id} of {region} is in the vault, but does not count: {why}");
            Finding::new(SUCCEEDED, false, "Suspicious", message.chars().take(4_000).collect::<String>())
        }
        (true, false) => Finding::new(SUCCEEDED, true, "Imported", format!("{id} of {region} is in the vault")),
        (true, true) => {
            let message = format!("{id} of {region} is in the vault: a branch, never chosen by itself");
            Finding::new(SUCCEEDED, true, "ImportedBranch", message)
        }
        (false, _) => {
            let missing = point.missing.join("; ");
            let message = format!("{id} of {region} is in the vault, but does not count for the RPO: {missing}");
            Finding::new(SUCCEEDED, false, "Partial", message.chars().take(4_000).collect::<String>())
        }
    };
    ended(object, status, finding, now)
}

/// The claims, with their data and without.
fn volumes(point: &Point) -> Vec<VolumeInPoint> {
    let volume = |it: &Volume| VolumeInPoint {
        claim: it.claim.clone(),
        method: format!("read in {}", point.region),
        size: Some(it.size.clone()),
        storage_class: it.storage_class.clone(),
        access_modes: it.access_modes.clone(),
        block: it.block,
        snapshot: Some(it.snapshot.clone()),
        files: it.files,
        bytes: it.bytes,
        exclude: it.exclude.clone(),
        excluded: it.excluded,
        no_backup: it.no_backup,
        ..VolumeInPoint::default()
    };
    let skipped = |it: &Skipped| VolumeInPoint {
        claim: it.claim.clone(),
        size: Some(it.size.clone()),
        storage_class: it.storage_class.clone(),
        access_modes: it.access_modes.clone(),
        block: it.block,
        left_out: Some(it.why.clone()),
        dump: it.dump.clone(),
        ..VolumeInPoint::default()
    };
    point.volumes.iter().map(volume).chain(point.skipped.iter().map(skipped)).collect()
}

fn ended(
    object: &RecoveryPoint,
    mut status: RecoveryPointStatus,
    finding: Finding,
    now: Timestamp,
) -> Decision<RecoveryPointStatus> {
    let findings = std::iter::once(finding).chain(status.verification.as_ref().map(noted::finding)).collect();
    status.conditions = condition::conditions(&status.conditions, findings, object.metadata.generation, now);
    Decision { status, effects: Vec::new(), recheck: None }
}
