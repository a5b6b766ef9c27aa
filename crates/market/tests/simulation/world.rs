//! One schedule: a queue of events in the order of their true time, the two programs, and the chain.

use crate::{
    bugs::Bug,
    chain::{Account, Call, Chain, Purpose, Transaction},
    checks::{Facts, Tally},
    network::{Request, Response, Ticket},
    node::Crashed,
    plan::{BEGIN, Plan, RenterVice, Side},
    provider::Provider,
    random::Random,
    renter::Renter,
    sender,
};
use alloy_primitives::B256;
use market::{
    dispute::StopReason,
    id::RentalId,
    money::Amount,
    quote::MIN_WINDOW,
    rental::{provider, renter},
    time::UnixMillis,
};
use std::collections::BTreeMap;

/// No schedule needs as many events; one that does goes in circles.
const MOST_EVENTS: u32 = 200_000;
/// Lines of the story that are shown when a schedule fails.
const STORY: usize = 120;

/// Something that happens.
pub(crate) enum Event {
    Block,
    Offered(Box<Transaction>),
    Asked(Ticket, Request),
    Answered(Ticket, Response),
    Unanswered(Ticket),
    Tick(Side, u32),
    Poll(Side, u32),
    Starts(Side),
    Crash(Side, u32, u64),
    Negotiate,
    Opens(u32, RentalId),
    TellsFinish(u32, RentalId),
    StopsAtOnce(u32, RentalId),
    ProgramEnds(RentalId),
    SandboxMade(u32, RentalId),
    LateFreeze(u32, RentalId),
    Preempt,
    Evict,
}

/// One rental in eight does not end with its program: a check of the hardware fails, and the renter leaves it. Where all goes smoothly
/// none does.
fn end_of(plan: &Plan, id: &RentalId) -> renter::Input {
    let fails = !plan.is_smooth() && id.0[31].is_multiple_of(8);
    if fails { renter::Input::Leave(StopReason::Hardware) } else { renter::Input::Finish }
}

/// What everybody in a schedule shares.
pub(crate) struct Shared {
    pub(crate) now: u64,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) chain: Chain,
    pub(crate) facts: Facts,
    queue: BTreeMap<(u64, u64), Event>,
    counter: u64,
    story: Option<Vec<String>>,
    fault: Option<String>,
}

impl Shared {
    /// Something happens in `delay` milliseconds.
    pub(crate) fn later(&mut self, delay: u64, event: Event) {
        self.counter += 1;
        self.queue.insert((self.now + delay, self.counter), event);
    }

    /// A number that nothing else has.
    pub(crate) const fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn next_hash(&mut self) -> B256 {
        sender::numbered(self.next_number())
    }

    /// Whether the time of faults is over.
    pub(crate) const fn calm(&self) -> bool {
        self.now >= self.plan.calm
    }

    /// What a side's wall clock shows.
    pub(crate) fn clock(&self, side: Side) -> UnixMillis {
        let (offset, drift) = (self.plan.offset[side as usize], self.plan.drift[side as usize]);
        let gained = (self.now - BEGIN) as i64 * drift / 1_000_000;
        UnixMillis(self.now.saturating_add_signed(offset + gained))
    }

    /// The newest block that programs act upon.
    pub(crate) fn trusted_head(&self) -> u64 {
        if self.plan.has(Bug::TrustUnconfirmed) { self.chain.head() } else { self.chain.confirmed() }
    }

    /// Adds a line to the story, if it is told.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} s  {}", (self.now - BEGIN) as f64 / 1_000.0, line()));
        }
    }

    /// A promise is broken. The first one counts.
    pub(crate) fn fail(&mut self, what: String) {
        self.note(|| format!("FAULT {what}"));
        self.fault.get_or_insert(what);
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) s: Shared,
    pub(crate) provider: Provider,
    pub(crate) renter: Renter,
    made: u8,
}

impl World {
    fn new(plan: Plan, telling: bool) -> Self {
        let s = Shared {
            now: BEGIN,
            random: Random::seeded(plan.seed.wrapping_mul(0x9E37_79B9).wrapping_add(1)),
            chain: Chain::new(BEGIN / 1_000, plan.confirmations),
            facts: Facts::default(),
            queue: BTreeMap::new(),
            counter: 0,
            story: telling.then(Vec::new),
            fault: None,
            plan,
        };
        Self { s, provider: Provider::new(), renter: Renter::new(), made: 0 }
    }

    /// Runs the schedule of a plan: what it went through, or what was broken.
    pub(crate) fn run(plan: &Plan) -> Result<Tally, String> {
        let mut world = Self::new(plan.clone(), false);
        world.play();
        if world.s.fault.is_none() {
            return Ok(world.s.facts.tally);
        }
        // once more, telling the story
        let mut world = Self::new(plan.clone(), true);
        world.play();
        let story = world.s.story.unwrap_or_default();
        let from = story.len().saturating_sub(STORY);
        let fault = world.s.fault.unwrap_or_else(|| "a schedule is not the same twice".to_owned());
        Err(format!(
            "seed {}: {fault}\n{plan:?}\n{}\nagain with: SIMULATION_SEED={} cargo test -p market --test simulation",
            plan.seed,
            story[from..].join("\n"),
            plan.seed
        ))
    }

    fn play(&mut self) {
        self.begin();
        for _ in 0..MOST_EVENTS {
            let Some(((at, _), event)) = self.s.queue.pop_first() else { return self.s.fail("nothing happens".into()) };
            self.s.now = at;
            self.happen(event);
            self.check();
            if self.s.fault.is_some() {
                return;
            }
            if self.s.calm() && self.settled() {
                return self.check_end();
            }
            if self.s.now > self.deadline() {
                return self.late();
            }
            let closes = self.s.plan.stays(Side::Provider) && self.s.now > self.deadline_of_provider();
            if closes && !self.provider.live.is_empty() {
                return self.s.fail("the provider has not closed in time".into());
            }
        }
        self.s.fail("too many events".into());
    }

    fn begin(&mut self) {
        let s = &mut self.s;
        s.later(0, Event::Starts(Side::Provider));
        s.later(0, Event::Starts(Side::Renter));
        s.later(s.plan.block_millis, Event::Block);
        s.later(500, Event::Negotiate);
        for (side, outage) in s.plan.outages.clone() {
            s.queue.insert((outage.at, s.counter), Event::Crash(side, outage.fuse, outage.down));
            s.counter += 1;
        }
        if s.random.percent(5) {
            let at = s.random.range(5_000, 120_000);
            s.later(at, Event::Evict);
        }
        for _ in 0..if s.plan.notice_seconds > 0 { 3 } else { 0 } {
            let at = s.random.range(5_000, 60_000);
            s.later(at, Event::Preempt);
        }
    }

    fn happen(&mut self, event: Event) {
        let (s, provider, renter) = (&mut self.s, &mut self.provider, &mut self.renter);
        let (side, outcome) = match event {
            Event::Block => return self.block(),
            Event::Offered(transaction) => return s.chain.offer(*transaction),
            Event::Crash(side, fuse, down) => return self.crash_soon(side, fuse, down),
            Event::Negotiate => return self.negotiate(),
            Event::Starts(side) => {
                s.note(|| format!("{side:?} starts"));
                match side {
                    Side::Provider => (side, provider.start(s)),
                    Side::Renter => (side, renter.start(s)),
                }
            }
            Event::Asked(ticket, request) if provider.up => (Side::Provider, provider.asked(s, ticket, request)),
            Event::Answered(ticket, response) if renter.up => {
                (Side::Renter, renter.answered(s, ticket, Some(response)))
            }
            Event::Unanswered(ticket) if renter.up => (Side::Renter, renter.answered(s, ticket, None)),
            Event::Tick(Side::Provider, epoch) if provider.epoch == epoch => (Side::Provider, provider.tick(s)),
            Event::Poll(Side::Provider, epoch) if provider.epoch == epoch => (Side::Provider, provider.poll(s)),
            Event::SandboxMade(epoch, id) if provider.epoch == epoch => (Side::Provider, provider.sandbox_made(s, id)),
            Event::LateFreeze(epoch, id) if provider.epoch == epoch => return provider.freeze(id, true),
            Event::Evict if provider.up => (Side::Provider, provider.evict(s)),
            Event::Preempt if provider.up => (Side::Provider, provider.preempt(s)),
            Event::Tick(Side::Renter, epoch) if renter.epoch == epoch => (Side::Renter, renter.tick(s)),
            Event::Poll(Side::Renter, epoch) if renter.epoch == epoch => (Side::Renter, renter.poll(s)),
            Event::Opens(epoch, id) if renter.epoch == epoch => {
                (Side::Renter, renter.input(s, id, renter::Input::Open))
            }
            Event::TellsFinish(epoch, id) if renter.epoch == epoch => return renter.tell_finish(s, id),
            Event::StopsAtOnce(epoch, id) if renter.epoch == epoch => (Side::Renter, renter.stop_at_once(s, id)),
            Event::ProgramEnds(id) if renter.up => {
                let input = end_of(&s.plan, &id);
                (Side::Renter, renter.input(s, id, input))
            }
            Event::ProgramEnds(id) => return s.later(3_000, Event::ProgramEnds(id)),
            _ => return,
        };
        if outcome.is_err() {
            self.crash(side);
        }
    }

    fn crash_soon(&mut self, side: Side, fuse: u32, down: u64) {
        let (up, slot) = match side {
            Side::Provider => (self.provider.up, &mut self.provider.fuse),
            Side::Renter => (self.renter.up, &mut self.renter.fuse),
        };
        slot.light(fuse, down);
        if up && fuse == 0 {
            slot.put_out();
            self.crash(side);
        }
    }

    fn crash(&mut self, side: Side) {
        let s = &mut self.s;
        s.note(|| format!("{side:?} crashes"));
        s.facts.tally.crashes += 1;
        let down = match side {
            Side::Provider => {
                self.provider.crash();
                self.provider.fuse.down()
            }
            Side::Renter => {
                self.renter.crash();
                self.renter.fuse.down()
            }
        };
        let leaves = down == 0 && s.plan.dies == Some(side);
        if !leaves {
            let until_calm = s.plan.calm.saturating_sub(s.now);
            s.later(down.min(until_calm).max(10), Event::Starts(side));
        }
    }

    fn negotiate(&mut self) {
        let s = &mut self.s;
        if s.calm() || self.made == s.plan.rentals {
            return;
        }
        let pause = s.random.range(1_000, 15_000);
        s.later(pause, Event::Negotiate);
        if !self.provider.up || !self.renter.up {
            return;
        }
        match self.provider.quote(s, self.made) {
            Ok(None) => {}
            Ok(Some(promised)) => {
                self.made += 1;
                if s.random.percent(8) {
                    // the answer is lost: the quote lapses
                    return;
                }
                let full = promised.quote.quote.full_price().get();
                let part = u64::try_from(full).unwrap_or(u64::MAX);
                let deposit = if s.random.percent(70) { full } else { u128::from(s.random.range(1, part + 1)) };
                let deposit = Amount::new(deposit).unwrap_or_default();
                let id = promised.id;
                let soon = if s.random.percent(20) { 0 } else { 40_000 };
                let lasts = soon + s.random.range(1_000, u64::from(s.plan.rental_seconds) * 1_000 + 40_000);
                s.later(lasts, Event::ProgramEnds(id));
                if self.renter.quoted(s, promised, deposit).is_err() {
                    self.crash(Side::Renter);
                }
                if self.s.plan.renter_vice == Some(RenterVice::VanishesAfterOpening) && self.s.plan.dies.is_none() {
                    self.s.plan.dies = Some(Side::Renter);
                    let at = self.s.random.range(4_000, 60_000);
                    self.s.later(at, Event::Crash(Side::Renter, 0, 0));
                }
            }
            Err(Crashed) => self.crash(Side::Provider),
        }
    }

    fn block(&mut self) {
        let s = &mut self.s;
        // when only the window is waited for, nothing else can happen: blocks may come slowly
        let quiet = s.now > s.plan.calm + 300_000 && s.chain.pool.is_empty();
        let pause = if quiet { 30_000 } else { s.plan.block_millis };
        s.later(pause, Event::Block);
        let (time, included) = (s.now / 1_000, if s.calm() { 100 } else { s.plan.inclusion_percent });
        let goes_back = !s.calm() && s.random.percent(s.plan.reorg_percent);
        let first = if goes_back { self.go_back(time, included) } else { s.chain.head() + 1 };
        let s = &mut self.s;
        s.chain.mine(time, included, &mut s.random);
        self.check_blocks(first);
    }

    /// Replaces the newest blocks: the number of the first of them.
    fn go_back(&mut self, time: u64, included: u64) -> u64 {
        let depth = self.depth_of_reorganisation();
        let s = &mut self.s;
        s.chain.undo(depth, &mut s.random);
        s.facts.tally.reorganisations += 1;
        let first = s.chain.head() + 1;
        for _ in 0..depth {
            // its twin had a time that was not in the future either
            let earlier = s.chain.time() + 1;
            s.chain.mine(earlier.min(time), included, &mut s.random);
        }
        s.note(|| format!("the last {depth} blocks are replaced"));
        first
    }

    /// How many blocks are replaced. Those that count are replaced in some schedules only; and what the sides have seen expire does not
    /// come back to life: then the programs have forgotten it.
    fn depth_of_reorganisation(&mut self) -> u64 {
        let s = &mut self.s;
        if !s.plan.deep || s.random.percent(60) {
            return s.random.range(1, s.plan.confirmations.max(2));
        }
        s.facts.tally.deep_reorganisations += 1;
        let given_up = self.renter.disk.values().filter(|rental| rental.phase == renter::Phase::Lapsed);
        let given_up = given_up.map(|rental| u64::from(rental.quote.quote.expiry)).max().unwrap_or(0);
        let stands = given_up.max(s.facts.last_lapse);
        let mut depth = s.random.range(1, s.plan.confirmations + 10).min(s.chain.head());
        while depth > 1 && s.chain.blocks[(s.chain.head() - depth) as usize].time <= stands {
            depth -= 1;
        }
        depth
    }

    /// When an honest provider has closed everything, whatever its renter does: it served, froze, waited, and its closing was mined.
    fn deadline_of_provider(&self) -> u64 {
        let plan = &self.s.plan;
        let seconds = plan.rental_seconds + plan.ready_seconds + plan.frozen_seconds + plan.increment_millis / 1_000;
        plan.calm + u64::from(seconds) * 1_000 + 60_000 + 30 * plan.block_millis
    }

    /// When every rental has to be over, whatever happened: a renter without its provider stops on chain and waits for the window.
    fn deadline(&self) -> u64 {
        let chain = 30 * self.s.plan.block_millis + 240_000;
        self.deadline_of_provider() + renter::CLOSE_PATIENCE + u64::from(MIN_WINDOW) * 1_000 + chain
    }

    /// Whether everything that has to be over is over.
    fn settled(&self) -> bool {
        let s = &self.s;
        let provider = !s.plan.stays(Side::Provider)
            || (self.provider.live.is_empty() && self.provider.disk.values().all(|rental| rental.phase.is_over()));
        let renter = !s.plan.stays(Side::Renter)
            || (self.renter.live.is_empty() && self.renter.disk.values().all(|rental| rental.phase.is_over()));
        let chain = s.chain.state.rentals.values().all(|rental| rental.closing.is_some());
        // what the chain took back last has been heard
        let program = |up: bool, forks, side| (up && forks == Some(s.chain.forks)) || !s.plan.stays(side);
        provider
            && renter
            && chain
            && program(self.provider.up, self.provider.forks, Side::Provider)
            && program(self.renter.up, self.renter.forks, Side::Renter)
    }

    /// Past the deadline. An honest side that is there should have ended it all; without one, any stranger can.
    fn late(&mut self) {
        let s = &mut self.s;
        if s.plan.stays(Side::Provider) || s.plan.stays(Side::Renter) {
            let phases = |rentals: Vec<&str>| rentals.join(", ");
            let provider =
                phases(self.provider.disk.values().map(|rental: &provider::Rental| rental.phase.name()).collect());
            let renter = phases(self.renter.disk.values().map(|rental: &renter::Rental| rental.phase.name()).collect());
            return s.fail(format!("not over in time; provider: {provider}; renter: {renter}"));
        }
        let open: Vec<_> = s.chain.state.rentals.iter().filter(|(_, r)| r.closing.is_none()).collect();
        let open: Vec<_> = open.into_iter().map(|(id, rental)| (*id, rental.final_at())).collect();
        for (nonce, (id, at)) in open.into_iter().enumerate() {
            let (nonce, hash) = (nonce as u64, s.next_hash());
            let (purpose, call) = (Purpose::Finalize, Call::Finalize);
            s.chain.offer(Transaction { from: Account::Stranger, nonce, id, purpose, call, hash });
            s.chain.mine(at, 100, &mut s.random);
        }
        self.check_end();
    }
}
