//! Which connection a session stream is opened on. A direct connection is preferred to a relayed one, which is slow and limited; the
//! choice is made for each stream, so that streams opened after a hole punch are direct.

use super::handler::{Handler, Shared};
use crate::error::OpenError;
use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::sync::oneshot;

/// Where an opened stream goes.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) reply: oneshot::Sender<Result<Stream, OpenError>>,
}

#[derive(Debug)]
struct Link {
    id: ConnectionId,
    relayed: bool,
}

/// Keeps the connections of each peer and passes requests to open a stream to the best one.
#[derive(Debug)]
pub(crate) struct Behaviour {
    shared: Arc<Shared>,
    links: HashMap<PeerId, Vec<Link>>,
    /// Bounded by what the node's command queue lets through between two polls.
    requests: VecDeque<(PeerId, ConnectionId, OpenRequest)>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, links: HashMap::new(), requests: VecDeque::new(), waker: None }
    }

    /// Opens a stream to a connected peer; any other is unreachable.
    pub(crate) fn open(&mut self, peer: PeerId, request: OpenRequest) {
        let links = self.links.get(&peer).map_or(&[][..], Vec::as_slice);
        // the newest connection of the better kind: an older one may be the dying half of a reconnect
        match links.iter().rev().min_by_key(|link| link.relayed) {
            Some(link) => {
                self.requests.push_back((peer, link.id, request));
                if let Some(waker) = self.waker.take() {
                    waker.wake();
                }
            }
            None => drop(request.reply.send(Err(OpenError::Unreachable))),
        }
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler::new(peer, Arc::clone(&self.shared))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(new) => {
                let link = Link { id: new.connection_id, relayed: new.endpoint.is_relayed() };
                self.links.entry(new.peer_id).or_default().push(link);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(links) = self.links.get_mut(&peer_id) {
                    links.retain(|link| link.id != connection_id);
                    if links.is_empty() {
                        self.links.remove(&peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // a request for a connection that closed meanwhile is dropped by the swarm, and with it the sender its opener waits on
        if let Some((peer_id, connection, event)) = self.requests.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
