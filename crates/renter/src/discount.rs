//! What an offer's discounts are worth to this renter: the greatest for a token or NFT that its wallet holds, as the chain tells.

use alloy_primitives::Address;
use market::offer::Offer;
use settlement::EscrowAccount;

/// The most discounts of one offer that are looked into, the greatest first: each is a question to a chain that a provider makes us ask.
const MAX_LOOKED_INTO: usize = 4;

/// The basis points off the price of an offer for `wallet`; 0 for none. A chain that is not configured or does not answer earns none: the
/// provider may find it all the same, and then the quote is cheaper than what was asked for.
pub(crate) async fn of(accounts: &[EscrowAccount], wallet: Address, offer: &Offer) -> u32 {
    let mut discounts: Vec<_> = offer.discounts.iter().collect();
    discounts.sort_by_key(|discount| std::cmp::Reverse(discount.basis_points));
    for discount in discounts.into_iter().take(MAX_LOOKED_INTO) {
        let chains = accounts.iter().map(|account| account.sender().chain());
        let Some(chain) = chains.into_iter().find(|chain| chain.config().chain_id == discount.chain) else { continue };
        match chain.balance(discount.token, wallet).await {
            Ok(balance) if !balance.is_zero() => return discount.basis_points,
            Ok(_) => {}
            Err(error) => tracing::debug!(token = %discount.token, %error, "a discount cannot be looked into"),
        }
    }
    0
}
