//! What a simulation is told beforehand, and what it tells afterwards.

use reprise::{api::application::Fencing, core::claim::record::Deadlines};

/// What may go wrong.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Faults {
    pub vault_outages: bool,
    pub lossy: bool,
    pub cuts: bool,
    pub region_crashes: bool,
    pub handovers: bool,
    /// Whether those who asked for it change their mind.
    pub fickle: bool,
    pub clock_steps: bool,
    /// The longest time an operator is away, in ms; 0: operators do not crash.
    pub operator_away: u64,
    /// Whether an operator may come back on another machine.
    pub foreign_boots: bool,
    /// How far a clock's rate may be from real time.
    pub drift_per_mille: u64,
    /// After a crash the journal claims that everything was sent just now. Breaks rule 5.
    pub lying_journal: bool,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            vault_outages: false,
            lossy: false,
            cuts: false,
            region_crashes: false,
            handovers: false,
            fickle: false,
            clock_steps: false,
            operator_away: 0,
            foreign_boots: false,
            drift_per_mille: 10,
            lying_journal: false,
        }
    }

    pub fn storm() -> Self {
        Self { vault_outages: true, lossy: true, cuts: true, region_crashes: true, handovers: true, ..Self::none() }
    }
}

/// One simulation, up to its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub regions: usize,
    pub fencing: Fencing,
    pub deadlines: Deadlines,
    pub faults: Faults,
    pub compare_and_swap: bool,
    /// The first region serves from beginning to end.
    pub nothing_moves: bool,
    /// No region takes the claim of another that is silent: a person would have to tell it to.
    pub waits_for_people: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            regions: 2,
            fencing: Fencing::Advisory,
            deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
            faults: Faults::none(),
            compare_and_swap: true,
            nothing_moves: false,
            waits_for_people: false,
        }
    }
}

/// What happened, to see that a storm was one.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub seizures: u64,
    pub releases: u64,
    pub restarts: u64,
    pub late_landings: u64,
    pub fencings: u64,
    pub overlaps: u64,
    /// Requests that were withdrawn, and releases that were given back.
    pub declined: u64,
    /// Seizures of what the region itself had released.
    pub taken_back: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.seizures += other.seizures;
        self.releases += other.releases;
        self.restarts += other.restarts;
        self.late_landings += other.late_landings;
        self.fencings += other.fencings;
        self.overlaps += other.overlaps;
        self.declined += other.declined;
        self.taken_back += other.taken_back;
    }
}
