//! The world of the simulation: regions, their clocks and operators, a vault, and what goes wrong with them.
//!
//! What the rest of an operator does with a claim is `lead`; what must hold is `promises`.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use reprise::core::claim::{
    record::{Claim, Entry},
    state::{Evidence, Settings, State, Wish},
    step::{Act, Expected, Observation, Stored, step},
    time::Now,
    view::View,
};

use crate::{
    lead,
    plan::{Plan, Summary},
    promises,
};

const STORM: u64 = 900_000;
const CALM: u64 = 400_000;
/// How late an operator notices that something is due.
const SLUGGISH: u64 = 100;
const GROUP: &str = "shop.shop";

/// `SplitMix64`: the same numbers on every machine and with every version of every crate.
pub struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Whether the application may be running in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    Off,
    Serving(u64),
    /// Being stopped; it may run until the event that ends this.
    Stopping(u64),
}

pub struct Clock {
    per_mille: u64,
    boot_offset: u64,
    wall_step: i64,
    boot: u64,
}

impl Clock {
    pub fn at(&self, real: u64) -> Now {
        let local = real * self.per_mille / 1000;
        let wall = 1_800_000_000_000 + i64::try_from(local).unwrap() + self.wall_step;
        Now { boot: Duration::from_millis(self.boot_offset + local), wall: Timestamp::from_millisecond(wall).unwrap() }
    }

    /// The first moment at which the boot clock shows at least this.
    fn real(&self, boot: Duration) -> u64 {
        let local = u64::try_from(boot.as_micros().div_ceil(1000)).unwrap().saturating_sub(self.boot_offset);
        (local * 1000).div_ceil(self.per_mille)
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }
}

pub struct Region {
    pub settings: Settings,
    pub clock: Clock,
    link: bool,
    pub app: App,
    /// `None` while the operator is away.
    pub state: Option<State>,
    /// Rises with each crash: what was under way before is nobody's any more.
    life: u64,
    /// It does not crash before this moment.
    spared_until: u64,
    /// The request and the tick that count.
    request: u64,
    tick: u64,
    pub was_valid: bool,
    // What lasts beyond a crash of the operator: the journal, and the application's status.
    journal: Option<Entry>,
    pub wish: Wish,
    pub fenced: Option<u64>,
    pub status_epoch: Option<u64>,
    /// It stops the application for this region, to release the claim to it.
    pub leaving: Option<String>,
    /// It asked for the application, and does not want it any more.
    pub unwilling: bool,
    /// The version last seen since the operator started, and the real moments it was seen at.
    pub sightings: (Option<String>, Vec<u64>),
}

impl Region {
    pub fn view(&self, real: u64) -> Option<View> {
        Some(self.state.as_ref()?.view(&self.settings, self.clock.at(real)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Caller {
    region: usize,
    life: u64,
    request: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Tick { region: usize, tick: u64 },
    Journaled { caller: Caller, entry: Entry, expected: Expected, claim: Claim, sent: u64 },
    ReadArrives(Caller),
    WriteArrives { caller: Caller, expected: Expected, claim: Claim, sent: u64 },
    Answer { caller: Caller, observation: Observation },
    Stopped(usize),
    Strike,
    OperatorBack { region: usize, same_boot: bool },
    LinkBack(usize),
    VaultBack,
}

pub struct World {
    pub plan: Plan,
    pub dice: Dice,
    pub real: u64,
    count: u64,
    events: BTreeMap<(u64, u64), Event>,
    pub regions: Vec<Region>,
    vault_up: bool,
    pub stored: Option<(Claim, String)>,
    pub stored_at: u64,
    tags: u64,
    pub head: u64,
    trace: bool,
    pub broken: Option<String>,
    pub summary: Summary,
}

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut dice = Dice(seed);
        let names: Vec<String> = ["east", "west", "north"][..plan.regions].iter().map(ToString::to_string).collect();
        let drift = plan.faults.drift_per_mille;
        let regions = (0..plan.regions).map(|at| Region {
            settings: Settings {
                region: names[at].clone(),
                group: GROUP.to_owned(),
                candidates: names.clone(),
                fencing: plan.fencing,
                deadlines: plan.deadlines,
                evidence: Some(Evidence::default()),
            },
            clock: Clock {
                per_mille: 1000 - drift + dice.below(2 * drift + 1),
                boot_offset: dice.below(1_000_000),
                wall_step: 0,
                boot: 0,
            },
            link: true,
            app: App::Off,
            state: None,
            life: 0,
            spared_until: 0,
            request: 0,
            tick: 0,
            was_valid: false,
            journal: None,
            wish: if at == 0 { Wish::Hold } else { Wish::Watch },
            fenced: None,
            status_epoch: None,
            leaving: None,
            unwilling: false,
            sightings: (None, Vec::new()),
        });
        let regions = regions.collect();
        Self {
            plan,
            dice,
            real: 0,
            count: 0,
            events: BTreeMap::new(),
            regions,
            vault_up: true,
            stored: None,
            stored_at: 0,
            tags: 0,
            head: 0,
            trace: std::env::var("SEED").is_ok(),
            broken: None,
            summary: Summary::default(),
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        for at in 0..self.regions.len() {
            self.operator_back(at);
        }
        self.later(10_000, Event::Strike);
        while let Some(((real, _), event)) = self.events.pop_first() {
            if real > STORM + CALM {
                break;
            }
            self.real = real;
            self.happen(event);
            if let Some(broken) = &self.broken {
                return Err(format!("at {real} ms: {broken}"));
            }
        }
        promises::calm(self)
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.real, text());
        }
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.real + delay, self.count), event);
    }

    fn storming(&self) -> bool {
        self.real < STORM
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { region, tick } => {
                if self.regions[region].tick == tick {
                    self.observe(region, Observation::Tick);
                }
            }
            Event::Journaled { caller, entry, expected, claim, sent } => {
                // What the API server was sent it may take even when the operator is gone.
                self.regions[caller.region].journal = Some(entry);
                if self.regions[caller.region].life == caller.life {
                    self.transmit(caller, &expected, &claim, sent);
                }
            }
            Event::ReadArrives(caller) => self.read_arrives(caller),
            Event::WriteArrives { caller, expected, claim, sent } => self.write_arrives(caller, &expected, claim, sent),
            Event::Answer { caller, observation } => self.answered(caller, observation),
            Event::Stopped(region) => {
                self.say(|| format!("{region} stopped"));
                if let App::Stopping(_) = self.regions[region].app {
                    self.regions[region].app = App::Off;
                    lead::govern(self, region);
                }
            }
            Event::Strike => self.strike(),
            Event::OperatorBack { region, same_boot } => {
                if !same_boot {
                    let clock = &mut self.regions[region].clock;
                    clock.boot += 1;
                    clock.boot_offset = self.dice.below(1_000_000);
                }
                self.operator_back(region);
            }
            Event::LinkBack(region) => self.regions[region].link = true,
            Event::VaultBack => self.vault_up = true,
        }
    }

    fn operator_back(&mut self, at: usize) {
        self.summary.restarts += 1;
        let lying = self.plan.faults.lying_journal;
        let head = self.head;
        let region = &mut self.regions[at];
        region.life += 1;
        region.request += 1;
        region.sightings = (None, Vec::new());
        let evidence = Evidence { status: region.status_epoch, head: Some(head), fenced: region.fenced, held: None };
        region.settings.evidence = Some(evidence);
        let mut entry = region.journal.clone();
        if lying && let Some(entry) = &mut entry {
            let now = region.clock.at(self.real);
            (entry.boot_id, entry.sent, entry.confirmed) = (region.clock.boot_id(), now, Some(now));
        }
        let instance = format!("{at}-{}", region.life);
        region.state = Some(State::restarted(instance, region.clock.boot_id(), entry));
        let wish = region.wish.clone();
        self.say(|| format!("{at} operator starts"));
        self.observe(at, Observation::Wished(wish));
    }

    /// One step of a region's operator, and what the rest of the operator makes of it.
    pub fn observe(&mut self, at: usize, observation: Observation) {
        let region = &mut self.regions[at];
        let Some(state) = region.state.take() else { return };
        let now = region.clock.at(self.real);
        let said = self.trace.then(|| format!("{observation:?}"));
        let (state, acts) = step(&region.settings, state, observation, now);
        region.state = Some(state);
        if let Some(said) = said.filter(|it| it != "Tick") {
            println!("{:>8} {at} {said}", self.real);
        }
        for act in acts {
            self.send(at, act);
        }
        promises::validity(self, at);
        lead::govern(self, at);
        self.schedule(at);
    }

    fn schedule(&mut self, at: usize) {
        let late = self.dice.below(SLUGGISH);
        let region = &mut self.regions[at];
        let Some(state) = &region.state else { return };
        let due = region.clock.real(state.due(&region.settings, region.clock.at(self.real)));
        region.tick += 1;
        let tick = region.tick;
        self.later(due.saturating_sub(self.real).max(1) + late, Event::Tick { region: at, tick });
    }

    fn latency(&mut self) -> u64 {
        let storming = self.storming() && self.plan.faults.lossy;
        let ordinary = 10 + self.dice.below(200);
        // Beyond every deadline: whoever sent it has given up when it arrives.
        if storming && self.dice.one_in(20) { self.dice.below(60_000) } else { ordinary }
    }

    fn lost(&mut self) -> bool {
        self.storming() && self.plan.faults.lossy && self.dice.one_in(15)
    }

    fn send(&mut self, at: usize, act: Act) {
        let patience = u64::from(self.plan.deadlines.renew) * 1000 / 3;
        let region = &mut self.regions[at];
        region.request += 1;
        let caller = Caller { region: at, life: region.life, request: region.request };
        let give_up = |observation| Event::Answer { caller, observation };
        match act {
            Act::Read => {
                self.later(patience, give_up(Observation::ReadFailed("no answer".to_owned())));
                if self.regions[at].link && !self.lost() {
                    let latency = self.latency();
                    self.later(latency, Event::ReadArrives(caller));
                }
            }
            Act::Write { expected, claim, entry } => {
                self.say(|| format!("{at} sends {entry:?} {:?} {:?}", claim.intent, claim.nonce));
                promises::no_renewal_once_fenced(self, at, &claim, entry.as_ref());
                let (nonce, why) = (claim.nonce.clone(), "no answer".to_owned());
                let sent = self.real;
                match entry {
                    None => self.transmit(caller, &expected, &claim, sent),
                    Some(_) if self.storming() && self.plan.faults.lossy && self.dice.one_in(30) => {
                        self.later(200, give_up(Observation::WriteUnsent { nonce, why }));
                        return;
                    }
                    Some(entry) => {
                        let delay = self.dice.below(100);
                        self.later(delay, Event::Journaled { caller, entry, expected, claim, sent });
                    }
                }
                self.later(patience, give_up(Observation::WriteUnknown { nonce, why }));
            }
        }
    }

    fn transmit(&mut self, caller: Caller, expected: &Expected, claim: &Claim, sent: u64) {
        if !self.regions[caller.region].link {
            return;
        }
        // Something on the way may send it again, much later.
        let copies = if self.storming() && self.plan.faults.lossy && self.dice.one_in(20) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.lost() {
                let latency = self.latency();
                let (expected, claim) = (expected.clone(), claim.clone());
                self.later(latency, Event::WriteArrives { caller, expected, claim, sent });
            }
        }
    }

    fn reply(&mut self, caller: Caller, observation: Observation) {
        if self.regions[caller.region].link && !self.lost() {
            let latency = self.latency();
            self.later(latency, Event::Answer { caller, observation });
        }
    }

    fn read_arrives(&mut self, caller: Caller) {
        if self.vault_up {
            let stored = self.stored.clone().map(|(claim, tag)| Stored { claim, tag });
            self.reply(caller, Observation::ReadDone(stored));
        }
    }

    fn write_arrives(&mut self, caller: Caller, expected: &Expected, claim: Claim, sent: u64) {
        if !self.vault_up {
            return;
        }
        let nonce = claim.nonce.clone();
        let met = match (expected, &self.stored) {
            (Expected::Absent, None) => true,
            (Expected::Unchanged(wanted), Some((_, tag))) => wanted == tag,
            (Expected::Absent, Some(_)) | (Expected::Unchanged(_), None) => false,
        };
        if !met && self.plan.compare_and_swap {
            return self.reply(caller, Observation::WriteLost { nonce });
        }
        let region = &self.regions[caller.region];
        if region.life != caller.life || region.request != caller.request {
            self.summary.late_landings += 1;
        }
        promises::landing(self, caller.region, &claim, sent);
        self.say(|| format!("vault: epoch {} seq {} {:?} {nonce}", claim.epoch, claim.seq, claim.holder));
        self.tags += 1;
        let tag = format!("tag-{}", self.tags);
        self.stored = Some((claim, tag.clone()));
        self.stored_at = self.real;
        self.reply(caller, Observation::WriteDone { nonce, tag });
    }

    fn answered(&mut self, caller: Caller, observation: Observation) {
        let region = &mut self.regions[caller.region];
        if region.life != caller.life || region.request != caller.request || region.state.is_none() {
            return;
        }
        // The first answer counts; the deadline of an answered request does not.
        region.request += 1;
        let seen = match &observation {
            Observation::ReadDone(stored) => Some(stored.as_ref().map(|it| it.claim.nonce.clone())),
            Observation::WriteDone { nonce, .. } => Some(Some(nonce.clone())),
            _ => None,
        };
        if let Some(version) = seen {
            if region.sightings.0 != version {
                region.sightings = (version, Vec::new());
            }
            region.sightings.1.push(self.real);
        }
        self.observe(caller.region, observation);
    }

    /// Something goes wrong, and the next time is set.
    fn strike(&mut self) {
        if !self.storming() {
            return;
        }
        let at = usize::try_from(self.dice.below(self.regions.len() as u64)).unwrap();
        let faults = self.plan.faults.clone();
        match self.dice.below(6) {
            0 if faults.vault_outages => {
                self.say(|| "the vault is away".to_owned());
                self.vault_up = false;
                let outage = 1_000 + self.dice.below(200_000);
                self.later(outage.min(STORM - self.real), Event::VaultBack);
            }
            1 if faults.cuts => {
                self.say(|| format!("{at} is cut off"));
                self.regions[at].link = false;
                let outage = 1_000 + self.dice.below(200_000);
                self.later(outage.min(STORM - self.real), Event::LinkBack(at));
            }
            2 if faults.region_crashes && self.regions[at].spared_until <= self.real => {
                self.say(|| format!("{at} is gone with all it runs"));
                self.regions[at].app = App::Off;
                self.crash(at);
                let outage = 5_000 + self.dice.below(200_000);
                self.regions[at].spared_until = self.real + outage + 60_000;
                self.later(outage, Event::OperatorBack { region: at, same_boot: false });
            }
            // An operator is not hit again before it could do anything: Strict assumes that it lives.
            3 if faults.operator_away > 0 && self.regions[at].spared_until <= self.real => {
                self.say(|| format!("{at} operator dies"));
                self.crash(at);
                let outage = 100 + self.dice.below(faults.operator_away - 100);
                self.regions[at].spared_until = self.real + outage + 60_000;
                let same_boot = !faults.foreign_boots || self.dice.one_in(2);
                self.later(outage, Event::OperatorBack { region: at, same_boot });
            }
            4 if faults.clock_steps => {
                let step = i64::try_from(self.dice.below(240_000)).unwrap() - 120_000;
                self.say(|| format!("{at} clock set by {step}"));
                self.regions[at].clock.wall_step += step;
            }
            5 if faults.handovers && faults.fickle && self.dice.one_in(3) => lead::ask_no_more(self),
            5 if faults.handovers => lead::ask_for_it(self, at),
            _ => {}
        }
        let pause = 5_000 + self.dice.below(60_000);
        self.later(pause, Event::Strike);
    }

    fn crash(&mut self, at: usize) {
        let region = &mut self.regions[at];
        region.state = None;
        region.life += 1;
        region.tick += 1;
        region.was_valid = false;
    }

    /// The application begins to stop; how long that takes is not known before.
    pub fn stop(&mut self, at: usize, epoch: u64) {
        self.summary.fencings += 1;
        self.regions[at].app = App::Stopping(epoch);
        let longest = u64::from(self.plan.deadlines.fence) * 1000;
        let takes = if self.dice.one_in(2) { longest } else { self.dice.below(longest + 1) };
        self.say(|| format!("{at} stops, within {takes} ms"));
        self.later(takes, Event::Stopped(at));
    }
}
