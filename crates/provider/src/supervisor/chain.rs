//! The chain's side of a rental: what its followers tell, claims under way, and the alarm when money is not cashed in time. Closings are in
//! [`super::closings`].

use super::{Done, Live, Settling, Supervisor, span};
use crate::{
    closing,
    records::{Receipts, Rentals},
};
use market::{
    id::RentalId,
    money::Amount,
    rental::provider::{Input, Rental},
    time::UnixMillis,
};
use settlement::{ChainEvent, SettlementError};
use store::{Json, crash_point};
use tracing::Instrument;

/// The newest block that a chain's follower told of.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    block_time: u64,
    at: UnixMillis,
}

impl Heard {
    /// The chain's time now, in Unix seconds: what the newest block said, and what has passed since. A chain that cannot be asked does
    /// not stop its deadlines.
    fn time(self, now: UnixMillis) -> u64 {
        self.block_time + now.since(self.at) / 1_000
    }
}

impl Supervisor {
    pub(super) async fn chain_event(&mut self, chain: usize, event: ChainEvent) {
        let now = UnixMillis::now();
        match event {
            ChainEvent::Opened { id, opening } => {
                tracing::info!(rental = %id.short(), tx = %opening.tx, "opened on chain");
                self.happened(id, Input::Opened(opening), now).await;
            }
            ChainEvent::OpeningUndone { id } => self.happened(id, Input::OpeningUndone, now).await,
            ChainEvent::Stopping { id, stop_at } => {
                tracing::info!(rental = %id.short(), "the renter stopped the rental on chain");
                self.happened(id, Input::StoppedOnChain(u64::from(stop_at)), now).await;
            }
            ChainEvent::Closed { id, closing } => self.happened(id, Input::Closed(closing), now).await,
            ChainEvent::ClosingUndone { id } => self.happened(id, Input::ClosingUndone, now).await,
            ChainEvent::Settled { id } => drop(self.live.remove(&id)),
            ChainEvent::Head { timestamp, .. } => {
                if let Some(settling) = self.chains.get_mut(chain) {
                    settling.heard = Some(Heard { block_time: timestamp, at: now });
                }
                for id in self.rentals_on(chain) {
                    self.happened(id, Input::BlockTime(timestamp), now).await;
                }
            }
        }
    }

    pub(super) fn rentals_on(&self, chain: usize) -> Vec<RentalId> {
        let escrow = self.chains.get(chain).map(|settling| settling.account.sender().chain().escrow());
        let here = self.live.values().map(|live| &live.rental).filter(|rental| Some(rental.quote.escrow) == escrow);
        here.filter(|rental| !rental.phase.is_over()).map(|rental| rental.id).collect()
    }

    pub(super) fn settling(&self, rental: &Rental) -> Option<&Settling> {
        self.chains.iter().find(|settling| settling.account.sender().chain().escrow() == rental.quote.escrow)
    }

    pub(super) fn claim(&mut self, id: RentalId) {
        let Some(rental) = self.live.get(&id).filter(|live| !live.claiming).map(|live| live.rental.clone()) else {
            return;
        };
        let Some(account) = self.settling(&rental).map(|settling| settling.account.clone()) else { return };
        if let Some(live) = self.live.get_mut(&id) {
            live.claiming = true;
        }
        let claiming = async move { Done::Claim { id, result: closing::claim(account, rental).await } };
        self.work.spawn(claiming.instrument(span(&id)));
    }

    pub(super) async fn claim_ended(&mut self, id: RentalId, result: Result<Amount, SettlementError>, now: UnixMillis) {
        if let Some(live) = self.live.get_mut(&id) {
            live.claiming = false;
            live.tried(result.as_ref().err(), now);
        }
        let input = result.map_or(Input::ClaimFailed, Input::Claimed);
        self.happened(id, input, now).await;
    }

    /// What is wrong about the money of a rental, for its owner.
    pub(super) fn warning(&self, live: &Live, now: UnixMillis) -> Option<String> {
        let heard = self.settling(&live.rental)?.heard;
        live.alarm.warning(&live.rental, heard.map_or(now.seconds(), |heard| heard.time(now)), now)
    }

    /// Says in the log what is wrong, now and then.
    pub(super) fn sound_alarms(&mut self, now: UnixMillis) {
        let wrong = |live: &Live| live.alarm.is_due(now).then(|| self.warning(live, now)).flatten();
        let alarms: Vec<_> = self.live.values().filter_map(|live| Some((live.rental.id, wrong(live)?))).collect();
        for (id, warning) in alarms {
            tracing::error!(rental = %id.short(), warning, "money is at stake: see that the chain's endpoints answer and the account has gas");
            if let Some(live) = self.live.get_mut(&id) {
                live.alarm.sounded(now);
            }
        }
    }

    /// Brings the receipt in line with the rental as it is on disk: written when it is closed, and taken back when it is not any more.
    /// Whichever of two such tasks comes last, it finds the newest word there.
    pub(super) fn receipt(&mut self, rental: &Rental) {
        let (id, store) = (rental.id, self.store.clone());
        let receipt = closing::receipt(rental, self.release(rental).ok());
        let writing = async move {
            let written = store.run(move |store| {
                let closing = store.get::<Rentals>(&id)?.and_then(|rental| rental.0.closing);
                match (&receipt, closing) {
                    (Some(receipt), Some(closing)) if receipt.closed.tx == closing.tx => {
                        // each start asks for it again, as long as the chain may take the closing back
                        if store.get::<Receipts>(&id)?.is_some_and(|kept| kept.0 == *receipt) {
                            return Ok(None);
                        }
                        crash_point("provider", "receipt", "writing");
                        store.put_sync::<Receipts>(&id, &Json(receipt.clone()))?;
                        crash_point("provider", "receipt", "written");
                        Ok(Some("the receipt is written"))
                    }
                    (None, None) if store.contains::<Receipts>(&id)? => {
                        store.delete::<Receipts>(&id)?;
                        Ok(Some("the receipt is taken back: the chain went back"))
                    }
                    _ => Ok(None),
                }
            });
            match written.await {
                Ok(what) => tracing::info!(rental = %id.short(), what, "receipt"),
                Err(error) => tracing::error!(rental = %id.short(), %error, "the receipt could not be written"),
            }
            Done::Receipt
        };
        self.work.spawn(writing.instrument(span(&id)));
    }
}

impl Live {
    /// Remembers why cashing failed, or that it did not.
    pub(super) fn tried(&mut self, error: Option<&SettlementError>, now: UnixMillis) {
        if let Some(error) = error {
            tracing::warn!(rental = %self.rental.id.short(), %error, "cashing did not succeed yet");
        }
        self.alarm.tried(error.map(ToString::to_string), now);
    }
}
