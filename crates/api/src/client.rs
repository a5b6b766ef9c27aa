//! The caller's side of the control API: one method for each call, over the daemon's Unix socket. Every failure is an [`ApiError`],
//! whether the daemon answered it or nobody did, so that the command line has one way to report and one exit code for each.

mod door;

pub use door::RentalDoor;

use crate::{
    evidence::Evidence,
    seen::Seen,
    types::{
        AcceptRequest, ApiError, Approval, ConsoleLink, ConsoleRequest, Dispute, DisputeRequest, DrainRequest,
        ErrorKind, ExtendRequest, HardwareCheck, IndexerRow, NodeInfo, OfferExplanation, OfferQuery, OfferRow,
        RatingRequest, RatingView, Receipt, Reloaded, RentalRow, RentalStory, Reputation, ReputationQuery, Revocation,
        Revoked, RunEvent, RunRequest, RunStarted, ServiceState, Share, ShareRequest, SharedRental, UnshareRequest,
        Visitor, WalletView,
    },
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

/// How long an answer may take: longer than [`crate::server::REQUEST_LIMIT`], so that the daemon's own words about it arrive.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(75);
/// The largest answer: some ten thousand receipts of about 5 KiB.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The longest line of an event stream; the largest event carries one log record of at most 64 KiB, or a receipt.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// How often a broken event stream is taken up again without any progress, with [`RESUME_PAUSE`] between: a minute, time enough for a
/// daemon to be started again by whoever looks after it, to open its keys and to take its rentals up.
pub const RESUME_ATTEMPTS: u32 = 120;
/// See [`RESUME_ATTEMPTS`].
pub const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// A daemon within reach.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Finds the daemon that listens on `socket`, or says that none does.
    pub async fn connect(socket: &Path) -> Result<Self, ApiError> {
        let client = Self { socket: socket.to_owned() };
        client.open().await.map(|_| client)
    }

    /// Describes the daemon.
    pub async fn node(&self) -> Result<NodeInfo, ApiError> {
        self.get("/v1/node").await
    }

    /// Searches the offers known to the daemon.
    pub async fn offers(&self, query: &OfferQuery) -> Result<Vec<OfferRow>, ApiError> {
        self.get(&format!("/v1/offers?{}", parameters(query))).await
    }

    /// Asks why such a search finds so little.
    pub async fn explain(&self, query: &OfferQuery) -> Result<OfferExplanation, ApiError> {
        self.get(&format!("/v1/offers/explain?{}", parameters(query))).await
    }

    /// The indexers that were asked for offers, and what came of it.
    pub async fn indexers(&self) -> Result<Vec<IndexerRow>, ApiError> {
        self.get("/v1/indexers").await
    }

    /// Begins a run.
    pub async fn run(&self, request: &RunRequest) -> Result<RunStarted, ApiError> {
        let body = serde_json::to_vec(request)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, "/v1/runs", body).await
    }

    /// The events of a run from number `from` until its last. When the connection breaks, it is taken up again where it broke, also
    /// when the daemon was started again meanwhile: what it then repeats is left out.
    pub fn run_events(&self, run: u64, from: u64) -> BoxStream<'static, Result<RunEvent, ApiError>> {
        let seen = Seen::default();
        let events = Events {
            client: self.clone(),
            run,
            next: from,
            seen,
            known: false,
            attempts: 0,
            ended: false,
            source: None,
        };
        stream::unfold(events, |mut events| async move { events.next().await.map(|event| (event, events)) }).boxed()
    }

    /// Rentals of every role, newest first; ended ones too when `all`.
    pub async fn rentals(&self, all: bool) -> Result<Vec<RentalRow>, ApiError> {
        self.get(&format!("/v1/rentals?all={all}")).await
    }

    /// The whole story of a rental, named by its id or a prefix of it: one for each side that the node is on.
    pub async fn story(&self, id: &str) -> Result<Vec<RentalStory>, ApiError> {
        self.get(&format!("/v1/rentals/{}", encode(id))).await
    }

    /// Orders the end of a rental, named by its id or a prefix of it.
    pub async fn stop(&self, id: &str) -> Result<RentalRow, ApiError> {
        self.call(Method::POST, &format!("/v1/rentals/{}/stop", encode(id)), Vec::new()).await
    }

    /// Has a rental go on after its end, in one that continues it: that one, once it is open.
    pub async fn extend(&self, id: &str, request: ExtendRequest) -> Result<RentalRow, ApiError> {
        let body = serde_json::to_vec(&request)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, &format!("/v1/rentals/{}/extend", encode(id)), body).await
    }

    /// Lets another node into a rental.
    pub async fn share(&self, id: &str, request: &ShareRequest) -> Result<Share, ApiError> {
        let body = serde_json::to_vec(request)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, &format!("/v1/rentals/{}/shares", encode(id)), body).await
    }

    /// Whom a rental is or was shared with.
    pub async fn shares(&self, id: &str) -> Result<Vec<Share>, ApiError> {
        self.get(&format!("/v1/rentals/{}/shares", encode(id))).await
    }

    /// Lets a node into a rental no more.
    pub async fn unshare(&self, id: &str, peer: &str) -> Result<Share, ApiError> {
        let body = serde_json::to_vec(&UnshareRequest { peer: peer.to_owned() })
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, &format!("/v1/rentals/{}/unshare", encode(id)), body).await
    }

    /// Takes up what another node has shared.
    pub async fn accept(&self, token: &str) -> Result<SharedRental, ApiError> {
        let body = serde_json::to_vec(&AcceptRequest { token: token.to_owned() })
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, "/v1/shared", body).await
    }

    /// The rentals that other nodes share with this one.
    pub async fn shared(&self) -> Result<Vec<SharedRental>, ApiError> {
        self.get("/v1/shared").await
    }

    /// Checks the hardware in a rental, named by its id or a prefix of it.
    pub async fn check(&self, id: &str) -> Result<HardwareCheck, ApiError> {
        self.call(Method::POST, &format!("/v1/rentals/{}/check", encode(id)), Vec::new()).await
    }

    /// A link into the web console, opened at a rental named by its id or a prefix of it, or at the list of all.
    pub async fn console(&self, rental: &str) -> Result<ConsoleLink, ApiError> {
        let body = serde_json::to_vec(&ConsoleRequest { rental: rental.to_owned() })
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, "/v1/console", body).await
    }

    /// Everything signed of a rental that the node has, named by its id or a prefix of it: a file for each side that it is on.
    pub async fn evidence(&self, id: &str) -> Result<Vec<Evidence>, ApiError> {
        self.get(&format!("/v1/rentals/{}/evidence", encode(id))).await
    }

    /// How the dispute of a rental stands.
    pub async fn dispute(&self, id: &str) -> Result<Dispute, ApiError> {
        self.get(&format!("/v1/rentals/{}/dispute", encode(id))).await
    }

    /// Orders a rental to be stopped on chain for its arbiter to rule on.
    pub async fn order_dispute(&self, id: &str, request: DisputeRequest) -> Result<Dispute, ApiError> {
        let body = serde_json::to_vec(&request)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, &format!("/v1/rentals/{}/dispute", encode(id)), body).await
    }

    /// Rates a closed rental that the node rented.
    pub async fn rate(&self, id: &str, request: &RatingRequest) -> Result<RatingView, ApiError> {
        let body = serde_json::to_vec(request)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, &format!("/v1/rentals/{}/rating", encode(id)), body).await
    }

    /// What is known of a provider, by its wallet or its peer id.
    pub async fn reputation(&self, provider: &str, query: &ReputationQuery) -> Result<Reputation, ApiError> {
        let ReputationQuery { mine, verify } = query;
        self.get(&format!("/v1/providers/{}/reputation?mine={mine}&verify={verify}", encode(provider))).await
    }

    /// Receipts whose id begins with `prefix`, newest first.
    pub async fn receipts(&self, prefix: &str) -> Result<Vec<Receipt>, ApiError> {
        self.get(&format!("/v1/receipts?id={}", encode(prefix))).await
    }

    /// The wallets of the node and what they hold.
    pub async fn wallets(&self) -> Result<Vec<WalletView>, ApiError> {
        self.get("/v1/wallets").await
    }

    /// The allowances that the wallets of the node have given.
    pub async fn approvals(&self) -> Result<Vec<Approval>, ApiError> {
        self.get("/v1/approvals").await
    }

    /// Takes an allowance back, and waits until that is confirmed.
    pub async fn revoke(&self, wanted: &Revocation) -> Result<Revoked, ApiError> {
        let body = serde_json::to_vec(wanted)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, "/v1/approvals/revoke", body).await
    }

    /// Has the provider take no new rentals.
    pub async fn drain(&self, request: DrainRequest) -> Result<ServiceState, ApiError> {
        let body = serde_json::to_vec(&request)
            .map_err(|error| failed(format!("the request cannot be written as JSON: {error}")))?;
        self.call(Method::POST, "/v1/service/drain", body).await
    }

    /// Has the provider take new rentals again.
    pub async fn undrain(&self) -> Result<ServiceState, ApiError> {
        self.call(Method::POST, "/v1/service/undrain", Vec::new()).await
    }

    /// Has the daemon read its configuration again.
    pub async fn reload(&self) -> Result<Reloaded, ApiError> {
        self.call(Method::POST, "/v1/service/reload", Vec::new()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.call(Method::GET, path, Vec::new()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, ApiError> {
        let exchange = async {
            let (response, _connection) = self.send(method, path, body).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| failed(format!("the daemon's answer broke off: {error}")))?.to_bytes();
            read_answer(parts.status, &body)
        };
        tokio::time::timeout(ANSWER_LIMIT, exchange).await.unwrap_or_else(|_| {
            let message = format!("the daemon did not answer within {} s", ANSWER_LIMIT.as_secs());
            Err(ApiError::new(ErrorKind::Timeout, message, "see the daemon's log"))
        })
    }

    /// Sends one request on a connection of its own; the connection lives as long as the returned handle.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), ApiError> {
        let broken = |error: hyper::Error| failed(format!("the connection to the daemon broke: {error}"));
        let stream = self.open().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the daemon ended");
            }
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(format!("the request cannot be written: {error}")))?;
        Ok((sender.send_request(request).await.map_err(broken)?, connection))
    }

    /// The way into a rental that the daemon rents, named by its id, a prefix of it or its label, for this kind of visitor.
    pub fn door(&self, id: &str, visitor: Visitor) -> RentalDoor {
        RentalDoor::new(self.clone(), id, visitor)
    }

    async fn open(&self) -> Result<UnixStream, ApiError> {
        UnixStream::connect(&self.socket).await.map_err(|error| {
            let socket = self.socket.display();
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ApiError::new(
                    ErrorKind::NoDaemon,
                    format!("no daemon listens on {socket}"),
                    "start it: node --role renter",
                ),
                io::ErrorKind::PermissionDenied => {
                    let next = "run this as the daemon's user, or point --data-dir at your own daemon";
                    ApiError::new(
                        ErrorKind::Failed,
                        format!("the daemon's socket {socket} belongs to another user"),
                        next,
                    )
                }
                _ => failed(format!("cannot connect to {socket}: {error}")),
            }
        })
    }
}

fn failed(message: String) -> ApiError {
    ApiError::new(ErrorKind::Failed, message, "")
}

fn read_answer<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, ApiError> {
    if !status.is_success() {
        return Err(serde_json::from_slice(body).unwrap_or_else(|_| failed(format!("the daemon answered {status}"))));
    }
    serde_json::from_slice(body).map_err(|error| {
        let next = "the daemon may be of another version: restart it";
        ApiError::new(ErrorKind::Failed, format!("the daemon's answer cannot be read: {error}"), next)
    })
}

fn parameters(query: &OfferQuery) -> String {
    let OfferQuery { query, order, limit, job, rates } = query;
    let [query, order, job, rates] = [query, order, job, rates].map(|text| encode(text));
    format!("query={query}&order={order}&limit={limit}&job={job}&rates={rates}")
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// An event stream in progress.
struct Events {
    client: Client,
    run: u64,
    /// The number of the next event wanted.
    next: u64,
    seen: Seen,
    /// Whether the daemon has known the run.
    known: bool,
    /// Connections since the last event.
    attempts: u32,
    ended: bool,
    source: Option<Source>,
}

/// One connection's worth of it.
struct Source {
    body: Incoming,
    buffer: Vec<u8>,
    _connection: AbortOnDropHandle<()>,
}

impl Events {
    async fn next(&mut self) -> Option<Result<RunEvent, ApiError>> {
        if self.ended {
            return None;
        }
        let event = self.find().await;
        self.ended = event.as_ref().map_or(true, |event| event.step.is_last());
        Some(event)
    }

    async fn find(&mut self) -> Result<RunEvent, ApiError> {
        loop {
            let Some(source) = &mut self.source else {
                self.connect().await?;
                continue;
            };
            let Some(line) = source.line().await? else {
                self.source = None;
                continue;
            };
            let event: RunEvent = serde_json::from_slice(&line)
                .map_err(|error| failed(format!("an event of the run cannot be read: {error}")))?;
            // An event seen before the connection broke is not repeated, nor what a restarted daemon tells again under new numbers.
            if event.number < self.next {
                continue;
            }
            self.next = event.number + 1;
            self.attempts = 0;
            if self.seen.is_new(&event.step) {
                return Ok(event);
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ApiError> {
        if self.attempts > 0 {
            tokio::time::sleep(RESUME_PAUSE).await;
        }
        self.attempts += 1;
        let path = format!("/v1/runs/{}/events?from={}", self.run, self.next);
        let sent = tokio::time::timeout(ANSWER_LIMIT, self.client.send(Method::GET, &path, Vec::new())).await;
        match sent {
            Ok(Ok((response, connection))) if response.status().is_success() => {
                self.known = true;
                self.source = Some(Source { body: response.into_body(), buffer: Vec::new(), _connection: connection });
            }
            // the daemon says that there is no such run, or that it failed
            Ok(Ok((response, _connection))) => {
                let status = response.status();
                let body = Limited::new(response.into_body(), MAX_LINE_BYTES).collect().await;
                let answer = read_answer(status, &body.map(|body| body.to_bytes()).unwrap_or_default());
                return answer.map_err(|error| self.lost(error));
            }
            Ok(Err(error)) if self.attempts > RESUME_ATTEMPTS => return Err(error),
            Err(_) if self.attempts > RESUME_ATTEMPTS => {
                return Err(ApiError::new(ErrorKind::Timeout, "the daemon does not answer", "see the daemon's log"));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        if self.attempts > RESUME_ATTEMPTS {
            return Err(failed("the event stream of the run breaks off again and again".to_owned()));
        }
        Ok(())
    }
}

impl Events {
    /// A run that the daemon had and no longer knows ended with an earlier daemon, before anything was locked: later it is on disk.
    fn lost(&self, error: ApiError) -> ApiError {
        match error.kind {
            ErrorKind::Usage if self.known => ApiError::new(
                ErrorKind::Failed,
                "the daemon was started again before anything was rented",
                "nothing was locked; run the command again",
            ),
            _ => error,
        }
    }
}

impl Source {
    /// The next whole line, without its end; `None` when the connection is over, whatever was left of a line.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(failed(format!("an event of the run is longer than {MAX_LINE_BYTES} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}
