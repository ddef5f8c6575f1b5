//! The figures of the demo: what was promised, what was measured, and whether it was kept.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use reprise::{
    api::{
        application::ProtectedApplication,
        failover::{Failover, StepName},
    },
    cli::output::{Cell, Tone, table},
};
use serde::Serialize;

use crate::{
    client::{Account, Attempt, Disruption},
    harness::{lab::Region, shop::SHOP},
};

/// What the application was promised.
pub struct Promises {
    /// Recovery time objective.
    pub rto: Duration,
    /// Recovery point objective.
    pub rpo: Duration,
}

impl Promises {
    /// As the region has them.
    ///
    /// # Errors
    /// When the application is not there.
    pub fn read(region: &Region) -> Result<Self> {
        let application: Option<ProtectedApplication> = region.get(SHOP.name, SHOP.name)?;
        let objectives = application.context("there is no ProtectedApplication shop")?.spec.objectives;
        Ok(Self { rto: objectives.rto.duration(), rpo: objectives.rpo.duration() })
    }
}

/// What `report.json` holds. Times are in seconds.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// From the power loss to the first acknowledged write, as the client saw it.
    pub rto_seconds: f64,
    /// The age of the restored data at the power loss.
    pub rpo_seconds: f64,
    /// From the power loss to the decision to take over.
    pub detect_seconds: f64,
    /// From the beginning of the restore of volumes to the end of that of objects.
    pub restore_seconds: f64,
    /// From the beginning of the switch of traffic to the first acknowledged write.
    pub dns_seconds: f64,
    /// What became of the records.
    #[serde(flatten)]
    pub account: Account,
    /// Whether the first region came back as a stopped standby, with what it had written saved.
    pub fenced: bool,
}

impl Report {
    /// The figures, before the first region is back.
    ///
    /// # Errors
    /// When the failover's record lacks one of them.
    pub fn new(at: Disruption, failover: &Failover, first_write: &Attempt, account: Account) -> Result<Self> {
        let status = failover.status.as_ref().context("the failover has no status")?;
        let step = |name: StepName| {
            status.steps.iter().find(|it| it.name == name).with_context(|| format!("the failover has no step {name:?}"))
        };
        let decided = failover.metadata.creation_timestamp.as_ref().context("the failover has no time")?.0;
        let restored = step(StepName::RestoreObjects)?.finished_at.as_ref().context("the restore has no end")?.0;
        let consistent = status.consistent_at.as_ref().context("the failover names no point")?.0;
        Ok(Self {
            rto_seconds: seconds(at.began, first_write.ended_at),
            rpo_seconds: seconds(consistent, at.began),
            detect_seconds: seconds(at.began, decided),
            restore_seconds: seconds(step(StepName::RestoreVolumes)?.started_at.0, restored),
            dns_seconds: seconds(step(StepName::SwitchTraffic)?.started_at.0, first_write.ended_at),
            account,
            fenced: false,
        })
    }

    /// Figures against objectives.
    pub fn table(&self, promises: &Promises) -> String {
        let row = |what: &str, measured: String, promised: String, good: bool| {
            let verdict = if good { Cell::toned("kept", Tone::Good) } else { Cell::toned("BROKEN", Tone::Bad) };
            vec![Cell::plain(what), Cell::plain(measured), Cell::plain(promised), verdict]
        };
        let note = |what: &str, measured: String| vec![Cell::plain(what), Cell::plain(measured)];
        let count = |what: &str, count: usize| row(what, count.to_string(), "0".to_owned(), count == 0);
        let (rto, rpo) = (promises.rto.as_secs_f64(), promises.rpo.as_secs_f64());
        let rows = [
            row("RTO", told(self.rto_seconds), format!("<= {}", told(rto)), self.rto_seconds <= rto),
            note("  until it decided", told(self.detect_seconds)),
            note("  restore", told(self.restore_seconds)),
            note("  DNS until the first write", told(self.dns_seconds)),
            row("RPO", told(self.rpo_seconds), format!("<= {}", told(rpo)), self.rpo_seconds <= rpo),
            note("records acknowledged", self.account.acknowledged.to_string()),
            note("  lost, younger than the RPO", self.excused().to_string()),
            count("  lost, older than the RPO", self.account.lost_older_than_rpo),
            count("  lost, after the power loss", self.account.lost_afterwards),
            count("  duplicated", self.account.duplicated),
            count("  foreign", self.account.foreign),
        ];
        format!("\n{}", table(&["", "MEASURED", "PROMISED", ""], &rows, false))
    }

    /// One sentence.
    pub fn verdict(&self, promises: &Promises) -> String {
        let said = if self.held(promises) { "every promise was kept" } else { "a promise was BROKEN: see above" };
        said.to_owned()
    }

    /// Whether every promise was kept.
    pub fn held(&self, promises: &Promises) -> bool {
        let account = &self.account;
        let unexcused = account.lost_older_than_rpo + account.lost_afterwards;
        self.rto_seconds <= promises.rto.as_secs_f64()
            && self.rpo_seconds <= promises.rpo.as_secs_f64()
            && account.acknowledged > 0
            && unexcused + account.duplicated + account.foreign == 0
            && self.fenced
    }

    fn excused(&self) -> usize {
        self.account.lost.saturating_sub(self.account.lost_older_than_rpo + self.account.lost_afterwards)
    }
}

fn told(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// To the tenth.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.duration_since(from).as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_breaks_the_whole() {
        let promises = Promises { rto: Duration::from_mins(5), rpo: Duration::from_mins(1) };
        let good = || Report {
            rto_seconds: 120.0,
            rpo_seconds: 40.0,
            detect_seconds: 50.0,
            restore_seconds: 30.0,
            dns_seconds: 6.0,
            account: Account { acknowledged: 100, lost: 10, ..Account::default() },
            fenced: true,
        };
        assert!(good().held(&promises));
        let breaks: [fn(&mut Report); 7] = [
            |it| it.rto_seconds = 300.1,
            |it| it.rpo_seconds = 60.1,
            |it| it.account.acknowledged = 0,
            |it| it.account.lost_older_than_rpo = 1,
            |it| it.account.lost_afterwards = 1,
            |it| it.account.foreign = 1,
            |it| it.fenced = false,
        ];
        for (index, change) in breaks.into_iter().enumerate() {
            let mut report = good();
            change(&mut report);
            assert!(!report.held(&promises), "change {index}");
        }
    }
}
