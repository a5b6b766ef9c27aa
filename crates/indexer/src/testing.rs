//! Advertisements for the tests of this crate, signed as providers sign them.

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256};
use market::{
    money::{Amount, Rate, Token},
    offer::{Binding, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::Escrow,
    time::UnixMillis,
};
use network::{
    AdChange,
    ad::{self, CheckedAd},
    identity::Keypair,
};
use std::sync::Arc;

pub(crate) fn key() -> Keypair {
    Keypair::generate_ed25519()
}

/// The advertisement of a provider of its own, with one offer.
pub(crate) fn sealed(seq: u64, lifetime: u64, name: &str) -> CheckedAd {
    sealed_by(&key(), seq, lifetime, name)
}

pub(crate) fn sealed_by(key: &Keypair, seq: u64, lifetime: u64, name: &str) -> CheckedAd {
    offering(key, seq, lifetime, vec![offer(name, 1_000_000)])
}

pub(crate) fn offering(key: &Keypair, seq: u64, lifetime: u64, offers: Vec<Offer>) -> CheckedAd {
    let (peer, wallet) = (key.public().to_peer_id(), PrivateKeySigner::random());
    let sign = |digest: &B256| wallet.sign_hash_sync(digest);
    let binding = Binding::issue(&peer, 1, wallet.address(), wallet.address(), UnixMillis(seq), sign).unwrap();
    let ad = ProviderAd { peer, seq, expires: UnixMillis(seq + lifetime), binding, region: "KR".into(), offers };
    CheckedAd { raw: ad::seal(key, &ad).unwrap().into(), ad }
}

pub(crate) fn offer(name: &str, hourly: u128) -> Offer {
    let escrow = Escrow { chain: 1, address: Address::repeat_byte(1) };
    let token = Token { chain: 1, address: Address::repeat_byte(2), symbol: "USDT".into(), decimals: 6 };
    let rate = Rate::from_hourly(Amount::new(hourly).unwrap()).unwrap();
    Offer {
        name: name.to_owned(),
        slots: 2,
        free: 2,
        busy_until: None,
        hardware: Hardware { cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 10_240, ..Hardware::default() },
        prices: vec![Price { escrow, token, rate, floor: None, min_deposit: Amount::ZERO }],
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

/// The change by which the network hands it over.
pub(crate) fn put(checked: &CheckedAd) -> AdChange {
    let ProviderAd { peer, seq, expires, .. } = checked.ad;
    AdChange::Put { peer, seq, expires, classes: checked.ad.classes().into(), raw: Arc::clone(&checked.raw) }
}
