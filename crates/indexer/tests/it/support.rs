//! Indexers, and advertisements to fill them with.

use indexer::sync::{Ledger, Parts};
use market::{
    money::{Amount, Rate, Token},
    offer::{Binding, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::Escrow,
    time::UnixMillis,
};
use network::{Config, Handle, Multiaddr, Network, PeerId, ad, identity::Keypair};
use settlement::Wallet;
use std::{future::Future, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Everything here happens on one machine: what takes longer than this does not happen.
const LIMIT: Duration = Duration::from_secs(60);
/// A quarter of an hour, as usual.
const LIFETIME: u64 = 900_000;

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Waits for a condition of which nobody is told.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A node that says that it is an indexer, and nothing more.
pub(crate) async fn node(observer: Option<Arc<Ledger>>) -> Network {
    let config = Config {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        indexes: true,
        observer: observer.map(|ledger| ledger as _),
        ..Config::new(Keypair::generate_ed25519(), "devnet-00c0ffee")
    };
    Network::start(config, CancellationToken::new()).await.unwrap()
}

/// An indexer with these advertisements in its book.
pub(crate) async fn indexer(ads: &[Vec<u8>]) -> Network {
    let ledger = Arc::new(Ledger::new());
    let network = node(Some(Arc::clone(&ledger))).await;
    assert_eq!(network.handle().load_ads(ads.to_vec()).await.unwrap(), ads.len());
    let parts = Parts { network: network.handle(), ledger, cancel: CancellationToken::new() };
    assert!(indexer::sync::start(parts).is_some());
    network
}

pub(crate) fn address(node: &Network) -> Multiaddr {
    node.handle().listen_addrs().remove(0)
}

/// Waits until a book holds exactly these.
pub(crate) async fn until_holds(handle: &Handle, what: &str, providers: &[&Provider], ads: &[Vec<u8>]) {
    until(what, || {
        let held = providers.iter().filter_map(|provider| handle.signed_ad(&provider.peer()));
        held.map(|raw| raw.to_vec()).eq(ads.iter().cloned())
    })
    .await;
}

/// Somebody who advertises.
pub(crate) struct Provider {
    key: Keypair,
    binding: Binding,
}

impl Provider {
    pub(crate) fn new() -> Self {
        let (key, wallet) = (Keypair::generate_ed25519(), Wallet::random());
        let sign = |digest: &alloy_primitives::B256| wallet.sign_digest(digest);
        let peer = key.public().to_peer_id();
        let address = wallet.address();
        let binding = Binding::issue(&peer, 31_337, address, address, UnixMillis::now(), sign).unwrap();
        Self { key, binding }
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// What it advertised some seconds ago.
    pub(crate) fn ad(&self, seconds_ago: u64) -> Vec<u8> {
        self.sealed(seconds_ago, vec![offer()])
    }

    /// That it withdrew its offers some seconds ago.
    pub(crate) fn withdrawal(&self, seconds_ago: u64) -> Vec<u8> {
        self.sealed(seconds_ago, Vec::new())
    }

    fn sealed(&self, seconds_ago: u64, offers: Vec<Offer>) -> Vec<u8> {
        let seq = UnixMillis::now().0 - seconds_ago * 1_000;
        let expires = UnixMillis(seq + LIFETIME);
        let ad = ProviderAd {
            peer: self.peer(),
            seq,
            expires,
            binding: self.binding.clone(),
            region: "KR".to_owned(),
            offers,
        };
        ad::seal(&self.key, &ad).unwrap()
    }
}

fn offer() -> Offer {
    let escrow = Escrow { chain: 31_337, address: alloy_primitives::Address::repeat_byte(1) };
    let token = alloy_primitives::Address::repeat_byte(2);
    Offer {
        name: "slot".to_owned(),
        slots: 1,
        free: 1,
        busy_until: None,
        hardware: Hardware { cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 10_240, ..Hardware::default() },
        prices: vec![Price {
            escrow,
            token: Token { chain: 31_337, address: token, symbol: "USDT".to_owned(), decimals: 6 },
            rate: Rate::new(Amount::new(1_000_000).unwrap()),
            floor: None,
            min_deposit: Amount::new(1).unwrap(),
        }],
        min_seconds: 1,
        max_seconds: 3_600,
        increment_millis: 1_000,
        ready_seconds: 30,
        notice_seconds: 30,
        window: 900,
        arbiters: Vec::new(),
        isolation: Isolation::SharedKernel,
        verification: Verification::Declared,
        whole_host: false,
        splits: Vec::new(),
        discounts: Vec::new(),
    }
}
