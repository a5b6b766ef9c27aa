//! How advertisements are found: gossiped announcements, and the questions and answers of `/gpulease/offers/1` and
//! `/gpulease/search/1`.

use crate::{
    choice,
    identity::{NOW, PEER_KEY, provider_peer},
    memory::bounded,
};
use futures::executor::block_on;
use market::{class::GpuClass, offer::MAX_AD_LIFETIME};
use network::{
    ad::{self, AnnouncementFault},
    read_message, write_message,
};
use wire::{
    MAX_ANNOUNCEMENT_BYTES, MAX_OFFERS_REQUEST_BYTES, MAX_OFFERS_RESPONSE_BYTES, MAX_SEARCH_REQUEST_BYTES,
    MAX_SEARCH_RESPONSE_BYTES, classes_from_proto, decode, encode, proto,
};

/// What is put before an announcement's body where it is signed, as the protocol says.
const DOMAIN: &[u8] = b"gpulease-announcement-v1";

/// The first byte says what the rest is.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 6) {
        Some((0, announcement)) => announced(announcement),
        Some((1, body)) => signed_announcement(body),
        Some((2, frame)) => stable::<proto::OffersRequest>(frame, MAX_OFFERS_REQUEST_BYTES),
        Some((3, frame)) => stable::<proto::OffersResponse>(frame, MAX_OFFERS_RESPONSE_BYTES),
        Some((4, frame)) => stable::<proto::SearchRequest>(frame, MAX_SEARCH_REQUEST_BYTES),
        Some((_, frame)) => stable::<proto::SearchResponse>(frame, MAX_SEARCH_RESPONSE_BYTES),
        None => {}
    }
}

fn announced(announcement: &[u8]) {
    let read = bounded(announcement, |bytes| ad::open_announcement(bytes, GpuClass::CPU, NOW));
    if let Ok(announced) = read {
        assert!(announcement.len() <= MAX_ANNOUNCEMENT_BYTES);
        assert!(announced.expires > NOW);
        assert!(announced.expires.0.saturating_sub(announced.seq) <= MAX_AD_LIFETIME);
        // gossip knows it by its bytes, so there must be no other way to write it
        let message: proto::Announcement = decode(announcement, MAX_ANNOUNCEMENT_BYTES).expect("just read");
        assert_eq!(encode(&message), announcement);
    }
}

/// An announcement whose signature is right, whatever it says.
fn signed_announcement(body: &[u8]) {
    let Ok(message) = decode::<proto::AnnouncementBody>(body, MAX_ANNOUNCEMENT_BYTES) else { return };
    let classes = classes_from_proto(&message.classes);
    assert!(classes.len() <= market::class::MAX_CLASSES);
    for class in &classes {
        assert!(message.classes.iter().any(|name| name == class.name()));
    }
    let body = encode(&proto::AnnouncementBody { peer: provider_peer().to_bytes(), ..message.clone() });
    let signature = PEER_KEY.sign(&[DOMAIN, &body].concat()).expect("an ed25519 key signs anything");
    let public_key = PEER_KEY.public().encode_protobuf();
    let signed = encode(&proto::Announcement { body, signature, public_key });
    let read = ad::open_announcement(&signed, GpuClass::CPU, NOW);
    let named = message.classes.iter().any(|name| name == GpuClass::CPU.name());
    match read {
        Ok(announced) => {
            assert!(named && announced.seq == message.seq && announced.expires.0 == message.expires);
            announced_again(&signed);
        }
        Err(AnnouncementFault::Untimely) => assert!(named),
        Err(AnnouncementFault::Dishonest) => {}
    }
}

/// One bit of a good announcement makes it another, which nobody signed.
fn announced_again(signed: &[u8]) {
    let message: proto::Announcement = decode(signed, MAX_ANNOUNCEMENT_BYTES).expect("it was just read");
    let mut forged = message.body.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let forged = encode(&proto::Announcement { body: forged, ..message });
    assert!(ad::open_announcement(&forged, GpuClass::CPU, NOW).is_err(), "a forged announcement is believed");
}

/// Every message on a stream is read the same when it is written again, and none is longer than its bound.
pub(crate) fn stable<M: prost::Message + Default + PartialEq + std::fmt::Debug>(stream: &[u8], limit: usize) {
    messages(stream, limit, |message: &M| {
        let mut written = Vec::new();
        // a stranger's encoding may be shorter than ours, so that ours need not fit
        if block_on(write_message(&mut written, message, limit)).is_ok() {
            let read = block_on(read_message::<M, _>(&mut written.as_slice(), limit));
            assert_eq!(read.expect("we wrote it").as_ref(), Some(message));
        }
    });
}

/// Calls `each` for every message of a stream, up to its end or to the first that is broken.
pub(crate) fn messages<M: prost::Message + Default>(stream: &[u8], limit: usize, mut each: impl FnMut(&M)) {
    let mut rest = stream;
    loop {
        let before = rest;
        let message = bounded(before, |_| block_on(read_message::<M, _>(&mut rest, limit)));
        let Ok(Some(message)) = message else { return };
        assert!(rest.len() < before.len(), "a message was read without reading");
        each(&message);
    }
}
