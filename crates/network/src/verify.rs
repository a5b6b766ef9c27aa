//! The verification pool: a few threads of their own that check signatures, so that the swarm's task never does. Its queue is bounded and
//! full means *no*: gossip can be had again, whereas a queue that grows cannot be emptied.

use crate::{
    ad::{self, AdFault, Announced, AnnouncementFault, Bindings, CheckedAd},
    node::{Answered, Exchange, RatingsAnswer, acceptance, given},
    rating::{self, RatingDesk, RatingFormFault, Taking},
};
use libp2p::{
    PeerId,
    gossipsub::{MessageAcceptance, MessageId},
    request_response::ResponseChannel,
};
use market::{class::GpuClass, time::UnixMillis};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;
use wire::proto;

/// Threads. Each checks several thousand announcements a second, where a full indexer at the design's scale sees a few hundred.
const THREADS: usize = 2;
/// Work waiting. At the pace above this is emptied in well under the five seconds gossip waits for a verdict.
const QUEUE: usize = 1_024;
/// Pieces that a thread takes at a time, if so many wait: enough to make little of waking it and of telling the outcome.
const BATCH: usize = 32;

/// A piece of work.
#[derive(Debug)]
pub(crate) enum Job {
    Announcement { id: MessageId, source: PeerId, class: GpuClass, data: Vec<u8> },
    Ads { exchange: Exchange, ads: Vec<Vec<u8>> },
    Rating { id: MessageId, source: PeerId, data: Vec<u8> },
    Ratings { peer: PeerId, request: proto::RatingsRequest, channel: ResponseChannel<RatingsAnswer> },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Verdict {
    Announcement { id: MessageId, source: PeerId, class: GpuClass, result: Result<Announced, AnnouncementFault> },
    Ads { exchange: Exchange, ads: Vec<Result<CheckedAd, AdFault>> },
    Rating { id: MessageId, source: PeerId, acceptance: MessageAcceptance },
    Ratings(Answered),
}

/// Who judges ratings here, if anybody does.
pub(crate) type Desk = Option<Arc<dyn RatingDesk>>;

fn check(job: Job, bindings: &Bindings, desk: &Desk) -> Verdict {
    let now = UnixMillis::now();
    match job {
        Job::Announcement { id, source, class, data } => {
            Verdict::Announcement { id, source, class, result: ad::open_announcement(&data, class, now) }
        }
        Job::Ads { exchange, ads } => {
            Verdict::Ads { exchange, ads: ads.iter().map(|raw| ad::open_with(raw, now, bindings)).collect() }
        }
        Job::Rating { id, source, data } => {
            let acceptance = match rating::open_gossiped(&data, now) {
                Ok(rating) => {
                    desk.as_ref().map_or(MessageAcceptance::Ignore, |desk| acceptance(&desk.take(rating, source)))
                }
                Err(RatingFormFault::Untimely) => MessageAcceptance::Ignore,
                Err(RatingFormFault::Dishonest(_)) => MessageAcceptance::Reject,
            };
            Verdict::Rating { id, source, acceptance }
        }
        Job::Ratings { peer, request, channel } => {
            let (response, publish) =
                desk.as_ref().map_or((None, None), |desk| answer(desk.as_ref(), peer, request, now));
            Verdict::Ratings(Answered { channel, response, publish })
        }
    }
}

/// The desk's answer to a question, and the rating that everybody should hear because of it.
fn answer(
    desk: &dyn RatingDesk,
    peer: PeerId,
    request: proto::RatingsRequest,
    now: UnixMillis,
) -> (Option<proto::RatingsResponse>, Option<Vec<u8>>) {
    use proto::{ratings_request::Request, ratings_response::Response};
    let respond = |response| Some(proto::RatingsResponse { response: Some(response) });
    match request.request {
        None => (None, None),
        Some(Request::Record(request)) => (desk.record(&request).map(Response::Record).and_then(respond), None),
        Some(Request::Give(message)) => {
            let (taking, publish) = match rating::open(message, now) {
                Ok(rating) => {
                    let data = wire::encode(&wire::rating_to_proto(&rating));
                    let taking = desk.take(rating, peer);
                    let publish = (taking == Taking::Kept).then_some(data);
                    (taking, publish)
                }
                Err(RatingFormFault::Untimely) => (Taking::Refused("it is from the future".to_owned()), None),
                Err(RatingFormFault::Dishonest(why)) => (Taking::Forged(why), None),
            };
            (respond(Response::Given(given(taking))), publish)
        }
    }
}

/// Work that waits.
#[derive(Debug, Default)]
struct Waiting {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    queue: VecDeque<Job>,
    closed: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next pieces of work, a fair share of what waits; none when there will be none.
    fn next(&self) -> Vec<Job> {
        let idle = |jobs: &mut Jobs| jobs.queue.is_empty() && !jobs.closed;
        let mut jobs = self.more.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let share = jobs.queue.len().div_ceil(THREADS).min(BATCH);
        jobs.queue.drain(..share).collect()
    }
}

/// The pool. Its threads end when it is dropped and the last piece of work is done.
#[derive(Debug)]
pub(crate) struct Pool {
    waiting: Arc<Waiting>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.waiting.lock().closed = true;
        self.waiting.more.notify_all();
    }
}

impl Pool {
    /// Starts the threads; verdicts go to `verdicts`, and a thread waits while that is full.
    pub(crate) fn start(verdicts: &mpsc::Sender<Vec<Verdict>>, desk: &Desk) -> io::Result<Self> {
        // made first, so that threads that did start end when another does not
        let mut pool = Self { waiting: Arc::default(), threads: Vec::new() };
        let bindings = Arc::new(Bindings::default());
        for number in 0..THREADS {
            let (waiting, verdicts, bindings) = (Arc::clone(&pool.waiting), verdicts.clone(), Arc::clone(&bindings));
            let desk = desk.clone();
            let thread = thread::Builder::new().name(format!("verify-{number}"));
            pool.threads.push(thread.spawn(move || work(&waiting, &verdicts, &bindings, &desk))?);
        }
        Ok(pool)
    }

    /// Queues a piece of work, or gives it back when there is too much.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Box<Job>> {
        self.add(job)?;
        self.waiting.more.notify_one();
        Ok(())
    }

    /// The same for one that may wait until [`Pool::wake`] or until something is submitted.
    pub(crate) fn add(&self, job: Job) -> Result<(), Box<Job>> {
        let mut jobs = self.waiting.lock();
        if jobs.queue.len() >= QUEUE {
            return Err(Box::new(job));
        }
        jobs.queue.push_back(job);
        Ok(())
    }

    /// Has what waits done now.
    pub(crate) fn wake(&self) {
        self.waiting.more.notify_all();
    }

    /// Ends the queue and gives the threads to wait for.
    pub(crate) fn close(mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }
}

fn work(waiting: &Waiting, verdicts: &mpsc::Sender<Vec<Verdict>>, bindings: &Bindings, desk: &Desk) {
    loop {
        let jobs = waiting.next();
        if jobs.is_empty() {
            return;
        }
        let done = jobs.into_iter().map(|job| check(job, bindings, desk)).collect();
        if verdicts.blocking_send(done).is_err() {
            return;
        }
    }
}
