//! The provider's program around its state machine: the driver's rule (step, write, act), the sandboxes, and the ways to cheat.

mod questions;

use crate::{
    bugs::Bug,
    chain::{Call, Happening, Purpose},
    keys::{KEYS, promise},
    node::{Crashed, Fuse, reread},
    plan::{ProviderVice, Side},
    sender::Sender,
    world::{Event, Shared},
};
use market::{
    id::RentalId,
    rental::{
        Closing, StepError,
        provider::{Effect, Input, Phase, Rental},
    },
    signed::SignedVoucher,
    time::UnixMillis,
};
use std::collections::BTreeMap;

/// How long a quote waits to be opened, in seconds.
const HOLD: u64 = 30;
/// How long a closing rests before it is asked for again.
const CLOSE_RETRY: u64 = 5_000;
/// How long a mandated opening that failed rests before it is tried again.
const OPEN_RETRY: u64 = 5_000;
/// How often a provider without a running meter looks around.
const IDLE_TICK: u64 = 1_000;

/// A rental in memory.
pub(crate) struct Live {
    pub(crate) rental: Rental,
    preparing: bool,
    /// When a closing is asked for again.
    close_at: Option<u64>,
    /// When a mandated opening is tried again.
    open_at: Option<u64>,
}

/// See the module.
pub(crate) struct Provider {
    pub(crate) up: bool,
    pub(crate) epoch: u32,
    pub(crate) fuse: Fuse,
    pub(crate) sender: Sender,
    pub(crate) disk: BTreeMap<RentalId, Rental>,
    pub(crate) receipts: BTreeMap<RentalId, Closing>,
    pub(crate) live: BTreeMap<RentalId, Live>,
    pub(crate) slot: Option<RentalId>,
    /// Sandboxes outlive the program; whether each runs.
    pub(crate) sandboxes: BTreeMap<RentalId, bool>,
    /// Whether this process has looked at its meters.
    pub(crate) ticked: bool,
    cursor: u64,
    /// How often the chain had gone back when it was last looked at.
    pub(crate) forks: Option<u64>,
    first_vouchers: BTreeMap<RentalId, SignedVoucher>,
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self {
            up: false,
            epoch: 0,
            fuse: Fuse::default(),
            sender: Sender::new(Side::Provider),
            disk: BTreeMap::new(),
            receipts: BTreeMap::new(),
            live: BTreeMap::new(),
            slot: None,
            sandboxes: BTreeMap::new(),
            ticked: false,
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
        self.slot = None;
        self.ticked = false;
        self.sender.crash();
    }

    /// Takes up what an earlier process left.
    pub(crate) fn start(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        self.up = true;
        self.forks = None;
        s.later(s.plan.provider_tick, Event::Tick(Side::Provider, self.epoch));
        s.later(300, Event::Poll(Side::Provider, self.epoch));
        if s.random.percent(3) {
            self.sandboxes.clear();
        }
        let kept: Vec<Rental> = self.disk.values().cloned().collect();
        for kept in kept {
            let rental = reread(s, &kept);
            let (id, phase) = (rental.id, rental.phase);
            if phase.is_over() {
                let closing = rental.closing.filter(|_| rental.resume().contains(&Effect::Receipt));
                self.receipts.extend(closing.filter(|_| !s.plan.has(Bug::NoReceipt)).map(|closing| (id, closing)));
                continue;
            }
            self.slot = self.slot.or(rental.occupies_slot().then_some(id));
            let lost = phase != Phase::Preparing && rental.keeps_sandbox() && !self.sandboxes.contains_key(&id);
            let effects = rental.resume();
            self.live.insert(id, Live { rental, preparing: false, close_at: None, open_at: None });
            self.act(s, id, effects)?;
            if lost {
                self.happened(s, id, Input::Evict)?;
            }
        }
        let live = &self.live;
        self.sandboxes.retain(|id, _| {
            live.get(id).is_some_and(|live| live.rental.phase != Phase::Preparing && live.rental.keeps_sandbox())
        });
        Ok(())
    }

    /// Holds the slot and promises, if it can: on disk first.
    pub(crate) fn quote(&mut self, s: &mut Shared, number: u8) -> Result<Option<Rental>, Crashed> {
        if self.slot.is_some() {
            return Ok(None);
        }
        let mut rental = promise(&s.plan, number, s.chain.time() + HOLD, s.chain.head());
        rental.worth_claiming =
            s.plan.worth_claiming.map(|seconds| rental.quote.quote.rate.for_seconds(seconds as u32));
        let promised = rental.clone();
        let id = rental.id;
        self.fuse.point()?;
        self.disk.insert(id, rental.clone());
        self.slot = Some(id);
        self.live.insert(id, Live { rental, preparing: false, close_at: None, open_at: None });
        s.note(|| format!("provider quotes {}", id.short()));
        self.fuse.point()?;
        Ok(Some(promised))
    }

    // --- the rule: step, write, act ---

    fn now(s: &Shared) -> UnixMillis {
        s.clock(Side::Provider)
    }

    fn happened(&mut self, s: &mut Shared, id: RentalId, input: Input) -> Result<(), Crashed> {
        let now = Self::now(s);
        self.input(s, id, input, now).map(|_| ())
    }

    fn input(
        &mut self,
        s: &mut Shared,
        id: RentalId,
        input: Input,
        now: UnixMillis,
    ) -> Result<Result<(), StepError>, Crashed> {
        let Some(live) = self.live.get_mut(&id) else { return Ok(Ok(())) };
        let keep = !(s.plan.has(Bug::VoucherNotStored) && matches!(input, Input::Voucher(_)));
        let mut next = live.rental.clone();
        let effects = match next.step(input, now) {
            Ok(effects) => effects,
            Err(error) => return Ok(Err(error)),
        };
        if next != live.rental {
            if next.phase != live.rental.phase {
                s.note(|| format!("provider: {} {} -> {}", id.short(), live.rental.phase.name(), next.phase.name()));
            }
            self.fuse.point()?;
            match next.phase {
                Phase::Lapsed => {
                    self.disk.remove(&id);
                    s.lapsed(id, next.quote.quote.expiry);
                }
                _ if keep => {
                    self.disk.insert(id, next.clone());
                }
                _ => {}
            }
            live.rental = next;
            self.fuse.point()?;
        }
        self.act(s, id, effects)?;
        if self.live.get(&id).is_some_and(|live| live.rental.phase.is_over()) {
            self.live.remove(&id);
        }
        Ok(Ok(()))
    }

    fn act(&mut self, s: &mut Shared, id: RentalId, effects: Vec<Effect>) -> Result<(), Crashed> {
        for effect in effects {
            s.note(|| format!("provider: {} does {effect:?}", id.short()));
            let exhausted = self.live.get(&id).is_some_and(|live| live.rental.exhausted_at.is_some());
            if effect == Effect::Freeze && s.plan.is_smooth() && !exhausted {
                s.fail(format!("{}: a renter that pays is frozen", id.short()));
            }
            match effect {
                Effect::SendOpen => self.open(s, id)?,
                Effect::Prepare => self.prepare(s, id),
                Effect::Freeze if s.plan.has(Bug::FreezeNever) => {}
                Effect::Freeze if s.plan.has(Bug::FreezeTooLate) => s.later(2_000, Event::LateFreeze(self.epoch, id)),
                Effect::Freeze => self.freeze(id, true),
                Effect::Thaw => self.freeze(id, false),
                // nobody but its program hears of it here
                Effect::Notify => {}
                Effect::Destroy => {
                    self.check_notice(s, id);
                    self.sandboxes.remove(&id);
                }
                Effect::Claim => self.claim(s, id)?,
                Effect::Close => self.close(s, id)?,
                Effect::Receipt if s.plan.has(Bug::NoReceipt) => {}
                Effect::Receipt => {
                    let closing = self.live.get(&id).and_then(|live| live.rental.closing);
                    self.receipts.extend(closing.map(|closing| (id, closing)));
                }
                Effect::Retract if s.plan.has(Bug::ReceiptKept) => {}
                Effect::Retract => {
                    self.receipts.remove(&id);
                }
                Effect::FreeSlot => self.slot = self.slot.filter(|taken| *taken != id),
            }
            self.fuse.point()?;
        }
        Ok(())
    }

    /// Whoever gives way is served until the moment that it was told, and not longer than a provider needs to look at its clock.
    fn check_notice(&self, s: &mut Shared, id: RentalId) {
        let Some(rental) = self.live.get(&id).map(|live| &live.rental) else { return };
        let (Some(notice), Some(stopped)) = (rental.notice, rental.stopped_at) else { return };
        if s.plan.is_smooth() && stopped.since(notice.at) > s.plan.provider_tick + 1_000 {
            let late = stopped.since(notice.at);
            s.fail(format!("{}: ended {late} ms after its notice", id.short()));
        }
    }

    pub(crate) fn freeze(&mut self, id: RentalId, frozen: bool) {
        if let Some(running) = self.sandboxes.get_mut(&id) {
            *running = !frozen;
        }
    }

    fn prepare(&mut self, s: &mut Shared, id: RentalId) {
        let Some(live) = self.live.get_mut(&id).filter(|live| !live.preparing) else { return };
        if s.plan.provider_vice == Some(ProviderVice::NeverReady) {
            return;
        }
        live.preparing = true;
        let patience = u64::from(s.plan.ready_seconds) * 1_000;
        let takes = if s.random.percent(95) { s.random.range(200, patience / 2) } else { patience + 2_000 };
        s.later(takes, Event::SandboxMade(self.epoch, id));
    }

    /// A sandbox is up, or could not be made.
    pub(crate) fn sandbox_made(&mut self, s: &mut Shared, id: RentalId) -> Result<(), Crashed> {
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        live.preparing = false;
        if s.random.percent(3) {
            return self.happened(s, id, Input::SandboxFailed("no disk left".into()));
        }
        self.sandboxes.insert(id, true);
        self.fuse.point()?;
        let mut now = Self::now(s);
        if s.plan.provider_vice == Some(ProviderVice::BackdatesReady) {
            now = UnixMillis(now.0 - 60_000);
        }
        let signature = KEYS.provider.ready(id, now);
        s.facts.ready(id, s.now);
        self.input(s, id, Input::SandboxReady(signature), now).map(|_| ())
    }

    /// Opens in the renter's name.
    fn open(&mut self, s: &mut Shared, id: RentalId) -> Result<(), Crashed> {
        let Some(live) = self.live.get_mut(&id).filter(|live| live.rental.phase == Phase::Held) else { return Ok(()) };
        let Some(mandate) = live.rental.mandate.clone() else { return Ok(()) };
        live.open_at = Some(s.now + OPEN_RETRY);
        let call = Call::OpenFor(Box::new(live.rental.quote.clone()), mandate.deposit);
        let _ = self.sender.submit(s, &mut self.fuse, id, Purpose::Open, call)?;
        Ok(())
    }

    fn close(&mut self, s: &mut Shared, id: RentalId) -> Result<(), Crashed> {
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        let vice = s.plan.provider_vice;
        if matches!(vice, Some(ProviderVice::NeverCloses | ProviderVice::GreedyRelease)) {
            return Ok(());
        }
        live.close_at = Some(s.now + CLOSE_RETRY);
        let mut voucher = live.rental.voucher;
        if vice == Some(ProviderVice::ClosesWithOld) || s.plan.has(Bug::CloseWithFirstVoucher) {
            voucher = self.first_vouchers.get(&id).copied();
        }
        if s.plan.honest(Side::Provider) && self.disk.get(&id).map(|kept| kept.voucher) != Some(live.rental.voucher) {
            s.fail(format!("{}: closes with a voucher that is not on disk", id.short()));
        }
        // a refusal is asked about again: the chain may not show yet what makes it right
        let _ = self.sender.submit(s, &mut self.fuse, id, Purpose::Close, Call::Close(voucher))?;
        Ok(())
    }

    /// Takes part of the pay out, or hears what became of that.
    fn claim(&mut self, s: &mut Shared, id: RentalId) -> Result<(), Crashed> {
        let Some(voucher) = self.live.get(&id).and_then(|live| live.rental.claiming) else { return Ok(()) };
        let purpose = Purpose::Claim(voucher.cumulative);
        if self.sender.submit(s, &mut self.fuse, id, purpose, Call::Claim(voucher))?.is_err() {
            return self.happened(s, id, Input::ClaimFailed);
        }
        match self.sender.outcome(id, purpose) {
            Some(true) => self.happened(s, id, Input::Claimed(voucher.cumulative)),
            Some(false) => self.happened(s, id, Input::ClaimFailed),
            None => Ok(()),
        }
    }

    // --- the chain, and time ---

    /// Hears what counted on chain and does not any more.
    fn hear_undone(&mut self, s: &mut Shared, until: u64) -> Result<(), Crashed> {
        if self.forks.replace(s.chain.forks) != Some(s.chain.forks) {
            self.cursor = 0;
        }
        for rental in self.disk.values().cloned().collect::<Vec<_>>() {
            let id = rental.id;
            let Some(opening) = rental.opening.filter(|_| !s.plan.has(Bug::UndoneUnheard)) else { continue };
            let input = match s.chain.rental_at(until, id) {
                None => Input::OpeningUndone,
                Some(shown) if shown.opening != opening => Input::Opened(shown.opening),
                Some(shown) => match (rental.closing, shown.closing) {
                    (Some(_), None) => Input::ClosingUndone,
                    (Some(ours), Some(closing)) if ours != closing => Input::Closed(closing),
                    _ => continue,
                },
            };
            s.facts.tally.undone += 1;
            self.live.entry(id).or_insert(Live { rental, preparing: false, close_at: None, open_at: None });
            self.happened(s, id, input)?;
        }
        Ok(())
    }

    /// Hears what counts on chain.
    pub(crate) fn poll(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        let pause = s.random.range(300, 2_500);
        s.later(pause, Event::Poll(Side::Provider, self.epoch));
        self.sender.watch(s);
        let until = s.trusted_head();
        self.hear_undone(s, until)?;
        for number in self.cursor + 1..=until {
            for (id, happening) in s.chain.blocks[number as usize].happened.clone() {
                let input = match happening {
                    Happening::Opened(opening) => Input::Opened(opening),
                    Happening::Stopping(time) => Input::StoppedOnChain(time),
                    Happening::Closed(closing) => Input::Closed(closing),
                };
                self.happened(s, id, input)?;
            }
            self.cursor = number;
        }
        let mut time = s.chain.blocks[until as usize].time;
        if s.plan.has(Bug::LapseByWallClock) {
            time = Self::now(s).seconds();
        }
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            self.happened(s, id, Input::BlockTime(time))?;
            self.claim(s, id)?;
        }
        Ok(())
    }

    /// Looks at every meter.
    pub(crate) fn tick(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        let metered = |live: &Live| live.rental.keeps_sandbox();
        let pause = if self.live.values().any(metered) { s.plan.provider_tick } else { IDLE_TICK };
        s.later(pause, Event::Tick(Side::Provider, self.epoch));
        let ids: Vec<_> = self.live.keys().copied().collect();
        for id in ids {
            let Some(live) = self.live.get(&id) else { continue };
            if s.plan.provider_vice != Some(ProviderVice::NeverEnds) && live.rental.opening.is_some() {
                self.happened(s, id, Input::Tick)?;
            }
            if self.live.get(&id).is_some_and(|live| live.open_at.is_some_and(|at| at <= s.now)) {
                self.open(s, id)?;
            }
            let due = |live: &Live| live.rental.phase == Phase::Closing && live.close_at.is_some_and(|at| at <= s.now);
            if self.live.get(&id).is_some_and(due) {
                self.close(s, id)?;
            }
        }
        self.ticked = true;
        Ok(())
    }

    /// The owner of the machine ends what runs.
    pub(crate) fn evict(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        let ids: Vec<_> = self.live.keys().copied().collect();
        for id in ids {
            self.happened(s, id, Input::Evict)?;
        }
        Ok(())
    }

    /// Somebody else has paid for the slots: what serves gives way, and is told when.
    pub(crate) fn preempt(&mut self, s: &mut Shared) -> Result<(), Crashed> {
        let serving = |live: &&Live| matches!(live.rental.phase, Phase::Serving | Phase::Frozen);
        let rentals: Vec<_> = self.live.values().filter(serving).map(|live| live.rental.clone()).collect();
        for rental in rentals {
            let notice = u64::from(rental.terms.notice_seconds) * 1_000;
            let at = Self::now(s).plus(notice);
            self.happened(s, rental.id, Input::Preempt(KEYS.provider.notice(rental.id, at)))?;
            s.facts.tally.preempted += u64::from(rental.notice.is_none());
        }
        Ok(())
    }
}
