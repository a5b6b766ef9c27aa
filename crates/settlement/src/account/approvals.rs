//! Allowances that an account has given: who may take what, found on chain and in this node's own record; and taking them back.

use super::EscrowAccount;
use crate::{
    bindings::Erc20,
    chain::Chain,
    error::SettlementError,
    funding::PERMIT2,
    transactions::{Call, Confirmed, Purpose},
};
use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall,
};
use market::money::{Amount, Token};
use std::collections::BTreeSet;

/// What a spender may take of an account's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The token, as it is configured.
    pub token: Token,
    /// Who may take it.
    pub spender: Address,
    /// How much, in base units: of 256 bits, and all of them set where there is no limit.
    pub amount: U256,
}

impl Chain {
    /// What may be taken of an account's configured tokens, as of the newest block: by the escrow, by Permit2, and by the spenders that are
    /// `recorded` for a token. Allowances of nothing are left out.
    pub async fn allowances(
        &self,
        owner: Address,
        recorded: &BTreeSet<(Address, Address)>,
    ) -> Result<Vec<Allowance>, SettlementError> {
        let mut found = Vec::new();
        for token in self.config().tokens.iter().filter(|token| !token.address.is_zero()) {
            let known = [self.config().escrow, PERMIT2];
            let others = recorded.iter().filter(|(of, spender)| *of == token.address && !known.contains(spender));
            for spender in known.into_iter().chain(others.map(|(_, spender)| *spender)) {
                let amount = self.allowance_of(token.address, owner, spender).await?;
                if !amount.is_zero() {
                    found.push(Allowance { token: token.clone(), spender, amount });
                }
            }
        }
        Ok(found)
    }
}

impl EscrowAccount {
    /// Takes back what `spender` may take of `token`. An opening that is between its approval and the use of it comes first.
    pub async fn revoke(&self, token: Address, spender: Address) -> Result<Confirmed, SettlementError> {
        let _one_at_a_time = self.approving.lock().await;
        let data = Erc20::approveCall { spender, value: U256::ZERO }.abi_encode().into();
        let purpose = Purpose::Approve { token, spender, amount: Amount::ZERO };
        self.sender.send(Call { purpose, to: token, value: U256::ZERO, data }).await
    }
}
