//! The past of an escrow, for whoever keeps a record of all rentals: where to begin, and what happened in a range of blocks.

use crate::{
    chain::Chain,
    error::SettlementError,
    events::{Closing, LIFE, Opening, RentalEvent},
};
use market::{
    reputation::{Closed, RentalFacts},
    signed::Escrow,
};

impl Opening {
    /// What a record of the rental begins with.
    pub fn facts(&self, escrow: Escrow) -> RentalFacts {
        let quote = &self.quote;
        RentalFacts {
            id: self.id,
            escrow,
            provider: quote.provider,
            provider_key: quote.provider_key,
            renter: quote.renter,
            renter_key: quote.renter_key,
            token: quote.token,
            rate: quote.rate,
            max_seconds: quote.max_seconds,
            device: quote.device,
            opened: self.start.into(),
            stop_reason: None,
            closed: None,
        }
    }
}

impl Closing {
    /// What a record of the rental ends with.
    pub const fn facts(&self) -> Closed {
        Closed { at: self.time, paid: self.paid, elapsed: self.elapsed, kind: self.kind.number() }
    }
}

impl Chain {
    /// Everything the escrow has told from block `from` to block `until`, both included and at most [`crate::LOG_RANGE`] blocks, in the
    /// chain's order. Where there are several endpoints, two must tell the same.
    pub async fn escrow_events(&self, from: u64, until: u64) -> Result<Vec<RentalEvent>, SettlementError> {
        self.rental_events(&LIFE, &[], from, until).await
    }

    /// The first block that counts and is not older than `timestamp`; the one after the newest, when all are. Found by halving, in some
    /// thirty questions for the longest chain; a block that the endpoints have forgotten is taken for too old.
    pub async fn first_block_since(&self, timestamp: u64) -> Result<u64, SettlementError> {
        let (mut from, mut until) = (0, self.confirmed_head().await?.number + 1);
        while from < until {
            let middle = from + (until - from) / 2;
            match self.block_at(middle).await? {
                Some(block) if block.timestamp >= timestamp => until = middle,
                _ => from = middle + 1,
            }
        }
        Ok(from)
    }
}
