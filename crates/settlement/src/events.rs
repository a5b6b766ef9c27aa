//! The escrow's events, read from the chain: what opened a rental, and how it ended.

use crate::{
    bindings::RentalEscrow,
    chain::{Chain, Head},
    error::SettlementError,
    rpc::CallError,
};
use alloy::{
    eips::BlockId,
    primitives::{Address, B256},
    providers::{Provider, RootProvider},
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use market::{
    id::{DeviceId, RentalId},
    money::{Amount, Rate},
    quote::Quote,
    rental,
};
use serde::{Deserialize, Serialize};

/// Blocks that one question for events spans: what the stricter public endpoints allow.
pub const LOG_RANGE: u64 = 1_000;

/// How a rental was opened. Its quote is whole again, so that whoever reads this can also finalize it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The rental.
    pub id: RentalId,
    /// Its terms.
    pub quote: Quote,
    /// What was paid in.
    pub deposit: Amount,
    /// Block time of the opening, in Unix seconds.
    pub start: u32,
    /// The transaction.
    pub transaction: B256,
    /// The number of its block.
    pub block: u64,
    /// The hash of its block.
    pub block_hash: B256,
}

/// How a rental ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The rental.
    pub id: RentalId,
    /// Who was paid.
    pub provider: Address,
    /// Who was refunded.
    pub renter: Address,
    /// What the provider received in all.
    pub paid: Amount,
    /// What went back to the renter.
    pub refunded: Amount,
    /// Seconds from the opening to the meter's end.
    pub elapsed: u32,
    /// By what.
    pub kind: ClosingKind,
    /// Block time of the closing, in Unix seconds.
    pub time: u64,
    /// The transaction.
    pub transaction: B256,
    /// The number of its block.
    pub block: u64,
    /// The hash of its block.
    pub block_hash: B256,
}

/// What closed a rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosingKind {
    /// The provider, with the best voucher.
    Provider,
    /// Both, by a release.
    Release,
    /// Anyone, when the window after a stop was over.
    FinalizedAfterStop,
    /// Anyone, when the window after the term was over.
    FinalizedAfterTerm,
    /// The arbiter.
    Ruling,
    /// Something a newer escrow does.
    Other(u8),
}

impl From<u8> for ClosingKind {
    fn from(kind: u8) -> Self {
        match kind {
            1 => Self::Provider,
            2 => Self::Release,
            3 => Self::FinalizedAfterStop,
            4 => Self::FinalizedAfterTerm,
            5 => Self::Ruling,
            other => Self::Other(other),
        }
    }
}

impl ClosingKind {
    /// The number that stands in the escrow's event.
    pub const fn number(self) -> u8 {
        match self {
            Self::Provider => 1,
            Self::Release => 2,
            Self::FinalizedAfterStop => 3,
            Self::FinalizedAfterTerm => 4,
            Self::Ruling => 5,
            Self::Other(number) => number,
        }
    }
}

impl From<&Opening> for rental::Opening {
    fn from(opening: &Opening) -> Self {
        let &Opening { deposit, start, transaction, block, .. } = opening;
        Self { deposit, start: start.into(), tx: transaction, block }
    }
}

impl From<&Closing> for rental::Closing {
    fn from(closing: &Closing) -> Self {
        let &Closing { paid, refunded, elapsed, kind, time, transaction, block, .. } = closing;
        Self { paid, refunded, elapsed, kind: kind.number(), tx: transaction, block, time }
    }
}

/// An event of one rental's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RentalEvent {
    /// It was opened.
    Opened(Box<Opening>),
    /// Its renter froze the meter.
    Stopping {
        /// Which.
        id: RentalId,
        /// Block time of the stop, in Unix seconds.
        stop_at: u32,
        /// The number that the renter gave for its reason.
        reason: u32,
        /// The number of its block.
        block: u64,
    },
    /// It ended.
    Closed(Box<Closing>),
}

impl RentalEvent {
    /// The rental it is about.
    pub fn id(&self) -> RentalId {
        match self {
            Self::Opened(opening) => opening.id,
            Self::Stopping { id, .. } => *id,
            Self::Closed(closing) => closing.id,
        }
    }
}

impl Chain {
    /// How the rental was opened, looked for from the newest confirmed block back to `since`.
    pub async fn opening(&self, id: RentalId, since: u64) -> Result<Option<Opening>, SettlementError> {
        let found = self.latest_event(id, RentalEscrow::Opened::SIGNATURE_HASH, since).await?;
        Ok(found.and_then(|event| if let RentalEvent::Opened(opening) = event { Some(*opening) } else { None }))
    }

    /// How the rental ended, looked for from the newest confirmed block back to `since`.
    pub async fn closing(&self, id: RentalId, since: u64) -> Result<Option<Closing>, SettlementError> {
        let found = self.latest_event(id, RentalEscrow::Closed::SIGNATURE_HASH, since).await?;
        Ok(found.and_then(|event| if let RentalEvent::Closed(closing) = event { Some(*closing) } else { None }))
    }

    /// How the rental was opened, if that was in this block and the block counts by now. One question, however old the block is.
    pub async fn opening_in(&self, id: RentalId, block: u64) -> Result<Option<Opening>, SettlementError> {
        let found = self.event_in(id, RentalEscrow::Opened::SIGNATURE_HASH, block).await?;
        Ok(found.and_then(|event| if let RentalEvent::Opened(opening) = event { Some(*opening) } else { None }))
    }

    /// How the rental ended, if that was in this block and the block counts by now.
    pub async fn closing_in(&self, id: RentalId, block: u64) -> Result<Option<Closing>, SettlementError> {
        let found = self.event_in(id, RentalEscrow::Closed::SIGNATURE_HASH, block).await?;
        Ok(found.and_then(|event| if let RentalEvent::Closed(closing) = event { Some(*closing) } else { None }))
    }

    async fn event_in(
        &self,
        id: RentalId,
        signature: B256,
        block: u64,
    ) -> Result<Option<RentalEvent>, SettlementError> {
        // endpoints answer questions about blocks that do not exist yet with errors of many kinds
        if block > self.confirmed_head().await?.number {
            return Ok(None);
        }
        Ok(self.rental_events(&[signature], &[id], block, block).await?.pop())
    }

    async fn latest_event(
        &self,
        id: RentalId,
        signature: B256,
        since: u64,
    ) -> Result<Option<RentalEvent>, SettlementError> {
        let mut until = self.confirmed_head().await?.number;
        loop {
            let from = until.saturating_sub(LOG_RANGE - 1).max(since);
            if let Some(event) = self.rental_events(&[signature], &[id], from, until).await?.pop() {
                return Ok(Some(event));
            }
            if from <= since {
                return Ok(None);
            }
            until = from - 1;
        }
    }

    /// The events of the given rentals (none given: of all) in a range of at most [`LOG_RANGE`] blocks, in the chain's order.
    pub(crate) async fn rental_events(
        &self,
        signatures: &[B256],
        ids: &[RentalId],
        from: u64,
        until: u64,
    ) -> Result<Vec<RentalEvent>, SettlementError> {
        let filter = Filter::new()
            .address(self.config().escrow)
            .event_signature(signatures.to_vec())
            .topic1(ids.iter().map(|id| id.0).collect::<Vec<_>>())
            .from_block(from)
            .to_block(until);
        self.endpoints().agreed("the escrow's events", async |p| RentalEvent::read(&p, &filter).await).await
    }
}

impl RentalEvent {
    /// The events that one endpoint has.
    async fn read(provider: &RootProvider, filter: &Filter) -> Result<Vec<Self>, CallError> {
        let logs = provider.get_logs(filter).await?;
        let mut events = Vec::with_capacity(logs.len());
        for log in logs.iter().filter(|log| !log.removed) {
            if !filter.rpc_matches(log) {
                return Err(CallError::Nonsense("an event that was not asked for".to_owned()));
            }
            events.push(Self::of(provider, log).await?);
        }
        Ok(events)
    }

    async fn of(provider: &RootProvider, log: &Log) -> Result<Self, CallError> {
        let nonsense = |why: &str| CallError::Nonsense(why.to_owned());
        let unreadable = |_| nonsense("an event does not decode");
        let (Some(transaction), Some(block), Some(block_hash)) =
            (log.transaction_hash, log.block_number, log.block_hash)
        else {
            return Err(nonsense("an event without its block"));
        };
        match log.topic0() {
            Some(&RentalEscrow::Opened::SIGNATURE_HASH) => {
                let e = RentalEscrow::Opened::decode_log(&log.inner).map_err(unreadable)?.data;
                let quote = Quote {
                    provider: e.provider,
                    provider_key: e.providerKey,
                    renter: e.renter,
                    renter_key: e.renterKey,
                    token: e.token,
                    rate: Rate::new(e.rate.into()),
                    min_deposit: e.minDeposit.into(),
                    max_seconds: e.maxSeconds,
                    window: e.window,
                    expiry: e.expiry,
                    arbiter: e.arbiter,
                    device: DeviceId(e.device),
                    spec: e.spec,
                };
                let start =
                    u32::try_from(time(provider, log, block).await?).map_err(|_| nonsense("an opening after 2106"))?;
                let (id, deposit) = (RentalId(e.id), e.deposit.into());
                Ok(RentalEvent::Opened(Box::new(Opening { id, quote, deposit, start, transaction, block, block_hash })))
            }
            Some(&RentalEscrow::Stopping::SIGNATURE_HASH) => {
                let e = RentalEscrow::Stopping::decode_log(&log.inner).map_err(unreadable)?.data;
                Ok(RentalEvent::Stopping { id: RentalId(e.id), stop_at: e.stopAt, reason: e.reason, block })
            }
            Some(&RentalEscrow::Closed::SIGNATURE_HASH) => {
                let e = RentalEscrow::Closed::decode_log(&log.inner).map_err(unreadable)?.data;
                Ok(RentalEvent::Closed(Box::new(Closing {
                    id: RentalId(e.id),
                    provider: e.provider,
                    renter: e.renter,
                    paid: e.paid.into(),
                    refunded: e.refunded.into(),
                    elapsed: e.elapsed,
                    kind: e.kind.into(),
                    time: time(provider, log, block).await?,
                    transaction,
                    block,
                    block_hash,
                })))
            }
            _ => Err(nonsense("an event that was not asked for")),
        }
    }
}

/// When the block of an event was made; endpoints that leave it out of the event are asked for the block.
async fn time(provider: &RootProvider, log: &Log, block: u64) -> Result<u64, CallError> {
    match log.block_timestamp {
        Some(timestamp) => Ok(timestamp),
        None => match Head::of(provider, BlockId::number(block)).await? {
            Some(head) => Ok(head.timestamp),
            None => Err(CallError::Nonsense("an event of no block".to_owned())),
        },
    }
}

/// The events a rental's life is told by.
pub(crate) const LIFE: [B256; 3] = [
    RentalEscrow::Opened::SIGNATURE_HASH,
    RentalEscrow::Stopping::SIGNATURE_HASH,
    RentalEscrow::Closed::SIGNATURE_HASH,
];
