//! Searching a million offers of a hundred thousand providers, beside SQLite with the same rows and indexes in the same run:
//! `cargo bench -p bench --bench search`. Prints a table and fails when a bar is missed.
//!
//! The bars: p99 at most 1 ms for queries that at most one row in a hundred meets, 10 ms for all others; at most 1.2 KB resident for each
//! offer, its share of the signed envelope included; faster than SQLite at every query. Neither side waits for anything, so that times are
//! those of the thread's own processor clock: what else the machine does is not counted. `SEARCH_PROVIDERS` sets another size for a quick look.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

mod generate;
mod queries;
mod sqlite;

use ::bench as _; // the allocator
use generate::Market;
use market::{
    book::{Book, Search},
    query::{Order, Query, Rates},
    standing::Standing,
    time::UnixMillis,
};
use queries::{Asked, LIMIT, QUERIES};
use std::{
    fs,
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

/// The design's.
const PROVIDERS: usize = 100_000;
/// Times that each query is asked: the 99th percentile of them is the third slowest.
const ROUNDS: usize = 300;
/// SQLite is asked less often when it takes long.
const PEER_PATIENCE: Duration = Duration::from_millis(1_500);
const PEER_ROUNDS: usize = 100;
/// Rows in a thousand that a selective query meets at most.
const SELECTIVE: usize = 10;
const SELECTIVE_BAR: Duration = Duration::from_millis(1);
const WORST_BAR: Duration = Duration::from_millis(10);
/// Bytes for each offer.
const MEMORY_BAR: usize = 1_200;
/// Advertisements renewed to see what that costs.
const RENEWALS: usize = 5_000;
/// Percent of a core that live updates may take: negligible.
const UPDATE_BAR: f64 = 5.0;
/// Advertisements a second when a hundred thousand providers renew every five minutes.
const RENEWED_A_SECOND: u32 = 333;

fn main() -> ExitCode {
    let providers = std::env::var("SEARCH_PROVIDERS").ok().and_then(|text| text.parse().ok()).unwrap_or(PROVIDERS);
    let market = Market::new(providers);
    let (book, filled) = fill(&market);
    let peer = sqlite::Table::fill(&market, &book);
    let mut holds = filled;
    println!("| query | order | found | ours p50 | ours p99 | bar | SQLite p50 | SQLite / ours | |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for asked in QUERIES {
        holds &= measure(&book, &peer, &market, asked);
    }
    holds &= renew(book, &market);
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Fills the book, and says what an offer costs.
fn fill(market: &Market) -> (Book, bool) {
    let (mut book, mut offers, mut envelopes) = (Book::new(), 0, 0);
    let before = resident();
    let mut inserting = Duration::ZERO;
    for number in 0..market.providers {
        let (key, ad, standing) = market.provider(number, market.began);
        let raw: Arc<[u8]> = network::ad::seal(&key, &ad).expect("an ed25519 key signs anything").into();
        envelopes += raw.len();
        offers += ad.offers.len();
        let started = now();
        book.insert(raw, &ad, market.began).expect("it is new");
        inserting += now() - started;
        if let Some(standing) = standing {
            book.set_standing(&ad.peer, standing);
        }
    }
    let each = (resident() - before) / offers.max(1);
    let holds = each <= MEMORY_BAR;
    println!(
        "{offers} offers of {} providers at {} prices; {} bytes of envelope each",
        book.len(),
        book.rows(),
        envelopes / offers.max(1)
    );
    println!("resident: {each} bytes an offer, bar {MEMORY_BAR}: {}", verdict(holds));
    println!("taking an advertisement: {:.1?} each\n", inserting / u32::try_from(book.len().max(1)).expect("few"));
    (book, holds)
}

/// Bytes of memory that are this process's own.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel says it");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1_024
}

fn measure(book: &Book, peer: &sqlite::Table, market: &Market, asked: &Asked) -> bool {
    let text = asked.query.replace("PROVIDER", &market.peer(market.providers / 2).to_base58());
    let query = Query::parse(&text).expect("the set is sound");
    let rates = Rates::parse(asked.rates).expect("the set is sound");
    let order = Order::parse(asked.order).expect("the set is sound").with_rates(rates);
    let search = Search { query: &query, order: &order, wanted: &|_, _| true };
    let once = || book.search(black_box(&search), None, LIMIT);
    let found = once();
    let matching = count(book, &search);
    let mut ours = times(ROUNDS, Duration::MAX, || drop(black_box(once())));
    let mut statement = peer.prepare(&asked.sql(market));
    let rows = statement.rows();
    assert_eq!(rows, found.hits.len(), "SQLite finds as many of {text}");
    let mut theirs = times(PEER_ROUNDS, PEER_PATIENCE, || assert_eq!(black_box(statement.rows()), rows));
    let (p50, p99, peer) = (percentile(&mut ours, 50), percentile(&mut ours, 99), percentile(&mut theirs, 50));
    let bar = if matching * 1_000 <= book.rows() * SELECTIVE { SELECTIVE_BAR } else { WORST_BAR };
    let ratio = peer.as_secs_f64() / p50.as_secs_f64();
    let holds = p99 <= bar && ratio >= 1.0;
    let shown = if text.is_empty() { "(everything)" } else { asked.query };
    println!(
        "| `{shown}` | {} | {matching} | {p50:.1?} | {p99:.1?} | {bar:.0?} | {peer:.1?} | {ratio:.1} | {} |",
        asked.order,
        verdict(holds)
    );
    holds
}

/// How many rows meet a search in all.
fn count(book: &Book, search: &Search<'_>) -> usize {
    book.explain(search, 0).matching
}

/// How long this thread has been running.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into `time`, which outlives the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "every thread has a clock");
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.expect("time goes forward"), nanoseconds.expect("less than a second"))
}

fn times(rounds: usize, patience: Duration, mut call: impl FnMut()) -> Vec<Duration> {
    let began = Instant::now();
    let mut times = Vec::with_capacity(rounds);
    while times.len() < rounds && (began.elapsed() < patience || times.is_empty()) {
        let started = now();
        call();
        times.push(now() - started);
    }
    times
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or_default()
}

/// What live updates cost: advertisements renewed a little changed, and records of providers.
fn renew(mut book: Book, market: &Market) -> bool {
    let later = UnixMillis(market.began.0 + 1_000);
    let renewals = RENEWALS.min(market.providers);
    let (mut spent, mut recorded) = (Duration::ZERO, Duration::ZERO);
    for number in 0..renewals {
        let (key, ad, _) = market.provider(number, later);
        let raw: Arc<[u8]> = network::ad::seal(&key, &ad).expect("an ed25519 key signs anything").into();
        let started = now();
        book.insert(raw, &ad, later).expect("it is newer");
        spent += now() - started;
        let started = now();
        book.set_standing(&ad.peer, Standing { completed: 7, reliability: Some(991_000), ..Standing::default() });
        recorded += now() - started;
    }
    let calls = u32::try_from(renewals.max(1)).expect("few");
    let share = (spent / calls * RENEWED_A_SECOND).as_secs_f64() * 100.0;
    println!(
        "\nrenewing an advertisement of ten offers: {:.1?}; {RENEWED_A_SECOND} a second take {share:.1} % of a core",
        spent / calls
    );
    println!("writing a provider's record: {:.1?}", recorded / calls);
    let holds = share <= UPDATE_BAR;
    println!("bar {UPDATE_BAR} %: {}", verdict(holds));
    holds
}

const fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "FAILS" }
}
