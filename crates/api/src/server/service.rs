//! What is ordered while rentals go on: that a provider take no new ones, or take them again, or read its configuration again; that a renter's
//! go on for longer, or be shown in a browser.

use super::{Answer, Shared, unreadable};
use crate::types::{
    ApiError, ConsoleLink, ConsoleRequest, DrainRequest, ExtendRequest, HardwareCheck, Reloaded, RentalRow,
    ServiceState,
};
use axum::{
    Json,
    extract::{
        Path as UrlPath, State,
        rejection::{JsonRejection, PathRejection},
    },
};

/// Has the provider take no new rentals, until a moment or until told otherwise. Those that go on finish.
#[utoipa::path(post, path = "/v1/service/drain", request_body = DrainRequest, responses(
    (status = 200, body = ServiceState), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn drain(
    State(shared): State<Shared>,
    request: Result<Json<DrainRequest>, JsonRejection>,
) -> Answer<ServiceState> {
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.drain(request).await?))
}

/// Has the provider take new rentals again.
#[utoipa::path(post, path = "/v1/service/undrain", responses(
    (status = 200, body = ServiceState), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn undrain(State(shared): State<Shared>) -> Answer<ServiceState> {
    Ok(Json(shared.control.undrain().await?))
}

/// Reads the configuration again, and takes up what it says of prices and of whom and when to serve. A file that makes no sense changes nothing.
#[utoipa::path(post, path = "/v1/service/reload", responses(
    (status = 200, body = Reloaded), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn reload(State(shared): State<Shared>) -> Answer<Reloaded> {
    Ok(Json(shared.control.reload().await?))
}

/// Has a rental go on after its end, in one that continues it: that one, once it is open.
#[utoipa::path(post, path = "/v1/rentals/{id}/extend", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    request_body = ExtendRequest,
    responses((status = 200, body = RentalRow), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn extend(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    request: Result<Json<ExtendRequest>, JsonRejection>,
) -> Answer<RentalRow> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.extend(id, request).await?))
}

/// Checks the hardware in a rental by the challenge, and says what was seen. A rental whose machine is not as promised is left.
#[utoipa::path(post, path = "/v1/rentals/{id}/check", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    responses((status = 200, body = HardwareCheck), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn check(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Answer<HardwareCheck> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.check(id).await?))
}

/// A link into the web console.
#[utoipa::path(post, path = "/v1/console", request_body = ConsoleRequest, responses(
    (status = 200, body = ConsoleLink), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn console(
    State(shared): State<Shared>,
    request: Result<Json<ConsoleRequest>, JsonRejection>,
) -> Answer<ConsoleLink> {
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.console(request).await?))
}
