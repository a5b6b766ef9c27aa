//! What a renter counts since its start, for whoever watches over it. Counted where a rental's state changes, so that nothing is
//! counted that did not happen.

use api::types::CheckOutcome;
use market::{
    money::{Amount, Sums, Token},
    rental::renter::Rental,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The counts, at a moment.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Vouchers signed and stored.
    pub vouchers: u64,
    /// Vouchers that the provider did not acknowledge in time.
    pub missed_acks: u64,
    /// Rentals whose deposit was locked.
    pub opened: u64,
    /// Rentals that the escrow has settled.
    pub closed: u64,
    /// Checks of rented hardware, by how they ended.
    pub checks: BTreeMap<CheckOutcome, u64>,
    /// What was signed for.
    pub signed: Sums,
    /// What the escrow has paid to providers.
    pub spent: Sums,
}

/// How the renter stands now.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Rentals by phase, every phase that is not over among them.
    pub rentals: BTreeMap<&'static str, u64>,
    /// Runs going on.
    pub runs: u64,
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

    /// Tokens that can be spent appear from the start, with nothing.
    pub(crate) fn expect(&self, token: &Token) {
        self.lock().signed.add(token, Amount::ZERO);
        self.lock().spent.add(token, Amount::ZERO);
    }

    /// A check of rented hardware ended.
    pub(crate) fn checked(&self, outcome: CheckOutcome) {
        *self.lock().checks.entry(outcome).or_default() += 1;
    }

    /// A rental went from one state to another.
    pub(crate) fn changed(&self, before: &Rental, after: &Rental) {
        let (mut counts, token) = (self.lock(), &after.terms.token);
        counts.vouchers += u64::from(after.voucher != before.voucher);
        counts.signed.add(token, after.signed_total().saturating_sub(before.signed_total()));
        counts.missed_acks += u64::from(after.missed_acks.saturating_sub(before.missed_acks));
        counts.opened += u64::from(before.opening.is_none() && after.opening.is_some());
        if let (None, Some(closing)) = (&before.closing, &after.closing) {
            counts.closed += 1;
            counts.spent.add(token, closing.paid);
        }
    }
}
