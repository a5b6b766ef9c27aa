//! The task behind a [`super::TransactionSender`]: it alone assigns nonces, signs, sends, watches and decides outcomes.

mod settling;
mod urging;

use super::{SenderHealth, fees, refusal::Refusal};
use crate::{
    chain::{Chain, Fees},
    error::SettlementError,
    lock::AccountLock,
    transactions::{Attempt, Call, Ledger, Place, TransactionRecord, TransactionState},
    wallet::Wallet,
};
use alloy::{
    consensus::TxEip1559,
    primitives::{B256, TxKind, U256},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use store::crash_point;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Transactions of the account under way at once: what every node's pool keeps of one account.
const MAX_PENDING: usize = 16;
/// The pause before a nonce that is news is asked for again.
const NONCE_PAUSE: Duration = Duration::from_millis(250);

/// A checked call on its way to a nonce.
pub(super) struct Submission {
    pub(super) call: Call,
    pub(super) gas_limit: u64,
    pub(super) reply: oneshot::Sender<Result<(), SettlementError>>,
}

struct InFlight {
    record: TransactionRecord,
    /// When endpoints were last given it, and took it or said why not.
    sent: Option<Instant>,
    /// How often in a row its nonce was found used for good, by another transaction.
    gone: u32,
    /// The block at which it was last said that it may not pay what blocks ask.
    alarmed: Option<u64>,
}

impl InFlight {
    const fn new(record: TransactionRecord) -> Self {
        Self { record, sent: None, gone: 0, alarmed: None }
    }
}

pub(super) struct Actor {
    /// Given up before the database is closed: whoever gets that can have the account too.
    _lock: AccountLock,
    chain: Chain,
    wallet: Wallet,
    ledger: Ledger,
    announce: watch::Sender<u64>,
    health: watch::Sender<SenderHealth>,
    /// The nonce after all that this node has ever given out, as far as it remembers.
    next_nonce: u64,
    pending: BTreeMap<u64, InFlight>,
    /// Final transactions that a reorganisation may still undo, by nonce.
    settled: BTreeMap<u64, Place>,
    /// The confirmed block for which they were looked at last.
    rechecked: Option<B256>,
    /// Since which block a nonce before our first has been missing.
    gap_since: Option<u64>,
}

impl Actor {
    /// Takes up what is on disk. The chain is not asked: it may be down.
    pub(super) async fn load(
        chain: Chain,
        wallet: Wallet,
        ledger: Ledger,
        announce: watch::Sender<u64>,
        health: watch::Sender<SenderHealth>,
    ) -> Result<Self, SettlementError> {
        let lock = AccountLock::take(chain.config().chain_id, wallet.address())?;
        let pending: BTreeMap<_, _> =
            ledger.pending().await?.into_iter().map(|record| (record.nonce, InFlight::new(record))).collect();
        let settled = ledger.settled().await?;
        let highest = pending.last_key_value().map(|(nonce, _)| nonce).max(settled.last_key_value().map(|(n, _)| n));
        let next_nonce = highest.map_or(0, |nonce| nonce + 1);
        if !pending.is_empty() {
            info!(account = %wallet.address(), count = pending.len(), "taking up transactions of an earlier run");
        }
        let (rechecked, gap_since) = (None, None);
        Ok(Self {
            _lock: lock,
            chain,
            wallet,
            ledger,
            announce,
            health,
            next_nonce,
            pending,
            settled,
            rechecked,
            gap_since,
        })
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
                    _ = tick.tick(), if !self.pending.is_empty() || !self.settled.is_empty() => self.watch().await,
                }
                let pending = self.pending.len();
                self.health.send_if_modified(|health| std::mem::replace(&mut health.pending, pending) != pending);
            }
        };
        // May end in the middle of anything: what counts is on disk, and the next start takes it up.
        tokio::select! {
            () = cancel.cancelled() => {}
            () = serve => {}
        }
    }

    /// Looks at everything under way: what is final is settled, what is missing is sent again. Neither waits for the other's success:
    /// endpoints that disagree settle nothing, and still can be given transactions.
    async fn watch(&mut self) {
        let account = self.wallet.address();
        if let Err(error) = self.settle().await {
            warn!(%account, %error, "what became of transactions could not be told; trying again");
        }
        if let Err(error) = self.urge().await {
            warn!(%account, %error, "transactions could not be looked after; trying again");
        }
    }

    /// Gives a call its nonce, writes it down, and sends it.
    #[tracing::instrument(name = "rental", skip_all, fields(id = call.purpose.rental().map(|id| tracing::field::display(id.short()))))]
    async fn accept(&mut self, call: Call, gas_limit: u64) -> Result<(), SettlementError> {
        // asked for twice at once: the other came first
        if self.ledger.find(&call.purpose).await?.is_some_and(|record| record.settles()) {
            return Ok(());
        }
        let fees = self.price().await?;
        self.check_gas(&call, fees.cost(gas_limit)).await?;
        let nonce = self.choose_nonce().await?;
        self.begin(call, gas_limit, nonce, fees).await
    }

    /// What a new transaction offers for gas.
    async fn price(&self) -> Result<Fees, SettlementError> {
        Ok(fees::first(self.chain.fees().await?, self.chain.config().max_fee_per_gas()))
    }

    /// Writes a transaction down under its nonce, and sends it.
    async fn begin(&mut self, call: Call, gas_limit: u64, nonce: u64, fees: Fees) -> Result<(), SettlementError> {
        let head = self.chain.head().await?;
        let Call { purpose, to, value, data } = call;
        let (attempts, state) = (Vec::new(), TransactionState::Pending);
        let mut record = TransactionRecord { purpose, nonce, to, value, data, gas_limit, attempts, state };
        record.attempts.push(self.sign(&record, fees, head.number)?);
        let kind = record.purpose.kind();
        crash_point("sender", kind, "signed");
        self.ledger.save(&record, None).await?;
        crash_point("sender", kind, "saved");
        self.next_nonce = self.next_nonce.max(nonce + 1);
        info!(purpose = %record.purpose, nonce, transaction = %record.latest_hash(), "transaction is on its way");
        self.pending.insert(nonce, InFlight::new(record));
        self.broadcast(nonce).await;
        crash_point("sender", kind, "broadcast");
        Ok(())
    }

    /// The nonce after all that count, all that wait, and all of ours. An endpoint that tells too low a one is outweighed by what is on
    /// disk; one that tells too high a one, by the other endpoints, or by itself when asked again; and what then is still too high is no
    /// further off than pools keep transactions waiting, so that the gap can be filled.
    async fn choose_nonce(&self) -> Result<u64, SettlementError> {
        let mut told = self.told_nonce().await?;
        if told > self.next_nonce && self.chain.endpoints().alone() {
            tokio::time::sleep(NONCE_PAUSE).await;
            told = told.min(self.told_nonce().await?);
        }
        Ok(told.max(self.next_nonce))
    }

    async fn told_nonce(&self) -> Result<u64, SettlementError> {
        let account = self.wallet.address();
        let confirmed = self.chain.confirmed_head().await?;
        let settled = self.chain.settled_nonce(account, confirmed.number).await?;
        let waiting = self.chain.waiting_nonce(account).await?;
        Ok(settled.max(waiting.min(settled.saturating_add(MAX_PENDING as u64))))
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
        let said = self.chain.endpoints().broadcast(&raw).await;
        let refusal = Refusal::of_all(&said);
        // what nobody took for an unknown reason, or nobody heard of, is offered again at the next look
        in_flight.sent = (refusal != Some(Refusal::Other)).then(Instant::now);
        if let Some(refusal) = refusal {
            debug!(nonce, ?refusal, ?said, "a transaction was not taken");
        }
        refusal
    }
}
