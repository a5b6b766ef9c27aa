//! The thread that keeps advertisements beyond the life of the process. The swarm's task hands over what changed and never waits for a disk.

use crate::{config::AdStore, counters::Counters};
use libp2p::PeerId;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Changes waiting to be written. A disk that is further behind loses some; they come back with the next refresh.
const QUEUE: usize = 4_096;

enum Change {
    Put { peer: PeerId, seq: u64, raw: Arc<[u8]> },
    Remove { peer: PeerId },
}

/// See the module. Ends when it is dropped and everything is written.
#[derive(Debug)]
pub(crate) struct StoreThread {
    changes: SyncSender<Change>,
    thread: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl StoreThread {
    pub(crate) fn start(store: Arc<dyn AdStore>, counters: Arc<Counters>) -> io::Result<Self> {
        let (changes, queue) = sync_channel(QUEUE);
        let write = move || {
            while let Ok(change) = queue.recv() {
                match change {
                    Change::Put { peer, seq, raw } => store.put(&peer, seq, &raw),
                    Change::Remove { peer } => store.remove(&peer),
                }
            }
        };
        let thread = thread::Builder::new().name("ad-store".to_owned()).spawn(write)?;
        Ok(Self { changes, thread, counters })
    }

    pub(crate) fn put(&self, peer: PeerId, seq: u64, raw: Arc<[u8]>) {
        self.queue(Change::Put { peer, seq, raw });
    }

    pub(crate) fn remove(&self, peer: PeerId) {
        self.queue(Change::Remove { peer });
    }

    fn queue(&self, change: Change) {
        if self.changes.try_send(change).is_err() {
            self.counters.store_dropped.add();
        }
    }

    /// Ends the queue and gives the thread to wait for.
    pub(crate) fn close(self) -> JoinHandle<()> {
        self.thread
    }
}
