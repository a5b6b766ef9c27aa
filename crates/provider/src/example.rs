//! A rental for the tests of this crate: at 100 base units (0.0001 tUSD) a second, for an hour at most.

use alloy_primitives::{Address, B256, Bytes, Signature, U256};
use market::{
    id::{DeviceId, PeerId},
    money::{Amount, Rate, Token},
    offer::Hardware,
    quote::{Quote, SignedQuote},
    rental::{
        Opening,
        provider::{Input, Rental},
    },
    signed::{Escrow, SignedVoucher},
    terms::Terms,
    time::UnixMillis,
};

/// An amount in base units.
pub(crate) fn units(n: u128) -> Amount {
    Amount::new(n).unwrap()
}

/// Promised, and not open.
pub(crate) fn quoted() -> Rental {
    let escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
    let peer = PeerId::random();
    let quote = Quote {
        provider: Address::repeat_byte(2),
        provider_key: Address::repeat_byte(4),
        renter: Address::repeat_byte(1),
        renter_key: Address::repeat_byte(5),
        token: Address::repeat_byte(3),
        rate: Rate::new(units(100_000_000)),
        min_deposit: units(1),
        max_seconds: 3_600,
        window: 900,
        expiry: 60,
        arbiter: Address::ZERO,
        device: DeviceId(B256::repeat_byte(6)),
        spec: B256::repeat_byte(7),
    };
    let terms = Terms {
        network: "devnet-00000000".into(),
        provider_peer: peer,
        renter_peer: peer,
        escrow,
        token: Token { chain: 31_337, address: Address::repeat_byte(3), symbol: "tUSD".into(), decimals: 6 },
        offer: "small".into(),
        slot: "small-0".into(),
        hardware: Hardware::default(),
        increment_millis: 1_000,
        ready_seconds: 60,
        frozen_seconds: 300,
        notice_seconds: 0,
        workload: Default::default(),
        continues: None,
        salt: [1; 16],
    };
    let signature = Signature::new(U256::from(5), U256::from(7), false);
    Rental::new(SignedQuote { escrow, quote, signature }, terms, Bytes::new(), 3)
}

/// Opened in second 20 with 0.09 tUSD, which was heard of at `heard` (Unix milliseconds).
pub(crate) fn opened(heard: u64) -> Rental {
    let mut rental = quoted();
    let opening = Opening { deposit: units(90_000), start: 20, tx: B256::repeat_byte(0x11), block: 4 };
    rental.step(Input::Opened(opening), UnixMillis(heard)).unwrap();
    rental
}

/// A voucher for so many base units, whose signature nobody looks at.
pub(crate) fn covered(rental: &Rental, total: u128) -> SignedVoucher {
    SignedVoucher { id: rental.id, cumulative: units(total), signature: rental.quote.signature }
}
