//! What the rest of an operator makes of a view, played as boldly as its view allows: it serves as soon as it may,
//! takes the claim whenever it can (unless it was planned to wait for a person), and stops only when it must.

use reprise::core::claim::{
    record::Intent,
    state::{Evidence, Wish},
    step::Observation,
    view::View,
};

use crate::{
    promises,
    world::{App, World},
};

/// Looks at the view and acts on it.
pub fn govern(world: &mut World, at: usize) {
    let Some(view) = world.regions[at].view(world.real) else { return };
    promises::sane(world, at, &view);
    remember(world, at, &view);
    let known = view.claim.is_some();
    match world.regions[at].app {
        App::Serving(epoch) => {
            let handover = view.requested_handover.clone().filter(|_| view.mine);
            if view.must_fence || (known && (!view.mine || view.epoch != epoch)) {
                world.stop(at, epoch);
            } else if let Some(handover) = handover {
                world.regions[at].leaving = Some(handover.to);
                world.stop(at, epoch);
            } else {
                want(world, at, Wish::Hold);
            }
        }
        // A holder that stops for a handover keeps the claim until it has stopped.
        App::Stopping(_) if world.regions[at].leaving.is_some() => want(world, at, Wish::Hold),
        App::Stopping(_) => want(world, at, Wish::Watch),
        App::Off => off(world, at, &view),
    }
}

fn off(world: &mut World, at: usize, view: &View) {
    if let Some(to) = world.regions[at].leaving.clone() {
        let withdrawn = view.claim.is_some() && view.requested_handover.is_none();
        if view.claim.is_none() || (view.mine && !withdrawn) {
            let wish = Wish::Release { to: Some(to), point: None, reason: "handover".to_owned() };
            return want(world, at, wish);
        }
        world.regions[at].leaving = None;
        world.summary.releases += u64::from(!view.mine);
    }
    if view.mine && view.valid {
        promises::serving(world, at);
        world.head = world.head.max(view.epoch);
        world.regions[at].app = App::Serving(view.epoch);
        world.say(|| format!("{at} serves with epoch {}", view.epoch));
        return want(world, at, Wish::Hold);
    }
    if view.seizable && takes(world, at, view) {
        return want(world, at, Wish::Seize { epoch: view.epoch + 1, reason: "silence".to_owned() });
    }
    if view.mine && !view.fenced {
        return want(world, at, Wish::Hold);
    }
    let pending = match &world.regions[at].wish {
        Wish::Seize { epoch, .. } => *epoch == view.epoch + 1,
        Wish::RequestHandover { .. } => !view.mine,
        Wish::Hold => view.claim.is_none(),
        Wish::Undecided | Wish::Watch | Wish::Release { .. } => false,
    };
    if !pending {
        want(world, at, Wish::Watch);
    }
}

/// Whether it takes a claim that it may take.
fn takes(world: &World, at: usize, view: &View) -> bool {
    let region = &world.regions[at];
    let me = &region.settings.region;
    let for_me = |it: &Intent| matches!(it, Intent::Released { to: Some(to), .. } if to == me);
    if view.claim.as_ref().is_some_and(|it| for_me(&it.intent)) && !view.given_up_by(me) {
        // What it asked for, unless it changed its mind.
        return !region.unwilling;
    }
    if world.plan.waits_for_people && view.epoch > 0 {
        return view.mine || view.returned_to(me);
    }
    view.epoch > 0 || at == 0
}

/// What lasts in the application's status, and what is found elsewhere. Both reach the claim's settings.
fn remember(world: &mut World, at: usize, view: &View) {
    let head = world.head;
    let fresh = world.dice.one_in(3);
    let region = &mut world.regions[at];
    if view.fenced {
        region.fenced = region.state.as_ref().and_then(|it| it.own.as_ref()).map(|own| own.epoch).max(region.fenced);
    }
    region.status_epoch = region.status_epoch.max((view.epoch > 0).then_some(view.epoch));
    let before = region.settings.evidence.and_then(|it| it.head);
    let head = if fresh { Some(head) } else { before };
    region.settings.evidence = Some(Evidence { status: region.status_epoch, head, fenced: region.fenced, held: None });
}

fn want(world: &mut World, at: usize, wish: Wish) {
    if world.regions[at].wish != wish {
        world.regions[at].wish = wish.clone();
        world.observe(at, Observation::Wished(wish));
    }
}

/// A person asks for the application in this region.
pub fn ask_for_it(world: &mut World, at: usize) {
    let to = world.regions[at].settings.region.clone();
    let idle = world.regions[at].app == App::Off && world.regions[at].wish == Wish::Watch;
    if idle && world.regions[at].state.is_some() {
        world.say(|| format!("{at} asks for it"));
        world.regions[at].unwilling = false;
        want(world, at, Wish::RequestHandover { to, run: format!("run-{}", world.real) });
    }
}

/// Whoever asked for the application does not want it any more, whatever became of that meanwhile.
pub fn ask_no_more(world: &mut World) {
    for at in 0..world.regions.len() {
        if matches!(world.regions[at].wish, Wish::RequestHandover { .. }) && world.regions[at].state.is_some() {
            world.say(|| format!("{at} does not want it any more"));
            world.regions[at].unwilling = true;
            want(world, at, Wish::Watch);
        }
    }
}
