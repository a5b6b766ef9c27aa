//! Getting transactions mined: sent again when endpoints forget them, dearer when blocks ask for more, and with the nonces before them
//! used up when nothing else uses those.

use super::{Actor, InFlight, MAX_PENDING};
use crate::{
    chain::Head,
    error::SettlementError,
    sender::{
        fees::{self, Raise},
        refusal::Refusal,
    },
    transactions::{Call, Purpose},
};
use alloy::{
    eips::BlockId,
    primitives::{Bytes, U256},
};
use std::time::Duration;
use tracing::{error, info, warn};

/// Blocks that a transaction may wait before its fee is raised.
const BUMP_AFTER_BLOCKS: u64 = 5;
/// Block times between two sendings of the same transaction, which makes up for endpoints that forget.
const RESEND_BLOCKS: u32 = 5;
/// Blocks between two alarms about a fee that may not be raised any further.
const ALARM_BLOCKS: u64 = 50;
/// Blocks that a nonce may be missing before it is filled: what another program had sent with it would have been mined by then.
const GAP_BLOCKS: u64 = 10;
/// More nonces than this are not filled, since each costs gas: only a single endpoint that lies for long can make such a gap.
const MAX_GAP: u64 = 64;
/// The gas of a transaction that does nothing.
const GAS_TO_FILL: u64 = 21_000;

impl Actor {
    /// Looks after everything that is not mined.
    pub(super) async fn urge(&mut self) -> Result<(), SettlementError> {
        if self.pending.is_empty() {
            self.gap_since = None;
            return Ok(());
        }
        let head = self.chain.head().await?;
        let next = self.chain.nonce(self.wallet.address(), BlockId::latest()).await?;
        let waiting: Vec<u64> = self.pending.range(next..).map(|(nonce, _)| *nonce).collect();
        let mut outcome = Ok(());
        for nonce in waiting {
            outcome = self.push(nonce, nonce == next, &head).await.and(outcome);
        }
        self.fill_gap(next, &head).await.and(outcome)
    }

    /// Sends a transaction again, with a higher fee when it is the first in line and has waited long.
    async fn push(&mut self, nonce: u64, first: bool, head: &Head) -> Result<(), SettlementError> {
        let Some(in_flight) = self.pending.get(&nonce) else { return Ok(()) };
        let resend_after: Duration = self.chain.config().block_time() * RESEND_BLOCKS;
        let waited = in_flight.record.attempts.last().map_or(0, |last| head.number.saturating_sub(last.made_at));
        let raised = first && waited >= BUMP_AFTER_BLOCKS && self.bump(nonce, head).await?;
        let recently = self.pending.get(&nonce).and_then(|p| p.sent).is_some_and(|at| at.elapsed() < resend_after);
        if recently && !raised {
            return Ok(());
        }
        self.health.send_modify(|health| health.resent += 1);
        // once a block: an endpoint that finds every fee too low does not drive it up by itself
        if self.broadcast(nonce).await == Some(Refusal::Underpriced) && waited > 0 && self.bump(nonce, head).await? {
            self.broadcast(nonce).await;
        }
        Ok(())
    }

    /// Adds a form with the same nonce and a higher fee, if one is due and may be paid.
    async fn bump(&mut self, nonce: u64, head: &Head) -> Result<bool, SettlementError> {
        let now = self.chain.fees().await?;
        let cap = self.chain.config().max_fee_per_gas();
        let Some(in_flight) = self.pending.get_mut(&nonce) else { return Ok(false) };
        let fees = match fees::raise(&in_flight.record.attempts, now, cap) {
            Raise::To(fees) => fees,
            Raise::Enough => return Ok(false),
            Raise::Capped => {
                if in_flight.alarmed.is_none_or(|at| head.number >= at.saturating_add(ALARM_BLOCKS)) {
                    in_flight.alarmed = Some(head.number);
                    let (purpose, asked) = (&in_flight.record.purpose, now.max_fee_per_gas);
                    error!(
                        %purpose, nonce, asked, cap,
                        "gas costs more than `max_fee_gwei` allows: the transaction waits; raise it, or wait for gas to become cheaper"
                    );
                    self.health.send_modify(|health| health.capped += 1);
                }
                return Ok(false);
            }
        };
        let mut record = in_flight.record.clone();
        record.attempts.push(self.sign(&record, fees, head.number)?);
        self.ledger.save(&record, None).await?;
        info!(purpose = %record.purpose, nonce, transaction = %record.latest_hash(), "the fee was raised");
        self.pending.insert(nonce, InFlight::new(record));
        self.health.send_modify(|health| health.raised += 1);
        Ok(true)
    }

    /// Uses up the nonces that nothing uses, and that keep ours from being mined: an endpoint told too high a one, or lost what another
    /// program had sent, or the chain went back further than is watched.
    async fn fill_gap(&mut self, next: u64, head: &Head) -> Result<(), SettlementError> {
        let last = self.pending.last_key_value().map_or(next, |(nonce, _)| *nonce);
        let used = |nonce: &u64| self.pending.contains_key(nonce) || self.settled.contains_key(nonce);
        let first_missing = (next..last).take(MAX_PENDING * 2).find(|nonce| !used(nonce));
        let Some(first_missing) = first_missing else {
            self.gap_since = None;
            return Ok(());
        };
        if head.number < self.gap_since.get_or_insert(head.number).saturating_add(GAP_BLOCKS) {
            return Ok(());
        }
        let after = self.pending.range(first_missing..).next().map_or(last, |(nonce, _)| *nonce);
        let size = after - first_missing;
        if size > MAX_GAP {
            self.gap_since = Some(head.number);
            error!(
                first_missing,
                size, "the account's transactions wait for nonces that nothing uses: send that many from it"
            );
            return Ok(());
        }
        warn!(first_missing, size, "nonces that nothing uses hold up the account's transactions; they are filled");
        let fees = self.price().await?;
        for nonce in (first_missing..after).take(MAX_PENDING) {
            let (to, data) = (self.wallet.address(), Bytes::new());
            let call = Call { purpose: Purpose::Fill(nonce), to, value: U256::ZERO, data };
            self.begin(call, GAS_TO_FILL, nonce, fees).await?;
            self.health.send_modify(|health| health.filled += 1);
        }
        Ok(())
    }
}
