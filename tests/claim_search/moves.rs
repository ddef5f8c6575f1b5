//! What may happen next, and what it does. All that goes wrong is counted; all else is free.

use reprise::core::claim::{
    record::{Claim, Handover, Intent},
    state::Wish,
    step::{Expected, Observation, Stored},
};
use std::sync::Arc;

use super::{
    lead::App,
    promises,
    world::{Answer, Change, Mark, NAMES, Request, What, World, Write},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A quantum passes.
    Pass,
    /// A request reaches the vault, if it did not yet, and its answer the sender.
    Answer(usize),
    /// A request does not reach the vault, or its answer not the sender.
    Lose(usize),
    /// A request reaches the vault; the answer takes until the next quantum.
    Delay(usize),
    /// A version lands, and lands again: the answer is that of the second.
    Repeat(usize),
    /// The sender gives up; the version may land later.
    Straggle(usize),
    /// It does.
    LandLate(usize),
    /// A version cannot be written down, and is not sent.
    Unsent(usize),
    Restart {
        at: usize,
        written_down: bool,
    },
    /// Restarted on another machine.
    Elsewhere(usize),
    /// Restarted without its journal.
    Forget(usize),
    Crash(usize),
    Lost(usize),
    Back(usize),
    Stopped(usize),
    Outage,
    OutageEnds,
    Cut(usize),
    Heal(usize),
    SetForward(usize),
    SetBack(usize),
    Stall(usize),
    Ask(usize),
    AskNoMore(usize),
    Backup,
    RollBack,
    Wipe,
    LookUp(usize),
    Begin(usize, bool),
    Land(usize),
    Tell(usize),
}

/// All that may happen next, but for what comes to the same as something else that may: what only matters to requests
/// waits for one, what does not matter to them waits until there is none, and two reads are answered in order.
pub fn moves(world: &World) -> Vec<Move> {
    let mut all = Vec::with_capacity(16);
    let quiet = world.regions.iter().all(|it| it.request.is_none());
    let sent = [0, 1].map(|at: usize| world.regions[at].request.as_ref().filter(|it| it.answer.is_none()));
    let both_read = sent.iter().all(|it| it.is_some_and(|it| matches!(it.what, What::Read)));
    let left = &world.left;
    for at in 0..2 {
        if !(both_read && at == 1) {
            requests(world, at, &mut all);
        }
        operators(world, at, quiet, &mut all);
        if quiet {
            elsewhere(world, at, &mut all);
        }
    }
    if sent.iter().any(Option::is_some) {
        outside(world, &mut all);
    }
    if quiet && left.rollbacks > 0 && world.stored.is_some() && world.backup.is_none() {
        all.push(Move::Backup);
    }
    if time_may_pass(world) {
        all.push(Move::Pass);
    }
    all
}

/// What requests meet on their way.
fn outside(world: &World, all: &mut Vec<Move>) {
    let left = &world.left;
    if !world.vault_up {
        all.push(Move::OutageEnds);
        return;
    }
    if left.outages > 0 && (!world.plan.steady || world.begun) {
        all.push(Move::Outage);
    }
    if left.rollbacks > 0 {
        if world.backup.is_some() && world.backup != world.stored {
            all.push(Move::RollBack);
        }
        if world.stored.is_some() {
            all.push(Move::Wipe);
        }
    }
    for at in 0..2 {
        if world.regions[at].straggler.is_some() {
            all.push(Move::LandLate(at));
        }
    }
}

/// A request that was neither answered nor given up, or an application that must have stopped, comes first.
fn time_may_pass(world: &World) -> bool {
    world.regions.iter().all(|it| {
        let answered = it.request.as_ref().is_none_or(|it| it.answer.is_some() && !it.aged);
        answered && !matches!(it.seat.app, App::Stopping(_, 0))
    })
}

fn requests(world: &World, at: usize, all: &mut Vec<Move>) {
    let region = &world.regions[at];
    let Some(request) = &region.request else { return };
    let reaches = world.reaches(at);
    let faulty = world.left.messages > 0;
    if reaches {
        all.push(Move::Answer(at));
    }
    if request.answer.is_some() {
        return all.push(Move::Lose(at));
    }
    if !reaches || faulty {
        all.push(Move::Lose(at));
    }
    if !region.linked {
        all.push(Move::Heal(at));
    } else if world.left.cuts > 0 {
        all.push(Move::Cut(at));
    }
    if !faulty {
        return;
    }
    if reaches {
        all.push(Move::Delay(at));
    }
    if let What::Write(write) = &request.what {
        if reaches && lands(world, write) {
            all.push(Move::Repeat(at));
        }
        if region.straggler.is_none() && lands(world, write) {
            all.push(Move::Straggle(at));
        }
        if write.entry.is_some() {
            all.push(Move::Unsent(at));
        }
    }
}

fn operators(world: &World, at: usize, quiet: bool, all: &mut Vec<Move>) {
    let (region, left) = (&world.regions[at], &world.left);
    if region.state.is_none() {
        if quiet {
            all.push(Move::Back(at));
        }
        return;
    }
    if !quiet && region.request.is_none() {
        return;
    }
    let writing = matches!(&region.request, Some(Request { what: What::Write(_), answer: None, .. }));
    for (count, it) in [
        (left.restarts, Move::Restart { at, written_down: false }),
        (left.restarts * u8::from(writing), Move::Restart { at, written_down: true }),
        (left.moves, Move::Elsewhere(at)),
        (left.forgets, Move::Forget(at)),
        (left.crashes, Move::Crash(at)),
        (left.losses, Move::Lost(at)),
    ] {
        if count > 0 {
            all.push(it);
        }
    }
}

/// What has nothing to do with requests.
fn elsewhere(world: &World, at: usize, all: &mut Vec<Move>) {
    let (region, left) = (&world.regions[at], &world.left);
    for (count, it) in
        [(left.clocks, Move::SetForward(at)), (left.clocks, Move::SetBack(at)), (left.settings, Move::Tell(at))]
    {
        if count > 0 && region.state.is_some() {
            all.push(it);
        }
    }
    if left.clocks > 0 && time_may_pass(world) {
        all.push(Move::Stall(at));
    }
    if left.asks > 0 && region.seat.app == App::Off && region.state.is_some() {
        match region.seat.wish {
            Wish::Watch => all.push(Move::Ask(at)),
            Wish::RequestHandover { .. } => all.push(Move::AskNoMore(at)),
            Wish::Undecided | Wish::Hold | Wish::Seize { .. } | Wish::Release { .. } => {}
        }
    }
    let lost = region.state.as_ref().is_some_and(|it| it.conflict.is_some());
    if region.settings.evidence.is_none() || (lost && evidence_is_old(world, at)) {
        all.push(Move::LookUp(at));
    }
    if let App::Stopping(..) = region.seat.app {
        all.push(Move::Stopped(at));
    }
    if region.change.is_some() && world.vault_up {
        all.push(Move::Land(at));
    }
    if left.changes > 0 && region.change.is_none() && matches!(region.seat.app, App::Serving(_)) {
        all.extend([Move::Begin(at, false), Move::Begin(at, true)]);
    }
}

/// Whether the catalogue's head says something else than when it was looked at.
fn evidence_is_old(world: &World, at: usize) -> bool {
    world.regions[at].settings.evidence.is_some_and(|it| it.head.unwrap_or(0) != world.head.epoch)
}

/// Whether a version would land now.
fn lands(world: &World, write: &Write) -> bool {
    match (&write.expected, &world.stored) {
        (Expected::Absent, None) => true,
        (Expected::Unchanged(tag), Some(stored)) => *tag == stored.nonce,
        (Expected::Absent, Some(_)) | (Expected::Unchanged(_), None) => false,
    }
}

impl World {
    /// It happens.
    #[expect(clippy::too_many_lines, reason = "each move, once")]
    pub fn happen(&mut self, it: Move) {
        match it {
            Move::Pass => self.pass(),
            Move::Answer(at) => self.answer(at),
            Move::Lose(at) => {
                let landed = self.regions[at].request.as_ref().is_some_and(|it| it.answer.is_some());
                self.left.messages -= u8::from(self.reaches(at) && !landed);
                self.lose(at);
            }
            Move::Delay(at) => {
                self.left.messages -= 1;
                let answer = self.arrive(at);
                if let Some(request) = &mut self.regions[at].request {
                    request.answer = answer;
                }
            }
            Move::Repeat(at) => {
                self.left.messages -= 1;
                self.arrive(at);
                self.regions[at].request.as_mut().expect("moves saw it").answer = Some(Answer::Lost);
                self.answer(at);
            }
            Move::Straggle(at) => {
                self.left.messages -= 1;
                if let Some(Request { what: What::Write(write), .. }) = self.regions[at].request.clone() {
                    self.regions[at].straggler = Some(write);
                }
                self.lose(at);
            }
            Move::LandLate(at) => {
                if let Some(write) = self.regions[at].straggler.take() {
                    self.land(at, &write);
                }
            }
            Move::Unsent(at) => {
                self.left.messages -= 1;
                if let Some(Request { what: What::Write(write), .. }) = self.regions[at].request.take() {
                    let nonce = write.claim.nonce.clone();
                    self.observe(at, Observation::WriteUnsent { nonce, why: String::new() });
                }
            }
            Move::Stopped(at) => {
                self.regions[at].seat.app = App::Off;
                self.observe(at, Observation::Tick);
            }
            Move::Outage | Move::OutageEnds | Move::Cut(_) | Move::Heal(_) => self.connect(it),
            Move::SetForward(at) | Move::SetBack(at) => {
                self.left.clocks -= 1;
                self.set_clock(at, it == Move::SetForward(at));
            }
            Move::Stall(at) => {
                self.left.clocks -= 1;
                self.regions[at].stalled = true;
                self.pass();
            }
            Move::Ask(_) | Move::AskNoMore(_) => self.person(it),
            Move::Backup | Move::RollBack | Move::Wipe => self.roll(it),
            Move::Begin(at, name) => {
                self.left.changes -= 1;
                if let App::Serving(epoch) = self.regions[at].seat.app {
                    self.regions[at].change = Some(if name { Change::Name(epoch) } else { Change::Enter(epoch) });
                }
            }
            Move::LookUp(at) => self.look_up(at),
            Move::Land(at) => self.land_change(at),
            Move::Tell(at) => {
                self.left.settings -= 1;
                self.tell(at);
            }
            Move::Restart { .. }
            | Move::Elsewhere(_)
            | Move::Forget(_)
            | Move::Crash(_)
            | Move::Lost(_)
            | Move::Back(_) => {
                self.restart(it);
            }
        }
        self.tidy();
        promises::always(self);
    }

    fn restart(&mut self, it: Move) {
        match it {
            Move::Restart { at, written_down } => {
                self.left.restarts -= 1;
                self.end(at, written_down);
                self.start(at);
            }
            Move::Elsewhere(at) => {
                self.left.moves -= 1;
                self.end(at, true);
                self.another_machine(at);
                self.start(at);
            }
            Move::Forget(at) => {
                self.left.forgets -= 1;
                self.end(at, true);
                self.regions[at].journal = None;
                self.start(at);
            }
            Move::Crash(at) => {
                self.left.crashes -= 1;
                self.end(at, true);
            }
            Move::Lost(at) => {
                self.left.losses -= 1;
                self.end(at, true);
                self.another_machine(at);
                self.regions[at].seat.app = App::Off;
                self.regions[at].lost = true;
            }
            Move::Back(at) => self.start(at),
            _ => unreachable!("no restart: {it:?}"),
        }
    }

    fn connect(&mut self, it: Move) {
        match it {
            Move::Outage => {
                self.left.outages -= 1;
                self.vault_up = false;
            }
            Move::OutageEnds => self.vault_up = true,
            Move::Cut(at) => {
                self.left.cuts -= 1;
                self.regions[at].linked = false;
            }
            Move::Heal(at) => self.regions[at].linked = true,
            _ => unreachable!("no connection: {it:?}"),
        }
    }

    fn person(&mut self, it: Move) {
        self.left.asks -= 1;
        let (Move::Ask(at) | Move::AskNoMore(at)) = it else { return };
        let seat = &mut self.regions[at].seat;
        seat.unwilling = it == Move::AskNoMore(at);
        seat.wish = if seat.unwilling {
            Wish::Watch
        } else {
            Wish::RequestHandover { to: NAMES[at].to_owned(), run: "run".to_owned() }
        };
        let wish = seat.wish.clone();
        self.observe(at, Observation::Wished(wish));
    }

    fn roll(&mut self, it: Move) {
        match it {
            Move::Backup => self.backup.clone_from(&self.stored),
            Move::RollBack => {
                self.left.rollbacks -= 1;
                self.rolled_back = true;
                self.stored = self.backup.take();
            }
            Move::Wipe => {
                self.left.rollbacks -= 1;
                self.rolled_back = true;
                self.stored = None;
            }
            _ => unreachable!("no rollback: {it:?}"),
        }
    }

    /// A request reaches the vault.
    fn arrive(&mut self, at: usize) -> Option<Answer> {
        let request = self.regions[at].request.clone()?;
        Some(match request.what {
            What::Read => Answer::Found(self.stored.clone()),
            What::Write(write) => {
                self.journal(at, &write);
                if self.land(at, &write) { Answer::Done } else { Answer::Lost }
            }
        })
    }

    fn land(&mut self, at: usize, write: &Write) -> bool {
        if self.plan.compare_and_swap && !lands(self, write) {
            return false;
        }
        promises::landing(self, at, &write.claim);
        self.stored = Some(write.claim.clone());
        true
    }

    fn answer(&mut self, at: usize) {
        let Some(request) = self.regions[at].request.clone() else { return };
        let Some(answer) = request.answer.or_else(|| self.arrive(at)) else { return };
        self.regions[at].request = None;
        let observation = match (answer, request.what) {
            (Answer::Found(found), _) => {
                promises::found(self, at, found.as_deref());
                Observation::ReadDone(found.map(stored))
            }
            (Answer::Done, What::Write(write)) => {
                promises::landed(self, at, &write.claim);
                Observation::WriteDone { nonce: write.claim.nonce.clone(), tag: write.claim.nonce.clone() }
            }
            (Answer::Lost, What::Write(write)) => {
                self.regions[at].witness.open = true;
                Observation::WriteLost { nonce: write.claim.nonce.clone() }
            }
            (Answer::Done | Answer::Lost, What::Read) => unreachable!("a read is answered by what was found"),
        };
        self.observe(at, observation);
    }

    fn lose(&mut self, at: usize) {
        let Some(request) = self.regions[at].request.take() else { return };
        let why = String::new();
        let observation = match request.what {
            What::Read => Observation::ReadFailed(why),
            What::Write(write) => {
                self.journal(at, &write);
                self.regions[at].witness.open = true;
                Observation::WriteUnknown { nonce: write.claim.nonce.clone(), why }
            }
        };
        self.observe(at, observation);
    }

    /// What a holder sent elsewhere arrives there.
    fn land_change(&mut self, at: usize) {
        let Some(change) = self.regions[at].change.take() else { return };
        let (mark, epoch) = match change {
            Change::Seal(epoch) | Change::Enter(epoch) => (self.head, epoch),
            Change::Name(epoch) => (self.name, epoch),
        };
        let mine = Mark { epoch, by: at };
        promises::change(self, change, mark, mine);
        self.observe(at, Observation::Tick);
    }

    /// What can never happen any more is forgotten.
    fn tidy(&mut self) {
        for at in 0..2 {
            let gone = self.regions[at].straggler.as_ref().is_some_and(|it| !lands(self, it));
            // A vault that is set back may find again what it had lost.
            if gone && self.plan.compare_and_swap && self.left.rollbacks == 0 {
                self.regions[at].straggler = None;
            }
        }
    }
}

fn stored(claim: Arc<Claim>) -> Stored {
    let claim = Arc::unwrap_or_clone(claim);
    Stored { tag: claim.nonce.clone(), claim }
}

/// Whether it was given up for this region, or for anybody.
pub fn released_to(claim: &Claim, me: &str) -> bool {
    match &claim.intent {
        Intent::Released { to, .. } => to.as_ref().is_none_or(|it| it == me),
        Intent::None | Intent::Handover(Handover { .. }) => false,
    }
}
