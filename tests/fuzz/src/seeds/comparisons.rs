//! What two honest indexers say to each other, one of which lacks some of what the other has.

use super::{chosen, frames};
use crate::{
    identity::NOW,
    sync::{VIEW, held},
};
use indexer::sync::{AdId, Initiator, Inventory, Responder, Step};
use wire::{SyncAnswer, SyncAsk, proto, sync_answer_to_proto, sync_to_proto};

/// The inputs of the target.
pub(super) fn all() -> Vec<Vec<u8>> {
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    let mut inventory = Inventory::new();
    held().step_by(7).for_each(|(peer, seq)| inventory.put(peer, seq + 1, NOW.plus(900_000)));
    held().skip(100).for_each(|(peer, seq)| inventory.put(peer, seq, NOW.plus(900_000)));
    let (mut initiator, mut frame) = Initiator::begin(inventory.view(NOW)).expect("a view can be compared");
    let mut responder = Responder::new(VIEW.clone());
    let found = loop {
        let answer = responder.answer(&frame).expect("an honest frame");
        asked.push(frame);
        answered.push(answer.clone());
        match initiator.answer(&answer).expect("an honest frame") {
            Step::Ask(next) => frame = next,
            Step::Done(found) => break found,
        }
    };
    let ids = |ids: &[AdId]| ids.iter().take(20).map(|id| id.to_bytes()).collect::<Vec<_>>();
    let mut asks = vec![SyncAsk::Open { at: NOW, frame: asked[0].clone() }];
    asks.extend(asked[1..].iter().cloned().map(SyncAsk::Next));
    asks.push(SyncAsk::Lacking(ids(&found.they_lack)));
    asks.push(SyncAsk::Fetch(ids(&found.we_lack)));
    let mut answers: Vec<_> = answered.iter().cloned().map(SyncAnswer::Frame).collect();
    answers.extend([
        SyncAnswer::Noted,
        SyncAnswer::Ads { ads: vec![vec![7; 40], vec![8; 50]], answered: 3 },
        SyncAnswer::Refused(wire::refusal_from_proto(super::refusal())),
    ]);
    let asks: Vec<proto::SyncRequest> = asks.into_iter().map(sync_to_proto).collect();
    let answers: Vec<proto::SyncResponse> = answers.into_iter().map(sync_answer_to_proto).collect();
    vec![
        chosen(0, &frames(&asks)),
        chosen(1, &frames(&answers)),
        chosen(2, &behind_lengths(&answered)),
        chosen(3, &behind_lengths(&asked)),
        chosen(4, &frames(&asks)),
        // an endless answer: everything differs, always
        chosen(2, &behind_lengths(&vec![[&[0x61, 0, 0, 1][..], &[0xee; 16]].concat(); 20])),
        // a count of ids that is not there
        chosen(3, &behind_lengths(&[vec![0x61, 0, 0, 2, 0xff, 0xff, 0xff, 0x7f]])),
    ]
}

fn behind_lengths(frames: &[Vec<u8>]) -> Vec<u8> {
    let length = |frame: &Vec<u8>| u16::try_from(frame.len()).expect("small books, small frames").to_be_bytes();
    frames.iter().flat_map(|frame| [&length(frame)[..], frame].concat()).collect()
}
