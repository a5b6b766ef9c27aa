//! The task behind a [`super::TransactionSender`]: it alone assigns nonces, signs, sends, watches and decides outcomes.

use crate::{
    chain::{Chain, Fees, Head, request},
    error::SettlementError,
    transactions::{Attempt, Call, Confirmed, Ledger, TransactionRecord, TransactionState},
    wallet::Wallet,
};
use alloy::{
    consensus::TxEip1559,
    eips::BlockId,
    primitives::{B256, Bytes, TxKind, U256},
    rpc::types::TransactionReceipt,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Transactions of the account under way at once: what every node's pool keeps of one account.
const MAX_PENDING: usize = 16;
/// Blocks that a transaction may wait before its fee is raised.
const BUMP_AFTER_BLOCKS: u64 = 5;
/// How often a fee is raised at most: 12.5 % each makes about eight times the first.
const MAX_BUMPS: usize = 18;
/// Block times between two sendings of the same transaction, which makes up for endpoints that forget.
const RESEND_BLOCKS: u32 = 5;
/// Nonces tried for one submission while another program uses the account as well.
const NONCE_TRIES: usize = 3;

/// A checked call on its way to a nonce.
pub(super) struct Submission {
    pub(super) call: Call,
    pub(super) gas_limit: u64,
    pub(super) reply: oneshot::Sender<Result<(), SettlementError>>,
}

struct InFlight {
    record: TransactionRecord,
    /// When it was last accepted by an endpoint.
    sent: Option<Instant>,
}

pub(super) struct Actor {
    chain: Chain,
    wallet: Wallet,
    ledger: Ledger,
    announce: watch::Sender<u64>,
    next_nonce: u64,
    pending: BTreeMap<u64, InFlight>,
}

/// What an endpoint's refusal of a transaction means.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The endpoint has it already.
    Known,
    /// The nonce is used.
    NonceUsed,
    /// The fee does not beat that of an earlier form.
    Underpriced,
    /// Anything else: to be tried again.
    Other,
}

impl Refusal {
    /// Nodes differ in words and codes; these words are common to geth, reth, Nethermind, Erigon and anvil.
    fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&["already known", "already imported", "alreadyknown", "known transaction"]) {
            Self::Known
        } else if says(&["nonce too low", "old nonce", "nonce is too low"]) {
            Self::NonceUsed
        } else if says(&["underpriced", "replacement"]) {
            Self::Underpriced
        } else {
            Self::Other
        }
    }
}

impl Actor {
    /// Takes up what is on disk.
    pub(super) async fn load(
        chain: Chain,
        wallet: Wallet,
        ledger: Ledger,
        announce: watch::Sender<u64>,
    ) -> Result<Self, SettlementError> {
        let pending: BTreeMap<_, _> =
            ledger.pending().await?.into_iter().map(|record| (record.nonce, InFlight { record, sent: None })).collect();
        let after_ours = pending.last_key_value().map_or(0, |(nonce, _)| nonce + 1);
        let next_nonce = chain.nonce(wallet.address(), BlockId::pending()).await?.max(after_ours);
        if !pending.is_empty() {
            info!(account = %wallet.address(), count = pending.len(), "taking up transactions of an earlier run");
        }
        Ok(Self { chain, wallet, ledger, announce, next_nonce, pending })
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Submission>, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(self.chain.config().poll_interval());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let serve = async {
            loop {
                tokio::select! {
                    submission = inbox.recv(), if self.pending.len() < MAX_PENDING => {
                        let Some(Submission { call, gas_limit, reply }) = submission else { return };
                        // whoever asked may have gone; the transaction is under way all the same
                        let _ = reply.send(self.accept(call, gas_limit).await);
                    }
                    _ = tick.tick(), if !self.pending.is_empty() => {
                        if let Err(error) = self.watch().await {
                            warn!(account = %self.wallet.address(), %error, "transactions could not be watched; trying again");
                        }
                    }
                }
            }
        };
        // May end in the middle of anything: what counts is on disk, and the next start takes it up.
        tokio::select! {
            () = cancel.cancelled() => {}
            () = serve => {}
        }
    }

    /// Gives a call its nonce, writes it down, and sends it.
    async fn accept(&mut self, call: Call, gas_limit: u64) -> Result<(), SettlementError> {
        // asked for twice at once: the other came first
        if self.ledger.find(&call.purpose).await?.is_some_and(|record| record.settles()) {
            return Ok(());
        }
        for _ in 0..NONCE_TRIES {
            let (fees, head) = (self.chain.fees().await?, self.chain.head().await?);
            self.check_gas(&call, fees.cost(gas_limit)).await?;
            self.next_nonce = self.chain.nonce(self.wallet.address(), BlockId::pending()).await?.max(self.next_nonce);
            let Call { purpose, to, value, data } = call.clone();
            let mut record = TransactionRecord {
                purpose,
                nonce: self.next_nonce,
                to,
                value,
                data,
                gas_limit,
                attempts: Vec::new(),
                state: TransactionState::Pending,
            };
            let attempt = self.sign(&record, fees, head.number)?;
            record.attempts.push(attempt);
            self.ledger.save(&record).await?;
            let nonce = record.nonce;
            self.next_nonce = nonce + 1;
            info!(purpose = %record.purpose, nonce, transaction = %record.latest_hash(), "transaction is on its way");
            self.pending.insert(nonce, InFlight { record, sent: None });
            match self.broadcast(nonce).await {
                // Another program was faster and this one was never mined under its nonce: the next one then.
                Some(Refusal::NonceUsed) if !self.is_mined(nonce).await? => {
                    self.finish(nonce, TransactionState::Superseded).await?
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether the account can pay this on top of what is under way.
    async fn check_gas(&self, call: &Call, gas: U256) -> Result<(), SettlementError> {
        let account = self.wallet.address();
        let bound = self.pending.values().fold(U256::ZERO, |sum, p| sum.saturating_add(p.record.greatest_cost()));
        let have = self.chain.coin_balance(account).await?.saturating_sub(bound);
        let need = call.value.saturating_add(gas);
        if have < need {
            return Err(SettlementError::InsufficientGas {
                account,
                have,
                need,
                purpose: Box::new(call.purpose.clone()),
            });
        }
        Ok(())
    }

    fn sign(&self, record: &TransactionRecord, fees: Fees, made_at: u64) -> Result<Attempt, SettlementError> {
        let transaction = TxEip1559 {
            chain_id: self.chain.config().chain_id,
            nonce: record.nonce,
            gas_limit: record.gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(record.to),
            value: record.value,
            access_list: Default::default(),
            input: record.data.clone(),
        };
        let (hash, raw) = self.wallet.sign_transaction(transaction)?;
        Ok(Attempt {
            hash,
            raw,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            made_at,
        })
    }

    /// Hands the newest form of a transaction to the endpoints. A refusal other than "known" is returned.
    async fn broadcast(&mut self, nonce: u64) -> Option<Refusal> {
        let in_flight = self.pending.get_mut(&nonce)?;
        let raw = in_flight.record.attempts.last()?.raw.clone();
        let refusal = match self.chain.endpoints().broadcast(&raw).await {
            Ok(()) => None,
            Err(error) => {
                let refusal = error.as_error_resp().map_or(Refusal::Other, |response| Refusal::of(&response.message));
                debug!(nonce, %error, ?refusal, "a transaction was not taken");
                Some(refusal).filter(|refusal| *refusal != Refusal::Known)
            }
        };
        if refusal.is_none() {
            in_flight.sent = Some(Instant::now());
        }
        refusal
    }

    /// Looks at everything under way: what is final is settled, what is missing is sent again.
    async fn watch(&mut self) -> Result<(), SettlementError> {
        let head = self.chain.head().await?;
        let account = self.wallet.address();
        let next = self.chain.nonce(account, BlockId::latest()).await?;
        // Asked before the receipts: a nonce that is used up here and has no receipt afterwards went to somebody else.
        let settled = self.chain.nonce(account, BlockId::number(self.chain.config().confirmed(head.number))).await?;
        let nonces: Vec<u64> = self.pending.keys().copied().collect();
        for nonce in nonces {
            match self.receipt(nonce).await? {
                Some(receipt) => {
                    let deep =
                        receipt.block_number.is_some_and(|number| number <= self.chain.config().confirmed(head.number));
                    if deep {
                        let state = self.state_of(nonce, &receipt).await?;
                        self.finish(nonce, state).await?;
                    }
                }
                None if nonce < settled => {
                    warn!(nonce, %account, "another program used the account's nonce");
                    self.finish(nonce, TransactionState::Superseded).await?;
                }
                None if nonce >= next => self.urge(nonce, nonce == next, &head).await?,
                None => {}
            }
        }
        Ok(())
    }

    /// Sends a transaction again that is not mined, with a higher fee when it is the first in line and has waited long.
    async fn urge(&mut self, nonce: u64, first: bool, head: &Head) -> Result<(), SettlementError> {
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(()) };
        let resend_after: Duration = self.chain.config().block_time() * RESEND_BLOCKS;
        let waited = in_flight.record.attempts.last().map_or(0, |last| head.number.saturating_sub(last.made_at));
        if first && waited >= BUMP_AFTER_BLOCKS && in_flight.record.attempts.len() <= MAX_BUMPS {
            self.bump(nonce, head).await?;
        } else if in_flight.sent.is_some_and(|at| at.elapsed() < resend_after) {
            return Ok(());
        }
        if self.broadcast(nonce).await == Some(Refusal::Underpriced) {
            self.bump(nonce, head).await?;
            self.broadcast(nonce).await;
        }
        Ok(())
    }

    /// Adds a form with the same nonce and a higher fee.
    async fn bump(&mut self, nonce: u64, head: &Head) -> Result<(), SettlementError> {
        let now = self.chain.fees().await?;
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(()) };
        let Some(last) = in_flight.record.attempts.last() else { return Ok(()) };
        // pools take a replacement that pays at least a tenth more of both
        let raised = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
        let max_priority_fee_per_gas = raised(last.max_priority_fee_per_gas).max(now.max_priority_fee_per_gas);
        let max_fee_per_gas = raised(last.max_fee_per_gas).max(now.max_fee_per_gas).max(max_priority_fee_per_gas);
        let mut record = in_flight.record.clone();
        record.attempts.push(self.sign(&record, Fees { max_fee_per_gas, max_priority_fee_per_gas }, head.number)?);
        self.ledger.save(&record).await?;
        info!(purpose = %record.purpose, nonce, transaction = %record.latest_hash(), "the fee was raised");
        self.pending.insert(nonce, InFlight { record, sent: None });
        Ok(())
    }

    /// The receipt of whichever form was mined.
    async fn receipt(&self, nonce: u64) -> Result<Option<TransactionReceipt>, SettlementError> {
        let hashes: Vec<B256> =
            self.pending.get(&nonce).into_iter().flat_map(|p| p.record.attempts.iter().rev().map(|a| a.hash)).collect();
        for hash in hashes {
            if let Some(receipt) = self.chain.receipt(hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    async fn is_mined(&self, nonce: u64) -> Result<bool, SettlementError> {
        Ok(self.receipt(nonce).await?.is_some())
    }

    /// What a receipt says. The reason of a revert is no part of it, so the call is run again on the block before.
    async fn state_of(&self, nonce: u64, receipt: &TransactionReceipt) -> Result<TransactionState, SettlementError> {
        let nonsense = || self.chain.endpoints().nonsense("a receipt", "it names no block".to_owned());
        let (block_number, block_hash) =
            (receipt.block_number.ok_or_else(nonsense)?, receipt.block_hash.ok_or_else(nonsense)?);
        let transaction = receipt.transaction_hash;
        if receipt.status() {
            let (gas_used, gas_price) = (receipt.gas_used, receipt.effective_gas_price);
            return Ok(TransactionState::Confirmed(Confirmed {
                transaction,
                block_number,
                block_hash,
                gas_used,
                gas_price,
            }));
        }
        let mut data = Bytes::new();
        if let Some(InFlight { record, .. }) = self.pending.get(&nonce) {
            let call = request(self.wallet.address(), record.to, record.value, &record.data);
            let replay = self.chain.simulate(&call, BlockId::number(block_number.saturating_sub(1))).await;
            // an endpoint without old states cannot tell: the revert then has no reason
            if let Ok(Err(reason)) = replay {
                data = reason.data();
            }
        }
        Ok(TransactionState::Reverted { transaction, data })
    }

    /// Writes an outcome down and tells those who wait.
    async fn finish(&mut self, nonce: u64, state: TransactionState) -> Result<(), SettlementError> {
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(()) };
        let record = TransactionRecord { state, ..in_flight.record.clone() };
        self.ledger.save(&record).await?;
        self.pending.remove(&nonce);
        info!(purpose = %record.purpose, nonce, state = ?record.state, "transaction is final");
        self.announce.send_modify(|version| *version += 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_common_nodes_are_understood() {
        for (message, refusal) in [
            ("already known", Refusal::Known),
            ("transaction already imported", Refusal::Known),
            ("nonce too low: next nonce 5, tx nonce 4", Refusal::NonceUsed),
            ("replacement transaction underpriced", Refusal::Underpriced),
            ("insufficient funds for gas * price + value", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(message), refusal, "{message}");
        }
    }
}
