//! One transaction for one purpose, whatever happens in between.

use super::world::{DOLLAR, World, amount, eventually};
use crate::{Call, Purpose, SettlementError, TransactionSender, TransactionState, Wallet, deploy};
use alloy::primitives::{Address, Bytes, U256};
use serde_json::json;

/// A payment of some coin to nobody in particular.
fn payment(label: &str) -> Call {
    Call {
        purpose: Purpose::Other(label.to_owned()),
        to: Address::repeat_byte(0xee),
        value: U256::from(5),
        data: Bytes::new(),
    }
}

async fn received(w: &World) -> u128 {
    w.balance(Address::ZERO, Address::repeat_byte(0xee)).await
}

async fn pending_in_pool(w: &World) -> u64 {
    let status = w.control("txpool_status", json!([])).await;
    u64::from_str_radix(status["pending"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[tokio::test]
async fn the_same_purpose_asked_for_twice_is_one_transaction() {
    let w = World::new().await;
    let sender = w.sender(&w.renter).await;
    let (one, two) = tokio::join!(sender.send(payment("rent")), sender.send(payment("rent")));
    let three = sender.send(payment("rent")).await.unwrap();
    assert_eq!((one.unwrap().transaction, two.unwrap().transaction), (three.transaction, three.transaction));
    assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (5, 1));
    sender.send(payment("another")).await.unwrap();
    assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (10, 2));
}

#[tokio::test]
async fn an_opening_asked_for_again_after_a_restart_is_the_same_transaction() {
    let w = World::new().await;
    let quote = w.quote(w.dollar).await;
    let first = w.account(&w.renter).await.open(&quote, amount(DOLLAR)).await.unwrap();
    let again = w.account(&w.renter).await.open(&quote, amount(DOLLAR)).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(w.mined(w.renter.address()).await, 1, "an opening with its permit");
}

#[tokio::test]
async fn a_transaction_on_disk_that_the_chain_never_saw_is_sent_once_after_a_restart() {
    let w = World::new().await;
    w.automine(false).await;
    let sender = w.sender(&w.renter).await;
    sender.submit(payment("rent")).await.unwrap();
    let hash = sender.record(&Purpose::Other("rent".into())).await.unwrap().unwrap().latest_hash();
    drop(sender);
    // as if the node had died between writing and sending
    let sender = {
        let store = w.store(&w.renter.address().to_string()).await;
        w.control("anvil_dropAllTransactions", json!([])).await;
        assert_eq!(pending_in_pool(&w).await, 0);
        TransactionSender::start(w.chain.clone(), w.renter.clone(), store, &w.cancel).await.unwrap()
    };
    eventually("it is sent again", async || (pending_in_pool(&w).await == 1).then_some(())).await;
    w.automine(true).await;
    w.mine().await;
    let confirmed = sender.send(payment("rent")).await.unwrap();
    assert_eq!(confirmed.transaction, hash);
    assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (5, 1));
}

#[tokio::test]
async fn a_transaction_mined_while_the_node_was_away_is_not_sent_again() {
    let w = World::new().await;
    w.automine(false).await;
    let sender = w.sender(&w.renter).await;
    sender.submit(payment("rent")).await.unwrap();
    eventually("it is in the pool", async || (pending_in_pool(&w).await == 1).then_some(())).await;
    drop(sender);
    let store = w.store(&w.renter.address().to_string()).await;
    w.mine().await;
    w.automine(true).await;
    let sender = TransactionSender::start(w.chain.clone(), w.renter.clone(), store, &w.cancel).await.unwrap();
    let confirmed = sender.send(payment("rent")).await.unwrap();
    let record = sender.record(&Purpose::Other("rent".into())).await.unwrap().unwrap();
    assert_eq!(record.state, TransactionState::Confirmed(confirmed));
    assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (5, 1));
}

#[tokio::test]
async fn a_transaction_that_the_chain_is_slow_to_take_gets_a_higher_fee_and_keeps_its_nonce() {
    let w = World::new().await;
    w.automine(false).await;
    let sender = w.sender(&w.renter).await;
    sender.submit(payment("rent")).await.unwrap();
    let purpose = Purpose::Other("rent".into());
    let first = sender.record(&purpose).await.unwrap().unwrap();
    // blocks become far dearer than the transaction pays, and go by without it
    w.control("anvil_setNextBlockBaseFeePerGas", json!(["0x174876e800"])).await;
    for _ in 0..6 {
        w.mine().await;
    }
    let bumped = eventually("the fee is raised", async || {
        let record = sender.record(&purpose).await.unwrap().unwrap();
        (record.attempts.len() > 1).then_some(record)
    })
    .await;
    assert_eq!(bumped.nonce, first.nonce);
    assert!(bumped.attempts[1].max_fee_per_gas > first.attempts[0].max_fee_per_gas);
    let confirmed = eventually("it is mined", async || {
        w.mine().await;
        sender.record(&purpose).await.unwrap().unwrap().outcome()
    })
    .await
    .unwrap();
    let record = sender.record(&purpose).await.unwrap().unwrap();
    assert!(record.attempts[1..].iter().any(|attempt| attempt.hash == confirmed.transaction), "{record:?}");
    assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (5, 1));
}

#[tokio::test]
async fn a_nonce_taken_by_another_program_is_told_and_asking_again_sends_anew() {
    // the sender repeats what was dropped, and on a busy machine it may be faster than the other program: then once more
    for _ in 0..5 {
        let w = World::new().await;
        let sender = w.sender(&w.renter).await;
        w.automine(false).await;
        sender.submit(payment("rent")).await.unwrap();
        w.control("anvil_dropAllTransactions", json!([])).await;
        w.automine(true).await;
        deploy::send_coin(w.url(), &w.renter, Address::repeat_byte(0xdd), U256::from(1)).await.unwrap();
        let Err(error) = sender.send(payment("rent")).await else { continue };
        assert!(matches!(error, SettlementError::Superseded { nonce: 0, .. }), "{error:?}");
        sender.send(payment("rent")).await.unwrap();
        assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (5, 2));
        return;
    }
    panic!("the other program was never faster");
}

#[tokio::test]
async fn too_little_coin_for_the_gas_is_told_with_both_amounts() {
    let w = World::new().await;
    let poor = Wallet::random();
    deploy::send_coin(w.url(), &w.rich, poor.address(), U256::from(1_000)).await.unwrap();
    let error = w.sender(&poor).await.send(payment("rent")).await.unwrap_err();
    match &error {
        SettlementError::InsufficientGas { account, have, need, .. } => {
            assert_eq!((*account, *have), (poor.address(), U256::from(1_000)));
            assert!(need > have);
        }
        other => panic!("{other:?}"),
    }
    // and without enough for the payment itself, before the gas
    let error = w.sender(&Wallet::random()).await.send(payment("rent")).await.unwrap_err();
    assert!(matches!(error, SettlementError::InsufficientFunds { .. }), "{error:?}");
    assert_eq!(received(&w).await, 0);
}

#[tokio::test]
async fn a_transaction_counts_only_as_deep_as_configured() {
    let mut w = World::new().await;
    w.config.confirmations = 3;
    w.chain = crate::Chain::connect(w.config.clone()).await.unwrap();
    let sender = w.sender(&w.renter).await;
    sender.submit(payment("rent")).await.unwrap();
    eventually("it is mined", async || (w.mined(w.renter.address()).await == 1).then_some(())).await;
    let purpose = Purpose::Other("rent".into());
    w.mine().await;
    // two blocks deep, and long enough for the sender to have looked several times
    let waiting = tokio::time::timeout(w.config.poll_interval() * 5, sender.confirmed(&purpose)).await;
    assert!(waiting.is_err(), "it counted too early: {waiting:?}");
    w.mine().await;
    let confirmed = sender.confirmed(&purpose).await.unwrap();
    assert_eq!(confirmed.block_number + 2, w.chain.head().await.unwrap().number);
}

#[tokio::test]
async fn many_purposes_at_once_share_the_account_in_order() {
    let w = World::new().await;
    let sender = w.sender(&w.renter).await;
    // more than may be under way at once
    let sends = (0..24).map(|n| {
        let sender = sender.clone();
        async move { sender.send(payment(&n.to_string())).await }
    });
    for outcome in futures::future::join_all(sends).await {
        outcome.unwrap();
    }
    assert_eq!((received(&w).await, w.mined(w.renter.address()).await), (24 * 5, 24));
}
