//! A card of NVIDIA as a device: the kernels of `kernels`, products in the card's memory.

use super::{
    digest::{CHUNK_WORDS, Digest, TreeKeys},
    engine::{Engine, EngineError, Folded},
    kernels::{self, THREADS, TILE},
    stream::{Key, Seed},
};
use crate::{
    cuda::{Card, CudaError, Driver, Kernel, Memory},
    inventory::Uuid,
};
use std::sync::Arc;

/// Words of a digest.
const DIGEST_WORDS: usize = 8;

/// Blocks of sixteen words in a chunk, and in two digests.
const CHUNK_BLOCKS: u64 = 16;
const NODE_BLOCKS: u64 = 1;

/// One card.
pub struct CudaEngine {
    card: Arc<Card>,
    generate: Kernel,
    multiply: Kernel,
    digest: Kernel,
    size: u32,
    left: Memory,
    right: Memory,
    keys: Memory,
    levels: [Memory; 2],
    products: Vec<Memory>,
}

impl CudaEngine {
    /// Opens a card, compiles the kernels for it, and takes memory for so many products of that size.
    pub fn new(driver: Arc<Driver>, uuid: &Uuid, size: u32, products: u32) -> Result<Self, EngineError> {
        let words = size as usize * size as usize;
        let card = driver.open(uuid)?;
        let [generate, multiply, digest] = card.compile(&kernels::text(), ["generate", "multiply", "digest"])?;
        let no_room = |error| match error {
            CudaError::NoRoom(_) => {
                let bytes = u64::from(products) * words as u64 * 4;
                EngineError::NoRoom { device: uuid.to_string(), bytes }
            }
            other => other.into(),
        };
        let room = |words| card.allocate(words).map_err(no_room);
        let digests = words / CHUNK_WORDS * DIGEST_WORDS;
        let (left, right, keys) = (room(words)?, room(words)?, room(2 * DIGEST_WORDS)?);
        let levels = [room(digests)?, room(digests)?];
        let products = (0..products).map(|_| room(words)).collect::<Result<_, _>>()?;
        Ok(Self { generate, multiply, digest, size, left, right, keys, levels, products, card })
    }

    fn generate(&self, key: Key, to: &Memory) -> Result<(), CudaError> {
        let [a, b, c, d] = key.map(u64::from);
        let count = to.words() as u32;
        // SAFETY: as `kernels` says; the kernel writes `count` words, which `to` has.
        unsafe {
            self.generate.launch((count.div_ceil(THREADS), 1), THREADS, &[to.address(), a, b, c, d, count.into()])
        }
    }

    /// Digests of so many things that lie behind each other, under the first or second key.
    fn digest(&self, key: u64, from: &Memory, to: &Memory, blocks: u64, count: u32) -> Result<(), CudaError> {
        let key = self.keys.address() + key * DIGEST_WORDS as u64 * 4;
        let parameters = [key, from.address(), to.address(), blocks, count.into()];
        // SAFETY: as `kernels` says; both callers have `count` times `blocks` times sixteen words in `from` and eight in `to`.
        unsafe { self.digest.launch((count.div_ceil(THREADS), 1), THREADS, &parameters) }
    }

    /// Adds what stands beside each place to its path.
    fn siblings(level: &Memory, height: usize, chunks: &[u32], paths: &mut [Vec<Digest>]) -> Result<(), CudaError> {
        for (chunk, path) in chunks.iter().zip(paths) {
            let mut words = [0; DIGEST_WORDS];
            level.read((*chunk as usize >> height ^ 1) * DIGEST_WORDS, &mut words)?;
            path.push(Digest(words));
        }
        Ok(())
    }
}

impl Engine for CudaEngine {
    fn multiply(&mut self, product: u32, seed: Seed) -> Result<(), EngineError> {
        self.generate(seed.left, &self.left)?;
        self.generate(seed.right, &self.right)?;
        let tiles = self.size / TILE;
        let to = &self.products[product as usize];
        let parameters = [self.left.address(), self.right.address(), to.address(), self.size.into()];
        // SAFETY: as `kernels` says; all three have size times size words.
        unsafe { self.multiply.launch((tiles, tiles), THREADS, &parameters) }?;
        Ok(self.card.wait()?)
    }

    fn fold(&mut self, product: u32, keys: &TreeKeys, chunks: &[u32]) -> Result<Folded, EngineError> {
        self.keys.write(0, [keys.leaf.0, keys.node.0].as_flattened())?;
        let mut count = (self.products[product as usize].words() / CHUNK_WORDS) as u32;
        let [mut below, mut above] = self.levels.each_ref();
        self.digest(0, &self.products[product as usize], below, CHUNK_BLOCKS, count)?;
        let mut paths = vec![Vec::new(); chunks.len()];
        let mut height = 0;
        while count > 1 {
            Self::siblings(below, height, chunks, &mut paths)?;
            count /= 2;
            self.digest(1, below, above, NODE_BLOCKS, count)?;
            (below, above) = (above, below);
            height += 1;
        }
        let mut root = [0; DIGEST_WORDS];
        below.read(0, &mut root)?;
        self.card.wait()?;
        Ok(Folded { root: Digest(root), paths })
    }

    fn read(&mut self, product: u32, first: usize, words: &mut [u32]) -> Result<(), EngineError> {
        Ok(self.products[product as usize].read(first, words)?)
    }
}
