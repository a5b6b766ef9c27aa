//! Questions between roles, whatever the protocol: ours go out when there is a connection, theirs go to the role that serves the protocol
//! through a bounded queue. Whatever cannot be answered properly is still answered, with a typed refusal.

use super::Node;
use crate::{
    codec::{Checked, Fault},
    error::AskError,
    handle::{Asked, Question},
    limit::RateLimiter,
    protocol::{AskReply, IncomingOf, Protocol, ReplyOf},
};
use ::market::refusal::{Refusal, RefusalCode};
use futures::{FutureExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId, StreamProtocol,
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

/// Questions of one protocol to one peer that wait for an answer. A connection carries twice as many, so that two peers can ask each other.
const MAX_ASKED_OF_ONE: usize = 64;

type Answer<P> = Checked<<P as Protocol>::Response>;
type Event<P> = request_response::Event<Checked<<P as Protocol>::Request>, Answer<P>>;

/// The way to the role that answers.
pub(crate) struct ToRole<P: Protocol> {
    pub(crate) queue: mpsc::Sender<IncomingOf<P>>,
    pub(crate) served: Arc<AtomicBool>,
}

/// An answer of the role, and where it goes; `None` when it gave none.
pub(crate) struct Answered<P: Protocol> {
    channel: ResponseChannel<Answer<P>>,
    response: Option<P::Response>,
}

/// The questions of a protocol that are under way, in both directions.
pub(crate) struct Questions<P: Protocol> {
    to_role: ToRole<P>,
    limiter: RateLimiter,
    /// Bounded by the protocol's own number.
    pub(super) answers: FuturesUnordered<BoxFuture<'static, Answered<P>>>,
    /// Bounded by [`MAX_ASKED_OF_ONE`] for each connected peer.
    asked: HashMap<OutboundRequestId, (PeerId, AskReply<P>)>,
}

impl<P: Protocol> Questions<P> {
    pub(super) fn new(to_role: ToRole<P>) -> Self {
        Self {
            to_role,
            limiter: RateLimiter::new(P::BOUNDS.per_second, P::BOUNDS.burst),
            answers: FuturesUnordered::new(),
            asked: HashMap::new(),
        }
    }

    fn done(&mut self, id: OutboundRequestId, result: impl FnOnce(PeerId) -> Result<P::Response, AskError>) {
        if let Some((peer, reply)) = self.asked.remove(&id) {
            // whoever asked may have given up
            let _ = reply.send(result(peer));
        }
    }
}

fn refusal<P: Protocol>(code: RefusalCode, detail: impl Into<String>) -> Box<P::Response> {
    Box::new(P::refusal(&Refusal::new(code, detail)))
}

impl Node {
    /// Asks a connected peer.
    pub(super) fn ask(&mut self, peer: PeerId, question: Question) {
        match question {
            Question::Rental(asked) => self.send(peer, asked),
            Question::Search(asked) => self.send(peer, asked),
            Question::Sync(asked) => self.send(peer, asked),
        }
    }

    fn send<P: Protocol>(&mut self, peer: PeerId, Asked { request, reply }: Asked<P>) {
        if P::questions(self).asked.values().filter(|(asked, _)| *asked == peer).count() >= MAX_ASKED_OF_ONE {
            let _ = reply.send(Err(AskError::Busy));
            return;
        }
        P::counts(&self.counters).sent.add();
        let id = P::exchange(self.swarm.behaviour_mut()).send_request(&peer, Ok(*request));
        P::questions(self).asked.insert(id, (peer, reply));
    }

    pub(super) fn on_question_event<P: Protocol>(&mut self, event: Event<P>) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_question::<P>(peer, request, channel);
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                let result = response.map_err(|fault| {
                    self.count_message_fault(fault);
                    match fault {
                        Fault::TooLong => AskError::Oversize,
                        Fault::Malformed => AskError::Malformed,
                    }
                });
                P::questions(self).done(request_id, |_| result);
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                P::questions(self).done(request_id, |peer| Err(ask_error(&P::NAME, peer, &error)));
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, protocol = %P::NAME, "a question was not answered");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_question<P: Protocol>(
        &mut self,
        peer: PeerId,
        request: Checked<P::Request>,
        channel: ResponseChannel<Answer<P>>,
    ) {
        P::counts(&self.counters).received.add();
        let refused = match request {
            Err(fault) => {
                self.count_message_fault(fault);
                let detail = match fault {
                    Fault::TooLong => format!("longer than {} bytes", P::BOUNDS.request_bytes),
                    Fault::Malformed => format!("not a {}", P::REQUEST),
                };
                Err(refusal::<P>(RefusalCode::BadRequest, detail))
            }
            Ok(request) => self.queue_question::<P>(peer, request),
        };
        match refused {
            Ok(answer) => {
                let wait = tokio::time::timeout(P::BOUNDS.wait, answer);
                let answered = wait.map(|response| Answered { channel, response: response.ok().and_then(Result::ok) });
                P::questions(self).answers.push(answered.boxed());
            }
            Err(refusal) => self.respond::<P>(channel, *refusal),
        }
    }

    /// Gives the question to the role, or says why not.
    fn queue_question<P: Protocol>(
        &mut self,
        peer: PeerId,
        request: P::Request,
    ) -> Result<oneshot::Receiver<P::Response>, Box<P::Response>> {
        let counters = Arc::clone(&self.counters);
        let questions = P::questions(self);
        if !questions.to_role.served.load(Ordering::Acquire) {
            let (code, detail) = P::NOT_SERVED;
            return Err(refusal::<P>(code, detail));
        }
        if !questions.limiter.allow(&peer) {
            counters.rate_limited.add();
            return Err(refusal::<P>(RefusalCode::RateLimited, "too many requests, try again in a few seconds"));
        }
        let busy = || {
            P::counts(&counters).queue_full.add();
            let detail = format!("the {} is busy, try again in a few seconds", P::ROLE);
            refusal::<P>(RefusalCode::RateLimited, detail)
        };
        if questions.answers.len() >= P::BOUNDS.unanswered {
            return Err(busy());
        }
        let (sender, answer) = oneshot::channel();
        let incoming = IncomingOf::<P> { peer, request, reply: ReplyOf::<P>::new(sender) };
        match questions.to_role.queue.try_send(incoming) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(busy()),
            Err(TrySendError::Closed(_)) => {
                Err(refusal::<P>(RefusalCode::Draining, format!("the {} is stopping", P::ROLE)))
            }
        }
    }

    pub(super) fn answer<P: Protocol>(&mut self, answered: Answered<P>) {
        let response = match answered.response {
            Some(response) if response.encoded_len() <= P::BOUNDS.response_bytes => response,
            Some(_) => {
                self.counters.messages_oversize.add();
                *refusal::<P>(RefusalCode::Internal, "the answer is too long to send")
            }
            None => {
                P::counts(&self.counters).unanswered.add();
                *refusal::<P>(RefusalCode::Internal, format!("the {} gave no answer", P::ROLE))
            }
        };
        self.respond::<P>(answered.channel, response);
    }

    fn respond<P: Protocol>(&mut self, channel: ResponseChannel<Answer<P>>, response: P::Response) {
        if P::exchange(self.swarm.behaviour_mut()).send_response(channel, Ok(response)).is_err() {
            tracing::debug!(protocol = %P::NAME, "whoever asked did not wait for the answer");
        }
    }
}

pub(super) fn ask_error(protocol: &StreamProtocol, peer: PeerId, failure: &OutboundFailure) -> AskError {
    match failure {
        OutboundFailure::DialFailure => AskError::Unreachable(peer),
        OutboundFailure::Timeout => AskError::Timeout,
        OutboundFailure::UnsupportedProtocols => AskError::Unsupported(protocol.to_string()),
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::TimedOut => AskError::Timeout,
        OutboundFailure::ConnectionClosed | OutboundFailure::Io(_) => AskError::Lost,
    }
}
