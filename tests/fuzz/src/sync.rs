//! How indexers compare books: the questions and answers of `/gpulease/sync/1`, the frames in them, and the side that answers.

use crate::{
    choice,
    discovery::{messages, stable},
    identity::{NOW, renter_peer},
    memory::bounded,
};
use indexer::sync::{AdId, Initiator, Inventory, Ledger, MAX_LACKED, Reply, Responder, Server, Step, View};
use market::id::PeerId;
use network::BookObserver;
use std::{sync::LazyLock, time::Instant};
use wire::{
    MAX_SYNC_FRAME_BYTES, MAX_SYNC_IDS, MAX_SYNC_MESSAGE_BYTES, SyncAnswer, proto, sync_answer_from_proto,
    sync_answer_to_proto, sync_from_proto, sync_to_proto,
};

/// Advertisements in the book that is compared: enough to be split and split again.
pub(crate) const HELD: u64 = 600;

/// A peer for each number, made without a key.
fn peer(number: u64) -> PeerId {
    let mut bytes = vec![0, 36, 8, 1, 18, 32];
    bytes.extend([0; 24]);
    bytes.extend(number.to_be_bytes());
    PeerId::from_bytes(&bytes).expect("an ed25519 key as libp2p writes it")
}

/// The names of what the book holds.
pub(crate) fn held() -> impl Iterator<Item = (PeerId, u64)> {
    (0..HELD).map(|number| (peer(number), NOW.0 - number * 500))
}

/// The book as it is compared.
pub(crate) static VIEW: LazyLock<View> = LazyLock::new(|| {
    let mut inventory = Inventory::new();
    held().for_each(|(peer, seq)| inventory.put(peer, seq, NOW.plus(900_000)));
    inventory.view(NOW)
});

/// The first byte says what the rest is.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 5) {
        Some((0, stream)) => questions(stream),
        Some((1, stream)) => answers(stream),
        Some((2, stream)) => asking(stream),
        Some((3, stream)) => answering(stream),
        Some((_, stream)) => served(stream),
        None => {}
    }
}

fn questions(stream: &[u8]) {
    stable::<proto::SyncRequest>(stream, MAX_SYNC_MESSAGE_BYTES);
    messages(stream, MAX_SYNC_MESSAGE_BYTES, |message: &proto::SyncRequest| {
        if let Ok(ask) = sync_from_proto(message.clone()) {
            assert_eq!(sync_from_proto(sync_to_proto(ask.clone())), Ok(ask));
        }
    });
}

fn answers(stream: &[u8]) {
    stable::<proto::SyncResponse>(stream, MAX_SYNC_MESSAGE_BYTES);
    messages(stream, MAX_SYNC_MESSAGE_BYTES, |message: &proto::SyncResponse| {
        if let Ok(answer) = sync_answer_from_proto(message.clone()) {
            if let SyncAnswer::Ads { ads, answered } = &answer {
                assert!(ads.len() <= *answered && *answered <= MAX_SYNC_IDS);
            }
            assert_eq!(sync_answer_from_proto(sync_answer_to_proto(answer.clone())), Ok(answer));
        }
    });
}

/// Frames one after the other, each behind its length in two bytes.
fn each_frame(mut stream: &[u8], mut each: impl FnMut(&[u8]) -> bool) {
    while let Some((length, rest)) = stream.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        if !each(frame) {
            return;
        }
        stream = rest;
    }
}

fn asking(stream: &[u8]) {
    let (mut initiator, first) = Initiator::begin(VIEW.clone()).expect("a view can be compared");
    assert!(first.len() <= MAX_SYNC_FRAME_BYTES);
    each_frame(stream, |frame| match bounded(frame, |frame| initiator.answer(frame)) {
        Ok(Step::Ask(next)) => {
            assert!(next.len() <= MAX_SYNC_FRAME_BYTES);
            true
        }
        Ok(Step::Done(found)) => {
            assert!(found.we_lack.len() <= MAX_LACKED && found.they_lack.len() <= VIEW.len());
            let ours = |id: &AdId| VIEW.ids().any(|held| held == *id);
            assert!(found.they_lack.iter().all(ours), "they are said to lack what is not here");
            false
        }
        Err(_) => false,
    });
}

fn answering(stream: &[u8]) {
    let mut responder = Responder::new(VIEW.clone());
    each_frame(stream, |frame| match bounded(frame, |frame| responder.answer(frame)) {
        Ok(answer) => {
            assert!(!answer.is_empty() && answer.len() <= MAX_SYNC_FRAME_BYTES);
            true
        }
        Err(_) => false,
    });
}

/// A peer that says what it likes to the side that answers.
fn served(stream: &[u8]) {
    let (ledger, mut server, now) = (Ledger::new(), Server::new(), Instant::now());
    held().for_each(|(peer, seq)| ledger.put(&peer, seq, NOW.plus(900_000)));
    messages(stream, MAX_SYNC_MESSAGE_BYTES, |message: &proto::SyncRequest| {
        let Ok(ask) = sync_from_proto(message.clone()) else { return };
        match server.answer(renter_peer(), ask, &ledger, NOW, now) {
            Ok(Reply::Say(SyncAnswer::Frame(frame))) => assert!(frame.len() <= MAX_SYNC_FRAME_BYTES),
            Ok(Reply::Say(other)) => panic!("{other:?} is no answer to a frame"),
            Ok(Reply::Send(holders)) => assert!(holders.len() <= MAX_SYNC_IDS),
            Ok(Reply::Note(news)) => assert!(news.len() <= MAX_SYNC_IDS),
            Err(refusal) => assert!(!refusal.detail.is_empty()),
        }
    });
}
