//! The processor as a device: all its cores, wrapping 32-bit arithmetic, products in ordinary memory.

use super::{
    digest::{CHUNK_WORDS, Digest, Tree, TreeKeys},
    engine::{Engine, EngineError, Folded},
    stream::{Key, Seed, fill, widely},
};
use std::thread;

/// Rows and columns of the part of a product whose sums stay in registers: with AVX2, eight of its sixteen.
const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 16;

/// Every core that the sandbox may use.
pub struct CpuEngine {
    size: usize,
    threads: usize,
    left: Vec<u32>,
    right: Vec<u32>,
    products: Vec<u32>,
}

impl CpuEngine {
    /// Takes memory for so many products of that size, and touches it.
    pub fn new(size: u32, products: u32) -> Result<Self, EngineError> {
        Self::with_threads(size, products, thread::available_parallelism()?.get())
    }

    /// The same on fewer cores.
    pub fn with_threads(size: u32, products: u32, threads: usize) -> Result<Self, EngineError> {
        let size = size as usize;
        let room = |words: usize| {
            let mut memory = Vec::new();
            let taken = memory.try_reserve_exact(words);
            taken.map_err(|_| EngineError::NoRoom { device: "cpu".to_owned(), bytes: words as u64 * 4 })?;
            memory.resize(words, 0);
            Ok::<_, EngineError>(memory)
        };
        let (left, right) = (room(size * size)?, room(size * size)?);
        Ok(Self { size, threads, left, right, products: room(size * size * products as usize)? })
    }

    fn product(&self, number: u32) -> &[u32] {
        let words = self.size * self.size;
        &self.products[number as usize * words..][..words]
    }

    /// How many of so many things each thread takes, in whole `step`s.
    fn part(&self, things: usize, step: usize) -> usize {
        things.div_ceil(self.threads).next_multiple_of(step)
    }
}

impl Engine for CpuEngine {
    fn multiply(&mut self, product: u32, seed: Seed) -> Result<(), EngineError> {
        let (size, rows) = (self.size, self.part(self.size, TILE_ROWS));
        generate(seed.left, &mut self.left, rows * size);
        generate(seed.right, &mut self.right, rows * size);
        let words = size * size;
        let sums = &mut self.products[product as usize * words..][..words];
        let right = &self.right;
        thread::scope(|scope| {
            for (left, sums) in self.left.chunks(rows * size).zip(sums.chunks_mut(rows * size)) {
                scope.spawn(move || widely(|| multiply_rows(left, right, sums, size)));
            }
        });
        Ok(())
    }

    fn fold(&mut self, product: u32, keys: &TreeKeys, chunks: &[u32]) -> Result<Folded, EngineError> {
        let words = self.product(product);
        let part = self.part(words.len() / CHUNK_WORDS, 1);
        let mut leaves = vec![Digest([0; 8]); words.len() / CHUNK_WORDS];
        thread::scope(|scope| {
            for (leaves, words) in leaves.chunks_mut(part).zip(words.chunks(part * CHUNK_WORDS)) {
                scope.spawn(move || {
                    for (leaf, chunk) in leaves.iter_mut().zip(words.chunks_exact(CHUNK_WORDS)) {
                        *leaf = keys.leaf(chunk);
                    }
                });
            }
        });
        let tree = Tree::new(keys, leaves);
        Ok(Folded { root: tree.root(), paths: chunks.iter().map(|chunk| tree.path(*chunk)).collect() })
    }

    fn read(&mut self, product: u32, first: usize, words: &mut [u32]) -> Result<(), EngineError> {
        words.copy_from_slice(&self.product(product)[first..][..words.len()]);
        Ok(())
    }
}

/// Writes a whole matrix, each thread a part of it.
fn generate(key: Key, matrix: &mut [u32], part: usize) {
    thread::scope(|scope| {
        for (number, words) in matrix.chunks_mut(part).enumerate() {
            scope.spawn(move || widely(|| fill(key, (number * part) as u32, words)));
        }
    });
}

/// Multiplies some rows with a whole matrix: for each strip of columns all rows. The strip is laid out without gaps first; words that are a
/// power of two apart would drive each other out of the caches.
#[inline(always)]
fn multiply_rows(left: &[u32], right: &[u32], sums: &mut [u32], size: usize) {
    let mut strip = vec![[0; TILE_COLUMNS]; size];
    for column in (0..size).step_by(TILE_COLUMNS) {
        for (part, row) in strip.iter_mut().zip(right.chunks_exact(size)) {
            part.copy_from_slice(&row[column..][..TILE_COLUMNS]);
        }
        let rows = left.chunks_exact(TILE_ROWS * size).zip(sums.chunks_exact_mut(TILE_ROWS * size));
        for (left, sums) in rows {
            let tile = multiply_tile(left, &strip, size);
            for (row, sums) in tile.iter().zip(sums.chunks_exact_mut(size)) {
                sums[column..][..TILE_COLUMNS].copy_from_slice(row);
            }
        }
    }
}

#[inline(always)]
fn multiply_tile(left: &[u32], strip: &[[u32; TILE_COLUMNS]], size: usize) -> [[u32; TILE_COLUMNS]; TILE_ROWS] {
    let mut tile = [[0u32; TILE_COLUMNS]; TILE_ROWS];
    let (first, rest) = left.split_at(size);
    let (second, rest) = rest.split_at(size);
    let (third, fourth) = rest.split_at(size);
    let factors = first.iter().zip(second).zip(third.iter().zip(fourth));
    for (((a, b), (c, d)), right) in factors.zip(strip) {
        for (factor, sums) in [a, b, c, d].into_iter().zip(&mut tile) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = sum.wrapping_add(factor.wrapping_mul(*right));
            }
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::{super::freivalds::expected_words, *};

    #[test]
    fn a_product_is_that_of_the_definition() {
        let seed = Seed { left: [1, 2, 3, 4], right: [5, 6, 7, 8] };
        let mut engine = CpuEngine::new(256, 2).unwrap();
        engine.multiply(1, seed).unwrap();
        for row in [0, 3, 128, 255] {
            let (mut found, mut expected) = ([0; 256], [0; 256]);
            engine.read(1, row * 256, &mut found).unwrap();
            expected_words(seed, 256, row, 0, &mut expected);
            assert_eq!(found, expected, "row {row}");
        }
    }

    #[test]
    fn memory_that_is_not_there_is_refused_and_not_waited_for() {
        let refused = CpuEngine::new(16_384, 1_000_000).err().unwrap();
        assert!(refused.to_string().contains("cpu has no room"), "{refused}");
    }
}
