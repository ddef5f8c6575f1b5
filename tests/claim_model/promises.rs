//! What must hold, judged by what really happened and when, which no region knows.

use reprise::{
    api::application::Fencing,
    core::claim::{
        record::{Claim, Entry, Intent, Purpose},
        view::View,
    },
};

use crate::world::{App, World};

fn broke(world: &mut World, what: String) {
    world.say(|| what.clone());
    if world.broken.is_none() {
        world.broken = Some(what);
    }
}

/// I1: `Strict` regions never serve together. `Advisory` ones may, and are counted.
pub fn serving(world: &mut World, at: usize) {
    let Some(other) = (0..world.regions.len()).find(|it| *it != at && world.regions[*it].app != App::Off) else {
        return;
    };
    match world.plan.fencing {
        Fencing::Strict => broke(world, format!("I1: {at} begins to serve while it may still run in {other}")),
        Fencing::Advisory => world.summary.overlaps += 1,
    }
}

/// I4: at most one region holds a valid claim, so that at most one may change DNS.
pub fn validity(world: &mut World, at: usize) {
    let valid = |world: &World, at: usize| world.regions[at].view(world.real).is_some_and(|it| it.valid);
    let now = valid(world, at);
    if now && !world.regions[at].was_valid {
        for other in (0..world.regions.len()).filter(|it| *it != at) {
            if valid(world, other) {
                broke(world, format!("I4: {at} and {other} both hold a valid claim"));
                break;
            }
        }
    }
    world.regions[at].was_valid = now;
}

/// I2: epoch and seq never fall. I5: no seizure without silence, or a release.
pub fn landing(world: &mut World, at: usize, claim: &Claim, sent: u64) {
    let Some((before, _)) = world.stored.clone() else {
        world.summary.seizures += 1;
        return;
    };
    if claim.seq != before.seq + 1 || claim.epoch < before.epoch || claim.epoch > before.epoch + 1 {
        let (old, new) = ((before.epoch, before.seq), (claim.epoch, claim.seq));
        broke(world, format!("I2: epoch and seq went from {old:?} to {new:?}"));
    }
    let me = &world.regions[at].settings.region;
    let by_me = |it: &Option<String>| it.as_ref() == Some(me);
    if claim.epoch == before.epoch {
        let declined = match &claim.intent {
            Intent::None => claim.holder == before.holder && before.intent != Intent::None,
            Intent::Released { from, .. } => !by_me(from),
            Intent::Handover(_) => false,
        };
        world.summary.declined += u64::from(declined);
        return;
    }
    world.summary.seizures += 1;
    let own = matches!(&before.intent, Intent::Released { from, .. } if by_me(from));
    world.summary.taken_back += u64::from(own);
    let released = match &before.intent {
        Intent::Released { to, .. } => to.as_ref().is_none_or(|it| it == me),
        Intent::None | Intent::Handover(_) => false,
    };
    if released || before.holder.as_ref() == Some(me) || !world.plan.compare_and_swap {
        return;
    }
    if let Err(why) = silent(world, at, &before, sent) {
        broke(world, format!("I5: {at} took epoch {}: {why}", claim.epoch));
    }
}

/// Whether this version was seen for as long as everybody was told to wait, without a gap.
fn silent(world: &World, at: usize, before: &Claim, sent: u64) -> Result<(), String> {
    let region = &world.regions[at];
    let wait = u128::from(region.settings.deadlines.wait.max(before.deadlines.wait)) * 1000;
    let (version, moments) = &region.sightings;
    if version.as_ref() != Some(&before.nonce) {
        // It was sent before a crash, which wiped out what had been seen, or before a newer version was seen.
        return Ok(());
    }
    let seen: Vec<u64> = moments.iter().copied().filter(|it| *it <= sent).collect();
    let Some(last) = seen.last() else { return Ok(()) };
    let mut first = *last;
    for moment in seen.iter().rev() {
        if first - moment > u64::from(region.settings.deadlines.renew) * 2_600 {
            break;
        }
        first = *moment;
    }
    let waited = region.clock.at(sent).boot.saturating_sub(region.clock.at(first).boot).as_millis();
    if waited + 5 >= wait { Ok(()) } else { Err(format!("after {waited} ms of silence instead of {wait}")) }
}

/// I6: a fenced holder does not renew.
pub fn no_renewal_once_fenced(world: &mut World, at: usize, claim: &Claim, entry: Option<&Entry>) {
    let renewal = entry.is_some_and(|it| it.purpose == Purpose::Renew);
    if renewal && world.regions[at].fenced >= Some(claim.epoch) {
        broke(world, format!("I6: {at} renews epoch {} in which it fenced itself", claim.epoch));
    }
}

/// Nothing is ever rolled back here, and an outage of the vault moves nothing.
pub fn sane(world: &mut World, at: usize, view: &View) {
    if let Some(conflict) = view.conflict.as_ref().filter(|_| world.plan.compare_and_swap) {
        broke(world, format!("I2: {at} sees a conflict where there is none: {conflict}"));
    }
    if world.plan.nothing_moves && view.epoch > 1 {
        broke(world, format!("I8: {at} sees epoch {}", view.epoch));
    }
    if world.plan.nothing_moves && world.real > 10_000 && !matches!(world.regions[0].app, App::Serving(1)) {
        broke(world, "I8: the application was stopped".to_owned());
    }
}

/// In calm, one region serves, holds the claim, renews it, and all others know.
pub fn calm(world: &World) -> Result<(), String> {
    let serving: Vec<usize> =
        (0..world.regions.len()).filter(|it| matches!(world.regions[*it].app, App::Serving(_))).collect();
    let [at] = serving[..] else { return Err(format!("in calm, these serve: {serving:?}")) };
    let Some((claim, _)) = &world.stored else { return Err("in calm, there is no claim".to_owned()) };
    if claim.holder.as_ref() != Some(&world.regions[at].settings.region) {
        return Err(format!("in calm, {at} serves but {:?} holds the claim", claim.holder));
    }
    let age = world.real - world.stored_at;
    if age > 3_000 * u64::from(world.plan.deadlines.renew) {
        return Err(format!("in calm, the claim was last renewed {age} ms ago"));
    }
    for other in 0..world.regions.len() {
        let view = world.regions[other].view(world.real).ok_or(format!("in calm, {other} has no operator"))?;
        if view.holder != claim.holder || view.valid != (other == at) || !view.readable {
            return Err(format!("in calm, {other} sees {view:?}"));
        }
        if other != at && world.regions[other].app != App::Off {
            return Err(format!("in calm, {other} is {:?}", world.regions[other].app));
        }
    }
    Ok(())
}
