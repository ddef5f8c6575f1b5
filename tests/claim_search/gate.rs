//! What the search is worth: with any one rule switched off it finds what that breaks, and so it does when what the
//! protocol assumes does not hold.

use std::time::Instant;

use reprise::core::claim::record::Deadlines;

use super::{
    Left, Plan, Rule,
    breadth::search,
    plan::{FAST, SLOW, TIGHT},
    tell,
};
use crate::core::claim::rules::every_rule;

const MOST: usize = 400_000;

/// Whether the search notices that a rule is not kept.
pub fn catches(rule: Rule, plan: &Plan) -> bool {
    let begun = Instant::now();
    let found = search(plan, Some(rule), MOST);
    tell(&format!("without {rule:?}"), &found, begun);
    found.broken.is_some()
}

macro_rules! gate {
    ($($rule:ident, $test:ident, $world:ident $($fault:ident)*;)*) => {
        $(#[test]
        fn $test() {
            let plan = Plan::$world();
            let left = Left { $($fault: plan.left.$fault,)* ..Left::default() };
            assert!(catches(Rule::$rule, &Plan { left, ..plan }), "nothing noticed that it is not kept");
        })*

        /// Each rule, and the world that misses it.
        pub fn all() -> Vec<(Rule, Plan)> {
            vec![$({
                let plan = Plan::$world();
                let left = Left { $($fault: plan.left.$fault,)* ..Left::default() };
                (Rule::$rule, Plan { left, ..plan })
            },)*]
        }
    };
}
every_rule!(gate);

fn expect(plan: &Plan, what: &str) {
    let begun = Instant::now();
    let found = search(plan, None, MOST);
    tell(what, &found, begun);
    assert!(found.broken.is_some_and(|(broken, _)| broken.starts_with(what)), "nothing noticed it");
}

fn cut_off() -> Plan {
    let plan = Plan::strict();
    Plan { left: Left { cuts: 1, ..Left::default() }, ..plan }
}

#[test]
fn a_wait_that_is_a_second_shorter_than_the_law_is_caught() {
    let short = Deadlines { wait: TIGHT.wait - 1, ..TIGHT };
    assert!(TIGHT.lawful() && !short.lawful());
    expect(&Plan { deadlines: [[short; 2]; 2], ..cut_off() }, "I1");
}

#[test]
fn clocks_that_differ_by_more_than_the_law_allows_are_caught() {
    expect(&Plan { paces: [SLOW, FAST + 10_000], ..cut_off() }, "I1");
    expect(&Plan { paces: [SLOW - 10_000, FAST], ..cut_off() }, "I1");
}

#[test]
fn a_vault_that_does_not_compare_is_caught() {
    let left = Left { messages: 1, cuts: 1, ..Left::default() };
    expect(&Plan { compare_and_swap: false, left, ..cut_off() }, "I2");
}
