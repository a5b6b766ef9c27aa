//! What a device must be able to do to take part: multiply matrices that follow from a seed, keep the products, and give digests of them.

use super::{
    digest::{Digest, TreeKeys},
    stream::Seed,
};
use crate::cuda::CudaError;

/// One device that has room for its share of the work. Everything else (what is chosen, what is committed to, who is asked) is the same for
/// every device.
pub trait Engine: Send {
    /// Computes a product from its seed and keeps it.
    fn multiply(&mut self, product: u32, seed: Seed) -> Result<(), EngineError>;

    /// The root of the tree over a product's chunks, and the paths to it from some of them.
    fn fold(&mut self, product: u32, keys: &TreeKeys, chunks: &[u32]) -> Result<Folded, EngineError>;

    /// Reads a product from its `first` word on.
    fn read(&mut self, product: u32, first: usize, words: &mut [u32]) -> Result<(), EngineError>;
}

/// What a tree over one product is reduced to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// Its root.
    pub root: Digest,
    /// For each chunk that was asked for, what stands beside its way to the root.
    pub paths: Vec<Vec<Digest>>,
}

/// Why a device cannot do its share.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The memory is not there, or others have it.
    #[error("{device} has no room for {bytes} bytes: free its memory, or offer less of it")]
    NoRoom {
        /// Which device.
        device: String,
        /// How much was asked for.
        bytes: u64,
    },
    /// The card or its driver refused.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The system gave no thread.
    #[error("no thread can be started: raise the limit on processes")]
    Thread(#[from] std::io::Error),
}
