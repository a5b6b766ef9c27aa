//! The provider's side: hold the slot, prepare the sandbox, serve while covered, freeze when not, close with the best voucher.

use super::{Closing, Opening, StepError};
use crate::{
    id::RentalId,
    meter::{Meter, Standing, Tariff, VoucherFault},
    money::Amount,
    quote::SignedQuote,
    refusal::{Refusal, RefusalCode},
    signed::SignedVoucher,
    terms::Terms,
    time::UnixMillis,
};
use alloy_primitives::{Bytes, Signature};
use serde::{Deserialize, Serialize};

/// Where the rental stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Quoted; the slot is reserved until the chain's time passes the quote's expiry.
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
    /// The chain shows it open, at the confirmation depth.
    Opened(Opening),
    /// A confirmed block has this time (Unix seconds), and the rental is not open in it.
    NotOpenAt(u64),
    /// The sandbox is up; with the signature over this moment.
    SandboxReady(Signature),
    /// The sandbox could not be made.
    SandboxFailed(String),
    /// The renter's statement of what it owes.
    Voucher(SignedVoucher),
    /// The renter ends the rental, with its last voucher if anything was served.
    Finish(Option<SignedVoucher>),
    /// The renter stopped it on chain.
    StoppedOnChain,
    /// The owner of the machine ends it.
    Evict,
    /// Time passes.
    Tick,
    /// The chain shows it closed, at the confirmation depth.
    Closed(Closing),
}

/// What the driver must do. Each may be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make the sandbox, then report `SandboxReady` or `SandboxFailed`.
    Prepare,
    /// Stop the sandbox from running, keeping it.
    Freeze,
    /// Let it run again.
    Thaw,
    /// Remove the sandbox and everything in it.
    Destroy,
    /// Close the escrow with the best voucher held.
    Close,
    /// Write the receipt.
    Receipt,
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
    /// Where it stands.
    pub phase: Phase,
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
    /// Since when it is frozen.
    pub frozen_since: Option<UnixMillis>,
    /// Milliseconds of earlier freezes.
    pub frozen_millis: u64,
    /// When serving ended.
    pub stopped_at: Option<UnixMillis>,
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
            phase: Phase::Held,
            opening: None,
            ready: None,
            preparing_since: None,
            voucher: None,
            acks: 0,
            frozen_since: None,
            frozen_millis: 0,
            stopped_at: None,
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
        Some(Meter { tariff: self.tariff()?, ready_at: self.ready?.0 })
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

    /// Takes an input and says what must be done about it.
    pub fn step(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        match input {
            Input::Opened(opening) => Ok(self.opened(opening, now)),
            Input::NotOpenAt(block_time) => Ok(self.not_open_at(block_time)),
            Input::SandboxReady(signature) => Ok(self.sandbox_ready(signature, now)),
            Input::SandboxFailed(why) => Ok(self.sandbox_failed(why, now)),
            Input::Voucher(voucher) => self.take_voucher(voucher, now),
            Input::Finish(voucher) => self.finish(voucher, now),
            Input::StoppedOnChain | Input::Evict => Ok(self.wind_down(now)),
            Input::Tick => Ok(self.tick(now)),
            Input::Closed(closing) => Ok(self.closed(closing, now)),
        }
    }

    /// What to do again after a restart.
    pub fn resume(&self) -> Vec<Effect> {
        match self.phase {
            Phase::Held | Phase::Lapsed => vec![],
            Phase::Closed => vec![Effect::Receipt, Effect::FreeSlot],
            Phase::Preparing => vec![Effect::Prepare],
            Phase::Serving => vec![Effect::Thaw],
            Phase::Frozen => vec![Effect::Freeze],
            Phase::Closing => vec![Effect::Destroy, Effect::Close],
        }
    }

    fn opened(&mut self, opening: Opening, now: UnixMillis) -> Vec<Effect> {
        if self.phase != Phase::Held {
            return vec![];
        }
        self.opening = Some(opening);
        self.preparing_since = Some(now);
        self.phase = Phase::Preparing;
        vec![Effect::Prepare]
    }

    fn not_open_at(&mut self, block_time: u64) -> Vec<Effect> {
        if self.phase != Phase::Held || block_time <= u64::from(self.quote.quote.expiry) {
            return vec![];
        }
        self.phase = Phase::Lapsed;
        vec![Effect::FreeSlot]
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
        if !matches!(self.phase, Phase::Serving | Phase::Frozen) {
            return Err(StepError::WrongPhase { phase: self.phase.name() });
        }
        self.accept(voucher)?;
        self.acks += 1;
        let paid = self.meter().is_some_and(|meter| meter.standing(self.covered(), now) == Standing::Paid);
        if self.phase == Phase::Frozen && paid {
            self.thaw(now);
            return Ok(vec![Effect::Thaw]);
        }
        Ok(vec![])
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
            Phase::Held | Phase::Lapsed => Err(StepError::WrongPhase { phase: self.phase.name() }),
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

    fn thaw(&mut self, now: UnixMillis) {
        self.frozen_millis += self.frozen_since.take().map_or(0, |since| now.since(since));
        self.phase = Phase::Serving;
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
        let Some(meter) = self.meter() else { return vec![] };
        match (self.phase, meter.standing(self.covered(), now)) {
            (Phase::Serving | Phase::Frozen, Standing::Exhausted) => self.wind_down(now),
            (Phase::Serving, Standing::Unpaid) => {
                self.phase = Phase::Frozen;
                self.frozen_since = Some(now);
                vec![Effect::Freeze]
            }
            (Phase::Frozen, Standing::Unpaid) => {
                let frozen = self.frozen_since.map_or(0, |since| now.since(since));
                if frozen >= u64::from(self.terms.frozen_seconds) * 1_000 { self.wind_down(now) } else { vec![] }
            }
            _ => vec![],
        }
    }

    fn closed(&mut self, closing: Closing, now: UnixMillis) -> Vec<Effect> {
        if self.phase.is_over() {
            return vec![];
        }
        let mut effects = self.wind_down(now);
        effects.retain(|effect| *effect != Effect::Close);
        self.closing = Some(closing);
        self.phase = Phase::Closed;
        effects.extend([Effect::Receipt, Effect::FreeSlot]);
        effects
    }
}
