//! What a transaction may pay for gas: today's price, more when it waits, and never more than the configuration allows.

use crate::{chain::Fees, transactions::Attempt};

/// How often a fee is raised although blocks do not ask for more than it pays: 12.5 % each makes about eight times the first.
const MAX_BUMPS: usize = 18;
/// Forms that a transaction may have at most: prices may become a thousand times the first before they are spent.
const MAX_ATTEMPTS: usize = 64;

/// What to do about the fee of a transaction that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raise {
    /// Send a form with this fee.
    To(Fees),
    /// It pays what blocks ask, and was raised often enough: the fee is not what it waits for.
    Enough,
    /// Blocks ask for more than may be paid.
    Capped,
}

/// The price of a new transaction.
pub(super) fn first(now: Fees, cap: u128) -> Fees {
    capped(now, cap)
}

/// The price of the next form of one whose forms so far are `attempts`.
pub(super) fn raise(attempts: &[Attempt], now: Fees, cap: u128) -> Raise {
    let Some(last) = attempts.last() else { return Raise::To(first(now, cap)) };
    let asked = now.max_fee_per_gas > last.max_fee_per_gas;
    // pools take a replacement that pays at least a tenth more of both
    let raised = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
    let least = Fees {
        max_fee_per_gas: raised(last.max_fee_per_gas),
        max_priority_fee_per_gas: raised(last.max_priority_fee_per_gas),
    };
    if least.max_fee_per_gas > cap || least.max_priority_fee_per_gas > cap || attempts.len() >= MAX_ATTEMPTS {
        return if asked { Raise::Capped } else { Raise::Enough };
    }
    if !asked && attempts.len() > MAX_BUMPS {
        return Raise::Enough;
    }
    let max_priority_fee_per_gas = least.max_priority_fee_per_gas.max(now.max_priority_fee_per_gas);
    let max_fee_per_gas = least.max_fee_per_gas.max(now.max_fee_per_gas).max(max_priority_fee_per_gas);
    Raise::To(capped(Fees { max_fee_per_gas, max_priority_fee_per_gas }, cap))
}

fn capped(fees: Fees, cap: u128) -> Fees {
    let max_fee_per_gas = fees.max_fee_per_gas.min(cap);
    Fees { max_fee_per_gas, max_priority_fee_per_gas: fees.max_priority_fee_per_gas.min(max_fee_per_gas) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn fees(max_fee_per_gas: u128, max_priority_fee_per_gas: u128) -> Fees {
        Fees { max_fee_per_gas, max_priority_fee_per_gas }
    }

    fn attempt(fees: Fees) -> Attempt {
        let Fees { max_fee_per_gas, max_priority_fee_per_gas } = fees;
        Attempt {
            hash: Default::default(),
            raw: Default::default(),
            max_fee_per_gas,
            max_priority_fee_per_gas,
            made_at: 0,
        }
    }

    #[test]
    fn a_spike_is_met_in_one_step() {
        let attempts = [attempt(fees(100, 10))];
        assert_eq!(raise(&attempts, fees(1_000, 20), 10_000), Raise::To(fees(1_000, 20)));
        // and a replacement is what pools take as one, even when prices have not moved
        assert_eq!(raise(&attempts, fees(90, 10), 10_000), Raise::To(fees(113, 12)));
    }

    #[test]
    fn no_form_pays_more_than_allowed() {
        assert_eq!(first(fees(5_000, 4_000), 1_000), fees(1_000, 1_000));
        assert_eq!(raise(&[attempt(fees(500, 10))], fees(5_000, 20), 1_000), Raise::To(fees(1_000, 20)));
        assert_eq!(raise(&[attempt(fees(1_000, 20))], fees(5_000, 20), 1_000), Raise::Capped);
        assert_eq!(raise(&[attempt(fees(1_000, 20))], fees(900, 20), 1_000), Raise::Enough);
    }

    #[test]
    fn raising_ends_when_the_fee_is_not_the_reason() {
        let (now, mut attempts) = (fees(100, 10), vec![attempt(fees(100, 10))]);
        while let Raise::To(fees) = raise(&attempts, now, u128::MAX) {
            attempts.push(attempt(fees));
        }
        assert_eq!(attempts.len(), MAX_BUMPS + 1);
        assert_eq!(raise(&attempts, now, u128::MAX), Raise::Enough);
        // prices that move are still followed
        assert!(matches!(raise(&attempts, fees(100_000, 10), u128::MAX), Raise::To(_)));
    }

    #[test]
    fn the_forms_of_a_transaction_are_bounded() {
        let mut attempts = vec![attempt(fees(100, 10))];
        while let Raise::To(fees) = raise(&attempts, fees(u128::MAX / 4, 10), u128::MAX / 2) {
            attempts.push(attempt(Fees { max_fee_per_gas: attempts.len() as u128, ..fees }));
        }
        assert_eq!(attempts.len(), MAX_ATTEMPTS);
    }
}
