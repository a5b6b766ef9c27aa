//! Identifiers: rentals and devices are 32-byte hashes, peers are libp2p peer ids. All print as people copy them and are read back
//! strictly.

use alloy_primitives::{B256, keccak256};
pub use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The id of a rental: the EIP-712 digest of its quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RentalId(pub B256);

impl RentalId {
    /// How the id is shown to people: `0x` and its first eight hex digits.
    pub fn short(&self) -> String {
        self.0.to_string().chars().take(10).collect()
    }

    /// The first eight hex digits without `0x`, for folder names.
    pub fn hex8(&self) -> String {
        self.0.to_string().chars().skip(2).take(8).collect()
    }

    /// Whether `text`, with or without `0x`, is a prefix of this id. At least four digits are needed to mean anything.
    pub fn matches_prefix(&self, text: &str) -> bool {
        let digits = text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase();
        digits.len() >= MIN_PREFIX_DIGITS && self.0.to_string()[2..].starts_with(&digits)
    }
}

/// The shortest prefix of an id that is accepted: 16 bits, enough to be typed on purpose.
pub const MIN_PREFIX_DIGITS: usize = 4;

impl fmt::Display for RentalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RentalId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError(text.to_owned()))
    }
}

/// An identifier that is not `0x` and 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 0x and 64 hex digits")]
pub struct IdError(pub String);

/// The id of a slot, under which it is exclusive while rented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub B256);

impl DeviceId {
    /// A slot without GPUs is known by its provider and its name.
    pub fn of_named_slot(provider: &PeerId, slot: &str) -> Self {
        Self(keccak256([&provider.to_bytes()[..], slot.as_bytes()].concat()))
    }

    /// A slot with GPUs is known by the cards in it, in whatever order they are listed.
    pub fn of_gpus<'a>(uuids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<&str> = uuids.into_iter().collect();
        sorted.sort_unstable();
        Self(keccak256(sorted.join("\n")))
    }
}

/// Serialises a [`PeerId`] as its base-58 text.
pub mod peer_text {
    use super::PeerId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the peer id as text.
    pub fn serialize<S: Serializer>(peer: &PeerId, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&peer.to_base58())
    }

    /// Reads the peer id from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<PeerId, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A peer for tests, the same for the same number.
#[cfg(test)]
pub(crate) fn numbered_peer(number: u8) -> PeerId {
    libp2p_identity::Keypair::ed25519_from_bytes([number; 32]).unwrap().public().to_peer_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_by_any_prefix_of_four_digits_or_more() {
        let id = RentalId(B256::repeat_byte(0xab));
        assert!(id.matches_prefix("0xabab") && id.matches_prefix("ABABAB"));
        assert!(!id.matches_prefix("aba") && !id.matches_prefix("abac"));
        assert_eq!(id.short(), "0xabababab");
        assert_eq!(id.to_string().parse::<RentalId>().unwrap(), id);
    }

    #[test]
    fn the_order_of_cards_does_not_change_the_device() {
        assert_eq!(DeviceId::of_gpus(["GPU-b", "GPU-a"]), DeviceId::of_gpus(["GPU-a", "GPU-b"]));
        assert_ne!(DeviceId::of_gpus(["GPU-a"]), DeviceId::of_gpus(["GPU-a", "GPU-b"]));
    }
}
