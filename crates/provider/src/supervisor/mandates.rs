//! Openings in a renter's name: for those who hold a token and none of the chain's coin. The owner pays their gas, within an hourly number;
//! the renter pays the first increment in advance.

use super::{Done, Live, Supervisor, questions::step_refusal, span};
use market::{
    id::{PeerId, RentalId},
    mandate::Mandate,
    refusal::{Refusal, RefusalCode},
    rental::provider::{Input, Phase},
    time::UnixMillis,
};
use network::Reply;
use settlement::SettlementError;
use std::collections::VecDeque;
use store::crash_point;
use tracing::Instrument;
use wire::proto;

/// How long an opening that failed rests before it is tried again.
const OPEN_RETRY: u64 = 5_000;
/// What the hourly number counts over.
const HOUR: u64 = 3_600_000;

/// When openings were sent for others in the last hour.
#[derive(Default)]
pub(super) struct Favours(VecDeque<UnixMillis>);

impl Favours {
    /// Whether fewer than `most` were sent in the last hour.
    fn are_left(&self, most: u32, now: UnixMillis) -> bool {
        self.0.iter().filter(|sent| now.since(**sent) < HOUR).count() < most as usize
    }

    /// One more is sent.
    fn count(&mut self, now: UnixMillis) {
        self.0.retain(|sent| now.since(*sent) < HOUR);
        self.0.push_back(now);
    }
}

impl Supervisor {
    /// Looks at a mandate, and has the chain say whether it would go through; or says at once why not.
    pub(super) fn mandate(
        &mut self,
        peer: PeerId,
        message: &proto::MandateRequest,
        reply: Reply,
    ) -> Option<(Refusal, Reply)> {
        let (id, mandate) = match self.examine(peer, message) {
            Ok(examined) => examined,
            Err(refusal) => return Some((refusal, reply)),
        };
        let live = self.live.get(&id)?;
        if live.rental.mandate.as_ref() == Some(&mandate) {
            // asked again because our answer was lost
            reply.send(mandated(id));
            return None;
        }
        if live.trying {
            return Some((Refusal::new(RefusalCode::RateLimited, "the mandate before this one is being tried"), reply));
        }
        let quote = live.rental.quote.clone();
        let Some(account) = self.settling(&live.rental).map(|settling| settling.account.clone()) else {
            return Some((Refusal::new(RefusalCode::Settlement, "that escrow is not served here"), reply));
        };
        if !self.favours.are_left(self.config.mandates_per_hour, UnixMillis::now()) {
            let most = self.config.mandates_per_hour;
            let detail = format!("at most {most} rentals an hour are opened for others; open it yourself");
            return Some((Refusal::new(RefusalCode::RateLimited, detail), reply));
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.trying = true;
        }
        let trying = async move {
            let result = account.check_mandate(&quote, &mandate).await;
            Done::Tried { id, mandate: Box::new(mandate), reply, result }
        };
        self.work.spawn(trying.instrument(span(&id)));
        None
    }

    fn examine(&self, peer: PeerId, message: &proto::MandateRequest) -> Result<(RentalId, Mandate), Refusal> {
        let bad = |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::BadRequest, error.to_string());
        let (id, mandate) = wire::mandate_from_proto(message).map_err(|error| bad(&error))?;
        let rental = &self.rental_of(peer, &id.0.0)?.rental;
        mandate.check(&rental.quote, rental.terms.increment_millis).map_err(|error| bad(&error))?;
        Ok((id, mandate))
    }

    /// The chain has said whether a mandate would go through: taken on, on disk, and only then answered.
    pub(super) async fn tried(
        &mut self,
        id: RentalId,
        mandate: Mandate,
        reply: Reply,
        result: Result<(), SettlementError>,
    ) {
        if let Some(live) = self.live.get_mut(&id) {
            live.trying = false;
        }
        let taken = match result {
            Ok(()) => self.input(id, Input::Mandated(mandate), UnixMillis::now()).await.map_err(step_refusal),
            Err(error @ SettlementError::Reverted { .. }) => {
                Err(Refusal::new(RefusalCode::Funds, format!("the opening would not go through: {error}")))
            }
            Err(error) => Err(Refusal::new(RefusalCode::Internal, format!("the chain cannot be asked: {error}"))),
        };
        match taken {
            Ok(()) => {
                crash_point("provider", "mandate", "taken");
                self.favours.count(UnixMillis::now());
                reply.send(mandated(id));
            }
            Err(refusal) => {
                self.figures.refused(&refusal);
                tracing::info!(rental = %id.short(), %refusal, "a mandate was refused");
                super::questions::refuse(reply, &refusal);
            }
        }
    }

    /// Sends the opening that was mandated, unless that is under way.
    pub(super) fn open(&mut self, id: RentalId) {
        let Some(live) = self.live.get(&id).filter(|live| live.opening != Some(None)) else { return };
        let (Some(mandate), quote) = (live.rental.mandate.clone(), live.rental.quote.clone()) else { return };
        let Some(account) = self.settling(&live.rental).map(|settling| settling.account.clone()) else { return };
        if let Some(live) = self.live.get_mut(&id) {
            live.opening = Some(None);
        }
        let opening = async move {
            let result = account.open_mandated(&quote, &mandate).await;
            Done::Opening { id, result: result.map(|_| ()) }
        };
        self.work.spawn(opening.instrument(span(&id)));
    }

    /// An opening is mined, or could not be sent. The chain tells of it; until it does, and the quote holds, it is tried again.
    pub(super) fn opening_ended(&mut self, id: RentalId, result: Result<(), SettlementError>, now: UnixMillis) {
        if let Err(error) = &result {
            tracing::warn!(rental = %id.short(), %error, "a mandated opening did not succeed yet");
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.opening = Some(Some(now.plus(OPEN_RETRY)));
        }
    }

    pub(super) fn openings_due(&self, now: UnixMillis) -> Vec<RentalId> {
        let due = |live: &&Live| live.rental.phase == Phase::Held && live.opening.flatten().is_some_and(|at| at <= now);
        self.live.values().filter(due).map(|live| live.rental.id).collect()
    }
}

fn mandated(id: RentalId) -> proto::RentalResponse {
    let mandated = proto::Mandated { id: id.0.to_vec() };
    proto::RentalResponse { response: Some(proto::rental_response::Response::Mandated(mandated)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_holds_so_many_favours_and_not_one_more() {
        let mut favours = Favours::default();
        assert!(!favours.are_left(0, UnixMillis(0)));
        favours.count(UnixMillis(0));
        assert!(favours.are_left(2, UnixMillis(1_000)));
        favours.count(UnixMillis(1_000));
        assert!(!favours.are_left(2, UnixMillis(HOUR - 1)));
        assert!(favours.are_left(2, UnixMillis(HOUR)), "the first is an hour old");
        favours.count(UnixMillis(HOUR));
        assert_eq!(favours.0.len(), 2, "what is over is forgotten");
    }
}
