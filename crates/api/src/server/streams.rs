//! Streams into rentals, for the commands of this machine: after an HTTP upgrade the connection carries what `proto/session.proto` says,
//! only without a grant, which is the daemon's.

use super::{Failure, Shared, unreadable};
use crate::types::{ApiError, ErrorKind, Visitor};
use axum::{
    body::Body,
    extract::{
        Path as UrlPath, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use utoipa::IntoParams;

/// What both sides call the protocol after the upgrade.
pub(crate) const PROTOCOL: &str = "gpulease-session";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct As {
    /// By what the renter comes in, for the history of logins.
    #[serde(default)]
    #[param(inline)]
    visitor: Visitor,
}

/// Opens a stream into a rental that this node rents: `Upgrade: gpulease-session`, then the frames of `session.proto`.
#[utoipa::path(post, path = "/v1/rentals/{id}/stream", params(("id" = String, Path, description = "Its id, or at least four digits of it."), As),
    responses((status = 101, description = "The stream begins with its header."), (status = "default", description = "It failed.", body = ApiError)
))]
pub(super) async fn open(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    visitor: Result<Query<As>, QueryRejection>,
    mut request: Request,
) -> Result<Response, Failure> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    let Query(As { visitor }) = visitor.map_err(|error| unreadable(&error))?;
    if request.headers().get(header::UPGRADE).is_none_or(|protocol| protocol != PROTOCOL) {
        return Err(unreadable(&format_args!("a stream needs `Connection: upgrade` and `Upgrade: {PROTOCOL}`")));
    }
    let door = shared.control.door(id, visitor).await?;
    let upgraded = hyper::upgrade::on(&mut request);
    // Its place among the connections goes with it; it ends with the daemon.
    tokio::spawn(shared.cancel.clone().run_until_cancelled_owned(async move {
        let carried = match upgraded.await {
            Ok(command) => {
                access::splice::carry(TokioIo::new(command), &*door).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = carried {
            tracing::debug!(%error, "control API: a stream into a rental ended badly");
        }
    }));
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Body::empty());
    switching.map(IntoResponse::into_response).map_err(|error| {
        Failure(ApiError::new(ErrorKind::Failed, format!("the answer cannot be written: {error}"), ""))
    })
}
