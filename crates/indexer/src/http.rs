//! The indexer's HTTP interface: searches, lists and changes of the book for anybody, read-only. Every answer about offers carries the signed
//! originals, so that a client in whatever language can check them; the description is served at `/openapi.json`.
//!
//! It is public by nature: no cookies, no tokens, nothing that belongs to a person. So any page in a browser may read it, and what
//! everybody's requests may cost is bounded: connections, requests of an address, time, and how many follow the changes.

mod answers;
mod connections;
mod events;
mod gate;

use crate::{book::DiskBook, figures::Figures, search::Searches};
use answers::{AdPage, Description, Failure, SearchAnswer, SignedAd, tagged};
use api::types::{ApiError, ErrorKind, OfferQuery};
use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, Uri},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use events::Followers;
use gate::Gate;
use market::class::GpuClass;
use network::{Handle, PeerId};
use serde::Deserialize;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use store::StoreError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, OpenApi};

/// Advertisements in one page of a list, as over the peer protocol.
const MAX_PAGE: usize = wire::MAX_LIST_PAGE;

/// Who answers.
#[derive(Clone, Debug)]
pub struct About {
    /// The network's handle.
    pub network: Handle,
    /// The network's name.
    pub network_name: String,
}

/// A bound server, not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

/// What the handlers work with.
#[derive(Clone)]
struct Shared {
    about: About,
    searches: Searches,
    book: Arc<DiskBook>,
    figures: Arc<Figures>,
    followers: Arc<Followers>,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("about", &self.about).finish_non_exhaustive()
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
struct Address(IpAddr);

impl Server {
    /// Binds an address; port 0 takes a free one.
    pub async fn bind(
        address: SocketAddr,
        about: About,
        searches: Searches,
        book: Arc<DiskBook>,
        figures: Arc<Figures>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (followers, cancel) = (Followers::new(Arc::clone(&figures)), CancellationToken::new());
        let shared = Shared { about, searches, book, figures, followers: Arc::new(followers), cancel };
        Ok(Self { listener, address, shared })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until cancelled. Whoever is being served then is cut off: everything can be asked again.
    pub async fn serve(self, cancel: CancellationToken) {
        let Self { listener, address, mut shared } = self;
        shared.cancel = cancel.clone();
        tracing::info!(%address, "answering searches over HTTP");
        tokio::select! {
            () = cancel.cancelled() => {}
            never = connections::serve(listener, router(shared)) => match never {},
        }
    }
}

fn router(shared: Shared) -> Router {
    let gate = Arc::new(Gate::new(Arc::clone(&shared.figures)));
    Router::new()
        .route("/v1/indexer", get(describe))
        .route("/v1/search", get(search))
        .route("/v1/ads", get(ads))
        .route("/v1/ads/{peer}", get(ad_of))
        .route("/v1/changes", get(changes))
        .route("/v1/events", get(events::follow))
        .route("/openapi.json", get(description))
        .fallback(unknown_path)
        .method_not_allowed_fallback(gate::other_method)
        .layer(DefaultBodyLimit::max(0))
        .layer(middleware::from_fn_with_state(gate, gate::pass))
        .with_state(shared)
}

/// The description of this interface, as served at `/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "gpulease indexer", description = "The offers of the market, with the providers' signatures."),
    paths(describe, search, ads, ad_of, changes, events::follow, description),
    components(schemas(
        AdPage,
        ApiError,
        Description,
        ErrorKind,
        SearchAnswer,
        SignedAd,
        answers::SearchRow,
        api::types::OfferRow
    ))
)]
struct Described;

/// A request that axum could not read, in our words.
fn unreadable(what: &dyn std::fmt::Display) -> Failure {
    Failure::from(ApiError::new(ErrorKind::Usage, what.to_string(), "the description of this API is at /openapi.json"))
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is no {}", uri.path());
    Failure::from(ApiError::new(ErrorKind::NoMatch, message, "the description of this API is at /openapi.json"))
        .into_response()
}

/// Runs a read of the disk where it may block.
async fn from_disk<R: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&DiskBook) -> Result<R, StoreError> + Send + 'static,
) -> Result<R, Failure> {
    let book = Arc::clone(&shared.book);
    let read = tokio::task::spawn_blocking(move || read(&book)).await;
    read.map_err(StoreError::Interrupted).and_then(|read| read).map_err(|error| {
        tracing::error!(%error, "a page of the book cannot be read");
        Failure::from(ApiError::new(ErrorKind::Failed, "the book cannot be read", "try again, or ask another indexer"))
    })
}

/// Who answers here, and how much it holds.
#[utoipa::path(get, path = "/v1/indexer", responses((status = 200, body = Description)))]
async fn describe(State(shared): State<Shared>) -> Json<Description> {
    let held = shared.about.network.held();
    Json(Description {
        peer: shared.about.network.local_peer_id().to_base58(),
        network: shared.about.network_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: shared.about.network.listen_addrs().iter().map(ToString::to_string).collect(),
        providers: held.providers,
        offers: held.offers,
        last: shared.book.last(),
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SearchQuery {
    /// Conditions in the query language; empty matches everything.
    #[serde(default)]
    query: String,
    /// Sort keys such as `price,-vram`; empty sorts by price, or by the cost of the job.
    #[serde(default)]
    order: String,
    /// A job whose cost is estimated, such as `tflop=1e6`; empty for none.
    #[serde(default)]
    job: String,
    /// What tokens are worth, one a line, such as `USDC@8453 1`; without them prices in different tokens are not compared.
    #[serde(default)]
    rates: String,
    /// At most so many rows; 0 means 50, and 64 is the most.
    #[serde(default)]
    limit: usize,
    /// `next` of the page before.
    #[serde(default)]
    cursor: String,
}

/// Searches the offers.
#[utoipa::path(get, path = "/v1/search", params(SearchQuery), responses(
    (status = 200, body = SearchAnswer), (status = 304, description = "As in the answer with this ETag."),
    (status = "default", description = "It failed.", body = ApiError)
))]
async fn search(
    State(shared): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(SearchQuery { query, order, job, rates, limit, cursor }) = query.map_err(|error| unreadable(&error))?;
    let page = shared.searches.page(&OfferQuery { query, order, limit, job, rates }, &cursor).await?;
    tagged(&shared.figures, &headers, &SearchAnswer::of(&page))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// A class of machine, such as `h200` or `cpu`.
    class: String,
    /// The peer that ended the page before.
    #[serde(default)]
    after: String,
}

/// Advertisements with an offer in a class, as they were signed, in pages of 64.
#[utoipa::path(get, path = "/v1/ads", params(ListQuery), responses(
    (status = 200, body = AdPage), (status = "default", description = "It failed.", body = ApiError)
))]
async fn ads(
    State(shared): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(ListQuery { class, after }) = query.map_err(|error| unreadable(&error))?;
    let class: GpuClass = class.parse().map_err(|error| unreadable(&error))?;
    let after = if after.is_empty() { None } else { Some(read_peer(&after)?) };
    let page = from_disk(&shared, move |book| book.of_class(class, after.as_ref(), MAX_PAGE)).await?;
    let next = page.last().filter(|_| page.len() == MAX_PAGE).map(|(peer, _)| peer.to_base58());
    tagged(&shared.figures, &headers, &AdPage { ads: page.iter().map(SignedAd::kept).collect(), next })
}

/// A provider's advertisement, as it was signed.
#[utoipa::path(get, path = "/v1/ads/{peer}", params(("peer" = String, Path, description = "The provider's peer id.")), responses(
    (status = 200, body = SignedAd), (status = "default", description = "It failed.", body = ApiError)
))]
async fn ad_of(
    State(shared): State<Shared>,
    headers: HeaderMap,
    peer: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Path(peer) = peer.map_err(|error| unreadable(&error))?;
    let peer = read_peer(&peer)?;
    match from_disk(&shared, move |book| book.get(&peer)).await? {
        Some(ad) => tagged(&shared.figures, &headers, &SignedAd::kept(&(peer, ad))),
        None => {
            let message = format!("nothing is held of {peer}");
            Err(Failure::from(ApiError::new(ErrorKind::NoMatch, message, "it may have left the market")))
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SinceQuery {
    /// The `updated_at` up to which everything is known; 0 is the beginning.
    #[serde(default)]
    since: u64,
}

/// Advertisements taken since a moment, the oldest first, in pages of 64. What is over is not told: it says itself when it ends.
#[utoipa::path(get, path = "/v1/changes", params(SinceQuery), responses(
    (status = 200, body = AdPage), (status = "default", description = "It failed.", body = ApiError)
))]
async fn changes(
    State(shared): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<SinceQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(SinceQuery { since }) = query.map_err(|error| unreadable(&error))?;
    let page = from_disk(&shared, move |book| book.changed_since(since, MAX_PAGE)).await?;
    let next = page.last().filter(|_| page.len() == MAX_PAGE).map(|(_, ad)| ad.updated_at.to_string());
    tagged(&shared.figures, &headers, &AdPage { ads: page.iter().map(SignedAd::kept).collect(), next })
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object, content_type = "application/json")))]
async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}

fn read_peer(text: &str) -> Result<PeerId, Failure> {
    text.parse().map_err(|_| unreadable(&format_args!("`{text}` is no peer id")))
}

#[cfg(test)]
mod tests;
