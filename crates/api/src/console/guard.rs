//! What every request has to show before anything looks at what it asks for, and what every answer forbids the page.
//!
//! - `Host` is exactly the address served on: a name that somebody has pointed at loopback (DNS rebinding) is another origin, and stays out.
//! - `Origin` is exactly ours on whatever changes something and on every websocket, where browsers do not ask for permission first.
//! - A header that only our page sends, on whatever changes something: another origin's page would have to ask first, and is never allowed.
//! - The session's cookie, under the session's own path.
//!
//! Headers by which a proxy speaks of somebody else are not looked at.

use super::keys::{COOKIE, Keys};
use crate::types::{ApiError, ErrorKind};
use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::time::Instant;

/// The header of our own page's requests.
pub(super) const OURS: &str = "x-gpulease-console";

/// The page may load and talk to its own origin and nothing else, has no scripts or styles in its text, and is nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
const ALWAYS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Knows where the console is and who may come in.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    host: Arc<str>,
    origin: Arc<str>,
    keys: Arc<Keys>,
}

impl Guard {
    pub(super) fn new(address: SocketAddr, keys: Arc<Keys>) -> Self {
        Self { host: address.to_string().into(), origin: format!("http://{address}").into(), keys }
    }

    /// Why this request is not answered, if it is not.
    fn objection(&self, request: &Request, now: Instant) -> Option<String> {
        let headers = request.headers();
        if only(headers, &header::HOST) != Some(&self.host) {
            return Some(format!("the console answers at {} only, under that very address", self.origin));
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        let origin = headers.contains_key(header::ORIGIN);
        if (changes || origin || is_upgrade(headers)) && only(headers, &header::ORIGIN) != Some(&self.origin) {
            return Some("the request comes from another page than the console's own".to_owned());
        }
        if changes && !headers.contains_key(OURS) {
            return Some(format!("the request lacks the header {OURS} of the console's own page"));
        }
        let session = request.uri().path().strip_prefix("/s/")?;
        if only(headers, &HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin") {
            return Some("the request comes from another page than the console's own".to_owned());
        }
        let path = session.split('/').next().unwrap_or_default();
        let admitted = cookies(headers).any(|cookie| self.keys.admit(path, cookie, now));
        (!admitted)
            .then(|| "this browser was not let in, or its time is up: `node console` prints a new link".to_owned())
    }
}

/// Lets a request through, or not.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.objection(&request, Instant::now()) {
        Some(why) => {
            tracing::debug!(path = request.uri().path(), why, "console: a request was refused");
            refused(StatusCode::FORBIDDEN, &why)
        }
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// An answer that says no, and why.
pub(super) fn refused(status: StatusCode, why: &str) -> Response {
    let next = "the console is opened by the link that `node console` prints";
    (status, Json(ApiError::new(ErrorKind::Refused, why, next))).into_response()
}

/// The value of a header that stands there once; two of them are none.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

/// The values of every cookie of ours.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}
