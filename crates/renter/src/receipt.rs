//! The receipt of a rental, made from what the renter wrote down of it.

use crate::records::Record;
use api::types::{Receipt, Role, TransactionRef};
use market::signed::SignedRelease;

/// `None` while the chain does not show both ends of the rental.
pub(crate) fn of(record: &Record) -> Option<Receipt> {
    let rental = &record.rental;
    let (opening, closing) = (rental.opening?, rental.closing?);
    let stopped = rental.stopped_at.unwrap_or_default();
    let release: Option<SignedRelease> = rental.release;
    Some(Receipt {
        id: rental.id,
        role: Role::Renter,
        quote: rental.quote.clone(),
        terms: rental.terms.clone(),
        terms_bytes: rental.terms_bytes.clone(),
        opened: TransactionRef { tx: opening.tx, block: opening.block, time: opening.start },
        closed: TransactionRef { tx: closing.tx, block: closing.block, time: closing.time },
        ready_at: rental.ready.map(|(at, _)| at),
        stopped_at: rental.stopped_at,
        seconds: rental.quote.quote.rate.seconds_for(closing.paid).min(rental.seconds(stopped)),
        frozen_seconds: u32::try_from(record.frozen_millis / 1_000).unwrap_or(u32::MAX),
        deposit: opening.deposit,
        paid: closing.paid,
        refunded: closing.refunded,
        kind: closing.kind,
        voucher: rental.voucher,
        release,
        job: Some(record.job.summary()),
        checks: record.job.checks.clone(),
    })
}
