//! What an indexer counts for its owner.

use std::sync::atomic::{AtomicU64, Ordering};

/// One count, or a number that goes up and down.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    pub(crate) fn add(&self, n: u64) {
        // read for graphs; orders nothing
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted, since the indexer started.
#[derive(Debug, Default)]
pub struct Figures {
    /// Records of the book that could not be read at the start.
    pub corrupt: Figure,
    /// Changes of the book that were written.
    pub written: Figure,
    /// Changes that the disk would not take.
    pub unwritten: Figure,
    /// Searches answered over the peer protocol and HTTP.
    pub searches: Figure,
    /// Searches that were refused because they could not be read or asked too much.
    pub refused: Figure,
    /// HTTP requests turned away because their address sent too many.
    pub limited: Figure,
    /// HTTP answers that repeated nothing, since the client had them already.
    pub unchanged: Figure,
    /// Clients that follow the book now.
    pub followers: Figure,
    /// Clients that followed the book too slowly, and were let go.
    pub lagging: Figure,
}
