//! The connections of the HTTP interface. It is open to everybody, so whoever holds one and asks nothing is let go: otherwise a few idle
//! strangers would keep everyone else out.

use super::Address;
use api::server::Bounded;
use axum::{Extension, Router, extract::ConnectInfo, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{convert::Infallible, time::Duration};
use tokio::{net::TcpListener, task::JoinSet};

/// Connections at once. Further ones wait in the kernel's queue.
const MAX_CLIENTS: usize = 512;
/// How long a client may take to say what it wants, at first and after each answer.
pub(super) const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// Serves for ever; all end when this is dropped.
pub(super) async fn serve(listener: TcpListener, app: Router) -> Infallible {
    let mut listener = Bounded::new(listener, MAX_CLIENTS);
    let mut clients = JoinSet::new();
    loop {
        let (client, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        let service = TowerToHyperService::new(app.clone().layer(Extension(ConnectInfo(Address(address.ip())))));
        clients.spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
            if let Err(error) = server.serve_connection(TokioIo::new(client), service).await {
                tracing::debug!(%address, %error, "an HTTP connection broke");
            }
        });
    }
}
