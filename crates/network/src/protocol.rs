//! The protocols of questions and answers between roles: rental, search and sync. They differ in their messages and in how much of them is
//! allowed; everything else (asking a peer, handing its questions to a role, refusing in so many words) is one piece of code, in
//! `node::questions`.

use crate::{
    behaviour::{Behaviour, Exchange},
    codec::ProstCodec,
    counters::{Counter, Counters},
    handle::{Asked, Desk, Incoming, Inner, Question, Reply},
    node::{Node, questions::Questions},
};
use libp2p::{
    StreamProtocol,
    request_response::{self, ProtocolSupport},
};
use market::refusal::{Refusal, RefusalCode};
use prost::Message;
use std::{fmt::Debug, time::Duration};
use tokio::sync::oneshot;
use wire::{MAX_MESSAGE_BYTES, MAX_SEARCH_REQUEST_BYTES, MAX_SEARCH_RESPONSE_BYTES, MAX_SYNC_MESSAGE_BYTES, proto};

/// The protocol by which indexers are asked for offers: whoever speaks it is one.
pub(crate) const SEARCH: StreamProtocol = StreamProtocol::new("/gpulease/search/1");
/// The protocol between indexers that compare their books.
pub(crate) const SYNC: StreamProtocol = StreamProtocol::new("/gpulease/sync/1");
/// Requests in both directions at once on one connection.
const MAX_CONCURRENT_REQUESTS: usize = 128;

/// A provider may look at the chain before it answers, or even send a transaction.
const RENTAL_WAIT: Duration = Duration::from_secs(30);
/// Rental requests waiting for the provider role; further ones are refused at once.
const RENTALS: usize = 128;
/// Rental requests that the provider role is working on. It may take half a minute over each.
const RENTALS_UNANSWERED: usize = 512;
/// Questions a peer may ask: vouchers come every third of an increment, and a renter may have many rentals at one provider.
const RENTALS_PER_SECOND: u32 = 100;
/// And how many at once.
const RENTALS_BURST: u32 = 300;

/// A search is answered from memory within milliseconds; the answer may be a mebibyte on a slow line.
const SEARCH_WAIT: Duration = Duration::from_secs(10);
/// Searches waiting for the indexer role: a second's worth of the slowest ones.
const SEARCHES: usize = 128;
/// Searches that the indexer role is working on.
const SEARCHES_UNANSWERED: usize = 256;
/// Searches of a peer: a person asks one every few seconds, a program that pages through a class asks ten.
const SEARCHES_PER_SECOND: u32 = 20;
/// And how many at once: the pages of a long answer.
const SEARCHES_BURST: u32 = 60;

/// A round of reconciliation reads a part of the book.
const SYNC_WAIT: Duration = Duration::from_secs(20);
/// Frames waiting for the indexer role. Each peer sends one at a time, so this is as many peers.
const SYNCS: usize = 64;
/// Frames that the indexer role is working on.
const SYNCS_UNANSWERED: usize = 64;
/// Frames of a peer: a reconciliation is a few dozen rounds, and one begins every few seconds.
const SYNCS_PER_SECOND: u32 = 20;
/// And how many at once.
const SYNCS_BURST: u32 = 100;

/// How much of a protocol is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    /// How long an answer may take.
    pub(crate) wait: Duration,
    /// Questions waiting for the role.
    pub(crate) waiting: usize,
    /// Questions that the role has taken and not answered.
    pub(crate) unanswered: usize,
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// What is counted of a protocol.
pub(crate) struct Counts<'a> {
    pub(crate) received: &'a Counter,
    pub(crate) sent: &'a Counter,
    pub(crate) queue_full: &'a Counter,
    pub(crate) unanswered: &'a Counter,
}

/// A protocol of questions and answers: its messages, its bounds, its words, and where its parts stand.
pub(crate) trait Protocol: Debug + Sized + Send + 'static {
    type Request: Message + Debug + Default + 'static;
    type Response: Message + Debug + Default + 'static;

    const NAME: StreamProtocol;
    const BOUNDS: Bounds;
    /// What a request of it is called.
    const REQUEST: &'static str;
    /// Who answers, when a question cannot be answered.
    const ROLE: &'static str;
    /// What is answered when no role does.
    const NOT_SERVED: (RefusalCode, &'static str);

    fn refusal(refusal: &Refusal) -> Self::Response;
    fn counts(counters: &Counters) -> Counts<'_>;
    fn question(asked: Asked<Self>) -> Question;
    fn desk(inner: &Inner) -> &Desk<Self>;
    fn exchange(behaviour: &mut Behaviour) -> &mut Exchange<Self>;
    fn questions(node: &mut Node) -> &mut Questions<Self>;
}

/// The protocol's side of every connection. Whoever does not serve it does not say that it speaks it, but may ask.
pub(crate) fn exchange<P: Protocol>(serves: bool) -> Exchange<P> {
    let support = if serves { ProtocolSupport::Full } else { ProtocolSupport::Outbound };
    let config = request_response::Config::default()
        .with_request_timeout(P::BOUNDS.wait)
        .with_max_concurrent_streams(MAX_CONCURRENT_REQUESTS);
    let codec = ProstCodec::new(P::BOUNDS.request_bytes, P::BOUNDS.response_bytes);
    Exchange::<P>::with_codec(codec, [(P::NAME, support)], config)
}

/// Between renter and provider.
#[derive(Debug)]
pub(crate) enum Rental {}

impl Protocol for Rental {
    type Request = proto::RentalRequest;
    type Response = proto::RentalResponse;

    const NAME: StreamProtocol = StreamProtocol::new("/gpulease/rental/1");
    const BOUNDS: Bounds = Bounds {
        request_bytes: MAX_MESSAGE_BYTES,
        response_bytes: MAX_MESSAGE_BYTES,
        wait: RENTAL_WAIT,
        waiting: RENTALS,
        unanswered: RENTALS_UNANSWERED,
        per_second: RENTALS_PER_SECOND,
        burst: RENTALS_BURST,
    };
    const REQUEST: &'static str = "rental request";
    const ROLE: &'static str = "provider";
    const NOT_SERVED: (RefusalCode, &'static str) = (RefusalCode::NoSuchSlot, "this node rents nothing out");

    fn refusal(refusal: &Refusal) -> Self::Response {
        let refusal = wire::refusal_to_proto(refusal);
        proto::RentalResponse { response: Some(proto::rental_response::Response::Refusal(refusal)) }
    }

    fn counts(counters: &Counters) -> Counts<'_> {
        Counts {
            received: &counters.rentals_received,
            sent: &counters.rentals_sent,
            queue_full: &counters.rentals_queue_full,
            unanswered: &counters.rentals_unanswered,
        }
    }

    fn question(asked: Asked<Self>) -> Question {
        Question::Rental(asked)
    }

    fn desk(inner: &Inner) -> &Desk<Self> {
        &inner.rentals
    }

    fn exchange(behaviour: &mut Behaviour) -> &mut Exchange<Self> {
        &mut behaviour.rental
    }

    fn questions(node: &mut Node) -> &mut Questions<Self> {
        &mut node.rentals
    }
}

/// Between anybody and an indexer.
#[derive(Debug)]
pub(crate) enum Search {}

impl Protocol for Search {
    type Request = proto::SearchRequest;
    type Response = proto::SearchResponse;

    const NAME: StreamProtocol = SEARCH;
    const BOUNDS: Bounds = Bounds {
        request_bytes: MAX_SEARCH_REQUEST_BYTES,
        response_bytes: MAX_SEARCH_RESPONSE_BYTES,
        wait: SEARCH_WAIT,
        waiting: SEARCHES,
        unanswered: SEARCHES_UNANSWERED,
        per_second: SEARCHES_PER_SECOND,
        burst: SEARCHES_BURST,
    };
    const REQUEST: &'static str = "search request";
    const ROLE: &'static str = "indexer";
    const NOT_SERVED: (RefusalCode, &'static str) = (RefusalCode::Draining, "searches are not answered here yet");

    fn refusal(refusal: &Refusal) -> Self::Response {
        let refusal = wire::refusal_to_proto(refusal);
        proto::SearchResponse { response: Some(proto::search_response::Response::Refusal(refusal)) }
    }

    fn counts(counters: &Counters) -> Counts<'_> {
        Counts {
            received: &counters.searches_received,
            sent: &counters.searches_sent,
            queue_full: &counters.searches_queue_full,
            unanswered: &counters.searches_unanswered,
        }
    }

    fn question(asked: Asked<Self>) -> Question {
        Question::Search(asked)
    }

    fn desk(inner: &Inner) -> &Desk<Self> {
        &inner.searches
    }

    fn exchange(behaviour: &mut Behaviour) -> &mut Exchange<Self> {
        &mut behaviour.search
    }

    fn questions(node: &mut Node) -> &mut Questions<Self> {
        &mut node.searches
    }
}

/// Between indexers.
#[derive(Debug)]
pub(crate) enum Sync {}

impl Protocol for Sync {
    type Request = proto::SyncRequest;
    type Response = proto::SyncResponse;

    const NAME: StreamProtocol = SYNC;
    const BOUNDS: Bounds = Bounds {
        request_bytes: MAX_SYNC_MESSAGE_BYTES,
        response_bytes: MAX_SYNC_MESSAGE_BYTES,
        wait: SYNC_WAIT,
        waiting: SYNCS,
        unanswered: SYNCS_UNANSWERED,
        per_second: SYNCS_PER_SECOND,
        burst: SYNCS_BURST,
    };
    const REQUEST: &'static str = "sync request";
    const ROLE: &'static str = "indexer";
    const NOT_SERVED: (RefusalCode, &'static str) = (RefusalCode::Draining, "books are not compared here yet");

    fn refusal(refusal: &Refusal) -> Self::Response {
        let refusal = wire::refusal_to_proto(refusal);
        proto::SyncResponse { response: Some(proto::sync_response::Response::Refusal(refusal)) }
    }

    fn counts(counters: &Counters) -> Counts<'_> {
        Counts {
            received: &counters.syncs_received,
            sent: &counters.syncs_sent,
            queue_full: &counters.syncs_queue_full,
            unanswered: &counters.syncs_unanswered,
        }
    }

    fn question(asked: Asked<Self>) -> Question {
        Question::Sync(asked)
    }

    fn desk(inner: &Inner) -> &Desk<Self> {
        &inner.syncs
    }

    fn exchange(behaviour: &mut Behaviour) -> &mut Exchange<Self> {
        &mut behaviour.sync
    }

    fn questions(node: &mut Node) -> &mut Questions<Self> {
        &mut node.syncs
    }
}

/// A question of this node on its way, and where its answer goes.
pub(crate) type AskReply<P> = oneshot::Sender<Result<<P as Protocol>::Response, crate::error::AskError>>;
/// A question of a peer, for the role that answers.
pub(crate) type IncomingOf<P> = Incoming<<P as Protocol>::Request, <P as Protocol>::Response>;
/// Where its answer goes.
pub(crate) type ReplyOf<P> = Reply<<P as Protocol>::Response>;
