//! Following the book: each change as a server-sent event, once it is on disk. Whoever reads too slowly is told that it has missed some, and
//! let go; it reads `/v1/changes` since the last that it has seen, and follows again.

use super::{Address, Shared, answers::Failure, gate::household};
use crate::{book::BookChange, figures::Figures};
use axum::{
    extract::{ConnectInfo, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, stream};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Clients that follow at once, each a connection and a place in the queue of changes.
const MAX_FOLLOWERS: usize = 64;
/// And from one address, so that none can take all the places.
const MAX_FOLLOWERS_OF_ONE: usize = 4;
/// How often a client of a quiet book is told that the connection lives: less than proxies wait.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Who follows.
#[derive(Debug)]
pub(super) struct Followers {
    places: Mutex<HashMap<IpAddr, usize>>,
    figures: Arc<Figures>,
}

impl Followers {
    pub(super) fn new(figures: Arc<Figures>) -> Self {
        Self { places: Mutex::default(), figures }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Failure> {
        let mut places = self.places();
        let (all, own) = (places.values().sum::<usize>(), places.get(&address).copied().unwrap_or_default());
        if own >= MAX_FOLLOWERS_OF_ONE {
            let message = format!("{MAX_FOLLOWERS_OF_ONE} clients at {address} follow the book already");
            return Err(Failure::busy(StatusCode::TOO_MANY_REQUESTS, message));
        }
        if all >= MAX_FOLLOWERS {
            let message = format!("{MAX_FOLLOWERS} clients follow the book already; read /v1/changes instead");
            return Err(Failure::busy(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        *places.entry(address).or_default() += 1;
        self.figures.followers.add(1);
        Ok(Place { followers: Arc::clone(self), address })
    }
}

/// A place among the followers.
struct Place {
    followers: Arc<Followers>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.followers.places();
        if let Some(own) = places.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.address);
            }
        }
        self.followers.figures.followers.take(1);
    }
}

/// The changes of the book as they happen: `taken` and `over`, each with its data as JSON, and `dropped` for whoever is too slow.
#[utoipa::path(get, path = "/v1/events", responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = "default", description = "It failed.", body = api::types::ApiError)
))]
pub(super) async fn follow(
    State(shared): State<Shared>,
    ConnectInfo(Address(address)): ConnectInfo<Address>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let place = shared.followers.enter(household(address))?;
    let events = events(shared.book.watch(), place).take_until(shared.cancel.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn events(changes: Receiver<BookChange>, place: Place) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some((changes, place)), async |state| {
        let (mut changes, place) = state?;
        match changes.recv().await {
            Ok(change) => Some((Ok(told(&change)), Some((changes, place)))),
            Err(RecvError::Lagged(missed)) => {
                place.followers.figures.lagging.add(1);
                Some((Ok(dropped(missed)), None))
            }
            Err(RecvError::Closed) => None,
        }
    })
}

fn told(change: &BookChange) -> Event {
    match change {
        BookChange::Taken { peer, seq, updated_at } => {
            let data = serde_json::json!({ "peer": peer.to_base58(), "seq": seq, "updated_at": updated_at });
            Event::default().event("taken").id(updated_at.to_string()).data(data.to_string())
        }
        BookChange::Over { peer } => {
            Event::default().event("over").data(serde_json::json!({ "peer": peer.to_base58() }).to_string())
        }
    }
}

fn dropped(missed: u64) -> Event {
    let data = serde_json::json!({
        "message": format!("{missed} changes were missed, since they were read too slowly"),
        "next": "read /v1/changes since the last updated_at that was seen, and follow again",
    });
    Event::default().event("dropped").data(data.to_string())
}
