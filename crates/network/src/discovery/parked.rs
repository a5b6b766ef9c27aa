//! Questions for advertisements that are themselves still on their way here. An announcement runs ahead of what it announces by one round
//! trip at each hop, so whoever has just passed one on is usually asked a moment too early; waiting that moment answers in one question what
//! would take several.

use libp2p::PeerId;
use std::time::{Duration, Instant};

/// How long a question may wait: a round trip around the world. Less than the asker's patience.
const PARK_WAIT: Duration = Duration::from_millis(400);
/// Questions that wait at once. Beyond that they are answered with what there is.
const MAX_PARKED: usize = 256;

/// Questions that wait, each with the way to answer it.
#[derive(Debug)]
pub struct Parked<T>(Vec<Question<T>>);

#[derive(Debug)]
struct Question<T> {
    asker: PeerId,
    subjects: Vec<PeerId>,
    until: Instant,
    answer: T,
}

impl<T> Default for Parked<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Parked<T> {
    /// Lets a question wait, or gives it back when it is to be answered at once: nothing of it is on its way, one of that peer waits
    /// already, or too many do.
    pub fn park(
        &mut self,
        asker: PeerId,
        subjects: Vec<PeerId>,
        answer: T,
        is_fetching: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Option<(Vec<PeerId>, T)> {
        let waits = self.0.len() < MAX_PARKED
            && subjects.iter().any(is_fetching)
            && self.0.iter().all(|question| question.asker != asker);
        if !waits {
            return Some((subjects, answer));
        }
        self.0.push(Question { asker, subjects, until: now + PARK_WAIT, answer });
        None
    }

    /// The questions that need not, or must not, wait any longer.
    pub fn ready(&mut self, is_fetching: impl Fn(&PeerId) -> bool, now: Instant) -> Vec<(Vec<PeerId>, T)> {
        let over = |question: &mut Question<T>| question.until <= now || !question.subjects.iter().any(&is_fetching);
        self.0.extract_if(.., over).map(|question| (question.subjects, question.answer)).collect()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_waits_for_what_is_on_its_way_and_no_longer_than_it_may() {
        let (mut parked, now) = (Parked::default(), Instant::now());
        let (asker, subject, other) = (PeerId::random(), PeerId::random(), PeerId::random());
        assert_eq!(parked.park(asker, vec![subject], 'a', |_| false, now), Some((vec![subject], 'a')));
        assert_eq!(parked.park(asker, vec![subject, other], 'b', |peer| *peer == other, now), None);
        assert_eq!(parked.park(asker, vec![other], 'c', |_| true, now), Some((vec![other], 'c')), "one waits already");
        assert_eq!(parked.ready(|peer| *peer == other, now), []);
        assert_eq!(parked.ready(|_| false, now), [(vec![subject, other], 'b')]);
        assert_eq!(parked.park(asker, vec![other], 'd', |_| true, now), None);
        assert_eq!(parked.ready(|_| true, now + PARK_WAIT), [(vec![other], 'd')]);
        assert!(parked.is_empty());
    }

    #[test]
    fn beyond_the_bound_questions_are_answered_at_once() {
        let (mut parked, now, subject) = (Parked::default(), Instant::now(), PeerId::random());
        for _ in 0..MAX_PARKED {
            assert_eq!(parked.park(PeerId::random(), vec![subject], (), |_| true, now), None);
        }
        assert!(parked.park(PeerId::random(), vec![subject], (), |_| true, now).is_some());
    }
}
