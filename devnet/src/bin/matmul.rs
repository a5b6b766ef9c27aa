//! The demonstration's job: a chain of integer matrix products, `X ← X·B + A` modulo 2^61 − 1, from a seed. The same arguments give
//! the same bytes on every machine. Progress goes to standard error; the last matrix and its SHA-256 are left in the working directory.

use sha2::{Digest, Sha256};
use std::{fmt::Write, io, process::ExitCode};

const MODULUS: u64 = (1 << 61) - 1;
/// Progress is told so many times at most, so that the log stays short however many rounds there are.
const REPORTS: u64 = 20;

fn main() -> ExitCode {
    let Some([seed, size, rounds]) = arguments() else {
        eprintln!("usage: matmul --seed N --size N --rounds N");
        return ExitCode::from(2);
    };
    match run(seed, size, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matmul: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<[u64; 3]> {
    let (mut seed, mut size, mut rounds) = (None, None, None);
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let place = match name.as_str() {
            "--seed" => &mut seed,
            "--size" => &mut size,
            "--rounds" => &mut rounds,
            _ => return None,
        };
        *place = Some(words.next()?.parse::<u64>().ok()?);
    }
    Some([seed?, size.filter(|n| (1..=4_096).contains(n))?, rounds?])
}

fn run(seed: u64, size: u64, rounds: u64) -> io::Result<()> {
    let n = size as usize; // at most 4,096, see above
    let mut numbers = Numbers(seed);
    let a: Vec<u64> = (0..n * n).map(|_| numbers.next()).collect();
    let b: Vec<u64> = (0..n * n).map(|_| numbers.next()).collect();
    eprintln!("{n} x {n} integers modulo 2^61 - 1, {rounds} products, seed {seed}");

    let step = rounds.div_ceil(REPORTS).max(1);
    let mut x = a.clone();
    for round in 1..=rounds {
        x = product_plus(&x, &b, &a, n);
        if round % step == 0 || round == rounds {
            eprintln!("product {round} of {rounds}  {:3} %", round * 100 / rounds);
        }
    }

    let bytes: Vec<u8> = x.iter().flat_map(|number| number.to_le_bytes()).collect();
    let digest = Sha256::digest(&bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a string cannot fail
        hex
    });
    std::fs::write("result.bin", &bytes)?;
    std::fs::write("result.sha256", format!("{digest}  result.bin\n"))?;
    println!("{digest}  result.bin");
    Ok(())
}

/// `x·b + c`, all `n` by `n` and row after row. One product is below 2^122, so 32 of them and a remainder stay within 128 bits; then
/// they are reduced.
fn product_plus(x: &[u64], b: &[u64], c: &[u64], n: usize) -> Vec<u64> {
    let mut result = Vec::with_capacity(n * n);
    for row in 0..n {
        let mut sums: Vec<u128> = c[row * n..(row + 1) * n].iter().map(|&number| u128::from(number)).collect();
        for (k, &factor) in x[row * n..(row + 1) * n].iter().enumerate() {
            let factor = u128::from(factor);
            for (sum, &number) in sums.iter_mut().zip(&b[k * n..(k + 1) * n]) {
                *sum += factor * u128::from(number);
            }
            if k % 32 == 31 {
                sums.iter_mut().for_each(|sum| *sum %= u128::from(MODULUS));
            }
        }
        result.extend(sums.into_iter().map(|sum| (sum % u128::from(MODULUS)) as u64)); // below 2^61
    }
    result
}

/// SplitMix64 (Steele, Lea, Flood 2014), reduced to the field.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % MODULUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_that_of_the_schoolbook() {
        let n = 40; // more than the 32 products after which sums are reduced
        let mut numbers = Numbers(7);
        let [a, b, c]: [Vec<u64>; 3] = std::array::from_fn(|_| (0..n * n).map(|_| numbers.next()).collect());
        let got = product_plus(&a, &b, &c, n);
        for (place, number) in got.iter().enumerate() {
            let (row, column) = (place / n, place % n);
            let terms =
                (0..n).map(|k| u128::from(a[row * n + k]) * u128::from(b[k * n + column]) % u128::from(MODULUS));
            let expected = terms.fold(u128::from(c[place]), |sum, term| (sum + term) % u128::from(MODULUS));
            assert_eq!(u128::from(*number), expected);
        }
    }
}
