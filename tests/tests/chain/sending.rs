//! One transaction for one purpose, whatever endpoints make of it.

use crate::world::{World, eventually, payment, purpose, record};
use alloy::primitives::U256;
use anyhow::Result;
use serde_json::json;
use settlement::{Chain, TransactionState};
use std::time::Duration;
use tests::rpc_proxy::Fault;

const SEND: &str = "eth_sendRawTransaction";
const GWEI: u128 = 1_000_000_000;

/// Exactly one payment was made, by the first nonce.
async fn paid_once(w: &World) -> Result<()> {
    assert_eq!((w.paid().await?, w.mined().await?), (U256::from(1), 1));
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_was_taken_but_whose_answer_is_lost_is_not_made_twice() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.proxies[0].fault_times(SEND, 1, Fault::LoseAnswer);
    sender.send(payment("rent")).await?;
    sender.send(payment("rent")).await?;
    paid_once(&w).await
}

#[tokio::test]
async fn a_transaction_that_was_taken_and_dropped_is_sent_again() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    let taken = json!(alloy::primitives::B256::repeat_byte(1));
    w.proxies[0].fault_times(SEND, 1, Fault::Answer(taken));
    sender.send(payment("rent")).await?;
    assert_eq!(w.proxies[0].asked(SEND), 2);
    paid_once(&w).await
}

#[tokio::test]
async fn false_refusals_neither_lose_a_transaction_nor_double_it() -> Result<()> {
    for message in ["already known", "nonce too low", "replacement transaction underpriced", "transaction rejected"] {
        // once it is not passed on, once it is
        for passed_on in [false, true] {
            let w = World::new(1).await?;
            let sender = w.connected().await?;
            let refusal = json!({ "code": -32000, "message": message });
            let fault =
                Fault::rewrite(move |question, _| json!({ "id": question["id"], "jsonrpc": "2.0", "error": refusal }));
            w.proxies[0].fault_times(SEND, 1, if passed_on { fault } else { Fault::Refuse(message) });
            sender.send(payment("rent")).await?;
            assert_eq!(record(&sender, "rent").await?.nonce, 0, "{message}");
            paid_once(&w).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_finds_every_fee_too_low_does_not_drive_it_up_by_itself() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.proxies[0].fault(SEND, Fault::Refuse("transaction underpriced"));
    sender.submit(payment("rent")).await?;
    eventually("it was offered often", async || (w.proxies[0].asked(SEND) > 3).then_some(())).await?;
    assert_eq!(record(&sender, "rent").await?.attempts.len(), 1, "no block has passed");
    w.proxies[0].heal();
    sender.confirmed(&purpose("rent")).await?;
    paid_once(&w).await
}

#[tokio::test]
async fn whatever_an_endpoint_answers_the_transaction_is_made_once_when_it_is_back() -> Result<()> {
    let faults = [
        Fault::Close,
        Fault::LoseAnswer,
        Fault::Refuse("header not found"),
        Fault::Answer(json!({ "neither": "this", "nor": "that" })),
        Fault::Answer(json!(null)),
        Fault::Text(200, "<html><body>Log in to continue</body></html>"),
        Fault::Text(429, "slow down"),
        Fault::Truncate,
        Fault::Stale,
    ];
    for fault in faults {
        let name = format!("{fault:?}");
        let w = World::new(1).await?;
        let sender = w.connected().await?;
        // from the start, which may fail, or end in a promise that is kept later
        w.proxies[0].fault_all(fault.clone());
        let early = sender.submit(payment("rent")).await;
        w.proxies[0].heal();
        // and while it is under way
        eventually(&name, async || sender.submit(payment("rent")).await.ok()).await?;
        w.proxies[0].fault_all(fault);
        let asked = w.proxies[0].asked_in_all();
        eventually(&name, async || (w.proxies[0].asked_in_all() > asked + 3).then_some(())).await?;
        w.proxies[0].heal();
        sender.confirmed(&purpose("rent")).await?;
        assert_eq!((w.paid().await?, w.mined().await?), (U256::from(1), 1), "{name}: {early:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_fails_at_any_single_question_loses_no_transaction_and_doubles_none() -> Result<()> {
    // more questions than a transaction takes from its first check to its end
    const QUESTIONS: u64 = 30;
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    for question in 1..=QUESTIONS {
        let fault = if question % 2 == 0 { Fault::Close } else { Fault::LoseAnswer };
        w.proxies[0].fault_at(question, fault);
        let label = question.to_string();
        eventually("it is taken", async || sender.submit(payment(&label)).await.ok()).await?;
        sender.confirmed(&purpose(&label)).await?;
    }
    assert_eq!((w.paid().await?, w.mined().await?), (U256::from(QUESTIONS), QUESTIONS));
    Ok(())
}

#[tokio::test]
async fn slow_answers_delay_a_transaction_and_no_more() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.proxies[0].fault_all(Fault::Delay(Duration::from_millis(400)));
    sender.send(payment("rent")).await?;
    paid_once(&w).await
}

/// Lets `blocks` pass that ask for `gwei` a unit of gas.
async fn dear_blocks(w: &World, gwei: u128, blocks: u64) -> Result<()> {
    for _ in 0..blocks {
        w.control("anvil_setNextBlockBaseFeePerGas", json!([format!("{:#x}", gwei * GWEI)])).await?;
        w.mine(1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn gas_that_becomes_ten_times_as_dear_raises_the_fee_of_the_same_nonce() -> Result<()> {
    let w = World::new(1).await?;
    let sender = w.connected().await?;
    w.automine(false).await?;
    sender.submit(payment("rent")).await?;
    sender.submit(payment("behind")).await?;
    let first = record(&sender, "rent").await?;
    let base = first.attempts[0].max_fee_per_gas / GWEI + 1;
    let raised = eventually("the fee is raised", async || {
        dear_blocks(&w, base * 10, 1).await.ok()?;
        let record = record(&sender, "rent").await.ok()?;
        (record.attempts.len() > 1).then_some(record)
    })
    .await?;
    assert_eq!(raised.nonce, first.nonce);
    assert!(raised.attempts[1].max_fee_per_gas > base * 10 * GWEI, "in one step");
    eventually("both are mined", async || {
        dear_blocks(&w, base * 10, 1).await.ok()?;
        (w.mined().await.ok()? == 2).then_some(())
    })
    .await?;
    sender.confirmed(&purpose("rent")).await?;
    sender.confirmed(&purpose("behind")).await?;
    assert_eq!([record(&sender, "rent").await?.nonce, record(&sender, "behind").await?.nonce], [0, 1]);
    assert_eq!(w.paid().await?, U256::from(2));
    Ok(())
}

#[tokio::test]
async fn a_fee_is_never_raised_beyond_what_is_allowed_and_that_is_told() -> Result<()> {
    let mut w = World::new(1).await?;
    w.config.max_fee_gwei = 20;
    let chain = Chain::connect(w.config.clone()).await?;
    let sender = w.sender(&chain, "sender").await?;
    w.automine(false).await?;
    sender.submit(payment("rent")).await?;
    eventually("it is told", async || {
        dear_blocks(&w, 200, 1).await.ok()?;
        (sender.health().capped > 0).then_some(())
    })
    .await?;
    dear_blocks(&w, 200, 10).await?;
    let waiting = record(&sender, "rent").await?;
    assert!(waiting.attempts.len() > 1, "it was raised as far as allowed");
    assert!(waiting.attempts.iter().all(|attempt| attempt.max_fee_per_gas <= 20 * GWEI), "{waiting:?}");
    assert_eq!(waiting.state, TransactionState::Pending);
    // and it waits until gas is cheaper
    eventually("it is mined", async || {
        dear_blocks(&w, 5, 1).await.ok()?;
        (w.mined().await.ok()? == 1).then_some(())
    })
    .await?;
    sender.confirmed(&purpose("rent")).await?;
    paid_once(&w).await
}

#[tokio::test]
async fn a_price_of_gas_that_an_endpoint_invents_is_not_paid() -> Result<()> {
    let mut w = World::new(1).await?;
    w.config.max_fee_gwei = 50;
    let chain = Chain::connect(w.config.clone()).await?;
    let sender = w.sender(&chain, "sender").await?;
    w.proxies[0].fault(
        "eth_feeHistory",
        Fault::result(|mut history| {
            if let Some(rewards) = history["reward"].as_array_mut() {
                rewards.iter_mut().for_each(|reward| *reward = json!(["0x174876e80000"]));
            }
            history
        }),
    );
    let confirmed = sender.send(payment("rent")).await?;
    assert!(confirmed.gas_price <= 50 * GWEI, "{confirmed:?}");
    Ok(())
}
