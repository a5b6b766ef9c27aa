//! How often one peer, or one address, may ask: the generic cell rate algorithm, one number for each. It says at which moment its bucket
//! would be empty again; a request that would push that moment further ahead than the burst allows is turned away.

use libp2p::PeerId;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Peers remembered: twice as many as can be connected. One whose bucket is empty is forgotten when room is needed; should none be, a
/// newcomer is let through unmeasured, since a limit must not become a way to keep others out.
const MAX_PEERS: usize = 4_096;

/// A limit for each asker, which is a peer unless said otherwise.
#[derive(Debug)]
pub struct RateLimiter<K = PeerId> {
    /// The time one request takes to drain.
    interval: Duration,
    /// How far ahead the bucket may be filled.
    burst: Duration,
    empty_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Clone + Eq + Hash> RateLimiter<K> {
    /// At most `per_second` in the long run, and `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: interval * burst, empty_at: Mutex::default() }
    }

    /// Whether `asker` may ask now.
    pub fn allow(&self, asker: &K) -> bool {
        self.allow_at(asker, Instant::now())
    }

    fn allow_at(&self, asker: &K, now: Instant) -> bool {
        let mut buckets = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_PEERS && !buckets.contains_key(asker) {
            buckets.retain(|_, empty_at| *empty_at > now);
            if buckets.len() >= MAX_PEERS {
                return true;
            }
        }
        let bucket = buckets.entry(asker.clone()).or_insert(now);
        let filled = (*bucket).max(now) + self.interval;
        let allowed = filled <= now + self.burst;
        if allowed {
            *bucket = filled;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds_for_each_peer_alone() {
        let (limiter, now) = (RateLimiter::new(10, 5), Instant::now());
        let (greedy, other) = (PeerId::random(), PeerId::random());
        assert_eq!((0..20).filter(|_| limiter.allow_at(&greedy, now)).count(), 5);
        assert!(limiter.allow_at(&other, now));
        let later = now + Duration::from_millis(200);
        assert_eq!((0..20).filter(|_| limiter.allow_at(&greedy, later)).count(), 2);
    }
}
