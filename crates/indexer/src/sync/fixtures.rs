//! What the tests of this module share.

use market::id::PeerId;

/// A peer of its own for each number, made without a key.
pub(super) fn peer(number: u64) -> PeerId {
    // an ed25519 key as libp2p writes it, whole in the peer id
    let mut bytes = vec![0, 36, 8, 1, 18, 32];
    bytes.extend([0; 24]);
    bytes.extend(number.to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap()
}
