//! Volumes that are restored ahead, and how a failover takes one over.
//!
//! A volume that is restored ahead is marked with the application's own uid and stays with the operator's claim, where
//! no pod but a mover can mount it: what its annotation says is in it can be relied on. The failover marks it with its
//! own run before it touches anything else: whatever the application's last pass still does is refused from then on.

use serde_json::json;

use super::{
    child::{Run, claim_key, job_key},
    effect::Effect,
    recovery_point::JobSeen,
    volume_restore::{ClaimSeen, FAILURES, RECLAIM_POLICY, RESTORED_FROM, Restore, Step, VolumeSeen, is_of_paths},
};

/// On a `PersistentVolume`: how many bytes its last mover transferred.
pub const TRANSFERRED: &str = "reprise.dev/transferred-bytes";
/// On a `PersistentVolume`: it was restored ahead when its run took it over.
pub const AHEAD: &str = "reprise.dev/restored-ahead";
/// Stands in `RESTORED_FROM` for what is not known.
const UNKNOWN: &str = "-";
/// Of more snapshots than these a volume is not known to consist: each is one more restore that was broken off.
const PARTS: usize = 4;

/// What a volume holds, as `RESTORED_FROM` says: the snapshots that were written into it, the last one last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    parts: Vec<String>,
    unknown: bool,
}

impl Contents {
    /// Of a volume. Without the annotation nothing is known, nor where only some paths were restored.
    #[must_use]
    pub fn of(volume: &VolumeSeen) -> Self {
        let text = volume.annotations.get(RESTORED_FROM).map_or(UNKNOWN, String::as_str);
        let (unknown, parts): (Vec<&str>, Vec<&str>) =
            text.split(',').partition(|it| it.is_empty() || *it == UNKNOWN || is_of_paths(it));
        Self { parts: parts.into_iter().map(ToOwned::to_owned).collect(), unknown: !unknown.is_empty() }
    }

    /// Whether it is this snapshot, and nothing else.
    #[must_use]
    pub fn equals(&self, snapshot: &str) -> bool {
        !self.unknown && self.parts == [snapshot]
    }

    /// Whether a mover may have been writing this snapshot last.
    #[must_use]
    pub fn announces(&self, snapshot: &str) -> bool {
        !self.equals(snapshot) && self.parts.last().is_some_and(|it| it == snapshot)
    }

    /// What it is before a mover writes this snapshot.
    #[must_use]
    pub fn announcing(mut self, snapshot: &str) -> Self {
        self.parts.retain(|it| it != snapshot);
        if self.parts.len() >= PARTS {
            (self.parts, self.unknown) = (Vec::new(), true);
        }
        self.parts.push(snapshot.to_owned());
        self
    }

    /// The other snapshots, when there is nothing but these and this one in it.
    #[must_use]
    pub fn base(&self, snapshot: &str) -> Vec<String> {
        if self.unknown {
            return Vec::new();
        }
        self.parts.iter().filter(|it| *it != snapshot).cloned().collect()
    }

    /// As it is written down.
    #[must_use]
    pub fn text(&self) -> String {
        let unknown = self.unknown.then_some(UNKNOWN);
        unknown.into_iter().chain(self.parts.iter().map(String::as_str)).collect::<Vec<_>>().join(",")
    }
}

/// What stands in the operator's namespace of one volume that is restored ahead.
#[derive(Clone, Debug, PartialEq)]
pub struct Ahead {
    /// The run that restores ahead: it has the application's uid.
    pub run: Run,
    /// The volume.
    pub volume: Option<VolumeSeen>,
    /// Its claim.
    pub own: Option<ClaimSeen>,
    /// Its mover.
    pub job: Option<JobSeen>,
}

impl Restore<'_> {
    /// Takes over what was restored ahead, and ends what still restores it. `None` when nothing is left of that.
    pub(super) fn adopt(&self) -> Option<(Step, Vec<Effect>)> {
        let ahead = self.seen.ahead.as_ref()?;
        let wanted = &self.volume.snapshot;
        let marked = self.marked().is_some();
        // A claim that has a volume of its own is what the application had here last: that one is made equal then.
        let own = self.seen.tenant.as_ref().is_some_and(|it| it.bound || it.volume.is_some());
        let sound = ahead.own.as_ref().is_none_or(|it| it.bound && self.fits(it));
        if let Some(volume) = ahead.volume.as_ref().filter(|_| !marked && !own && sound) {
            let contents = Contents::of(volume);
            let contents = match &ahead.job {
                Some(JobSeen::Running(_)) if contents.announces(wanted) => {
                    return Some((Step::Going("the mover that restores ahead works on this snapshot".into()), vec![]));
                }
                Some(JobSeen::Succeeded(report)) => match &report.snapshot {
                    Some(it) if contents.announces(it) => it.clone(),
                    Some(_) | None => contents.text(),
                },
                Some(JobSeen::Running(_) | JobSeen::Failed { .. }) | None => contents.text(),
            };
            let reclaim = volume.annotations.get(RECLAIM_POLICY).unwrap_or(&volume.reclaim);
            let patch = json!({
                "metadata": {"annotations": {
                    RECLAIM_POLICY: reclaim, RESTORED_FROM: contents, FAILURES: null, AHEAD: "true", TRANSFERRED: null,
                }},
                "spec": {"persistentVolumeReclaimPolicy": "Retain"},
            });
            let told = "the volume that was restored ahead is taken over";
            return Some((Step::Going(told.into()), vec![self.patch(volume, patch)]));
        }
        if ahead.job.is_none() && ahead.own.is_none() {
            return None;
        }
        let (home, name) = (&self.movers.namespace, ahead.run.derived(&self.volume.claim));
        let effects = vec![Effect::Delete(job_key(home, &name)), Effect::Delete(claim_key(home, &name))];
        Some((Step::Going("what restored ahead is tidied away".into()), effects))
    }

    /// Whether the claim was made for the size that the point has. A volume cannot be handed to a claim that asks for more.
    pub(super) fn fits(&self, own: &ClaimSeen) -> bool {
        own.size.as_ref().is_none_or(|it| *it == self.volume.size)
    }

    /// The application's claim has another size by now. The volume goes with the operator's claim, and is made anew.
    pub(super) fn drop_smaller(&self) -> (Step, Vec<Effect>) {
        let (home, name) = (&self.movers.namespace, self.run.derived(&self.volume.claim));
        let effects = vec![Effect::Delete(job_key(home, &name)), Effect::Delete(claim_key(home, &name))];
        (Step::Going(format!("the volume is made anew with {}", self.volume.size)), effects)
    }

    /// The volume equals the snapshot, and waits with the operator's claim. From here on it may go with that claim: it
    /// holds nothing that is not in the vault.
    pub(super) fn keep(&self, volume: &VolumeSeen) -> (Step, Vec<Effect>) {
        let name = self.run.derived(&self.volume.claim);
        if self.seen.job.is_some() {
            let effects = vec![Effect::Delete(job_key(&self.movers.namespace, &name))];
            return (Step::Going("the mover is tidied away".into()), effects);
        }
        if let Some(policy) = volume.annotations.get(RECLAIM_POLICY) {
            let patch = json!({
                "metadata": {"annotations": {RECLAIM_POLICY: null}}, "spec": {"persistentVolumeReclaimPolicy": policy},
            });
            return (Step::Going("the reclaim policy is put back".into()), vec![self.patch(volume, patch)]);
        }
        (Step::Done, Vec::new())
    }
}

#[cfg(test)]
#[path = "volume_ahead_tests.rs"]
mod tests;
