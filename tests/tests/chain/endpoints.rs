//! Several endpoints: which are asked, which are left alone, and what two must agree on.

use crate::world::{World, amount, eventually, payment, purpose, record};
use anyhow::Result;
use serde_json::json;
use settlement::{Chain, EndpointState, SettlementError, TransactionState};
use std::time::{Duration, Instant};
use tests::rpc_proxy::Fault;

fn state(chain: &Chain, endpoint: usize) -> EndpointState {
    chain.health().endpoints[endpoint].state
}

#[tokio::test]
async fn a_first_endpoint_that_hangs_costs_nothing_after_its_first_question() -> Result<()> {
    let w = World::new(3).await?;
    w.proxies[0].fault_all(Fault::Hang);
    let chain = w.chain().await?;
    assert_eq!(state(&chain, 0), EndpointState::Resting);
    let (asked, began) = (w.proxies[0].asked_in_all(), Instant::now());
    for _ in 0..20 {
        chain.head().await?;
        chain.confirmed_head().await?;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(w.proxies[0].asked_in_all() <= asked + 1, "more than a look whether it is back");
    // nobody tells the chain
    w.proxies[0].heal();
    eventually("it is asked again", async || {
        chain.head().await.ok()?;
        (state(&chain, 0) == EndpointState::Good).then_some(())
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_dies_in_between_is_passed_over() -> Result<()> {
    let w = World::new(2).await?;
    let chain = w.chain().await?;
    for fault in
        [Fault::Close, Fault::Text(502, "<html>Bad Gateway</html>"), Fault::Text(200, "<html>"), Fault::Truncate]
    {
        let (name, before) = (format!("{fault:?}"), chain.health());
        w.proxies[0].fault_all(fault);
        chain.head().await?;
        assert_eq!(state(&chain, 0), EndpointState::Resting, "{name}");
        assert!(chain.health().fail_overs > before.fail_overs, "{name}");
        w.proxies[0].heal();
        eventually("it is back", async || {
            chain.head().await.ok()?;
            (state(&chain, 0) == EndpointState::Good).then_some(())
        })
        .await?;
    }
    let health = chain.health();
    assert!(health.endpoints[0].failures >= 4 && health.endpoints[1].answers > 0, "{health:?}");
    assert!(health.endpoints.iter().all(|endpoint| endpoint.latency.is_some()), "{health:?}");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_not_used() -> Result<()> {
    let w = World::new(2).await?;
    w.proxies[0].fault("eth_chainId", Fault::Answer(json!("0x1")));
    // with two, both are needed for the escrow's code
    let error = w.chain().await.unwrap_err();
    assert!(error.to_string().contains("two must agree"), "{error}");
    let w = World::new(3).await?;
    w.proxies[0].fault("eth_chainId", Fault::Answer(json!("0x1")));
    let chain = w.chain().await?;
    assert_eq!(state(&chain, 0), EndpointState::OtherChain { found: 1 });
    chain.head().await?;
    assert_eq!(w.proxies[0].asked("eth_getBlockByNumber"), 0);
    w.proxies[0].heal();
    eventually("it is looked at again", async || {
        chain.head().await.ok()?;
        (state(&chain, 0) == EndpointState::Good).then_some(())
    })
    .await?;

    for proxy in &w.proxies {
        proxy.fault("eth_chainId", Fault::Answer(json!("0x1")));
    }
    let error = Chain::connect(w.config.clone()).await.unwrap_err();
    assert!(matches!(error, SettlementError::WrongChain { found: 1, .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_stuck_far_behind_is_asked_last() -> Result<()> {
    let w = World::new(3).await?;
    let chain = w.chain().await?;
    w.proxies[0].fault("eth_getBlockByNumber", Fault::Stale);
    let old = chain.head().await?;
    w.mine(400).await?;
    assert_eq!(chain.head().await?, old, "it is the first that is asked");
    assert_eq!(chain.confirmed_head().await?.number, old.number + 400);
    assert_eq!(state(&chain, 0), EndpointState::Lagging { blocks: 400 });
    assert_eq!(chain.head().await?.number, old.number + 400);
    w.proxies[0].heal();
    chain.confirmed_head().await?;
    assert_eq!(state(&chain, 0), EndpointState::Good);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_invents_blocks_moves_nothing() -> Result<()> {
    let w = World::new(3).await?;
    let chain = w.chain().await?;
    let invent = |mut block: serde_json::Value| {
        block["number"] = json!("0xffffff");
        block
    };
    w.proxies[1].fault("eth_getBlockByNumber", Fault::result(invent));
    assert_eq!(chain.confirmed_head().await?.number, w.block_number().await?);
    assert_eq!([state(&chain, 0), state(&chain, 2)], [EndpointState::Good; 2]);
    Ok(())
}

#[tokio::test]
async fn two_endpoints_that_disagree_release_nothing() -> Result<()> {
    let w = World::new(2).await?;
    let account = w.account().await?;
    let chain = account.sender().chain().clone();
    let quote = w.quote(&chain).await?;
    let opened = account.open(&quote, amount(5_000)).await?;
    let (id, block) = (quote.id(), opened.block_number);
    let rental = chain.rental_at(id, block).await?.expect("it is open");

    // more was paid in, says one; and no event of it is known
    let more = |result: serde_json::Value| json!(result.as_str().unwrap_or_default().replacen("1388", "ffff", 1));
    w.proxies[1].fault("eth_call", Fault::result(more));
    w.proxies[1].fault("eth_getLogs", Fault::Answer(json!([])));
    let before = chain.health().disagreements;
    for outcome in [
        chain.rental_at(id, block).await.map(drop),
        chain.opening(id, 0).await.map(drop),
        chain.opening_in(id, block).await.map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, SettlementError::Disagreement { .. }), "{error:?}");
    }
    assert!(chain.health().disagreements >= before + 3);

    // with a third, the one that errs is outvoted
    let mut config = w.config.clone();
    config.rpc.push(format!("{}/third", w.proxies[0].url()).parse()?);
    let three = Chain::connect(config).await?;
    assert_eq!(three.rental_at(id, block).await?, Some(rental));
    assert_eq!(three.opening(id, 0).await?.map(|opening| opening.transaction), Some(opened.transaction));
    Ok(())
}

#[tokio::test]
async fn a_false_refusal_by_one_endpoint_refuses_nothing() -> Result<()> {
    let w = World::new(2).await?;
    let account = w.account().await?;
    let quote = w.quote(account.sender().chain()).await?;
    w.proxies[0].fault("eth_call", Fault::Refuse("execution reverted"));
    let error = account.open(&quote, amount(5_000)).await.unwrap_err();
    assert!(matches!(error, SettlementError::Disagreement { .. }), "{error:?}");
    w.proxies[0].heal();
    account.open(&quote, amount(5_000)).await?;
    Ok(())
}

#[tokio::test]
async fn an_outcome_that_two_endpoints_tell_differently_is_not_believed() -> Result<()> {
    let w = World::new(2).await?;
    let sender = w.connected().await?;
    w.proxies[1].fault(
        "eth_getTransactionReceipt",
        Fault::result(|mut receipt| {
            if receipt.is_object() {
                receipt["status"] = json!("0x0");
            }
            receipt
        }),
    );
    let before = sender.chain().health().disagreements;
    sender.submit(payment("rent")).await?;
    eventually("it was looked at", async || (sender.chain().health().disagreements > before + 1).then_some(())).await?;
    assert_eq!(record(&sender, "rent").await?.state, TransactionState::Pending);
    w.proxies[1].heal();
    sender.confirmed(&purpose("rent")).await?;
    assert_eq!(w.mined().await?, 1);
    Ok(())
}

#[tokio::test]
async fn with_one_of_two_down_transactions_are_sent_and_nothing_is_decided() -> Result<()> {
    let w = World::new(2).await?;
    let sender = w.connected().await?;
    w.automine(false).await?;
    sender.submit(payment("rent")).await?;
    w.proxies[0].fault_all(Fault::Close);
    w.control("anvil_dropAllTransactions", json!([])).await?;
    w.automine(true).await?;
    // the other endpoint is given it again
    eventually("it is mined", async || (w.mined().await.ok()? == 1).then_some(())).await?;
    let error = sender.chain().confirmed_head().await.unwrap_err();
    assert!(matches!(error, SettlementError::OneEndpoint { .. }), "{error:?}");
    assert_eq!(record(&sender, "rent").await?.state, TransactionState::Pending);
    w.proxies[0].heal();
    sender.confirmed(&purpose("rent")).await?;
    Ok(())
}

#[tokio::test]
async fn after_all_endpoints_were_down_everything_goes_on() -> Result<()> {
    let w = World::new(2).await?;
    let account = w.account().await?;
    let sender = account.sender().clone();
    let quote = w.quote(sender.chain()).await?;
    w.automine(false).await?;
    sender.submit(payment("before")).await?;
    for proxy in &w.proxies {
        proxy.fault_all(Fault::Close);
    }
    w.automine(true).await?;
    w.mine(1).await?;
    let error = account.open(&quote, amount(5_000)).await.unwrap_err();
    assert!(matches!(error, SettlementError::Rpc { .. }), "{error:?}");
    assert!(sender.chain().health().endpoints.iter().all(|endpoint| endpoint.state == EndpointState::Resting));
    for proxy in &w.proxies {
        proxy.heal();
    }
    sender.confirmed(&purpose("before")).await?;
    account.open(&quote, amount(5_000)).await?;
    assert_eq!(w.mined().await?, 2);
    Ok(())
}

#[tokio::test]
async fn one_endpoint_alone_is_believed_and_its_nonsense_is_not() -> Result<()> {
    let w = World::new(1).await?;
    let account = w.account().await?;
    let sender = account.sender();
    // of another transaction, and of a block that is not the chain's
    for wrong in ["transactionHash", "blockHash"] {
        let receipts = Fault::result(move |mut receipt| {
            if receipt.is_object() {
                receipt[wrong] = json!(alloy::primitives::B256::repeat_byte(1));
            }
            receipt
        });
        w.proxies[0].fault("eth_getTransactionReceipt", receipts);
        sender.submit(payment(wrong)).await?;
        let before = w.proxies[0].asked("eth_getTransactionReceipt");
        eventually("it was looked at", async || {
            (w.proxies[0].asked("eth_getTransactionReceipt") > before + 4).then_some(())
        })
        .await?;
        assert_eq!(record(sender, wrong).await?.state, TransactionState::Pending);
        w.proxies[0].heal();
        sender.confirmed(&purpose(wrong)).await?;
    }
    // an event of another rental than asked for
    let (quote, other) = (w.quote(sender.chain()).await?, w.quote(sender.chain()).await?);
    account.open(&quote, amount(5_000)).await?;
    w.proxies[0].fault(
        "eth_getLogs",
        Fault::rewrite({
            let id = other.id().0.to_string();
            let wanted = quote.id().0.to_string();
            move |_, answer| serde_json::from_str(&answer.to_string().replace(&wanted, &id)).unwrap()
        }),
    );
    let error = sender.chain().opening(quote.id(), 0).await.unwrap_err();
    assert!(matches!(error, SettlementError::BadAnswer { .. }), "{error:?}");
    Ok(())
}
