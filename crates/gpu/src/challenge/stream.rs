//! What everything in a challenge is made from: numbers that follow from the nonce, the parties, the device and the product before, and
//! from nothing else. The same arithmetic stands in the kernels for cards.

use super::{
    digest::{Digest, TreeKeys},
    work::{Parties, Share, Work},
};

/// The key of one matrix.
pub type Key = [u32; 4];

/// Odd numbers without a pattern, of the well-tried hashes "murmur3" and "lowbias32".
pub(super) const MULTIPLIERS: [u32; 3] = [0x85eb_ca6b, 0x7feb_352d, 0x846c_a68b];

/// What the two factors of one product are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The key of the left factor.
    pub left: Key,
    /// The key of the right factor.
    pub right: Key,
}

/// One word of a matrix: a hash of its place, row by row, under the matrix's key. Bijective in the place, and every bit of the place and of
/// the key reaches every bit of the word.
#[inline(always)]
fn word(key: Key, place: u32) -> u32 {
    let mut word = (place ^ key[0]).wrapping_mul(MULTIPLIERS[0]);
    word = (word ^ (word >> 16)).wrapping_add(key[1]).wrapping_mul(MULTIPLIERS[1]);
    word = (word ^ (word >> 15) ^ key[2]).wrapping_mul(MULTIPLIERS[2]);
    (word ^ (word >> 16)).wrapping_add(key[3])
}

/// Writes the words of a matrix from one place on.
#[inline(always)]
pub(crate) fn fill(key: Key, first: u32, words: &mut [u32]) {
    for (place, to) in (first..).zip(words) {
        *to = word(key, place);
    }
}

/// What binds a share of the work to one challenge: nonce, both parties, the device, and how much it was asked to do.
#[derive(Clone, Copy)]
pub(super) struct Binding([u8; 32]);

impl Binding {
    pub(super) fn new(parties: &Parties, work: &Work, share: &Share) -> Self {
        let device = share.device.to_string();
        let parts: [&[u8]; 6] = [
            &parties.nonce().bytes(),
            parties.renter().as_bytes(),
            parties.provider().as_bytes(),
            device.as_bytes(),
            &work.size().to_be_bytes(),
            &share.products.to_be_bytes(),
        ];
        Self(Digest::of("gpulease challenge 1", &parts).bytes())
    }

    /// The factors of a product, which depend on the whole product before: no product can be begun before the last is done.
    pub(super) fn seed(&self, product: u32, before: Option<Digest>) -> Seed {
        let before = before.map_or([0; 32], Digest::bytes);
        let words = Digest::of("factors", &[&self.0, &product.to_be_bytes(), &before]).0;
        let [a, b, c, d, e, f, g, h] = words;
        Seed { left: [a, b, c, d], right: [e, f, g, h] }
    }

    /// The keys of the trees by which the prover commits to what it computed.
    pub(super) fn committed(&self) -> TreeKeys {
        TreeKeys::of("committed", &[&self.0])
    }

    /// The keys of the trees by which it shows that it still has it. Nobody knows them before the opening.
    pub(super) fn recalled(&self, opening: Digest) -> TreeKeys {
        TreeKeys::of("recalled", &[&self.0, &opening.bytes()])
    }

    /// The key of the random vectors of one product.
    pub(super) fn vectors(&self, opening: Digest, product: u32) -> Key {
        let [a, b, c, d, ..] = Digest::of("vectors", &[&self.0, &opening.bytes(), &product.to_be_bytes()]).0;
        [a, b, c, d]
    }

    /// The number-th of the things below `bound` that a nonce chooses.
    pub(super) fn choice(&self, purpose: &str, nonce: Digest, number: u32, bound: u32) -> u32 {
        Digest::of(purpose, &[&self.0, &nonce.bytes(), &number.to_be_bytes()]).below(bound)
    }
}

/// Runs work that the compiler may spread over the wide registers that this processor has. Without them the same is computed more slowly.
#[inline(always)]
pub(crate) fn widely<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the line above asked whether this processor has them.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernels must compute too; a change would make provers of two versions disagree.
    #[test]
    fn the_numbers_are_these() {
        let mut words = [0; 4];
        fill([1, 2, 3, 4], 0, &mut words);
        let by_hand = |place: u64| {
            let m = 1u64 << 32;
            let a = (place ^ 1) * 0x85eb_ca6b % m;
            let b = ((a ^ (a >> 16)) + 2) % m * 0x7feb_352d % m;
            let c = (b ^ (b >> 15) ^ 3) * 0x846c_a68b % m;
            (((c ^ (c >> 16)) + 4) % m) as u32
        };
        assert_eq!(words, [0, 1, 2, 3].map(by_hand));
    }

    #[test]
    fn whatever_differs_in_a_challenge_makes_it_another_one() {
        let work = |size, products| {
            let share = Share { device: "cpu".parse().unwrap(), products };
            (Work::new(size, vec![share.clone()]).unwrap(), share)
        };
        let seed = |nonce, renter: &str, provider: &str, (work, mut share): (Work, Share), device: &str| {
            share.device = device.parse().unwrap();
            let parties = Parties::new([nonce; 32], renter.to_owned(), provider.to_owned()).unwrap();
            Binding::new(&parties, &work, &share).seed(0, None)
        };
        let seeds = [
            seed(1, "a", "b", work(256, 1), "cpu"),
            seed(2, "a", "b", work(256, 1), "cpu"),
            seed(1, "c", "b", work(256, 1), "cpu"),
            seed(1, "a", "c", work(256, 1), "cpu"),
            seed(1, "ab", "", work(256, 1), "cpu"),
            seed(1, "a", "b", work(512, 1), "cpu"),
            seed(1, "a", "b", work(256, 2), "cpu"),
            seed(1, "a", "b", work(256, 1), "GPU-1"),
        ];
        for (number, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..number].contains(seed), "{number}");
        }
    }
}
