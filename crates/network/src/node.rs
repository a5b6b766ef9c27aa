//! The network's one task. It owns the swarm and everything that belongs to it, and does one thing at a time: an event of the swarm, a
//! command of a role, a verdict of the verification pool, an answer of the provider role, or what the clock says is due.
//!
//! `market` is about offers of others, `serving` about handing them on and `own_ad` about this node's, `questions` about those between roles,
//! `ratings` about what renters say afterwards, `peers` about being connected and `neighbours` about finding the first to be connected to.

mod market;
mod neighbours;
mod own_ad;
mod peers;
pub(crate) mod questions;
mod ratings;
mod serving;

use crate::{
    behaviour::{Behaviour, BehaviourEvent},
    config::Config,
    counters::Counters,
    discovery::Discovery,
    gossip::Topics,
    handle::Command,
    protocol::{Rental, Search, Sync},
    store::StoreThread,
    verify::{Pool, Verdict},
};
use ::market::{book::Book, class::GpuClass};
use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, identity::Keypair, swarm::SwarmEvent};
use questions::{Questions, ToRole};
use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

pub(crate) use ratings::{Answered, RatingsAnswer, acceptance, given};

/// How often the clock is looked at: retries, renewals and expiry are exact to this.
const TICK: Duration = Duration::from_millis(250);
/// How often announced advertisements are fetched: the first at once, and what comes meanwhile together. A source is asked one question at a
/// time, so a busy one gets fuller questions, not more.
const PULL_PAUSE: Duration = Duration::from_millis(10);
/// How often announcements that came are verified: the first at once, and what comes meanwhile together, so that a busy node wakes its pool
/// once, and writes once to each neighbour, for many. Meanwhile it hears which of its neighbours have them too: to those gossip does
/// not pass them on, which spares about half of all copies.
const GATHER_PAUSE: Duration = Duration::from_millis(10);
/// How long the task goes on after a withdrawal, so that neighbours can hear and fetch it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a batch of advertisements under verification is the answer to.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// A question for these peers' advertisements.
    Get { source: PeerId, subjects: Vec<PeerId> },
    /// A page of a list.
    List { listing: crate::discovery::Listing, next: Vec<u8> },
    /// What a role was given in some other way.
    Load { reply: oneshot::Sender<usize> },
}

/// The parts that are made before the task starts.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) topics: Topics,
    pub(crate) book: Arc<RwLock<Book>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) listening: watch::Sender<Vec<Multiaddr>>,
    pub(crate) connected: watch::Sender<Vec<PeerId>>,
    pub(crate) indexers: watch::Sender<Vec<PeerId>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) verdicts: mpsc::Receiver<Vec<Verdict>>,
    pub(crate) pool: Pool,
    pub(crate) store: Option<StoreThread>,
    pub(crate) rentals: ToRole<Rental>,
    pub(crate) searches: ToRole<Search>,
    pub(crate) syncs: ToRole<Sync>,
}

/// See the module.
pub(crate) struct Node {
    key: Keypair,
    swarm: Swarm<Behaviour>,
    topics: Topics,
    counters: Arc<Counters>,
    listening: watch::Sender<Vec<Multiaddr>>,
    connected: watch::Sender<Vec<PeerId>>,
    indexers: watch::Sender<Vec<PeerId>>,
    commands: mpsc::Receiver<Command>,
    verdicts: mpsc::Receiver<Vec<Verdict>>,
    pool: Pool,
    /// Announcements wait in the pool to be verified together.
    gathering: bool,
    market: market::Market,
    own_ad: own_ad::OwnAd,
    peers: peers::Peers,
    neighbours: neighbours::Neighbours,
    pub(crate) rentals: Questions<Rental>,
    pub(crate) searches: Questions<Search>,
    pub(crate) syncs: Questions<Sync>,
    ratings: ratings::Ratings,
}

impl Node {
    pub(crate) fn new(config: &Config, parts: Parts) -> Self {
        let local = *parts.swarm.local_peer_id();
        // one list of everything costs less than sixty of one class each
        let listed = match &config.classes {
            crate::config::Interest::All => vec![None],
            crate::config::Interest::Only(classes) => classes.iter().copied().map(Some).collect(),
        };
        let discovery = Discovery::new(local, listed, Arc::clone(&parts.counters));
        Self {
            key: config.keypair.clone(),
            gathering: false,
            market: market::Market::new(parts.book, discovery, parts.changes, parts.store, config.observer.clone()),
            own_ad: own_ad::OwnAd::new(config.ad_lifetime),
            peers: peers::Peers::new(config.bootstrap.iter().chain(&config.rendezvous)),
            neighbours: neighbours::Neighbours::new(config),
            rentals: Questions::new(parts.rentals),
            searches: Questions::new(parts.searches),
            syncs: Questions::new(parts.syncs),
            ratings: ratings::Ratings::new(),
            swarm: parts.swarm,
            topics: parts.topics,
            counters: parts.counters,
            listening: parts.listening,
            connected: parts.connected,
            indexers: parts.indexers,
            commands: parts.commands,
            verdicts: parts.verdicts,
            pool: parts.pool,
        }
    }

    /// Runs until cancelled, and then until a withdrawal just made has had time to spread. Returns the threads to wait for.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> Vec<std::thread::JoinHandle<()>> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pull = tokio::time::interval(PULL_PAUSE);
        pull.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gather = tokio::time::interval(GATHER_PAUSE);
        gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_words = None;
        loop {
            let stop = async {
                match last_words {
                    None => cancel.cancelled().await,
                    Some(until) => tokio::time::sleep_until(until).await,
                }
            };
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(verdicts) = self.verdicts.recv() => verdicts.into_iter().for_each(|verdict| self.on_verdict(verdict)),
                Some(answer) = self.rentals.answers.next() => self.answer(answer),
                Some(answer) = self.searches.answers.next() => self.answer(answer),
                Some(answer) = self.syncs.answers.next() => self.answer(answer),
                _ = tick.tick() => self.on_tick(Instant::now()),
                _ = pull.tick(), if self.market.has_pulls() => self.on_pull(Instant::now()),
                _ = gather.tick(), if self.gathering => {
                    self.gathering = false;
                    self.pool.wake();
                }
                () = stop => match last_words {
                    None => last_words = Some(self.own_ad.withdrawn_at().map_or_else(Instant::now, |at| at + LAST_WORDS).into()),
                    Some(_) => break,
                },
            }
        }
        self.market.close().into_iter().chain(self.pool.close()).collect()
    }

    fn on_pull(&mut self, now: Instant) {
        self.send_gets(now);
        self.answer_parked(now);
    }

    fn on_tick(&mut self, now: Instant) {
        self.keep_bootstrapped(now);
        self.keep_rendezvous(now);
        self.keep_lan(now);
        self.keep_searching(now);
        self.renew_ad(now);
        self.expire_ads(now);
        self.on_pull(now);
        self.send_lists(now);
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { address, reply } => self.dial(address, reply),
            Command::Publish { draft, reply } => {
                // whoever asked may have gone; what it asked for is done all the same
                let _ = reply.send(self.publish_draft(*draft));
            }
            Command::Withdraw { reply } => {
                let _ = reply.send(self.withdraw());
            }
            Command::Load { ads, reply } => self.load(ads, reply),
            Command::Ask { peer, question } => self.reach(peer, peers::Errand::Ask(question)),
            Command::Open { peer, request } => self.reach(peer, peers::Errand::Open(request)),
            Command::PublishRating { data, reply } => drop(reply.send(self.publish_rating(data))),
            Command::RatingKeepers { reply } => drop(reply.send(self.rating_keepers())),
            Command::AskRatings { peer, request, reply } => self.ask_ratings(peer, *request, reply),
        }
    }

    pub(crate) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_disconnected(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                self.on_dial_failed(peer_id, connection_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.report_listening();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.report_listening(),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                if let Err(error) = reason {
                    tracing::error!(?addresses, %error, "stopped listening");
                }
                self.report_listening();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            SwarmEvent::IncomingConnectionError { error, .. } => tracing::debug!(%error, "incoming connection failed"),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { topic, .. }) => self.on_subscribed(&topic),
            BehaviourEvent::Gossip(gossipsub::Event::SlowPeer { peer_id, failed_messages }) => {
                let failed = failed_messages.priority + failed_messages.non_priority;
                tracing::debug!(peer = %peer_id, failed, "cannot keep up with gossip");
                self.counters.gossip_dropped.add_many(failed as u64);
            }
            BehaviourEvent::Offers(event) => self.on_offers_event(event),
            BehaviourEvent::Rental(event) => self.on_question_event::<Rental>(event),
            BehaviourEvent::Search(event) => self.on_question_event::<Search>(event),
            BehaviourEvent::Sync(event) => self.on_question_event::<Sync>(event),
            BehaviourEvent::Ratings(event) => self.on_ratings_event(event),
            BehaviourEvent::Identify(identify::Event::Received { connection_id, peer_id, info }) => {
                self.on_identified(peer_id, connection_id, info);
            }
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Routing(event) => self.on_routing_event(event),
            BehaviourEvent::Rendezvous(event) => self.on_rendezvous_event(event),
            BehaviourEvent::RendezvousPoint(event) => self.on_rendezvous_point_event(&event),
            BehaviourEvent::Lan(event) => self.on_lan_event(event),
            BehaviourEvent::Limits(never) => match never {},
            BehaviourEvent::Session(never) => match never {},
            BehaviourEvent::Gossip(_) | BehaviourEvent::Identify(_) => {}
        }
    }

    fn report_listening(&self) {
        self.listening.send_replace(self.swarm.listeners().cloned().collect());
    }

    /// The connected peers that follow a class: they are likely to hold what is announced in it.
    fn followers(swarm: &Swarm<Behaviour>, topics: &Topics, class: GpuClass) -> Vec<PeerId> {
        let topic = topics.of(class).hash();
        let gossip = &swarm.behaviour().gossip;
        gossip.all_peers().filter(|(_, followed)| followed.contains(&&topic)).map(|(peer, _)| *peer).collect()
    }
}
