//! The peer-to-peer side of a node: one task that owns the libp2p swarm, and a handle in front of it.
//!
//! What it does for the roles:
//!
//! - **Offers in public.** A provider's signed advertisement is announced by gossip and fetched by whoever wants it; a newcomer reads the
//!   lists of the peers it connects to. Every signature is checked before anything is kept or passed on, on threads of their own.
//!   [`Handle::publish_ad`], [`Handle::offers`], [`Handle::watch_offers`].
//! - **Ratings.** What renters say of closed rentals is gossiped to those who keep it, and these are asked what they know.
//!   [`Handle::publish_rating`], [`Handle::rating_keepers`], [`Handle::ask_ratings`], [`RatingDesk`].
//! - **Questions.** A renter asks a provider and gets an answer or a typed refusal. [`Handle::ask`], [`Handle::rental_requests`]. In the
//!   same way anybody asks indexers for offers, and indexers compare their books: [`Handle::ask_search`], [`Handle::search_requests`],
//!   [`Handle::ask_sync`], [`Handle::sync_requests`]; who is one, [`Handle::indexers`] says.
//! - **Sessions.** Streams into a rental, each accepted or refused in so many words before data flows. [`Handle::open_session`],
//!   [`Handle::session_requests`], [`SessionStream`], [`read_message`], [`write_message`].
//! - **Being connected.** Bootstrap peers are dialled again whenever they are away; a peer that is needed is found through others; a node
//!   that knows few finds more through rendezvous points and in its local network.
//!
//! Everything a stranger sends is bounded, and what is refused or dropped is counted in [`Counters`].
//!
//! ```text
//!   roles ──Handle──▶ commands ─▶ ┌──────────────┐ ─▶ gossip, requests, streams
//!     ▲                           │  the task    │
//!     └──── book, watch ◀──────── │  (node)      │ ─▶ verification pool ─┐
//!                                 └──────────────┘ ◀──── verdicts ───────┘
//! ```

pub mod ad;
mod behaviour;
mod codec;
mod config;
mod counters;
pub mod discovery;
mod error;
mod frame;
pub mod gossip;
mod handle;
mod limit;
mod node;
mod protocol;
mod rating;
pub mod scoring;
mod search;
mod session;
mod store;
mod transport;
mod verify;

pub use config::{AdChange, AdStore, BookObserver, Config, Interest};
pub use counters::{Counter, Counters};
pub use error::{AskError, DialError, OpenError, PublishError, StartError, Stopped};
pub use frame::{FrameError, read_message, write_message};
pub use handle::{AdDraft, Handle, Held, Incoming, IncomingRental, IncomingSearch, IncomingSync, Reply};
pub use libp2p::{Multiaddr, PeerId, identity};
pub use limit::RateLimiter;
pub use rating::{RatingDesk, Taking};
pub use search::Page;
pub use session::{IncomingSession, SessionStream};

use behaviour::Behaviour;
use futures::StreamExt;
use gossip::Topics;
use handle::Desk;
use libp2p::{Swarm, SwarmBuilder, multiaddr::Protocol, swarm::SwarmEvent, tcp};
use node::{Node, Parts};
use std::{
    collections::HashSet,
    io,
    net::{IpAddr, TcpListener},
    sync::{Arc, Mutex, RwLock},
    thread,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Commands waiting for the task: roles that are faster than that wait in turn.
const COMMANDS: usize = 256;
/// Batches of verdicts waiting for the task: the pool waits beyond that.
const VERDICTS: usize = 16;
/// Sessions waiting for the provider role; further ones are refused at once. A page of a hundred terminals opens at a time.
const SESSIONS: usize = 256;
/// Sessions a peer may open.
const SESSIONS_PER_SECOND: u32 = 50;
/// And how many at once.
const SESSIONS_BURST: u32 = 512;
/// How long an unused connection is kept: longer than the time between two renewals of an advertisement.
const IDLE: Duration = Duration::from_secs(600);
/// How long the transports may take to say where they listen.
const LISTEN_WAIT: Duration = Duration::from_secs(10);

/// A running node of the network.
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    /// Ends the task when this is dropped, so that nothing runs on unowned.
    cancel: DropGuard,
    task: JoinHandle<Vec<thread::JoinHandle<()>>>,
    /// Cancelled by the end of the task, however it comes.
    ended: CancellationToken,
}

impl Network {
    /// Joins the network. Returns once every address of `config.listen` is listened on. The node runs until [`Network::shutdown`],
    /// until this is dropped, or until `cancel` is cancelled.
    pub async fn start(mut config: Config, cancel: CancellationToken) -> Result<Self, StartError> {
        config.check()?;
        let counters = Arc::new(Counters::default());
        let topics = Topics::new(&config.network);
        let (session_queue, sessions) = mpsc::channel(SESSIONS);
        let sessions_shared = Arc::new(session::Shared {
            counters: Arc::clone(&counters),
            served: false.into(),
            queue: session_queue,
            limiter: RateLimiter::new(SESSIONS_PER_SECOND, SESSIONS_BURST),
        });
        let behaviour = Behaviour::new(&config, &topics, Arc::clone(&sessions_shared))?;
        let mut swarm = swarm(&config, behaviour)?;
        let early = listen(&mut swarm, &config).await?;

        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (verdicts, verdict_queue) = mpsc::channel(VERDICTS);
        let ((rentals, to_rentals), (searches, to_searches), (syncs, to_syncs)) =
            (Desk::new(), Desk::new(), Desk::new());
        let (changes, changes_seen) = watch::channel(0);
        let (listening, listening_seen) = watch::channel(swarm.listeners().cloned().collect());
        let (connected, connected_seen) = watch::channel(Vec::new());
        let (indexers, indexers_seen) = watch::channel(Vec::new());
        let book = Arc::new(RwLock::new(std::mem::take(&mut config.book)));
        let handle = Handle(Arc::new(handle::Inner {
            local: *swarm.local_peer_id(),
            commands,
            book: Arc::clone(&book),
            changes: changes_seen,
            listening: listening_seen,
            connected: connected_seen,
            indexers: indexers_seen,
            counters: Arc::clone(&counters),
            rentals,
            searches,
            syncs,
            sessions: Mutex::new(Some(sessions)),
            sessions_shared,
        }));
        let store = match &config.store {
            Some(store) => Some(store::StoreThread::start(Arc::clone(store), Arc::clone(&counters))?),
            None => None,
        };
        let parts = Parts {
            swarm,
            topics,
            book,
            counters,
            changes,
            listening,
            connected,
            indexers,
            commands: command_queue,
            verdicts: verdict_queue,
            pool: verify::Pool::start(&verdicts, &config.ratings)?,
            store,
            rentals: to_rentals,
            searches: to_searches,
            syncs: to_syncs,
        };
        let mut node = Node::new(&config, parts);
        early.into_iter().for_each(|event| node.on_swarm_event(event));
        let (cancel, ended) = (cancel.child_token(), CancellationToken::new());
        let (until, running) = (cancel.clone(), ended.clone().drop_guard());
        let task = tokio::spawn(async move {
            let _running = running;
            node.run(until).await
        });
        Ok(Self { handle, cancel: cancel.drop_guard(), task, ended })
    }

    /// Waits until the task has ended, by order or by a fault of ours.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// What the roles speak to.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Leaves the network and waits until everything has ended. A withdrawal made just before is still told to the neighbours.
    pub async fn shutdown(self) {
        drop(self.cancel);
        let threads = match self.task.await {
            Ok(threads) => threads,
            Err(error) => return tracing::error!(%error, "the network task failed"),
        };
        let joined =
            tokio::task::spawn_blocking(|| threads.into_iter().filter_map(|thread| thread.join().err()).count());
        if joined.await.is_ok_and(|failed| failed > 0) {
            tracing::error!("a thread of the network failed");
        }
    }
}

fn swarm(config: &Config, behaviour: Behaviour) -> Result<Swarm<Behaviour>, StartError> {
    let refused = |protocol: &'static str, reason: String| StartError::Configuration { protocol, reason };
    let swarm = SwarmBuilder::with_existing_identity(config.keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), transport::Security::new, transport::Multiplexing::new)
        .map_err(|error| refused("noise", error.to_string()))?
        .with_quic()
        .with_behaviour(|_| behaviour)
        .map_err(|error| refused("behaviour", error.to_string()))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

/// Fails when somebody listens on a TCP address already. libp2p sets `SO_REUSEPORT` to dial from the port it listens on, so that two nodes
/// on one port would both start and share the connections that come in.
fn refuse_taken(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Listens on every address and waits until each is; gives back what else happened meanwhile.
async fn listen(
    swarm: &mut Swarm<Behaviour>,
    config: &Config,
) -> Result<Vec<SwarmEvent<behaviour::BehaviourEvent>>, StartError> {
    let mut waiting = HashSet::new();
    for address in &config.listen {
        let failed = |error: String| StartError::Listen { address: address.clone(), reason: error };
        refuse_taken(address).map_err(|error| failed(error.to_string()))?;
        waiting.insert(swarm.listen_on(address.clone()).map_err(|error| failed(error.to_string()))?);
    }
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }
    let mut early = Vec::new();
    let listened = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    tracing::info!(%address, "listening");
                    waiting.remove(&listener_id);
                }
                SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                    let address = addresses.into_iter().next().unwrap_or_else(Multiaddr::empty);
                    let reason = reason.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
                    return Err(StartError::Listen { address, reason });
                }
                other => early.push(other),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(LISTEN_WAIT, listened).await {
        Ok(result) => result.map(|()| early),
        Err(_) => {
            Err(StartError::Listen { address: Multiaddr::empty(), reason: "no answer from the transport".to_owned() })
        }
    }
}
