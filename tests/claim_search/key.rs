//! What two states must have in common to be the same: all that decides about what may come, and nothing else. Versions
//! are named as they are met, and of their numbers only the order counts.

use std::hash::{DefaultHasher, Hasher};

use jiff::Timestamp;
use reprise::core::claim::{
    record::{Claim, Deadlines, Entry, Intent, Purpose},
    state::{Evidence, Flight, Known, Seen, State, Wish},
    step::Expected,
    time::{Now, Since},
};

use super::{
    lead::{App, Seat},
    plan::Left,
    promises::Witness,
    world::{Answer, Change, Mark, NAMES, NOW, Region, Request, What, World, Write},
};

/// The key of a state, as a number.
pub fn key(world: &World) -> u64 {
    let (bytes, versions, seqs) = (Vec::with_capacity(512), Vec::with_capacity(8), Vec::with_capacity(16));
    let mut key = Key { bytes, versions, seqs, instances: instances(world) };
    key.world(world);
    key.rank();
    let mut hasher = DefaultHasher::new();
    hasher.write(&key.bytes);
    hasher.finish()
}

fn instances(world: &World) -> [Option<&str>; 2] {
    [0, 1].map(|at: usize| world.regions[at].state.as_ref().map(|it| it.instance.as_str()))
}

/// What may be looked at again.
struct Live<'a> {
    world: &'a World,
    /// A region served by its status when its operator started.
    held: bool,
}

impl Live<'_> {
    fn may_be_seen(&self, nonce: &str) -> bool {
        let World { stored, backup, regions, .. } = self.world;
        let claims = [stored, backup].into_iter().flatten().any(|it| it.nonce == nonce);
        claims
            || regions.iter().any(|region| {
                let straggler = region.straggler.as_ref().is_some_and(|it| it.claim.nonce == nonce);
                let request = region.request.as_ref().is_some_and(|it| {
                    let answer = matches!(&it.answer, Some(Answer::Found(Some(claim))) if claim.nonce == nonce);
                    answer || matches!(&it.what, What::Write(write) if write.claim.nonce == nonce)
                });
                straggler || request
            })
    }
}

struct Key<'a> {
    bytes: Vec<u8>,
    versions: Vec<&'a str>,
    /// Where the number of a version stands.
    seqs: Vec<(u64, usize)>,
    instances: [Option<&'a str>; 2],
}

impl<'a> Key<'a> {
    fn put(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn flag(&mut self, flag: bool) {
        self.bytes.push(u8::from(flag));
    }

    fn small(&mut self, number: u64) {
        self.bytes.push(u8::try_from(number).expect("epochs and counts are small here"));
    }

    fn maybe<T>(&mut self, it: Option<T>, then: impl FnOnce(&mut Self, T)) {
        match it {
            None => self.put(0xff),
            Some(it) => {
                self.put(1);
                then(self, it);
            }
        }
    }

    fn name(&mut self, name: Option<&str>) {
        self.put(match name {
            None => 2,
            Some(it) if it == NAMES[0] => 0,
            Some(_) => 1,
        });
    }

    fn version(&mut self, nonce: &'a str) {
        let at = self.versions.iter().position(|it| *it == nonce);
        let at = at.unwrap_or_else(|| {
            // Who made it, and whether it was the operator that runs now, is asked about when it is met.
            let mut parts = nonce.split('.');
            let (region, instance) = (parts.next(), parts.next());
            let now = self.instances.iter().any(|it| it.is_some() && *it == instance);
            self.name(region);
            self.flag(now);
            self.versions.push(nonce);
            self.versions.len() - 1
        });
        self.small(at as u64);
    }

    fn seq(&mut self, seq: u64) {
        self.seqs.push((seq, self.bytes.len()));
        self.put(0);
    }

    /// Of numbers only their order counts, and whether one follows the other. 0 is none.
    fn rank(&mut self) {
        self.seqs.sort_unstable();
        let (mut before, mut rank) = (0, 0);
        for (seq, at) in &self.seqs {
            rank += u8::try_from((seq - before).min(2)).expect("at most two");
            before = *seq;
            self.bytes[*at] = rank;
        }
    }

    fn boot(&mut self, at: std::time::Duration) {
        let age = u32::try_from(NOW.boot.saturating_sub(at).as_millis()).expect("no age is beyond the oldest");
        self.bytes.extend_from_slice(&age.to_le_bytes());
    }

    fn wall(&mut self, at: Timestamp) {
        let age = i32::try_from(NOW.wall.as_millisecond() - at.as_millisecond()).expect("no age is beyond the oldest");
        self.bytes.extend_from_slice(&age.to_le_bytes());
    }

    fn moment(&mut self, at: Now) {
        self.boot(at.boot);
        self.wall(at.wall);
    }

    fn since(&mut self, since: Since) {
        match since {
            Since::Proven(at) => {
                self.put(0);
                self.moment(at);
            }
            Since::Wall(at) => {
                self.put(1);
                self.wall(at);
            }
            Since::Unknown => self.put(2),
        }
    }

    fn deadlines(&mut self, it: Deadlines) {
        self.small(u64::from(it.renew / 10));
    }

    fn purpose(&mut self, it: Purpose) {
        self.put(it as u8);
    }

    fn claim(&mut self, claim: &'a Claim) {
        self.small(claim.epoch);
        self.name(claim.holder.as_deref());
        self.seq(claim.seq);
        self.version(&claim.nonce);
        self.deadlines(claim.deadlines);
        match &claim.intent {
            Intent::None => self.put(0),
            Intent::Handover(it) => {
                self.put(1);
                self.name(Some(&it.to));
            }
            Intent::Released { to, from, .. } => {
                self.put(2);
                self.name(to.as_deref());
                self.name(from.as_deref());
            }
        }
    }

    fn entry(&mut self, entry: &'a Entry, boot: &str) {
        self.flag(entry.boot_id == boot);
        self.purpose(entry.purpose);
        self.small(entry.epoch);
        self.seq(entry.seq);
        self.version(&entry.nonce);
        self.deadlines(entry.deadlines);
        self.moment(entry.sent);
        self.maybe(entry.confirmed, Self::moment);
    }

    fn write(&mut self, write: &'a Write, boot: &str) {
        self.claim(&write.claim);
        match &write.expected {
            Expected::Absent => self.put(0),
            Expected::Unchanged(tag) => {
                self.put(1);
                self.version(tag);
            }
        }
        self.maybe(write.entry.as_deref(), |key, it| key.entry(it, boot));
    }

    fn world(&mut self, world: &'a World) {
        self.bytes.extend_from_slice(&world.left.counts());
        self.flag(world.vault_up);
        self.flag(world.begun);
        self.flag(world.rolled_back);
        self.maybe(world.stored.as_deref(), Self::claim);
        self.maybe(world.backup.as_deref(), Self::claim);
        for Mark { epoch, by } in [world.head, world.name] {
            self.small(epoch);
            self.small(by as u64);
        }
        for region in &world.regions {
            self.region(region, world);
        }
    }

    fn region(&mut self, region: &'a Region, world: &'a World) {
        let boot = region.boot_id();
        self.flag(region.linked);
        self.flag(region.lost);
        self.flag(region.stalled);
        self.flag(region.pace < 1_000_000);
        self.small(region.told as u64);
        self.evidence(region.settings.evidence);
        let held = region.settings.evidence.is_some_and(|it| it.held.is_some());
        let live = Live { world, held };
        self.maybe(region.state.as_deref(), |key, it| key.state(it, region, &live));
        // Nobody reads the journal again unless there is another start.
        let Left { restarts, moves, forgets: _, crashes, losses, .. } = world.left;
        let read = region.state.is_none() || restarts + moves + crashes + losses > 0;
        self.maybe(region.journal.as_deref().filter(|_| read), |key, it| key.entry(it, &boot));
        self.maybe(region.request.as_ref(), |key, it| key.request(it, &boot));
        self.maybe(region.straggler.as_ref(), |key, it| key.write(it, &boot));
        self.maybe(region.change, |key, it| {
            let (kind, epoch) = match it {
                Change::Seal(epoch) => (0, epoch),
                Change::Enter(epoch) => (1, epoch),
                Change::Name(epoch) => (2, epoch),
            };
            key.put(kind);
            key.small(epoch);
        });
        self.seat(&region.seat);
        self.witness(&region.witness, &region.settings.region, world.plan.silence());
    }

    fn evidence(&mut self, evidence: Option<Evidence>) {
        self.maybe(evidence, |key, Evidence { status, head, fenced, held }| {
            for it in [status, head, fenced, held] {
                key.maybe(it, Self::small);
            }
        });
    }

    fn request(&mut self, request: &'a Request, boot: &str) {
        self.flag(request.aged);
        match &request.answer {
            None => self.put(0),
            Some(Answer::Found(it)) => {
                self.put(1);
                self.maybe(it.as_deref(), Self::claim);
            }
            Some(Answer::Done) => self.put(2),
            Some(Answer::Lost) => self.put(3),
        }
        match &request.what {
            What::Read => self.put(0),
            What::Write(write) => {
                self.put(1);
                self.write(write, boot);
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "each field of a state, once")]
    fn state(&mut self, state: &'a State, region: &Region, live: &Live) {
        // Health, and what is only said to people, decides nothing; `instance` and `count` make names.
        let State {
            instance: _,
            boot_id: _,
            count: _,
            begun,
            wish,
            health: _,
            seen,
            sight,
            known,
            own,
            outstanding,
            unresolved,
            flight,
            fenced,
            conflict,
            last_error,
            contact,
            read_at,
            wrote_at,
        } = state;
        self.maybe(begun.filter(|_| live.held), Self::moment);
        self.wish(wish);
        self.maybe(seen.as_ref(), |key, it| match it {
            Seen::Absent => key.put(0),
            Seen::Present { claim, tag } => {
                key.put(1);
                key.claim(claim);
                key.version(tag);
            }
        });
        // The silence of one's own versions says nothing.
        let named = state.claim().is_some_and(|it| it.holder.as_ref() == Some(&region.settings.region));
        self.maybe(sight.as_ref().filter(|_| !named), |key, it| {
            key.maybe(it.version.as_deref(), Self::version);
            key.moment(it.last);
            let silent = it.silent.as_millis().min(live.world.plan.silence().into());
            let silent = u32::try_from(silent).expect("no silence is beyond the longest");
            key.bytes.extend_from_slice(&silent.to_le_bytes());
        });
        self.known(known);
        self.maybe(own.as_ref(), |key, it| {
            key.small(it.epoch);
            key.since(it.since);
            key.deadlines(it.deadlines);
            key.flag(it.confirmed_here);
            key.flag(it.supposed);
        });
        // One that can be seen no more counts with its deadlines, and as an attempt.
        for it in outstanding {
            let seizes = it.purpose == Purpose::Seize;
            if seizes || live.may_be_seen(&it.nonce) {
                self.version(&it.nonce);
                self.small(it.epoch);
                self.purpose(it.purpose);
                self.since(it.since);
            }
            self.deadlines(it.deadlines);
        }
        self.put(0xfe);
        self.flag(*unresolved);
        match flight {
            Flight::Idle => self.put(0),
            Flight::Reading { floor, source: _ } => {
                self.put(1);
                self.known(floor);
            }
            Flight::Writing(claim) => {
                self.put(2);
                self.claim(claim);
            }
        }
        self.maybe(*fenced, Self::small);
        self.flag(conflict.is_some());
        self.flag(last_error.is_some());
        self.maybe(*contact, Self::moment);
        // Nothing is due later than a `renew` after these.
        self.flag(wrote_at > read_at);
        let proven = own.as_ref().and_then(|it| match it.since {
            Since::Proven(at) => Some(at.boot),
            Since::Wall(_) | Since::Unknown => None,
        });
        self.flag(proven >= *wrote_at);
        for at in [read_at, wrote_at] {
            let last = NOW.boot.saturating_sub(std::time::Duration::from_millis(2 * region.pace));
            self.maybe(at.map(|it| it.max(last)), Self::boot);
        }
    }

    fn known(&mut self, known: &'a Known) {
        self.small(known.epoch);
        self.seq(known.seq);
        self.maybe(known.nonce.as_deref(), Self::version);
    }

    fn wish(&mut self, wish: &Wish) {
        match wish {
            Wish::Undecided => self.put(0),
            Wish::Watch => self.put(1),
            Wish::Hold => self.put(2),
            Wish::Seize { epoch, .. } => {
                self.put(3);
                self.small(*epoch);
            }
            Wish::Release { to, .. } => {
                self.put(4);
                self.name(to.as_deref());
            }
            Wish::RequestHandover { .. } => self.put(5),
        }
    }

    fn seat(&mut self, seat: &Seat) {
        let Seat { app, wish, fenced, epoch, leaving, unwilling } = seat;
        match app {
            App::Off => self.put(0),
            App::Serving(epoch) => {
                self.put(1);
                self.small(*epoch);
            }
            App::Stopping(epoch, left) => {
                self.put(2);
                self.small(*epoch);
                self.put(*left);
            }
        }
        self.wish(wish);
        self.maybe(*fenced, Self::small);
        self.maybe(*epoch, Self::small);
        self.name(leaving.as_deref());
        self.flag(*unwilling);
    }

    fn witness(&mut self, witness: &'a Witness, me: &str, silence: u64) {
        let Witness { newest, version, quiet, ago, open, fenced, fell, alone } = witness;
        let named = newest.as_ref().is_some_and(|it| it.holder.as_deref() == Some(me));
        let most = u8::try_from(silence / 990_000 + 1).expect("a few quanta");
        let (quiet, ago) = if named { (0, 0) } else { ((*quiet).min(most), *ago) };
        self.maybe(newest.as_deref(), Self::claim);
        self.maybe(version.as_ref(), |key, it| key.maybe(it.as_deref(), Self::version));
        self.put(quiet);
        self.put(ago);
        self.flag(*open);
        self.small(*fenced);
        self.flag(*fell);
        self.put(*alone);
    }
}
