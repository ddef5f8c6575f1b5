//! What to do about a `Vault`: open it, test it at start and daily, and say what is wrong with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    condition::{self, COMPARE_AND_SWAP, Finding, READY, Truth},
    effect::{Decision, Effect},
    work::{Outcome, Seen, Work, Works, see},
};
use crate::api::vault::{Vault, VaultSpec, VaultStatus};

/// How often a vault that passed is tested again.
const TEST_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How often the regions that use a vault are asked for.
const LIST_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// Everything that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Work in progress. A changed vault or Secret starts with none: the shell forgets the old.
    pub works: Works,
}

/// Where a vault lies, for people.
#[must_use]
pub fn location(spec: &VaultSpec) -> String {
    match (&spec.s3, &spec.azure, &spec.directory) {
        (Some(s3), ..) => {
            let prefix = s3.prefix.as_ref().map_or(String::new(), |it| format!("/{it}"));
            let server = s3.endpoint.as_deref().unwrap_or("AWS");
            format!("s3://{}{prefix} ({server})", s3.bucket)
        }
        (None, Some(azure), _) => {
            let prefix = azure.prefix.as_ref().map_or(String::new(), |it| format!("/{it}"));
            let server = azure.endpoint.as_ref().map_or(String::new(), |it| format!(", {it}"));
            format!("azure://{}{prefix} ({}{server})", azure.container, azure.account)
        }
        (None, None, Some(directory)) => format!("directory of claim {}", directory.claim_name),
        (None, None, None) => "nowhere".to_owned(),
    }
}

/// Decides what to do about `vault`.
#[must_use]
pub fn decide(vault: &Vault, seen: &Observed, now: Timestamp) -> Decision<VaultStatus> {
    let mut status = vault.status.clone().unwrap_or_default();
    let generation = vault.metadata.generation;
    status.observed_generation = generation;
    status.location = Some(location(&vault.spec));
    let name = vault.name_any();
    let mut effects = Vec::new();
    let mut recheck = Duration::from_mins(1);
    let findings = match see(&seen.works, "TestVault", now) {
        Seen::Done(Outcome::VaultTested { id, failures, regions }, at) => {
            status.id = Some(id.clone());
            status.tested_at = Some(Time(at));
            status.regions.clone_from(regions);
            if at + TEST_EVERY <= now {
                effects.push(Effect::Begin(Box::new(Work::TestVault { vault: name.clone() })));
            }
            list_regions(&mut status, &mut effects, seen, &name, at, now);
            tested(failures)
        }
        Seen::Done(..) => Vec::new(),
        Seen::Due(failure) => {
            effects.push(Effect::Begin(Box::new(Work::TestVault { vault: name })));
            recheck = Duration::from_secs(15);
            untested(failure.map(|it| (it.reason, it.message.clone())))
        }
        Seen::Waiting(failure) => {
            recheck = Duration::from_secs(15);
            untested(failure.map(|it| (it.reason, it.message.clone())))
        }
    };
    // While a first or a repeated test goes on, what was found last stands: a restart of the operator is no news.
    if !findings.is_empty() {
        let event = announce(&status, &findings);
        effects.extend(event);
        status.conditions = condition::conditions(&status.conditions, findings, generation, now);
    }
    Decision { status, effects, recheck: Some(recheck) }
}

fn list_regions(
    status: &mut VaultStatus,
    effects: &mut Vec<Effect>,
    seen: &Observed,
    name: &str,
    tested_at: Timestamp,
    now: Timestamp,
) {
    let due = match see(&seen.works, "ListRegions", now) {
        Seen::Done(Outcome::Regions(regions), at) => {
            status.regions.clone_from(regions);
            at + LIST_EVERY <= now
        }
        Seen::Due(_) => tested_at + SignedDuration::from_secs(30) <= now,
        Seen::Waiting(_) | Seen::Done(..) => false,
    };
    if due {
        effects.push(Effect::Begin(Box::new(Work::ListRegions { vault: name.to_owned() })));
    }
}

fn tested(failures: &[String]) -> Vec<Finding> {
    let swap = if failures.is_empty() {
        Finding::new(COMPARE_AND_SWAP, true, "Passed", "conditional writes are honoured, also in a race")
    } else {
        let message = format!(
            "this server cannot be trusted with claims, so nothing is failed over on it: {}. Use one that honours If-None-Match and If-Match atomically",
            failures.join("; ")
        );
        Finding::new(COMPARE_AND_SWAP, false, "Failed", message)
    };
    vec![Finding::new(READY, true, "Opened", "it can be read and written, and the key is its own"), swap]
}

fn untested(failure: Option<(&'static str, String)>) -> Vec<Finding> {
    let Some((reason, message)) = failure else { return Vec::new() };
    vec![
        Finding::new(READY, false, reason, message),
        Finding::new(COMPARE_AND_SWAP, Truth::Unknown, "NotTested", "the vault could not be opened"),
    ]
}

/// One event for each change of truth.
fn announce(status: &VaultStatus, findings: &[Finding]) -> Vec<Effect> {
    let changed = findings
        .iter()
        .filter(|it| condition::find(&status.conditions, it.type_).is_none_or(|old| old.status != it.truth.as_str()));
    changed
        .filter(|it| it.truth != Truth::Unknown)
        .map(|it| match it.truth {
            Truth::True => Effect::note(it.reason, format!("{}: {}", it.type_, it.message)),
            Truth::False | Truth::Unknown => Effect::warn(it.reason, format!("{}: {}", it.type_, it.message)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::vault::{Directory, Encryption, SecretName},
        core::work::{Failure, Progress},
    };

    const NOON: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn vault() -> Vault {
        let spec = VaultSpec {
            s3: None,
            azure: None,
            proxy: None,
            limits: None,
            directory: Some(Directory { claim_name: "nfs".into() }),
            encryption: Encryption { secret: SecretName { name: "key".into() } },
        };
        Vault::new("main", spec)
    }

    fn after(progress: Progress) -> Observed {
        Observed { works: Works::from([("TestVault", progress)]) }
    }

    fn done(failures: &[&str]) -> Progress {
        let failures = failures.iter().map(|it| (*it).to_owned()).collect();
        let outcome = Outcome::VaultTested { id: "v".into(), failures, regions: vec!["eu-west".into()] };
        Progress::Done { at: NOON, work: Box::new(Work::TestVault { vault: "main".into() }), outcome }
    }

    #[test]
    fn a_new_vault_is_tested() {
        let decision = decide(&vault(), &Observed::default(), NOON);
        assert_eq!(decision.effects, [Effect::Begin(Box::new(Work::TestVault { vault: "main".into() }))]);
    }

    #[test]
    fn a_server_that_loses_races_is_ready_but_not_trusted() {
        let decision = decide(&vault(), &after(done(&["two writers won"])), NOON);
        assert!(condition::is_true(&decision.status.conditions, READY));
        assert!(!condition::is_true(&decision.status.conditions, COMPARE_AND_SWAP));
    }

    #[test]
    fn a_passed_test_is_announced_once_and_repeated_after_a_day() {
        let mut vault = vault();
        let first = decide(&vault, &after(done(&[])), NOON);
        assert_eq!(first.effects.len(), 2, "{:?}", first.effects);
        vault.status = Some(first.status.clone());
        let second = decide(&vault, &after(done(&[])), NOON + SignedDuration::from_secs(20));
        assert_eq!((second.effects, second.status), (vec![], first.status));
        let third = decide(&vault, &after(done(&[])), NOON + TEST_EVERY);
        assert!(third.effects.contains(&Effect::Begin(Box::new(Work::TestVault { vault: "main".into() }))));
    }

    #[test]
    fn a_failure_says_what_to_do_and_is_tried_again_later() {
        let failure = Failure { reason: "WrongKey", message: "spec.encryption.secret: wrong".into(), lasting: false };
        let failed = |times| after(Progress::Failed { at: NOON, times, failure: failure.clone() });
        let at_once = decide(&vault(), &failed(3), NOON);
        let ready =
            condition::find(&at_once.status.conditions, READY).map(|it| (it.reason.as_str(), it.message.as_str()));
        assert_eq!(ready, Some(("WrongKey", "spec.encryption.secret: wrong")));
        assert!(!at_once.effects.iter().any(|it| matches!(it, Effect::Begin(_))));
        let later = decide(&vault(), &failed(3), NOON + SignedDuration::from_secs(4));
        assert!(later.effects.iter().any(|it| matches!(it, Effect::Begin(_))));
    }
}
