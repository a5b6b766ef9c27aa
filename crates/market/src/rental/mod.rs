//! A rental from its quote to its receipt, as two state machines: [`provider::Rental`] and [`renter::Rental`].
//!
//! Both are plain data that can be written to disk. Each takes an input and the time and answers with effects: things its driver must do
//! (freeze the sandbox, send a transaction). The driver's rule is always the same: *step, write the machine to disk, then act*. After a
//! restart it reads the machine back and asks [`provider::Rental::resume`] or [`renter::Rental::resume`] which effects to do again; every effect is
//! therefore one that may be done twice.
//!
//! ```text
//!   provider   Held -> Preparing -> Serving <-> Frozen -> Closing -> Closed
//!                \-> Lapsed
//!   renter     Quoted -> Opening -> Waiting -> Serving -> Finishing -> Settling -> Closed
//!                          \-> Lapsed                        \-> Leaving (on chain, without the provider)
//! ```
//!
//! A chain that goes back takes both machines back: an opening undone to `Held` and `Opening`, where it is opened again or lapses;
//! a closing undone to `Closing` and `Settling`, where it is closed again.

pub mod provider;
pub mod renter;

#[cfg(test)]
mod tests;

use crate::money::Amount;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// The opening as the chain recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// What was locked.
    pub deposit: Amount,
    /// When the chain's clock of the rental started, in Unix seconds of block time.
    pub start: u64,
    /// The transaction.
    pub tx: B256,
    /// Its block.
    pub block: u64,
}

/// The closing as the chain recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// What the provider received in all.
    pub paid: Amount,
    /// What the renter got back.
    pub refunded: Amount,
    /// Seconds on the chain's clock.
    pub elapsed: u32,
    /// 1 closed by the provider, 2 released, 3 finalized after a stop, 4 finalized after its term, 5 ruled.
    pub kind: u8,
    /// The transaction.
    pub tx: B256,
    /// Its block.
    pub block: u64,
    /// That block's time, in Unix seconds.
    pub time: u64,
}

/// An input that the machine cannot take in its present phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The rental is past or before the point where this makes sense.
    #[error("the rental is {phase}")]
    WrongPhase {
        /// Where it stands.
        phase: &'static str,
    },
    /// There is nobody who could rule.
    #[error("the rental's quote names no arbiter")]
    NoArbiter,
    /// The chain does not show the rental open: not yet, or not any more.
    #[error("the chain does not show the rental open")]
    NotOpen,
    /// The order to open is not one for this rental.
    #[error(transparent)]
    Mandate(#[from] crate::mandate::MandateFault),
    /// The voucher is not good.
    #[error(transparent)]
    Voucher(#[from] crate::meter::VoucherFault),
}
