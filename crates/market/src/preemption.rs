//! Giving way: interruptible rentals are cheaper, and end when somebody pays more for their slots. When one must give way, to whom, and how
//! it is told.

use crate::{
    id::RentalId,
    money::Rate,
    signed::{Escrow, PreemptNotice, signer_of},
    time::UnixMillis,
};
use alloy_primitives::{Address, Signature};
use serde::{Deserialize, Serialize};
use std::fmt;

/// By how much a bid must be above the one that it replaces, in per cent: less would have two of them outbid each other for ever.
pub const BID_STEP: u32 = 10;
/// The shortest notice that can be promised, in seconds: below it nothing can be saved.
pub const MIN_NOTICE: u32 = 1;

/// Whether a rental at `held` gives way to somebody who asks for its slots with a bid, or without one and so on demand.
pub fn gives_way(held: Rate, bid: Option<Rate>) -> bool {
    bid.is_none_or(|bid| held.percent(100 + BID_STEP).is_some_and(|step| bid >= step))
}

/// Why a rental gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreemptReason {
    /// A higher bid was opened.
    Outbid,
    /// A rental on demand was opened.
    OnDemand,
}

impl PreemptReason {
    /// The number that is signed.
    pub const fn number(self) -> u8 {
        match self {
            Self::Outbid => 1,
            Self::OnDemand => 2,
        }
    }

    /// The reason of a number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Outbid),
            2 => Some(Self::OnDemand),
            _ => None,
        }
    }
}

impl fmt::Display for PreemptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outbid => "a higher bid",
            Self::OnDemand => "a rental on demand",
        })
    }
}

/// The provider's word that a rental is served until a moment and no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNotice {
    /// The rental that gives way.
    pub id: RentalId,
    /// When it ends.
    pub at: UnixMillis,
    /// Why.
    pub reason: PreemptReason,
    /// By the provider's key.
    pub signature: Signature,
}

impl SignedNotice {
    /// The typed data behind the signature.
    pub fn statement(id: RentalId, at: UnixMillis, reason: PreemptReason) -> PreemptNotice {
        PreemptNotice { id: id.0, at: at.0, reason: reason.number() }
    }

    /// Whether `provider_key` signed exactly this at `escrow`.
    pub fn is_signed_by(&self, provider_key: Address, escrow: &Escrow) -> bool {
        signer_of(&escrow.digest(&Self::statement(self.id, self.at, self.reason)), &self.signature)
            == Some(provider_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Amount;

    #[test]
    fn a_bid_gives_way_to_one_a_tenth_above_it_and_to_whoever_pays_the_full_price() {
        let rate = |units| Rate::new(Amount::new(units).unwrap());
        for (bid, expected) in [(Some(1_100), true), (Some(1_099), false), (Some(1_000), false), (None, true)] {
            assert_eq!(gives_way(rate(1_000), bid.map(rate)), expected, "{bid:?}");
        }
        // a tenth of what cannot be divided is rounded up
        assert!(!gives_way(rate(7), Some(rate(7))) && gives_way(rate(7), Some(rate(8))));
    }
}
