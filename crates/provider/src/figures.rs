//! What a provider counts since its start, for whoever watches over it. Counted where a rental's state changes, so that nothing is
//! counted that did not happen.

use market::{
    money::{Amount, Sums, Token},
    refusal::{Refusal, RefusalCode},
    rental::provider::{Phase, Rental},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The counts, at a moment.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Quotes signed.
    pub quotes: u64,
    /// Questions of renters refused, by reason.
    pub refused: HashMap<RefusalCode, u64>,
    /// Vouchers checked, stored and acknowledged.
    pub vouchers: u64,
    /// Times a sandbox was frozen because an increment was unpaid.
    pub freezes: u64,
    /// Milliseconds on the meters of rentals that have ended.
    pub served_millis: u64,
    /// Rentals that came to nothing by a fault of this machine.
    pub failed: u64,
    /// Rentals that the escrow has paid.
    pub closed: u64,
    /// What renters have signed for.
    pub signed: Sums,
    /// What the escrow has paid.
    pub earned: Sums,
}

/// How the provider stands now.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Rentals by phase, every phase that is not over among them.
    pub rentals: BTreeMap<&'static str, u64>,
    /// Slots that nobody has.
    pub slots_free: u64,
    /// Slots that somebody has, or is about to have.
    pub slots_taken: u64,
    /// Rentals whose money is not cashed as it should be.
    pub alarms: u64,
    /// Streams into sandboxes, and removals of sandboxes, under way.
    pub sessions: u64,
}

/// The counts, as they grow.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Counts>);

impl Figures {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts so far.
    pub(crate) fn read(&self) -> Counts {
        self.lock().clone()
    }

    /// Tokens that can be earned appear from the start, with nothing.
    pub(crate) fn expect(&self, token: &Token) {
        self.lock().signed.add(token, Amount::ZERO);
        self.lock().earned.add(token, Amount::ZERO);
    }

    /// A quote was promised.
    pub(crate) fn quoted(&self) {
        self.lock().quotes += 1;
    }

    /// A renter was refused something.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        *self.lock().refused.entry(refusal.code).or_default() += 1;
    }

    /// A rental went from one state to another.
    pub(crate) fn changed(&self, before: &Rental, after: &Rental) {
        let (mut counts, token) = (self.lock(), &after.terms.token);
        counts.vouchers += after.acks.saturating_sub(before.acks);
        counts.signed.add(token, after.covered().saturating_sub(before.covered()));
        if after.phase == Phase::Frozen && before.phase != Phase::Frozen {
            counts.freezes += 1;
        }
        if let (None, Some(stopped)) = (before.stopped_at, after.stopped_at) {
            counts.served_millis += after.served_millis(stopped);
        }
        if before.fault.is_none() && after.fault.is_some() {
            counts.failed += 1;
        }
        if let (None, Some(closing)) = (&before.closing, &after.closing) {
            counts.closed += 1;
            counts.earned.add(token, closing.paid);
        }
    }
}
