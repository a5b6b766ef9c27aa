//! The renter role: from a search to a finished run and its receipt.
//!
//! ```text
//!   query ──▶ search (offers heard by gossip, and from indexers) ──▶ negotiate (quote, checked) ──▶ driver: open on chain
//!   driver: Ready ──▶ voucher every third of an increment, on disk before it is sent ──▶ finish ──▶ settled
//!   run: upload ──▶ start ──▶ logs ──▶ exit ──▶ fetch outputs ──▶ tell the driver to finish ──▶ receipt
//! ```
//!
//! Each rental has one [`driver`] task that owns its state machine (`market::rental::renter`) and its money; a [`run`] is what a person
//! wanted it for and only talks to the driver. A voucher is *made* in [`driver`], by the session key of its rental.

mod arbiters;
mod checks;
mod config;
mod discount;
mod driver;
mod figures;
mod indexers;
mod journal;
mod names;
mod negotiate;
mod ratings;
mod receipt;
mod records;
mod run;
mod service;
mod shares;
mod story;
mod visits;

pub use config::{Config, Limits};
pub use figures::{Counts, Standing};
pub use records::{MAX_HISTORY, forget_oldest, tables};
pub use service::Renter;

use settlement::{EscrowAccount, SettlementError};
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

/// What the renter is built from.
pub struct Parts {
    /// The network's handle.
    pub network: network::Handle,
    /// The network's name, which must stand in the terms.
    pub network_name: String,
    /// The account that pays at each escrow that it may pay through: the wallet's, or a smart account of its. There is one sender for an account in a node: roles share it.
    pub accounts: Vec<EscrowAccount>,
    /// Its memory.
    pub store: Store,
    /// Ends everything.
    pub cancel: CancellationToken,
}

/// Why the renter did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("renter configuration: {0}")]
    Config(String),
    /// The chain failed.
    #[error(transparent)]
    Settlement(#[from] SettlementError),
    /// The node's memory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
