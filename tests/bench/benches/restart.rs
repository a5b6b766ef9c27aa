//! How long an indexer needs from its start to serving a full book: `cargo bench -p bench --bench restart`. A million offers of a hundred
//! thousand providers are written as the network writes them; then the database is opened again and the book read into memory. Fails
//! when it takes longer than the bar. `RESTART_PROVIDERS` asks for another number of providers.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

#[path = "providers/mod.rs"]
mod providers;

use ::bench as _; // the allocator
use indexer::{DiskBook, Loaded};
use market::time::UnixMillis;
use network::{AdChange, AdStore, ad};
use providers::{OFFERS, Provider};
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use store::Store;

/// Providers of a full book: the design's hundred thousand.
const PROVIDERS: usize = market::book::MAX_PROVIDERS;
/// As many as the network's store thread writes together.
const BATCH: usize = 512;
/// How long it may take.
const BAR: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let count = std::env::var("RESTART_PROVIDERS").ok().and_then(|text| text.parse().ok()).unwrap_or(PROVIDERS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let now = UnixMillis::now();
    let open = || {
        let store = Store::open(folder.path(), &indexer::tables()).expect("a folder of ours");
        DiskBook::open(store, Arc::default(), UnixMillis::now()).expect("a book of ours")
    };
    let (disk, _, _) = open();
    for from in (0..count).step_by(BATCH) {
        let portion = from..count.min(from + BATCH);
        disk.write(&portion.map(|number| change(&Provider::new(number, now), now)).collect::<Vec<_>>());
    }
    drop(disk);
    let started = Instant::now();
    let (disk, book, loaded) = open();
    let took = started.elapsed();
    assert_eq!(loaded, Loaded { ads: count, ..Loaded::default() }, "everything is there again");
    assert_eq!((disk.len(), book.len()), (count, count));
    println!(
        "{} offers of {count} providers served again after {took:.1?}, at most {BAR:.0?} are allowed",
        count * OFFERS
    );
    if took <= BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn change(provider: &Provider, now: UnixMillis) -> AdChange {
    let raw: Arc<[u8]> = provider.advertisement(now.0, market::offer::MAX_AD_LIFETIME, 0).into();
    let ad = ad::open_kept(Arc::clone(&raw), now).expect("just signed").ad;
    AdChange::Put { peer: ad.peer, seq: ad.seq, expires: ad.expires, classes: ad.classes().into(), raw }
}
