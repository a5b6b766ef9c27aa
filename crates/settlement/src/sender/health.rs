//! How sending goes, for whoever watches over it.

use crate::transactions::{Purpose, TransactionState};
use std::collections::BTreeMap;

/// What can become of a transaction.
const OUTCOMES: [&str; 3] = ["confirmed", "reverted", "superseded"];

/// Counts since the start of the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderHealth {
    /// Transactions that are not final, now.
    pub pending: usize,
    /// How often one was sent again.
    pub resent: u64,
    /// How often a fee was raised.
    pub raised: u64,
    /// How often it was found that blocks ask for more than `max_fee_gwei` allows.
    pub capped: u64,
    /// How many nonces another program took.
    pub superseded: u64,
    /// How many final transactions a reorganisation undid.
    pub undone: u64,
    /// How many nonces had to be filled.
    pub filled: u64,
    /// Transactions that became final, by what they were for and what became of them.
    pub finished: BTreeMap<(&'static str, &'static str), u64>,
    /// Gas used by those that were confirmed.
    pub gas: u64,
}

impl Default for SenderHealth {
    /// Everything that can be counted appears from the start, so that the first event is seen as a change.
    fn default() -> Self {
        let kinds = Purpose::KINDS.into_iter().flat_map(|kind| OUTCOMES.map(|outcome| ((kind, outcome), 0)));
        Self {
            pending: 0,
            resent: 0,
            raised: 0,
            capped: 0,
            superseded: 0,
            undone: 0,
            filled: 0,
            finished: kinds.collect(),
            gas: 0,
        }
    }
}

impl SenderHealth {
    /// A transaction has its outcome.
    pub(super) fn finish(&mut self, purpose: &Purpose, state: &TransactionState) {
        let outcome = match state {
            TransactionState::Pending => return,
            TransactionState::Confirmed(_) => OUTCOMES[0],
            TransactionState::Reverted { .. } => OUTCOMES[1],
            TransactionState::Superseded => OUTCOMES[2],
        };
        *self.finished.entry((purpose.kind(), outcome)).or_default() += 1;
        if let TransactionState::Confirmed(confirmed) = state {
            self.gas = self.gas.saturating_add(confirmed.gas_used);
        }
    }
}
