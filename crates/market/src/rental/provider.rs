//! The provider's side: hold the slot, prepare the sandbox, serve while covered, freeze when not, claim part-way, close with the best
//! voucher.

use super::{Closing, Opening, StepError};
use crate::{
    id::RentalId,
    mandate::Mandate,
    meter::{Meter, Standing, Tariff, VoucherFault},
    money::Amount,
    preemption::SignedNotice,
    quote::SignedQuote,
    refusal::{Refusal, RefusalCode},
    signed::{SignedAck, SignedVoucher},
    terms::Terms,
    time::UnixMillis,
};
use alloy_primitives::{Bytes, Signature};
use serde::{Deserialize, Serialize};

/// How long a part-way claim that failed rests before it is tried again, in seconds of block time.
const CLAIM_REST: u64 = 60;

/// Where the rental stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Quoted and not open; the slot is reserved until the chain's time passes the quote's expiry.
    Held,
    /// Opened; the sandbox is being made.
    Preparing,
    /// The sandbox runs and the meter with it.
    Serving,
    /// A whole increment is unpaid; the sandbox is frozen and the meter runs on.
    Frozen,
    /// Over; the escrow is being closed.
    Closing,
    /// The escrow has paid.
    Closed,
    /// Never opened.
    Lapsed,
}

impl Phase {
    /// Every phase of a rental that is not over, in the order of its life.
    pub const GOING_ON: [Self; 5] = [Self::Held, Self::Preparing, Self::Serving, Self::Frozen, Self::Closing];

    /// The phase as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Preparing => "preparing",
            Self::Serving => "serving",
            Self::Frozen => "frozen",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Lapsed => "lapsed",
        }
    }

    /// Whether the slot is free again.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Lapsed)
    }
}

/// What happens to a rental.
#[derive(Clone, Debug)]
pub enum Input {
    /// The renter asks that it be opened for it, and pays the first increment in advance.
    Mandated(Mandate),
    /// The chain shows it open, at the confirmation depth.
    Opened(Opening),
    /// The chain went back, and the opening that it showed is no part of it any more.
    OpeningUndone,
    /// A confirmed block has this time (Unix seconds); everything up to it has been told.
    BlockTime(u64),
    /// The sandbox is up; with the signature over this moment.
    SandboxReady(Signature),
    /// The sandbox could not be made.
    SandboxFailed(String),
    /// The renter's statement of what it owes.
    Voucher(SignedVoucher),
    /// The escrow has paid out this much in all, part-way.
    Claimed(Amount),
    /// A part-way claim did not succeed.
    ClaimFailed,
    /// The renter ends the rental, with its last voucher if anything was served.
    Finish(Option<SignedVoucher>),
    /// The renter stopped it on chain, at this block time (Unix seconds).
    StoppedOnChain(u64),
    /// It gives way to somebody else, as this says; for one that is interruptible.
    Preempt(SignedNotice),
    /// The owner of the machine ends it.
    Evict,
    /// Time passes.
    Tick,
    /// The chain shows it closed, at the confirmation depth.
    Closed(Closing),
    /// The chain went back, and shows it open again.
    ClosingUndone,
}

impl Input {
    /// What happened, in a word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mandated(_) => "mandated",
            Self::Opened(_) => "opened",
            Self::OpeningUndone => "opening_undone",
            Self::BlockTime(_) => "block_time",
            Self::SandboxReady(_) => "sandbox_ready",
            Self::SandboxFailed(_) => "sandbox_failed",
            Self::Voucher(_) => "voucher",
            Self::Claimed(_) => "claimed",
            Self::ClaimFailed => "claim_failed",
            Self::Finish(_) => "finish",
            Self::StoppedOnChain(_) => "stopped_on_chain",
            Self::Preempt(_) => "preempt",
            Self::Evict => "evict",
            Self::Tick => "tick",
            Self::Closed(_) => "closed",
            Self::ClosingUndone => "closing_undone",
        }
    }
}

/// What the driver must do. Each may be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the opening that the renter mandated.
    SendOpen,
    /// Make the sandbox, then report `SandboxReady` or `SandboxFailed`.
    Prepare,
    /// Stop the sandbox from running, keeping it.
    Freeze,
    /// Let it run again.
    Thaw,
    /// Tell the program that it will be ended, by [`Rental::notice`].
    Notify,
    /// Remove the sandbox and everything in it.
    Destroy,
    /// Take what the voucher in [`Rental::claiming`] is good for out of the escrow, and go on.
    Claim,
    /// Close the escrow with the best voucher held.
    Close,
    /// Write the receipt.
    Receipt,
    /// Take the receipt back: what it says is not so any more.
    Retract,
    /// The slot can be offered again.
    FreeSlot,
}

/// A provider's rental.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rental {
    /// The id: the quote's digest.
    pub id: RentalId,
    /// The binding promise.
    pub quote: SignedQuote,
    /// The full terms.
    pub terms: Terms,
    /// The terms as they were hashed.
    pub terms_bytes: Bytes,
    /// The newest block when it was quoted: nothing happened to it on chain before.
    pub quoted_at_block: u64,
    /// Unclaimed earnings from which on a part-way claim is worth its gas to the owner. Without it, time alone decides.
    pub worth_claiming: Option<Amount>,
    /// The rental whose sandbox it keeps, when it continues others: the first of the row.
    #[serde(default)]
    pub sandbox_of: Option<RentalId>,
    /// The rental that gives way to this one, and has its slots until then.
    #[serde(default)]
    pub displaces: Option<RentalId>,
    /// That it gives way to another, and when.
    #[serde(default)]
    pub notice: Option<SignedNotice>,
    /// Where it stands.
    pub phase: Phase,
    /// The renter's order to open it in its name, if it does not do that itself.
    #[serde(default)]
    pub mandate: Option<Mandate>,
    /// The opening, once seen.
    pub opening: Option<Opening>,
    /// The start of the meter and the provider's signature over it.
    pub ready: Option<(UnixMillis, Signature)>,
    /// When preparing began, by the wall clock.
    pub preparing_since: Option<UnixMillis>,
    /// The best voucher held.
    pub voucher: Option<SignedVoucher>,
    /// Counts acks.
    pub acks: u64,
    /// The newest ack that was given, but for one that a crash lost: it is written with the next step.
    #[serde(default)]
    pub last_ack: Option<SignedAck>,
    /// What the escrow has paid out part-way.
    pub claimed: Amount,
    /// When that was, in Unix seconds of block time.
    pub claimed_at: Option<u64>,
    /// The voucher of the claim that is under way.
    pub claiming: Option<SignedVoucher>,
    /// No claim is tried before this block time.
    pub claim_rests_until: u64,
    /// Since when it is frozen.
    pub frozen_since: Option<UnixMillis>,
    /// Milliseconds of earlier freezes.
    pub frozen_millis: u64,
    /// Milliseconds of them before anything was paid, which are not billed.
    pub forgiven_millis: u64,
    /// When the deposit or the agreed time was used up.
    pub exhausted_at: Option<UnixMillis>,
    /// When the renter stopped it on chain, in Unix seconds of block time.
    pub stop_time: Option<u64>,
    /// When serving ended.
    pub stopped_at: Option<UnixMillis>,
    /// The slot was given back: should the chain open the rental again, it is only closed again.
    pub slot_freed: bool,
    /// Why it failed, for the renter to know.
    pub fault: Option<Refusal>,
    /// The closing, once seen.
    pub closing: Option<Closing>,
}

impl Rental {
    /// A rental that has just been quoted.
    pub fn new(quote: SignedQuote, terms: Terms, terms_bytes: Bytes, quoted_at_block: u64) -> Self {
        Self {
            id: quote.id(),
            quote,
            terms,
            terms_bytes,
            quoted_at_block,
            worth_claiming: None,
            sandbox_of: None,
            displaces: None,
            notice: None,
            phase: Phase::Held,
            mandate: None,
            opening: None,
            ready: None,
            preparing_since: None,
            voucher: None,
            acks: 0,
            last_ack: None,
            claimed: Amount::ZERO,
            claimed_at: None,
            claiming: None,
            claim_rests_until: 0,
            frozen_since: None,
            frozen_millis: 0,
            forgiven_millis: 0,
            exhausted_at: None,
            stop_time: None,
            stopped_at: None,
            slot_freed: false,
            fault: None,
            closing: None,
        }
    }

    /// The numbers the meter runs by, once the deposit is known.
    pub fn tariff(&self) -> Option<Tariff> {
        let opening = self.opening?;
        Some(Tariff {
            rate: self.quote.quote.rate,
            max_seconds: self.quote.quote.max_seconds.saturating_sub(self.terms.ready_seconds),
            deposit: opening.deposit,
            increment_millis: self.terms.increment_millis,
        })
    }

    /// The meter, once it runs.
    pub fn meter(&self) -> Option<Meter> {
        Some(Meter { tariff: self.tariff()?, ready_at: self.ready?.0, forgiven_millis: self.forgiven_millis })
    }

    /// The total of the best voucher held.
    pub fn covered(&self) -> Amount {
        self.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative)
    }

    /// Milliseconds served up to `now`, or up to the end of serving.
    pub fn served_millis(&self, now: UnixMillis) -> u64 {
        self.meter().map_or(0, |meter| meter.served(self.stopped_at.unwrap_or(now)))
    }

    /// Milliseconds frozen up to `now`.
    pub fn frozen_total(&self, now: UnixMillis) -> u64 {
        self.frozen_millis + self.frozen_since.map_or(0, |since| self.stopped_at.unwrap_or(now).since(since))
    }

    /// What was earned and is not taken out of the escrow yet.
    pub fn unclaimed(&self) -> Amount {
        self.covered().saturating_sub(self.claimed)
    }

    /// The block time from which on anybody may close the rental with no more than what was claimed, in Unix seconds: by then what is
    /// unclaimed must be cashed.
    pub fn forfeit_at(&self) -> Option<u64> {
        let opening = self.opening?;
        let term = opening.start + u64::from(self.quote.quote.max_seconds);
        Some(self.stop_time.map_or(term, |stop| stop.min(term)) + u64::from(self.quote.quote.window))
    }

    /// Whether no other rental may have its slot.
    pub const fn occupies_slot(&self) -> bool {
        !self.slot_freed
    }

    /// The rental that its sandbox was made for.
    pub fn sandbox_owner(&self) -> RentalId {
        self.sandbox_of.unwrap_or(self.id)
    }

    /// Whether it was agreed that it may have to give way.
    pub const fn is_interruptible(&self) -> bool {
        self.terms.notice_seconds > 0
    }

    /// Whether its sandbox is kept: it is served, or will be again when the chain takes the opening back in.
    pub fn keeps_sandbox(&self) -> bool {
        match self.phase {
            Phase::Preparing | Phase::Serving | Phase::Frozen => true,
            Phase::Held => self.ready.is_some() && self.stopped_at.is_none(),
            Phase::Closing | Phase::Closed | Phase::Lapsed => false,
        }
    }

    /// Takes an input and says what must be done about it.
    pub fn step(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        match input {
            Input::Mandated(mandate) => self.mandated(mandate),
            Input::Opened(opening) => Ok(self.opened(opening, now)),
            Input::OpeningUndone => Ok(self.opening_undone(now)),
            Input::BlockTime(time) => Ok(self.block_time(time)),
            Input::SandboxReady(signature) => Ok(self.sandbox_ready(signature, now)),
            Input::SandboxFailed(why) => Ok(self.sandbox_failed(why, now)),
            Input::Voucher(voucher) => self.take_voucher(voucher, now),
            Input::Claimed(total) => Ok(self.claimed(total)),
            Input::ClaimFailed => Ok(self.claim_failed()),
            Input::Finish(voucher) => self.finish(voucher, now),
            Input::StoppedOnChain(time) => Ok(self.stopped_on_chain(time, now)),
            Input::Preempt(notice) => Ok(self.preempt(notice)),
            Input::Evict => Ok(self.wind_down(now)),
            Input::Tick => Ok(self.tick(now)),
            Input::Closed(closing) => Ok(self.closed(closing, now)),
            Input::ClosingUndone => Ok(self.closing_undone()),
        }
    }

    /// What to do again after a restart.
    pub fn resume(&self) -> Vec<Effect> {
        let claim = self.claiming.map(|_| Effect::Claim);
        let notify = self.notice.map(|_| Effect::Notify);
        // one that was closed before has a receipt that does not hold any more
        let retract = self.slot_freed.then_some(Effect::Retract);
        let [first, second] = match self.phase {
            Phase::Held => return retract.into_iter().chain(self.awaited()).collect(),
            Phase::Lapsed => [None, None],
            Phase::Closed => [Some(Effect::Receipt), Some(Effect::FreeSlot)],
            Phase::Preparing => [Some(Effect::Prepare), None],
            Phase::Serving => return [Effect::Thaw].into_iter().chain(claim).chain(notify).collect(),
            Phase::Frozen => return [Effect::Freeze].into_iter().chain(claim).chain(notify).collect(),
            Phase::Closing => return retract.into_iter().chain([Effect::Destroy, Effect::Close]).collect(),
        };
        first.into_iter().chain(second).collect()
    }

    /// What is done while the chain does not show it open: a sandbox of before stays frozen, and a mandated opening is sent.
    fn awaited(&self) -> impl Iterator<Item = Effect> + use<> {
        let freeze = self.keeps_sandbox().then_some(Effect::Freeze);
        let open = self.mandate.as_ref().filter(|_| self.stopped_at.is_none()).map(|_| Effect::SendOpen);
        freeze.into_iter().chain(open)
    }

    fn mandated(&mut self, mandate: Mandate) -> Result<Vec<Effect>, StepError> {
        mandate.check(&self.quote, self.terms.increment_millis)?;
        match (self.phase, &self.mandate) {
            // asked again because our answer was lost
            (_, Some(before)) if *before == mandate => Ok(vec![]),
            (Phase::Held, None) if self.opening.is_none() && self.voucher.is_none() => {
                self.voucher = Some(mandate.advance);
                self.mandate = Some(mandate);
                Ok(vec![Effect::SendOpen])
            }
            _ => Err(StepError::WrongPhase { phase: self.phase.name() }),
        }
    }

    fn opened(&mut self, opening: Opening, now: UnixMillis) -> Vec<Effect> {
        if self.opening.is_some() {
            // the chain went back and took it into another block
            let moved = self.opening.replace(opening) != Some(opening);
            return if moved && self.phase == Phase::Closed { vec![Effect::Receipt] } else { vec![] };
        }
        if self.phase != Phase::Held {
            return vec![];
        }
        self.opening = Some(opening);
        if self.stopped_at.is_some() {
            self.phase = Phase::Closing;
            return vec![Effect::Close];
        }
        if self.ready.is_some() {
            // it was frozen since the opening was undone
            self.phase = Phase::Frozen;
            return if self.is_paid(now) { self.thaw(now) } else { vec![] };
        }
        self.preparing_since = Some(now);
        self.phase = Phase::Preparing;
        vec![Effect::Prepare]
    }

    /// Nothing is locked any more, so nothing is served: what runs is frozen until the chain has the opening again, or can have it no more.
    fn opening_undone(&mut self, now: UnixMillis) -> Vec<Effect> {
        if self.opening.take().is_none() {
            return vec![];
        }
        let retract = self.closing.take().map(|_| Effect::Retract);
        (self.claimed, self.claimed_at, self.claiming, self.stop_time) = (Amount::ZERO, None, None, None);
        if matches!(self.phase, Phase::Serving | Phase::Frozen) {
            self.frozen_since.get_or_insert(now);
        }
        self.phase = Phase::Held;
        retract.into_iter().chain(self.awaited()).collect()
    }

    fn block_time(&mut self, time: u64) -> Vec<Effect> {
        match self.phase {
            Phase::Held if time > u64::from(self.quote.quote.expiry) => {
                let destroy = self.keeps_sandbox().then_some(Effect::Destroy);
                self.phase = Phase::Lapsed;
                self.slot_freed = true;
                destroy.into_iter().chain([Effect::FreeSlot]).collect()
            }
            Phase::Serving | Phase::Frozen if self.is_claim_due(time) => {
                self.claiming = self.voucher;
                self.claim_rests_until = time + CLAIM_REST;
                vec![Effect::Claim]
            }
            _ => vec![],
        }
    }

    /// Half a window after the last claim at the latest, so that what a provider loses by being away for long stays within what it
    /// earned in that time; and earlier when so much is unclaimed that the gas does not matter.
    fn is_claim_due(&self, time: u64) -> bool {
        let Some(opening) = self.opening else { return false };
        let unclaimed = self.unclaimed();
        let last = self.claimed_at.unwrap_or(opening.start);
        let late = time >= last + u64::from(self.quote.quote.window) / 2;
        let worth = self.worth_claiming.is_some_and(|worth| unclaimed >= worth);
        unclaimed > Amount::ZERO && (late || worth) && self.claiming.is_none() && time >= self.claim_rests_until
    }

    fn claimed(&mut self, total: Amount) -> Vec<Effect> {
        // taken when it was ordered; a claim was tried no earlier than the rest before it ends
        self.claimed_at = self.claiming.take().map(|_| self.claim_rests_until - CLAIM_REST).or(self.claimed_at);
        self.claimed = self.claimed.max(total);
        vec![]
    }

    fn claim_failed(&mut self) -> Vec<Effect> {
        self.claiming = None;
        vec![]
    }

    fn sandbox_ready(&mut self, signature: Signature, now: UnixMillis) -> Vec<Effect> {
        if self.phase != Phase::Preparing {
            let serves = matches!(self.phase, Phase::Serving | Phase::Frozen);
            return if serves { vec![] } else { vec![Effect::Destroy] };
        }
        self.ready = Some((now, signature));
        self.phase = Phase::Serving;
        vec![]
    }

    fn sandbox_failed(&mut self, why: String, now: UnixMillis) -> Vec<Effect> {
        if self.phase != Phase::Preparing {
            return vec![];
        }
        self.fault = Some(Refusal::new(RefusalCode::Internal, why));
        // nothing was served, and not by the renter's fault: its advance goes back too
        self.voucher = None;
        self.wind_down(now)
    }

    fn accept(&mut self, voucher: SignedVoucher) -> Result<(), StepError> {
        let deposit = self.opening.map_or(Amount::ZERO, |opening| opening.deposit);
        if voucher.id != self.id || !voucher.is_signed_by(self.quote.quote.renter_key, &self.quote.escrow) {
            return Err(VoucherFault::Signature.into());
        }
        if voucher.cumulative > deposit {
            return Err(VoucherFault::OverDeposit { got: voucher.cumulative, deposit }.into());
        }
        let held = self.covered();
        if voucher.cumulative < held {
            return Err(VoucherFault::Lower { got: voucher.cumulative, held }.into());
        }
        self.voucher = Some(voucher);
        Ok(())
    }

    fn take_voucher(&mut self, voucher: SignedVoucher, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        match self.phase {
            Phase::Serving | Phase::Frozen => {}
            Phase::Held => return Err(StepError::NotOpen),
            _ => return Err(StepError::WrongPhase { phase: self.phase.name() }),
        }
        let unpaid_so_far = self.covered() == Amount::ZERO;
        self.accept(voucher)?;
        self.acks += 1;
        if self.phase != Phase::Frozen {
            return Ok(vec![]);
        }
        if unpaid_so_far && self.covered() > Amount::ZERO {
            // the renter heard late of the start, and had nothing of the time since
            self.forgiven_millis = self.frozen_total(now);
        }
        if self.exhausted_at.is_some() {
            return Ok(if self.is_paid_up(now) { self.wind_down(now) } else { vec![] });
        }
        Ok(if self.is_paid(now) { self.thaw(now) } else { vec![] })
    }

    fn is_paid(&self, now: UnixMillis) -> bool {
        self.meter().is_some_and(|meter| meter.standing(self.covered(), now) == Standing::Paid)
    }

    /// Whether the last second that was served is paid for.
    fn is_paid_up(&self, now: UnixMillis) -> bool {
        self.meter().is_none_or(|meter| self.covered() >= meter.owed(now))
    }

    fn finish(&mut self, voucher: Option<SignedVoucher>, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        match self.phase {
            Phase::Preparing | Phase::Serving | Phase::Frozen => {
                // a last voucher that is not good does not keep the rental open: the best one held decides
                let _ = voucher.map(|voucher| self.accept(voucher));
                Ok(self.wind_down(now))
            }
            // asked again because our answer was lost
            Phase::Closing | Phase::Closed => Ok(vec![]),
            Phase::Held => Err(StepError::NotOpen),
            Phase::Lapsed => Err(StepError::WrongPhase { phase: self.phase.name() }),
        }
    }

    fn wind_down(&mut self, now: UnixMillis) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Preparing | Phase::Serving | Phase::Frozen) {
            return vec![];
        }
        if self.phase == Phase::Frozen {
            self.thaw(now);
        }
        self.stopped_at = Some(now);
        self.phase = Phase::Closing;
        vec![Effect::Destroy, Effect::Close]
    }

    /// It is served until the moment of the notice. One that ends by itself before gives way by that.
    fn preempt(&mut self, notice: SignedNotice) -> Vec<Effect> {
        let serves = matches!(self.phase, Phase::Serving | Phase::Frozen);
        if !serves || !self.is_interruptible() || self.notice.is_some() {
            return vec![];
        }
        self.notice = Some(notice);
        vec![Effect::Notify]
    }

    fn stopped_on_chain(&mut self, time: u64, now: UnixMillis) -> Vec<Effect> {
        self.stop_time = Some(time);
        self.wind_down(now)
    }

    fn freeze(&mut self, now: UnixMillis) -> Vec<Effect> {
        self.phase = Phase::Frozen;
        self.frozen_since = Some(now);
        vec![Effect::Freeze]
    }

    fn thaw(&mut self, now: UnixMillis) -> Vec<Effect> {
        self.frozen_millis += self.frozen_since.take().map_or(0, |since| now.since(since));
        self.phase = Phase::Serving;
        vec![Effect::Thaw]
    }

    fn tick(&mut self, now: UnixMillis) -> Vec<Effect> {
        if self.phase == Phase::Preparing {
            let waited = self.preparing_since.map_or(0, |since| now.since(since));
            return if waited > u64::from(self.terms.ready_seconds) * 1_000 {
                self.sandbox_failed("the sandbox was not ready in time".to_owned(), now)
            } else {
                vec![]
            };
        }
        if self.notice.is_some_and(|notice| notice.at <= now) {
            return self.wind_down(now);
        }
        let Some(meter) = self.meter() else { return vec![] };
        match (self.phase, meter.standing(self.covered(), now)) {
            (Phase::Serving | Phase::Frozen, Standing::Exhausted) => self.exhausted(now),
            (Phase::Serving, Standing::Unpaid) => self.freeze(now),
            (Phase::Frozen, Standing::Unpaid) => {
                let frozen = self.frozen_since.map_or(0, |since| now.since(since));
                if frozen >= u64::from(self.terms.frozen_seconds) * 1_000 { self.wind_down(now) } else { vec![] }
            }
            _ => vec![],
        }
    }

    /// Serving is over. The voucher for the last seconds is on its way: it is waited for as long as the renter has for signing one.
    fn exhausted(&mut self, now: UnixMillis) -> Vec<Effect> {
        let since = *self.exhausted_at.get_or_insert(now);
        if self.is_paid_up(now) || now.since(since) >= u64::from(self.terms.increment_millis) {
            return self.wind_down(now);
        }
        if self.phase == Phase::Serving { self.freeze(now) } else { vec![] }
    }

    fn closed(&mut self, closing: Closing, now: UnixMillis) -> Vec<Effect> {
        if self.phase == Phase::Lapsed || self.closing == Some(closing) {
            return vec![];
        }
        let mut effects = self.wind_down(now);
        effects.retain(|effect| *effect != Effect::Close);
        self.closing = Some(closing);
        self.phase = Phase::Closed;
        self.slot_freed = true;
        effects.extend([Effect::Receipt, Effect::FreeSlot]);
        effects
    }

    /// Open again: it is closed again.
    fn closing_undone(&mut self) -> Vec<Effect> {
        if self.closing.take().is_none() {
            return vec![];
        }
        self.phase = Phase::Closing;
        vec![Effect::Retract, Effect::Close]
    }
}
