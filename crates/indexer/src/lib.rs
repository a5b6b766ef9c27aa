//! The indexer role: keep the book of all offers beyond the life of the process, and answer whoever searches it.
//!
//! ```text
//!   gossip, lists, other indexers ──▶ network: checked, into its book ──▶ DiskBook: written in batches, acknowledged
//!                                                │
//!                          Searches ◀────────────┘   ──▶ /gpulease/search/1, HTTP: rows, and the signed originals
//! ```
//!
//! What makes an indexer is that it follows every class, that its book is on disk ([`DiskBook`]), and that it answers searches
//! ([`Searches`]) over the peer protocol and [`http`]. And where its owner allows, it carries what renters without coin have signed to the
//! chain: [`start`]. It also keeps what the chain tells of rentals and what their renters say of them, and answers with what follows from
//! both: [`Standings`].

pub mod book;
mod carrier;
mod desk;
mod figures;
mod history;
pub mod http;
mod ratings;
mod search;
mod standing;
pub mod sync;
#[cfg(test)]
mod testing;

pub use book::{BookChange, DiskBook, Loaded};
pub use carrier::{Parts, start};
pub use figures::{Figure, Figures};
pub use search::{Page, PageAd, Row, Searches};
pub use standing::{Known, Standings};

use market::{book::Book, time::UnixMillis};
use network::Handle;
use std::{fmt, net::SocketAddr, sync::Arc};
use store::{Store, StoreError, TableDef};
use tokio_util::sync::CancellationToken;

/// The tables that [`store::Store::open`] must know for this role.
pub fn tables() -> Vec<TableDef> {
    let own = [
        TableDef::of::<book::Ads>(),
        TableDef::of::<book::ByUpdate>(),
        TableDef::of::<book::ByExpiry>(),
        TableDef::of::<book::ByClass>(),
        TableDef::of::<book::Mark>(),
        TableDef::of::<carrier::Errands>(),
        TableDef::of::<standing::BoundKeys>(),
    ];
    own.into_iter().chain(history::TABLES).chain(ratings::TABLES).collect()
}

/// Why the indexer did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node's memory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// HTTP cannot be served there.
    #[error("cannot serve HTTP on {address}")]
    Http {
        /// Where it was to be.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Searches are answered already: a mistake in the program.
    #[error("this node's searches are answered already")]
    Served,
    /// The chain failed.
    #[error(transparent)]
    Settlement(#[from] settlement::SettlementError),
}

/// What an earlier run has kept, and what the network begins with.
#[derive(Debug)]
pub struct Opened {
    /// The disk's side, which the network writes to.
    pub disk: Arc<DiskBook>,
    /// The book in memory.
    pub book: Book,
    /// What came of reading it.
    pub loaded: Loaded,
    /// What is counted from now on.
    pub figures: Arc<Figures>,
}

/// Opens the book, before the network is joined.
pub async fn open(store: &Store) -> Result<Opened, Error> {
    let figures = Arc::new(Figures::default());
    let counted = Arc::clone(&figures);
    let opened = store.run(move |store| DiskBook::open(store.clone(), counted, UnixMillis::now())).await?;
    let (disk, book, loaded) = opened;
    Ok(Opened { disk: Arc::new(disk), book, loaded, figures })
}

/// What an indexer answers from.
pub struct Service {
    /// The network's handle.
    pub network: Handle,
    /// The network's name.
    pub network_name: String,
    /// The disk's side of its book.
    pub disk: Arc<DiskBook>,
    /// What is counted.
    pub figures: Arc<Figures>,
    /// Where to serve HTTP, if anywhere; port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// A running indexer.
#[derive(Clone)]
pub struct Indexer {
    http: Option<SocketAddr>,
    figures: Arc<Figures>,
    ended: CancellationToken,
}

impl fmt::Debug for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexer").field("http", &self.http).finish_non_exhaustive()
    }
}

impl Indexer {
    /// Begins to answer.
    pub async fn start(service: Service) -> Result<Self, Error> {
        let Service { network, network_name, disk, figures, http, cancel } = service;
        let asked = network.search_requests().ok_or(Error::Served)?;
        let searches = Searches::new(network.clone(), Arc::clone(&disk), Arc::clone(&figures));
        let server = match http {
            Some(address) => {
                let about = http::About { network, network_name };
                let bound = http::Server::bind(address, about, searches.clone(), disk, Arc::clone(&figures)).await;
                Some(bound.map_err(|source| Error::Http { address, source })?)
            }
            None => None,
        };
        let (http, ended) = (server.as_ref().map(http::Server::address), CancellationToken::new());
        let over = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _over = over;
            let serving = async {
                match server {
                    Some(server) => server.serve(cancel.child_token()).await,
                    None => cancel.cancelled().await,
                }
            };
            tokio::select! {
                () = searches.serve(asked, cancel.child_token()) => {}
                () = serving => {}
            }
        });
        Ok(Self { http, figures, ended })
    }

    /// Where it serves HTTP.
    pub const fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What it counts.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Waits until it has ended, by order or by a fault of ours.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
