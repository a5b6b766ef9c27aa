//! The indexer role: keep the book of all offers beyond the life of the process, and answer whoever lists it.
//!
//! The book itself, its checks and its answers to `List` belong to [`network`]; every node has them. What makes an indexer is that it
//! follows every class and that its book is on disk: [`ad_store`] writes each advertisement as it was signed, and [`refill`] gives
//! them back to the network at start, where every signature is checked again. And where its owner allows, it carries what renters without
//! coin have signed to the chain: [`start`].

mod carrier;
pub mod sync;

pub use carrier::{Parts, start};

use network::{AdStore, Handle, PeerId, Stopped};
use std::sync::Arc;
use store::{Raw, Store, StoreError, Table, TableDef, crash_point};

/// The newest advertisement of each provider, as its signed envelope.
struct Ads;
impl Table for Ads {
    const NAME: &'static str = "indexer_ads";
    type Key = PeerId;
    type Value = Raw;
}

/// The tables that [`store::Store::open`] must know for this role.
pub fn tables() -> [TableDef; 2] {
    [TableDef::of::<Ads>(), TableDef::of::<carrier::Errands>()]
}

/// Why the book could not be refilled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node's memory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network ended meanwhile.
    #[error(transparent)]
    Network(#[from] Stopped),
}

/// Where the network keeps the advertisements of an indexer.
pub fn ad_store(store: Store) -> Arc<dyn AdStore> {
    Arc::new(Book(store))
}

struct Book(Store);

impl AdStore for Book {
    fn put(&self, peer: &PeerId, _seq: u64, raw: &[u8]) {
        crash_point("indexer", "ad", "arrived");
        // not a promise to anyone: what is lost comes back with the next refresh
        if let Err(error) = self.0.put::<Ads>(peer, &Raw(raw.to_vec())) {
            tracing::warn!(%peer, %error, "an advertisement was not written");
        }
        crash_point("indexer", "ad", "written");
    }

    fn remove(&self, peer: &PeerId) {
        if let Err(error) = self.0.delete::<Ads>(peer) {
            tracing::warn!(%peer, %error, "an advertisement was not removed");
        }
        crash_point("indexer", "ad", "removed");
    }
}

/// Gives the network what an earlier run had kept, and says how much of it still holds. What does not is forgotten: its provider may never
/// come back to replace it.
pub async fn refill(store: &Store, network: &Handle) -> Result<usize, Error> {
    let read = |store: &Store| store.scan::<Ads>(..)?.collect::<Result<Vec<_>, _>>();
    let (peers, ads): (Vec<PeerId>, Vec<_>) =
        store.run(read).await?.into_iter().map(|(peer, raw)| (peer, raw.0)).unzip();
    crash_point("indexer", "book", "read");
    let kept = network.load_ads(ads).await?;
    crash_point("indexer", "book", "loaded");
    let over: Vec<PeerId> = peers.into_iter().filter(|peer| !network.holds(peer)).collect();
    let forget = move |store: &Store| {
        let mut batch = store.batch();
        for peer in &over {
            batch.delete::<Ads>(peer)?;
        }
        batch.commit()
    };
    store.run(forget).await?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use network::{Config, Network, identity::Keypair};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn what_no_longer_holds_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &tables()).unwrap();
        store.put::<Ads>(&PeerId::random(), &Raw(b"no advertisement".to_vec())).unwrap();
        let config = Config::new(Keypair::generate_ed25519(), "devnet-00000000");
        let network = Network::start(config, CancellationToken::new()).await.unwrap();
        assert_eq!(refill(&store, &network.handle()).await.unwrap(), 0);
        assert_eq!(store.scan::<Ads>(..).unwrap().count(), 0);
        network.shutdown().await;
    }
}
