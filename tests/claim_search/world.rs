//! One state of the world: two regions, their clocks and operators, and a vault. Time goes by in quanta of 1000 s.
//!
//! A region's clocks stand still: as time passes, what is remembered grows older instead, up to an age beyond which
//! nothing changes any more. So two states that differ only in when they are look the same. What may happen next is
//! `moves`, what must hold is `promises`, what the rest of an operator does is `lead`.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reprise::core::claim::{
    record::{Claim, Entry},
    state::{Evidence, Settings, State},
    step::{Act, Expected, Observation, step},
    time::{Now, Since},
};

use super::{
    lead::{self, App, Seat, Task},
    plan::{Left, Plan},
    promises::{self, Witness},
};

/// Now, for everybody, always: just before a multiple of `renew`, so that renewals come as late as they may.
pub const NOW: Now = Now { boot: Duration::from_millis(1_981_979_900), wall: Timestamp::constant(1_800_000_000, 0) };
/// By how much a wall clock is set forward, in ms: less than the gap that ends a silence. Backward it is by `oldest`.
const FORWARD: i64 = 2_000_000;
/// So many quanta the application takes to stop, at most.
pub const FENCE: u8 = 1;
pub const NAMES: [&str; 2] = ["east", "west"];

/// A request that is under way.
#[derive(Clone)]
pub struct Request {
    pub what: What,
    /// It has reached the vault, and this is the answer that is on its way.
    pub answer: Option<Answer>,
    /// A quantum has passed since it was sent: the next one does not pass without an end of it.
    pub aged: bool,
}

#[derive(Clone)]
pub enum What {
    Read,
    Write(Write),
}

/// A version that was sent.
#[derive(Clone)]
pub struct Write {
    pub claim: Arc<Claim>,
    pub expected: Expected,
    pub entry: Option<Arc<Entry>>,
}

#[derive(Clone)]
pub enum Answer {
    Found(Option<Arc<Claim>>),
    Done,
    Lost,
}

/// Something that a holder changes elsewhere, under the epoch of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Seal(u64),
    Enter(u64),
    Name(u64),
}

#[derive(Clone)]
pub struct Region {
    pub settings: Arc<Settings>,
    /// `None` while the operator is away.
    pub state: Option<Arc<State>>,
    /// Whether it is away with all that ran in its region, to come back on another machine.
    pub lost: bool,
    life: u32,
    boot: u32,
    pub pace: u64,
    oldest: u64,
    /// The boot clock does not count the next quantum.
    pub stalled: bool,
    pub journal: Option<Arc<Entry>>,
    pub request: Option<Request>,
    /// A version whose sender gave up, and which may still land.
    pub straggler: Option<Write>,
    pub seat: Seat,
    pub linked: bool,
    /// Which of its deadlines it goes by.
    pub told: usize,
    pub change: Option<Change>,
    pub witness: Witness,
}

/// Who changed something last, and under which epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub epoch: u64,
    pub by: usize,
}

#[derive(Clone)]
pub struct World {
    pub plan: Arc<Plan>,
    pub left: Left,
    pub regions: [Region; 2],
    pub stored: Option<Arc<Claim>>,
    pub vault_up: bool,
    pub head: Mark,
    pub name: Mark,
    /// What the vault may be set back to.
    pub backup: Option<Arc<Claim>>,
    /// It was set back, or lost its claim: what assumes that nobody does that is not promised any more.
    pub rolled_back: bool,
    /// The first region has served.
    pub begun: bool,
    pub broken: Option<&'static str>,
}

impl World {
    /// The beginning: nothing in the vault, both operators just started.
    pub fn begin(plan: &Arc<Plan>) -> Vec<Self> {
        let [one, other] = plan.paces;
        let mut paces = vec![[one, other]];
        if one != other {
            paces.push([other, one]);
        }
        paces.into_iter().map(|paces| Self::with(plan, paces)).collect()
    }

    fn with(plan: &Arc<Plan>, paces: [u64; 2]) -> Self {
        let candidates: Vec<String> =
            NAMES.iter().zip(plan.candidates).filter(|(_, may)| *may).map(|(it, _)| (*it).to_owned()).collect();
        let regions = [0, 1].map(|at: usize| Region {
            settings: Arc::new(Settings {
                region: NAMES[at].to_owned(),
                group: "shop.shop".to_owned(),
                candidates: candidates.clone(),
                fencing: plan.fencing,
                deadlines: plan.deadlines[at][0],
                evidence: Some(Evidence::default()),
            }),
            state: None,
            lost: false,
            life: 0,
            boot: 0,
            pace: paces[at],
            oldest: plan.oldest,
            stalled: false,
            journal: None,
            request: None,
            straggler: None,
            seat: Seat::new(at == 0),
            linked: true,
            told: 0,
            change: None,
            witness: Witness::default(),
        });
        let mut world = Self {
            plan: plan.clone(),
            left: plan.left,
            regions,
            stored: None,
            vault_up: true,
            head: Mark::default(),
            name: Mark::default(),
            backup: None,
            rolled_back: false,
            begun: false,
            broken: None,
        };
        for at in 0..2 {
            world.start(at);
        }
        world
    }

    pub fn reaches(&self, at: usize) -> bool {
        self.vault_up && self.regions[at].linked
    }

    /// An operator starts, with what lasts: the journal, and the application's status.
    pub fn start(&mut self, at: usize) {
        let head = self.head.epoch;
        let region = &mut self.regions[at];
        region.life += 1;
        region.lost = false;
        region.request = None;
        region.witness.restart();
        let seat = &region.seat;
        let served = match seat.app {
            App::Off => None,
            App::Serving(epoch) | App::Stopping(epoch, _) => Some(epoch),
        };
        let evidence =
            Evidence { status: seat.epoch, head: Some(head).filter(|it| *it > 0), fenced: seat.fenced, held: served };
        // Where looking it up takes its time, it comes later.
        let late = self.plan.evidence_is_late && region.life > 1;
        Arc::make_mut(&mut region.settings).evidence = Some(evidence).filter(|_| !late);
        let journal = region.journal.as_deref().cloned();
        let state = State::restarted(format!("{at}-{}", region.life), format!("boot-{}", region.boot), journal);
        region.state = Some(Arc::new(state));
        let wish = region.seat.wish.clone();
        self.observe(at, Observation::Wished(wish));
    }

    /// The operator ends. What it sent last may still land, if it was written down before.
    pub fn end(&mut self, at: usize, written_down: bool) {
        let region = &mut self.regions[at];
        region.state = None;
        let Some(Request { what: What::Write(write), answer: None, .. }) = region.request.take() else { return };
        if written_down {
            self.journal(at, &write);
            self.regions[at].straggler = Some(write);
        }
    }

    pub fn another_machine(&mut self, at: usize) {
        let region = &mut self.regions[at];
        region.boot += 1;
        // Its boot clock may show anything: as if all had been sent just now.
        if let Some(journal) = &mut region.journal {
            let entry = Arc::make_mut(journal);
            entry.sent.boot = NOW.boot;
            if let Some(it) = &mut entry.confirmed {
                it.boot = NOW.boot;
            }
        }
    }

    pub fn journal(&mut self, at: usize, write: &Write) {
        if let Some(entry) = &write.entry {
            self.regions[at].journal = Some(entry.clone());
        }
    }

    /// One step of a region's operator, and what the rest of the operator makes of it.
    pub fn observe(&mut self, at: usize, observation: Observation) {
        let region = &mut self.regions[at];
        let Some(state) = region.state.take() else { return };
        let (state, acts) = step(&region.settings, Arc::unwrap_or_clone(state), observation, NOW);
        region.state = Some(Arc::new(state));
        for act in acts {
            self.send(at, act);
        }
        self.govern(at);
    }

    fn send(&mut self, at: usize, act: Act) {
        if self.regions[at].request.is_some() {
            return self.broke("rule 3: two requests are under way");
        }
        let what = match act {
            Act::Read => What::Read,
            Act::Write { expected, claim, entry } => {
                promises::sending(self, at, &claim, entry.as_ref());
                let claim = Arc::new(Claim { renewed_at: NOW.wall, ..claim });
                What::Write(Write { claim, expected, entry: entry.map(Arc::new) })
            }
        };
        self.regions[at].request = Some(Request { what, answer: None, aged: false });
    }

    fn govern(&mut self, at: usize) {
        let region = &self.regions[at];
        let Some(state) = &region.state else { return };
        let view = state.view(&region.settings, NOW);
        promises::seen(self, at, &view);
        let (people, head) = (self.plan.waits_for_people, self.head);
        let region = &mut self.regions[at];
        let before = region.seat.wish.clone();
        let task = lead::govern(&mut region.seat, NAMES[at], people, &view);
        let seat = &region.seat;
        if let Some(evidence) = region.settings.evidence
            && (evidence.status, evidence.fenced) != (seat.epoch, seat.fenced)
        {
            let evidence = Evidence { status: seat.epoch, fenced: seat.fenced, ..evidence };
            Arc::make_mut(&mut region.settings).evidence = Some(evidence);
        }
        match task {
            Task::None => {}
            Task::Stop(epoch) => region.seat.app = App::Stopping(epoch, FENCE),
            Task::Start(epoch) => self.start_application(at, epoch, head),
        }
        if self.regions[at].seat.wish != before {
            let wish = self.regions[at].seat.wish.clone();
            self.observe(at, Observation::Wished(wish));
        }
    }

    fn start_application(&mut self, at: usize, epoch: u64, head: Mark) {
        if head != (Mark { epoch, by: at }) && self.plan.left.changes > 0 {
            // Where the catalogue is looked at, it is sealed first.
            let region = &mut self.regions[at];
            region.change = region.change.or(Some(Change::Seal(epoch)));
            return;
        }
        self.head = Mark { epoch: head.epoch.max(epoch), by: at };
        self.regions[at].seat.app = App::Serving(epoch);
        self.begun |= at == 0;
        promises::started(self, at);
    }

    /// What is known from elsewhere was looked up.
    pub fn look_up(&mut self, at: usize) {
        let head = Some(self.head.epoch).filter(|it| *it > 0);
        let region = &mut self.regions[at];
        let seat = &region.seat;
        let evidence = Evidence { status: seat.epoch, head, fenced: seat.fenced, held: None };
        Arc::make_mut(&mut region.settings).evidence = Some(evidence);
        self.observe(at, Observation::Tick);
    }

    pub fn broke(&mut self, what: &'static str) {
        self.broken = self.broken.or(Some(what));
    }

    /// A quantum passes, for everybody.
    pub fn pass(&mut self) {
        for at in 0..2 {
            self.regions[at].pass();
        }
        for at in 0..2 {
            self.observe(at, Observation::Tick);
        }
    }

    /// A wall clock is set.
    pub fn set_clock(&mut self, at: usize, forward: bool) {
        let by = if forward { FORWARD } else { -i64::try_from(self.plan.oldest).expect("small") };
        self.regions[at].older(0, by);
        self.observe(at, Observation::Tick);
    }

    /// Other deadlines are declared.
    pub fn tell(&mut self, at: usize) {
        let region = &mut self.regions[at];
        region.told = 1 - region.told;
        let deadlines = self.plan.deadlines[at][region.told];
        Arc::make_mut(&mut region.settings).deadlines = deadlines;
        self.observe(at, Observation::Tick);
    }
}

impl Region {
    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    fn pass(&mut self) {
        if let App::Stopping(epoch, left) = self.seat.app {
            self.seat.app = App::Stopping(epoch, left.saturating_sub(1));
        }
        if let Some(request) = &mut self.request {
            request.aged = true;
        }
        self.witness.pass();
        let pace = self.pace;
        // A machine that is gone has no clock, and the next one's may show anything: as if no time had passed.
        let boot = if self.stalled || self.lost { 0 } else { pace };
        self.stalled = false;
        self.older(boot, i64::try_from(pace).expect("small"));
    }

    /// All that is remembered is older by so many milliseconds of either clock.
    fn older(&mut self, boot: u64, wall: i64) {
        let by =
            Older { boot: Duration::from_millis(boot), wall: SignedDuration::from_millis(wall), oldest: self.oldest };
        if let Some(journal) = &mut self.journal {
            let entry = Arc::make_mut(journal);
            by.moment(&mut entry.sent);
            if let Some(it) = &mut entry.confirmed {
                by.moment(it);
            }
        }
        let pending = self.request.iter_mut().filter_map(|it| match &mut it.what {
            What::Read => None,
            What::Write(write) => Some(write),
        });
        for write in pending.chain(&mut self.straggler) {
            if let Some(entry) = &mut write.entry {
                let entry = Arc::make_mut(entry);
                by.moment(&mut entry.sent);
                if let Some(it) = &mut entry.confirmed {
                    by.moment(it);
                }
            }
        }
        let Some(state) = &mut self.state else { return };
        let state = Arc::make_mut(state);
        for moment in [&mut state.begun, &mut state.contact].into_iter().flatten() {
            by.moment(moment);
        }
        if let Some(sight) = &mut state.sight {
            by.moment(&mut sight.last);
        }
        for moment in [&mut state.read_at, &mut state.wrote_at].into_iter().flatten() {
            by.boot(moment);
        }
        if let Some(own) = &mut state.own {
            by.since(&mut own.since);
        }
        for sent in &mut state.outstanding {
            by.since(&mut sent.since);
        }
    }
}

/// By how much what is remembered grows older, and how old it gets at most.
struct Older {
    boot: Duration,
    wall: SignedDuration,
    oldest: u64,
}

impl Older {
    fn since(&self, since: &mut Since) {
        match since {
            Since::Proven(at) => self.moment(at),
            Since::Wall(at) => self.wall(at),
            Since::Unknown => {}
        }
    }

    fn moment(&self, at: &mut Now) {
        self.boot(&mut at.boot);
        self.wall(&mut at.wall);
    }

    fn boot(&self, at: &mut Duration) {
        let oldest = NOW.boot.saturating_sub(Duration::from_millis(self.oldest));
        *at = at.saturating_sub(self.boot).max(oldest);
    }

    fn wall(&self, at: &mut Timestamp) {
        let limit = SignedDuration::from_millis(i64::try_from(self.oldest).expect("small"));
        *at = (*at - self.wall).clamp(NOW.wall - limit, NOW.wall + limit);
    }
}
