//! What a run waits for, for people; and what becomes of that when it comes too late.

use super::{JobSeen, Pass, dumps, volumes};
use crate::{
    api::recovery_point::{DumpInPoint, RecoveryPointStatus, VolumeInPoint},
    core::{
        dump::label,
        work::{Seen, see},
    },
};

impl Pass<'_> {
    pub(super) fn waiting_for(&self, status: &RecoveryPointStatus) -> String {
        let mut all: Vec<String> = Vec::new();
        if status.objects.is_none() {
            all.push(match see(&self.seen.works, "Capture", self.now) {
                Seen::Due(Some(failure)) | Seen::Waiting(Some(failure)) => format!("objects: {}", failure.message),
                _ => "objects are being read".to_owned(),
            });
        }
        for volume in status.volumes.iter().filter(|it| !volumes::settled(it)) {
            all.push(format!("volume {}: {}", volume.claim, self.volume_waits_for(volume)));
        }
        for dump in status.dumps.iter().filter(|it| !dumps::settled(it)) {
            all.push(format!("dump {}: {}", dump.name, self.dump_waits_for(dump)));
        }
        if all.is_empty() && status.lock.as_ref().is_some_and(|it| !it.settled) {
            all.push("what it needs is being locked".to_owned());
        }
        all.join("; ")
    }

    /// What an effect was refused for stands with what has not begun: it may be the reason.
    fn volume_waits_for(&self, volume: &VolumeInPoint) -> String {
        match self.seen.jobs.get(&volume.claim) {
            Some(JobSeen::Running(Some(why))) => why.clone(),
            Some(_) => "is being copied".to_owned(),
            None => {
                let snapshot = self.seen.snapshot(self.groups(), &volume.claim);
                let told = snapshot.and_then(|it| it.error.clone());
                let told = told.or_else(|| self.seen.group_error(self.groups(), &volume.claim));
                let told = told.or_else(|| self.seen.hindrance.clone());
                told.unwrap_or_else(|| "is being snapshotted or mounted".to_owned())
            }
        }
    }

    fn dump_waits_for(&self, dump: &DumpInPoint) -> String {
        match self.seen.jobs.get(&label(&dump.name)) {
            Some(JobSeen::Running(Some(why))) => why.clone(),
            Some(_) => "is being made".to_owned(),
            None => self.seen.hindrance.clone().unwrap_or_else(|| "is being made".to_owned()),
        }
    }

    /// What was not read in time is missing.
    pub(super) fn give_up(&self, status: &mut RecoveryPointStatus, patience: u64) {
        for volume in status.volumes.iter_mut().filter(|it| !volumes::settled(it)) {
            volume.failure = Some(format!("not finished after {patience} s: {}", self.volume_waits_for(volume)));
        }
        for dump in status.dumps.iter_mut().filter(|it| !dumps::settled(it)) {
            dump.failure = Some(format!("not finished after {patience} s: {}", self.dump_waits_for(dump)));
        }
    }
}
