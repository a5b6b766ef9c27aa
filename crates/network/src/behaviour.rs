//! The protocols a node speaks, side by side on every connection.

use crate::{
    codec::ProstCodec,
    config::Config,
    error::StartError,
    gossip::{self, Gossip, Topics},
    protocol::{self, Protocol, Rental, Search, Sync},
    session,
};
use libp2p::{
    StreamProtocol,
    connection_limits::{self, ConnectionLimits},
    identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    mdns, ping, rendezvous,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use std::{sync::Arc, time::Duration};
use wire::{
    MAX_OFFERS_REQUEST_BYTES, MAX_OFFERS_RESPONSE_BYTES, MAX_RATINGS_REQUEST_BYTES, MAX_RATINGS_RESPONSE_BYTES, proto,
};

/// What identify calls this family of protocols.
pub(crate) const IDENTIFY: &str = "gpulease/1";
/// The protocol by which advertisements are fetched.
pub(crate) const OFFERS: StreamProtocol = StreamProtocol::new("/gpulease/offers/1");
/// The protocol by which indexers are given ratings, and asked what they know of a provider.
pub(crate) const RATINGS: StreamProtocol = StreamProtocol::new("/gpulease/ratings/1");
/// The protocol by which peers find each other's addresses.
pub(crate) const ROUTING: StreamProtocol = StreamProtocol::new("/gpulease/kad/1");

/// Advertisements are held in memory: whoever has not answered by then will not.
const OFFERS_WAIT: Duration = Duration::from_secs(10);
/// A desk answers from its disk.
const RATINGS_WAIT: Duration = Duration::from_secs(10);
/// Questions about offers, or about ratings, in both directions at once on one connection.
const MAX_CONCURRENT_QUESTIONS: usize = 128;
/// Looking for a peer's addresses must end before the person who wants them gives up.
const ROUTING_WAIT: Duration = Duration::from_secs(10);

/// Registrations that a rendezvous point holds in all, each at most a kilobyte, and of one peer. Both are libp2p's own bounds; a node needs
/// four at most.
const MAX_REGISTRATIONS: usize = 10_000;
/// See [`MAX_REGISTRATIONS`].
const MAX_REGISTRATIONS_OF_PEER: usize = 8;

/// Connections being made: a flood of half-open ones must not keep everyone else out.
const MAX_PENDING: u32 = 64;
/// Established connections in all. Each costs about 100 KiB; the largest indexers will want more than this.
const MAX_ESTABLISHED: u32 = 2_000;
/// Of those, the ones others opened: room is left to dial out, so that nobody can wall a node in.
const MAX_INCOMING: u32 = 1_500;
/// Connections to one peer. A hole punched over QUIC leaves two direct ones and a relayed one, so fewer than four would lose some.
const MAX_PER_PEER: u32 = 4;

pub(crate) type Offers = request_response::Behaviour<ProstCodec<proto::OffersRequest, proto::OffersResponse>>;
/// The behaviour of a protocol of questions and answers.
pub(crate) type Exchange<P> =
    request_response::Behaviour<ProstCodec<<P as Protocol>::Request, <P as Protocol>::Response>>;

pub(crate) type Ratings = request_response::Behaviour<ProstCodec<proto::RatingsRequest, proto::RatingsResponse>>;

/// The order of the fields matters: each is asked in turn about a new connection, and one that is over the limits must be turned away
/// before another protocol has begun to keep state for it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) routing: kad::Behaviour<MemoryStore>,
    pub(crate) rendezvous: Toggle<rendezvous::client::Behaviour>,
    pub(crate) rendezvous_point: Toggle<rendezvous::server::Behaviour>,
    pub(crate) lan: Toggle<mdns::tokio::Behaviour>,
    pub(crate) gossip: Gossip,
    pub(crate) offers: Offers,
    pub(crate) rental: Exchange<Rental>,
    pub(crate) search: Exchange<Search>,
    pub(crate) sync: Exchange<Sync>,
    pub(crate) ratings: Ratings,
    pub(crate) session: session::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(config: &Config, topics: &Topics, sessions: Arc<session::Shared>) -> Result<Self, StartError> {
        let key = &config.keypair;
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING))
            .with_max_pending_outgoing(Some(MAX_PENDING))
            .with_max_established_incoming(Some(MAX_INCOMING))
            .with_max_established(Some(MAX_ESTABLISHED))
            .with_max_established_per_peer(Some(MAX_PER_PEER));
        let mut gossip = gossip::behaviour(topics, &config.classes.classes())?;
        if config.ratings.is_some() {
            gossip.subscribe(&topics.ratings()).map_err(|error| gossip::refused(error.to_string()))?;
        }
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(
                identify::Config::new(IDENTIFY.to_owned(), key.public())
                    .with_agent_version(concat!("gpulease/", env!("CARGO_PKG_VERSION")).to_owned())
                    .with_push_listen_addr_updates(true)
                    // where others reach it elsewhere, the addresses it listens on would only cost them vain dials
                    .with_hide_listen_addrs(!config.external.is_empty()),
            ),
            ping: ping::Behaviour::default(),
            routing: routing(key, !config.listen.is_empty()),
            rendezvous: (!config.rendezvous.is_empty()).then(|| rendezvous::client::Behaviour::new(key.clone())).into(),
            rendezvous_point: config.serves_rendezvous.then(rendezvous_point).into(),
            lan: config.mdns.then(|| lan(key)).flatten().into(),
            gossip,
            offers: Offers::with_codec(
                ProstCodec::new(MAX_OFFERS_REQUEST_BYTES, MAX_OFFERS_RESPONSE_BYTES),
                [(OFFERS, ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(OFFERS_WAIT)
                    .with_max_concurrent_streams(MAX_CONCURRENT_QUESTIONS),
            ),
            rental: protocol::exchange::<Rental>(true),
            search: protocol::exchange::<Search>(config.indexes),
            sync: protocol::exchange::<Sync>(config.indexes),
            ratings: Ratings::with_codec(
                ProstCodec::new(MAX_RATINGS_REQUEST_BYTES, MAX_RATINGS_RESPONSE_BYTES),
                [(RATINGS, if config.ratings.is_some() { ProtocolSupport::Full } else { ProtocolSupport::Outbound })],
                request_response::Config::default()
                    .with_request_timeout(RATINGS_WAIT)
                    .with_max_concurrent_streams(MAX_CONCURRENT_QUESTIONS),
            ),
            session: session::Behaviour::new(sessions),
        })
    }
}

fn rendezvous_point() -> rendezvous::server::Behaviour {
    rendezvous::server::Behaviour::new(
        rendezvous::server::Config::default()
            .with_max_registration_total(MAX_REGISTRATIONS)
            .with_max_registration_per_peer(MAX_REGISTRATIONS_OF_PEER),
    )
}

/// Where the system does not say which interfaces there are, a node does without its local network.
fn lan(key: &Keypair) -> Option<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), key.public().to_peer_id())
        .inspect_err(|error| tracing::warn!(%error, "no other nodes are looked for in the local network"))
        .ok()
}

/// Kademlia finds addresses of peers and nothing else: records are refused, and only peers that identified themselves are entered.
fn routing(key: &Keypair, listens: bool) -> kad::Behaviour<MemoryStore> {
    let local = key.public().to_peer_id();
    let mut config = kad::Config::new(ROUTING);
    config
        .set_query_timeout(ROUTING_WAIT)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth);
    let mut routing = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
    // whoever can be dialled also answers; whoever only dials out would be a dead end for others
    routing.set_mode(Some(if listens { kad::Mode::Server } else { kad::Mode::Client }));
    routing
}
