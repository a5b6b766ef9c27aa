//! Endpoints that lie about nonces, and programs that share them.

use crate::world::{World, eventually, payment, purpose, record};
use alloy::primitives::U256;
use anyhow::Result;
use serde_json::{Value, json};
use settlement::{SettlementError, TABLES, TransactionSender, TransactionState};
use store::Store;
use tests::rpc_proxy::Fault;

const COUNT: &str = "eth_getTransactionCount";

/// Tells `more` transactions than there are.
fn more(more: u64) -> Fault {
    Fault::result(move |count: Value| {
        let count = u64::from_str_radix(count.as_str().unwrap_or_default().trim_start_matches("0x"), 16);
        json!(format!("{:#x}", count.unwrap_or_default() + more))
    })
}

#[tokio::test]
async fn a_nonce_that_is_told_too_high_once_is_not_used() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.proxies[0].fault_times(COUNT, 2, more(7));
    let confirmed = sender.send(payment("rent")).await?;
    assert_eq!(record(&sender, "rent").await?.nonce, 0);
    assert_eq!((w.mined().await?, confirmed.transaction), (1, record(&sender, "rent").await?.latest_hash()));
    Ok(())
}

#[tokio::test]
async fn one_of_three_endpoints_that_tells_too_high_or_too_low_a_nonce_is_outvoted() -> Result<()> {
    let w = World::new(3).await?;
    let sender = w.connected().await?;
    w.proxies[0].fault(COUNT, more(100));
    sender.send(payment("too high")).await?;
    w.proxies[0].fault(COUNT, Fault::Answer(json!("0x0")));
    sender.send(payment("too low")).await?;
    let nonces = [record(&sender, "too high").await?.nonce, record(&sender, "too low").await?.nonce];
    assert_eq!((nonces, w.mined().await?), ([0, 1], 2));
    Ok(())
}

#[tokio::test]
async fn a_gap_that_a_lie_made_is_filled_and_the_transaction_keeps_its_nonce() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.proxies[0].fault(COUNT, more(5));
    sender.submit(payment("rent")).await?;
    assert_eq!(record(&sender, "rent").await?.nonce, 5);
    w.proxies[0].heal();
    eventually("the gap is filled", async || {
        w.mine(1).await.ok()?;
        (sender.health().filled > 0).then_some(())
    })
    .await?;
    sender.confirmed(&purpose("rent")).await?;
    assert_eq!((record(&sender, "rent").await?.nonce, sender.health().filled), (5, 5));
    assert_eq!((w.mined().await?, w.paid().await?), (6, U256::from(1)));
    Ok(())
}

#[tokio::test]
async fn a_stale_nonce_is_outweighed_by_what_this_node_has_sent_even_before_it_restarted() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    sender.send(payment("one")).await?;
    sender.send(payment("two")).await?;
    w.proxies[0].fault(COUNT, Fault::Answer(json!("0x0")));
    sender.submit(payment("three")).await?;
    assert_eq!(record(&sender, "three").await?.nonce, 2);
    w.proxies[0].heal();
    sender.confirmed(&purpose("three")).await?;
    drop(sender);

    let sender = w.connected().await?;
    w.proxies[0].fault(COUNT, Fault::Answer(json!("0x1")));
    sender.submit(payment("four")).await?;
    assert_eq!(record(&sender, "four").await?.nonce, 3);
    w.proxies[0].heal();
    sender.confirmed(&purpose("four")).await?;
    assert_eq!((w.mined().await?, w.paid().await?), (4, U256::from(4)));
    Ok(())
}

#[tokio::test]
async fn a_nonce_told_as_used_by_one_of_two_endpoints_is_not_given_up() -> Result<()> {
    let w = World::new(2).await?;
    let sender = w.connected().await?;
    w.automine(false).await?;
    sender.submit(payment("rent")).await?;
    w.proxies[1].fault(COUNT, more(1));
    w.proxies[1].fault("eth_sendRawTransaction", Fault::Refuse("nonce too low"));
    let before = sender.chain().health().disagreements;
    eventually("it was looked at", async || (sender.chain().health().disagreements > before + 2).then_some(())).await?;
    assert_eq!(record(&sender, "rent").await?.state, TransactionState::Pending);
    w.proxies[1].heal();
    w.automine(true).await?;
    w.mine(1).await?;
    sender.confirmed(&purpose("rent")).await?;
    assert_eq!((record(&sender, "rent").await?.nonce, w.mined().await?), (0, 1));
    Ok(())
}

#[tokio::test]
async fn a_second_program_with_the_same_key_is_refused_and_told_which_has_it() -> Result<()> {
    let w = World::new(1).await?;
    let _first = w.connected().await?;
    let folder = tempfile::tempdir()?;
    let elsewhere = Store::open(folder.path().join("db"), &TABLES)?;
    let error = TransactionSender::start(w.chain().await?, w.wallet.clone(), elsewhere, &w.cancel).await.unwrap_err();
    match &error {
        SettlementError::AccountInUse { account, pid, .. } => {
            assert_eq!((*account, *pid), (w.wallet.address(), Some(std::process::id())));
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}
