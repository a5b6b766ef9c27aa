//! What it costs an indexer to take a pulled advertisement, from its bytes to the book, in memory and on disk, beside the one verification of
//! its signature that nobody can do without: `cargo bench -p bench --bench ingest`. Prints a table and fails when a bar is missed.
//!
//! Both sides take the same advertisements in turns, on one thread: of known providers, ten offers each, whose wallets' signatures were
//! checked when they came first. An advertisement is pulled when it is refreshed, every five minutes, or when something in it has changed: a
//! slot was rented, a price set. The bar is for one offer of the ten changed every time. What RocksDB does on threads of its own is the price of the batch as well, and meets both sides alike.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

#[path = "providers/mod.rs"]
mod providers;

use bench::{Comparison, Table};
use indexer::DiskBook;
use libp2p_identity::PublicKey;
use market::{book::Book, offer::ProviderAd, time::UnixMillis};
use network::{
    AdChange, AdStore,
    ad::{self, Bindings, CheckedAd},
};
use providers::{OFFERS, Provider};
use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use store::Store;

/// Providers whose advertisements are written together: the network's store thread takes at most 512.
const BATCH: usize = 512;
/// Refreshes of all of them; the first few fill caches and tables.
const ROUNDS: usize = 44;
const WARM_UP: usize = 4;
/// How long an advertisement counts, in milliseconds.
const LIFETIME: u64 = 900_000;
/// How much of an advertisement has changed, and the bar: half of what the bare signatures allow.
const CHANGED: [(&str, usize, f64); 3] = [
    ("ingest, one offer of ten changed; ed25519 verification of as many bytes", 1, 0.5),
    ("ingest, nothing changed; the same", 0, 0.0),
    ("ingest, all ten changed; the same", OFFERS, 0.0),
];

/// An advertisement, and its signature by itself: the same key over as many bytes.
struct Pulled {
    envelope: Vec<u8>,
    key: PublicKey,
    signature: Vec<u8>,
}

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let now = UnixMillis::now();
    let store = Store::open(folder.path(), &indexer::tables()).expect("an empty folder");
    let (disk, mut book, _) = DiskBook::open(store, Arc::default(), now).expect("an empty book");
    let bindings = Bindings::default();
    let providers: Vec<_> = (0..BATCH).map(|number| Provider::new(number, now)).collect();
    let mut seq = now.0;
    let rows = CHANGED.iter().map(|(name, changed, bar)| {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            seq += 1;
            let pulled: Vec<_> = providers.iter().map(|provider| pull(provider, seq, *changed)).collect();
            let spent = (time(|| ingest(&pulled, &bindings, &mut book, &disk)), time(|| verify(&pulled)));
            if round >= WARM_UP {
                times.push(spent);
            }
        }
        compared(name, &times, *bar)
    });
    let table = Table(rows.collect());
    assert_eq!((book.len(), disk.len()), (BATCH, BATCH), "everything is in both books");
    let bytes = providers.iter().map(|provider| provider.advertisement(seq, LIFETIME, 0).len()).sum::<usize>() / BATCH;
    println!("advertisements of {OFFERS} offers: {bytes} bytes each, {BATCH} a batch");
    print!("{table}");
    if table.0.iter().all(Comparison::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn pull(provider: &Provider, seq: u64, changed: usize) -> Pulled {
    let envelope = provider.advertisement(seq, LIFETIME, changed);
    let signature = provider.key.sign(&envelope).expect("an ed25519 key signs anything");
    Pulled { key: provider.key.public(), envelope, signature }
}

fn ingest(pulled: &[Pulled], bindings: &Bindings, book: &mut Book, disk: &DiskBook) {
    let now = UnixMillis::now();
    let mut changes = Vec::with_capacity(pulled.len());
    for one in pulled {
        let CheckedAd { raw, ad } = ad::open_with(black_box(&one.envelope), now, bindings).expect("it is good");
        let ProviderAd { peer, seq, expires, .. } = ad;
        book.insert(Arc::clone(&raw), &ad, now).expect("it is news");
        let classes = Arc::clone(&book.get(&peer).expect("it was taken").classes);
        changes.push(AdChange::Put { peer, seq, expires, classes, raw });
    }
    disk.write(&changes);
}

fn verify(pulled: &[Pulled]) {
    for one in pulled {
        assert!(one.key.verify(black_box(&one.envelope), black_box(&one.signature)));
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn compared(name: &'static str, times: &[(Duration, Duration)], bar: f64) -> Comparison {
    let median = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let each = |values: Vec<f64>| Duration::from_secs_f64(median(values) / BATCH as f64);
    Comparison {
        name,
        ours: each(times.iter().map(|(ours, _)| ours.as_secs_f64()).collect()),
        peer: each(times.iter().map(|(_, peer)| peer.as_secs_f64()).collect()),
        ratio: median(times.iter().map(|(ours, peer)| peer.as_secs_f64() / ours.as_secs_f64()).collect()),
        bar,
    }
}
