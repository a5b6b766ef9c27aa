//! The meter: how much was served, how much is owed for it, and when an unpaid sandbox is frozen.
//!
//! Time is billed by the second and the second that has begun counts, so the total for `m` milliseconds is the rate times
//! `ceil(m / 1000)`. A renter signs for what it was served and never ahead; a provider serves at most one billing increment τ
//! beyond what is covered. Neither can therefore lose more than one increment, whatever the other does.

use crate::{
    money::{Amount, Rate},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};

/// The agreed numbers a meter runs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tariff {
    /// The price of a second.
    pub rate: Rate,
    /// The longest the rental may last from `Ready` on, in seconds.
    pub max_seconds: u32,
    /// What is locked: nothing beyond it can be owed.
    pub deposit: Amount,
    /// The billing increment τ in milliseconds.
    pub increment_millis: u32,
}

impl Tariff {
    /// Seconds billed for `millis` of service: begun seconds count, up to the longest rental and to what the deposit pays.
    pub fn billed_seconds(&self, millis: u64) -> u32 {
        let seconds = u32::try_from(millis.div_ceil(1_000)).unwrap_or(u32::MAX);
        seconds.min(self.max_seconds).min(self.rate.seconds_for(self.deposit))
    }

    /// What `millis` of service cost.
    pub fn owed(&self, millis: u64) -> Amount {
        self.rate.for_seconds(self.billed_seconds(millis))
    }

    /// How long a voucher's total pays for, in milliseconds from `Ready`.
    pub fn covered_millis(&self, cumulative: Amount) -> u64 {
        u64::from(self.rate.seconds_for(cumulative).min(self.max_seconds)) * 1_000
    }

    /// The longest this rental can serve, in milliseconds from `Ready`.
    pub fn longest_millis(&self) -> u64 {
        u64::from(self.rate.seconds_for(self.deposit).min(self.max_seconds)) * 1_000
    }

    /// How often the renter signs: every third of an increment, so that one lost message does not freeze the sandbox.
    pub fn tick_millis(&self) -> u64 {
        u64::from(self.increment_millis / 3).max(1)
    }
}

/// What the provider should do about an unpaid meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Less than one increment is unpaid.
    Paid,
    /// A whole increment is unpaid: freeze.
    Unpaid,
    /// The deposit or the agreed time is used up: stop.
    Exhausted,
}

/// One side's running meter. Frozen time is served time: the slot stays taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// The agreed numbers.
    pub tariff: Tariff,
    /// The provider's signed start.
    pub ready_at: UnixMillis,
    /// Milliseconds since then that nobody pays for: those it stood frozen because its renter had not heard of the start yet.
    pub forgiven_millis: u64,
}

impl Meter {
    /// Milliseconds served at `now`.
    pub fn served(&self, now: UnixMillis) -> u64 {
        now.since(self.ready_at).min(self.tariff.longest_millis()).saturating_sub(self.forgiven_millis)
    }

    /// The total owed at `now`: what the renter's next voucher says.
    pub fn owed(&self, now: UnixMillis) -> Amount {
        self.tariff.owed(self.served(now))
    }

    /// How a provider that holds a voucher for `covered` stands at `now`.
    pub fn standing(&self, covered: Amount, now: UnixMillis) -> Standing {
        if now.since(self.ready_at) >= self.tariff.longest_millis() {
            return Standing::Exhausted;
        }
        let unpaid = self.served(now).saturating_sub(self.tariff.covered_millis(covered));
        if unpaid >= u64::from(self.tariff.increment_millis) { Standing::Unpaid } else { Standing::Paid }
    }

    /// When the rental ends at the latest.
    pub fn ends_at(&self) -> UnixMillis {
        self.ready_at.plus(self.tariff.longest_millis())
    }
}

/// What a provider answers to a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherFault {
    /// Lower than the one already held; the held one stays.
    #[error("the voucher is for {got}, but one for {held} is held already")]
    Lower {
        /// What it says.
        got: Amount,
        /// What is held.
        held: Amount,
    },
    /// More than the deposit could ever pay.
    #[error("the voucher is for {got}, more than the deposit of {deposit}")]
    OverDeposit {
        /// What it says.
        got: Amount,
        /// What is locked.
        deposit: Amount,
    },
    /// Not signed by the session key.
    #[error("the voucher is not signed by the rental's session key")]
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tariff(rate: u128, deposit: u128) -> Tariff {
        Tariff {
            rate: Rate::new(Amount::new(rate).unwrap()),
            max_seconds: 3_600,
            deposit: Amount::new(deposit).unwrap(),
            increment_millis: 10_000,
        }
    }

    #[test]
    fn the_second_that_has_begun_counts() {
        let t = tariff(1_000_000, 1 << 80);
        for (millis, seconds) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (3_600_000, 3_600), (u64::MAX, 3_600)] {
            assert_eq!(t.billed_seconds(millis), seconds);
        }
    }

    #[test]
    fn a_sandbox_is_frozen_when_a_whole_increment_is_unpaid() {
        let meter = Meter { tariff: tariff(1_000_000, 1 << 80), ready_at: UnixMillis(1_000), forgiven_millis: 0 };
        let at = |millis: u64| UnixMillis(1_000 + millis);
        assert_eq!(meter.standing(Amount::ZERO, at(9_999)), Standing::Paid);
        assert_eq!(meter.standing(Amount::ZERO, at(10_000)), Standing::Unpaid);
        assert_eq!(meter.standing(meter.owed(at(10_000)), at(10_000)), Standing::Paid);
        assert_eq!(meter.standing(Amount::MAX, at(3_600_000)), Standing::Exhausted);
    }

    proptest! {
        #[test]
        fn a_renter_that_signs_what_it_owes_is_never_behind(rate in 1u128..1 << 50, deposit in 0u128..1 << 90, millis in 0u64..4_000_000) {
            let meter = Meter { tariff: tariff(rate, deposit), ready_at: UnixMillis(5), forgiven_millis: 0 };
            let now = UnixMillis(5 + millis);
            prop_assert!(meter.standing(meter.owed(now), now) != Standing::Unpaid);
        }

        #[test]
        fn nothing_is_owed_beyond_the_deposit_or_ahead_of_time(rate in 1u128..1 << 50, deposit in 0u128..1 << 90, millis in 0u64..4_000_000) {
            let t = tariff(rate, deposit);
            prop_assert!(t.owed(millis) <= t.deposit);
            prop_assert!(u64::from(t.billed_seconds(millis)) * 1_000 < millis + 1_000);
        }

        #[test]
        fn an_unpaid_provider_loses_at_most_one_increment(rate in 1u128..1 << 50, covered_ms in 0u64..3_600_000, more in 0u64..1_000_000) {
            let meter = Meter { tariff: tariff(rate, 1 << 90), ready_at: UnixMillis(0), forgiven_millis: 0 };
            let covered = meter.owed(UnixMillis(covered_ms));
            let now = UnixMillis(covered_ms + more);
            if meter.standing(covered, now) == Standing::Paid {
                prop_assert!(meter.served(now) < meter.tariff.covered_millis(covered) + 10_000);
            }
        }
    }
}
