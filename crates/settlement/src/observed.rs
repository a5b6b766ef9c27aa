//! What the follower saw, as the state machines of a rental take it.

use crate::{chain::Chain, events::ClosingKind, follower::ChainEvent};
use market::{
    id::RentalId,
    rental::{Closing, Opening},
};
use std::time::Duration;

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

impl ChainEvent {
    /// The rental it is about, if it is about one.
    pub const fn rental(&self) -> Option<RentalId> {
        match self {
            Self::Opened { id, .. }
            | Self::OpeningUndone { id }
            | Self::Stopping { id, .. }
            | Self::Closed { id, .. }
            | Self::ClosingUndone { id }
            | Self::Settled { id } => Some(*id),
            Self::Head { .. } => None,
        }
    }

    /// The opening that it reports.
    pub fn opening(&self) -> Option<Opening> {
        match self {
            Self::Opened { deposit, start, transaction, block, .. } => {
                Some(Opening { deposit: *deposit, start: u64::from(*start), tx: *transaction, block: *block })
            }
            _ => None,
        }
    }

    /// The closing that it reports. The time of its block is looked up, patiently; it is zero when the chain cannot be asked for long.
    pub async fn closing(&self, chain: &Chain) -> Option<Closing> {
        let Self::Closed { paid, refunded, elapsed, kind, transaction, block, .. } = self else { return None };
        Some(Closing {
            paid: *paid,
            refunded: *refunded,
            elapsed: *elapsed,
            kind: kind.number(),
            tx: *transaction,
            block: *block,
            time: block_time(chain, *block).await,
        })
    }
}

/// How often, and with what pause, the time of a block that exists is asked for when the chain does not answer: for a minute.
const ATTEMPTS: u32 = 12;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(5);

async fn block_time(chain: &Chain, block: u64) -> u64 {
    for _ in 0..ATTEMPTS {
        match chain.block_at(block).await {
            Ok(Some(head)) => return head.timestamp,
            Ok(None) => {}
            Err(error) => tracing::warn!(block, %error, "the time of a block cannot be read, trying again"),
        }
        tokio::time::sleep(ATTEMPT_PAUSE).await;
    }
    0
}
