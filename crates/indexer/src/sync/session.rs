//! One reconciliation, frame by frame: the side that asks and the side that answers, without input or output. What a peer may make either
//! of them do is bounded: the size of each frame, the number of rounds, the length of what is found.

use super::{
    ad_id::{AdId, Tag},
    inventory::View,
};
use market::book::MAX_PROVIDERS;
use negentropy::Negentropy;
use std::{collections::HashMap, fmt};
use wire::MAX_SYNC_FRAME_BYTES;

/// Rounds of one reconciliation. Ten thousand differences, scattered over a million advertisements, take about a hundred of the largest
/// frames; a round with less to say is the last.
pub const MAX_ROUNDS: usize = 256;
/// Advertisements the other side may say it has and we lack, in one reconciliation: a full book.
pub const MAX_LACKED: usize = MAX_PROVIDERS;

/// What no honest peer does in a reconciliation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    /// A frame that means nothing.
    #[error("a frame that cannot be read: {0}")]
    Frame(negentropy::Error),
    /// The end does not come.
    #[error("still not at the end after {MAX_ROUNDS} rounds")]
    Endless,
    /// More ids than there can be advertisements.
    #[error("names more advertisements than a book holds")]
    TooMany,
}

/// What the two sides found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The other side has these and this one has nothing as new.
    pub we_lack: Vec<AdId>,
    /// This side has these and the other has nothing as new.
    pub they_lack: Vec<AdId>,
}

impl Differences {
    /// Of a peer's two advertisements only the newer one is a difference worth telling.
    fn of(have: &[AdId], need: &[AdId]) -> Self {
        let newest = |ids: &[AdId]| {
            let mut newest = HashMap::<Tag, u64>::with_capacity(ids.len());
            for id in ids {
                let seq = newest.entry(id.tag()).or_default();
                *seq = (*seq).max(id.seq());
            }
            newest
        };
        let (ours, theirs) = (newest(have), newest(need));
        let newer = |ids: &[AdId], others: HashMap<Tag, u64>| {
            let mut newer: Vec<AdId> = ids.to_vec();
            newer.retain(|id| others.get(&id.tag()).is_none_or(|seq| *seq < id.seq()));
            // the newest first: most likely to be asked for next
            newer.sort_unstable_by(|a, b| b.seq().cmp(&a.seq()).then(a.cmp(b)));
            newer.dedup();
            newer
        };
        Self { we_lack: newer(need, ours), they_lack: newer(have, theirs) }
    }
}

/// What the asking side does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this frame and wait for the answer.
    Ask(Vec<u8>),
    /// Everything is known.
    Done(Differences),
}

/// The side that asks. It alone learns what differs.
pub struct Initiator {
    negentropy: Negentropy<'static, View>,
    own: usize,
    rounds: usize,
    have: Vec<negentropy::Id>,
    need: Vec<negentropy::Id>,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("own", &self.own).field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

impl Initiator {
    /// Begins to compare `view` with another's, and gives the first frame.
    pub fn begin(view: View) -> Result<(Self, Vec<u8>), SessionFault> {
        let own = view.len();
        let mut negentropy = Negentropy::owned(view, MAX_SYNC_FRAME_BYTES as u64).map_err(SessionFault::Frame)?;
        let frame = negentropy.initiate().map_err(SessionFault::Frame)?;
        Ok((Self { negentropy, own, rounds: 0, have: Vec::new(), need: Vec::new() }, frame))
    }

    /// Takes the answer to the last frame.
    pub fn answer(&mut self, frame: &[u8]) -> Result<Step, SessionFault> {
        self.rounds += 1;
        let next = self.negentropy.reconcile_with_ids(frame, &mut self.have, &mut self.need);
        let next = next.map_err(SessionFault::Frame)?;
        if self.need.len() > MAX_LACKED || self.have.len() > self.own {
            return Err(SessionFault::TooMany);
        }
        match next {
            Some(_) if self.rounds >= MAX_ROUNDS => Err(SessionFault::Endless),
            Some(frame) => Ok(Step::Ask(frame)),
            None => {
                let ids = |ids: &[negentropy::Id]| ids.iter().copied().map(AdId::from).collect::<Vec<_>>();
                Ok(Step::Done(Differences::of(&ids(&self.have), &ids(&self.need))))
            }
        }
    }

    /// How many answers were taken.
    pub fn rounds(&self) -> usize {
        self.rounds
    }
}

/// The side that answers.
#[derive(Debug)]
pub struct Responder {
    view: View,
    rounds: usize,
}

impl Responder {
    /// Answers from `view`.
    pub fn new(view: View) -> Self {
        Self { view, rounds: 0 }
    }

    /// The answer to a frame.
    pub fn answer(&mut self, frame: &[u8]) -> Result<Vec<u8>, SessionFault> {
        if self.rounds >= MAX_ROUNDS {
            return Err(SessionFault::Endless);
        }
        self.rounds += 1;
        let mut negentropy =
            Negentropy::borrowed(&self.view, MAX_SYNC_FRAME_BYTES as u64).map_err(SessionFault::Frame)?;
        negentropy.reconcile(frame).map_err(SessionFault::Frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{fixtures::peer, inventory::Inventory};
    use market::time::UnixMillis;

    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    /// An inventory of these advertisements: the number of the peer, and how many seconds ago it was made.
    fn inventory(ads: impl IntoIterator<Item = (u64, u64)>) -> Inventory {
        let mut inventory = Inventory::new();
        for (number, ago) in ads {
            let seq = NOW.0 - ago * 1_000;
            inventory.put(peer(number), seq, UnixMillis(seq + 900_000));
        }
        inventory
    }

    fn reconcile(ours: &mut Inventory, theirs: &mut Inventory) -> (Differences, usize) {
        let mut responder = Responder::new(theirs.view(NOW));
        let (mut initiator, mut frame) = Initiator::begin(ours.view(NOW)).unwrap();
        loop {
            assert!(frame.len() <= MAX_SYNC_FRAME_BYTES);
            let answer = responder.answer(&frame).unwrap();
            assert!(answer.len() <= MAX_SYNC_FRAME_BYTES);
            match initiator.answer(&answer).unwrap() {
                Step::Ask(next) => frame = next,
                Step::Done(differences) => return (differences, initiator.rounds()),
            }
        }
    }

    fn id(number: u64, ago: u64) -> AdId {
        AdId::new(&peer(number), NOW.0 - ago * 1_000)
    }

    #[test]
    fn equal_books_are_found_equal_in_one_round() {
        let ads = || (0..5_000).map(|n| (n, n % 700));
        let (found, rounds) = reconcile(&mut inventory(ads()), &mut inventory(ads()));
        assert_eq!((found, rounds), (Differences::default(), 1));
    }

    #[test]
    fn each_side_learns_of_what_only_the_other_has() {
        let (mut ours, mut theirs) = (inventory((0..3_000).map(|n| (n, 300))), inventory((1..3_001).map(|n| (n, 300))));
        let (found, _) = reconcile(&mut ours, &mut theirs);
        assert_eq!(found, Differences { we_lack: vec![id(3_000, 300)], they_lack: vec![id(0, 300)] });
    }

    #[test]
    fn of_an_advertisement_and_its_renewal_only_the_renewal_counts() {
        let ads = |renewed: u64| (0..1_000).map(move |n| (n, if n == renewed { 5 } else { 400 }));
        let (found, _) = reconcile(&mut inventory(ads(7)), &mut inventory(ads(9)));
        assert_eq!(found, Differences { we_lack: vec![id(9, 5)], they_lack: vec![id(7, 5)] });
    }

    #[test]
    fn a_newcomer_is_told_of_everything_in_frames_of_bounded_size() {
        let mut full = inventory((0..20_000).map(|n| (n, n % 800)));
        let (found, rounds) = reconcile(&mut Inventory::new(), &mut full);
        assert_eq!(found.we_lack.len(), 20_000);
        assert!(found.we_lack.is_sorted_by(|a, b| a.seq() >= b.seq()));
        assert!(rounds > 4, "{rounds} rounds of at most 4,096 names");
        let (found, _) = reconcile(&mut full, &mut Inventory::new());
        assert_eq!((found.they_lack.len(), found.we_lack.len()), (20_000, 0));
    }

    #[test]
    fn whoever_never_comes_to_an_end_is_left() {
        let view = inventory((0..100).map(|n| (n, n))).view(NOW);
        let (mut initiator, _) = Initiator::begin(view.clone()).unwrap();
        // everything up to the end of time, with a fingerprint that nothing has
        let other = [&[0x61, 0, 0, 1][..], &[0xee; 16]].concat();
        let last = loop {
            match initiator.answer(&other) {
                Ok(Step::Ask(frame)) => assert!(frame.len() <= MAX_SYNC_FRAME_BYTES),
                other => break other,
            }
        };
        assert_eq!(last, Err(SessionFault::Endless));
        assert_eq!(initiator.rounds(), MAX_ROUNDS);

        let mut responder = Responder::new(view);
        assert_eq!((0..MAX_ROUNDS).filter(|_| responder.answer(&other).is_ok()).count(), MAX_ROUNDS);
        assert_eq!(responder.answer(&other), Err(SessionFault::Endless));
    }

    #[test]
    fn whoever_names_more_than_a_book_holds_is_left() {
        let (mut initiator, _) = Initiator::begin(Inventory::new().view(NOW)).unwrap();
        let mut named = 0;
        let fault = loop {
            // one range with 4,096 ids, and a fingerprint of what is left so that it goes on
            let mut frame = vec![0x61, 1, 0, 2, 0xa0, 0x00];
            frame.extend(
                (named..named + 4_096)
                    .flat_map(|number: u64| [[0; 24].to_vec(), number.to_be_bytes().to_vec()].concat()),
            );
            named += 4_096;
            frame.extend([0, 0, 1]);
            frame.extend([0xee; 16]);
            match initiator.answer(&frame) {
                Ok(_) => {}
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, SessionFault::TooMany);
        assert!(named < MAX_LACKED as u64 + 4_097);
    }

    #[test]
    fn garbage_is_refused_with_its_reason() {
        let view = inventory((0..100).map(|n| (n, n))).view(NOW);
        let (mut initiator, frame) = Initiator::begin(view.clone()).unwrap();
        let mut responder = Responder::new(view);
        for garbage in [&[][..], &[0x10], &[0x61, 0, 0, 9], &[0x61, 0, 33], &frame[..frame.len() - 1]] {
            assert!(matches!(initiator.answer(garbage), Err(SessionFault::Frame(_))), "{garbage:?}");
            assert!(matches!(responder.answer(garbage), Err(SessionFault::Frame(_))), "{garbage:?}");
        }
    }
}
