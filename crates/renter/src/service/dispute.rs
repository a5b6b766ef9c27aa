//! Disputes as the rest of the node sees them: whether a rental can be disputed, the order, how it stands; and the evidence of any rental.

use super::{Renter, lock, row, store_error};
use crate::{
    driver::NotDisputed,
    records::{Receipts, Record, Rentals},
};
use alloy_primitives::B256;
use api::{
    evidence::{Evidence, Kept, Stop},
    types::{ApiError, Dispute, DisputeRequest, ErrorKind, Receipt, Role, closing_words},
};
use market::{dispute::Deadlines, id::RentalId, rental::renter::Rental, time::UnixMillis};
use settlement::Purpose;
use std::time::Duration;
use store::Store;

/// How often, and after what pause, a stop that the chain shows is looked for among the confirmed transactions: five seconds in all.
const STOP_LOOKS: usize = 50;
const STOP_PAUSE: Duration = Duration::from_millis(100);

impl Renter {
    /// Whether a rental is, or was, one of this renter's.
    pub async fn knows(&self, id: RentalId) -> Result<bool, ApiError> {
        let known = self.context.parts.store.run(move |store| store.contains::<Rentals>(&id)).await;
        known.map_err(store_error)
    }

    /// Everything signed of a rental that this side has kept, if it is one of its own.
    pub async fn evidence(&self, id: RentalId) -> Result<Option<Evidence>, ApiError> {
        let Some((record, _)) = self.kept(id).await? else { return Ok(None) };
        let rental = &record.rental;
        let stop = rental
            .opening
            .zip(rental.stop_time)
            .map(|(opening, at)| Stop::new(&rental.quote, opening.start, at, Some(rental.stop_reason)));
        let kept = Kept {
            side: Role::Renter,
            quote: &rental.quote,
            terms: &rental.terms,
            terms_bytes: &rental.terms_bytes,
            ready: rental.ready,
            voucher: rental.voucher,
            ack: record.last_ack.as_ref(),
            release: rental.release,
            opening: rental.opening,
            stop,
            stop_tx: if stop.is_some() { self.stop_transaction(rental).await } else { None },
            closing: rental.closing,
        };
        Ok(Some(Evidence::new(kept, UnixMillis::now())))
    }

    /// How the dispute of a rental of this renter stands; an error that says why for one that cannot be disputed.
    pub async fn dispute(&self, id: RentalId) -> Result<Dispute, ApiError> {
        let (record, receipt) = self.kept(id).await?.ok_or_else(|| not_ours(id))?;
        let row = row(&record, UnixMillis::now());
        let rental = &record.rental;
        let arbiter = disputable(rental)?;
        let stopped = rental.opening.zip(rental.stop_time);
        Ok(Dispute {
            rental: row,
            arbiter,
            ordered_at: rental.disputed_at,
            reason: rental.stop_reason,
            stopped_at: rental.stop_time,
            deadlines: stopped.map(|(opening, at)| Deadlines::of(&rental.quote.quote, opening.start, at)),
            receipt,
        })
    }

    /// Stops a rental on chain for its arbiter to rule on. The order is on disk when this returns; given again it changes nothing.
    pub async fn order_dispute(&self, id: RentalId, request: DisputeRequest) -> Result<Dispute, ApiError> {
        let (record, _) = self.kept(id).await?.ok_or_else(|| not_ours(id))?;
        disputable(&record.rental)?;
        if record.rental.disputed_at.is_none() {
            let driver = lock(&self.registry).drivers.get(&id).cloned();
            let driver = driver.ok_or_else(|| {
                let next = "is its chain configured? see the daemon's log";
                ApiError::new(ErrorKind::Failed, format!("nobody looks after rental {}", id.short()), next)
            })?;
            driver.dispute(request.reason).await.map_err(|error| not_disputed(id, &error))?;
        }
        self.dispute(id).await
    }

    /// What is on disk of a rental.
    async fn kept(&self, id: RentalId) -> Result<Option<(Record, Option<Receipt>)>, ApiError> {
        let read = move |store: &Store| {
            let Some(record) = store.get::<Rentals>(&id)? else { return Ok(None) };
            Ok(Some((record.0, store.get::<Receipts>(&id)?.map(|receipt| receipt.0))))
        };
        self.context.parts.store.run(read).await.map_err(store_error)
    }

    /// This node's own transaction that stopped the rental, and its block. The chain may show the stop a moment before the transaction counts
    /// as confirmed: that is waited for.
    async fn stop_transaction(&self, rental: &Rental) -> Option<(B256, u64)> {
        let accounts = &self.context.parts.accounts;
        let account = accounts.iter().find(|account| account.sender().chain().escrow() == rental.quote.escrow)?;
        for _ in 0..STOP_LOOKS {
            let sent = account.sender().record(&Purpose::Stop(rental.id)).await.ok()??;
            if let Some(outcome) = sent.outcome() {
                return outcome.ok().map(|confirmed| (confirmed.transaction, confirmed.block_number));
            }
            tokio::time::sleep(STOP_PAUSE).await;
        }
        None
    }
}

/// Who may rule on the rental, if it can be disputed or is.
fn disputable(rental: &Rental) -> Result<alloy_primitives::Address, ApiError> {
    let no = |message: String, next: String| Err(ApiError::new(ErrorKind::Usage, message, next));
    let id = rental.id.short();
    let Some(arbiter) = rental.quote.quote.named_arbiter() else {
        let next = format!(
            "end it with `node stop {id}`; when the provider does not answer that, the daemon stops it on chain and gets back what was \
             not signed for"
        );
        return no(format!("rental {id} has no arbiter: its quote names none, so nobody could rule"), next);
    };
    if rental.disputed_at.is_some() {
        return Ok(arbiter);
    }
    match (&rental.closing, rental.phase.is_over(), rental.opening) {
        (Some(closing), ..) => {
            let next = format!("what it cost: node receipts {id}; what was signed: node dispute {id} --export");
            no(format!("rental {id} is over: it was closed {}", closing_words(closing.kind)), next)
        }
        (None, true, _) => no(format!("rental {id} was never opened"), "nothing was locked".to_owned()),
        (None, false, None) => {
            let next = format!("wait until it is open, or give it up: node stop {id}");
            no(format!("rental {id} is not open yet: nothing is locked"), next)
        }
        (None, false, Some(_)) => Ok(arbiter),
    }
}

fn not_ours(id: RentalId) -> ApiError {
    ApiError::new(
        ErrorKind::NoMatch,
        format!("this node is not the renter of {}", id.short()),
        "see its rentals: node ps --all",
    )
}

fn not_disputed(id: RentalId, error: &NotDisputed) -> ApiError {
    let kind = if matches!(error, NotDisputed::Step(_)) { ErrorKind::Usage } else { ErrorKind::Failed };
    let message = format!("rental {} cannot be disputed: {error}", id.short());
    ApiError::new(kind, message, format!("see how it stands: node show {}", id.short()))
}
