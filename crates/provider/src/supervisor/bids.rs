//! Interruptible rentals, and who takes their slots. Only a rental that the chain shows open sends anybody away: whoever asks for the slots
//! of another is promised them, and the notice goes out when its deposit is locked. Until the notice is over it waits, as for a sandbox.

use super::{Done, Live, Supervisor, span};
use crate::inventory::{Occupant, Taken};
use market::{
    id::RentalId,
    preemption::{PreemptReason, SignedNotice, gives_way},
    rental::provider::{Input, Phase, Rental},
    time::UnixMillis,
};
use sandbox::{Sandbox, WORKING_DIRECTORY};
use std::{io::Cursor, sync::Arc};
use tracing::Instrument;
use wire::QuoteAsk;

/// The file in the working directory that tells a program of its end. It is not among the outputs.
const NOTICE_FILE: &str = ".gpulease-notice.json";
/// SIGTERM.
const TERMINATE: i32 = 15;

impl Supervisor {
    /// The rental that gives way to a question: of those that must, the one that pays least.
    pub(super) fn victim(&self, ask: &QuoteAsk) -> Option<(RentalId, Taken)> {
        let offer = self.inventory.offer(&ask.offer)?;
        let hardware = offer.hardware.times(ask.slots);
        let must = |rental: &&Rental| {
            let same = rental.terms.offer == ask.offer && rental.terms.hardware == hardware;
            // bids in different tokens are not held against each other
            let token = rental.quote.escrow == ask.escrow && rental.quote.quote.token == ask.token;
            same && self.may_give_way(rental)
                && (!ask.interruptible || token)
                && gives_way(rental.quote.quote.rate, ask.interruptible.then_some(ask.rate))
        };
        let victim =
            self.live.values().map(|live| &live.rental).filter(must).min_by_key(|rental| rental.quote.quote.rate)?;
        let taken = Taken { name: victim.terms.slot.clone(), device: victim.quote.quote.device };
        Some((victim.id, taken))
    }

    fn may_give_way(&self, rental: &Rental) -> bool {
        let serves = matches!(rental.phase, Phase::Serving | Phase::Frozen);
        serves && rental.is_interruptible() && rental.notice.is_none() && self.heir(rental.id).is_none()
    }

    /// Whether a rental may still be sent away for a promise that is about to be made.
    pub(super) fn still_gives_way(&self, id: RentalId) -> bool {
        self.live.get(&id).is_some_and(|live| self.may_give_way(&live.rental))
    }

    /// The rental that is promised the slots of this one.
    pub(super) fn heir(&self, id: RentalId) -> Option<RentalId> {
        let begins = |rental: &Rental| matches!(rental.phase, Phase::Held | Phase::Preparing);
        let follows = |rental: &Rental| rental.displaces == Some(id) || rental.terms.continues == Some(id);
        let mut rentals = self.live.values().map(|live| &live.rental);
        rentals.find(|rental| follows(rental) && begins(rental)).map(|rental| rental.id)
    }

    /// Whether a rental must first send another away; if so, that one is told.
    pub(super) fn sends_away(&mut self, id: RentalId) -> bool {
        let Some(live) = self.live.get(&id).filter(|live| self.waits_for_slots(&live.rental)) else { return false };
        let Some(victim) = live.rental.displaces else { return false };
        let reason = if live.rental.is_interruptible() { PreemptReason::Outbid } else { PreemptReason::OnDemand };
        self.work.spawn(async move { Done::SentAway { id: victim, reason } }.instrument(span(&victim)));
        true
    }

    /// Signs the notice and begins it.
    pub(super) async fn preempt(&mut self, id: RentalId, reason: PreemptReason) {
        let now = UnixMillis::now();
        let Some(live) = self.live.get(&id).filter(|live| live.rental.notice.is_none()) else { return };
        let at = now.plus(u64::from(live.rental.terms.notice_seconds) * 1_000);
        let quote = &live.rental.quote;
        match self.keys.sign(&quote.quote, &quote.escrow.digest(&SignedNotice::statement(id, at, reason))) {
            Ok(signature) => {
                tracing::info!(rental = %id.short(), %reason, until = %at, "gives way");
                let notice = SignedNotice { id, at, reason, signature };
                self.happened(id, Input::Preempt(notice), now).await;
            }
            Err(error) => tracing::error!(rental = %id.short(), %error, "the notice cannot be signed"),
        }
    }

    /// Tells the program of its end: a file in its folder, then SIGTERM.
    pub(super) fn notify(&mut self, id: RentalId) {
        let Some(Live { rental, keeper: Some(keeper), .. }) = self.live.get(&id) else { return };
        let Some(notice) = rental.notice else { return };
        let sandbox = Arc::clone(&keeper.sandbox);
        self.sessions += 1;
        let telling = async move {
            if let Err(error) = tell(sandbox.as_ref(), &notice).await {
                tracing::warn!(sandbox = %sandbox.id(), %error, "the program could not be told of its end");
            }
            Done::Over
        };
        self.work.spawn(telling.instrument(span(&id)));
    }

    /// Gives the slots of a rental that has ended to the one that it gave way to.
    pub(super) fn give_way(&mut self, from: RentalId) {
        let waits = |live: &&Live| {
            live.rental.displaces == Some(from) && matches!(live.rental.phase, Phase::Held | Phase::Preparing)
        };
        let Some(rental) = self.live.values().find(waits).map(|live| &live.rental) else { return };
        let (to, opened) = (rental.id, rental.phase == Phase::Preparing);
        self.inventory.assign(&rental.terms.slot, Occupant::Rental(to));
        if opened {
            self.prepare(to);
        }
    }
}

async fn tell(sandbox: &dyn Sandbox, notice: &SignedNotice) -> Result<(), sandbox::Error> {
    let text = serde_json::json!({ "id": notice.id, "at": notice.at, "reason": notice.reason }).to_string();
    let tar = one_file(text.as_bytes()).map_err(sandbox::Error::Upload)?;
    let written = sandbox.put(WORKING_DIRECTORY, Box::new(Cursor::new(tar))).await;
    // a full disk, or whatever else has the file's name, keeps no program from hearing of it
    sandbox.signal(TERMINATE).await.and(written.map(drop))
}

fn one_file(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, NOTICE_FILE, text)?;
    archive.into_inner()
}
