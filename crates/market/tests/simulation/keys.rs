//! The keys of the players, the same in every schedule, and the promises that they sign.

use crate::plan::Plan;
use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use alloy_sol_types::SolStruct;
use libp2p_identity::{Keypair, PeerId};
use market::{
    id::{DeviceId, RentalId},
    money::{Amount, Rate, Token},
    offer::Hardware,
    preemption::{PreemptReason, SignedNotice},
    quote::{MIN_WINDOW, Quote, SignedQuote},
    rental::provider::Rental,
    signed::{Escrow, Ready, SignedRelease, SignedVoucher},
    terms::{Terms, Workload},
    time::UnixMillis,
};
use secp256k1::{Message, SECP256K1, SecretKey};
use std::sync::LazyLock;

/// Where all of it is settled.
pub(crate) const ESCROW: Escrow = Escrow { chain: 1, address: Address::repeat_byte(9) };

static DOMAIN: LazyLock<B256> = LazyLock::new(|| ESCROW.domain().separator());

/// As [`Escrow::digest`], with the domain hashed once: unoptimised, hashing is most of what a schedule costs.
pub(crate) fn digest(statement: &impl SolStruct) -> B256 {
    keccak256([&[0x19, 0x01], DOMAIN.as_slice(), statement.eip712_hash_struct().as_slice()].concat())
}

/// A signing key and its address.
pub(crate) struct Key {
    secret: SecretKey,
    pub(crate) address: Address,
}

impl Key {
    fn numbered(number: u8) -> Self {
        let secret = SecretKey::from_byte_array([number; 32]).expect("a small number is a key");
        let public = secret.public_key(SECP256K1).serialize_uncompressed();
        Self { secret, address: Address::from_raw_public_key(&public[1..]) }
    }

    /// A deterministic signature.
    pub(crate) fn sign(&self, digest: &B256) -> Signature {
        let (parity, bytes) =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret).serialize_compact();
        Signature::from_bytes_and_parity(&bytes, i32::from(parity) == 1)
    }

    pub(crate) fn voucher(&self, id: RentalId, cumulative: Amount) -> SignedVoucher {
        let signature = self.sign(&digest(&SignedVoucher::statement(id, cumulative)));
        SignedVoucher { id, cumulative, signature }
    }

    pub(crate) fn release(&self, id: RentalId, cumulative: Amount) -> SignedRelease {
        let signature = self.sign(&digest(&SignedRelease::statement(id, cumulative)));
        SignedRelease { id, cumulative, signature }
    }

    pub(crate) fn notice(&self, id: RentalId, at: UnixMillis) -> SignedNotice {
        let reason = PreemptReason::OnDemand;
        SignedNotice { id, at, reason, signature: self.sign(&digest(&SignedNotice::statement(id, at, reason))) }
    }

    pub(crate) fn ready(&self, id: RentalId, at: UnixMillis) -> Signature {
        self.sign(&digest(&Ready { id: id.0, at: at.0 }))
    }
}

/// Everybody's keys.
pub(crate) struct Keys {
    /// Signs quotes, acks, releases.
    pub(crate) provider: Key,
    /// Signs vouchers.
    pub(crate) session: Key,
    /// Nobody's: what it signs is forged.
    pub(crate) stranger: Key,
    peers: [PeerId; 2],
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let peer = |number| Keypair::ed25519_from_bytes([number; 32]).expect("any bytes do").public().to_peer_id();
    Keys {
        provider: Key::numbered(1),
        session: Key::numbered(2),
        stranger: Key::numbered(3),
        peers: [peer(1), peer(2)],
    }
});

/// The wallets that are paid and refunded.
pub(crate) const WALLETS: [Address; 2] = [Address::repeat_byte(0x11), Address::repeat_byte(0x22)];

/// The quote of the `number`th rental of a schedule, openable until `expiry`, as the provider holds it.
pub(crate) fn promise(plan: &Plan, number: u8, expiry: u64, block: u64) -> Rental {
    let token = Token { chain: 1, address: Address::repeat_byte(8), symbol: "USD".into(), decimals: 6 };
    let terms = Terms {
        network: "main".into(),
        provider_peer: KEYS.peers[0],
        renter_peer: KEYS.peers[1],
        escrow: ESCROW,
        token: token.clone(),
        offer: "small".into(),
        slot: "small-1".into(),
        hardware: Hardware::default(),
        increment_millis: plan.increment_millis,
        ready_seconds: plan.ready_seconds,
        frozen_seconds: plan.frozen_seconds,
        notice_seconds: plan.notice_seconds,
        workload: Workload::default(),
        continues: None,
        salt: [number; 16],
    };
    let quote = Quote {
        provider: WALLETS[0],
        provider_key: KEYS.provider.address,
        renter: WALLETS[1],
        renter_key: KEYS.session.address,
        token: token.address,
        rate: Rate::new(Amount::new(plan.rate).expect("a rate fits")),
        min_deposit: Amount::ZERO,
        max_seconds: plan.rental_seconds + plan.ready_seconds,
        window: MIN_WINDOW,
        expiry: u32::try_from(expiry).expect("before 2106"),
        arbiter: Address::ZERO,
        device: DeviceId(B256::repeat_byte(7)),
        spec: keccak256([number]),
    };
    let unsigned = Signature::new(U256::ZERO, U256::ZERO, false);
    let mut rental = Rental::new(SignedQuote { escrow: ESCROW, quote, signature: unsigned }, terms, no_bytes(), block);
    rental.quote.signature = KEYS.provider.sign(&rental.id.0);
    rental
}

/// The bytes behind `spec`: nobody here reads them.
pub(crate) const fn no_bytes() -> Bytes {
    Bytes::new()
}
