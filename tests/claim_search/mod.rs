//! An exhaustive search of what two regions may do with one claim.
mod breadth;
mod key;
mod lead;
mod moves;
mod plan;
mod promises;
mod world;

use std::time::Instant;

use plan::{Left, Plan};
use reprise::core::claim::rules::{Rule, every_rule};

#[test]
fn all_worlds() {
    let most = std::env::var("MOST").map_or(400_000, |it| it.parse().unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    let var = |it: &str, d: u8| std::env::var(it).map_or(d, |it| it.parse().unwrap());
    for mut plan in Plan::all().into_iter().filter(|it| it.name.contains(&only)) {
        plan.left.messages = var("M", plan.left.messages);
        plan.left.restarts = var("R", plan.left.restarts);
        plan.left.cuts = var("C", plan.left.cuts);
        plan.left.losses = var("L", plan.left.losses);
        plan.left.clocks = var("K", plan.left.clocks);

        let begun = Instant::now();
        let found = breadth::search(&plan, None, most);
        println!("{:10} {} states, depth {}, complete {} {:?} {:?}", plan.name, found.states, found.depth, found.complete, found.broken, begun.elapsed());
    }
}

macro_rules! gate {
    ($($rule:ident, $test:ident, $world:ident $($fault:ident)*;)*) => {
        $(#[test]
        fn $test() {
            let begun = Instant::now();
            let plan = Plan::$world();
            let left = Left { $($fault: plan.left.$fault,)* ..Left::default() };
            let found = breadth::search(&Plan { left, ..plan }, Some(Rule::$rule), 400_000);
            println!("{:36} {} {} states, depth {}, {:?} {:?}", stringify!($rule), stringify!($world), found.states, found.depth, found.broken, begun.elapsed());
            assert!(found.broken.is_some());
        })*
    };
}

mod gate {
    use super::*;
    every_rule!(gate);
}
