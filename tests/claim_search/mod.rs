//! An exhaustive search of what two regions may do with one claim. It drives the step function that the operator runs,
//! breadth first, through all that may happen within a plan's bounds, and knows each state again: within them nothing is
//! left out, however long it takes to get there.
//!
//! It is a part of the library's own tests, and not a test of the built library, since the switches of the rules must
//! exist in no library that is built. What it does not have: a third region (the simulation does), peers that
//! acknowledge a holder (the product has none yet: they would be a request of their own in `world::What`), and anything
//! of an application but whether it runs.

mod breadth;
mod gate;
mod key;
mod lead;
mod moves;
mod plan;
mod promises;
mod world;

use std::{fs, path::Path, time::Instant};

use breadth::{Found, search};
use plan::{Left, Plan};

use crate::core::claim::rules::Rule;

/// States after which a search of `make model` gives up and says so.
const MOST: usize = 3_000_000;

fn tell(what: &str, found: &Found, begun: Instant) {
    let Found { states, depth, complete, broken } = found;
    let end = match broken {
        Some((what, way)) => format!("{what}, after {} moves: {way:?}", way.len()),
        None if *complete => "nothing broke, and nothing is left to be looked at".to_owned(),
        None => "nothing broke, and more is left to be looked at".to_owned(),
    };
    println!("{what}: {states} states, depth {depth}, {:.1} s: {end}", begun.elapsed().as_secs_f64());
}

/// What a world with any two of its kinds of mishaps does to the promises: nothing.
fn holds(world: &Plan) {
    for plan in world.clone().pairs() {
        let begun = Instant::now();
        let found = search(&plan, None, MOST);
        tell(plan.name, &found, begun);
        assert_eq!(found.broken, None, "{:?}", plan.left);
        assert!(found.complete, "{:?}", plan.left);
    }
}

macro_rules! worlds {
    ($($test:ident, $world:ident;)*) => {
        $(#[test]
        fn $test() {
            holds(&Plan::$world());
        })*

        fn worlds() -> Vec<Plan> {
            vec![$(Plan::$world(),)*]
        }
    };
}

worlds! {
    strict_regions_never_serve_together, strict;
    no_two_regions_hold_a_valid_claim_whoever_is_away, advisory;
    an_outage_of_the_vault_alone_stops_and_moves_nothing, outage;
    a_strict_holder_without_journal_and_vault_does_not_serve_on, forgetful;
    a_restart_on_another_machine_proves_nothing, moved;
    one_wrong_clock_does_no_harm, clocks;
    deadlines_may_change_at_any_time, told;
    a_bystander_takes_nothing, bystander;
    a_hand_over_may_be_asked_for_and_withdrawn_at_any_time, handover;
    a_vault_that_was_set_back_is_noticed, rollback;
    what_a_holder_changes_elsewhere_may_arrive_at_any_time, changes;
}

/// All kinds of mishaps of each world together, and all rules: `make model`.
#[test]
#[ignore = "takes minutes: make model"]
fn everything() {
    let (mut states, mut depth, mut violations) = (0, 0, 0);
    for plan in worlds().into_iter().chain([Plan::reset()]) {
        let begun = Instant::now();
        let found = search(&plan, None, MOST);
        tell(plan.name, &found, begun);
        states += found.states;
        depth = depth.max(found.depth);
        violations += usize::from(found.broken.is_some());
    }
    let caught = gate::all().into_iter().filter(|(rule, plan)| gate::catches(*rule, plan)).count();
    let report = serde_json::json!({
        "states": states,
        "depth": depth,
        "violations": violations,
        "mutations": gate::all().len(),
        "mutationsCaught": caught,
    });
    println!("{report}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/model");
    fs::create_dir_all(&folder).expect("a folder below target/");
    fs::write(folder.join("report.json"), format!("{report:#}\n")).expect("a file below target/");
    assert_eq!((violations, caught), (0, gate::all().len()));
}
