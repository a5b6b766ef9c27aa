//! Ratings in the network: those gossiped are judged on the pool and passed on, questions to this node's desk are answered there too, and
//! what this node has to say or ask goes out.

use super::Node;
use crate::{
    behaviour::RATINGS,
    codec::{Checked, Fault},
    error::AskError,
    limit::RateLimiter,
    rating::Taking,
    verify::Job,
};
use libp2p::{
    PeerId,
    gossipsub::{MessageAcceptance, MessageId, PublishError as GossipError},
    request_response::{self, Message, OutboundRequestId, ResponseChannel},
};
use std::collections::HashMap;
use tokio::sync::oneshot;
use wire::proto;

/// Ratings a peer may pass on: five times what the whole market makes at the design's scale, a hundred thousand providers with ten rentals a
/// day of which a third are rated.
const RATINGS_PER_SECOND: u32 = 20;
/// And how many at once: what a neighbour passes on that was away for some seconds.
const RATINGS_BURST: u32 = 200;
/// Questions a peer may ask a desk: each may read some hundred rentals from a disk.
const QUESTIONS_PER_SECOND: u32 = 10;
/// And how many at once: the pages of one provider.
const QUESTIONS_BURST: u32 = 50;
/// Questions of this node that wait for an answer: people ask about one provider at a time.
const MAX_ASKED: usize = 64;

pub(crate) type RatingsAnswer = Checked<proto::RatingsResponse>;
type RatingsEvent = request_response::Event<Checked<proto::RatingsRequest>, RatingsAnswer>;
type AskReply = oneshot::Sender<Result<proto::RatingsResponse, AskError>>;

/// An answer of the desk, and what is to be told to everybody because of it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) channel: ResponseChannel<RatingsAnswer>,
    pub(crate) response: Option<proto::RatingsResponse>,
    pub(crate) publish: Option<Vec<u8>>,
}

pub(super) struct Ratings {
    gossiped: RateLimiter,
    questions: RateLimiter,
    /// Bounded by [`MAX_ASKED`].
    asked: HashMap<OutboundRequestId, (PeerId, AskReply)>,
}

impl Ratings {
    pub(super) fn new() -> Self {
        Self {
            gossiped: RateLimiter::new(RATINGS_PER_SECOND, RATINGS_BURST),
            questions: RateLimiter::new(QUESTIONS_PER_SECOND, QUESTIONS_BURST),
            asked: HashMap::new(),
        }
    }
}

/// What gossip does with a rating that the desk has judged.
pub(crate) fn acceptance(taking: &Taking) -> MessageAcceptance {
    match taking {
        Taking::Kept | Taking::Waiting => MessageAcceptance::Accept,
        Taking::Known | Taking::StillWaiting | Taking::Refused(_) => MessageAcceptance::Ignore,
        Taking::Forged(_) => MessageAcceptance::Reject,
    }
}

/// What whoever gave a rating is told.
pub(crate) fn given(taking: Taking) -> proto::Given {
    use proto::given::State;
    let (state, detail) = match taking {
        Taking::Kept | Taking::Known => (State::Kept, String::new()),
        Taking::Waiting | Taking::StillWaiting => {
            (State::Waiting, "the chain does not show yet that the rental is closed".to_owned())
        }
        Taking::Refused(why) | Taking::Forged(why) => (State::Refused, why),
    };
    proto::Given { state: state.into(), detail }
}

impl Node {
    /// A rating came by gossip: to the pool, unless its neighbour passes on too many.
    pub(super) fn on_rating(&mut self, source: PeerId, id: MessageId, data: Vec<u8>) {
        self.counters.ratings_received.add();
        if !self.ratings.gossiped.allow(&source) {
            self.counters.rate_limited.add();
            return self.judge_rating(&id, &source, MessageAcceptance::Ignore);
        }
        if self.pool.submit(Job::Rating { id: id.clone(), source, data }).is_err() {
            self.counters.pool_full.add();
            self.judge_rating(&id, &source, MessageAcceptance::Ignore);
        }
    }

    pub(super) fn judge_rating(&mut self, id: &MessageId, source: &PeerId, acceptance: MessageAcceptance) {
        match acceptance {
            MessageAcceptance::Accept => self.counters.ratings_accepted.add(),
            MessageAcceptance::Ignore => self.counters.ratings_ignored.add(),
            MessageAcceptance::Reject => self.counters.ratings_rejected.add(),
        }
        // false only when the verdict came too late for gossip to pass the message on
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, source, acceptance);
    }

    /// Tells everybody a rating. `false` when nobody who keeps ratings is connected.
    pub(super) fn publish_rating(&mut self, data: Vec<u8>) -> bool {
        let topic = self.topics.ratings();
        match self.swarm.behaviour_mut().gossip.publish(topic, data) {
            // repeated within the time in which gossip knows it again: it is told already
            Ok(_) | Err(GossipError::Duplicate) => true,
            Err(GossipError::NoPeersSubscribedToTopic) => false,
            Err(error) => {
                tracing::debug!(%error, "gossip does not take the rating");
                self.counters.publish_failed.add();
                false
            }
        }
    }

    /// The connected peers that keep ratings.
    pub(super) fn rating_keepers(&self) -> Vec<PeerId> {
        let topic = self.topics.ratings().hash();
        let gossip = &self.swarm.behaviour().gossip;
        gossip.all_peers().filter(|(_, followed)| followed.contains(&&topic)).map(|(peer, _)| *peer).collect()
    }

    /// Asks a connected peer about ratings.
    pub(super) fn ask_ratings(&mut self, peer: PeerId, request: proto::RatingsRequest, reply: AskReply) {
        if self.ratings.asked.len() >= MAX_ASKED {
            let _ = reply.send(Err(AskError::Busy));
            return;
        }
        if !self.swarm.is_connected(&peer) {
            let _ = reply.send(Err(AskError::Unreachable(peer)));
            return;
        }
        let id = self.swarm.behaviour_mut().ratings.send_request(&peer, Ok(request));
        self.ratings.asked.insert(id, (peer, reply));
    }

    pub(super) fn on_ratings_event(&mut self, event: RatingsEvent) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_ratings_request(peer, request, channel);
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                let result = response.map_err(|fault| {
                    self.count_message_fault(fault);
                    match fault {
                        Fault::TooLong => AskError::Oversize,
                        Fault::Malformed => AskError::Malformed,
                    }
                });
                self.ratings_answered(request_id, |_| result);
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                self.ratings_answered(request_id, |peer| Err(super::questions::ask_error(&RATINGS, peer, &error)));
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a question about ratings was not answered");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn ratings_answered(
        &mut self,
        id: OutboundRequestId,
        result: impl FnOnce(PeerId) -> Result<proto::RatingsResponse, AskError>,
    ) {
        if let Some((peer, reply)) = self.ratings.asked.remove(&id) {
            // whoever asked may have given up
            let _ = reply.send(result(peer));
        }
    }

    /// To the pool, where the desk is; without an answer the channel is dropped and the stream ends.
    fn on_ratings_request(
        &mut self,
        peer: PeerId,
        request: Checked<proto::RatingsRequest>,
        channel: ResponseChannel<RatingsAnswer>,
    ) {
        if !self.ratings.questions.allow(&peer) {
            return self.counters.rate_limited.add();
        }
        match request {
            Err(fault) => self.count_message_fault(fault),
            Ok(request) => {
                if self.pool.submit(Job::Ratings { peer, request, channel }).is_err() {
                    self.counters.pool_full.add();
                }
            }
        }
    }

    /// The desk has answered.
    pub(super) fn answer_ratings(&mut self, answered: Answered) {
        let Answered { channel, response, publish } = answered;
        if let Some(data) = publish {
            self.publish_rating(data);
        }
        let Some(response) = response else { return self.counters.messages_malformed.add() };
        if self.swarm.behaviour_mut().ratings.send_response(channel, Ok(response)).is_err() {
            tracing::debug!("asked about ratings and did not wait");
        }
    }
}
