//! Bare libp2p beside our nodes: peers that bring the announcements of others into the network, and a network of nothing but gossipsub, which
//! passes everything on unverified. The configuration is that of our nodes. What is published and heard is told to a [`Witness`].

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    gossipsub::{self, ConfigBuilder, Event, IdentTopic, MessageAuthenticity, MessageId, ValidationMode},
    identity::Keypair,
    multiaddr::Protocol,
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use network::gossip::{MESH, MESH_HIGH, MESH_LOW};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use wire::proto;

/// How often a peer that was lost is dialled.
const REDIAL: Duration = Duration::from_millis(500);
/// Announcements waiting to be published: a burst while the swarm is busy.
const WAITING: usize = 4_096;

/// An announcement with its sequence number and topic.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The number of what it announces.
    pub seq: u64,
    /// Where it is published.
    pub topic: IdentTopic,
    /// Its bytes.
    pub data: Arc<[u8]>,
}

/// Who is told what happens.
pub trait Witness: Send + Sync + 'static {
    /// A letter with that number is published now.
    fn sent(&self, _seq: u64) {}
    /// One was heard.
    fn heard(&self, _seq: u64) {}
}

/// Nobody.
impl Witness for () {}

/// A peer that speaks gossipsub and nothing else. Ends when it is dropped.
#[derive(Debug)]
pub struct Bare {
    /// Where it listens.
    pub address: Multiaddr,
    /// What it is to publish.
    pub letters: mpsc::Sender<Letter>,
    /// Peers connected here that follow a topic.
    pub followers: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn swarm() -> anyhow::Result<Swarm<gossipsub::Behaviour>> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message: &gossipsub::Message| {
            let mut hasher = DefaultHasher::new();
            (message.topic.as_str(), &message.data).hash(&mut hasher);
            MessageId::from(hasher.finish().to_be_bytes())
        })
        .heartbeat_initial_delay(Duration::from_secs(1))
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .flood_publish(false)
        .build()?;
    let gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).map_err(anyhow::Error::msg)?;
    Ok(SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| gossip)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build())
}

/// Starts one that dials `peers`, again whenever one is lost. It follows `topics` and passes on what comes there.
pub async fn start(peers: Vec<Multiaddr>, topics: &[IdentTopic], witness: Arc<dyn Witness>) -> anyhow::Result<Bare> {
    let mut swarm = swarm()?;
    for topic in topics {
        swarm.behaviour_mut().subscribe(topic)?;
    }
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let peer = *swarm.local_peer_id();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with(Protocol::P2p(peer));
        }
    };
    for peer in &peers {
        swarm.dial(peer.clone())?;
    }
    let (letters, queue) = mpsc::channel(WAITING);
    let (count, followers) = watch::channel(0);
    let task = tokio::spawn(run(swarm, peers, queue, witness, count));
    Ok(Bare { address, letters, followers, task })
}

async fn run(
    mut swarm: Swarm<gossipsub::Behaviour>,
    peers: Vec<Multiaddr>,
    mut queue: mpsc::Receiver<Letter>,
    witness: Arc<dyn Witness>,
    count: watch::Sender<usize>,
) {
    let mut followers = HashSet::new();
    let mut redial = tokio::time::interval(REDIAL);
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(Event::Message { message, .. }) => {
                    if let Some(seq) = seq_of(&message.data) {
                        witness.heard(seq);
                    }
                }
                SwarmEvent::Behaviour(Event::Subscribed { peer_id, .. }) => {
                    followers.insert(peer_id);
                    count.send_replace(followers.len());
                }
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                    followers.remove(&peer_id);
                    count.send_replace(followers.len());
                }
                _ => {}
            },
            Some(letter) = queue.recv() => {
                witness.sent(letter.seq);
                // one that is not taken is missing at the end, which is what is measured
                let _ = swarm.behaviour_mut().publish(letter.topic, letter.data.to_vec());
            }
            _ = redial.tick() => {
                for peer in peers.iter().filter_map(away(&swarm)).collect::<Vec<_>>() {
                    // one that is being dialled already is no failure
                    let _ = swarm.dial(peer);
                }
            }
        }
    }
}

/// The address of a peer that is not connected.
fn away(swarm: &Swarm<gossipsub::Behaviour>) -> impl Fn(&Multiaddr) -> Option<Multiaddr> {
    move |address| {
        let peer = address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None })?;
        (!swarm.is_connected(&peer)).then(|| address.clone())
    }
}

/// What an announcement says its number is; nothing is verified.
fn seq_of(data: &[u8]) -> Option<u64> {
    let announcement: proto::Announcement = wire::decode(data, wire::MAX_ANNOUNCEMENT_BYTES).ok()?;
    let body: proto::AnnouncementBody = wire::decode(&announcement.body, wire::MAX_ANNOUNCEMENT_BYTES).ok()?;
    Some(body.seq)
}
