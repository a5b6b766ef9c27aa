//! When to reconcile with whom: with a newly met indexer at once, with each again now and then, with one at a time, and with one that cheated
//! not for a while. Without input or output; the time comes from outside, and the jitter from a seed.

use market::id::PeerId;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The time between two reconciliations with one peer, give or take a quarter. What gossip lost is found again well before it is renewed; two
/// equal books cost under a kilobyte.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long after meeting a peer the first one begins, at most: so that not both sides begin.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// When one that did not answer, or had no time, is asked again.
const RETRY: Duration = Duration::from_secs(10);
/// How long one that cheated is left alone at first; twice as long each further time.
const ASIDE: Duration = Duration::from_secs(60);
/// The longest it is left alone: as long as an advertisement lives.
const MAX_ASIDE: Duration = Duration::from_secs(3_600);
/// Peers that cheated and are remembered while they are away.
const MAX_REMEMBERED: usize = 1_024;

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The books are as equal as they can be made.
    Compared,
    /// There was no answer, or no time.
    Unanswered,
    /// The other side did what no honest peer does.
    Cheated,
}

#[derive(Debug)]
struct Turn {
    due: Instant,
    cheated: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    turns: HashMap<PeerId, Turn>,
    random: StdRng,
}

impl Schedule {
    /// Nobody is known; `seed` decides the jitter.
    pub fn new(seed: u64) -> Self {
        Self { turns: HashMap::new(), random: StdRng::seed_from_u64(seed) }
    }

    /// Whose turn it is among those that are connected, or when it will be somebody's.
    pub fn next(&mut self, connected: &[PeerId], now: Instant) -> Result<PeerId, Option<Instant>> {
        self.forget(connected, now);
        for peer in connected {
            let random = &mut self.random;
            self.turns
                .entry(*peer)
                .or_insert_with(|| Turn { due: now + FIRST_WITHIN.mul_f64(random.random_range(0.0..1.0)), cheated: 0 });
        }
        let first = connected.iter().filter_map(|peer| Some((self.turns.get(peer)?.due, *peer))).min();
        match first {
            Some((due, peer)) if due <= now => Ok(peer),
            Some((due, _)) => Err(Some(due)),
            None => Err(None),
        }
    }

    /// Whoever went away is new when it comes back, but for one that is left alone.
    fn forget(&mut self, connected: &[PeerId], now: Instant) {
        self.turns.retain(|peer, turn| connected.contains(peer) || (turn.cheated > 0 && turn.due > now));
        let away: Vec<PeerId> = self.turns.keys().filter(|peer| !connected.contains(peer)).copied().collect();
        for peer in away.iter().skip(MAX_REMEMBERED) {
            self.turns.remove(peer);
        }
    }

    /// A reconciliation with `peer` has ended.
    pub fn ended(&mut self, peer: PeerId, outcome: Outcome, now: Instant) {
        let cheated = self.turns.get(&peer).map_or(0, |turn| turn.cheated);
        let jitter = self.random.random_range(0.75..1.25);
        let (pause, cheated) = match outcome {
            Outcome::Compared => (INTERVAL.mul_f64(jitter), 0),
            Outcome::Unanswered => (RETRY.mul_f64(jitter), cheated),
            Outcome::Cheated => (ASIDE.saturating_mul(2_u32.saturating_pow(cheated)).min(MAX_ASIDE), cheated + 1),
        };
        self.turns.insert(peer, Turn { due: now + pause, cheated });
    }

    /// `peer` has begun one here and learns what differs; it will say so, and we need not begin another.
    pub fn served(&mut self, peer: PeerId, now: Instant) {
        let pause = INTERVAL.mul_f64(self.random.random_range(0.75..1.25));
        let turn = self.turns.entry(peer).or_insert(Turn { due: now, cheated: 0 });
        turn.due = turn.due.max(now + pause);
    }

    /// Whether `peer` is left alone because it cheated.
    pub fn is_aside(&self, peer: &PeerId, now: Instant) -> bool {
        self.turns.get(peer).is_some_and(|turn| turn.cheated > 0 && turn.due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::fixtures::peer;

    #[test]
    fn a_new_peer_has_its_turn_at_once_and_then_at_intervals() {
        let (mut schedule, start) = (Schedule::new(1), Instant::now());
        assert_eq!(schedule.next(&[], start), Err(None));
        let Err(Some(first)) = schedule.next(&[peer(1)], start) else { panic!("no first turn") };
        assert!(first <= start + FIRST_WITHIN);
        assert_eq!(schedule.next(&[peer(1)], first), Ok(peer(1)));
        schedule.ended(peer(1), Outcome::Compared, first);
        let Err(Some(second)) = schedule.next(&[peer(1)], first) else { panic!("no second turn") };
        assert!(second >= first + INTERVAL.mul_f64(0.75) && second <= first + INTERVAL.mul_f64(1.25));
        assert_eq!(schedule.next(&[], second), Err(None), "it has gone");
    }

    #[test]
    fn every_peer_has_its_turn() {
        let (mut schedule, mut now) = (Schedule::new(2), Instant::now());
        let peers = [peer(1), peer(2), peer(3)];
        let mut turns = HashMap::<PeerId, u32>::new();
        for _ in 0..30 {
            match schedule.next(&peers, now) {
                Ok(peer) => {
                    *turns.entry(peer).or_default() += 1;
                    schedule.ended(peer, Outcome::Compared, now);
                }
                Err(at) => now = at.expect("somebody's turn"),
            }
        }
        assert!(peers.iter().all(|peer| turns[peer] >= 4), "{turns:?}");
    }

    #[test]
    fn whoever_was_served_is_not_asked_as_well() {
        let (mut schedule, now) = (Schedule::new(3), Instant::now());
        schedule.served(peer(1), now);
        let Err(Some(due)) = schedule.next(&[peer(1)], now) else { panic!("no turn") };
        assert!(due >= now + INTERVAL.mul_f64(0.75));
    }

    #[test]
    fn a_cheat_is_left_alone_for_longer_each_time_and_remembered_when_it_comes_back() {
        let (mut schedule, mut now) = (Schedule::new(4), Instant::now());
        for pause in [60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            schedule.ended(peer(1), Outcome::Cheated, now);
            assert_eq!(schedule.next(&[], now), Err(None), "it goes away");
            let until = now + Duration::from_secs(pause);
            assert_eq!(schedule.next(&[peer(1)], now), Err(Some(until)));
            assert!(schedule.is_aside(&peer(1), now) && !schedule.is_aside(&peer(1), until));
            now = until;
            assert_eq!(schedule.next(&[peer(1)], now), Ok(peer(1)));
        }
        schedule.ended(peer(1), Outcome::Compared, now);
        assert!(!schedule.is_aside(&peer(1), now));
    }
}
