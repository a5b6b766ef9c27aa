//! The daemon's side of the control API: HTTP over a Unix socket that only the daemon's user may open. It translates requests into
//! calls of [`Control`] and their results into JSON; what the calls mean is the roles' business. The same handlers and records
//! generate the description at `/openapi.json`, so that it cannot drift from what is served.

mod clients;
mod service;
mod shares;
mod streams;

pub use clients::{Bounded, Client};
pub(crate) use streams::PROTOCOL;

use crate::{
    control::Control,
    evidence::{Evidence, Statement, Stop, Transaction},
    types::{
        AcceptRequest, ApiError, Approval, Balance, CheckOutcome, CheckedDevice, Checks, ConditionRow, ConsoleLink,
        ConsoleRequest, Dispute, DisputeRequest, DrainRequest, ErrorKind, Estimate, ExtendRequest, HardwareCheck,
        IndexerRow, JobSummary, NearOffer, NodeInfo, OfferExplanation, OfferQuery, OfferRow, PastRental, RatingRequest,
        RatingState, RatingView, Receipt, Reloaded, RentalRow, RentalStory, Reputation, ReputationQuery, Revocation,
        Revoked, Role, RunEvent, RunRequest, RunStarted, RunStep, ServiceState, Share, ShareRequest, SharedRental,
        StoryStep, TransactionRef, UnshareRequest, Visit, VisitKind, Visitor, WalletView,
    },
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Path as UrlPath, Query, Request, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use serde::Deserialize;
use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, OpenApi};

/// How long a request may take before it is answered with a timeout. A search may ask several peers and a stop may wait for a
/// transaction to be sent; both are well below. Event streams are not limited: only their beginning is.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// The largest request body: a run's arguments and environment, for which the kernel's own limit is 2 MiB at most and 128 KiB a string.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Connections served at once: followed runs and commands of one user. More of them wait for one to end.
pub const MAX_CLIENTS: usize = 256;
/// How long requests in progress may go on once the daemon is told to end; event streams end at once and are resumed by their clients.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// The longest socket path the kernel takes (`sun_path` has 108 bytes with the final zero).
pub const MAX_SOCKET_PATH: usize = 107;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody answers on the socket.
    #[error("another daemon already listens on {0}")]
    InUse(PathBuf),
    /// Something else stands where the socket should be; it is never removed.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// Longer than the kernel takes.
    #[error("the socket path {0} is longer than {MAX_SOCKET_PATH} bytes")]
    PathTooLong(PathBuf),
    /// The file system or the kernel said no.
    #[error("cannot listen on {path}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
}

/// A bound socket, not yet served. Removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    socket: Socket,
}

impl Server {
    /// Binds `path` with mode 0600. A socket left behind by a daemon that died is replaced; one that somebody answers on is not.
    pub async fn bind(path: &Path) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Io { path: path.to_owned(), source };
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(ServerError::PathTooLong(path.to_owned()));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ServerError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(ServerError::InUse(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = bind_private(path).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok(Self { listener, socket: Socket { path: path.to_owned(), inode } })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Answers requests until `cancel`, then for at most [`SHUTDOWN_GRACE`] those already in progress.
    pub async fn serve(self, control: Arc<dyn Control>, cancel: CancellationToken) -> Result<(), ServerError> {
        self.serve_with(control, cancel, REQUEST_LIMIT).await
    }

    async fn serve_with(
        self,
        control: Arc<dyn Control>,
        cancel: CancellationToken,
        limit: Duration,
    ) -> Result<(), ServerError> {
        let app = router(Shared { control, cancel: cancel.clone() }, limit);
        let serving = axum::serve(Bounded::new(self.listener, MAX_CLIENTS), app)
            .with_graceful_shutdown(cancel.clone().cancelled_owned());
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(|source| ServerError::Io { path: self.socket.path.clone(), source }),
            () = overdue => {
                tracing::warn!("control API: requests were still in progress {} s after the end was ordered", SHUTDOWN_GRACE.as_secs());
                Ok(())
            }
        }
    }
}

/// Binds inside a fresh folder that nobody else may enter and moves the socket to its place when its mode is right: there is no
/// moment at which another user could connect, and no change to the process's umask.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = parent.join(format!(".s{}", std::process::id()));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::DirBuilder::new().mode(0o700).create(&folder)?,
    }
    let bound = (|| {
        let inside = folder.join("s");
        let listener = UnixListener::bind(&inside)?;
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    })();
    fs::remove_dir_all(&folder)?;
    bound
}

/// The socket's file; removed with its server, unless another daemon has put its own there meanwhile.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "control API: the socket could not be removed");
        }
    }
}

#[derive(Clone)]
struct Shared {
    control: Arc<dyn Control>,
    cancel: CancellationToken,
}

fn router(shared: Shared, limit: Duration) -> Router {
    Router::new()
        .route("/v1/node", get(node))
        .route("/v1/offers", get(offers))
        .route("/v1/offers/explain", get(explain))
        .route("/v1/indexers", get(indexers))
        .route("/v1/runs", post(start_run))
        .route("/v1/runs/{run}/events", get(run_events))
        .route("/v1/rentals", get(rentals))
        .route("/v1/rentals/{id}", get(story))
        .route("/v1/rentals/{id}/stop", post(stop_rental))
        .route("/v1/rentals/{id}/extend", post(service::extend))
        .route("/v1/rentals/{id}/check", post(service::check))
        .route("/v1/rentals/{id}/stream", post(streams::open))
        .route("/v1/rentals/{id}/shares", get(shares::list).post(shares::share))
        .route("/v1/rentals/{id}/unshare", post(shares::unshare))
        .route("/v1/shared", get(shares::shared).post(shares::accept))
        .route("/v1/rentals/{id}/evidence", get(evidence))
        .route("/v1/rentals/{id}/dispute", get(dispute).post(order_dispute))
        .route("/v1/rentals/{id}/rating", post(rate))
        .route("/v1/providers/{provider}/reputation", get(reputation))
        .route("/v1/console", post(service::console))
        .route("/v1/receipts", get(receipts))
        .route("/v1/wallets", get(wallets))
        .route("/v1/approvals", get(approvals))
        .route("/v1/approvals/revoke", post(revoke))
        .route("/v1/service/drain", post(service::drain))
        .route("/v1/service/undrain", post(service::undrain))
        .route("/v1/service/reload", post(service::reload))
        .route("/openapi.json", get(description))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn(move |request: Request, next: Next| within(limit, request, next)))
        .with_state(shared)
}

/// The description of this API, as served at `/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "gpulease control API", description = "What a local gpulease daemon can be asked to do."),
    paths(
        node,
        offers,
        explain,
        indexers,
        start_run,
        run_events,
        rentals,
        story,
        stop_rental,
        streams::open,
        evidence,
        dispute,
        order_dispute,
        rate,
        reputation,
        receipts,
        wallets,
        approvals,
        revoke,
        service::drain,
        service::undrain,
        service::reload,
        service::extend,
        service::check,
        service::console,
        shares::list,
        shares::share,
        shares::unshare,
        shares::shared,
        shares::accept,
        description
    ),
    components(schemas(
        AcceptRequest,
        ApiError,
        Approval,
        Balance,
        ConditionRow,
        ConsoleLink,
        ConsoleRequest,
        Dispute,
        DisputeRequest,
        DrainRequest,
        ErrorKind,
        Estimate,
        ExtendRequest,
        HardwareCheck,
        CheckOutcome,
        CheckedDevice,
        Checks,
        Evidence,
        IndexerRow,
        JobSummary,
        NearOffer,
        NodeInfo,
        OfferExplanation,
        OfferQuery,
        OfferRow,
        PastRental,
        RatingRequest,
        RatingState,
        RatingView,
        Receipt,
        Reloaded,
        RentalRow,
        RentalStory,
        Reputation,
        Revocation,
        Revoked,
        Role,
        RunEvent,
        RunRequest,
        RunStarted,
        RunStep,
        ServiceState,
        Share,
        ShareRequest,
        SharedRental,
        Statement,
        Stop,
        StoryStep,
        Transaction,
        TransactionRef,
        UnshareRequest,
        Visit,
        VisitKind,
        Visitor,
        WalletView
    ))
)]
struct Description;

/// An error on its way to the client: JSON with the status that fits its class.
pub(crate) struct Failure(ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (status_of(self.0.kind), Json(self.0)).into_response()
    }
}

const fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::NoDaemon => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NoMatch => StatusCode::NOT_FOUND,
        ErrorKind::Funds => StatusCode::PAYMENT_REQUIRED,
        ErrorKind::Refused => StatusCode::CONFLICT,
        ErrorKind::Chain => StatusCode::BAD_GATEWAY,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

pub(crate) type Answer<T> = Result<Json<T>, Failure>;

/// A request that axum could not read, in our words.
pub(crate) fn unreadable(what: &dyn std::fmt::Display) -> Failure {
    Failure(ApiError::new(ErrorKind::Usage, what.to_string(), "the description of this API is at /openapi.json"))
}

async fn within(limit: Duration, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::warn!(path, "control API: a request took longer than {} s", limit.as_secs());
            let message = format!("the daemon did not answer {path} within {} s", limit.as_secs());
            Failure(ApiError::new(ErrorKind::Timeout, message, "try again; the daemon's log may say what it waits for"))
                .into_response()
        }
    }
}

async fn unknown_path(uri: Uri) -> Response {
    let mut response = unreadable(&format_args!("there is no {}", uri.path())).into_response();
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let mut response = unreadable(&format_args!("{} does not take {method}", uri.path())).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// Describes the daemon.
#[utoipa::path(get, path = "/v1/node", responses(
    (status = 200, body = NodeInfo), (status = "default", description = "It failed.", body = ApiError)
))]
async fn node(State(shared): State<Shared>) -> Answer<NodeInfo> {
    Ok(Json(shared.control.node().await?))
}

/// Searches the offers known to the daemon.
#[utoipa::path(get, path = "/v1/offers", params(OfferQuery), responses(
    (status = 200, body = [OfferRow]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn offers(
    State(shared): State<Shared>,
    query: Result<Query<OfferQuery>, QueryRejection>,
) -> Answer<Vec<OfferRow>> {
    let Query(query) = query.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.offers(query).await?))
}

/// Says why a search finds so little: what each condition removes, and which offers fail at one only.
#[utoipa::path(get, path = "/v1/offers/explain", params(OfferQuery), responses(
    (status = 200, body = OfferExplanation), (status = "default", description = "It failed.", body = ApiError)
))]
async fn explain(
    State(shared): State<Shared>,
    query: Result<Query<OfferQuery>, QueryRejection>,
) -> Answer<OfferExplanation> {
    let Query(query) = query.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.explain(query).await?))
}

/// The indexers that were asked for offers since the daemon started, and what came of it.
#[utoipa::path(get, path = "/v1/indexers", responses(
    (status = 200, body = [IndexerRow]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn indexers(State(shared): State<Shared>) -> Answer<Vec<IndexerRow>> {
    Ok(Json(shared.control.indexers().await?))
}

/// Begins a run: rents a machine, runs a program there, brings its outputs back. It goes on without the caller.
#[utoipa::path(post, path = "/v1/runs", request_body = RunRequest, responses(
    (status = 202, body = RunStarted), (status = "default", description = "It failed.", body = ApiError)
))]
async fn start_run(
    State(shared): State<Shared>,
    request: Result<Json<RunRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<RunStarted>), Failure> {
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok((StatusCode::ACCEPTED, Json(shared.control.run(request).await?)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Since {
    /// Number of the first event wanted.
    #[serde(default)]
    from: u64,
}

/// The events of a run, one JSON object a line, as they happen and until its last.
#[utoipa::path(get, path = "/v1/runs/{run}/events", params(("run" = u64, Path, description = "The run's number."), Since), responses(
    (status = 200, content_type = "application/x-ndjson", body = RunEvent),
    (status = "default", description = "It failed.", body = ApiError)
))]
async fn run_events(
    State(shared): State<Shared>,
    run: Result<UrlPath<u64>, PathRejection>,
    from: Result<Query<Since>, QueryRejection>,
) -> Result<Response, Failure> {
    let UrlPath(run) = run.map_err(|error| unreadable(&error))?;
    let Query(Since { from }) = from.map_err(|error| unreadable(&error))?;
    let events = shared.control.run_events(run, from).await?;
    let lines = events.take_until(shared.cancel.cancelled_owned()).map(|event| {
        let mut line = serde_json::to_vec(&event).unwrap_or_else(|error| {
            tracing::error!(%error, "control API: an event could not be written as JSON");
            Vec::new()
        });
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct All {
    /// Ended rentals too.
    #[serde(default)]
    all: bool,
}

/// The rentals of every role of the node, newest first.
#[utoipa::path(get, path = "/v1/rentals", params(All), responses(
    (status = 200, body = [RentalRow]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn rentals(State(shared): State<Shared>, all: Result<Query<All>, QueryRejection>) -> Answer<Vec<RentalRow>> {
    let Query(All { all }) = all.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.rentals(all).await?))
}

/// The whole story of a rental, as this node knows it: one for each side that it is on.
#[utoipa::path(get, path = "/v1/rentals/{id}", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    responses((status = 200, body = [RentalStory]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn story(State(shared): State<Shared>, id: Result<UrlPath<String>, PathRejection>) -> Answer<Vec<RentalStory>> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.story(id).await?))
}

/// Orders the end of a rental.
#[utoipa::path(post, path = "/v1/rentals/{id}/stop", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    responses((status = 200, body = RentalRow), (status = "default", description = "It failed.", body = ApiError)
))]
async fn stop_rental(State(shared): State<Shared>, id: Result<UrlPath<String>, PathRejection>) -> Answer<RentalRow> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.stop(id).await?))
}

/// Everything signed of a rental that the node has: a file for each side that it is on, the renter's first.
#[utoipa::path(get, path = "/v1/rentals/{id}/evidence", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    responses((status = 200, body = [Evidence]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn evidence(State(shared): State<Shared>, id: Result<UrlPath<String>, PathRejection>) -> Answer<Vec<Evidence>> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.evidence(id).await?))
}

/// How the dispute of a rental stands.
#[utoipa::path(get, path = "/v1/rentals/{id}/dispute", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    responses((status = 200, body = Dispute), (status = "default", description = "It failed.", body = ApiError)
))]
async fn dispute(State(shared): State<Shared>, id: Result<UrlPath<String>, PathRejection>) -> Answer<Dispute> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.dispute(id).await?))
}

/// Orders a rental to be stopped on chain for its arbiter to rule on.
#[utoipa::path(post, path = "/v1/rentals/{id}/dispute", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    request_body = DisputeRequest,
    responses((status = 200, body = Dispute), (status = "default", description = "It failed.", body = ApiError)
))]
async fn order_dispute(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    request: Result<Json<DisputeRequest>, JsonRejection>,
) -> Answer<Dispute> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.order_dispute(id, request).await?))
}

/// Says what this node thinks of a closed rental that it rented.
#[utoipa::path(post, path = "/v1/rentals/{id}/rating", params(("id" = String, Path, description = "Its id, or at least four digits of it.")),
    request_body = RatingRequest,
    responses((status = 200, body = RatingView), (status = "default", description = "It failed.", body = ApiError)
))]
async fn rate(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    request: Result<Json<RatingRequest>, JsonRejection>,
) -> Answer<RatingView> {
    let UrlPath(id) = id.map_err(|error| unreadable(&error))?;
    let Json(request) = request.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.rate(id, request).await?))
}

/// What is known of a provider, and from what it follows.
#[utoipa::path(get, path = "/v1/providers/{provider}/reputation",
    params(("provider" = String, Path, description = "Its wallet, its peer id, or the end of that."), ReputationQuery),
    responses((status = 200, body = Reputation), (status = "default", description = "It failed.", body = ApiError)
))]
async fn reputation(
    State(shared): State<Shared>,
    provider: Result<UrlPath<String>, PathRejection>,
    query: Result<Query<ReputationQuery>, QueryRejection>,
) -> Answer<Reputation> {
    let UrlPath(provider) = provider.map_err(|error| unreadable(&error))?;
    let Query(query) = query.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.reputation(provider, query).await?))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Id {
    /// Beginning of the id; empty for all.
    #[serde(default)]
    id: String,
}

/// Receipts of closed rentals, newest first.
#[utoipa::path(get, path = "/v1/receipts", params(Id), responses(
    (status = 200, body = [Receipt]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn receipts(State(shared): State<Shared>, id: Result<Query<Id>, QueryRejection>) -> Answer<Vec<Receipt>> {
    let Query(Id { id }) = id.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.receipts(id).await?))
}

/// The wallets of the node and what they hold.
#[utoipa::path(get, path = "/v1/wallets", responses(
    (status = 200, body = [WalletView]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn wallets(State(shared): State<Shared>) -> Answer<Vec<WalletView>> {
    Ok(Json(shared.control.wallets().await?))
}

/// The allowances that the wallets of the node have given: who may take which tokens.
#[utoipa::path(get, path = "/v1/approvals", responses(
    (status = 200, body = [Approval]), (status = "default", description = "It failed.", body = ApiError)
))]
async fn approvals(State(shared): State<Shared>) -> Answer<Vec<Approval>> {
    Ok(Json(shared.control.approvals().await?))
}

/// Takes an allowance back, and answers when that is confirmed.
#[utoipa::path(post, path = "/v1/approvals/revoke", request_body = Revocation, responses(
    (status = 200, body = Revoked), (status = "default", description = "It failed.", body = ApiError)
))]
async fn revoke(State(shared): State<Shared>, wanted: Result<Json<Revocation>, JsonRejection>) -> Answer<Revoked> {
    let Json(wanted) = wanted.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.control.revoke(wanted).await?))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object, content_type = "application/json")))]
async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}

#[cfg(test)]
pub(crate) mod tests;
