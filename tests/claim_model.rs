//! A seeded simulation of two or three regions that agree on a claim, driven through the real step function.
//!
//! Messages are lost, delayed beyond every deadline and delivered twice; operators and regions crash and come back;
//! clocks run up to 1 % fast or slow and are set; the vault goes away. After each seed's storm comes a calm, in which
//! the application must be served again. `SEED=<number>` replays one seed of each promise and prints what happened.
//!
//! It does not search exhaustively, and what it calls an application only knows whether it may be running.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "claim_model/lead.rs"]
mod lead;
#[path = "claim_model/plan.rs"]
mod plan;
#[path = "claim_model/promises.rs"]
mod promises;
#[path = "claim_model/world.rs"]
mod world;

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use plan::{Faults, Plan, Summary};
use reprise::{api::application::Fencing, core::claim::record::Deadlines};
use world::World;

const DEFAULTS: Deadlines = Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 };
/// Not a second longer than the law asks for.
const TIGHT: Deadlines = Deadlines { renew: 10, hold: 30, fence: 30, wait: 62 };
const SEEDS: u64 = 2_000;

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Runs all seeds on a few threads; gives each seed that broke a promise, and the sums of what happened.
fn run(plan: &Plan, count: u64) -> (Vec<(u64, String)>, Summary) {
    let (seeds, next) = (seeds(count), AtomicU64::new(0));
    let results = Mutex::new((Vec::new(), Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                    let mut world = World::new(*seed, plan.clone());
                    let outcome = world.run();
                    let mut results = results.lock().unwrap();
                    results.1.add(&world.summary);
                    if let Err(broken) = outcome {
                        results.0.push((*seed, broken));
                    }
                }
            });
        }
    });
    let (mut broken, summary) = results.into_inner().unwrap();
    broken.sort();
    (broken, summary)
}

fn expect_kept(plan: &Plan) -> Summary {
    let (broken, summary) = run(plan, SEEDS);
    if let Some((seed, what)) = broken.first() {
        panic!("{} of {SEEDS} seeds broke a promise; the first with SEED={seed}: {what}", broken.len());
    }
    println!("{summary:?}");
    summary
}

/// A storm that tests nothing proves nothing.
fn expect_stormy(summary: &Summary) {
    if std::env::var("SEED").is_ok() {
        return;
    }
    assert!(summary.seizures > SEEDS, "too few seizures: {summary:?}");
    assert!(summary.late_landings > SEEDS / 10, "too few writes landed late: {summary:?}");
    assert!(summary.restarts > SEEDS, "too few restarts: {summary:?}");
    assert!(summary.releases > SEEDS / 10, "too few handovers: {summary:?}");
}

#[test]
fn strict_regions_never_serve_together_and_one_serves_again_in_calm() {
    let faults = Faults { operator_away: 10_000, foreign_boots: true, ..Faults::storm() };
    let summary =
        expect_kept(&Plan { regions: 3, fencing: Fencing::Strict, deadlines: DEFAULTS, faults, ..Plan::default() });
    expect_stormy(&summary);
}

#[test]
fn the_law_needs_no_slack_when_operators_live() {
    let faults = Faults { operator_away: 0, clock_steps: true, ..Faults::storm() };
    expect_kept(&Plan { regions: 2, fencing: Fencing::Strict, deadlines: TIGHT, faults, ..Plan::default() });
}

#[test]
fn advisory_regions_never_both_hold_a_valid_claim_and_one_serves_again_in_calm() {
    let faults = Faults { operator_away: 200_000, foreign_boots: true, clock_steps: true, ..Faults::storm() };
    let summary =
        expect_kept(&Plan { regions: 3, fencing: Fencing::Advisory, deadlines: DEFAULTS, faults, ..Plan::default() });
    expect_stormy(&summary);
}

#[test]
fn what_was_asked_for_and_is_not_wanted_any_more_is_served_again_in_calm_without_a_person() {
    let faults = Faults { operator_away: 10_000, fickle: true, ..Faults::storm() };
    for fencing in [Fencing::Strict, Fencing::Advisory] {
        let waits_for_people = true;
        let plan = Plan {
            regions: 3,
            fencing,
            deadlines: DEFAULTS,
            faults: faults.clone(),
            waits_for_people,
            ..Plan::default()
        };
        let summary = expect_kept(&plan);
        let stormy = summary.declined > SEEDS / 10 && summary.taken_back > SEEDS / 20;
        assert!(stormy || std::env::var("SEED").is_ok(), "too few changed their mind: {summary:?}");
    }
}

#[test]
fn an_outage_of_the_vault_alone_moves_and_stops_no_advisory_application() {
    let plan = Plan {
        regions: 3,
        fencing: Fencing::Advisory,
        deadlines: DEFAULTS,
        faults: Faults { vault_outages: true, ..Faults::none() },
        nothing_moves: true,
        ..Plan::default()
    };
    let summary = expect_kept(&plan);
    assert_eq!(summary.seizures, if std::env::var("SEED").is_ok() { 1 } else { SEEDS }, "one to begin with");
}

/// What the simulation is worth: it must notice when a rule is broken. Few seeds must do.
fn expect_caught(plan: &Plan, what: &str) {
    if std::env::var("SEED").is_ok() {
        return;
    }
    let (broken, _) = run(plan, 200);
    println!("{} of 200 seeds", broken.iter().filter(|(_, it)| it.contains(what)).count());
    assert!(broken.iter().any(|(_, it)| it.contains(what)), "nothing said '{what}' among {broken:?}");
}

#[test]
fn a_wait_that_is_too_short_is_caught() {
    let deadlines = Deadlines { wait: 40, ..DEFAULTS };
    assert!(!deadlines.lawful());
    let faults = Faults { operator_away: 0, ..Faults::storm() };
    let plan = Plan { regions: 2, fencing: Fencing::Strict, deadlines, faults, ..Plan::default() };
    expect_caught(&plan, "I1");
    let deadlines = Deadlines { wait: 15, ..DEFAULTS };
    expect_caught(&Plan { deadlines, ..plan }, "I4");
}

#[test]
fn a_clock_that_runs_slower_than_the_law_allows_is_caught() {
    let faults = Faults { operator_away: 0, drift_per_mille: 300, ..Faults::storm() };
    let plan = Plan { regions: 2, fencing: Fencing::Strict, deadlines: TIGHT, faults, ..Plan::default() };
    expect_caught(&plan, "I1");
}

#[test]
fn a_vault_without_compare_and_swap_is_caught() {
    let plan =
        Plan { regions: 2, deadlines: DEFAULTS, faults: Faults::storm(), compare_and_swap: false, ..Plan::default() };
    expect_caught(&plan, "I2");
}

#[test]
fn a_journal_that_says_all_was_sent_just_now_is_caught() {
    let faults = Faults { operator_away: 10_000, lying_journal: true, ..Faults::storm() };
    let plan = Plan { regions: 3, fencing: Fencing::Strict, deadlines: DEFAULTS, faults, ..Plan::default() };
    expect_caught(&plan, "I1");
}
