//! The cheap, cloneable front of the network: what the roles call. Everything that needs the swarm goes to its task as a command with a
//! place for the answer; the market is read directly.

use crate::{
    counters::Counters,
    error::{AskError, DialError, OpenError, PublishError, Stopped},
    session::{IncomingSession, OpenRequest, SessionStream, Shared},
};
use libp2p::{Multiaddr, PeerId};
use market::{
    book::Book,
    offer::{Binding, Offer, ProviderAd},
    time::UnixMillis,
};
use prost::Message;
use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{mpsc, oneshot, watch};
use wire::{MAX_MESSAGE_BYTES, proto};

/// What a provider wants to advertise. The network adds the peer, the sequence number and the time it ends, and renews it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdDraft {
    /// The wallet's statement that this peer acts for it.
    pub binding: Binding,
    /// ISO 3166 country code where the machines stand, or empty.
    pub region: String,
    /// What can be rented.
    pub offers: Vec<Offer>,
}

/// How much a book holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Providers that offer something.
    pub providers: usize,
    /// Their offers.
    pub offers: usize,
}

/// A question of a renter that waits for this node's answer.
#[derive(Debug)]
pub struct IncomingRental {
    /// Who asks, as proven by the connection.
    pub peer: PeerId,
    /// What it asks; only its encoding was checked.
    pub request: proto::RentalRequest,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Takes the one answer to a question. Dropped without one, the renter is told that the provider failed.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<proto::RentalResponse>);

impl Reply {
    pub(crate) fn new(sender: oneshot::Sender<proto::RentalResponse>) -> Self {
        Self(sender)
    }

    /// Answers. `false` when nobody waits for it any more.
    pub fn send(self, response: proto::RentalResponse) -> bool {
        self.0.send(response).is_ok()
    }
}

/// What only the swarm's task can do.
#[derive(Debug)]
pub(crate) enum Command {
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, DialError>>,
    },
    Publish {
        draft: Box<AdDraft>,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    Withdraw {
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    Load {
        ads: Vec<Vec<u8>>,
        reply: oneshot::Sender<usize>,
    },
    Ask {
        peer: PeerId,
        request: Box<proto::RentalRequest>,
        reply: oneshot::Sender<Result<proto::RentalResponse, AskError>>,
    },
    Open {
        peer: PeerId,
        request: OpenRequest,
    },
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) local: PeerId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) book: Arc<RwLock<Book>>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) listening: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) connected: watch::Receiver<Vec<PeerId>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rentals: Mutex<Option<mpsc::Receiver<IncomingRental>>>,
    pub(crate) rentals_served: Arc<AtomicBool>,
    pub(crate) sessions: Mutex<Option<mpsc::Receiver<IncomingSession>>>,
    pub(crate) sessions_shared: Arc<Shared>,
}

/// Speaks to the network's task. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Inner>);

impl Handle {
    /// Who this node is.
    pub fn local_peer_id(&self) -> PeerId {
        self.0.local
    }

    /// Where this node listens.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.0.listening.borrow().clone()
    }

    /// Who this node is connected to.
    pub fn connected_peers(&self) -> Vec<PeerId> {
        self.0.connected.borrow().clone()
    }

    /// Changes whenever [`Handle::connected_peers`] does.
    pub fn watch_peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.0.connected.clone()
    }

    /// What was dropped, refused or failed at so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Connects to an address and says who is there.
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, DialError> {
        self.command(|reply| Command::Dial { address, reply }).await?
    }

    /// Advertises, now or as soon as the last advertisement is a second old, and keeps advertising until told otherwise.
    pub async fn publish_ad(&self, draft: AdDraft) -> Result<(), PublishError> {
        self.command(|reply| Command::Publish { draft: Box::new(draft), reply }).await?
    }

    /// Takes the advertisement back. Without one, nothing happens.
    pub async fn withdraw_ad(&self) -> Result<(), PublishError> {
        self.command(|reply| Command::Withdraw { reply }).await?
    }

    /// Refills the book with advertisements kept from an earlier run, each checked again, and says how many were still good. Further
    /// ones may be given while this waits.
    pub async fn load_ads(&self, ads: Vec<Vec<u8>>) -> Result<usize, Stopped> {
        let mut taken = 0;
        // in small portions, so that a large book fits between other work
        for portion in ads.chunks(LOAD_PORTION) {
            taken += self.command(|reply| Command::Load { ads: portion.to_vec(), reply }).await?;
        }
        Ok(taken)
    }

    /// Every live advertisement that offers something, this node's own among them.
    pub fn offers(&self) -> Vec<Arc<ProviderAd>> {
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        book.live(UnixMillis::now())
            .filter(|entry| !entry.ad.offers.is_empty())
            .map(|entry| Arc::clone(&entry.ad))
            .collect()
    }

    /// How much the book holds that is still good.
    pub fn held(&self) -> Held {
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        let live = book.live(UnixMillis::now()).filter(|entry| !entry.ad.offers.is_empty());
        live.fold(Held::default(), |held, entry| Held {
            providers: held.providers + 1,
            offers: held.offers + entry.ad.offers.len(),
        })
    }

    /// Whether the book holds anything of a peer, be it that it has withdrawn its offers.
    pub fn holds(&self, peer: &PeerId) -> bool {
        self.0.book.read().unwrap_or_else(PoisonError::into_inner).get(peer).is_some()
    }

    /// The live advertisement of one peer.
    pub fn offers_of(&self, peer: &PeerId) -> Option<Arc<ProviderAd>> {
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        let entry =
            book.get(peer).filter(|entry| entry.ad.expires > UnixMillis::now() && !entry.ad.offers.is_empty())?;
        Some(Arc::clone(&entry.ad))
    }

    /// A number that grows with each change of [`Handle::offers`].
    pub fn watch_offers(&self) -> watch::Receiver<u64> {
        self.0.changes.clone()
    }

    /// Asks a provider and waits for its answer, connecting to it first where need be.
    pub async fn ask(&self, peer: PeerId, request: proto::RentalRequest) -> Result<proto::RentalResponse, AskError> {
        let got = request.encoded_len();
        if got > MAX_MESSAGE_BYTES {
            return Err(AskError::RequestTooLong { got, limit: MAX_MESSAGE_BYTES });
        }
        self.command(|reply| Command::Ask { peer, request: Box::new(request), reply }).await?
    }

    /// The questions of renters. Taken once, by the provider role; before that every renter is told that nothing is rented here.
    pub fn rental_requests(&self) -> Option<mpsc::Receiver<IncomingRental>> {
        let taken = self.0.rentals.lock().unwrap_or_else(PoisonError::into_inner).take();
        if taken.is_some() {
            self.0.rentals_served.store(true, Ordering::Release);
        }
        taken
    }

    /// Opens a stream into a rental: connects where need be, sends the header, and waits for the provider to accept or refuse.
    pub async fn open_session(&self, peer: PeerId, header: proto::SessionHeader) -> Result<SessionStream, OpenError> {
        let stream = self.command(|reply| Command::Open { peer, request: OpenRequest { reply } }).await;
        // the answer's sender is dropped with the connection it was on
        let stream = stream
            .map_err(|stopped| if self.0.commands.is_closed() { stopped.into() } else { OpenError::Unreachable })?;
        SessionStream::new(stream?).introduce(&header).await
    }

    /// The streams that peers want to open here. Taken once, by the provider role; before that every one is refused.
    pub fn session_requests(&self) -> Option<mpsc::Receiver<IncomingSession>> {
        let taken = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner).take();
        if taken.is_some() {
            self.0.sessions_shared.served.store(true, Ordering::Release);
        }
        taken
    }

    async fn command<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Advertisements loaded at once: about 200 µs of checking each.
const LOAD_PORTION: usize = 256;
