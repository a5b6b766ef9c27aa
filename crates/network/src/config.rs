//! What a node must know before it joins the network.

use crate::{error::StartError, rating::RatingDesk};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use market::{book::Book, class::GpuClass, offer::DEFAULT_AD_LIFETIME, time::UnixMillis};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// How a node joins the network.
pub struct Config {
    /// The ed25519 key that is the node's identity.
    pub keypair: Keypair,
    /// Where to listen; empty to only dial out. Port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach this node, where they differ from those it listens on.
    pub external: Vec<Multiaddr>,
    /// Peers to be connected to at all times.
    pub bootstrap: Vec<Multiaddr>,
    /// Peers where this node makes itself known, if it can be reached, and where it finds others of its classes while it knows few. It stays
    /// connected to them as it does to `bootstrap`.
    pub rendezvous: Vec<Multiaddr>,
    /// Whether others may do so here: for nodes with a public address.
    pub serves_rendezvous: bool,
    /// Whether nodes in the same local network are looked for, by multicast DNS.
    pub mdns: bool,
    /// `main`, or `devnet-` and eight hex digits: nodes of different networks do not see each other's offers.
    pub network: String,
    /// Which classes of machine this node wants to know about.
    pub classes: Interest,
    /// Whether this node is an indexer: it then says to everyone it meets that it answers searches and compares its book with others'.
    pub indexes: bool,
    /// How long an advertisement of this node lives, in milliseconds; it is renewed after about a third of that.
    pub ad_lifetime: u64,
    /// Where advertisements are kept beyond the life of the process.
    pub store: Option<Arc<dyn AdStore>>,
    /// Who is told of every change of the book.
    pub observer: Option<Arc<dyn BookObserver>>,
    /// What an earlier run has kept there: the book that this one begins with.
    pub book: Book,
    /// Who judges and keeps ratings here; without one they are neither followed nor kept.
    pub ratings: Option<Arc<dyn RatingDesk>>,
}

impl Config {
    /// A node on `network` that listens nowhere, knows nobody and wants to know about everything.
    pub fn new(keypair: Keypair, network: impl Into<String>) -> Self {
        Self {
            keypair,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            rendezvous: Vec::new(),
            serves_rendezvous: false,
            mdns: false,
            network: network.into(),
            classes: Interest::All,
            indexes: false,
            ad_lifetime: DEFAULT_AD_LIFETIME,
            store: None,
            observer: None,
            book: Book::new(),
            ratings: None,
        }
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        if self.keypair.public().try_into_ed25519().is_err() {
            return Err(StartError::NotEd25519);
        }
        let is_hex = |digits: &str| digits.len() == 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match self.network.as_str() {
            "main" => Ok(()),
            name if name.strip_prefix("devnet-").is_some_and(is_hex) => Ok(()),
            _ => Err(StartError::Network(self.network.clone())),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("peer", &self.keypair.public().to_peer_id())
            .field("listen", &self.listen)
            .field("external", &self.external)
            .field("bootstrap", &self.bootstrap)
            .field("rendezvous", &self.rendezvous)
            .field("network", &self.network)
            .field("classes", &self.classes)
            .field("indexes", &self.indexes)
            .finish_non_exhaustive()
    }
}

/// Which classes of machine a node follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every class: an indexer.
    All,
    /// These: a renter, or with none of them a provider that only sells.
    Only(BTreeSet<GpuClass>),
}

impl Interest {
    /// No class at all.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// The classes, each once.
    pub(crate) fn classes(&self) -> Vec<GpuClass> {
        match self {
            Self::All => GpuClass::all().collect(),
            Self::Only(classes) => classes.iter().copied().collect(),
        }
    }
}

/// What has changed in the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdChange {
    /// A peer has a newer advertisement, whose signatures were checked.
    Put {
        /// Whose it is.
        peer: PeerId,
        /// Its sequence number.
        seq: u64,
        /// When it stops to count.
        expires: UnixMillis,
        /// The classes of its offers.
        classes: Arc<[GpuClass]>,
        /// The signed envelope, byte for byte.
        raw: Arc<[u8]>,
    },
    /// A peer's advertisement is over.
    Removed {
        /// Whose it was.
        peer: PeerId,
    },
}

/// Where an indexer keeps advertisements. Called from one thread of its own, so it may block.
pub trait AdStore: Send + Sync {
    /// What has changed since the last call, in the order in which it happened: one change, or as many as have come while the last were
    /// being written.
    fn write(&self, changes: &[AdChange]);
}

/// Follows the book: what it holds when the network starts, and then every change, in order and without exception. Called by the network's task
/// itself, so it must not wait for anything.
pub trait BookObserver: Send + Sync {
    /// The book holds this now of a peer, in place of what it held before.
    fn put(&self, peer: &PeerId, seq: u64, expires: UnixMillis);
    /// The book holds nothing of the peer any more.
    fn removed(&self, peer: &PeerId);
}
