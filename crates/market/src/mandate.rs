//! The renter's order to open a rental in its name, for whoever sends the transaction and pays its gas: by that a renter who holds only
//! a token, and none of the chain's coin, gets in.
//!
//! Nothing in it can be used for anything else: the signature towards the token or Permit2 binds the escrow, the deposit and the quote.
//! In return for the gas the renter pays the first billing increment in advance.

use crate::{
    money::Amount,
    quote::{Quote, SignedQuote},
    signed::SignedVoucher,
};
use alloy_primitives::{Bytes, U256};
use serde::{Deserialize, Serialize};

/// The longest signature of a funding: a smart account's may hold those of several owners.
pub const MAX_FUNDING_SIGNATURE: usize = 4_096;

/// The renter's signature that lets the escrow take the deposit, whoever brings it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Funding {
    /// ERC-3009 `receiveWithAuthorization` by the token itself: its nonce is the rental's id, and it ends with the quote.
    Authorization {
        /// By the renter; of 65 bytes by a plain key, of any length by a smart account.
        signature: Bytes,
    },
    /// Permit2's `permitWitnessTransferFrom` with the quote as witness.
    Permit2 {
        /// Any number that was not used before.
        nonce: U256,
        /// The last second of block time at which it holds.
        deadline: u64,
        /// By the renter; as above.
        signature: Bytes,
    },
}

impl Funding {
    /// The signature.
    pub const fn signature(&self) -> &Bytes {
        match self {
            Self::Authorization { signature } | Self::Permit2 { signature, .. } => signature,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mandate {
    /// What is locked.
    pub deposit: Amount,
    /// How the escrow gets it.
    pub funding: Funding,
    /// The first increment, in advance.
    pub advance: SignedVoucher,
}

/// What is paid in advance: the first billing increment, or the deposit if that is less.
pub fn advance(quote: &Quote, increment_millis: u32, deposit: Amount) -> Amount {
    quote.rate.for_seconds(increment_millis.div_ceil(1_000)).min(deposit)
}

/// Why a mandate is not one for this quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MandateFault {
    /// Outside what the quote allows.
    #[error("the deposit of {deposit} base units is not between {min} and {max}")]
    Deposit {
        /// What was named.
        deposit: Amount,
        /// The quote's least.
        min: Amount,
        /// The price of the whole term.
        max: Amount,
    },
    /// Not the first increment.
    #[error("the advance is {got} base units, the first increment costs {need}")]
    Advance {
        /// What was signed.
        got: Amount,
        /// What is asked.
        need: Amount,
    },
    /// The voucher is for another rental or by another key.
    #[error("the advance is not signed by the rental's session key")]
    Signature,
    /// Coin cannot be taken by a signature.
    #[error("the chain's own coin can only be paid in by its owner")]
    Coin,
    /// Longer than any account's.
    #[error("the funding signature has {0} bytes, at most {MAX_FUNDING_SIGNATURE} are taken")]
    TooLong(usize),
}

impl Mandate {
    /// What can be known of it without the chain.
    pub fn check(&self, quote: &SignedQuote, increment_millis: u32) -> Result<(), MandateFault> {
        let (terms, deposit) = (&quote.quote, self.deposit);
        let (min, max) = (terms.min_deposit, terms.full_price());
        let need = advance(terms, increment_millis, deposit);
        let signed = self.advance.id == quote.id() && self.advance.is_signed_by(terms.renter_key, &quote.escrow);
        let length = self.funding.signature().len();
        match () {
            () if terms.token.is_zero() => Err(MandateFault::Coin),
            () if length > MAX_FUNDING_SIGNATURE => Err(MandateFault::TooLong(length)),
            () if deposit < min || deposit > max || deposit == Amount::ZERO => {
                Err(MandateFault::Deposit { deposit, min, max })
            }
            () if self.advance.cumulative != need => Err(MandateFault::Advance { got: self.advance.cumulative, need }),
            () if !signed => Err(MandateFault::Signature),
            () => Ok(()),
        }
    }
}
