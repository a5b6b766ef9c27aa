//! A quote: the provider's binding promise to one renter. Its EIP-712 digest is the id of the rental, and the same thirteen
//! fields are what the escrow is opened and closed with.

use crate::{
    id::{DeviceId, RentalId},
    money::{Amount, Rate},
    signed::{self, Escrow, signer_of},
};
use alloy_primitives::{Address, B256, Signature};
use serde::{Deserialize, Serialize};

/// The longest time a quote may wait to be opened, in seconds.
pub const MAX_QUOTE_LIFETIME: u32 = 120;
/// The longest rental: 366 days, the escrow's own limit.
pub const MAX_RENTAL_SECONDS: u32 = 366 * 86_400;
/// The shortest challenge window the escrow accepts, in seconds.
pub const MIN_WINDOW: u32 = 900;
/// The longest challenge window the escrow accepts, in seconds.
pub const MAX_WINDOW: u32 = 604_800;

/// The terms that the escrow knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The provider's payout address: its wallet, or an account that it names.
    pub provider: Address,
    /// The provider's signing key.
    pub provider_key: Address,
    /// Pays, and is refunded.
    pub renter: Address,
    /// The renter's session key.
    pub renter_key: Address,
    /// The token paid in; zero is the chain's coin.
    pub token: Address,
    /// The price of a second.
    pub rate: Rate,
    /// The least deposit worth opening for.
    pub min_deposit: Amount,
    /// The longest the rental can last.
    pub max_seconds: u32,
    /// The challenge window, in seconds.
    pub window: u32,
    /// The last second of block time at which it may be opened.
    pub expiry: u32,
    /// An arbiter, or zero.
    pub arbiter: Address,
    /// The slot, exclusive while rented.
    pub device: DeviceId,
    /// keccak256 of the full terms (see [`crate::terms`]).
    pub spec: B256,
}

impl Quote {
    /// The quote as the escrow's typed data.
    pub fn statement(&self) -> signed::Quote {
        signed::Quote {
            provider: self.provider,
            providerKey: self.provider_key,
            renter: self.renter,
            renterKey: self.renter_key,
            token: self.token,
            rate: self.rate.micro_units().into(),
            minDeposit: self.min_deposit.into(),
            maxSeconds: self.max_seconds,
            window: self.window,
            expiry: self.expiry,
            arbiter: self.arbiter,
            device: self.device.0,
            spec: self.spec,
        }
    }

    /// The id of the rental that this quote opens at `escrow`.
    pub fn id(&self, escrow: &Escrow) -> RentalId {
        RentalId(escrow.digest(&self.statement()))
    }

    /// Who may rule on the rental once its renter has stopped it on chain, if anybody may.
    pub fn named_arbiter(&self) -> Option<Address> {
        Some(self.arbiter).filter(|arbiter| !arbiter.is_zero())
    }

    /// The most the rental can cost.
    pub const fn full_price(&self) -> Amount {
        self.rate.for_seconds(self.max_seconds)
    }
}

/// A quote with its provider's signature, at the escrow it was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedQuote {
    /// Where it may be opened.
    pub escrow: Escrow,
    /// What was agreed.
    pub quote: Quote,
    /// By `quote.provider_key`.
    pub signature: Signature,
}

impl SignedQuote {
    /// The id of the rental it opens.
    pub fn id(&self) -> RentalId {
        self.quote.id(&self.escrow)
    }

    /// Whether the provider's key signed it.
    pub fn is_authentic(&self) -> bool {
        signer_of(&self.id().0, &self.signature) == Some(self.quote.provider_key)
    }
}

/// What a renter asked for and will hold the quote against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The escrow it will pay through.
    pub escrow: Escrow,
    /// Its own wallet.
    pub renter: Address,
    /// Its session key.
    pub renter_key: Address,
    /// The wallet that the offer's provider has bound to its peer: it is paid, or it signs the quote itself.
    pub provider: Address,
    /// The key that the same binding names.
    pub provider_key: Address,
    /// The token of the chosen price.
    pub token: Address,
    /// The advertised rate; the quote may be cheaper, never dearer.
    pub rate: Rate,
    /// The time wanted.
    pub max_seconds: u32,
    /// What the renter is ready to lock.
    pub deposit: Amount,
    /// The shortest challenge window that gives the renter's own deposit a sane return (a client's rule; devnets allow less).
    pub windows: std::ops::RangeInclusive<u32>,
    /// The arbiters that the quote may name; zero among them allows none.
    pub arbiters: Vec<Address>,
    /// keccak256 of the terms that came with the quote, once they were read and found good.
    pub spec: B256,
    /// The latest block's time, in seconds.
    pub block_time: u64,
}

/// Why a quote is not what was asked for. Each variant names the field at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteMismatch {
    /// Signed by another key, or not at all.
    #[error("the quote is not signed by the provider's key")]
    Signature,
    /// For another escrow or chain.
    #[error("the quote is for another escrow: chain {chain}, {address}", chain = .0.chain, address = .0.address)]
    Escrow(Escrow),
    /// A field differs from what was asked.
    #[error("the quote's {field} is {got}, expected {expected}")]
    Field {
        /// The field's name in the quote.
        field: &'static str,
        /// What stands there.
        got: String,
        /// What was asked for.
        expected: String,
    },
    /// Dearer than advertised.
    #[error("the quote's rate is above the advertised one: {got} > {advertised}")]
    Dearer {
        /// The quoted rate, micro-units a second.
        got: Amount,
        /// The advertised rate.
        advertised: Amount,
    },
    /// It can no longer be opened, or for longer than quotes may.
    #[error(
        "the quote's expiry {expiry} does not lie within {MAX_QUOTE_LIFETIME} s after the chain's time {block_time}"
    )]
    Expiry {
        /// Seconds of block time.
        expiry: u32,
        /// Seconds of block time.
        block_time: u64,
    },
}

/// An arbiter as people read it.
fn arbiter_words(arbiter: Address) -> String {
    if arbiter.is_zero() { "none".to_owned() } else { arbiter.to_string() }
}

impl SignedQuote {
    /// Holds the quote against what was asked for: the first difference found, or nothing.
    pub fn check(&self, asked: &Asked) -> Result<(), QuoteMismatch> {
        let q = &self.quote;
        if self.escrow != asked.escrow {
            return Err(QuoteMismatch::Escrow(self.escrow));
        }
        let same = |field, got: String, expected: String| {
            if got == expected { Ok(()) } else { Err(QuoteMismatch::Field { field, got, expected }) }
        };
        same("renter", q.renter.to_string(), asked.renter.to_string())?;
        same("renterKey", q.renter_key.to_string(), asked.renter_key.to_string())?;
        // Payouts go to the wallet that vouches for the peer. Where that wallet signs the quote itself, the quote is its word for whatever
        // account it names, which need not be able to sign: a cold wallet, a Safe, a DAO.
        if asked.provider_key != asked.provider {
            same("provider", q.provider.to_string(), asked.provider.to_string())?;
        }
        same("providerKey", q.provider_key.to_string(), asked.provider_key.to_string())?;
        same("token", q.token.to_string(), asked.token.to_string())?;
        same("maxSeconds", q.max_seconds.to_string(), asked.max_seconds.to_string())?;
        if !asked.arbiters.contains(&q.arbiter) {
            let expected =
                asked.arbiters.iter().map(|arbiter| arbiter_words(*arbiter)).collect::<Vec<_>>().join(" or ");
            return Err(QuoteMismatch::Field { field: "arbiter", got: arbiter_words(q.arbiter), expected });
        }
        same("spec", q.spec.to_string(), asked.spec.to_string())?;
        if !asked.windows.contains(&q.window) {
            let expected = format!("{} to {} seconds", asked.windows.start(), asked.windows.end());
            return Err(QuoteMismatch::Field { field: "window", got: q.window.to_string(), expected });
        }
        if q.min_deposit > asked.deposit {
            let expected = format!("at most {}", asked.deposit);
            return Err(QuoteMismatch::Field { field: "minDeposit", got: q.min_deposit.to_string(), expected });
        }
        if q.rate > asked.rate {
            return Err(QuoteMismatch::Dearer { got: q.rate.micro_units(), advertised: asked.rate.micro_units() });
        }
        let (expiry, latest) = (u64::from(q.expiry), asked.block_time + u64::from(MAX_QUOTE_LIFETIME));
        if expiry < asked.block_time || expiry > latest {
            return Err(QuoteMismatch::Expiry { expiry: q.expiry, block_time: asked.block_time });
        }
        if self.is_authentic() { Ok(()) } else { Err(QuoteMismatch::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    const ESCROW: Escrow = Escrow { chain: 1, address: Address::repeat_byte(9) };
    const WALLET: Address = Address::repeat_byte(1);
    const KEY: Address = Address::repeat_byte(2);
    const SAFE: Address = Address::repeat_byte(6);

    /// A quote of a peer whose wallet has bound `KEY`, and what was asked for.
    fn agreed() -> (Quote, Asked) {
        let quote = Quote {
            provider: WALLET,
            provider_key: KEY,
            renter: Address::repeat_byte(3),
            renter_key: Address::repeat_byte(4),
            token: Address::ZERO,
            rate: Rate::new(Amount::ZERO),
            min_deposit: Amount::ZERO,
            max_seconds: 60,
            window: MIN_WINDOW,
            expiry: 100,
            arbiter: Address::ZERO,
            device: DeviceId(B256::ZERO),
            spec: B256::ZERO,
        };
        let asked = Asked {
            escrow: ESCROW,
            renter: quote.renter,
            renter_key: quote.renter_key,
            provider: quote.provider,
            provider_key: quote.provider_key,
            token: quote.token,
            rate: quote.rate,
            max_seconds: quote.max_seconds,
            deposit: Amount::ZERO,
            windows: MIN_WINDOW..=MAX_WINDOW,
            arbiters: vec![Address::ZERO],
            spec: quote.spec,
            block_time: 90,
        };
        (quote, asked)
    }

    /// The field of a quote that is not as it was asked for.
    fn fault(quote: Quote, asked: &Asked) -> Option<(&'static str, String, String)> {
        // the last thing that is looked at is who signed it, and here nobody did
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        match (SignedQuote { escrow: ESCROW, quote, signature }).check(asked) {
            Err(QuoteMismatch::Signature) => None,
            Err(QuoteMismatch::Field { field, got, expected }) => Some((field, got, expected)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_quote_names_only_whom_the_renter_lets_rule() {
        let [ours, theirs] = [7, 8].map(Address::repeat_byte);
        let arbiter_of = |arbiter, arbiters: &[Address]| {
            let (quote, asked) = agreed();
            let (quote, asked) = (Quote { arbiter, ..quote }, Asked { arbiters: arbiters.to_vec(), ..asked });
            fault(quote, &asked).map(|(field, got, expected)| {
                assert_eq!(field, "arbiter");
                (got, expected)
            })
        };
        assert_eq!(arbiter_of(Address::ZERO, &[Address::ZERO]), None);
        assert_eq!(arbiter_of(ours, &[Address::ZERO, ours]), None);
        assert_eq!(arbiter_of(ours, &[Address::ZERO]), Some((ours.to_string(), "none".to_owned())));
        assert_eq!(arbiter_of(theirs, &[ours]), Some((theirs.to_string(), ours.to_string())));
        assert_eq!(arbiter_of(Address::ZERO, &[ours]), Some(("none".to_owned(), ours.to_string())));
    }

    #[test]
    fn a_hot_key_can_have_only_its_wallet_paid_and_the_wallet_itself_whomever_it_names() {
        let paid_to = |provider, provider_key| {
            let (quote, asked) = agreed();
            let (quote, asked) = (Quote { provider, provider_key, ..quote }, Asked { provider_key, ..asked });
            fault(quote, &asked).map(|(field, ..)| field)
        };
        assert_eq!(paid_to(WALLET, KEY), None);
        assert_eq!(paid_to(SAFE, WALLET), None);
        assert_eq!(paid_to(SAFE, KEY), Some("provider"));
    }
}
