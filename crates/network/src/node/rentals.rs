//! Questions between renters and providers: ours go out when there is a connection, theirs go to the provider role through a bounded
//! queue. Whatever cannot be answered properly is still answered, with a typed refusal.

use super::Node;
use crate::{
    behaviour::RENTAL_WAIT,
    codec::{Checked, Fault},
    error::AskError,
    handle::{IncomingRental, Reply},
    limit::RateLimiter,
};
use ::market::refusal::{Refusal, RefusalCode};
use futures::{FutureExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId,
    request_response::{self, Message, OutboundFailure, OutboundRequestId, ResponseChannel},
};
use prost::Message as _;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use wire::{MAX_MESSAGE_BYTES, proto};

/// Questions a peer may ask: vouchers come every third of an increment, and a renter may have many rentals at one provider.
const ASKS_PER_SECOND: u32 = 100;
/// And how many at once.
const ASKS_BURST: u32 = 300;
/// Questions to one peer that wait for an answer. A connection carries twice as many, so that two peers can ask each other.
const MAX_ASKED_OF_ONE: usize = 64;
/// Questions that the provider role is working on. It may take half a minute over each.
const MAX_UNANSWERED: usize = 512;

type Answer = Checked<proto::RentalResponse>;
type RentalEvent = request_response::Event<Checked<proto::RentalRequest>, Answer>;
type AskReply = oneshot::Sender<Result<proto::RentalResponse, AskError>>;

/// The way to the provider role.
pub(crate) struct RentalQueue {
    pub(crate) queue: mpsc::Sender<IncomingRental>,
    pub(crate) served: Arc<AtomicBool>,
}

/// An answer of the provider role, and where it goes; `None` when it gave none.
pub(super) struct Answered {
    channel: ResponseChannel<Answer>,
    response: Option<proto::RentalResponse>,
}

pub(super) struct Rentals {
    to_role: RentalQueue,
    limiter: RateLimiter,
    /// Bounded by [`MAX_UNANSWERED`].
    pub(super) answers: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Bounded by [`MAX_ASKED_OF_ONE`] for each connected peer.
    asked: HashMap<OutboundRequestId, (PeerId, AskReply)>,
}

impl Rentals {
    pub(super) fn new(to_role: RentalQueue) -> Self {
        Self {
            to_role,
            limiter: RateLimiter::new(ASKS_PER_SECOND, ASKS_BURST),
            answers: FuturesUnordered::new(),
            asked: HashMap::new(),
        }
    }
}

fn refusal(code: RefusalCode, detail: &str) -> Box<proto::RentalResponse> {
    let refusal = wire::refusal_to_proto(&Refusal::new(code, detail));
    Box::new(proto::RentalResponse { response: Some(proto::rental_response::Response::Refusal(refusal)) })
}

impl Node {
    /// Asks a connected peer.
    pub(super) fn ask(&mut self, peer: PeerId, request: proto::RentalRequest, reply: AskReply) {
        if self.rentals.asked.values().filter(|(asked, _)| *asked == peer).count() >= MAX_ASKED_OF_ONE {
            let _ = reply.send(Err(AskError::Busy));
            return;
        }
        self.counters.rentals_sent.add();
        let id = self.swarm.behaviour_mut().rental.send_request(&peer, Ok(request));
        self.rentals.asked.insert(id, (peer, reply));
    }

    pub(super) fn on_rental_event(&mut self, event: RentalEvent) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_rental_request(peer, request, channel);
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                let result = response.map_err(|fault| {
                    self.count_message_fault(fault);
                    match fault {
                        Fault::TooLong => AskError::Oversize,
                        Fault::Malformed => AskError::Malformed,
                    }
                });
                self.asked_done(request_id, |_| result);
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                self.asked_done(request_id, |peer| Err(ask_error(peer, &error)));
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a question was not answered")
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn asked_done(
        &mut self,
        id: OutboundRequestId,
        result: impl FnOnce(PeerId) -> Result<proto::RentalResponse, AskError>,
    ) {
        if let Some((peer, reply)) = self.rentals.asked.remove(&id) {
            // whoever asked may have given up
            let _ = reply.send(result(peer));
        }
    }

    fn on_rental_request(
        &mut self,
        peer: PeerId,
        request: Checked<proto::RentalRequest>,
        channel: ResponseChannel<Answer>,
    ) {
        self.counters.rentals_received.add();
        let refused = match request {
            Err(fault) => {
                self.count_message_fault(fault);
                Err(match fault {
                    Fault::TooLong => {
                        refusal(RefusalCode::BadRequest, &format!("longer than {MAX_MESSAGE_BYTES} bytes"))
                    }
                    Fault::Malformed => refusal(RefusalCode::BadRequest, "not a rental request"),
                })
            }
            Ok(request) => self.queue_rental(peer, request),
        };
        match refused {
            Ok(answer) => {
                let wait = tokio::time::timeout(RENTAL_WAIT, answer);
                let answered = wait.map(|response| Answered { channel, response: response.ok().and_then(Result::ok) });
                self.rentals.answers.push(answered.boxed());
            }
            Err(refusal) => self.respond(channel, *refusal),
        }
    }

    /// Gives the question to the provider role, or says why not.
    fn queue_rental(
        &mut self,
        peer: PeerId,
        request: proto::RentalRequest,
    ) -> Result<oneshot::Receiver<proto::RentalResponse>, Box<proto::RentalResponse>> {
        if !self.rentals.to_role.served.load(Ordering::Acquire) {
            return Err(refusal(RefusalCode::NoSuchSlot, "this node rents nothing out"));
        }
        if !self.rentals.limiter.allow(&peer) {
            self.counters.rate_limited.add();
            return Err(refusal(RefusalCode::RateLimited, "too many requests, try again in a few seconds"));
        }
        let (sender, answer) = oneshot::channel();
        let incoming = IncomingRental { peer, request, reply: Reply::new(sender) };
        if self.rentals.answers.len() >= MAX_UNANSWERED {
            self.counters.rentals_queue_full.add();
            return Err(refusal(RefusalCode::RateLimited, "the provider is busy, try again in a few seconds"));
        }
        match self.rentals.to_role.queue.try_send(incoming) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => {
                self.counters.rentals_queue_full.add();
                Err(refusal(RefusalCode::RateLimited, "the provider is busy, try again in a few seconds"))
            }
            Err(TrySendError::Closed(_)) => Err(refusal(RefusalCode::Draining, "the provider is stopping")),
        }
    }

    pub(super) fn answer_rental(&mut self, answered: Answered) {
        let response = match answered.response {
            Some(response) if response.encoded_len() <= MAX_MESSAGE_BYTES => response,
            Some(_) => {
                self.counters.messages_oversize.add();
                *refusal(RefusalCode::Internal, "the answer is too long to send")
            }
            None => {
                self.counters.rentals_unanswered.add();
                *refusal(RefusalCode::Internal, "the provider gave no answer")
            }
        };
        self.respond(answered.channel, response);
    }

    fn respond(&mut self, channel: ResponseChannel<Answer>, response: proto::RentalResponse) {
        if self.swarm.behaviour_mut().rental.send_response(channel, Ok(response)).is_err() {
            tracing::debug!("a renter did not wait for its answer");
        }
    }
}

fn ask_error(peer: PeerId, failure: &OutboundFailure) -> AskError {
    match failure {
        OutboundFailure::DialFailure => AskError::Unreachable(peer),
        OutboundFailure::Timeout => AskError::Timeout,
        OutboundFailure::UnsupportedProtocols => AskError::Unsupported,
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::TimedOut => AskError::Timeout,
        OutboundFailure::ConnectionClosed | OutboundFailure::Io(_) => AskError::Lost,
    }
}
