//! What must hold, judged by what really happened, which no region knows.

use std::sync::Arc;

use reprise::{
    api::application::Fencing,
    core::claim::{
        mark::{Standing, enters, standing},
        record::{Claim, Entry, Purpose},
        view::View,
    },
};

use super::{
    lead::App,
    moves::released_to,
    world::{Change, Mark, NAMES, World},
};

/// Quanta that may lie between two sightings of a version, for the time between them to count as silence: shorter
/// than two and a half `renew`, by either clock.
const GAP: u8 = 5;
/// More quanta than any `wait` has.
const MANY: u8 = 17;

/// What a region was told, noted independently of what it makes of it.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// The newest version that an answer told it of, since its operator started.
    pub newest: Option<Arc<Claim>>,
    /// The version of the last answer, that of its absence included.
    #[expect(clippy::option_option, reason = "no answer, or one that there is no claim")]
    pub version: Option<Option<Arc<str>>>,
    /// For how many quanta it was seen, without a gap.
    pub quiet: u8,
    /// So many quanta ago.
    pub ago: u8,
    /// It was not told what became of its last version.
    pub open: bool,
    /// The newest epoch in which it had to fence.
    pub fenced: u64,
    /// It was told of something older than it knew.
    pub fell: bool,
    /// For so many quanta its operator runs without any answer, counted up to where it matters.
    pub alone: u8,
}

impl Witness {
    pub fn restart(&mut self) {
        *self = Self { fenced: self.fenced, ..Self::default() };
    }

    pub fn pass(&mut self) {
        self.ago = (self.ago + 1).min(GAP);
        self.alone += u8::from(self.version.is_none() && !self.fell && self.alone < GAP);
    }

    fn sighting(&mut self, version: Option<Arc<str>>) {
        let same = self.version.as_ref() == Some(&version) && self.ago < GAP;
        self.quiet = if same { (self.quiet + self.ago).min(MANY) } else { 0 };
        self.version = Some(version);
        self.ago = 0;
        self.alone = 0;
    }
}

/// I1 where it is promised: an application begins to serve.
pub fn started(world: &mut World, at: usize) {
    let strict = world.plan.fencing == Fencing::Strict && !world.rolled_back && world.plan.left.forgets == 0;
    if strict && world.regions[1 - at].seat.app != App::Off {
        world.broke("I1: two regions serve");
    }
}

/// What must hold in each state.
pub fn always(world: &mut World) {
    let valid = |at: usize| {
        let region = &world.regions[at];
        region.state.as_ref().is_some_and(|it| it.valid(&region.settings, super::world::NOW))
    };
    // Longer than any `hold`, and what it takes to begin.
    let alone = (0..2).any(|at| {
        let it = &world.regions[at];
        it.state.is_some() && it.witness.alone == GAP && matches!(it.seat.app, App::Serving(_))
    });
    let contested = valid(0) && valid(1);
    if alone && world.plan.fencing == Fencing::Strict {
        world.broke("rule 6: a holder that has proved nothing since its start still serves");
    }
    if !world.rolled_back && contested {
        world.broke("I4: two regions hold a valid claim");
    }
    if world.plan.steady && world.begun {
        let elsewhere = world.stored.as_ref().is_some_and(|it| it.epoch > 1);
        if elsewhere || world.regions[0].seat.app != App::Serving(1) {
            world.broke("I8: an outage of the vault alone stopped or moved a healthy application");
        }
    }
}

/// A region sends a version.
pub fn sending(world: &mut World, at: usize, claim: &Claim, entry: Option<&Entry>) {
    let region = &world.regions[at];
    let witness = &region.witness;
    let base = witness.newest.as_deref();
    if witness.open {
        return world.broke("rule 3: a version is sent while it is not known what became of the one before");
    }
    if region.state.as_ref().is_some_and(|it| it.conflict.is_some()) {
        return world.broke("rule 7: a version is sent by a region in conflict");
    }
    let older = base.is_some_and(|it| claim.seq <= it.seq || claim.epoch < it.epoch);
    if older || witness.fell || claim.epoch < region.settings.evidence.and_then(|it| it.status).unwrap_or(0) {
        return world.broke("I2: a version follows one that is older than what its region knew");
    }
    let purpose = entry.map(|it| it.purpose);
    if purpose == Some(Purpose::Renew) && claim.epoch <= witness.fenced {
        return world.broke("I6: a fenced holder renews");
    }
    let rises = claim.epoch > base.map_or(0, |it| it.epoch);
    if !rises {
        return;
    }
    if !world.plan.candidates[at] {
        return world.broke("rule 5: a region takes the claim that is no candidate");
    }
    if base.is_none() && region.settings.evidence.is_none_or(|it| it.status.max(it.head).is_some()) {
        return world.broke("rule 8: a first claim is made against the evidence, or before it was looked for");
    }
    let me = NAMES[at];
    let free = match base {
        None => at == 0,
        Some(it) => released_to(it, me) || (it.holder.as_deref() == Some(me) && witness.fenced >= it.epoch),
    };
    let wait = base.map_or(0, |it| it.deadlines.wait).max(region.settings.deadlines.wait);
    let waited = u64::from(witness.quiet) * region.pace >= u64::from(wait) * 1000;
    if !free && !waited {
        world.broke("I5: the claim is taken without silence, release or hand-over");
    }
}

/// A version lands.
pub fn landing(world: &mut World, _at: usize, claim: &Claim) {
    let Some(before) = world.stored.clone() else { return };
    if claim.seq != before.seq + 1 || claim.epoch < before.epoch || claim.epoch > before.epoch + 1 {
        world.broke("I2: epoch or seq fell");
    }
}

/// A read is answered.
pub fn found(world: &mut World, at: usize, claim: Option<&Claim>) {
    // What is known from elsewhere counts once it was looked up.
    let known = world.regions[at].settings.evidence.and_then(|it| it.status.max(it.head)).unwrap_or(0);
    let witness = &mut world.regions[at].witness;
    witness.fell = match (&witness.newest, claim) {
        (None, None) => known > 0,
        (None, Some(it)) => it.epoch < known,
        (Some(_), None) => true,
        (Some(newest), Some(it)) => {
            it.epoch < newest.epoch || it.seq < newest.seq || (it.seq == newest.seq && it.nonce != newest.nonce)
        }
    };
    if witness.fell {
        witness.version = None;
        witness.alone = 0;
        return;
    }
    witness.open = false;
    witness.sighting(claim.map(|it| it.nonce.as_str().into()));
    witness.newest = claim.cloned().map(Arc::new);
}

/// A write is answered: it landed.
pub fn landed(world: &mut World, at: usize, claim: &Arc<Claim>) {
    let witness = &mut world.regions[at].witness;
    witness.sighting(Some(claim.nonce.as_str().into()));
    witness.newest = Some(claim.clone());
}

/// The rest of an operator looks at its claim.
pub fn seen(world: &mut World, at: usize, view: &View) {
    let witness = &mut world.regions[at].witness;
    if view.must_fence {
        witness.fenced = witness.fenced.max(view.own_epoch.unwrap_or(0));
    }
    if witness.fell && view.conflict.is_none() {
        world.broke("rule 7: a claim that is older than what is known is no conflict");
    } else if witness.fell && view.valid {
        world.broke("rule 7: a claim in conflict is acted on");
    } else if !witness.fell && view.conflict.is_some() && !world.rolled_back {
        world.broke("rule 7: a conflict where there is none");
    }
}

/// I3, I4: what a holder sent elsewhere arrives there, and is taken by the mark that it finds.
pub fn change(world: &mut World, change: Change, mark: Mark, mine: Mark) {
    let standing = standing((mark.epoch, NAMES[mark.by]), (mine.epoch, NAMES[mine.by]));
    match change {
        Change::Seal(_) => match standing {
            Standing::Older if mark.epoch > mine.epoch => world.broke("I2: the epoch of the head fell"),
            Standing::Older => world.head = mine,
            Standing::Mine | Standing::Newer | Standing::Contested => {}
        },
        Change::Enter(_) => {
            let entered = enters((mark.epoch, NAMES[mark.by]), (mine.epoch, NAMES[mine.by]));
            if entered && mark.epoch > mine.epoch {
                world.broke("I3: a point entered after a newer seal");
            }
        }
        Change::Name(_) => match standing {
            Standing::Older | Standing::Mine if mark.epoch > mine.epoch => {
                world.broke("I4: the name's record went back to an older holder");
            }
            Standing::Older | Standing::Mine => world.name = mine,
            Standing::Newer | Standing::Contested => {}
        },
    }
}
