//! One connection's side of the session protocol: negotiates outgoing streams, and reads the header of each incoming one before it is
//! queued for the role that serves it. Everything here runs inside the connection's task and ends with it.

use super::{IncomingSession, OpenRequest, PROTOCOL, SessionStream, too_many};
use crate::{
    counters::Counters,
    error::OpenError,
    frame::{FrameError, read_message},
    limit::RateLimiter,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use market::refusal::{Refusal, RefusalCode};
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use wire::MAX_MESSAGE_BYTES;

/// How long a stream may take to say what it is for.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// Streams of one connection whose header is being read. Yamux allows 256 streams that were not yet acknowledged, so an honest opener
/// cannot have more on their way.
const MAX_READING: usize = 256;
/// Streams of one connection that are being refused on top of those; beyond it a flood gets no answer.
const MAX_REFUSING: usize = 256;

/// What the handlers of all connections share: the way to the role that serves sessions.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) counters: Arc<Counters>,
    /// Whether a role has taken the other end of the queue.
    pub(crate) served: AtomicBool,
    pub(crate) queue: mpsc::Sender<IncomingSession>,
    pub(crate) limiter: RateLimiter,
}

impl Shared {
    async fn serve(self: Arc<Self>, peer: PeerId, stream: Stream) {
        let mut stream = SessionStream::new(stream);
        let header = match timeout(HEADER_WAIT, read_message(&mut stream, MAX_MESSAGE_BYTES)).await {
            Ok(Ok(Some(header))) => header,
            Ok(Err(fault @ FrameError::TooLong { .. })) => {
                self.counters.messages_oversize.add();
                return refuse(stream, Refusal::new(RefusalCode::BadRequest, fault.to_string())).await;
            }
            Ok(Err(fault @ (FrameError::Malformed(_) | FrameError::BadLength))) => {
                self.counters.messages_malformed.add();
                return refuse(stream, Refusal::new(RefusalCode::BadRequest, fault.to_string())).await;
            }
            Ok(Ok(None) | Err(FrameError::Io(_))) | Err(_) => return self.counters.sessions_dropped.add(),
        };
        if !self.served.load(Ordering::Acquire) {
            return refuse(stream, Refusal::new(RefusalCode::Draining, "this node does not serve rentals now")).await;
        }
        if !self.limiter.allow(&peer) {
            self.counters.rate_limited.add();
            return refuse(stream, too_many("too many sessions opened, try again in a few seconds")).await;
        }
        match self.queue.try_send(IncomingSession::new(peer, header, stream)) {
            Ok(()) => {}
            Err(TrySendError::Full(session)) => {
                self.counters.sessions_queue_full.add();
                refuse(session.stream, too_many("too many sessions are waiting, try again in a few seconds")).await;
            }
            Err(TrySendError::Closed(session)) => {
                refuse(session.stream, Refusal::new(RefusalCode::Draining, "the provider is stopping")).await;
            }
        }
    }
}

async fn refuse(stream: SessionStream, refusal: Refusal) {
    if let Err(error) = stream.refuse(&refusal).await {
        tracing::debug!(%error, "a refused session's opener was already gone");
    }
}

/// See the module.
pub(crate) struct Handler {
    peer: PeerId,
    shared: Arc<Shared>,
    requests: VecDeque<OpenRequest>,
    incoming: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Handler {
    pub(super) fn new(peer: PeerId, shared: Arc<Shared>) -> Self {
        Self { peer, shared, requests: VecDeque::new(), incoming: FuturesUnordered::new() }
    }

    fn on_incoming(&mut self, stream: Stream) {
        self.shared.counters.sessions_received.add();
        match self.incoming.len() {
            reading if reading < MAX_READING => {
                self.incoming.push(Arc::clone(&self.shared).serve(self.peer, stream).boxed());
            }
            answering if answering < MAX_READING + MAX_REFUSING => {
                self.shared.counters.sessions_queue_full.add();
                let refusal = too_many("too many sessions opened at once, try again in a few seconds");
                self.incoming.push(refuse(SessionStream::new(stream), refusal).boxed());
            }
            _ => self.shared.counters.sessions_dropped.add(),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenRequest;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenRequest;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, request: OpenRequest) {
        self.requests.push_back(request);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, OpenRequest, Infallible>> {
        while let Poll::Ready(Some(())) = self.incoming.poll_next_unpin(cx) {}
        match self.requests.pop_front() {
            // the request travels with its stream, so that answers cannot be mixed up
            Some(request) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), request),
            }),
            None => Poll::Pending,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), OpenRequest>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.on_incoming(protocol)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.shared.counters.sessions_sent.add();
                // an opener that gave up has dropped its end; the stream goes with it
                let _ = info.reply.send(Ok(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let fault = match error {
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenError::Stream(error.into()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.reply.send(Err(fault));
            }
            _ => {}
        }
    }
}
