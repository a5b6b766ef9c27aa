//! The verification pool: a few threads of their own that check signatures, so that the swarm's task never does. Its queue is bounded and
//! full means *no*: gossip can be had again, whereas a queue that grows cannot be emptied.

use crate::{
    ad::{self, AdFault, Announced, AnnouncementFault, Bindings, CheckedAd},
    node::Exchange,
};
use libp2p::{PeerId, gossipsub::MessageId};
use market::{class::GpuClass, time::UnixMillis};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Threads. Each checks several thousand announcements a second, where a full indexer at the design's scale sees a few hundred.
const THREADS: usize = 2;
/// Work waiting. At the pace above this is emptied in well under the five seconds gossip waits for a verdict.
const QUEUE: usize = 1_024;

/// A piece of work.
#[derive(Debug)]
pub(crate) enum Job {
    Announcement { id: MessageId, source: PeerId, class: GpuClass, data: Vec<u8> },
    Ads { exchange: Exchange, ads: Vec<Vec<u8>> },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Verdict {
    Announcement { id: MessageId, source: PeerId, class: GpuClass, result: Result<Announced, AnnouncementFault> },
    Ads { exchange: Exchange, ads: Vec<Result<CheckedAd, AdFault>> },
}

fn check(job: Job, bindings: &Bindings) -> Verdict {
    let now = UnixMillis::now();
    match job {
        Job::Announcement { id, source, class, data } => {
            Verdict::Announcement { id, source, class, result: ad::open_announcement(&data, class, now) }
        }
        Job::Ads { exchange, ads } => {
            Verdict::Ads { exchange, ads: ads.iter().map(|raw| ad::open_with(raw, now, bindings)).collect() }
        }
    }
}

/// The pool. Its threads end when it is dropped and the last piece of work is done.
#[derive(Debug)]
pub(crate) struct Pool {
    jobs: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads; verdicts go to `verdicts`, and a thread waits while that is full.
    pub(crate) fn start(verdicts: &mpsc::Sender<Verdict>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let (queue, bindings) = (Arc::new(Mutex::new(queue)), Arc::new(Bindings::default()));
        let thread = |number| {
            let (queue, verdicts, bindings) = (Arc::clone(&queue), verdicts.clone(), Arc::clone(&bindings));
            thread::Builder::new().name(format!("verify-{number}")).spawn(move || work(&queue, &verdicts, &bindings))
        };
        let threads = (0..THREADS).map(thread).collect::<io::Result<_>>()?;
        Ok(Self { jobs, threads })
    }

    /// Queues a piece of work, or gives it back when there is too much.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Box<Job>> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Box::new(job),
        })
    }

    /// Ends the queue and gives the threads to wait for.
    pub(crate) fn close(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

fn work(queue: &Mutex<Receiver<Job>>, verdicts: &mpsc::Sender<Verdict>, bindings: &Bindings) {
    loop {
        // the lock is held while waiting: whoever waits holds it, and the others wait for the lock instead
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if verdicts.blocking_send(check(job, bindings)).is_err() {
            return;
        }
    }
}
