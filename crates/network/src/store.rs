//! The thread that keeps advertisements beyond the life of the process. The swarm's task hands over what changed and never waits for a disk;
//! what has come while the disk was busy is written together.

use crate::{
    config::{AdChange, AdStore},
    counters::Counters,
};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Changes waiting to be written. A disk that is further behind loses some; they come back with the next refresh.
const QUEUE: usize = 4_096;
/// Changes written together: beyond a few hundred a batch gains nothing, and what is in one is not yet acknowledged.
const MAX_BATCH: usize = 512;

/// See the module. Ends when it is dropped and everything is written.
#[derive(Debug)]
pub(crate) struct StoreThread {
    changes: SyncSender<AdChange>,
    thread: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl StoreThread {
    pub(crate) fn start(store: Arc<dyn AdStore>, counters: Arc<Counters>) -> io::Result<Self> {
        let (changes, queue) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("ad-store".to_owned()).spawn(move || write(&queue, &*store))?;
        Ok(Self { changes, thread, counters })
    }

    pub(crate) fn queue(&self, change: AdChange) {
        if self.changes.try_send(change).is_err() {
            self.counters.store_dropped.add();
        }
    }

    /// Ends the queue and gives the thread to wait for.
    pub(crate) fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

fn write(queue: &Receiver<AdChange>, store: &dyn AdStore) {
    let mut batch = Vec::new();
    while let Ok(change) = queue.recv() {
        batch.push(change);
        batch.extend(queue.try_iter().take(MAX_BATCH - 1));
        store.write(&batch);
        batch.clear();
    }
}
