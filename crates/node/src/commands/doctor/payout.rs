//! Where a provider's earnings go on a chain, and whether they can arrive there.

use super::Finding;
use crate::failure::with_causes;
use alloy_primitives::Address;
use settlement::Chain;

/// The finding about one chain. `wallet` is the account that is paid when no other is named; or why it is not known, and a remedy.
pub(super) async fn look(
    payout: Option<Address>,
    chain: &Chain,
    id: String,
    wallet: &Result<Address, (String, String)>,
) -> Finding {
    let needed = "an account of yours that can be paid";
    let Some(payout) = payout else {
        let found = match wallet {
            Ok(wallet) => format!("earnings go to the wallet {wallet}"),
            Err(_) => "earnings go to the wallet".to_owned(),
        };
        return Finding::ok(id, found, needed);
    };
    if let Err(error) = provider::check_payout(payout, chain).await {
        return Finding::ok(id, with_causes(&error), needed).problem("correct `payout` in [provider]");
    }
    match chain.is_contract(payout).await {
        Ok(true) => Finding::ok(id, format!("earnings go to the contract {payout}"), needed),
        Ok(false) => Finding::ok(id, format!("earnings go to {payout}, which has no code on this chain"), needed),
        Err(error) => Finding::ok(id, with_causes(&error), needed).problem("look again"),
    }
}
