//! Finding the first neighbours. Bootstrap peers may know everybody or nobody of the classes that matter here; a rendezvous point is asked for
//! those, and in a local network nodes call out to each other. Both are used while there are few neighbours: later, gossip and routing
//! bring more than enough.

use super::Node;
use crate::config::{Config, Interest};
use libp2p::{
    Multiaddr, PeerId, mdns,
    multiaddr::Protocol,
    rendezvous::{self, Namespace, client, server},
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// With this many neighbours a node looks for no more: several meshes' worth, since not all follow the same classes.
const ENOUGH: usize = 16;
/// Namespaces in which a node makes itself known and looks for others: the indexers', and its first three classes.
const MAX_NAMESPACES: usize = 4;
/// How often a node makes itself known: half of what a registration lives at least.
const REGISTER_AGAIN: Duration = Duration::from_secs(rendezvous::MIN_TTL / 2);
/// The pause between two questions to one point while neighbours are few, or after a refusal.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// Peers asked for at once: several times as many as are wanted, since some will be gone.
const MAX_DISCOVERED: u64 = 64;

/// What is to be done at one rendezvous point.
#[derive(Clone, Copy, Debug)]
struct Point {
    register: Instant,
    discover: Instant,
}

#[derive(Debug)]
pub(super) struct Neighbours {
    points: HashMap<PeerId, Point>,
    /// Where this node makes itself known.
    own: Vec<Namespace>,
    /// Where it looks for others.
    wanted: Vec<Namespace>,
    /// When those of the local network are tried again.
    lan: Instant,
}

impl Neighbours {
    pub(super) fn new(config: &Config) -> Self {
        let now = Instant::now();
        let points =
            config.rendezvous.iter().filter_map(peer_of).map(|peer| (peer, Point { register: now, discover: now }));
        // the names are far shorter than the 255 bytes that are allowed
        let namespace = |name: &str| Namespace::new(format!("/gpulease/1/{}/{name}", config.network)).ok();
        let indexers = namespace("indexers");
        let (own, wanted): (Vec<_>, Vec<_>) = match &config.classes {
            Interest::All => (indexers.clone().into_iter().collect(), indexers.into_iter().collect()),
            Interest::Only(classes) => {
                let classes = classes.iter().filter_map(|class| namespace(&format!("ads/{class}")));
                let own: Vec<Namespace> = classes.take(MAX_NAMESPACES - 1).collect();
                (own.clone(), own.into_iter().chain(indexers).collect())
            }
        };
        Self { points: points.collect(), own, wanted, lan: now }
    }
}

fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None })
}

impl Node {
    /// Makes itself known and asks for others, where either is due.
    pub(super) fn keep_rendezvous(&mut self, now: Instant) {
        let few = self.swarm.connected_peers().count() < ENOUGH;
        // whoever has no address that others can use is found by nobody there
        let reachable = self.swarm.external_addresses().next().is_some();
        let Neighbours { points, own, wanted, .. } = &mut self.neighbours;
        for (peer, point) in points {
            if !self.swarm.is_connected(peer) {
                // it may have forgotten when it is back
                point.register = now;
                continue;
            }
            let Some(client) = self.swarm.behaviour_mut().rendezvous.as_mut() else { return };
            if reachable && point.register <= now {
                point.register = now + REGISTER_AGAIN;
                for namespace in own.iter() {
                    if let Err(error) = client.register(namespace.clone(), *peer, None) {
                        tracing::debug!(%peer, %namespace, %error, "not registered");
                    }
                }
            }
            if few && point.discover <= now {
                point.discover = now + ASK_AGAIN;
                for namespace in wanted.iter() {
                    client.discover(Some(namespace.clone()), None, Some(MAX_DISCOVERED), *peer);
                }
            }
        }
    }

    pub(super) fn on_rendezvous_event(&mut self, event: client::Event) {
        match event {
            client::Event::Discovered { registrations, .. } => {
                let peers = registrations.iter().map(|registration| registration.record.peer_id());
                self.meet(peers.take(MAX_DISCOVERED as usize).collect());
            }
            client::Event::RegisterFailed { rendezvous_node, namespace, error } => {
                tracing::debug!(peer = %rendezvous_node, %namespace, ?error, "not registered");
                if let Some(point) = self.neighbours.points.get_mut(&rendezvous_node) {
                    point.register = Instant::now() + ASK_AGAIN;
                }
            }
            client::Event::DiscoverFailed { rendezvous_node, error, .. } => {
                tracing::debug!(peer = %rendezvous_node, ?error, "no others found");
            }
            client::Event::Registered { .. } | client::Event::Expired { .. } => {}
        }
    }

    /// Others met here, or were refused.
    pub(super) fn on_rendezvous_point_event(&self, event: &server::Event) {
        if let server::Event::PeerNotRegistered { .. } | server::Event::DiscoverNotServed { .. } = event {
            tracing::debug!(?event, "refused at the rendezvous point");
            self.counters.rendezvous_refused.add();
        }
    }

    /// Nodes of the local network called out.
    pub(super) fn on_lan_event(&mut self, event: mdns::Event) {
        if let mdns::Event::Discovered(found) = event {
            let mut peers: Vec<PeerId> = found.into_iter().map(|(peer, _)| peer).collect();
            peers.dedup();
            self.meet(peers);
        }
    }

    /// Tries nodes of the local network again that could not be reached when they called out.
    pub(super) fn keep_lan(&mut self, now: Instant) {
        let Some(lan) = self.swarm.behaviour().lan.as_ref() else { return };
        if self.neighbours.lan > now {
            return;
        }
        let mut peers: Vec<PeerId> = lan.discovered_nodes().copied().collect();
        self.neighbours.lan = now + ASK_AGAIN;
        peers.sort_unstable();
        peers.dedup();
        self.meet(peers);
    }

    /// Dials some of these until there are enough neighbours. Their addresses are known to the protocol that found them. From a port of its
    /// own: two that hear of each other at once, and dial from the ports they listen on, would open one connection from both ends,
    /// and neither could speak first.
    fn meet(&mut self, peers: Vec<PeerId>) {
        let missing = ENOUGH.saturating_sub(self.swarm.connected_peers().count());
        let local = *self.swarm.local_peer_id();
        let new: Vec<_> = peers.into_iter().filter(|peer| *peer != local && !self.swarm.is_connected(peer)).collect();
        for peer in new.into_iter().take(missing) {
            let options =
                DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).allocate_new_port().build();
            // one that is connected or being dialled is no failure
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%peer, %error, "not dialled");
            }
        }
    }
}
