//! Retention as plain values.

use super::*;
use crate::api::span::Span;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A good point of this instant.
fn good(at: Timestamp) -> Known {
    Known {
        id: format!("p-{:012}", at.as_second()),
        at,
        good: true,
        suspicious: false,
        branch: false,
        held: false,
        in_use: false,
        last_verified: false,
        lock_until: None,
        damaged: false,
    }
}

fn every(seconds: i64, from: Timestamp, count: i64) -> Vec<Known> {
    (0..count).map(|it| good(from + SignedDuration::from_secs(it * seconds))).collect()
}

fn kept(points: &[Known], policy: &Retention, now: Timestamp) -> Vec<Known> {
    let kept = |(it, fate)| matches!(fate, Fate::Keep(_)).then_some(it);
    explain(points, policy, now).into_iter().filter_map(kept).collect()
}

fn fate(points: &[Known], policy: &Retention, now: Timestamp, id: &str) -> Fate {
    explain(points, policy, now).into_iter().find(|(it, _)| it.id == id).unwrap().1
}

fn daily(count: u32) -> Retention {
    Retention { daily: Some(count), ..Retention::default() }
}

#[test]
fn the_newest_of_each_day_is_kept_and_days_are_those_of_utc() {
    // In Berlin the clocks go back on this night: a local day would have 25 hours.
    let points = every(HOUR, at("2026-10-23T00:30:00Z"), 5 * 24);
    let now = at("2026-11-20T00:00:00Z");
    let days: Vec<String> = kept(&points, &daily(3), now).iter().map(|it| it.at.to_string()).collect();
    assert_eq!(days, ["2026-10-27T23:30:00Z", "2026-10-26T23:30:00Z", "2026-10-25T23:30:00Z"]);
}

#[test]
fn a_week_ends_on_sunday_also_where_the_year_does_not() {
    // 2027-01-01 is a Friday: week 53 of 2026 ends on Sunday, 2027-01-03.
    let points = every(DAY, at("2026-12-20T12:00:00Z"), 20);
    let policy = Retention { weekly: Some(3), ..Retention::default() };
    let weeks: Vec<String> =
        kept(&points, &policy, at("2027-03-01T00:00:00Z")).iter().map(|it| it.at.to_string()).collect();
    assert_eq!(weeks, ["2027-01-08T12:00:00Z", "2027-01-03T12:00:00Z", "2026-12-27T12:00:00Z"]);
}

#[test]
fn each_reason_is_told_and_what_no_rule_keeps_goes() {
    let points = every(HOUR, at("2026-11-01T00:00:00Z"), 48);
    let policy = Retention { last: Some(2), daily: Some(2), ..Retention::default() };
    let now = at("2026-11-20T00:00:00Z");
    let fates = explain(&points, &policy, now);
    assert_eq!(fates[0].1, Fate::Keep(vec![Reason::Newest, Reason::Last, Reason::Daily]));
    assert_eq!(fates[1].1, Fate::Keep(vec![Reason::Last]));
    assert_eq!(fates[2].1, Fate::Drop(Why::NoRule));
    assert_eq!(fates.iter().filter(|(_, it)| matches!(it, Fate::Keep(_))).count(), 3);
}

#[test]
fn what_is_protected_stays_whatever_the_policy_says() {
    let mut points = every(DAY, at("2026-01-01T00:00:00Z"), 8);
    points[0].held = true;
    points[1].branch = true;
    points[1].good = false;
    points[2].in_use = true;
    points[3].last_verified = true;
    let policy = Retention { last: Some(1), ..Retention::default() };
    let now = at("2026-11-20T00:00:00Z");
    let reasons = [Reason::Held, Reason::Branch, Reason::InUse, Reason::LastVerified];
    for (it, reason) in points.iter().zip(reasons) {
        assert_eq!(fate(&points, &policy, now, &it.id), Fate::Keep(vec![reason]));
    }
    assert_eq!(fate(&points, &policy, now, &points[4].id), Fate::Drop(Why::NoRule));
    let young = every(HOUR, now - SignedDuration::from_hours(23), 5);
    assert_eq!(kept(&young, &policy, now).len(), 5, "a day is given to notice");
}

#[test]
fn the_newest_good_point_stays_for_ever_also_when_nothing_follows_it() {
    let points = every(DAY, at("2020-01-01T00:00:00Z"), 3);
    let policy = Retention { within: Some(Span::from_secs(60)), ..Retention::default() };
    let left = kept(&points, &policy, at("2026-11-20T00:00:00Z"));
    assert_eq!(left, [points[2].clone()]);
}

#[test]
fn points_of_the_future_stay_and_take_nobodys_place() {
    let now = at("2026-11-20T00:00:00Z");
    let mut points = every(DAY, at("2026-11-01T00:00:00Z"), 5);
    let before = kept(&points, &daily(3), now);
    points.extend(every(DAY, at("2036-01-01T00:00:00Z"), 30));
    let after = kept(&points, &daily(3), now);
    assert_eq!(after.len(), 30 + before.len());
    assert!(before.iter().all(|it| after.contains(it)));
}

#[test]
fn a_clock_that_was_stepped_ahead_drops_only_what_goes_anyway() {
    let points = every(HOUR, at("2026-10-01T00:00:00Z"), 24 * 40);
    let policy =
        Retention { last: Some(3), within: Some(Span::from_secs(5 * 86_400)), daily: Some(7), ..Retention::default() };
    let late = kept(&points, &policy, at("2046-01-01T00:00:00Z"));
    let right = kept(&points, &policy, points.last().unwrap().at);
    // The young ones alone are judged by the present.
    assert!(right.iter().all(|it| late.contains(it) || it.at + YOUNG > points.last().unwrap().at));
}

#[test]
fn a_suspicious_newest_point_suspends_all_dropping_until_something_good_follows() {
    let now = at("2026-11-20T00:00:00Z");
    let mut points = every(DAY, at("2026-01-01T00:00:00Z"), 50);
    let emptied = points.last_mut().unwrap();
    (emptied.good, emptied.suspicious) = (false, true);
    assert!(suspended(&points).is_some());
    assert_eq!(kept(&points, &daily(3), now).len(), 50);
    points.push(good(at("2026-02-20T06:00:00Z")));
    assert_eq!(suspended(&points), None);
    // Neither does it take a place of one that counts.
    assert_eq!(kept(&points, &daily(3), now).len(), 3);
}

#[test]
fn points_that_do_not_count_stay_a_week_and_longer_while_nothing_newer_counts() {
    let now = at("2026-11-20T00:00:00Z");
    let partial = |at| Known { good: false, ..good(at) };
    let points = [good(at("2026-11-01T00:00:00Z")), partial(at("2026-11-02T00:00:00Z"))];
    assert_eq!(fate(&points, &daily(1), now, &points[1].id), Fate::Keep(vec![Reason::NothingNewer]));
    let points =
        [partial(at("2026-11-02T00:00:00Z")), partial(at("2026-11-15T00:00:00Z")), good(at("2026-11-16T00:00:00Z"))];
    assert_eq!(fate(&points, &daily(1), now, &points[0].id), Fate::Drop(Why::NeverCounted));
    assert_eq!(fate(&points, &daily(1), now, &points[1].id), Fate::Keep(vec![Reason::ForPeople]));
}

#[test]
fn a_damaged_point_takes_no_others_place_and_stays_where_it_would_have_had_one() {
    let now = at("2026-11-20T00:00:00Z");
    let mut points = every(86_400, at("2026-11-01T00:00:00Z"), 10);
    for newest in &mut points[7..] {
        newest.damaged = true;
    }
    let policy = Retention { last: Some(2), ..Retention::default() };
    assert_eq!(fate(&points, &policy, now, &points[6].id), Fate::Keep(vec![Reason::Newest, Reason::Last]));
    assert_eq!(fate(&points, &policy, now, &points[5].id), Fate::Keep(vec![Reason::Last]));
    assert!(matches!(fate(&points, &policy, now, &points[9].id), Fate::Keep(why) if why.contains(&Reason::Damaged)));
    assert_eq!(fate(&points, &policy, now, &points[7].id), Fate::Keep(vec![Reason::NothingNewer]));
    points[2].damaged = true;
    assert_eq!(fate(&points, &policy, now, &points[2].id), Fate::Drop(Why::NoRule), "it would have gone anyway");
    for it in &mut points {
        it.damaged = true;
    }
    assert!(points.iter().all(|it| fate(&points, &policy, now, &it.id) != Fate::Drop(Why::NoRule)), "all stay");
}

/// The same small generator each time.
fn dice(seed: &mut u64, sides: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % sides
}

/// Dropping as one goes along keeps all that one look at the end, over everything there ever was, would keep.
#[test]
fn no_sequence_of_runs_drops_what_a_later_one_would_keep() {
    for seed in 0..60_u64 {
        let mut state = seed + 1;
        let mut rule = |most| (dice(&mut state, 3) > 0).then(|| u32::try_from(1 + dice(&mut state, most)).unwrap());
        let policy = Retention {
            last: rule(9),
            hourly: rule(30),
            daily: rule(9),
            weekly: rule(5),
            monthly: rule(4),
            yearly: rule(3),
            within: rule(20).map(|it| Span::from_secs(u64::from(it) * 40_000)),
        };
        let (mut now, mut all, mut left) = (at("2025-11-20T00:00:00Z"), Vec::new(), Vec::new());
        for _ in 0..300 {
            now += SignedDuration::from_secs(600 + i64::try_from(dice(&mut state, 150_000)).unwrap());
            let made = Known { good: dice(&mut state, 8) > 0, ..good(now) };
            all.push(made.clone());
            left.push(made);
            if dice(&mut state, 3) > 0 {
                left = kept(&left, &policy, now);
            }
        }
        let wanted = kept(&all, &policy, now);
        let lost: Vec<_> = wanted.iter().filter(|it| !left.contains(it)).collect();
        assert!(lost.is_empty(), "seed {seed}, {policy:?}: {lost:?}");
        assert_eq!(kept(&left, &policy, now), wanted, "seed {seed}");
    }
}

#[test]
fn a_point_stays_as_long_as_it_was_to_be_locked_longer_than_others() {
    let mut points = every(DAY, at("2026-01-01T00:00:00Z"), 8);
    let until = at("2026-07-01T00:00:00Z");
    points[0].lock_until = Some(until);
    let second = SignedDuration::from_secs(1);
    assert_eq!(fate(&points, &daily(1), until - second, &points[0].id), Fate::Keep(vec![Reason::Locked]));
    assert_eq!(fate(&points, &daily(1), until, &points[0].id), Fate::Drop(Why::NoRule));
}
