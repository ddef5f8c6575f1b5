//! A run that is cancelled: from every world that the model reaches, the volume comes back to the tenant's claim.

use super::*;

/// The next step of giving it back, and how the application has it.
fn asked(world: &World) -> ((Step, Vec<Effect>), Held) {
    let (run, movers, vault, volume, seen) = (run(), movers(), vault(), wanted("s1"), world.seen());
    let restore = Restore {
        run: &run,
        movers: &movers,
        application: &application(),
        vault: &vault,
        point: "p1",
        volume: &volume,
        data: Data::Snapshot(&[]),
        seen: &seen,
        deadline: 600,
        ahead: false,
        now: FAILED_AT + SignedDuration::from_hours(1),
    };
    (restore.give_back(), restore.held())
}

/// Passes until all is given back; the controllers do so much between two of them.
fn given_back(mut world: World, between: usize) -> World {
    // The pass that went on when it was cancelled has ended, or was interrupted.
    world.pending.clear();
    for _ in 0..100 {
        for _ in 0..between {
            let Some(next) = world.controllers().into_iter().next() else { break };
            world = next;
        }
        assert_eq!(world.lost, Vec::<String>::new());
        let (step, effects) = asked(&world).0;
        if step == Step::Done {
            return world;
        }
        for effect in &effects {
            world.perform(effect);
        }
    }
    panic!("no end: {world:#?}")
}

#[test]
fn whenever_it_is_cancelled_the_volume_comes_back_with_what_is_on_it() {
    let mut ends = BTreeSet::new();
    for lazy in [false, true] {
        for world in explore(World::with_old_data(lazy, Mutation::None), "s1").unwrap() {
            for between in [1, 60] {
                let end = given_back(world.clone(), between);
                let data = end.served().unwrap_or_else(|| panic!("the claim has no volume: {end:#?}")).to_owned();
                let volume = &end.volumes["pv-old"];
                assert_eq!((volume.reclaim(), volume.annotation(RECLAIM_POLICY)), ("Delete", None));
                assert!(end.job.is_none() || end.job.as_ref().is_some_and(|it| it.deleting));
                let held = asked(&end).1;
                let whole = held == Held::Whole;
                assert!(!whole || data == "s1", "{held:?} with {data}");
                assert!(held != Held::Untouched || data == "old", "{held:?} with {data}");
                ends.insert(format!("{held:?} {data}"));
            }
        }
    }
    let all = ["Partly old", "Partly s1", "Untouched old", "Whole s1"];
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_volume_that_was_only_being_made_leaves_nothing_or_is_given_to_the_claim() {
    for lazy in [false, true] {
        for world in explore(World::empty(lazy, Mutation::None), "s1").unwrap() {
            let start = World { copies_may_go: true, ..world };
            let mut end = given_back(start, 60);
            while let Some(next) = end.controllers().into_iter().next() {
                end = next;
            }
            assert!(end.job.is_none() && !end.claims.contains_key(&World::own()), "{end:#?}");
            assert_eq!(end.served().is_some(), !end.volumes.is_empty(), "no volume is left without a claim: {end:#?}");
        }
    }
}
