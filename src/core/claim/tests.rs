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

// An absent claim, and one that went back.

#[test]
fn only_the_first_region_makes_a_claim_where_there_never_was_one() {
    let (_, first) = holder(settings("east"));
    assert_eq!((first.epoch, first.seq, first.holder.as_deref()), (1, 1, Some("east")));
    let mut west = Region::new(settings("west"));
    west.wish(Wish::Hold, at(0));
    for second in (0..=200).step_by(10) {
        west.tick(at(second));
        assert_eq!(west.answer(None, at(second)), [], "at {second}");
    }
    assert!(west.view(at(200)).seizable, "it may if it is told to");
    assert_eq!(written(&west.wish(Wish::Seize { epoch: 1, reason: "told".to_owned() }, at(200))).0.epoch, 1);
}

#[test]
fn no_claim_is_made_while_the_evidence_was_not_looked_up() {
    let mut east = Region::new(Settings { evidence: None, ..settings("east") });
    east.wish(Wish::Hold, at(0));
    assert_eq!(east.answer(None, at(0)), []);
    assert_eq!(east.view(at(0)).conflict, None);
    east.settings.evidence = Some(Evidence::default());
    written(&east.tick(at(1)));
}

#[test]
fn an_absent_claim_that_somebody_remembers_is_a_conflict() {
    for (evidence, source) in [
        (Evidence { status: Some(4), ..Evidence::default() }, "the application's status says so"),
        (Evidence { head: Some(4), ..Evidence::default() }, "the catalogue is sealed with it"),
    ] {
        let mut east = Region::new(Settings { evidence: Some(evidence), ..settings("east") });
        east.wish(Wish::Hold, at(0));
        assert_eq!(east.answer(None, at(0)), []);
        let conflict = east.view(at(0)).conflict.expect("a conflict");
        assert!(
            conflict.contains("no claim") && conflict.contains("epoch 4") && conflict.contains(source),
            "{conflict}"
        );
        assert!(!east.view(at(0)).seizable);
    }
}

#[test]
fn the_journal_is_evidence_of_an_epoch() {
    let mut east = Region::restarted(settings("east"), Some(entry(Purpose::Renew, 0, None)));
    east.wish(Wish::Hold, at(100));
    assert_eq!(east.answer(None, at(100)), []);
    assert!(east.view(at(100)).conflict.is_some());
}

#[test]
fn a_first_claim_that_never_landed_is_no_evidence() {
    let journal = Entry { epoch: 1, seq: 1, ..entry(Purpose::Seize, 0, None) };
    let mut east = Region::restarted(settings("east"), Some(journal));
    east.wish(Wish::Hold, at(100));
    assert_eq!(written(&east.answer(None, at(100))).0.epoch, 1);
}

#[test]
fn a_claim_whose_epoch_or_seq_fell_is_a_conflict_until_it_is_back() {
    let mut west = Region::new(settings("west"));
    west.watch(&claim("east", 3, 30), 0..=0);
    for (older, second) in [(claim("east", 2, 31), 10), (claim("east", 3, 29), 20)] {
        west.read(Some(older), at(second));
        let view = west.view(at(second));
        assert!(view.conflict.is_some(), "at {second}");
        assert_eq!(view.silent_for, 0);
    }
    west.read(Some(claim("east", 4, 31)), at(30));
    assert_eq!(west.view(at(30)).conflict, None);
}

#[test]
fn two_versions_with_one_number_are_a_conflict() {
    let mut west = Region::new(settings("west"));
    west.watch(&claim("east", 3, 30), 0..=0);
    west.read(Some(Claim { nonce: "east.rewritten.1".to_owned(), ..claim("east", 3, 30) }), at(10));
    assert!(west.view(at(10)).conflict.is_some());
}

#[test]
fn a_holder_in_conflict_neither_renews_nor_acts() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.observe(Observation::WriteLost { nonce: renewal.nonce }, at(11));
    assert_eq!(east.answer(None, at(11)), []);
    assert!(!east.view(at(11)).valid);
    assert_eq!(east.tick(at(21)), [Act::Read], "it goes on looking");
}

#[test]
fn evidence_that_comes_while_a_read_is_under_way_does_not_contradict_its_answer() {
    let mut west = Region::new(settings("west"));
    west.tick(at(0));
    west.settings.evidence = Some(Evidence { head: Some(4), ..Evidence::default() });
    west.answer(Some(claim("east", 3, 30)), at(1));
    assert_eq!(west.view(at(1)).conflict, None, "the head was sealed in between");
    west.read(Some(claim("east", 3, 30)), at(11));
    assert!(west.view(at(11)).conflict.is_some(), "but this was asked for after it was known");
}

#[test]
fn the_claim_of_another_application_is_a_conflict() {
    let mut west = Region::new(settings("west"));
    west.read(Some(Claim { group: "shop.blog".to_owned(), ..claim("east", 1, 1) }), at(0));
    assert!(west.view(at(0)).conflict.is_some_and(|it| it.contains("shop.blog")));
}

#[test]
fn an_operator_that_calls_itself_by_the_same_name_is_a_conflict() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.observe(Observation::WriteLost { nonce: renewal.nonce }, at(11));
    assert_eq!(east.answer(Some(claim("east", 1, 2)), at(11)), []);
    assert!(east.view(at(11)).conflict.is_some_and(|it| it.contains("as region east")));
}

// Silence, and taking the claim.

#[test]
fn a_standby_takes_the_claim_after_it_has_seen_the_same_version_for_the_whole_wait() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.wish(Wish::Seize { epoch: 2, reason: "no sign of life".to_owned() }, at(0));
    assert_eq!(west.answer(Some(silent.clone()), at(0)), []);
    west.watch(&silent, (10..=70).step_by(10));
    assert_eq!(west.view(at(70)).silent_for, 70);
    assert_eq!(west.tick(at(74)), []);
    // The read that completes the wait comes early.
    assert_eq!(west.tick(at(75)), [Act::Read]);
    let (taken, expected, entry) = written(&west.answer(Some(silent.clone()), at(75)));
    assert_eq!(expected, Expected::Unchanged(format!("tag of {}", silent.nonce)));
    assert_eq!((taken.epoch, taken.seq, taken.holder.as_deref()), (2, 6, Some("west")));
    assert_eq!(taken.reason, "no sign of life");
    assert!(entry.is_some());
    assert!(!west.view(at(76)).valid);
    west.done(&taken, at(76));
    assert!(west.view(at(76)).valid);
}

#[test]
fn a_new_version_starts_the_wait_anew() {
    let mut west = Region::new(settings("west"));
    west.watch(&claim("east", 1, 5), (0..=70).step_by(10));
    west.watch(&claim("east", 1, 6), (80..=140).step_by(10));
    assert!(!west.view(at(140)).seizable);
    assert_eq!(west.view(at(140)).silent_for, 60);
}

#[test]
fn one_failed_read_interrupts_no_silence() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=20).step_by(10));
    west.tick(at(30));
    west.observe(Observation::ReadFailed("timed out".to_owned()), at(33));
    west.watch(&silent, (40..=80).step_by(10));
    assert!(west.view(at(80)).seizable);
}

#[test]
fn the_silence_of_the_vault_is_not_that_of_the_holder() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=70).step_by(10));
    for second in (80..=140).step_by(10) {
        west.tick(at(second));
        west.observe(Observation::ReadFailed("away".to_owned()), at(second + 3));
    }
    assert!(!west.view(at(144)).readable);
    west.watch(&silent, 150..=150);
    assert!(!west.view(at(150)).seizable, "the holder could not renew either, and may be about to");
    assert_eq!(west.view(at(150)).silent_for, 0);
}

#[test]
fn a_wall_clock_that_is_set_forward_shortens_no_wait() {
    let silent = claim("east", 1, 5);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=20).step_by(10));
    for (wall, counted) in [(42, 30), (3_000, 0)] {
        let mut west = Region { settings: west.settings.clone(), state: west.state.clone() };
        west.tick(at(30));
        west.answer(Some(silent.clone()), Now { boot: at(30).boot, wall: at(wall).wall });
        assert_eq!(west.state.sight.map(|it| it.silent.as_secs()), Some(counted), "set to {wall}");
    }
}

#[test]
fn the_longer_wait_counts() {
    let slow = Claim { deadlines: Deadlines { renew: 10, hold: 60, fence: 60, wait: 130 }, ..claim("east", 1, 5) };
    let mut west = Region::new(settings("west"));
    west.watch(&slow, (0..=120).step_by(10));
    assert!(!west.view(at(120)).seizable);
    west.watch(&slow, 130..=130);
    assert!(west.view(at(130)).seizable);
}

#[test]
fn only_the_epoch_that_was_asked_for_is_taken() {
    let silent = claim("east", 4, 50);
    let mut west = Region::new(settings("west"));
    west.watch(&silent, (0..=80).step_by(10));
    assert_eq!(west.wish(Wish::Seize { epoch: 4, reason: String::new() }, at(81)), []);
    assert_eq!(west.wish(Wish::Seize { epoch: 6, reason: String::new() }, at(82)), []);
    assert_eq!(written(&west.wish(Wish::Seize { epoch: 5, reason: String::new() }, at(83))).0.epoch, 5);
}

#[test]
fn a_region_that_is_no_candidate_takes_nothing() {
    let mut north = Region::new(settings("north"));
    north.watch(&claim("east", 1, 5), (0..=200).step_by(10));
    assert!(!north.view(at(200)).seizable);
}

// Release and handover.

fn released(to: Option<&str>) -> Claim {
    let intent = Intent::Released { to: to.map(str::to_owned), point: None, reason: "maintenance".to_owned() };
    Claim { holder: None, intent, ..claim("east", 1, 9) }
}

#[test]
fn a_released_claim_is_taken_at_once_by_whom_it_is_for() {
    for (to, free) in [(None, true), (Some("west"), true), (Some("north"), false)] {
        let mut west = Region::new(settings("west"));
        west.watch(&released(to), 0..=0);
        assert_eq!(west.view(at(0)).seizable, free, "{to:?}");
    }
    let mut west = Region::new(settings("west"));
    west.watch(&released(Some("north")), (0..=80).step_by(10));
    assert!(west.view(at(80)).seizable, "whom it was for did not come");
}

#[test]
fn a_holder_that_releases_is_not_valid_from_the_moment_it_sends_that() {
    let (mut east, _) = holder(settings("east"));
    let wish = Wish::Release { to: Some("west".to_owned()), point: Some("p".to_owned()), reason: "r".to_owned() };
    let (release, _, entry) = written(&east.wish(wish, at(5)));
    assert_eq!((release.epoch, release.holder.as_ref()), (1, None));
    assert_eq!(
        release.intent,
        Intent::Released { to: Some("west".to_owned()), point: Some("p".to_owned()), reason: "r".to_owned() }
    );
    assert_eq!(entry.map(|it| it.purpose), Some(Purpose::Release));
    assert!(!east.view(at(5)).valid);
    east.done(&release, at(6));
    assert!(!east.view(at(6)).mine);
    assert_eq!(east.tick(at(10)), [], "it is written once");
}

#[test]
fn a_request_for_a_handover_reaches_the_holder_and_survives_its_renewals() {
    let (mut east, first) = holder(settings("east"));
    let mut west = Region::new(settings("west"));
    west.watch(&first, 0..=0);
    let wish = Wish::RequestHandover { to: "west".to_owned(), run: "move-1".to_owned() };
    let (request, _, entry) = written(&west.wish(wish, at(1)));
    assert_eq!((request.epoch, request.holder.as_deref(), request.seq), (1, Some("east"), 2));
    assert_eq!(entry, None, "a region that holds nothing writes nothing down");
    west.done(&request, at(2));
    assert_eq!(west.tick(at(9)), [], "it is asked once");

    let (lost, ..) = written(&east.tick(at(10)));
    assert_eq!(east.observe(Observation::WriteLost { nonce: lost.nonce }, at(11)), [Act::Read]);
    assert_eq!(east.answer(Some(request), at(11)), []);
    let wanted = Handover { to: "west".to_owned(), run: "move-1".to_owned() };
    assert_eq!(east.view(at(11)).requested_handover, Some(wanted.clone()));
    assert!(east.view(at(29)).valid, "it holds the claim as before");
    assert!(!east.view(at(30)).valid, "but somebody else's version renews nothing");
    let (renewal, ..) = written(&east.tick(at(15)));
    assert_eq!(renewal.intent, Intent::Handover(wanted));
}

// Renewals.

#[test]
fn renewals_fall_on_multiples_of_renew_so_that_all_claims_are_renewed_together() {
    let mut east = Region::new(settings("east"));
    east.wish(Wish::Hold, at(3));
    let (first, ..) = written(&east.answer(None, at(3)));
    east.done(&first, at(4));
    assert_eq!(east.tick(at(9)), []);
    assert_eq!(east.state.due(&east.settings, at(9)), at(10).boot);
    written(&east.tick(at(10)));
}

#[test]
fn a_renewal_carries_health_candidates_and_deadlines() {
    let (mut east, _) = holder(settings("east"));
    east.observe(Observation::Judged(Some(false)), at(5));
    east.observe(Observation::Judged(Some(false)), at(7));
    east.settings.candidates.push("north".to_owned());
    east.settings.deadlines.wait = 90;
    let (renewal, ..) = written(&east.tick(at(10)));
    assert_eq!(renewal.health, Some(Health { healthy: false, since: at(5).wall }));
    assert_eq!(renewal.candidates.len(), 3);
    assert_eq!(renewal.deadlines.wait, 90);
    assert_eq!((renewal.epoch, renewal.seq), (1, 2));
}

#[test]
fn a_holder_that_is_told_only_to_watch_lets_its_claim_run_out() {
    let (mut east, first) = holder(settings("east"));
    east.wish(Wish::Watch, at(1));
    for second in (10..=40).step_by(10) {
        assert_eq!(east.read(Some(first.clone()), at(second)), []);
    }
    assert!(!east.view(at(40)).valid);
    assert!(east.view(at(40)).mine);
}

#[test]
fn an_advisory_holder_goes_on_after_an_outage_if_nobody_took_the_claim() {
    let (mut east, first) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.unknown(&renewal, at(13));
    east.observe(Observation::ReadFailed("away".to_owned()), at(16));
    assert!(!east.view(at(300)).valid);
    assert!(!east.view(at(300)).must_fence);
    east.tick(at(300));
    let (renewal, ..) = written(&east.answer(Some(first), at(301)));
    assert_eq!(renewal.epoch, 1);
    east.done(&renewal, at(302));
    assert!(east.view(at(302)).valid);
}

#[test]
fn a_holder_that_finds_the_claim_elsewhere_holds_nothing() {
    let (mut east, _) = holder(settings("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.observe(Observation::WriteLost { nonce: renewal.nonce }, at(11));
    assert_eq!(east.answer(Some(claim("west", 2, 2)), at(11)), []);
    let view = east.view(at(11));
    assert!(!view.mine && !view.valid);
    assert_eq!((view.holder.as_deref(), view.epoch), (Some("west"), 2));
}

// Fencing.

#[test]
fn a_strict_holder_fences_at_hold_and_never_renews_that_epoch_again() {
    let (mut east, first) = holder(strict("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    assert!(!east.view(at(29)).must_fence);
    assert_eq!(east.state.due(&east.settings, at(29)), at(30).boot);
    assert!(east.view(at(30)).must_fence);
    east.tick(at(30));
    // The renewal had landed after all, and is still valid by its own count: too late.
    east.done(&renewal, at(31));
    let view = east.view(at(31));
    assert!(view.must_fence && view.fenced && !view.valid);
    assert_eq!(east.tick(at(40)), []);
    // But it may take the next epoch, since nobody else has it.
    assert!(view.seizable);
    let (next, ..) = written(&east.wish(Wish::Seize { epoch: 2, reason: "back".to_owned() }, at(41)));
    assert_eq!(next.epoch, 2);
    east.done(&next, at(42));
    let view = east.view(at(42));
    assert!(view.valid && !view.must_fence && !view.fenced);
    assert_eq!(first.epoch, 1);
}

#[test]
fn an_answer_after_the_deadline_does_not_undo_that_it_passed() {
    let (mut east, _) = holder(strict("east"));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.done(&renewal, at(35));
    assert!(east.view(at(35)).must_fence, "the application may already have been told to stop");
}

#[test]
fn that_a_region_fenced_itself_outlasts_its_operator() {
    let evidence = Evidence { fenced: Some(3), ..Evidence::default() };
    let mut east = Region::new(Settings { evidence: Some(evidence), ..strict("east") });
    east.wish(Wish::Hold, at(0));
    assert_eq!(east.answer(Some(claim("east", 3, 8)), at(0)), []);
    assert!(east.view(at(0)).fenced);
}

#[test]
fn a_restarted_strict_holder_has_until_the_last_safe_moment() {
    let mut east = Region::restarted(strict("east"), Some(entry(Purpose::Renew, 0, Some(0))));
    assert!(!east.view(at(42)).must_fence, "(75 - 1) / 1.01 - 30 seconds, over 1.01, are 42.8");
    assert!(east.view(at(43)).must_fence);
    east.wish(Wish::Hold, at(41));
    let (renewal, ..) = written(&east.answer(Some(sent_before()), at(42)));
    east.done(&renewal, at(42));
    assert!(east.view(at(43)).valid);
    assert!(east.view(at(72)).must_fence, "from here on it fences at hold");
}

#[test]
fn a_strict_holder_without_any_proof_fences_at_once() {
    let mut east = Region::new(strict("east"));
    east.read(Some(claim("east", 3, 8)), at(0));
    assert!(east.view(at(0)).must_fence);
}

// What the others are told.

#[test]
fn a_mere_renewal_is_no_news() {
    let (mut east, _) = holder(settings("east"));
    let before = east.view(at(9));
    let (renewal, ..) = written(&east.tick(at(10)));
    east.done(&renewal, at(11));
    assert!(!before.differs(&east.view(at(11))));
    assert_ne!(before, east.view(at(11)));
    assert!(before.differs(&east.view(at(40))), "that it is not valid any more is");
}

#[test]
fn the_next_moment_is_never_in_the_past_unless_there_is_something_to_do() {
    let (mut east, _) = holder(strict("east"));
    for second in 1..10 {
        let due = east.state.due(&east.settings, at(second));
        assert!(due > at(second).boot, "at {second}");
        assert_eq!(east.tick(at(second)), []);
    }
}

// The record.

#[test]
fn a_claim_is_read_back_as_it_was_written() {
    for intent in [
        Intent::None,
        Intent::Handover(Handover { to: "west".to_owned(), run: "r".to_owned() }),
        Intent::Released { to: None, point: Some("p".to_owned()), reason: "r".to_owned() },
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
