//! The worlds that are searched: what may go wrong in each, and how often.

use reprise::{api::application::Fencing, core::claim::record::Deadlines};

/// `wait` is what the timing law asks for, to the second.
pub const TIGHT: Deadlines = Deadlines { renew: 1980, hold: 3960, fence: 1000, wait: 5051 };
/// The same for a region that was told half of it.
pub const SHORT: Deadlines = Deadlines { renew: 990, hold: 1980, fence: 1000, wait: 3031 };

/// How often each thing may still happen on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// A request or its answer is lost, delayed, repeated on its way, or lands after its sender gave up.
    pub messages: u8,
    /// An operator ends and is back at once.
    pub restarts: u8,
    /// The same on another machine, whose boot clock tells nothing.
    pub moves: u8,
    /// The same, and what the journal said is gone.
    pub forgets: u8,
    /// An operator ends, and is away for as long as it likes.
    pub crashes: u8,
    /// A region is gone with all that runs in it.
    pub losses: u8,
    /// The vault does not answer.
    pub outages: u8,
    /// A region does not reach the vault.
    pub cuts: u8,
    /// One of a region's two clocks is set, or stands still for a while.
    pub clocks: u8,
    /// A region asks for the application, or changes its mind.
    pub asks: u8,
    /// The vault is set back to what it was, or loses the claim.
    pub rollbacks: u8,
    /// A holder begins to enter a point, or to change the name's record.
    pub changes: u8,
    /// A region is told other deadlines.
    pub settings: u8,
}

/// Kinds of mishaps.
pub const KINDS: usize = 13;

impl Left {
    /// In the order of the fields.
    pub fn counts(self) -> [u8; KINDS] {
        let Self { messages, restarts, moves, forgets, crashes, losses, outages, .. } = self;
        let Self { cuts, clocks, asks, rollbacks, changes, settings, .. } = self;
        [messages, restarts, moves, forgets, crashes, losses, outages, cuts, clocks, asks, rollbacks, changes, settings]
    }

    fn of(counts: [u8; KINDS]) -> Self {
        let [
            messages,
            restarts,
            moves,
            forgets,
            crashes,
            losses,
            outages,
            cuts,
            clocks,
            asks,
            rollbacks,
            changes,
            settings,
        ] = counts;
        Self {
            messages,
            restarts,
            moves,
            forgets,
            crashes,
            losses,
            outages,
            cuts,
            clocks,
            asks,
            rollbacks,
            changes,
            settings,
        }
    }
}

/// One world.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Plan {
    pub name: &'static str,
    pub fencing: Fencing,
    /// What each region goes by at first, and what it may be told instead.
    pub deadlines: [[Deadlines; 2]; 2],
    /// Whether each region is one that the application may run in.
    pub candidates: [bool; 2],
    pub left: Left,
    /// Nothing beyond this epoch is looked at.
    pub epochs: u64,
    /// The pace of a region's clock for each 1000 s of real time, in ms: either region may have either.
    pub paces: [u64; 2],
    /// No region takes what is silent: a person would have to tell it to.
    pub waits_for_people: bool,
    /// The first region serves from when it began.
    pub steady: bool,
    /// The vault compares before it swaps.
    pub compare_and_swap: bool,
    /// What is known from elsewhere is looked up some time after a restart.
    pub evidence_is_late: bool,
    /// What is older than this, in ms, changes nothing by growing older: no `hold` and no gap is longer. (Silence, of
    /// which there may be more, is a sum of shorter times.)
    pub oldest: u64,
}

/// 0.99 % slow: `hold` and the last safe moment for fencing are over after exactly four quanta.
pub const SLOW: u64 = 990_100;
/// 1 % fast.
pub const FAST: u64 = 1_010_000;

impl Plan {
    /// The longest silence, in ms, that says more than a shorter one.
    pub fn silence(&self) -> u64 {
        let wait = self.deadlines.iter().flatten().map(|it| it.wait).max().unwrap_or(0);
        u64::from(wait) * 1000 * if self.waits_for_people { 2 } else { 1 }
    }

    fn new(name: &'static str, fencing: Fencing, left: Left) -> Self {
        Self {
            name,
            fencing,
            deadlines: [[TIGHT; 2]; 2],
            candidates: [true; 2],
            left,
            epochs: 2,
            paces: [SLOW, FAST],
            waits_for_people: false,
            steady: false,
            compare_and_swap: true,
            evidence_is_late: false,
            oldest: 4_950_400,
        }
    }

    /// Requests go wrong, and an operator restarts, under `Strict`.
    pub fn strict() -> Self {
        Self::new("strict", Fencing::Strict, Left { messages: 1, restarts: 1, cuts: 1, ..Left::default() })
    }

    /// Operators and regions are away for as long as they like.
    pub fn advisory() -> Self {
        let left = Left { messages: 1, crashes: 1, losses: 1, ..Left::default() };
        Self::new("advisory", Fencing::Advisory, left)
    }

    /// The vault goes away, and nothing else happens.
    pub fn outage() -> Self {
        let left = Left { outages: 2, ..Left::default() };
        // The proportions of the defaults: of a shorter `wait` an outage leaves too little (docs/claim.md).
        let deadlines = Deadlines { wait: 14_850, ..TIGHT };
        Self {
            steady: true,
            deadlines: [[deadlines; 2]; 2],
            oldest: 15_000_000,
            ..Self::new("outage", Fencing::Advisory, left)
        }
    }

    /// The journal is lost with the operator.
    pub fn forgetful() -> Self {
        let left = Left { messages: 1, forgets: 1, cuts: 1, ..Left::default() };
        Self::new("forgetful", Fencing::Strict, left)
    }

    /// The operator comes back on another machine, and a wall clock is set.
    pub fn moved() -> Self {
        let left = Left { moves: 1, cuts: 1, clocks: 1, ..Left::default() };
        Self::new("moved", Fencing::Advisory, left)
    }

    /// One clock of one region is set, or stands still for a while.
    pub fn clocks() -> Self {
        Self::new("clocks", Fencing::Strict, Left { messages: 1, cuts: 1, clocks: 1, ..Left::default() })
    }

    /// Regions are told other deadlines, at different times.
    pub fn told() -> Self {
        let left = Left { messages: 1, cuts: 1, settings: 1, ..Left::default() };
        Self { deadlines: [[TIGHT, SHORT], [SHORT, TIGHT]], ..Self::new("told", Fencing::Strict, left) }
    }

    /// The second region is not one that the application may run in.
    pub fn bystander() -> Self {
        let left = Left { messages: 1, cuts: 1, ..Left::default() };
        Self { candidates: [true, false], ..Self::new("bystander", Fencing::Advisory, left) }
    }

    /// People ask for the application, and change their mind.
    pub fn handover() -> Self {
        let left = Left { messages: 1, restarts: 1, asks: 2, ..Left::default() };
        Self { waits_for_people: true, ..Self::new("handover", Fencing::Strict, left) }
    }

    /// The vault is set back, or loses the claim.
    pub fn rollback() -> Self {
        let left = Left { messages: 1, restarts: 1, rollbacks: 1, ..Left::default() };
        Self { evidence_is_late: true, ..Self::new("rollback", Fencing::Advisory, left) }
    }

    /// The same, and a region may be away for long enough to lose the claim before.
    pub fn reset() -> Self {
        let left = Left { losses: 1, rollbacks: 1, ..Left::default() };
        Self { left, name: "reset", ..Self::rollback() }
    }

    /// Holders enter points and change the name's record, and that arrives whenever it likes.
    pub fn changes() -> Self {
        Self::new("changes", Fencing::Advisory, Left { messages: 1, cuts: 1, changes: 2, ..Left::default() })
    }

    /// The same world, with all but two kinds of mishaps left out: each pair of those that it has.
    pub fn pairs(self) -> Vec<Self> {
        let kinds: Vec<usize> = (0..KINDS).filter(|it| self.left.counts()[*it] > 0).collect();
        if kinds.len() < 3 {
            return vec![self];
        }
        let pair = |one: usize, other: usize| {
            let mut left = [0; KINDS];
            (left[one], left[other]) = (self.left.counts()[one], self.left.counts()[other]);
            Self { left: Left::of(left), ..self.clone() }
        };
        let mut pairs = Vec::new();
        for (at, one) in kinds.iter().enumerate() {
            pairs.extend(kinds[at + 1..].iter().map(|other| pair(*one, *other)));
        }
        pairs
    }
}
