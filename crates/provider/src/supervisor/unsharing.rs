//! The renter takes back what it gave to others: on disk before it is told so, and felt by their open streams at once.

use super::Supervisor;
use crate::{Error, records::Unshares};
use market::{
    id::PeerId,
    refusal::{Refusal, RefusalCode},
};
use store::{Json, Store};
use wire::proto;

impl Supervisor {
    /// Remembers what an earlier run was told, for the rentals that go on.
    pub(super) async fn take_up_unshares(&mut self) -> Result<(), Error> {
        let read = |store: &Store| store.scan::<Unshares>(..)?.collect::<Result<Vec<_>, _>>();
        for (id, Json(unshared)) in self.store.run(read).await? {
            match self.live.get(&id) {
                Some(live) => drop(live.unshared.send_replace(unshared)),
                None => self.store.run(move |store| store.delete::<Unshares>(&id)).await?,
            }
        }
        Ok(())
    }

    pub(super) async fn unshare(
        &self,
        peer: PeerId,
        message: &proto::UnshareRequest,
    ) -> Result<proto::rental_response::Response, Refusal> {
        let live = self.rental_of(peer, &message.id)?;
        let (id, quote) = (live.rental.id, &live.rental.quote);
        if live.rental.phase.is_over() {
            return Err(Refusal::new(RefusalCode::WrongState, format!("the rental is {}", live.rental.phase.name())));
        }
        let (provider, key) = (self.network.local_peer_id(), quote.quote.renter_key);
        let unshare = wire::unshare_from_proto(message, &provider, key, &quote.escrow)
            .map_err(|error| Refusal::new(RefusalCode::BadRequest, error.to_string()))?;
        let mut unshared = live.unshared.borrow().clone();
        if !unshared.take_back(unshare.guest, unshare.serial) {
            return Err(Refusal::new(RefusalCode::BadRequest, "too many peers were given grants of this rental"));
        }
        let written = unshared.clone();
        let writing = self.store.run(move |store| store.put_sync::<Unshares>(&id, &Json(written.clone()))).await;
        writing.map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))?;
        live.unshared.send_replace(unshared);
        tracing::info!(rental = %id.short(), guest = %unshare.guest, "its renter does not share it any more");
        Ok(proto::rental_response::Response::Unshared(proto::Unshared { id: id.0.to_vec() }))
    }
}
