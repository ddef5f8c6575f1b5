//! Until when a point is locked, as far as that was read back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Pass;
use crate::{
    api::recovery_point::RecoveryPointStatus,
    core::{condition, work::Outcome},
};

impl Pass<'_> {
    /// The shortest lock of all that the point needs. What it shares with earlier points is locked for as long as the last
    /// complete round has found, and what is new in it for longer.
    pub(super) fn locked_until(&self, status: &RecoveryPointStatus, outcome: &Outcome) -> Option<Time> {
        let Outcome::Committed { locked_until: Some(own) } = outcome else { return None };
        let data = status.volumes.iter().map(|it| &it.snapshot).chain(status.dumps.iter().map(|it| &it.snapshot));
        if !data.into_iter().any(Option::is_some) {
            return Some(condition::whole_second(*own));
        }
        let all = self.application.status.as_ref()?.locks.as_ref()?.locked_until.as_ref()?;
        Some(condition::whole_second((*own).min(all.0)))
    }
}
