//! What every HTTP request passes: a limit for each address, for its length and its time, and the headers by which a browser lets any page
//! read the answer. Nothing here depends on who asks, so no credentials are ever allowed along.

use super::{Address, answers::Failure};
use crate::figures::Figures;
use api::types::{ApiError, ErrorKind};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use network::RateLimiter;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// Requests of one address: a person and a page that refreshes itself.
const REQUESTS_PER_SECOND: u32 = 20;
/// And how many at once: a client that pages through an answer.
const REQUESTS_BURST: u32 = 100;
/// How long an answer may take to begin.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The longest path with its query: a query longer than anybody would write.
const MAX_URI_BYTES: usize = 8 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    limiter: RateLimiter<IpAddr>,
    figures: Arc<Figures>,
}

impl Gate {
    pub(super) fn new(figures: Arc<Figures>) -> Self {
        Self { limiter: RateLimiter::new(REQUESTS_PER_SECOND, REQUESTS_BURST), figures }
    }
}

/// Whom an address stands for: a household has a whole /64 of IPv6, and may use a new one for each request.
pub(super) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

pub(super) async fn pass(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(Address(address)): ConnectInfo<Address>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = admit(&gate, address, request, next).await;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag, retry-after"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn admit(gate: &Gate, address: IpAddr, request: Request, next: Next) -> Response {
    if !gate.limiter.allow(&household(address)) {
        gate.figures.limited.add(1);
        let message = format!("more than {REQUESTS_PER_SECOND} requests a second came from {address}");
        return Failure::busy(StatusCode::TOO_MANY_REQUESTS, message).into_response();
    }
    if request.uri().to_string().len() > MAX_URI_BYTES {
        let message = format!("the request is longer than {MAX_URI_BYTES} bytes");
        let error = ApiError::new(ErrorKind::Usage, message, "ask for less in one query");
        return Failure::with(StatusCode::URI_TOO_LONG, error).into_response();
    }
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer within {} s", REQUEST_LIMIT.as_secs());
            Failure::from(ApiError::new(ErrorKind::Timeout, message, "try again, or ask another indexer"))
                .into_response()
        }
    }
}

/// What a browser asks before it lets a page send a request with a header of its own.
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "if-none-match, last-event-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

pub(super) async fn other_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    let error = ApiError::new(ErrorKind::Usage, message, "everything here is read with GET");
    Failure::with(StatusCode::METHOD_NOT_ALLOWED, error).into_response()
}
