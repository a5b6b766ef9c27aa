//! The renter's side: open, wait for `Ready`, sign for what was served, finish, and see that the chain settles it; with or without
//! the provider.

use super::{Closing, Opening, StepError};
use crate::{
    dispute::StopReason,
    id::{PeerId, RentalId, peer_text},
    mandate::Mandate,
    meter::{Meter, Tariff},
    money::Amount,
    preemption::SignedNotice,
    quote::SignedQuote,
    signed::{SignedRelease, SignedVoucher},
    terms::Terms,
    time::UnixMillis,
};
use alloy_primitives::{Bytes, Signature};
use serde::{Deserialize, Serialize};

/// How many vouchers in a row may stay unanswered before the provider counts as gone: DESIGN §8.
pub const MAX_MISSED_ACKS: u32 = 3;
/// How many times the end of a rental is told to a provider that does not answer, before the renter leaves by the chain.
pub const MAX_FINISH_ATTEMPTS: u32 = 3;
/// How long a provider that has signed its release may take to close, before the renter closes with that release. In milliseconds: a
/// few blocks of a slow chain, and far less than any challenge window.
pub const CLOSE_PATIENCE: u64 = 60_000;

/// Where the rental stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The provider promised; nothing is locked.
    Quoted,
    /// The opening is on its way to the chain.
    Opening,
    /// The deposit is locked; the sandbox is awaited.
    Waiting,
    /// The meter runs.
    Serving,
    /// The provider is being told that it is over.
    Finishing,
    /// The final total is agreed; the provider closes.
    Settling,
    /// The provider does not answer: stopped, and after the window finalized, on chain.
    Leaving,
    /// The escrow has paid.
    Closed,
    /// Never opened.
    Lapsed,
}

impl Phase {
    /// Every phase of a rental that is not over, in the order of its life.
    pub const GOING_ON: [Self; 7] =
        [Self::Quoted, Self::Opening, Self::Waiting, Self::Serving, Self::Finishing, Self::Settling, Self::Leaving];

    /// The phase as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quoted => "quoted",
            Self::Opening => "opening",
            Self::Waiting => "waiting",
            Self::Serving => "serving",
            Self::Finishing => "finishing",
            Self::Settling => "settling",
            Self::Leaving => "leaving",
            Self::Closed => "closed",
            Self::Lapsed => "lapsed",
        }
    }

    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Lapsed)
    }
}

/// What happens to a rental.
#[derive(Clone, Debug)]
pub enum Input {
    /// The renter decides to open.
    Open,
    /// The opening cannot succeed: it was refused.
    NotOpened,
    /// The chain shows it open, at the confirmation depth.
    Opened(Opening),
    /// The chain went back, and the opening that it showed is no part of it any more.
    OpeningUndone,
    /// The provider's signed start of the meter.
    Ready(UnixMillis, Signature),
    /// A voucher was signed and is about to be sent.
    Signed(SignedVoucher),
    /// The provider acknowledged this total.
    Acked(Amount),
    /// The provider has signed that the rental gives way to another.
    Noticed(SignedNotice),
    /// A voucher stayed unanswered.
    AckMissed,
    /// The renter, or the end of its program, ends it.
    Finish,
    /// The provider signed the final total.
    Released(SignedRelease),
    /// The provider did not answer the end.
    FinishMissed,
    /// The renter stops it on chain for this reason, and leaves the end to the arbiter that the quote names.
    Dispute(StopReason),
    /// The renter leaves by the chain at once, for this reason: a check of the hardware has failed. Nobody has to rule.
    Leave(StopReason),
    /// The chain shows it stopping since this time (Unix seconds).
    Stopping(u64),
    /// A confirmed block has this time (Unix seconds); everything up to it has been told.
    BlockTime(u64),
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
            Self::Open => "open",
            Self::NotOpened => "not_opened",
            Self::Opened(_) => "opened",
            Self::OpeningUndone => "opening_undone",
            Self::Ready(..) => "ready",
            Self::Signed(_) => "signed",
            Self::Acked(_) => "acked",
            Self::Noticed(_) => "noticed",
            Self::AckMissed => "ack_missed",
            Self::Finish => "finish",
            Self::Released(_) => "released",
            Self::FinishMissed => "finish_missed",
            Self::Dispute(_) => "dispute",
            Self::Leave(_) => "leave",
            Self::Stopping(_) => "stopping",
            Self::BlockTime(_) => "block_time",
            Self::Tick => "tick",
            Self::Closed(_) => "closed",
            Self::ClosingUndone => "closing_undone",
        }
    }
}

/// What the driver must do. Each may be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the opening transaction, or the mandate to the provider.
    SendOpen,
    /// Sign and send a voucher for this total.
    Sign(Amount),
    /// Tell the provider that the rental is over, with the last voucher.
    TellFinish,
    /// Close on chain with the provider's release.
    SendRelease,
    /// Stop the meter on chain, for the reason in [`Rental::stop_reason`].
    SendStop,
    /// Close a stopped or forgotten rental on chain.
    SendFinalize,
    /// Write the receipt.
    Receipt,
    /// Take the receipt back, if there is one: what it says is not so any more.
    Retract,
}

/// A renter's rental.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rental {
    /// The id: the quote's digest.
    pub id: RentalId,
    /// The provider's promise.
    pub quote: SignedQuote,
    /// The full terms.
    pub terms: Terms,
    /// The terms as they were hashed.
    pub terms_bytes: Bytes,
    /// The provider's peer.
    #[serde(with = "peer_text")]
    pub provider: PeerId,
    /// The newest block when it was quoted: nothing happened to it on chain before.
    pub quoted_at_block: u64,
    /// What is, or will be, locked.
    pub deposit: Amount,
    /// The order to the provider to open it, if the renter does not do that itself.
    #[serde(default)]
    pub mandate: Option<Mandate>,
    /// Where it stands.
    pub phase: Phase,
    /// The opening, once seen.
    pub opening: Option<Opening>,
    /// When the opening was seen, by the wall clock.
    pub opened_at: Option<UnixMillis>,
    /// The provider's signed start.
    pub ready: Option<(UnixMillis, Signature)>,
    /// Where the own meter starts: the signed start, never earlier than one increment before it was heard.
    pub metered_from: Option<UnixMillis>,
    /// When the provider was last heard, by the wall clock: its `Ready` or an ack.
    #[serde(default)]
    pub heard_at: Option<UnixMillis>,
    /// How far past that moment vouchers go: one increment, less what the start lay before it was heard. Backdating and silence cost
    /// one increment together.
    #[serde(default)]
    pub ahead_millis: u64,
    /// The highest voucher signed.
    pub voucher: Option<SignedVoucher>,
    /// That it gives way to another, and when.
    #[serde(default)]
    pub notice: Option<SignedNotice>,
    /// The highest total acknowledged.
    pub acked: Amount,
    /// Unanswered vouchers in a row.
    pub missed_acks: u32,
    /// Unanswered ends.
    pub missed_finishes: u32,
    /// When serving ended for the renter.
    pub stopped_at: Option<UnixMillis>,
    /// The provider's signed final total.
    pub release: Option<SignedRelease>,
    /// When the release came.
    pub released_at: Option<UnixMillis>,
    /// When the renter disputed it.
    #[serde(default)]
    pub disputed_at: Option<UnixMillis>,
    /// Why it is stopped on chain, should it be.
    #[serde(default)]
    pub stop_reason: StopReason,
    /// The chain's stop time, when stopped there.
    pub stop_time: Option<u64>,
    /// The closing, once seen.
    pub closing: Option<Closing>,
}

impl Rental {
    /// A rental whose quote was checked.
    pub fn new(quote: SignedQuote, terms: Terms, terms_bytes: Bytes, deposit: Amount, quoted_at_block: u64) -> Self {
        Self {
            id: quote.id(),
            provider: terms.provider_peer,
            quote,
            terms,
            terms_bytes,
            quoted_at_block,
            deposit,
            mandate: None,
            phase: Phase::Quoted,
            opening: None,
            opened_at: None,
            ready: None,
            metered_from: None,
            heard_at: None,
            ahead_millis: 0,
            voucher: None,
            notice: None,
            acked: Amount::ZERO,
            missed_acks: 0,
            missed_finishes: 0,
            stopped_at: None,
            release: None,
            released_at: None,
            disputed_at: None,
            stop_reason: StopReason::default(),
            stop_time: None,
            closing: None,
        }
    }

    /// The same rental, to be opened by its provider. What is paid in advance is the first voucher.
    pub fn opened_by_provider(self, mandate: Mandate) -> Self {
        Self { voucher: Some(mandate.advance), mandate: Some(mandate), ..self }
    }

    /// The numbers the meter runs by.
    pub fn tariff(&self) -> Tariff {
        Tariff {
            rate: self.quote.quote.rate,
            max_seconds: self.quote.quote.max_seconds.saturating_sub(self.terms.ready_seconds),
            deposit: self.opening.map_or(self.deposit, |opening| opening.deposit),
            increment_millis: self.terms.increment_millis,
        }
    }

    /// The meter, once it runs.
    pub fn meter(&self) -> Option<Meter> {
        Some(Meter { tariff: self.tariff(), ready_at: self.metered_from?, forgiven_millis: 0 })
    }

    /// The highest total signed for.
    pub fn signed_total(&self) -> Amount {
        self.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative)
    }

    /// The total that may be signed for at `now`: what is owed for the time in which the provider was heard, and for one increment beyond.
    /// So a renter that was away (a suspended laptop) does not sign for time that a provider which has long ended the rental did not
    /// serve; one that is still there acknowledges, and with its ack the renter catches up.
    fn payable(&self, meter: &Meter, now: UnixMillis) -> Amount {
        let trusted = self.heard_at.map_or(now, |heard| now.min(heard.plus(self.ahead_millis)));
        meter.owed(trusted).max(self.signed_total())
    }

    /// Whether the provider has been silent for so long that, by the terms, it has ended the rental: it served one increment beyond the
    /// last voucher that may have reached it, itself one increment beyond its last word, and then waited frozen. Should it still answer,
    /// it is not to be paid for that time.
    fn is_given_up(&self, now: UnixMillis) -> bool {
        let waited = 2 * u64::from(self.terms.increment_millis) + u64::from(self.terms.frozen_seconds) * 1_000;
        self.heard_at.is_some_and(|heard| now.since(heard) > waited)
    }

    /// Seconds billed so far.
    pub fn seconds(&self, now: UnixMillis) -> u32 {
        self.meter().map_or(0, |meter| meter.tariff.billed_seconds(meter.served(self.stopped_at.unwrap_or(now))))
    }

    /// Takes an input and says what must be done about it.
    pub fn step(&mut self, input: Input, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        match input {
            Input::Open => self.open(),
            Input::NotOpened => Ok(self.not_opened()),
            Input::Opened(opening) => Ok(self.opened(opening, now)),
            Input::OpeningUndone => Ok(self.opening_undone()),
            Input::Ready(at, signature) => Ok(self.begin(at, signature, now)),
            Input::Signed(voucher) => Ok(self.signed(voucher)),
            Input::Acked(total) => Ok(self.acknowledged(total, now)),
            Input::Noticed(notice) => Ok(self.noticed(notice)),
            Input::AckMissed => Ok(self.ack_missed(now)),
            Input::Finish => self.finish(now),
            Input::Released(release) => Ok(self.released(release, now)),
            Input::FinishMissed => Ok(self.finish_missed()),
            Input::Dispute(reason) => self.dispute(reason, now),
            Input::Leave(reason) => Ok(self.leave_for(reason, now)),
            Input::Stopping(time) => Ok(self.stopping(time)),
            Input::BlockTime(time) => Ok(self.block_time(time)),
            Input::Tick => Ok(self.tick(now)),
            Input::Closed(closing) => Ok(self.closed(closing, now)),
            Input::ClosingUndone => Ok(self.closing_undone(now)),
        }
    }

    /// What to do again after a restart.
    pub fn resume(&self) -> Vec<Effect> {
        match self.phase {
            Phase::Opening => vec![Effect::Retract, Effect::SendOpen],
            // before the opening is seen the provider has nothing to end
            Phase::Finishing if self.opening.is_some() => vec![Effect::Retract, Effect::TellFinish],
            Phase::Closed => vec![Effect::Receipt],
            Phase::Leaving if self.stop_time.is_none() => vec![Effect::Retract, Effect::SendStop],
            Phase::Finishing | Phase::Settling | Phase::Leaving => vec![Effect::Retract],
            Phase::Quoted | Phase::Waiting | Phase::Serving | Phase::Lapsed => vec![],
        }
    }

    fn open(&mut self) -> Result<Vec<Effect>, StepError> {
        if self.phase != Phase::Quoted {
            return Err(StepError::WrongPhase { phase: self.phase.name() });
        }
        self.phase = Phase::Opening;
        Ok(vec![Effect::SendOpen])
    }

    fn not_opened(&mut self) -> Vec<Effect> {
        if self.opening.is_none() {
            self.phase = Phase::Lapsed;
        }
        vec![]
    }

    fn opened(&mut self, opening: Opening, now: UnixMillis) -> Vec<Effect> {
        if self.opening.is_some() {
            // the chain went back and took it into another block
            let moved = self.opening.replace(opening) != Some(opening);
            return if moved && self.phase == Phase::Closed { vec![Effect::Receipt] } else { vec![] };
        }
        self.opening = Some(opening);
        self.opened_at = Some(now);
        match self.phase {
            // the chain had taken the opening back; what was disputed or left for a reason stays so
            Phase::Finishing if self.is_left() => self.leave(),
            // a finish that was ordered while the opening was under way takes effect now
            Phase::Finishing => vec![Effect::TellFinish],
            Phase::Quoted | Phase::Opening | Phase::Lapsed => {
                self.phase = if self.ready.is_some() { Phase::Serving } else { Phase::Waiting };
                vec![]
            }
            // agreed upon or left while the chain had taken it back
            Phase::Waiting | Phase::Serving | Phase::Settling | Phase::Leaving | Phase::Closed => vec![],
        }
    }

    /// Nothing is locked any more. The opening is sent again while the quote holds; until it is seen, nothing is signed.
    fn opening_undone(&mut self) -> Vec<Effect> {
        if self.opening.take().is_none() {
            return vec![];
        }
        let retract = self.closing.take().map(|_| Effect::Retract);
        (self.stop_time, self.release, self.released_at) = (None, None, None);
        (self.missed_acks, self.missed_finishes) = (0, 0);
        let resend = match self.stopped_at {
            Some(_) => {
                self.phase = Phase::Finishing;
                None
            }
            None => {
                self.phase = Phase::Opening;
                Some(Effect::SendOpen)
            }
        };
        retract.into_iter().chain(resend).collect()
    }

    fn begin(&mut self, at: UnixMillis, signature: Signature, now: UnixMillis) -> Vec<Effect> {
        if self.phase != Phase::Waiting {
            return vec![];
        }
        // clocks differ and providers lie: what was served before we heard of it counts for one increment at most
        let increment = u64::from(self.terms.increment_millis);
        let from = at.clamp(UnixMillis(now.0.saturating_sub(increment)), now);
        self.ready = Some((at, signature));
        self.metered_from = Some(from);
        self.heard_at = Some(now);
        self.ahead_millis = increment - now.since(from);
        self.phase = Phase::Serving;
        self.tick(now)
    }

    fn signed(&mut self, voucher: SignedVoucher) -> Vec<Effect> {
        if voucher.id == self.id && voucher.cumulative >= self.signed_total() {
            self.voucher = Some(voucher);
        }
        vec![]
    }

    fn acknowledged(&mut self, total: Amount, now: UnixMillis) -> Vec<Effect> {
        self.missed_acks = 0;
        self.heard_at = self.heard_at.max(Some(now));
        self.acked = self.acked.max(total.min(self.signed_total()));
        vec![]
    }

    /// Nothing is to be done about it here: what is served until then is paid as ever, and the program's outputs are fetched in time.
    fn noticed(&mut self, notice: SignedNotice) -> Vec<Effect> {
        let promised = self.terms.notice_seconds > 0 && notice.id == self.id;
        if promised && matches!(self.phase, Phase::Waiting | Phase::Serving | Phase::Finishing) {
            self.notice.get_or_insert(notice);
        }
        vec![]
    }

    fn ack_missed(&mut self, now: UnixMillis) -> Vec<Effect> {
        if self.phase != Phase::Serving {
            return vec![];
        }
        self.missed_acks += 1;
        if self.missed_acks < MAX_MISSED_ACKS {
            return vec![];
        }
        self.stopped_at = Some(now);
        self.leave()
    }

    fn leave(&mut self) -> Vec<Effect> {
        self.phase = Phase::Leaving;
        vec![Effect::SendStop]
    }

    /// Whether the renter has stopped it on chain for a reason of its own, which outlives what the chain takes back.
    fn is_left(&self) -> bool {
        self.disputed_at.is_some() || self.stop_reason != StopReason::default()
    }

    /// Nothing more is signed: the renter's loss is what was signed for before. What is ending already ends as it does.
    fn leave_for(&mut self, reason: StopReason, now: UnixMillis) -> Vec<Effect> {
        if self.phase != Phase::Serving {
            return vec![];
        }
        self.stop_reason = reason;
        self.stopped_at = Some(now);
        self.leave()
    }

    /// Nothing is signed and nothing agreed any more. A stop that is ordered or on chain already keeps its reason.
    fn dispute(&mut self, reason: StopReason, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        if self.quote.quote.arbiter.is_zero() {
            return Err(StepError::NoArbiter);
        }
        if self.phase.is_over() {
            return Err(StepError::WrongPhase { phase: self.phase.name() });
        }
        if self.opening.is_none() {
            return Err(StepError::NotOpen);
        }
        self.disputed_at.get_or_insert(now);
        if self.phase == Phase::Leaving {
            return Ok(vec![]);
        }
        self.stop_reason = reason;
        self.stopped_at.get_or_insert(now);
        Ok(self.leave())
    }

    fn finish(&mut self, now: UnixMillis) -> Result<Vec<Effect>, StepError> {
        match self.phase {
            Phase::Quoted => {
                self.phase = Phase::Lapsed;
                Ok(vec![])
            }
            Phase::Opening => {
                self.stopped_at = Some(now);
                self.phase = Phase::Finishing;
                Ok(vec![])
            }
            Phase::Waiting | Phase::Serving => {
                self.stopped_at = Some(now);
                let last =
                    self.meter().map(|meter| self.payable(&meter, now)).filter(|total| *total > self.signed_total());
                self.phase = Phase::Finishing;
                Ok(last.map(Effect::Sign).into_iter().chain([Effect::TellFinish]).collect())
            }
            Phase::Finishing | Phase::Settling | Phase::Leaving => Ok(vec![]),
            Phase::Closed | Phase::Lapsed => Err(StepError::WrongPhase { phase: self.phase.name() }),
        }
    }

    fn released(&mut self, release: SignedRelease, now: UnixMillis) -> Vec<Effect> {
        // the escrow pays what a release says, without a voucher: one for more than was signed is no answer to the end
        if release.id != self.id || release.cumulative > self.signed_total() {
            return self.finish_missed();
        }
        if self.phase == Phase::Finishing {
            self.release = Some(release);
            self.released_at = Some(now);
            self.phase = Phase::Settling;
        }
        vec![]
    }

    fn finish_missed(&mut self) -> Vec<Effect> {
        if self.phase != Phase::Finishing || self.opening.is_none() {
            return vec![];
        }
        self.missed_finishes += 1;
        if self.missed_finishes < MAX_FINISH_ATTEMPTS {
            return vec![Effect::TellFinish];
        }
        self.leave()
    }

    fn stopping(&mut self, time: u64) -> Vec<Effect> {
        // a second time it was said because the chain went back and took the stop into another block
        self.stop_time = Some(time);
        if !self.phase.is_over() {
            self.phase = Phase::Leaving;
        }
        vec![]
    }

    fn block_time(&mut self, time: u64) -> Vec<Effect> {
        if self.opening.is_none() {
            return if time > u64::from(self.quote.quote.expiry) { self.not_opened() } else { vec![] };
        }
        let window = u64::from(self.quote.quote.window);
        let term = self.opening.map(|opening| opening.start + u64::from(self.quote.quote.max_seconds));
        let ends = match (self.stop_time, term) {
            (Some(stop), Some(term)) => stop.min(term),
            (Some(end), None) | (None, Some(end)) => end,
            (None, None) => return vec![],
        };
        if !self.phase.is_over() && time > ends + window { vec![Effect::SendFinalize] } else { vec![] }
    }

    fn tick(&mut self, now: UnixMillis) -> Vec<Effect> {
        match self.phase {
            Phase::Waiting => {
                let patience = (u64::from(self.terms.ready_seconds) + 1) * 1_000;
                let late = self.opened_at.is_some_and(|at| now.since(at) > patience);
                if late { self.finish(now).unwrap_or_default() } else { vec![] }
            }
            Phase::Serving => {
                let Some(meter) = self.meter() else { return vec![] };
                if now >= meter.ends_at() || self.is_given_up(now) {
                    return self.finish(now).unwrap_or_default();
                }
                // signing the same total again is the heartbeat
                vec![Effect::Sign(self.payable(&meter, now))]
            }
            Phase::Settling => {
                let patient = self.released_at.is_none_or(|at| now.since(at) < CLOSE_PATIENCE);
                if patient { vec![] } else { vec![Effect::SendRelease] }
            }
            Phase::Leaving if self.stop_time.is_none() => vec![Effect::SendStop],
            _ => vec![],
        }
    }

    fn closed(&mut self, closing: Closing, now: UnixMillis) -> Vec<Effect> {
        if self.phase == Phase::Closed && self.closing == Some(closing) {
            return vec![];
        }
        self.stopped_at.get_or_insert(now);
        self.closing = Some(closing);
        self.phase = Phase::Closed;
        vec![Effect::Receipt]
    }

    /// Open again: it is ended as it was before, by whatever the renter holds.
    fn closing_undone(&mut self, now: UnixMillis) -> Vec<Effect> {
        if self.closing.take().is_none() {
            return vec![];
        }
        if self.stop_time.is_some() || self.is_left() {
            self.phase = Phase::Leaving;
            return vec![Effect::Retract];
        }
        if self.release.is_some() {
            self.released_at = Some(now);
            self.phase = Phase::Settling;
            return vec![Effect::Retract];
        }
        self.missed_finishes = 0;
        self.phase = Phase::Finishing;
        vec![Effect::Retract, Effect::TellFinish]
    }
}
