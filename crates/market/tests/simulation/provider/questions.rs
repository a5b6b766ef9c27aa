//! What the renter asks: how it stands, a voucher taken, the end.

use super::Provider;
use crate::{
    bugs::Bug,
    chain::{Call, Purpose},
    keys::KEYS,
    network::{Request, Response, Ticket, answer},
    node::Crashed,
    plan::{ProviderVice, Side},
    world::Shared,
};
use market::{
    id::RentalId,
    money::Amount,
    rental::{
        StepError,
        provider::{Input, Phase, Rental},
    },
    signed::SignedVoucher,
};

impl Provider {
    /// A question and its answer.
    pub(crate) fn asked(&mut self, s: &mut Shared, ticket: Ticket, request: Request) -> Result<(), Crashed> {
        let id = ticket.id;
        let Some(live) = self.live.get(&id) else {
            answer(s, ticket, Response::Gone);
            return Ok(());
        };
        match request {
            Request::Open(mandate) => {
                // the answer tells nothing that the chain does not tell better
                let _ = self.input(s, id, Input::Mandated(*mandate), Self::now(s))?;
            }
            Request::Status => {
                let response = Response::Status { ready: live.rental.ready, fault: live.rental.fault.is_some() };
                answer(s, ticket, response);
            }
            Request::Voucher(voucher) => self.voucher(s, ticket, voucher)?,
            Request::Finish(voucher) => self.finish(s, ticket, voucher)?,
        }
        Ok(())
    }

    fn voucher(&mut self, s: &mut Shared, ticket: Ticket, voucher: SignedVoucher) -> Result<(), Crashed> {
        let (id, now) = (ticket.id, Self::now(s));
        if s.plan.has(Bug::AckBeforeStore) {
            let mut next = self.live.get(&id).map(|live| live.rental.clone());
            let taken =
                next.as_mut().and_then(|next| next.step(Input::Voucher(voucher), now).ok().map(|_| next.covered()));
            if let Some(covered) = taken {
                self.acknowledge(s, ticket, covered);
                self.fuse.point()?;
            }
        }
        let outcome = match self.careless(s, id, voucher) {
            true => Ok(()),
            false => self.input(s, id, Input::Voucher(voucher), now)?,
        };
        if outcome.is_ok() {
            self.first_vouchers.entry(id).or_insert(voucher);
            if s.plan.provider_vice == Some(ProviderVice::Claims) {
                let call = Call::Claim(voucher);
                let _ = self.sender.submit(s, &mut self.fuse, id, Purpose::Claim(voucher.cumulative), call)?;
            }
        }
        let covered = self.live.get(&id).map(|live| live.rental.covered());
        match (outcome, covered) {
            (Ok(()), Some(covered)) => self.acknowledge(s, ticket, covered),
            (Err(StepError::WrongPhase { .. }), _) => answer(s, ticket, Response::Gone),
            _ => answer(s, ticket, Response::Refused),
        }
        Ok(())
    }

    /// Takes a voucher past the machine, where a bug is planted that does so.
    fn careless(&mut self, s: &Shared, id: RentalId, voucher: SignedVoucher) -> bool {
        let Some(live) = self.live.get_mut(&id).filter(|live| live.rental.phase == Phase::Serving) else {
            return false;
        };
        let held = live.rental.covered();
        let genuine = s.facts.is_signed(id, voucher.cumulative);
        let takes = (s.plan.has(Bug::AcceptLowerVoucher) && genuine && voucher.cumulative < held)
            || (s.plan.has(Bug::AcceptUnsignedVoucher) && voucher.cumulative >= held);
        if takes {
            live.rental.voucher = Some(voucher);
            self.disk.insert(id, live.rental.clone());
        }
        takes
    }

    fn acknowledge(&self, s: &mut Shared, ticket: Ticket, covered: Amount) {
        let on_disk = self.disk.get(&ticket.id).map_or(Amount::ZERO, Rental::covered);
        if s.plan.honest(Side::Provider) && covered > on_disk {
            s.fail(format!("{}: acknowledges {covered}, on disk is {on_disk}", ticket.id.short()));
        }
        let vice = s.plan.provider_vice;
        if vice != Some(ProviderVice::Silent) {
            answer(s, ticket, Response::Ack(covered, vice != Some(ProviderVice::ForgesAcks)));
        }
    }

    fn finish(&mut self, s: &mut Shared, ticket: Ticket, voucher: Option<SignedVoucher>) -> Result<(), Crashed> {
        let (id, now) = (ticket.id, Self::now(s));
        if s.plan.provider_vice == Some(ProviderVice::RefusesRelease) {
            answer(s, ticket, Response::Refused);
            return Ok(());
        }
        let outcome = self.input(s, id, Input::Finish(voucher), now)?;
        let Some(live) = self.live.get(&id).filter(|_| outcome.is_ok()) else {
            answer(s, ticket, Response::Refused);
            return Ok(());
        };
        let total = live.rental.covered();
        let release = match s.plan.provider_vice {
            Some(ProviderVice::ForgesRelease) => KEYS.stranger.release(id, total),
            Some(ProviderVice::GreedyRelease) => {
                KEYS.provider.release(id, live.rental.opening.map_or(total, |opening| opening.deposit))
            }
            _ => KEYS.provider.release(id, total),
        };
        answer(s, ticket, Response::Final(release));
        Ok(())
    }
}
