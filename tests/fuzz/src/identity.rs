//! The keys and the moment that every target shares. They are fixed, so that an input means the same today and next year.

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use market::{id::PeerId, signed::Escrow, time::UnixMillis};
use network::identity::Keypair;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::sync::LazyLock;

/// The moment at which everything happens: 2026-01-01.
pub(crate) const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

/// The escrow that everything is for.
pub(crate) const ESCROW: Escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };

/// A provider's peer key.
pub(crate) static PEER_KEY: LazyLock<Keypair> =
    LazyLock::new(|| Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key"));

/// The provider's peer.
pub(crate) fn provider_peer() -> PeerId {
    PEER_KEY.public().to_peer_id()
}

/// The renter's peer.
pub(crate) fn renter_peer() -> PeerId {
    Keypair::ed25519_from_bytes([8; 32]).expect("32 bytes are a key").public().to_peer_id()
}

static SECRET: LazyLock<SecretKey> =
    LazyLock::new(|| SecretKey::from_byte_array([1; 32]).expect("a number below the order"));

/// The one address that signs here, as provider, wallet and session key alike.
pub(crate) fn address() -> Address {
    let public = PublicKey::from_secret_key(SECP256K1, &SECRET).serialize_uncompressed();
    Address::from_slice(&keccak256(&public[1..])[12..])
}

/// A signature by [`address`].
pub(crate) fn sign(digest: &B256) -> Signature {
    let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &SECRET);
    let (recovery, bytes) = signed.serialize_compact();
    let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
    Signature::new(r, s, i32::from(recovery) == 1)
}
