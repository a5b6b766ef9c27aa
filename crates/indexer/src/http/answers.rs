//! What the HTTP interface answers with, and how: JSON with a tag of its content, so that a client that has it already is told only that.

use crate::{book::Ad, figures::Figures, search::Page};
use alloy_primitives::{hex, keccak256};
use api::types::{ApiError, ErrorKind, OfferRow};
use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use market::standing::Standing;
use network::PeerId;
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which whoever was turned away may come back.
const COME_BACK: &str = "1";

/// Who answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Description {
    /// libp2p peer id.
    pub(super) peer: String,
    /// `main` or a devnet's name.
    pub(super) network: String,
    /// Program version.
    pub(super) version: String,
    /// Multiaddresses it listens on.
    pub(super) addresses: Vec<String>,
    /// Providers that offer something.
    pub(super) providers: usize,
    /// Their offers.
    pub(super) offers: usize,
    /// The last `updated_at` that was given.
    pub(super) last: u64,
}

/// A page of what matches a search, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SearchAnswer {
    rows: Vec<SearchRow>,
    /// The advertisements that rows point into, each once.
    ads: Vec<SignedAd>,
    /// The cursor of the next page; absent at the end.
    next: Option<String>,
    /// Offers held in all, each counted once for each of its prices.
    held: usize,
}

/// An offer at one of its prices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SearchRow {
    /// Its advertisement's place in `ads`.
    ad: usize,
    /// The offer's place in the advertisement.
    offer: usize,
    /// The price's place in the offer.
    price: usize,
    /// The same in readable form; what counts is what was signed.
    shown: OfferRow,
}

/// An advertisement as its provider signed it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedAd {
    /// Whose it is.
    peer: String,
    /// Unix milliseconds at which the indexer took it; absent while it is being written.
    updated_at: Option<u64>,
    /// The libp2p SignedEnvelope in base64.
    envelope: String,
    /// What the indexer knows of the provider. Nobody signs it.
    #[schema(value_type = Option<Object>)]
    standing: Option<Standing>,
}

/// A page of advertisements.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AdPage {
    pub(super) ads: Vec<SignedAd>,
    /// Where the next page begins; absent at the end.
    pub(super) next: Option<String>,
}

impl SignedAd {
    pub(super) fn kept((peer, ad): &(PeerId, Ad)) -> Self {
        let envelope = STANDARD.encode(&ad.raw);
        Self { peer: peer.to_base58(), updated_at: Some(ad.updated_at), envelope, standing: None }
    }
}

impl SearchAnswer {
    pub(super) fn of(page: &Page) -> Self {
        let ads = page.ads.iter().map(|ad| SignedAd {
            peer: ad.peer.to_base58(),
            updated_at: ad.updated_at,
            envelope: STANDARD.encode(&ad.raw),
            standing: ad.standing,
        });
        let rows = page.shown().map(|(row, shown)| SearchRow {
            ad: row.ad,
            offer: row.hit.offer,
            price: row.hit.price,
            shown,
        });
        Self { rows: rows.collect(), ads: ads.collect(), next: page.next.clone(), held: page.held }
    }
}

/// The answer with a tag of its content, or only that the client has it already.
pub(super) fn tagged(figures: &Figures, headers: &HeaderMap, body: &impl Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Failure::from(ApiError::new(ErrorKind::Failed, "the answer cannot be written", "report this"))
    })?;
    let tag = format!("\"{}\"", hex::encode(&keccak256(&body)[..16]));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has =
        known.split(',').map(|known| known.trim().trim_start_matches("W/")).any(|known| known == tag || known == "*");
    let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if has {
        figures.unchanged.add(1);
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// An error on its way to the client: what happened, why, and what to do next.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    /// Turned away for now.
    pub(super) fn busy(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: ApiError::new(ErrorKind::Refused, message, "come back in a second, and ask less often") }
    }

    /// With another status than its class has.
    pub(super) fn with(status: StatusCode, error: ApiError) -> Self {
        Self { status, error }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status = match error.kind {
            ErrorKind::Usage => StatusCode::BAD_REQUEST,
            ErrorKind::NoMatch => StatusCode::NOT_FOUND,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.error)).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(COME_BACK));
        }
        response
    }
}
