//! Whether an application is well, judged from the answers of its probes; and when that is reason for suspicion.
//!
//! It asks nothing: answers are handed to it with the time they were got at. The same answers give the same health,
//! word for word, so that a status is written only when something changed.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::api::application::Verdict;

/// The last answers of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    failures: usize,
    of: usize,
    answers: VecDeque<Answered>,
    failing_since: Option<Timestamp>,
    reason: String,
}

/// One answer: why it was bad, or nothing when it was good.
#[derive(Clone, Debug, PartialEq)]
struct Answered {
    at: Timestamp,
    bad: Option<String>,
}

impl Window {
    /// An empty window: the probe is failing when `failures` of the last `of` answers were bad. Both are at least 1,
    /// and `failures` at most `of`: what lies outside is brought to the nearest that makes sense.
    #[must_use]
    pub fn new(failures: u32, of: u32) -> Self {
        let of = usize::try_from(of).unwrap_or(usize::MAX).clamp(1, 60);
        let failures = usize::try_from(failures).unwrap_or(usize::MAX).clamp(1, of);
        Self { failures, of, answers: VecDeque::with_capacity(of), failing_since: None, reason: String::new() }
    }

    /// Takes an answer in: `bad` says why it was bad.
    pub fn record(&mut self, at: Timestamp, bad: Option<&str>) {
        if self.answers.len() == self.of {
            self.answers.pop_front();
        }
        self.answers.push_back(Answered { at, bad: bad.map(str::to_owned) });
        let failed: Vec<_> = self.answers.iter().filter_map(|it| Some((it.at, it.bad.as_ref()?))).collect();
        let Some((first_at, first_reason)) = failed.first().filter(|_| failed.len() >= self.failures).copied() else {
            self.failing_since = None;
            return;
        };
        // A reason that changes with every answer would change the status with every answer: a new one is taken
        // when it stands in every bad answer that is looked at.
        if self.failing_since.is_none() {
            bad.unwrap_or(first_reason).clone_into(&mut self.reason);
        } else if failed.iter().all(|(_, it)| *it == first_reason) {
            self.reason.clone_from(first_reason);
        }
        // The disruption began with the first of the bad answers that made it fail, not when they were enough.
        self.failing_since.get_or_insert(first_at);
    }

    /// Unknown until an answer was good, or enough of them were bad.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.failing_since.is_some() {
            Verdict::Unhealthy
        } else if self.answers.iter().any(|it| it.bad.is_none()) {
            Verdict::Healthy
        } else {
            Verdict::Unknown
        }
    }

    /// The time of the first bad answer of those that make it fail.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    fn was_good_until(&self, oldest: Timestamp) -> bool {
        self.answers.back().is_some_and(|it| it.at < oldest && it.bad.is_none())
    }

    fn clear(&mut self) {
        *self = Self { answers: VecDeque::new(), failing_since: None, reason: String::new(), ..*self };
    }
}

/// How an application looks from here.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one entry for each probe that fails or has not answered, sorted by probe: `web: connection refused`.
    pub reasons: Vec<String>,
    /// Since when the verdict stands.
    pub since: Timestamp,
    /// When the first bad answer came of those that made it unhealthy: the disruption, from which an RTO counts.
    /// Absent unless the verdict is `Unhealthy`.
    pub disrupted_at: Option<Timestamp>,
}

/// The probes of one application, and the health that follows from their answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    probes: BTreeMap<String, Window>,
    health: Health,
}

impl Monitor {
    /// Without probes: unknown.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let health =
            Health { verdict: Verdict::Unknown, reasons: vec!["no probe".to_owned()], since: now, disrupted_at: None };
        Self { probes: BTreeMap::new(), health }
    }

    /// How it looks now.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Adds a probe, or begins it anew. Says whether the verdict or its reasons changed, as all of these do.
    pub fn add(&mut self, probe: &str, window: Window, now: Timestamp) -> bool {
        self.probes.insert(probe.to_owned(), window);
        self.judge(now)
    }

    /// Takes a probe out.
    pub fn remove(&mut self, probe: &str, now: Timestamp) -> bool {
        self.probes.remove(probe).is_some() && self.judge(now)
    }

    /// Takes an answer in. An answer of a probe that is not there is ignored.
    pub fn record(&mut self, probe: &str, at: Timestamp, bad: Option<&str>) -> bool {
        let Some(window) = self.probes.get_mut(probe) else { return false };
        window.record(at, bad);
        self.judge(at)
    }

    /// Forgets the answers of a probe whose last one was good and is from before `oldest`: an answer that no longer
    /// comes is not a good one. Bad ones are kept: when everything fails at once, answers are late.
    pub fn expire(&mut self, probe: &str, oldest: Timestamp, now: Timestamp) -> bool {
        match self.probes.get_mut(probe) {
            Some(window) if window.was_good_until(oldest) => window.clear(),
            Some(_) | None => return false,
        }
        self.judge(now)
    }

    fn judge(&mut self, now: Timestamp) -> bool {
        let of = |verdict| self.probes.iter().filter(move |(_, window)| window.verdict() == verdict);
        let failing: Vec<_> = of(Verdict::Unhealthy).collect();
        let waiting: Vec<_> = of(Verdict::Unknown).map(|(name, _)| format!("{name}: no good answer yet")).collect();
        let (verdict, reasons) = if !failing.is_empty() {
            (Verdict::Unhealthy, failing.iter().map(|(name, it)| format!("{name}: {}", it.reason)).collect())
        } else if self.probes.is_empty() {
            (Verdict::Unknown, vec!["no probe".to_owned()])
        } else if !waiting.is_empty() {
            (Verdict::Unknown, waiting)
        } else {
            (Verdict::Healthy, Vec::new())
        };
        let disrupted_at = match verdict {
            // Kept as long as it is unhealthy, also when the probe that failed first has recovered meanwhile.
            Verdict::Unhealthy => {
                failing.iter().filter_map(|(_, it)| it.failing_since()).chain(self.health.disrupted_at).min()
            }
            Verdict::Healthy | Verdict::Unknown => None,
        };
        let since = if verdict == self.health.verdict { self.health.since } else { now };
        let changed = (verdict, &reasons) != (self.health.verdict, &self.health.reasons);
        self.health = Health { verdict, reasons, since, disrupted_at };
        changed
    }
}

/// What one standby region knows when it asks itself whether the serving region is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence<'a> {
    /// How the application looks from here.
    pub own: &'a Health,
    /// How it looks to the region that holds the claim, as that region last wrote. None when nothing was read.
    pub holder: Option<HolderView>,
    /// Whether the claim has not been renewed for as long as its law asks for.
    pub holder_silent: bool,
    /// Whether the vault answers from here.
    pub vault_reachable: bool,
    /// Whether this region's API server answers.
    pub api_reachable: bool,
    /// `health.confirm.vantages`.
    pub vantages: u32,
}

/// What the holder says of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderView {
    /// Whether it looks well to it.
    pub healthy: bool,
    /// Whether that was written recently enough to count.
    pub fresh: bool,
}

/// Whether the serving region may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Enough vantage points say so.
    Suspected {
        /// One entry for each of them.
        evidence: Vec<String>,
    },
    /// Something looks bad, but it cannot be told from a fault of this region, or too few say so.
    Abstain {
        /// Why nothing follows from it.
        reason: String,
    },
    /// Nothing looks bad.
    None,
}

/// Rule 12 of the claim: suspicion needs evidence from enough vantage points, and my own controls reachable.
///
/// An application that is not seen failing from here is never suspected, however few vantage points are asked for: its
/// operator may be gone, but it serves.
#[must_use]
pub fn suspicion(it: &Evidence<'_>) -> Suspicion {
    let abstain = |reason: &str| Suspicion::Abstain { reason: reason.to_owned() };
    let seen_failing = match it.own.verdict {
        Verdict::Unhealthy => true,
        Verdict::Healthy | Verdict::Unknown => false,
    };
    let told_failing = it.holder.is_some_and(|view| view.fresh && !view.healthy);
    if !seen_failing && !told_failing && !it.holder_silent {
        return Suspicion::None;
    }
    if !it.vault_reachable {
        return abstain("the vault does not answer here either: the fault may be this region's network");
    }
    if !it.api_reachable {
        return abstain("this region's API server does not answer: the fault may be here");
    }
    match it.own.verdict {
        Verdict::Unhealthy => {}
        Verdict::Healthy if it.holder_silent => {
            return abstain("the holder is silent, but the application answers when it is asked from here");
        }
        Verdict::Healthy => {
            return abstain("the holder says that the application fails, but it answers when it is asked from here");
        }
        Verdict::Unknown => {
            return abstain("the application's health is not known here: its probes decide, and none has");
        }
    }
    let mut evidence = vec![format!("seen from here: {}", it.own.reasons.join("; "))];
    // The holder is one vantage point: silent and unhealthy is not two.
    if it.holder_silent {
        evidence.push("the holder no longer renews its claim".to_owned());
    } else if told_failing {
        evidence.push("the holder itself says that the application fails".to_owned());
    }
    let wanted = usize::try_from(it.vantages.max(1)).unwrap_or(usize::MAX);
    if evidence.len() >= wanted {
        return Suspicion::Suspected { evidence };
    }
    let other = match it.holder {
        Some(HolderView { fresh: true, healthy: true }) => ", and the holder says that the application is well",
        Some(HolderView { .. }) | None => "",
    };
    let reason = format!(
        "it looks bad from {} of the {wanted} vantage points that health.confirm.vantages asks for{other}",
        evidence.len()
    );
    Suspicion::Abstain { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// A monitor with one probe `web`, fed with one answer every ten seconds: `.` is good, other letters are reasons.
    fn fed(failures: u32, of: u32, answers: &str) -> Monitor {
        let mut it = Monitor::new(at(0));
        it.add("web", Window::new(failures, of), at(0));
        for (count, answer) in answers.chars().enumerate() {
            let reason = answer.to_string();
            it.record("web", at(10 * i64::try_from(count).unwrap()), (answer != '.').then_some(reason.as_str()));
        }
        it
    }

    #[test]
    fn without_probes_nothing_is_known() {
        let it = Monitor::new(at(0));
        assert_eq!((it.health().verdict, &it.health().reasons[0][..]), (Verdict::Unknown, "no probe"));
    }

    #[test]
    fn it_is_unknown_until_each_probe_answered_well() {
        let mut it = fed(3, 3, ".");
        assert_eq!(it.health().verdict, Verdict::Healthy);
        assert!(it.add("db", Window::new(3, 3), at(20)));
        assert_eq!(it.health().verdict, Verdict::Unknown);
        assert_eq!(it.health().reasons, ["db: no good answer yet"]);
        assert!(!it.record("db", at(30), Some("refused")), "one bad answer of three settles nothing");
        assert!(it.record("db", at(40), None));
        assert_eq!(
            *it.health(),
            Health { verdict: Verdict::Healthy, reasons: vec![], since: at(40), disrupted_at: None }
        );
    }

    #[test]
    fn m_of_n_bad_answers_fail_a_probe_and_fewer_do_not() {
        for (failures, of, answers, verdict) in [
            (3, 3, "..xx", Verdict::Healthy),
            (3, 3, "..xxx", Verdict::Unhealthy),
            (3, 3, "..xxx.", Verdict::Healthy),
            (2, 5, "x..x", Verdict::Unhealthy),
            (2, 5, "x...x.", Verdict::Healthy),
            (2, 5, "x....x", Verdict::Healthy),
            (1, 1, ".x", Verdict::Unhealthy),
            (3, 3, "xx", Verdict::Unknown),
            (3, 3, "xxx", Verdict::Unhealthy),
        ] {
            assert_eq!(fed(failures, of, answers).health().verdict, verdict, "{failures} of {of}: {answers}");
        }
    }

    #[test]
    fn the_disruption_starts_at_the_first_bad_answer_and_the_verdict_when_they_are_enough() {
        let it = fed(3, 3, "..xxxxxx");
        assert_eq!(it.health().disrupted_at, Some(at(20)));
        assert_eq!(it.health().since, at(40));
        let mixed = fed(3, 5, "..x.xx");
        assert_eq!(mixed.health().disrupted_at, Some(at(20)));
        assert_eq!(fed(3, 3, "xxx.xxx").health().disrupted_at, Some(at(40)), "a good answer ends a disruption");
    }

    #[test]
    fn the_disruption_is_kept_while_another_probe_goes_on_failing() {
        let mut it = fed(1, 1, ".x");
        it.add("db", Window::new(1, 1), at(15));
        it.record("db", at(30), Some("refused"));
        it.record("web", at(40), None);
        assert_eq!(it.health().reasons, ["db: refused"]);
        assert_eq!((it.health().disrupted_at, it.health().since), (Some(at(10)), at(10)));
        it.record("db", at(50), None);
        assert_eq!(it.health().disrupted_at, None);
    }

    #[test]
    fn only_a_change_of_verdict_or_reasons_is_a_change() {
        let mut it = fed(3, 3, "..xxx");
        assert!(!it.record("web", at(60), Some("x")));
        assert!(!it.record("web", at(70), Some("y")), "reasons that alternate are not told");
        assert!(!it.record("web", at(80), Some("y")));
        assert!(it.record("web", at(90), Some("y")), "a reason that lasts is");
        assert_eq!(it.health().reasons, ["web: y"]);
        assert!(it.record("web", at(100), None));
        assert!(!it.record("web", at(110), None));
        assert!(!it.record("gone", at(120), Some("x")), "an answer of a probe that was removed is ignored");
    }

    #[test]
    fn a_removed_probe_no_longer_counts() {
        let mut it = fed(1, 1, "x");
        it.add("db", Window::new(1, 1), at(0));
        it.record("db", at(5), None);
        assert!(it.remove("web", at(20)));
        assert_eq!(it.health().verdict, Verdict::Healthy);
        assert!(!it.remove("web", at(20)));
    }

    #[test]
    fn answers_that_no_longer_come_are_not_good_ones() {
        let mut it = fed(3, 3, "....");
        assert!(!it.expire("web", at(30), at(60)));
        assert!(it.expire("web", at(31), at(60)));
        assert_eq!(it.health().verdict, Verdict::Unknown);
        let mut late = fed(3, 3, ".xx");
        assert!(!late.expire("web", at(1_000), at(1_000)));
        assert!(late.record("web", at(1_000), Some("x")));
        assert_eq!(late.health().verdict, Verdict::Unhealthy, "late answers count");
    }

    fn seen(verdict: Verdict) -> Health {
        let reasons = if verdict == Verdict::Unhealthy { vec!["web: no answer".to_owned()] } else { vec![] };
        Health { verdict, reasons, since: at(0), disrupted_at: None }
    }

    fn evidence(own: &Health) -> Evidence<'_> {
        Evidence { own, holder: None, holder_silent: true, vault_reachable: true, api_reachable: true, vantages: 2 }
    }

    #[test]
    fn seen_failing_from_here_and_a_silent_holder_are_two_vantage_points() {
        let own = seen(Verdict::Unhealthy);
        assert_eq!(
            suspicion(&evidence(&own)),
            Suspicion::Suspected {
                evidence: vec!["seen from here: web: no answer".into(), "the holder no longer renews its claim".into()]
            }
        );
        let told = Evidence {
            holder_silent: false,
            holder: Some(HolderView { healthy: false, fresh: true }),
            ..evidence(&own)
        };
        assert!(matches!(suspicion(&told), Suspicion::Suspected { evidence } if evidence.len() == 2));
    }

    #[test]
    fn a_silent_holder_that_last_said_unhealthy_counts_once() {
        let own = seen(Verdict::Unhealthy);
        let it = Evidence { holder: Some(HolderView { healthy: false, fresh: true }), vantages: 3, ..evidence(&own) };
        assert!(matches!(suspicion(&it), Suspicion::Abstain { reason } if reason.contains("2 of the 3")));
    }

    #[test]
    fn what_may_be_my_own_fault_is_no_evidence() {
        let own = seen(Verdict::Unhealthy);
        for it in
            [Evidence { vault_reachable: false, ..evidence(&own) }, Evidence { api_reachable: false, ..evidence(&own) }]
        {
            assert!(matches!(suspicion(&it), Suspicion::Abstain { .. }), "{it:?}");
        }
    }

    #[test]
    fn one_vantage_point_is_not_two() {
        let own = seen(Verdict::Unhealthy);
        let well = Evidence {
            holder_silent: false,
            holder: Some(HolderView { healthy: true, fresh: true }),
            ..evidence(&own)
        };
        assert!(
            matches!(suspicion(&well), Suspicion::Abstain { reason } if reason.contains("1 of the 2") && reason.contains("is well"))
        );
        let stale = Evidence {
            holder_silent: false,
            holder: Some(HolderView { healthy: false, fresh: false }),
            ..evidence(&own)
        };
        assert!(matches!(suspicion(&stale), Suspicion::Abstain { .. }));
        assert!(matches!(suspicion(&Evidence { vantages: 1, ..well }), Suspicion::Suspected { .. }));
    }

    #[test]
    fn an_application_that_is_not_seen_failing_is_never_suspected() {
        for verdict in [Verdict::Healthy, Verdict::Unknown] {
            for holder_silent in [false, true] {
                for holder in [None, Some(HolderView { healthy: false, fresh: true })] {
                    for vantages in [0, 1, 2] {
                        let own = seen(verdict);
                        let it = Evidence { holder, holder_silent, vantages, ..evidence(&own) };
                        assert!(!matches!(suspicion(&it), Suspicion::Suspected { .. }), "{it:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn when_nothing_looks_bad_there_is_nothing_to_say() {
        let own = seen(Verdict::Healthy);
        let it = Evidence { holder_silent: false, vault_reachable: false, ..evidence(&own) };
        assert_eq!(suspicion(&it), Suspicion::None);
    }
}
