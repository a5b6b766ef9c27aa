//! Freivalds' check: whether C is the product of A and B, without computing it. For random vectors R it compares C·R with A·(B·R), which
//! takes steps in the square of the size instead of its cube (R. Freivalds, "Probabilistic Machines Can Use Less Running Time", IFIP 1977).
//!
//! All arithmetic wraps at 2³², so processors and cards agree to the bit. That ring has zero divisors, and a difference that lies in the
//! highest bit alone escapes one random vector with probability one half: let 2^k be the highest power of two that divides every entry of a
//! wrong row of C − A·B; its product with a random vector is zero with probability 2^(k−32), at most one half. [`VECTORS`] vectors are
//! independent, so the worst wrong row escapes with probability 2^−8, and one that is wrong in any lower bit with 2^−16 or less.

use super::{
    digest::Digest,
    stream::{Key, Seed, fill, widely},
};

/// Random vectors of one check: as many as one wide register holds.
pub(super) const VECTORS: usize = 8;

/// Rows whose words are made together, and how many words of each at once: two kibibytes, beside sixteen of the vectors.
const ROWS_TOGETHER: usize = 4;
const PIECE: usize = 512;

/// The same entry of every vector.
type Entry = [u32; VECTORS];

/// The random vectors of a check.
pub(super) fn vectors(key: Key, size: usize) -> Vec<Entry> {
    let mut words = vec![0; size * VECTORS];
    fill(key, 0, &mut words);
    words.as_chunks().0.to_vec()
}

/// A row times the vectors.
#[inline(always)]
fn product(row: &[u32], vectors: &[Entry]) -> Entry {
    let mut sums = [0; VECTORS];
    for (factor, entries) in row.iter().zip(vectors) {
        add(&mut sums, *factor, entries);
    }
    sums
}

/// Adds so many times what is in the vectors at one place.
#[inline(always)]
fn add(sums: &mut Entry, factor: u32, entries: &Entry) {
    for (sum, entry) in sums.iter_mut().zip(entries) {
        *sum = u32::wrapping_add(*sum, factor.wrapping_mul(*entry));
    }
}

/// The image of the vectors under rows that follow each other in memory.
pub(super) fn image(rows: &[u32], size: usize, vectors: &[Entry]) -> Vec<Entry> {
    widely(|| rows.chunks_exact(size).map(|row| product(row, vectors)).collect())
}

/// What of an image is sent: the verifier has computed its own, and only asks whether they are the same.
pub(super) fn digest(image: &[Entry]) -> Digest {
    let bytes: Vec<u8> = image.as_flattened().iter().flat_map(|word| word.to_be_bytes()).collect();
    Digest::of("image", &[&bytes])
}

/// The image under a matrix of which only the key is known. Some rows are made together and piece by piece, so that the vectors, half a
/// mebibyte for the largest matrices, are not read from far away for each row.
fn image_of_key(key: Key, size: usize, vectors: &[Entry]) -> Vec<Entry> {
    let mut image = Vec::with_capacity(size + ROWS_TOGETHER);
    let mut pieces = [[0; PIECE]; ROWS_TOGETHER];
    // loops, since an iterator's own functions are compiled for any processor
    widely(|| {
        for first in (0..size).step_by(ROWS_TOGETHER) {
            let mut sums = [[0; VECTORS]; ROWS_TOGETHER];
            for (column, entries) in (0..size).step_by(PIECE).zip(vectors.chunks(PIECE)) {
                for (row, piece) in (first..).zip(&mut pieces) {
                    fill(key, (row * size + column) as u32, &mut piece[..entries.len()]);
                }
                for (at, entry) in entries.iter().enumerate() {
                    for (sums, piece) in sums.iter_mut().zip(&pieces) {
                        add(sums, piece[at], entry);
                    }
                }
            }
            image.extend_from_slice(&sums);
        }
    });
    image.truncate(size);
    image
}

/// The image under the product that a seed asks for.
pub(super) fn expected_image(seed: Seed, size: usize, vectors: &[Entry]) -> Vec<Entry> {
    image_of_key(seed.left, size, &image_of_key(seed.right, size, vectors))
}

/// Some words of one row of the product that a seed asks for, computed as the prover should have.
pub(super) fn expected_words(seed: Seed, size: usize, row: usize, column: usize, words: &mut [u32]) {
    let mut factors = vec![0; size];
    let mut terms = vec![0; words.len()];
    words.fill(0);
    widely(|| {
        fill(seed.left, (row * size) as u32, &mut factors);
        for (number, factor) in factors.iter().enumerate() {
            fill(seed.right, (number * size + column) as u32, &mut terms);
            for (word, term) in words.iter_mut().zip(&terms) {
                *word = word.wrapping_add(factor.wrapping_mul(*term));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 32;
    const SEED: Seed = Seed { left: [1, 2, 3, 4], right: [5, 6, 7, 8] };

    fn honest() -> Vec<u32> {
        let mut words = vec![0; SIZE * SIZE];
        for (number, row) in words.chunks_exact_mut(SIZE).enumerate() {
            expected_words(SEED, SIZE, number, 0, row);
        }
        words
    }

    /// How many of the vectors of many checks a change of one element escapes.
    fn escaped(difference: u32, checks: u32) -> (u32, u32) {
        let mut wrong = honest();
        wrong[5 * SIZE + 7] = wrong[5 * SIZE + 7].wrapping_add(difference);
        let (mut vectors_escaped, mut checks_escaped) = (0, 0);
        for check in 0..checks {
            let random = vectors([check, 77, 78, 79], SIZE);
            let (claimed, expected) = (image(&wrong, SIZE, &random), expected_image(SEED, SIZE, &random));
            vectors_escaped += claimed[5].iter().zip(expected[5]).filter(|(a, b)| **a == *b).count() as u32;
            checks_escaped += u32::from(claimed == expected);
        }
        (vectors_escaped, checks_escaped)
    }

    #[test]
    fn an_honest_product_has_the_expected_image() {
        for key in 0..8 {
            let random = vectors([key, 1, 2, 3], SIZE);
            assert_eq!(image(&honest(), SIZE, &random), expected_image(SEED, SIZE, &random));
        }
    }

    #[test]
    fn the_worst_wrong_element_escapes_half_of_the_vectors_and_one_check_in_two_hundred_and_fifty_six() {
        let (vectors, checks) = escaped(1 << 31, 4_096);
        // 16,384 expected of 32,768 with a deviation of 90, and 16 of 4,096 with one of 4: five deviations each
        assert!((15_930..=16_840).contains(&vectors), "{vectors} of 32768 vectors");
        assert!((1..=36).contains(&checks), "{checks} of 4096 checks");
    }

    #[test]
    fn a_wrong_element_of_any_other_bit_is_caught_with_the_stated_probability() {
        // at most a quarter of the vectors, so one check in 65,536 at worst
        for bit in [0, 8, 16, 30] {
            let (vectors, checks) = escaped(1 << bit, 512);
            assert!(vectors <= 4_096 / 4 + 150 && checks <= 1, "bit {bit}: {vectors} vectors, {checks} checks");
        }
    }

    /// The arithmetic of the verifier for the largest matrices that are asked for, whose products would take a processor a quarter of an hour.
    #[test]
    #[ignore = "prints figures; meaningful in a release build on a quiet machine"]
    fn figures_of_the_largest_check() {
        let size = 16_384;
        for turn in 0..5 {
            let random = vectors([turn, 77, 78, 79], size);
            let started = std::time::Instant::now();
            let image = std::hint::black_box(expected_image(SEED, size, &random));
            let freivalds = started.elapsed();
            assert_eq!(image.len(), size);
            let started = std::time::Instant::now();
            let mut words = [0; super::super::digest::CHUNK_WORDS];
            for chunk in 0..32 {
                expected_words(SEED, size, chunk * 500, chunk * 256, &mut words);
                std::hint::black_box(&words);
            }
            println!("n {size}: Freivalds' check of one product {freivalds:.2?}, 32 chunks {:.2?}", started.elapsed());
        }
    }
}
