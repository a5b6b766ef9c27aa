//! The end of a rental: cash the best voucher, and write down what the chain made of it.

use api::types::{Receipt, Role, TransactionRef};
use market::{rental::provider::Rental, signed::SignedRelease};
use settlement::{EscrowAccount, SettlementError};

/// Closes the escrow with the best voucher. One transaction pays both sides; asked again, it goes on waiting for the same one.
pub(crate) async fn close(account: EscrowAccount, rental: Rental) -> Result<(), SettlementError> {
    let confirmed = account.close(&rental.quote.quote, rental.voucher.as_ref()).await?;
    tracing::info!(rental = %rental.id.short(), tx = %confirmed.transaction, gas = confirmed.gas_used, "the escrow is closed");
    Ok(())
}

/// The receipt of a closed rental; `None` while the chain does not show both ends of it.
pub(crate) fn receipt(rental: &Rental, release: Option<SignedRelease>) -> Option<Receipt> {
    let (opening, closing) = (rental.opening?, rental.closing?);
    let stopped = rental.stopped_at.unwrap_or_default();
    let billed = rental.tariff().map_or(0, |tariff| tariff.billed_seconds(rental.served_millis(stopped)));
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
    })
}
