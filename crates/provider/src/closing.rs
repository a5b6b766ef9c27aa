//! Cashing vouchers: part-way, and at the end of a rental; and what the chain made of it.

use api::types::{Checks, Receipt, Role, TransactionRef};
use market::{meter::Meter, money::Amount, rental::provider::Rental, signed::SignedRelease};
use settlement::{ClosingOutcome, EscrowAccount, SettlementError, ToClose};
use store::crash_point;

/// A claim is worth its gas when it is for this many times the least deposit, which the owner set to cover about a closing: the gas is
/// then a twentieth of it at most.
const WORTH: u128 = 20;

/// From which unclaimed earnings on a part-way claim is worth its gas, by what the owner says the least deposit is. Without one nothing
/// is known of the gas, and time alone decides.
pub(crate) fn worth_claiming(min_deposit: Amount) -> Option<Amount> {
    Amount::new(min_deposit.get().saturating_mul(WORTH)).filter(|worth| *worth > Amount::ZERO)
}

/// Takes what the voucher chosen for it is good for out of the escrow: what it has paid in all after that.
pub(crate) async fn claim(account: EscrowAccount, rental: Rental) -> Result<Amount, SettlementError> {
    let Some(voucher) = rental.claiming else { return Ok(rental.claimed) };
    let confirmed = account.claim(&rental.quote.quote, &voucher).await?;
    let after = account.sender().chain().rental_at(rental.id, confirmed.block_number).await?;
    // closed in the same block: with at least what was claimed
    let claimed = after.map_or(voucher.cumulative, |after| after.claimed);
    tracing::info!(rental = %rental.id.short(), tx = %confirmed.transaction, %claimed, "claimed part-way");
    Ok(claimed)
}

/// Closes escrows with the best voucher of each: in one transaction, but for those that are `alone`. It pays both sides. Asked again, it goes
/// on waiting for the same transactions.
pub(crate) async fn close(account: EscrowAccount, together: Vec<Rental>, alone: Vec<Rental>) -> Vec<ClosingOutcome> {
    crash_point("provider", "closings", "gathered");
    let to_close = |rental: Rental| ToClose { quote: rental.quote.quote, voucher: rental.voucher };
    let [together, alone] = [together, alone].map(|rentals| rentals.into_iter().map(to_close).collect());
    let (mut outcomes, others) = tokio::join!(account.close_together(together), account.close_one_by_one(alone));
    outcomes.extend(others);
    for ClosingOutcome { id, result } in &outcomes {
        if let Ok(Some(confirmed)) = result {
            let (tx, gas) = (confirmed.transaction, confirmed.gas_used);
            tracing::info!(rental = %id.short(), %tx, gas, "the escrow is closed");
        }
    }
    outcomes
}

/// The receipt of a closed rental; `None` while the chain does not show both ends of it.
pub(crate) fn receipt(rental: &Rental, release: Option<SignedRelease>) -> Option<Receipt> {
    let (opening, closing) = (rental.opening?, rental.closing?);
    let stopped = rental.stopped_at.unwrap_or_default();
    // Whoever had heard of the start before it fell silent pays for time that was forgiven on this side, which cannot know that.
    let lasted = rental.meter().map_or(0, |meter| Meter { forgiven_millis: 0, ..meter }.served(stopped));
    let billed = rental.tariff().map_or(0, |tariff| tariff.billed_seconds(lasted));
    Some(Receipt {
        id: rental.id,
        role: Role::Provider,
        quote: rental.quote.clone(),
        terms: rental.terms.clone(),
        terms_bytes: rental.terms_bytes.clone(),
        opened: TransactionRef { tx: opening.tx, block: opening.block, time: opening.start },
        closed: TransactionRef { tx: closing.tx, block: closing.block, time: closing.time },
        ready_at: rental.ready.map(|(at, _)| at),
        stopped_at: rental.stopped_at,
        seconds: rental.quote.quote.rate.seconds_for(closing.paid).min(billed),
        frozen_seconds: u32::try_from(rental.frozen_total(stopped) / 1_000).unwrap_or(u32::MAX),
        deposit: opening.deposit,
        paid: closing.paid,
        refunded: closing.refunded,
        kind: closing.kind,
        voucher: rental.voucher,
        release,
        job: None,
        checks: Checks::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{quoted, units};
    use alloy_primitives::B256;
    use market::{
        rental::{Closing, Opening, provider::Input},
        time::UnixMillis,
    };

    #[test]
    fn a_renter_that_pays_for_forgiven_time_is_told_the_seconds_it_paid_for() {
        let (mut rental, at) = (quoted(), UnixMillis);
        let opening = Opening { deposit: units(90_000), start: 20, tx: B256::repeat_byte(0x11), block: 4 };
        rental.step(Input::Opened(opening), at(21_000)).unwrap();
        rental.step(Input::SandboxReady(rental.quote.signature), at(22_000)).unwrap();
        rental.forgiven_millis = 2_000;
        rental.step(Input::Evict, at(33_100)).unwrap();
        let seconds = |paid| {
            let mut rental = rental.clone();
            let block = (B256::repeat_byte(0x22), 9, 34);
            let (paid, refunded) = (rental.quote.quote.rate.for_seconds(paid), Amount::ZERO);
            let closing = Closing { paid, refunded, elapsed: 14, kind: 1, tx: block.0, block: block.1, time: block.2 };
            rental.step(Input::Closed(closing), at(35_000)).unwrap();
            receipt(&rental, None).unwrap().seconds
        };
        assert_eq!((seconds(12), seconds(10)), (12, 10));
    }
}
