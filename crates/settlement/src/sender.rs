//! The one owner of an account's nonces on one chain.
//!
//! A transaction is simulated, given a nonce, signed, and written to disk; only then is it sent. It is sent again until it is mined,
//! with the *same* nonce and a higher fee when the chain is slow to take it, and it counts when its block lies deep enough. A node that
//! dies at any line of this carries on at its next start, and a purpose that is asked for twice is still served once.

mod actor;
mod fees;
mod health;
mod refusal;

use crate::{
    bindings::Revert,
    chain::{Chain, request},
    error::SettlementError,
    transactions::{Call, Confirmed, Ledger, Purpose, TransactionRecord},
    wallet::Wallet,
};
use actor::{Actor, Submission};
use alloy::{eips::BlockId, primitives::Address};
pub use health::SenderHealth;
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use store::Store;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Submissions that may wait for the actor; whoever brings more waits itself. Far more than one node has rentals ending at once.
const QUEUE: usize = 64;
/// How many blocks a caller waits for beyond the confirmations: several fee bumps' worth.
const WAIT_BLOCKS: u32 = 40;
/// The shortest wait, for chains whose blocks come fast.
const SHORTEST_WAIT: Duration = Duration::from_secs(60);

/// Sends transactions of one account on one chain. Clones share the actor behind it, which ends with the last of them; a lock
/// lets only one program of a user have it.
#[derive(Clone)]
pub struct TransactionSender {
    chain: Chain,
    wallet: Wallet,
    ledger: Ledger,
    submissions: mpsc::Sender<Submission>,
    /// Changes whenever a transaction becomes final.
    news: watch::Receiver<u64>,
    health: watch::Receiver<SenderHealth>,
    _alive: Arc<DropGuard>,
}

impl fmt::Debug for TransactionSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionSender")
            .field("chain", &self.chain)
            .field("account", &self.wallet.address())
            .finish()
    }
}

impl TransactionSender {
    /// Starts the actor, which at once takes up whatever an earlier run left under way.
    pub async fn start(
        chain: Chain,
        wallet: Wallet,
        store: Store,
        cancel: &CancellationToken,
    ) -> Result<Self, SettlementError> {
        let ledger = Ledger::new(store, chain.config().chain_id, wallet.address());
        let (submissions, inbox) = mpsc::channel(QUEUE);
        let (announce, news) = watch::channel(0);
        let (tell, health) = watch::channel(SenderHealth::default());
        let cancel = cancel.child_token();
        let actor = Actor::load(chain.clone(), wallet.clone(), ledger.clone(), announce, tell).await?;
        tokio::spawn(actor.run(inbox, cancel.clone()));
        Ok(Self { chain, wallet, ledger, submissions, news, health, _alive: Arc::new(cancel.drop_guard()) })
    }

    /// The account that sends.
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// The key it signs with.
    pub(crate) const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The chain it sends on.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// How sending goes.
    pub fn health(&self) -> SenderHealth {
        self.health.borrow().clone()
    }

    /// The record of what was sent for a purpose.
    pub async fn record(&self, purpose: &Purpose) -> Result<Option<TransactionRecord>, SettlementError> {
        Ok(self.ledger.find(purpose).await?)
    }

    /// The tokens and spenders of the approvals that it has sent.
    pub async fn recorded_spenders(&self) -> Result<BTreeSet<(Address, Address)>, SettlementError> {
        Ok(self.ledger.recorded_spenders().await?)
    }

    /// What is on its way and not final: at most as many as the account may have under way.
    pub async fn under_way(&self) -> Result<Vec<Purpose>, SettlementError> {
        Ok(self.ledger.pending().await?.into_iter().map(|record| record.purpose).collect())
    }

    /// Sends a call, unless its purpose is served already, and waits until it is confirmed. The wait is bounded, and dropping it does
    /// not take anything back: the transaction stays under way, and asking again goes on waiting for it.
    pub async fn send(&self, call: Call) -> Result<Confirmed, SettlementError> {
        let purpose = call.purpose.clone();
        self.submit(call).await?;
        self.confirmed(&purpose).await
    }

    /// As [`Self::send`], without waiting for the chain: when this returns, the transaction is on disk and will be sent.
    pub async fn submit(&self, call: Call) -> Result<(), SettlementError> {
        if self.ledger.find(&call.purpose).await?.is_some_and(|record| record.settles()) {
            return Ok(());
        }
        let gas_limit = self.check(&call).await?;
        let (reply, answer) = oneshot::channel();
        let submission = Submission { call, gas_limit, reply };
        self.submissions.send(submission).await.map_err(|_| SettlementError::SenderStopped)?;
        answer.await.map_err(|_| SettlementError::SenderStopped)?
    }

    /// Waits until what was submitted for a purpose is final.
    pub async fn confirmed(&self, purpose: &Purpose) -> Result<Confirmed, SettlementError> {
        let config = self.chain.config();
        let confirmations = u32::try_from(config.confirmations).unwrap_or(u32::MAX).saturating_add(WAIT_BLOCKS);
        let limit = config.block_time().saturating_mul(confirmations).max(SHORTEST_WAIT);
        let waiting = self.wait(purpose);
        match tokio::time::timeout(limit, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let transaction =
                    self.ledger.find(purpose).await?.map(|record| record.latest_hash()).unwrap_or_default();
                Err(SettlementError::NotConfirmed {
                    purpose: Box::new(purpose.clone()),
                    transaction,
                    seconds: limit.as_secs(),
                })
            }
        }
    }

    async fn wait(&self, purpose: &Purpose) -> Result<Confirmed, SettlementError> {
        let mut news = self.news.clone();
        loop {
            news.borrow_and_update();
            // a purpose that was never submitted waits until it is
            if let Some(outcome) = self.ledger.find(purpose).await?.and_then(|record| record.outcome()) {
                return outcome;
            }
            news.changed().await.map_err(|_| SettlementError::SenderStopped)?;
        }
    }

    /// Whether the call would go through now, and the gas to give it. Costs nothing.
    pub(crate) async fn check(&self, call: &Call) -> Result<u64, SettlementError> {
        let from = self.address();
        if !call.value.is_zero() {
            let have = self.chain.coin_balance(from).await?;
            if have < call.value {
                let token = Box::new(self.chain.token(Address::ZERO));
                return Err(SettlementError::InsufficientFunds {
                    account: from,
                    token,
                    have: shown(have),
                    need: shown(call.value),
                });
            }
        }
        let request = request(from, call.to, call.value, &call.data);
        let refused = |reason: Revert| SettlementError::Reverted {
            purpose: Box::new(call.purpose.clone()),
            transaction: None,
            reason: Box::new(reason),
        };
        self.chain.simulate(&request, BlockId::latest()).await?.map_err(refused)?;
        let gas = self.chain.gas_for(&request).await?.map_err(refused)?;
        Ok(with_margin(gas))
    }
}

/// A quarter more than estimated: storage may have been cleared, or an account emptied, by the time the transaction is mined.
const fn with_margin(gas: u64) -> u64 {
    gas.saturating_add(gas / 4)
}

/// An amount for a message; what is beyond 96 bits shows as the most that fits.
fn shown(units: alloy::primitives::U256) -> market::money::Amount {
    u128::try_from(units).ok().and_then(market::money::Amount::new).unwrap_or(market::money::Amount::MAX)
}
