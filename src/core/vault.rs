//! What to do about a `Vault`: open it, test it at start and daily, and say what is wrong with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    condition::{self, COMPARE_AND_SWAP, Finding, IMMUTABLE, KEY_ESCROWED, READY, Truth},
    effect::{Decision, Effect},
    work::{Outcome, Seen, Work, Works, see},
};
use crate::api::vault::{Vault, VaultSpec, VaultStatus};

/// How often a vault that passed is tested again.
const TEST_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How often the regions that use a vault are asked for.
const LIST_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// The reason of a condition that is `False` since its spec does not ask for it: news to nobody.
pub const NOT_ASKED: &str = "NotAsked";
/// The annotation that says who has a copy of the key.
pub const KEY_CONFIRMED: &str = "reprise.dev/key-confirmed";

/// Everything that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Work in progress. A changed vault or Secret starts with none: the shell forgets the old.
    pub works: Works,
    /// The id of the key in the vault's Secret, as it was last read.
    pub key: Option<String>,
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
    let here = location(&vault.spec);
    if status.location.as_ref().is_some_and(|it| *it != here) {
        // What was opened lies elsewhere: an empty place is made a vault there.
        status.id = None;
    }
    status.location = Some(here);
    let name = vault.name_any();
    let mut effects = Vec::new();
    let mut recheck = Duration::from_mins(1);
    let findings = match see(&seen.works, "TestVault", now) {
        Seen::Done(Outcome::VaultTested { id, failures, regions, key, keys, locks }, at) => {
            status.id = Some(id.clone());
            status.tested_at = Some(Time(at));
            status.regions.clone_from(regions);
            status.key = Some(key.clone());
            list_regions(&mut status, &mut effects, seen, &name, at, now);
            // Whether it opens the vault is to be known; and if it does, the other regions are to be told.
            let other_key = seen.key.as_ref().is_some_and(|it| it != key);
            if other_key || at + TEST_EVERY <= now {
                effects.push(Effect::Begin(Box::new(Work::TestVault { vault: name.clone() })));
            }
            tested(vault, failures, keys, locks.as_deref())
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

fn tested(vault: &Vault, failures: &[String], keys: &[String], locks: Option<&[String]>) -> Vec<Finding> {
    let swap = if failures.is_empty() {
        Finding::new(COMPARE_AND_SWAP, true, "Passed", "conditional writes are honoured, also in a race")
    } else {
        let message = format!(
            "this server cannot be trusted with claims, so nothing is failed over on it: {}. Use one that honours If-None-Match and If-Match atomically",
            failures.join("; ")
        );
        Finding::new(COMPARE_AND_SWAP, false, "Failed", message)
    };
    let ready = Finding::new(READY, true, "Opened", "it can be read and written, and the key is its own");
    vec![ready, swap, escrowed(vault, keys), immutable(locks)]
}

/// Whether someone with the operator's credentials could delete what recovery is made of.
fn immutable(locks: Option<&[String]>) -> Finding {
    match locks {
        None => {
            let message = "nothing is locked: whoever has the credentials can delete all points. Give spec.s3.objectLock, with a bucket that has Object Lock";
            Finding::new(IMMUTABLE, false, NOT_ASKED, message)
        }
        Some([]) => Finding::new(IMMUTABLE, true, "Locked", "a lock was read back; what points need is locked"),
        Some(wrong) => Finding::new(IMMUTABLE, false, "NotLocked", format!("spec.s3.objectLock: {}", wrong.join("; "))),
    }
}

/// Why no points are to be made, where that is asked for: nobody is known to have what opens them elsewhere. Branches
/// and failovers go on: there is data that they save.
#[must_use]
pub fn unescrowed(vault: &Vault) -> Option<String> {
    let conditions = vault.status.as_ref().map_or(&[][..], |it| &it.conditions);
    if !vault.spec.encryption.require_escrow || condition::is_true(conditions, KEY_ESCROWED) {
        return None;
    }
    let why = condition::find(conditions, KEY_ESCROWED).map_or("it was not tested yet", |it| it.message.as_str());
    Some(format!("vault {}: spec.encryption.requireEscrow: {why}", vault.name_any()))
}

/// Whether what opens the vault exists elsewhere as well: in the vault itself for an offline identity, or where someone
/// said that it is kept. A confirmed key counts as long as it opens the vault, also when another one has followed it.
fn escrowed(vault: &Vault, keys: &[String]) -> Finding {
    let recipients = vault.spec.encryption.recipients.len();
    if recipients > 0 {
        let message = format!("{recipients} offline recipients can recover the vault without a key of it");
        return Finding::new(KEY_ESCROWED, true, "Recipients", message);
    }
    let name = vault.name_any();
    match Confirmation::of(vault) {
        Some(it) if keys.contains(&it.key) => {
            let message = format!("{} has confirmed a copy of the key {} at {}", it.who, it.key, it.at);
            Finding::new(KEY_ESCROWED, true, "Confirmed", message)
        }
        Some(it) => {
            let message = format!(
                "the copy that {} confirmed is of the key {}, which does not open the vault: make a copy of the key outside the regions, then kubectl reprise key confirm {name}",
                it.who, it.key
            );
            Finding::new(KEY_ESCROWED, false, "OtherKeyConfirmed", message)
        }
        None => {
            let message = format!(
                "nobody has said that the key exists outside the regions, and whoever loses it loses the backups: make a copy, then kubectl reprise key confirm {name}; or name spec.encryption.recipients"
            );
            Finding::new(KEY_ESCROWED, false, "NotConfirmed", message)
        }
    }
}

/// That someone has a copy of a key: what `kubectl reprise key confirm` writes at the `Vault`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The key's id.
    pub key: String,
    /// When, as written.
    pub at: String,
    /// The name that the API server has of whoever did it.
    pub who: String,
}

impl Confirmation {
    /// As the annotation's value.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{} {} {}", self.key, self.at, self.who)
    }

    /// The one at a vault, if it can be read.
    #[must_use]
    pub fn of(vault: &Vault) -> Option<Self> {
        let mut parts = vault.annotations().get(KEY_CONFIRMED)?.splitn(3, ' ').map(ToOwned::to_owned);
        Some(Self { key: parts.next()?, at: parts.next()?, who: parts.next()? })
    }
}

fn untested(failure: Option<(&'static str, String)>) -> Vec<Finding> {
    let Some((reason, message)) = failure else { return Vec::new() };
    vec![
        Finding::new(READY, false, reason, message),
        Finding::new(COMPARE_AND_SWAP, Truth::Unknown, "NotTested", "the vault could not be opened"),
        Finding::new(KEY_ESCROWED, Truth::Unknown, "NotTested", "the vault could not be opened"),
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;
    use crate::{
        api::vault::{Directory, Encryption},
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
            allow_exports: false,
            encryption: Encryption::new("key"),
        };
        Vault::new("main", spec)
    }

    fn after(progress: Progress) -> Observed {
        Observed { works: Works::from([("TestVault", progress)]), key: None }
    }

    fn done(failures: &[&str]) -> Progress {
        let failures = failures.iter().map(|it| (*it).to_owned()).collect();
        let outcome = Outcome::VaultTested {
            id: "v".into(),
            failures,
            regions: vec!["eu-west".into()],
            key: "k1".into(),
            keys: vec!["k1".into()],
            locks: None,
        };
        Progress::Done { at: NOON, work: Box::new(Work::TestVault { vault: "main".into() }), outcome }
    }

    #[test]
    fn a_new_vault_is_tested() {
        let decision = decide(&vault(), &Observed::default(), NOON);
        assert_eq!(decision.effects, [Effect::Begin(Box::new(Work::TestVault { vault: "main".into() }))]);
    }

    #[test]
    fn a_vault_that_lies_elsewhere_now_is_not_taken_for_the_one_that_was_opened() {
        let mut vault = vault();
        vault.status = Some(decide(&vault, &after(done(&[])), NOON).status);
        let same = decide(&vault, &Observed::default(), NOON).status;
        assert_eq!(same.id.as_deref(), Some("v"));
        vault.spec.directory = Some(Directory { claim_name: "other".into() });
        assert_eq!(decide(&vault, &Observed::default(), NOON).status.id, None);
    }

    /// What is told of the key, and whether points are made.
    fn escrow(vault: &Vault, keys: &[&str]) -> (Option<Condition>, bool) {
        let mut seen = after(done(&[]));
        let Some(Progress::Done { outcome: Outcome::VaultTested { keys: all, .. }, .. }) =
            seen.works.get_mut("TestVault")
        else {
            panic!("it is done")
        };
        *all = keys.iter().map(|it| (*it).to_owned()).collect();
        let status = decide(vault, &seen, NOON).status;
        assert!(condition::is_true(&status.conditions, READY), "failovers go on in any case");
        let escrowed = condition::find(&status.conditions, KEY_ESCROWED).cloned();
        let mut told = vault.clone();
        told.status = Some(status);
        (escrowed, unescrowed(&told).is_none())
    }

    #[test]
    fn a_key_that_exists_nowhere_else_is_warned_of_and_stops_nothing_unless_that_is_asked_for() {
        let mut vault = vault();
        let (told, ready) = escrow(&vault, &["k1"]);
        let told = told.unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_str(), ready), ("False", "NotConfirmed", true));
        assert!(told.message.contains("kubectl reprise key confirm main"), "{}", told.message);
        vault.spec.encryption.require_escrow = true;
        assert!(!escrow(&vault, &["k1"]).1);
        vault.spec.encryption.recipients = vec!["age1".into()];
        let (told, ready) = escrow(&vault, &["k1"]);
        assert_eq!((told.unwrap().reason.as_str(), ready), ("Recipients", true));
    }

    #[test]
    fn a_confirmed_copy_counts_as_long_as_its_key_opens_the_vault() {
        let mut vault = vault();
        vault.spec.encryption.require_escrow = true;
        let copy = Confirmation { key: "k1".into(), at: "2027-01-15T08:00:00Z".into(), who: "ann of ops".into() };
        vault.annotations_mut().insert(KEY_CONFIRMED.into(), copy.to_text());
        assert_eq!(Confirmation::of(&vault), Some(copy));
        for (keys, reason, ready) in [
            (&["k1"][..], "Confirmed", true),
            (&["k1", "k2"], "Confirmed", true),
            (&["k2"], "OtherKeyConfirmed", false),
        ] {
            let (told, is_ready) = escrow(&vault, keys);
            assert_eq!((told.unwrap().reason.as_str(), is_ready), (reason, ready));
        }
    }

    #[test]
    fn a_key_that_was_changed_is_tested_at_once() {
        let test = Effect::Begin(Box::new(Work::TestVault { vault: "main".into() }));
        let tested = |key: Option<&str>| {
            let seen = Observed { key: key.map(ToOwned::to_owned), ..after(done(&[])) };
            decide(&vault(), &seen, NOON).effects.contains(&test)
        };
        assert!(tested(Some("k2")));
        assert!(!tested(Some("k1")) && !tested(None), "the same, or not known");
    }

    #[test]
    fn immutable_is_true_only_where_a_lock_was_read_back() {
        let told = |wrong: Option<&[&str]>| {
            let mut seen = after(done(&[]));
            let Some(Progress::Done { outcome: Outcome::VaultTested { locks, .. }, .. }) =
                seen.works.get_mut("TestVault")
            else {
                panic!("it is done")
            };
            *locks = wrong.map(|it| it.iter().map(|it| (*it).to_owned()).collect());
            let status = decide(&vault(), &seen, NOON).status;
            let found = condition::find(&status.conditions, IMMUTABLE).unwrap();
            (found.status.clone(), found.reason.clone())
        };
        assert_eq!(told(None), ("False".into(), "NotAsked".into()));
        assert_eq!(told(Some(&[])), ("True".into(), "Locked".into()));
        assert_eq!(told(Some(&["no lock"])), ("False".into(), "NotLocked".into()));
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
        assert_eq!(first.effects.len(), 4, "{:?}", first.effects);
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
