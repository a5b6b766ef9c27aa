//! The renter's program around its state machine: the driver's rule (step, write, act), vouchers, and the ways to cheat.

mod answers;

use crate::{
    bugs::Bug,
    chain::{Call, Happening, Purpose},
    keys::{KEYS, no_bytes},
    network::{Request, Ticket, ask},
    node::{Crashed, Fuse, reread},
    plan::{RenterVice, Side},
    sender::Sender,
    world::{Event, Shared},
};
use market::{
    id::RentalId,
    mandate::{self, Funding, Mandate},
    money::Amount,
    rental::{
        Closing, provider,
        renter::{Effect, Input, Phase, Rental},
    },
    signed::SignedVoucher,
};
use std::collections::BTreeMap;

/// How long a question other than a voucher may stay unanswered.
const ANSWER: u64 = 10_000;
/// The shortest time that a voucher may stay unanswered.
const SHORTEST_ANSWER: u64 = 2_000;
/// Pause before the end is told again.
const FINISH_PAUSE: u64 = 2_000;
/// Pause before a transaction that failed is tried again.
const CHAIN_PAUSE: u64 = 5_000;
/// How long a transaction is waited for.
const CHAIN_WAIT: u64 = 60_000;

/// A rental in memory.
pub(crate) struct Live {
    pub(crate) rental: Rental,
    asking: Option<u64>,
    finishing: Option<u64>,
    /// When an opening that failed is tried again.
    open_at: Option<u64>,
    /// What is under way on chain, and how long it is waited for.
    on_chain: Option<(Option<Purpose>, u64)>,
    sent: u32,
}

/// See the module.
pub(crate) struct Renter {
    pub(crate) up: bool,
    pub(crate) epoch: u32,
    pub(crate) fuse: Fuse,
    pub(crate) sender: Sender,
    pub(crate) disk: BTreeMap<RentalId, Rental>,
    pub(crate) receipts: BTreeMap<RentalId, Closing>,
    pub(crate) live: BTreeMap<RentalId, Live>,
    cursor: u64,
    /// How often the chain had gone back when it was last looked at.
    pub(crate) forks: Option<u64>,
    first_vouchers: BTreeMap<RentalId, SignedVoucher>,
}

impl Renter {
    pub(crate) fn new() -> Self {
        Self {
            up: false,
            epoch: 0,
            fuse: Fuse::default(),
            sender: Sender::new(Side::Renter),
            disk: BTreeMap::new(),
            receipts: BTreeMap::new(),
            live: BTreeMap::new(),
            cursor: 0,
            forks: None,
            first_vouchers: BTreeMap::new(),
        }
    }

    /// Loses all that is not on disk.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.epoch += 1;
        self.live.clear();
        self.sender.crash();
    }

    /// Takes up what an earlier process left.
    pub(crate) fn start(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        self.up = true;
        self.forks = None;
        s.later(10, Event::Tick(Side::Renter, self.epoch));
        s.later(400, Event::Poll(Side::Renter, self.epoch));
        let kept: Vec<Rental> = self.disk.values().cloned().collect();
        for kept in kept {
            let rental = reread(s, &kept);
            if rental.phase.is_over() {
                let closing = rental.closing.filter(|_| rental.resume().contains(&Effect::Receipt));
                self.receipts.extend(closing.map(|closing| (rental.id, closing)));
                continue;
            }
            let (id, effects) = (rental.id, rental.resume());
            self.adopt(rental);
            self.act(s, id, effects)?;
        }
        Ok(())
    }

    fn adopt(&mut self, rental: Rental) {
        let live = Live { rental, asking: None, finishing: None, open_at: None, on_chain: None, sent: 0 };
        self.live.insert(live.rental.id, live);
    }

    /// Writes a promise down; it is opened a little later.
    pub(crate) fn quoted(
        &mut self,
        s: &mut Shared,
        promised: provider::Rental,
        deposit: Amount,
    ) -> Result<(), Crashed> {
        let mut rental = Rental::new(promised.quote, promised.terms, no_bytes(), deposit, s.chain.head());
        let id = rental.id;
        if s.plan.mandated {
            let ahead = mandate::advance(&rental.quote.quote, s.plan.increment_millis, deposit);
            s.facts.signed(id, ahead);
            let key = if s.plan.renter_vice == Some(RenterVice::Forges) { &KEYS.stranger } else { &KEYS.session };
            let (advance, signature) = (key.voucher(id, ahead), no_bytes());
            rental =
                rental.opened_by_provider(Mandate { deposit, funding: Funding::Authorization { signature }, advance });
        }
        self.fuse.point()?;
        self.disk.insert(id, rental.clone());
        self.adopt(rental);
        self.fuse.point()?;
        let delay = if s.random.percent(85) { s.random.range(10, 3_000) } else { s.random.range(10, 60_000) };
        s.later(delay, Event::Opens(self.epoch, id));
        Ok(())
    }

    // --- the rule: step, write, act ---

    /// Gives a machine an input, writes what became of it, and then does what it asks for.
    pub(crate) fn input(&mut self, s: &mut Shared, id: RentalId, input: Input) -> Result<(), Crashed> {
        let now = s.clock(Side::Renter);
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        let mut next = live.rental.clone();
        let ready = if let Input::Ready(at, _) = input { Some(at) } else { None };
        if s.plan.has(Bug::SignThroughSilence) && matches!(input, Input::Tick | Input::Finish) {
            next.heard_at = next.heard_at.map(|_| now);
        }
        let Ok(effects) = next.step(input, now) else { return Ok(()) };
        if let Some(at) = ready.filter(|_| s.plan.has(Bug::TrustBackdatedReady) && live.rental.ready.is_none()) {
            next.metered_from = Some(at);
        }
        if next != live.rental {
            if next.phase != live.rental.phase {
                s.note(|| format!("renter: {} {} -> {}", id.short(), live.rental.phase.name(), next.phase.name()));
            }
            self.fuse.point()?;
            self.disk.insert(id, next.clone());
            live.rental = next;
            self.fuse.point()?;
        }
        self.act(s, id, effects)?;
        if self.live.get(&id).is_some_and(|live| live.rental.phase.is_over()) {
            self.live.remove(&id);
        }
        Ok(())
    }

    fn act(&mut self, s: &mut Shared, id: RentalId, effects: Vec<Effect>) -> Result<(), Crashed> {
        for effect in effects {
            let Some(live) = self.live.get(&id) else { return Ok(()) };
            match effect {
                Effect::SendOpen => self.open(s, id)?,
                Effect::Sign(total) => self.sign(s, id, total)?,
                Effect::TellFinish => {
                    let pause = if live.rental.missed_finishes == 0 { 0 } else { FINISH_PAUSE };
                    s.later(pause, Event::TellsFinish(self.epoch, id));
                }
                Effect::SendRelease => {
                    if let Some(release) = live.rental.release {
                        self.settle(s, id, Purpose::Release, Call::Release(release))?;
                    }
                }
                Effect::SendStop => self.settle(s, id, Purpose::Stop, Call::Stop)?,
                Effect::SendFinalize => self.settle(s, id, Purpose::Finalize, Call::Finalize)?,
                Effect::Receipt => {
                    let closing = live.rental.closing;
                    self.receipts.extend(closing.map(|closing| (id, closing)));
                }
                Effect::Retract => {
                    self.receipts.remove(&id);
                }
            }
            self.fuse.point()?;
        }
        Ok(())
    }

    fn open(&mut self, s: &mut Shared, id: RentalId) -> Result<(), Crashed> {
        let Some(live) = self.live.get_mut(&id).filter(|live| live.rental.phase == Phase::Opening) else {
            return Ok(());
        };
        live.open_at = Some(s.now + CHAIN_PAUSE);
        if let Some(mandate) = live.rental.mandate.clone() {
            if s.plan.honest(Side::Renter)
                && self.disk.get(&id).map(|kept| &kept.mandate) != Some(&Some(mandate.clone()))
            {
                s.fail(format!("{}: mandates what is not on disk", id.short()));
            }
            let ticket = self.ticket(s, id, ANSWER);
            ask(s, ticket, Request::Open(Box::new(mandate)));
            return Ok(());
        }
        let call = Call::Open(Box::new(live.rental.quote.clone()), live.rental.deposit);
        let opened = self.sender.submit(s, &mut self.fuse, id, Purpose::Open, call)?;
        if opened.is_ok() && s.plan.renter_vice == Some(RenterVice::OpensAndStops) {
            s.later(500, Event::StopsAtOnce(self.epoch, id));
        }
        Ok(())
    }

    /// Stops on chain whatever the machine thinks.
    pub(crate) fn stop_at_once(&mut self, s: &mut Shared, id: RentalId) -> Result<(), Crashed> {
        if self.sender.submit(s, &mut self.fuse, id, Purpose::Stop, Call::Stop)?.is_err() && !s.calm() {
            s.later(1_000, Event::StopsAtOnce(self.epoch, id));
        }
        Ok(())
    }

    /// One transaction of a rental at a time; the machine asks again for what is still needed.
    fn settle(&mut self, s: &mut Shared, id: RentalId, purpose: Purpose, call: Call) -> Result<(), Crashed> {
        let Some(live) = self.live.get_mut(&id).filter(|live| live.on_chain.is_none()) else { return Ok(()) };
        live.on_chain = Some((Some(purpose), s.now + CHAIN_WAIT));
        if self.sender.submit(s, &mut self.fuse, id, purpose, call)?.is_err()
            && let Some(live) = self.live.get_mut(&id)
        {
            live.on_chain = Some((None, s.now + CHAIN_PAUSE));
        }
        Ok(())
    }

    fn sign(&mut self, s: &mut Shared, id: RentalId, total: Amount) -> Result<(), Crashed> {
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        let serving = live.rental.phase == Phase::Serving;
        if serving && live.asking.is_some() {
            return Ok(());
        }
        let vice = s.plan.renter_vice;
        live.sent += 1;
        let (sent, deposit) = (live.sent, live.rental.deposit);
        let half = Amount::new(total.get() / 2).unwrap_or(total);
        let voucher = match vice {
            Some(RenterVice::StopsSigning) if sent > 3 => return Ok(()),
            Some(RenterVice::SignsLow) => KEYS.session.voucher(id, half),
            Some(RenterVice::Forges) => KEYS.stranger.voucher(id, total),
            Some(RenterVice::Overdraws) => {
                KEYS.session.voucher(id, deposit.checked_add(Amount::new(1).unwrap_or_default()).unwrap_or(deposit))
            }
            Some(RenterVice::Replays) if sent % 2 == 1 => {
                *self.first_vouchers.entry(id).or_insert_with(|| KEYS.session.voucher(id, total))
            }
            _ => KEYS.session.voucher(id, total),
        };
        if vice != Some(RenterVice::Forges) {
            s.facts.signed(id, voucher.cumulative);
        }
        if s.plan.has(Bug::SendBeforeStore) && serving {
            self.send_voucher(s, id, voucher);
            return self.input(s, id, Input::Signed(voucher));
        }
        self.input(s, id, Input::Signed(voucher))?;
        if serving && (vice.is_some() || self.live.get(&id).is_some_and(|live| live.rental.voucher == Some(voucher))) {
            self.send_voucher(s, id, voucher);
        }
        Ok(())
    }

    fn ticket(&self, s: &mut Shared, id: RentalId, wait: u64) -> Ticket {
        let ticket = Ticket { epoch: self.epoch, id, number: s.next_number() };
        s.later(wait, Event::Unanswered(ticket));
        ticket
    }

    fn send_voucher(&mut self, s: &mut Shared, id: RentalId, voucher: SignedVoucher) {
        let stored = self.disk.get(&id).and_then(|kept| kept.voucher);
        if s.plan.honest(Side::Renter) && stored != Some(voucher) {
            s.fail(format!("{}: sends a voucher that is not on disk", id.short()));
        }
        let ticket = self.ticket(s, id, u64::from(s.plan.increment_millis).max(SHORTEST_ANSWER));
        if let Some(live) = self.live.get_mut(&id) {
            live.asking = Some(ticket.number);
        }
        ask(s, ticket, Request::Voucher(voucher));
    }

    /// Tells the provider that it is over.
    pub(crate) fn tell_finish(&mut self, s: &mut Shared, id: RentalId) {
        let ticket = self.ticket(s, id, ANSWER);
        let Some(live) = self.live.get_mut(&id).filter(|live| live.finishing.is_none()) else { return };
        live.finishing = Some(ticket.number);
        let voucher = live.rental.voucher;
        if s.plan.honest(Side::Renter) && self.disk.get(&id).map(|kept| kept.voucher) != Some(voucher) {
            s.fail(format!("{}: ends with a voucher that is not on disk", id.short()));
        }
        ask(s, ticket, Request::Finish(voucher));
    }

    // --- the chain, and time ---

    /// Hears what counted on chain and does not any more.
    fn hear_undone(&mut self, s: &mut Shared, until: u64) -> Result<(), Crashed> {
        if self.forks.replace(s.chain.forks) != Some(s.chain.forks) {
            self.cursor = 0;
        }
        for rental in self.disk.values().cloned().collect::<Vec<_>>() {
            let id = rental.id;
            let Some(opening) = rental.opening else { continue };
            let input = match s.chain.rental_at(until, id) {
                None => Input::OpeningUndone,
                Some(shown) if shown.opening != opening => Input::Opened(shown.opening),
                Some(shown) => match (rental.closing, shown.closing) {
                    (Some(_), None) => Input::ClosingUndone,
                    (Some(ours), Some(closing)) if ours != closing => Input::Closed(closing),
                    _ => continue,
                },
            };
            if !self.live.contains_key(&id) {
                self.adopt(rental);
            }
            self.input(s, id, input)?;
        }
        Ok(())
    }

    /// Hears what counts on chain.
    pub(crate) fn poll(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        let pause = s.random.range(300, 2_500);
        s.later(pause, Event::Poll(Side::Renter, self.epoch));
        self.sender.watch(s);
        let until = s.trusted_head();
        self.hear_undone(s, until)?;
        for number in self.cursor + 1..=until {
            for (id, happening) in s.chain.blocks[number as usize].happened.clone() {
                let input = match happening {
                    Happening::Opened(opening) => Input::Opened(opening),
                    Happening::Stopping(time) => Input::Stopping(time),
                    Happening::Closed(closing) => Input::Closed(closing),
                };
                self.input(s, id, input)?;
            }
            self.cursor = number;
        }
        let time = s.chain.blocks[until as usize].time;
        let ids: Vec<_> = self.live.keys().copied().collect();
        for id in ids {
            self.input(s, id, Input::BlockTime(time))?;
        }
        Ok(())
    }

    /// Looks at every meter, and after what is under way.
    pub(crate) fn tick(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        let pause = u64::from(s.plan.increment_millis / 3);
        s.later(pause, Event::Tick(Side::Renter, self.epoch));
        let ids: Vec<_> = self.live.keys().copied().collect();
        for id in ids {
            let Some(live) = self.live.get_mut(&id) else { continue };
            if let Some((purpose, until)) = live.on_chain {
                let settled = purpose.is_some_and(|purpose| self.sender.outcome(id, purpose).is_some());
                if settled || s.now > until {
                    live.on_chain = None;
                }
            }
            if live.rental.phase == Phase::Opening && live.open_at.is_some_and(|at| at <= s.now) {
                self.open(s, id)?;
            }
            let waiting = self.live.get(&id).is_some_and(|l| l.rental.phase == Phase::Waiting && l.asking.is_none());
            if waiting {
                let ticket = self.ticket(s, id, ANSWER);
                if let Some(live) = self.live.get_mut(&id) {
                    live.asking = Some(ticket.number);
                }
                ask(s, ticket, Request::Status);
            }
            self.input(s, id, Input::Tick)?;
        }
        Ok(())
    }
}
