//! What a follower tells of rentals, and when.

use super::world::{DOLLAR, World, amount, eventually};
use crate::Wallet;
use crate::{Chain, ChainEvent, ClosingKind, EscrowAccount, Follower, Known, TransactionSender, follower::REORG_DEPTH};
use alloy::primitives::B256;
use market::{id::RentalId, rental};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

async fn follow(w: &World) -> (Follower, Receiver<ChainEvent>) {
    let store = w.store("follower").await;
    Follower::start(w.chain.clone(), store, "test", &w.cancel).await.unwrap()
}

/// The next event that is about a rental.
async fn next(events: &mut Receiver<ChainEvent>) -> ChainEvent {
    let wait = async {
        loop {
            match events.recv().await.expect("the follower ended") {
                ChainEvent::Head { .. } => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("no event came")
}

/// Everything up to a block has been told, and none of it was about a rental.
async fn nothing_until(events: &mut Receiver<ChainEvent>, block: u64) {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), events.recv()).await.expect("no head came").unwrap();
        match event {
            ChainEvent::Head { number, .. } if number >= block => return,
            ChainEvent::Head { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn is_opened(event: &ChainEvent, wanted: RentalId) -> bool {
    matches!(event, ChainEvent::Opened { id, .. } if *id == wanted)
}

#[tokio::test]
async fn a_rental_is_told_from_its_opening_to_its_end() {
    let w = World::new().await;
    let (renter, provider) = (w.account(&w.renter).await, w.account(&w.provider).await);
    let (follower, mut events) = follow(&w).await;
    let (quote, other) = (w.quote(w.dollar).await, w.quote(w.dollar).await);
    follower.watch(quote.id(), w.chain.head().await.unwrap().number, Known::default()).await.unwrap();
    renter.open(&other, amount(DOLLAR)).await.unwrap();
    let opened = renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    let start = w.chain.rental(quote.id()).await.unwrap().unwrap().start;
    let opening = rental::Opening {
        deposit: amount(2 * DOLLAR),
        start: start.into(),
        tx: opened.transaction,
        block: opened.block_number,
    };
    assert_eq!(next(&mut events).await, ChainEvent::Opened { id: quote.id(), opening });

    renter.stop(&quote.quote, 0, None).await.unwrap();
    let stop_at = w.chain.rental(quote.id()).await.unwrap().unwrap().stop_at.unwrap();
    assert_eq!(next(&mut events).await, ChainEvent::Stopping { id: quote.id(), stop_at });

    let closed = provider.close(&quote.quote, None).await.unwrap();
    let closing = rental::Closing {
        paid: amount(0),
        refunded: amount(2 * DOLLAR),
        elapsed: stop_at - start,
        kind: ClosingKind::Provider.number(),
        tx: closed.transaction,
        block: closed.block_number,
        time: w.chain.block_at(closed.block_number).await.unwrap().unwrap().timestamp,
    };
    assert_eq!(next(&mut events).await, ChainEvent::Closed { id: quote.id(), closing });
}

#[tokio::test]
async fn a_restarted_follower_tells_what_happened_meanwhile() {
    let w = World::new().await;
    let (renter, provider) = (w.account(&w.renter).await, w.account(&w.provider).await);
    let since = w.chain.head().await.unwrap().number;
    let (quote, late) = (w.quote(w.dollar).await, w.quote(w.dollar).await);
    {
        let (follower, mut events) = follow(&w).await;
        follower.watch(quote.id(), since, Known::default()).await.unwrap();
        renter.open(&quote, amount(DOLLAR)).await.unwrap();
        assert!(is_opened(&next(&mut events).await, quote.id()));
    }
    provider.close(&quote.quote, None).await.unwrap();
    renter.open(&late, amount(DOLLAR)).await.unwrap();

    let (follower, mut events) = follow(&w).await;
    follower.watch(quote.id(), since, Known::default()).await.unwrap();
    assert!(
        is_opened(&next(&mut events).await, quote.id()),
        "an event may come twice, but never without the one before"
    );
    assert!(matches!(next(&mut events).await, ChainEvent::Closed { id, .. } if id == quote.id()));
    // one that nobody watched while it happened
    follower.watch(late.id(), since, Known::default()).await.unwrap();
    assert!(is_opened(&next(&mut events).await, late.id()));
}

#[tokio::test]
async fn nothing_is_told_before_it_is_deep_enough() {
    let mut w = World::new().await;
    let renter = w.account(&w.renter).await;
    w.config.confirmations = 3;
    w.chain = Chain::connect(w.config.clone()).await.unwrap();
    let (follower, mut events) = follow(&w).await;
    let quote = w.quote(w.dollar).await;
    follower.watch(quote.id(), w.chain.head().await.unwrap().number, Known::default()).await.unwrap();
    let opened = renter.open(&quote, amount(DOLLAR)).await.unwrap();
    w.mine().await;
    nothing_until(&mut events, opened.block_number - 1).await;
    // two blocks deep, and long enough for the follower to have looked several times
    let waiting = tokio::time::timeout(w.config.poll_interval() * 5, next(&mut events)).await;
    assert!(waiting.is_err(), "it was told too early: {waiting:?}");
    w.mine().await;
    assert!(is_opened(&next(&mut events).await, quote.id()));
}

#[tokio::test]
async fn a_rental_that_is_no_longer_watched_is_not_told() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let (follower, mut events) = follow(&w).await;
    let quote = w.quote(w.dollar).await;
    follower.watch(quote.id(), 0, Known::default()).await.unwrap();
    follower.unwatch(quote.id()).await;
    let opened = renter.open(&quote, amount(DOLLAR)).await.unwrap();
    nothing_until(&mut events, opened.block_number).await;
}

/// An account whose sender remembers nothing: what a chain that went back has forgotten, it sends again.
async fn forgetful(w: &World, wallet: &Wallet, name: &str) -> EscrowAccount {
    let store = w.store(name).await;
    // the one before, which remembers and would send it by itself, gives the account up in its own time
    let start = async || TransactionSender::start(w.chain.clone(), wallet.clone(), store.clone(), &w.cancel).await.ok();
    EscrowAccount::new(eventually("the account is free", start).await)
}

/// Takes the chain back to a snapshot, and on for more blocks than it had.
async fn go_back(w: &World, snapshot: serde_json::Value) {
    let before = w.chain.head().await.unwrap().number;
    w.control("evm_revert", serde_json::json!([snapshot])).await;
    while w.chain.head().await.unwrap().number <= before {
        w.mine().await;
    }
}

#[tokio::test]
async fn an_opening_that_the_chain_takes_back_is_told_as_undone_and_again_when_it_returns() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let (follower, mut events) = follow(&w).await;
    let quote = w.quote(w.dollar).await;
    follower.watch(quote.id(), 0, Known::default()).await.unwrap();
    let snapshot = w.control("evm_snapshot", serde_json::json!([])).await;
    renter.open(&quote, amount(DOLLAR)).await.unwrap();
    assert!(is_opened(&next(&mut events).await, quote.id()));
    // whose sender would by itself make again what the chain undoes
    drop(renter);

    go_back(&w, snapshot).await;
    assert_eq!(w.chain.rental(quote.id()).await.unwrap(), None);
    assert_eq!(next(&mut events).await, ChainEvent::OpeningUndone { id: quote.id() });
    let opened = forgetful(&w, &w.renter, "fresh").await.open(&quote, amount(DOLLAR)).await.unwrap();
    match next(&mut events).await {
        ChainEvent::Opened { id, opening } => assert_eq!((id, opening.block), (quote.id(), opened.block_number)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_end_that_the_chain_takes_back_is_told_as_undone() {
    let w = World::new().await;
    let (renter, provider) = (w.account(&w.renter).await, w.account(&w.provider).await);
    let (follower, mut events) = follow(&w).await;
    let quote = w.quote(w.dollar).await;
    follower.watch(quote.id(), 0, Known::default()).await.unwrap();
    renter.open(&quote, amount(DOLLAR)).await.unwrap();
    assert!(is_opened(&next(&mut events).await, quote.id()));
    let snapshot = w.control("evm_snapshot", serde_json::json!([])).await;
    provider.close(&quote.quote, None).await.unwrap();
    assert!(matches!(next(&mut events).await, ChainEvent::Closed { id, .. } if id == quote.id()));
    drop(provider);

    go_back(&w, snapshot).await;
    assert_eq!(next(&mut events).await, ChainEvent::ClosingUndone { id: quote.id() });
    let closed = forgetful(&w, &w.provider, "fresh").await.close(&quote.quote, None).await.unwrap();
    match next(&mut events).await {
        ChainEvent::Closed { id, closing } => assert_eq!((id, closing.block), (quote.id(), closed.block_number)),
        other => panic!("{other:?}"),
    }
    // and once it lies deep enough the rental is forgotten
    for _ in 0..REORG_DEPTH {
        w.mine().await;
    }
    assert_eq!(next(&mut events).await, ChainEvent::Settled { id: quote.id() });
}

#[tokio::test]
async fn what_was_undone_while_nobody_followed_is_told_to_those_who_believe_it() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let (never, open) = (w.quote(w.dollar).await, w.quote(w.dollar).await);
    renter.open(&open, amount(DOLLAR)).await.unwrap();
    let (follower, mut events) = follow(&w).await;
    // what a state machine would hold that heard of them
    let tx = B256::repeat_byte(1);
    let opening = rental::Opening { deposit: amount(DOLLAR), start: 1, tx, block: 1 };
    let (paid, refunded) = (amount(0), amount(DOLLAR));
    let closing = rental::Closing { paid, refunded, elapsed: 1, kind: 1, tx, block: 2, time: 2 };
    let known = Known::of(Some(&opening), Some(&closing));
    follower.watch(never.id(), 0, known).await.unwrap();
    assert_eq!(next(&mut events).await, ChainEvent::OpeningUndone { id: never.id() });
    follower.watch(open.id(), 0, known).await.unwrap();
    assert!(is_opened(&next(&mut events).await, open.id()));
    assert_eq!(next(&mut events).await, ChainEvent::ClosingUndone { id: open.id() });
}
