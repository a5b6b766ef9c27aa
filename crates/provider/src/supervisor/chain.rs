//! The chain's side of a rental: what its followers tell, claims and closings under way, and the alarm when money is not cashed in time.

use super::{Done, Live, Settling, Supervisor, span};
use crate::{
    closing,
    records::{Receipts, Rentals},
};
use market::{
    id::RentalId,
    money::Amount,
    rental::provider::{Input, Phase, Rental},
    time::UnixMillis,
};
use settlement::{ChainEvent, SettlementError};
use store::{Json, crash_point};
use tracing::Instrument;

/// How long a closing that failed rests before it is tried again.
const CLOSE_RETRY: u64 = 5_000;
/// How long cashing may take before the owner is told: many blocks of a slow chain, and a small part of the shortest window (15 min).
const ALARM_AFTER: u64 = 120_000;
/// How often an alarm is repeated in the log.
const ALARM_EVERY: u64 = 60_000;

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

/// Why money was not cashed when it was tried last, and since when that goes wrong.
#[derive(Clone)]
pub(super) struct Trouble {
    since: UnixMillis,
    why: String,
    told: Option<UnixMillis>,
}

impl Supervisor {
    pub(super) async fn chain_event(&mut self, chain: usize, event: ChainEvent) {
        let now = UnixMillis::now();
        if let Some((id, opening)) = event.rental().zip(event.opening()) {
            tracing::info!(rental = %id.short(), tx = %opening.tx, "opened on chain");
            return self.happened(id, Input::Opened(opening), now).await;
        }
        match event {
            ChainEvent::OpeningUndone { id } => self.happened(id, Input::OpeningUndone, now).await,
            ChainEvent::Stopping { id, stop_at } => {
                tracing::info!(rental = %id.short(), "the renter stopped the rental on chain");
                self.happened(id, Input::StoppedOnChain(u64::from(stop_at)), now).await;
            }
            ChainEvent::Closed { id, .. } => {
                let Some(settling) = self.chains.get(chain) else { return };
                let chain = settling.account.sender().chain().clone();
                self.work.spawn(async move { Done::Closed { id, closing: event.closing(&chain).await } });
            }
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
            ChainEvent::Opened { .. } => {}
        }
    }

    fn rentals_on(&self, chain: usize) -> Vec<RentalId> {
        let escrow = self.chains.get(chain).map(|settling| settling.account.sender().chain().escrow());
        let here = self.live.values().map(|live| &live.rental).filter(|rental| Some(rental.quote.escrow) == escrow);
        here.filter(|rental| !rental.phase.is_over()).map(|rental| rental.id).collect()
    }

    pub(super) fn settling(&self, rental: &Rental) -> Option<&Settling> {
        self.chains.iter().find(|settling| settling.account.sender().chain().escrow() == rental.quote.escrow)
    }

    pub(super) fn close(&mut self, id: RentalId) {
        let Some(live) = self.live.get(&id).filter(|live| live.closing != Some(None)) else { return };
        let rental = live.rental.clone();
        let Some(account) = self.settling(&rental).map(|settling| settling.account.clone()) else { return };
        if let Some(live) = self.live.get_mut(&id) {
            live.closing = Some(None);
        }
        let closing = async move { Done::Closing { id, result: closing::close(account, rental).await } };
        self.work.spawn(closing.instrument(span(&id)));
    }

    /// A closing has ended, for better or worse. It is asked for again until the chain shows the end: one that was mined may be taken back.
    pub(super) fn closing_ended(&mut self, id: RentalId, result: Result<(), SettlementError>, now: UnixMillis) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.closing = Some(Some(now.plus(CLOSE_RETRY)));
        live.note(result.as_ref().err(), now);
    }

    pub(super) fn closings_due(&self, now: UnixMillis) -> Vec<RentalId> {
        let due =
            |live: &&Live| live.rental.phase == Phase::Closing && live.closing.flatten().is_some_and(|at| at <= now);
        self.live.values().filter(due).map(|live| live.rental.id).collect()
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
            live.note(result.as_ref().err(), now);
        }
        let input = result.map_or(Input::ClaimFailed, Input::Claimed);
        self.happened(id, input, now).await;
    }

    /// What is wrong about the money of a rental, for its owner.
    pub(super) fn warning(&self, rental: &Rental, now: UnixMillis) -> Option<String> {
        let heard = self.settling(rental)?.heard;
        let trouble = self.live.get(&rental.id).and_then(|live| live.trouble.as_ref());
        let since = match rental.phase {
            Phase::Closing => rental.stopped_at?,
            Phase::Preparing | Phase::Serving | Phase::Frozen => trouble?.since,
            Phase::Held | Phase::Closed | Phase::Lapsed => return None,
        };
        if rental.unclaimed() == Amount::ZERO || now.since(since) < ALARM_AFTER {
            return None;
        }
        let at_stake = rental.terms.token.show(rental.unclaimed());
        let why = trouble.map_or("the chain does not show the closing yet", |trouble| trouble.why.as_str());
        let chain_time = heard.map_or(now.seconds(), |heard| heard.time(now));
        let left = rental.forfeit_at()?.saturating_sub(chain_time);
        Some(match left {
            0 => format!("{at_stake} is not cashed, and from now on anybody may return it to the renter: {why}"),
            _ => format!("{at_stake} is not cashed yet; after {left} s anybody may return it to the renter: {why}"),
        })
    }

    /// Says in the log what is wrong, now and then.
    pub(super) fn sound_alarms(&mut self, now: UnixMillis) {
        let alarms: Vec<_> = self
            .live
            .values()
            .filter_map(|live| Some((live.rental.id, self.warning(&live.rental, now)?)))
            .filter(|(id, _)| {
                let told = self.live.get(id).and_then(|live| live.trouble.as_ref()?.told);
                told.is_none_or(|told| now.since(told) >= ALARM_EVERY)
            })
            .collect();
        for (id, warning) in alarms {
            tracing::error!(rental = %id.short(), warning, "money is at stake: see that the chain's endpoints answer and the account has gas");
            if let Some(live) = self.live.get_mut(&id) {
                let unexplained =
                    || Trouble { since: now, why: "the chain does not show it yet".to_owned(), told: None };
                live.trouble.get_or_insert_with(unexplained).told = Some(now);
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
    fn note(&mut self, error: Option<&SettlementError>, now: UnixMillis) {
        self.trouble = error.map(|error| {
            tracing::warn!(rental = %self.rental.id.short(), %error, "cashing did not succeed yet");
            let before = self.trouble.take();
            let since = before.as_ref().map_or(now, |before| before.since);
            Trouble { since, why: error.to_string(), told: before.and_then(|before| before.told) }
        });
    }
}
