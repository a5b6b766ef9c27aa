//! Nodes, wallets and advertisements for the tests, and waiting for a condition with a limit.

use ::market::{
    money::{Amount, Rate, Token},
    offer::{Binding, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::{Escrow, binding_digest},
    time::UnixMillis,
};
use alloy::{
    primitives::{Address, Signature, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use libp2p::{core::SignedEnvelope, identity::Keypair, multiaddr::Protocol};
use network::{AdDraft, Config, Handle, Interest, Multiaddr, Network, PeerId};
use std::{future::Future, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Everything here happens on one machine: what takes longer than this does not happen.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const NETWORK: &str = "devnet-00c0ffee";
pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

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

/// Waits until the market looks like this.
pub(crate) async fn until_offers(handle: &Handle, what: &str, condition: impl Fn(&[Arc<ProviderAd>]) -> bool) {
    let mut changes = handle.watch_offers();
    within(what, async {
        while !condition(&handle.offers()) {
            changes.changed().await.unwrap();
        }
    })
    .await;
}

pub(crate) async fn until_connected(handle: &Handle, peer: PeerId) {
    let mut peers = handle.watch_peers();
    within("connection", peers.wait_for(|peers| peers.contains(&peer))).await.unwrap();
}

pub(crate) fn config() -> Config {
    Config::new(Keypair::generate_ed25519(), NETWORK)
}

pub(crate) async fn start(config: Config) -> Network {
    Network::start(config, CancellationToken::new()).await.unwrap()
}

pub(crate) async fn listening(on: &str) -> Network {
    start(Config { listen: vec![on.parse().unwrap()], ..config() }).await
}

/// A node that nobody can dial, connected to `hub`.
pub(crate) async fn beside(hub: &Network, classes: Interest) -> Network {
    let node = start(Config { bootstrap: vec![address(hub)], classes, ..config() }).await;
    until_connected(&node.handle(), hub.handle().local_peer_id()).await;
    node
}

pub(crate) fn address(node: &Network) -> Multiaddr {
    let handle = node.handle();
    handle.listen_addrs().remove(0).with(Protocol::P2p(handle.local_peer_id()))
}

pub(crate) fn binding(peer: &PeerId) -> Binding {
    let wallet = PrivateKeySigner::random();
    let now = UnixMillis::now().seconds();
    let mut binding = Binding {
        chain: 31_337,
        provider_key: wallet.address(),
        wallet: wallet.address(),
        issued_at: now - 10,
        expires: now + 86_400,
        signature: Signature::new(U256::from(1), U256::from(1), false),
    };
    binding.signature = wallet.sign_hash_sync(&binding_digest(binding.chain, &binding.statement(peer))).unwrap();
    binding
}

pub(crate) fn offer(name: &str) -> Offer {
    let escrow = Escrow { chain: 31_337, address: Address::repeat_byte(1) };
    Offer {
        name: name.to_owned(),
        slots: 2,
        free: 2,
        busy_until: None,
        hardware: Hardware { cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 10_240, ..Hardware::default() },
        prices: vec![Price {
            escrow,
            token: Token { chain: 31_337, address: Address::repeat_byte(2), symbol: "USDT".to_owned(), decimals: 6 },
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

pub(crate) fn draft(peer: &PeerId, name: &str) -> AdDraft {
    AdDraft { binding: binding(peer), region: "KR".to_owned(), offers: vec![offer(name)] }
}

/// An advertisement in its envelope, made by the letter of the specification and not by the code under test.
pub(crate) fn sealed(key: &Keypair, seq: u64, lifetime: u64, name: &str) -> Vec<u8> {
    sealed_for(key.public().to_peer_id(), key, seq, lifetime, name)
}

/// The same in the name of any peer.
pub(crate) fn sealed_for(peer: PeerId, key: &Keypair, seq: u64, lifetime: u64, name: &str) -> Vec<u8> {
    let ad = ProviderAd {
        peer,
        seq,
        expires: UnixMillis(seq + lifetime),
        binding: binding(&peer),
        region: String::new(),
        offers: vec![offer(name)],
    };
    let payload = wire::encode(&wire::ad_to_proto(&ad));
    let envelope = SignedEnvelope::new(key, "gpulease-ad-v1".to_owned(), b"/gpulease/ad/1".to_vec(), payload).unwrap();
    envelope.into_protobuf_encoding()
}

pub(crate) fn names(offers: &[Arc<ProviderAd>]) -> Vec<String> {
    offers.iter().flat_map(|ad| ad.offers.iter().map(|offer| offer.name.clone())).collect()
}
