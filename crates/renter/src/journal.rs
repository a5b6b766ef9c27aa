//! What happened in a run, in order, for whoever watches: a bounded list that any number of clients read from any point, live.
//!
//! A client that follows never misses output: the run waits for it, for a while. What nobody reads is kept up to a bound, the oldest
//! output going first.

use api::types::{RunEvent, RunStep};
use futures::stream::{BoxStream, StreamExt, unfold};
use market::time::UnixMillis;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Output kept for clients: as much as the provider's own ring.
const MAX_BYTES: usize = 16 << 20;
/// How long a run waits for a client that reads too slowly before it goes on without it.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an event costs beside its output.
const EVENT_BYTES: usize = 256;

/// More than the events of any run: a thousand a second for thirty years. JSON's whole numbers reach for eight thousand restarts.
const EVENTS_IN_A_TELLING: u64 = 1 << 40;

#[derive(Default)]
struct Events {
    kept: VecDeque<RunEvent>,
    bytes: usize,
    next: u64,
    ended: bool,
    readers: HashMap<u64, u64>,
    next_reader: u64,
}

impl Events {
    fn first(&self) -> u64 {
        self.kept.front().map_or(self.next, |event| event.number)
    }

    /// Whether dropping the oldest event would take it from a client that has not had it.
    fn somebody_lags(&self) -> bool {
        self.readers.values().any(|at| *at <= self.first())
    }
}

/// See the module. Clones write and read the same run.
#[derive(Clone)]
pub(crate) struct Journal {
    events: Arc<Mutex<Events>>,
    changed: watch::Sender<u64>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self::beginning_at(0)
    }

    /// The journal of a run that earlier starts of this node have told already, this many times. Its numbers are above all of theirs, so
    /// that whoever read those reads this from its beginning.
    pub(crate) fn retold(times: u32) -> Self {
        Self::beginning_at(u64::from(times) * EVENTS_IN_A_TELLING)
    }

    fn beginning_at(number: u64) -> Self {
        let events = Events { next: number, ..Events::default() };
        Self { events: Arc::new(Mutex::new(events)), changed: watch::channel(0).0 }
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step. Waits when it is full and a client has yet to read the oldest.
    pub(crate) async fn push(&self, step: RunStep) {
        let cost = EVENT_BYTES + if let RunStep::Log { data, .. } = &step { data.len() } else { 0 };
        let mut changes = self.changed.subscribe();
        let room = async { while self.is_full_for_a_reader(cost) && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(PATIENCE, room).await.is_err() {
            // they see a hole in the numbers
            self.lock().readers.clear();
        }
        {
            let mut events = self.lock();
            let number = events.next;
            events.next += 1;
            events.bytes += cost;
            events.kept.push_back(RunEvent { number, at: UnixMillis::now(), step });
            while events.bytes > MAX_BYTES && events.kept.len() > 1 {
                let Some(event) = events.kept.pop_front() else { break };
                let output = if let RunStep::Log { data, .. } = &event.step { data.len() } else { 0 };
                events.bytes = events.bytes.saturating_sub(EVENT_BYTES + output);
            }
        }
        self.announce();
    }

    fn is_full_for_a_reader(&self, cost: usize) -> bool {
        let events = self.lock();
        events.bytes + cost > MAX_BYTES && events.somebody_lags()
    }

    /// Says that nothing more will come.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.announce();
    }

    /// What it holds in bytes, once nothing more will come.
    pub(crate) fn ended_bytes(&self) -> Option<usize> {
        let events = self.lock();
        events.ended.then_some(events.bytes)
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The events from number `from` on, live, until the run has ended.
    pub(crate) fn read(&self, from: u64) -> BoxStream<'static, RunEvent> {
        let reader = Reader::new(self.clone(), from);
        unfold(reader, |mut reader| async move {
            loop {
                // subscribed before looking, so that nothing is missed in between
                let mut changes = reader.journal.changed.subscribe();
                match reader.next() {
                    Next::Event(event) => return Some((event, reader)),
                    Next::Ended => return None,
                    Next::Later => changes.changed().await.ok()?,
                }
            }
        })
        .boxed()
    }
}

enum Next {
    Event(RunEvent),
    Later,
    Ended,
}

struct Reader {
    journal: Journal,
    number: u64,
    at: u64,
}

impl Reader {
    fn new(journal: Journal, from: u64) -> Self {
        let number = {
            let mut events = journal.lock();
            events.next_reader += 1;
            let number = events.next_reader;
            events.readers.insert(number, from);
            number
        };
        Self { journal, number, at: from }
    }

    fn next(&mut self) -> Next {
        let next = {
            let mut events = self.journal.lock();
            self.at = self.at.max(events.first());
            let index = usize::try_from(self.at - events.first()).unwrap_or(usize::MAX);
            match events.kept.get(index).cloned() {
                Some(event) => {
                    self.at += 1;
                    if let Some(at) = events.readers.get_mut(&self.number) {
                        *at = self.at;
                    }
                    Next::Event(event)
                }
                None if events.ended => Next::Ended,
                None => Next::Later,
            }
        };
        if matches!(next, Next::Event(_)) {
            self.journal.announce();
        }
        next
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.journal.lock().readers.remove(&self.number);
        self.journal.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes: usize) -> RunStep {
        RunStep::Log { stderr: false, seq: 0, offset: 0, data: "x".repeat(bytes) }
    }

    #[tokio::test]
    async fn every_reader_gets_every_event_and_then_the_end() {
        let journal = Journal::new();
        journal.push(RunStep::Started).await;
        let (early, journal2) = (journal.read(0), journal.clone());
        let reading = tokio::spawn(early.map(|event| event.number).collect::<Vec<_>>());
        for _ in 0..9 {
            journal2.push(log(1)).await;
        }
        journal2.end();
        assert_eq!(reading.await.unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(journal.read(7).count().await, 3);
    }

    #[tokio::test]
    async fn whoever_followed_before_a_restart_reads_the_new_telling_from_its_beginning() {
        let journal = Journal::retold(2);
        journal.push(RunStep::Started).await;
        journal.end();
        let numbers: Vec<u64> = journal.read(EVENTS_IN_A_TELLING + 57).map(|event| event.number).collect().await;
        assert_eq!(numbers, [2 * EVENTS_IN_A_TELLING]);
    }

    #[tokio::test]
    async fn a_slow_reader_loses_nothing() {
        let journal = Journal::new();
        let reader = journal.read(0);
        let writer = journal.clone();
        let writing = tokio::spawn(async move {
            for _ in 0..40 {
                writer.push(log(MAX_BYTES / 8)).await;
            }
            writer.end();
        });
        let numbers: Vec<u64> = reader
            .then(|event| async move {
                tokio::task::yield_now().await;
                event.number
            })
            .collect()
            .await;
        writing.await.unwrap();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_nobody_reads_is_bounded() {
        let journal = Journal::new();
        for _ in 0..40 {
            journal.push(log(MAX_BYTES / 8)).await;
        }
        assert!(journal.lock().bytes <= MAX_BYTES);
        journal.end();
        assert!(journal.read(0).count().await < 10);
    }
}
