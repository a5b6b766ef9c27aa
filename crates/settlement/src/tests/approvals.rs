//! Allowances: found on chain and in the record, and taken back.

use super::world::{World, amount};
use crate::{Allowance, Call, PERMIT2, Purpose, TransactionSender, bindings::Erc20, recorded_spenders};
use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall,
};
use std::collections::BTreeSet;

const OTHER: Address = Address::repeat_byte(0x0e);

/// Has the sender's account allow something, as this node's own approvals do.
async fn approve(w: &World, sender: &TransactionSender, spender: Address, units: u128) {
    let data = Erc20::approveCall { spender, value: U256::from(units) }.abi_encode().into();
    let purpose = Purpose::Approve { token: w.dollar, spender, amount: amount(units) };
    sender.send(Call { purpose, to: w.dollar, value: U256::ZERO, data }).await.unwrap();
}

#[tokio::test]
async fn every_spender_that_was_approved_is_found_and_taken_back_once() {
    let w = World::new().await;
    let account = w.account(&w.renter).await;
    let (sender, owner) = (account.sender(), w.renter.address());
    for (spender, units) in [(w.config.escrow, 5), (PERMIT2, 6), (OTHER, 7)] {
        approve(&w, sender, spender, units).await;
    }
    // what somebody else has allowed is not ours
    let provider = w.sender(&w.provider).await;
    approve(&w, &provider, Address::repeat_byte(0x0f), 8).await;

    let recorded = sender.recorded_spenders().await.unwrap();
    let found = |allowances: Vec<Allowance>| -> Vec<_> {
        allowances.into_iter().map(|Allowance { token, spender, amount }| (token.address, spender, amount)).collect()
    };
    let allowed = |spender, units: u128| (w.dollar, spender, U256::from(units));
    let all = w.chain.allowances(owner, &recorded).await.unwrap();
    assert_eq!(found(all), [allowed(w.config.escrow, 5), allowed(PERMIT2, 6), allowed(OTHER, 7)]);
    let without_record = w.chain.allowances(owner, &BTreeSet::new()).await.unwrap();
    assert_eq!(without_record.len(), 2, "the escrow and Permit2 need no record: {without_record:?}");

    for spender in [OTHER, PERMIT2] {
        account.revoke(w.dollar, spender).await.unwrap();
    }
    let left = w.chain.allowances(owner, &recorded).await.unwrap();
    assert_eq!(found(left), [allowed(w.config.escrow, 5)]);
    let mined = w.mined(owner).await;
    // given and taken back again, in a transaction of its own each time
    approve(&w, sender, OTHER, 9).await;
    account.revoke(w.dollar, OTHER).await.unwrap();
    assert_eq!(w.mined(owner).await, mined + 2);
}

#[tokio::test]
async fn the_record_of_approvals_is_read_without_the_account() {
    let w = World::new().await;
    let sender = w.sender(&w.renter).await;
    approve(&w, &sender, OTHER, 7).await;
    sender
        .send(Call {
            purpose: Purpose::Other("approved".into()),
            to: OTHER,
            value: U256::ZERO,
            data: Default::default(),
        })
        .await
        .unwrap();
    drop(sender);
    let owner = w.renter.address();
    let store = w.store(&owner.to_string()).await;
    let recorded = recorded_spenders(&store, w.config.chain_id, owner).await.unwrap();
    assert_eq!(recorded, BTreeSet::from([(w.dollar, OTHER)]));
    assert_eq!(recorded_spenders(&store, 1, owner).await.unwrap(), BTreeSet::new(), "on another chain");
}
