//! Providers that exist only as keys, and what they sign: real advertisements in real envelopes, and their announcements.

use alloy_primitives::Address;
use anyhow::Context as _;
use libp2p::{PeerId, identity::Keypair};
use market::{
    class::GpuClass,
    money::{Amount, Rate, Token},
    offer::{Binding, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::Escrow,
    time::UnixMillis,
};
use network::{AdDraft, ad};
use settlement::Wallet;
use std::sync::Arc;

/// The chain of every price here.
const CHAIN: u64 = 8_453;
/// How long an advertisement lives: an hour is the most that is allowed, and longer than any run.
pub const LIFETIME: u64 = market::offer::MAX_AD_LIFETIME;

/// A provider with its keys and its wallet's statement.
#[derive(Clone, Debug)]
pub struct Provider {
    key: Keypair,
    binding: Binding,
}

/// One advertisement, ready to be gossiped and fetched.
#[derive(Clone, Debug)]
pub struct Published {
    /// Whose it is.
    pub peer: PeerId,
    /// Its sequence number.
    pub seq: u64,
    /// What is gossiped.
    pub announcement: Arc<[u8]>,
    /// What is fetched.
    pub envelope: Arc<[u8]>,
}

impl Provider {
    /// The provider of that number: the same keys every time.
    pub fn numbered(number: u64, now: UnixMillis) -> anyhow::Result<Self> {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let key = Keypair::ed25519_from_bytes(seed)?;
        let wallet = Wallet::from_key(&seed.into())?;
        let (peer, address) = (key.public().to_peer_id(), wallet.address());
        let binding = Binding::issue(&peer, CHAIN, address, address, now, |digest| wallet.sign_digest(digest))?;
        Ok(Self { key, binding })
    }

    /// Who it is.
    pub fn peer(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// Its key.
    pub fn key(&self) -> &Keypair {
        &self.key
    }

    /// What it advertises when a node does so in its name.
    pub fn draft(&self) -> anyhow::Result<AdDraft> {
        Ok(AdDraft { binding: self.binding.clone(), region: "KR".to_owned(), offers: vec![offer()?] })
    }

    /// Signs an advertisement of one slot without GPUs, and the announcement of it on the topic of `class`.
    pub fn publish(&self, seq: u64, class: GpuClass) -> anyhow::Result<Published> {
        let ad = ProviderAd {
            peer: self.peer(),
            seq,
            expires: UnixMillis(seq).plus(LIFETIME),
            binding: self.binding.clone(),
            region: "KR".to_owned(),
            offers: vec![offer()?],
        };
        let envelope = ad::seal(&self.key, &ad)?;
        let announcement = ad::announce(&self.key, &ad, &envelope, &[class])?;
        Ok(Published { peer: ad.peer, seq, announcement: announcement.into(), envelope: envelope.into() })
    }
}

/// A slot without GPUs.
fn offer() -> anyhow::Result<Offer> {
    let escrow = Escrow { chain: CHAIN, address: Address::repeat_byte(9) };
    let token = Token { chain: CHAIN, address: Address::repeat_byte(7), symbol: "USDC".to_owned(), decimals: 6 };
    let amount = |units| Amount::new(units).context("96 bits hold it");
    let rate = Rate::from_hourly(amount(50_000)?).context("and its rate")?;
    Ok(Offer {
        name: "small".to_owned(),
        slots: 2,
        free: 2,
        busy_until: None,
        hardware: Hardware { cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 10_240, ..Hardware::default() },
        prices: vec![Price { escrow, token, rate, floor: None, min_deposit: amount(100_000)? }],
        min_seconds: 60,
        max_seconds: 604_800,
        increment_millis: 10_000,
        ready_seconds: 60,
        notice_seconds: 30,
        window: 86_400,
        arbiters: Vec::new(),
        isolation: Isolation::SharedKernel,
        verification: Verification::Declared,
        whole_host: false,
        splits: Vec::new(),
        discounts: Vec::new(),
    })
}
