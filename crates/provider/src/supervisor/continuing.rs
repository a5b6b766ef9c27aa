//! Rentals that continue others: same renter, same slots, same sandbox, without a gap. The new one is opened while the old one goes on; when
//! the old one ends, its sandbox and its slots are handed over instead of being given up. So the old one's last seconds are paid for by its
//! own vouchers, and the new one's meter begins where that stopped.

use super::{Done, Live, Supervisor, span};
use crate::{
    inventory::{Occupant, Taken},
    keeper::Keeper,
};
use market::{
    id::{PeerId, RentalId},
    refusal::{Refusal, RefusalCode},
    rental::provider::{Phase, Rental},
};
use sandbox::Sandbox;
use std::sync::Arc;
use tracing::Instrument;
use wire::QuoteAsk;

impl Supervisor {
    /// The slots of the rental that a question wants to continue; or why that cannot be.
    pub(super) fn continued(&self, ask: &QuoteAsk, peer: PeerId, before: RentalId) -> Result<Taken, Refusal> {
        let no = |code, detail: String| Err(Refusal::new(code, detail));
        let live = self
            .live
            .get(&before)
            .filter(|live| live.rental.terms.renter_peer == peer && live.rental.quote.quote.renter == ask.wallet);
        let Some(Live { rental, .. }) = live else { return no(RefusalCode::NoSuchRental, before.short()) };
        if !matches!(rental.phase, Phase::Serving | Phase::Frozen) {
            let phase = rental.phase.name();
            return no(RefusalCode::WrongState, format!("the rental is {phase}; one that is served can be continued"));
        }
        let offer = self.inventory.offer(&ask.offer).filter(|offer| offer.name == rental.terms.offer);
        if offer.is_none_or(|offer| offer.hardware.times(ask.slots) != rental.terms.hardware) {
            return no(RefusalCode::BadRequest, "a rental goes on with the slots that it has".to_owned());
        }
        if self.heir(before).is_some() || rental.notice.is_some() {
            return no(RefusalCode::HoldInUse, "the rental is being continued already, or gives way".to_owned());
        }
        Ok(Taken { name: rental.terms.slot.clone(), device: rental.quote.quote.device })
    }

    /// Whether a rental waits for the one that it continues, or that gives way to it.
    pub(super) fn waits_for_slots(&self, rental: &Rental) -> bool {
        let kept = |before| self.live.get(&before).is_some_and(|live| live.rental.keeps_sandbox());
        rental.ready.is_none() && rental.terms.continues.or(rental.displaces).is_some_and(kept)
    }

    /// Whether a rental has its slots for itself: one that continues or displaces another has them from the moment
    /// at which that one ended.
    pub(super) fn has_slots(&self, rental: &Rental) -> bool {
        let begins = matches!(rental.phase, Phase::Held | Phase::Preparing);
        let taken_over = || rental.ready.is_some() || begins && !self.waits_for_slots(rental);
        rental.terms.continues.or(rental.displaces).is_none() || taken_over()
    }

    /// The rental that is promised, or open already, to go on when this one ends.
    pub(super) fn successor(&self, id: RentalId) -> Option<RentalId> {
        let begins = |rental: &Rental| matches!(rental.phase, Phase::Held | Phase::Preparing);
        let mut rentals = self.live.values().map(|live| &live.rental);
        rentals.find(|rental| rental.terms.continues == Some(id) && begins(rental)).map(|rental| rental.id)
    }

    /// Gives the sandbox and the slots of a rental that has ended to the one that continues it. One that is not open yet keeps the sandbox
    /// frozen until it is, or lapses: the two sides need not see the opening in the same moment.
    pub(super) fn hand_over(&mut self, sandbox: Arc<dyn Sandbox>, to: RentalId) {
        let Some(live) = self.live.get_mut(&to) else { return };
        tracing::info!(rental = %to.short(), sandbox = %sandbox.id(), "takes over the sandbox of the one before");
        self.inventory.assign(&live.rental.terms.slot, Occupant::Rental(to));
        let cards = self.cards.watch(&self.inventory.cards(&live.rental.terms.slot));
        live.keeper = Some(Keeper::new(sandbox, cards, true));
        if live.rental.phase == Phase::Preparing {
            self.go_on(to);
        }
    }

    /// Begins a rental that continues another, as soon as it has that one's sandbox. Without one nothing is served, and all goes back.
    pub(super) fn go_on(&mut self, id: RentalId) {
        let Some(live) = self.live.get(&id).filter(|live| !self.waits_for_slots(&live.rental)) else { return };
        let done = match &live.keeper {
            Some(keeper) => Done::Prepared { id, result: Ok(Arc::clone(&keeper.sandbox)) },
            None => Done::Orphaned { id },
        };
        self.work.spawn(async move { done }.instrument(span(&id)));
    }
}
