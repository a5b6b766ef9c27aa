//! The page: what `crates/api/web/build` made of its sources, inside the program. The files hold nothing of anybody, so they are served
//! to a browser that was not let in yet.

use super::guard;
use axum::{
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 5] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", bytes: include_bytes!("../../web/dist/index.html") },
    Asset {
        path: "/console.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../web/dist/console.js"),
    },
    Asset {
        path: "/console.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../web/dist/console.css"),
    },
    Asset { path: "/icon.svg", kind: "image/svg+xml", bytes: include_bytes!("../../web/dist/icon.svg") },
    Asset {
        path: "/licences.txt",
        kind: "text/plain; charset=utf-8",
        bytes: include_bytes!("../../web/dist/licences.txt"),
    },
];

/// By which a browser knows that it has a file already.
static TAGS: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| {
    ASSETS.map(|asset| {
        let hash = Sha256::digest(asset.bytes);
        format!("\"{}\"", alloy_primitives::hex::encode(&hash[..16]))
    })
});

/// Answers with a file of the page, or that there is none.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let found = ASSETS.iter().zip(TAGS.iter()).find(|(asset, _)| asset.path == uri.path());
    let Some((asset, tag)) = found else {
        return guard::refused(StatusCode::NOT_FOUND, &format!("there is no {}", uri.path()));
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        return guard::refused(StatusCode::METHOD_NOT_ALLOWED, &format!("{} does not take {method}", uri.path()));
    }
    // asked for each time, since a newer program serves newer files under the same names
    let fresh = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag.as_str())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fresh).into_response();
    }
    (fresh, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response()
}
