//! A market as it might be: a few classes make up most of it, prices lie around what a class costs, most providers offer a handful of
//! machines and a few offer dozens. Seeded, so that every run sees the same.

use alloy_primitives::{Address, Signature, U256};
use libp2p_identity::{Keypair, PeerId};
use market::{
    money::{Amount, Rate, Token},
    offer::{Binding, GpuGroup, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::Escrow,
    standing::Standing,
    time::UnixMillis,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Offers of ten providers together: ten each.
const SIZES: [usize; 10] = [1, 2, 3, 4, 6, 8, 10, 12, 20, 34];
const SEED: u64 = 5;

/// Share in a thousand, model, memory in MiB, capability, its features, tenths of TFLOP/s, GB/s, cents an hour.
type Model = (u32, &'static str, u32, u32, &'static str, u32, u32, u32);

const MODELS: &[Model] = &[
    (190, "NVIDIA GeForce RTX 4090", 24_564, 89, "", 1_650, 1_008, 40),
    (130, "NVIDIA GeForce RTX 3090", 24_576, 86, "", 710, 936, 22),
    (90, "NVIDIA H100 80GB HBM3", 81_559, 90, "a", 9_890, 3_350, 240),
    (30, "NVIDIA H100 PCIe", 81_559, 90, "a", 7_560, 2_000, 200),
    (70, "NVIDIA A100-SXM4-80GB", 81_920, 80, "", 3_120, 2_039, 130),
    (30, "NVIDIA A100-PCIE-40GB", 40_960, 80, "", 3_120, 1_555, 90),
    (70, "NVIDIA GeForce RTX 5090", 32_607, 120, "af", 2_090, 1_792, 60),
    (60, "", 0, 0, "", 0, 0, 8),
    (45, "NVIDIA H200", 143_771, 90, "a", 9_890, 4_800, 310),
    (40, "NVIDIA L40S", 46_068, 89, "", 3_620, 864, 80),
    (40, "NVIDIA GeForce RTX 3080", 10_240, 86, "", 595, 760, 15),
    (30, "NVIDIA RTX A6000", 49_140, 86, "", 1_550, 768, 50),
    (30, "NVIDIA GeForce RTX 4080", 16_376, 89, "", 975, 717, 30),
    (25, "NVIDIA GeForce RTX 3060", 12_288, 86, "", 255, 360, 8),
    (20, "NVIDIA RTX 6000 Ada Generation", 49_140, 89, "", 3_640, 960, 75),
    (20, "Tesla V100-SXM2-16GB", 16_384, 70, "", 1_250, 900, 20),
    (15, "Tesla T4", 15_360, 75, "", 650, 300, 12),
    (12, "NVIDIA B200", 183_359, 100, "af", 22_500, 8_000, 480),
    (12, "NVIDIA A10", 23_028, 86, "", 1_250, 600, 35),
    (10, "NVIDIA GeForce RTX 2080 Ti", 11_264, 75, "", 538, 616, 12),
    (10, "NVIDIA A40", 46_068, 86, "", 1_497, 696, 45),
    (8, "NVIDIA GH200 480GB", 97_871, 90, "a", 9_890, 4_000, 220),
    (5, "AMD Instinct MI300X", 196_592, 0, "", 13_070, 5_300, 260),
    (4, "NVIDIA B300", 275_040, 103, "af", 23_000, 8_000, 600),
    (4, "Some GPU of Tomorrow", 65_536, 130, "af", 0, 0, 100),
];

/// Share in a thousand, symbol, chain, decimals, how many are a dollar's worth in base units.
const TOKENS: &[(u32, &str, u64, u8, u128)] = &[
    (550, "USDC", 8_453, 6, 1_000_000),
    (140, "USDC", 42_161, 6, 1_000_000),
    (110, "USDT", 137, 6, 1_000_000),
    (60, "USDC", 1, 6, 1_000_000),
    (40, "DAI", 1, 18, 1_000_000_000_000_000_000),
    (60, "ETH", 8_453, 18, 320_000_000_000_000),
    (40, "ETH", 42_161, 18, 320_000_000_000_000),
];

const REGIONS: &[(u32, &str)] = &[
    (290, "US"),
    (90, "DE"),
    (70, "CN"),
    (60, "KR"),
    (50, "JP"),
    (50, "GB"),
    (45, "FR"),
    (40, "NL"),
    (40, "CA"),
    (35, "FI"),
    (30, "SE"),
    (25, "PL"),
    (25, "IN"),
    (20, "SG"),
    (20, "NO"),
    (15, "AU"),
    (15, "ES"),
    (15, "CZ"),
    (10, "BR"),
    (10, "TW"),
    (8, "CH"),
    (7, "AT"),
    (6, "UA"),
    (6, "RO"),
    (5, "TR"),
    (4, "ZA"),
    (3, "MX"),
    (2, "NZ"),
    (2, "CL"),
    (1, "IS"),
    (1, "EE"),
    (1, ""),
];

const PROCESSORS: &[&str] = &[
    "AMD EPYC 9654 96-Core Processor",
    "AMD EPYC 7763 64-Core Processor",
    "AMD EPYC 7542 32-Core Processor",
    "Intel(R) Xeon(R) Platinum 8480+",
    "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz",
    "AMD Ryzen 9 7950X 16-Core Processor",
    "13th Gen Intel(R) Core(TM) i9-13900K",
    "AMD Ryzen Threadripper PRO 5975WX 32-Cores",
];
const DRIVERS: &[(&str, u32)] =
    &[("580.82.07", 130), ("570.133.20", 128), ("570.86.15", 128), ("550.127.05", 124), ("535.183.01", 122)];

/// What is generated.
pub(crate) struct Market {
    pub(crate) providers: usize,
    pub(crate) began: UnixMillis,
}

impl Market {
    pub(crate) fn new(providers: usize) -> Self {
        Self { providers, began: UnixMillis(1_800_000_000_000) }
    }

    fn key(number: usize) -> Keypair {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Keypair::ed25519_from_bytes(seed).expect("32 bytes are a key")
    }

    pub(crate) fn peer(&self, number: usize) -> PeerId {
        Self::key(number).public().to_peer_id()
    }

    /// One provider: its key, what it advertises at a moment, and what is known of it.
    pub(crate) fn provider(&self, number: usize, at: UnixMillis) -> (Keypair, ProviderAd, Option<Standing>) {
        let mut random = StdRng::seed_from_u64(SEED ^ (number as u64) << 8);
        let key = Self::key(number);
        let wallet = Address::from_slice(&random.random::<[u8; 20]>());
        let binding = Binding {
            chain: 8_453,
            provider_key: Address::from_slice(&random.random::<[u8; 20]>()),
            wallet,
            issued_at: at.seconds() - 3_600,
            expires: at.seconds() + 86_400,
            signature: Signature::new(U256::from(random.random::<u128>()), U256::from(random.random::<u128>()), false),
        };
        let region = pick(&mut random, REGIONS, |(share, _)| *share).1.to_owned();
        let specialty = pick(&mut random, MODELS, |model| model.0);
        let standing = random.random_bool(0.7).then(|| standing(&mut random));
        let offers = (0..SIZES[number % SIZES.len()]).map(|at| offer(&mut random, specialty, at)).collect();
        let peer = key.public().to_peer_id();
        (key, ProviderAd { peer, seq: at.0, expires: at.plus(900_000), binding, region, offers }, standing)
    }

    /// Every token in the order in which the book puts tokens without rates.
    pub(crate) fn token_rank(symbol: &str, chain: u64) -> i64 {
        let mut all: Vec<_> = TOKENS.iter().map(|(_, symbol, chain, ..)| (*symbol, *chain)).collect();
        all.sort_unstable();
        all.iter().position(|known| *known == (symbol, chain)).map_or(-1, |at| at as i64)
    }
}

fn pick<'a, T>(random: &mut StdRng, among: &'a [T], share: impl Fn(&T) -> u32) -> &'a T {
    among.choose_weighted(random, share).expect("shares are not all zero")
}

fn standing(random: &mut StdRng) -> Standing {
    let completed = 1 + (1_000.0 * random.random::<f64>().powi(4)) as u32;
    let ratings = completed / 3;
    Standing {
        completed,
        paid_seconds: u64::from(completed) * random.random_range(600..36_000),
        reliability: Some(1_000_000 - (200_000.0 * random.random::<f64>().powi(3)) as u32),
        ratings,
        rating: (ratings > 0).then(|| 5_000 - (2_500.0 * random.random::<f64>().powi(2)) as u32),
    }
}

fn offer(random: &mut StdRng, specialty: &Model, at: usize) -> Offer {
    let model = if random.random_bool(0.8) { specialty } else { pick(random, MODELS, |model| model.0) };
    let (_, name, vram_mib, sm, features, tflops, memory_gb_per_s, cents) = *model;
    let count = if name.is_empty() { 0 } else { *[1, 1, 1, 1, 2, 2, 4, 8].choose(random).expect("some") };
    let (driver, cuda_version) = DRIVERS.choose(random).expect("some");
    let measured = random.random_bool(0.6);
    let gpus = (count > 0).then(|| GpuGroup {
        model: name.into(),
        count,
        vram_mib,
        sm,
        sm_features: features.into(),
        interconnect: if cents >= 130 { "nvlink4".into() } else { "pcie4".into() },
        power_limit_watts: 250 + 50 * random.random_range(0..10),
        profiling: random.random_bool(0.3),
        tflops: if measured { tflops * random.random_range(80..=100) / 100 } else { 0 },
        memory_gb_per_s: if measured { memory_gb_per_s * random.random_range(80..=100) / 100 } else { 0 },
        ..GpuGroup::default()
    });
    let cores = *[4, 8, 12, 16, 24, 32, 64, 96].choose(random).expect("some");
    let hardware = Hardware {
        gpus: gpus.into_iter().collect(),
        driver_version: (*driver).into(),
        cuda_version: *cuda_version,
        cpu_model: (*PROCESSORS.choose(random).expect("some")).into(),
        cpu_millis: cores * 1_000,
        memory_mib: cores * 1_024 * random.random_range(2..=16),
        disk_mib: 1_024 * random.random_range(50..8_000),
        disk_kind: if random.random_bool(0.8) { "nvme".into() } else { "ssd".into() },
        disk_mb_per_s: random.random_range(300..12_000),
        network_down_mbit: *[100, 500, 1_000, 2_500, 10_000, 25_000].choose(random).expect("some"),
        network_up_mbit: *[50, 200, 1_000, 2_500, 10_000, 25_000].choose(random).expect("some"),
        software: vec!["docker 28.2.1".into(), "nvidia-container-toolkit 1.18".into()],
        core_mega_multiply_adds: if measured { 3_000 } else { 0 },
    };
    let slots = random.random_range(1..=8);
    let class = name.rsplit(' ').next().unwrap_or("cpu").to_lowercase();
    // asked in tenths of a cent, around what the class costs
    let hourly = u128::from(cents * count.max(1) * 10) * random.random_range(60..=220) / 100;
    let prices = prices(random, hourly);
    Offer {
        name: format!("{class}-x{count}-{at}"),
        slots,
        free: if random.random_bool(0.45) { 0 } else { random.random_range(1..=slots) },
        busy_until: None,
        hardware,
        prices,
        min_seconds: 60,
        max_seconds: *[3_600, 86_400, 604_800, 2_592_000].choose(random).expect("some"),
        increment_millis: 10_000,
        ready_seconds: 60,
        notice_seconds: 30,
        window: 86_400,
        arbiters: Vec::new(),
        isolation: if random.random_bool(0.9) { Isolation::SharedKernel } else { Isolation::VirtualMachine },
        verification: *[
            Verification::Declared,
            Verification::Consistent,
            Verification::Consistent,
            Verification::Measured,
        ]
        .choose(random)
        .expect("some"),
        whole_host: random.random_bool(0.2),
        splits: if slots >= 4 { vec![1, 2, 4] } else { Vec::new() },
        discounts: Vec::new(),
    }
}

/// What a slot-hour costs in thousandths of a dollar, in one token or two.
fn prices(random: &mut StdRng, hourly: u128) -> Vec<Price> {
    let how_many = if random.random_bool(0.15) { 2 } else { 1 };
    let mut prices: Vec<Price> = Vec::new();
    while prices.len() < how_many {
        let (_, symbol, chain, decimals, dollar) = *pick(random, TOKENS, |token| token.0);
        let token =
            Token { chain, address: Address::repeat_byte(chain as u8 ^ decimals), symbol: symbol.into(), decimals };
        if prices.iter().any(|price| price.token == token) {
            continue;
        }
        let rate = |thousandths: u128| {
            let amount = Amount::new(thousandths * dollar / 1_000).expect("96 bits hold it");
            Rate::from_hourly(amount).expect("and its rate")
        };
        let floor = random.random_bool(0.4).then(|| rate(hourly * 6 / 10));
        let escrow = Escrow { chain, address: Address::repeat_byte(9) };
        prices.push(Price {
            escrow,
            token,
            rate: rate(hourly),
            floor,
            min_deposit: Amount::new(100_000).expect("small"),
        });
    }
    prices
}
