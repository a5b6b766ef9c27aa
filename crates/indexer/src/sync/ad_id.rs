//! How an advertisement is named in a reconciliation. Both sides must come to the same name from what they hold, and whoever hears a name
//! must see whether it is news, before anything is fetched.
//!
//! An advertisement is *whose* and *how new*, so its name is made of the peer and the sequence number alone. Its bytes are left out: anybody
//! can write a signed envelope in other words that carry the same signature, and a name made of the bytes would let one who does so keep
//! honest books apart for ever.

use alloy_primitives::keccak256;
use market::id::PeerId;
use negentropy::{Id, Item};
use std::fmt;
use wire::SYNC_ID_BYTES;

/// How much of each hash is kept. A fingerprint adds up the ids of a range: the second hash makes the sum of one peer's two advertisements
/// differ from that of another's, which sequence numbers alone would not.
const HASH_BYTES: usize = 13;
/// Six bytes of milliseconds last until the year 10889.
const SEQ_BYTES: usize = SYNC_ID_BYTES - 2 * HASH_BYTES;

/// Stands for a peer in the names of its advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; HASH_BYTES]);

impl Tag {
    /// The tag of a peer.
    pub fn of(peer: &PeerId) -> Self {
        let hash = keccak256(peer.to_bytes());
        Self(std::array::from_fn(|at| hash[at]))
    }
}

/// The name of an advertisement: its peer's tag, a hash of peer and sequence number, and the sequence number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdId([u8; SYNC_ID_BYTES]);

impl AdId {
    /// The name of the advertisement of `peer` with this sequence number.
    pub fn new(peer: &PeerId, seq: u64) -> Self {
        let (Tag(tag), seq) = (Tag::of(peer), seq.to_be_bytes());
        let mixed = keccak256([&peer.to_bytes()[..], &seq].concat());
        let mut id = [0; SYNC_ID_BYTES];
        id[..HASH_BYTES].copy_from_slice(&tag);
        id[HASH_BYTES..2 * HASH_BYTES].copy_from_slice(&mixed[..HASH_BYTES]);
        id[2 * HASH_BYTES..].copy_from_slice(&seq[seq.len() - SEQ_BYTES..]);
        Self(id)
    }

    /// A name as it came from outside. Whether anything is called so remains to be seen.
    pub fn from_bytes(bytes: [u8; SYNC_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; SYNC_ID_BYTES] {
        self.0
    }

    /// Whose it is.
    pub fn tag(&self) -> Tag {
        Tag(std::array::from_fn(|at| self.0[at]))
    }

    /// The sequence number it claims.
    pub fn seq(&self) -> u64 {
        self.0[2 * HASH_BYTES..].iter().fold(0, |seq, byte| seq << 8 | u64::from(*byte))
    }

    /// As an item of the set.
    pub(super) fn item(&self) -> Item {
        Item::with_timestamp_and_id(self.seq(), Id::from_byte_array(self.0))
    }
}

impl From<Id> for AdId {
    fn from(id: Id) -> Self {
        Self(id.to_bytes())
    }
}

impl fmt::Debug for AdId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdId({:02x?}… at {})", &self.0[..4], self.seq())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::fixtures::peer as numbered_peer;

    #[test]
    fn a_name_says_whose_and_how_new_and_nothing_else() {
        let (peer, other) = (numbered_peer(1), numbered_peer(2));
        let id = AdId::new(&peer, 1_767_225_600_123);
        assert_eq!((id.tag(), id.seq()), (Tag::of(&peer), 1_767_225_600_123));
        assert_eq!(AdId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.item().timestamp, id.seq());
        let newer = AdId::new(&peer, 1_767_225_600_124);
        assert_eq!(newer.tag(), id.tag());
        assert_ne!(newer, id);
        assert_ne!(AdId::new(&other, id.seq()).tag(), id.tag());
    }

    #[test]
    fn refreshes_of_two_peers_that_were_swapped_do_not_add_up_to_the_same() {
        let sum = |ids: [AdId; 2]| {
            let [a, b] = ids.map(|id| id.to_bytes());
            let mut carry = 0;
            let mut add = |at: usize| {
                let sum = u16::from(a[at]) + u16::from(b[at]) + carry;
                carry = sum >> 8;
                sum.to_le_bytes()[0]
            };
            std::array::from_fn::<u8, SYNC_ID_BYTES, _>(&mut add)
        };
        let (one, two) = (numbered_peer(1), numbered_peer(2));
        assert_ne!(
            sum([AdId::new(&one, 100), AdId::new(&two, 200)]),
            sum([AdId::new(&one, 200), AdId::new(&two, 100)])
        );
    }
}
