//! When a share of the repository is read back, and what came of it.
//!
//! Only the region that serves does it, one Job at a time in each vault (that of copies is `copy_scrub`); what it found stands in the status, and for every region in
//! the vault, beside the points. Which packs are a share, and which points they touch, is `mover::scrub`.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Pass;
use crate::{
    api::{
        application::{Role, ScrubStatus},
        recovery_point::RecoveryPointStatus,
        vault::VaultSpec,
    },
    core::{
        child::job_key,
        condition::{self, Finding, REPOSITORY_SOUND},
        effect::Effect,
        mover_job::{Mover, MoverSettings},
        mover_task::{Newest, Scrubbed, Task},
        recovery_point::JobSeen,
    },
};

/// What the Job is named after, and found by.
pub const SCRUB_JOB: &str = "vault/scrub";
/// The longest a round may take, in seconds.
const DEADLINE: u64 = 12 * 3_600;
/// How soon the next round follows while something is damaged: new points share data with the damaged ones, and what
/// was put back is to be noticed.
const WHILE_DAMAGED: u64 = 3_600;

/// What is done next about a round that is written down.
pub(super) enum Next {
    /// It goes on, or cannot go on yet.
    Wait,
    /// Its Job is to be made.
    Make,
    /// It has ended, and that is in the status now.
    Ended,
    /// It has ended since an earlier pass: its Job is of no more use.
    Tidy,
    /// Nothing is left of it: the next one may begin.
    Over,
}

/// Takes over what came of a round.
pub(super) fn follow(status: &mut ScrubStatus, job: Option<&JobSeen>, serving: bool, now: Timestamp) -> Next {
    let going = status.finished_at.is_none();
    match job {
        Some(JobSeen::Succeeded(report)) if going => record(status, &report.scrubbed.clone().unwrap_or_default()),
        Some(JobSeen::Failed { message, corrupt, .. }) if going => {
            status.failure = Some(message.clone());
            status.unreadable |= *corrupt;
        }
        None if going && serving => return Next::Make,
        None if going => status.failure = Some("it was not begun before this region stopped serving".to_owned()),
        Some(_) if !going => return Next::Tidy,
        None => return Next::Over,
        Some(_) => return Next::Wait,
    }
    status.finished_at = Some(condition::whole_second(now));
    Next::Ended
}

/// The round after this one.
pub(super) fn after(last: ScrubStatus, parts: u32, now: Timestamp) -> ScrubStatus {
    let part = if last.started_at.is_some() && last.failure.is_none() { last.part + 1 } else { last.part };
    ScrubStatus {
        part: part % parts,
        parts,
        started_at: Some(condition::whole_second(now)),
        finished_at: None,
        failure: None,
        ..last
    }
}

impl Pass<'_> {
    /// Begins a round when one is due, makes its Job, and takes over what came of it.
    pub(super) fn scrub(&mut self) {
        let serving = self.status.role == Some(Role::Active);
        let Some(movers) = &self.seen.movers else { return };
        let key = job_key(&movers.namespace, &self.run().derived(SCRUB_JOB));
        let written = self.object.status.as_ref().and_then(|it| it.scrub.clone());
        let Some(mut status) = written else { return self.begin_scrub(serving) };
        match follow(&mut status, self.seen.scrub.as_ref(), serving, self.now) {
            Next::Ended => self.read_notes(),
            Next::Make => self.make_scrub(movers, &status),
            Next::Tidy => self.effects.push(Effect::Delete(key)),
            Next::Over => return self.begin_scrub(serving),
            Next::Wait => {}
        }
        self.status.scrub = Some(status);
    }

    /// Writes down that a round begins. Its Job is made in a later pass.
    fn begin_scrub(&mut self, serving: bool) {
        let Some(parts) = self.object.spec.backup.verification.parts() else { return };
        if !serving || self.vault_ready().is_err() || self.newest_stored().is_none() {
            return;
        }
        let last = self.status.scrub.clone().unwrap_or_default();
        let due = self.scrub_due(&last, self.something_damaged(&last));
        if due > self.now {
            return self.look_at(due);
        }
        self.status.scrub = Some(after(last, parts, self.now));
    }

    /// When the round after this one is due.
    pub(super) fn scrub_due(&self, last: &ScrubStatus, damaged: bool) -> Timestamp {
        let every = self.object.spec.backup.verification.every.as_secs();
        match &last.started_at {
            Some(at) if damaged => later(at.0, every.min(WHILE_DAMAGED)),
            Some(at) => later(at.0, every),
            None => later(self.object.creation_timestamp().map_or(self.now, |it| it.0), every + self.spread(every)),
        }
    }

    fn make_scrub(&mut self, movers: &MoverSettings, status: &ScrubStatus) {
        let Some(vault) = self.seen.vault.as_ref().filter(|_| self.vault_ready().is_ok()) else { return };
        let effect = self.scrubber(movers, &vault.spec, SCRUB_JOB, status, self.newest_stored());
        self.effects.push(effect);
    }

    /// The Job of a round in a vault.
    pub(super) fn scrubber(
        &self,
        movers: &MoverSettings,
        vault: &VaultSpec,
        name: &str,
        status: &ScrubStatus,
        newest: Option<Newest>,
    ) -> Effect {
        let task = Task::Scrub {
            namespace: self.key.namespace.clone(),
            application: self.key.name.clone(),
            region: self.seen.region.clone(),
            part: status.part,
            parts: status.parts,
            newest,
        };
        let run = self.run();
        let mover =
            Mover { settings: movers, run: &run, claim: name, task: &task, mount: None, vault, deadline: DEADLINE };
        Effect::Apply(Box::new(mover.job()))
    }

    /// The newest point of this region that counts, if volumes or dumps are in it: without them there is no repository
    /// to read.
    pub(super) fn newest_stored(&self) -> Option<Newest> {
        let counting = self.statuses().filter(|it| condition::is_true(&it.conditions, condition::SUCCEEDED));
        let newest = counting.max_by_key(|it| it.id.as_ref())?;
        let volumes = newest.volumes.iter().filter_map(|it| it.snapshot.clone());
        let snapshots: Vec<String> = volumes.chain(newest.dumps.iter().filter_map(|it| it.snapshot.clone())).collect();
        (!snapshots.is_empty()).then_some(())?;
        Some(Newest { point: newest.id.clone()?, snapshots })
    }

    /// Whether the last round found damage, or somebody else met some since.
    fn something_damaged(&self, last: &ScrubStatus) -> bool {
        let met = self.seen.points.iter().filter_map(|it| it.status.as_ref()).any(RecoveryPointStatus::damaged);
        found_damage(last) || met
    }

    /// Applications that were made together are not all read at one time.
    pub(super) fn spread(&self, every: u64) -> u64 {
        let uid = self.object.uid().unwrap_or_default();
        uid.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))) % every.max(1)
    }

    /// Whether what was read back is what was written.
    pub(super) fn repository_sound(&self) -> Option<Finding> {
        let scrub = self.status.scrub.as_ref()?;
        if scrub.unreadable {
            let message = format!(
                "the repository could not be read back: {}. Put the object back as it was written, from an older version \
                 of it or from a copy of the bucket",
                scrub.failure.as_deref().unwrap_or_default()
            );
            return Some(Finding::new(REPOSITORY_SOUND, false, "Unreadable", message));
        }
        if scrub.damaged_packs > 0 {
            let message = format!(
                "{} packs of the repository are damaged or missing, as {}; {} points need them, the newest {}: no failover \
                 chooses these. Put the packs back as they were written, from older versions of the objects or from a \
                 copy of the bucket: they are read again within the hour",
                scrub.damaged_packs,
                scrub.damaged.first().map(String::as_str).unwrap_or_default(),
                scrub.damaged_points,
                scrub.newest_damaged.as_deref().unwrap_or_default(),
            );
            return Some(Finding::new(REPOSITORY_SOUND, false, "Damaged", message));
        }
        if scrub.damaged_points > 0 {
            let message = format!(
                "{} points lack what they need, the newest {}: no failover chooses these (see `Verified` of the RecoveryPoint, \
                 or kubectl reprise vault check)",
                scrub.damaged_points,
                scrub.newest_damaged.as_deref().unwrap_or_default(),
            );
            return Some(Finding::new(REPOSITORY_SOUND, false, "PointsDamaged", message));
        }
        scrub.packs_read?;
        let message = "what was read back is what was written";
        Some(Finding::new(REPOSITORY_SOUND, true, "ReadBack", message))
    }
}

/// Whether a round has found damage.
pub(super) fn found_damage(last: &ScrubStatus) -> bool {
    last.damaged_packs > 0 || last.damaged_points > 0 || last.unreadable
}

fn later(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    at.checked_add(seconds).unwrap_or(Timestamp::MAX)
}

fn record(status: &mut ScrubStatus, found: &Scrubbed) {
    status.packs_read = Some(found.packs);
    status.bytes_read = Some(found.bytes);
    status.damaged_packs = found.damaged_packs;
    status.damaged =
        found.first_packs.iter().map(|it| format!("data/{}/{it}", it.get(..2).unwrap_or_default())).collect();
    status.damaged_points = found.damaged_points;
    status.newest_damaged = found.last_points.first().cloned();
    status.failure = None;
    status.unreadable = false;
}
