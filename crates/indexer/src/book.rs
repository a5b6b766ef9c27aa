//! The book on disk: every advertisement that the network has checked, as its provider signed it, with the moment at which it came and
//! the indexes that it is found by. What is searched is the network's book in memory; this one outlives the process, and says which of it
//! has been acknowledged.
//!
//! An advertisement is *acknowledged* once an answer of this indexer names the moment at which it was taken, its `updated_at`. That number
//! is given when the advertisement is written, so that whatever was acknowledged is there after `kill -9`; what was not comes back with
//! the next refresh. The numbers grow strictly and over restarts: whoever has seen everything up to one has missed nothing before it.

mod load;
mod tables;

pub use load::Loaded;
pub use tables::Ad;
pub(crate) use tables::{Ads, ByClass, ByExpiry, ByUpdate, Mark, Peer};

use crate::figures::Figures;
use market::{class::GpuClass, time::UnixMillis};
use network::{AdChange, AdStore, PeerId};
use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};
use store::{Batch, Json, Store, StoreError, crash_point};
use tokio::sync::broadcast;

/// Changes that somebody who follows the book may be behind: a few seconds at the design's scale, and 64 bytes each.
const MAX_CHANGES_BEHIND: usize = 2_048;

/// What is known of an advertisement without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its sequence number.
    pub seq: u64,
    /// When it was taken, in Unix milliseconds; no two are equal.
    pub updated_at: u64,
    pub(crate) expires: UnixMillis,
    pub(crate) classes: Arc<[GpuClass]>,
}

/// A change of the book that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookChange {
    /// A provider's newest advertisement was taken.
    Taken {
        /// Whose it is.
        peer: PeerId,
        /// Its sequence number.
        seq: u64,
        /// When it was taken.
        updated_at: u64,
    },
    /// A provider's advertisement is over.
    Over {
        /// Whose it was.
        peer: PeerId,
    },
}

/// See the module.
#[derive(Debug)]
pub struct DiskBook {
    store: Store,
    shelf: RwLock<Shelf>,
    changes: broadcast::Sender<BookChange>,
    figures: Arc<Figures>,
}

/// What the disk holds, in short.
#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<PeerId, Kept>,
    /// The last `updated_at` that was given.
    last: u64,
}

impl DiskBook {
    fn new(store: Store, shelf: Shelf, figures: Arc<Figures>) -> Self {
        let (changes, _) = broadcast::channel(MAX_CHANGES_BEHIND);
        Self { store, shelf: RwLock::new(shelf), changes, figures }
    }

    /// When an advertisement was taken; `None` for one that is not, or not yet, on disk.
    pub fn updated_at(&self, peer: &PeerId, seq: u64) -> Option<u64> {
        self.shelf().kept.get(peer).filter(|kept| kept.seq == seq).map(|kept| kept.updated_at)
    }

    /// The last `updated_at` that was given.
    pub fn last(&self) -> u64 {
        self.shelf().last
    }

    /// How many advertisements are on disk.
    pub fn len(&self) -> usize {
        self.shelf().kept.len()
    }

    /// Whether nothing is on disk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes from now on. Whoever falls behind by more than a few thousand is told that it has missed some.
    pub fn watch(&self) -> broadcast::Receiver<BookChange> {
        self.changes.subscribe()
    }

    /// A provider's advertisement as it was signed.
    pub fn get(&self, peer: &PeerId) -> Result<Option<Ad>, StoreError> {
        self.store.get::<Ads>(peer)
    }

    /// Advertisements taken after `since`, the oldest first, at most `limit`.
    pub fn changed_since(&self, since: u64, limit: usize) -> Result<Vec<(PeerId, Ad)>, StoreError> {
        let mut found = Vec::new();
        for row in self.store.scan::<ByUpdate>(since.saturating_add(1)..)?.take(limit) {
            let (_, Peer(peer)) = row?;
            found.extend(self.get(&peer)?.map(|ad| (peer, ad)));
        }
        Ok(found)
    }

    /// Advertisements with an offer in a class, in the order of peers, at most `limit` of those after `after`.
    pub fn of_class(
        &self,
        class: GpuClass,
        after: Option<&PeerId>,
        limit: usize,
    ) -> Result<Vec<(PeerId, Ad)>, StoreError> {
        let (name, mut found) = (class.name().to_owned(), Vec::new());
        let rows = match after {
            None => self.store.scan_prefix::<ByClass, _>(&name)?,
            Some(after) => {
                let after = (name.clone(), *after);
                self.store.scan::<ByClass>((Bound::Excluded(after), Bound::Unbounded))?
            }
        };
        for row in rows.take(limit) {
            let ((class, peer), ()) = row?;
            if class != name {
                break;
            }
            found.extend(self.get(&peer)?.map(|ad| (peer, ad)));
        }
        Ok(found)
    }

    fn shelf(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the last word on each peer, in one batch with the indexes, and says what was written.
    fn commit(&self, changes: &[AdChange], now: UnixMillis) -> Result<Vec<(PeerId, Option<Kept>)>, StoreError> {
        let mut written = Vec::with_capacity(changes.len());
        let mut batch = self.store.batch();
        {
            let shelf = self.shelf();
            let mut last = shelf.last;
            let newest: HashMap<&PeerId, usize> =
                changes.iter().enumerate().map(|(at, change)| (subject(change), at)).collect();
            for (_, change) in changes.iter().enumerate().filter(|(at, change)| newest[subject(change)] == *at) {
                let peer = *subject(change);
                let kept = match change {
                    AdChange::Put { seq, expires, classes, raw, .. } => {
                        last = now.0.max(last + 1);
                        let kept =
                            Kept { seq: *seq, updated_at: last, expires: *expires, classes: Arc::clone(classes) };
                        batch.put::<Ads>(&peer, &Ad { updated_at: last, raw: Arc::clone(raw) })?;
                        Some(kept)
                    }
                    AdChange::Removed { .. } => {
                        batch.delete::<Ads>(&peer)?;
                        None
                    }
                };
                list(&mut batch, &peer, shelf.kept.get(&peer), kept.as_ref())?;
                written.push((peer, kept));
            }
            batch.put::<Mark>(&(), &Json(last))?;
        }
        crash_point("indexer", "ad", "arrived");
        batch.commit()?;
        crash_point("indexer", "ad", "written");
        Ok(written)
    }

    /// Takes note of what is on disk now, and tells those who follow.
    fn acknowledge(&self, written: Vec<(PeerId, Option<Kept>)>) {
        let mut told = Vec::with_capacity(written.len());
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        for (peer, kept) in written {
            match kept {
                Some(kept) => {
                    let Kept { seq, updated_at, .. } = kept;
                    shelf.last = shelf.last.max(updated_at);
                    shelf.kept.insert(peer, kept);
                    told.push(BookChange::Taken { peer, seq, updated_at });
                }
                None => {
                    shelf.kept.remove(&peer);
                    told.push(BookChange::Over { peer });
                }
            }
        }
        drop(shelf);
        for change in told {
            // an error says that nobody follows
            let _ = self.changes.send(change);
        }
    }
}

impl AdStore for DiskBook {
    fn write(&self, changes: &[AdChange]) {
        match self.commit(changes, UnixMillis::now()) {
            Ok(written) => {
                self.figures.written.add(written.len() as u64);
                self.acknowledge(written);
            }
            // not acknowledged, and therefore no promise to anybody: it comes back with the next refresh
            Err(error) => {
                self.figures.unwritten.add(changes.len() as u64);
                tracing::error!(changes = changes.len(), %error, "changes of the book were not written");
            }
        }
    }
}

fn subject(change: &AdChange) -> &PeerId {
    match change {
        AdChange::Put { peer, .. } | AdChange::Removed { peer } => peer,
    }
}

/// Writes the rows of the indexes that change.
fn list(batch: &mut Batch<'_>, peer: &PeerId, before: Option<&Kept>, after: Option<&Kept>) -> Result<(), StoreError> {
    fn classes(kept: Option<&Kept>) -> &[GpuClass] {
        kept.map_or(&[], |kept| &kept.classes)
    }
    if let Some(before) = before {
        batch.delete::<ByUpdate>(&before.updated_at)?;
        batch.delete::<ByExpiry>(&(before.expires.0, *peer))?;
    }
    if let Some(after) = after {
        batch.put::<ByUpdate>(&after.updated_at, &Peer(*peer))?;
        batch.put::<ByExpiry>(&(after.expires.0, *peer), &())?;
    }
    let row = |class: &GpuClass| (class.name().to_owned(), *peer);
    let (left, joined) = (classes(before), classes(after));
    left.iter().filter(|class| !joined.contains(class)).try_for_each(|class| batch.delete::<ByClass>(&row(class)))?;
    joined.iter().filter(|class| !left.contains(class)).try_for_each(|class| batch.put::<ByClass>(&row(class), &()))
}

#[cfg(test)]
mod tests;
