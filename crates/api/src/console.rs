//! The web console: a terminal and a file browser for each rental, with what it costs and uses, in the renter's own browser. The renter's
//! daemon serves it on loopback; nothing of it comes from anywhere else.
//!
//! Whoever gets in may do with the rentals as the renter may, so [`guard`] lets in one browser at a time, by a link that works once
//! ([`keys`]). Everything that happens inside a rental goes through [`access::guest::Guest`]: [`terminal`] holds shells that outlive the page they
//! are shown on, [`files`] moves files, [`usage`] remembers what the machine was doing. The page itself is built from `crates/api/web` and
//! embedded ([`assets`]).

mod assets;
mod description;
mod files;
mod guard;
mod keys;
mod rentals;
mod terminal;
mod transfer;
mod usage;

pub use description::openapi;

use crate::{
    control::Control,
    server::{Bounded, SHUTDOWN_GRACE},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use keys::Keys;
use serde::{Deserialize, Serialize};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use terminal::Terminals;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use usage::Watch;
use utoipa::ToSchema;

/// Connections served at once: a browser opens six for a page and one more for each terminal.
pub const MAX_BROWSER_CONNECTIONS: usize = 128;
/// The largest request that is no piece of a file: a path has 4 KiB at most.
pub const MAX_ASKED_BYTES: usize = 16 << 10;
/// How often what has outlived its time is thrown away.
const SWEEP: Duration = Duration::from_secs(60);

/// Why the console cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Others than this machine's users could reach it.
    #[error(
        "the console would listen on {0}, which others can reach: it speaks plain HTTP, so only a loopback address will do"
    )]
    NotLoopback(SocketAddr),
    /// The kernel said no.
    #[error("the console cannot listen on {address}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// What was said.
        source: io::Error,
    },
}

/// The console's address, bound and not yet served.
#[derive(Debug)]
pub struct Console {
    listener: TcpListener,
    links: Links,
}

/// Hands out links into the console.
#[derive(Clone, Debug)]
pub struct Links {
    address: SocketAddr,
    keys: Arc<Keys>,
}

impl Console {
    /// Binds `address`, which must be this machine's alone. Port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ConsoleError> {
        if !address.ip().is_loopback() {
            return Err(ConsoleError::NotLoopback(address));
        }
        let failed = |source| ConsoleError::Io { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, links: Links { address, keys: Arc::default() } })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.links.address
    }

    /// What hands out links into it, also while it is served.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// A link that opens it at `rental`, for whoever is first to use it.
    pub fn link(&self, rental: &str) -> String {
        self.links.link(rental)
    }

    /// Answers browsers until `cancel`, then for at most [`SHUTDOWN_GRACE`] the requests in progress. Shells end with it.
    pub async fn serve(self, control: Arc<dyn Control>, cancel: CancellationToken) -> Result<(), ConsoleError> {
        let address = self.links.address;
        let shared = Shared {
            keys: self.links.keys,
            terminals: Arc::new(Terminals::new(cancel.child_token())),
            usage: Arc::new(Watch::new(Arc::clone(&control), cancel.child_token())),
            transfers: Arc::default(),
            control,
            cancel: cancel.clone(),
        };
        let sweeping = sweep(shared.clone());
        let serving = axum::serve(Bounded::new(self.listener, MAX_BROWSER_CONNECTIONS), router(shared, address))
            .with_graceful_shutdown(cancel.clone().cancelled_owned());
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(|source| ConsoleError::Io { address, source }),
            () = sweeping => Ok(()),
            () = overdue => Ok(()),
        }
    }
}

impl Links {
    /// A link that opens the console at `rental`, for whoever is first to use it. The token stands behind the `#`, which a browser keeps to
    /// itself: it is in no request line, no log and no `Referer`.
    pub fn link(&self, rental: &str) -> String {
        let token = self.keys.issue(Instant::now());
        format!("http://{}/#token={token}&rental={rental}", self.address)
    }
}

/// Throws away what has outlived its time, as long as the console is served.
async fn sweep(shared: Shared) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = Instant::now();
        shared.keys.sweep(now);
        shared.terminals.sweep(now);
        shared.usage.sweep(now);
    }
}

#[derive(Clone)]
struct Shared {
    control: Arc<dyn Control>,
    keys: Arc<Keys>,
    terminals: Arc<Terminals>,
    usage: Arc<Watch>,
    transfers: Arc<transfer::Transfers>,
    cancel: CancellationToken,
}

fn router(shared: Shared, address: SocketAddr) -> Router {
    let inside = Router::new()
        .route("/node", get(rentals::node))
        .route("/wallets", get(rentals::wallets))
        .route("/rentals", get(rentals::list))
        .route("/rentals/{rental}", get(rentals::story))
        .route("/rentals/{rental}/stop", post(rentals::stop))
        .route("/rentals/{rental}/usage", get(usage::usage))
        .route("/rentals/{rental}/terminals", get(terminal::list).post(terminal::open))
        .route("/rentals/{rental}/terminals/{terminal}", delete(terminal::close))
        .route("/rentals/{rental}/terminals/{terminal}/stream", get(terminal::stream))
        .route("/rentals/{rental}/files", get(files::list))
        .route("/rentals/{rental}/files/folder", post(files::make_folder))
        .route("/rentals/{rental}/files/rename", post(files::rename))
        .route("/rentals/{rental}/files/remove", post(files::remove))
        .route("/rentals/{rental}/files/content", get(transfer::download))
        .route("/rentals/{rental}/files/upload", get(transfer::upload_state))
        .route(
            "/rentals/{rental}/files/upload",
            put(transfer::upload).layer(DefaultBodyLimit::max(transfer::MAX_PIECE_BYTES)),
        );
    Router::new()
        .route("/session", post(start_session))
        .nest("/s/{session}", inside)
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(MAX_ASKED_BYTES))
        .layer(middleware::from_fn_with_state(guard::Guard::new(address, Arc::clone(&shared.keys)), guard::check))
        .with_state(shared)
}

/// Asks to be let in with the token of a link.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SessionRequest {
    /// The token.
    token: String,
}

/// What a browser that was let in needs to know.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SessionStarted {
    /// The path that all further requests begin with. The cookie is sent there only.
    base: String,
}

/// Lets a browser in, once for each link.
#[utoipa::path(post, path = "/session", request_body = SessionRequest, responses(
    (status = 200, body = SessionStarted), (status = 403, description = "The link was used, is too old, or never existed.")
))]
async fn start_session(State(shared): State<Shared>, request: Result<Json<SessionRequest>, JsonRejection>) -> Response {
    let Ok(Json(SessionRequest { token })) = request else {
        return guard::refused(StatusCode::FORBIDDEN, "the request carries no token");
    };
    let Some(session) = shared.keys.redeem(&token, Instant::now()) else {
        let why = "this link was used already, or is too old: `node console` prints a new one";
        return guard::refused(StatusCode::FORBIDDEN, why);
    };
    let base = format!("/s/{}", session.path);
    let cookie = format!(
        "{}={}; Path={base}; Max-Age={}; HttpOnly; SameSite=Strict",
        keys::COOKIE,
        session.cookie,
        keys::SESSION_LIFE.as_secs()
    );
    ([(header::SET_COOKIE, cookie)], Json(SessionStarted { base })).into_response()
}

#[cfg(test)]
mod tests;
