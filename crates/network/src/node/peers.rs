//! Being connected: bootstrap peers are dialled again whenever they are away, and whoever is needed for a question or a session is found
//! and dialled. The order is: a connection that exists, addresses that are known, addresses that other peers know.

use super::Node;
use crate::{
    behaviour::{IDENTIFY, OFFERS, ROUTING},
    error::{AskError, DialError, OpenError},
    handle::Question,
    protocol::{SEARCH, SYNC},
    session::OpenRequest,
};
use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    identify,
    kad::{self, QueryId, QueryResult},
    multiaddr::Protocol,
    ping,
    swarm::{
        ConnectionId, DialError as SwarmDialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The first wait before a bootstrap peer is dialled again; it doubles with each failure.
const FIRST_REDIAL: Duration = Duration::from_secs(1);
/// The longest wait: a peer that comes back is found within a minute, and one that does not costs nothing to speak of.
const MAX_REDIAL: Duration = Duration::from_secs(60);
/// Questions and sessions waiting for a connection, in all.
const MAX_WAITING: usize = 256;
/// How long they wait: two dials and a search.
const MAX_REACH: Duration = Duration::from_secs(25);
/// How often a peer is searched for, [`SEARCH_PAUSE`] apart: whoever has only just joined is not yet known to those who are asked.
const MAX_SEARCHES: u32 = 3;
/// The time in which two peers that have just connected learn each other's addresses.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);
/// Addresses of one peer that are remembered: a machine with more interfaces than this lists the useful ones first.
const MAX_ADDRESSES: usize = 16;
/// Pings in a row that may go unanswered; they are sent every 15 s. A dead TCP connection would otherwise be noticed only when used.
const MAX_LOST_PINGS: u32 = 3;

/// What is to be done with a peer once it is connected.
pub(super) enum Errand {
    Ask(Question),
    Open(OpenRequest),
}

impl Errand {
    fn fail(self, peer: PeerId, busy: bool) {
        // whoever waits may have given up
        match self {
            Self::Ask(question) => question.fail(if busy { AskError::Busy } else { AskError::Unreachable(peer) }),
            Self::Open(request) => {
                drop(request.reply.send(Err(if busy { OpenError::Busy } else { OpenError::Unreachable })))
            }
        }
    }
}

/// How far the search for a peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Dialling what is known.
    Dialling,
    /// Asking others.
    Searching(QueryId),
    /// Dialling what was found.
    DiallingFound,
    /// Nothing was found; asking again then.
    Pausing(Instant),
}

struct Route {
    errands: Vec<Errand>,
    stage: Stage,
    searches: u32,
    until: Instant,
}

struct Bootstrap {
    address: Multiaddr,
    /// Who is there; learnt at the first connection when the address does not say.
    peer: Option<PeerId>,
    dialling: Option<ConnectionId>,
    next: Instant,
    pause: Duration,
}

struct Connection {
    /// Over the loopback interface: only then do its peer's loopback addresses mean anything to us.
    loopback: bool,
    lost_pings: u32,
}

pub(super) struct Peers {
    bootstrap: Vec<Bootstrap>,
    /// Bounded by the connection limits.
    connections: HashMap<ConnectionId, Connection>,
    /// Peers whose list was asked for during this connection.
    listed: HashSet<PeerId>,
    /// Connected peers that answer searches. Bounded by the connection limits.
    indexers: HashSet<PeerId>,
    routes: HashMap<PeerId, Route>,
    /// Bounded by the limit on pending connections.
    dials: HashMap<ConnectionId, (Multiaddr, oneshot::Sender<Result<PeerId, DialError>>)>,
}

impl Peers {
    pub(super) fn new<'a>(bootstrap: impl Iterator<Item = &'a Multiaddr>) -> Self {
        let entry = |address: &Multiaddr| Bootstrap {
            address: address.clone(),
            peer: address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None }),
            dialling: None,
            next: Instant::now(),
            pause: FIRST_REDIAL,
        };
        Self {
            bootstrap: bootstrap.map(entry).collect(),
            connections: HashMap::new(),
            listed: HashSet::new(),
            indexers: HashSet::new(),
            routes: HashMap::new(),
            dials: HashMap::new(),
        }
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// Connections as they come and go.
impl Node {
    pub(super) fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<PeerId, DialError>>) {
        let options = DialOpts::from(address.clone());
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.peers.dials.insert(id, (address, reply))),
            // the address names a peer that is connected already
            Err(SwarmDialError::DialPeerConditionFalse(_)) => {
                let peer =
                    address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None });
                let connected = peer.filter(|peer| self.swarm.is_connected(peer));
                let reason = "another dial to this peer is under way".to_owned();
                let _ = reply.send(connected.ok_or(DialError::Failed { address, reason }));
            }
            Err(error) => drop(reply.send(Err(DialError::Failed { address, reason: error.to_string() }))),
        }
    }

    /// Dials the bootstrap peers that are away and due.
    pub(super) fn keep_bootstrapped(&mut self, now: Instant) {
        for entry in &mut self.peers.bootstrap {
            let there =
                entry.peer.is_some_and(|peer| peer == *self.swarm.local_peer_id() || self.swarm.is_connected(&peer));
            if there || entry.dialling.is_some() || entry.next > now {
                continue;
            }
            let options = DialOpts::from(entry.address.clone());
            entry.dialling = Some(options.connection_id());
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(address = %entry.address, %error, "bootstrap peer");
                entry.failed(now);
            }
        }
    }

    pub(super) fn on_connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let loopback = is_loopback(endpoint.get_remote_address());
        self.peers.connections.insert(id, Connection { loopback, lost_pings: 0 });
        for entry in self.peers.bootstrap.iter_mut().filter(|entry| entry.dialling == Some(id)) {
            entry.dialling = None;
            entry.peer = Some(peer);
            entry.pause = FIRST_REDIAL;
        }
        if let Some((_, reply)) = self.peers.dials.remove(&id) {
            let _ = reply.send(Ok(peer));
        }
        if let Some(route) = self.peers.routes.remove(&peer) {
            route.errands.into_iter().for_each(|errand| self.run_errand(peer, errand));
        }
        self.report_connected();
    }

    pub(super) fn on_disconnected(&mut self, peer: PeerId, id: ConnectionId, remaining: u32) {
        self.peers.connections.remove(&id);
        if remaining > 0 {
            return;
        }
        self.peers.listed.remove(&peer);
        self.note_indexer(peer, false);
        for entry in self.peers.bootstrap.iter_mut().filter(|entry| entry.peer == Some(peer)) {
            entry.next = Instant::now() + entry.pause;
        }
        self.report_connected();
    }

    fn note_indexer(&mut self, peer: PeerId, answers: bool) {
        let changed = if answers { self.peers.indexers.insert(peer) } else { self.peers.indexers.remove(&peer) };
        if changed {
            self.indexers.send_replace(self.peers.indexers.iter().copied().collect());
        }
    }

    fn report_connected(&self) {
        self.connected.send_replace(self.swarm.connected_peers().copied().collect());
    }

    pub(super) fn on_dial_failed(&mut self, peer: Option<PeerId>, id: ConnectionId, error: &SwarmDialError) {
        tracing::debug!(?peer, %error, "dial failed");
        self.counters.dials_failed.add();
        if let Some(entry) = self.peers.bootstrap.iter_mut().find(|entry| entry.dialling == Some(id)) {
            entry.failed(Instant::now());
        }
        if let Some((address, reply)) = self.peers.dials.remove(&id) {
            let _ = reply.send(Err(DialError::Failed { address, reason: error.to_string() }));
        }
        if let Some(peer) = peer {
            match self.peers.routes.get(&peer).map(|route| route.stage) {
                Some(Stage::Dialling) => self.search(peer),
                Some(Stage::DiallingFound) => self.search_later(peer),
                // the search dials too, and is not over yet
                Some(Stage::Searching(_) | Stage::Pausing(_)) | None => {}
            }
        }
    }

    pub(super) fn on_identified(&mut self, peer: PeerId, id: ConnectionId, info: identify::Info) {
        if info.protocol_version != IDENTIFY {
            return;
        }
        if info.protocols.contains(&ROUTING) {
            let loopback = self.peers.connections.get(&id).is_some_and(|connection| connection.loopback);
            for address in
                info.listen_addrs.into_iter().filter(|address| loopback || !is_loopback(address)).take(MAX_ADDRESSES)
            {
                self.swarm.behaviour_mut().routing.add_address(&peer, address);
            }
        }
        self.note_indexer(peer, info.protocols.contains(&SEARCH));
        // two indexers compare their books, which takes less than reading either to the end
        let compares = self.market.is_observed() && info.protocols.contains(&SYNC);
        if info.protocols.contains(&OFFERS) && !compares && self.peers.listed.insert(peer) {
            self.want_list(peer);
        }
    }

    pub(super) fn on_ping(&mut self, event: ping::Event) {
        let Some(connection) = self.peers.connections.get_mut(&event.connection) else { return };
        match event.result {
            // a peer that does not answer this protocol may be healthy all the same
            Ok(_) | Err(ping::Failure::Unsupported) => connection.lost_pings = 0,
            Err(error) => {
                connection.lost_pings += 1;
                if connection.lost_pings >= MAX_LOST_PINGS {
                    tracing::debug!(peer = %event.peer, %error, "closing a connection on which pings go unanswered");
                    self.counters.pings_lost.add();
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }
}

impl Bootstrap {
    fn failed(&mut self, now: Instant) {
        self.dialling = None;
        // up to a quarter more, so that a network that comes back does not dial all at once
        self.next = now + self.pause.mul_f64(rand::random_range(1.0..1.25));
        self.pause = (self.pause * 2).min(MAX_REDIAL);
    }
}

/// Finding the peer that somebody needs.
impl Node {
    /// Runs the errand with `peer` as soon as there is a connection.
    pub(super) fn reach(&mut self, peer: PeerId, errand: Errand) {
        if self.swarm.is_connected(&peer) {
            return self.run_errand(peer, errand);
        }
        if self.peers.routes.values().map(|route| route.errands.len()).sum::<usize>() >= MAX_WAITING {
            return errand.fail(peer, true);
        }
        if let Some(route) = self.peers.routes.get_mut(&peer) {
            return route.errands.push(errand);
        }
        let until = Instant::now() + MAX_REACH;
        self.peers.routes.insert(peer, Route { errands: vec![errand], stage: Stage::Dialling, searches: 0, until });
        if !self.dial_known(peer) {
            self.search(peer);
        }
    }

    fn run_errand(&mut self, peer: PeerId, errand: Errand) {
        match errand {
            Errand::Ask(question) => self.ask(peer, question),
            Errand::Open(request) => self.swarm.behaviour_mut().session.open(peer, request),
        }
    }

    /// Dials the addresses that the protocols remember. `false` when there are none.
    fn dial_known(&mut self, peer: PeerId) -> bool {
        let options = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).build();
        match self.swarm.dial(options) {
            // somebody else's dial serves as well
            Ok(()) | Err(SwarmDialError::DialPeerConditionFalse(_)) => true,
            Err(error) => {
                tracing::debug!(%peer, %error, "no known way to peer");
                false
            }
        }
    }

    /// Asks others for the peer's addresses.
    fn search(&mut self, peer: PeerId) {
        let query = self.swarm.behaviour_mut().routing.get_closest_peers(peer);
        if let Some(route) = self.peers.routes.get_mut(&peer) {
            route.stage = Stage::Searching(query);
            route.searches += 1;
        }
    }

    fn search_later(&mut self, peer: PeerId) {
        match self.peers.routes.get_mut(&peer) {
            Some(route) if route.searches < MAX_SEARCHES => route.stage = Stage::Pausing(Instant::now() + SEARCH_PAUSE),
            _ => self.unreachable(&peer),
        }
    }

    pub(super) fn on_routing_event(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result: QueryResult::GetClosestPeers(result), step, .. } = event
        else {
            return;
        };
        let found = match result {
            Ok(found) => found.peers,
            Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        let searched =
            self.peers.routes.iter().find(|(_, route)| route.stage == Stage::Searching(id)).map(|(peer, _)| *peer);
        let Some(peer) = searched.filter(|_| step.last) else { return };
        for address in
            found.into_iter().filter(|info| info.peer_id == peer).flat_map(|info| info.addrs).take(MAX_ADDRESSES)
        {
            self.swarm.add_peer_address(peer, address);
        }
        if let Some(route) = self.peers.routes.get_mut(&peer) {
            route.stage = Stage::DiallingFound;
        }
        if !self.dial_known(peer) {
            self.search_later(peer);
        }
    }

    fn unreachable(&mut self, peer: &PeerId) {
        if let Some(route) = self.peers.routes.remove(peer) {
            route.errands.into_iter().for_each(|errand| errand.fail(*peer, false));
        }
    }

    /// Searches again for whoever was not found, and fails what has waited too long.
    pub(super) fn keep_searching(&mut self, now: Instant) {
        let matching = |condition: &dyn Fn(&Route) -> bool| -> Vec<PeerId> {
            self.peers.routes.iter().filter(|(_, route)| condition(route)).map(|(peer, _)| *peer).collect()
        };
        let late = matching(&|route| route.until <= now);
        let due = matching(&|route| matches!(route.stage, Stage::Pausing(until) if until <= now));
        late.iter().for_each(|peer| self.unreachable(peer));
        due.into_iter().filter(|peer| !late.contains(peer)).for_each(|peer| self.search(peer));
    }
}
