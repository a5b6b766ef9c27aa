//! Everything that touches a chain: the escrow, the keys that pay and are paid, and what happened to a rental on chain.
//!
//! - [`ChainConfig`] says which chain and escrow; [`Chain::connect`] checks that they are what it says, and answers questions.
//! - [`Keystore`] keeps keys on disk, a [`Wallet`] is one of them in memory.
//! - [`TransactionSender`] is the one owner of an account's nonces: each [`Call`] is written to disk before it is sent and is sent
//!   once, however often it is asked for and wherever the program dies.
//! - [`EscrowAccount`] opens, claims, closes, stops, finalizes rentals for one account.
//! - [`Follower`] reports what happens to watched rentals, at the chain's confirmation depth.
//! - [`Chain::escrow_events`] reads everything that an escrow has told, for whoever keeps a record of all rentals.
//! - [`deploy`] sets up a development chain.
//!
//! Two rules run through it: events are hints and the chain's state is the truth; and whatever promises money is on disk before it
//! leaves the node. Pass [`TABLES`] to `Store::open`.

mod account;
mod bindings;
mod chain;
mod config;
pub mod deploy;
mod error;
mod events;
mod follower;
mod funding;
mod history;
mod lock;
mod payer;
mod rpc;
mod sender;
mod transactions;
mod wallet;

pub use account::{Allowance, ClosingOutcome, EscrowAccount, MAX_BATCH, Path, ToClose};
pub use bindings::{EscrowRevert, Revert};
pub use chain::{Chain, Fees, GAS_TO_CLOSE, Head, OnChainRental};
pub use config::{ChainConfig, escrow_address, escrow_code_hash};
pub use error::SettlementError;
pub use events::{Closing, ClosingKind, LOG_RANGE, Opening, RentalEvent};
pub use follower::{ChainEvent, Follower, Known, REORG_DEPTH};
pub use funding::{Decoded, PERMIT2, Way};
pub use payer::Payer;
pub use rpc::{ChainHealth, EndpointHealth, EndpointState};
pub use sender::{SenderHealth, TransactionSender};
pub use transactions::{
    Call, Confirmed, MAX_HISTORY, Purpose, TABLES, TransactionRecord, TransactionState, forget_oldest,
    recorded_spenders,
};
pub use wallet::{Keystore, Passphrase, Wallet};

#[cfg(test)]
mod tests;
