//! The transaction sender of one side: a purpose is on disk with its nonce before it is sent, and is sent again until it is final.

use crate::{
    bugs::Bug,
    chain::{Account, Call, Purpose, Revert, Transaction},
    node::{Crashed, Fuse},
    plan::Side,
    world::{Event, Shared},
};
use alloy_primitives::{B256, U256};
use market::id::RentalId;

/// How long a transaction may be missing before it is sent again.
const RESEND: u64 = 10_000;

/// What is on disk of a transaction.
struct Record {
    transaction: Transaction,
    /// Whether it went through, once that is final.
    outcome: Option<bool>,
    sent_at: u64,
}

/// See the module.
pub(crate) struct Sender {
    side: Side,
    disk: Vec<Record>,
    /// Records that are in memory only: empty without the bug that puts them there.
    unwritten: usize,
    /// The nonce after the last one given.
    next_nonce: u64,
}

impl Sender {
    pub(crate) const fn new(side: Side) -> Self {
        Self { side, disk: Vec::new(), unwritten: 0, next_nonce: 0 }
    }

    /// Forgets what a crash forgets.
    pub(crate) fn crash(&mut self) {
        self.disk.truncate(self.disk.len() - self.unwritten);
        self.unwritten = 0;
        self.next_nonce = self.disk.iter().map(|record| record.transaction.nonce + 1).max().unwrap_or(0);
    }

    /// What became of a purpose.
    pub(crate) fn outcome(&self, id: RentalId, purpose: Purpose) -> Option<bool> {
        let of = |record: &&Record| record.transaction.id == id && record.transaction.purpose == purpose;
        self.disk.iter().rev().find(of).and_then(|record| record.outcome)
    }

    /// Sends a call, unless its purpose is served already or it would not go through.
    pub(crate) fn submit(
        &mut self,
        s: &mut Shared,
        fuse: &mut Fuse,
        id: RentalId,
        purpose: Purpose,
        call: Call,
    ) -> Result<Result<(), Revert>, Crashed> {
        let settles = |record: &Record| {
            record.transaction.id == id && record.transaction.purpose == purpose && record.outcome != Some(false)
        };
        if self.disk.iter().any(settles) {
            return Ok(Ok(()));
        }
        let from = Account::Of(self.side);
        if let Err(revert) = s.chain.simulate(from, id, &call, s.now / 1_000) {
            return Ok(Err(revert));
        }
        let nonce = self.next_nonce.max(s.chain.pending_nonce(from));
        let hash = s.next_hash();
        let transaction = Transaction { from, nonce, id, purpose, call, hash };
        fuse.point()?;
        self.next_nonce = nonce + 1;
        self.disk.push(Record { transaction: transaction.clone(), outcome: None, sent_at: s.now });
        if s.plan.has(Bug::PurposeNotStored) {
            self.unwritten += 1;
        }
        fuse.point()?;
        s.note(|| format!("{:?} sends {purpose:?} with nonce {nonce}", self.side));
        broadcast(s, transaction);
        Ok(Ok(()))
    }

    /// Looks after everything under way.
    pub(crate) fn watch(&mut self, s: &mut Shared) {
        let mut again = Vec::new();
        for record in &mut self.disk {
            match s.chain.receipt(record.transaction.hash) {
                Some((block, success)) if block <= s.chain.confirmed() => record.outcome = Some(success),
                Some(_) => {}
                // the chain went back
                None if record.outcome.is_some() => record.outcome = None,
                None if s.now >= record.sent_at + RESEND => {
                    record.sent_at = s.now;
                    if s.plan.has(Bug::NonceNotPinned) {
                        record.transaction.nonce = self.next_nonce.max(s.chain.pending_nonce(record.transaction.from));
                        record.transaction.hash = s.next_hash();
                        self.next_nonce = record.transaction.nonce + 1;
                    }
                    again.push(record.transaction.clone());
                }
                None => {}
            }
        }
        for transaction in again {
            broadcast(s, transaction);
        }
    }
}

fn broadcast(s: &mut Shared, transaction: Transaction) {
    let delay = s.random.range(20, 1_500);
    // an endpoint may take a transaction and forget it
    if s.calm() || !s.random.percent(10) {
        s.later(delay, Event::Offered(Box::new(transaction)));
    }
}

/// A hash that no other transaction has.
pub(crate) fn numbered(number: u64) -> B256 {
    U256::from(number).into()
}
