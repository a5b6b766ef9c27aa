//! The main job's output: numbered records in a ring of bounded size. A reader that comes too late is told which numbers it missed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use agent::protocol::{Record, Stream};

use crate::{lock, now_ms};

/// What one record costs beside its bytes, counted against the ring so that a job printing single bytes cannot outgrow it.
const RECORD_COST: usize = 64;

/// The ring.
pub(crate) struct Log {
    inner: Mutex<Inner>,
    grown: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Inner {
    records: VecDeque<Record>,
    cost: usize,
    next: u64,
    closed: bool,
}

/// What a reader gets at once.
pub(crate) struct Batch {
    /// The first number still there, when the asked-for one is gone.
    pub(crate) first: u64,
    /// Records in order.
    pub(crate) records: Vec<Record>,
    /// Nothing will come after these.
    pub(crate) last: bool,
}

impl Log {
    /// A ring of this many bytes.
    pub(crate) fn new(capacity: usize) -> Log {
        Log { inner: Mutex::new(Inner::default()), grown: Condvar::new(), capacity }
    }

    /// Adds what a stream has written, dropping the oldest records over the capacity.
    pub(crate) fn push(&self, stream: Stream, bytes: Vec<u8>) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        let record = Record { seq: inner.next, stream, time_ms: now_ms(), bytes };
        inner.next += 1;
        inner.cost += record.bytes.len() + RECORD_COST;
        inner.records.push_back(record);
        while inner.cost > self.capacity && inner.records.len() > 1 {
            if let Some(dropped) = inner.records.pop_front() {
                inner.cost -= dropped.bytes.len() + RECORD_COST;
            }
        }
        self.grown.notify_all();
    }

    /// Nothing will be added any more.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.grown.notify_all();
    }

    /// Up to `limit` bytes of records from a number on. Waits up to `patience` for the first of them.
    pub(crate) fn read(&self, from: u64, limit: usize, patience: Duration) -> Batch {
        let mut inner = lock(&self.inner);
        if inner.next <= from && !inner.closed && !patience.is_zero() {
            let waited = self.grown.wait_timeout_while(inner, patience, |inner| inner.next <= from && !inner.closed);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let oldest = inner.records.front().map_or(inner.next, |record| record.seq);
        let first = from.max(oldest);
        let skip = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        let mut room = limit;
        let fits = |record: &&Record| {
            let fits = room > 0;
            room = room.saturating_sub(record.bytes.len() + RECORD_COST);
            fits
        };
        let records: Vec<Record> = inner.records.iter().skip(skip).take_while(fits).cloned().collect();
        let after = first + records.len() as u64;
        Batch { first, records, last: inner.closed && after >= inner.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reader_is_told_where_the_ring_begins_and_reads_on_without_holes() {
        let log = Log::new(10 * (100 + RECORD_COST));
        for n in 0..25u8 {
            log.push(Stream::Stdout, vec![n; 100]);
        }
        log.close();
        let batch = log.read(3, usize::MAX, Duration::ZERO);
        assert_eq!(batch.first, 15);
        let numbers: Vec<u64> = batch.records.iter().map(|record| record.seq).collect();
        assert_eq!(numbers, (15..25).collect::<Vec<_>>());
        assert!(batch.last);
        assert_eq!(batch.records[0].bytes, vec![15; 100]);
    }

    #[test]
    fn one_byte_records_do_not_outgrow_the_ring() {
        let log = Log::new(64 * 1024);
        for _ in 0..100_000 {
            log.push(Stream::Stderr, vec![b'x']);
        }
        let kept = log.read(0, usize::MAX, Duration::ZERO).records.len();
        assert!(kept * (1 + RECORD_COST) <= 64 * 1024, "{kept} records");
    }

    #[test]
    fn a_batch_is_bounded_and_the_next_one_goes_on_where_it_ended() {
        let log = Log::new(1 << 20);
        for _ in 0..10 {
            log.push(Stream::Stdout, vec![0; 1000]);
        }
        let batch = log.read(0, 2500, Duration::ZERO);
        assert_eq!(batch.records.len(), 3);
        assert!(!batch.last);
        assert_eq!(log.read(3, 1, Duration::ZERO).records[0].seq, 3);
    }

    #[test]
    fn asking_beyond_the_end_is_empty_and_not_an_overflow() {
        let log = Log::new(1000);
        log.push(Stream::Stdout, vec![1]);
        log.close();
        let batch = log.read(u64::MAX, 1, Duration::from_secs(1));
        assert!(batch.records.is_empty() && batch.last);
    }
}
