//! What a follower tells of rentals, and when.

use super::world::{DOLLAR, World, amount};
use crate::{Chain, ChainEvent, ClosingKind, Follower};
use market::id::RentalId;
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
    follower.watch(quote.id(), w.chain.head().await.unwrap().number).await.unwrap();
    renter.open(&other, amount(DOLLAR)).await.unwrap();
    let opened = renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    let start = w.chain.rental(quote.id()).await.unwrap().unwrap().start;
    let wanted = ChainEvent::Opened {
        id: quote.id(),
        deposit: amount(2 * DOLLAR),
        start,
        transaction: opened.transaction,
        block: opened.block_number,
    };
    assert_eq!(next(&mut events).await, wanted);

    renter.stop(&quote.quote, 0, None).await.unwrap();
    let stop_at = w.chain.rental(quote.id()).await.unwrap().unwrap().stop_at.unwrap();
    assert_eq!(next(&mut events).await, ChainEvent::Stopping { id: quote.id(), stop_at });

    let closed = provider.close(&quote.quote, None).await.unwrap();
    let wanted = ChainEvent::Closed {
        id: quote.id(),
        paid: amount(0),
        refunded: amount(2 * DOLLAR),
        elapsed: stop_at - start,
        kind: ClosingKind::Provider,
        transaction: closed.transaction,
        block: closed.block_number,
    };
    assert_eq!(next(&mut events).await, wanted);
}

#[tokio::test]
async fn a_restarted_follower_tells_what_happened_meanwhile() {
    let w = World::new().await;
    let (renter, provider) = (w.account(&w.renter).await, w.account(&w.provider).await);
    let since = w.chain.head().await.unwrap().number;
    let (quote, late) = (w.quote(w.dollar).await, w.quote(w.dollar).await);
    {
        let (follower, mut events) = follow(&w).await;
        follower.watch(quote.id(), since).await.unwrap();
        renter.open(&quote, amount(DOLLAR)).await.unwrap();
        assert!(is_opened(&next(&mut events).await, quote.id()));
    }
    provider.close(&quote.quote, None).await.unwrap();
    renter.open(&late, amount(DOLLAR)).await.unwrap();

    let (follower, mut events) = follow(&w).await;
    follower.watch(quote.id(), since).await.unwrap();
    assert!(
        is_opened(&next(&mut events).await, quote.id()),
        "an event may come twice, but never without the one before"
    );
    assert!(matches!(next(&mut events).await, ChainEvent::Closed { id, .. } if id == quote.id()));
    // one that nobody watched while it happened
    follower.watch(late.id(), since).await.unwrap();
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
    follower.watch(quote.id(), w.chain.head().await.unwrap().number).await.unwrap();
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
    follower.watch(quote.id(), 0).await.unwrap();
    follower.unwatch(quote.id()).await;
    let opened = renter.open(&quote, amount(DOLLAR)).await.unwrap();
    nothing_until(&mut events, opened.block_number).await;
}

#[tokio::test]
async fn an_opening_that_a_reorganisation_moves_is_told_again_with_its_new_place() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let (follower, mut events) = follow(&w).await;
    let quote = w.quote(w.dollar).await;
    follower.watch(quote.id(), 0).await.unwrap();
    // allowed beforehand, so that the opening is a single transaction
    let snapshot = w.control("evm_snapshot", serde_json::json!([])).await;
    renter.open(&quote, amount(DOLLAR)).await.unwrap();
    assert!(is_opened(&next(&mut events).await, quote.id()));

    // the chain goes back to before the opening and on without it, then another account's view of it is opened anew
    w.control("evm_revert", serde_json::json!([snapshot])).await;
    for _ in 0..4 {
        w.mine().await;
    }
    assert_eq!(w.chain.rental(quote.id()).await.unwrap(), None);
    // the follower has seen that, however slow it is
    nothing_until(&mut events, w.chain.head().await.unwrap().number).await;
    let fresh = crate::TransactionSender::start(w.chain.clone(), w.renter.clone(), w.store("fresh").await, &w.cancel)
        .await
        .unwrap();
    let opened = crate::EscrowAccount::new(fresh).open(&quote, amount(DOLLAR)).await.unwrap();
    match next(&mut events).await {
        ChainEvent::Opened { id, block, .. } => assert_eq!((id, block), (quote.id(), opened.block_number)),
        other => panic!("{other:?}"),
    }
}
