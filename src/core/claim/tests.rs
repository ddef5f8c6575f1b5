//! The rules of the claim, one by one, as plain values. `tests/claim_model.rs` shows what they are good for together.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    record::{Claim, ClaimError, Deadlines, Entry, FORMAT, Handover, Health, Intent, Purpose},
    state::{Evidence, Settings, State, Wish},
    step::{Act, Expected, Observation, Stored, step},
    time::{Now, elapsed_for_holder, elapsed_for_standby},
    view::View,
};
use crate::api::application::{ClaimSettings, Fencing};

mod holding;
mod taking;

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn at(seconds: u64) -> Now {
    let wall = START + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
    Now { boot: Duration::from_secs(1_000 + seconds), wall }
}

fn settings(region: &str) -> Settings {
    Settings {
        region: region.to_owned(),
        group: "shop.shop".to_owned(),
        candidates: vec!["east".to_owned(), "west".to_owned()],
        fencing: Fencing::Advisory,
        deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
        evidence: Some(Evidence::default()),
    }
}

fn strict(region: &str) -> Settings {
    Settings { fencing: Fencing::Strict, ..settings(region) }
}

fn claim(holder: &str, epoch: u64, seq: u64) -> Claim {
    Claim {
        format: FORMAT,
        group: "shop.shop".to_owned(),
        epoch,
        holder: Some(holder.to_owned()),
        candidates: vec!["east".to_owned(), "west".to_owned()],
        seq,
        nonce: format!("{holder}.other.{seq}"),
        intent: Intent::None,
        deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
        reason: "first claim".to_owned(),
        health: None,
        renewed_at: START,
    }
}

/// One region, driven by hand.
struct Region {
    settings: Settings,
    state: State,
}

impl Region {
    fn new(settings: Settings) -> Self {
        Self::restarted(settings, None)
    }

    fn restarted(settings: Settings, journal: Option<Entry>) -> Self {
        Self { settings, state: State::restarted("me".to_owned(), "boot".to_owned(), journal) }
    }

    fn observe(&mut self, observation: Observation, now: Now) -> Vec<Act> {
        let (state, acts) = step(&self.settings, self.state.clone(), observation, now);
        self.state = state;
        acts
    }

    fn tick(&mut self, now: Now) -> Vec<Act> {
        self.observe(Observation::Tick, now)
    }

    fn wish(&mut self, wish: Wish, now: Now) -> Vec<Act> {
        self.observe(Observation::Wished(wish), now)
    }

    /// Lets it read this, if a read is due.
    fn read(&mut self, stored: Option<Claim>, now: Now) -> Vec<Act> {
        let acts = self.tick(now);
        assert_eq!(acts, [Act::Read], "a read is due");
        self.answer(stored, now)
    }

    fn answer(&mut self, stored: Option<Claim>, now: Now) -> Vec<Act> {
        let stored = stored.map(|claim| Stored { tag: format!("tag of {}", claim.nonce), claim });
        self.observe(Observation::ReadDone(stored), now)
    }

    fn done(&mut self, claim: &Claim, now: Now) -> Vec<Act> {
        let (nonce, tag) = (claim.nonce.clone(), format!("tag of {}", claim.nonce));
        self.observe(Observation::WriteDone { nonce, tag }, now)
    }

    fn unknown(&mut self, claim: &Claim, now: Now) -> Vec<Act> {
        self.observe(Observation::WriteUnknown { nonce: claim.nonce.clone(), why: "timed out".to_owned() }, now)
    }

    /// Reads the same version every ten seconds.
    fn watch(&mut self, version: &Claim, seconds: impl Iterator<Item = u64>) {
        for second in seconds {
            assert_eq!(self.read(Some(version.clone()), at(second)), [], "at {second}");
        }
    }

    fn view(&self, now: Now) -> View {
        self.state.view(&self.settings, now)
    }
}

fn written(acts: &[Act]) -> (Claim, Expected, Option<Entry>) {
    match acts {
        [Act::Write { expected, claim, entry }] => (claim.clone(), expected.clone(), entry.clone()),
        other => panic!("one write was expected, not {other:?}"),
    }
}

/// East, which holds epoch 1 since second 0.
fn holder(settings: Settings) -> (Region, Claim) {
    let mut east = Region::new(settings);
    east.wish(Wish::Hold, at(0));
    let (first, expected, _) = written(&east.answer(None, at(0)));
    assert_eq!(expected, Expected::Absent);
    assert_eq!(east.done(&first, at(0)), []);
    (east, first)
}

// Time.

#[test]
fn a_holder_believes_the_clock_that_ran_further_and_a_standby_the_other() {
    let since = at(0);
    let ahead = Now { boot: at(10).boot, wall: at(100).wall };
    assert_eq!(elapsed_for_holder(since, ahead), Duration::from_secs(100));
    assert_eq!(elapsed_for_standby(since, ahead), Duration::from_secs(10));
    let back = Now { boot: at(10).boot, wall: START - SignedDuration::from_secs(100) };
    assert_eq!(elapsed_for_holder(since, back), Duration::from_secs(10));
    assert_eq!(elapsed_for_standby(since, back), Duration::ZERO);
    assert_eq!(elapsed_for_holder(at(10), at(0)), Duration::MAX, "a moment ahead of the boot clock proves nothing");
}

#[test]
fn validity_runs_from_when_the_renewal_was_sent() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    assert!(east.view(at(29)).valid, "by the first one");
    assert!(!east.view(at(30)).valid);
    // The answer comes late.
    east.done(&renewal, at(38));
    assert!(east.view(at(39)).valid);
    assert!(!east.view(at(40)).valid, "thirty seconds after it was sent, not after the answer");
    assert_eq!(east.view(at(39)).lease.map(super::view::Lease::until), Some(at(40).boot));
}

#[test]
fn a_wall_clock_that_is_set_forward_ends_the_validity() {
    let (east, _) = holder(settings("east"));
    assert!(!east.view(Now { boot: at(5).boot, wall: at(60).wall }).valid);
}

#[test]
fn the_shorter_hold_counts_while_it_is_not_known_which_renewal_stands() {
    let (mut east, _) = holder(settings("east"));
    east.settings.deadlines = Deadlines { renew: 5, hold: 12, fence: 10, wait: 25 };
    let (shorter, ..) = written(&east.tick(at(10)));
    assert_eq!(shorter.deadlines.hold, 12);
    assert!(!east.view(at(12)).valid, "the others may already go by twelve seconds");
    east.done(&shorter, at(12));
    assert!(east.view(at(21)).valid);
    assert!(!east.view(at(22)).valid);
}

#[test]
fn the_longer_hold_counts_only_once_it_is_known_to_stand() {
    let (mut east, _) = holder(settings("east"));
    east.settings.deadlines = Deadlines { renew: 10, hold: 60, fence: 30, wait: 150 };
    let (longer, ..) = written(&east.tick(at(10)));
    assert!(!east.view(at(30)).valid);
    east.done(&longer, at(30));
    assert!(east.view(at(69)).valid);
}

// Outcomes that are not known.

#[test]
fn a_write_with_an_unknown_outcome_is_read_back_before_anything_else_is_written() {
    let (mut east, first) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    assert_eq!(east.unknown(&renewal, at(13)), [Act::Read]);
    // It did not land (yet): another one is sent, with a nonce of its own.
    let (again, expected, _) = written(&east.answer(Some(first.clone()), at(16)));
    assert_eq!(expected, Expected::Unchanged(format!("tag of {}", first.nonce)));
    assert_ne!(again.nonce, renewal.nonce);
    assert_eq!(again.seq, renewal.seq);
}

#[test]
fn while_the_vault_does_not_answer_nothing_is_written_blindly() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.unknown(&renewal, at(13));
    assert_eq!(east.observe(Observation::ReadFailed("away".to_owned()), at(16)), []);
    assert_eq!(east.tick(at(18)), [Act::Read], "half of renew later");
    assert_eq!(east.view(at(18)).last_error.as_deref(), Some("away"));
}

#[test]
fn a_write_that_landed_after_all_is_recognised_by_its_nonce_and_counts_from_when_it_was_sent() {
    let (mut east, first) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.unknown(&renewal, at(13));
    let (again, ..) = written(&east.answer(Some(first), at(15)));
    // The first attempt comes through late, and so the second one loses.
    assert_eq!(east.observe(Observation::WriteLost { nonce: again.nonce }, at(18)), [Act::Read]);
    east.answer(Some(renewal), at(18));
    assert!(east.view(at(39)).valid);
    assert!(!east.view(at(40)).valid, "counted from second 10, not 15");
    assert_eq!(east.view(at(18)).conflict, None);
    assert!(east.state.outstanding.is_empty(), "what waited for the older version can land no more");
}

#[test]
fn a_lost_write_may_be_ones_own() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    // Something on the way sent it twice; the answer is that of the second time.
    east.observe(Observation::WriteLost { nonce: renewal.nonce.clone() }, at(11));
    east.answer(Some(renewal), at(11));
    assert!(east.view(at(39)).valid);
}

#[test]
fn what_the_journal_refused_was_never_sent() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    let why = "no API server".to_owned();
    east.observe(Observation::WriteUnsent { nonce: renewal.nonce, why: why.clone() }, at(11));
    assert!(east.state.outstanding.is_empty());
    assert_eq!(east.view(at(11)).last_error, Some(why));
    assert!(!east.view(at(30)).valid);
}

#[test]
fn a_holder_that_cannot_write_still_sees_that_the_claim_went_elsewhere() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    let unsent = Observation::WriteUnsent { nonce: renewal.nonce, why: "no API server".to_owned() };
    assert_eq!(east.observe(unsent, at(15)), [Act::Read], "although a write is due, too");
    east.answer(Some(claim("west", 2, 2)), at(15));
    assert!(!east.view(at(15)).mine);
}

#[test]
fn open_outcomes_are_bounded() {
    let (mut east, first) = holder(settings("east"));
    for round in 0..40 {
        let now = 10 + round * 5;
        let (renewal, ..) = written(&east.tick(at(now)));
        assert_eq!(east.unknown(&renewal, at(now + 1)), [Act::Read]);
        assert_eq!(east.answer(Some(first.clone()), at(now + 1)), []);
    }
    assert_eq!(east.state.outstanding.len(), super::state::MAX_OUTSTANDING);
}

#[test]
fn two_requests_are_never_under_way() {
    let (mut east, _) = holder(settings("east"));
    written(&east.tick(at(10)));
    assert_eq!(east.tick(at(20)), []);
    assert_eq!(east.wish(Wish::Watch, at(30)), []);
}

#[test]
fn the_answer_to_a_read_that_was_given_up_is_not_looked_at() {
    let (mut east, _) = holder(settings("east"));
    east.answer(Some(claim("west", 9, 90)), at(5));
    assert_eq!(east.view(at(5)).epoch, 1);
}

// Restarts.

fn entry(purpose: Purpose, sent: u64, confirmed: Option<u64>) -> Entry {
    Entry {
        boot_id: "boot".to_owned(),
        purpose,
        epoch: 3,
        seq: 8,
        nonce: "east.before.8".to_owned(),
        deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
        sent: at(sent),
        confirmed: confirmed.map(at),
    }
}

fn sent_before() -> Claim {
    Claim { nonce: "east.before.8".to_owned(), ..claim("east", 3, 8) }
}

#[test]
fn what_is_sent_is_to_be_written_down_first_with_since_when_the_claim_is_known_to_stand() {
    let (mut east, first) = holder(settings("east"));
    let (renewal, _, entry) = written(&east.tick(at(10)));
    let expected = Entry {
        boot_id: "boot".to_owned(),
        purpose: Purpose::Renew,
        epoch: 1,
        seq: first.seq + 1,
        nonce: renewal.nonce,
        deadlines: renewal.deadlines,
        sent: at(10),
        confirmed: Some(at(0)),
    };
    assert_eq!(entry, Some(expected));
}

#[test]
fn after_a_restart_the_own_claim_is_valid_only_as_long_as_the_journal_proves() {
    let mut east = Region::restarted(settings("east"), Some(entry(Purpose::Renew, 10, Some(0))));
    assert!(east.view(at(29)).valid, "the renewal of second 0 is known to have landed");
    assert!(!east.view(at(30)).valid, "that of second 10 is not");
    east.read(Some(sent_before()), at(30));
    assert!(east.view(at(39)).valid, "now it is");
    assert!(!east.view(at(40)).valid);
}

#[test]
fn after_a_restart_without_a_journal_the_own_claim_is_expired_until_a_renewal_is_confirmed() {
    let mut east = Region::new(settings("east"));
    east.wish(Wish::Hold, at(0));
    let (renewal, ..) = written(&east.answer(Some(sent_before()), at(1)));
    assert!(east.view(at(1)).mine);
    assert!(!east.view(at(1)).valid);
    east.done(&renewal, at(2));
    assert!(east.view(at(2)).valid);
}

#[test]
fn times_of_another_boot_prove_no_validity() {
    let journal = Entry { boot_id: "another".to_owned(), ..entry(Purpose::Renew, 10, Some(0)) };
    let mut east = Region::restarted(settings("east"), Some(journal));
    east.read(Some(sent_before()), at(11));
    assert!(east.view(at(11)).mine);
    assert!(!east.view(at(11)).valid);
}

#[test]
fn a_seizure_that_may_have_landed_gives_no_validity_but_says_when_to_fence() {
    let mut east = Region::restarted(strict("east"), Some(entry(Purpose::Seize, 10, None)));
    assert!(!east.view(at(11)).valid);
    assert!(!east.view(at(11)).mine);
    assert!(!east.view(at(50)).must_fence);
    assert!(east.view(at(60)).must_fence);
    east.read(Some(sent_before()), at(12));
    assert!(east.view(at(12)).valid, "it did land");
}

#[test]
fn a_release_that_may_land_ends_the_validity_also_after_a_restart() {
    let mut east = Region::restarted(settings("east"), Some(entry(Purpose::Release, 10, None)));
    assert!(!east.view(at(11)).valid);
    east.wish(Wish::Hold, at(11));
    let (renewal, ..) = written(&east.answer(Some(Claim { seq: 7, ..claim("east", 3, 7) }), at(12)));
    assert!(!east.view(at(12)).valid);
    east.done(&renewal, at(13));
    assert!(east.view(at(13)).valid, "the renewal came first, and so the release is dead");
}

#[test]
fn after_a_restart_the_claim_of_another_is_fresh() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=80).step_by(10));
    assert!(west.view(at(80)).seizable);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, 90..=90);
    assert!(!west.view(at(90)).seizable);
}

// The record.

#[test]
fn a_claim_is_read_back_as_it_was_written() {
    for intent in [
        Intent::None,
        Intent::Handover(Handover { to: "west".to_owned(), run: "r".to_owned() }),
        Intent::Released {
            to: None,
            from: Some("east".to_owned()),
            point: Some("p".to_owned()),
            reason: "r".to_owned(),
        },
    ] {
        let claim = Claim { intent, health: Some(Health { healthy: true, since: START }), ..claim("east", 2, 7) };
        assert_eq!(Claim::parse(&claim.to_bytes()), Ok(claim));
    }
}

#[test]
fn what_is_no_claim_is_refused() {
    let newer = br#"{"format": 2, "somethingElse": true}"#;
    assert_eq!(Claim::parse(newer), Err(ClaimError::Format(2)));
    assert!(matches!(Claim::parse(b"<html>"), Err(ClaimError::Syntax(_))));
    assert!(matches!(Claim::parse(br#"{"format": 1}"#), Err(ClaimError::Syntax(_))));
    assert_eq!(Claim::parse(&vec![b' '; 70_000]), Err(ClaimError::Size(70_000)));
    assert!(matches!(Claim::parse(&claim("east", 0, 7).to_bytes()), Err(ClaimError::Number { epoch: 0, seq: 7 })));
}

#[test]
fn the_default_deadlines_are_lawful_and_a_shorter_wait_is_not() {
    let defaults = Deadlines::from(&ClaimSettings::default());
    assert!(defaults.lawful());
    assert!(Deadlines { wait: 62, ..defaults }.lawful());
    assert!(!Deadlines { wait: 61, ..defaults }.lawful());
    assert_eq!(Deadlines { wait: 10, ..defaults }.last_safe_fencing(), defaults.hold(), "never before hold");
}
