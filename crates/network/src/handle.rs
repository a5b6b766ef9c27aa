//! The cheap, cloneable front of the network: what the roles call. Everything that needs the swarm goes to its task as a command with a
//! place for the answer; the market is read directly.

use crate::{
    ad,
    counters::Counters,
    error::{AskError, DialError, OpenError, PublishError, Stopped},
    node::questions::ToRole,
    protocol::{AskReply, IncomingOf, Protocol, Rental, Search, Sync},
    session::{IncomingSession, OpenRequest, SessionStream, Shared},
};
use libp2p::{Multiaddr, PeerId};
use market::{
    book::Book,
    offer::{Binding, Offer, ProviderAd},
    rating::SignedRating,
    standing::Standing,
    time::UnixMillis,
};
use prost::Message;
use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{mpsc, oneshot, watch};
use wire::proto;

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

/// A question of a peer that waits for this node's answer.
#[derive(Debug)]
pub struct Incoming<Q, A> {
    /// Who asks, as proven by the connection.
    pub peer: PeerId,
    /// What it asks; only its encoding was checked.
    pub request: Q,
    /// Where the answer goes.
    pub reply: Reply<A>,
}

/// A question of a renter to a provider.
pub type IncomingRental = Incoming<proto::RentalRequest, proto::RentalResponse>;
/// A search that an indexer is asked for.
pub type IncomingSearch = Incoming<proto::SearchRequest, proto::SearchResponse>;
/// A frame of reconciliation from another indexer.
pub type IncomingSync = Incoming<proto::SyncRequest, proto::SyncResponse>;

/// Takes the one answer to a question. Dropped without one, whoever asked is told that the role failed.
#[derive(Debug)]
pub struct Reply<A = proto::RentalResponse>(oneshot::Sender<A>);

impl<A> Reply<A> {
    pub(crate) fn new(sender: oneshot::Sender<A>) -> Self {
        Self(sender)
    }

    /// Answers. `false` when nobody waits for it any more.
    pub fn send(self, response: A) -> bool {
        self.0.send(response).is_ok()
    }
}

/// A question of this node.
#[derive(Debug)]
pub(crate) struct Asked<P: Protocol> {
    pub(crate) request: Box<P::Request>,
    pub(crate) reply: AskReply<P>,
}

/// A question of this node, in whichever protocol.
#[derive(Debug)]
pub(crate) enum Question {
    Rental(Asked<Rental>),
    Search(Asked<Search>),
    Sync(Asked<Sync>),
}

impl Question {
    pub(crate) fn fail(self, error: AskError) {
        // whoever waits may have given up
        match self {
            Self::Rental(asked) => drop(asked.reply.send(Err(error))),
            Self::Search(asked) => drop(asked.reply.send(Err(error))),
            Self::Sync(asked) => drop(asked.reply.send(Err(error))),
        }
    }
}

/// Where a role takes the questions of a protocol.
#[derive(Debug)]
pub(crate) struct Desk<P: Protocol> {
    queue: Mutex<Option<mpsc::Receiver<IncomingOf<P>>>>,
    served: Arc<AtomicBool>,
}

impl<P: Protocol> Desk<P> {
    /// A desk, and the way to it.
    pub(crate) fn new() -> (Self, ToRole<P>) {
        let (queue, questions) = mpsc::channel(P::BOUNDS.waiting);
        let served = Arc::new(AtomicBool::new(false));
        (Self { queue: Mutex::new(Some(questions)), served: Arc::clone(&served) }, ToRole { queue, served })
    }

    fn take(&self) -> Option<mpsc::Receiver<IncomingOf<P>>> {
        let taken = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if taken.is_some() {
            self.served.store(true, Ordering::Release);
        }
        taken
    }
}

/// Where the answer to a question about ratings goes.
pub(crate) type RatingsReply = oneshot::Sender<Result<proto::RatingsResponse, AskError>>;

/// What only the swarm's task can do.
#[derive(Debug)]
pub(crate) enum Command {
    Dial { address: Multiaddr, reply: oneshot::Sender<Result<PeerId, DialError>> },
    Publish { draft: Box<AdDraft>, reply: oneshot::Sender<Result<(), PublishError>> },
    Withdraw { reply: oneshot::Sender<Result<(), PublishError>> },
    Load { ads: Vec<Vec<u8>>, reply: oneshot::Sender<usize> },
    Ask { peer: PeerId, question: Question },
    Open { peer: PeerId, request: OpenRequest },
    PublishRating { data: Vec<u8>, reply: oneshot::Sender<bool> },
    RatingKeepers { reply: oneshot::Sender<Vec<PeerId>> },
    AskRatings { peer: PeerId, request: Box<proto::RatingsRequest>, reply: RatingsReply },
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
    pub(crate) indexers: watch::Receiver<Vec<PeerId>>,
    pub(crate) rentals: Desk<Rental>,
    pub(crate) searches: Desk<Search>,
    pub(crate) syncs: Desk<Sync>,
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

    /// The connected peers that answer searches, as they say themselves.
    pub fn indexers(&self) -> Vec<PeerId> {
        self.0.indexers.borrow().clone()
    }

    /// Changes whenever [`Handle::indexers`] does.
    pub fn watch_indexers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.0.indexers.clone()
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

    /// Puts advertisements that were had in some other way into the book, each checked as if it had been fetched, and says how many were
    /// good news. Further ones may be given while this waits.
    pub async fn load_ads(&self, ads: Vec<Vec<u8>>) -> Result<usize, Stopped> {
        let mut taken = 0;
        // in small portions, so that a large book fits between other work
        for portion in ads.chunks(LOAD_PORTION) {
            taken += self.command(|reply| Command::Load { ads: portion.to_vec(), reply }).await?;
        }
        Ok(taken)
    }

    /// Every live advertisement that offers something, this node's own among them, each read from its envelope: for small books and for
    /// tests. Whoever wants some of many searches.
    pub fn offers(&self) -> Vec<Arc<ProviderAd>> {
        let raws: Vec<_> = {
            let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
            let live = book.live(UnixMillis::now()).filter(|entry| entry.offers > 0);
            live.map(|entry| Arc::clone(&entry.raw)).collect()
        };
        raws.iter().filter_map(|raw| ad::read(raw).ok()).map(Arc::new).collect()
    }

    /// Reads the book. Nobody can change it meanwhile, so be brief.
    pub fn read_book<R>(&self, read: impl FnOnce(&Book) -> R) -> R {
        read(&self.0.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down in the book what is known of a provider beyond its own words, so that searches can ask for it. `false` when the book keeps
    /// as many already as it may.
    pub fn set_standing(&self, peer: &PeerId, standing: Standing) -> bool {
        self.0.book.write().unwrap_or_else(PoisonError::into_inner).set_standing(peer, standing)
    }

    /// How much the book holds that is still good.
    pub fn held(&self) -> Held {
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        let live = book.live(UnixMillis::now()).filter(|entry| entry.offers > 0);
        live.fold(Held::default(), |held, entry| Held {
            providers: held.providers + 1,
            offers: held.offers + entry.offers,
        })
    }

    /// The live advertisement of one peer.
    pub fn offers_of(&self, peer: &PeerId) -> Option<Arc<ProviderAd>> {
        let raw = {
            let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
            let entry = book.get(peer).filter(|entry| entry.expires > UnixMillis::now() && entry.offers > 0)?;
            Arc::clone(&entry.raw)
        };
        ad::read(&raw).ok().map(Arc::new)
    }

    /// What the book holds of one peer, as it was signed: a withdrawal too.
    pub fn signed_ad(&self, peer: &PeerId) -> Option<Arc<[u8]>> {
        let book = self.0.book.read().unwrap_or_else(PoisonError::into_inner);
        book.get(peer).map(|entry| Arc::clone(&entry.raw))
    }

    /// A number that grows with each change of [`Handle::offers`].
    pub fn watch_offers(&self) -> watch::Receiver<u64> {
        self.0.changes.clone()
    }

    /// Asks a provider and waits for its answer, connecting to it first where need be.
    pub async fn ask(&self, peer: PeerId, request: proto::RentalRequest) -> Result<proto::RentalResponse, AskError> {
        self.question::<Rental>(peer, request).await
    }

    /// The questions of renters. Taken once, by the provider role; before that every renter is told that nothing is rented here.
    pub fn rental_requests(&self) -> Option<mpsc::Receiver<IncomingRental>> {
        Rental::desk(&self.0).take()
    }

    /// Asks an indexer for offers. Nothing in its answer was checked but the encoding.
    pub async fn ask_search(
        &self,
        peer: PeerId,
        request: proto::SearchRequest,
    ) -> Result<proto::SearchResponse, AskError> {
        self.question::<Search>(peer, request).await
    }

    /// The searches that are asked of this node. Taken once, by the indexer role; before that everyone is told to come back. Nobody
    /// asks unless [`crate::Config::indexes`] was set.
    pub fn search_requests(&self) -> Option<mpsc::Receiver<IncomingSearch>> {
        Search::desk(&self.0).take()
    }

    /// Sends another indexer a frame of reconciliation.
    pub async fn ask_sync(&self, peer: PeerId, request: proto::SyncRequest) -> Result<proto::SyncResponse, AskError> {
        self.question::<Sync>(peer, request).await
    }

    /// The frames of other indexers. Taken once, by the indexer role, as with [`Handle::search_requests`].
    pub fn sync_requests(&self) -> Option<mpsc::Receiver<IncomingSync>> {
        Sync::desk(&self.0).take()
    }

    async fn question<P: Protocol>(&self, peer: PeerId, request: P::Request) -> Result<P::Response, AskError> {
        let (got, limit) = (request.encoded_len(), P::BOUNDS.request_bytes);
        if got > limit {
            return Err(AskError::RequestTooLong { got, limit });
        }
        let request = Box::new(request);
        self.command(|reply| Command::Ask { peer, question: P::question(Asked { request, reply }) }).await?
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

    /// Tells a rating to everybody who keeps ratings. `false` when nobody who does is connected: then it has to be told again.
    pub async fn publish_rating(&self, rating: &SignedRating) -> Result<bool, Stopped> {
        let data = wire::encode(&wire::rating_to_proto(rating));
        self.command(|reply| Command::PublishRating { data, reply }).await
    }

    /// The connected peers that keep ratings, and can be asked with [`Self::ask_ratings`].
    pub async fn rating_keepers(&self) -> Result<Vec<PeerId>, Stopped> {
        self.command(|reply| Command::RatingKeepers { reply }).await
    }

    /// Gives a rating to a connected peer that keeps them, or asks it about a provider.
    pub async fn ask_ratings(
        &self,
        peer: PeerId,
        request: proto::RatingsRequest,
    ) -> Result<proto::RatingsResponse, AskError> {
        self.command(|reply| Command::AskRatings { peer, request: Box::new(request), reply }).await?
    }

    async fn command<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.0.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Advertisements checked at once: about 200 µs each.
const LOAD_PORTION: usize = 256;
