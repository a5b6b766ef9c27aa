//! What this side can show of a rental, for an arbiter or anybody else.

use super::Supervisor;
use crate::records::Rentals;
use api::{
    evidence::{Evidence, Kept, Stop},
    types::Role,
};
use market::{
    id::RentalId,
    rental::provider::{Phase, Rental},
    time::UnixMillis,
};

impl Supervisor {
    /// Everything signed of a rental that was kept; `None` for one that is not known here.
    pub(super) async fn evidence(&self, id: RentalId) -> Option<Evidence> {
        // the one in memory has an ack that is newer than the disk's
        let rental = match self.live.get(&id) {
            Some(live) => live.rental.clone(),
            None => {
                self.store
                    .run(move |store| store.get::<Rentals>(&id))
                    .await
                    .unwrap_or_else(|error| {
                        tracing::error!(%error, "rentals cannot be read");
                        None
                    })?
                    .0
            }
        };
        Some(self.evidence_of(&rental))
    }

    fn evidence_of(&self, rental: &Rental) -> Evidence {
        let stop = rental.opening.zip(rental.stop_time);
        // a release is signed again as often as it is asked for, and is the same each time; before the end none was given
        let ended = matches!(rental.phase, Phase::Closing | Phase::Closed);
        let release = ended.then(|| self.release(rental).ok()).flatten();
        let kept = Kept {
            side: Role::Provider,
            quote: &rental.quote,
            terms: &rental.terms,
            terms_bytes: &rental.terms_bytes,
            ready: rental.ready,
            voucher: rental.voucher,
            ack: rental.last_ack.as_ref(),
            release,
            opening: rental.opening,
            // why is in the transaction: the follower tells no more than when
            stop: stop.map(|(opening, at)| Stop::new(&rental.quote, opening.start, at, None)),
            stop_tx: None,
            closing: rental.closing,
        };
        Evidence::new(kept, UnixMillis::now())
    }
}
