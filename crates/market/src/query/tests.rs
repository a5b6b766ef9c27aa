//! What queries say, and what they refuse.

use super::*;
use crate::{
    id::numbered_peer,
    money::{Amount, Rate, Token},
    offer::{Binding, GpuGroup, Hardware, Isolation, Verification},
    signed::Escrow,
    time::UnixMillis,
};
use alloy_primitives::{Address, Signature, U256};

pub(super) fn ad() -> ProviderAd {
    let escrow = Escrow { chain: 31_337, address: Address::ZERO };
    let token = Token { chain: 31_337, address: Address::ZERO, symbol: "USDC".into(), decimals: 6 };
    let rate = Rate::from_hourly(Amount::new(2_500_000).unwrap()).unwrap();
    let offer = Offer {
        name: "quad".into(),
        slots: 2,
        free: 1,
        busy_until: None,
        hardware: Hardware {
            gpus: vec![GpuGroup {
                model: "NVIDIA H100 80GB HBM3".into(),
                count: 4,
                vram_mib: 81_920,
                sm: 90,
                sm_features: "a".into(),
                tflops: 9_890,
                memory_gb_per_s: 3_350,
                ..Default::default()
            }],
            driver_version: "580.82.07".into(),
            cuda_version: 130,
            software: vec!["docker 28.2".into(), "nvidia-container-toolkit 1.18".into()],
            network_up_mbit: 2_500,
            cpu_millis: 32_000,
            memory_mib: 262_144,
            disk_mib: 1_048_576,
            ..Default::default()
        },
        prices: vec![Price { escrow, token, rate, floor: None, min_deposit: Amount::ZERO }],
        min_seconds: 1,
        max_seconds: 86_400,
        increment_millis: 10_000,
        ready_seconds: 30,
        notice_seconds: 30,
        window: 86_400,
        arbiters: vec![],
        isolation: Isolation::SharedKernel,
        verification: Verification::Declared,
        whole_host: false,
        splits: vec![],
        discounts: vec![],
    };
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    let binding =
        Binding { chain: 1, provider_key: Address::ZERO, wallet: Address::ZERO, issued_at: 0, expires: 1, signature };
    ProviderAd {
        peer: numbered_peer(1),
        seq: 1,
        expires: UnixMillis(2),
        binding,
        region: "KR".into(),
        offers: vec![offer],
    }
}

fn verdict(query: &str) -> Verdict {
    let ad = ad();
    let offer = &ad.offers[0];
    Query::parse(query).unwrap().verdict(&Candidate { ad: &ad, offer, price: &offer.prices[0], standing: None })
}

#[test]
fn more_cards_than_can_be_counted_are_many() {
    let mut ad = ad();
    let group = GpuGroup { count: u32::MAX, ..GpuGroup::default() };
    ad.offers[0].hardware.gpus = vec![group.clone(), group];
    let candidate = Candidate { ad: &ad, offer: &ad.offers[0], price: &ad.offers[0].prices[0], standing: None };
    assert_eq!(Query::parse("num_gpus>=8").unwrap().verdict(&candidate), Verdict::Yes);
}

#[test]
fn conditions_read_as_renters_write_them() {
    for query in [
        "",
        "gpu=H100 num_gpus>=4 sm>=90 vram>=80 price<=2.50",
        "region in [KR, JP]",
        "gpu=\"H100 80GB\" and token=usdc",
        "price < 2.500001 price>2.499999 price==2.5",
        "cpus>=32 memory>=256 disk>=1000 max_hours>=24 interruptible=false class=h100 chain=31337 region!=US",
    ] {
        assert_eq!(verdict(query), Verdict::Yes, "{query}");
    }
    for query in ["gpu=H200", "price<2.5", "region in [US]", "num_gpus=8", "verified>=2"] {
        assert_eq!(verdict(query), Verdict::No, "{query}");
    }
}

#[test]
fn units_ranges_and_words_are_read_for_every_kind_of_field() {
    for query in [
        "vram>=80GB memory>=256GiB disk>=1TB duration>=24h max_hours>=1d",
        "price 2..2.5 num_gpus in 2..4 price in [1..2, 2.5]",
        "gpu=h100 sm=90a sm!=100f sm in [90a, 100a] sm>=80",
        "driver>=580 driver=580.82 cuda>=12.8 software=docker net_up>=1Gbit",
        "isolation=shared_kernel verified=declared splits=1 mig=none arbiter=none profiling=false",
        "tflops>=3.9PFLOPS mem_bw>=13TB/s price_tflops<0.001 price_gpu=0.625",
    ] {
        assert_eq!(verdict(query), Verdict::Yes, "{query}");
    }
    for query in ["vram>80GB", "price 2.6..", "sm=100f", "driver>580", "software=podman", "isolation>shared"] {
        assert_eq!(verdict(query), Verdict::No, "{query}");
    }
}

#[test]
fn conditions_are_joined_by_and_or_not_and_parentheses() {
    for (query, expected) in [
        ("gpu=H200 or gpu=H100", Verdict::Yes),
        ("gpu=H200 or gpu=H100 price<1", Verdict::No),
        ("(gpu=H200 or gpu=H100) and price<3", Verdict::Yes),
        ("not (gpu=H200 or price<1)", Verdict::Yes),
        ("not gpu=H100", Verdict::No),
        ("not not gpu=H100", Verdict::Yes),
        // Kleene: what is unknown decides nothing, and nothing decides it
        ("reliability>0.9 or gpu=H100", Verdict::Yes),
        ("reliability>0.9 or gpu=H200", Verdict::Unknown),
        ("not reliability>0.9", Verdict::Unknown),
        ("not (reliability>0.9 and gpu=H200)", Verdict::Yes),
    ] {
        assert_eq!(verdict(query), expected, "{query}");
    }
}

#[test]
fn what_is_not_known_is_neither_true_nor_false() {
    assert_eq!(verdict("reliability>0.99"), Verdict::Unknown);
    assert_eq!(verdict("reliability!=0.99"), Verdict::Unknown);
    assert_eq!(verdict("reliability>0.99 gpu=H200"), Verdict::No);
}

#[test]
fn what_would_take_too_long_is_refused() {
    let deep = |levels: usize| format!("{}price<2{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Query::parse(&deep(MAX_NESTING)).is_ok());
    assert!(matches!(Query::parse(&deep(MAX_NESTING + 1)), Err(QueryError::Bound { at, .. }) if at == MAX_NESTING + 1));
    assert!(matches!(Query::parse(&"not ".repeat(500)), Err(QueryError::Bound { .. })));
    assert!(Query::parse(&"price<2 ".repeat(MAX_TERMS)).is_ok());
    assert!(matches!(Query::parse(&"price<2 ".repeat(MAX_TERMS + 1)), Err(QueryError::Bound { .. })));
    assert!(matches!(Query::parse(&" ".repeat(MAX_QUERY_BYTES + 1)), Err(QueryError::Bound { .. })));
    let keys = vec!["price"; 17].join(",");
    assert!(matches!(Order::parse(&keys), Err(QueryError::Bound { .. })));
}

fn value_error(at: usize, problem: &str) -> QueryError {
    QueryError::Value { at, problem: problem.to_owned() }
}

#[test]
fn errors_point_at_the_character_and_name_the_nearest_field() {
    assert_eq!(
        Query::parse("gpu=H100 prise<2").unwrap_err(),
        QueryError::UnknownField { at: 10, word: "prise".into(), nearest: Some("price") }
    );
    assert_eq!(Query::parse("gpu H100").unwrap_err(), QueryError::Operator { at: 5, field: "gpu" });
    for (query, error) in [
        ("gpu=H100 (price<2", QueryError::Syntax { at: 10, problem: "this parenthesis is not closed" }),
        ("gpu=H100) x", QueryError::Syntax { at: 9, problem: "there is a parenthesis too many" }),
        ("gpu=H100 or", QueryError::Syntax { at: 12, problem: "a condition is missing here" }),
        ("not", QueryError::Syntax { at: 4, problem: "a condition is missing here" }),
        ("vram>=80GB memory>=2W", value_error(20, "`W` is no unit of `memory`; units are mib, gib, tib, mb, gb, tb")),
        ("region>KR", value_error(8, "`region` is a text: compare it with = != or in")),
        ("price in [1, cheap]", value_error(14, "`cheap` is not a number")),
        ("é=1", QueryError::UnknownField { at: 1, word: "é".into(), nearest: None }),
    ] {
        assert_eq!(Query::parse(query).unwrap_err(), error, "{query}");
    }
    for bad in ["price<", "price<cheap", "region in KR", "region in [KR", "gpu=\"H100", "=3", "and"] {
        assert!(Query::parse(bad).is_err(), "{bad}");
    }
    assert!(matches!(Order::parse("price,-wram"), Err(QueryError::UnknownField { at: 7, nearest: Some("vram"), .. })));
}

fn priced(symbol: &str, hourly: u128, free: u32) -> ProviderAd {
    let mut ad = ad();
    let price = &mut ad.offers[0].prices[0];
    price.rate = Rate::from_hourly(Amount::new(hourly).unwrap()).unwrap();
    price.token.symbol = symbol.into();
    ad.offers[0].free = free;
    ad.peer = numbered_peer(u8::try_from(hourly % 251).unwrap());
    ad
}

fn sorted(order: &Order, ads: &[ProviderAd]) -> Vec<String> {
    let mut all: Vec<_> = ads.iter().flat_map(|ad| Candidate::all(ad, None)).collect();
    all.sort_by(|a, b| order.compare(a, b));
    all.iter().map(|c| format!("{} {}", c.price.rate.hourly(), c.price.token.symbol)).collect()
}

#[test]
fn tokens_are_mixed_only_by_the_users_rates() {
    let ads = [priced("B", 30, 1), priced("A", 90, 1), priced("B", 50, 1), priced("A", 10, 1), priced("C", 1, 1)];
    let order = Order::default();
    assert_eq!(sorted(&order, &ads), ["10 A", "90 A", "30 B", "50 B", "1 C"]);
    let rates = Rates::parse("A@31337 1\nB@31337 2").unwrap();
    assert_eq!(sorted(&order.with_rates(rates), &ads), ["10 A", "30 B", "90 A", "50 B", "1 C"]);
    let downwards = Order::parse("-price").unwrap();
    assert_eq!(sorted(&downwards, &ads), ["90 A", "10 A", "50 B", "30 B", "1 C"]);
}

#[test]
fn what_is_free_comes_first_and_what_is_unknown_last() {
    let mut ads = [priced("A", 30, 0), priced("A", 90, 1), priced("A", 50, 1)];
    assert_eq!(sorted(&Order::default(), &ads), ["50 A", "90 A", "30 A"]);
    ads[2].offers[0].hardware.gpus[0].tflops = 0;
    for keys in ["tflops", "-tflops"] {
        assert_eq!(sorted(&Order::parse(keys).unwrap(), &ads), ["90 A", "50 A", "30 A"], "{keys}");
    }
}

#[test]
fn a_dearer_gpu_is_often_the_cheaper_run() {
    let (slow, mut fast) = (priced("A", 1_000_000, 1), priced("A", 1_500_000, 1));
    fast.offers[0].hardware.gpus[0].tflops *= 2;
    let job: Job = "tflop=1e7 seconds=60".parse().unwrap();
    let ads = [slow, fast];
    assert_eq!(sorted(&Order::default(), &ads)[0], "1000000 A");
    assert_eq!(sorted(&Order::by_cost(job), &ads)[0], "1500000 A");
    assert_eq!(sorted(&Order::parse("price_tflops").unwrap(), &ads)[0], "1500000 A");
    // 1e7 TFLOP at 4 x 1,978 TFLOP/s, and a minute
    let candidate = Candidate::all(&ads[1], None).next().unwrap();
    assert_eq!(job.seconds(&candidate), Some(1_324));
    assert_eq!("tflop=1e12".parse::<Job>().unwrap().seconds(&candidate), None, "longer than it may be rented");
    assert!(Order::parse("cost").unwrap().lacks_job() && !Order::by_cost(job).lacks_job());
}

#[test]
fn the_reference_has_every_field() {
    let reference = include_str!("../../../../docs/query.md");
    for (name, meaning) in fields() {
        assert!(reference.contains(&format!("| `{name}` | {meaning} |")), "docs/query.md lacks `{name}`");
    }
}
