//! When a point is rehearsed, in which region, and which records of that are kept. A rehearsal is a `Restore`
//! (`core::restore::rehearsal`).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{Pass, fencing::dynamic, owned};
use crate::{
    api::restore::{Restore, RestoreSpec},
    core::{child, condition, effect::Effect},
};

/// So many records of rehearsals are kept.
const KEPT: usize = 3;
/// The last number of one: with it, its name is as long as a `Restore`'s may be.
const LAST: u64 = 9_999;

impl Pass<'_> {
    /// Begins one when it is due.
    pub(super) fn rehearse(&mut self) {
        let Some(settings) = self.object.spec.backup.verification.rehearse.clone() else { return };
        let mut known: Vec<(u64, Arc<Restore>)> =
            self.seen.restores.iter().filter_map(|it| Some((self.numbered(it)?, Arc::clone(it)))).collect();
        known.sort_by_key(|(number, it)| (it.creation_timestamp().map(|at| at.0), *number));
        self.forget_rehearsals(&known);
        let ended = |it: &Restore| it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        let going = known.iter().any(|(_, it)| !ended(it)) || self.moving().is_some();
        let here = self.rehearses_here(settings.region.as_deref());
        if !here || going || self.status.last_point.is_none() || self.vault_ready().is_err() {
            return;
        }
        let every = settings.every.as_secs();
        let after = |at: Timestamp, seconds: u64| {
            let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            at.checked_add(seconds).unwrap_or(Timestamp::MAX)
        };
        let last = known.last().and_then(|(_, it)| it.creation_timestamp()).map(|it| it.0);
        let due = match last {
            Some(last) => after(last, every),
            None => after(self.object.creation_timestamp().map_or(self.now, |it| it.0), self.spread(every)),
        };
        if due > self.now {
            return self.look_at(due);
        }
        // After the last number comes the first: those of so long ago are gone.
        let number = known.last().map_or(0, |(number, _)| number % LAST) + 1;
        let spec = RestoreSpec { application: self.key.name.clone(), rehearse: true, ..RestoreSpec::default() };
        let mut object = Restore::new(&format!("{}{number:04}", self.stem()), spec);
        object.metadata.namespace = Some(self.key.namespace.clone());
        owned(&mut object.metadata, &self.key, self.object.uid());
        self.last.push(Effect::Apply(Box::new(dynamic(&object))));
    }

    /// In the region that is named; else in the first that does not serve, or the only one.
    fn rehearses_here(&self, region: Option<&str>) -> bool {
        let holder = self.seen.claim.as_ref().and_then(|it| it.holder.as_deref());
        let mut regions = self.object.spec.regions.iter().map(|it| it.name.as_str());
        let chosen = match (region, holder) {
            (Some(region), _) => Some(region),
            // Nobody knows yet who serves.
            (None, None) => None,
            (None, Some(holder)) => regions.find(|it| *it != holder).or(Some(holder)),
        };
        chosen == Some(self.seen.region.as_str())
    }

    fn forget_rehearsals(&mut self, known: &[(u64, Arc<Restore>)]) {
        let ended = |it: &Restore| it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        let old = known.iter().filter(|(_, it)| ended(it));
        let old: Vec<String> = old.rev().skip(KEPT).map(|(_, it)| it.name_any()).collect();
        for name in old {
            let key = child::key("reprise.dev/v1alpha1", "Restore", Some(&self.key.namespace), &name);
            self.last.push(Effect::Delete(key));
        }
    }

    fn stem(&self) -> String {
        format!("{}-rehearsal-", self.key.name)
    }

    /// The number of one that the operator made.
    fn numbered(&self, restore: &Restore) -> Option<u64> {
        let name = restore.name_any();
        let digits = name.strip_prefix(&self.stem())?;
        (restore.spec.rehearse && digits.len() == 4).then(|| digits.parse().ok())?
    }
}
