//! Providers as the design counts them, ten offers each, and their advertisements signed as providers sign them.

use alloy_primitives::{Address, B256};
use libp2p_identity::Keypair;
use market::{
    money::{Amount, Rate, Token},
    offer::{Binding, GpuGroup, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::Escrow,
    time::UnixMillis,
};
use network::ad;
use settlement::Wallet;

/// Offers of one provider: DESIGN §16 has a million of a hundred thousand.
pub(crate) const OFFERS: usize = 10;

const MODELS: [(&str, u32, u32); 5] = [
    ("NVIDIA H200", 144_384, 90),
    ("NVIDIA H100 80GB HBM3", 81_920, 90),
    ("NVIDIA GeForce RTX 4090", 24_576, 89),
    ("NVIDIA A100-SXM4-80GB", 81_920, 80),
    ("NVIDIA L40S", 46_080, 89),
];

/// A provider, whose wallet has signed once.
pub(crate) struct Provider {
    /// Its peer's key.
    pub(crate) key: Keypair,
    binding: Binding,
    number: usize,
}

impl Provider {
    pub(crate) fn new(number: usize, now: UnixMillis) -> Self {
        let (key, wallet) = (Keypair::generate_ed25519(), Wallet::random());
        let sign = |digest: &B256| wallet.sign_digest(digest);
        let binding = Binding::issue(&key.public().to_peer_id(), 8_453, wallet.address(), wallet.address(), now, sign)
            .expect("a key in memory signs");
        Self { key, binding, number }
    }

    /// Its advertisement, in its envelope; in as many of its offers as have `changed`, price and free slots depend on the number.
    pub(crate) fn advertisement(&self, seq: u64, lifetime: u64, changed: usize) -> Vec<u8> {
        let ad = ProviderAd {
            peer: self.key.public().to_peer_id(),
            seq,
            expires: UnixMillis(seq + lifetime),
            binding: self.binding.clone(),
            region: ["KR", "US", "DE", "FI"][self.number % 4].into(),
            offers: (0..OFFERS).map(|offer| self.offer(offer, if offer < changed { seq } else { 0 })).collect(),
        };
        ad::seal(&self.key, &ad).expect("an ed25519 key signs anything")
    }

    fn offer(&self, place: usize, turn: u64) -> Offer {
        let (model, vram_mib, sm) = MODELS[(self.number + place) % MODELS.len()];
        let count = 1 << (place % 4);
        let cents = 40 + (self.number * 7 + place * 13 + turn as usize % 11) % 360;
        let hourly = Amount::new(cents as u128 * 10_000 * count as u128).expect("small");
        let escrow = Escrow { chain: 8_453, address: Address::repeat_byte(9) };
        let token = Token { chain: 8_453, address: Address::repeat_byte(7), symbol: "USDC".into(), decimals: 6 };
        let rate = Rate::from_hourly(hourly).expect("and its rate");
        let gpus = vec![GpuGroup { model: model.into(), count, vram_mib, sm, ..GpuGroup::default() }];
        let hardware = Hardware {
            gpus,
            driver_version: "580.82.07".into(),
            cuda_version: 130,
            cpu_model: "AMD EPYC 9654 96-Core Processor".into(),
            cpu_millis: 8_000 * count,
            memory_mib: 65_536 * count,
            disk_mib: 1_048_576,
            disk_kind: "nvme".into(),
            ..Hardware::default()
        };
        Offer {
            name: format!("slot-{place}"),
            slots: 2,
            free: 2 - turn as u32 % 2,
            busy_until: None,
            hardware,
            prices: vec![Price { escrow, token, rate, floor: None, min_deposit: Amount::new(100_000).expect("small") }],
            min_seconds: 60,
            max_seconds: 604_800,
            increment_millis: 10_000,
            ready_seconds: 60,
            notice_seconds: 30,
            window: 86_400,
            arbiters: Vec::new(),
            isolation: Isolation::SharedKernel,
            verification: Verification::Consistent,
            whole_host: false,
            splits: Vec::new(),
            discounts: Vec::new(),
        }
    }
}
