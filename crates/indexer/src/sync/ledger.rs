//! The inventory as its users share it: the network's task writes down every change of the book as it happens, reconciliations read.

use super::{
    ad_id::AdId,
    inventory::{Inventory, View},
};
use market::time::UnixMillis;
use network::{BookObserver, PeerId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module. Given to the network as its observer before it starts, so that nothing is missed.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Inventory>);

impl Ledger {
    /// An empty one, for an empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// The inventory, for as long as it takes to look something up. Making a picture of a full book takes a few milliseconds.
    pub(super) fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self, at: UnixMillis) -> View {
        self.inventory().view(at)
    }

    pub(super) fn is_news(&self, id: &AdId, now: UnixMillis) -> bool {
        self.inventory().is_news(id, now)
    }
}

impl BookObserver for Ledger {
    fn put(&self, peer: &PeerId, seq: u64, expires: UnixMillis) {
        self.inventory().put(*peer, seq, expires);
    }

    fn removed(&self, peer: &PeerId) {
        self.inventory().remove(peer);
    }
}
