//! Allowances of this node's wallets: read from the chains, and taken back by the account that sends. The daemon answers its clients with
//! this, and `node wallet approvals` reads the chains with it where no daemon runs.

use crate::{commands::chain_error, failure::Failure};
use alloy_primitives::{Address, U256};
use api::types::{ApiError, Approval, ErrorKind, Revocation, Revoked};
use market::money::{Amount, format_units};
use settlement::{Allowance, Chain, EscrowAccount, PERMIT2, SettlementError};
use std::{collections::BTreeSet, time::Duration};

/// How long a revocation is waited for in one request: a few blocks of a slow chain, and less than the daemon gives a request.
const REVOKE_WAIT: Duration = Duration::from_secs(50);

/// The allowances that one wallet has given on one chain. `recorded` are tokens and spenders of its own approvals.
pub(crate) async fn given(
    chain: &Chain,
    (wallet, account): (&str, Address),
    recorded: &BTreeSet<(Address, Address)>,
) -> Result<Vec<Approval>, SettlementError> {
    let allowances = chain.allowances(account, recorded).await?;
    Ok(allowances.into_iter().map(|allowance| approval(chain, wallet, account, allowance)).collect())
}

fn approval(chain: &Chain, wallet: &str, account: Address, allowance: Allowance) -> Approval {
    let Allowance { token, spender, amount } = allowance;
    let spender_name = match spender {
        PERMIT2 => "Permit2".to_owned(),
        escrow if escrow == chain.config().escrow => "escrow".to_owned(),
        other => other.to_string(),
    };
    let shown = match u128::try_from(amount).ok().and_then(Amount::new) {
        _ if amount == U256::MAX => "unlimited".to_owned(),
        Some(amount) => token.show(amount),
        None => format!("more than {}", token.show(Amount::MAX)),
    };
    let (wallet, chain) = (wallet.to_owned(), chain.config().name.clone());
    Approval { wallet, account, chain, token, spender, spender_name, amount, shown }
}

/// Takes an allowance back and waits until that is confirmed.
pub(crate) async fn revoke(accounts: &[EscrowAccount], wanted: &Revocation) -> Result<Revoked, ApiError> {
    let here = accounts.iter().find(|account| account.sender().chain().config().name == wanted.chain);
    let Some(account) = here else {
        let message = format!("this daemon sends nothing on {}", wanted.chain);
        return Err(ApiError::new(ErrorKind::Usage, message, "start it as provider or renter, with that [[chain]]"));
    };
    if account.sender().address() != wanted.account {
        let message =
            format!("the allowance is {}'s, and this daemon sends for {}", wanted.account, account.sender().address());
        return Err(ApiError::new(ErrorKind::Usage, message, "name that key as `wallet` in [keystore], and restart"));
    }
    let chain = account.sender().chain();
    let config = chain.config();
    if !config.tokens.iter().any(|token| token.address == wanted.token && !token.address.is_zero()) {
        let message = format!("{} is no token of {} here", wanted.token, config.name);
        return Err(ApiError::new(ErrorKind::Usage, message, "add it to the [[chain]] section first"));
    }
    let waiting = tokio::time::timeout(REVOKE_WAIT, account.revoke(wanted.token, wanted.spender));
    let confirmed = match waiting.await {
        Ok(sent) => sent.map_err(revoking_error)?,
        Err(_) => {
            let message =
                format!("the revocation is not confirmed after {} s; it stays under way", REVOKE_WAIT.as_secs());
            return Err(ApiError::new(
                ErrorKind::Timeout,
                message,
                "give the command again: it waits for the same one",
            ));
        }
    };
    let left = chain.allowance_of(wanted.token, wanted.account, wanted.spender).await.map_err(chain_error)?;
    if !left.is_zero() {
        let message = format!("the token still allows {left} base units after transaction {}", confirmed.transaction);
        return Err(ApiError::new(
            ErrorKind::Chain,
            message,
            "somebody approved it anew, or the token ignores approvals",
        ));
    }
    let coin = chain.token(Address::ZERO);
    let spent = confirmed.gas_price.saturating_mul(u128::from(confirmed.gas_used));
    let cost = format_units(Amount::new(spent).unwrap_or(Amount::MAX), coin.decimals);
    Ok(Revoked {
        tx: confirmed.transaction,
        block: confirmed.block_number,
        gas_used: confirmed.gas_used,
        cost: format!("{cost} {}", coin.symbol),
    })
}

fn revoking_error(error: SettlementError) -> ApiError {
    match error {
        SettlementError::InsufficientGas { .. } => ErrorKind::Funds.because(&error, "see `node wallet balance`"),
        other => chain_error(other),
    }
}
