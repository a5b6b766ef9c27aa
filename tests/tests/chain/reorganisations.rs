//! Chains that go back, within the confirmation depth and further.

use crate::world::{World, amount, eventually, payment, purpose, record};
use alloy::primitives::{B256, U256};
use anyhow::{Context, Result};
use serde_json::json;
use settlement::{Chain, EscrowAccount, Purpose, TransactionState};
use std::cell::Cell;

/// The last `depth` blocks are replaced by empty ones, and what was in them is forgotten.
async fn go_back(w: &World, depth: u64) -> Result<()> {
    w.control("anvil_reorg", json!([depth, []])).await?;
    w.control("anvil_dropAllTransactions", json!([])).await.map(drop)
}

#[tokio::test]
async fn an_opening_that_a_deep_reorganisation_undoes_is_made_again() -> Result<()> {
    let mut w = World::new(2).await?;
    w.config.confirmations = 2;
    let chain = Chain::connect(w.config.clone()).await?;
    let account = EscrowAccount::new(w.sender(&chain, "sender").await?);
    // what the wallet has lies deeper than what is undone
    w.mine(5).await?;
    let quote = w.quote(&chain).await?;
    let (id, purpose) = (quote.id(), Purpose::Open(quote.id()));
    let opening = tokio::spawn({
        let (account, quote) = (account.clone(), quote.clone());
        async move { account.open(&quote, amount(5_000)).await }
    });
    let sender = account.sender();
    eventually("it is mined", async || (w.mined().await.ok()? == 1).then_some(())).await?;
    w.mine(3).await?;
    let first = opening.await??;
    let nonce = sender.record(&purpose).await?.map(|record| record.nonce);
    // deeper than the two blocks that make it count
    go_back(&w, w.block_number().await? - first.block_number + 2).await?;
    eventually("it is known to be undone", async || (sender.health().undone > 0).then_some(())).await?;
    let again = eventually("it is final again", async || {
        w.mine(1).await.ok()?;
        let record = sender.record(&purpose).await.ok()??;
        record.outcome()?.ok().filter(|again| again.block_hash != first.block_hash)
    })
    .await?;
    // the same transaction: this form of it, or a dearer one where blocks went by before it was sent again
    let record = sender.record(&purpose).await?.context("its record")?;
    assert_eq!(Some(record.nonce), nonce);
    let forms: Vec<B256> = record.attempts.iter().map(|attempt| attempt.hash).collect();
    assert!(forms.contains(&first.transaction) && forms.contains(&again.transaction), "{forms:?}: {again:?}");
    assert_eq!(w.mined().await?, 1);
    let rental = w.honest_chain().await?.rental(id).await?;
    assert_eq!(rental.map(|rental| rental.deposit), Some(amount(5_000)));
    assert_eq!(chain.opening(id, 0).await?.map(|opening| opening.block_hash), Some(again.block_hash));
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_undone_before_it_counts_is_sent_again() -> Result<()> {
    let mut w = World::new(1).await?;
    w.config.confirmations = 4;
    let chain = Chain::connect(w.config.clone()).await?;
    let sender = w.sender(&chain, "sender").await?;
    w.mine(5).await?;
    sender.submit(payment("rent")).await?;
    eventually("it is mined", async || (w.mined().await.ok()? == 1).then_some(())).await?;
    w.mine(1).await?;
    go_back(&w, 3).await?;
    let sent = || w.proxies[0].asked("eth_sendRawTransaction");
    eventually("it is sent again", async || (sent() > 1).then_some(())).await?;
    eventually("it is mined again", async || (w.mined().await.ok()? == 1).then_some(())).await?;
    assert_eq!(record(&sender, "rent").await?.state, TransactionState::Pending);
    w.mine(3).await?;
    sender.confirmed(&purpose("rent")).await?;
    assert_eq!(sender.health().undone, 0, "it was never final");
    assert_eq!(w.paid().await?, U256::from(1));
    Ok(())
}

#[tokio::test]
async fn what_is_undone_while_the_node_is_away_is_made_again_at_its_next_start() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.mine(5).await?;
    sender.send(payment("one")).await?;
    sender.send(payment("two")).await?;
    drop(sender);
    w.closed("sender").await?;
    go_back(&w, 4).await?;
    let sender = w.connected().await?;
    eventually("both are mined again", async || (w.mined().await.ok()? == 2).then_some(())).await?;
    for label in ["one", "two"] {
        eventually("it is final", async || record(&sender, label).await.ok()?.outcome()).await??;
    }
    assert_eq!((w.paid().await?, sender.health().filled), (U256::from(2), 0));
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_moves_to_another_block_is_final_there() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.mine(5).await?;
    let first = sender.send(payment("rent")).await?;
    // the chain as it is now has it in a later block
    let raw = record(&sender, "rent").await?.attempts[0].raw.clone();
    w.control("anvil_reorg", json!([3, [[raw, 2]]])).await?;
    let moved = eventually("its new place is known", async || {
        let confirmed = record(&sender, "rent").await.ok()?.outcome()?.ok()?;
        (confirmed.block_hash != first.block_hash).then_some(confirmed)
    })
    .await?;
    assert_eq!((moved.transaction, w.mined().await?), (first.transaction, 1));
    Ok(())
}

#[tokio::test]
async fn what_lies_deep_enough_is_no_longer_looked_at() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    sender.send(payment("rent")).await?;
    w.mine(70).await?;
    // for as many times in a row as several looks of the sender take
    let (last, quiet) = (Cell::new(0), Cell::new(0));
    eventually("the chain is left alone", async || {
        let asked = w.proxies[0].asked_in_all();
        quiet.set(if last.replace(asked) == asked { quiet.get() + 1 } else { 0 });
        (quiet.get() > 40).then_some(())
    })
    .await
}
