//! Digests that a processor and a card compute alike: SHA-256's compression of words as they lie in memory, over trees of chunks.
//!
//! Everything that is hashed here has a length that both sides know, so nothing is padded; instead of SHA-256's own starting value stands
//! a key, another one for leaves than for nodes, and another one for every challenge. The compression is that of the `sha2` crate.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, compress256, digest::generic_array::GenericArray};
use std::{fmt, str::FromStr};

/// Words of one leaf: a kibibyte, so that a card has hundreds of thousands of leaves to work on at once, and a verifier who computes one
/// again does so in milliseconds.
pub(super) const CHUNK_WORDS: usize = 256;

/// Words that SHA-256 compresses at once.
const BLOCK_WORDS: usize = 16;

/// A digest, a key, or thirty-two random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub(super) [u32; 8]);

/// A text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the 64 hexadecimal digits of 32 bytes")]
pub struct NoDigest;

impl Digest {
    /// What stands in a tree where there is nothing.
    const NOTHING: Self = Self([0; 8]);

    /// SHA-256 of what this is for and of each part with its length.
    pub(super) fn of(purpose: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in [purpose.as_bytes()].iter().chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self::from(<[u8; 32]>::from(hash.finalize()))
    }

    /// The bytes, in the order in which they are written.
    pub fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// A number below `bound`. What is left over of 2³² favours some numbers by less than one part in four thousand at the largest bound.
    pub(super) fn below(self, bound: u32) -> u32 {
        ((u64::from(self.0[0]) * u64::from(bound)) >> 32) as u32
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        let mut words = [0; 8];
        for (to, word) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *to = word.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        Self(words)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, "{word:08x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoDigest);
        }
        let mut words = [0; 8];
        for (number, word) in words.iter_mut().enumerate() {
            *word = u32::from_str_radix(&text[number * 8..][..8], 16).map_err(|_| NoDigest)?;
        }
        Ok(Self(words))
    }
}

impl TryFrom<String> for Digest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The keys of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeKeys {
    /// Where the compression of a leaf starts.
    pub leaf: Digest,
    /// Where the compression of two nodes starts.
    pub node: Digest,
}

impl TreeKeys {
    pub(super) fn of(purpose: &str, parts: &[&[u8]]) -> Self {
        let key = Digest::of(purpose, parts).bytes();
        Self { leaf: Digest::of("leaf", &[&key]), node: Digest::of("node", &[&key]) }
    }

    /// The digest of one chunk.
    pub(super) fn leaf(&self, chunk: &[u32]) -> Digest {
        compress(self.leaf, chunk)
    }

    fn node(&self, left: Digest, right: Digest) -> Digest {
        let mut words = [0; BLOCK_WORDS];
        words[..8].copy_from_slice(&left.0);
        words[8..].copy_from_slice(&right.0);
        compress(self.node, &words)
    }

    /// The root of the tree over whole chunks, a power of two of them.
    pub(super) fn root(&self, words: &[u32]) -> Digest {
        Tree::new(self, words.chunks_exact(CHUNK_WORDS).map(|chunk| self.leaf(chunk)).collect()).root()
    }

    /// The root to which a path leads that begins at the given place of the lowest level.
    pub(super) fn climb(&self, from: Digest, place: u32, path: &[Digest]) -> Digest {
        let step = |(digest, place): (Digest, u32), sibling: &Digest| {
            let (left, right) = if place & 1 == 0 { (digest, *sibling) } else { (*sibling, digest) };
            (self.node(left, right), place >> 1)
        };
        path.iter().fold((from, place), step).0
    }
}

/// SHA-256's compression of whole blocks of words, from a starting value of our own.
fn compress(key: Digest, words: &[u32]) -> Digest {
    let mut state = key.0;
    for block in words.chunks_exact(BLOCK_WORDS) {
        let mut bytes = GenericArray::default();
        for (to, word) in bytes.chunks_exact_mut(4).zip(block) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        compress256(&mut state, &[bytes]);
    }
    Digest(state)
}

/// A whole tree over leaves that are filled up to a power of two.
pub(super) struct Tree {
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    pub(super) fn new(keys: &TreeKeys, mut leaves: Vec<Digest>) -> Self {
        leaves.resize(leaves.len().next_power_of_two(), Digest::NOTHING);
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks_exact(2).map(|pair| keys.node(pair[0], pair[1])).collect();
            levels.push(above);
        }
        Self { levels }
    }

    pub(super) fn root(&self) -> Digest {
        self.levels.last().map_or(Digest::NOTHING, |level| level[0])
    }

    /// The digest at a place of the lowest level.
    pub(super) fn leaf(&self, place: u32) -> Digest {
        self.levels[0][place as usize]
    }

    /// What stands beside the way from a leaf to the root. The place must be one of the tree's.
    pub(super) fn path(&self, place: u32) -> Vec<Digest> {
        let below_root = &self.levels[..self.levels.len() - 1];
        below_root.iter().enumerate().map(|(height, level)| level[(place as usize >> height) ^ 1]).collect()
    }
}

/// How long a path is in a tree over so many leaves.
pub(super) fn height(leaves: u32) -> usize {
    leaves.next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u32) -> Vec<Digest> {
        (0..count).map(|number| Digest::of("leaf", &[&number.to_be_bytes()])).collect()
    }

    #[test]
    fn a_path_leads_from_its_own_place_to_the_root_and_from_no_other() {
        let keys = TreeKeys::of("tree", &[]);
        for count in [1, 2, 3, 8, 13] {
            let leaves = leaves(count);
            let tree = Tree::new(&keys, leaves.clone());
            for (place, leaf) in (0..).zip(&leaves) {
                let path = tree.path(place);
                assert_eq!(path.len(), height(count));
                assert_eq!(keys.climb(*leaf, place, &path), tree.root());
                for elsewhere in (0..count).filter(|other| *other != place) {
                    assert_ne!(keys.climb(*leaf, elsewhere, &path), tree.root());
                }
            }
        }
    }

    #[test]
    fn from_sha_256s_own_starting_value_the_compression_is_sha_256() {
        let start =
            Digest([0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19]);
        // "abc", padded as SHA-256 does
        let mut block = [0; 16];
        block[0] = 0x61626380;
        block[15] = 24;
        assert_eq!(compress(start, &block), Digest::from(<[u8; 32]>::from(Sha256::digest(b"abc"))));
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of("text", &[b"a"]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from(digest.bytes()), digest);
        for wrong in ["", "00", &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }
}
