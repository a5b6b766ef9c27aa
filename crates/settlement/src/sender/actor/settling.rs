//! What became of transactions: decided by the block at the confirmation depth, and looked at again while the chain may go back on it.

use super::{Actor, InFlight};
use crate::{
    chain::{Head, Mined, request},
    error::SettlementError,
    follower::REORG_DEPTH,
    transactions::{Confirmed, Place, TransactionRecord, TransactionState},
};
use alloy::{
    eips::BlockId,
    primitives::{B256, Bytes},
};
use std::collections::BTreeMap;
use store::crash_point;
use tracing::{info, info_span, warn};

/// How many looks in a row must find a nonce used by another transaction: an endpoint that errs once decides nothing.
const LOOKS: u32 = 3;

impl Actor {
    /// Decides what the newest block that counts decides.
    pub(super) async fn settle(&mut self) -> Result<(), SettlementError> {
        let head = self.chain.confirmed_head().await?;
        let confirmed = head.number;
        let mut outcome = self.recheck(&head).await;
        if self.pending.is_empty() {
            return outcome;
        }
        // Asked before the receipts: a nonce that is used up here and has no receipt afterwards went to somebody else.
        let next = self.chain.settled_nonce(self.wallet.address(), confirmed).await?;
        let used: Vec<u64> = self.pending.range(..next).map(|(nonce, _)| *nonce).collect();
        for nonce in used {
            // one that cannot be told does not hold up the others
            outcome = self.decide(nonce, confirmed).await.and(outcome);
        }
        outcome
    }

    /// What became of a transaction whose nonce is used for good.
    async fn decide(&mut self, nonce: u64, confirmed: u64) -> Result<(), SettlementError> {
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(()) };
        let found = self.find_mined(&in_flight.record).await?;
        let Some(in_flight) = self.pending.get_mut(&nonce) else { return Ok(()) };
        match found {
            Some((transaction, mined)) if mined.block <= confirmed => {
                let place = self.place(nonce, &mined).await?;
                let state = self.state_of(nonce, transaction, &mined).await;
                self.finish(nonce, state, place).await
            }
            Some(_) => {
                in_flight.gone = 0;
                Ok(())
            }
            None => {
                in_flight.gone += 1;
                if in_flight.gone < LOOKS {
                    return Ok(());
                }
                warn!(nonce, account = %self.wallet.address(), "another program used the account's nonce");
                self.health.send_modify(|health| health.superseded += 1);
                self.finish(nonce, TransactionState::Superseded, None).await
            }
        }
    }

    /// Whichever form of a transaction was mined.
    async fn find_mined(&self, record: &TransactionRecord) -> Result<Option<(B256, Mined)>, SettlementError> {
        for attempt in record.attempts.iter().rev() {
            if let Some(mined) = self.chain.mined(attempt.hash).await? {
                return Ok(Some((attempt.hash, mined)));
            }
        }
        Ok(None)
    }

    /// Where a mined transaction stands, after a look whether that block is the chain's.
    async fn place(&self, nonce: u64, mined: &Mined) -> Result<Option<Place>, SettlementError> {
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(None) };
        let block = self.chain.block_at(mined.block).await?;
        if block.is_none_or(|block| block.hash != mined.block_hash) {
            let why = format!("it names block {} with a hash that the chain does not have", mined.block);
            return Err(self.chain.endpoints().nonsense("a receipt", why));
        }
        let purpose = in_flight.record.purpose.to_string();
        Ok(Some(Place { purpose, block: mined.block, block_hash: mined.block_hash }))
    }

    /// What a receipt says. The reason of a revert is no part of it, so the call is run again on the block before.
    async fn state_of(&self, nonce: u64, transaction: B256, mined: &Mined) -> TransactionState {
        let Mined { block: block_number, block_hash, succeeded, gas_used, gas_price } = *mined;
        if succeeded {
            return TransactionState::Confirmed(Confirmed {
                transaction,
                block_number,
                block_hash,
                gas_used,
                gas_price,
            });
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
        TransactionState::Reverted { transaction, data }
    }

    /// Writes an outcome down and tells those who wait.
    async fn finish(
        &mut self,
        nonce: u64,
        state: TransactionState,
        place: Option<Place>,
    ) -> Result<(), SettlementError> {
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(()) };
        let record = TransactionRecord { state, ..in_flight.record.clone() };
        crash_point("sender", record.purpose.kind(), "mined");
        self.ledger.save(&record, place.as_ref()).await?;
        crash_point("sender", record.purpose.kind(), "settled");
        self.pending.remove(&nonce);
        self.settled.extend(place.map(|place| (nonce, place)));
        let about = info_span!("rental", id = record.purpose.rental().map(|id| tracing::field::display(id.short())));
        about.in_scope(|| info!(purpose = %record.purpose, nonce, state = ?record.state, "transaction is final"));
        self.health.send_modify(|health| health.finish(&record.purpose, &record.state));
        self.announce.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Looks, once for each new block, whether the blocks that made transactions final are still the chain's.
    async fn recheck(&mut self, confirmed: &Head) -> Result<(), SettlementError> {
        if self.settled.is_empty() || self.rechecked == Some(confirmed.hash) {
            return Ok(());
        }
        self.forget_deep(confirmed.number).await?;
        let mut blocks: BTreeMap<u64, Option<B256>> = BTreeMap::new();
        let settled: Vec<(u64, Place)> = self.settled.iter().map(|(nonce, place)| (*nonce, place.clone())).collect();
        for (nonce, place) in settled {
            let hash = match blocks.get(&place.block) {
                Some(hash) => *hash,
                None => {
                    let hash = self.chain.block_at(place.block).await?.map(|block| block.hash);
                    blocks.insert(place.block, hash);
                    hash
                }
            };
            if hash != Some(place.block_hash) {
                self.bring_back(nonce, &place).await?;
            }
        }
        self.rechecked = Some(confirmed.hash);
        Ok(())
    }

    /// A transaction was final in a block that is no longer the chain's: it is under way again, until a block of the chain as it is now
    /// decides.
    async fn bring_back(&mut self, nonce: u64, place: &Place) -> Result<(), SettlementError> {
        if let Some(record) = self.ledger.settled_at(nonce, place).await? {
            let record = TransactionRecord { state: TransactionState::Pending, ..record };
            warn!(
                purpose = %record.purpose, nonce, block = place.block,
                "the chain went back on a transaction that was final; it is sent again"
            );
            self.ledger.save(&record, None).await?;
            self.pending.insert(nonce, InFlight::new(record));
            self.health.send_modify(|health| health.undone += 1);
            self.announce.send_modify(|version| *version += 1);
        }
        self.settled.remove(&nonce);
        Ok(())
    }

    /// Stops watching what lies too deep to be undone. On disk the highest nonce stays: it is the least that the next one must be.
    async fn forget_deep(&mut self, confirmed: u64) -> Result<(), SettlementError> {
        let deep = |place: &Place| place.block.saturating_add(REORG_DEPTH) <= confirmed;
        let nonces: Vec<u64> = self.settled.iter().filter(|(_, place)| deep(place)).map(|(nonce, _)| *nonce).collect();
        if nonces.is_empty() {
            return Ok(());
        }
        let highest = self.settled.last_key_value().map(|(nonce, _)| *nonce);
        self.ledger.forget(nonces.iter().copied().filter(|nonce| Some(*nonce) != highest).collect()).await?;
        self.settled.retain(|_, place| !deep(place));
        Ok(())
    }
}
