//! Watches rentals on one chain and reports what happens to them, once a block is deep enough to count.
//!
//! New events are read in the order of the chain from a cursor that is kept on disk; and every watched rental is compared with the
//! escrow's own state, when it is first watched and from time to time after. So nothing depends on an endpoint delivering every
//! event, and a node that was away learns what it missed: events are hints, the chain's state is the truth.
//!
//! A chain that goes back further than the confirmation depth takes back what was reported. The follower then says so, and it watches a
//! rental until its end lies [`REORG_DEPTH`] blocks deep.

mod watcher;

use crate::{chain::Chain, error::SettlementError};
use alloy::primitives::{Address, B256};
use market::{
    id::RentalId,
    rental::{Closing, Opening},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};
use store::{Json, Store, Table};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use watcher::Watcher;

/// Events that may wait to be taken; a reader that is slower stops the follower, and loses nothing.
const EVENTS: usize = 256;
/// Rentals watched at once on one chain: each costs a call now and then, and a thousand are more than a machine's slots.
const MAX_WATCHED: usize = 4_096;

/// How deep a closing must lie before its rental is forgotten, and a transaction before it is no longer looked at; and how far the follower
/// goes back when the last block it read has been replaced: deeper than chains that pay have been seen to go.
pub const REORG_DEPTH: u64 = 64;

/// What happened, as deep in the chain as configured. An event may come twice around a restart of the node, never in a wrong order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// A rental was opened.
    Opened {
        /// Which.
        id: RentalId,
        /// How.
        opening: Opening,
    },
    /// The opening that was reported is not part of the chain any more, nor is anything that came after it.
    OpeningUndone {
        /// Which.
        id: RentalId,
    },
    /// Its meter was frozen and the challenge window runs.
    Stopping {
        /// Which.
        id: RentalId,
        /// Block time of the stop, in Unix seconds.
        stop_at: u32,
    },
    /// It ended, and both were paid.
    Closed {
        /// Which.
        id: RentalId,
        /// How.
        closing: Closing,
    },
    /// The end that was reported is not part of the chain any more: the rental is open.
    ClosingUndone {
        /// Which.
        id: RentalId,
    },
    /// Its end lies so deep that it stands; the rental is not watched any more.
    Settled {
        /// Which.
        id: RentalId,
    },
    /// Everything up to this block has been reported.
    Head {
        /// The block's number.
        number: u64,
        /// Its time in Unix seconds.
        timestamp: u64,
    },
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
}

/// The last block that was read, by chain, escrow and the follower's name.
pub(crate) struct Cursors;
impl Table for Cursors {
    const NAME: &'static str = "chain_cursors";
    type Key = (u64, Address, String);
    type Value = Json<Cursor>;
}

/// A block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub(crate) number: u64,
    pub(crate) hash: B256,
}

/// Where something happened: the same transaction in another block is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    transaction: B256,
    block: u64,
}

impl From<&Opening> for Place {
    fn from(opening: &Opening) -> Self {
        Self { transaction: opening.tx, block: opening.block }
    }
}

impl From<&Closing> for Place {
    fn from(closing: &Closing) -> Self {
        Self { transaction: closing.tx, block: closing.block }
    }
}

/// What the asker knows of a rental already. It is told what is not so, and what is new.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    opened: Option<Place>,
    closed: Option<Place>,
}

impl Known {
    /// What a rental's state machine holds.
    pub fn of(opening: Option<&Opening>, closing: Option<&Closing>) -> Self {
        Self { opened: opening.map(Place::from), closed: closing.map(Place::from) }
    }
}

/// A rental that is to be watched.
#[derive(Clone, Copy, Debug)]
struct Wish {
    since: u64,
    known: Known,
}

/// Watches rentals. Clones share the task behind it, which ends with the last of them or when its events are no longer read.
#[derive(Clone)]
pub struct Follower {
    chain: Chain,
    wanted: Wanted,
    _alive: Arc<DropGuard>,
}

/// The rentals that are to be watched. Shared, and never locked for long, so that asking
/// does not wait for the task: that may be waiting for the asker to read its events.
type Wanted = Arc<Mutex<BTreeMap<RentalId, Wish>>>;

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follower")
    }
}

impl Follower {
    /// Starts following; the receiver must be read. `name` keeps the cursors of several followers of one chain apart.
    pub async fn start(
        chain: Chain,
        store: Store,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<ChainEvent>), SettlementError> {
        let (events, outbox) = mpsc::channel(EVENTS);
        let cancel = cancel.child_token();
        let wanted = Wanted::default();
        let watcher = Watcher::load(chain.clone(), store, name.to_owned(), events, wanted.clone()).await?;
        tokio::spawn(watcher.run(cancel.clone()));
        Ok((Self { chain, wanted, _alive: Arc::new(cancel.drop_guard()) }, outbox))
    }

    /// Watches a rental. What happened to it from block `since` on is reported first: an opening, a stop, its end, as far as they
    /// exist; or that what is `known` is no longer so. Give the newest block at the time its quote was signed; zero searches the whole
    /// chain. Watching it already is no change.
    pub async fn watch(&self, id: RentalId, since: u64, known: Known) -> Result<(), SettlementError> {
        let mut wanted = self.wanted.lock().await;
        if wanted.len() >= MAX_WATCHED && !wanted.contains_key(&id) {
            return Err(SettlementError::TooManyWatched { limit: MAX_WATCHED });
        }
        wanted.entry(id).or_insert(Wish { since, known });
        Ok(())
    }

    /// Whether something that happened in this block lies so high that the chain may take it back.
    pub async fn may_be_taken_back(&self, block: u64) -> Result<bool, SettlementError> {
        Ok(self.chain.confirmed_head().await?.number < block + REORG_DEPTH)
    }

    /// Stops watching a rental. One that is settled is forgotten by itself.
    pub async fn unwatch(&self, id: RentalId) {
        self.wanted.lock().await.remove(&id);
    }
}
