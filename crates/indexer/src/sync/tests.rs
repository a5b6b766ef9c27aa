//! Whole reconciliations between random books, over lines that break.

use super::{
    fixtures::peer,
    session::{Initiator, Responder, Step},
    *,
};
use market::{id::PeerId, time::UnixMillis};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const LIFETIME: u64 = 900_000;

/// A book as far as reconciliation knows it: the newest sequence number of each peer.
#[derive(Debug, Default)]
struct Node {
    book: BTreeMap<PeerId, u64>,
    inventory: Inventory,
}

impl Node {
    fn hear(&mut self, peer: PeerId, seq: u64) {
        let held = self.book.entry(peer).or_default();
        if *held < seq {
            *held = seq;
            self.inventory.put(peer, seq, UnixMillis(seq + LIFETIME));
        }
    }

    /// Fetches what it lacks from another, as long as the line holds.
    fn fetch(&mut self, from: &Node, ids: &[AdId], line: &mut Line) {
        for id in ids.iter().filter(|_| line.holds()) {
            assert!(self.inventory.is_news(id, NOW), "asked for what is no news");
            let held = from.inventory.holder(id).and_then(|peer| Some((peer, *from.book.get(&peer)?)));
            let (peer, seq) = held.expect("what was named is there");
            self.hear(peer, seq);
        }
    }
}

/// A line that breaks after so many messages.
struct Line(usize);

impl Line {
    fn holds(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// One reconciliation, which ends early when the line breaks.
fn reconcile(asking: &mut Node, answering: &mut Node, mut line: Line) {
    let mut responder = Responder::new(answering.inventory.view(NOW));
    let (mut initiator, mut frame) = Initiator::begin(asking.inventory.view(NOW)).unwrap();
    while line.holds() {
        let answer = responder.answer(&frame).unwrap();
        match initiator.answer(&answer).unwrap() {
            Step::Ask(next) => frame = next,
            Step::Done(Differences { we_lack, they_lack }) => {
                asking.fetch(answering, &we_lack, &mut line);
                return answering.fetch(asking, &they_lack, &mut line);
            }
        }
    }
}

/// Which nodes heard of an advertisement: each, or both.
fn heard() -> impl Strategy<Value = (u64, u64, u8)> {
    // few peers and close moments, so that renewals and ties are common
    (0..250_u64, 0..600_u64, 1..4_u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn after_a_reconciliation_both_hold_the_newest_of_everything_whatever_broke_before(
        ads in proptest::collection::vec(heard(), 0..700),
        late in proptest::collection::vec(heard(), 0..50),
        breaks in proptest::collection::vec(1..200_usize, 0..6),
    ) {
        let (mut one, mut two) = (Node::default(), Node::default());
        let mut newest = BTreeMap::<PeerId, u64>::new();
        let mut hear = |one: &mut Node, two: &mut Node, ads: &[(u64, u64, u8)]| {
            for (number, ago, who) in ads {
                let (peer, seq) = (peer(*number), NOW.0 - ago * 500);
                newest.entry(peer).and_modify(|held| *held = (*held).max(seq)).or_insert(seq);
                if who & 1 > 0 {
                    one.hear(peer, seq);
                }
                if who & 2 > 0 {
                    two.hear(peer, seq);
                }
            }
        };
        hear(&mut one, &mut two, &ads);
        for (turn, messages) in breaks.into_iter().enumerate() {
            let (asking, answering) = if turn % 2 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
            reconcile(asking, answering, Line(messages));
        }
        // the books go on changing between reconciliations
        hear(&mut one, &mut two, &late);
        reconcile(&mut one, &mut two, Line(usize::MAX));
        prop_assert_eq!(&one.book, &newest);
        prop_assert_eq!(&two.book, &newest);
        prop_assert!(one.inventory.view(NOW).ids().eq(two.inventory.view(NOW).ids()));
    }
}
