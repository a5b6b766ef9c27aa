//! What the verifier looks at, which follows from nonces that it keeps to itself until the prover cannot change anything any more.

use super::{digest::CHUNK_WORDS, digest::Digest, stream::Binding, work::Share};

/// Products of each device on which Freivalds' check is made; it costs the verifier most of its time.
pub(super) const SAMPLED_PRODUCTS: u32 = 2;

/// Rows of each that are held against the commitment.
pub(super) const SAMPLED_ROWS: u32 = 2;

/// Chunks of each device that the verifier computes itself: who has left out a tenth of the work or of the memory is caught with
/// probability 1 − 0.9³² = 97 %, who has left out a third with 1 − 2·10⁻⁶.
pub(super) const RECALLED_CHUNKS: u32 = 32;

/// A chunk of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) product: u32,
    pub(super) chunk: u32,
}

/// The products that an opening nonce chooses.
pub(super) fn products(binding: Binding, opening: Digest, share: &Share) -> Vec<u32> {
    (0..SAMPLED_PRODUCTS).map(|number| binding.choice("product", opening, number, share.products)).collect()
}

/// The rows of the number-th of them.
pub(super) fn rows(binding: Binding, opening: Digest, sample: usize, size: u32) -> Vec<u32> {
    let first = sample as u32 * SAMPLED_ROWS;
    (first..first + SAMPLED_ROWS).map(|number| binding.choice("row", opening, number, size)).collect()
}

/// The chunks that a recall nonce chooses.
pub(super) fn places(binding: Binding, recall: Digest, share: &Share, size: u32) -> Vec<Place> {
    let place = |number| Place {
        product: binding.choice("recalled product", recall, number, share.products),
        chunk: binding.choice("recalled chunk", recall, number, chunks(size)),
    };
    (0..RECALLED_CHUNKS).map(place).collect()
}

/// Chunks of one product.
pub(super) fn chunks(size: u32) -> u32 {
    size * chunks_of_row(size)
}

/// Chunks of one row.
pub(super) fn chunks_of_row(size: u32) -> u32 {
    size / CHUNK_WORDS as u32
}
