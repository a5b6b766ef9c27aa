//! What the provider answers, or does not.

use super::Renter;
use crate::{
    bugs::Bug,
    keys::{ESCROW, digest},
    network::{Response, Ticket},
    node::Crashed,
    plan::Side,
    world::Shared,
};
use market::{
    rental::renter::{Input, Phase},
    signed::{Ready, signer_of},
};

impl Renter {
    /// An answer, or none in time.
    pub(crate) fn answered(
        &mut self,
        s: &mut Shared,
        ticket: Ticket,
        response: Option<Response>,
    ) -> Result<(), Crashed> {
        let id = ticket.id;
        let Some(live) = self.live.get_mut(&id).filter(|_| ticket.epoch == self.epoch) else { return Ok(()) };
        let (asked, finishing) = (live.asking == Some(ticket.number), live.finishing == Some(ticket.number));
        if asked {
            live.asking = None;
        } else if finishing {
            live.finishing = None;
        } else {
            return Ok(());
        }
        let key = live.rental.quote.quote.provider_key;
        let by_provider = |digest, signature| signer_of(digest, signature) == Some(key);
        match response {
            Some(Response::Status { fault: true, .. }) => self.input(s, id, Input::Finish),
            Some(Response::Status { ready: Some((at, signature)), .. }) => {
                if !by_provider(&digest(&Ready { id: id.0, at: at.0 }), &signature) {
                    return Ok(());
                }
                let begins = live.rental.phase == Phase::Waiting;
                if begins {
                    s.facts.heard(id, s.clock(Side::Renter));
                }
                self.input(s, id, Input::Ready(at, signature))
            }
            Some(Response::Status { .. }) => Ok(()),
            Some(Response::Ack(total, true)) => {
                s.facts.heard(id, s.clock(Side::Renter));
                self.input(s, id, Input::Acked(total))
            }
            Some(Response::Final(release)) if release.id == id && release.is_signed_by(key, &ESCROW) => {
                if s.plan.has(Bug::TrustAnyRelease) {
                    live.rental.release = Some(release);
                    live.rental.released_at = Some(s.clock(Side::Renter));
                    live.rental.phase = Phase::Settling;
                    self.disk.insert(id, live.rental.clone());
                    return Ok(());
                }
                self.input(s, id, Input::Released(release))
            }
            Some(Response::Gone) if asked && live.rental.phase != Phase::Waiting => self.input(s, id, Input::Finish),
            _ if asked => self.input(s, id, Input::AckMissed),
            _ => self.input(s, id, Input::FinishMissed),
        }
    }
}
