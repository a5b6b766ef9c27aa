//! The way into rentals: this node's own, and those that others share with it; and sharing its own with others.

use super::{Renter, lock, store_error};
use crate::{
    driver,
    negotiate::{NoPromise, chain_error, rental_request},
    records::{Accepted, Shares},
    shares::{self, Given, MAX_ACCEPTED, MAX_SHARES, Taken},
    visits::Porter,
};
use access::{
    AccessError,
    door::{Door, Granted},
    watched::Watched,
};
use api::types::{ApiError, ErrorKind, Share, ShareRequest, SharedRental, Visitor};
use market::{
    id::{PeerId, RentalId},
    time::UnixMillis,
};
use network::OpenError;
use std::sync::Arc;
use store::Json;
use wire::{
    ShareToken,
    proto::{self, session_header::Kind},
};

impl Renter {
    /// The way into the rental of this name, this node's own or one that is shared with it. What is opened through it into an own one is
    /// noted as this visitor's.
    pub fn door(&self, name: &str, visitor: Visitor) -> Result<Arc<dyn Door>, ApiError> {
        // one that is over too: its provider says so
        let shared: Vec<_> = {
            let registry = lock(&self.registry);
            let named = registry.accepted.iter().filter(|(id, _)| id.matches_prefix(name));
            named.map(|(id, taken)| (*id, taken.clone())).collect()
        };
        match (self.running(name), &shared[..]) {
            (Ok(driver), []) => {
                let record = Arc::clone(&driver.state.borrow().record);
                let door = driver::door(&record, &self.context.parts.network).map_err(|error| chain_error(&error))?;
                Ok(Arc::new(Watched::new(door, Porter::new(driver.id, visitor, self.context.book.clone()))))
            }
            (Err(error), [(id, taken)]) if error.kind == ErrorKind::NoMatch => {
                Ok(Arc::new(self.door_of_others(*id, taken)))
            }
            (Err(error), []) => Err(error),
            _ => {
                let message = format!("several rentals begin with `{name}`");
                Err(ApiError::new(ErrorKind::Usage, message, "give more digits; see `node ps` and `node shares`"))
            }
        }
    }

    fn door_of_others(&self, id: RentalId, taken: &Taken) -> Granted {
        Granted::new(self.context.parts.network.clone(), taken.provider, taken.grant(id))
    }

    /// Lets another node into a rental, for a time or until its end, with a text to carry there.
    pub async fn share(&self, prefix: String, request: ShareRequest) -> Result<Share, ApiError> {
        let driver = self.running(&prefix)?;
        let record = driver.state.borrow().record.clone();
        let guest = read_peer(&request.peer)?;
        let network = &self.context.parts.network;
        if guest == network.local_peer_id() {
            let next = "name the node of somebody else";
            return Err(ApiError::new(ErrorKind::Usage, "this node rents it and is let in anyway", next));
        }
        let longest = driver::longest(&record.rental);
        let wanted = request.seconds.map(|seconds| UnixMillis::now().seconds() + u64::from(seconds));
        let expires = wanted.map_or(longest, |wanted| wanted.min(longest));
        let id = record.rental.id;

        let _one_at_a_time = self.sharing.lock().await;
        let mut given = self.given(id).await?;
        let serial = shares::give(&mut given, guest, expires).ok_or_else(|| {
            let next = "share it with somebody who has it already, or rent another";
            ApiError::new(ErrorKind::Failed, format!("the rental was shared with {MAX_SHARES} nodes"), next)
        })?;
        // on disk before anybody has it: what is given can always be taken back
        self.keep_given(id, given).await?;
        let grant = driver::grant(&record, &guest, serial, expires).map_err(|error| chain_error(&error))?;
        let token = ShareToken {
            network: self.context.parts.network_name.clone(),
            provider: record.rental.provider,
            guest,
            id,
            grant,
        };
        let given = Given { guest, serial, expires, taken_back: false };
        Ok(Share { token: Some(shares::to_text(&token)), ..share(id, &given) })
    }

    /// Whom a rental of this node is or was shared with.
    pub async fn shares(&self, prefix: String) -> Result<Vec<Share>, ApiError> {
        let id = self.running(&prefix)?.id;
        Ok(self.given(id).await?.iter().map(|given| share(id, given)).collect())
    }

    /// Takes back what a node was given: its streams have ended and it is not let in again when this returns.
    pub async fn unshare(&self, prefix: String, peer: String) -> Result<Share, ApiError> {
        let driver = self.running(&prefix)?;
        let record = driver.state.borrow().record.clone();
        let (id, provider, guest) = (record.rental.id, record.rental.provider, read_peer(&peer)?);

        let _one_at_a_time = self.sharing.lock().await;
        let mut all = self.given(id).await?;
        let given = all.iter_mut().find(|given| given.guest == guest).ok_or_else(|| {
            let next = format!("see whom it is shared with: node shares {}", id.short());
            ApiError::new(ErrorKind::NoMatch, format!("the rental was never shared with {guest}"), next)
        })?;
        let unshare = driver::unshare(&record, guest, given.serial).map_err(|error| chain_error(&error))?;
        let request = proto::rental_request::Request::Unshare(unshare);
        let answer = match rental_request(&self.context.parts.network, provider, request).await {
            Ok(proto::rental_response::Response::Unshared(unshared)) if unshared.id == id.0.as_slice() => Ok(()),
            Ok(_) => Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
            Err(error) => Err(error),
        };
        answer.map_err(|error| {
            let next = "the node may still get in until the provider has heard it: try again";
            ApiError::new(ErrorKind::Refused, error.into_api(&provider).message, next)
        })?;
        given.taken_back = true;
        let shown = share(id, given);
        self.keep_given(id, all).await?;
        Ok(shown)
    }

    async fn given(&self, id: RentalId) -> Result<Vec<Given>, ApiError> {
        let read = self.context.parts.store.run(move |store| store.get::<Shares>(&id)).await.map_err(store_error)?;
        Ok(read.map(|given| given.0).unwrap_or_default())
    }

    async fn keep_given(&self, id: RentalId, given: Vec<Given>) -> Result<(), ApiError> {
        let write = self.context.parts.store.run(move |store| store.put_sync::<Shares>(&id, &Json(given.clone())));
        write.await.map_err(store_error)
    }

    /// Takes up what another node has shared with this one, if the provider lets it in.
    pub async fn accept(&self, text: String) -> Result<SharedRental, ApiError> {
        let (network, now) = (&self.context.parts.network, UnixMillis::now());
        let token = shares::from_text(&text, &network.local_peer_id(), &self.context.parts.network_name, now)?;
        let (id, taken) = (token.id, Taken::from(&token));
        let full = {
            let mut registry = lock(&self.registry);
            registry.accepted.retain(|_, taken| !taken.is_over(now));
            registry.accepted.len() >= MAX_ACCEPTED && !registry.accepted.contains_key(&id)
        };
        if full {
            let message = format!("{MAX_ACCEPTED} rentals are shared with this node already");
            return Err(ApiError::new(ErrorKind::Failed, message, "wait until one of them is over: node shares"));
        }
        // the provider alone can tell whether the renter has signed it
        self.door_of_others(id, &taken).open(Kind::Stats(proto::Stats {})).await.map_err(|error| not_let_in(&error))?;
        let written = taken.clone();
        let write = self.context.parts.store.run(move |store| store.put_sync::<Accepted>(&id, &Json(written.clone())));
        write.await.map_err(store_error)?;
        let row = shared_rental(id, &taken);
        lock(&self.registry).accepted.insert(id, taken);
        Ok(row)
    }

    /// The rentals that others share with this node.
    pub fn shared(&self) -> Vec<SharedRental> {
        let now = UnixMillis::now();
        let registry = lock(&self.registry);
        registry.accepted.iter().filter(|(_, t)| !t.is_over(now)).map(|(id, taken)| shared_rental(*id, taken)).collect()
    }
}

fn read_peer(text: &str) -> Result<PeerId, ApiError> {
    text.parse().map_err(|_| {
        let next = "`node shares`, on the node that is to be let in, says what that is";
        ApiError::new(ErrorKind::Usage, format!("`{}` is no peer id", wire::shown(text)), next)
    })
}

fn not_let_in(error: &AccessError) -> ApiError {
    let (kind, next) = match error {
        AccessError::Open(OpenError::Refused(_)) => (ErrorKind::Refused, "ask whoever shared it to share it again"),
        _ => (ErrorKind::Failed, "the provider could not be asked: try again"),
    };
    ApiError::new(kind, error.to_string(), next)
}

fn share(id: RentalId, given: &Given) -> Share {
    let until = UnixMillis(given.expires.saturating_mul(1_000));
    Share { id, peer: given.guest.to_base58(), until, taken_back: given.taken_back, token: None }
}

fn shared_rental(id: RentalId, taken: &Taken) -> SharedRental {
    SharedRental { id, provider: taken.provider.to_base58(), until: taken.end() }
}
