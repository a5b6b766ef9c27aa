//! Where a provider's earnings go: to its wallet, or to another address that its owner names, such as a cold wallet, a Safe or a DAO.
//!
//! The escrow lets the payout address or the key that signed the quote close a rental, and pays the address in any case. The account that sends
//! this node's transactions is the wallet, so that with a payout address of its own the wallet signs the quotes as well. That is also what
//! renters go by: a peer is bound to its wallet, and a payout address that cannot sign is vouched for by the wallet's signature on the quote.

use crate::{Config, Error};
use alloy_primitives::{Address, B256, Signature};
use market::{id::PeerId, offer::Binding, quote::Quote, time::UnixMillis};
use settlement::{Chain, SettlementError, Wallet};

/// What a provider signs with, and where it is paid.
pub(crate) struct Keys {
    wallet: Wallet,
    provider_key: Wallet,
    payout: Option<Address>,
}

impl Keys {
    /// The keys of this node, with the payout address if its owner has named one that all chains can pay.
    pub(crate) async fn new(
        config: &Config,
        wallet: Wallet,
        provider_key: Wallet,
        chains: &[Chain],
    ) -> Result<Self, Error> {
        // named for itself, the wallet needs no key but the hot one to sign
        let payout = config.payout.filter(|payout| *payout != wallet.address());
        if let Some(payout) = payout {
            for chain in chains {
                check_payout(payout, chain).await?;
            }
            tracing::info!(%payout, wallet = %wallet.address(), "earnings go to the payout address; the wallet signs");
        }
        Ok(Self { wallet, provider_key, payout })
    }

    /// Where earnings go.
    pub(crate) fn payee(&self) -> Address {
        self.payout.unwrap_or_else(|| self.wallet.address())
    }

    /// What signs new quotes.
    pub(crate) const fn signer(&self) -> &Wallet {
        if self.payout.is_some() { &self.wallet } else { &self.provider_key }
    }

    /// Signs for a rental, with the key that its quote names: the payout address may have been set since, or left out.
    pub(crate) fn sign(&self, quote: &Quote, digest: &B256) -> Result<Signature, SettlementError> {
        let by_wallet = quote.provider_key == self.wallet.address();
        if by_wallet { &self.wallet } else { &self.provider_key }.sign_digest(digest)
    }

    /// The wallet's word for `peer` and for what signs its quotes.
    pub(crate) fn bind(&self, chain: u64, peer: &PeerId) -> Result<Binding, SettlementError> {
        let sign = |digest: &_| self.wallet.sign_digest(digest);
        Binding::issue(peer, chain, self.wallet.address(), self.signer().address(), UnixMillis::now(), sign)
    }
}

/// Whether rentals of a chain can be paid to an address, as far as that can be told: no contract is asked to take a payment.
pub async fn check_payout(payout: Address, chain: &Chain) -> Result<(), Error> {
    let refused = |why: String| Err(Error::Config(format!("payout {payout} {why}")));
    let config = chain.config();
    if payout.is_zero() {
        return refused("is nobody's address: what is paid there is lost".to_owned());
    }
    if payout == config.escrow {
        return refused(format!("is the escrow on {}, which does not pay itself", config.name));
    }
    let token = match config.tokens.iter().find(|token| token.address == payout) {
        Some(token) => token.symbol.clone(),
        None => match chain.token_metadata(payout).await {
            Ok(token) => token.symbol,
            // whatever is no token refuses the question in its own way, some by burning all the gas it is given
            Err(_) => return Ok(()),
        },
    };
    refused(format!("is the token {token} on {}: what is paid to a token's contract is lost", config.name))
}
