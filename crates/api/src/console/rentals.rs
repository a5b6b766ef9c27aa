//! What the page shows of rentals and money: the control API's own records, of the renter's side.

use super::Shared;
use crate::{
    server::{Answer, unreadable},
    types::{ApiError, ErrorKind, NodeInfo, RentalRow, RentalStory, Role, WalletView},
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::request::Parts,
};
use market::id::RentalId;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

/// The rental that a request's path names, by its whole id.
pub(super) struct Rental(pub(super) RentalId);

impl<S: Send + Sync> FromRequestParts<S> for Rental {
    type Rejection = crate::server::Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        #[derive(Deserialize)]
        struct Named {
            rental: String,
        }
        let Named { rental } = path(parts, state).await?;
        rental.parse().map(Self).map_err(|_| unreadable(&format_args!("`{rental}` is no id of a rental")))
    }
}

/// The parameters of a request's path that `T` names.
pub(super) async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, crate::server::Failure> {
    Path::<T>::from_request_parts(parts, state).await.map(|Path(named)| named).map_err(|error| unreadable(&error))
}

/// Describes the daemon.
#[utoipa::path(get, path = "/node", responses((status = 200, body = NodeInfo), (status = "default", body = ApiError)))]
pub(super) async fn node(State(shared): State<Shared>) -> Answer<NodeInfo> {
    Ok(Json(shared.control.node().await?))
}

/// The wallets of the node and what they hold.
#[utoipa::path(get, path = "/wallets", responses((status = 200, body = [WalletView]), (status = "default", body = ApiError)))]
pub(super) async fn wallets(State(shared): State<Shared>) -> Answer<Vec<WalletView>> {
    Ok(Json(shared.control.wallets().await?))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct All {
    /// Ended rentals too.
    #[serde(default)]
    all: bool,
}

/// The rentals of the node as a renter, newest first.
#[utoipa::path(get, path = "/rentals", params(All), responses(
    (status = 200, body = [RentalRow]), (status = "default", body = ApiError)
))]
pub(super) async fn list(
    State(shared): State<Shared>,
    all: Result<Query<All>, QueryRejection>,
) -> Answer<Vec<RentalRow>> {
    let Query(All { all }) = all.map_err(|error| unreadable(&error))?;
    let mut rentals = shared.control.rentals(all).await?;
    rentals.retain(|rental| rental.role == Role::Renter);
    Ok(Json(rentals))
}

/// The whole story of a rental, from the renter's side.
#[utoipa::path(get, path = "/rentals/{rental}", params(("rental" = String, Path, description = "Its id.")), responses(
    (status = 200, body = RentalStory), (status = "default", body = ApiError)
))]
pub(super) async fn story(State(shared): State<Shared>, Rental(rental): Rental) -> Answer<RentalStory> {
    let stories = shared.control.story(rental.to_string()).await?;
    let ours = stories.into_iter().find(|story| story.rental.role == Role::Renter);
    let none = || ApiError::new(ErrorKind::NoMatch, format!("this node did not rent {rental}"), "");
    Ok(Json(ours.ok_or_else(none)?))
}

/// Orders the end of a rental.
#[utoipa::path(post, path = "/rentals/{rental}/stop", params(("rental" = String, Path, description = "Its id.")), responses(
    (status = 200, body = RentalRow), (status = "default", body = ApiError)
))]
pub(super) async fn stop(State(shared): State<Shared>, Rental(rental): Rental) -> Answer<RentalRow> {
    Ok(Json(shared.control.stop(rental.to_string()).await?))
}
