//! Breadth-first search, level by level, each level on all cores: the first violation has a shortest way to it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::core::claim::rules::{Rule, without};

use super::{
    key::key,
    moves::{Move, moves},
    plan::Plan,
    world::World,
};

/// States that a thread takes at a time.
const SHARE: usize = 256;

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Different states that were met.
    pub states: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// All that can happen within the plan's bounds was looked at.
    pub complete: bool,
    /// What broke first, and how it came to that.
    pub broken: Option<(&'static str, Vec<Move>)>,
}

/// A state that was met: from which one, by what.
struct Step {
    from: usize,
    by: Option<Move>,
}

struct Next {
    key: u64,
    from: usize,
    by: Move,
    world: World,
}

/// Searches a world without a rule, or with all, until something breaks, nothing is left, or there are too many states.
pub fn search(plan: &Plan, off: Option<Rule>, most: usize) -> Found {
    without(off, || {
        let plan = Arc::new(plan.clone());
        let (mut steps, mut level, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for world in World::begin(&plan) {
            if seen.insert(key(&world)) {
                steps.push(Step { from: steps.len(), by: None });
                level.push((steps.len() - 1, world));
            }
        }
        let mut found = Found::default();
        while !level.is_empty() && steps.len() < most {
            let mut next = expand(&level, &seen, off);
            // The order in which threads end says nothing: the same search finds the same way.
            next.sort_by_key(|it| it.from);
            level = Vec::with_capacity(next.len());
            found.depth += usize::from(!next.is_empty());
            for Next { key, from, by, world } in next {
                if !seen.insert(key) && world.broken.is_none() {
                    continue;
                }
                steps.push(Step { from, by: Some(by) });
                if let Some(broken) = world.broken {
                    found.broken = Some((broken, way(&steps)));
                    found.states = steps.len();
                    return found;
                }
                level.push((steps.len() - 1, world));
            }
        }
        found.states = steps.len();
        found.complete = level.is_empty();
        found
    })
}

/// All that follows from the states of a level and was not met before.
fn expand(level: &[(usize, World)], seen: &HashSet<u64>, off: Option<Rule>) -> Vec<Next> {
    let (taken, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        without(off, || {
            let mut mine = Vec::new();
            loop {
                let from = taken.fetch_add(SHARE, Ordering::Relaxed);
                let Some(share) = level.get(from..(from + SHARE).min(level.len())).filter(|it| !it.is_empty()) else {
                    break;
                };
                for (from, world) in share {
                    follow(*from, world, seen, &mut mine);
                }
            }
            all.lock().expect("no thread panicked").append(&mut mine);
        });
    };
    if level.len() <= SHARE {
        let mut mine = Vec::new();
        for (from, world) in level {
            follow(*from, world, seen, &mut mine);
        }
        return mine;
    }
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    all.into_inner().expect("no thread panicked")
}

fn follow(from: usize, world: &World, seen: &HashSet<u64>, all: &mut Vec<Next>) {
    for by in moves(world) {
        let mut world = world.clone();
        world.happen(by);
        if world.broken.is_none() && world.stored.as_ref().is_some_and(|it| it.epoch > world.plan.epochs) {
            continue;
        }
        let key = key(&world);
        // What broke on the way may have led to where others came soundly.
        if world.broken.is_some() || !seen.contains(&key) {
            all.push(Next { key, from, by, world });
        }
    }
}

/// How the newest state was reached.
fn way(steps: &[Step]) -> Vec<Move> {
    let mut moves = Vec::new();
    let mut at = steps.len() - 1;
    while let Some(by) = steps[at].by {
        moves.push(by);
        at = steps[at].from;
    }
    moves.reverse();
    moves
}
