//! The protocols a node speaks, side by side on every connection.

use crate::{
    codec::ProstCodec,
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
    ping,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
};
use market::class::GpuClass;
use std::{sync::Arc, time::Duration};
use wire::{MAX_OFFERS_REQUEST_BYTES, MAX_OFFERS_RESPONSE_BYTES, proto};

/// What identify calls this family of protocols.
pub(crate) const IDENTIFY: &str = "gpulease/1";
/// The protocol by which advertisements are fetched.
pub(crate) const OFFERS: StreamProtocol = StreamProtocol::new("/gpulease/offers/1");
/// The protocol by which peers find each other's addresses.
pub(crate) const ROUTING: StreamProtocol = StreamProtocol::new("/gpulease/kad/1");

/// Advertisements are held in memory: whoever has not answered by then will not.
const OFFERS_WAIT: Duration = Duration::from_secs(10);
/// Questions about offers in both directions at once on one connection.
const MAX_CONCURRENT_QUESTIONS: usize = 128;
/// Looking for a peer's addresses must end before the person who wants them gives up.
const ROUTING_WAIT: Duration = Duration::from_secs(10);

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

/// The order of the fields matters: each is asked in turn about a new connection, and one that is over the limits must be turned away
/// before another protocol has begun to keep state for it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) routing: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: Gossip,
    pub(crate) offers: Offers,
    pub(crate) rental: Exchange<Rental>,
    pub(crate) search: Exchange<Search>,
    pub(crate) sync: Exchange<Sync>,
    pub(crate) session: session::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        key: &Keypair,
        listens: bool,
        topics: &Topics,
        interests: &[GpuClass],
        indexes: bool,
        sessions: Arc<session::Shared>,
    ) -> Result<Self, StartError> {
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING))
            .with_max_pending_outgoing(Some(MAX_PENDING))
            .with_max_established_incoming(Some(MAX_INCOMING))
            .with_max_established(Some(MAX_ESTABLISHED))
            .with_max_established_per_peer(Some(MAX_PER_PEER));
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(
                identify::Config::new(IDENTIFY.to_owned(), key.public())
                    .with_agent_version(concat!("gpulease/", env!("CARGO_PKG_VERSION")).to_owned())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::default(),
            routing: routing(key, listens),
            gossip: gossip::behaviour(topics, interests)?,
            offers: Offers::with_codec(
                ProstCodec::new(MAX_OFFERS_REQUEST_BYTES, MAX_OFFERS_RESPONSE_BYTES),
                [(OFFERS, ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(OFFERS_WAIT)
                    .with_max_concurrent_streams(MAX_CONCURRENT_QUESTIONS),
            ),
            rental: protocol::exchange::<Rental>(true),
            search: protocol::exchange::<Search>(indexes),
            sync: protocol::exchange::<Sync>(indexes),
            session: session::Behaviour::new(sessions),
        })
    }
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
