//! The prover's side: what it does is the same for every kind of device, all of which work at the same time.

use super::{
    digest::{Digest, Tree, TreeKeys, height},
    engine::{Engine, EngineError},
    freivalds,
    message::{Chunk, Commitment, Committed, Located, Opened, Opening, Recalled, Recollection, Row, Sample},
    sampling,
    stream::Binding,
    work::{Device, Parties, Share, Work},
};
use std::{collections::BTreeMap, io, thread, time::Instant};

/// Words of a product that are read from a device at once.
const READ_WORDS: usize = 1 << 22;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// A device cannot do its share.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The renter asked for this before something else.
    #[error("{0} comes before this: follow the order of the protocol")]
    OutOfTurn(&'static str),
}

/// All devices of one challenge.
pub struct Prover {
    work: Work,
    devices: Vec<Worker>,
}

/// One device, and how far it is.
struct Worker {
    share: Share,
    size: u32,
    engine: Box<dyn Engine>,
    committed: Option<Held>,
    opened: Option<Reheld>,
}

/// What a device has committed to.
struct Held {
    binding: Binding,
    tree: Tree,
}

/// The same under the keys of an opening.
struct Reheld {
    keys: TreeKeys,
    tree: Tree,
}

impl Prover {
    /// Opens every device of the work and makes it ready, all at once: `open` makes one that has room for a share.
    pub fn new<Open>(work: Work, open: Open) -> Result<Self, ProverError>
    where
        Open: Fn(&Share, u32) -> Result<Box<dyn Engine>, EngineError> + Sync,
    {
        let mut shares: Vec<Share> = work.shares().to_vec();
        let size = work.size();
        let devices = all_at_once(&mut shares, |share| {
            let engine = open(share, size)?;
            Ok(Worker { share: share.clone(), size, engine, committed: None, opened: None })
        })?;
        Ok(Self { work, devices })
    }

    /// Computes everything, and commits to it.
    pub fn begin(&mut self, parties: &Parties) -> Result<Committed, ProverError> {
        let work = &self.work;
        let commitment = |worker: &mut Worker| worker.begin(Binding::new(parties, work, &worker.share));
        let devices = all_at_once(&mut self.devices, commitment)?;
        Ok(Committed { nonce: parties.nonce(), devices })
    }

    /// Shows what the nonce chooses.
    pub fn open(&mut self, nonce: Digest) -> Result<Opened, ProverError> {
        Ok(Opened { devices: all_at_once(&mut self.devices, |worker| worker.open(nonce))? })
    }

    /// Shows what it still has.
    pub fn recall(&mut self, nonce: Digest) -> Result<Recalled, ProverError> {
        Ok(Recalled { devices: all_at_once(&mut self.devices, |worker| worker.recall(nonce))? })
    }
}

/// Lets one thread each do something to each of these.
fn all_at_once<T: Send, R: Send>(
    these: &mut [T],
    act: impl Fn(&mut T) -> Result<R, ProverError> + Sync,
) -> Result<Vec<R>, ProverError> {
    let act = &act;
    thread::scope(|scope| {
        let threads: Vec<_> = these.iter_mut().map(|this| scope.spawn(move || act(this))).collect();
        let gone = || ProverError::from(EngineError::from(io::Error::other("a device's thread ended early")));
        threads.into_iter().map(|thread| thread.join().map_err(|_| gone())?).collect()
    })
}

impl Worker {
    fn device(&self) -> Device {
        self.share.device.clone()
    }

    fn begin(&mut self, binding: Binding) -> Result<Commitment, ProverError> {
        let started = Instant::now();
        self.opened = None;
        let keys = binding.committed();
        let mut roots: Vec<Digest> = Vec::with_capacity(self.share.products as usize);
        for product in 0..self.share.products {
            self.engine.multiply(product, binding.seed(product, roots.last().copied()))?;
            roots.push(self.engine.fold(product, &keys, &[])?.root);
        }
        let tree = Tree::new(&keys, roots);
        let root = tree.root();
        self.committed = Some(Held { binding, tree });
        Ok(Commitment { device: self.device(), root, worked_millis: started.elapsed().as_millis() as u64 })
    }

    fn open(&mut self, nonce: Digest) -> Result<Opening, ProverError> {
        let Some(held) = self.committed.take() else { return Err(ProverError::OutOfTurn("the computation")) };
        let keys = held.binding.recalled(nonce);
        let products = 0..self.share.products;
        let roots: Result<_, EngineError> =
            products.map(|product| Ok(self.engine.fold(product, &keys, &[])?.root)).collect();
        let tree = Tree::new(&keys, roots?);
        let chosen = sampling::products(held.binding, nonce, &self.share);
        let samples =
            chosen.into_iter().enumerate().map(|(number, product)| self.sample(&held, nonce, number, product));
        let samples = samples.collect::<Result<_, _>>()?;
        let recalled = tree.root();
        self.committed = Some(held);
        self.opened = Some(Reheld { keys, tree });
        Ok(Opening { device: self.device(), samples, recalled })
    }

    fn sample(&mut self, held: &Held, nonce: Digest, number: usize, product: u32) -> Result<Sample, EngineError> {
        let size = self.size as usize;
        let rows = sampling::rows(held.binding, nonce, number, self.size);
        let of_row = sampling::chunks_of_row(self.size);
        let chunks: Vec<u32> = rows.iter().map(|row| row * of_row).collect();
        let folded = self.engine.fold(product, &held.binding.committed(), &chunks)?;
        let rows = rows.iter().zip(folded.paths).map(|(row, path)| {
            let mut words = vec![0; size];
            self.engine.read(product, *row as usize * size, &mut words)?;
            // the row is a tree of its own, so its way begins above it
            Ok(Row { words, path: path[height(of_row)..].to_vec() })
        });
        let rows = rows.collect::<Result<_, EngineError>>()?;
        let image = self.image(held, nonce, product)?;
        Ok(Sample { before: held.before(product), root: held.located(product), image, rows })
    }

    fn image(&mut self, held: &Held, nonce: Digest, product: u32) -> Result<Digest, EngineError> {
        let size = self.size as usize;
        let vectors = freivalds::vectors(held.binding.vectors(nonce, product), size);
        let mut image = Vec::with_capacity(size);
        let mut part = vec![0; READ_WORDS.min(size * size)];
        for first in (0..size * size).step_by(part.len()) {
            self.engine.read(product, first, &mut part)?;
            image.extend(freivalds::image(&part, size, &vectors));
        }
        Ok(freivalds::digest(&image))
    }

    fn recall(&mut self, nonce: Digest) -> Result<Recollection, ProverError> {
        let (Some(held), Some(reheld)) = (&self.committed, &self.opened) else {
            return Err(ProverError::OutOfTurn("the opening"));
        };
        let places = sampling::places(held.binding, nonce, &self.share, self.size);
        let mut wanted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for place in &places {
            wanted.entry(place.product).or_default().push(place.chunk);
        }
        let mut paths = BTreeMap::new();
        for (product, chunks) in &wanted {
            let folded = self.engine.fold(*product, &reheld.keys, chunks)?;
            paths.extend(chunks.iter().map(|chunk| (*product, *chunk)).zip(folded.paths));
        }
        let chunks = places.iter().map(|place| Chunk {
            before: held.before(place.product),
            path: paths.get(&(place.product, place.chunk)).cloned().unwrap_or_default(),
            root: located(&reheld.tree, place.product),
        });
        Ok(Recollection { device: self.share.device.clone(), chunks: chunks.collect() })
    }
}

impl Held {
    fn located(&self, product: u32) -> Located {
        located(&self.tree, product)
    }

    fn before(&self, product: u32) -> Option<Located> {
        product.checked_sub(1).map(|before| self.located(before))
    }
}

fn located(tree: &Tree, place: u32) -> Located {
    Located { digest: tree.leaf(place), path: tree.path(place) }
}
