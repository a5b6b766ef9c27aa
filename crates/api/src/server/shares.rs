//! Letting other nodes into rentals of this one, and being let into theirs.

use super::{Answer, Shared, unreadable};
use crate::types::{AcceptRequest, ApiError, Share, ShareRequest, SharedRental, UnshareRequest};
use axum::{
    Json,
    extract::{
        Path as UrlPath, State,
        rejection::{JsonRejection, PathRejection},
    },
};

/// Whom a rental of this node is or was shared with.
#[utoipa::path(get, path = "/v1/rentals/{id}/shares", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    responses((status = 200, body = [Share]), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn list(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Answer<Vec<Share>> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.shares(id).await?))
}

/// Lets another node into a rental. The answer's token is what that node accepts.
#[utoipa::path(post, path = "/v1/rentals/{id}/shares", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    request_body = ShareRequest,
    responses((status = 200, body = Share), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn share(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    request: Result<Json<ShareRequest>, JsonRejection>,
) -> Answer<Share> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.share(id, request).await?))
}

/// Lets a node in no more: its streams have ended, and it is refused from now on.
#[utoipa::path(post, path = "/v1/rentals/{id}/unshare", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    request_body = UnshareRequest,
    responses((status = 200, body = Share), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn unshare(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    request: Result<Json<UnshareRequest>, JsonRejection>,
) -> Answer<Share> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.unshare(id, request).await?))
}

/// The rentals that other nodes share with this one.
#[utoipa::path(get, path = "/v1/shared", responses(
    (status = 200, body = [SharedRental]), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn shared(State(shared): State<Shared>) -> Answer<Vec<SharedRental>> {
    Ok(Json(shared.control.shared().await?))
}

/// Takes up what another node has shared with this one, if the provider lets it in.
#[utoipa::path(post, path = "/v1/shared", request_body = AcceptRequest, responses(
    (status = 200, body = SharedRental), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn accept(
    State(shared): State<Shared>,
    request: Result<Json<AcceptRequest>, JsonRejection>,
) -> Answer<SharedRental> {
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.accept(request).await?))
}
