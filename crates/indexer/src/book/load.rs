//! Reading the book at the start. Whatever is on disk was checked before it was written, nobody else writes there, and RocksDB has its own
//! checksums: signatures are not checked again, which is most of the work, and the rest is shared among threads. A record that cannot be
//! read is left out, counted and reported; its provider is heard of again with its next refresh.

use super::{Ads, ByClass, ByExpiry, ByUpdate, DiskBook, Kept, Mark, Peer, Shelf};
use crate::figures::Figures;
use market::{book::Book, id::PeerId, time::UnixMillis};
use network::ad::{self, CheckedAd};
use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};
use store::{Store, StoreError, crash_point};

/// The most threads that read: beyond that the one that fills the book is the slowest.
const MAX_READERS: usize = 4;
/// Records handed over at once.
const PORTION: usize = 256;
/// Portions that are read ahead: a few mebibytes.
const MAX_AHEAD: usize = 8;

/// What came of reading the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Advertisements that still hold.
    pub ads: usize,
    /// Those that were over, and are forgotten.
    pub over: usize,
    /// Records that could not be read, and are forgotten.
    pub corrupt: usize,
}

/// A record, and when it was taken; `None` for one that cannot be read.
type Opened = (PeerId, Option<(u64, CheckedAd)>);

impl DiskBook {
    /// Opens the book of a store: the disk's side of it, what an earlier run has kept as a book in memory, and what came of that. Blocks
    /// for seconds when there is much.
    pub fn open(store: Store, figures: Arc<Figures>, now: UnixMillis) -> Result<(Self, Book, Loaded), StoreError> {
        let mut loaded = Loaded { over: forget_over(&store, now)?, ..Loaded::default() };
        let (mut book, mut shelf, mut unfit) = (Book::new(), Shelf::default(), Vec::new());
        shelf.last = store.get::<Mark>(&())?.map_or(0, |mark| mark.0);
        read(&store, now, |(peer, opened)| {
            let Some((updated_at, CheckedAd { raw, ad })) = opened else {
                loaded.corrupt += 1;
                return unfit.push(peer);
            };
            let Some(entry) = book.insert(raw, &ad, now).ok().and_then(|_| book.get(&peer)) else {
                loaded.over += 1;
                return unfit.push(peer);
            };
            let (seq, expires, classes) = (entry.seq, entry.expires, Arc::clone(&entry.classes));
            loaded.ads += 1;
            shelf.last = shelf.last.max(updated_at);
            shelf.kept.insert(peer, Kept { seq, updated_at, expires, classes });
        })?;
        if loaded.corrupt > 0 {
            tracing::warn!(records = loaded.corrupt, "records of the book could not be read and are forgotten");
        }
        figures.corrupt.add(loaded.corrupt as u64);
        crash_point("indexer", "book", "read");
        forget(&store, &unfit, &shelf)?;
        crash_point("indexer", "book", "loaded");
        Ok((Self::new(store, shelf, figures), book, loaded))
    }
}

/// Forgets what ended while nobody looked, without reading it.
fn forget_over(store: &Store, now: UnixMillis) -> Result<usize, StoreError> {
    let (mut batch, mut over) = (store.batch(), 0);
    for row in store.scan::<ByExpiry>(..)? {
        let (row @ (expires, peer), ()) = row?;
        if expires > now.0 {
            break;
        }
        batch.delete::<Ads>(&peer)?;
        batch.delete::<ByExpiry>(&row)?;
        if let Some(kept) = store.get::<Ads>(&peer).ok().flatten() {
            batch.delete::<ByUpdate>(&kept.updated_at)?;
        }
        over += 1;
    }
    batch.commit()?;
    Ok(over)
}

/// Reads every record on a few threads, and gives them to `take` on this one.
fn read(store: &Store, now: UnixMillis, mut take: impl FnMut(Opened)) -> Result<(), StoreError> {
    let mut peers = Vec::new();
    for row in store.scan::<ByUpdate>(..)? {
        match row {
            Ok((_, Peer(peer))) => peers.push(peer),
            Err(error) => tracing::warn!(%error, "an entry of the book's index cannot be read"),
        }
    }
    // in the order of the table, so that neighbours are found in one block
    peers.sort_unstable_by_key(|peer| peer.to_bytes());
    peers.dedup();
    let readers = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_READERS);
    let (opened, records) = sync_channel(MAX_AHEAD);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..readers {
            let (opened, next, peers) = (opened.clone(), &next, &peers);
            scope.spawn(move || read_portions(store, now, peers, next, &opened));
        }
        drop(opened);
        records.into_iter().flatten().for_each(&mut take);
    });
    Ok(())
}

fn read_portions(
    store: &Store,
    now: UnixMillis,
    peers: &[PeerId],
    next: &AtomicUsize,
    opened: &SyncSender<Vec<Opened>>,
) {
    loop {
        let from = next.fetch_add(PORTION, Ordering::Relaxed);
        let Some(portion) = peers.get(from..peers.len().min(from + PORTION)).filter(|portion| !portion.is_empty())
        else {
            return;
        };
        // fails only when the one that fills the book has gone
        if opened.send(portion.iter().map(|peer| (*peer, open(store, peer, now))).collect()).is_err() {
            return;
        }
    }
}

fn open(store: &Store, peer: &PeerId, now: UnixMillis) -> Option<(u64, CheckedAd)> {
    let told = |error: &dyn std::fmt::Display| tracing::warn!(%peer, %error, "a record of the book cannot be read");
    let record = store.get::<Ads>(peer).inspect_err(|error| told(error)).ok()??;
    let opened = ad::open_kept(record.raw, now).inspect_err(|fault| told(fault)).ok()?;
    (opened.ad.peer == *peer).then_some((record.updated_at, opened))
}

/// Removes the records that are of no use, and every row of an index that leads nowhere.
fn forget(store: &Store, unfit: &[PeerId], shelf: &Shelf) -> Result<(), StoreError> {
    let mut batch = store.batch();
    for peer in unfit {
        batch.delete::<Ads>(peer)?;
    }
    for (updated_at, Peer(peer)) in store.scan::<ByUpdate>(..)?.flatten() {
        if shelf.kept.get(&peer).is_none_or(|kept| kept.updated_at != updated_at) {
            batch.delete::<ByUpdate>(&updated_at)?;
        }
    }
    for (row, ()) in store.scan::<ByExpiry>(..)?.flatten() {
        if shelf.kept.get(&row.1).is_none_or(|kept| kept.expires.0 != row.0) {
            batch.delete::<ByExpiry>(&row)?;
        }
    }
    for (row, ()) in store.scan::<ByClass>(..)?.flatten() {
        let offers = |kept: &Kept| kept.classes.iter().any(|class| class.name() == row.0);
        if !shelf.kept.get(&row.1).is_some_and(offers) {
            batch.delete::<ByClass>(&row)?;
        }
    }
    batch.commit()
}
