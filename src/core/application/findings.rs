//! What people are told about an application: its conditions, and the events when one of them turns.

use jiff::SignedDuration;

use super::{Pass, Standing};
use crate::{
    api::application::{Role, Verdict},
    core::{
        claim::view::View,
        condition::{
            self, CLAIM_SOUND, COMPARE_AND_SWAP, COPIES_SOUND, COPIES_UP_TO_DATE, FAILOVER_ADVISED, FENCE_IN_TIME,
            Finding, HEALTHY, IMMUTABLE, READY, REGIONS_PRESENT, REPOSITORY_SOUND, RPO_MET, SOURCES_SOUND,
            TRAFFIC_PUBLISHED, Truth,
        },
        effect::Effect,
        vault,
        work::Progress,
    },
};

impl Pass<'_> {
    /// Puts the conditions together.
    pub(super) fn find(&mut self) {
        let mut findings = vec![self.claim_sound(), self.regions_present()];
        if self.status.role == Some(Role::Active) {
            findings.extend(self.sources_sound());
            findings.push(self.rpo_met());
            findings.extend(self.repository_sound());
            findings.extend(self.copies_up_to_date());
            findings.extend(self.copies_sound());
            findings.extend(self.traffic_published());
            findings.extend(self.immutable());
        }
        findings.extend(self.warm_finding());
        findings.extend(self.healthy());
        findings.extend(self.fence_in_time());
        findings.extend(self.advice_finding());
        let ready = self.ready(&findings);
        findings.insert(0, ready);
        self.announce(&findings);
        let generation = self.object.metadata.generation;
        self.status.conditions = condition::conditions(&self.status.conditions, findings, generation, self.now);
    }

    /// Whether the vault can be read and written.
    pub(super) fn vault_ready(&self) -> Result<(), String> {
        let name = self.vault_name();
        let Some(vault) = &self.seen.vault else {
            return Err(format!("spec.backup.vaults: there is no Vault '{name}' in this cluster"));
        };
        let conditions = vault.status.as_ref().map_or(&[][..], |it| &it.conditions);
        match condition::find(conditions, READY) {
            Some(it) if it.status == "True" => Ok(()),
            Some(it) => Err(format!("vault {name}: {}", it.message)),
            None => Err(format!("vault {name} was not tested yet")),
        }
    }

    /// Whether points may be made in the vault.
    pub(super) fn vault_takes_points(&self) -> Result<(), String> {
        self.vault_ready()?;
        self.seen.vault.as_deref().and_then(vault::unescrowed).map_or(Ok(()), Err)
    }

    /// Whether the vault can be trusted with claims.
    pub(super) fn vault_trusted(&self) -> Result<(), String> {
        self.vault_ready()?;
        let conditions =
            self.seen.vault.as_ref().and_then(|it| it.status.as_ref()).map_or(&[][..], |it| &it.conditions);
        match condition::find(conditions, COMPARE_AND_SWAP) {
            Some(it) if it.status == "True" => Ok(()),
            Some(it) => Err(format!("vault {}: {}", self.vault_name(), it.message)),
            None => Err(format!("vault {} was not tested yet", self.vault_name())),
        }
    }

    /// Whether the public name lies in a zone that can be changed.
    pub(super) fn zone_ready(&self) -> Result<(), (&'static str, String)> {
        let Some(traffic) = &self.object.spec.traffic else { return Ok(()) };
        let Some(zone) = &self.seen.zone else {
            return Err((
                "NoZone",
                format!("spec.traffic.zone: there is no DnsZone '{}' in this cluster", traffic.zone),
            ));
        };
        let apex = &zone.spec.zone;
        if traffic.hostname != *apex && !traffic.hostname.ends_with(&format!(".{apex}")) {
            let message = format!(
                "spec.traffic.hostname: {} does not lie in the zone {apex} of DnsZone '{}'",
                traffic.hostname, traffic.zone
            );
            return Err(("HostnameOutsideZone", message));
        }
        let conditions = zone.status.as_ref().map_or(&[][..], |it| &it.conditions);
        match condition::find(conditions, READY) {
            Some(it) if it.status == "True" => Ok(()),
            Some(it) => Err(("ZoneNotReady", format!("DnsZone {}: {}", traffic.zone, it.message))),
            None => Err(("ZoneNotReady", format!("DnsZone {} was not tested yet", traffic.zone))),
        }
    }

    fn claim_sound(&self) -> Finding {
        let finding = |truth: Truth, reason, message: String| Finding::new(CLAIM_SOUND, truth, reason, message);
        if let Err(message) = self.vault_trusted() {
            return finding(Truth::False, "VaultNotTrusted", message);
        }
        let Some(view) =
            self.seen.claim.as_ref().filter(|it| it.readable || it.last_error.is_some() || it.claim.is_some())
        else {
            return finding(Truth::Unknown, "NotRead", "the claim was not read yet".to_owned());
        };
        if let Some(conflict) = &view.conflict {
            return finding(Truth::False, "Conflict", conflict.clone());
        }
        if !view.readable {
            let why = view.last_error.as_deref().unwrap_or("no answer");
            return finding(Truth::False, "VaultUnreachable", format!("the claim cannot be read: {why}"));
        }
        if view.mine && !view.valid {
            return finding(
                Truth::False,
                "NotProven",
                "this region holds the claim, but its last renewal is too old".to_owned(),
            );
        }
        if let Some((reason, message)) = self.seal_refused(view) {
            return finding(Truth::False, reason, message);
        }
        if let Some(holder) = &view.holder {
            let epoch = view.epoch;
            finding(Truth::True, "Read", format!("{holder} holds it with epoch {epoch}"))
        } else {
            let first = self.object.spec.regions.first().map_or("", |it| it.name.as_str());
            finding(Truth::Unknown, "Unclaimed", format!("nobody holds it yet: {first} claims it first"))
        }
    }

    /// Why the catalogue is not sealed by this region, which holds the claim, and will not be by itself.
    fn seal_refused(&self, view: &View) -> Option<(&'static str, String)> {
        match self.seen.works.get("SealCatalogue").filter(|_| view.mine)? {
            Progress::Failed { failure, .. } if failure.lasting => Some((
                failure.reason,
                format!(
                    "this region holds the claim with epoch {}, but {}: no points are made (docs/claim.md, \"A claim in conflict\")",
                    view.epoch, failure.message
                ),
            )),
            Progress::Running => self.told(CLAIM_SOUND, "Sealed").map(|it| ("Sealed", it)),
            Progress::Failed { .. } | Progress::Done { .. } => None,
        }
    }

    fn regions_present(&self) -> Finding {
        let present = self.seen.vault.as_ref().and_then(|it| it.status.as_ref()).map_or(&[][..], |it| &it.regions);
        if !self.object.spec.regions.iter().any(|it| it.name == self.seen.region) {
            let message = format!(
                "spec.regions does not name {}, the region of this operator: nothing is done here",
                self.seen.region
            );
            return Finding::new(REGIONS_PRESENT, false, "NotHere", message);
        }
        let missing: Vec<_> = self
            .object
            .spec
            .regions
            .iter()
            .map(|it| it.name.as_str())
            .filter(|it| !present.iter().any(|there| there == it))
            .collect();
        if missing.is_empty() {
            return Finding::new(REGIONS_PRESENT, true, "AllPresent", "every region has an operator on this vault");
        }
        let message = format!(
            "spec.regions: no operator of {} has opened vault {} yet: correct the name, or install Reprise there with the same vault",
            missing.join(", "),
            self.vault_name()
        );
        Finding::new(REGIONS_PRESENT, false, "Missing", message)
    }

    fn rpo_met(&mut self) -> Finding {
        let rpo = self.object.spec.objectives.rpo;
        let Some(last) = self.status.last_point.clone() else {
            return Finding::new(
                RPO_MET,
                Truth::Unknown,
                "NoPoint",
                format!("there is no recovery point yet; {}", self.last_failure()),
            );
        };
        let until =
            last.consistent_at.0 + SignedDuration::from_secs(i64::try_from(rpo.as_secs()).unwrap_or(i64::MAX / 4));
        if until <= self.now {
            let message =
                format!("the newest point is of {}, older than {rpo}; {}", last.consistent_at.0, self.last_failure());
            return Finding::new(RPO_MET, false, "TooOld", message);
        }
        self.look_at(until + SignedDuration::from_secs(1));
        if !self.rhythm().sufficient {
            let message = format!(
                "a point takes so long that {rpo} cannot be kept: raise objectives.rpo, or give movers more throughput"
            );
            return Finding::new(RPO_MET, false, "BackupsTooSlow", message);
        }
        Finding::new(RPO_MET, true, "Met", format!("the newest point is younger than {rpo}"))
    }

    /// Told from the first suspicious point on: it turns when a later point counts.
    pub(super) fn sources_sound(&self) -> Option<Finding> {
        let newest = self
            .statuses()
            .filter(|it| condition::is_true(&it.conditions, condition::SUCCEEDED) || !it.suspicious.is_empty());
        let newest = newest.max_by_key(|it| it.id.as_ref())?;
        if newest.suspicious.is_empty() {
            condition::find(&self.status.conditions, SOURCES_SOUND)?;
            return Some(Finding::new(
                SOURCES_SOUND,
                true,
                "AsBefore",
                "the newest point has what those before it had",
            ));
        }
        let message = format!(
            "{} does not count, and retention drops nothing: {}. If that is meant: kubectl reprise backup {}",
            newest.id.as_deref().unwrap_or_default(),
            newest.suspicious.join("; "),
            self.key.name
        );
        Some(Finding::new(SOURCES_SOUND, false, "Suspicious", message))
    }

    /// Why the newest ended point did not come to be.
    fn last_failure(&self) -> String {
        if let Some(damaged) = self.newer_damaged() {
            return damaged;
        }
        let ended = self.own_points().filter_map(|it| it.status.as_ref()).filter(|it| condition::ended(&it.conditions));
        let newest = ended.max_by_key(|it| it.finished_at.as_ref().map(|at| at.0));
        match newest.and_then(|it| condition::find(&it.conditions, condition::SUCCEEDED)) {
            Some(it) if it.status == "False" => format!("the last one failed: {}", it.message),
            Some(_) | None if self.left_half().is_some() => self.half_restored().unwrap_or_default(),
            Some(_) | None => match self.vault_takes_points() {
                Ok(()) => "the next one is on its way".to_owned(),
                Err(why) => why,
            },
        }
    }

    fn traffic_published(&self) -> Option<Finding> {
        let traffic = self.object.spec.traffic.as_ref()?;
        if let Err((reason, message)) = self.zone_ready() {
            return Some(Finding::new(TRAFFIC_PUBLISHED, false, reason, message));
        }
        if let Some((reason, message)) = self.publish_failure() {
            return Some(Finding::new(TRAFFIC_PUBLISHED, false, reason, message));
        }
        let finding = match (&self.seen.address, &self.status.published) {
            (Err(why), _) => Finding::new(TRAFFIC_PUBLISHED, false, "NoAddress", why.clone()),
            (Ok(address), Some(it))
                if it.address == *address && Some(it.epoch) == self.status.epoch && it.hostname == traffic.hostname =>
            {
                Finding::new(TRAFFIC_PUBLISHED, true, "Published", format!("{} leads to {address}", traffic.hostname))
            }
            (Ok(address), _) => Finding::new(
                TRAFFIC_PUBLISHED,
                Truth::Unknown,
                "Publishing",
                format!("{} is being given the address {address}", traffic.hostname),
            ),
        };
        Some(finding)
    }

    /// Nothing hangs on it: it says beforehand what a stop would show.
    fn fence_in_time(&self) -> Option<Finding> {
        let (workload, seconds) = self.seen.slowest.as_ref()?;
        let fence = self.object.spec.claim.fence.as_secs();
        if *seconds <= fence {
            let message = format!("no workload takes longer to stop than claim.fence, {fence} s");
            return Some(Finding::new(FENCE_IN_TIME, true, "InTime", message));
        }
        let message = format!(
            "{workload}: its pods may take {seconds} s to stop (terminationGracePeriodSeconds), claim.fence allows {fence} s: \
             lower the one, or raise spec.claim.fence, and spec.claim.wait with it"
        );
        Some(Finding::new(FENCE_IN_TIME, false, "GraceTooLong", message))
    }

    fn healthy(&self) -> Option<Finding> {
        if !self.seen.unaskable.is_empty() {
            return Some(Finding::new(HEALTHY, Truth::Unknown, "ProbeInvalid", self.seen.unaskable.join("; ")));
        }
        let health = self.status.health.as_ref()?;
        let reasons = health.reasons.join("; ");
        Some(match health.verdict {
            Verdict::Healthy => Finding::new(HEALTHY, true, "Healthy", "every probe is answered"),
            Verdict::Unhealthy => Finding::new(HEALTHY, false, "Unhealthy", reasons),
            Verdict::Unknown => Finding::new(HEALTHY, Truth::Unknown, "Unknown", reasons),
        })
    }

    /// The sum: the first thing that is wrong, in the order of what a person should mend first. Of what a failover restores
    /// from, damage and short locks count too, once they are known: the vault does not hold what was promised. A second vault
    /// that is behind does not count, nor does a standby that is not warm: the objectives are kept without.
    fn ready(&self, findings: &[Finding]) -> Finding {
        let first = |types: &[&str], bad: fn(Truth) -> bool| {
            let it = findings.iter().find(|it| types.contains(&it.type_) && bad(it.truth))?;
            Some(Finding::new(READY, it.truth, it.reason, it.message.clone()))
        };
        let wrong = |types: &[&str]| first(types, |it| it != Truth::True);
        let known_wrong = |types: &[&str]| first(types, |it| it == Truth::False);
        let role = self.status.role;
        let first = wrong(&[CLAIM_SOUND]).or_else(|| wrong(&[REGIONS_PRESENT])).or_else(|| match role {
            Some(Role::Active) if self.left_half().is_some() => {
                self.half_restored().map(|it| Finding::new(READY, false, "HalfRestored", it))
            }
            Some(Role::Active) => wrong(&[HEALTHY, SOURCES_SOUND, RPO_MET, TRAFFIC_PUBLISHED])
                .or_else(|| known_wrong(&[REPOSITORY_SOUND, IMMUTABLE])),
            Some(Role::Activating | Role::Fencing | Role::Standby | Role::Unknown) | None => None,
        });
        if let Some(finding) = first {
            return finding;
        }
        let failed = "it holds the claim, but no failover to here has succeeded yet: see its Failover, or make another";
        match role {
            Some(Role::Active) => Finding::new(READY, true, "Active", "it serves here, and its objectives are kept"),
            Some(Role::Standby) => Finding::new(READY, true, "Standby", "another region serves; this one stands by"),
            Some(Role::Activating) => Finding::new(READY, Truth::Unknown, "Activating", failed),
            Some(Role::Fencing) => self.stopping_or_starting(),
            Some(Role::Unknown) | None => {
                Finding::new(READY, Truth::Unknown, "Unknown", "the role of this region is not known yet")
            }
        }
    }

    /// How far the copy is that was stopped here, or that is started again because nobody else took the claim.
    fn stopping_or_starting(&self) -> Finding {
        match self.seen.claim.as_ref().map(|it| self.standing(it)) {
            Some(Standing::Resuming | Standing::Serving) => {}
            Some(Standing::Arriving | Standing::Yielding | Standing::Foreign | Standing::Unclear) | None => {
                return Finding::new(READY, Truth::Unknown, "Fencing", "this region's copy is being stopped and saved");
            }
        }
        let failure = match self.seen.works.get("StartWorkloads") {
            Some(Progress::Failed { failure, .. }) => {
                Some(format!("this region's copy cannot be started: {}", failure.message))
            }
            Some(Progress::Running) => self.told(READY, "NotStarted"),
            Some(Progress::Done { .. }) | None => None,
        };
        match failure {
            Some(message) => Finding::new(READY, false, "NotStarted", message),
            None => Finding::new(
                READY,
                Truth::Unknown,
                "Resuming",
                "nobody else took the claim: this region's copy is being started again",
            ),
        }
    }

    /// The message of a condition that is told with this reason: until the next attempt has ended, it stays.
    fn told(&self, type_: &str, reason: &str) -> Option<String> {
        condition::find(&self.status.conditions, type_).filter(|it| it.reason == reason).map(|it| it.message.clone())
    }

    /// One event for each condition that turned bad, or good again.
    fn announce(&mut self, findings: &[Finding]) {
        for it in findings {
            let old = condition::find(&self.status.conditions, it.type_);
            // Of this one alone `True` is bad news. Of some, bad news is told also when nothing was said before.
            let advice = it.type_ == FAILOVER_ADVISED;
            let bad = advice == (it.truth == Truth::True);
            let first = advice || [SOURCES_SOUND, REPOSITORY_SOUND, COPIES_SOUND].contains(&it.type_);
            let turned = old.map_or(first && bad, |old| old.status != it.truth.as_str());
            let worth = [
                CLAIM_SOUND,
                SOURCES_SOUND,
                REPOSITORY_SOUND,
                RPO_MET,
                COPIES_UP_TO_DATE,
                COPIES_SOUND,
                HEALTHY,
                TRAFFIC_PUBLISHED,
                IMMUTABLE,
                FAILOVER_ADVISED,
            ];
            if turned && worth.contains(&it.type_) && it.truth != Truth::Unknown {
                let note = format!("{}: {}", it.type_, it.message);
                let tell = if bad { Effect::warn } else { Effect::note };
                self.effects.push(tell(it.reason, note));
            }
        }
    }
}
