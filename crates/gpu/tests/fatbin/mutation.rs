//! Fixtures with random damage: whatever comes of it is an answer or an error, never a panic.

use super::fixtures;
use gpu::compatibility::{CudaVersion, Device, judge};
use gpu::fatbin::inspect_bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

/// Numbers that programs get wrong.
const AWKWARD: [u64; 10] = [0, 1, 7, 63, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 63];

/// Changes a file here and there, or cuts it, or puts a piece of it elsewhere.
pub(crate) fn damage(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = place(bytes, random);
        match random.random_range(0..16) {
            0 => bytes.truncate(at),
            1 => {
                let from = random.random_range(0..bytes.len());
                let length = random.random_range(0..=64.min(bytes.len() - at.max(from)));
                bytes.copy_within(from..from + length, at);
            }
            2..8 => {
                let width = *[1, 2, 4, 8].choose(random).unwrap();
                let value = AWKWARD.choose(random).unwrap().to_le_bytes();
                for (byte, value) in bytes[at..].iter_mut().zip(&value[..width]) {
                    *byte = *value;
                }
            }
            8..12 => bytes[at] = random.random(),
            _ => bytes[at] ^= 1 << random.random_range(0..8),
        }
    }
}

/// Most of a file is code that nobody reads, so half of the damage goes to where headers are: the beginning, the end with its table of
/// sections, and what follows the magic of a container.
fn place(bytes: &[u8], random: &mut SmallRng) -> usize {
    let last = bytes.len() - 1;
    let near = match random.random_range(0..6) {
        0 => random.random_range(0..64),
        1 => last.saturating_sub(random.random_range(0..2_048)),
        2 => {
            let start = random.random_range(0..=last);
            let magic = super::shape::MAGIC.to_le_bytes();
            let rest = bytes[start..].windows(4).position(|found| found == magic).unwrap_or_default();
            start + rest + random.random_range(0..160)
        }
        _ => random.random_range(0..=last),
    };
    near.min(last)
}

/// Says which damage it was when something panics.
struct Witness<'a>(&'a str, u64);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("damage {} of {}", self.1, self.0);
        }
    }
}

fn damaged(rounds: u64) {
    let files = fixtures();
    let device = Device { name: "the card", sm: 90, cuda: Some(CudaVersion { major: 12, minor: 8 }) };
    let (mut answers, mut errors) = (0_u64, 0_u64);
    for (seed, (name, original)) in (0..rounds).zip(files.iter().cycle()) {
        let _witness = Witness(name, seed);
        let mut bytes = original.clone();
        damage(&mut bytes, &mut SmallRng::seed_from_u64(seed));
        match inspect_bytes(&bytes) {
            Ok(found) => {
                assert!(!judge([&found], &device).reason.is_empty());
                answers += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                errors += 1;
            }
        }
    }
    println!("{rounds} damaged files: {answers} answers, {errors} errors");
    assert!(answers > rounds / 20 && errors > rounds / 20, "the damage reaches both: {answers}, {errors}");
}

#[test]
fn five_thousand_damaged_files_cause_no_panic() {
    damaged(5_000);
}

/// Half a minute with `--release`.
#[test]
#[ignore = "long: run it with --release --ignored when the parsers change"]
fn a_million_damaged_files_cause_no_panic() {
    damaged(1_000_000);
}
