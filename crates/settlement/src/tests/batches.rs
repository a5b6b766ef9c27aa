//! Several rentals closed in one transaction.

use super::world::{DOLLAR, World, amount, eventually};
use crate::{ClosingOutcome, EscrowAccount, EscrowRevert, Revert, SettlementError, ToClose};
use alloy::primitives::{B256, U256};
use market::quote::SignedQuote;
use std::collections::HashSet;

/// What each rental of these tests comes to.
const OWED: u128 = 500_000;

impl World {
    /// Rentals that are open and have run for a minute.
    async fn running(&self, quotes: &[SignedQuote]) {
        let renter = self.account(&self.renter).await;
        for quote in quotes {
            renter.open(quote, amount(DOLLAR)).await.unwrap();
        }
        self.pass(60).await;
    }

    async fn quotes(&self, count: usize) -> Vec<SignedQuote> {
        let mut quotes = Vec::new();
        for _ in 0..count {
            quotes.push(self.quote(self.dollar).await);
        }
        quotes
    }

    fn to_close(&self, quotes: &[SignedQuote]) -> Vec<ToClose> {
        let close =
            |quote: &SignedQuote| ToClose { quote: quote.quote.clone(), voucher: Some(self.voucher(quote, OWED)) };
        quotes.iter().map(close).collect()
    }

    async fn assert_all_closed(&self, count: usize) {
        assert_eq!(self.balance(self.dollar, self.provider.address()).await, OWED * count as u128);
        assert_eq!(self.balance(self.dollar, self.renter.address()).await, 100 * DOLLAR - OWED * count as u128);
        assert_eq!(self.balance(self.dollar, self.config.escrow).await, 0);
    }
}

/// The transactions of those that went well.
fn transactions(outcomes: &[ClosingOutcome]) -> HashSet<B256> {
    outcomes.iter().filter_map(|outcome| Some(outcome.result.as_ref().ok()?.as_ref()?.transaction)).collect()
}

#[tokio::test]
async fn a_batch_closes_all_that_are_open_in_one_transaction_for_less_gas() {
    let w = World::new().await;
    let provider = w.account(&w.provider).await;
    let quotes = w.quotes(12).await;
    w.running(&quotes).await;
    let (alone, together) = quotes.split_at(2);
    // the first payment to an account is dearer, so the second counts
    let mut single = 0;
    for one in w.to_close(alone) {
        single = provider.close(&one.quote, one.voucher.as_ref()).await.unwrap().gas_used;
    }

    let outcomes = provider.close_together(w.to_close(&quotes[1..])).await;
    let gone = outcomes.iter().find(|outcome| outcome.id == quotes[1].id()).unwrap();
    assert!(matches!(gone.result, Ok(None)), "one that is closed already is left out: {gone:?}");
    assert_eq!((outcomes.len(), transactions(&outcomes).len()), (11, 1), "{outcomes:?}");
    w.assert_all_closed(12).await;

    let batch = outcomes.iter().find_map(|outcome| outcome.result.as_ref().ok()?.as_ref()).unwrap();
    let each = batch.gas_used / together.len() as u64;
    eprintln!("gas: {single} to close one by itself, {each} each of {} together", together.len());
    assert!(each * 2 < single, "{each} each together, {single} alone");
    // asked again, as a provider does until the chain shows the end: nothing is sent
    let before = w.mined(w.provider.address()).await;
    provider.close_together(w.to_close(&quotes)).await;
    assert_eq!(w.mined(w.provider.address()).await, before);
}

#[tokio::test]
async fn what_is_gone_by_the_time_of_the_block_is_skipped() {
    let w = World::new().await;
    let provider = w.account(&w.provider).await;
    let quotes = w.quotes(3).await;
    w.running(&quotes).await;
    let one = &w.to_close(&quotes)[0];
    provider.close(&one.quote, one.voucher.as_ref()).await.unwrap();
    let (_, closed) = provider.close_many(&w.to_close(&quotes)).await.unwrap();
    assert_eq!(closed, quotes[1..].iter().map(SignedQuote::id).collect());
    w.assert_all_closed(3).await;
}

#[tokio::test]
async fn one_that_the_escrow_refuses_does_not_hold_up_the_others() {
    let w = World::new().await;
    let provider = w.account(&w.provider).await;
    let mut quotes = w.quotes(3).await;
    let mut others = quotes[1].quote.clone();
    others.provider = w.rich.address();
    quotes[1] = w.sign(others);
    w.running(&quotes).await;

    let outcomes = provider.close_together(w.to_close(&quotes)).await;
    assert_eq!(transactions(&outcomes).len(), 2, "each of the other two by itself: {outcomes:?}");
    let refused = outcomes.iter().find(|outcome| outcome.id == quotes[1].id()).unwrap();
    match refused.result.as_ref().unwrap_err().as_ref() {
        SettlementError::Reverted { transaction: None, reason, .. } => {
            assert!(matches!(**reason, Revert::Escrow(EscrowRevert::NotProvider(_))), "{reason:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(w.balance(w.dollar, w.provider.address()).await, 2 * OWED);
}

#[tokio::test]
async fn gas_for_one_closing_closes_one_though_it_is_not_enough_for_all_together() {
    let w = World::new().await;
    let quotes = w.quotes(8).await;
    w.running(&quotes).await;
    let price = w.chain.fees().await.unwrap().max_fee_per_gas;
    // one closing may use some 400,000, most of which is kept back for its payments; eight together may use some 550,000
    let enough_for_one = U256::from(price) * U256::from(460_000);
    w.control("anvil_setBalance", serde_json::json!([w.provider.address(), enough_for_one])).await;

    let outcomes = w.account(&w.provider).await.close_together(w.to_close(&quotes)).await;
    let closed = outcomes.iter().filter(|outcome| outcome.result.is_ok()).count();
    assert!((1..8).contains(&closed), "{closed} are closed: {outcomes:?}");
    assert_eq!(w.balance(w.dollar, w.provider.address()).await, OWED * closed as u128);
}

#[tokio::test]
async fn a_batch_of_an_earlier_run_is_waited_for_in_other_company() {
    let w = World::new().await;
    let quotes = w.quotes(3).await;
    w.running(&quotes).await;
    w.automine(false).await;
    let first = tokio::spawn({
        let (account, batch) = (w.account(&w.provider).await, w.to_close(&quotes[..2]));
        async move { account.close_together(batch).await }
    });
    eventually("the first batch waits for a block", async || {
        let status = w.control("txpool_status", serde_json::json!([])).await;
        (status["pending"] == "0x1").then_some(())
    })
    .await;
    // the node dies, and finds a third closing due when it is back
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let account: EscrowAccount = w.account(&w.provider).await;
    let again = tokio::spawn({
        let batch = w.to_close(&quotes);
        async move { account.close_together(batch).await }
    });
    eventually("the third is sent by itself", async || {
        let status = w.control("txpool_status", serde_json::json!([])).await;
        (status["pending"] == "0x2").then_some(())
    })
    .await;
    w.automine(true).await;
    w.mine().await;
    let outcomes = again.await.unwrap();
    assert_eq!((outcomes.len(), transactions(&outcomes).len()), (3, 2), "{outcomes:?}");
    assert_eq!(w.mined(w.provider.address()).await, 2);
    w.assert_all_closed(3).await;
}

#[tokio::test]
async fn more_than_a_transaction_may_take_is_refused_before_anything_is_sent() {
    let w = World::new().await;
    let quote = w.quote(w.dollar).await;
    let batch = vec![w.to_close(&[quote]).remove(0); crate::MAX_BATCH + 1];
    let error = w.account(&w.provider).await.close_many(&batch).await.unwrap_err();
    assert!(matches!(error, SettlementError::BatchTooLarge { given: 25, limit: 24 }), "{error:?}");
}
