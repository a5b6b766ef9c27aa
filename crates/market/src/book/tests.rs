//! The book takes and forgets as it should, and its index finds what asking every offer by itself finds, in the same order.

use super::*;
use crate::{
    id::numbered_peer,
    money::{Amount, Rate},
    offer::{Binding, GpuGroup, Hardware, Isolation, Offer, Price, Verification},
    query::{Order, Query, Rates, Verdict},
};
use alloy_primitives::{Signature, U256};
use proptest::{collection::vec, option, prelude::*, sample::select};

const NOW: UnixMillis = UnixMillis(10_000);

fn ad(peer: PeerId, seq: u64, offers: Vec<Offer>) -> ProviderAd {
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    let wallet = Address::repeat_byte(peer.to_bytes().last().copied().unwrap_or_default() % 3);
    let binding = Binding { chain: 1, provider_key: Address::ZERO, wallet, issued_at: 0, expires: 1, signature };
    ProviderAd { peer, seq, expires: UnixMillis(seq + 1_000), binding, region: String::new(), offers }
}

fn raw() -> Arc<[u8]> {
    Arc::from([1u8, 2, 3])
}

#[test]
fn only_a_newer_advertisement_replaces_an_older() {
    let (mut book, peer) = (Book::new(), numbered_peer(1));
    assert_eq!(book.insert(raw(), &ad(peer, 10_000, vec![]), NOW), Ok(Inserted::Withdrawn));
    assert_eq!(book.insert(raw(), &ad(peer, 10_000, vec![]), NOW), Err(Stale::NotNewer));
    assert_eq!(book.insert(raw(), &ad(peer, 9_999, vec![]), NOW), Err(Stale::NotNewer));
    assert!(book.insert(raw(), &ad(peer, 10_001, vec![]), NOW).is_ok());
    assert_eq!(book.len(), 1);
}

#[test]
fn what_is_expired_or_from_the_future_is_not_taken() {
    let (mut book, peer, now) = (Book::new(), numbered_peer(1), UnixMillis(1_000_000));
    assert_eq!(book.insert(raw(), &ad(peer, 999_000, vec![]), now), Err(Stale::Expired));
    assert_eq!(book.insert(raw(), &ad(peer, now.0 + MAX_SKEW + 1, vec![]), now), Err(Stale::FromTheFuture));
    let mut long = ad(peer, now.0, vec![]);
    long.expires = now.plus(MAX_AD_LIFETIME + 1);
    assert_eq!(book.insert(raw(), &long, now), Err(Stale::TooLong));
}

#[test]
fn a_withdrawn_provider_cannot_be_revived_by_an_older_copy() {
    let (mut book, peer) = (Book::new(), numbered_peer(1));
    book.insert(raw(), &ad(peer, 10_000, vec![]), NOW).unwrap();
    assert_eq!(book.insert(raw(), &ad(peer, 9_500, vec![]), NOW), Err(Stale::NotNewer));
    assert_eq!(book.expire(UnixMillis(10_999)), vec![]);
    assert_eq!(book.expire(UnixMillis(11_000)), vec![peer]);
    assert!(book.is_empty());
}

#[test]
fn pages_cover_everything_once() {
    let mut book = Book::new();
    for number in 0..10 {
        book.insert(raw(), &ad(numbered_peer(number), 10_000, vec![]), NOW).unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, more) = book.list(None, after.as_ref(), 3, NOW);
        seen.extend(page.iter().map(|entry| entry.peer));
        after = seen.last().copied();
        if !more {
            break;
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

#[test]
fn what_is_known_of_a_provider_outlives_its_advertisements() {
    let (mut book, peer) = (Book::new(), numbered_peer(1));
    let reliable = Standing { reliability: Some(990_000), ..Standing::default() };
    assert!(book.set_standing(&peer, reliable));
    book.insert(raw(), &ad(peer, 10_000, vec![offer("a", 1, 4, 1)]), NOW).unwrap();
    let found = |book: &Book| found(book, "reliability>=0.99", &Order::default()).len();
    assert_eq!(found(&book), 1);
    book.expire(UnixMillis(11_000));
    book.insert(raw(), &ad(peer, 11_000, vec![offer("a", 1, 4, 1)]), UnixMillis(11_000)).unwrap();
    assert_eq!(found(&book), 1);
    book.set_standing(&peer, Standing { reliability: Some(980_000), ..reliable });
    assert_eq!(found(&book), 0);
    book.forget_standing(&peer);
    assert_eq!(book.standing(&peer), None);
}

#[test]
fn near_misses_are_told_with_what_they_have() {
    let mut book = Book::new();
    for (number, (model, price, free)) in (0u8..).zip([(0, 3, 1), (1, 9, 1), (1, 2, 1), (2, 2, 1)]) {
        let offers = vec![offer("a", model, price, free)];
        book.insert(raw(), &ad(numbered_peer(number), 10_000, offers), NOW).unwrap();
    }
    let query = Query::parse("gpu=H100 price<=4 reliability>0.9").unwrap();
    let search = Search { query: &query, order: &Order::default(), wanted: &|_, _| true };
    let told = book.explain(&search, 10);
    assert_eq!((told.offers, told.matching), (4, 0));
    let removal = |at: usize| (told.conditions[at].failed, told.conditions[at].unknown, told.conditions[at].alone);
    assert_eq!((removal(0), removal(1), removal(2)), ((1, 0, 0), (1, 0, 0), (0, 4, 2)));
    assert_eq!(told.near.len(), 2);
    assert_eq!((told.near[0].condition, &*told.near[0].found), (2, "reliability is unknown"));
}

const MODELS: [&str; 4] = ["NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL", "NVIDIA GeForce RTX 4090", ""];

fn offer(name: &str, model: usize, price: u32, free: u32) -> Offer {
    let hourly = Amount::new(u128::from(price) * 1_000_000).unwrap();
    let gpu = |model: &str| GpuGroup {
        model: model.into(),
        count: 1 + free,
        vram_mib: if model.contains("H100") { 81_559 } else { 24_564 },
        sm: if model.contains("H100") { 90 } else { 89 },
        sm_features: "a".into(),
        tflops: 10 * price,
        ..GpuGroup::default()
    };
    let token = Token { chain: 1, address: Address::repeat_byte(1), symbol: "A".into(), decimals: 6 };
    let price = Price {
        escrow: Escrow { chain: 1, address: Address::ZERO },
        token,
        rate: Rate::from_hourly(hourly).unwrap(),
        floor: price.is_multiple_of(2).then(|| Rate::from_hourly(Amount::new(u128::from(price)).unwrap()).unwrap()),
        min_deposit: Amount::ZERO,
    };
    Offer {
        name: name.into(),
        slots: 2,
        free,
        busy_until: None,
        hardware: Hardware {
            gpus: MODELS.get(model).filter(|model| !model.is_empty()).map(|model| gpu(model)).into_iter().collect(),
            memory_mib: 1_024 * (price.rate.hourly().get() as u32 / 1_000_000 % 5),
            ..Hardware::default()
        },
        prices: vec![price],
        min_seconds: 1,
        max_seconds: 3_600,
        increment_millis: 10_000,
        ready_seconds: 30,
        notice_seconds: 30,
        window: 86_400,
        arbiters: vec![],
        isolation: Isolation::SharedKernel,
        verification: if free == 2 { Verification::Measured } else { Verification::Declared },
        whole_host: false,
        splits: vec![],
        discounts: vec![],
    }
}

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let priced = (0usize..4, 0u32..9, 0u32..3, vec(0u8..3, 1..3)).prop_map(|(model, price, free, tokens)| {
        let mut offer = offer("", model, price, free);
        let first = offer.prices[0].clone();
        offer.prices = tokens
            .into_iter()
            .map(|token| {
                let mut price = first.clone();
                price.token.symbol = ["A", "B", "C"][usize::from(token)].into();
                price.token.address = Address::repeat_byte(token);
                price
            })
            .collect();
        offer.prices.dedup_by(|a, b| a.token == b.token);
        offer
    });
    vec(priced, 0..6).prop_map(|mut offers| {
        for (number, offer) in offers.iter_mut().enumerate() {
            offer.name = format!("offer-{number}");
        }
        offers
    })
}

/// What happens to a book: a peer's advertisement with its region, in which every other offer may be as it was; or its record.
type Happening = Result<(Vec<Offer>, &'static str, bool), Option<u32>>;

fn happenings() -> impl Strategy<Value = Vec<(u8, Happening)>> {
    let regions = select(vec!["", "KR", "JP"]);
    let advertised = (offers(), regions, any::<bool>()).prop_map(Ok);
    let recorded = option::of(select(vec![0, 990_000, 1_000_000])).prop_map(Err);
    vec((0u8..8, prop_oneof![4 => advertised, 1 => recorded]), 0..40)
}

fn condition() -> impl Strategy<Value = String> {
    let comparisons = select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let number = (
        select(vec!["price", "num_gpus", "vram", "memory", "free", "reliability", "floor", "tflops"]),
        comparisons,
        0u32..9,
    )
        .prop_map(|(field, comparison, value)| format!("{field}{comparison}{value}"));
    let fixed = select(vec![
        "gpu=H100",
        "gpu!=NVL",
        "region=KR",
        "region!=JP",
        "region in [KR,JP]",
        "token=A",
        "class=h100",
        "class!=cpu",
        "price 2..5",
        "price in [1, 3..4]",
        "vram=80",
        "vram=24",
        "sm=90a",
        "sm!=90a",
        "reliability>=0.99",
        "verified>=2",
        "interruptible=true",
        "wallet=0x0101010101010101010101010101010101010101",
        "offer=offer-1",
        "offer in [3, 40, 41, 42, 60, 63]",
        "offer!=50",
        "min_duration<=40",
        "min_duration=50",
        "memory>=2GiB",
        "mig=none",
    ])
    .prop_map(str::to_owned);
    let provider = (0u8..14).prop_map(|number| format!("provider={}", numbered_peer(number)));
    prop_oneof![3 => number, 4 => fixed, 1 => provider]
}

fn query() -> impl Strategy<Value = String> {
    let joined = condition().prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join(" "))),
            inner.prop_map(|part| format!("not {part}")),
        ]
    });
    vec(joined, 0..3).prop_map(|parts| parts.join(" "))
}

fn order() -> impl Strategy<Value = Order> {
    let key = select(vec![
        "price",
        "-price",
        "region",
        "-region",
        "reliability",
        "-reliability",
        "vram",
        "-vram",
        "gpu",
        "price_gpu",
        "tflops",
        "cost",
        "-time",
        "price_tflops",
    ]);
    let rates = select(vec!["", "A@1 1", "A@1 1\nB@1 2", "A@1 3\nB@1 2\nC@1 0.5"]);
    (vec(key, 0..3), rates).prop_map(|(keys, rates)| {
        let order = Order::parse(&keys.join(",")).unwrap().for_job("tflop=1000 seconds=5".parse().unwrap());
        order.with_rates(Rates::parse(rates).unwrap())
    })
}

fn found(book: &Book, query: &str, order: &Order) -> Vec<(PeerId, usize, usize)> {
    let query = Query::parse(query).unwrap();
    let search = Search { query: &query, order, wanted: &|_, _| true };
    let found = book.search(&search, None, MAX_HITS);
    assert_eq!(found.total, Total::Exactly(found.hits.len()));
    found.hits.iter().map(|hit| (hit.peer, hit.offer, hit.price)).collect()
}

/// Asks every offer by itself.
fn plainly(
    ads: &BTreeMap<u8, ProviderAd>,
    standings: &BTreeMap<u8, Standing>,
    query: &Query,
    order: &Order,
) -> Vec<(PeerId, usize, usize)> {
    let mut matching = Vec::new();
    for (number, ad) in ads {
        let standing = standings.get(number).copied();
        for (at, offer) in ad.offers.iter().enumerate() {
            for (priced, price) in offer.prices.iter().enumerate() {
                let candidate = Candidate { ad, offer, price, standing };
                if query.verdict(&candidate) == Verdict::Yes {
                    matching.push((candidate, (ad.peer, at, priced)));
                }
            }
        }
    }
    matching.sort_by(|(a, x), (b, y)| order.compare(a, b).then(x.2.cmp(&y.2)));
    matching.into_iter().map(|(_, place)| place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_index_and_the_plain_evaluation_find_the_same_in_the_same_order(
        happenings in happenings(), queries in vec((query(), order()), 1..8), page in 1usize..7
    ) {
        let (mut book, mut ads, mut standings) = (Book::new(), BTreeMap::new(), BTreeMap::new());
        for (seq, (number, what)) in (10_000..).zip(happenings) {
            let peer = numbered_peer(number);
            match what {
                Ok((mut offers, region, keeps)) => {
                    let before = ads.get(&number).map_or(&[][..], |ad: &ProviderAd| &ad.offers);
                    for (now, was) in offers.iter_mut().zip(before).step_by(2).filter(|_| keeps) {
                        now.clone_from(was);
                    }
                    let ad = ProviderAd { region: region.into(), ..ad(peer, seq, offers) };
                    book.insert(raw(), &ad, NOW).unwrap();
                    ads.insert(number, ad);
                }
                Err(reliability) => {
                    let standing = Standing { reliability, ..Standing::default() };
                    book.set_standing(&peer, standing);
                    standings.insert(number, standing);
                }
            }
        }
        for (text, order) in queries {
            let query = Query::parse(&text).unwrap();
            let expected = plainly(&ads, &standings, &query, &order);
            prop_assert_eq!(found(&book, &text, &order), expected.clone(), "{}", text);
            // and page by page
            let search = Search { query: &query, order: &order, wanted: &|_, _| true };
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let found = book.search(&search, after.as_ref(), page);
                prop_assert!(found.hits.len() == page || found.next.is_none());
                paged.extend(found.hits.iter().map(|hit| (hit.peer, hit.offer, hit.price)));
                after = found.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(&paged, &expected, "{} in pages of {}", text, page);
            let told = book.explain(&search, 3);
            prop_assert_eq!(told.matching, expected.len());
        }
        // nothing is left behind
        let expired = book.expire(UnixMillis(u64::MAX));
        prop_assert_eq!(expired.len(), ads.len());
        prop_assert_eq!((book.rows(), book.len(), book.currencies.values().flatten().count()), (0, 0, 0));
        prop_assert!(book.ladders.is_empty());
    }

    #[test]
    fn scanning_finds_what_walking_finds(offers in vec((0u32..9, 0u32..3, 0usize..4), 1..400), (text, order) in (query(), order())) {
        let (mut book, mut ads) = (Book::new(), BTreeMap::new());
        for (number, portion) in (0u8..).zip(offers.chunks(64)) {
            // more names and shortest times than a column tells apart by sets
            let offers = (0..).zip(portion).map(|(at, (price, free, model))| {
                Offer { min_seconds: at, ..offer(&at.to_string(), *model, *price, *free) }
            });
            let ad = ad(numbered_peer(number), 10_000, offers.collect());
            book.insert(raw(), &ad, NOW).unwrap();
            ads.insert(number, ad);
        }
        let query = Query::parse(&text).unwrap();
        let expected = plainly(&ads, &BTreeMap::new(), &query, &order);
        let search = Search { query: &query, order: &order, wanted: &|_, _| true };
        let task = search::Task::new(&book, &search, None, 10, true);
        let plans = task.plans();
        let (rows, total) = scan::all(&task, &plans);
        let first: Vec<_> = rows.iter().map(|row| (row.hit().peer, row.hit().offer, row.hit().price)).collect();
        prop_assert_eq!(total, Total::Exactly(expected.len()));
        prop_assert_eq!(&first[..], &expected[..expected.len().min(10)], "{}", text);
    }
}
